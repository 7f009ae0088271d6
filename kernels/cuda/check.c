/* check.c - the one place where answers of CUDA's libraries become errors: the call, the operator and its shapes, what
 * was answered, what can be done. */
#include "trace.h"
#include "../../core/base.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- the operator ------------------------------------------------------------------------------------------- */

struct text {
    char s[260];
    size_t n;
};

__attribute__((format(printf, 2, 3))) static void put(struct text *t, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(t->s + t->n, sizeof t->s - t->n, fmt, args);
    va_end(args);
    if (n > 0) t->n = t->n + (size_t)n < sizeof t->s ? t->n + (size_t)n : sizeof t->s - 1;
}

static void put_view(struct text *t, const struct qn__view *v)
{
    put(t, "%s[", qn_dtype_name(v->dtype));
    for (int i = 0; i < v->rank; i++) put(t, "%s%lld", i ? "," : "", (long long)v->dim[i]);
    put(t, "]");
}

/* "conv2d F32[8,16,32,32] of F32[8,3,32,32] F32[16,3,3,3]: " */
static void put_step(struct text *t, const struct qn__step *s)
{
    if (!s) return;
    put(t, "%s ", qn__op_name(s->args.op));
    put_view(t, &s->args.y);
    for (int i = 0; i < s->args.n_in; i++) {
        put(t, i ? " " : " of ");
        put_view(t, &s->args.x[i]);
    }
    put(t, ": ");
}

static const struct qn__where *where(const struct qn__step *s, struct qn__where *room)
{
    *room = (struct qn__where){ .offset = -1, .field = s && s->name && *s->name ? s->name : "cuda" };
    return room;
}

/* ---- CUDA --------------------------------------------------------------------------------------------------- */

/* What a user can do about an answer. */
static const char *remedy(cudaError_t answer)
{
    switch ((int)answer) {
    case cudaErrorInsufficientDriver:
    case cudaErrorSystemDriverMismatch:
    case cudaErrorCompatNotSupportedOnDevice: return "update the NVIDIA driver, or use --device=cpu";
    case cudaErrorNoDevice: return "use --device=cpu";
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorInvalidDeviceFunction:
    case cudaErrorUnsupportedPtxVersion:
        return "build the plugin for this GPU: make cuda CUDA_ARCHS=..., or use --device=cpu";
    case cudaErrorDevicesUnavailable: return "another process has the GPU to itself: wait for it, or use another";
    case cudaErrorECCUncorrectable:
    case cudaErrorHardwareStackError: return "the GPU's memory is damaged: reset it, or use another";
    default: return "see dmesg for the driver's own words";
    }
}

/* Errors of a kernel, which any later call may answer. */
static bool is_late(cudaError_t answer)
{
    switch ((int)answer) {
    case cudaErrorIllegalAddress:
    case cudaErrorMisalignedAddress:
    case cudaErrorIllegalInstruction:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorHardwareStackError:
    case cudaErrorLaunchFailure:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert: return true;
    default: return false;
    }
}

qn_status qn__cuda_check(cudaError_t answer, const char *call, const struct qn__step *s, qn_error *err)
{
    if (answer == cudaSuccess) return QN_OK;
    struct text t = { .n = 0 };
    struct qn__where room;
    bool late = is_late(answer), found = s && s->queue && s->queue->sync;
    cudaGetLastError(); /* what can be left behind is */
    put_step(&t, s);
    if (answer == cudaErrorMemoryAllocation)
        return qn__fail(err, 5002, where(s, &room),
                        "%s%s: %s; expected memory of the GPU; take a smaller batch, or use "
                        "--device=cpu",
                        t.s, call, cudaGetErrorName(answer));
    return qn__fail(err, 7003, where(s, &room), "%s%s%s answered %s (%d, %s); expected success; %s",
                    late && !found && s ? "at or before " : "", t.s, call, cudaGetErrorName(answer), (int)answer,
                    cudaGetErrorString(answer),
                    late && !found ? "QN_SYNC=1 tells which operator it is" : remedy(answer));
}

/* ---- cuBLAS and cuDNN ---------------------------------------------------------------------------------------- */

qn_status qn__blas_check(cublasStatus_t answer, const char *call, const struct qn__step *s, qn_error *err)
{
    if (answer == CUBLAS_STATUS_SUCCESS) return QN_OK;
    struct text t = { .n = 0 };
    struct qn__where room;
    put_step(&t, s);
    if (answer == CUBLAS_STATUS_ALLOC_FAILED)
        return qn__fail(err, 5002, where(s, &room), "%s%s: out of memory; expected memory of the GPU or the host", t.s,
                        call);
    return qn__fail(err, 7003, where(s, &room),
                    "%s%s answered %s; expected success; QN_SYNC=1 tells whether it is this "
                    "operator",
                    t.s, call, cublasLtGetStatusName(answer));
}

/* cuDNN is opened when it is needed, so its own function for this may not be there. */
static const char *dnn_name(cudnnStatus_t answer)
{
    switch ((int)answer) {
#define X(name) \
    case CUDNN_STATUS_##name: return #name;
        X(NOT_INITIALIZED)
        X(SUBLIBRARY_VERSION_MISMATCH)
        X(SERIALIZATION_VERSION_MISMATCH)
        X(DEPRECATED)
        X(LICENSE_ERROR)
        X(RUNTIME_IN_PROGRESS)
        X(RUNTIME_FP_OVERFLOW)
        X(SUBLIBRARY_LOADING_FAILED)
        X(BAD_PARAM)
        X(BAD_PARAM_NULL_POINTER)
        X(BAD_PARAM_MISALIGNED_POINTER)
        X(BAD_PARAM_NOT_FINALIZED)
        X(BAD_PARAM_OUT_OF_BOUND)
        X(BAD_PARAM_SIZE_INSUFFICIENT)
        X(BAD_PARAM_STREAM_MISMATCH)
        X(BAD_PARAM_SHAPE_MISMATCH)
        X(BAD_PARAM_DUPLICATED_ENTRIES)
        X(BAD_PARAM_ATTRIBUTE_TYPE)
        X(BAD_PARAM_CUDA_GRAPH_MISMATCH)
        X(BAD_PARAM_DESCRIPTOR_TYPE)
        X(NOT_SUPPORTED)
        X(NOT_SUPPORTED_GRAPH_PATTERN)
        X(NOT_SUPPORTED_SHAPE)
        X(NOT_SUPPORTED_DATA_TYPE)
        X(NOT_SUPPORTED_LAYOUT)
        X(NOT_SUPPORTED_INCOMPATIBLE_CUDA_DRIVER)
        X(NOT_SUPPORTED_INCOMPATIBLE_CUDART)
        X(NOT_SUPPORTED_ARCH_MISMATCH)
        X(NOT_SUPPORTED_RUNTIME_PREREQUISITE_MISSING)
        X(NOT_SUPPORTED_SUBLIBRARY_UNAVAILABLE)
        X(NOT_SUPPORTED_SHARED_MEMORY_INSUFFICIENT)
        X(NOT_SUPPORTED_PADDING)
        X(NOT_SUPPORTED_BAD_LAUNCH_PARAM)
        X(NOT_SUPPORTED_CUDA_GRAPH_NATIVE_API)
        X(NOT_SUPPORTED_INVALID_DYNAMIC_SHAPE)
        X(INTERNAL_ERROR)
        X(INTERNAL_ERROR_COMPILATION_FAILED)
        X(INTERNAL_ERROR_UNEXPECTED_VALUE)
        X(INTERNAL_ERROR_HOST_ALLOCATION_FAILED)
        X(INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED)
        X(INTERNAL_ERROR_BAD_LAUNCH_PARAM)
        X(INTERNAL_ERROR_TEXTURE_CREATION_FAILED)
        X(EXECUTION_FAILED)
        X(EXECUTION_FAILED_CUDA_DRIVER)
        X(EXECUTION_FAILED_CUBLAS)
        X(EXECUTION_FAILED_CUDART)
        X(EXECUTION_FAILED_CURAND)
#undef X
    default: return "?";
    }
}

qn_status qn__dnn_check(cudnnStatus_t answer, const char *call, const struct qn__step *s, qn_error *err)
{
    if (answer == CUDNN_STATUS_SUCCESS) return QN_OK;
    struct text t = { .n = 0 };
    struct qn__where room;
    put_step(&t, s);
    if (answer == CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED ||
        answer == CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED)
        return qn__fail(err, 5002, where(s, &room), "%s%s: out of memory; expected memory of the GPU or the host", t.s,
                        call);
    return qn__fail(err, 7003, where(s, &room),
                    "%s%s answered CUDNN_STATUS_%s (%d); expected success; QN_SYNC=1 tells "
                    "whether it is this operator",
                    t.s, call, dnn_name(answer), (int)answer);
}
