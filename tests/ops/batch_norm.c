/* batch_norm.c - gamma (x - mean) / sqrt(var + eps) + beta, with the statistics of x itself; its gradient goes through
 * them, so each case builds them from x. */
#include "bn.h"
#include <math.h>
#include <string.h>

static qn_t build(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    return qn_batch_norm(g, x[0], x[1], x[2], c->q[0], NULL);
}
static qn_t build_relu(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    struct qn__bn_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.eps = c->q[0];
    attr.act = QN_OP_relu;
    qn_t stats = qn__node(g, QN_OP_bn_stats, x, 1, NULL);
    return qn__node(g, QN_OP_batch_norm, (qn_t[]){ x[0], x[1], x[2], stats }, 4, &attr);
}

/* with an addend, and relu if p[0] */
static qn_t build_sum(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    struct qn__bn_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.eps = c->q[0];
    attr.act = c->p[0] ? QN_OP_relu : 0;
    qn_t stats = qn__node(g, QN_OP_bn_stats, x, 1, NULL);
    return qn__node(g, QN_OP_batch_norm, (qn_t[]){ x[0], x[1], x[2], stats, x[3] }, 5, &attr);
}

static void oracle(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    for (int64_t ch = 0; ch < x[1].count && y->count; ch++) {
        struct bn_channel k = bn_channel_sums(&x[0], NULL, ch, c->q[0]);
        for (int64_t i = 0; i < y->count; i++)
            if (bn_channel_of(y, i) == ch) y->v[i] = x[1].v[ch] * (x[0].v[i] - k.mean) * k.r + x[2].v[ch];
    }
}
static void oracle_relu(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    oracle(c, x, y);
    for (int64_t i = 0; i < y->count; i++) y->v[i] = y->v[i] < 0 ? 0 : y->v[i];
}

static void oracle_sum(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    oracle(c, x, y);
    for (int64_t i = 0; i < y->count; i++) {
        y->v[i] += x[3].v[i];
        if (c->p[0] && y->v[i] < 0) y->v[i] = 0;
    }
}

/* The mean's rounding reaches y times |gamma| r; then the difference, the scale with its share of the variance's
 * error, the product and the sum round. */
static double bound(const struct op_case *c, const struct op_data *x, const struct op_data *y, int64_t i, double eps)
{
    int64_t ch = bn_channel_of(y, i);
    struct bn_channel k = bn_channel_sums(&x[0], NULL, ch, c->q[0]);
    double steps = bn_sum_steps(&k, eps), scale = fabs(x[1].v[ch]) * k.r;
    double share = 4 + (1 + 2 * steps) * bn_scale_share(&k, c->q[0]);
    return eps * (scale * (fabs(k.mean) + steps * k.spread + share * fabs(x[0].v[i] - k.mean)) + 2 * fabs(x[2].v[ch]));
}

static double bound_sum(const struct op_case *c, const struct op_data *x, const struct op_data *y, int64_t i,
                        double eps)
{
    return bound(c, x, y, i, eps) + 2 * eps * (fabs(x[3].v[i]) + fabs(y->v[i]));
}

/* clang-format off */
#define COMMON .build = build, .oracle = oracle, .bound = bound, .n_in = 3
#define X(r, ...) { .rank = r, .dim = { __VA_ARGS__ } }
#define VECTOR(c) { .rank = 1, .dim = { c } }
#define SHAPE(text, r, n, c, h, w)                                                                 \
    { .name = text, COMMON, .q = { 1e-5 }, .in = { X(r, n, c, h, w), VECTOR(c), VECTOR(c) } },
/* the variance of a few samples may be small against the step of the differences */
#define FEW(text, r, n, c, h, w)                                                                   \
    { .name = text, COMMON, .q = { 0.5 }, .in = { X(r, n, c, h, w), VECTOR(c), VECTOR(c) } },
#define SIZE(n) FEW(#n " samples", 2, n, 5, 0, 0)
static const struct op_case cases[] = {
    OP_SIZES(SIZE) BN_SHAPES(FEW) SHAPE("eps 1e-5", 4, 4, 16, 5, 5)
    { .name = "eps 0", COMMON, .in = { X(4, 4, 8, 5, 5), VECTOR(8), VECTOR(8) } },
    { .name = "mean 1000, deviation 0.3", COMMON, .q = { 1e-5 }, .step = 0x1p-8,
      .in = { { .rank = 4, .dim = { 4, 16, 3, 3 }, .low = 1000, .high = 1001 }, VECTOR(16), VECTOR(16) } },
    { .name = "no variance", COMMON, .q = { 0.5 },
      .in = { { .rank = 4, .dim = { 4, 8, 3, 3 }, .low = 0.7, .high = 0.7 }, VECTOR(8), VECTOR(8) } },
    { .name = "no variance, eps 1e-5", COMMON, .q = { 1e-5 }, .step = 0x1p-14,
      .in = { { .rank = 2, .dim = { 9, 3 }, .low = -3, .high = -3 }, VECTOR(3), VECTOR(3) } },
    { .name = "relu", .build = build_relu, .oracle = oracle_relu, .bound = bound, .n_in = 3, .q = { 1e-5 },
      .no_gradient_check = "the activation is folded in after differentiation",
      .in = { X(4, 4, 48, 5, 5), VECTOR(48), VECTOR(48) } },
    { .name = "relu, odd channels", .build = build_relu, .oracle = oracle_relu, .bound = bound, .n_in = 3,
      .q = { 1e-5 }, .no_gradient_check = "the activation is folded in after differentiation",
      .in = { X(4, 4, 7, 5, 5), VECTOR(7), VECTOR(7) } },
    { .name = "relu, rank 2", .build = build_relu, .oracle = oracle_relu, .bound = bound, .n_in = 3, .q = { 1e-5 },
      .no_gradient_check = "the activation is folded in after differentiation",
      .in = { X(2, 40, 33), VECTOR(33), VECTOR(33) } },
#define SUM(text, relu, r, n, c, h, w)                                                             \
    { .name = text, .build = build_sum, .oracle = oracle_sum, .bound = bound_sum, .n_in = 4, .q = { 1e-5 }, \
      .p = { relu }, .no_gradient_check = "the sum is folded in after differentiation",            \
      .in = { X(r, n, c, h, w), VECTOR(c), VECTOR(c), X(r, n, c, h, w) } },
    SUM("with addend", 0, 4, 3, 48, 5, 5) SUM("with addend and relu", 1, 4, 3, 48, 5, 5)
    SUM("with addend, odd channels", 0, 4, 2, 7, 5, 3) SUM("with addend and relu, odd channels", 1, 4, 2, 7, 5, 3)
    SUM("with addend and relu, rows in parts", 1, 4, 2, 2, 16, 17)
    SUM("with addend, rank 2", 0, 2, 40, 33, 0, 0) SUM("with addend and relu, empty", 1, 4, 0, 8, 3, 3)
};
OP_CASES(batch_norm, cases);
/* clang-format on */
