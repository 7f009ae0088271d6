/* attention.c - cases of attention and the two rows of its gradient.
 *
 * The bounds follow the sums: a score of D products is off by (D + 2) u sum |q k|, which makes p relative; sums of S
 * products of p add (S + 8) u. The gradient rows take l, d and y as any numbers: their formulas do not ask where they
 * come from. */
#include "ops.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* p[0]: causal; p[1]: which result; p[2]: head size; q[0]: scale, 0 for the default */
enum { KEYS_MAX = 300 };

static double scale_of(const struct op_case *c) { return c->q[0] != 0 ? c->q[0] : 1 / sqrt((double)c->p[2]); }

static struct qn__attention_attr attr_of(const struct op_case *c)
{
    struct qn__attention_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.scale = scale_of(c);
    attr.causal = c->p[0] != 0;
    return attr;
}

static int64_t keys_seen(const struct op_case *c, const struct op_data *q, const struct op_data *k, int64_t t)
{
    int64_t n = c->p[0] ? t + k->dim[2] - q->dim[2] + 1 : k->dim[2];
    return n < 0 ? 0 : n;
}

/* Head of k that head `head` (batch included) of q uses. */
static int64_t shared(const struct op_data *q, const struct op_data *k, int64_t head)
{
    return head / (q->dim[1] / k->dim[1]);
}

/* ---- one pair of query and key ------------------------------------------------------------------------ */

struct score {
    double s, error;
};

static double dot(const double *a, const double *b, int64_t n, double *size)
{
    long double sum = 0;
    *size = 0;
    for (int64_t d = 0; d < n; d++) {
        sum += (long double)a[d] * (long double)b[d];
        *size += fabs(a[d] * b[d]);
    }
    return (double)sum;
}

static struct score score_of(const struct op_case *c, const struct op_data *x, int64_t row, int64_t key, double u)
{
    int64_t n = x[0].dim[3];
    double size, s = scale_of(c) * dot(x[0].v + row * n, x[1].v + key * n, n, &size);
    return (struct score){ s, u * (fabs(scale_of(c)) * ((double)n + 2) * size + 2 * fabs(s)) };
}

/* ---- forward ------------------------------------------------------------------------------------------ */

/* The softmax of a query: p of each key, its share of error, l and its error. */
struct query {
    const struct op_case *c;
    int64_t row, seen, first_key;
    double u, p[KEYS_MAX], share[KEYS_MAX], l, l_error;
};

/* Kept from element to element: bounds are asked for in order. */
static const struct query *query_of(const struct op_case *c, const struct op_data *x, int64_t row, double u)
{
    static struct query k;
    if (k.c == c && k.row == row && k.u == u) return &k;
    int64_t t = x[0].dim[2], s = x[1].dim[2];
    k = (struct query){ .c = c, .row = row, .u = u, .seen = keys_seen(c, &x[0], &x[1], row % t) };
    k.first_key = shared(&x[0], &x[1], row / t) * s;
    double largest = -INFINITY, of_score = 0;
    struct score score[KEYS_MAX];
    for (int64_t j = 0; j < k.seen; j++) {
        score[j] = score_of(c, x, row, k.first_key + j, u);
        largest = fmax(largest, score[j].s);
    }
    long double total = 0;
    for (int64_t j = 0; j < k.seen; j++) total += expl((long double)score[j].s - (long double)largest);
    for (int64_t j = 0; j < k.seen; j++) {
        k.p[j] = (double)(expl((long double)score[j].s - (long double)largest) / total);
        of_score += k.p[j] * (score[j].error + 2 * u * (largest - score[j].s));
    }
    for (int64_t j = 0; j < k.seen; j++)
        k.share[j] = score[j].error + of_score + u * (2 * (largest - score[j].s) + 2 * (double)k.seen + 16);
    if (k.seen) k.l = largest + (double)logl(total);
    k.l_error = of_score + u * (2 * fabs(k.l) + fabs(largest) + (double)k.seen + 16);
    return &k;
}

static qn_t build(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    qn_t y = qn_attention(g, x[0], x[1], x[2], &(qn_attention_opts){ .causal = c->p[0] != 0, .scale = c->q[0] });
    struct qn__node shape = *qn__at(g, y);
    return c->p[1] ? qn__output(g, y, 0, shape.dtype, 3, shape.dim) : y;
}
static void oracle(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    int64_t n = x[0].dim[3];
    for (int64_t i = 0; i < y->count; i++) {
        const struct query *k = query_of(c, x, c->p[1] ? i : i / n, 0);
        long double sum = 0;
        for (int64_t j = 0; j < k->seen && !c->p[1]; j++)
            sum += (long double)k->p[j] * (long double)x[2].v[(k->first_key + j) * n + i % n];
        y->v[i] = c->p[1] ? k->l : (double)sum;
    }
}
static double bound(const struct op_case *c, const struct op_data *x, const struct op_data *y, int64_t i, double u)
{
    int64_t n = x[0].dim[3];
    const struct query *k = query_of(c, x, c->p[1] ? i : i / n, u);
    double error = u * fabs(y->v[i]);
    if (c->p[1]) return k->l_error;
    for (int64_t j = 0; j < k->seen; j++)
        error += k->p[j] * fabs(x[2].v[(k->first_key + j) * n + i % n]) * (k->share[j] + ((double)k->seen + 8) * u);
    return error;
}

/* ---- gradients ---------------------------------------------------------------------------------------- */

/* q, k, v, y, l, dy for dq and d; q, k, v, dy, l, d for dk and dv */
static qn_t build_dq(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    struct qn__attention_attr attr = attr_of(c);
    qn_t y = qn__node(g, QN_OP_attention_grad_q, x, 6, &attr);
    struct qn__node shape = *qn__at(g, y);
    return c->p[1] ? qn__output(g, y, 0, shape.dtype, 3, shape.dim) : y;
}
static qn_t build_dkv(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    struct qn__attention_attr attr = attr_of(c);
    qn_t y = qn__node(g, QN_OP_attention_grad_kv, x, 6, &attr);
    struct qn__node shape = *qn__at(g, y);
    return c->p[1] ? qn__output(g, y, 0, shape.dtype, 4, shape.dim) : y;
}

/* p and ds of a pair, with errors; d: sum of dy y and its error. */
struct pair {
    double p, p_error, ds, ds_error;
};
static struct pair pair_of(const struct op_case *c, const struct op_data *x, int64_t row, int64_t key, const double *dy,
                           double d, double d_error, double u)
{
    struct score s = score_of(c, x, row, key, u);
    struct pair r;
    int64_t n = x[0].dim[3];
    double l = x[4].v[row], size, dp = dot(dy, x[2].v + key * n, n, &size), scale = fabs(scale_of(c));
    r.p = exp(s.s - l);
    r.p_error = r.p * (s.error + u * (fabs(s.s) + fabs(l) + 2 * fabs(s.s - l) + 8));
    r.ds = r.p * (dp - d) * scale_of(c);
    r.ds_error = scale * (r.p_error * (fabs(dp - d) + d_error) +
                          r.p * (u * ((double)n + 2) * size + d_error + 4 * u * (fabs(dp - d))));
    return r;
}

static double sum_of_dy_y(const struct op_data *x, int64_t row, double u, double *error)
{
    int64_t n = x[0].dim[3];
    double size, d = dot(x[5].v + row * n, x[3].v + row * n, n, &size);
    *error = u * (((double)n + 2) * size + fabs(d));
    return d;
}

static double dq_of(const struct op_case *c, const struct op_data *x, int64_t i, double u, double *error)
{
    int64_t n = x[0].dim[3], row = i / n, t = x[0].dim[2], first = shared(&x[0], &x[1], row / t) * x[1].dim[2];
    int64_t seen = keys_seen(c, &x[0], &x[1], row % t);
    double of_d, d = sum_of_dy_y(x, row, u, &of_d);
    long double sum = 0;
    *error = 0;
    for (int64_t j = 0; j < seen; j++) {
        struct pair r = pair_of(c, x, row, first + j, x[5].v + row * n, d, of_d, u);
        double k = x[1].v[(first + j) * n + i % n];
        sum += (long double)r.ds * (long double)k;
        *error += fabs(k) * (r.ds_error + u * ((double)seen + 4) * fabs(r.ds));
    }
    *error += u * fabs((double)sum);
    return (double)sum;
}
static void oracle_dq(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    double error;
    for (int64_t i = 0; i < y->count; i++) y->v[i] = c->p[1] ? sum_of_dy_y(x, i, 0, &error) : dq_of(c, x, i, 0, &error);
}
static double bound_dq(const struct op_case *c, const struct op_data *x, const struct op_data *y, int64_t i, double u)
{
    double error;
    (void)y;
    (void)(c->p[1] ? sum_of_dy_y(x, i, u, &error) : dq_of(c, x, i, u, &error));
    return error;
}

static double dkv_of(const struct op_case *c, const struct op_data *x, int64_t i, double u, double *error)
{
    int64_t n = x[0].dim[3], key = i / n, s = x[1].dim[2], t = x[0].dim[2], group = x[0].dim[1] / x[1].dim[1];
    long double sum = 0;
    *error = 0;
    double terms = (double)(group * t) + 4;
    for (int64_t row = key / s * group * t; row < (key / s + 1) * group * t; row++) {
        if (keys_seen(c, &x[0], &x[1], row % t) <= key % s) continue;
        struct pair r = pair_of(c, x, row, key, x[3].v + row * n, x[5].v[row], 0, u);
        double with = c->p[1] ? x[3].v[row * n + i % n] : x[0].v[row * n + i % n], from = c->p[1] ? r.p : r.ds;
        sum += (long double)from * (long double)with;
        *error += fabs(with) * ((c->p[1] ? r.p_error : r.ds_error) + u * terms * fabs(from));
    }
    *error += u * fabs((double)sum);
    return (double)sum;
}
static void oracle_dkv(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    double error;
    for (int64_t i = 0; i < y->count; i++) y->v[i] = dkv_of(c, x, i, 0, &error);
}
static double bound_dkv(const struct op_case *c, const struct op_data *x, const struct op_data *y, int64_t i, double u)
{
    double error;
    (void)y;
    dkv_of(c, x, i, u, &error);
    return error;
}

/* ---- tables --------------------------------------------------------------------------------------------- */

/* clang-format off */
#define HEADS(b, h, t, n) { .rank = 4, .dim = { b, h, t, n } }
#define SUMS(b, h, t) { .rank = 3, .dim = { b, h, t } }
#define ONLY_Y .no_gradient_check = "the further result only serves the gradient"
#define MASKED .finite_only = "a NaN in a hidden key may meet a factor 0"

/* X(name, batch, heads, heads of k, queries, keys, size, scale): blocks and their tails on both sides and along the
 * head, shared heads, one of everything, nothing. */
#define TIMES(X, n) X(#n " times", 1, 2, 1, n, n, 4, 0)
#define FULL(X)                                                                                    \
    TIMES(X, 0) TIMES(X, 1) TIMES(X, 31) TIMES(X, 33) TIMES(X, 127) TIMES(X, 129)                  \
    X("no keys", 1, 2, 2, 3, 0, 4, 0) X("no batch", 0, 2, 2, 3, 3, 4, 0) X("one of each", 1, 1, 1, 1, 1, 1, 0) \
    X("few queries", 2, 2, 2, 3, 70, 8, 0) X("few keys", 2, 2, 2, 70, 3, 8, 0) X("size 5", 2, 1, 1, 9, 7, 5, 0) \
    X("size 32", 1, 1, 1, 17, 20, 32, 0) X("size 40", 1, 2, 2, 18, 21, 40, 0) X("size 64", 1, 2, 1, 12, 66, 64, 0) \
    X("size 80", 1, 2, 1, 10, 12, 80, 0) X("size 128", 1, 1, 1, 9, 18, 128, 0)                     \
    X("heads shared by 4", 2, 8, 2, 10, 12, 16, 0) X("scale", 1, 2, 2, 9, 9, 8, -0.75)
#define LARGE(X) X("257 times", 1, 1, 1, 257, 257, 8, 0) X("threads", 2, 4, 4, 67, 69, 32, 0)
#define CAUSAL(X)                                                                                  \
    TIMES(X, 1) TIMES(X, 31) TIMES(X, 65) TIMES(X, 129) X("more keys", 1, 2, 1, 40, 100, 8, 0)     \
    X("one query", 2, 4, 2, 1, 70, 16, 0) X("more queries", 1, 2, 1, 100, 40, 8, 0)                \
    X("size 64", 1, 2, 2, 66, 66, 64, 0) X("size 128", 1, 1, 1, 20, 20, 128, 0) X("no keys", 1, 2, 2, 3, 0, 4, 0)

#define CASE(text, b, h, hk, t, s, n, scale, causal, which, ...)                                   \
    { .name = text, .build = build, .oracle = oracle, .bound = bound, .n_in = 3, .p = { causal, which, n }, \
      .q = { scale }, .in = { HEADS(b, h, t, n), HEADS(b, hk, s, n), HEADS(b, hk, s, n) }, __VA_ARGS__ },
#define Y(text, ...) CASE(text, __VA_ARGS__, 0, 0, .finite_only = NULL)
#define L(text, ...) CASE(text ", further result", __VA_ARGS__, 0, 1, ONLY_Y)
#define Y_CAUSAL(text, ...) CASE(text " causal", __VA_ARGS__, 1, 0, MASKED)
#define L_CAUSAL(text, ...) CASE(text " causal, further result", __VA_ARGS__, 1, 1, MASKED, ONLY_Y)
static const struct op_case forward[] = { FULL(Y) LARGE(Y) CAUSAL(Y_CAUSAL) FULL(L) CAUSAL(L_CAUSAL) };
OP_CASES(attention, forward);
#undef CASE

#define CASE(text, b, h, hk, t, s, n, scale, causal, which, ...)                                   \
    { .name = text, .build = build_dq, .oracle = oracle_dq, .bound = bound_dq, .n_in = 6, .p = { causal, which, n }, \
      .q = { scale }, .in = { HEADS(b, h, t, n), HEADS(b, hk, s, n), HEADS(b, hk, s, n), HEADS(b, h, t, n), \
                              SUMS(b, h, t), HEADS(b, h, t, n) }, __VA_ARGS__ },
static const struct op_case dq[] = { FULL(Y) LARGE(Y) CAUSAL(Y_CAUSAL) FULL(L) };
OP_CASES(attention_grad_q, dq);
#undef CASE

#define CASE(text, b, h, hk, t, s, n, scale, causal, which, ...)                                   \
    { .name = text, .build = build_dkv, .oracle = oracle_dkv, .bound = bound_dkv, .n_in = 6, .p = { causal, which, n }, \
      .q = { scale }, .in = { HEADS(b, h, t, n), HEADS(b, hk, s, n), HEADS(b, hk, s, n), HEADS(b, h, t, n), \
                              SUMS(b, h, t), SUMS(b, h, t) }, __VA_ARGS__ },
static const struct op_case dkv[] = { FULL(Y) LARGE(Y) CAUSAL(Y_CAUSAL) FULL(L) CAUSAL(L_CAUSAL) };
OP_CASES(attention_grad_kv, dkv);
/* clang-format on */
