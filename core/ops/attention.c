/* attention.c - scaled dot-product attention: y = softmax(scale q k^T) v for each head, the matrix of scores never in
 * memory (Dao et al. 2022). q [B,H,T,D]; k, v [B,Hk,S,D], each of whose heads serves H / Hk heads of q (Ainslie et al.
 * 2023); or all packed in one operand [B,T,(H + 2 Hk) D], and then y is [B,T,H D]. Causal: query t sees the keys
 * s <= t + S - T, so that the last query sees them all; one that sees none gets 0.
 *
 * The further result l [B,H,T] is the logarithm of the sum of e^score over the keys seen (0 where none), from which the
 * gradient finds the softmax p again:
 *   p = e^(scale q k^T - l)    d = sum over D of dy y    ds = p (dy v^T - d)
 *   dq = scale ds k            dk = scale ds^T q         dv = p^T dy
 * It goes once along the queries and once along the keys, so that each sum has one owner and one order; scores and
 * dy v^T are computed both times. */
#include "../op.h"
#include <math.h>
#include <string.h>

/* ---- shape rules ------------------------------------------------------------------------------------ */

/* l and d are sums: never narrower than F32. */
static qn_dtype sum_dtype(qn_dtype dtype) { return dtype == QN_F64 ? QN_F64 : QN_F32; }

static qn_status check_separate(const struct qn__node *const *x, qn_error *err)
{
    const int64_t *q = x[0]->dim, *k = x[1]->dim;
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

static qn_status check_packed(const struct qn__node *x, const struct qn__attention_attr *attr, qn_error *err)
{
    int64_t h = attr->heads, kv = attr->kv_heads;
    if (x->rank != 3) return qn__fail(err, 2203, NULL, "rank %d; expected [batch,time,heads]", x->rank);
    if (h < 1 || kv < 1 || h > INT32_MAX || h % kv != 0)
        return qn__fail(err, 2204, NULL, "%lld heads of k for %lld of q; expected a number that divides it",
                        (long long)kv, (long long)h);
    if (x->dim[2] < 1 || x->dim[2] % (h + 2 * kv) != 0)
        return qn__fail(err, 2201, NULL,
                        "%lld numbers at each time; expected a multiple of the %lld heads of q, k and v",
                        (long long)x->dim[2], (long long)(h + 2 * kv));
    return QN_OK;
}

/* Dims of q as [B,H,T,D] and of keys; y's shape. */
struct sizes {
    int64_t q[4], keys;
};
static struct sizes sizes_of(const struct qn__node *const *x, const struct qn__attention_attr *attr)
{
    const int64_t *d = x[0]->dim;
    if (attr->heads) {
        int64_t size = d[2] / (attr->heads + 2 * attr->kv_heads);
        return (struct sizes){ { d[0], attr->heads, d[1], size }, d[1] };
    }
    return (struct sizes){ { d[0], d[1], d[2], d[3] }, x[1]->dim[2] };
}

static qn_status check_operands(const struct qn__node *const *x, const struct qn__node *y, qn_error *err)
{
    const struct qn__attention_attr *attr = y->attr;
    int inputs = attr->heads ? 1 : 3, expected = y->op == QN_OP_attention ? inputs : inputs + 3;
    if (y->n_in != expected) return qn__fail(err, 2204, NULL, "%d operands; expected %d", y->n_in, expected);
    if (!qn_dtype_is_float(x[0]->dtype))
        return qn__fail(err, 2202, NULL, "%s; expected F32, F64, BF16 or F16", qn_dtype_name(x[0]->dtype));
    return attr->heads ? check_packed(x[0], attr, err) : check_separate(x, err);
}

static void set_result(const struct qn__node *const *x, struct qn__node *y)
{
    const struct qn__attention_attr *attr = y->attr;
    struct sizes s = sizes_of(x, attr);
    y->dtype = x[0]->dtype;
    y->rank = x[0]->rank;
    memcpy(y->dim, x[0]->dim, sizeof y->dim);
    if (attr->heads) y->dim[2] = s.q[1] * s.q[3];
}

static qn_status infer(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    QN_TRY(check_operands(x, y, err));
    set_result(x, y);
    return QN_OK;
}

/* q, k, v (or qkv), y, l, dy */
static qn_status infer_grad(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    QN_TRY(check_operands(x, y, err));
    struct sizes s = sizes_of(x, y->attr);
    struct qn__node result = *y;
    set_result(x, &result);
    for (int i = y->n_in - 3; i < y->n_in; i += 2)
        if (!qn__same_dims(x[i], &result) || x[i]->dtype != result.dtype)
            return qn__fail(err, 2201, NULL, "operand %d does not fit; expected the result's dtype and shape", i);
    const struct qn__node *l = x[y->n_in - 2];
    if (l->rank != 3 || memcmp(l->dim, s.q, 3 * sizeof *l->dim) != 0 || l->dtype != sum_dtype(x[0]->dtype))
        return qn__fail(err, 2201, NULL, "l does not fit; expected one number a query");
    return qn__infer_like(x, y, err);
}

/* ---- gradient ---------------------------------------------------------------------------------------- */

static void vjp(qn_graph *g, const struct qn__node *y, qn_t self, qn_t dy, qn_t *dx)
{
    const struct qn__attention_attr *attr = y->attr;
    qn_t x[6] = { qn__in(y, 0) };
    int n = y->n_in;
    struct qn__node q = *qn__at(g, x[0]), kv = q;
    for (int i = 1; i < n; i++) x[i] = qn__in(y, i);
    if (n == 3) kv = *qn__at(g, x[1]);
    const struct qn__node *in = &q;
    struct sizes s = attr->heads ? sizes_of(&in, attr) : (struct sizes){ { q.dim[0], q.dim[1], q.dim[2] }, 0 };
    x[n] = self;
    x[n + 1] = qn__output(g, self, 0, sum_dtype(y->dtype), 3, s.q);
    x[n + 2] = dy;
    dx[0] = qn__node(g, QN_OP_attention_grad, x, n + 3, attr);
    for (int i = 1; i < n; i++) dx[i] = qn__output(g, dx[0], i - 1, kv.dtype, 4, kv.dim);
}

/* ---- costs ------------------------------------------------------------------------------------------- */

/* `products` multiplications of matrices over the pairs of query and key that see each other. */
static struct qn__cost cost_of(const struct qn__node *const *x, const struct qn__node *y, double products)
{
    const struct qn__attention_attr *attr = y->attr;
    struct sizes z = sizes_of(x, attr);
    double t = (double)z.q[2], s = (double)z.keys, pairs = t * s;
    if (attr->causal) {
        double seen = t < s ? t : s; /* queries that see a key */
        pairs = seen * (s - seen) + seen * (seen + 1) / 2;
    }
    struct qn__cost c = qn__cost_move(x, y);
    c.flops = products * 2 * (double)z.q[0] * (double)z.q[1] * (double)z.q[3] * pairs;
    return c;
}
/* l is written too */
static struct qn__cost cost(const struct qn__node *const *x, const struct qn__node *y)
{
    struct sizes z = sizes_of(x, y->attr);
    struct qn__cost c = cost_of(x, y, 2);
    c.bytes += (double)z.q[0] * (double)z.q[1] * (double)z.q[2] * (double)qn_dtype_size(sum_dtype(y->dtype));
    return c;
}
/* dk and dv too, if they are not in one with dq */
static struct qn__cost cost_grad(const struct qn__node *const *x, const struct qn__node *y)
{
    struct qn__cost c = cost_of(x, y, 7);
    if (y->n_in == 6) c.bytes += 2 * (double)x[1]->count * (double)qn_dtype_size(y->dtype);
    return c;
}

#define ATTR .attr_size = sizeof(struct qn__attention_attr)
const struct qn__op qn__op_attention = {
    .name = "attention", .infer = infer, .vjp = vjp, .cost = cost, ATTR, .more = 1
};
const struct qn__op qn__op_attention_grad = {
    .name = "attention_grad",
    .infer = infer_grad,
    .cost = cost_grad,
    ATTR,
    .more = 2,
    .no_gradient = "first derivative only: attention's gradient",
};

static qn_t build(qn_graph *g, const qn_t *x, int n, const qn_attention_opts *opts, int64_t heads, int64_t kv_heads,
                  int64_t size)
{
    static const qn_attention_opts defaults = { .scale = 0 };
    struct qn__attention_attr attr;
    if (!opts) opts = &defaults;
    memset(&attr, 0, sizeof attr);
    attr.scale = opts->scale != 0 ? opts->scale : 1 / sqrt((double)(size > 0 ? size : 1));
    attr.causal = opts->causal;
    attr.heads = heads;
    attr.kv_heads = kv_heads;
    if (!isfinite(attr.scale))
        qn__graph_fail(g, 2204, "attention", "scale %g; expected a finite number, 0 for 1/sqrt(head size)",
                       opts->scale);
    return qn__node(g, QN_OP_attention, x, n, &attr);
}

qn_t qn_attention(qn_graph *g, qn_t q, qn_t k, qn_t v, const qn_attention_opts *opts)
{
    return build(g, (qn_t[]){ q, k, v }, 3, opts, 0, 0, qn_dim(g, q, 3));
}

qn_t qn_attention_packed(qn_graph *g, qn_t qkv, int64_t heads, int64_t kv_heads, const qn_attention_opts *opts)
{
    bool fits = heads > 0 && kv_heads > 0 && heads <= INT32_MAX && kv_heads <= heads;
    if (!fits)
        return qn__graph_fail(g, 2204, "attention",
                              "%lld heads of q, %lld of k; expected a number from 1 and one that "
                              "divides it",
                              (long long)heads, (long long)kv_heads);
    return build(g, &qkv, 1, opts, heads, kv_heads, qn_dim(g, qkv, 2) / (heads + 2 * kv_heads));
}
