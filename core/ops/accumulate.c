/* accumulate.c - dst += src, where dst is a tensor of the store: gradients of several micro runs, counters. */
#include "../op.h"

static qn_status infer(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    qn_dtype dtype = x[0]->dtype;
    QN_TRY(qn__infer_written(x, y, err));
    if (!qn_dtype_is_float(dtype) && dtype != QN_I32 && dtype != QN_I64)
        return qn__fail(err, 2202, NULL, "%s; expected F32, F64, BF16, F16, I32 or I64", qn_dtype_name(dtype));
    if (dtype != x[1]->dtype)
        return qn__fail(err, 2202, NULL, "%s into %s; expected one dtype", qn_dtype_name(x[1]->dtype),
                        qn_dtype_name(dtype));
    if (!qn__same_dims(x[0], x[1])) return qn__fail(err, 2201, NULL, "operand shapes differ; expected equal dims");
    return QN_OK;
}

const struct qn__op qn__op_accumulate = { .name = "accumulate",
                                          .infer = infer,
                                          .cost = qn__cost_each,
                                          .writes = 1,
                                          .effect = true,
                                          .no_gradient = "it writes to the store" };

/* One per graph whatever the scope: layers read what the optimizer counts. */
qn_t qn_pending_samples(qn_graph *g) { return qn__global_tensor(g, QN_GRAD, "optim.count", 1); }

qn_t qn_accumulate(qn_graph *g, qn_t dst, qn_t src)
{
    return qn__node(g, QN_OP_accumulate, (qn_t[]){ dst, src }, 2, NULL);
}
