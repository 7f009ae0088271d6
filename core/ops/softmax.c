/* softmax.c - softmax and log-softmax over the last axis, and their gradients. */
#include "../op.h"

static qn_status check_rows(const struct qn__node *x, qn_error *err)
{
    if (!qn_dtype_is_float(x->dtype))
        return qn__fail(err, 2202, NULL, "%s; expected F32, F64, BF16 or F16", qn_dtype_name(x->dtype));
    if (x->rank < 1) return qn__fail(err, 2203, NULL, "rank 0; expected at least one axis");
    return QN_OK;
}

static qn_status infer(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    QN_TRY(check_rows(x[0], err));
    if (y->n_in == 2 && (!qn__same_dims(x[0], x[1]) || x[0]->dtype != x[1]->dtype))
        return qn__fail(err, 2201, NULL, "y and dy do not fit; expected the same dtype and shape");
    return qn__infer_like(x, y, err);
}

static qn_t row_sum(qn_graph *g, qn_t x) { return qn_sum(g, x, QN_AXIS(qn_rank(g, x) - 1), true); }

static void vjp_softmax(qn_graph *g, const struct qn__node *y, qn_t self, qn_t dy, qn_t *dx)
{
    (void)y;
    dx[0] = qn__node(g, QN_OP_softmax_grad, (qn_t[]){ self, dy }, 2, NULL);
}
/* z = y (dy - s), s = sum dy y */
static void vjp_softmax_grad(qn_graph *g, const struct qn__node *z, qn_t self, qn_t dz, qn_t *dx)
{
    (void)self;
    qn_t y = qn__in(z, 0), dy = qn__in(z, 1);
    qn_t inner = qn_sub(g, dy, row_sum(g, qn_mul(g, dy, y)));
    dx[0] = qn_sub(g, qn_mul(g, dz, inner), qn_mul(g, dy, row_sum(g, qn_mul(g, dz, y))));
    dx[1] = qn__node(g, QN_OP_softmax_grad, (qn_t[]){ y, dz }, 2, NULL);
}
static void vjp_log_softmax(qn_graph *g, const struct qn__node *y, qn_t self, qn_t dy, qn_t *dx)
{
    (void)y;
    dx[0] = qn__node(g, QN_OP_log_softmax_grad, (qn_t[]){ self, dy }, 2, NULL);
}
/* z = dy - e^y s, s = sum dy */
static void vjp_log_softmax_grad(qn_graph *g, const struct qn__node *z, qn_t self, qn_t dz, qn_t *dx)
{
    (void)self;
    qn_t y = qn__in(z, 0), dy = qn__in(z, 1), weighted = qn_mul(g, dz, qn_exp(g, y));
    dx[0] = qn_neg(g, qn_mul(g, weighted, row_sum(g, dy)));
    dx[1] = qn_sub(g, dz, row_sum(g, weighted));
}

static struct qn__cost cost(const struct qn__node *const *x, const struct qn__node *y)
{
    (void)x;
    double n = (double)y->count;
    return (struct qn__cost){ 5 * n, (1 + y->n_in) * n * (double)qn_dtype_size(y->dtype) };
}

const struct qn__op qn__op_softmax = {
    .name = "softmax", .infer = infer, .vjp = vjp_softmax, .cost = cost, .in_place = true
};
const struct qn__op qn__op_softmax_grad = {
    .name = "softmax_grad", .infer = infer, .vjp = vjp_softmax_grad, .cost = cost, .in_place = true
};
const struct qn__op qn__op_log_softmax = {
    .name = "log_softmax", .infer = infer, .vjp = vjp_log_softmax, .cost = cost, .in_place = true
};
const struct qn__op qn__op_log_softmax_grad = {
    .name = "log_softmax_grad", .infer = infer, .vjp = vjp_log_softmax_grad, .cost = cost, .in_place = true
};

qn_t qn_softmax(qn_graph *g, qn_t x) { return qn__node(g, QN_OP_softmax, &x, 1, NULL); }
qn_t qn_log_softmax(qn_graph *g, qn_t x) { return qn__node(g, QN_OP_log_softmax, &x, 1, NULL); }
