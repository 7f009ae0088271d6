/* quantize.c - real numbers as whole numbers of 8 bits and back, symmetric around 0: one scale for all, or one for each
 * index of an axis. */
#include "../op.h"
#include <string.h>

static qn_dtype scale_dtype(qn_dtype dtype) { return dtype == QN_F64 ? QN_F64 : QN_F32; }

static qn_status check_scale(const struct qn__node *x, const struct qn__node *scale,
                             const struct qn__quantize_attr *attr, qn_dtype dtype, qn_error *err)
{
    if (!qn_dtype_is_float(dtype))
        return qn__fail(err, 2202, NULL, "%s; expected F32, F64, BF16 or F16", qn_dtype_name(dtype));
    if (scale->dtype != scale_dtype(dtype))
        return qn__fail(err, 2202, NULL, "scale of %s; expected %s", qn_dtype_name(scale->dtype),
                        qn_dtype_name(scale_dtype(dtype)));
    if (attr->axis < -1 || attr->axis >= x->rank)
        return qn__fail(err, 2204, NULL, "axis %d of rank %d; expected 0..rank-1, or -1 for one scale", attr->axis,
                        x->rank);
    bool fits = attr->axis < 0 ? scale->count == 1 && scale->rank <= 1
                               : scale->rank == 1 && scale->dim[0] == x->dim[attr->axis];
    if (fits) return QN_OK;
    return qn__fail(err, 2201, NULL, "scale is %s; expected one number%s", qn__dims_show(scale->rank, scale->dim).s,
                    attr->axis < 0 ? "" : " for each index of the axis");
}

static qn_status infer_quantize(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    QN_TRY(check_scale(x[0], x[1], y->attr, x[0]->dtype, err));
    QN_TRY(qn__infer_like(x, y, err));
    y->dtype = QN_I8;
    return QN_OK;
}

static qn_status infer_dequantize(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    const struct qn__quantize_attr *attr = y->attr;
    if (x[0]->dtype != QN_I8) return qn__fail(err, 2202, NULL, "%s; expected I8", qn_dtype_name(x[0]->dtype));
    QN_TRY(check_scale(x[0], x[1], attr, (qn_dtype)attr->dtype, err));
    QN_TRY(qn__infer_like(x, y, err));
    y->dtype = (qn_dtype)attr->dtype;
    return QN_OK;
}

/* Only the scale has a gradient: sum of dy q. */
static void vjp_dequantize(qn_graph *g, const struct qn__node *y, qn_t self, qn_t dy, qn_t *dx)
{
    (void)self;
    const struct qn__quantize_attr *attr = y->attr;
    qn_t q = qn__in(y, 0), scale = qn__in(y, 1);
    struct qn__node s = *qn__at(g, scale);
    qn_t product = qn_mul(g, qn_cast(g, dy, s.dtype), qn_cast(g, q, s.dtype));
    uint32_t axes = (1u << y->rank) - 1;
    if (attr->axis >= 0) axes &= ~QN_AXIS(attr->axis);
    dx[1] = qn_reshape(g, qn_sum(g, product, axes, false), s.rank, s.dim);
}

const struct qn__op qn__op_quantize_int8 = {
    .name = "quantize_int8",
    .infer = infer_quantize,
    .cost = qn__cost_each,
    .attr_size = sizeof(struct qn__quantize_attr),
    .flat = true,
    .no_gradient = "its derivative is zero almost everywhere",
};
const struct qn__op qn__op_dequantize_int8 = {
    .name = "dequantize_int8",
    .infer = infer_dequantize,
    .vjp = vjp_dequantize,
    .cost = qn__cost_each,
    .attr_size = sizeof(struct qn__quantize_attr),
};

static struct qn__quantize_attr attr_of(int axis, qn_dtype dtype)
{
    struct qn__quantize_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.axis = axis;
    attr.dtype = (int32_t)dtype;
    return attr;
}

qn_t qn_quantize_int8(qn_graph *g, qn_t x, qn_t scale, int axis)
{
    struct qn__quantize_attr attr = attr_of(axis, QN_I8);
    return qn__node(g, QN_OP_quantize_int8, (qn_t[]){ x, scale }, 2, &attr);
}

qn_t qn_dequantize_int8(qn_graph *g, qn_t q, qn_t scale, int axis, qn_dtype dtype)
{
    struct qn__quantize_attr attr = attr_of(axis, dtype);
    return qn__node(g, QN_OP_dequantize_int8, (qn_t[]){ q, scale }, 2, &attr);
}

qn_t qn_scale_int8(qn_graph *g, qn_t x, int axis)
{
    int rank = qn_rank(g, x);
    if (axis < -1 || axis >= rank)
        return qn__graph_fail(g, 2204, "scale_int8", "axis %d of rank %d; expected 0..rank-1, or -1 for one scale",
                              axis, rank);
    uint32_t axes = (1u << rank) - 1;
    if (axis >= 0) axes &= ~QN_AXIS(axis);
    qn_t most = qn_reduce_max(g, qn_abs(g, qn_cast(g, x, scale_dtype(qn_dtype_of(g, x)))), axes, false);
    return qn_scale(g, axis < 0 ? qn_reshape(g, most, 1, (int64_t[]){ 1 }) : most, 1.0 / 127);
}
