/* gather.c - y[.., i, ..] = x[.., index[i], ..] along one axis. */
#include "../op.h"
#include <string.h>

/* y.dim = x.dim with index.dim in the place of the axis */
static qn_status infer(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    const struct qn__axis_attr *attr = y->attr;
    int axis = attr->axis, rank = x[0]->rank, n = x[1]->rank;
    if (x[1]->dtype != QN_I32 && x[1]->dtype != QN_I64)
        return qn__fail(err, 2202, NULL, "index of %s; expected I32 or I64", qn_dtype_name(x[1]->dtype));
    if (axis < 0 || axis >= rank)
        return qn__fail(err, 2204, NULL, "axis %d of rank %d; expected 0..rank-1", axis, rank);
    if (rank - 1 + n > QN_MAX_DIMS)
        return qn__fail(err, 2203, NULL, "rank %d; expected at most %d", rank - 1 + n, QN_MAX_DIMS);
    if (x[0]->dim[axis] == 0 && x[1]->count)
        return qn__fail(err, 2203, NULL, "axis %d is empty; expected at least one element to choose from", axis);
    y->dtype = x[0]->dtype;
    y->rank = rank - 1 + n;
    for (int i = 0; i < axis; i++) y->dim[i] = x[0]->dim[i];
    for (int i = 0; i < n; i++) y->dim[axis + i] = x[1]->dim[i];
    for (int i = axis + 1; i < rank; i++) y->dim[i - 1 + n] = x[0]->dim[i];
    return QN_OK;
}

static void vjp(qn_graph *g, const struct qn__node *y, qn_t self, qn_t dy, qn_t *dx)
{
    (void)self;
    const struct qn__axis_attr *attr = y->attr;
    int64_t size = qn_dim(g, qn__in(y, 0), attr->axis);
    dx[0] = qn_scatter_add(g, dy, qn__in(y, 1), attr->axis, size);
}

/* Only what the index names is read. */
static struct qn__cost cost(const struct qn__node *const *x, const struct qn__node *y)
{
    return (struct qn__cost){ 0, 2 * (double)y->count * (double)qn_dtype_size(y->dtype) +
                                     (double)x[1]->count * (double)qn_dtype_size(x[1]->dtype) };
}

const struct qn__op qn__op_gather = {
    .name = "gather", .infer = infer, .vjp = vjp, .cost = cost, .attr_size = sizeof(struct qn__axis_attr)
};

qn_t qn_gather(qn_graph *g, qn_t x, qn_t index, int axis)
{
    struct qn__axis_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.axis = axis < 0 ? axis + qn_rank(g, x) : axis;
    return qn__node(g, QN_OP_gather, (qn_t[]){ x, index }, 2, &attr);
}
