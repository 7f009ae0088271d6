/* loss_scale.c - the factor on the loss that keeps small gradients above the smallest number of 16 bits: one step of
 * its rule, on the device, so that no step waits for the host. */
#include "../op.h"
#include <math.h>
#include <string.h>

static qn_status infer(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    const struct qn__loss_scale_attr *a = y->attr;
    QN_TRY(qn__infer_written(x, y, err));
    if ((y->dtype != QN_F32 && y->dtype != QN_F64) || y->rank != 1 || y->dim[0] != 3)
        return qn__fail(err, 2201, NULL, "state is %s %s; expected F32 or F64 [3]", qn_dtype_name(y->dtype),
                        qn__dims_show(y->rank, y->dim).s);
    if (x[1]->dtype != QN_BOOL || x[1]->count != 1)
        return qn__fail(err, 2201, NULL, "finite is %s %s; expected one BOOL", qn_dtype_name(x[1]->dtype),
                        qn__dims_show(x[1]->rank, x[1]->dim).s);
    if (!(a->growth >= 1 && isfinite(a->growth)) || !(a->backoff > 0 && a->backoff <= 1))
        return qn__fail(err, 2204, NULL, "growth %g, backoff %g; expected from 1, and above 0 to 1", a->growth,
                        a->backoff);
    if (!(a->least > 0 && a->least <= a->most && isfinite(a->most)))
        return qn__fail(err, 2204, NULL, "least %g, most %g; expected 0 < least <= most", a->least, a->most);
    if (a->interval < 1 || a->interval > 1 << 24)
        return qn__fail(err, 2204, NULL, "interval %lld; expected 1..2^24", (long long)a->interval);
    return QN_OK;
}

const struct qn__op qn__op_loss_scale = {
    .name = "loss_scale",
    .infer = infer,
    .attr_size = sizeof(struct qn__loss_scale_attr),
    .writes = 1,
    .effect = true,
    .no_gradient = "it writes to the store",
};

qn_t qn_loss_scale(qn_graph *g, qn_t state, qn_t finite, const qn_loss_scale_opts *opts)
{
    static const qn_loss_scale_opts defaults = { .growth = 0 };
    struct qn__loss_scale_attr attr;
    if (!opts) opts = &defaults;
    memset(&attr, 0, sizeof attr);
    attr.growth = opts->growth != 0 ? opts->growth : 2;
    attr.backoff = opts->backoff != 0 ? opts->backoff : 0.5;
    attr.least = opts->least != 0 ? opts->least : 1;
    attr.most = opts->most != 0 ? opts->most : 1 << 24;
    attr.interval = opts->interval != 0 ? opts->interval : 2000;
    return qn__node(g, QN_OP_loss_scale, (qn_t[]){ state, finite }, 2, &attr);
}
