/* concat.c - operands one after the other along one axis. */
#include "../op.h"
#include <string.h>

static qn_status infer(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    const struct qn__axis_attr *attr = y->attr;
    int axis = attr->axis;
    if (y->n_in < 1) return qn__fail(err, 2204, NULL, "no operands; expected at least 1");
    if (axis < 0 || axis >= x[0]->rank)
        return qn__fail(err, 2204, NULL, "axis %d of rank %d; expected 0..rank-1", axis, x[0]->rank);
    QN_TRY(qn__infer_like(x, y, err));
    for (int i = 1; i < y->n_in; i++) {
        struct qn__node other = *x[i];
        if (other.dtype != y->dtype)
            return qn__fail(err, 2202, NULL, "%s and %s; expected one dtype", qn_dtype_name(y->dtype),
                            qn_dtype_name(other.dtype));
        int64_t size = other.rank == y->rank ? other.dim[axis] : 0;
        other.dim[axis] = y->dim[axis];
        if (!qn__same_dims(&other, y))
            return qn__fail(err, 2201, NULL, "operand %d does not fit; expected equal dims but for axis %d", i, axis);
        y->dim[axis] += size; /* fewer than 8 terms below 2^48 */
    }
    return QN_OK;
}

/* Each operand gets its slice of dy. */
static void vjp(qn_graph *g, const struct qn__node *y, qn_t self, qn_t dy, qn_t *dx)
{
    (void)self;
    const struct qn__axis_attr *attr = y->attr;
    int64_t begin[QN_MAX_DIMS] = { 0 };
    for (int i = 0; i < y->n_in; i++) {
        struct qn__node x = *qn__at(g, qn__in(y, i));
        dx[i] = qn_slice(g, dy, begin, x.dim);
        begin[attr->axis] += x.dim[attr->axis];
    }
}

const struct qn__op qn__op_concat = {
    .name = "concat", .infer = infer, .vjp = vjp, .cost = qn__cost_move, .attr_size = sizeof(struct qn__axis_attr)
};

/* More operands than a node can have are joined group by group, from the left. */
qn_t qn_concat(qn_graph *g, const qn_t *x, int n, int axis)
{
    if (qn__failed(g)) return (qn_t){ 0 };
    if (n < 1) return qn__graph_fail(g, 2204, "concat", "%d operands; expected at least 1", n);
    int rank = qn_rank(g, x[0]);
    struct qn__axis_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.axis = axis < 0 ? axis + rank : axis;
    qn_t part[QN_MAX_IN];
    int have = 0;
    for (int i = 0; i < n; i++) {
        if (have == QN_MAX_IN) {
            part[0] = qn__node(g, QN_OP_concat, part, have, &attr);
            have = 1;
        }
        part[have++] = x[i];
    }
    return qn__node(g, QN_OP_concat, part, have, &attr);
}
