/* cuda.h - what every file of kernels/cuda includes: the queue a kernel is launched on, errors, host helpers.
 *
 * A file kernels/cuda/<op>.cu has (1) the bytes that the operator must move, how the kernel moves them and why;
 * (2) the kernels, named for their strategy; (3) pick; (4) launch; (5) KERNEL(op). pick is host arithmetic on shapes
 * and the description of the device (args->gpu), which may be a device that this machine has not. Kernels do not use
 * `bind`: the addresses in args differ between the two input slots, so launch reads them from its step each time. */
#ifndef QN_KERNELS_CUDA_CUDA_H
#define QN_KERNELS_CUDA_CUDA_H
#ifdef __cplusplus
#include "gpu.h" /* bf16, f16, LAUNCH */
#endif
#include "../../core/backend.h"
#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <cudnn.h>
#ifdef __cplusplus
extern "C" {
#endif

/* Where a program's kernels are enqueued. Everything but the fault is its device's. */
struct qn__queue {
    cudaStream_t stream;
    cublasLtHandle_t lt;
    bool sync;               /* QN_SYNC=1: every launch is waited for */
    struct qn__dnn **dnn;    /* cuDNN, as dnn.c keeps it; *dnn is NULL until the first convolution is prepared */
    struct qn__fault *fault; /* device memory: kernels tell of a wrong index there, see raise_fault; they go on with a
                                result that shows it (NaN) */
};
/* Gives back what dnn.c keeps; called once, when the device is closed. */
void qn__dnn_close(struct qn__dnn *dnn) __attribute__((weak));

/* The status of a library's answer: QN_OK, or an error that names the call, the operator and its shapes. s may be
 * NULL where no operator is concerned. */
qn_status qn__cuda_check(cudaError_t answer, const char *call, const struct qn__step *s, qn_error *err);
qn_status qn__blas_check(cublasStatus_t answer, const char *call, const struct qn__step *s, qn_error *err);
qn_status qn__dnn_check(cudnnStatus_t answer, const char *call, const struct qn__step *s, qn_error *err);

#ifdef __cplusplus
}
#include "gpu.h"

/* The descriptor of an operator's kernel: KERNEL(sum) = { .variants = VARIANTS("row"), .pick = ..., .launch = ... }; */
#define KERNEL(op) \
    extern "C" const struct qn__kernel qn__cuda_##op; \
    const struct qn__kernel qn__cuda_##op

/* Calls f with a value of a dtype's storage type: with_float(dtype, [&](auto t) { using T = decltype(t); ... }). */
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

/* In a kernel: tells of a wrong value; the first one of the program's run is kept. position: step->position. */
static __device__ __forceinline__ void raise_fault(struct qn__fault *fault, int position, enum qn__fault_kind kind,
                                                   int64_t at, int64_t value, int64_t limit)
{
    if (atomicCAS(&fault->position, 0, position + 1) != 0) return;
    fault->kind = kind;
    fault->at = at;
    fault->value = value;
    fault->limit = limit;
}
#endif
#endif
