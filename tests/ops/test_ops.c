/* test_ops.c - the checks of ops.h that need no compiler: value, precision, class, bits, memory, layout. One test for
 * each row of ops.def, or of those named on the command line. */
#include "ops.h"
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const struct direct_opts plain = { .threads = 1, .block = QN_PLAIN, .fill = 0xFF };

/* ---- bounds ------------------------------------------------------------------------------------- */

/* What the bound of a case is made from: operands before and after, reference result, the result on magnitudes. */
struct reference {
    struct op_data x[QN_MAX_IN], after[QN_MAX_IN], y, magnitude;
};

/* The operands as they were before the run. */
static void original_operands(const struct op_case *c, struct op_data *x)
{
    for (int i = 0; i < c->n_in; i++) {
        const struct op_in *in = &c->in[i];
        qn_dtype dtype = op_in_dtype(in, QN_F64);
        size_t n = (size_t)op_in_count(in), size = qn_dtype_size(dtype);
        unsigned char *raw = calloc(n + 1, size);
        x[i] = (struct op_data){ .dtype = dtype, .rank = in->rank, .count = (int64_t)n };
        x[i].v = calloc(n + 1, sizeof *x[i].v);
        assert_true(raw && x[i].v);
        memcpy(x[i].dim, in->dim, sizeof in->dim);
        op_fill(c, i, QN_F64, raw);
        qn_convert(x[i].v, QN_F64, raw, dtype, n);
        free(raw);
    }
}

static struct reference reference_of(enum qn__opcode op, const struct op_case *c, const struct direct *d)
{
    struct reference r = { .y = direct_result(d) };
    original_operands(c, r.x);
    for (int i = 0; i < c->n_in; i++) r.after[i] = direct_operand(d, i);
    if (c->terms > 0) {
        struct direct m = direct_run(op, c, QN_F64, &plain, &(struct direct_plant){ -1, 0, 0, true });
        r.magnitude = direct_result(&m);
        direct_free(&m);
    }
    return r;
}

static void reference_free(struct reference *r)
{
    for (int i = 0; i < QN_MAX_IN; i++) {
        free(r->x[i].v);
        free(r->after[i].v);
    }
    free(r->y.v);
    free(r->magnitude.v);
}

static double bound_of(const struct op_case *c, const struct reference *r, int64_t i, double eps)
{
    if (c->bound) return c->bound(c, r->x, &r->y, i, eps);
    if (c->exact || !qn_dtype_is_float(r->y.dtype)) return 0;
    double ulps = c->ulps > 0 ? c->ulps : 4, tiny = eps > 0x1p-40 ? (double)FLT_MIN : DBL_MIN;
    if (c->terms > 0) return (c->terms + ulps) * 2 * eps * r->magnitude.v[i] + tiny * eps;
    return ulps * 2 * eps * fabs(r->y.v[i]) + ulps * 2 * eps * tiny;
}

static bool same_class(double a, double b) { return isnan(a) ? isnan(b) : isinf(a) ? a == b : isfinite(b); }

/* Largest error as a share of the bound. */
static double compare(const struct op_case *c, const struct reference *r, const double *got, const double *want,
                      double eps, const char *what)
{
    double worst = 0;
    for (int64_t i = 0; i < r->y.count; i++) {
        if (!same_class(want[i], got[i]))
            fail_msg("case \"%s\": %s: element %lld is %.17g; expected %.17g", c->name, what, (long long)i, got[i],
                     want[i]);
        if (!isfinite(want[i])) continue;
        double error = fabs(got[i] - want[i]), bound = bound_of(c, r, i, eps);
        if (!(error <= bound))
            fail_msg("case \"%s\": %s: element %lld is %.17g; expected %.17g +- %.3g (error %.3g)", c->name, what,
                     (long long)i, got[i], want[i], bound, error);
        if (bound > 0 && error / bound > worst) worst = error / bound;
    }
    return worst;
}

/* ---- checks ------------------------------------------------------------------------------------- */

static struct direct run(enum qn__opcode op, const struct op_case *c, qn_dtype real, const struct direct_opts *o)
{
    struct direct d = direct_run(op, c, real, o, NULL);
    if (d.status) fail_msg("case \"%s\": %s", c->name, d.err.text);
    return d;
}

/* Stored operands after the run. */
static void compare_written(const struct op_case *c, const struct reference *r, int which, const double *got,
                            const double *want, double eps, const char *what)
{
    double ulps = c->ulps > 0 ? c->ulps : 4, tiny = eps > 0x1p-40 ? (double)FLT_MIN : DBL_MIN;
    for (int64_t k = 0; k < r->after[which].count; k++) {
        double bound = c->bound_written ? c->bound_written(c, which, r->x, &r->after[which], k, eps)
                       : c->exact       ? 0
                                        : ulps * 2 * eps * (fabs(want[k]) + tiny);
        if (got[k] != want[k] && !(fabs(got[k] - want[k]) <= bound))
            fail_msg("case \"%s\": %s: operand %d, element %lld after the run is %.17g; expected %.17g +- %.3g",
                     c->name, what, which, (long long)k, got[k], want[k], bound);
    }
}

static void check_oracle(const struct op_case *c, struct reference *r)
{
    struct op_data want = r->y;
    want.v = calloc((size_t)want.count + 1, sizeof *want.v);
    assert_non_null(want.v);
    if (c->oracle) {
        c->oracle(c, r->x, &want);
        compare(c, r, r->y.v, want.v, 0x1p-53, "f64 kernel against the definition");
    }
    free(want.v);
    for (int i = 0; c->oracle_written && i < c->n_in; i++) {
        if (!c->in[i].stored) continue;
        want = r->x[i];
        want.v = calloc((size_t)want.count + 1, sizeof *want.v);
        assert_non_null(want.v);
        memcpy(want.v, r->x[i].v, (size_t)want.count * sizeof *want.v);
        c->oracle_written(c, i, r->x, &want);
        compare_written(c, r, i, r->after[i].v, want.v, 0x1p-53, "f64 kernel against the definition");
        free(want.v);
    }
}

/* f32 against f64; also what was written in place. */
static double check_precision(const struct op_case *c, struct reference *r, const struct direct *narrow)
{
    struct op_data y = direct_result(narrow);
    double worst = compare(c, r, y.v, r->y.v, 0x1p-24, "f32 kernel against the f64 kernel");
    free(y.v);
    for (int i = 0; i < c->n_in; i++) {
        if (!c->in[i].stored) continue;
        struct op_data after = direct_operand(narrow, i);
        compare_written(c, r, i, after.v, r->after[i].v, 0x1p-24, "f32 kernel against the f64 kernel");
        free(after.v);
    }
    return worst;
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

static int check_layouts(enum qn__opcode op, const struct op_case *c, qn_dtype real, struct reference *r)
{
    int32_t block[4];
    int n = op_blocks(c, block), checked = 0;
    for (int i = 0; i < n; i++) {
        struct direct_opts o = { .threads = 2, .block = block[i], .fill = 0xFF };
        struct direct d = run(op, c, real, &o);
        if (d.blocked) {
            checked++;
            struct op_data y = direct_result(&d);
            compare(c, r, y.v, r->y.v, real == QN_F32 ? 0x1p-24 : 0x1p-53, "blocked layout");
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
                if (!same_class(a.v[j], b.v[j]))
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
        struct reference r = reference_of(op, c, &wide);
        check_oracle(c, &r);
        double error = check_precision(c, &r, &narrow);
        if (error > worst) worst = error;
        check_bits(op, c, QN_F64, &wide);
        check_bits(op, c, QN_F32, &narrow);
        layouts += check_layouts(op, c, QN_F64, &r);
        layouts += check_layouts(op, c, QN_F32, &r);
        check_class(op, c);
        reference_free(&r);
        direct_free(&wide);
        direct_free(&narrow);
    }
    printf("  %-18s %3d cases, %2d blocked; f32 error at most %.3f of its bound\n", qn__op_of(op)->name, cases->n,
           layouts, worst);
    assert_true(cases->n > 0);
}

int main(int argc, char **argv)
{
    static enum qn__opcode row[QN_OP_COUNT];
    static struct CMUnitTest test[QN_OP_COUNT];
    size_t n = 0;
    for (int op = 1; op < QN_OP_COUNT; op++) {
        if (!op_present((enum qn__opcode)op) || !op_asked_for((enum qn__opcode)op, argc, argv)) continue;
        row[n] = (enum qn__opcode)op;
        test[n] = (struct CMUnitTest){ qn__op_of(row[n])->name, check_row, NULL, NULL, &row[n] };
        n++;
    }
    return _cmocka_run_group_tests("operators", test, n, NULL, NULL);
}
