/* batch_norm.c - y = act((x - mean) gamma / sqrt(var + eps) + beta + r), any channel block; act: none or relu; r: an
 * operand or nothing. y may be x or r. */
#include "bn.h"

static inline __attribute__((always_inline)) REAL norm_one(REAL x, REAL mean, REAL scale, REAL beta, const REAL *r,
                                                           int64_t i, bool relu)
{
    REAL v = (x - mean) * scale + beta;
    if (r) v += r[i];
    return relu && v < 0 ? 0 : v;
}

static inline __attribute__((always_inline)) void norm_block(REAL *y, const REAL *x, const REAL *r, int64_t s,
                                                             int64_t b, const REAL *mean, const REAL *scale,
                                                             const REAL *beta, bool relu)
{
    for (int64_t i = 0; i < s; i++)
#pragma omp simd
        for (int64_t j = 0; j < b; j++)
            y[i * b + j] = norm_one(x[i * b + j], mean[j], scale[j], beta[j], r, i * b + j, relu);
}

static inline __attribute__((always_inline)) void norm_blocks(REAL *y, const REAL *x, const REAL *r, int64_t s,
                                                              int64_t b, const REAL *mean, const REAL *scale,
                                                              const REAL *beta, bool relu)
{
    if (b == 1) { /* plain: one channel along s */
        const REAL m = mean[0], k = scale[0], o = beta[0];
#pragma omp simd
        for (int64_t i = 0; i < s; i++) y[i] = norm_one(x[i], m, k, o, r, i, relu);
    } else if (b == 8) {
        norm_block(y, x, r, s, 8, mean, scale, beta, relu);
    } else if (b == 16) {
        norm_block(y, x, r, s, 16, mean, scale, beta, relu);
    } else {
        norm_block(y, x, r, s, b, mean, scale, beta, relu);
    }
}

QN_CLONES static void norm_sample(REAL *y, const REAL *x, const REAL *r, struct qn__blocked g, const REAL *mean,
                                  const REAL *scale, const REAL *beta, bool relu)
{
    for (int64_t c = 0; c < g.cb; c++) {
        int64_t at = c * g.s * g.b, v = c * g.b;
        if (r && relu)
            norm_blocks(y + at, x + at, r + at, g.s, g.b, mean + v, scale + v, beta + v, true);
        else if (r)
            norm_blocks(y + at, x + at, r + at, g.s, g.b, mean + v, scale + v, beta + v, false);
        else if (relu)
            norm_blocks(y + at, x + at, NULL, g.s, g.b, mean + v, scale + v, beta + v, true);
        else
            norm_blocks(y + at, x + at, NULL, g.s, g.b, mean + v, scale + v, beta + v, false);
    }
}

static qn_status pick(const struct qn__args *a, struct qn__choice *c)
{
    const struct qn__bn_attr *attr = a->attr;
    c->variant = 0;
    if (attr->act != 0 && attr->act != QN_OP_relu) return QN_EUSAGE;
    return qn__mul(&c->workspace, sizeof(REAL), (size_t)a->x[0].dim[1]) ? QN_OK : QN_EUSAGE;
}

static qn_status launch(const struct qn__step *step, qn_error *err)
{
    (void)err;
    const struct qn__args *a = &step->args;
    const struct qn__bn_attr *attr = a->attr;
    struct qn__blocked g = qn__blocked_of(&a->x[0]);
    int64_t channels = g.cb * g.b, sample = channels * g.s;
    const REAL *x = qn__real(&a->x[0]), *gamma = qn__real(&a->x[1]), *beta = qn__real(&a->x[2]);
    const REAL *mean = qn__real(&a->x[3]), *variance = mean + channels;
    const REAL *r = a->n_in == 5 ? qn__real(&a->x[4]) : NULL;
    REAL *y = qn__real(&a->y), *scale = step->workspace;
    for (int64_t c = 0; c < channels; c++) scale[c] = (REAL)((double)gamma[c] / sqrt((double)variance[c] + attr->eps));
#pragma omp parallel for num_threads(qn__threads_for(a, a->y.count)) schedule(static)
    for (int64_t n = 0; n < g.n; n++)
        norm_sample(y + n * sample, x + n * sample, r ? r + n * sample : NULL, g, mean, scale, beta,
                    attr->act == QN_OP_relu);
    return QN_OK;
}

KERNEL(batch_norm) = { .variants = (const char *const[]){ "channels", NULL }, .pick = pick, .launch = launch };
