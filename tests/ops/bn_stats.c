/* bn_stats.c - mean and biased variance of each channel. */
#include "bn.h"
#include <math.h>

static qn_t build(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    (void)c;
    return qn__node(g, QN_OP_bn_stats, x, 1, NULL);
}

static void oracle(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    (void)c;
    for (int64_t ch = 0; ch < y->dim[1]; ch++) {
        struct bn_channel k = bn_channel_sums(&x[0], NULL, ch, 1);
        y->v[ch] = k.mean;
        y->v[y->dim[1] + ch] = k.var;
    }
}

/* f32: one rounding of each d, one of the result; f64: of the sums too. */
static double bound(const struct op_case *c, const struct op_data *x, const struct op_data *y, int64_t i, double eps)
{
    (void)c;
    struct bn_channel k = bn_channel_sums(&x[0], NULL, i % y->dim[1], 1);
    double steps = bn_sum_steps(&k, eps);
    if (i < y->dim[1]) return eps * (fabs(k.mean) + steps * k.spread);
    return eps * (k.var + 2 * steps * k.square);
}

/* clang-format off */
#define COMMON .build = build, .oracle = oracle, .bound = bound, .n_in = 1
#define SHAPE(text, r, ...) { .name = text, COMMON, .in = { { .rank = r, .dim = { __VA_ARGS__ } } } },
#define SIZE(n) SHAPE(#n " samples", 2, n, 5)
static const struct op_case cases[] = {
    OP_SIZES(SIZE) BN_SHAPES(SHAPE)
    SHAPE("rows in parts", 4, 2, 8, 16, 17) SHAPE("rows in parts, odd channels", 4, 2, 3, 16, 17)
    SHAPE("planes in parts", 4, 2, 1, 91, 91)
    { .name = "mean 10000, deviation 0.3", COMMON,
      .in = { { .rank = 4, .dim = { 4, 16, 5, 5 }, .low = 10000, .high = 10001 } } },
    { .name = "mean -1e6, all whole", COMMON,
      .in = { { .rank = 4, .dim = { 4, 8, 5, 5 }, .values = OP_TIES, .low = -1000002, .high = -999998 } } },
    { .name = "no variance", COMMON,
      .in = { { .rank = 4, .dim = { 4, 8, 5, 5 }, .low = 0.7, .high = 0.7 } } },
    { .name = "no variance, zeros", COMMON, .in = { { .rank = 2, .dim = { 4, 8 }, .values = OP_ZEROS } } },
    { .name = "small numbers", COMMON,
      .in = { { .rank = 4, .dim = { 4, 8, 5, 5 }, .low = -1e-12, .high = 1e-12 } } },
};
OP_CASES(bn_stats, cases);
/* clang-format on */
