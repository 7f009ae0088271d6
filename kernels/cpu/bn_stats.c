/* bn_stats.c - x [N,C,H,W] or [N,C] in any channel block -> y [2,C]: mean, biased variance.
 *
 * Sums of x and x^2 of the distance to a pivot (the channel's first element), in double: one pass over memory, and no
 * cancellation when the mean is large against the deviation. */
#include "bn.h"

static inline __attribute__((always_inline)) void sum_block(const REAL *x, int64_t s, int64_t b, const REAL *pivot,
                                                            double *sum, double *square)
{
    for (int64_t i = 0; i < s; i++)
        for (int64_t j = 0; j < b; j++) {
            double d = (double)(x[i * b + j] - pivot[j]);
            sum[j] += d;
            square[j] += d * d;
        }
}

/* One channel whose elements lie together: four lanes of sums, so that the loop is not one chain of additions. */
static inline __attribute__((always_inline)) void sum_row(const REAL *x, int64_t s, REAL pivot, double *sum,
                                                          double *square)
{
    double a[8] = { 0 }, q[8] = { 0 };
    int64_t i = 0;
    for (; i + 8 <= s; i += 8)
        for (int j = 0; j < 8; j++) {
            double d = (double)(x[i + j] - pivot);
            a[j] += d;
            q[j] += d * d;
        }
    for (; i < s; i++) {
        double d = (double)(x[i] - pivot);
        a[0] += d;
        q[0] += d * d;
    }
    *sum += ((a[0] + a[4]) + (a[1] + a[5])) + ((a[2] + a[6]) + (a[3] + a[7]));
    *square += ((q[0] + q[4]) + (q[1] + q[5])) + ((q[2] + q[6]) + (q[3] + q[7]));
}

QN_CLONES static void sum_part(const REAL *x, struct qn__blocked g, int64_t begin, int64_t end, const REAL *pivot,
                               double *out)
{
    int64_t channels = g.cb * g.b;
    memset(out, 0, (size_t)(2 * channels) * sizeof *out);
    for (int64_t n = begin; n < end; n++)
        for (int64_t c = 0; c < g.cb; c++) {
            const REAL *p = x + (n * g.cb + c) * g.s * g.b, *v = pivot + c * g.b;
            double *sum = out + c * g.b, *square = out + channels + c * g.b;
            if (g.b == 1)
                sum_row(p, g.s, v[0], sum, square);
            else if (g.b == 8)
                sum_block(p, g.s, 8, v, sum, square);
            else if (g.b == 16)
                sum_block(p, g.s, 16, v, sum, square);
            else
                sum_block(p, g.s, g.b, v, sum, square);
        }
}

static qn_status pick(const struct qn__args *a, struct qn__choice *c)
{
    size_t pivots;
    QN_TRY(bn_pick_sums(a, c));
    if (!qn__mul(&pivots, sizeof(REAL), (size_t)a->x[0].dim[1]) || !qn__add(&c->workspace, c->workspace, pivots))
        return QN_EUSAGE;
    return QN_OK;
}

static void take_pivots(const struct qn__blocked *g, const REAL *x, REAL *pivot)
{
    for (int64_t c = 0; c < g->cb; c++)
        for (int64_t j = 0; j < g->b; j++) {
            REAL first = x[c * g->s * g->b + j];
            pivot[c * g->b + j] = isfinite(first) ? first : 0; /* a pivot must not spoil other elements */
        }
}

static qn_status launch(const struct qn__step *step, qn_error *err)
{
    (void)err;
    const struct qn__args *a = &step->args;
    struct qn__blocked g = qn__blocked_of(&a->x[0]);
    const REAL *x = qn__real(&a->x[0]);
    REAL *mean = qn__real(&a->y), *variance = mean + g.cb * g.b;
    int64_t channels = g.cb * g.b, count = g.n * g.s;
    double *parts = step->workspace;
    REAL *pivot = (REAL *)(parts + 2 * QN_BN_PARTS * channels);
    if (a->x[0].count == 0) {
        memset(mean, 0, (size_t)(2 * channels) * sizeof *mean);
        return QN_OK;
    }
    take_pivots(&g, x, pivot);
#pragma omp parallel for num_threads(qn__threads_for(a, a->x[0].count)) schedule(static)
    for (int p = 0; p < QN_BN_PARTS; p++)
        sum_part(x, g, bn_part_begin(g.n, p), bn_part_begin(g.n, p + 1), pivot, parts + 2 * channels * p);
    bn_join_parts(parts, channels, parts);
    for (int64_t c = 0; c < channels; c++) {
        double d = parts[c] / (double)count, v = parts[channels + c] / (double)count - d * d;
        mean[c] = (REAL)((double)pivot[c] + d);
        variance[c] = (REAL)(v < 0 ? 0 : v);
    }
    return QN_OK;
}

KERNEL(bn_stats) = { .variants = (const char *const[]){ "parts", NULL }, .pick = pick, .launch = launch };
