/* dnn_graph.c - convolutions as graphs of cuDNN's backend API: building them, choosing an engine, running it.
 *
 *   x, w -> convolution -> [+ bias] -> [relu] -> y        values between the operations are virtual, in f32
 *
 * A descriptor once finalized never changes, and the library does not say for how long a plan looks at the descriptors
 * that it was made from: a plan keeps them all. */
#include "dnn_impl.h"
#include <string.h>

typedef cudnnBackendDescriptor_t desc;

/* Tensors of a graph; the numbers are their unique ids. */
enum { ID_X = 1, ID_W, ID_Y, ID_BIAS, ID_PRODUCT, ID_SUM };

enum { MAX_OWNED = 48, MAX_CONFIGS = 64, MAX_NOTES = 16, PACKS = 4 };

/* A list of descriptors under construction. The first call that fails is kept, later ones are no-ops. */
struct build {
    const struct dnn_calls *call;
    cudnnStatus_t status;
    const char *what;
    desc owned[MAX_OWNED];
    int n;
    int skip; /* good configurations to pass over */
};

/* One finalized set of addresses; a program has one per input slot. */
struct pack {
    struct qn__dnn_data data;
    desc desc;
};

struct qn__dnn_plan {
    struct qn__dnn *dnn;
    struct qn__dnn_engine engine;
    bool bias;
    struct build graph;
    desc plan;
    struct pack pack[PACKS];
    int n_pack; /* made so far; the oldest is replaced */
};

/* ---- building ---------------------------------------------------------------------------------------- */

static void note(struct build *b, cudnnStatus_t status, const char *what)
{
    if (b->status || !status) return;
    b->status = status;
    b->what = what;
}

static desc make(struct build *b, cudnnBackendDescriptorType_t type)
{
    desc d = NULL;
    if (b->status) return NULL;
    note(b, b->n < MAX_OWNED ? b->call->cudnnBackendCreateDescriptor(type, &d) : CUDNN_STATUS_INTERNAL_ERROR,
         "cudnnBackendCreateDescriptor");
    if (b->status) return NULL;
    return b->owned[b->n++] = d;
}

static void set(struct build *b, desc d, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, int64_t n,
                const void *values)
{
    if (!b->status) note(b, b->call->cudnnBackendSetAttribute(d, name, type, n, values), "cudnnBackendSetAttribute");
}

static void set_int(struct build *b, desc d, cudnnBackendAttributeName_t name, int64_t value)
{
    set(b, d, name, CUDNN_TYPE_INT64, 1, &value);
}
static void set_desc(struct build *b, desc d, cudnnBackendAttributeName_t name, desc value)
{
    set(b, d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value);
}
static void set_dtype(struct build *b, desc d, cudnnBackendAttributeName_t name, cudnnDataType_t value)
{
    set(b, d, name, CUDNN_TYPE_DATA_TYPE, 1, &value);
}
static void set_float(struct build *b, desc d, cudnnBackendAttributeName_t name, float value)
{
    set(b, d, name, CUDNN_TYPE_FLOAT, 1, &value);
}

static desc finish(struct build *b, desc d)
{
    if (!b->status) note(b, b->call->cudnnBackendFinalize(d), "cudnnBackendFinalize");
    return d;
}

static void drop_all(struct build *b)
{
    while (b->n > 0) b->call->cudnnBackendDestroyDescriptor(b->owned[--b->n]);
}

/* ---- the graph ---------------------------------------------------------------------------------------- */

static desc tensor(struct build *b, int64_t id, cudnnDataType_t dtype, bool nhwc, bool between, const int64_t d[4])
{
    int64_t plain[4] = { d[1] * d[2] * d[3], d[2] * d[3], d[3], 1 };
    int64_t last[4] = { d[1] * d[2] * d[3], 1, d[3] * d[1], d[1] };
    desc t = make(b, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    set_dtype(b, t, CUDNN_ATTR_TENSOR_DATA_TYPE, dtype);
    set(b, t, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, d);
    set(b, t, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, nhwc ? last : plain);
    set_int(b, t, CUDNN_ATTR_TENSOR_UNIQUE_ID, id);
    set_int(b, t, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, 16);
    if (between) set(b, t, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &between);
    return finish(b, t);
}

static desc geometry(struct build *b, const struct qn__dnn_conv *c)
{
    const int64_t stride[2] = { c->stride[0], c->stride[1] }, dilation[2] = { c->dilation[0], c->dilation[1] };
    const int64_t pad[2] = { c->pad[0], c->pad[1] }, pad_end[2] = { c->pad_end[0], c->pad_end[1] };
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    desc d = make(b, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    set_int(b, d, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, 2);
    set_dtype(b, d, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_DATA_FLOAT);
    set(b, d, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    set(b, d, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, pad);
    set(b, d, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, pad_end);
    set(b, d, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, dilation);
    set(b, d, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, stride);
    return finish(b, d);
}

/* The operation of each direction and its attributes: images, filters, results, geometry, and the two scales. */
static const struct {
    cudnnBackendDescriptorType_t type;
    cudnnBackendAttributeName_t x, w, y, geometry, alpha, beta;
} operations[] = {
    { CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
      CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
      CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
      CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA },
    { CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
      CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
      CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
      CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA },
    { CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
      CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
      CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
      CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA },
};

bool qn__dnn_fuses(const struct qn__dnn_conv *c)
{
    return c->direction == QN_DNN_FORWARD && c->bias && (c->act == 0 || c->act == QN_OP_relu);
}

static desc rectifier(struct build *b)
{
    const cudnnPointwiseMode_t mode = CUDNN_POINTWISE_RELU_FWD;
    const cudnnNanPropagation_t keep = CUDNN_PROPAGATE_NAN;
    desc d = make(b, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    set(b, d, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
    set_dtype(b, d, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_DATA_FLOAT);
    set(b, d, CUDNN_ATTR_POINTWISE_NAN_PROPAGATION, CUDNN_TYPE_NAN_PROPOGATION, 1, &keep);
    return finish(b, d);
}

static desc addition(struct build *b)
{
    const cudnnPointwiseMode_t mode = CUDNN_POINTWISE_ADD;
    desc d = make(b, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    set(b, d, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
    set_dtype(b, d, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_DATA_FLOAT);
    return finish(b, d);
}

/* y = f(x, other); other NULL for an activation. */
static desc pointwise(struct build *b, desc f, desc x, desc other, desc y)
{
    desc d = make(b, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    set_desc(b, d, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, f);
    set_desc(b, d, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x);
    if (other) set_desc(b, d, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, other);
    set_desc(b, d, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y);
    return finish(b, d);
}

static desc convolution(struct build *b, const struct qn__dnn_conv *c, desc x, desc w, desc y)
{
    int i = (int)c->direction;
    desc g = geometry(b, c), d = make(b, operations[i].type);
    set_desc(b, d, operations[i].x, x);
    set_desc(b, d, operations[i].w, w);
    set_desc(b, d, operations[i].y, y);
    set_desc(b, d, operations[i].geometry, g);
    set_float(b, d, operations[i].alpha, 1);
    set_float(b, d, operations[i].beta, 0);
    return finish(b, d);
}

static int operations_of(struct build *b, const struct qn__dnn_conv *c, desc *ops)
{
    cudnnDataType_t stored = CUDNN_DATA_FLOAT;
    dnn_dtype(c->dtype, &stored);
    const int64_t y_dim[4] = { c->n, c->o, c->oh, c->ow }, bias_dim[4] = { 1, c->o, 1, 1 };
    desc x = tensor(b, ID_X, stored, c->nhwc, false, (int64_t[]){ c->n, c->c, c->h, c->w });
    desc w = tensor(b, ID_W, stored, c->nhwc, false, (int64_t[]){ c->o, c->c / c->groups, c->kh, c->kw });
    desc y = tensor(b, ID_Y, stored, c->nhwc, false, y_dim), product = y, sum = y;
    int n = 0;
    if (c->bias) product = tensor(b, ID_PRODUCT, CUDNN_DATA_FLOAT, c->nhwc, true, y_dim);
    if (c->bias && c->act) sum = tensor(b, ID_SUM, CUDNN_DATA_FLOAT, c->nhwc, true, y_dim);
    ops[n++] = convolution(b, c, x, w, product);
    if (c->bias) {
        desc bias = tensor(b, ID_BIAS, stored, c->nhwc, false, bias_dim);
        ops[n++] = pointwise(b, addition(b), product, bias, sum);
    }
    if (c->bias && c->act) ops[n++] = pointwise(b, rectifier(b), sum, NULL, y);
    return n;
}

static desc graph_of(struct build *b, const struct qn__dnn *dnn, const struct qn__dnn_conv *c)
{
    desc ops[3];
    int64_t n = operations_of(b, c, ops);
    desc graph = make(b, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    set(b, graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, n, ops);
    if (dnn->handle) set(b, graph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &dnn->handle);
    return finish(b, graph);
}

/* ---- choosing an engine -------------------------------------------------------------------------------- */

static bool keeps_promises(uint32_t notes, qn_dtype dtype)
{
#define NOTE(name) (1u << CUDNN_NUMERICAL_NOTE_##name)
    uint32_t never = NOTE(NONDETERMINISTIC) | NOTE(DOWN_CONVERT_INPUTS) | NOTE(REDUCED_PRECISION_REDUCTION) |
                     NOTE(FFT) | NOTE(WINOGRAD) | NOTE(WINOGRAD_TILE_4x4) | NOTE(WINOGRAD_TILE_6x6) |
                     NOTE(WINOGRAD_TILE_13x13);
    if (dtype == QN_F32) never |= NOTE(TENSOR_CORE);
#undef NOTE
    return !(notes & never);
}

/* The engine of a configuration: its index and notes. An engine whose notes cannot be read, or with a note this code
 * does not know, counts as one that breaks every promise. */
static bool engine_of(const struct dnn_calls *call, desc config, struct qn__dnn_engine *e)
{
    desc engine = NULL;
    int64_t n = 0;
    cudnnBackendNumericalNote_t list[MAX_NOTES];
    *e = (struct qn__dnn_engine){ .index = -1 };
    if (call->cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINE_DESCRIPTOR, &engine)) return false;
    bool good = !call->cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                                                &n, &engine) &&
                !call->cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &n,
                                                &e->index) &&
                !call->cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                                                MAX_NOTES, &n, list) &&
                n <= MAX_NOTES;
    for (int64_t i = 0; good && i < n; i++) {
        good = list[i] < CUDNN_NUMERICAL_NOTE_TYPE_COUNT;
        if (good) e->notes |= 1u << list[i];
    }
    call->cudnnBackendDestroyDescriptor(engine);
    return good;
}

/* The configurations that the library ranks for a graph; 0 if it has none in that mode. */
static int rank(struct build *b, const struct qn__dnn *dnn, desc graph, cudnnBackendHeurMode_t mode, desc *config)
{
    int64_t n = 0;
    desc h = make(b, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    set_desc(b, h, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
    set(b, h, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    if (dnn->device) set_desc(b, h, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, dnn->device);
    finish(b, h);
    if (b->status) return 0;
    note(b,
         b->call->cudnnBackendGetAttribute(h, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, &n,
                                           NULL),
         "cudnnBackendGetAttribute");
    if (n > MAX_CONFIGS) n = MAX_CONFIGS;
    int made = 0;
    while (!b->status && made < n) {
        note(b, b->call->cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, &config[made]),
             "cudnnBackendCreateDescriptor");
        if (!b->status) made++;
    }
    if (made > 0 && !b->status)
        note(b,
             b->call->cudnnBackendGetAttribute(h, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, made,
                                               &n, config),
             "cudnnBackendGetAttribute");
    return made;
}

/* The configuration as something to run, if the engine takes the graph and `limit` bytes are enough; else NULL. */
static desc plan_of(const struct qn__dnn *dnn, desc config, size_t limit, size_t *workspace)
{
    desc plan = NULL;
    int64_t n = 0, bytes = 0;
    const struct dnn_calls *call = &dnn->call;
    if (call->cudnnBackendCreateDescriptor(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, &plan)) return NULL;
    bool good = dnn->handle ? !call->cudnnBackendSetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE,
                                                              1, &dnn->handle)
                            : !call->cudnnBackendSetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP,
                                                              CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &dnn->device);
    good = good &&
           !call->cudnnBackendSetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                                           1, &config) &&
           !call->cudnnBackendFinalize(plan) &&
           !call->cudnnBackendGetAttribute(plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &n,
                                           &bytes) &&
           bytes >= 0 && (size_t)bytes <= limit;
    if (good) {
        *workspace = (size_t)bytes;
        return plan;
    }
    call->cudnnBackendDestroyDescriptor(plan);
    return NULL;
}

/* Goes through the ranked configurations of one mode. With `out` the first good one becomes *out (its descriptors go to
 * b); else the good ones are listed from list[n] on. */
static int choose(struct build *b, const struct qn__dnn *dnn, desc graph, qn_dtype dtype, cudnnBackendHeurMode_t mode,
                  size_t limit, struct qn__dnn_engine *list, int n, int max, desc *out)
{
    desc config[MAX_CONFIGS];
    int ranked = rank(b, dnn, graph, mode, config);
    for (int i = 0; i < ranked && !b->status && n < max; i++) {
        struct qn__dnn_engine e;
        if (!engine_of(b->call, config[i], &e) || !keeps_promises(e.notes, dtype)) continue;
        desc plan = plan_of(dnn, config[i], limit, &e.workspace);
        if (plan && b->skip > 0) {
            b->skip--;
            b->call->cudnnBackendDestroyDescriptor(plan);
            continue;
        }
        if (!plan) continue;
        list[n++] = e;
        if (!out || b->n + 2 > MAX_OWNED) {
            b->call->cudnnBackendDestroyDescriptor(plan);
            continue;
        }
        b->owned[b->n++] = config[i];
        b->owned[b->n++] = *out = plan;
        config[i] = NULL;
    }
    for (int i = 0; i < ranked; i++)
        if (config[i]) b->call->cudnnBackendDestroyDescriptor(config[i]);
    return n;
}

/* "This graph is not supported" is an answer, not a failure. */
static bool refused(struct build *b)
{
    if (CUDNN_STATUS_CATEGORY(b->status) != CUDNN_STATUS_NOT_SUPPORTED) return false;
    b->status = CUDNN_STATUS_SUCCESS;
    return true;
}

/* The engines of the first mode that has any: the ranking, else the list of those that always work. */
static int search(struct build *b, const struct qn__dnn *dnn, const struct qn__dnn_conv *c, size_t limit,
                  struct qn__dnn_engine *list, int max, desc *out)
{
    static const cudnnBackendHeurMode_t modes[] = { CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_FALLBACK };
    desc graph = graph_of(b, dnn, c);
    int n = 0;
    for (int i = 0; i < 2 && n == 0 && !refused(b) && !b->status; i++) {
        n = choose(b, dnn, graph, c->dtype, modes[i], limit, list, 0, max, out);
        if (refused(b)) n = 0;
    }
    return n;
}

qn_status qn__dnn_engines(struct qn__dnn *dnn, const struct qn__dnn_conv *conv, size_t limit,
                          struct qn__dnn_engine *engine, int max, int *n, qn_error *err)
{
    *n = 0;
    QN_TRY(qn__dnn_open(dnn, NULL, err));
    struct build b = { .call = &dnn->call };
    *n = search(&b, dnn, conv, limit, engine, max, NULL);
    drop_all(&b);
    return b.status ? qn__dnn_check(b.status, b.what, NULL, err) : QN_OK;
}

/* ---- plans --------------------------------------------------------------------------------------------- */

qn_status qn__dnn_plan(struct qn__dnn_plan **out, struct qn__dnn *dnn, const struct qn__dnn_conv *conv, size_t limit,
                       const struct qn__step *step, qn_error *err)
{
    return qn__dnn_plan_at(out, dnn, conv, limit, 0, step, err);
}

qn_status qn__dnn_plan_at(struct qn__dnn_plan **out, struct qn__dnn *dnn, const struct qn__dnn_conv *conv, size_t limit,
                          int place, const struct qn__step *step, qn_error *err)
{
    *out = NULL;
    QN_TRY(qn__dnn_open(dnn, step, err));
    struct qn__dnn_plan *p = qn__calloc(&qn__std_alloc, 1, sizeof *p);
    if (!p) return qn__nomem(err, "plan of a convolution", sizeof *p);
    p->dnn = dnn;
    p->bias = conv->bias;
    p->graph.call = &dnn->call;
    p->graph.skip = place;
    int n = search(&p->graph, dnn, conv, limit, &p->engine, 1, &p->plan);
    cudnnStatus_t status = p->graph.status;
    const char *what = p->graph.what;
    if (n == 0 || !p->plan)
        qn__dnn_plan_free(p);
    else
        *out = p;
    return status ? qn__dnn_check(status, what, step, err) : QN_OK;
}

void qn__dnn_plan_free(struct qn__dnn_plan *p)
{
    if (!p) return;
    for (int i = 0; i < PACKS; i++)
        if (p->pack[i].desc) p->dnn->call.cudnnBackendDestroyDescriptor(p->pack[i].desc);
    drop_all(&p->graph);
    qn__free(&qn__std_alloc, p, sizeof *p);
}

struct qn__dnn_engine qn__dnn_plan_engine(const struct qn__dnn_plan *p) { return p->engine; }

/* ---- running ------------------------------------------------------------------------------------------- */

static bool same_data(const struct qn__dnn_data *a, const struct qn__dnn_data *b)
{
    return a->x == b->x && a->w == b->w && a->y == b->y && a->bias == b->bias && a->workspace == b->workspace;
}

static qn_status make_pack(struct qn__dnn_plan *p, const struct qn__dnn_data *d, desc *out, const struct qn__step *step,
                           qn_error *err)
{
    struct build b = { .call = &p->dnn->call };
    int64_t id[4] = { ID_X, ID_W, ID_Y, ID_BIAS }, n = p->bias ? 4 : 3;
    void *address[4] = { d->x, d->w, d->y, d->bias }, *workspace = d->workspace;
    desc made = make(&b, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    set(&b, made, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, n, address);
    set(&b, made, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, n, id);
    set(&b, made, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
    finish(&b, made);
    if (b.status)
        drop_all(&b);
    else
        *out = made;
    return b.status ? qn__dnn_check(b.status, b.what, step, err) : QN_OK;
}

qn_status qn__dnn_run(struct qn__dnn_plan *p, const struct qn__dnn_data *d, const struct qn__step *step, qn_error *err)
{
    struct pack *pack = NULL;
    for (int i = 0; i < PACKS && i < p->n_pack; i++)
        if (p->pack[i].desc && same_data(&p->pack[i].data, d)) pack = &p->pack[i];
    if (!pack) {
        pack = &p->pack[p->n_pack++ % PACKS];
        if (pack->desc) p->dnn->call.cudnnBackendDestroyDescriptor(pack->desc);
        *pack = (struct pack){ .data = *d };
        QN_TRY(make_pack(p, d, &pack->desc, step, err));
    }
    return qn__dnn_check(p->dnn->call.cudnnBackendExecute(p->dnn->handle, p->plan, pack->desc), "cudnnBackendExecute",
                         step, err);
}
