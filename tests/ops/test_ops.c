/* test_ops.c - the checks of ops.h that need no compiler: value, precision, class, bits, memory, layout. One test for
 * each row of ops.def, or of those named on the command line.
 *
 * run-tests: timeout 600 */
#include "ops.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const struct direct_opts plain = { .threads = 1, .block = QN_PLAIN, .fill = 0xFF };

/* ---- checks ------------------------------------------------------------------------------------- */

static struct direct run(enum qn__opcode op, const struct op_case *c, qn_dtype real, const struct direct_opts *o)
{
    struct direct d = direct_run(op, c, real, o, NULL);
    if (d.status) fail_msg("case \"%s\": %s", c->name, d.err.text);
    return d;
}

static void check_oracle(const struct op_case *c, struct op_reference *r)
{
    struct op_data want = r->y;
    want.v = calloc((size_t)want.count + 1, sizeof *want.v);
    assert_non_null(want.v);
    if (c->oracle) {
        c->oracle(c, r->x, &want);
        op_compare(r, r->y.v, want.v, 0x1p-53, "f64 kernel against the definition");
    }
    free(want.v);
    for (int i = 0; c->oracle_written && i < c->n_in; i++) {
        if (!c->in[i].stored) continue;
        want = r->x[i];
        want.v = calloc((size_t)want.count + 1, sizeof *want.v);
        assert_non_null(want.v);
        memcpy(want.v, r->x[i].v, (size_t)want.count * sizeof *want.v);
        c->oracle_written(c, i, r->x, &want);
        op_compare_written(r, i, r->after[i].v, want.v, 0x1p-53, "f64 kernel against the definition");
        free(want.v);
    }
}

static void expect_same(const struct direct *a, const struct direct *b, const char *what)
{
    if (!direct_same_bits(a, b)) fail_msg("case \"%s\": %s changes the bits", a->c->name, what);
}

static void check_bits(enum qn__opcode op, const struct op_case *c, qn_dtype real, const struct direct *first)
{
    static const struct {
        struct direct_opts o;
        const char *what;
    } other[] = {
        { { .threads = 1, .block = QN_PLAIN, .fill = 0x3A }, "running again from other memory" },
        { { .threads = 2, .block = QN_PLAIN, .fill = 0xFF }, "a second thread" },
        { { .threads = 5, .block = QN_PLAIN, .fill = 0x3A }, "running with 5 threads" },
        { { .threads = 2, .block = QN_PLAIN, .fill = 0xFF, .in_place = true }, "writing onto an operand" },
    };
    for (size_t i = 0; i < sizeof other / sizeof *other; i++) {
        struct direct_opts o = other[i].o;
        if (c->fixed_threads && real == QN_F32) o.threads = plain.threads;
        struct direct d = run(op, c, real, &o);
        expect_same(first, &d, other[i].what);
        direct_free(&d);
    }
}

static int check_layouts(enum qn__opcode op, const struct op_case *c, qn_dtype real, struct op_reference *r)
{
    int32_t block[4];
    int n = op_blocks(c, block), checked = 0;
    for (int i = 0; i < n; i++) {
        struct direct_opts o = { .threads = 2, .block = block[i], .fill = 0xFF };
        struct direct d = run(op, c, real, &o);
        if (d.blocked) {
            checked++;
            struct op_data y = direct_result(&d);
            op_compare(r, y.v, r->y.v, real == QN_F32 ? 0x1p-24 : 0x1p-53, "blocked layout");
            free(y.v);
            o.threads = c->fixed_threads && real == QN_F32 ? o.threads : 5;
            o.fill = 0x3A;
            struct direct again = run(op, c, real, &o);
            expect_same(&d, &again, "a blocked layout with 5 threads");
            direct_free(&again);
        }
        direct_free(&d);
    }
    return checked;
}

static void check_class(enum qn__opcode op, const struct op_case *c)
{
    static const double special[] = { (double)NAN, (double)INFINITY, -(double)INFINITY };
    for (int i = 0; i < c->n_in && !c->finite_only; i++) {
        int64_t n = op_in_count(&c->in[i]);
        if (op_in_dtype(&c->in[i], QN_F64) != QN_F64 || n == 0) continue;
        for (int k = 0; k < 3; k++) {
            struct direct_plant plant = { i, k == 0 ? n / 2 : k == 1 ? 0 : n - 1, special[k], false };
            struct direct wide = direct_run(op, c, QN_F64, &plain, &plant);
            struct direct narrow = direct_run(op, c, QN_F32, &plain, &plant);
            assert_int_equal(wide.status, narrow.status);
            struct op_data a = direct_result(&wide), b = direct_result(&narrow);
            for (int64_t j = 0; j < a.count; j++)
                if (!op_same_class(a.v[j], b.v[j]))
                    fail_msg("case \"%s\", %g in element %lld of operand %d: element %lld is %.9g in f32, %.17g in f64",
                             c->name, special[k], (long long)plant.element, i, (long long)j, b.v[j], a.v[j]);
            free(a.v);
            free(b.v);
            direct_free(&wide);
            direct_free(&narrow);
        }
    }
}

static void check_failure(enum qn__opcode op, const struct op_case *c, qn_dtype real)
{
    struct direct d = direct_run(op, c, real, &plain, NULL);
    if (!d.status) fail_msg("case \"%s\" succeeds; expected %s", c->name, c->fails);
    assert_string_equal(d.err.text, c->fails);
    assert_int_equal(d.status, qn_error_status(&d.err));
    direct_free(&d);
}

static void check_row(void **state)
{
    enum qn__opcode op = *(enum qn__opcode *)*state;
    const struct op_cases *cases = op_cases_of[op];
    double worst = 0;
    int layouts = 0;
    for (int i = 0; i < cases->n; i++) {
        const struct op_case *c = &cases->c[i];
        if (c->fails) {
            check_failure(op, c, QN_F32);
            check_failure(op, c, QN_F64);
            continue;
        }
        struct direct wide = run(op, c, QN_F64, &plain), narrow = run(op, c, QN_F32, &plain);
        struct op_reference r = op_reference_of(&wide);
        check_oracle(c, &r);
        double error = op_check(&r, &narrow, 0x1p-24, "f32 kernel against the f64 kernel");
        if (error > worst) worst = error;
        check_bits(op, c, QN_F64, &wide);
        check_bits(op, c, QN_F32, &narrow);
        layouts += check_layouts(op, c, QN_F64, &r);
        layouts += check_layouts(op, c, QN_F32, &r);
        check_class(op, c);
        op_reference_free(&r);
        direct_free(&wide);
        direct_free(&narrow);
    }
    printf("  %-18s %3d cases, %2d blocked; f32 error at most %.3f of its bound\n", qn__op_of(op)->name, cases->n,
           layouts, worst);
    assert_true(cases->n > 0);
}

int main(int argc, char **argv) { return op_run_rows("operators", check_row, NULL, NULL, 0, argc, argv); }
