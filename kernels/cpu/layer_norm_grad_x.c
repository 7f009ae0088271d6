/* layer_norm_grad_x.c - dx = r (u - mean u - xhat mean(u xhat)) + addend, u = gamma dy, over the last axis; dx may be
 * any of the operands. */
#include "norm.h"

QN_CLONES static void row(REAL *dx, const REAL *x, const REAL *dy, const REAL *gamma, const REAL *addend, int64_t n,
                          double eps)
{
    norm_grad_rows(dx, x, dy, gamma, addend, n, eps, true);
}

QN_NORM_KERNEL(layer_norm_grad_x, norm_grad_x, row);
