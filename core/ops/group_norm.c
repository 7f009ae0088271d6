/* group_norm.c - normalisation of groups of channels of each sample (Wu, He 2018): x [N,C,..], `groups` divides C.
 * A row is what one group of one sample holds, C / groups channels with everything behind; on rows the formulas are
 * layer_norm.c's, but gamma and beta [C] belong to channels. */
#include "norm.h"

static qn_status check_x(const struct qn__node *x, const struct qn__norm_attr *attr, qn_error *err)
{
    QN_TRY(qn__norm_check_x(x, err));
    if (x->rank < 2) return qn__fail(err, 2203, NULL, "rank %d; expected [batch,channels,..]", x->rank);
    if (attr->groups >= 1 && x->dim[1] % attr->groups == 0) return QN_OK;
    return qn__fail(err, 2204, NULL, "%d groups of %lld channels; expected a number that divides them", attr->groups,
                    (long long)x->dim[1]);
}

/* operand 0, and the `n` after it that are like it; then gamma and beta if there */
static qn_status check_operands(const struct qn__node *const *x, const struct qn__node *y, int n, int vectors,
                                qn_error *err)
{
    QN_TRY(check_x(x[0], y->attr, err));
    for (int i = 1; i <= n; i++) QN_TRY(qn__norm_check_like(x[i], x[0], i == 1 && n ? "operand 1" : "addend", err));
    for (int i = 0; i < vectors; i++)
        QN_TRY(qn__norm_check_vector(x[n + 1 + i], x[0], x[0]->dim[1], i ? "beta" : "gamma", err));
    return QN_OK;
}

static qn_status infer(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    QN_TRY(check_operands(x, y, 0, 2, err));
    return qn__infer_like(x, y, err);
}
static qn_status infer_add(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    QN_TRY(check_operands(x, y, 1, 2, err));
    return qn__infer_like(x, y, err);
}
/* x, dy, gamma, and possibly an addend */
static qn_status infer_grad_x(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    if (y->n_in != 3 && y->n_in != 4) return qn__fail(err, 2204, NULL, "%d operands; expected 3 or 4", y->n_in);
    QN_TRY(check_operands(x, y, 1, 1, err));
    if (y->n_in == 4) QN_TRY(qn__norm_check_like(x[3], x[0], "addend", err));
    return qn__infer_like(x, y, err);
}
static qn_status infer_grad_w(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    QN_TRY(check_operands(x, y, 1, 0, err));
    y->dtype = x[0]->dtype;
    y->rank = 1;
    y->dim[0] = x[0]->dim[1];
    return QN_OK;
}

static void vjp(qn_graph *g, const struct qn__node *y, qn_t self, qn_t dy, qn_t *dx)
{
    (void)self;
    qn_t x = qn__in(y, 0), gamma = qn__in(y, 1);
    int64_t c = qn_dim(g, x, 1);
    dx[0] = qn__node(g, QN_OP_group_norm_grad_x, (qn_t[]){ x, dy, gamma }, 3, y->attr);
    dx[1] = qn__node(g, QN_OP_group_norm_grad_w, (qn_t[]){ x, dy }, 2, y->attr);
    dx[2] = qn__output(g, dx[1], 0, qn_dtype_of(g, x), 1, &c);
}

static struct qn__cost cost(const struct qn__node *const *x, const struct qn__node *y)
{
    return qn__norm_cost(x, y, 8);
}
static struct qn__cost cost_add(const struct qn__node *const *x, const struct qn__node *y)
{
    struct qn__cost c = qn__norm_cost(x, y, 9);
    c.bytes += (double)y->count * (double)qn_dtype_size(y->dtype);
    return c;
}
static struct qn__cost cost_grad_x(const struct qn__node *const *x, const struct qn__node *y)
{
    return qn__norm_cost(x, y, 14);
}
static struct qn__cost cost_grad_w(const struct qn__node *const *x, const struct qn__node *y)
{
    return qn__norm_cost(x, y, 9);
}

#define ATTR .attr_size = sizeof(struct qn__norm_attr)
const struct qn__op qn__op_group_norm = {
    .name = "group_norm", .infer = infer, .vjp = vjp, .cost = cost, ATTR, .in_place = true
};
const struct qn__op qn__op_group_norm_grad_x = {
    .name = "group_norm_grad_x",
    .infer = infer_grad_x,
    .cost = cost_grad_x,
    ATTR,
    .in_place = true,
    .no_gradient = "first derivative only: a part of group_norm's gradient",
};
const struct qn__op qn__op_group_norm_grad_w = {
    .name = "group_norm_grad_w",
    .infer = infer_grad_w,
    .cost = cost_grad_w,
    ATTR,
    .more = 1,
    .no_gradient = "first derivative only: a part of group_norm's gradient",
};
const struct qn__op qn__op_add_group_norm = {
    .name = "add_group_norm",
    .infer = infer_add,
    .cost = cost_add,
    ATTR,
    .more = 1,
    .in_place = true,
    .no_gradient = "the residual pass makes it, after differentiation",
};

qn_t qn_group_norm(qn_graph *g, qn_t x, qn_t gamma, qn_t beta, int64_t groups, double eps)
{
    struct qn__norm_attr attr = qn__norm_attr_of(g, "group_norm", eps, groups);
    return qn__node(g, QN_OP_group_norm, (qn_t[]){ x, gamma, beta }, 3, &attr);
}
