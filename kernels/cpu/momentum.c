/* momentum.c - v = mu v + g + decay w; w -= lr v, or lr (g + decay w + mu v) for Nesterov. */
#include "update.h"

QN_CLONES static void chunk(const struct qn__update *u, REAL *restrict w, REAL *restrict v, REAL *restrict b,
                            const REAL *restrict g, int64_t n)
{
    (void)b;
    const struct qn__update k = *u;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        REAL x = qn__gradient(g[i], k.factor, k.limit) + k.decay * w[i];
        REAL moved = k.momentum * v[i] + x;
        v[i] = moved;
        w[i] -= k.lr * (k.nesterov ? x + k.momentum * moved : moved);
    }
}

QN_UPDATE_KERNEL(momentum, chunk);
