/* transpose.c - dimensions permuted: y.dim[i] = x.dim[perm[i]]. */
#include "../op.h"
#include <string.h>

static qn_status infer(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    const struct qn__transpose_attr *attr = y->attr;
    uint32_t seen = 0;
    y->dtype = x[0]->dtype;
    y->rank = x[0]->rank;
    for (int i = 0; i < y->rank; i++) {
        int from = attr->perm[i];
        if (from < 0 || from >= y->rank || (seen >> from & 1))
            return qn__fail(err, 2204, NULL, "permutation[%d] = %d; expected each of 0..%d once", i, from, y->rank - 1);
        seen |= 1u << from;
        y->dim[i] = x[0]->dim[from];
    }
    return QN_OK;
}

/* The inverse permutation. */
static void vjp(qn_graph *g, const struct qn__node *y, qn_t self, qn_t dy, qn_t *dx)
{
    (void)self;
    const struct qn__transpose_attr *attr = y->attr;
    int inverse[QN_MAX_DIMS];
    for (int i = 0; i < y->rank; i++) inverse[attr->perm[i]] = i;
    dx[0] = qn_transpose(g, dy, inverse);
}

const struct qn__op qn__op_transpose = { .name = "transpose",
                                         .infer = infer,
                                         .vjp = vjp,
                                         .cost = qn__cost_move,
                                         .attr_size = sizeof(struct qn__transpose_attr) };

qn_t qn_transpose(qn_graph *g, qn_t x, const int *permutation)
{
    struct qn__transpose_attr attr;
    memset(&attr, 0, sizeof attr);
    int rank = qn_rank(g, x);
    for (int i = 0; i < rank; i++) attr.perm[i] = permutation ? permutation[i] : rank - 1 - i;
    return qn__node(g, QN_OP_transpose, &x, 1, &attr);
}
