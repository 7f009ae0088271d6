/* add_layer_norm.c - y = a + b, and if wanted its layer_norm, a row at a time; y may be a or b. */
#include "norm.h"

QN_CLONES static void row(REAL *y, REAL *norm, const REAL *p, const REAL *q, const REAL *gamma, const REAL *beta,
                          int64_t n, double eps)
{
    norm_add_row(y, norm, p, q, gamma, beta, n, eps, true);
}

QN_NORM_KERNEL(add_layer_norm, norm_add, row);
