/* rmsprop.c - s = beta2 s + (1 - beta2) x^2 with x = g + decay w; w -= lr x / (sqrt(s) + eps). */
#include "update.h"

QN_CLONES static void chunk(const struct qn__update *u, REAL *restrict w, REAL *restrict s, REAL *restrict b,
                            const REAL *restrict g, int64_t n)
{
    (void)b;
    const struct qn__update k = *u;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        REAL x = qn__gradient(g[i], k.factor, k.limit) + k.decay * w[i];
        REAL square = k.beta2 * s[i] + k.rest2 * (x * x);
        s[i] = square;
        w[i] -= k.lr * qn__quotient(x, SQRT(square) + k.eps);
    }
}

QN_UPDATE_KERNEL(rmsprop, chunk);
