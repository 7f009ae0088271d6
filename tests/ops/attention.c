/* attention.c - cases of attention and the two rows of its gradient.
 *
 * The bounds follow the sums: a score of D products is off by (D + 2) u sum |q k|, which makes p relative; sums of S
 * products of p add (S + 8) u. The gradient takes l and y as any numbers: its formulas do not ask where they come
 * from. */
#include "ops.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* p[0]: causal; p[1]: which result; p[2]: head size; p[3]: through the packed operand; q[0]: scale, 0 for the
 * default */
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
    static double first; /* of q: another run has it rounded otherwise */
    if (k.c == c && k.row == row && k.u == u && first == x[0].v[0]) return &k;
    first = x[0].v[0];
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
    if (k.seen) k.l_error = of_score + u * (2 * fabs(k.l) + fabs(largest) + (double)k.seen + 16);
    return &k;
}

/* [B,n,T,D] as [B,T,n D] and back */
static qn_t by_time(qn_graph *g, qn_t x)
{
    int64_t d[4];
    for (int i = 0; i < 4; i++) d[i] = qn_dim(g, x, i);
    return qn_reshape(g, qn_transpose(g, x, (const int[]){ 0, 2, 1, 3 }), 3, (int64_t[]){ d[0], d[2], d[1] * d[3] });
}
static qn_t by_head(qn_graph *g, qn_t x, int64_t heads, int64_t size)
{
    qn_t y = qn_reshape(g, x, 4, (int64_t[]){ qn_dim(g, x, 0), qn_dim(g, x, 1), heads, size });
    return qn_transpose(g, y, (const int[]){ 0, 2, 1, 3 });
}
static qn_t packed(qn_graph *g, const qn_t *x)
{
    return qn_concat(g, (qn_t[]){ by_time(g, x[0]), by_time(g, x[1]), by_time(g, x[2]) }, 3, 2);
}
/* part `which` of a packed gradient */
static qn_t part_of(qn_graph *g, qn_t x, const struct op_case *c, int which)
{
    int64_t h = c->in[0].dim[1], kv = c->in[1].dim[1], n = c->p[2], at[] = { 0, h * n, (h + kv) * n };
    qn_t part = qn_slice(g, x, (int64_t[]){ 0, 0, at[which] },
                         (int64_t[]){ qn_dim(g, x, 0), qn_dim(g, x, 1), (which ? kv : h) * n });
    return by_head(g, part, which ? kv : h, n);
}

/* l is never narrower than F32 */
static qn_dtype sum_dtype(qn_graph *g, const qn_t *x) { return qn_dtype_of(g, x[0]) == QN_F64 ? QN_F64 : QN_F32; }

static qn_t build(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    const qn_attention_opts opts = { .causal = c->p[0] != 0, .scale = c->q[0] };
    int64_t h = qn_dim(g, x[0], 1), dims[] = { qn_dim(g, x[0], 0), h, qn_dim(g, x[0], 2) };
    qn_t y = c->p[3] ? qn_attention_packed(g, packed(g, x), h, qn_dim(g, x[1], 1), &opts)
                     : qn_attention(g, x[0], x[1], x[2], &opts);
    if (c->p[1]) return qn__output(g, y, 0, sum_dtype(g, x), 3, dims);
    return c->p[3] ? by_head(g, y, h, c->p[2]) : y;
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

/* On tensor cores p is rounded to the type of v; below F16's smallest normal number by as much as that. */
static const double least_normal = 0x1p-14;
static double rounded_p(const struct op_case *c, const struct op_data *x, const struct op_data *y, int64_t i)
{
    int64_t n = x[0].dim[3];
    const struct query *k = query_of(c, x, c->p[1] ? i : i / n, 0);
    double sum = 0;
    (void)y;
    for (int64_t j = 0; j < k->seen && !c->p[1]; j++)
        sum += (k->p[j] + least_normal) * fabs(x[2].v[(k->first_key + j) * n + i % n]);
    return sum;
}

/* ---- gradients ---------------------------------------------------------------------------------------- */

static qn_t build_grad(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    struct qn__attention_attr attr = attr_of(c);
    int which = (int)c->p[1];
    qn_t l = qn_dtype_of(g, x[4]) == sum_dtype(g, x) ? x[4] : qn_cast(g, x[4], sum_dtype(g, x));
    if (!c->p[3]) {
        qn_t y = qn__node(g, QN_OP_attention_grad, (qn_t[]){ x[0], x[1], x[2], x[3], l, x[5] }, 6, &attr);
        struct qn__node kv = *qn__at(g, x[1]);
        return which ? qn__output(g, y, which - 1, kv.dtype, 4, kv.dim) : y;
    }
    attr.heads = qn_dim(g, x[0], 1);
    attr.kv_heads = qn_dim(g, x[1], 1);
    qn_t in[] = { packed(g, x), by_time(g, x[3]), l, by_time(g, x[5]) };
    return part_of(g, qn__node(g, QN_OP_attention_grad, in, 4, &attr), c, which);
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

/* Pairs [row of q][key] of a case, kept from element to element. Operands of another run differ somewhere in what is
 * compared: they are drawn alike, but rounded otherwise. */
struct pairs {
    const struct op_case *c;
    struct pair *of;
    int64_t room;
    double u, ends[12];
};
static bool are_of(const struct pairs *k, const struct op_case *c, const double *ends, double u)
{
    return k->of && k->c == c && k->u == u && memcmp(k->ends, ends, sizeof k->ends) == 0;
}
static const struct pair *pairs_of(const struct op_case *c, const struct op_data *x, double u)
{
    static struct pairs kept[2];
    struct pairs *k = &kept[u != 0];
    int64_t n = x[0].dim[3], t = x[0].dim[2], keys = x[1].dim[2], rows = x[0].dim[0] * x[0].dim[1] * t;
    double ends[12];
    for (int i = 0; i < 6; i++) {
        ends[2 * i] = x[i].count ? x[i].v[0] : 0;
        ends[2 * i + 1] = x[i].count ? x[i].v[x[i].count - 1] : 0;
    }
    if (are_of(k, c, ends, u)) return k->of;
    if (rows * keys >= k->room) {
        free(k->of);
        k->room = rows * keys + 1;
        k->of = calloc((size_t)k->room, sizeof *k->of);
        assert_non_null(k->of);
    }
    k->c = c;
    k->u = u;
    memcpy(k->ends, ends, sizeof ends);
    for (int64_t row = 0; row < rows; row++) {
        double of_d, d = sum_of_dy_y(x, row, u, &of_d);
        int64_t seen = keys_seen(c, &x[0], &x[1], row % t), first = shared(&x[0], &x[1], row / t) * keys;
        for (int64_t j = 0; j < seen; j++)
            k->of[row * keys + j] = pair_of(c, x, row, first + j, x[5].v + row * n, d, of_d, u);
    }
    return k->of;
}

/* error: the bound for u; size: what is rounded to 16 bits on the way, the sum of magnitudes (as rounded_p) */
static double dq_of(const struct op_case *c, const struct op_data *x, int64_t i, double u, double *error, double *size)
{
    int64_t n = x[0].dim[3], row = i / n, t = x[0].dim[2], first = shared(&x[0], &x[1], row / t) * x[1].dim[2];
    int64_t seen = keys_seen(c, &x[0], &x[1], row % t);
    const struct pair *pair = pairs_of(c, x, u) + row * x[1].dim[2];
    long double sum = 0;
    *error = *size = 0;
    for (int64_t j = 0; j < seen; j++) {
        struct pair r = pair[j];
        double k = x[1].v[(first + j) * n + i % n];
        sum += (long double)r.ds * (long double)k;
        *size += (fabs(r.ds) + least_normal * fabs(scale_of(c))) * fabs(k);
        *error += fabs(k) * (r.ds_error + u * ((double)seen + 4) * fabs(r.ds));
    }
    *error += u * fabs((double)sum);
    return (double)sum;
}
static double dkv_of(const struct op_case *c, const struct op_data *x, int64_t i, double u, bool of_v, double *error,
                     double *size)
{
    int64_t n = x[0].dim[3], key = i / n, s = x[1].dim[2], t = x[0].dim[2], group = x[0].dim[1] / x[1].dim[1];
    const struct pair *pair = pairs_of(c, x, u);
    long double sum = 0;
    *error = *size = 0;
    double terms = (double)(group * t) + 4;
    for (int64_t row = key / s * group * t; row < (key / s + 1) * group * t; row++) {
        if (keys_seen(c, &x[0], &x[1], row % t) <= key % s) continue;
        struct pair r = pair[row * s + key % s];
        double with = of_v ? x[5].v[row * n + i % n] : x[0].v[row * n + i % n], from = of_v ? r.p : r.ds;
        sum += (long double)from * (long double)with;
        *size += (fabs(from) + least_normal * (of_v ? 1 : fabs(scale_of(c)))) * fabs(with);
        *error += fabs(with) * ((of_v ? r.p_error : r.ds_error) + u * terms * fabs(from));
    }
    *error += u * fabs((double)sum);
    return (double)sum;
}
/* p[1]: 0 dq, 1 dk, 2 dv */
static double grad_of(const struct op_case *c, const struct op_data *x, int64_t i, double u, double *error,
                      double *size)
{
    return c->p[1] ? dkv_of(c, x, i, u, c->p[1] == 2, error, size) : dq_of(c, x, i, u, error, size);
}
static void oracle_grad(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    double error, size;
    for (int64_t i = 0; i < y->count; i++) y->v[i] = grad_of(c, x, i, 0, &error, &size);
}
static double bound_grad(const struct op_case *c, const struct op_data *x, const struct op_data *y, int64_t i, double u)
{
    double error, size;
    (void)y;
    grad_of(c, x, i, u, &error, &size);
    return error;
}
static double rounded_ds(const struct op_case *c, const struct op_data *x, const struct op_data *y, int64_t i)
{
    double error, size;
    (void)y;
    grad_of(c, x, i, 0x1p-24, &error, &size); /* the pairs of the bound */
    return size;
}

/* ---- tables --------------------------------------------------------------------------------------------- */

/* clang-format off */
#define HEADS(b, h, t, n) { .rank = 4, .dim = { b, h, t, n } }
/* p of any size would not fit F16 */
#define SUMS(b, h, t) { .rank = 3, .dim = { b, h, t }, .low = 3, .high = 6 }
#define ONLY_Y .no_gradient_check = "the further result only serves the gradient"
#define MASKED .finite_only = "a NaN in a hidden key may meet a factor 0"

/* X(name, batch, heads, heads of k, queries, keys, size, scale): blocks and their tails on both sides and along the
 * head, shared heads, one of everything, nothing. */
#define TIMES(X, n) X(#n " times", 1, 2, 1, n, n, 4, 0)
#define FULL(X)                                                                                    \
    TIMES(X, 0) TIMES(X, 1) TIMES(X, 31) TIMES(X, 33) TIMES(X, 127) TIMES(X, 129)                  \
    X("no keys", 1, 2, 2, 3, 0, 8, 0) X("no queries", 1, 2, 2, 0, 3, 8, 0) \
    X("no batch", 0, 2, 2, 3, 3, 4, 0) X("one of each", 1, 1, 1, 1, 1, 1, 0) \
    X("few queries", 2, 2, 2, 3, 70, 8, 0) X("few keys", 2, 2, 2, 70, 3, 8, 0) X("size 5", 2, 1, 1, 9, 7, 5, 0) \
    X("size 32", 1, 1, 1, 17, 20, 32, 0) X("size 40", 1, 2, 2, 18, 21, 40, 0) X("size 64", 1, 2, 1, 12, 66, 64, 0) \
    X("size 80", 1, 2, 1, 10, 12, 80, 0) X("size 128", 1, 1, 1, 9, 18, 128, 0)                     \
    X("size 130", 1, 2, 1, 9, 70, 130, 0) X("heads shared by 4", 2, 8, 2, 10, 12, 16, 0)              \
    X("scale", 1, 2, 2, 9, 9, 8, -0.75)
#define LARGE(X) X("257 times", 1, 1, 1, 257, 257, 8, 0) X("threads", 2, 4, 4, 67, 69, 32, 0)
#define CAUSAL(X)                                                                                  \
    TIMES(X, 1) TIMES(X, 31) TIMES(X, 65) TIMES(X, 129) X("more keys", 1, 2, 1, 40, 100, 8, 0)     \
    X("one query", 2, 4, 2, 1, 70, 16, 0) X("more queries", 1, 2, 1, 100, 40, 8, 0)                \
    X("size 64", 1, 2, 2, 66, 66, 64, 0) X("size 128", 1, 1, 1, 20, 20, 128, 0) X("no keys", 1, 2, 2, 3, 0, 8, 0) \
    X("tiles of size 72", 1, 2, 1, 34, 67, 72, 0)

/* for qn_attention_packed: as many keys as queries */
#define PACKED(X)                                                                                  \
    TIMES(X, 0) TIMES(X, 1) TIMES(X, 33) TIMES(X, 65) X("heads shared by 4", 2, 8, 2, 10, 10, 16, 0) \
    X("size 64", 2, 3, 3, 20, 20, 64, 0) X("size 5", 2, 2, 1, 9, 9, 5, 0)

#define CASE(text, b, h, hk, t, s, n, scale, causal, which, pack, ...)                             \
    { .name = text, .build = build, .oracle = oracle, .bound = bound, .between = rounded_p, .n_in = 3, \
      .p = { causal, which, n, pack }, \
      .q = { scale }, .in = { HEADS(b, h, t, n), HEADS(b, hk, s, n), HEADS(b, hk, s, n) }, __VA_ARGS__ },
#define Y(text, ...) CASE(text, __VA_ARGS__, 0, 0, 0, .finite_only = NULL)
#define L(text, ...) CASE(text ", further result", __VA_ARGS__, 0, 1, 0, ONLY_Y)
#define Y_CAUSAL(text, ...) CASE(text " causal", __VA_ARGS__, 1, 0, 0, MASKED)
#define L_CAUSAL(text, ...) CASE(text " causal, further result", __VA_ARGS__, 1, 1, 0, MASKED, ONLY_Y)
#define Y_PACKED(text, ...) CASE(text " packed", __VA_ARGS__, 0, 0, 1, .finite_only = NULL)
#define L_PACKED(text, ...) CASE(text " packed causal, further result", __VA_ARGS__, 1, 1, 1, MASKED, ONLY_Y)
#define Y_PACKED_CAUSAL(text, ...) CASE(text " packed causal", __VA_ARGS__, 1, 0, 1, MASKED)
static const struct op_case forward[] = {
    FULL(Y) LARGE(Y) Y("tiles of size 72", 1, 1, 1, 130, 67, 72, 0) CAUSAL(Y_CAUSAL)
    FULL(L) CAUSAL(L_CAUSAL) PACKED(Y_PACKED) PACKED(Y_PACKED_CAUSAL) PACKED(L_PACKED)
};
OP_CASES(attention, forward);
#undef CASE

#define CASE(text, b, h, hk, t, s, n, scale, causal, which, pack, ...)                             \
    { .name = text, .build = build_grad, .oracle = oracle_grad, .bound = bound_grad, .between = rounded_ds, \
      .n_in = 6, \
      .p = { causal, which, n, pack }, .q = { scale },                                             \
      .in = { HEADS(b, h, t, n), HEADS(b, hk, s, n), HEADS(b, hk, s, n), HEADS(b, h, t, n), SUMS(b, h, t), \
              HEADS(b, h, t, n) }, __VA_ARGS__ },
#define ALL(what, pack, causal, ...) CASE(what " dq", __VA_ARGS__, causal, 0, pack, .finite_only = FINITE(causal)) \
    CASE(what " dk", __VA_ARGS__, causal, 1, pack, .finite_only = FINITE(causal))                  \
    CASE(what " dv", __VA_ARGS__, causal, 2, pack, .finite_only = FINITE(causal))
#define FINITE(causal) (causal) ? "a NaN in a hidden key may meet a factor 0" : NULL
#define GRAD(text, ...) ALL(text, 0, 0, __VA_ARGS__)
#define GRAD_CAUSAL(text, ...) ALL(text " causal", 0, 1, __VA_ARGS__)
#define GRAD_PACKED(text, ...) ALL(text " packed", 1, 0, __VA_ARGS__)
#define GRAD_PACKED_CAUSAL(text, ...) ALL(text " packed causal", 1, 1, __VA_ARGS__)
static const struct op_case gradient[] = {
    FULL(GRAD) LARGE(GRAD) CAUSAL(GRAD_CAUSAL) PACKED(GRAD_PACKED) PACKED(GRAD_PACKED_CAUSAL)
};
OP_CASES(attention_grad, gradient);
/* clang-format on */
