/* test_gradients.c - every row of ops.def with a gradient, against central differences in double, through qn_grad,
 * qn_compile and qn_program_run. The scalar is sum_j w_j y_j with fixed random w; the differences are taken of each
 * y_j, so that elements which do not move cancel exactly, and extrapolated to step 0 (Richardson 1911; the best entry
 * of the table is chosen by its own error estimate: Ridders 1982). Relative error at most 1e-6, where numbers below a
 * hundredth of the operand's root mean square gradient count as that hundredth. */
#include "ops.h"
#include "../../core/philox.h"
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { LEVELS = 6, ALL_ELEMENTS = 100, SOME_ELEMENTS = 48, FEW_ELEMENTS = 8, LARGE = 4096 };
static const double tolerance = 1e-6;

/* A case compiled twice: once for y alone, once for the gradients. */
struct subject {
    const struct op_case *c;
    qn_graph *g;
    qn_store *store;
    qn_t x[QN_MAX_IN], y, dx[QN_MAX_IN];
    qn_program *forward, *backward;
    double *w, *plus, *minus; /* per element of y */
    int64_t n;
};

static void must(qn_status status, const char *name, const qn_error *err)
{
    if (status) fail_msg("case \"%s\": %s", name, err->text);
}

static bool differentiable(const struct op_in *in) { return !in->constant && op_in_dtype(in, QN_F64) == QN_F64; }

static void build(struct subject *s)
{
    const struct op_case *c = s->c;
    qn_t wrt[QN_MAX_IN], grad[QN_MAX_IN];
    int n = 0;
    for (int i = 0; i < c->n_in; i++) {
        const struct op_in *in = &c->in[i];
        qn_dtype dtype = op_in_dtype(in, QN_F64);
        char name[16];
        snprintf(name, sizeof name, "x%d", i);
        s->x[i] = in->stored ? qn_tensor(s->g, QN_STATE, name, dtype, in->rank, in->dim, NULL)
                             : qn_input(s->g, name, dtype, in->rank, in->dim);
        if (differentiable(in)) wrt[n++] = s->x[i];
    }
    s->y = c->build(s->g, s->x, c);
    must(qn_graph_status(s->g), c->name, qn_graph_error(s->g));
    s->n = qn_count(s->g, s->y);
    s->w = calloc((size_t)s->n + 1, sizeof *s->w);
    s->plus = calloc((size_t)s->n + 1, sizeof *s->plus);
    s->minus = calloc((size_t)s->n + 1, sizeof *s->minus);
    assert_true(s->w && s->plus && s->minus);
    for (int64_t j = 0; j < s->n; j++) {
        struct qn__words r = qn__philox(7, (uint32_t)j, 0, 0, 0);
        s->w[j] = (r.w[0] & 1 ? 1 : -1) * (0.5 + qn__unit_f64(r.w[1]));
    }
    struct qn__node y = *qn__at(s->g, s->y);
    qn_t w = qn_constant(s->g, QN_F64, y.rank, y.dim, s->w);
    qn_grad(s->g, qn_sum_all(s->g, qn_mul(s->g, s->y, w)), wrt, grad, n);
    must(qn_graph_status(s->g), c->name, qn_graph_error(s->g));
    for (int i = 0, k = 0; i < c->n_in; i++) s->dx[i] = differentiable(&c->in[i]) ? grad[k++] : (qn_t){ 0 };
}

static void compile(struct subject *s, qn_program **p, const qn_t *keep, int n)
{
    qn_error err = { 0 };
    const qn_compile_opts opts = { .threads = 1, .check_plan = true };
    must(qn_compile(p, s->g, keep, n, s->store, &opts, &err), s->c->name, &err);
    must(qn_program_load(*p, &err), s->c->name, &err);
}

static double *operand(struct subject *s, qn_program *p, int i)
{
    char name[16];
    snprintf(name, sizeof name, "x%d", i);
    void *data = s->c->in[i].stored ? qn_store_find(s->store, name)->data : qn_program_data(p, s->x[i]);
    assert_non_null(data);
    return data;
}

static void run(struct subject *s, qn_program *p)
{
    qn_error err = { 0 };
    must(qn_program_run(p, QN_MICRO, &err), s->c->name, &err);
}

static struct subject open_subject(const struct op_case *c)
{
    struct subject s = { .c = c };
    qn_error err = { 0 };
    assert_int_equal(qn_graph_new(&s.g, NULL), QN_OK);
    must(qn_store_new(&s.store, "cpu", 1, NULL, &err), c->name, &err);
    build(&s);
    qn_t keep[QN_MAX_IN + 1];
    int n = 0;
    for (int i = 0; i < c->n_in; i++)
        if (s.dx[i].id) keep[n++] = s.dx[i];
    compile(&s, &s.forward, &s.y, 1);
    compile(&s, &s.backward, keep, n);
    for (int i = 0; i < c->n_in; i++) {
        op_fill(c, i, QN_F64, operand(&s, s.forward, i));
        op_fill(c, i, QN_F64, operand(&s, s.backward, i));
    }
    run(&s, s.backward);
    return s;
}

static void close_subject(struct subject *s)
{
    qn_program_free(s->forward);
    qn_program_free(s->backward);
    qn_store_free(s->store);
    qn_graph_free(s->g);
    free(s->w);
    free(s->plus);
    free(s->minus);
}

/* (L(x + h) - L(x - h)) / 2h along element e of operand i */
static double central(struct subject *s, double *x, double h)
{
    const double *y = qn_program_data(s->forward, s->y);
    size_t bytes = (size_t)s->n * sizeof *y;
    double at = *x;
    *x = at + h;
    run(s, s->forward);
    memcpy(s->plus, y, bytes);
    *x = at - h;
    run(s, s->forward);
    memcpy(s->minus, y, bytes);
    *x = at;
    long double sum = 0;
    for (int64_t j = 0; j < s->n; j++)
        sum += (long double)s->w[j] * ((long double)s->plus[j] - (long double)s->minus[j]);
    return (double)(sum / (2 * (long double)h));
}

static double difference(struct subject *s, double *x)
{
    double largest = s->c->step > 0 ? s->c->step : 0x1p-6 * fmax(fabs(*x), 0.25), table[LEVELS][LEVELS];
    double h = ldexp(1, ilogb(largest)), best = 0, best_error = INFINITY; /* a power of two: x +- h is exact */
    for (int i = 0; i < LEVELS; i++, h /= 2) {
        table[i][0] = central(s, x, h);
        for (int j = 1; j <= i; j++) {
            double factor = ldexp(1, 2 * j);
            table[i][j] = (factor * table[i][j - 1] - table[i - 1][j - 1]) / (factor - 1);
            double error = fmax(fabs(table[i][j] - table[i][j - 1]), fabs(table[i][j] - table[i - 1][j - 1]));
            if (error >= best_error) continue;
            best_error = error;
            best = table[i][j];
        }
    }
    return best;
}

/* Largest relative error among the elements looked at. */
static double check_operand(struct subject *s, int i)
{
    int64_t n = op_in_count(&s->c->in[i]), looked = n <= ALL_ELEMENTS ? n : SOME_ELEMENTS;
    if (s->n > LARGE && looked > FEW_ELEMENTS) looked = FEW_ELEMENTS;
    const double *dx = qn_program_data(s->backward, s->dx[i]);
    double *x = operand(s, s->forward, i), square = 0, worst = 0;
    for (int64_t e = 0; e < n; e++) square += dx[e] * dx[e];
    double floor_of = square > 0 ? 1e-2 * sqrt(square / (double)n) : 1e-2;
    for (int64_t k = 0; k < looked; k++) {
        int64_t e = looked == n ? k : (int64_t)(qn__philox(11, (uint32_t)k, (uint32_t)i, 0, 0).w[0] % (uint64_t)n);
        double numeric = difference(s, &x[e]);
        double scale = fmax(fmax(fabs(dx[e]), fabs(numeric)), floor_of), error = fabs(dx[e] - numeric) / scale;
        if (!(error <= tolerance))
            fail_msg("case \"%s\": operand %d, element %lld of %lld: gradient %.12g; differences give %.12g (relative "
                     "error %.2g)",
                     s->c->name, i, (long long)e, (long long)n, dx[e], numeric, error);
        if (error > worst) worst = error;
    }
    return worst;
}

static double worst_of_all; /* for the lines at the end, which `make bars` reads */
static int unchecked_rows;

static void check_row(void **state)
{
    enum qn__opcode op = *(enum qn__opcode *)*state;
    const struct op_cases *cases = op_cases_of[op];
    int checked = 0;
    double worst = 0;
    for (int i = 0; i < cases->n; i++) {
        const struct op_case *c = &cases->c[i];
        bool any = false;
        for (int k = 0; k < c->n_in; k++) any = any || differentiable(&c->in[k]);
        if (c->fails || c->no_gradient_check || !any) continue;
        struct subject s = open_subject(c);
        for (int k = 0; k < c->n_in; k++)
            if (s.dx[k].id) worst = fmax(worst, check_operand(&s, k));
        close_subject(&s);
        checked++;
    }
    printf("  %-18s %3d cases, relative error at most %.1e\n", qn__op_of(op)->name, checked, worst);
    worst_of_all = fmax(worst_of_all, worst);
    unchecked_rows += checked == 0;
    if (!checked) fail_msg("%s has a gradient that no case checks", qn__op_of(op)->name);
}

/* Rows without a gradient say why. */
static void others_state_a_reason(void **state)
{
    (void)state;
    int without = 0;
    for (int op = 1; op < QN_OP_COUNT; op++) {
        const struct qn__op *row = qn__op_of((enum qn__opcode)op);
        if (qn__has_gradient(row)) continue;
        printf("  %-18s no gradient: %s\n", row->name, row->no_gradient ? row->no_gradient : "?");
        if (!row->no_gradient || !row->no_gradient[0]) fail_msg("%s has neither gradient nor reason", row->name);
        without++;
    }
    printf("  %d of %d rows have no gradient\n", without, QN_OP_COUNT - 1);
    printf("worst relative error: %.2e\ngradients not checked: %d\n", worst_of_all, unchecked_rows);
}

static bool has_gradient(enum qn__opcode op) { return qn__has_gradient(qn__op_of(op)); }

int main(int argc, char **argv)
{
    const struct CMUnitTest last[] = { { "rows without gradient state a reason", others_state_a_reason, NULL, NULL,
                                         NULL } };
    return op_run_rows("gradients", check_row, has_gradient, last, 1, argc, argv);
}
