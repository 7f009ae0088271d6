/* reduce_min.c - cases of reduce_min. */
#include "reduce.h"
#include <math.h>

static qn_t build(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    return qn_reduce_min(g, x[0], (uint32_t)c->p[0], c->p[1]);
}
static double choose(double a, double b) { return isnan(a) || a < b ? a : b; }
static void oracle(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    reduce_oracle(c, x, y, (double)INFINITY, choose);
}

/* clang-format off */
#define CASE(text, axes, dims_rank, ...)                                                           \
    { .name = text, .build = build, .oracle = oracle, .exact = true, .n_in = 1, .p = { axes },     \
      .in = { { .rank = dims_rank, .dim = { __VA_ARGS__ }, .values = OP_DISTINCT, .low = -4, .high = 4 } }, \
      .step = 1e-5 },
static const struct op_case cases[] = {
    REDUCE_SHAPES(CASE)
    CASE("no rows", 2, 2, 0, 3)
    { .name = "kept dimension", .build = build, .oracle = oracle, .exact = true, .n_in = 1, .p = { 5, 1 },
      .in = { { .rank = 3, .dim = { 4, 3, 31 }, .values = OP_DISTINCT } }, .step = 1e-4 },
    { .name = "equal elements", .build = build, .oracle = oracle, .exact = true, .n_in = 1, .p = { 2 },
      .in = { { .rank = 2, .dim = { 5, 40 }, .values = OP_TIES } },
      .no_gradient_check = "at a tie there is no derivative" },
};
OP_CASES(reduce_min, cases);
/* clang-format on */
