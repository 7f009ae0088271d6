/* layer_norm.c - y = gamma (x - mean) r + beta over the last axis; y may be x. */
#include "norm.h"

QN_CLONES static void row(REAL *y, const REAL *x, const REAL *gamma, const REAL *beta, int64_t n, double eps)
{
    norm_apply(y, x, gamma, beta, n, norm_moments_of(x, n, eps, true), true);
}

QN_NORM_KERNEL(layer_norm, norm_forward, row);
