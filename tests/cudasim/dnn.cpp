/* dnn.cpp - the simulated cuDNN: handles, versions, errors. */
#include "dnn.h"
#include <atomic>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

using namespace dnn;

static std::atomic<int> alive;
static thread_local char last_error[256];

size_t cudasim_dnn_live(void) { return (size_t)alive; }
void dnn::count_live(int by) { alive += by; }

cudnnStatus_t dnn::fail(cudnnStatus_t status, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    vsnprintf(last_error, sizeof last_error, format, ap);
    va_end(ap);
    return status;
}

bool dnn::injected(const char *call, cudnnStatus_t *status)
{
    int code = *status;
    if (!cudasim_inject(call, &code)) return false;
    *status = fail((cudnnStatus_t)code, "%s failed on demand", call);
    return true;
}

size_t dnn::size_of(cudnnDataType_t type)
{
    switch (type) {
    case CUDNN_DATA_FLOAT: return 4;
    case CUDNN_DATA_HALF:
    case CUDNN_DATA_BFLOAT16: return 2;
    default: return 0;
    }
}

size_t cudnnGetVersion(void) { return CUDNN_VERSION; }
size_t cudnnGetMaxDeviceVersion(void) { return 1210; }
size_t cudnnGetCudartVersion(void) { return CUDART_VERSION; }

cudnnStatus_t cudnnGetProperty(libraryPropertyType type, int *value)
{
    switch (type) {
    case MAJOR_VERSION: *value = CUDNN_MAJOR; return CUDNN_STATUS_SUCCESS;
    case MINOR_VERSION: *value = CUDNN_MINOR; return CUDNN_STATUS_SUCCESS;
    case PATCH_LEVEL: *value = CUDNN_PATCHLEVEL; return CUDNN_STATUS_SUCCESS;
    default: return CUDNN_STATUS_BAD_PARAM;
    }
}

const char *cudnnGetErrorString(cudnnStatus_t status)
{
    switch (status) {
#define NAME(name) \
    case name: return #name
        NAME(CUDNN_STATUS_SUCCESS);
        NAME(CUDNN_STATUS_NOT_INITIALIZED);
        NAME(CUDNN_STATUS_BAD_PARAM);
        NAME(CUDNN_STATUS_BAD_PARAM_NULL_POINTER);
        NAME(CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER);
        NAME(CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED);
        NAME(CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH);
        NAME(CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE);
        NAME(CUDNN_STATUS_NOT_SUPPORTED);
        NAME(CUDNN_STATUS_NOT_SUPPORTED_GRAPH_PATTERN);
        NAME(CUDNN_STATUS_INTERNAL_ERROR);
        NAME(CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED);
        NAME(CUDNN_STATUS_EXECUTION_FAILED);
        NAME(CUDNN_STATUS_EXECUTION_FAILED_CUDART);
#undef NAME
    default: return "CUDNN_UNKNOWN_STATUS";
    }
}

void cudnnGetLastErrorString(char *message, size_t size)
{
    if (size) snprintf(message, size, "%s", last_error);
}

bool dnn::handle_is_live(cudnnHandle_t h) { return h && h->magic == HANDLE; }

cudnnStatus_t cudnnCreate(cudnnHandle_t *out)
{
    cudnnStatus_t status = CUDNN_STATUS_NOT_INITIALIZED;
    int device = 0, count = 0;
    if (injected("cudnnCreate", &status)) return status;
    if (!out) return fail(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "cudnnCreate: no place for the handle");
    if (cudaGetDeviceCount(&count) || count == 0 || cudaGetDevice(&device))
        return fail(CUDNN_STATUS_NOT_INITIALIZED, "cudnnCreate: no device");
    cudnnContext *h = (cudnnContext *)calloc(1, sizeof *h);
    if (!h) return fail(CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED, "cudnnCreate: no memory");
    *h = { HANDLE, device, NULL };
    count_live(1);
    *out = h;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnDestroy(cudnnHandle_t h)
{
    cudnnStatus_t status = CUDNN_STATUS_SUCCESS;
    if (!handle_is_live(h)) return fail(CUDNN_STATUS_NOT_INITIALIZED, "cudnnDestroy: not a handle");
    injected("cudnnDestroy", &status);
    h->magic = 0;
    free(h);
    count_live(-1);
    return status;
}

cudnnStatus_t cudnnSetStream(cudnnHandle_t h, cudaStream_t stream)
{
    cudnnStatus_t status = CUDNN_STATUS_INTERNAL_ERROR;
    if (injected("cudnnSetStream", &status)) return status;
    if (!handle_is_live(h)) return fail(CUDNN_STATUS_NOT_INITIALIZED, "cudnnSetStream: not a handle");
    if (stream && cudasim_stream_device(stream) != h->device)
        return fail(CUDNN_STATUS_BAD_PARAM_STREAM_MISMATCH, "cudnnSetStream: the stream of another device");
    h->stream = stream;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnGetStream(cudnnHandle_t h, cudaStream_t *stream)
{
    if (!handle_is_live(h)) return fail(CUDNN_STATUS_NOT_INITIALIZED, "cudnnGetStream: not a handle");
    if (!stream) return fail(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "cudnnGetStream: no place for the stream");
    *stream = h->stream;
    return CUDNN_STATUS_SUCCESS;
}
