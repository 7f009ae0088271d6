/* dnn_legacy.cpp - the simulated cuDNN's convolution of before the graph API. */
#include "dnn.h"
#include <stdlib.h>

using namespace dnn;

struct cudnnTensorStruct {
    uint32_t magic;
    Tensor t;
};
struct cudnnFilterStruct {
    uint32_t magic;
    Tensor t;
};
struct cudnnConvolutionStruct {
    uint32_t magic;
    int pad[2], stride[2], dilation[2], groups;
    cudnnConvolutionMode_t mode;
    cudnnDataType_t type;
    cudnnMathType_t math;
};

template <class T> static cudnnStatus_t create(const char *call, T **out)
{
    cudnnStatus_t status = CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED;
    if (injected(call, &status)) return status;
    if (!out) return fail(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "%s: no place for it", call);
    T *made = (T *)calloc(1, sizeof *made);
    if (!made) return fail(CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED, "%s: no memory", call);
    made->magic = LEGACY;
    count_live(1);
    *out = made;
    return CUDNN_STATUS_SUCCESS;
}

template <class T> static cudnnStatus_t destroy(const char *call, T *d)
{
    cudnnStatus_t status = CUDNN_STATUS_SUCCESS;
    injected(call, &status);
    if (!d) return status;
    d->magic = 0;
    free(d);
    count_live(-1);
    return status;
}

cudnnStatus_t cudnnCreateTensorDescriptor(cudnnTensorDescriptor_t *out)
{
    return create("cudnnCreateTensorDescriptor", out);
}
cudnnStatus_t cudnnDestroyTensorDescriptor(cudnnTensorDescriptor_t d)
{
    return destroy("cudnnDestroyTensorDescriptor", d);
}
cudnnStatus_t cudnnCreateFilterDescriptor(cudnnFilterDescriptor_t *out)
{
    return create("cudnnCreateFilterDescriptor", out);
}
cudnnStatus_t cudnnDestroyFilterDescriptor(cudnnFilterDescriptor_t d)
{
    return destroy("cudnnDestroyFilterDescriptor", d);
}
cudnnStatus_t cudnnCreateConvolutionDescriptor(cudnnConvolutionDescriptor_t *out)
{
    cudnnStatus_t status = create("cudnnCreateConvolutionDescriptor", out);
    if (!status) (*out)->groups = 1;
    return status;
}
cudnnStatus_t cudnnDestroyConvolutionDescriptor(cudnnConvolutionDescriptor_t d)
{
    return destroy("cudnnDestroyConvolutionDescriptor", d);
}

static cudnnStatus_t describe(Tensor *t, cudnnTensorFormat_t format, cudnnDataType_t type, int n, int c, int h, int w)
{
    if (n <= 0 || c <= 0 || h <= 0 || w <= 0) return fail(CUDNN_STATUS_BAD_PARAM, "sizes %d %d %d %d", n, c, h, w);
    if (!size_of(type) || (format != CUDNN_TENSOR_NCHW && format != CUDNN_TENSOR_NHWC))
        return fail(CUDNN_STATUS_NOT_SUPPORTED, "type %d in format %d is not simulated", (int)type, (int)format);
    int64_t C = c, H = h, W = w;
    *t = { type, { n, C, H, W }, { C * H * W, H * W, W, 1 }, 0, 1, false };
    if (format == CUDNN_TENSOR_NHWC) t->stride[1] = 1, t->stride[2] = W * C, t->stride[3] = C;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetTensor4dDescriptor(cudnnTensorDescriptor_t d, cudnnTensorFormat_t format, cudnnDataType_t type,
                                         int n, int c, int h, int w)
{
    cudnnStatus_t status = CUDNN_STATUS_INTERNAL_ERROR;
    if (injected("cudnnSetTensor4dDescriptor", &status)) return status;
    if (!d || d->magic != LEGACY) return fail(CUDNN_STATUS_BAD_PARAM, "cudnnSetTensor4dDescriptor: no descriptor");
    return describe(&d->t, format, type, n, c, h, w);
}

cudnnStatus_t cudnnSetFilter4dDescriptor(cudnnFilterDescriptor_t d, cudnnDataType_t type, cudnnTensorFormat_t format,
                                         int k, int c, int h, int w)
{
    cudnnStatus_t status = CUDNN_STATUS_INTERNAL_ERROR;
    if (injected("cudnnSetFilter4dDescriptor", &status)) return status;
    if (!d || d->magic != LEGACY) return fail(CUDNN_STATUS_BAD_PARAM, "cudnnSetFilter4dDescriptor: no descriptor");
    return describe(&d->t, format, type, k, c, h, w);
}

cudnnStatus_t cudnnSetConvolution2dDescriptor(cudnnConvolutionDescriptor_t d, int pad_h, int pad_w, int stride_h,
                                              int stride_w, int dilation_h, int dilation_w, cudnnConvolutionMode_t mode,
                                              cudnnDataType_t type)
{
    cudnnStatus_t status = CUDNN_STATUS_INTERNAL_ERROR;
    if (injected("cudnnSetConvolution2dDescriptor", &status)) return status;
    if (!d || d->magic != LEGACY) return fail(CUDNN_STATUS_BAD_PARAM, "cudnnSetConvolution2dDescriptor: no descriptor");
    if (pad_h < 0 || pad_w < 0 || stride_h < 1 || stride_w < 1 || dilation_h < 1 || dilation_w < 1)
        return fail(CUDNN_STATUS_BAD_PARAM, "convolution: geometry out of range");
    *d = { LEGACY, { pad_h, pad_w },  { stride_h, stride_w }, { dilation_h, dilation_w }, d->groups, mode,
           type,   CUDNN_DEFAULT_MATH };
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetConvolutionGroupCount(cudnnConvolutionDescriptor_t d, int groups)
{
    cudnnStatus_t status = CUDNN_STATUS_INTERNAL_ERROR;
    if (injected("cudnnSetConvolutionGroupCount", &status)) return status;
    if (!d || groups < 1) return fail(CUDNN_STATUS_BAD_PARAM, "convolution: %d groups", groups);
    d->groups = groups;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetConvolutionMathType(cudnnConvolutionDescriptor_t d, cudnnMathType_t math)
{
    cudnnStatus_t status = CUDNN_STATUS_INTERNAL_ERROR;
    if (injected("cudnnSetConvolutionMathType", &status)) return status;
    if (!d) return fail(CUDNN_STATUS_BAD_PARAM, "cudnnSetConvolutionMathType: no descriptor");
    d->math = math;
    return CUDNN_STATUS_SUCCESS;
}

static int extent(const cudnnConvolutionDescriptor_t c, const Tensor *x, const Tensor *w, int i)
{
    int64_t window = c->dilation[i] * (w->dim[2 + i] - 1) + 1;
    return (int)((x->dim[2 + i] + 2 * c->pad[i] - window) / c->stride[i] + 1);
}

cudnnStatus_t cudnnGetConvolution2dForwardOutputDim(const cudnnConvolutionDescriptor_t c,
                                                    const cudnnTensorDescriptor_t x, const cudnnFilterDescriptor_t w,
                                                    int *n, int *k, int *h, int *wide)
{
    if (!c || !x || !w || x->t.dim[1] != w->t.dim[1] * c->groups)
        return fail(CUDNN_STATUS_BAD_PARAM, "convolution: channels of x and w");
    *n = (int)x->t.dim[0];
    *k = (int)w->t.dim[0];
    *h = extent(c, &x->t, &w->t, 0);
    *wide = extent(c, &x->t, &w->t, 1);
    return CUDNN_STATUS_SUCCESS;
}

/* ---- the three directions ----------------------------------------------------------------------------------------- */

enum { SCRATCH = 4096 }; /* never nothing, so that a caller who gives none is found */

static cudnnStatus_t assemble(Conv *out, Direction direction, const cudnnTensorDescriptor_t x,
                              const cudnnFilterDescriptor_t w, const cudnnConvolutionDescriptor_t c,
                              const cudnnTensorDescriptor_t y)
{
    int n, k, h, wide;
    if (!x || !w || !c || !y) return fail(CUDNN_STATUS_BAD_PARAM, "convolution: a descriptor is missing");
    cudnnStatus_t status = cudnnGetConvolution2dForwardOutputDim(c, x, w, &n, &k, &h, &wide);
    if (status) return status;
    const int64_t *d = y->t.dim;
    if (n != d[0] || k != d[1] || h != d[2] || wide != d[3])
        return fail(CUDNN_STATUS_BAD_PARAM, "convolution: size of y");
    if (x->t.type != w->t.type || x->t.type != y->t.type || c->type != CUDNN_DATA_FLOAT)
        return fail(CUDNN_STATUS_NOT_SUPPORTED_DATA_TYPE, "convolution: one type and sums in f32 are simulated");
    *out = {};
    out->direction = direction;
    out->x = x->t, out->w = w->t, out->y = y->t;
    for (int i = 0; i < 2; i++) {
        out->pad[i] = c->pad[i];
        out->stride[i] = c->stride[i];
        out->dilation[i] = c->dilation[i];
    }
    out->flipped = c->mode == CUDNN_CONVOLUTION;
    return examine(out);
}

static cudnnStatus_t run(const char *call, cudnnHandle_t handle, Conv *c, const void *alpha, const void *beta,
                         const Addresses *at, size_t workspace)
{
    if (!handle_is_live(handle)) return fail(CUDNN_STATUS_NOT_INITIALIZED, "%s: not a handle", call);
    if (!alpha || !beta) return fail(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "%s: no scale", call);
    if (workspace < SCRATCH) return fail(CUDNN_STATUS_BAD_PARAM, "%s: workspace of %zu bytes", call, workspace);
    c->alpha = *(const float *)alpha;
    c->beta = *(const float *)beta;
    return enqueue(handle->stream, call, c, at, SCRATCH, NONE);
}

#define WORKSPACE_CALL(name, direction, algo_type, X, W, Y, ...) \
    cudnnStatus_t name(cudnnHandle_t handle, __VA_ARGS__, algo_type, size_t *bytes) \
    { \
        Conv conv; \
        cudnnStatus_t status = CUDNN_STATUS_INTERNAL_ERROR; \
        if (injected(#name, &status)) return status; \
        if (!handle_is_live(handle) || !bytes) return fail(CUDNN_STATUS_BAD_PARAM, #name ": no handle"); \
        *bytes = SCRATCH; \
        return assemble(&conv, direction, X, W, c, Y); \
    }
WORKSPACE_CALL(cudnnGetConvolutionForwardWorkspaceSize, FORWARD, cudnnConvolutionFwdAlgo_t, x, w, y,
               const cudnnTensorDescriptor_t x, const cudnnFilterDescriptor_t w, const cudnnConvolutionDescriptor_t c,
               const cudnnTensorDescriptor_t y)
WORKSPACE_CALL(cudnnGetConvolutionBackwardDataWorkspaceSize, GRAD_X, cudnnConvolutionBwdDataAlgo_t, x, w, y,
               const cudnnFilterDescriptor_t w, const cudnnTensorDescriptor_t y, const cudnnConvolutionDescriptor_t c,
               const cudnnTensorDescriptor_t x)
WORKSPACE_CALL(cudnnGetConvolutionBackwardFilterWorkspaceSize, GRAD_W, cudnnConvolutionBwdFilterAlgo_t, x, w, y,
               const cudnnTensorDescriptor_t x, const cudnnTensorDescriptor_t y, const cudnnConvolutionDescriptor_t c,
               const cudnnFilterDescriptor_t w)

cudnnStatus_t cudnnConvolutionForward(cudnnHandle_t handle, const void *alpha, const cudnnTensorDescriptor_t x,
                                      const void *X, const cudnnFilterDescriptor_t w, const void *W,
                                      const cudnnConvolutionDescriptor_t c, cudnnConvolutionFwdAlgo_t, void *workspace,
                                      size_t bytes, const void *beta, const cudnnTensorDescriptor_t y, void *Y)
{
    Conv conv;
    Addresses at = { X, W, Y, nullptr, workspace };
    cudnnStatus_t status = CUDNN_STATUS_EXECUTION_FAILED;
    if (injected("cudnnConvolutionForward", &status)) return status;
    status = assemble(&conv, FORWARD, x, w, c, y);
    return status ? status : run("cudnnConvolutionForward", handle, &conv, alpha, beta, &at, bytes);
}

cudnnStatus_t cudnnConvolutionBackwardData(cudnnHandle_t handle, const void *alpha, const cudnnFilterDescriptor_t w,
                                           const void *W, const cudnnTensorDescriptor_t y, const void *Y,
                                           const cudnnConvolutionDescriptor_t c, cudnnConvolutionBwdDataAlgo_t,
                                           void *workspace, size_t bytes, const void *beta,
                                           const cudnnTensorDescriptor_t x, void *X)
{
    Conv conv;
    Addresses at = { X, W, Y, nullptr, workspace };
    cudnnStatus_t status = CUDNN_STATUS_EXECUTION_FAILED;
    if (injected("cudnnConvolutionBackwardData", &status)) return status;
    status = assemble(&conv, GRAD_X, x, w, c, y);
    return status ? status : run("cudnnConvolutionBackwardData", handle, &conv, alpha, beta, &at, bytes);
}

cudnnStatus_t cudnnConvolutionBackwardFilter(cudnnHandle_t handle, const void *alpha, const cudnnTensorDescriptor_t x,
                                             const void *X, const cudnnTensorDescriptor_t y, const void *Y,
                                             const cudnnConvolutionDescriptor_t c, cudnnConvolutionBwdFilterAlgo_t,
                                             void *workspace, size_t bytes, const void *beta,
                                             const cudnnFilterDescriptor_t w, void *W)
{
    Conv conv;
    Addresses at = { X, W, Y, nullptr, workspace };
    cudnnStatus_t status = CUDNN_STATUS_EXECUTION_FAILED;
    if (injected("cudnnConvolutionBackwardFilter", &status)) return status;
    status = assemble(&conv, GRAD_W, x, w, c, y);
    return status ? status : run("cudnnConvolutionBackwardFilter", handle, &conv, alpha, beta, &at, bytes);
}
