/* dnn_graph.cpp - what descriptors of the simulated cuDNN mean when they are finalized: tensors, convolutions, graphs,
 * the engines that are ranked for a graph, plans, and running a plan.
 *
 * Taken are the graphs whose engines the real library has ready for every geometry: a convolution in one of its three
 * directions, and forward also with a bias, or bias and relu, behind it. For any other graph the ranking is empty. The
 * ranking begins with the engines that a caller must not take if it wants repeatable f32: on tensor cores, in any order,
 * Winograd; their results are really worse here. One engine is listed that refuses when a plan is made of it. */
#include "dnn.h"
#include <stdlib.h>
#include <string.h>

using namespace dnn;

/* ---- tensors and convolutions ----------------------------------------------------------------------------------- */

static cudnnStatus_t finalize_tensor(Descriptor *d)
{
    const Value *dims = value_of(d, CUDNN_ATTR_TENSOR_DIMENSIONS), *strides = value_of(d, CUDNN_ATTR_TENSOR_STRIDES);
    int64_t align = int_of(d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, 0);
    if (!dims || !strides || dims->count != strides->count || dims->count > CUDNN_DIM_MAX)
        return fail(CUDNN_STATUS_BAD_PARAM, "tensor: as many strides as dimensions are needed, at most 8");
    Tensor *t = &d->tensor;
    t->type = (cudnnDataType_t)int_of(d, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_DATA_FLOAT);
    if (!size_of(t->type)) return fail(CUDNN_STATUS_NOT_SUPPORTED, "tensor: type %d is not simulated", (int)t->type);
    if (align < (int64_t)size_of(t->type) || (align & (align - 1)))
        return fail(CUDNN_STATUS_BAD_PARAM, "tensor: alignment %lld", (long long)align);
    if (dims->count != 4) return fail(CUDNN_STATUS_NOT_SUPPORTED, "tensor: only 4 dimensions are simulated");
    for (int i = 0; i < 4; i++) {
        t->dim[i] = ((const int64_t *)dims->data)[i];
        t->stride[i] = ((const int64_t *)strides->data)[i];
        if (t->dim[i] < 0 || t->stride[i] < 0) return fail(CUDNN_STATUS_BAD_PARAM, "tensor: negative dimension");
    }
    t->align = align;
    t->id = int_of(d, CUDNN_ATTR_TENSOR_UNIQUE_ID, 0);
    t->is_virtual = int_of(d, CUDNN_ATTR_TENSOR_IS_VIRTUAL, 0) != 0;
    return CUDNN_STATUS_SUCCESS;
}

/* Two numbers; 0 and 0 where they may be missing. */
static bool pair_of(const Descriptor *d, int name, bool needed, int64_t least, int64_t out[2])
{
    const Value *v = value_of(d, name);
    out[0] = out[1] = 0;
    if (!v) return !needed;
    if (v->count != 2) return false;
    memcpy(out, v->data, 2 * sizeof *out);
    return out[0] >= least && out[1] >= least;
}

static cudnnStatus_t finalize_geometry(Descriptor *d)
{
    int64_t end[2];
    Conv *c = &d->conv;
    bool good = int_of(d, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, 0) == 2 &&
                pair_of(d, CUDNN_ATTR_CONVOLUTION_DILATIONS, true, 1, c->dilation) &&
                pair_of(d, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, true, 1, c->stride) &&
                pair_of(d, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, false, 0, c->pad) &&
                pair_of(d, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, false, 0, end);
    if (!good) return fail(CUDNN_STATUS_BAD_PARAM, "convolution: geometry missing or out of range");
    c->flipped = int_of(d, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_CROSS_CORRELATION) == CUDNN_CONVOLUTION;
    if (int_of(d, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_DATA_FLOAT) != CUDNN_DATA_FLOAT)
        return fail(CUDNN_STATUS_NOT_SUPPORTED, "convolution: only sums in f32 are simulated");
    return CUDNN_STATUS_SUCCESS;
}

/* ---- operations --------------------------------------------------------------------------------------------------- */

static const struct {
    int kind, x, w, y, geometry, alpha, beta;
    Direction direction;
} operations[] = {
    { CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
      CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
      CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
      CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, FORWARD },
    { CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
      CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
      CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
      CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA, GRAD_X },
    { CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
      CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
      CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
      CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA, GRAD_W },
};

static float float_of(const Descriptor *d, int name, float missing)
{
    const Value *v = value_of(d, name);
    return v ? *(const float *)v->data : missing;
}

/* Rows of y under padding of both ends. */
static bool rows_fit(const Conv *c, const Descriptor *geometry, int i)
{
    const Value *end = value_of(geometry, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS);
    int64_t all = c->x.dim[2 + i] + c->pad[i] + (end ? ((const int64_t *)end->data)[i] : 0);
    int64_t window = c->dilation[i] * (c->w.dim[2 + i] - 1) + 1;
    return window <= all && c->y.dim[2 + i] == (all - window) / c->stride[i] + 1;
}

static cudnnStatus_t finalize_convolution(Descriptor *d)
{
    int k = 0;
    while (operations[k].kind != d->kind) k++;
    const Descriptor *x = part_of(d, operations[k].x, CUDNN_BACKEND_TENSOR_DESCRIPTOR),
                     *w = part_of(d, operations[k].w, CUDNN_BACKEND_TENSOR_DESCRIPTOR),
                     *y = part_of(d, operations[k].y, CUDNN_BACKEND_TENSOR_DESCRIPTOR),
                     *g = part_of(d, operations[k].geometry, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    if (!x || !w || !y || !g)
        return fail(CUDNN_STATUS_BAD_PARAM, "convolution: an operand is missing or not finalized");
    Conv *c = &d->conv;
    *c = g->conv;
    c->direction = operations[k].direction;
    c->x = x->tensor, c->w = w->tensor, c->y = y->tensor;
    c->alpha = float_of(d, operations[k].alpha, 1);
    c->beta = float_of(d, operations[k].beta, 0);
    if (!rows_fit(c, g, 0) || !rows_fit(c, g, 1))
        return fail(CUDNN_STATUS_BAD_PARAM, "convolution: size of the result");
    return examine(c);
}

/* Only what needs both operands is looked at here, as in the real library; sizes when an engine is looked for. */
static cudnnStatus_t finalize_pointwise(Descriptor *d)
{
    const Descriptor *f = part_of(d, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    if (d->n == 0) return CUDNN_STATUS_SUCCESS;
    if (!f) return fail(CUDNN_STATUS_BAD_PARAM, "pointwise: no function");
    bool two = int_of(f, CUDNN_ATTR_POINTWISE_MODE, -1) == CUDNN_POINTWISE_ADD;
    const int tensor = CUDNN_BACKEND_TENSOR_DESCRIPTOR;
    bool good = part_of(d, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, tensor) &&
                part_of(d, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, tensor) &&
                (!two || part_of(d, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, tensor));
    return good ? CUDNN_STATUS_SUCCESS : fail(CUDNN_STATUS_BAD_PARAM, "pointwise: an operand is missing");
}

/* ---- graphs ------------------------------------------------------------------------------------------------------- */

static const Tensor *tensor_of(const Descriptor *op, int name)
{
    const Descriptor *t = part_of(op, name, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    return t ? &t->tensor : nullptr;
}

static bool same_dims(const Tensor *a, const Tensor *b) { return memcmp(a->dim, b->dim, sizeof a->dim) == 0; }

/* The pointwise operation `op` on the value `from`; its result. NULL: another function or other sizes. */
static const Tensor *follow(const Descriptor *op, const Tensor *from, int mode, const Tensor **other)
{
    if (op->kind != CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR) return nullptr;
    const Descriptor *f = part_of(op, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    const Tensor *x = tensor_of(op, CUDNN_ATTR_OPERATION_POINTWISE_XDESC),
                 *y = tensor_of(op, CUDNN_ATTR_OPERATION_POINTWISE_YDESC);
    *other = tensor_of(op, CUDNN_ATTR_OPERATION_POINTWISE_BDESC);
    if (!f || !x || !y || int_of(f, CUDNN_ATTR_POINTWISE_MODE, -1) != mode) return nullptr;
    if (int_of(f, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_DATA_FLOAT) != CUDNN_DATA_FLOAT) return nullptr;
    for (int name = CUDNN_ATTR_POINTWISE_RELU_LOWER_CLIP; name <= CUDNN_ATTR_POINTWISE_RELU_LOWER_CLIP_SLOPE; name++)
        if (value_of(f, name)) return nullptr;
    if (x->id != from->id || !from->is_virtual || from->type != CUDNN_DATA_FLOAT || !same_dims(x, y)) return nullptr;
    return y;
}

/* A convolution, then perhaps a bias, then perhaps relu: c is filled. */
static bool match(const Descriptor *graph, Conv *c)
{
    const Value *ops = value_of(graph, CUDNN_ATTR_OPERATIONGRAPH_OPS);
    Descriptor *const *op = (Descriptor *const *)ops->data;
    bool first = false;
    for (const auto &row : operations) first = first || row.kind == op[0]->kind;
    if (!first || ops->count > 3) return false;
    *c = op[0]->conv;
    if (ops->count > 1 && c->direction != FORWARD) return false;
    const Tensor *out = &c->y, *bias = nullptr, *none = nullptr;
    if (ops->count > 1) {
        out = follow(op[1], out, CUDNN_POINTWISE_ADD, &bias);
        if (!out || bias->dim[0] != 1 || bias->dim[1] != c->y.dim[1] || bias->dim[2] != 1 || bias->dim[3] != 1)
            return false;
        c->has_bias = true;
        c->bias = *bias;
    }
    if (ops->count > 2) {
        out = follow(op[2], out, CUDNN_POINTWISE_RELU_FWD, &none);
        if (!out || none) return false;
        c->relu = true;
    }
    if (c->direction == FORWARD) c->y = *out;
    return true;
}

/* Types and layouts that engines take: one type throughout, images and filters packed, all in one order. */
static bool engines_take(const Conv *c)
{
    bool order = false;
    for (int nhwc = 0; nhwc < 2; nhwc++)
        order = order || (packed(&c->x, nhwc) && packed(&c->w, nhwc) && packed(&c->y, nhwc));
    if (!order || c->x.type != c->w.type || c->x.type != c->y.type) return false;
    if (c->x.is_virtual || c->w.is_virtual || c->y.is_virtual) return false;
    if (c->has_bias && (c->bias.type != c->x.type || c->bias.is_virtual || c->beta != 0)) return false;
    return c->x.dim[0] > 0 && c->x.dim[1] > 0 && c->y.dim[1] > 0;
}

static cudnnStatus_t finalize_graph(Descriptor *d)
{
    const Value *ops = value_of(d, CUDNN_ATTR_OPERATIONGRAPH_OPS),
                *handle = value_of(d, CUDNN_ATTR_OPERATIONGRAPH_HANDLE);
    if (!ops || ops->count == 0) return fail(CUDNN_STATUS_BAD_PARAM, "graph: no operations");
    d->handle = handle ? *(cudnnHandle_t *)handle->data : nullptr;
    if (handle && !handle_is_live(d->handle)) return fail(CUDNN_STATUS_NOT_INITIALIZED, "graph: not a handle");
    d->pattern = match(d, &d->conv) && engines_take(&d->conv);
    return CUDNN_STATUS_SUCCESS;
}

/* ---- engines -------------------------------------------------------------------------------------------------------- */

#define NOTE(name) (1u << CUDNN_NUMERICAL_NOTE_##name)

/* Numbers are those of no real engine. */
static int rank(const Conv *c, bool all, Engine *e)
{
    int n = 0;
    bool f32 = c->x.type == CUDNN_DATA_FLOAT;
    size_t scratch = 512 + span_of(&c->y) * size_of(c->y.type);
    if (all && f32) e[n++] = { 67, NOTE(TENSOR_CORE), 131, true, TF32 };
    if (all) e[n++] = { 20, NOTE(NONDETERMINISTIC) | (f32 ? 0 : NOTE(TENSOR_CORE)), 0, true, ANY_ORDER };
    if (all) e[n++] = { 12, NOTE(WINOGRAD) | NOTE(WINOGRAD_TILE_6x6), scratch, true, SHORT_SUMS };
    if (all && !f32) e[n++] = { 33, NOTE(REDUCED_PRECISION_REDUCTION), 0, true, SHORT_SUMS };
    if (all) e[n++] = { 41, f32 ? 0 : NOTE(TENSOR_CORE), 0, false, NONE };
    if (all) e[n++] = { 28, f32 ? 0 : NOTE(TENSOR_CORE), scratch, true, NONE };
    e[n++] = { 0, NOTE(STRICT_NAN_PROP), 0, true, NONE };
    return n;
}

static cudnnStatus_t finalize_heuristics(Descriptor *d)
{
    const Descriptor *g = part_of(d, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    bool described = part_of(d, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR) != nullptr;
    if (!g) return fail(CUDNN_STATUS_BAD_PARAM, "heuristics: no graph");
    int64_t mode = int_of(d, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_HEUR_MODE_A);
    if (mode < 0 || mode >= CUDNN_HEUR_MODES_COUNT)
        return fail(CUDNN_STATUS_BAD_PARAM, "heuristics: mode %d", (int)mode);
    d->conv = g->conv;
    d->handle = g->handle;
    d->described = described;
    if (!g->pattern || (!g->handle && !described)) return CUDNN_STATUS_SUCCESS; /* nothing is ranked */
    d->engines = rank(&d->conv, mode != CUDNN_HEUR_MODE_FALLBACK, d->engine);
    return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t finalize_plan(Descriptor *d)
{
    const Descriptor *config = part_of(d, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    const Value *handle = value_of(d, CUDNN_ATTR_EXECUTION_PLAN_HANDLE);
    if (!config) return fail(CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED, "plan: no configuration of an engine");
    d->described = part_of(d, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR) != nullptr;
    d->handle = handle ? *(cudnnHandle_t *)handle->data : nullptr;
    if (handle && !handle_is_live(d->handle)) return fail(CUDNN_STATUS_NOT_INITIALIZED, "plan: not a handle");
    if (!handle && !d->described) return fail(CUDNN_STATUS_BAD_PARAM, "plan: neither a handle nor a device");
    d->engine[0] = config->engine[0];
    d->conv = config->conv;
    if (!d->engine[0].plannable)
        return fail(CUDNN_STATUS_NOT_SUPPORTED_SHAPE, "plan: engine %d does not take this shape", d->engine[0].index);
    return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t finalize_pack(const Descriptor *d)
{
    const Value *ids = value_of(d, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS),
                *addresses = value_of(d, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
    if ((ids ? ids->count : 0) == (addresses ? addresses->count : 0)) return CUDNN_STATUS_SUCCESS;
    return fail(CUDNN_STATUS_BAD_PARAM, "addresses: as many as ids are needed");
}

/* The keys that the real library asks for. */
static cudnnStatus_t finalize_device(const Descriptor *d)
{
    static const char *const keys[] = { "deviceName",
                                        "deviceVer",
                                        "driverVer",
                                        "driverVersion",
                                        "cudaDeviceId",
                                        "pciDeviceId",
                                        "isTccDriver",
                                        "supportCoopLaunch",
                                        "warpSize",
                                        "maxThreadsPerBlock",
                                        "maxBlockSize",
                                        "maxGridSize",
                                        "regsPerBlock",
                                        "maxRegistersPerSM",
                                        "maxSharedMemoryPerBlock",
                                        "maxSharedMemoryPerBlockOptin",
                                        "reservedSharedMemoryPerBlock",
                                        "multiProcessorCount",
                                        "maxThreadsPerSM",
                                        "maxCtasPerSM",
                                        "smClockRateKHz",
                                        "memClockRateKHz",
                                        "l2CacheSize",
                                        "totalGlobalMem" };
    const Value *json = value_of(d, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION);
    if (!json) return fail(CUDNN_STATUS_NOT_INITIALIZED, "device: not described");
    std::string text((const char *)json->data, (size_t)json->count);
    for (const char *key : keys)
        if (text.find(std::string("\"") + key + "\":") == std::string::npos)
            return fail(CUDNN_STATUS_BAD_PARAM, "device: no %s", key);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t dnn::finalize(Descriptor *d)
{
    switch (d->kind) {
    case CUDNN_BACKEND_TENSOR_DESCRIPTOR: return finalize_tensor(d);
    case CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR: return finalize_geometry(d);
    case CUDNN_BACKEND_POINTWISE_DESCRIPTOR: return CUDNN_STATUS_SUCCESS;
    case CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR: return finalize_pointwise(d);
    case CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR: return finalize_graph(d);
    case CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR: return finalize_heuristics(d);
    case CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR: return finalize_plan(d);
    case CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR: return finalize_pack(d);
    case CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR: return finalize_device(d);
    case CUDNN_BACKEND_ENGINE_DESCRIPTOR:
        return fail(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "engines come from heuristics here");
    case CUDNN_BACKEND_ENGINECFG_DESCRIPTOR: return fail(CUDNN_STATUS_NOT_SUPPORTED, "so do their configurations");
    default: return finalize_convolution(d);
    }
}

/* ---- what is made ------------------------------------------------------------------------------------------------------ */

bool dnn::is_made(int kind, int name)
{
    return (kind == CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR && name == CUDNN_ATTR_ENGINEHEUR_RESULTS) ||
           (kind == CUDNN_BACKEND_ENGINECFG_DESCRIPTOR && name == CUDNN_ATTR_ENGINECFG_ENGINE) ||
           kind == CUDNN_BACKEND_ENGINE_DESCRIPTOR ||
           (kind == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR && name == CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE);
}

/* Puts what `from` knows of engine `which` into a descriptor that the caller has created for it. */
static bool hand_over(const Descriptor *from, int which, Descriptor *to, int kind)
{
    if (!to || to->kind != kind) return false;
    to->engine[0] = from->engine[which];
    to->engines = 1;
    to->conv = from->conv;
    to->handle = from->handle;
    to->described = from->described;
    to->finalized = true;
    return true;
}

static cudnnStatus_t hand_over_all(const Descriptor *d, int64_t max, int64_t *count, void *out, int kind)
{
    int64_t n = max == 0 ? d->engines : d->engines < max ? d->engines : max;
    if (count) *count = n;
    for (int64_t i = 0; out && max > 0 && i < n; i++)
        if (!hand_over(d, (int)i, live(((cudnnBackendDescriptor_t *)out)[i]), kind))
            return fail(CUDNN_STATUS_BAD_PARAM, "descriptor %d to be filled is none of its kind", (int)i);
    return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t notes_of(const Engine *e, int64_t max, int64_t *count, void *out)
{
    int64_t n = 0;
    for (int i = 0; i < CUDNN_NUMERICAL_NOTE_TYPE_COUNT; i++) {
        if (!(e->notes >> i & 1)) continue;
        if (out && n < max) ((cudnnBackendNumericalNote_t *)out)[n] = (cudnnBackendNumericalNote_t)i;
        n++;
    }
    if (count) *count = max && n > max ? max : n;
    return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t number(int64_t value, int type, int64_t max, int64_t *count, void *out)
{
    if (type != CUDNN_TYPE_INT64) return fail(CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE, "type %d", type);
    if (count) *count = 1;
    if (out && max > 0) *(int64_t *)out = value;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t dnn::made_value(const Descriptor *d, int name, int type, int64_t max, int64_t *count, void *out)
{
    bool descriptors = type == CUDNN_TYPE_BACKEND_DESCRIPTOR;
    switch (name) {
    case CUDNN_ATTR_ENGINEHEUR_RESULTS:
        if (!descriptors) break;
        return hand_over_all(d, max, count, out, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    case CUDNN_ATTR_ENGINECFG_ENGINE:
        if (!descriptors) break;
        return hand_over_all(d, max, count, out, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    case CUDNN_ATTR_ENGINE_GLOBAL_INDEX: return number(d->engine[0].index, type, max, count, out);
    case CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE:
        return number((int64_t)d->engine[0].workspace, type, max, count, out);
    case CUDNN_ATTR_ENGINE_NUMERICAL_NOTE:
        if (type != CUDNN_TYPE_NUMERICAL_NOTE) break;
        return notes_of(&d->engine[0], max, count, out);
    case CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE:
        if (type != CUDNN_TYPE_BEHAVIOR_NOTE) break;
        if (count) *count = 0;
        return CUDNN_STATUS_SUCCESS;
    default: return fail(CUDNN_STATUS_BAD_PARAM, "attribute %d is not simulated", name);
    }
    return fail(CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE, "attribute %d: type %d", name, type);
}

/* ---- running -------------------------------------------------------------------------------------------------------------- */

/* The address of a tensor, aligned as it promised; NULL and *status if there is none. */
static void *address_of(const Descriptor *pack, const Tensor *t, cudnnStatus_t *status)
{
    const Value *ids = value_of(pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS),
                *addresses = value_of(pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
    for (int64_t i = 0; ids && i < ids->count; i++) {
        if (((const int64_t *)ids->data)[i] != t->id) continue;
        void *p = ((void **)addresses->data)[i];
        if ((uintptr_t)p % (uintptr_t)t->align)
            *status = fail(CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER, "tensor %lld at %p", (long long)t->id, p);
        return p;
    }
    *status = fail(CUDNN_STATUS_BAD_PARAM, "no address for tensor %lld", (long long)t->id);
    return nullptr;
}

cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan, cudnnBackendDescriptor_t pack)
{
    cudnnStatus_t status = CUDNN_STATUS_EXECUTION_FAILED;
    if (injected("cudnnBackendExecute", &status)) return status;
    const Descriptor *p = live(plan), *v = live(pack);
    if (!handle_is_live(handle) || !p || !v || !p->finalized || !v->finalized ||
        p->kind != CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR || v->kind != CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR)
        return fail(CUDNN_STATUS_BAD_PARAM, "execute: a handle, a plan and addresses are needed, finalized");
    if (!p->handle || p->handle->device != handle->device)
        return fail(CUDNN_STATUS_BAD_PARAM, "execute: the plan is for %s",
                    p->handle ? "another device" : "a description");
    const Conv *c = &p->conv;
    const Value *w = value_of(v, CUDNN_ATTR_VARIANT_PACK_WORKSPACE);
    status = CUDNN_STATUS_SUCCESS;
    Addresses at = { address_of(v, &c->x, &status), address_of(v, &c->w, &status), address_of(v, &c->y, &status),
                     c->has_bias ? address_of(v, &c->bias, &status) : nullptr, w ? *(void **)w->data : nullptr };
    if (status) return status;
    if (p->engine[0].workspace && !at.workspace)
        return fail(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "execute: engine %d needs workspace", p->engine[0].index);
    return enqueue(handle->stream, "cudnnBackendExecute", c, &at, p->engine[0].workspace, p->engine[0].flaw);
}
