/* gemm.h - products by kernels of our own: used where cuBLASLt has no algorithm, and measured beside it.
 *
 * Row-major: Y[m,n] = A'[m,k] B'[k,n] (+ bias[n]), A' = A or A^T, batch after batch. Sums are in f32. Each rung adds
 * one technique to the one before; qn__gemm_best names the highest that takes a product. */
#ifndef QN_KERNELS_CUDA_GEMM_H
#define QN_KERNELS_CUDA_GEMM_H
#include "cuda.h"
#ifdef __cplusplus
extern "C" {
#endif

enum qn__gemm_rung {
    QN_GEMM_NAIVE,     /* a thread for each result                                                  */
    QN_GEMM_TILED,     /* tiles of 32 x 32 through shared memory                                     */
    QN_GEMM_REGISTERS, /* 64 x 64 tiles, 4 x 4 results in the registers of a thread                  */
    QN_GEMM_VECTOR,    /* f32: 128 x 128 tiles, 8 x 8 results, 16-byte access, two buffers           */
    QN_GEMM_TENSOR,    /* bf16, f16: 128 x 128 tiles, mma.sync, ldmatrix, three cp.async buffers     */
    QN_GEMM_RUNGS
};

struct qn__gemm {
    int64_t m, n, k, batch, a_step, b_step, y_step; /* steps in elements from one matrix to the next */
    bool ta, tb;
    qn_dtype dtype;           /* F32, BF16 or F16 of all operands */
    const void *a, *b, *bias; /* bias NULL: none */
    void *y;
};

const char *qn__gemm_name(enum qn__gemm_rung rung);
/* Whether a rung takes the product: its dtype, and 16-byte access where it needs that. Sizes only; addresses and steps
 * must be multiples of 16 bytes for VECTOR and TENSOR. */
bool qn__gemm_takes(enum qn__gemm_rung rung, const struct qn__gemm *g);
enum qn__gemm_rung qn__gemm_best(const struct qn__gemm *g);
qn_status qn__gemm_run(enum qn__gemm_rung rung, const struct qn__gemm *g, const struct qn__step *s, qn_error *err);

#ifdef __cplusplus
}
#endif
#endif
