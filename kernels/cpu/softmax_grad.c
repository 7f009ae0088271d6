/* softmax_grad.c - dx = y (dy - sum dy y) over the last axis. dx may be y or dy. */
#include "softmax.h"

QN_CLONES static void row(REAL *dx, const REAL *y, const REAL *dy, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)dy[i] * (double)y[i];
    REAL s = (REAL)sum;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) dx[i] = y[i] * (dy[i] - s);
}

QN_ROWS_KERNEL(softmax_grad, row);
