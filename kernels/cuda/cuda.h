/* cuda.h - what every file of kernels/cuda includes: the queue a kernel is launched on, errors, host helpers.
 *
 * A file kernels/cuda/<op>.cu has (1) the bytes that the operator must move, how the kernel moves them and why;
 * (2) the kernels, named for their strategy; (3) pick; (4) launch; (5) KERNEL(op). pick is host arithmetic on shapes and
 * the description of the device (args->gpu), which may be a device that this machine has not. Kernels do not use `bind`:
 * the addresses in args differ between the two input slots, so launch reads them from its step each time. */
#ifndef QN_KERNELS_CUDA_CUDA_H
#define QN_KERNELS_CUDA_CUDA_H
#include "../../core/backend.h"
#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <cudnn.h>
#ifdef __cplusplus
extern "C" {
#endif

/* The first wrong value that kernels of a program have met (an index out of range): kept on the device, seen when the
 * program's results are read. `position` is the step's place in the schedule plus 1; 0: nothing wrong. */
struct qn__fault { int32_t position, code; int64_t value, limit; };

/* Where a kernel is enqueued. One per stream of a program. */
struct qn__queue {
    cudaStream_t stream;
    cublasLtHandle_t lt;
    cudnnHandle_t dnn;       /* NULL until the first convolution is prepared */
    struct qn__fault *fault; /* device memory */
};

/* The status of a library's answer: QN_OK, or an error that names the call, the operator and its shapes. */
qn_status qn__cuda_check(cudaError_t answer, const char *call, const struct qn__step *s, qn_error *err);
qn_status qn__blas_check(cublasStatus_t answer, const char *call, const struct qn__step *s, qn_error *err);
qn_status qn__dnn_check(cudnnStatus_t answer, const char *call, const struct qn__step *s, qn_error *err);

#ifdef __cplusplus
}

/* The descriptor of an operator's kernel: KERNEL(sum) = { .variants = VARIANTS("row"), .pick = ..., .launch = ... }; */
#define KERNEL(op)                                                                                 \
    extern "C" const struct qn__kernel qn__cuda_##op;                                              \
    const struct qn__kernel qn__cuda_##op

/* Calls f with a value of the storage type of a dtype: with_float(dtype, [&](auto t) { using T = decltype(t); ... }). */
template <class F> static inline cudaError_t with_float(qn_dtype dtype, F f)
{
    if (dtype == QN_BF16) return f(bf16());
    if (dtype == QN_F16) return f(f16());
    return f(float());
}
static inline bool is_cuda_float(qn_dtype dtype) { return dtype == QN_F32 || dtype == QN_BF16 || dtype == QN_F16; }

static inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
/* Blocks for n pieces of work: enough to fill the device `waves` times, never more than the work. */
static inline unsigned grid_for(const struct qn__args *a, int64_t pieces, int threads, int waves)
{
    int64_t resident = (int64_t)a->gpu->multiprocessors * (a->gpu->threads_per_multiprocessor / threads) * waves;
    int64_t n = pieces < resident ? pieces : resident;
    return (unsigned)(n < 1 ? 1 : n);
}
#endif
#endif
