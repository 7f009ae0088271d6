/* gemm.h - Y[m,n] = A'[m,k] B'[k,n] in f32, for processors with AVX2 and FMA: the `tiles` variant of matmul.
 *
 * A' is packed into strips of 6 rows once, B' strip by strip of 16 columns by the thread that uses the strip; 6 x 16
 * sums stay in registers. Each element is summed over k in one order, whatever the number of threads. All memory is the
 * caller's workspace. (Goto, van de Geijn, "Anatomy of high-performance matrix multiplication", 2008) */
#ifndef QN_KERNELS_CPU_GEMM_H
#define QN_KERNELS_CPU_GEMM_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Strides in elements; element (i, k) of A' is a[i * a_row + k * a_col]. y has rows of n. */
struct qn__gemm {
    int64_t m, n, k, a_row, a_col, b_row, b_col;
    int threads;
};
bool qn__gemm_supported(void);
size_t qn__gemm_workspace(const struct qn__gemm *g); /* bytes */
void qn__gemm_run(const struct qn__gemm *g, float *y, const float *a, const float *b, void *workspace);
#endif
