/* gemm_impl.h - between gemm.cu and gemm_tensor.cu. */
#ifndef QN_KERNELS_CUDA_GEMM_IMPL_H
#define QN_KERNELS_CUDA_GEMM_IMPL_H
#include "gpu.h"
#include "gemm.h"

/* A boolean that is a type, for choosing a template from a variable. */
template <bool V> struct flag {
    static constexpr bool value = V;
};

cudaError_t qn__gemm_tensor(const struct qn__gemm *g, cudaStream_t stream);
#endif
