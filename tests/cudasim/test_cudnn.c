/* test_cudnn.c - the simulated cuDNN does what the manual of the real one says, and refuses the rest. Convolutions are
 * held against plain double loops over logical positions; the graphs are built from the manual, not with Quern's
 * code. */
#define CALLS(X) \
    X(cudnnCreate) \
    X(cudnnDestroy) \
    X(cudnnSetStream) \
    X(cudnnGetLastErrorString) \
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
    X(cudnnGetConvolutionForwardWorkspaceSize) \
    X(cudnnConvolutionForward) \
    X(cudnnConvolutionBackwardData) \
    X(cudnnConvolutionBackwardFilter) \
    X(cudasim_dnn_live)
#if __has_include(<cudnn.h>)
#include <cudnn.h>
extern size_t cudasim_dnn_live(void);
#endif
#include "simulated.h"

#if SIMULATED
#include "../../core/half.h"
#include <math.h>
#include <stdbool.h>

typedef cudnnBackendDescriptor_t desc;

/* ---- a convolution, logical ------------------------------------------------------------------------------------ */

struct conv {
    int direction; /* 0 forward, 1 gradient of x, 2 gradient of w */
    int64_t n, c, h, w, o, kh, kw, groups, stride, dilation, pad, pad_end;
    bool nchw, bias, relu, flipped;
    float beta;
    cudnnDataType_t type;
    /* made */
    int64_t dim[4][4]; /* x, w, y, bias */
    float *host[4];
    void *device[4];
    cudnnHandle_t handle;
    cudaStream_t stream;
    desc list[80];
    int n_list;
};
enum { X, W, Y, BIAS };

static int64_t extent(const struct conv *c, int64_t size, int64_t k)
{
    return (size + c->pad + c->pad_end - c->dilation * (k - 1) - 1) / c->stride + 1;
}
static int64_t count(const int64_t *d) { return d[0] * d[1] * d[2] * d[3]; }
static int64_t place(const struct conv *c, const int64_t *d, int64_t i, int64_t j, int64_t k, int64_t l)
{
    return c->nchw ? ((i * d[1] + j) * d[2] + k) * d[3] + l : ((i * d[2] + k) * d[3] + l) * d[1] + j;
}
static float rounded(cudnnDataType_t t, float v)
{
    if (t == CUDNN_DATA_BFLOAT16) return qn__f32_of_bf16(qn__bf16_of_f32(v));
    return t == CUDNN_DATA_HALF ? qn__f32_of_f16(qn__f16_of_f32(v)) : v;
}

static void *upload(const float *v, size_t n, cudnnDataType_t t)
{
    if (t == CUDNN_DATA_FLOAT) return device_copy(v, n * 4);
    uint16_t *half = malloc(n * 2 + 2);
    for (size_t i = 0; i < n; i++) half[i] = t == CUDNN_DATA_HALF ? qn__f16_of_f32(v[i]) : qn__bf16_of_f32(v[i]);
    void *p = device_copy(half, n * 2);
    free(half);
    return p;
}
static void download(float *v, const void *p, size_t n, cudnnDataType_t t)
{
    if (t == CUDNN_DATA_FLOAT) {
        host_copy(v, p, n * 4);
        return;
    }
    uint16_t *half = malloc(n * 2 + 2);
    host_copy(half, p, n * 2);
    for (size_t i = 0; i < n; i++) v[i] = t == CUDNN_DATA_HALF ? qn__f32_of_f16(half[i]) : qn__f32_of_bf16(half[i]);
    free(half);
}

static void setup(struct conv *c)
{
    if (!c->groups) c->groups = 1;
    if (!c->stride) c->stride = 1;
    if (!c->dilation) c->dilation = 1;
    const int64_t dims[4][4] = { { c->n, c->c, c->h, c->w },
                                 { c->o, c->c / c->groups, c->kh, c->kw },
                                 { c->n, c->o, extent(c, c->h, c->kh), extent(c, c->w, c->kw) },
                                 { 1, c->o, 1, 1 } };
    memcpy(c->dim, dims, sizeof dims);
    for (int k = 0; k < 4; k++) {
        uint64_t seed = (uint64_t)k + 1;
        size_t n = (size_t)count(c->dim[k]);
        c->host[k] = malloc(n * sizeof(float));
        for (size_t i = 0; i < n; i++) c->host[k][i] = rounded(c->type, simulated_value(&seed));
        c->device[k] = upload(c->host[k], n, c->type);
    }
    assert_int_equal(calls.cudaStreamCreate(&c->stream), 0);
    assert_int_equal(calls.cudnnCreate(&c->handle), 0);
    assert_int_equal(calls.cudnnSetStream(c->handle, c->stream), 0);
}

static void drop(struct conv *c)
{
    for (int k = 0; k < 4; k++) {
        calls.cudaFree(c->device[k]);
        free(c->host[k]);
    }
    while (c->n_list) calls.cudnnBackendDestroyDescriptor(c->list[--c->n_list]);
    assert_int_equal(calls.cudnnDestroy(c->handle), 0);
    assert_int_equal(calls.cudaStreamDestroy(c->stream), 0);
    assert_int_equal(calls.cudasim_dnn_live(), 0);
}

/* Result of one direction, from its definition, and the sum of magnitudes for the bound. */
static void define(const struct conv *c, double *out, double *size)
{
    int r = c->direction == 0 ? Y : c->direction == 1 ? X : W;
    int64_t cg = c->c / c->groups, og = c->o / c->groups, n_out = count(c->dim[r]);
    for (int64_t i = 0; i < n_out; i++) {
        out[i] = (double)c->beta * (double)c->host[r][i];
        size[i] = fabs(out[i]);
    }
    for (int64_t n = 0; n < c->n; n++)
        for (int64_t o = 0; o < c->o; o++)
            for (int64_t i = 0; i < c->dim[Y][2]; i++)
                for (int64_t j = 0; j < c->dim[Y][3]; j++)
                    for (int64_t q = 0; q < cg; q++)
                        for (int64_t a = 0; a < c->kh; a++)
                            for (int64_t b = 0; b < c->kw; b++) {
                                int64_t row = i * c->stride - c->pad + a * c->dilation;
                                int64_t col = j * c->stride - c->pad + b * c->dilation;
                                if (row < 0 || row >= c->h || col < 0 || col >= c->w) continue;
                                int64_t ta = c->flipped ? c->kh - 1 - a : a, tb = c->flipped ? c->kw - 1 - b : b;
                                int64_t at[3] = {
                                    place(c, c->dim[X], n, o / og * cg + q, row, col),
                                    place(c, c->dim[W], o, q, ta, tb),
                                    place(c, c->dim[Y], n, o, i, j)
                                };
                                double term = 1;
                                for (int k = 0; k < 3; k++)
                                    if (k != r) term *= (double)c->host[k][at[k]];
                                out[at[r]] += term;
                                size[at[r]] += fabs(term);
                            }
    for (int64_t i = 0; i < n_out && c->direction == 0; i++) {
        int64_t channel = c->nchw ? i / (c->dim[Y][2] * c->dim[Y][3]) % c->o : i % c->o;
        if (c->bias) out[i] += (double)c->host[BIAS][channel];
        if (c->relu && out[i] < 0) out[i] = 0;
    }
}

/* Terms of the longest sum. */
static double terms(const struct conv *c)
{
    if (c->direction == 0) return (double)(c->c / c->groups * c->kh * c->kw + 2);
    if (c->direction == 1) return (double)(c->o / c->groups * c->kh * c->kw + 2);
    return (double)(c->n * c->dim[Y][2] * c->dim[Y][3] + 2);
}

/* Share of the elements that are off by more than `sharper` of the bound of a sum in f32, rounded to the type. */
static double wrong(const struct conv *c, double sharper)
{
    int r = c->direction == 0 ? Y : c->direction == 1 ? X : W;
    size_t n = (size_t)count(c->dim[r]), bad = 0;
    double *want = malloc(n * sizeof *want), *size = malloc(n * sizeof *size);
    float *got = malloc(n * sizeof *got);
    double unit = c->type == CUDNN_DATA_FLOAT ? 0 : c->type == CUDNN_DATA_HALF ? 1.0 / 2048 : 1.0 / 256;
    define(c, want, size);
    download(got, c->device[r], n, c->type);
    for (size_t i = 0; i < n; i++) {
        double room = (terms(c) * 6e-8 * (size[i] + 1) + unit * (fabs(want[i]) + 1e-3)) * sharper;
        if (!(fabs((double)got[i] - want[i]) <= room)) bad++;
    }
    free(want), free(size), free(got);
    return (double)bad / (double)n;
}

/* ---- its graph
 * ------------------------------------------------------------------------------------------------------ */

static desc make(struct conv *c, cudnnBackendDescriptorType_t type)
{
    desc d = NULL;
    assert_int_equal(calls.cudnnBackendCreateDescriptor(type, &d), 0);
    assert_true(c->n_list < 80);
    return c->list[c->n_list++] = d;
}
static void set(desc d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t n, const void *v)
{
    assert_int_equal(calls.cudnnBackendSetAttribute(d, name, type, n, v), 0);
}
static void set_desc(desc d, cudnnBackendAttributeName_t name, desc v)
{
    set(d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &v);
}
static void set_int(desc d, cudnnBackendAttributeName_t name, int64_t v) { set(d, name, CUDNN_TYPE_INT64, 1, &v); }
static desc done(desc d)
{
    assert_int_equal(calls.cudnnBackendFinalize(d), 0);
    return d;
}

static desc tensor(struct conv *c, int64_t id, const int64_t *d, cudnnDataType_t type, bool between)
{
    const int64_t plain[4] = { d[1] * d[2] * d[3], d[2] * d[3], d[3], 1 }, last[4] = { plain[0], 1, d[3] * d[1], d[1] };
    desc t = make(c, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    set(t, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    set(t, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, d);
    set(t, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, c->nchw ? plain : last);
    set_int(t, CUDNN_ATTR_TENSOR_UNIQUE_ID, id);
    set_int(t, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, 16);
    set(t, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &between);
    return done(t);
}

static desc geometry(struct conv *c)
{
    const int64_t pad[2] = { c->pad, c->pad }, end[2] = { c->pad_end, c->pad_end };
    const int64_t stride[2] = { c->stride, c->stride }, dilation[2] = { c->dilation, c->dilation };
    cudnnConvolutionMode_t mode = c->flipped ? CUDNN_CONVOLUTION : CUDNN_CROSS_CORRELATION;
    cudnnDataType_t f32 = CUDNN_DATA_FLOAT;
    desc g = make(c, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    set_int(g, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, 2);
    set(g, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &f32);
    set(g, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    set(g, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, pad);
    set(g, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, end);
    set(g, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, stride);
    set(g, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, dilation);
    return done(g);
}

static desc convolution(struct conv *c, desc x, desc w, desc y)
{
    static const cudnnBackendDescriptorType_t type[] = {
        CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
        CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
        CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR
    };
    static const cudnnBackendAttributeName_t name[3][5] = {
        { CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
          CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
          CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA },
        { CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA },
        { CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
          CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA }
    };
    desc op = make(c, type[c->direction]), operand[3] = { x, w, y };
    for (int i = 0; i < 3; i++) set_desc(op, name[c->direction][i], operand[i]);
    set_desc(op, name[c->direction][3], geometry(c));
    set(op, name[c->direction][4], CUDNN_TYPE_FLOAT, 1, &c->beta);
    return op;
}

static desc pointwise(struct conv *c, cudnnPointwiseMode_t mode, desc x, desc other, desc y)
{
    desc f = make(c, CUDNN_BACKEND_POINTWISE_DESCRIPTOR), op = make(c, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    set(f, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
    set_desc(op, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, done(f));
    set_desc(op, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x);
    if (other) set_desc(op, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, other);
    set_desc(op, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y);
    return done(op);
}

/* mode: of what follows the convolution and its bias, or 0. */
static desc graph_of(struct conv *c, cudnnPointwiseMode_t mode)
{
    bool more = c->bias || mode;
    desc end = tensor(c, Y, c->dim[Y], c->type, false), op[3], graph;
    desc product = more ? tensor(c, 10, c->dim[Y], CUDNN_DATA_FLOAT, true) : end, sum = end;
    int64_t n = 0;
    op[n++] = done(
        convolution(c, tensor(c, X, c->dim[X], c->type, false), tensor(c, W, c->dim[W], c->type, false), product));
    if (c->bias) {
        if (mode) sum = tensor(c, 11, c->dim[Y], CUDNN_DATA_FLOAT, true);
        op[n++] = pointwise(c, CUDNN_POINTWISE_ADD, product, tensor(c, BIAS, c->dim[BIAS], c->type, false), sum);
    }
    if (mode) op[n++] = pointwise(c, mode, c->bias ? sum : product, NULL, end);
    graph = make(c, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    set(graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, n, op);
    set(graph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &c->handle);
    return done(graph);
}

/* Fills config with the ranked configurations; how many. */
static int ranking(struct conv *c, desc graph, cudnnBackendHeurMode_t mode, desc *config)
{
    int64_t n = 0, got = 0;
    desc h = make(c, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    set_desc(h, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
    set(h, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    done(h);
    assert_int_equal(calls.cudnnBackendGetAttribute(h, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 0,
                                                    &n, NULL),
                     0);
    for (int i = 0; i < n; i++) config[i] = make(c, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    assert_int_equal(calls.cudnnBackendGetAttribute(h, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, n,
                                                    &got, config),
                     0);
    assert_int_equal(n, got);
    return (int)n;
}

static uint32_t notes_of(struct conv *c, desc config)
{
    desc e = make(c, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    cudnnBackendNumericalNote_t note[16];
    int64_t n = 0;
    uint32_t all = 0;
    calls.cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &n, &e);
    assert_int_equal(calls.cudnnBackendGetAttribute(e, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE, 16,
                                                    &n, note),
                     0);
    for (int i = 0; i < n; i++) all |= 1u << note[i];
    return all;
}

/* NULL: the engine refuses. */
static desc plan_of(struct conv *c, desc config, size_t *workspace)
{
    desc p = make(c, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    int64_t n, bytes = 0;
    set(p, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &c->handle);
    set_desc(p, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config);
    cudnnStatus_t status = calls.cudnnBackendFinalize(p);
    assert_true(!status || CUDNN_STATUS_CATEGORY(status) == CUDNN_STATUS_NOT_SUPPORTED);
    if (status) return NULL;
    calls.cudnnBackendGetAttribute(p, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &n, &bytes);
    *workspace = (size_t)bytes;
    return p;
}

static cudnnStatus_t execute(struct conv *c, desc plan, void *workspace, int64_t n)
{
    int64_t id[4] = { X, W, Y, BIAS };
    desc pack = make(c, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    set(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, n, id);
    set(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, n, c->device);
    set(pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
    return calls.cudnnBackendExecute(c->handle, plan, done(pack));
}

#define BIT(name) (1u << CUDNN_NUMERICAL_NOTE_##name)
enum { FLAWS = BIT(NONDETERMINISTIC) | BIT(WINOGRAD) | BIT(REDUCED_PRECISION_REDUCTION) };

/* Every engine that takes the convolution: those without a flaw keep to the bound. How many were worse. */
static int all_engines(struct conv c)
{
    desc config[16];
    int worse = 0, good = 0;
    setup(&c);
    desc graph = graph_of(&c, c.relu ? CUDNN_POINTWISE_RELU_FWD : (cudnnPointwiseMode_t)0);
    int n = ranking(&c, graph, CUDNN_HEUR_MODE_A, config), result = c.direction == 0 ? Y : c.direction == 1 ? X : W;
    for (int i = 0; i < n; i++) {
        size_t bytes = 0;
        uint32_t notes = notes_of(&c, config[i]);
        desc plan = plan_of(&c, config[i], &bytes);
        if (!plan) continue;
        void *workspace = device_take(bytes), *old = c.device[result];
        c.device[result] = upload(c.host[result], (size_t)count(c.dim[result]), c.type);
        assert_int_equal(execute(&c, plan, workspace, 4), 0);
        assert_int_equal(calls.cudaStreamSynchronize(c.stream), 0);
        expect_no_finding();
        bool flawed = notes & FLAWS || (c.type == CUDNN_DATA_FLOAT && notes & BIT(TENSOR_CORE));
        double off = wrong(&c, 1);
        if (!flawed) assert_true(off == 0);
        worse += off > 0;
        good += !flawed;
        calls.cudaFree(workspace);
        calls.cudaFree(c.device[result]);
        c.device[result] = old;
    }
    assert_true(good >= 1);
    drop(&c);
    return worse;
}

/* ---- tests
 * ---------------------------------------------------------------------------------------------------------- */

static void directions(void **state)
{
    (void)state;
    int worse = 0;
    for (int d = 0; d < 3; d++)
        for (int nchw = 0; nchw < 2; nchw++) {
#define CONV(...) ((struct conv){ .direction = d, .nchw = nchw, __VA_ARGS__ })
            worse += all_engines(CONV(.n = 2, .c = 6, .h = 7, .w = 5, .o = 4, .kh = 3, .kw = 2));
            all_engines(CONV(.n = 2, .c = 6, .h = 7, .w = 5, .o = 4, .kh = 3, .kw = 3, .pad = 1, .pad_end = 1));
            all_engines(CONV(.n = 1, .c = 6, .h = 8, .w = 9, .o = 9, .kh = 2, .kw = 3, .stride = 2, .groups = 3,
                             .pad = 1, .pad_end = 0));
            all_engines(CONV(.n = 2, .c = 4, .h = 9, .w = 9, .o = 4, .kh = 3, .kw = 3, .dilation = 2, .groups = 4,
                             .pad = 2, .pad_end = 2));
            all_engines(CONV(.n = 1, .c = 1, .h = 1, .w = 1, .o = 1, .kh = 1, .kw = 1));
            all_engines(CONV(.n = 2, .c = 3, .h = 4, .w = 4, .o = 2, .kh = 3, .kw = 3, .flipped = true, .beta = 0.5f));
            all_engines(CONV(.n = 2, .c = 8, .h = 5, .w = 5, .o = 8, .kh = 3, .kw = 3, .type = CUDNN_DATA_BFLOAT16));
            all_engines(CONV(.n = 2, .c = 8, .h = 5, .w = 5, .o = 8, .kh = 3, .kw = 3, .type = CUDNN_DATA_HALF));
#undef CONV
        }
    assert_true(worse >= 12); /* tensor cores and Winograd in f32, in all six */
}

static void chains(void **state)
{
    (void)state;
    for (int nchw = 0; nchw < 2; nchw++)
        for (int relu = 0; relu < 2; relu++)
            for (int t = 0; t < 2; t++)
                all_engines((struct conv){ .n = 2,
                                           .c = 4,
                                           .h = 5,
                                           .w = 6,
                                           .o = 8,
                                           .kh = 3,
                                           .kw = 3,
                                           .pad = 1,
                                           .pad_end = 1,
                                           .nchw = nchw,
                                           .bias = true,
                                           .relu = relu,
                                           .type = t ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT });
}

/* What the real library has no ready engine for has none here. */
static void other_graphs(void **state)
{
    (void)state;
    static const cudnnPointwiseMode_t modes[] = { CUDNN_POINTWISE_TANH_FWD, CUDNN_POINTWISE_GELU_FWD,
                                                  CUDNN_POINTWISE_RELU_FWD, CUDNN_POINTWISE_RELU_FWD };
    desc config[16];
    for (int i = 0; i < 4; i++) {
        struct conv c = { .direction = i == 3,
                          .n = 1,
                          .c = 4,
                          .h = 5,
                          .w = 6,
                          .o = 4,
                          .kh = 3,
                          .kw = 3,
                          .pad = 1,
                          .pad_end = 1,
                          .bias = i < 2 };
        setup(&c);
        assert_int_equal(ranking(&c, graph_of(&c, modes[i]), CUDNN_HEUR_MODE_A, config), 0);
        assert_int_equal(ranking(&c, graph_of(&c, modes[i]), CUDNN_HEUR_MODE_FALLBACK, config), 0);
        drop(&c);
    }
}

/* One engine adds in an order that is another one from run to run. */
static void any_order(void **state)
{
    (void)state;
    struct conv c = { .direction = 2, .n = 9, .c = 8, .h = 9, .w = 9, .o = 8, .kh = 3, .kw = 3 };
    desc config[16];
    setup(&c);
    int n = ranking(&c, graph_of(&c, (cudnnPointwiseMode_t)0), CUDNN_HEUR_MODE_A, config), differ = 0;
    size_t elements = (size_t)count(c.dim[W]), bytes = 0;
    float *first = malloc(elements * 4), *second = malloc(elements * 4);
    for (int i = 0; i < n; i++) {
        desc plan = plan_of(&c, config[i], &bytes);
        if (!plan) continue;
        void *workspace = device_take(bytes);
        assert_int_equal(execute(&c, plan, workspace, 4), 0);
        host_copy(first, c.device[W], elements * 4);
        assert_int_equal(execute(&c, plan, workspace, 4), 0);
        host_copy(second, c.device[W], elements * 4);
        bool same = !memcmp(first, second, elements * 4);
        assert_true(same == !(notes_of(&c, config[i]) & BIT(NONDETERMINISTIC)));
        differ += !same;
        calls.cudaFree(workspace);
    }
    assert_int_equal(differ, 1);
    free(first), free(second);
    drop(&c);
}

static void refused_runs(void **state)
{
    (void)state;
    struct conv c = { .n = 2, .c = 4, .h = 5, .w = 6, .o = 8, .kh = 3, .kw = 3 };
    desc config[16], plan = NULL;
    size_t bytes = 0;
    setup(&c);
    int n = ranking(&c, graph_of(&c, (cudnnPointwiseMode_t)0), CUDNN_HEUR_MODE_A, config);
    for (int i = 0; i < n && bytes < 1000; i++)
        if (!(notes_of(&c, config[i]) & (FLAWS | BIT(TENSOR_CORE)))) plan = plan_of(&c, config[i], &bytes);
    assert_true(bytes >= 1000);
    void *workspace = device_take(bytes), *x = c.device[X];
    assert_int_equal(execute(&c, plan, NULL, 4), CUDNN_STATUS_BAD_PARAM_NULL_POINTER);
    assert_int_equal(execute(&c, plan, workspace, 2), CUDNN_STATUS_BAD_PARAM); /* no y */
    c.device[X] = (char *)x + 8;
    assert_int_equal(execute(&c, plan, workspace, 4), CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER);
    assert_int_equal(calls.cudnnBackendExecute(c.handle, plan, plan), CUDNN_STATUS_BAD_PARAM);
    expect_no_finding();
    float *host = aligned_alloc(256, 1024);
    c.device[X] = host;
    assert_int_equal(execute(&c, plan, workspace, 4), CUDNN_STATUS_EXECUTION_FAILED);
    expect_finding("cuDNN: x");
    free(host);
    c.device[X] = x;
    void *y = c.device[Y], *w = c.device[W];
    c.device[Y] = device_take(2048);
    c.device[W] = c.device[Y]; /* both fit there */
    assert_int_equal(execute(&c, plan, workspace, 4), CUDNN_STATUS_EXECUTION_FAILED);
    expect_finding("lie on each other");
    calls.cudaFree(c.device[Y]);
    c.device[Y] = y;
    c.device[W] = w;
    assert_true(calls.cudasim_fail("cudnnBackendExecute:1"));
    assert_int_equal(execute(&c, plan, workspace, 4), CUDNN_STATUS_EXECUTION_FAILED);
    assert_true(calls.cudasim_fail(""));
    assert_int_equal(execute(&c, plan, workspace, 4), 0);
    assert_int_equal(calls.cudaStreamSynchronize(c.stream), 0);
    assert_true(wrong(&c, 1) == 0);
    calls.cudaFree(workspace);
    drop(&c);
}

/* A plan for the description of a device has a workspace, and cannot run. */
static void descriptions(void **state)
{
    (void)state;
    static const char device[] =
        "{\"deviceName\": \"x\", \"deviceVer\": 900, \"driverVer\": 13000, \"driverVersion\": 13000, "
        "\"cudaDeviceId\": 0, \"pciDeviceId\": 0, \"isTccDriver\": 0, \"supportCoopLaunch\": 1, \"warpSize\": 32, "
        "\"maxThreadsPerBlock\": 1024, \"maxBlockSize\": [1024, 1024, 64], \"maxGridSize\": [1, 1, 1], "
        "\"regsPerBlock\": 65536, \"maxRegistersPerSM\": 65536, \"maxSharedMemoryPerBlock\": 49152, "
        "\"maxSharedMemoryPerBlockOptin\": 232448, \"reservedSharedMemoryPerBlock\": 1024, "
        "\"multiProcessorCount\": 132, \"maxThreadsPerSM\": 2048, \"maxCtasPerSM\": 32, \"smClockRateKHz\": 1, "
        "\"memClockRateKHz\": 1, \"l2CacheSize\": 1, \"totalGlobalMem\": 1}";
    struct conv c = { .n = 2, .c = 4, .h = 5, .w = 6, .o = 8, .kh = 3, .kw = 3 };
    desc config[16];
    setup(&c);
    desc d = make(&c, CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR), p = make(&c, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    set(d, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, sizeof device - 1, device);
    done(d);
    int n = ranking(&c, graph_of(&c, (cudnnPointwiseMode_t)0), CUDNN_HEUR_MODE_FALLBACK, config);
    assert_int_equal(n, 1);
    set_desc(p, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, d);
    set_desc(p, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config[0]);
    assert_int_equal(execute(&c, done(p), NULL, 4), CUDNN_STATUS_BAD_PARAM);
    drop(&c);
}

/* ---- the calls of before
 * ------------------------------------------------------------------------------------------- */

static cudnnStatus_t legacy_run(struct conv *c, size_t bytes)
{
    cudnnTensorDescriptor_t x, y;
    cudnnFilterDescriptor_t w;
    cudnnConvolutionDescriptor_t d;
    cudnnTensorFormat_t order = c->nchw ? CUDNN_TENSOR_NCHW : CUDNN_TENSOR_NHWC;
    const float one = 1;
#define FOUR(d) (int)(d)[0], (int)(d)[1], (int)(d)[2], (int)(d)[3]
    calls.cudnnCreateTensorDescriptor(&x), calls.cudnnCreateTensorDescriptor(&y);
    calls.cudnnCreateFilterDescriptor(&w), calls.cudnnCreateConvolutionDescriptor(&d);
    assert_int_equal(calls.cudnnSetTensor4dDescriptor(x, order, c->type, FOUR(c->dim[X])), 0);
    assert_int_equal(calls.cudnnSetTensor4dDescriptor(y, order, c->type, FOUR(c->dim[Y])), 0);
    assert_int_equal(calls.cudnnSetFilter4dDescriptor(w, c->type, order, FOUR(c->dim[W])), 0);
    int pad = (int)c->pad, stride = (int)c->stride, dilation = (int)c->dilation;
    assert_int_equal(calls.cudnnSetConvolution2dDescriptor(d, pad, pad, stride, stride, dilation, dilation,
                                                           CUDNN_CROSS_CORRELATION, CUDNN_DATA_FLOAT),
                     0);
    assert_int_equal(calls.cudnnSetConvolutionGroupCount(d, (int)c->groups), 0);
    void *workspace = device_take(bytes);
    cudnnStatus_t status;
    if (c->direction == 0)
        status = calls.cudnnConvolutionForward(c->handle, &one, x, c->device[X], w, c->device[W], d,
                                               CUDNN_CONVOLUTION_FWD_ALGO_IMPLICIT_GEMM, workspace, bytes, &c->beta, y,
                                               c->device[Y]);
    else if (c->direction == 1)
        status = calls.cudnnConvolutionBackwardData(c->handle, &one, w, c->device[W], y, c->device[Y], d,
                                                    CUDNN_CONVOLUTION_BWD_DATA_ALGO_1, workspace, bytes, &c->beta, x,
                                                    c->device[X]);
    else
        status = calls.cudnnConvolutionBackwardFilter(c->handle, &one, x, c->device[X], y, c->device[Y], d,
                                                      CUDNN_CONVOLUTION_BWD_FILTER_ALGO_1, workspace, bytes, &c->beta,
                                                      w, c->device[W]);
    assert_int_equal(calls.cudaStreamSynchronize(c->stream), 0);
    calls.cudaFree(workspace);
    calls.cudnnDestroyTensorDescriptor(x), calls.cudnnDestroyTensorDescriptor(y);
    calls.cudnnDestroyFilterDescriptor(w), calls.cudnnDestroyConvolutionDescriptor(d);
    return status;
}

static void legacy(void **state)
{
    (void)state;
    for (int d = 0; d < 3; d++)
        for (int nchw = 0; nchw < 2; nchw++) {
            struct conv c = { .direction = d,
                              .nchw = nchw,
                              .n = 2,
                              .c = 6,
                              .h = 7,
                              .w = 8,
                              .o = 9,
                              .kh = 3,
                              .kw = 2,
                              .groups = 3,
                              .stride = 2,
                              .pad = 1,
                              .pad_end = 1,
                              .beta = 1 };
            setup(&c);
            assert_int_equal(legacy_run(&c, 16), CUDNN_STATUS_BAD_PARAM); /* workspace */
            assert_int_equal(legacy_run(&c, 1 << 16), 0);
            assert_true(wrong(&c, 1) == 0);
            drop(&c);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(directions),   cmocka_unit_test(chains),
                                        cmocka_unit_test(other_graphs), cmocka_unit_test(any_order),
                                        cmocka_unit_test(refused_runs), cmocka_unit_test(descriptions),
                                        cmocka_unit_test(legacy) };
    return simulated_main("libcudnn.so.9", tests);
}
#else
int main(void) { return simulated_absent(); }
#endif
