/* argmax.c - where along an axis the largest element is. */
#include "../op.h"

static qn_status infer(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    const struct qn__reduce_attr *attr = y->attr;
    QN_TRY(qn__infer_extreme(x, y, err));
    for (int i = 0; i < x[0]->rank; i++)
        if ((attr->axes >> i & 1) && x[0]->dim[i] > INT32_MAX)
            return qn__fail(err, 2203, NULL, "axis of %lld elements; expected at most %d", (long long)x[0]->dim[i],
                            INT32_MAX);
    y->dtype = QN_I32;
    return QN_OK;
}

const struct qn__op qn__op_argmax = { .name = "argmax",
                                      .infer = infer,
                                      .no_gradient = "its result is an index",
                                      .cost = qn__cost_each,
                                      .attr_size = sizeof(struct qn__reduce_attr) };

qn_t qn_argmax(qn_graph *g, qn_t x, int axis, bool keep)
{
    if (qn__failed(g)) return (qn_t){ 0 };
    int rank = qn_rank(g, x), at = axis < 0 ? axis + rank : axis;
    if (at < 0 || at >= rank)
        return qn__graph_fail(g, 2204, "argmax", "axis %d of rank %d; expected -rank..rank-1", axis, rank);
    return qn__node(g, QN_OP_argmax, &x, 1, &(struct qn__reduce_attr){ QN_AXIS(at), keep });
}
