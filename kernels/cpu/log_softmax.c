/* log_softmax.c - y = x - max x - ln sum e^(x - max x) over the last axis. y may be x. */
#include "softmax.h"

QN_CLONES static void row(REAL *y, const REAL *x, const REAL *b, int64_t n)
{
    (void)b;
    REAL max = row_max(x, n);
    REAL shift = (REAL)log(row_sum_exp(x, n, max));
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] = (x[i] - max) - shift;
}

QN_ROWS_KERNEL(log_softmax, row);
