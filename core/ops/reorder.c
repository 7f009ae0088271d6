/* reorder.c - the same elements of [N,C,H,W] with the channels in another physical order. The layout pass
 * appends it; it has no public constructor. */
#include "../op.h"

static qn_status infer(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    const struct qn__reorder_attr *attr = y->attr;
    if (x[0]->rank != 4) return qn__fail(err, 2203, NULL, "rank %d; expected 4", x[0]->rank);
    if (attr->block < 1 || x[0]->dim[1] % attr->block != 0)
        return qn__fail(err, 2204, NULL, "block %d of %lld channels; expected a divisor", attr->block,
                        (long long)x[0]->dim[1]);
    y->block = attr->block;
    return qn__infer_like(x, y, err);
}

const struct qn__op qn__op_reorder = { .name = "reorder",
                                       .infer = infer,
                                       .no_gradient = "the layout pass makes it, after differentiation",
                                       .cost = qn__cost_move,
                                       .attr_size = sizeof(struct qn__reorder_attr),
                                       .layout = QN_LAYOUT_ASK };
