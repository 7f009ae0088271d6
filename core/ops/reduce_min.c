/* reduce_min.c - smallest element over any axes. */
#include "../op.h"

/* dx = dy where x equals the result, divided evenly among equals. Where the smallest element is unique this is the
 * gradient; at a tie it is the mean of the one-sided choices, and the shares add up to dy. Nothing equals NaN: the
 * gradient of a NaN result is zero. */
static void vjp(qn_graph *g, const struct qn__node *y, qn_t self, qn_t dy, qn_t *dx)
{
    const struct qn__reduce_attr *attr = y->attr;
    struct qn__node x = *qn__at(g, qn__in(y, 0));
    int64_t kept[QN_MAX_DIMS];
    for (int i = 0; i < x.rank; i++) kept[i] = attr->axes >> i & 1 ? 1 : x.dim[i];
    qn_t chosen = qn_eq(g, qn__in(y, 0), qn_reshape(g, self, x.rank, kept));
    qn_t share = qn_div(g, qn_reshape(g, dy, x.rank, kept), qn_sum(g, qn_cast(g, chosen, y->dtype), attr->axes, true));
    dx[0] = qn_where(g, chosen, share, qn_scalar(g, y->dtype, 0));
}

const struct qn__op qn__op_reduce_min = { .name = "reduce_min",
                                          .infer = qn__infer_extreme,
                                          .vjp = vjp,
                                          .cost = qn__cost_each,
                                          .attr_size = sizeof(struct qn__reduce_attr) };

qn_t qn_reduce_min(qn_graph *g, qn_t x, uint32_t axes, bool keep)
{
    if (axes == QN_ALL_AXES) axes = (1u << qn_rank(g, x)) - 1;
    return qn__node(g, QN_OP_reduce_min, &x, 1, &(struct qn__reduce_attr){ axes, keep });
}
