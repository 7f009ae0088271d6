/* dnn_impl.h - shared by dnn.c, dnn_graph.c and dnn_legacy.c: the library's functions as they were found. */
#ifndef QN_KERNELS_CUDA_DNN_IMPL_H
#define QN_KERNELS_CUDA_DNN_IMPL_H
#include "dnn.h"

/* Every function of cuDNN that Quern calls. The legacy ones come last: a later cuDNN may lack them, and then only the
 * oracle is gone. */
#define DNN_CALLS(X) \
    X(cudnnGetVersion) \
    X(cudnnCreate) \
    X(cudnnDestroy) \
    X(cudnnSetStream) \
    X(cudnnBackendCreateDescriptor) \
    X(cudnnBackendDestroyDescriptor) \
    X(cudnnBackendSetAttribute) \
    X(cudnnBackendGetAttribute) \
    X(cudnnBackendFinalize) \
    X(cudnnBackendExecute)
#define DNN_LEGACY_CALLS(X) \
    X(cudnnCreateTensorDescriptor) \
    X(cudnnDestroyTensorDescriptor) \
    X(cudnnSetTensor4dDescriptor) \
    X(cudnnCreateFilterDescriptor) \
    X(cudnnDestroyFilterDescriptor) \
    X(cudnnSetFilter4dDescriptor) \
    X(cudnnCreateConvolutionDescriptor) \
    X(cudnnDestroyConvolutionDescriptor) \
    X(cudnnSetConvolution2dDescriptor) \
    X(cudnnSetConvolutionGroupCount) \
    X(cudnnSetConvolutionMathType) \
    X(cudnnGetConvolutionForwardWorkspaceSize) \
    X(cudnnGetConvolutionBackwardDataWorkspaceSize) \
    X(cudnnGetConvolutionBackwardFilterWorkspaceSize) \
    X(cudnnConvolutionForward) \
    X(cudnnConvolutionBackwardData) \
    X(cudnnConvolutionBackwardFilter)

struct dnn_calls {
#define X(name) __typeof__(name) *name;
    DNN_CALLS(X) DNN_LEGACY_CALLS(X)
#undef X
};

struct qn__dnn {
    struct qn__gpu gpu;
    bool live; /* a device, not only its description */
    cudaStream_t stream;
    char *library; /* NULL: the usual search */
    size_t version;
    struct dnn_calls call;
    cudnnHandle_t handle;            /* of a device        */
    cudnnBackendDescriptor_t device; /* of a description   */
};

/* cuDNN's name of a dtype; false if it has none. */
bool dnn_dtype(qn_dtype dtype, cudnnDataType_t *out);
/* The legacy calls are there, or E7002. */
qn_status dnn_legacy_open(struct qn__dnn *dnn, qn_error *err);
#endif
