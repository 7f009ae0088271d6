/* dnn_desc.cpp - descriptors of the simulated cuDNN's backend API: which attributes each kind has, of what type and how
 * many values. What they mean together is looked at when a descriptor is finalized (dnn_graph.cpp). */
#include "dnn.h"
#include <stdlib.h>
#include <string.h>

using namespace dnn;

/* ---- what may be set ------------------------------------------------------------------------------------------- */

enum { ONE = 1, MANY = 0 };
static const struct Rule {
    int kind, name, type, count;
} rules[] = {
    { CUDNN_BACKEND_TENSOR_DESCRIPTOR, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, ONE },
    { CUDNN_BACKEND_TENSOR_DESCRIPTOR, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, MANY },
    { CUDNN_BACKEND_TENSOR_DESCRIPTOR, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, MANY },
    { CUDNN_BACKEND_TENSOR_DESCRIPTOR, CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, ONE },
    { CUDNN_BACKEND_TENSOR_DESCRIPTOR, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, ONE },
    { CUDNN_BACKEND_TENSOR_DESCRIPTOR, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, ONE },
    { CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, ONE },
    { CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, ONE },
    { CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, CUDNN_TYPE_INT64, ONE },
    { CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, MANY },
    { CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, MANY },
    { CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, MANY },
    { CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, MANY },
    { CUDNN_BACKEND_POINTWISE_DESCRIPTOR, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, ONE },
    { CUDNN_BACKEND_POINTWISE_DESCRIPTOR, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, ONE },
    { CUDNN_BACKEND_POINTWISE_DESCRIPTOR, CUDNN_ATTR_POINTWISE_NAN_PROPAGATION, CUDNN_TYPE_NAN_PROPOGATION, ONE },
    { CUDNN_BACKEND_POINTWISE_DESCRIPTOR, CUDNN_ATTR_POINTWISE_RELU_LOWER_CLIP, CUDNN_TYPE_DOUBLE, ONE },
    { CUDNN_BACKEND_POINTWISE_DESCRIPTOR, CUDNN_ATTR_POINTWISE_RELU_UPPER_CLIP, CUDNN_TYPE_DOUBLE, ONE },
    { CUDNN_BACKEND_POINTWISE_DESCRIPTOR, CUDNN_ATTR_POINTWISE_RELU_LOWER_CLIP_SLOPE, CUDNN_TYPE_DOUBLE, ONE },
#define CONVOLUTION(kind, direction, x, w, y) \
    { kind, CUDNN_ATTR_OPERATION_CONVOLUTION_##direction##_ALPHA, CUDNN_TYPE_FLOAT, ONE }, \
        { kind, CUDNN_ATTR_OPERATION_CONVOLUTION_##direction##_BETA, CUDNN_TYPE_FLOAT, ONE }, \
        { kind, CUDNN_ATTR_OPERATION_CONVOLUTION_##direction##_CONV_DESC, CUDNN_TYPE_BACKEND_DESCRIPTOR, ONE }, \
        { kind, CUDNN_ATTR_OPERATION_CONVOLUTION_##direction##_##x, CUDNN_TYPE_BACKEND_DESCRIPTOR, ONE }, \
        { kind, CUDNN_ATTR_OPERATION_CONVOLUTION_##direction##_##w, CUDNN_TYPE_BACKEND_DESCRIPTOR, ONE }, \
    { \
        kind, CUDNN_ATTR_OPERATION_CONVOLUTION_##direction##_##y, CUDNN_TYPE_BACKEND_DESCRIPTOR, ONE \
    }
    CONVOLUTION(CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR, FORWARD, X, W, Y),
    CONVOLUTION(CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR, BWD_DATA, DX, W, DY),
    CONVOLUTION(CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR, BWD_FILTER, X, DW, DY),
#undef CONVOLUTION
    { CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR,
      CUDNN_TYPE_BACKEND_DESCRIPTOR, ONE },
    { CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR,
      ONE },
    { CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR,
      ONE },
    { CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, CUDNN_TYPE_BACKEND_DESCRIPTOR,
      ONE },
    { CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, ONE },
    { CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, MANY },
    { CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, ONE },
    { CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, CUDNN_TYPE_BACKEND_DESCRIPTOR, ONE },
    { CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, CUDNN_TYPE_BACKEND_DESCRIPTOR, ONE },
    { CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, ONE },
    { CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, CUDNN_TYPE_BACKEND_DESCRIPTOR,
      ONE },
    { CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, CUDNN_TYPE_BACKEND_DESCRIPTOR,
      ONE },
    { CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, MANY },
    { CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, MANY },
    { CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, ONE },
    { CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, MANY },
    { CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, CUDNN_ATTR_DEVICEPROP_HANDLE, CUDNN_TYPE_HANDLE, ONE },
};

static const Rule *rule_of(int kind, int name)
{
    for (const Rule &r : rules)
        if (r.kind == kind && r.name == name) return &r;
    return nullptr;
}

static bool kind_listed(int kind)
{
    switch (kind) {
    case CUDNN_BACKEND_ENGINE_DESCRIPTOR:
    case CUDNN_BACKEND_ENGINECFG_DESCRIPTOR: return true;
    default: break;
    }
    for (const Rule &r : rules)
        if (r.kind == kind) return true;
    return false;
}

static size_t bytes_of(int type)
{
    switch (type) {
    case CUDNN_TYPE_INT64: return sizeof(int64_t);
    case CUDNN_TYPE_DOUBLE: return sizeof(double);
    case CUDNN_TYPE_FLOAT: return sizeof(float);
    case CUDNN_TYPE_BOOLEAN: return sizeof(bool);
    case CUDNN_TYPE_CHAR: return sizeof(char);
    case CUDNN_TYPE_HANDLE:
    case CUDNN_TYPE_VOID_PTR:
    case CUDNN_TYPE_BACKEND_DESCRIPTOR: return sizeof(void *);
    default: return sizeof(int); /* enumerations */
    }
}

/* ---- what was set ------------------------------------------------------------------------------------------------ */

Descriptor *dnn::live(cudnnBackendDescriptor_t p)
{
    Descriptor *d = (Descriptor *)p;
    return d && d->magic == DESCRIPTOR ? d : nullptr;
}

void dnn::hold(Descriptor *d) { d->holders++; }

static void clear(Value *v)
{
    if (v->type == CUDNN_TYPE_BACKEND_DESCRIPTOR)
        for (int64_t i = 0; i < v->count; i++) let_go(((Descriptor **)v->data)[i]);
    free(v->data);
}

void dnn::let_go(Descriptor *d)
{
    if (--d->holders) return;
    for (int i = 0; i < d->n; i++) clear(&d->value[i]);
    d->magic = 0;
    delete d;
}

const Value *dnn::value_of(const Descriptor *d, int name)
{
    for (int i = 0; i < d->n; i++)
        if (d->value[i].name == name) return &d->value[i];
    return nullptr;
}

int64_t dnn::int_of(const Descriptor *d, int name, int64_t missing)
{
    const Value *v = value_of(d, name);
    if (!v) return missing;
    if (v->type == CUDNN_TYPE_INT64) return *(const int64_t *)v->data;
    return v->type == CUDNN_TYPE_BOOLEAN ? *(const bool *)v->data : *(const int *)v->data;
}

const Descriptor *dnn::part_of(const Descriptor *d, int name, int kind, int64_t i)
{
    const Value *v = value_of(d, name);
    if (!v || i >= v->count || !v->finalized) return nullptr;
    const Descriptor *part = ((Descriptor *const *)v->data)[i];
    return kind < 0 || part->kind == kind ? part : nullptr;
}

/* Takes hold of every descriptor of a list; false if one is none. */
static bool hold_all(Value *v)
{
    Descriptor **list = (Descriptor **)v->data;
    v->finalized = true;
    for (int64_t i = 0; i < v->count; i++)
        if (!live(list[i])) return false;
    for (int64_t i = 0; i < v->count; i++) {
        v->finalized = v->finalized && list[i]->finalized;
        hold(list[i]);
    }
    return true;
}

static cudnnStatus_t put(Descriptor *d, const Rule *r, int64_t count, const void *values)
{
    size_t bytes = (size_t)count * bytes_of(r->type);
    Value v = { r->name, r->type, count, malloc(bytes ? bytes : 1), true };
    if (!v.data) return fail(CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED, "attribute %d: no memory", r->name);
    memcpy(v.data, values, bytes);
    if (r->type == CUDNN_TYPE_BACKEND_DESCRIPTOR && !hold_all(&v)) {
        free(v.data);
        return fail(CUDNN_STATUS_BAD_PARAM, "attribute %d: not a descriptor", r->name);
    }
    if (r->name == CUDNN_ATTR_OPERATIONGRAPH_OPS && !v.finalized) {
        clear(&v);
        return fail(CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED, "an operation of a graph is not finalized");
    }
    for (int i = 0; i < d->n; i++)
        if (d->value[i].name == r->name) {
            clear(&d->value[i]);
            d->value[i] = v;
            return CUDNN_STATUS_SUCCESS;
        }
    d->value[d->n++] = v;
    return CUDNN_STATUS_SUCCESS;
}

/* ---- the library's calls ------------------------------------------------------------------------------------------- */

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t kind, cudnnBackendDescriptor_t *out)
{
    cudnnStatus_t status = CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED;
    if (injected("cudnnBackendCreateDescriptor", &status)) return status;
    if (!out) return fail(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "cudnnBackendCreateDescriptor: no place for it");
    if (!kind_listed(kind))
        return fail(CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED, "descriptors of kind %d are not simulated",
                    (int)kind);
    Descriptor *d = new Descriptor();
    d->magic = DESCRIPTOR;
    d->kind = kind;
    d->holders = 1;
    count_live(1);
    *out = d;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t p)
{
    cudnnStatus_t status = CUDNN_STATUS_SUCCESS;
    Descriptor *d = live(p);
    injected("cudnnBackendDestroyDescriptor", &status);
    if (!d) return fail(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "cudnnBackendDestroyDescriptor: not a descriptor");
    let_go(d);
    count_live(-1);
    return status;
}

cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t p, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t count, const void *values)
{
    cudnnStatus_t status = CUDNN_STATUS_INTERNAL_ERROR;
    if (injected("cudnnBackendSetAttribute", &status)) return status;
    Descriptor *d = live(p);
    if (!d) return fail(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "attribute %d: not a descriptor", (int)name);
    if (d->finalized) return fail(CUDNN_STATUS_BAD_PARAM, "attribute %d: the descriptor is finalized", (int)name);
    const Rule *r = rule_of(d->kind, name);
    if (!r) return fail(CUDNN_STATUS_BAD_PARAM, "descriptors of kind %d have no attribute %d", d->kind, (int)name);
    if (r->type != type) return fail(CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE, "attribute %d: type %d", (int)name, type);
    bool none = count == 0 && name == CUDNN_ATTR_OPERATIONGRAPH_OPS;
    if (!values || (count < 1 && !none) || (r->count == ONE && count != 1))
        return fail(CUDNN_STATUS_BAD_PARAM, "attribute %d: %lld values", (int)name, (long long)count);
    return put(d, r, count, values);
}

cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t const p, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t max, int64_t *count, void *out)
{
    cudnnStatus_t status = CUDNN_STATUS_INTERNAL_ERROR;
    if (injected("cudnnBackendGetAttribute", &status)) return status;
    Descriptor *d = live(p);
    if (!d) return fail(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "attribute %d: not a descriptor", (int)name);
    if (!d->finalized) return fail(CUDNN_STATUS_NOT_INITIALIZED, "attribute %d: not finalized", (int)name);
    if (is_made(d->kind, name)) return made_value(d, name, type, max, count, out);
    const Rule *r = rule_of(d->kind, name);
    if (!r) return fail(CUDNN_STATUS_BAD_PARAM, "descriptors of kind %d have no attribute %d", d->kind, (int)name);
    if (r->type != type) return fail(CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE, "attribute %d: type %d", (int)name, type);
    const Value *v = value_of(d, name);
    if (!v || type == CUDNN_TYPE_BACKEND_DESCRIPTOR)
        return fail(CUDNN_STATUS_NOT_SUPPORTED, "attribute %d: defaults and descriptors are not simulated", (int)name);
    int64_t n = max == 0 ? v->count : v->count < max ? v->count : max;
    if (count) *count = n;
    if (out && max > 0) memcpy(out, v->data, (size_t)n * bytes_of(type));
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t p)
{
    cudnnStatus_t status = CUDNN_STATUS_INTERNAL_ERROR;
    if (injected("cudnnBackendFinalize", &status)) return status;
    Descriptor *d = live(p);
    if (!d) return fail(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "cudnnBackendFinalize: not a descriptor");
    if (d->finalized) return fail(CUDNN_STATUS_BAD_PARAM, "cudnnBackendFinalize: it is finalized");
    status = finalize(d);
    d->finalized = status == CUDNN_STATUS_SUCCESS;
    return status;
}
