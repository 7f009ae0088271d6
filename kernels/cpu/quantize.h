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

/* One run, or a piece of it: n elements of the same scale. */
typedef void scaled_run(void *to, const void *from, REAL scale, int64_t n);

static inline void scaled_launch(const struct qn__args *a, size_t to_size, size_t from_size, scaled_run *run)
{
    enum { PIECE = 1 << 14 }; /* one scale for all is split over threads too */
    struct scaled s = scaled_of(a);
    const REAL *scale = qn__real(&a->x[1]);
    int64_t pieces = (s.inner + PIECE - 1) / PIECE;
#pragma omp parallel for num_threads(qn__threads_for(a, a->y.count)) schedule(static)
    for (int64_t i = 0; i < s.runs * pieces; i++) {
        int64_t at = i % pieces * PIECE, n = s.inner - at < PIECE ? s.inner - at : PIECE;
        size_t first = (size_t)(i / pieces * s.inner + at);
        run((char *)a->y.data + first * to_size, (const char *)a->x[0].data + first * from_size,
            scale[i / pieces % s.n], n);
    }
}
#endif
