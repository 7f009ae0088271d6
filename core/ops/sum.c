/* sum.c - sums and means over any axes, and their counterpart of broadcasting. */
#include "../op.h"
#include <string.h>

/* dx = dy repeated along the summed axes */
static void vjp(qn_graph *g, const struct qn__node *y, qn_t self, qn_t dy, qn_t *dx)
{
    (void)self;
    struct qn__node x = *qn__at(g, qn__in(y, 0));
    dx[0] = qn_broadcast(g, qn__unreduced(g, y, dy), x.rank, x.dim);
}

const struct qn__op qn__op_sum = { .name = "sum",
                                   .infer = qn__infer_reduce,
                                   .vjp = vjp,
                                   .cost = qn__cost_each,
                                   .attr_size = sizeof(struct qn__reduce_attr),
                                   .layout = QN_LAYOUT_REDUCE };

qn_t qn_sum(qn_graph *g, qn_t x, uint32_t axes, bool keep) { return qn__reduce(g, QN_OP_sum, x, axes, keep); }

qn_t qn_mean(qn_graph *g, qn_t x, uint32_t axes, bool keep)
{
    qn_t y = qn_sum(g, x, axes, keep);
    int64_t n = qn_count(g, x), m = qn_count(g, y);
    return qn_scale(g, y, n && m ? (double)m / (double)n : 0);
}
qn_t qn_sum_all(qn_graph *g, qn_t x) { return qn_sum(g, x, QN_ALL_AXES, false); }
qn_t qn_mean_all(qn_graph *g, qn_t x) { return qn_mean(g, x, QN_ALL_AXES, false); }

qn_t qn_sum_to(qn_graph *g, qn_t x, int rank, const int64_t *dims)
{
    if (qn__failed(g)) return (qn_t){ 0 };
    struct qn__node from = *qn__at(g, x);
    int64_t dim[QN_MAX_DIMS];
    int joint;
    if (rank > from.rank || !qn__broadcast_dims(&joint, dim, from.rank, from.dim, rank, dims) ||
        memcmp(dim, from.dim, (size_t)from.rank * sizeof dim[0]) != 0)
        return qn__graph_fail(g, 2201, "sum_to", "%s to %s; expected a shape that broadcasts to the operand's",
                              qn__dims_show(from.rank, from.dim).s, qn__dims_show(rank, dims).s);
    uint32_t axes = 0;
    for (int i = 0; i < from.rank; i++)
        if (i < from.rank - rank || (dims[i - (from.rank - rank)] == 1 && from.dim[i] != 1)) axes |= QN_AXIS(i);
    if (axes) x = qn_sum(g, x, axes, true);
    return qn_rank(g, x) == rank ? x : qn_reshape(g, x, rank, dims);
}
