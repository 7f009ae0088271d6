/* sgd.c - w -= lr (g + decay w). */
#include "update.h"

QN_CLONES static void chunk(const struct qn__update *u, REAL *restrict w, REAL *restrict a, REAL *restrict b,
                            const REAL *restrict g, int64_t n)
{
    (void)a;
    (void)b;
    const struct qn__update k = *u;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        w[i] -= k.lr * (qn__gradient(g[i], k.factor, k.limit) + k.decay * w[i]);
    }
}

QN_UPDATE_KERNEL(sgd, chunk);
