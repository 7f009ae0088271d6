/* norm.h - what the normalisations share: one float dtype, vectors along the normalised axis. Private to core/ops. */
#ifndef QN_CORE_OPS_NORM_H
#define QN_CORE_OPS_NORM_H
#include "../op.h"
#include <string.h>

static inline qn_status qn__norm_check_x(const struct qn__node *x, qn_error *err)
{
    if (!qn_dtype_is_float(x->dtype))
        return qn__fail(err, 2202, NULL, "%s; expected F32, F64, BF16 or F16", qn_dtype_name(x->dtype));
    if (x->rank < 1) return qn__fail(err, 2203, NULL, "rank 0; expected at least one axis");
    return QN_OK;
}

/* v is [n] of x's dtype */
static inline qn_status qn__norm_check_vector(const struct qn__node *v, const struct qn__node *x, int64_t n,
                                              const char *name, qn_error *err)
{
    if (v->rank == 1 && v->dim[0] == n && v->dtype == x->dtype) return QN_OK;
    return qn__fail(err, 2201, NULL, "%s is %s %s; expected %s [%lld]", name, qn_dtype_name(v->dtype),
                    qn__dims_show(v->rank, v->dim).s, qn_dtype_name(x->dtype), (long long)n);
}

static inline qn_status qn__norm_check_like(const struct qn__node *v, const struct qn__node *x, const char *name,
                                            qn_error *err)
{
    if (qn__same_dims(v, x) && v->dtype == x->dtype) return QN_OK;
    return qn__fail(err, 2201, NULL, "%s is %s %s; expected %s %s", name, qn_dtype_name(v->dtype),
                    qn__dims_show(v->rank, v->dim).s, qn_dtype_name(x->dtype), qn__dims_show(x->rank, x->dim).s);
}

static inline int64_t qn__last_dim(const struct qn__node *x) { return x->dim[x->rank - 1]; }

static inline struct qn__norm_attr qn__norm_attr_of(qn_graph *g, const char *what, double eps, int64_t groups)
{
    struct qn__norm_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.eps = eps;
    attr.groups = (int32_t)(groups < INT32_MAX ? groups : INT32_MAX);
    if (!(eps >= 0)) qn__graph_fail(g, 2204, what, "eps %g; expected a number >= 0", eps);
    return attr;
}

/* `flops` for each element; every operand read once, every wanted result written once. */
static inline struct qn__cost qn__norm_cost(const struct qn__node *const *x, const struct qn__node *y, double flops)
{
    struct qn__cost c = qn__cost_move(x, y);
    c.flops = flops * (double)x[0]->count;
    return c;
}
#endif
