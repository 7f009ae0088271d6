/* batch_norm.c - batch normalisation of [N,C,H,W] or [N,C] over everything but C (Ioffe, Szegedy 2015).
 *
 * bn_stats takes the statistics, batch_norm applies them; its gradient is the total derivative, through the statistics
 * too, so bn_stats itself needs none. With M elements a channel, xhat = (x - mean) / sqrt(var + eps):
 *   dbeta = sum dy      dgamma = sum dy xhat      dx = gamma / sqrt(var + eps) (dy - dbeta / M - xhat dgamma / M) */
#include "../op.h"
#include <string.h>

static qn_status check_x(const struct qn__node *x, qn_error *err)
{
    if (!qn_dtype_is_float(x->dtype))
        return qn__fail(err, 2202, NULL, "%s; expected F32, F64, BF16 or F16", qn_dtype_name(x->dtype));
    if (x->rank != 2 && x->rank != 4) return qn__fail(err, 2203, NULL, "rank %d; expected [N,C] or [N,C,H,W]", x->rank);
    return QN_OK;
}

/* Statistics and sums are never narrower than F32. */
static qn_dtype sum_dtype(qn_dtype dtype) { return dtype == QN_F64 ? QN_F64 : QN_F32; }

static qn_status check_vector(const struct qn__node *v, const struct qn__node *x, const char *name, bool stats,
                              qn_error *err)
{
    bool fits = stats ? v->rank == 2 && v->dim[0] == 2 && v->dim[1] == x->dim[1]
                      : v->rank == 1 && v->dim[0] == x->dim[1];
    qn_dtype dtype = stats ? sum_dtype(x->dtype) : x->dtype;
    if (fits && v->dtype == dtype) return QN_OK;
    return qn__fail(err, 2201, NULL, "%s is %s %s; expected %s %s%lld]", name, qn_dtype_name(v->dtype),
                    qn__dims_show(v->rank, v->dim).s, qn_dtype_name(dtype), stats ? "[2," : "[", (long long)x->dim[1]);
}

static qn_status infer_stats(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    QN_TRY(check_x(x[0], err));
    y->dtype = sum_dtype(x[0]->dtype);
    y->rank = 2;
    y->dim[0] = 2;
    y->dim[1] = x[0]->dim[1];
    return QN_OK;
}

/* `n` operands, and possibly one of x's shape that is added */
static qn_status check_addend(const struct qn__node *const *x, const struct qn__node *y, int n, qn_error *err)
{
    if (y->n_in != n && y->n_in != n + 1)
        return qn__fail(err, 2204, NULL, "%d operands; expected %d or %d", y->n_in, n, n + 1);
    if (y->n_in == n || (qn__same_dims(x[n], x[0]) && x[n]->dtype == x[0]->dtype)) return QN_OK;
    return qn__fail(err, 2201, NULL, "addend does not fit x; expected the same dtype and shape");
}

static qn_status infer_norm(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    QN_TRY(check_addend(x, y, 4, err));
    QN_TRY(check_x(x[0], err));
    QN_TRY(check_vector(x[1], x[0], "gamma", false, err));
    QN_TRY(check_vector(x[2], x[0], "beta", false, err));
    QN_TRY(check_vector(x[3], x[0], "stats", true, err));
    return qn__infer_like(x, y, err);
}

static qn_status check_dy(const struct qn__node *const *x, qn_error *err)
{
    QN_TRY(check_x(x[0], err));
    if (!qn__same_dims(x[0], x[1]) || x[0]->dtype != x[1]->dtype)
        return qn__fail(err, 2201, NULL, "dy does not fit x; expected the same dtype and shape");
    return check_vector(x[2], x[0], "stats", true, err);
}

static qn_status infer_grad_stats(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    QN_TRY(check_dy(x, err));
    return infer_stats(x, y, err);
}

static qn_status infer_grad_x(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    QN_TRY(check_addend(x, y, 5, err));
    QN_TRY(check_dy(x, err));
    QN_TRY(check_vector(x[3], x[0], "gamma", false, err));
    QN_TRY(check_vector(x[4], x[0], "grad stats", true, err));
    return qn__infer_like(x, y, err);
}

static qn_t channel_row(qn_graph *g, qn_t stats, int64_t row)
{
    int64_t c = qn_dim(g, stats, 1);
    return qn_reshape(g, qn_slice(g, stats, (int64_t[]){ row, 0 }, (int64_t[]){ 1, c }), 1, &c);
}

static void vjp_norm(qn_graph *g, const struct qn__node *y, qn_t self, qn_t dy, qn_t *dx)
{
    (void)self;
    qn_t x = qn__in(y, 0), gamma = qn__in(y, 1), stats = qn__in(y, 3);
    qn_t sums = qn__node(g, QN_OP_bn_grad_stats, (qn_t[]){ x, dy, stats }, 3, y->attr);
    dx[0] = qn__node(g, QN_OP_bn_grad_x, (qn_t[]){ x, dy, stats, gamma, sums }, 5, y->attr);
    dx[1] = qn_cast(g, channel_row(g, sums, 1), y->dtype);
    dx[2] = qn_cast(g, channel_row(g, sums, 0), y->dtype);
}

static struct qn__cost cost_of(const struct qn__node *x, double flops, double passes)
{
    double n = (double)x->count;
    return (struct qn__cost){ flops * n, passes * n * (double)qn_dtype_size(x->dtype) };
}
static struct qn__cost cost_stats(const struct qn__node *const *x, const struct qn__node *y)
{
    (void)y;
    return cost_of(x[0], 3, 1);
}
static struct qn__cost cost_norm(const struct qn__node *const *x, const struct qn__node *y)
{
    return cost_of(x[0], y->n_in - 1, y->n_in == 5 ? 3 : 2);
}
static struct qn__cost cost_grad_stats(const struct qn__node *const *x, const struct qn__node *y)
{
    (void)y;
    return cost_of(x[0], 5, 2);
}
static struct qn__cost cost_grad_x(const struct qn__node *const *x, const struct qn__node *y)
{
    return cost_of(x[0], y->n_in + 1, y->n_in == 6 ? 4 : 3);
}

#define ATTR .attr_size = sizeof(struct qn__bn_attr)
const struct qn__op qn__op_bn_stats = {
    .name = "bn_stats",
    .infer = infer_stats,
    .cost = cost_stats,
    .layout = QN_LAYOUT_REDUCE,
    .flat = true,
    .no_gradient = "batch_norm owns the total derivative, through the statistics too",
};
const struct qn__op qn__op_batch_norm = {
    .name = "batch_norm",
    .infer = infer_norm,
    .vjp = vjp_norm,
    .cost = cost_norm,
    ATTR,
    .layout = QN_LAYOUT_SAME,
    .in_place = true,
};
const struct qn__op qn__op_bn_grad_stats = {
    .name = "bn_grad_stats",
    .infer = infer_grad_stats,
    .cost = cost_grad_stats,
    ATTR,
    .layout = QN_LAYOUT_REDUCE,
    .no_gradient = "first derivative only: a part of batch_norm's gradient",
};
const struct qn__op qn__op_bn_grad_x = {
    .name = "bn_grad_x",
    .infer = infer_grad_x,
    .cost = cost_grad_x,
    ATTR,
    .layout = QN_LAYOUT_SAME,
    .in_place = true,
    .no_gradient = "first derivative only: a part of batch_norm's gradient",
};

qn_t qn_batch_norm(qn_graph *g, qn_t x, qn_t gamma, qn_t beta, double eps, qn_t *stats_out)
{
    struct qn__bn_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.eps = eps;
    if (!(eps >= 0)) qn__graph_fail(g, 2204, "batch_norm", "eps %g; expected a number >= 0", eps);
    qn_t stats = qn__node(g, QN_OP_bn_stats, &x, 1, NULL);
    if (stats_out) *stats_out = stats;
    return qn__node(g, QN_OP_batch_norm, (qn_t[]){ x, gamma, beta, stats }, 4, &attr);
}

/* Scale and shift are tiny per-channel values; applying them is a pointwise chain that fuses with its neighbours. */
qn_t qn_batch_norm_fixed(qn_graph *g, qn_t x, qn_t gamma, qn_t beta, qn_t mean, qn_t variance, double eps)
{
    qn_dtype wide = qn_dtype_of(g, mean), dtype = qn_dtype_of(g, x);
    qn_t scale = qn_mul(g, qn_cast(g, gamma, wide), qn_rsqrt(g, qn_affine(g, variance, 1, eps)));
    qn_t shift = qn_sub(g, qn_cast(g, beta, wide), qn_mul(g, mean, scale));
    int64_t c = qn_dim(g, x, 1);
    int rank = qn_rank(g, x) == 4 ? 3 : 1;
    const int64_t dims[] = { c, 1, 1 };
    scale = qn_reshape(g, qn_cast(g, scale, dtype), rank, dims);
    return qn_add(g, qn_mul(g, x, scale), qn_reshape(g, qn_cast(g, shift, dtype), rank, dims));
}
