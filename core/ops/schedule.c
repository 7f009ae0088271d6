/* schedule.c - the learning rate of an update, from the counter of updates: checks of the options, constructor. */
#include "../op.h"
#include <float.h>
#include <math.h>
#include <string.h>

static qn_status check_number(const char *name, double value, bool above_zero, double most, qn_error *err)
{
    if (isfinite(value) && value <= most && (above_zero ? value > 0 : value >= 0)) return QN_OK;
    return qn__fail(err, 2204, NULL, "%s %g; expected a finite number, %s 0%s", name, value,
                    above_zero ? ">" : ">=", most == 1 ? ", at most 1" : "");
}

static qn_status check_times(const struct qn__schedule_attr *a, qn_error *err)
{
    if (a->n_at < 0 || a->n_at > QN_SCHEDULE_MAX_AT)
        return qn__fail(err, 2204, NULL, "%d times; expected 0..%d", a->n_at, QN_SCHEDULE_MAX_AT);
    for (int i = 0; i < a->n_at; i++) QN_TRY(check_number("at[]", a->at[i], false, DBL_MAX, err));
    return QN_OK;
}

static qn_status check_attr(const struct qn__schedule_attr *a, qn_error *err)
{
    if (a->kind < 0 || a->kind >= QN_SCHEDULE_COUNT)
        return qn__fail(err, 2204, NULL, "kind %d; expected 0..%d", a->kind, QN_SCHEDULE_COUNT - 1);
    bool steps = a->kind == QN_SCHEDULE_STEP || a->kind == QN_SCHEDULE_EXPONENTIAL;
    bool ends = a->kind == QN_SCHEDULE_COSINE || a->kind == QN_SCHEDULE_LINEAR || a->kind == QN_SCHEDULE_ONE_CYCLE;
    QN_TRY(check_number("lr", a->base, false, DBL_MAX, err));
    QN_TRY(check_number("warmup", a->warmup, false, DBL_MAX, err));
    if (steps) QN_TRY(check_number("every", a->every, true, DBL_MAX, err));
    if (steps || a->kind == QN_SCHEDULE_MULTI_STEP) QN_TRY(check_number("gamma", a->gamma, false, DBL_MAX, err));
    if (a->kind == QN_SCHEDULE_MULTI_STEP) QN_TRY(check_times(a, err));
    if (ends) QN_TRY(check_number("total", a->total, true, DBL_MAX, err));
    if (ends) QN_TRY(check_number("end", a->end, false, DBL_MAX, err));
    if (a->kind != QN_SCHEDULE_ONE_CYCLE) return QN_OK;
    QN_TRY(check_number("peak", a->peak, false, 1, err));
    return check_number("start", a->start, false, DBL_MAX, err);
}

static qn_status infer(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    const struct qn__schedule_attr *attr = y->attr;
    if (x[0]->dtype != QN_I64 || x[0]->rank != 1 || x[0]->dim[0] != 1)
        return qn__fail(err, 2201, NULL, "counter is %s %s; expected I64 [1]", qn_dtype_name(x[0]->dtype),
                        qn__dims_show(x[0]->rank, x[0]->dim).s);
    if (x[1]->dtype != QN_F32 && x[1]->dtype != QN_F64)
        return qn__fail(err, 2202, NULL, "factor is %s; expected F32 or F64", qn_dtype_name(x[1]->dtype));
    if (x[1]->rank != 0) return qn__fail(err, 2201, NULL, "factor has rank %d; expected a scalar", x[1]->rank);
    qn_status status = check_attr(attr, err);
    y->dtype = x[1]->dtype;
    y->rank = 0;
    return status;
}

const struct qn__op qn__op_schedule = { .name = "schedule",
                                        .infer = infer,
                                        .cost = qn__cost_move,
                                        .attr_size = sizeof(struct qn__schedule_attr),
                                        .no_gradient = "it depends on a counter" };

qn_t qn_schedule(qn_graph *g, qn_t updates, qn_t plateau, double base, const qn_schedule_opts *opts)
{
    struct qn__schedule_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.kind = (int32_t)opts->kind;
    attr.n_at = opts->n_at;
    attr.base = base;
    attr.warmup = opts->warmup;
    attr.every = opts->every;
    attr.gamma = opts->gamma;
    attr.total = opts->total;
    attr.end = opts->end;
    attr.peak = opts->peak;
    attr.start = opts->start;
    for (int i = 0; i < QN_SCHEDULE_MAX_AT && i < opts->n_at; i++) attr.at[i] = opts->at[i];
    return qn__node(g, QN_OP_schedule, (qn_t[]){ updates, plateau }, 2, &attr);
}
