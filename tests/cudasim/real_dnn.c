/* real_dnn.c - what test_real_libraries.c asks of cuDNN, the real one and the simulated one alike: calls that need no
 * device. Each line of output is a call and its answer. */
#include "real.h"
#if REAL_LIBRARIES
#include <cudnn.h>
#include <string.h>

#define DNN_CALLS(X) \
    X(cudnnGetVersion) \
    X(cudnnGetProperty) \
    X(cudnnGetErrorString) \
    X(cudnnBackendCreateDescriptor) \
    X(cudnnBackendDestroyDescriptor) \
    X(cudnnBackendSetAttribute) \
    X(cudnnBackendGetAttribute) \
    X(cudnnBackendFinalize) \
    X(cudnnBackendExecute) \
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
    X(cudnnGetConvolution2dForwardOutputDim)

static struct {
#define X(name) __typeof__(name) *name;
    DNN_CALLS(X)
#undef X
} dnn;

typedef cudnnBackendDescriptor_t desc;

static desc make(cudnnBackendDescriptorType_t type)
{
    desc d = NULL;
    dnn.cudnnBackendCreateDescriptor(type, &d);
    return d;
}
static int set(desc d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t n, const void *v)
{
    return dnn.cudnnBackendSetAttribute(d, name, type, n, v);
}
static int set_int(desc d, cudnnBackendAttributeName_t name, int64_t v)
{
    return set(d, name, CUDNN_TYPE_INT64, 1, &v);
}
static int set_dtype(desc d, cudnnBackendAttributeName_t name, cudnnDataType_t v)
{
    return set(d, name, CUDNN_TYPE_DATA_TYPE, 1, &v);
}
static int set_desc(desc d, cudnnBackendAttributeName_t name, desc v)
{
    return set(d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &v);
}
static int finish(desc d) { return dnn.cudnnBackendFinalize(d); }
static void drop(desc d) { dnn.cudnnBackendDestroyDescriptor(d); }

/* A tensor with everything but what `without` names. */
static desc tensor(int64_t id, const int64_t *dims, int without)
{
    const int64_t strides[4] = { dims[1] * dims[2] * dims[3], 1, dims[3] * dims[1], dims[1] };
    desc t = make(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    if (without != CUDNN_ATTR_TENSOR_DATA_TYPE) set_dtype(t, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_DATA_FLOAT);
    if (without != CUDNN_ATTR_TENSOR_DIMENSIONS) set(t, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dims);
    if (without != CUDNN_ATTR_TENSOR_STRIDES) set(t, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, strides);
    if (without != CUDNN_ATTR_TENSOR_UNIQUE_ID) set_int(t, CUDNN_ATTR_TENSOR_UNIQUE_ID, id);
    if (without != CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT) set_int(t, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, 16);
    return t;
}
static desc done(desc d)
{
    finish(d);
    return d;
}
#define DIMS(...) ((const int64_t[]){ __VA_ARGS__ })

static desc geometry(int without, int64_t pad, int64_t stride, int64_t dilation)
{
    const int64_t p[2] = { pad, pad }, s[2] = { stride, stride }, d[2] = { dilation, dilation };
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    desc c = make(CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    if (without != CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS) set_int(c, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, 2);
    if (without != CUDNN_ATTR_CONVOLUTION_COMP_TYPE) set_dtype(c, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_DATA_FLOAT);
    if (without != CUDNN_ATTR_CONVOLUTION_CONV_MODE)
        set(c, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    if (without != CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS)
        set(c, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, p);
    if (without != CUDNN_ATTR_CONVOLUTION_POST_PADDINGS)
        set(c, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, p);
    if (without != CUDNN_ATTR_CONVOLUTION_DILATIONS) set(c, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, d);
    if (without != CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES)
        set(c, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, s);
    return c;
}

/* y = x * w as an operation; x2: dims of x, and so on. */
static desc forward(const int64_t *x, const int64_t *w, const int64_t *y, int without)
{
    float one = 1, zero = 0;
    desc op = make(CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR);
    if (without != 1) set_desc(op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, done(tensor(1, x, 0)));
    if (without != 2) set_desc(op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, done(tensor(2, w, 0)));
    if (without != 3) set_desc(op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, done(tensor(3, y, 0)));
    if (without != 4) set_desc(op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, done(geometry(0, 1, 1, 1)));
    if (without != 5) set(op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_TYPE_FLOAT, 1, &one);
    if (without != 6) set(op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, CUDNN_TYPE_FLOAT, 1, &zero);
    return op;
}

static void descriptors(void)
{
    desc d = NULL;
    static const int types[] = { CUDNN_BACKEND_POINTWISE_DESCRIPTOR,
                                 CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR,
                                 CUDNN_BACKEND_ENGINE_DESCRIPTOR,
                                 CUDNN_BACKEND_ENGINECFG_DESCRIPTOR,
                                 CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR,
                                 CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR,
                                 CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
                                 CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
                                 CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
                                 CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR,
                                 CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR,
                                 CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR,
                                 CUDNN_BACKEND_TENSOR_DESCRIPTOR,
                                 CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR };
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        real_say("create %d: %d", types[i],
                 (int)dnn.cudnnBackendCreateDescriptor((cudnnBackendDescriptorType_t)types[i], &d));
        if (types[i] != CUDNN_BACKEND_ENGINECFG_DESCRIPTOR) /* the real library crashes */
            real_say("finalize %d with nothing set: %d", types[i], finish(d));
        real_say("destroy %d: %d", types[i], (int)dnn.cudnnBackendDestroyDescriptor(d));
    }
    real_say("create 999: %d", (int)dnn.cudnnBackendCreateDescriptor((cudnnBackendDescriptorType_t)999, &d));
    real_say("finalize NULL: %d", finish(NULL));
    real_say("destroy NULL: %d", (int)dnn.cudnnBackendDestroyDescriptor(NULL));
    real_say("set on NULL: %d", set_int(NULL, CUDNN_ATTR_TENSOR_UNIQUE_ID, 1));
    real_say("execute NULL: %d", (int)dnn.cudnnBackendExecute(NULL, NULL, NULL));
}

static void tensors(void)
{
    const int64_t dims[4] = { 2, 3, 4, 5 };
    static const int without[] = { CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_ATTR_TENSOR_STRIDES,
                                   CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT };
    for (int i = 0; i < 5; i++) {
        desc t = tensor(1, dims, without[i]);
        real_say("tensor without %d: %d", without[i], finish(t));
        drop(t);
    }
    desc t = tensor(1, dims, 0);
    int64_t got[8] = { 0 }, n = -1;
    double x = 1;
    real_say("get before finalize: %d",
             (int)dnn.cudnnBackendGetAttribute(t, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 8, &n, got));
    real_say("wrong type: %d", set(t, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_DOUBLE, 1, &x));
    real_say("attribute of another: %d", set_int(t, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, 2));
    real_say("unknown attribute: %d", set_int(t, (cudnnBackendAttributeName_t)9999, 2));
    real_say("null values: %d", set(t, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, NULL));
    real_say("count 0: %d", set(t, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 0, dims));
    real_say("count 9: %d", set(t, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 9, DIMS(1, 1, 1, 1, 1, 1, 1, 1, 1)));
    real_say("two ids: %d", set(t, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, 2, dims));
    drop(t);
    static const int64_t alignments[] = { 3, 0, -16, 1, 32 };
    for (int i = 0; i < 5; i++) {
        t = tensor(1, dims, 0);
        int status = set_int(t, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, alignments[i]);
        real_say("alignment %d: %d %d", (int)alignments[i], status, finish(t));
        drop(t);
    }
    static const int64_t sizes[][4] = { { 2, -3, 4, 5 }, { 2, 0, 4, 5 }, { 1, 1, 1, 1 } };
    for (int i = 0; i < 3; i++) {
        t = tensor(1, dims, 0);
        int status = set(t, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, sizes[i]);
        real_say("%d channels: %d %d", (int)sizes[i][1], status, finish(t));
        drop(t);
    }
    t = tensor(1, dims, 0);
    set(t, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 3, DIMS(20, 5, 1));
    real_say("3 strides for 4 dims: %d", finish(t));
    drop(t);
    t = tensor(1, dims, 0);
    real_say("finalize: %d", finish(t));
    real_say("finalize again: %d", finish(t));
    real_say("set after finalize: %d", set_int(t, CUDNN_ATTR_TENSOR_UNIQUE_ID, 2));
    int status = dnn.cudnnBackendGetAttribute(t, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 8, &n, got);
    real_say("get dims: %d count %d: %d %d %d %d", status, (int)n, (int)got[0], (int)got[1], (int)got[2], (int)got[3]);
    status = dnn.cudnnBackendGetAttribute(t, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 0, &n, NULL);
    real_say("how many dims: %d count %d", status, (int)n);
    memset(got, 0, sizeof got);
    status = dnn.cudnnBackendGetAttribute(t, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 2, &n, got);
    real_say("get 2 of 4 dims: %d count %d: %d %d", status, (int)n, (int)got[0], (int)got[1]);
    real_say("get as another type: %d",
             (int)dnn.cudnnBackendGetAttribute(t, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_FLOAT, 8, &n, got));
    real_say("get of another: %d",
             (int)dnn.cudnnBackendGetAttribute(t, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, 8, &n, got));
    drop(t);
}

static void geometries(void)
{
    static const int without[] = { CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS,  CUDNN_ATTR_CONVOLUTION_COMP_TYPE,
                                   CUDNN_ATTR_CONVOLUTION_CONV_MODE,     CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS,
                                   CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_ATTR_CONVOLUTION_DILATIONS,
                                   CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES };
    for (int i = 0; i < 7; i++) {
        desc c = geometry(without[i], 1, 1, 1);
        real_say("convolution without %d: %d", without[i], finish(c));
        drop(c);
    }
    static const int64_t values[][3] = {
        { 1, 1, 1 }, { 0, 3, 2 }, { -1, 1, 1 }, { 1, 0, 1 }, { 1, 1, 0 }, { 1, -1, 1 }
    };
    for (int i = 0; i < 6; i++) {
        desc c = geometry(0, values[i][0], values[i][1], values[i][2]);
        real_say("pad %d stride %d dilation %d: %d", (int)values[i][0], (int)values[i][1], (int)values[i][2],
                 finish(c));
        drop(c);
    }
}

static void operations(void)
{
    for (int i = 0; i <= 6; i++)
        real_say("forward without %d: %d", i, finish(forward(DIMS(2, 8, 5, 6), DIMS(4, 8, 3, 3), DIMS(2, 4, 5, 6), i)));
    real_say("groups: %d", finish(forward(DIMS(2, 8, 5, 6), DIMS(4, 2, 3, 3), DIMS(2, 4, 5, 6), 0)));
    real_say("channels do not divide: %d", finish(forward(DIMS(2, 8, 5, 6), DIMS(4, 3, 3, 3), DIMS(2, 4, 5, 6), 0)));
    real_say("wrong height: %d", finish(forward(DIMS(2, 8, 5, 6), DIMS(4, 8, 3, 3), DIMS(2, 4, 4, 6), 0)));
    real_say("wrong batch: %d", finish(forward(DIMS(2, 8, 5, 6), DIMS(4, 8, 3, 3), DIMS(3, 4, 5, 6), 0)));
    real_say("wrong filters: %d", finish(forward(DIMS(2, 8, 5, 6), DIMS(4, 8, 3, 3), DIMS(2, 5, 5, 6), 0)));
    desc op = make(CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR);
    real_say("tensor not finalized: %d",
             set_desc(op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, tensor(1, DIMS(2, 8, 5, 6), 0)));
    real_say("NULL tensor: %d", set_desc(op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, NULL));
}

/* y = x + bias, or relu(x) for bias NULL. */
static desc pointwise(cudnnPointwiseMode_t mode, const int64_t *x, const int64_t *bias, const int64_t *y)
{
    desc f = make(CUDNN_BACKEND_POINTWISE_DESCRIPTOR), op = make(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    set(f, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
    set_dtype(f, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_DATA_FLOAT);
    set_desc(op, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, done(f));
    if (x) set_desc(op, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, done(tensor(11, x, 0)));
    if (bias) set_desc(op, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, done(tensor(12, bias, 0)));
    if (y) set_desc(op, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, done(tensor(13, y, 0)));
    return op;
}

static void chains(void)
{
    const int64_t *x = DIMS(2, 4, 5, 6), *bias = DIMS(1, 4, 1, 1), *other = DIMS(1, 3, 1, 1);
    real_say("add: %d", finish(pointwise(CUDNN_POINTWISE_ADD, x, bias, x)));
    real_say("add without b: %d", finish(pointwise(CUDNN_POINTWISE_ADD, x, NULL, x)));
    real_say("add without x: %d", finish(pointwise(CUDNN_POINTWISE_ADD, NULL, bias, x)));
    real_say("add without y: %d", finish(pointwise(CUDNN_POINTWISE_ADD, x, bias, NULL)));
    real_say("add of 3 channels to 4: %d", finish(pointwise(CUDNN_POINTWISE_ADD, x, other, x)));
    real_say("result smaller: %d", finish(pointwise(CUDNN_POINTWISE_ADD, x, bias, bias)));
    real_say("relu: %d", finish(pointwise(CUDNN_POINTWISE_RELU_FWD, x, NULL, x)));
    real_say("relu with b: %d", finish(pointwise(CUDNN_POINTWISE_RELU_FWD, x, bias, x)));
    real_say("relu to another size: %d", finish(pointwise(CUDNN_POINTWISE_RELU_FWD, x, NULL, bias)));
    desc op = make(CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR), g;
    set_desc(op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, tensor(1, DIMS(2, 8, 5, 6), 0));
    set_desc(op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, done(tensor(2, DIMS(4, 8, 3, 3), 0)));
    set_desc(op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, done(tensor(3, x, 0)));
    set_desc(op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, done(geometry(0, 1, 1, 1)));
    real_say("operation on a tensor that is not finalized: %d", finish(op));
    desc apart[2] = { done(forward(DIMS(2, 8, 5, 6), DIMS(4, 8, 3, 3), x, 0)),
                      done(pointwise(CUDNN_POINTWISE_RELU_FWD, x, NULL, x)) };
    g = make(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    set(g, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 2, apart);
    real_say("operations that do not touch: %d", finish(g));
}

static void graphs(void)
{
    desc op = done(forward(DIMS(2, 8, 5, 6), DIMS(4, 8, 3, 3), DIMS(2, 4, 5, 6), 0)), g, h, p;
    desc open = forward(DIMS(2, 8, 5, 6), DIMS(4, 8, 3, 3), DIMS(2, 4, 5, 6), 0), two[2] = { op, op };
    cudnnBackendHeurMode_t mode = CUDNN_HEUR_MODE_A;
    g = make(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    real_say("operation not finalized: %d", set_desc(g, CUDNN_ATTR_OPERATIONGRAPH_OPS, open));
    real_say("no operations: %d", set(g, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, two));
    g = make(CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    set_desc(g, CUDNN_ATTR_OPERATIONGRAPH_OPS, op);
    h = make(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    real_say("graph not finalized: %d", set_desc(h, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, g));
    real_say("graph: %d", finish(g));
    real_say("of a graph: %d", set_desc(h, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, g));
    real_say("heuristics without a mode: %d", finish(h));
    h = make(CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    set(h, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    real_say("heuristics without a graph: %d", finish(h));
    p = make(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
    real_say("device not described: %d", set(p, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, 2, "{}"));
    real_say("device of nothing: %d", finish(p));
}

static void packs(void)
{
    int64_t id[3] = { 1, 2, 3 }, same[3] = { 1, 2, 1 };
    void *at[3] = { (void *)256, (void *)512, (void *)768 }, *workspace = (void *)1024, *none = NULL;
    desc v = make(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    real_say("ids: %d", set(v, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, 3, id));
    real_say("addresses: %d", set(v, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, 3, at));
    real_say("workspace: %d", set(v, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace));
    real_say("pack: %d", finish(v));
    v = make(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    set(v, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, 3, id);
    set(v, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, 2, at);
    real_say("2 addresses for 3 ids: %d", finish(v));
    v = make(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    set(v, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, 3, same);
    set(v, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, 3, at);
    real_say("an id twice: %d", finish(v));
    v = make(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    set(v, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, 3, id);
    set(v, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, 3, at);
    real_say("NULL workspace: %d", set(v, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &none));
    real_say("pack with that: %d", finish(v));
}

static void legacy(void)
{
    cudnnTensorDescriptor_t t = NULL;
    cudnnFilterDescriptor_t f = NULL;
    cudnnConvolutionDescriptor_t c = NULL;
    int n = 0, k = 0, h = 0, w = 0, status;
    real_say("tensor: %d", (int)dnn.cudnnCreateTensorDescriptor(&t));
    real_say("filter: %d", (int)dnn.cudnnCreateFilterDescriptor(&f));
    real_say("convolution: %d", (int)dnn.cudnnCreateConvolutionDescriptor(&c));
    real_say("4d: %d", (int)dnn.cudnnSetTensor4dDescriptor(t, CUDNN_TENSOR_NHWC, CUDNN_DATA_FLOAT, 2, 8, 9, 7));
    real_say("4d of -3: %d", (int)dnn.cudnnSetTensor4dDescriptor(t, CUDNN_TENSOR_NCHW, CUDNN_DATA_FLOAT, 2, -3, 9, 7));
    real_say("4d of 0: %d", (int)dnn.cudnnSetTensor4dDescriptor(t, CUDNN_TENSOR_NCHW, CUDNN_DATA_FLOAT, 2, 0, 9, 7));
    real_say("4d NULL: %d", (int)dnn.cudnnSetTensor4dDescriptor(NULL, CUDNN_TENSOR_NCHW, CUDNN_DATA_FLOAT, 2, 1, 9, 7));
    real_say("filters: %d", (int)dnn.cudnnSetFilter4dDescriptor(f, CUDNN_DATA_FLOAT, CUDNN_TENSOR_NHWC, 6, 4, 3, 3));
    real_say("filters of 0: %d",
             (int)dnn.cudnnSetFilter4dDescriptor(f, CUDNN_DATA_FLOAT, CUDNN_TENSOR_NHWC, 6, 0, 3, 3));
    real_say("geometry: %d",
             (int)dnn.cudnnSetConvolution2dDescriptor(c, 1, 2, 2, 1, 1, 2, CUDNN_CROSS_CORRELATION, CUDNN_DATA_FLOAT));
    real_say("pad -1: %d",
             (int)dnn.cudnnSetConvolution2dDescriptor(c, -1, 2, 2, 1, 1, 2, CUDNN_CROSS_CORRELATION, CUDNN_DATA_FLOAT));
    real_say("stride 0: %d",
             (int)dnn.cudnnSetConvolution2dDescriptor(c, 1, 2, 0, 1, 1, 2, CUDNN_CROSS_CORRELATION, CUDNN_DATA_FLOAT));
    real_say("dilation 0: %d",
             (int)dnn.cudnnSetConvolution2dDescriptor(c, 1, 2, 2, 1, 0, 2, CUDNN_CROSS_CORRELATION, CUDNN_DATA_FLOAT));
    dnn.cudnnSetConvolution2dDescriptor(c, 1, 2, 2, 1, 1, 2, CUDNN_CROSS_CORRELATION, CUDNN_DATA_FLOAT);
    dnn.cudnnSetTensor4dDescriptor(t, CUDNN_TENSOR_NHWC, CUDNN_DATA_FLOAT, 2, 8, 9, 7);
    dnn.cudnnSetFilter4dDescriptor(f, CUDNN_DATA_FLOAT, CUDNN_TENSOR_NHWC, 6, 4, 3, 3);
    real_say("groups 0: %d", (int)dnn.cudnnSetConvolutionGroupCount(c, 0));
    real_say("groups 2: %d", (int)dnn.cudnnSetConvolutionGroupCount(c, 2));
    real_say("math: %d", (int)dnn.cudnnSetConvolutionMathType(c, CUDNN_FMA_MATH));
    status = dnn.cudnnGetConvolution2dForwardOutputDim(c, t, f, &n, &k, &h, &w);
    real_say("result: %d: %d %d %d %d", status, n, k, h, w);
    dnn.cudnnSetConvolutionGroupCount(c, 1);
    real_say("channels that differ: %d", (int)dnn.cudnnGetConvolution2dForwardOutputDim(c, t, f, &n, &k, &h, &w));
    real_say("destroy: %d %d %d", (int)dnn.cudnnDestroyTensorDescriptor(t), (int)dnn.cudnnDestroyFilterDescriptor(f),
             (int)dnn.cudnnDestroyConvolutionDescriptor(c));
    real_say("destroy NULL: %d", (int)dnn.cudnnDestroyTensorDescriptor(NULL));
}

void real_dnn(void *library)
{
    int v = -1;
#define X(name) REAL_FIND(dnn, library, name);
    DNN_CALLS(X)
#undef X
    real_say("version %d", (int)dnn.cudnnGetVersion());
    for (int i = 0; i < 4; i++) {
        int status = dnn.cudnnGetProperty((libraryPropertyType)i, &v);
        real_say("property %d: %d %d", i, status, v);
    }
    static const int codes[] = { 0, 1001, 2000, 2002, 2004, 3000, 3001, 4000, 5000, 5003 };
    for (int i = 0; i < 10; i++) real_say("%d is %s", codes[i], dnn.cudnnGetErrorString((cudnnStatus_t)codes[i]));
    descriptors();
    tensors();
    geometries();
    operations();
    chains();
    graphs();
    packs();
    legacy();
}
#endif
