/* sum.c - cases of sum. Both kernels accumulate in double: the f32 result is the exact sum, rounded once, up to
 * rounding errors of double, for which the bound has terms in eps of double only. */
#include "reduce.h"
#include <math.h>

static qn_t build(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    return qn_sum(g, x[0], (uint32_t)c->p[0], c->p[1]);
}
static double add(double a, double b) { return a + b; }
static void oracle(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    reduce_oracle(c, x, y, 0, add);
}
/* |y| eps of the final rounding, and n 2^-53 sum |x| <= n^2 max|x| 2^-53 of the accumulation */
static double bound(const struct op_case *c, const struct op_data *x, const struct op_data *y, int64_t i, double eps)
{
    double n = y->count ? (double)x[0].count / (double)y->count : 0, largest = 0;
    (void)c;
    for (int64_t k = 0; k < x[0].count; k++) largest = fmax(largest, fabs(x[0].v[k]));
    return eps * fabs(y->v[i]) + 2 * n * n * largest * 0x1p-53;
}

/* clang-format off */
#define CASE(text, axes, dims_rank, ...)                                                           \
    { .name = text, .build = build, .oracle = oracle, .bound = bound, .n_in = 1, .p = { axes },    \
      .in = { { .rank = dims_rank, .dim = { __VA_ARGS__ } } } },
static const struct op_case cases[] = {
    REDUCE_SHAPES(CASE)
    CASE("empty", 1, 1, 0) CASE("empty rows", 2, 2, 3, 0) CASE("no rows", 2, 2, 0, 3) CASE("empty columns", 1, 2, 0, 3)
    { .name = "kept dimension", .build = build, .oracle = oracle, .bound = bound, .n_in = 1, .p = { 5, 1 },
      .in = { { .rank = 3, .dim = { 4, 3, 31 } } } },
    { .name = "cancelling", .build = build, .oracle = oracle, .bound = bound, .n_in = 1, .p = { 1 },
      .in = { { .rank = 1, .dim = { 20000 }, .low = -1e6, .high = 1e6 } } },
};
OP_CASES(sum, cases);
/* clang-format on */
