/* reduce_extreme.h - the loops of reduce_max and reduce_min. Whoever includes this defines
 *
 *   BETTER(x, y)   x if it replaces y; NaN replaces anything, and stays because nothing compares with it
 *   WORST          what every number replaces */
#ifndef QN_KERNELS_CPU_REDUCE_EXTREME_H
#define QN_KERNELS_CPU_REDUCE_EXTREME_H
#include "reduce.h"

enum { LANES = 16 };

QN_CLONES static double row(double acc, const REAL *x, int64_t n)
{
    REAL s[LANES];
    for (int j = 0; j < LANES; j++) s[j] = (REAL)acc;
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++) s[j] = BETTER(x[i + j], s[j]);
    for (int j = 0; i < n; i++, j++) s[j] = BETTER(x[i], s[j]);
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int j = 0; j < half; j++) s[j] = BETTER(s[j + half], s[j]);
    return (double)s[0];
}

QN_CLONES static void column(double *acc, const REAL *x, int64_t rows, int64_t stride, int64_t n)
{
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < n; j++) {
            double v = (double)x[i * stride + j];
            acc[j] = BETTER(v, acc[j]);
        }
}

static double join(double a, double b) { return BETTER(b, a); }

static qn_status launch(const struct qn__step *s, qn_error *err)
{
    (void)err;
    QN_CAT(qn__reduce_launch, KIND)(s, &(struct qn__reducer){ WORST, row, column, join });
    return QN_OK;
}
#endif
