/* source.c - cases of the rows whose bytes are there before the step. */
#include "ops.h"

static qn_t build_operand(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    (void)g;
    (void)c;
    return x[0];
}
static void oracle_operand(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    (void)c;
    for (int64_t i = 0; i < y->count; i++) y->v[i] = x[0].v[i];
}
/* clang-format off */
static const struct op_case input[] = {
    { .name = "input", .build = build_operand, .oracle = oracle_operand, .exact = true, .n_in = 1,
      .in = { { .rank = 2, .dim = { 3, 5 } } } },
};
OP_CASES(input, input);

static const struct op_case store[] = {
    { .name = "store", .build = build_operand, .oracle = oracle_operand, .exact = true, .n_in = 1,
      .in = { { .rank = 2, .dim = { 3, 5 }, .stored = true } } },
};
OP_CASES(store, store);
/* clang-format on */

static qn_t build_full(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    return qn_full(g, qn_dtype_of(g, x[0]), 2, (int64_t[]){ c->p[0], 3 }, 0.375);
}
static void oracle_full(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    (void)c;
    (void)x;
    for (int64_t i = 0; i < y->count; i++) y->v[i] = 0.375;
}
/* clang-format off */
#define FULL(n)                                                                                    \
    { .name = #n, .build = build_full, .oracle = oracle_full, .exact = true, .p = { n }, .n_in = 1, .in = { { 0 } } },
static const struct op_case full[] = { OP_SIZES(FULL) };
OP_CASES(full, full);
/* clang-format on */

static qn_t build_constant(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    static const int32_t data[] = { 7, -1, 3, 0, 5, 2 };
    (void)x;
    (void)c;
    return qn_constant(g, QN_I32, 2, (int64_t[]){ 2, 3 }, data);
}
static void oracle_constant(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    static const double data[] = { 7, -1, 3, 0, 5, 2 };
    (void)c;
    (void)x;
    for (int64_t i = 0; i < y->count; i++) y->v[i] = data[i];
}
/* clang-format off */
static const struct op_case constant[] = {
    { .name = "constant", .build = build_constant, .oracle = oracle_constant, .exact = true },
};
OP_CASES(constant, constant);
/* clang-format on */

static qn_t build_reshape(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    return qn_reshape(g, x[0], (int)c->p[0], c->p + 1);
}
/* clang-format off */
static const struct op_case reshape[] = {
    { .name = "open dimension", .build = build_reshape, .oracle = oracle_operand, .exact = true, .n_in = 1,
      .in = { { .rank = 2, .dim = { 3, 4 } } }, .p = { 3, 2, -1, 3 } },
    { .name = "to rank 0", .build = build_reshape, .oracle = oracle_operand, .exact = true, .n_in = 1,
      .in = { { .rank = 2, .dim = { 1, 1 } } }, .p = { 0 } },
    { .name = "image", .build = build_reshape, .oracle = oracle_operand, .exact = true, .n_in = 1,
      .in = { { .rank = 4, .dim = { 2, 16, 3, 5 } } }, .p = { 2, 2, 240 } },
    { .name = "empty", .build = build_reshape, .oracle = oracle_operand, .exact = true, .n_in = 1,
      .in = { { .rank = 2, .dim = { 0, 4 } } }, .p = { 2, 7, 0 } },
    { .name = "bytes", .build = build_reshape, .oracle = oracle_operand, .exact = true, .n_in = 1,
      .in = { { .dtype = QN_U8, .rank = 2, .dim = { 3, 4 }, .high = 256 } }, .p = { 1, 12 } },
};
OP_CASES(reshape, reshape);
/* clang-format on */
