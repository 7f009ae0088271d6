/* lamb.c - u = m / c1 / (sqrt(v / c2) + eps) + decay w, c = 1 - beta^t; w -= lr |w| / |u| u.
 *
 * Two passes: the first moves m and v and sums w^2 and u^2, the second computes u again from them (cheaper than a
 * buffer as large as w) and moves w. The squares are summed in double over blocks of fixed size; workspace: two sums
 * for each block. */
#include "update.h"

enum { BLOCK = 4096, TILE = 256, LANES = 16 };

static int64_t blocks_of(int64_t n) { return (n + BLOCK - 1) / BLOCK; }

static inline __attribute__((always_inline)) REAL direction(struct qn__update k, REAL w, REAL m, REAL v)
{
    return k.scale1 * qn__quotient(m, SQRT(v) * k.scale2 + k.eps) + k.decay * w;
}

/* lane[j] += x[i]^2, i = j mod LANES */
static inline __attribute__((always_inline)) void add_squares(double *lane, const REAL *x, int64_t n)
{
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++) lane[j] += (double)x[i + j] * (double)x[i + j];
    for (int j = 0; i < n; i++, j++) lane[j] += (double)x[i] * (double)x[i];
}

static double total(double *lane)
{
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int j = 0; j < half; j++) lane[j] += lane[j + half];
    return lane[0];
}

QN_CLONES static void measure(const struct qn__update *p, const REAL *restrict w, REAL *restrict m, REAL *restrict v,
                              const REAL *restrict g, int64_t n, double *sums)
{
    const struct qn__update k = *p;
    double of_w[LANES] = { 0 }, of_u[LANES] = { 0 };
    REAL u[TILE];
    for (int64_t at = 0; at < n; at += TILE) {
        int64_t part = n - at < TILE ? n - at : TILE;
#pragma omp simd
        for (int64_t i = 0; i < part; i++) {
            REAL x = qn__gradient(g[at + i], k.factor, k.limit);
            REAL mean = k.beta1 * m[at + i] + k.rest1 * x, square = k.beta2 * v[at + i] + k.rest2 * (x * x);
            m[at + i] = mean;
            v[at + i] = square;
            u[i] = direction(k, w[at + i], mean, square);
        }
        add_squares(of_w, w + at, part);
        add_squares(of_u, u, part);
    }
    sums[0] = total(of_w);
    sums[1] = total(of_u);
}

QN_CLONES static void move(const struct qn__update *p, REAL *restrict w, const REAL *restrict m, const REAL *restrict v,
                           REAL rate, int64_t n)
{
    const struct qn__update k = *p;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) w[i] -= rate * direction(k, w[i], m[i], v[i]);
}

static qn_status pick(const struct qn__args *a, struct qn__choice *c)
{
    c->workspace = 2 * (size_t)blocks_of(a->x[0].count) * sizeof(double);
    return QN_OK;
}

static qn_status launch(const struct qn__step *s, qn_error *err)
{
    (void)err;
    const struct qn__args *a = &s->args;
    if (qn__skipped(a)) return QN_OK;
    const struct qn__update u = qn__update_of(a);
    int64_t n = a->x[0].count, blocks = blocks_of(n);
    REAL *w = qn__real(&a->x[0]), *m = qn__real(&a->x[1]), *v = qn__real(&a->x[2]);
    const REAL *g = qn__real(&a->x[3]);
    double *sums = s->workspace, of_w = 0, of_u = 0;
#pragma omp parallel for num_threads(qn__threads_for(a, n)) schedule(static)
    for (int64_t b = 0; b < blocks; b++) {
        int64_t at = b * BLOCK;
        measure(&u, w + at, m + at, v + at, g + at, n - at < BLOCK ? n - at : BLOCK, sums + 2 * b);
    }
    for (int64_t b = 0; b < blocks; b++) {
        of_w += sums[2 * b];
        of_u += sums[2 * b + 1];
    }
    double trust = of_w > 0 && of_u > 0 ? sqrt(of_w) / sqrt(of_u) : 1;
    REAL rate = (REAL)((double)u.lr * trust);
#pragma omp parallel for num_threads(qn__threads_for(a, n)) schedule(static)
    for (int64_t b = 0; b < blocks; b++) {
        int64_t at = b * BLOCK;
        move(&u, w + at, m + at, v + at, rate, n - at < BLOCK ? n - at : BLOCK);
    }
    return QN_OK;
}

KERNEL(lamb) = { .variants = (const char *const[]){ "two passes", NULL }, .pick = pick, .launch = launch };
