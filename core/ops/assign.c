/* assign.c - dst = src, where dst is a tensor of the store. */
#include "../op.h"

static qn_status infer(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    QN_TRY(qn__infer_written(x, y, err));
    if (x[0]->dtype != x[1]->dtype)
        return qn__fail(err, 2202, NULL, "%s into %s; expected one dtype", qn_dtype_name(x[1]->dtype),
                        qn_dtype_name(x[0]->dtype));
    if (!qn__same_dims(x[0], x[1])) return qn__fail(err, 2201, NULL, "operand shapes differ; expected equal dims");
    return QN_OK;
}

/* src read, dst written */
static struct qn__cost cost(const struct qn__node *const *x, const struct qn__node *y)
{
    (void)x;
    return (struct qn__cost){ 0, 2 * (double)y->count * (double)qn_dtype_size(y->dtype) };
}

const struct qn__op qn__op_assign = {
    .name = "assign", .infer = infer, .cost = cost, .writes = 1, .effect = true, .no_gradient = "it writes to the store"
};

qn_t qn_assign(qn_graph *g, qn_t dst, qn_t src) { return qn__node(g, QN_OP_assign, (qn_t[]){ dst, src }, 2, NULL); }
