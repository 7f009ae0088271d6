/* test_dtypes.c - every case of every row with operands of BF16 and F16, through qn_compile. The CPU computes in F32
 * and F64: a row is refused by its shape rule (E2202), or when the program is compiled (E2208, in a line that says
 * which types there are), or it only moves or converts elements, and then its result is that of the f32 kernel on the
 * same values, rounded once. None runs into trouble in the step. */
#include "ops.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

struct subject {
    const struct op_case *c;
    qn_dtype dtype;
    qn_graph *g;
    qn_store *store;
    qn_program *p;
    qn_t x[QN_MAX_IN], y;
    qn_error err;
};

static qn_status open_subject(struct subject *s, const struct op_case *c, qn_dtype dtype)
{
    *s = (struct subject){ .c = c, .dtype = dtype };
    assert_int_equal(qn_graph_new(&s->g, NULL), QN_OK);
    assert_int_equal(qn_store_new(&s->store, "cpu", 1, NULL, &s->err), QN_OK);
    for (int i = 0; i < c->n_in; i++) {
        const struct op_in *in = &c->in[i];
        char name[16];
        snprintf(name, sizeof name, "x%d", i);
        s->x[i] = in->stored ? qn_tensor(s->g, QN_STATE, name, op_in_dtype(in, dtype), in->rank, in->dim, NULL)
                             : qn_input(s->g, name, op_in_dtype(in, dtype), in->rank, in->dim);
    }
    s->y = c->build(s->g, s->x, c);
    const qn_compile_opts opts = { .threads = 1 };
    return qn_compile(&s->p, s->g, &s->y, 1, s->store, &opts, &s->err);
}

static void close_subject(struct subject *s)
{
    qn_program_free(s->p);
    qn_store_free(s->store);
    qn_graph_free(s->g);
}

/* Runs on the values of the case as `narrow` holds them; the result in `narrow`. */
static void *run(struct subject *s, qn_dtype narrow, size_t *bytes)
{
    if (qn_program_load(s->p, &s->err)) fail_msg("case \"%s\": %s", s->c->name, s->err.text);
    for (int i = 0; i < s->c->n_in; i++) {
        const struct op_in *in = &s->c->in[i];
        size_t n = (size_t)op_in_count(in);
        qn_dtype dtype = op_in_dtype(in, s->dtype);
        char name[16];
        snprintf(name, sizeof name, "x%d", i);
        void *at = in->stored ? qn_store_find(s->store, name)->data : qn_program_data(s->p, s->x[i]);
        if (op_in_dtype(in, QN_F32) != QN_F32 || dtype != s->dtype) {
            op_fill(s->c, i, QN_F32, at);
            continue;
        }
        float *wide = calloc(n + 1, sizeof *wide);
        void *rounded = calloc(n + 1, sizeof *wide);
        assert_true(wide && rounded);
        op_fill(s->c, i, QN_F32, wide);
        qn_convert(rounded, narrow, wide, QN_F32, n);
        qn_convert(at, dtype, rounded, narrow, n);
        free(wide);
        free(rounded);
    }
    if (qn_program_run(s->p, QN_MICRO, &s->err)) fail_msg("case \"%s\" in the step: %s", s->c->name, s->err.text);
    size_t n = (size_t)qn_count(s->g, s->y);
    qn_dtype dtype = qn_dtype_of(s->g, s->y), to = dtype == QN_F32 ? narrow : dtype;
    void *out = calloc(n + 1, sizeof(double));
    assert_non_null(out);
    qn_convert(out, to, qn_program_data(s->p, s->y), dtype, n);
    *bytes = n * qn_dtype_size(to);
    return out;
}

static void expect_same_as_f32(struct subject *s, qn_dtype narrow)
{
    struct subject wide;
    size_t a_bytes, b_bytes;
    if (open_subject(&wide, s->c, QN_F32)) fail_msg("case \"%s\": %s", s->c->name, wide.err.text);
    void *a = run(s, narrow, &a_bytes), *b = run(&wide, narrow, &b_bytes);
    assert_int_equal(a_bytes, b_bytes);
    if (memcmp(a, b, a_bytes) != 0) fail_msg("case \"%s\": not the rounded result of f32", s->c->name);
    free(a);
    free(b);
    close_subject(&wide);
}

struct counts {
    int rule, backend, run;
};

static void one_case(const struct op_case *c, qn_dtype narrow, struct counts *n)
{
    struct subject s;
    qn_status status = open_subject(&s, c, narrow);
    if (!status) {
        expect_same_as_f32(&s, narrow);
        n->run++;
    } else if (s.err.code == 2208) {
        if (!strstr(s.err.text, qn_dtype_name(narrow)) ||
            !strstr(s.err.text, "; expected F32 or F64, in which the cpu backend computes"))
            fail_msg("case \"%s\": %s", c->name, s.err.text);
        n->backend++;
    } else {
        if (!qn_graph_status(s.g) || s.err.code / 100 != 22) fail_msg("case \"%s\": %s", c->name, s.err.text);
        n->rule++;
    }
    close_subject(&s);
}

static void check_row(void **state)
{
    enum qn__opcode op = *(enum qn__opcode *)*state;
    struct counts n = { 0, 0, 0 };
    for (int i = 0; i < op_cases_of[op]->n; i++) {
        const struct op_case *c = &op_cases_of[op]->c[i];
        if (c->fails) continue;
        one_case(c, QN_BF16, &n);
        one_case(c, QN_F16, &n);
    }
    printf("  %-18s %3d refused by rule, %3d by the backend, %3d run\n", qn__op_of(op)->name, n.rule, n.backend, n.run);
}

int main(int argc, char **argv) { return op_run_rows("element types", check_row, NULL, NULL, 0, argc, argv); }
