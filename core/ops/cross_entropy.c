/* cross_entropy.c - cross-entropy from logits, its gradient, and the weights its mean divides by.
 *
 * Row by row, with p = softmax(x), target t smoothed by s to u = (1-s) t + s/V, class weights c:
 *   loss = -sum_v u_v c_v ln p_v      dloss/dx_v = p_v sum_w u_w c_w - u_v c_v
 * (Szegedy et al. 2016, section 7, for the smoothing). */
#include "../op.h"
#include <string.h>

static bool is_index(const struct qn__node *t) { return t->dtype == QN_I32 || t->dtype == QN_I64; }

/* target: [..] index, or like logits; weight [V] last if attr says so. */
static qn_status check(const struct qn__node *const *x, int n_in, int n_fixed, const struct qn__xent_attr *attr,
                       qn_error *err)
{
    const struct qn__node *logits = x[0], *target = x[1];
    if (n_in != n_fixed + (attr->has_weight != 0))
        return qn__fail(err, 2204, NULL, "%d operands; expected %d", n_in, n_fixed + (attr->has_weight != 0));
    if (!qn_dtype_is_float(logits->dtype) || logits->rank < 1)
        return qn__fail(err, 2202, NULL, "logits are %s of rank %d; expected F32, F64, BF16 or F16 [..,V]",
                        qn_dtype_name(logits->dtype), logits->rank);
    bool index_fits = is_index(target) && target->rank == logits->rank - 1 &&
                      memcmp(target->dim, logits->dim, (size_t)target->rank * sizeof target->dim[0]) == 0;
    bool soft_fits = target->dtype == logits->dtype && qn__same_dims(target, logits);
    if (!index_fits && !soft_fits)
        return qn__fail(err, 2201, NULL,
                        "target is %s; expected I32 or I64 class indices of the logits' rows, or %s probabilities of "
                        "the logits' shape",
                        qn_dtype_name(target->dtype), qn_dtype_name(logits->dtype));
    int64_t v = logits->dim[logits->rank - 1];
    const struct qn__node *weight = attr->has_weight ? x[n_in - 1] : NULL;
    if (weight && (weight->rank != 1 || weight->dim[0] != v || weight->dtype != logits->dtype))
        return qn__fail(err, 2201, NULL, "class weights do not fit; expected %s [%lld]", qn_dtype_name(logits->dtype),
                        (long long)v);
    return QN_OK;
}

static qn_status infer_loss(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    if (y->n_in < 2) return qn__fail(err, 2204, NULL, "%d operands; expected logits and target", y->n_in);
    QN_TRY(check(x, y->n_in, 2, y->attr, err));
    y->dtype = x[0]->dtype;
    y->rank = x[0]->rank - 1;
    memcpy(y->dim, x[0]->dim, sizeof y->dim);
    return QN_OK;
}

static qn_status infer_grad(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    if (y->n_in < 3) return qn__fail(err, 2204, NULL, "%d operands; expected logits, target and dloss", y->n_in);
    QN_TRY(check(x, y->n_in, 3, y->attr, err));
    if (x[2]->count * x[0]->dim[x[0]->rank - 1] != x[0]->count || x[2]->dtype != x[0]->dtype)
        return qn__fail(err, 2201, NULL, "dloss does not fit; expected one element a row");
    return qn__infer_like(x, y, err);
}

static void vjp_loss(qn_graph *g, const struct qn__node *y, qn_t self, qn_t dy, qn_t *dx)
{
    (void)self;
    const struct qn__xent_attr *attr = y->attr;
    qn_t logits = qn__in(y, 0), target = qn__in(y, 1), in[4] = { logits, target, dy };
    if (attr->has_weight) in[3] = qn__in(y, 2);
    dx[0] = qn__node(g, QN_OP_cross_entropy_grad, in, attr->has_weight ? 4 : 3, attr);
    if (is_index(qn__at(g, target))) return;
    struct qn__node row = *qn__at(g, dy);
    row.dim[row.rank] = 1;
    qn_t scale = qn_scale(g, qn_reshape(g, dy, row.rank + 1, row.dim), attr->smoothing - 1);
    if (attr->has_weight) scale = qn_mul(g, scale, in[3]);
    dx[1] = qn_mul(g, scale, qn_log_softmax(g, logits));
}

static struct qn__cost cost(const struct qn__node *const *x, const struct qn__node *y)
{
    double size = (double)qn_dtype_size(x[0]->dtype), n = (double)x[0]->count;
    return (struct qn__cost){ 5 * n, (n + (double)y->count) * size + (double)x[1]->count * 4 };
}

#define ATTR .attr_size = sizeof(struct qn__xent_attr)
const struct qn__op qn__op_cross_entropy = {
    .name = "cross_entropy", .infer = infer_loss, .vjp = vjp_loss, .cost = cost, ATTR
};
const struct qn__op qn__op_cross_entropy_grad = {
    .name = "cross_entropy_grad",
    .infer = infer_grad,
    .cost = cost,
    ATTR,
    .in_place = false,
    .no_gradient = "first derivative only: the gradient kernel of cross_entropy",
};

/* The dtype is the loss's and given by the constructor. */
static qn_status infer_weight(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    const struct qn__xent_attr *attr = y->attr;
    if (y->n_in != 1 + (attr->has_weight != 0) || !is_index(x[0]))
        return qn__fail(err, 2202, NULL, "target is %s; expected I32 or I64 class indices", qn_dtype_name(x[0]->dtype));
    y->rank = x[0]->rank;
    memcpy(y->dim, x[0]->dim, sizeof y->dim);
    return QN_OK;
}
const struct qn__op qn__op_target_weight = { .name = "target_weight",
                                             .infer = infer_weight,
                                             ATTR,
                                             .flat = true,
                                             .no_gradient = "it depends on class indices only" };

/* Sum over rows / sum of the weights of the rows that count; 0/tiny = 0 when none does. */
static qn_t weighted_mean(qn_graph *g, qn_t rows, qn_t target, const struct qn__xent_attr *attr, qn_t weight)
{
    struct qn__node t = *qn__at(g, target);
    qn_dtype dtype = qn_dtype_of(g, rows);
    qn_t counts = qn__node_shaped(g, QN_OP_target_weight, (qn_t[]){ target, weight }, attr->has_weight ? 2 : 1, attr,
                                  dtype, t.rank, t.dim, NULL, NULL);
    double tiny = dtype == QN_F16 ? 0x1p-24 : 1e-30;
    qn_t total = qn_maximum(g, qn_sum_all(g, counts), qn_scalar(g, dtype, tiny));
    return qn_div(g, qn_sum_all(g, rows), total);
}

qn_t qn_cross_entropy(qn_graph *g, qn_t logits, qn_t target, const qn_cross_entropy_opts *opts)
{
    static const qn_cross_entropy_opts defaults = { .smoothing = 0 };
    if (!opts) opts = &defaults;
    struct qn__xent_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.smoothing = opts->smoothing;
    attr.ignore_index = opts->use_ignore ? opts->ignore_index : 0;
    attr.use_ignore = opts->use_ignore;
    attr.has_weight = opts->weight.id != 0;
    if (!(opts->smoothing >= 0 && opts->smoothing < 1))
        return qn__graph_fail(g, 2204, "cross_entropy", "smoothing %g; expected 0 <= s < 1", opts->smoothing);
    qn_t rows = qn__node(g, QN_OP_cross_entropy, (qn_t[]){ logits, target, opts->weight }, attr.has_weight ? 3 : 2,
                         &attr);
    if (qn__failed(g)) return (qn_t){ 0 };
    bool plain_mean = !is_index(qn__at(g, target)) || (!attr.has_weight && !attr.use_ignore);
    return plain_mean ? qn_mean_all(g, rows) : weighted_mean(g, rows, target, &attr, opts->weight);
}
