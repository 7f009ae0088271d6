/* output.c - a further result of its operand, for operators that compute several things in one pass over memory. Its
 * bytes are written by the operand's step; the node itself does nothing. Its gradient is handed to the operand's rule
 * (vjp_all) by the sweep. */
#include "../op.h"

/* y's dtype and dims are given. */
static qn_status infer(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    const struct qn__output_attr *attr = y->attr;
    const struct qn__op *op = qn__op_of(x[0]->op);
    if (attr->index >= 0 && attr->index < op->more) return QN_OK;
    return qn__fail(err, 2204, NULL, "result %d of %s; expected one of its %d further results", attr->index + 1,
                    op->name, op->more);
}

static struct qn__cost cost(const struct qn__node *const *x, const struct qn__node *y)
{
    (void)x;
    (void)y;
    return (struct qn__cost){ 0, 0 };
}

const struct qn__op qn__op_output = { .name = "output",
                                      .infer = infer,
                                      .cost = cost,
                                      .attr_size = sizeof(struct qn__output_attr),
                                      .no_gradient = "the operator that computes it has it" };
