/* rmsprop_momentum.c - s = beta2 s + (1 - beta2) x^2 with x = g + decay w; v = mu v + x / (sqrt(s) + eps);
 * w -= lr v. */
#include "update.h"

QN_CLONES static void chunk(const struct qn__update *u, REAL *restrict w, REAL *restrict s, REAL *restrict v,
                            const REAL *restrict g, int64_t n)
{
    const struct qn__update k = *u;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        REAL x = qn__gradient(g[i], k.factor, k.limit) + k.decay * w[i];
        REAL square = k.beta2 * s[i] + k.rest2 * (x * x);
        REAL moved = k.momentum * v[i] + qn__quotient(x, SQRT(square) + k.eps);
        s[i] = square;
        v[i] = moved;
        w[i] -= k.lr * moved;
    }
}

QN_UPDATE_KERNEL(rmsprop_momentum, chunk);
