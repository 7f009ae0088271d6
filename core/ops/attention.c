/* attention.c - scaled dot-product attention: y = softmax(scale q k^T) v for each head, the matrix of scores never in
 * memory (Dao et al. 2022). q [B,H,T,D]; k, v [B,Hk,S,D], each of whose heads serves H / Hk heads of q (Ainslie et al.
 * 2023). Causal: query t sees the keys s <= t + S - T, so that the last query sees them all; one that sees none
 * gets 0.
 *
 * The further result of attention is l [B,H,T], the logarithm of the sum of e^score over the keys seen (0 where none),
 * from which the gradients find the softmax p again:
 *   p = e^(scale q k^T - l)    d = sum over D of dy y    ds = p (dy v^T - d)
 *   dq = scale ds k            dk = scale ds^T q         dv = p^T dy
 * They are two rows, one that goes along the queries and one along the keys, so that each sum has one owner and one
 * order; scores and dy v^T are computed in both. attention_grad_q hands d on. */
#include "../op.h"
#include <math.h>
#include <string.h>

/* ---- shape rules ------------------------------------------------------------------------------------ */

/* l and d are sums: never narrower than F32. */
static qn_dtype sum_dtype(qn_dtype dtype) { return dtype == QN_F64 ? QN_F64 : QN_F32; }

static qn_status check_heads(const struct qn__node *const *x, qn_error *err)
{
    const int64_t *q = x[0]->dim, *k = x[1]->dim;
    if (!qn_dtype_is_float(x[0]->dtype))
        return qn__fail(err, 2202, NULL, "%s; expected F32, F64, BF16 or F16", qn_dtype_name(x[0]->dtype));
    for (int i = 0; i < 3; i++) {
        if (x[i]->rank != 4)
            return qn__fail(err, 2203, NULL, "operand %d has rank %d; expected [batch,heads,time,size]", i, x[i]->rank);
        if (x[i]->dtype != x[0]->dtype)
            return qn__fail(err, 2202, NULL, "%s and %s; expected one dtype", qn_dtype_name(x[0]->dtype),
                            qn_dtype_name(x[i]->dtype));
    }
    if (!qn__same_dims(x[1], x[2])) return qn__fail(err, 2201, NULL, "v does not fit k; expected equal dims");
    if (k[0] != q[0] || k[3] != q[3] || q[3] < 1)
        return qn__fail(err, 2201, NULL, "k does not fit q; expected the same batch and the same head size from 1");
    if (k[1] < 1 || q[1] % k[1] != 0)
        return qn__fail(err, 2201, NULL, "%lld heads of k for %lld of q; expected a number that divides it",
                        (long long)k[1], (long long)q[1]);
    return QN_OK;
}

/* operand i is y or dy; operand i + 1 is l or d */
static qn_status check_rows(const struct qn__node *const *x, int like, int sums, qn_error *err)
{
    if (like && (!qn__same_dims(x[like], x[0]) || x[like]->dtype != x[0]->dtype))
        return qn__fail(err, 2201, NULL, "operand %d does not fit q; expected the same dtype and shape", like);
    const struct qn__node *l = x[sums];
    if (l->rank == 3 && memcmp(l->dim, x[0]->dim, 3 * sizeof *l->dim) == 0 && l->dtype == sum_dtype(x[0]->dtype))
        return QN_OK;
    return qn__fail(err, 2201, NULL, "operand %d does not fit q; expected one number a query", sums);
}

static qn_status infer(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    QN_TRY(check_heads(x, err));
    return qn__infer_like(x, y, err);
}

/* q, k, v, y, l, dy */
static qn_status infer_grad_q(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    QN_TRY(check_heads(x, err));
    QN_TRY(check_rows(x, 3, 4, err));
    QN_TRY(check_rows(x, 5, 4, err));
    return qn__infer_like(x, y, err);
}

/* q, k, v, dy, l, d */
static qn_status infer_grad_kv(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    QN_TRY(check_heads(x, err));
    QN_TRY(check_rows(x, 3, 4, err));
    QN_TRY(check_rows(x, 0, 5, err));
    return qn__infer_like(x + 1, y, err);
}

/* ---- gradient ---------------------------------------------------------------------------------------- */

static void vjp(qn_graph *g, const struct qn__node *y, qn_t self, qn_t dy, qn_t *dx)
{
    qn_t q = qn__in(y, 0), k = qn__in(y, 1), v = qn__in(y, 2);
    struct qn__node kv = *qn__at(g, k);
    qn_t l = qn__output(g, self, 0, sum_dtype(y->dtype), 3, y->dim);
    dx[0] = qn__node(g, QN_OP_attention_grad_q, (qn_t[]){ q, k, v, self, l, dy }, 6, y->attr);
    qn_t d = qn__output(g, dx[0], 0, sum_dtype(y->dtype), 3, y->dim);
    dx[1] = qn__node(g, QN_OP_attention_grad_kv, (qn_t[]){ q, k, v, dy, l, d }, 6, y->attr);
    dx[2] = qn__output(g, dx[1], 0, kv.dtype, 4, kv.dim);
}

/* ---- costs ------------------------------------------------------------------------------------------- */

/* `products` multiplications of matrices over the pairs of query and key that see each other; each tensor once, and
 * `sums` numbers a query written. */
static struct qn__cost cost_of(const struct qn__node *const *x, const struct qn__node *y, double products, int extra)
{
    const struct qn__attention_attr *attr = y->attr;
    const struct qn__node *q = x[0], *k = x[1];
    double t = (double)q->dim[2], s = (double)k->dim[2], pairs = t * s;
    if (attr->causal) {
        double seen = t < s ? t : s; /* queries that see a key */
        pairs = seen * (s - seen) + seen * (seen + 1) / 2;
    }
    struct qn__cost c = qn__cost_move(x, y);
    c.flops = products * 2 * (double)(q->dim[0] * q->dim[1] * q->dim[3]) * pairs;
    c.bytes += extra ? (double)extra * (double)(q->dim[0] * q->dim[1]) * t * (double)qn_dtype_size(sum_dtype(q->dtype))
                     : (double)y->count * (double)qn_dtype_size(y->dtype);
    return c;
}
static struct qn__cost cost(const struct qn__node *const *x, const struct qn__node *y) { return cost_of(x, y, 2, 1); }
static struct qn__cost cost_grad_q(const struct qn__node *const *x, const struct qn__node *y)
{
    return cost_of(x, y, 3, 1);
}
static struct qn__cost cost_grad_kv(const struct qn__node *const *x, const struct qn__node *y)
{
    return cost_of(x, y, 4, 0);
}

#define ATTR .attr_size = sizeof(struct qn__attention_attr), .more = 1
const struct qn__op qn__op_attention = { .name = "attention", .infer = infer, .vjp = vjp, .cost = cost, ATTR };
const struct qn__op qn__op_attention_grad_q = {
    .name = "attention_grad_q",
    .infer = infer_grad_q,
    .cost = cost_grad_q,
    ATTR,
    .no_gradient = "first derivative only: a part of attention's gradient",
};
const struct qn__op qn__op_attention_grad_kv = {
    .name = "attention_grad_kv",
    .infer = infer_grad_kv,
    .cost = cost_grad_kv,
    ATTR,
    .no_gradient = "first derivative only: a part of attention's gradient",
};

qn_t qn_attention(qn_graph *g, qn_t q, qn_t k, qn_t v, const qn_attention_opts *opts)
{
    static const qn_attention_opts defaults = { .scale = 0 };
    if (!opts) opts = &defaults;
    struct qn__attention_attr attr;
    memset(&attr, 0, sizeof attr);
    int64_t size = qn_dim(g, q, 3);
    attr.scale = opts->scale != 0 ? opts->scale : 1 / sqrt((double)(size > 0 ? size : 1));
    attr.causal = opts->causal;
    if (!isfinite(attr.scale))
        qn__graph_fail(g, 2204, "attention", "scale %g; expected a finite number, 0 for 1/sqrt(head size)",
                       opts->scale);
    return qn__node(g, QN_OP_attention, (qn_t[]){ q, k, v }, 3, &attr);
}
