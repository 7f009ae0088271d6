/* reduce.h - operands of the cases of every reduction, and the definition they are compared with. */
#ifndef QN_TESTS_OPS_REDUCE_H
#define QN_TESTS_OPS_REDUCE_H
#include "ops.h"

/* X(name, axes, rank, dims...): every variant of the loops, their blocks, tails and edges */
/* clang-format off */
#define REDUCE_SHAPES(X)                                                                           \
    X("row 1", 1, 1, 1) X("row 31", 1, 1, 31) X("row 33", 1, 1, 33) X("row 127", 1, 1, 127)        \
    X("row 129", 1, 1, 129) X("row 257", 1, 1, 257) X("rank 0", 0, 0, 0)                           \
    X("everything, blocks", 1, 1, 100003) X("everything of three axes", 7, 3, 5, 7, 11)            \
    X("nothing reduced", 0, 2, 3, 5) X("last axis", 2, 2, 33, 129) X("last axis, one row", 2, 2, 1, 257) \
    X("last axis, long rows", 2, 2, 3, 40001) X("first axis", 1, 2, 33, 129) X("first axis, one row", 1, 2, 1, 31) \
    X("first axis, tall", 1, 2, 5003, 10) X("first axis, 8 lanes", 1, 2, 37, 8)                    \
    X("first axis, 16 lanes", 1, 2, 37, 16) X("first axis, wide", 1, 2, 7, 5000)                   \
    X("middle axis", 2, 3, 4, 33, 5) X("outer axes", 5, 3, 4, 3, 31)                               \
    X("channels", 13, 4, 4, 16, 5, 3) X("channels, blocks", 13, 4, 16, 48, 9, 9)                   \
    X("channels, one pixel", 13, 4, 5, 8, 1, 1) X("channels, odd", 13, 4, 3, 7, 4, 5)              \
    X("samples", 14, 4, 3, 16, 3, 5) X("images", 12, 4, 2, 16, 3, 5) X("everything of images", 15, 4, 2, 16, 3, 5) \
    X("two of four", 10, 4, 3, 5, 4, 6) X("five alternations", 10, 5, 2, 3, 2, 3, 2)               \
    X("alternating", 21, 5, 3, 2, 3, 2, 3) X("alternating, kept first", 42, 6, 2, 3, 2, 3, 2, 3)   \
    X("alternating, large", 21, 5, 7, 5, 7, 9, 11)
/* clang-format on */

/* p[0]: axes; p[1]: keep */
void reduce_oracle(const struct op_case *c, const struct op_data *x, struct op_data *y, double start,
                   double (*join)(double, double));

/* Cases of reduce_max and reduce_min: the rows of a table, made with the file's own build and oracle. */
/* clang-format off */
#define EXTREME_CASE(text, axes, dims_rank, ...)                                                   \
    { .name = text, .build = build, .oracle = oracle, .exact = true, .n_in = 1, .p = { axes },     \
      .in = { { .rank = dims_rank, .dim = { __VA_ARGS__ }, .values = OP_DISTINCT, .low = -4, .high = 4 } }, \
      .step = 1e-5 },
#define EXTREME_CASES                                                                              \
    REDUCE_SHAPES(EXTREME_CASE)                                                                    \
    EXTREME_CASE("no rows", 2, 2, 0, 3)                                                            \
    { .name = "kept dimension", .build = build, .oracle = oracle, .exact = true, .n_in = 1, .p = { 5, 1 }, \
      .in = { { .rank = 3, .dim = { 4, 3, 31 }, .values = OP_DISTINCT } }, .step = 1e-4 },         \
    { .name = "equal elements", .build = build, .oracle = oracle, .exact = true, .n_in = 1, .p = { 2 }, \
      .in = { { .rank = 2, .dim = { 5, 40 }, .values = OP_TIES } },                                \
      .no_gradient_check = "at a tie there is no derivative" },
/* clang-format on */
#endif
