/* sum_squares.c - cases of sum_squares. */
#include "ops.h"

static qn_t build(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    (void)c;
    return qn_sum_squares(g, x[0]);
}
static void oracle(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    (void)c;
    for (int64_t i = 0; i < x[0].count; i++) y->v[0] += x[0].v[i] * x[0].v[i];
}
/* one rounding of the result (2^-150 among f32's subnormals), and those of n additions of positive terms in double */
static double bound(const struct op_case *c, const struct op_data *x, const struct op_data *y, int64_t i, double eps)
{
    (void)c;
    return (eps + 2 * (double)x[0].count * 0x1p-53) * y->v[i] + (eps > 0x1p-40 ? 0x1p-150 : 0);
}

/* clang-format off */
#define SIZE(n)                                                                                    \
    { .name = #n, .build = build, .oracle = oracle, .bound = bound, .n_in = 1, .in = { { .rank = 1, .dim = { n } } } },
static const struct op_case cases[] = {
    OP_SIZES(SIZE) SIZE(40001)
    { .name = "rank 0", .build = build, .oracle = oracle, .bound = bound, .n_in = 1, .in = { { .rank = 0 } } },
    { .name = "image", .build = build, .oracle = oracle, .bound = bound, .n_in = 1,
      .in = { { .rank = 4, .dim = { 2, 16, 3, 5 } } } },
    { .name = "squares beyond the range of float", .build = build, .oracle = oracle, .bound = bound, .n_in = 1,
      .in = { { .rank = 1, .dim = { 33 }, .low = 1e-30, .high = 2e-23 } },
      .no_gradient_check = "differences of values this small are below rounding" },
};
OP_CASES(sum_squares, cases);
/* clang-format on */
