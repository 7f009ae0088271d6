/* ema.c - the moving average of a weight. */
#include "../op.h"

static qn_status infer(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    const struct qn__ema_attr *attr = y->attr;
    QN_TRY(qn__infer_written(x, y, err));
    if (!qn_dtype_is_float(y->dtype))
        return qn__fail(err, 2202, NULL, "%s; expected F32, F64, BF16 or F16", qn_dtype_name(y->dtype));
    QN_TRY(qn__check_hyper(x[2], y->dtype, err));
    if (x[1]->dtype != y->dtype)
        return qn__fail(err, 2202, NULL, "%s and %s; expected one dtype", qn_dtype_name(y->dtype),
                        qn_dtype_name(x[1]->dtype));
    if (!qn__same_dims(x[0], x[1]) || x[2]->rank != 1 || x[2]->dim[0] != 4)
        return qn__fail(err, 2201, NULL, "operands do not fit; expected two of equal dims and hyper [4]");
    if (!(attr->decay >= 0 && attr->decay < 1))
        return qn__fail(err, 2204, NULL, "decay %g; expected 0 <= decay < 1", attr->decay);
    return QN_OK;
}

/* w read, shadow read and written */
static struct qn__cost cost(const struct qn__node *const *x, const struct qn__node *y)
{
    (void)x;
    return (struct qn__cost){ 3 * (double)y->count, 3 * (double)y->count * (double)qn_dtype_size(y->dtype) };
}

const struct qn__op qn__op_ema = { .name = "ema",
                                   .infer = infer,
                                   .cost = cost,
                                   .attr_size = sizeof(struct qn__ema_attr),
                                   .writes = 1,
                                   .effect = true,
                                   .no_gradient = "it writes to the store" };

qn_t qn_ema(qn_graph *g, qn_t shadow, qn_t w, qn_t hyper, double decay)
{
    return qn__node(g, QN_OP_ema, (qn_t[]){ shadow, w, hyper }, 3, &(struct qn__ema_attr){ decay });
}
