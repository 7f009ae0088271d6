/* softmax.h - what the row kernels share: rows of the last axis, split over threads by row. */
#ifndef QN_KERNELS_CPU_SOFTMAX_H
#define QN_KERNELS_CPU_SOFTMAX_H
#include "cpu.h"
#include "vecmath.h"

struct rows {
    int64_t n, width;
};
static inline struct rows rows_of(const struct qn__view *v)
{
    int64_t width = v->dim[v->rank - 1];
    return (struct rows){ width ? v->count / width : 0, width };
}

/* NaN if one is, so that a bad row stays visible. */
static inline REAL row_max(const REAL *x, int64_t n)
{
    REAL m = -(REAL)INFINITY;
    bool nan = false;
    for (int64_t i = 0; i < n; i++) {
        m = x[i] > m ? x[i] : m;
        nan = nan || x[i] != x[i];
    }
    return nan ? (REAL)NAN : m;
}

/* sum e^(x - max) in double; a row of -inf only has max -inf and gives NaN, as the definition does. */
static inline double row_sum_exp(const REAL *x, int64_t n, REAL max)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)EXP(x[i] - max);
    return sum;
}
#endif
