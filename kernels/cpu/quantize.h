/* quantize.h - [outer][n][inner] with a scale for each of n: what one axis, or none, comes to. */
#ifndef QN_KERNELS_CPU_QUANTIZE_H
#define QN_KERNELS_CPU_QUANTIZE_H
#include "cpu.h"

struct scaled {
    int64_t runs, n, inner;
}; /* runs: outer n, of inner elements each */
static inline struct scaled scaled_of(const struct qn__args *a)
{
    int axis = ((const struct qn__quantize_attr *)a->attr)->axis;
    if (axis < 0) return (struct scaled){ 1, 1, a->y.count };
    struct scaled s = { 1, a->y.dim[axis], 1 };
    for (int i = 0; i <= axis; i++) s.runs *= a->y.dim[i];
    for (int i = axis + 1; i < a->y.rank; i++) s.inner *= a->y.dim[i];
    return s;
}
#endif
