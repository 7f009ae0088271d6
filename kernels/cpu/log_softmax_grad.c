/* log_softmax_grad.c - dx = dy - e^y sum dy over the last axis; y is the log-softmax. dx may be y or dy. */
#include "softmax.h"

QN_CLONES static void row(REAL *dx, const REAL *y, const REAL *dy, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)dy[i];
    REAL s = (REAL)sum;
    for (int64_t i = 0; i < n; i++) dx[i] = dy[i] - EXP(y[i]) * s;
}

QN_ROWS_KERNEL(log_softmax_grad, row);
