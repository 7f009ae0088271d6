/* dnn_legacy.c - convolution by cuDNN's calls of before the graph API: an oracle for the graphs, not used in training
 * but as a rung of bench_kernels beside them, in three directions. Its time there has the making of descriptors in it.
 *
 * The algorithms are those that the manual lists as deterministic for every geometry: implicit GEMM forward, and
 * number 1 of either gradient. */
#include "dnn_impl.h"

struct legacy {
    cudnnTensorDescriptor_t x, y;
    cudnnFilterDescriptor_t w;
    cudnnConvolutionDescriptor_t conv;
    cudnnStatus_t status;
    const char *what;
};

static void note(struct legacy *l, cudnnStatus_t status, const char *what)
{
    if (l->status || !status) return;
    l->status = status;
    l->what = what;
}

static void destroy(const struct dnn_calls *call, struct legacy *l)
{
    if (l->x) call->cudnnDestroyTensorDescriptor(l->x);
    if (l->y) call->cudnnDestroyTensorDescriptor(l->y);
    if (l->w) call->cudnnDestroyFilterDescriptor(l->w);
    if (l->conv) call->cudnnDestroyConvolutionDescriptor(l->conv);
}

static void create(const struct dnn_calls *call, struct legacy *l)
{
    note(l, call->cudnnCreateTensorDescriptor(&l->x), "cudnnCreateTensorDescriptor");
    note(l, call->cudnnCreateTensorDescriptor(&l->y), "cudnnCreateTensorDescriptor");
    note(l, call->cudnnCreateFilterDescriptor(&l->w), "cudnnCreateFilterDescriptor");
    note(l, call->cudnnCreateConvolutionDescriptor(&l->conv), "cudnnCreateConvolutionDescriptor");
}

static void describe(const struct dnn_calls *call, struct legacy *l, const struct qn__dnn_conv *c)
{
    cudnnDataType_t type = CUDNN_DATA_FLOAT;
    cudnnTensorFormat_t order = c->nhwc ? CUDNN_TENSOR_NHWC : CUDNN_TENSOR_NCHW;
    dnn_dtype(c->dtype, &type);
    if (!l->status)
        note(l, call->cudnnSetTensor4dDescriptor(l->x, order, type, (int)c->n, (int)c->c, (int)c->h, (int)c->w),
             "cudnnSetTensor4dDescriptor");
    if (!l->status)
        note(l, call->cudnnSetTensor4dDescriptor(l->y, order, type, (int)c->n, (int)c->o, (int)c->oh, (int)c->ow),
             "cudnnSetTensor4dDescriptor");
    if (!l->status)
        note(l,
             call->cudnnSetFilter4dDescriptor(l->w, type, order, (int)c->o, (int)(c->c / c->groups), (int)c->kh,
                                              (int)c->kw),
             "cudnnSetFilter4dDescriptor");
    if (!l->status)
        note(l,
             call->cudnnSetConvolution2dDescriptor(l->conv, c->pad[0], c->pad[1], c->stride[0], c->stride[1],
                                                   c->dilation[0], c->dilation[1], CUDNN_CROSS_CORRELATION,
                                                   CUDNN_DATA_FLOAT),
             "cudnnSetConvolution2dDescriptor");
    if (!l->status) note(l, call->cudnnSetConvolutionGroupCount(l->conv, c->groups), "cudnnSetConvolutionGroupCount");
    if (!l->status) note(l, call->cudnnSetConvolutionMathType(l->conv, CUDNN_FMA_MATH), "cudnnSetConvolutionMathType");
}

static cudnnStatus_t workspace_of(const struct qn__dnn *d, const struct legacy *l, enum qn__dnn_direction direction,
                                  size_t *bytes)
{
    const struct dnn_calls *call = &d->call;
    switch (direction) {
    case QN_DNN_FORWARD:
        return call->cudnnGetConvolutionForwardWorkspaceSize(d->handle, l->x, l->w, l->conv, l->y,
                                                             CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM, bytes);
    case QN_DNN_GRAD_X:
        return call->cudnnGetConvolutionBackwardDataWorkspaceSize(d->handle, l->w, l->y, l->conv, l->x,
                                                                  CUDNN_CONVOLUTION_BWD_DATA_ALGO_1, bytes);
    default:
        return call->cudnnGetConvolutionBackwardFilterWorkspaceSize(d->handle, l->x, l->y, l->conv, l->w,
                                                                    CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1, bytes);
    }
}

static cudnnStatus_t run(const struct qn__dnn *d, const struct legacy *l, enum qn__dnn_direction direction,
                         const struct qn__dnn_data *at, size_t workspace)
{
    const struct dnn_calls *call = &d->call;
    const float one = 1, zero = 0;
    switch (direction) {
    case QN_DNN_FORWARD:
        return call->cudnnConvolutionForward(d->handle, &one, l->x, at->x, l->w, at->w, l->conv,
                                             CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM, at->workspace, workspace, &zero,
                                             l->y, at->y);
    case QN_DNN_GRAD_X:
        return call->cudnnConvolutionBackwardData(d->handle, &one, l->w, at->w, l->y, at->y, l->conv,
                                                  CUDNN_CONVOLUTION_BWD_DATA_ALGO_1, at->workspace, workspace, &zero,
                                                  l->x, at->x);
    default:
        return call->cudnnConvolutionBackwardFilter(d->handle, &one, l->x, at->x, l->y, at->y, l->conv,
                                                    CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1, at->workspace, workspace,
                                                    &zero, l->w, at->w);
    }
}

static qn_status open_legacy(struct qn__dnn *d, const struct qn__dnn_conv *c, struct legacy *l, qn_error *err)
{
    QN_TRY(dnn_legacy_open(d, err));
    if (!d->handle) return qn__fail(err, 7001, NULL, "cuDNN: only the description of a device; expected a device");
    if (c->pad[0] != c->pad_end[0] || c->pad[1] != c->pad_end[1]) return QN_EUSAGE;
    create(&d->call, l);
    describe(&d->call, l, c);
    return QN_OK;
}

qn_status qn__dnn_legacy_workspace(struct qn__dnn *d, const struct qn__dnn_conv *c, size_t *bytes, qn_error *err)
{
    struct legacy l = { 0 };
    *bytes = 0;
    QN_TRY(open_legacy(d, c, &l, err));
    if (!l.status) note(&l, workspace_of(d, &l, c->direction, bytes), "cudnnGetConvolution...WorkspaceSize");
    destroy(&d->call, &l);
    return l.status ? qn__dnn_check(l.status, l.what, NULL, err) : QN_OK;
}

qn_status qn__dnn_legacy_run(struct qn__dnn *d, const struct qn__dnn_conv *c, const struct qn__dnn_data *at,
                             size_t workspace, qn_error *err)
{
    struct legacy l = { 0 };
    QN_TRY(open_legacy(d, c, &l, err));
    if (!l.status) note(&l, run(d, &l, c->direction, at, workspace), "cudnnConvolution...");
    destroy(&d->call, &l);
    return l.status ? qn__dnn_check(l.status, l.what, NULL, err) : QN_OK;
}
