/* broadcast.c - the operand repeated along dimensions of size 1, as NumPy's broadcast_to. */
#include "../op.h"
#include <string.h>

/* y's dims are given. */
static qn_status infer(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    int64_t dim[QN_MAX_DIMS];
    int rank;
    bool fits = y->rank >= x[0]->rank && y->rank <= QN_MAX_DIMS &&
                qn__broadcast_dims(&rank, dim, x[0]->rank, x[0]->dim, y->rank, y->dim) &&
                memcmp(dim, y->dim, (size_t)y->rank * sizeof dim[0]) == 0;
    if (!fits)
        return qn__fail(err, 2201, NULL, "to %s; expected dims that equal the operand's, or stand where it has 1",
                        qn__dims_show(y->rank < 0 || y->rank > QN_MAX_DIMS ? 0 : y->rank, y->dim).s);
    y->dtype = x[0]->dtype;
    return QN_OK;
}

static void vjp(qn_graph *g, const struct qn__node *y, qn_t self, qn_t dy, qn_t *dx)
{
    (void)self;
    struct qn__node x = *qn__at(g, qn__in(y, 0));
    dx[0] = qn_sum_to(g, dy, x.rank, x.dim);
}

const struct qn__op qn__op_broadcast = {
    .name = "broadcast", .infer = infer, .vjp = vjp, .cost = qn__cost_move, .layout = QN_LAYOUT_SAME
};

qn_t qn_broadcast(qn_graph *g, qn_t x, int rank, const int64_t *dims)
{
    if (qn__failed(g)) return (qn_t){ 0 };
    const struct qn__node *from = qn__at(g, x);
    if (from->op != QN_OP_none && from->rank == rank && memcmp(from->dim, dims, (size_t)rank * sizeof *dims) == 0)
        return x;
    if (rank < 0 || rank > QN_MAX_DIMS)
        return qn__graph_fail(g, 2203, "broadcast", "rank %d; expected 0..%d", rank, QN_MAX_DIMS);
    return qn__node_shaped(g, QN_OP_broadcast, &x, 1, NULL, qn_dtype_of(g, x), rank, dims, NULL, NULL);
}
