/* recurrent.c - cases of lstm_cell, gru_cell and their gradients.
 *
 * The bounds are sums of what each rounding does: a logistic function or tanh of a rounded sum is off by u times the
 * argument's size plus some roundings of its own, and what follows is a handful of products and sums of numbers that
 * the bound adds up by magnitude. */
#include "ops.h"
#include <math.h>
#include <string.h>

/* p[0]: H; p[1]: which result; p[2]: second gates; p[3]: dh given; p[4]: dc' given */
enum { STEPS = 24 };

static double logistic(double a) { return 1 / (1 + exp(-a)); }

/* ---- LSTM ------------------------------------------------------------------------------------------------- */

struct lstm {
    double i, f, g, o, c, next, t, size;
}; /* size: the largest pre-activation */
static struct lstm lstm_of(const struct op_case *c, const struct op_data *x, int64_t b, int64_t j)
{
    int64_t n = c->p[0];
    double a[4];
    struct lstm r = { .c = x[1].v[b * n + j] };
    for (int k = 0; k < 4; k++) {
        int64_t at = (4 * b + k) * n + j;
        a[k] = x[0].v[at] + (c->p[2] ? x[2].v[at] : 0);
        r.size = fmax(r.size, fabs(x[0].v[at]) + (c->p[2] ? fabs(x[2].v[at]) : 0));
    }
    r.i = logistic(a[0]);
    r.f = logistic(a[1]);
    r.g = tanh(a[2]);
    r.o = logistic(a[3]);
    r.next = r.f * r.c + r.i * r.g;
    r.t = tanh(r.next);
    return r;
}

static qn_t build_lstm(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    qn_t next, h = qn_lstm_cell(g, x[0], c->p[2] ? x[2] : (qn_t){ 0 }, x[1], c->p[1] ? &next : NULL);
    if (c->p[1] == 2) return qn_add(g, qn_square(g, h), next); /* a gradient through both */
    return c->p[1] ? next : h;
}
static void oracle_lstm(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    for (int64_t i = 0; i < y->count; i++) {
        struct lstm r = lstm_of(c, x, i / c->p[0], i % c->p[0]);
        y->v[i] = c->p[1] == 2 ? r.o * r.t * r.o * r.t + r.next : c->p[1] ? r.next : r.o * r.t;
    }
}
static double bound_lstm(const struct op_case *c, const struct op_data *x, const struct op_data *y, int64_t i, double u)
{
    struct lstm r = lstm_of(c, x, i / c->p[0], i % c->p[0]);
    (void)y;
    return u * (r.size + STEPS) * (3 + 2 * fabs(r.c));
}

/* h, its square and c' are stored before they are added. */
static double between_lstm(const struct op_case *c, const struct op_data *x, const struct op_data *y, int64_t i)
{
    struct lstm r = lstm_of(c, x, i / c->p[0], i % c->p[0]);
    double h = r.o * r.t;
    (void)y;
    return c->p[1] == 2 ? 3 * h * h + fabs(r.next) : 0;
}

/* dh and dc' are the operands after the gates */
static struct qn__lstm_attr lstm_attr(const struct op_case *c)
{
    struct qn__lstm_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.two_gates = (int32_t)c->p[2];
    attr.has_dh = (int32_t)c->p[3];
    attr.has_dc = (int32_t)c->p[4];
    return attr;
}
static qn_t build_lstm_grad(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    struct qn__lstm_attr attr = lstm_attr(c);
    qn_t y = qn__node(g, QN_OP_lstm_cell_grad, x, c->n_in, &attr);
    struct qn__node state = *qn__at(g, x[1]);
    return c->p[1] ? qn__output(g, y, 0, state.dtype, 2, state.dim) : y;
}
/* The gradient of gate k, or for k 4 of c; and the sizes that were added up. */
static double lstm_grad(const struct op_case *c, const struct op_data *x, int64_t b, int64_t j, int k, double *size)
{
    struct lstm r = lstm_of(c, x, b, j);
    int64_t n = c->p[0], at = b * n + j;
    int first = 2 + (int)c->p[2];
    double dh = c->p[3] ? x[first].v[at] : 0, dc = c->p[4] ? x[c->n_in - 1].v[at] : 0;
    double e = dc + dh * r.o * (1 - r.t * r.t), all = fabs(dc) + fabs(dh);
    const double value[] = { e * r.g * r.i * (1 - r.i), e * r.c * r.f * (1 - r.f), e * r.i * (1 - r.g * r.g),
                             dh * r.t * r.o * (1 - r.o), e * r.f };
    *size = all * (1 + fabs(r.c)) * (2 + fabs(r.c)) * (r.size + STEPS);
    return value[k];
}
static void oracle_lstm_grad(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    int64_t n = c->p[0], gates = c->p[1] ? 1 : 4;
    double size;
    for (int64_t i = 0; i < y->count; i++)
        y->v[i] = lstm_grad(c, x, i / (gates * n), i % n, c->p[1] ? 4 : (int)(i / n % 4), &size);
}
static double bound_lstm_grad(const struct op_case *c, const struct op_data *x, const struct op_data *y, int64_t i,
                              double u)
{
    int64_t n = c->p[0], gates = c->p[1] ? 1 : 4;
    double size;
    (void)y;
    lstm_grad(c, x, i / (gates * n), i % n, c->p[1] ? 4 : (int)(i / n % 4), &size);
    return 2 * u * size;
}

/* ---- GRU -------------------------------------------------------------------------------------------------- */

struct gru {
    double r, z, n, q, h, size;
};
static struct gru gru_of(const struct op_case *c, const struct op_data *x, int64_t b, int64_t j)
{
    int64_t n = c->p[0], at = 3 * b * n + j;
    struct gru k = { .q = x[1].v[at + 2 * n], .h = x[2].v[b * n + j] };
    for (int g = 0; g < 3; g++) k.size = fmax(k.size, fabs(x[0].v[at + g * n]) + fabs(x[1].v[at + g * n]));
    k.r = logistic(x[0].v[at] + x[1].v[at]);
    k.z = logistic(x[0].v[at + n] + x[1].v[at + n]);
    k.n = tanh(x[0].v[at + 2 * n] + k.r * k.q);
    return k;
}
static qn_t build_gru(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    (void)c;
    return qn_gru_cell(g, x[0], x[1], x[2]);
}
static void oracle_gru(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    for (int64_t i = 0; i < y->count; i++) {
        struct gru k = gru_of(c, x, i / c->p[0], i % c->p[0]);
        y->v[i] = (1 - k.z) * k.n + k.z * k.h;
    }
}
static double bound_gru(const struct op_case *c, const struct op_data *x, const struct op_data *y, int64_t i, double u)
{
    struct gru k = gru_of(c, x, i / c->p[0], i % c->p[0]);
    (void)y;
    return u * (k.size + STEPS) * (2 + fabs(k.q)) * (1 + fabs(k.h));
}

static qn_t build_gru_grad(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    qn_t y = qn__node(g, QN_OP_gru_cell_grad, x, 4, NULL);
    struct qn__node like = *qn__at(g, c->p[1] == 2 ? x[2] : x[1]);
    return c->p[1] ? qn__output(g, y, (int)c->p[1] - 1, like.dtype, 2, like.dim) : y;
}
static double gru_grad(const struct op_case *c, const struct op_data *x, int64_t b, int64_t j, int gate, double *size)
{
    struct gru k = gru_of(c, x, b, j);
    double dy = x[3].v[b * c->p[0] + j], dn = dy * (1 - k.z) * (1 - k.n * k.n);
    *size = fabs(dy) * (2 + fabs(k.q)) * (2 + fabs(k.q)) * (2 + fabs(k.h)) * (k.size + STEPS);
    if (c->p[1] == 2) return dy * k.z;
    const double value[] = { dn * k.q * k.r * (1 - k.r), dy * (k.h - k.n) * k.z * (1 - k.z), c->p[1] ? dn * k.r : dn };
    return value[gate];
}
static void oracle_gru_grad(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    int64_t n = c->p[0], gates = c->p[1] == 2 ? 1 : 3;
    double size;
    for (int64_t i = 0; i < y->count; i++)
        y->v[i] = gru_grad(c, x, i / (gates * n), i % n, (int)(i / n % gates), &size);
}
static double bound_gru_grad(const struct op_case *c, const struct op_data *x, const struct op_data *y, int64_t i,
                             double u)
{
    int64_t n = c->p[0], gates = c->p[1] == 2 ? 1 : 3;
    double size;
    (void)y;
    gru_grad(c, x, i / (gates * n), i % n, (int)(i / n % gates), &size);
    return 2 * u * size;
}

/* ---- tables ------------------------------------------------------------------------------------------------ */

/* clang-format off */
#define X(b, n) { .rank = 2, .dim = { b, n } }
#define NEAR(b, n, to) { .rank = 2, .dim = { b, n }, .low = -(to), .high = to }
#define SIZE(n) BOTH(#n, 3, n)
#define SIZES OP_SIZES(SIZE) BOTH("one row", 1, 40) BOTH("no rows", 0, 5) BOTH("vectors", 5, 64)

#define BOTH(text, b, n) ONE(text " h", b, n, 0) ONE(text " c", b, n, 1) TWO(text " two gates", b, n, 0)
#define ONE(text, b, n, which)                                                                     \
    { .name = text, .build = build_lstm, .oracle = oracle_lstm, .bound = bound_lstm, .between = between_lstm, \
      .n_in = 2, .p = { n, which }, .in = { X(b, 4 * (n)), X(b, n) } },
#define TWO(text, b, n, which)                                                                     \
    { .name = text, .build = build_lstm, .oracle = oracle_lstm, .bound = bound_lstm, .between = between_lstm, \
      .n_in = 3, .p = { n, which, 1 }, .in = { X(b, 4 * (n)), X(b, n), X(b, 4 * (n)) } },
static const struct op_case lstm[] = {
    SIZES TWO("through both", 4, 9, 2) ONE("through both, one gate", 2, 5, 2) TWO("threads", 40, 100, 0)
    { .name = "saturated", .build = build_lstm, .oracle = oracle_lstm, .bound = bound_lstm, .n_in = 2, .p = { 8, 0 },
      .in = { NEAR(3, 32, 40), X(3, 8) }, .no_gradient_check = "differences vanish where gates do not move" },
};
OP_CASES(lstm_cell, lstm);
#undef BOTH

#define BOTH(text, b, n) GRAD(text " gates", b, n, 0) GRAD(text " c", b, n, 1)
#define FROM(text, b, n, which, two, dh, dc, n_, ...)                                              \
    { .name = text, .build = build_lstm_grad, .oracle = oracle_lstm_grad, .bound = bound_lstm_grad, .n_in = n_, \
      .p = { n, which, two, dh, dc }, .in = { X(b, 4 * (n)), X(b, n), __VA_ARGS__ } },
#define GRAD(text, b, n, which) FROM(text, b, n, which, 0, 1, 1, 4, X(b, n), X(b, n))
static const struct op_case lstm_grad_cases[] = {
    SIZES GRAD("threads", 40, 100, 0)
    FROM("dh only", 4, 9, 0, 0, 1, 0, 3, X(4, 9)) FROM("dh only, c", 4, 9, 1, 0, 1, 0, 3, X(4, 9))
    FROM("dc only", 4, 9, 0, 0, 0, 1, 3, X(4, 9)) FROM("dc only, c", 4, 9, 1, 0, 0, 1, 3, X(4, 9))
    FROM("two gates", 4, 9, 0, 1, 1, 1, 5, X(4, 36), X(4, 9), X(4, 9))
    FROM("two gates, c", 4, 9, 1, 1, 1, 1, 5, X(4, 36), X(4, 9), X(4, 9))
    FROM("two gates, dh only", 4, 9, 0, 1, 1, 0, 4, X(4, 36), X(4, 9))
};
OP_CASES(lstm_cell_grad, lstm_grad_cases);
#undef BOTH

#define BOTH(text, b, n)                                                                           \
    { .name = text, .build = build_gru, .oracle = oracle_gru, .bound = bound_gru, .n_in = 3, .p = { n }, \
      .in = { X(b, 3 * (n)), X(b, 3 * (n)), X(b, n) } },
static const struct op_case gru[] = { SIZES BOTH("threads", 40, 100) };
OP_CASES(gru_cell, gru);
#undef BOTH

#define BOTH(text, b, n) PART(text " first gates", b, n, 0) PART(text " second gates", b, n, 1) PART(text " h", b, n, 2)
#define PART(text, b, n, which)                                                                    \
    { .name = text, .build = build_gru_grad, .oracle = oracle_gru_grad, .bound = bound_gru_grad, .n_in = 4, \
      .p = { n, which }, .in = { X(b, 3 * (n)), X(b, 3 * (n)), X(b, n), X(b, n) } },
static const struct op_case gru_grad_cases[] = { SIZES BOTH("threads", 40, 100) };
OP_CASES(gru_cell_grad, gru_grad_cases);
/* clang-format on */
