/* scatter_add.c - y[.., index[i], ..] += x[.., i, ..] from zero, in index order; the reverse of gather. */
#include "../op.h"
#include <string.h>

/* y.dim = x.dim with `size` in the place of index.dim */
static qn_status infer(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    const struct qn__axis_attr *attr = y->attr;
    int axis = attr->axis, n = x[1]->rank, rank = x[0]->rank - n + 1;
    if (!qn_dtype_is_float(x[0]->dtype))
        return qn__fail(err, 2202, NULL, "%s; expected F32, F64, BF16 or F16", qn_dtype_name(x[0]->dtype));
    if (x[1]->dtype != QN_I32 && x[1]->dtype != QN_I64)
        return qn__fail(err, 2202, NULL, "index of %s; expected I32 or I64", qn_dtype_name(x[1]->dtype));
    if (axis < 0 || axis >= rank)
        return qn__fail(err, 2204, NULL, "axis %d of rank %d; expected 0..rank-1", axis, rank);
    if (rank > QN_MAX_DIMS) return qn__fail(err, 2203, NULL, "rank %d; expected at most %d", rank, QN_MAX_DIMS);
    if (memcmp(x[0]->dim + axis, x[1]->dim, (size_t)n * sizeof x[0]->dim[0]) != 0)
        return qn__fail(err, 2201, NULL, "operands do not fit; expected the dims of the index from axis %d on", axis);
    if (attr->size < 0 || (attr->size == 0 && x[1]->count))
        return qn__fail(err, 2204, NULL, "size %lld; expected at least 1", (long long)attr->size);
    y->dtype = x[0]->dtype;
    y->rank = rank;
    for (int i = 0; i < axis; i++) y->dim[i] = x[0]->dim[i];
    y->dim[axis] = attr->size;
    for (int i = axis + n; i < x[0]->rank; i++) y->dim[i - n + 1] = x[0]->dim[i];
    return QN_OK;
}

static void vjp(qn_graph *g, const struct qn__node *y, qn_t self, qn_t dy, qn_t *dx)
{
    (void)self;
    const struct qn__axis_attr *attr = y->attr;
    dx[0] = qn_gather(g, dy, qn__in(y, 1), attr->axis);
}

const struct qn__op qn__op_scatter_add = {
    .name = "scatter_add", .infer = infer, .vjp = vjp, .cost = qn__cost_each, .attr_size = sizeof(struct qn__axis_attr)
};

qn_t qn_scatter_add(qn_graph *g, qn_t x, qn_t index, int axis, int64_t size)
{
    struct qn__axis_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.axis = axis < 0 ? axis + qn_rank(g, x) - qn_rank(g, index) + 1 : axis;
    attr.size = size;
    return qn__node(g, QN_OP_scatter_add, (qn_t[]){ x, index }, 2, &attr);
}
