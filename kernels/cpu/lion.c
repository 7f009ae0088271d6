/* lion.c - w -= lr (sign(beta1 m + (1 - beta1) g) + decay w); m = beta2 m + (1 - beta2) g. */
#include "update.h"

QN_CLONES static void chunk(const struct qn__update *u, REAL *restrict w, REAL *restrict m, REAL *restrict b,
                            const REAL *restrict g, int64_t n)
{
    (void)b;
    const struct qn__update k = *u;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        REAL x = qn__gradient(g[i], k.factor, k.limit), c = k.beta1 * m[i] + k.rest1 * x;
        REAL sign = c > 0 ? (REAL)1 : c < 0 ? (REAL)-1 : 0;
        m[i] = k.beta2 * m[i] + k.rest2 * x;
        w[i] -= k.lr * (sign + k.decay * w[i]);
    }
}

QN_UPDATE_KERNEL(lion, chunk);
