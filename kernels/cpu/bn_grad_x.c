/* bn_grad_x.c - dx = gamma r (dy - dbeta/M - (x - mean) r dgamma/M), r = 1/sqrt(var + eps), M elements a channel.
 *
 * Per channel that is dx = p dy + q (x - mean) + o with p = gamma r, q = -p r dgamma/M, o = -p dbeta/M; plus a sixth
 * operand if there is one. dx may be any of the operands. */
#include "bn.h"

struct coefficients {
    const REAL *mean, *p, *q, *o;
};

static inline __attribute__((always_inline)) void grad_block(REAL *dx, const REAL *x, const REAL *dy, const REAL *r,
                                                             int64_t s, int64_t b, struct coefficients k)
{
    for (int64_t i = 0; i < s; i++)
#pragma omp simd
        for (int64_t j = 0; j < b; j++) {
            REAL v = k.p[j] * dy[i * b + j] + k.q[j] * (x[i * b + j] - k.mean[j]) + k.o[j];
            dx[i * b + j] = r ? v + r[i * b + j] : v;
        }
}

static inline __attribute__((always_inline)) void grad_blocks(REAL *dx, const REAL *x, const REAL *dy, const REAL *r,
                                                              int64_t s, int64_t b, struct coefficients k)
{
    if (b == 1) {
        const REAL m = k.mean[0], p = k.p[0], q = k.q[0], o = k.o[0];
#pragma omp simd
        for (int64_t i = 0; i < s; i++) {
            REAL v = p * dy[i] + q * (x[i] - m) + o;
            dx[i] = r ? v + r[i] : v;
        }
    } else if (b == 8) {
        grad_block(dx, x, dy, r, s, 8, k);
    } else if (b == 16) {
        grad_block(dx, x, dy, r, s, 16, k);
    } else {
        grad_block(dx, x, dy, r, s, b, k);
    }
}

QN_CLONES static void grad_sample(REAL *dx, const REAL *x, const REAL *dy, const REAL *r, struct qn__blocked g,
                                  struct coefficients k)
{
    for (int64_t c = 0; c < g.cb; c++) {
        int64_t at = c * g.s * g.b, v = c * g.b;
        struct coefficients kc = { k.mean + v, k.p + v, k.q + v, k.o + v };
        if (r)
            grad_blocks(dx + at, x + at, dy + at, r + at, g.s, g.b, kc);
        else
            grad_blocks(dx + at, x + at, dy + at, NULL, g.s, g.b, kc);
    }
}

static qn_status pick(const struct qn__args *a, struct qn__choice *c)
{
    c->variant = 0;
    return qn__mul(&c->workspace, 3 * sizeof(REAL), (size_t)a->x[0].dim[1]) ? QN_OK : QN_EUSAGE;
}

static qn_status launch(const struct qn__step *step, qn_error *err)
{
    (void)err;
    const struct qn__args *a = &step->args;
    const struct qn__bn_attr *attr = a->attr;
    struct qn__blocked g = qn__blocked_of(&a->x[0]);
    int64_t channels = g.cb * g.b, sample = channels * g.s;
    const REAL *x = qn__real(&a->x[0]), *dy = qn__real(&a->x[1]), *mean = qn__real(&a->x[2]);
    const REAL *variance = mean + channels, *gamma = qn__real(&a->x[3]), *sums = qn__real(&a->x[4]);
    const REAL *addend = a->n_in == 6 ? qn__real(&a->x[5]) : NULL;
    REAL *dx = qn__real(&a->y), *p = step->workspace, *q = p + channels, *o = q + channels;
    double m = (double)(g.n * g.s > 0 ? g.n * g.s : 1);
    for (int64_t c = 0; c < channels; c++) {
        double r = 1 / sqrt((double)variance[c] + attr->eps), scale = (double)gamma[c] * r;
        p[c] = (REAL)scale;
        q[c] = (REAL)(-scale * r * (double)sums[channels + c] / m);
        o[c] = (REAL)(-scale * (double)sums[c] / m);
    }
    struct coefficients k = { mean, p, q, o };
#pragma omp parallel for num_threads(qn__threads_for(a, a->y.count)) schedule(static)
    for (int64_t n = 0; n < g.n; n++) {
        int64_t at = n * sample;
        grad_sample(dx + at, x + at, dy + at, addend ? addend + at : NULL, g, k);
    }
    return QN_OK;
}

KERNEL(bn_grad_x) = { .variants = (const char *const[]){ "channels", NULL }, .pick = pick, .launch = launch };
