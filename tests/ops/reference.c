/* reference.c - what the results of a case are held against, and how far they may be from it. */
#include "ops.h"
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* The operands as they were before the run. */
static void original_operands(const struct op_case *c, qn_dtype storage, struct op_data *x)
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
        if (in->dtype == QN_F32) op_round(raw, dtype, storage, (int64_t)n);
        qn_convert(x[i].v, QN_F64, raw, dtype, n);
        free(raw);
    }
}

struct op_reference op_reference_of(const struct direct *d)
{
    const struct op_case *c = d->c;
    struct op_reference r = { .c = c, .y = direct_result(d) };
    original_operands(c, d->storage, r.x);
    for (int i = 0; i < c->n_in; i++) r.after[i] = direct_operand(d, i);
    if (c->terms > 0) {
        struct direct m = direct_run(d->op, c, QN_F64,
                                     &(struct direct_opts){
                                         .threads = 1, .block = QN_PLAIN, .fill = 0xFF, .storage = d->storage },
                                     &(struct direct_plant){ -1, 0, 0, true });
        r.magnitude = direct_result(&m);
        direct_free(&m);
    }
    return r;
}

void op_reference_free(struct op_reference *r)
{
    for (int i = 0; i < QN_MAX_IN; i++) {
        free(r->x[i].v);
        free(r->after[i].v);
    }
    free(r->y.v);
    free(r->magnitude.v);
}

static double bound_of(const struct op_reference *r, int64_t i, double eps)
{
    const struct op_case *c = r->c;
    if (c->bound) return c->bound(c, r->x, &r->y, i, eps);
    if (c->exact || !qn_dtype_is_float(r->y.dtype)) return 0;
    double ulps = c->ulps > 0 ? c->ulps : 4, tiny = eps > 0x1p-40 ? (double)FLT_MIN : DBL_MIN;
    if (c->terms > 0) return (c->terms + ulps) * 2 * eps * r->magnitude.v[i] + tiny * eps;
    return ulps * 2 * eps * fabs(r->y.v[i]) + ulps * 2 * eps * tiny;
}

bool op_same_class(double a, double b) { return isnan(a) ? isnan(b) : isinf(a) ? a == b : isfinite(b); }

double op_compare(const struct op_reference *r, const double *got, const double *want, double eps, const char *what)
{
    double worst = 0;
    for (int64_t i = 0; i < r->y.count; i++) {
        if (!op_same_class(want[i], got[i]))
            fail_msg("case \"%s\": %s: element %lld is %.17g; expected %.17g", r->c->name, what, (long long)i, got[i],
                     want[i]);
        if (!isfinite(want[i])) continue;
        double error = fabs(got[i] - want[i]), bound = bound_of(r, i, eps);
        if (!(error <= bound))
            fail_msg("case \"%s\": %s: element %lld is %.17g; expected %.17g +- %.3g (error %.3g)", r->c->name, what,
                     (long long)i, got[i], want[i], bound, error);
        if (bound > 0 && error / bound > worst) worst = error / bound;
    }
    return worst;
}

static double bound_written(const struct op_reference *r, int which, int64_t k, double want, double eps)
{
    const struct op_case *c = r->c;
    double ulps = c->ulps > 0 ? c->ulps : 4, tiny = eps > 0x1p-40 ? (double)FLT_MIN : DBL_MIN;
    if (c->bound_written) return c->bound_written(c, which, r->x, &r->after[which], k, eps);
    return c->exact ? 0 : ulps * 2 * eps * (fabs(want) + tiny);
}

void op_compare_written(const struct op_reference *r, int which, const double *got, const double *want, double eps,
                        const char *what)
{
    const struct op_case *c = r->c;
    for (int64_t k = 0; k < r->after[which].count; k++) {
        double bound = bound_written(r, which, k, want[k], eps);
        if (got[k] != want[k] && !(fabs(got[k] - want[k]) <= bound))
            fail_msg("case \"%s\": %s: operand %d, element %lld after the run is %.17g; expected %.17g +- %.3g",
                     c->name, what, which, (long long)k, got[k], want[k], bound);
    }
}

double op_check(const struct op_reference *r, const struct direct *got, double eps, const char *what)
{
    struct op_data y = direct_result(got);
    double worst = op_compare(r, y.v, r->y.v, eps, what);
    free(y.v);
    for (int i = 0; i < r->c->n_in; i++) {
        if (!r->c->in[i].stored) continue;
        struct op_data after = direct_operand(got, i);
        op_compare_written(r, i, after.v, r->after[i].v, eps, what);
        free(after.v);
    }
    return worst;
}

/* ---- results of 16 bits ------------------------------------------------------------------------------ */

/* Unit roundoff, smallest number, largest number. */
struct format {
    double eps, least, most;
};
static struct format format_of(qn_dtype dtype)
{
    if (dtype == QN_BF16) return (struct format){ 0x1p-8, 0x1p-133, 0x1.fep127 };
    if (dtype == QN_F16) return (struct format){ 0x1p-11, 0x1p-24, 65504 };
    return (struct format){ 0, 0, HUGE_VAL };
}

/* got is want, off by bound at most, rounded. Beyond the largest number both it and infinity are right to within the
 * bound. */
static bool is_rounded(double got, double want, double bound, struct format f)
{
    if (isnan(want)) return isnan(got);
    if (isinf(want)) return got == want;
    if (isinf(got)) return fabs(want) + bound >= f.most && (got > 0) == (want > 0);
    return fabs(got - want) <= bound + f.eps * (fabs(want) + bound) + f.least / 2;
}

static double check_rounded(const struct op_reference *r, const struct op_data *got, int which, const char *what)
{
    const struct op_data *want = which < 0 ? &r->y : &r->after[which];
    struct format f = format_of(got->dtype);
    double worst = 0;
    for (int64_t i = 0; i < want->count; i++) {
        double w = want->v[i], bound = !isfinite(w) ? 0
                                       : which < 0  ? bound_of(r, i, 0x1p-24)
                                                    : bound_written(r, which, i, w, 0x1p-24);
        if (isfinite(w) && which <= 0 && r->c->between) /* a written operand 0 is the result */
            bound += f.eps * r->c->between(r->c, r->x, &r->y, i);
        if (!is_rounded(got->v[i], w, bound, f))
            fail_msg("case \"%s\": %s: %s %d, element %lld is %.9g; expected %.9g +- %.3g, rounded to %s", r->c->name,
                     what, which < 0 ? "result" : "operand", which, (long long)i, got->v[i], w, bound,
                     qn_dtype_name(got->dtype));
        double room = bound + f.eps * (fabs(w) + bound) + f.least / 2, error = fabs(got->v[i] - w);
        if (isfinite(error) && room > 0 && error / room > worst) worst = error / room;
    }
    return worst;
}

double op_check_rounded(const struct op_reference *r, const struct direct *got, const char *what)
{
    struct op_data y = direct_result(got);
    double worst = check_rounded(r, &y, -1, what);
    free(y.v);
    for (int i = 0; i < r->c->n_in; i++) {
        if (!r->c->in[i].stored) continue;
        struct op_data after = direct_operand(got, i);
        double error = check_rounded(r, &after, i, what);
        worst = error > worst ? error : worst;
        free(after.v);
    }
    return worst;
}
