/* bn_grad_stats.c - x, dy [N,C,H,W] or [N,C] in any channel block, stats [2,C] -> y [2,C]: sum dy, sum dy xhat.
 *
 * The second sum is taken of dy (x - mean) and multiplied by 1/sqrt(var + eps) once a channel. */
#include "bn.h"

static inline __attribute__((always_inline)) void sum_block(const REAL *x, const REAL *dy, int64_t s, int64_t b,
                                                            const REAL *mean, double *sum, double *product)
{
    for (int64_t i = 0; i < s; i++)
        for (int64_t j = 0; j < b; j++) {
            double d = (double)dy[i * b + j];
            sum[j] += d;
            product[j] += d * (double)(x[i * b + j] - mean[j]);
        }
}

static inline __attribute__((always_inline)) void sum_row(const REAL *x, const REAL *dy, int64_t s, REAL mean,
                                                          double *sum, double *product)
{
    double a[8] = { 0 }, q[8] = { 0 };
    int64_t i = 0;
    for (; i + 8 <= s; i += 8)
        for (int j = 0; j < 8; j++) {
            double d = (double)dy[i + j];
            a[j] += d;
            q[j] += d * (double)(x[i + j] - mean);
        }
    for (; i < s; i++) {
        a[0] += (double)dy[i];
        q[0] += (double)dy[i] * (double)(x[i] - mean);
    }
    *sum += ((a[0] + a[4]) + (a[1] + a[5])) + ((a[2] + a[6]) + (a[3] + a[7]));
    *product += ((q[0] + q[4]) + (q[1] + q[5])) + ((q[2] + q[6]) + (q[3] + q[7]));
}

QN_CLONES static void sum_part(const REAL *x, const REAL *dy, struct qn__blocked g, int64_t begin, int64_t end,
                               const REAL *mean, double *out)
{
    int64_t channels = g.cb * g.b;
    memset(out, 0, (size_t)(2 * channels) * sizeof *out);
    for (int64_t n = begin; n < end; n++)
        for (int64_t c = 0; c < g.cb; c++) {
            int64_t at = (n * g.cb + c) * g.s * g.b, v = c * g.b;
            double *sum = out + v, *product = out + channels + v;
            if (g.b == 1)
                sum_row(x + at, dy + at, g.s, mean[v], sum, product);
            else if (g.b == 8)
                sum_block(x + at, dy + at, g.s, 8, mean + v, sum, product);
            else if (g.b == 16)
                sum_block(x + at, dy + at, g.s, 16, mean + v, sum, product);
            else
                sum_block(x + at, dy + at, g.s, g.b, mean + v, sum, product);
        }
}

static qn_status launch(const struct qn__step *step, qn_error *err)
{
    (void)err;
    const struct qn__args *a = &step->args;
    const struct qn__bn_attr *attr = a->attr;
    struct qn__blocked g = qn__blocked_of(&a->x[0]);
    int64_t channels = g.cb * g.b;
    const REAL *x = qn__real(&a->x[0]), *dy = qn__real(&a->x[1]), *mean = qn__real(&a->x[2]);
    const REAL *variance = mean + channels;
    REAL *y = qn__real(&a->y);
    double *parts = step->workspace;
#pragma omp parallel for num_threads(qn__threads_for(a, a->x[0].count)) schedule(static)
    for (int p = 0; p < QN_BN_PARTS; p++)
        sum_part(x, dy, g, bn_part_begin(g.n, p), bn_part_begin(g.n, p + 1), mean, parts + 2 * channels * p);
    bn_join_parts(parts, channels, parts);
    for (int64_t c = 0; c < channels; c++) {
        y[c] = (REAL)parts[c];
        y[channels + c] = (REAL)(parts[channels + c] / sqrt((double)variance[c] + attr->eps));
    }
    return QN_OK;
}

KERNEL(bn_grad_stats) = { .variants = (const char *const[]){ "parts", NULL }, .pick = bn_pick_sums, .launch = launch };
