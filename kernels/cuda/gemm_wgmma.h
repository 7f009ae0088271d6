/* gemm_wgmma.h - a rung of the products' ladder that only a device of capability 9.0 has; see gemm_wgmma.cu. Never the
 * best of gemm.h: it has not run anywhere. */
#ifndef QN_KERNELS_CUDA_GEMM_WGMMA_H
#define QN_KERNELS_CUDA_GEMM_WGMMA_H
#include "gemm.h"
#ifdef __cplusplus
extern "C" {
#endif

/* 16 bits, one matrix, both operands along k, on such a device; never on the simulator. */
bool qn__gemm_wgmma_takes(const struct qn__gpu *gpu, const struct qn__gemm *g);
cudaError_t qn__gemm_wgmma(const struct qn__gemm *g, cudaStream_t stream);

#ifdef __cplusplus
}
#endif
#endif
