/* bn_grad.c - cases of bn_grad_stats and bn_grad_x: sum dy, sum dy xhat; and dx from them. */
#include "bn.h"
#include <math.h>
#include <string.h>

static struct qn__bn_attr attr_of(const struct op_case *c)
{
    struct qn__bn_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.eps = c->q[0];
    return attr;
}

/* x: x, dy */
static qn_t build_stats(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    struct qn__bn_attr attr = attr_of(c);
    qn_t stats = qn__node(g, QN_OP_bn_stats, x, 1, NULL);
    return qn__node(g, QN_OP_bn_grad_stats, (qn_t[]){ x[0], x[1], stats }, 3, &attr);
}
/* x: x, dy, gamma, and an addend */
static qn_t build_x(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    struct qn__bn_attr attr = attr_of(c);
    qn_t stats = qn__node(g, QN_OP_bn_stats, x, 1, NULL);
    qn_t sums = qn__node(g, QN_OP_bn_grad_stats, (qn_t[]){ x[0], x[1], stats }, 3, &attr);
    return qn__node(g, QN_OP_bn_grad_x, (qn_t[]){ x[0], x[1], stats, x[2], sums, x[3] }, c->n_in + 2, &attr);
}

static void oracle_stats(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    for (int64_t ch = 0; ch < y->dim[1]; ch++) {
        struct bn_channel k = bn_channel_sums(&x[0], &x[1], ch, c->q[0]);
        y->v[ch] = k.dbeta;
        y->v[y->dim[1] + ch] = k.dgamma;
    }
}
static void oracle_x(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    for (int64_t ch = 0; ch < x[2].count && y->count; ch++) {
        struct bn_channel k = bn_channel_sums(&x[0], &x[1], ch, c->q[0]);
        for (int64_t i = 0; i < y->count; i++) {
            if (bn_channel_of(y, i) != ch) continue;
            double xhat = (x[0].v[i] - k.mean) * k.r;
            y->v[i] = x[2].v[ch] * k.r * (x[1].v[i] - k.dbeta / k.m - xhat * k.dgamma / k.m);
            if (c->n_in == 4) y->v[i] += x[3].v[i];
        }
    }
}

/* Of sum dy xhat: the mean's and each difference's rounding, the sum, and r's share of the variance's error. */
static double dgamma_bound(const struct bn_channel *k, double steps, double share)
{
    return (2 * steps + share) * k->abs_dxhat + k->abs_dy * k->r * steps * k->spread;
}
static double shares(const struct bn_channel *k, double steps, double eps)
{
    return 4 + (1 + 2 * steps) * bn_scale_share(k, eps);
}

static double bound_stats(const struct op_case *c, const struct op_data *x, const struct op_data *y, int64_t i,
                          double eps)
{
    struct bn_channel k = bn_channel_sums(&x[0], &x[1], i % y->dim[1], c->q[0]);
    double steps = bn_sum_steps(&k, eps);
    if (i < y->dim[1]) return eps * (fabs(k.dbeta) + (eps < 0x1p-40 ? steps : 1e-6) * k.abs_dy);
    return eps * dgamma_bound(&k, steps, shares(&k, steps, c->q[0]));
}
/* Each of the three terms with its own factors; xhat's rounding is that of x and of the mean. */
static double bound_x(const struct op_case *c, const struct op_data *x, const struct op_data *y, int64_t i, double eps)
{
    int64_t ch = bn_channel_of(y, i);
    struct bn_channel k = bn_channel_sums(&x[0], &x[1], ch, c->q[0]);
    double steps = bn_sum_steps(&k, eps), share = shares(&k, steps, c->q[0]);
    double xhat = fabs(x[0].v[i] - k.mean) * k.r, of_mean = k.r * (fabs(k.mean) + steps * k.spread);
    double dy_terms = (share + 2) * (fabs(x[1].v[i]) + fabs(k.dbeta) / k.m) + steps * k.abs_dy / k.m;
    double x_terms = (xhat * ((2 * share + 4) * fabs(k.dgamma) + dgamma_bound(&k, steps, share)) +
                      of_mean * (fabs(k.dgamma) + eps * dgamma_bound(&k, steps, share))) /
                     k.m;
    double of_sum = c->n_in == 4 ? fabs(y->v[i]) + fabs(x[3].v[i]) : 0;
    return eps * (fabs(x[2].v[ch]) * k.r * (dy_terms + x_terms) + of_sum);
}

/* clang-format off */
#define X(r, ...) { .rank = r, .dim = { __VA_ARGS__ } }
#define VECTOR(c) { .rank = 1, .dim = { c } }
#define NEAR(r, low_, high_, ...) { .rank = r, .dim = { __VA_ARGS__ }, .low = low_, .high = high_ }
#define SIZE(n) SHAPE(#n " samples", 2, n, 5, 0, 0)

#define COMMON .build = build_stats, .oracle = oracle_stats, .bound = bound_stats, .n_in = 2
#define SHAPE(text, r, n, c, h, w)                                                                 \
    { .name = text, COMMON, .q = { 1e-5 }, .in = { X(r, n, c, h, w), X(r, n, c, h, w) } },
static const struct op_case stats[] = {
    OP_SIZES(SIZE) BN_SHAPES(SHAPE)
    SHAPE("rows in parts", 4, 2, 8, 16, 17) SHAPE("planes in parts", 4, 2, 1, 90, 92)
    { .name = "mean 1000, deviation 0.3", COMMON, .q = { 1e-5 },
      .in = { NEAR(4, 1000, 1001, 4, 16, 5, 5), X(4, 4, 16, 5, 5) } },
    { .name = "no variance", COMMON, .q = { 1e-5 }, .in = { NEAR(4, 0.7, 0.7, 4, 8, 5, 5), X(4, 4, 8, 5, 5) } },
};
OP_CASES(bn_grad_stats, stats);
#undef COMMON
#undef SHAPE

#define COMMON .build = build_x, .oracle = oracle_x, .bound = bound_x, .n_in = 3
#define SHAPE(text, r, n, c, h, w)                                                                 \
    { .name = text, COMMON, .q = { 1e-5 }, .in = { X(r, n, c, h, w), X(r, n, c, h, w), VECTOR(c) } },
static const struct op_case grad_x[] = {
    OP_SIZES(SIZE) BN_SHAPES(SHAPE)
    { .name = "mean 1000, deviation 0.3", COMMON, .q = { 1e-5 },
      .in = { NEAR(4, 1000, 1001, 4, 16, 5, 5), X(4, 4, 16, 5, 5), VECTOR(16) } },
    { .name = "no variance", COMMON, .q = { 1e-5 },
      .in = { NEAR(4, 0.7, 0.7, 4, 8, 5, 5), X(4, 4, 8, 5, 5), VECTOR(8) } },
#define SUM(text, r, n, c, h, w)                                                                   \
    { .name = text, .build = build_x, .oracle = oracle_x, .bound = bound_x, .n_in = 4, .q = { 1e-5 }, \
      .in = { X(r, n, c, h, w), X(r, n, c, h, w), VECTOR(c), X(r, n, c, h, w) } },
    SUM("with addend", 4, 3, 48, 5, 5) SUM("with addend, odd channels", 4, 2, 7, 5, 3)
    SUM("with addend, rows in parts", 4, 2, 2, 16, 17)
    SUM("with addend, rank 2", 2, 40, 33, 0, 0) SUM("with addend, empty", 4, 0, 8, 3, 3)
};
OP_CASES(bn_grad_x, grad_x);
/* clang-format on */
