/* norm.c - normalisation of rows: layer normalisation (Ba, Kiros, Hinton 2016), the same with root mean square instead
 * of deviation (Zhang, Sennrich 2019), and that of groups of channels of each sample (Wu, He 2018). With means over the
 * row:
 *
 *   layer, group  xhat = (x - mean x) r,  r = 1 / sqrt(mean (x - mean x)^2 + eps)      y = gamma xhat + beta
 *                 dx = r (u - mean u - xhat mean(u xhat)),  u = gamma dy
 *   rms           xhat = x r,  r = 1 / sqrt(mean x^2 + eps)                            y = gamma xhat
 *                 dx = r (u - xhat mean(u xhat))
 *   all           dgamma = sum of dy xhat,  dbeta = sum of dy, over all rows
 *
 * A row of layer and rms is the last axis, [C], as are gamma and beta. A row of group is what one of `groups` groups of
 * one sample of x [N,C,..] holds, C / groups channels with everything behind; gamma and beta [C] belong to channels.
 *
 * Mean and r are not kept: whoever needs them reads the row anyway. The rows add_* are made by the residual pass of a
 * sum that goes into a normalisation and elsewhere; the gradient rows then take what arrives at the sum from elsewhere
 * as a fourth operand, likewise. */
#include "../op.h"
#include <string.h>

/* ---- shape rules ------------------------------------------------------------------------------------ */

static bool is_grouped(const struct qn__node *y)
{
    return y->op == QN_OP_group_norm || y->op == QN_OP_group_norm_grad_x || y->op == QN_OP_group_norm_grad_w ||
           y->op == QN_OP_add_group_norm;
}

/* *c: how many gamma has */
static qn_status check_x(const struct qn__node *x, const struct qn__node *y, int64_t *c, qn_error *err)
{
    const struct qn__norm_attr *attr = y->attr;
    if (!qn_dtype_is_float(x->dtype))
        return qn__fail(err, 2202, NULL, "%s; expected F32, F64, BF16 or F16", qn_dtype_name(x->dtype));
    if (x->rank < 1) return qn__fail(err, 2203, NULL, "rank 0; expected at least one axis");
    if (!is_grouped(y)) {
        *c = x->dim[x->rank - 1];
        return QN_OK;
    }
    if (x->rank < 2) return qn__fail(err, 2203, NULL, "rank %d; expected [batch,channels,..]", x->rank);
    *c = x->dim[1];
    if (attr->groups >= 1 && *c % attr->groups == 0) return QN_OK;
    return qn__fail(err, 2204, NULL, "%d groups of %lld channels; expected a number that divides them", attr->groups,
                    (long long)*c);
}

/* v is [c] of x's dtype */
static qn_status check_vector(const struct qn__node *v, const struct qn__node *x, int64_t c, const char *name,
                              qn_error *err)
{
    if (v->rank == 1 && v->dim[0] == c && v->dtype == x->dtype) return QN_OK;
    return qn__fail(err, 2201, NULL, "%s is %s %s; expected %s [%lld]", name, qn_dtype_name(v->dtype),
                    qn__dims_show(v->rank, v->dim).s, qn_dtype_name(x->dtype), (long long)c);
}

static qn_status check_like(const struct qn__node *v, const struct qn__node *x, const char *name, qn_error *err)
{
    if (qn__same_dims(v, x) && v->dtype == x->dtype) return QN_OK;
    return qn__fail(err, 2201, NULL, "%s is %s %s; expected %s %s", name, qn_dtype_name(v->dtype),
                    qn__dims_show(v->rank, v->dim).s, qn_dtype_name(x->dtype), qn__dims_show(x->rank, x->dim).s);
}

/* x, gamma, and beta but for rms_norm */
static qn_status infer(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    int64_t c;
    QN_TRY(check_x(x[0], y, &c, err));
    QN_TRY(check_vector(x[1], x[0], c, "gamma", err));
    if (y->n_in == 3) QN_TRY(check_vector(x[2], x[0], c, "beta", err));
    return qn__infer_like(x, y, err);
}

/* a, b, gamma, and beta but for rms_norm */
static qn_status infer_add(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    int64_t c;
    QN_TRY(check_x(x[0], y, &c, err));
    QN_TRY(check_like(x[1], x[0], "b", err));
    QN_TRY(check_vector(x[2], x[0], c, "gamma", err));
    if (y->n_in == 4) QN_TRY(check_vector(x[3], x[0], c, "beta", err));
    return qn__infer_like(x, y, err);
}

/* x, dy, gamma, and possibly an addend */
static qn_status infer_grad_x(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    int64_t c;
    if (y->n_in != 3 && y->n_in != 4) return qn__fail(err, 2204, NULL, "%d operands; expected 3 or 4", y->n_in);
    QN_TRY(check_x(x[0], y, &c, err));
    QN_TRY(check_like(x[1], x[0], "dy", err));
    QN_TRY(check_vector(x[2], x[0], c, "gamma", err));
    if (y->n_in == 4) QN_TRY(check_like(x[3], x[0], "addend", err));
    return qn__infer_like(x, y, err);
}

static qn_status infer_grad_w(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    QN_TRY(check_x(x[0], y, &y->dim[0], err));
    QN_TRY(check_like(x[1], x[0], "dy", err));
    y->dtype = x[0]->dtype;
    y->rank = 1;
    return QN_OK;
}

/* ---- gradients -------------------------------------------------------------------------------------- */

static void differentiate(qn_graph *g, const struct qn__node *y, qn_t dy, qn_t *dx, enum qn__opcode grad_x,
                          enum qn__opcode grad_w)
{
    qn_t x = qn__in(y, 0), gamma = qn__in(y, 1);
    int64_t c = qn_dim(g, gamma, 0);
    dx[0] = qn__node(g, grad_x, (qn_t[]){ x, dy, gamma }, 3, y->attr);
    dx[1] = qn__node(g, grad_w, (qn_t[]){ x, dy }, 2, y->attr);
    if (y->n_in == 3) dx[2] = qn__output(g, dx[1], 0, qn_dtype_of(g, x), 1, &c);
}

static void vjp_layer_norm(qn_graph *g, const struct qn__node *y, qn_t self, qn_t dy, qn_t *dx)
{
    (void)self;
    differentiate(g, y, dy, dx, QN_OP_layer_norm_grad_x, QN_OP_layer_norm_grad_w);
}
static void vjp_rms_norm(qn_graph *g, const struct qn__node *y, qn_t self, qn_t dy, qn_t *dx)
{
    (void)self;
    differentiate(g, y, dy, dx, QN_OP_rms_norm_grad_x, QN_OP_rms_norm_grad_w);
}
static void vjp_group_norm(qn_graph *g, const struct qn__node *y, qn_t self, qn_t dy, qn_t *dx)
{
    (void)self;
    differentiate(g, y, dy, dx, QN_OP_group_norm_grad_x, QN_OP_group_norm_grad_w);
}

/* ---- costs: two passes over a row that stays in registers or a cache ------------------------------------ */

/* `flops` for each element; every operand read once, every wanted result written once. */
static struct qn__cost cost_of(const struct qn__node *const *x, const struct qn__node *y, double flops)
{
    struct qn__cost c = qn__cost_move(x, y);
    c.flops = flops * (double)x[0]->count;
    return c;
}
static struct qn__cost cost(const struct qn__node *const *x, const struct qn__node *y) { return cost_of(x, y, 8); }
/* The norm of the sum is a second result of y's size. */
static struct qn__cost cost_add(const struct qn__node *const *x, const struct qn__node *y)
{
    struct qn__cost c = cost_of(x, y, 9);
    c.bytes += (double)y->count * (double)qn_dtype_size(y->dtype);
    return c;
}
static struct qn__cost cost_grad_x(const struct qn__node *const *x, const struct qn__node *y)
{
    return cost_of(x, y, 14);
}
static struct qn__cost cost_grad_w(const struct qn__node *const *x, const struct qn__node *y)
{
    return cost_of(x, y, 9);
}

/* ---- descriptors ------------------------------------------------------------------------------------- */

#define ATTR .attr_size = sizeof(struct qn__norm_attr)

const struct qn__op qn__op_layer_norm = {
    .name = "layer_norm", .infer = infer, .vjp = vjp_layer_norm, .cost = cost, ATTR, .in_place = true
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
    .name = "rms_norm", .infer = infer, .vjp = vjp_rms_norm, .cost = cost, ATTR, .in_place = true
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

const struct qn__op qn__op_group_norm = {
    .name = "group_norm", .infer = infer, .vjp = vjp_group_norm, .cost = cost, ATTR, .in_place = true
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

/* ---- constructors ------------------------------------------------------------------------------------ */

static struct qn__norm_attr attr_of(qn_graph *g, const char *what, double eps, int64_t groups)
{
    struct qn__norm_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.eps = eps;
    attr.groups = (int32_t)(groups < INT32_MAX ? groups : INT32_MAX);
    if (!(eps >= 0)) qn__graph_fail(g, 2204, what, "eps %g; expected a number >= 0", eps);
    return attr;
}

qn_t qn_layer_norm(qn_graph *g, qn_t x, qn_t gamma, qn_t beta, double eps)
{
    struct qn__norm_attr attr = attr_of(g, "layer_norm", eps, 1);
    return qn__node(g, QN_OP_layer_norm, (qn_t[]){ x, gamma, beta }, 3, &attr);
}

qn_t qn_rms_norm(qn_graph *g, qn_t x, qn_t gamma, double eps)
{
    struct qn__norm_attr attr = attr_of(g, "rms_norm", eps, 1);
    return qn__node(g, QN_OP_rms_norm, (qn_t[]){ x, gamma }, 2, &attr);
}

qn_t qn_group_norm(qn_graph *g, qn_t x, qn_t gamma, qn_t beta, int64_t groups, double eps)
{
    struct qn__norm_attr attr = attr_of(g, "group_norm", eps, groups);
    return qn__node(g, QN_OP_group_norm, (qn_t[]){ x, gamma, beta }, 3, &attr);
}
