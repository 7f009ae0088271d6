/* softmax.c - y = e^(x - max x) / sum e^(x - max x) over the last axis. y may be x. */
#include "softmax.h"

QN_CLONES static void row(REAL *y, const REAL *x, const REAL *b, int64_t n)
{
    (void)b;
    REAL max = row_max(x, n);
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        REAL e = EXP(x[i] - max);
        y[i] = e;
        sum += (double)e;
    }
    REAL scale = (REAL)(1 / sum);
    for (int64_t i = 0; i < n; i++) y[i] *= scale;
}

QN_ROWS_KERNEL(softmax, row);
