/* adam.c - m, v: averages of g and g^2; w -= lr m / c1 / (sqrt(v / c2) + eps), c = 1 - beta^t; decay w is added to g,
 * or (decoupled, AdamW) lr decay w is subtracted from w. lr decay w joins the step before it meets w: 1 - lr decay
 * would
 * lose most of its digits in f32. */
#include "update.h"

QN_CLONES static void chunk(const struct qn__update *u, REAL *restrict w, REAL *restrict m, REAL *restrict v,
                            const REAL *restrict g, int64_t n)
{
    const struct qn__update k = *u;
    const REAL rate = k.lr * k.scale1, coupled = k.decoupled ? 0 : k.decay;
    const REAL decoupled = k.decoupled ? k.lr * k.decay : 0;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        REAL x = qn__gradient(g[i], k.factor, k.limit) + coupled * w[i];
        REAL mean = k.beta1 * m[i] + k.rest1 * x, square = k.beta2 * v[i] + k.rest2 * (x * x);
        m[i] = mean;
        v[i] = square;
        w[i] -= rate * qn__quotient(mean, SQRT(square) * k.scale2 + k.eps) + decoupled * w[i];
    }
}

QN_UPDATE_KERNEL(adam, chunk);
