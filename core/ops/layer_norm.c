/* layer_norm.c - layer normalisation over the last axis (Ba, Kiros, Hinton 2016), and with root mean square instead of
 * deviation (Zhang, Sennrich 2019). Of a row x[C], with means over the row:
 *
 *   layer   xhat = (x - mean x) r,  r = 1 / sqrt(mean (x - mean x)^2 + eps)      y = gamma xhat + beta
 *           dx = r (u - mean u - xhat mean(u xhat)),  u = gamma dy
 *   rms     xhat = x r,  r = 1 / sqrt(mean x^2 + eps)                            y = gamma xhat
 *           dx = r (u - xhat mean(u xhat))
 *   both    dgamma = sum over rows of dy xhat,  dbeta = sum over rows of dy
 *
 * Mean and r are not kept: whoever needs them reads the row anyway. add_layer_norm and add_rms_norm are made by the
 * residual pass of a sum that goes into a normalisation and elsewhere; the gradient rows then take what arrives at the
 * sum from elsewhere as a fourth operand, likewise. */
#include "norm.h"

/* ---- shape rules ------------------------------------------------------------------------------------ */

static qn_status infer_layer(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    QN_TRY(qn__norm_check_x(x[0], err));
    QN_TRY(qn__norm_check_vector(x[1], x[0], qn__last_dim(x[0]), "gamma", err));
    if (y->n_in == 3) QN_TRY(qn__norm_check_vector(x[2], x[0], qn__last_dim(x[0]), "beta", err));
    return qn__infer_like(x, y, err);
}

/* a, b, gamma and for layer_norm beta */
static qn_status infer_add(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    QN_TRY(qn__norm_check_x(x[0], err));
    QN_TRY(qn__norm_check_like(x[1], x[0], "b", err));
    QN_TRY(qn__norm_check_vector(x[2], x[0], qn__last_dim(x[0]), "gamma", err));
    if (y->n_in == 4) QN_TRY(qn__norm_check_vector(x[3], x[0], qn__last_dim(x[0]), "beta", err));
    return qn__infer_like(x, y, err);
}

static qn_status infer_grad_x(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    if (y->n_in != 3 && y->n_in != 4) return qn__fail(err, 2204, NULL, "%d operands; expected 3 or 4", y->n_in);
    QN_TRY(qn__norm_check_x(x[0], err));
    QN_TRY(qn__norm_check_like(x[1], x[0], "dy", err));
    QN_TRY(qn__norm_check_vector(x[2], x[0], qn__last_dim(x[0]), "gamma", err));
    if (y->n_in == 4) QN_TRY(qn__norm_check_like(x[3], x[0], "addend", err));
    return qn__infer_like(x, y, err);
}

static qn_status infer_grad_w(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    QN_TRY(qn__norm_check_x(x[0], err));
    QN_TRY(qn__norm_check_like(x[1], x[0], "dy", err));
    y->dtype = x[0]->dtype;
    y->rank = 1;
    y->dim[0] = qn__last_dim(x[0]);
    return QN_OK;
}

/* ---- gradients -------------------------------------------------------------------------------------- */

static void vjp_layer(qn_graph *g, const struct qn__node *y, qn_t self, qn_t dy, qn_t *dx)
{
    (void)self;
    qn_t x = qn__in(y, 0), gamma = qn__in(y, 1);
    int64_t c = qn_dim(g, x, -1);
    dx[0] = qn__node(g, QN_OP_layer_norm_grad_x, (qn_t[]){ x, dy, gamma }, 3, y->attr);
    dx[1] = qn__node(g, QN_OP_layer_norm_grad_w, (qn_t[]){ x, dy }, 2, y->attr);
    dx[2] = qn__output(g, dx[1], 0, qn_dtype_of(g, x), 1, &c);
}

static void vjp_rms(qn_graph *g, const struct qn__node *y, qn_t self, qn_t dy, qn_t *dx)
{
    (void)self;
    qn_t x = qn__in(y, 0), gamma = qn__in(y, 1);
    dx[0] = qn__node(g, QN_OP_rms_norm_grad_x, (qn_t[]){ x, dy, gamma }, 3, y->attr);
    dx[1] = qn__node(g, QN_OP_rms_norm_grad_w, (qn_t[]){ x, dy }, 2, y->attr);
}

/* ---- costs: two passes over a row that stays in registers or a cache ------------------------------------ */

static struct qn__cost cost_forward(const struct qn__node *const *x, const struct qn__node *y)
{
    return qn__norm_cost(x, y, 8);
}
/* The norm of the sum is a second result of y's size. */
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

/* ---- descriptors ------------------------------------------------------------------------------------- */

#define ATTR .attr_size = sizeof(struct qn__norm_attr)

const struct qn__op qn__op_layer_norm = {
    .name = "layer_norm",
    .infer = infer_layer,
    .vjp = vjp_layer,
    .cost = cost_forward,
    ATTR,
    .in_place = true,
};
const struct qn__op qn__op_layer_norm_grad_x = {
    .name = "layer_norm_grad_x",
    .infer = infer_grad_x,
    .cost = cost_grad_x,
    ATTR,
    .in_place = true,
    .no_gradient = "first derivative only: a part of layer_norm's gradient",
};
const struct qn__op qn__op_layer_norm_grad_w = {
    .name = "layer_norm_grad_w",
    .infer = infer_grad_w,
    .cost = cost_grad_w,
    ATTR,
    .more = 1,
    .no_gradient = "first derivative only: a part of layer_norm's gradient",
};
const struct qn__op qn__op_add_layer_norm = {
    .name = "add_layer_norm",
    .infer = infer_add,
    .cost = cost_add,
    ATTR,
    .more = 1,
    .in_place = true,
    .no_gradient = "the residual pass makes it, after differentiation",
};
const struct qn__op qn__op_rms_norm = {
    .name = "rms_norm",
    .infer = infer_layer,
    .vjp = vjp_rms,
    .cost = cost_forward,
    ATTR,
    .in_place = true,
};
const struct qn__op qn__op_rms_norm_grad_x = {
    .name = "rms_norm_grad_x",
    .infer = infer_grad_x,
    .cost = cost_grad_x,
    ATTR,
    .in_place = true,
    .no_gradient = "first derivative only: a part of rms_norm's gradient",
};
const struct qn__op qn__op_rms_norm_grad_w = {
    .name = "rms_norm_grad_w",
    .infer = infer_grad_w,
    .cost = cost_grad_w,
    ATTR,
    .no_gradient = "first derivative only: a part of rms_norm's gradient",
};
const struct qn__op qn__op_add_rms_norm = {
    .name = "add_rms_norm",
    .infer = infer_add,
    .cost = cost_add,
    ATTR,
    .more = 1,
    .in_place = true,
    .no_gradient = "the residual pass makes it, after differentiation",
};

/* ---- constructors ------------------------------------------------------------------------------------ */

qn_t qn_layer_norm(qn_graph *g, qn_t x, qn_t gamma, qn_t beta, double eps)
{
    struct qn__norm_attr attr = qn__norm_attr_of(g, "layer_norm", eps, 1);
    return qn__node(g, QN_OP_layer_norm, (qn_t[]){ x, gamma, beta }, 3, &attr);
}

qn_t qn_rms_norm(qn_graph *g, qn_t x, qn_t gamma, double eps)
{
    struct qn__norm_attr attr = qn__norm_attr_of(g, "rms_norm", eps, 1);
    return qn__node(g, QN_OP_rms_norm, (qn_t[]){ x, gamma }, 2, &attr);
}
