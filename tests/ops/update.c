/* update.c - cases of the plain writes to the store: assign, accumulate, advance_rng. */
#include "ops.h"

#define COMMON .n_in = 2
/* clang-format off */
#define STORED(type, ...) { .dtype = QN_##type, .rank = 2, .dim = { __VA_ARGS__ }, .stored = true, .high = 100 }
#define OTHER(type, ...) { .dtype = QN_##type, .rank = 2, .dim = { __VA_ARGS__ }, .high = 100 }
#define PAIR(text, type, ...)                                                                      \
    { .name = text, COMMON, ROW, .in = { STORED(type, __VA_ARGS__), OTHER(type, __VA_ARGS__) } },
/* clang-format on */
#define SIZE(n) PAIR(#n, F32, 2, n)

static qn_t build_assign(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    (void)c;
    return qn_assign(g, x[0], x[1]);
}
static void oracle_assign(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    (void)c;
    for (int64_t i = 0; i < y->count; i++) y->v[i] = x[1].v[i];
}
static void after_assign(const struct op_case *c, int which, const struct op_data *x, struct op_data *after)
{
    (void)which;
    oracle_assign(c, x, after);
}
#define ROW .exact = true, .build = build_assign, .oracle = oracle_assign, .oracle_written = after_assign
/* clang-format off */
static const struct op_case assign[] = {
    OP_SIZES(SIZE) PAIR("one row", F32, 1, 33)
    PAIR("large", F32, 300, 301) PAIR("U8", U8, 5, 7) PAIR("BF16", BF16, 5, 7) PAIR("I64", I64, 5, 7)
};
OP_CASES(assign, assign);
#undef ROW
/* clang-format on */

static qn_t build_accumulate(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    (void)c;
    return qn_accumulate(g, x[0], x[1]);
}
static void oracle_accumulate(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    (void)c;
    for (int64_t i = 0; i < y->count; i++) y->v[i] = x[0].v[i] + x[1].v[i];
}
static void after_accumulate(const struct op_case *c, int which, const struct op_data *x, struct op_data *after)
{
    (void)which;
    oracle_accumulate(c, x, after);
}
/* one rounding */
static double one_rounding(const struct op_case *c, const struct op_data *x, const struct op_data *y, int64_t i,
                           double eps)
{
    (void)c;
    (void)x;
    return eps * (y->v[i] < 0 ? -y->v[i] : y->v[i]);
}
static double written_rounding(const struct op_case *c, int which, const struct op_data *x, const struct op_data *after,
                               int64_t i, double eps)
{
    (void)which;
    return one_rounding(c, x, after, i, eps);
}
/* clang-format off */
#define ROW                                                                                        \
    .build = build_accumulate, .oracle = oracle_accumulate, .oracle_written = after_accumulate,    \
    .bound = one_rounding, .bound_written = written_rounding
static const struct op_case accumulate[] = {
    OP_SIZES(SIZE) PAIR("one row", F32, 1, 33)
    PAIR("large", F32, 300, 301) PAIR("I32", I32, 5, 7) PAIR("I64", I64, 5, 7)
};
OP_CASES(accumulate, accumulate);
#undef ROW
/* clang-format on */

static qn_t build_advance(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    return qn_advance_rng(g, x[0], c->p[0], c->p[1]);
}
static void oracle_advance(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    for (int i = 0; i < 4; i++) y->v[i] = x[0].v[i];
    y->v[1] += (double)c->p[1];
    y->v[2] += (double)c->p[0];
}
static void after_advance(const struct op_case *c, int which, const struct op_data *x, struct op_data *after)
{
    (void)which;
    oracle_advance(c, x, after);
}
/* clang-format off */
#define ADVANCE(text, samples, steps)                                                              \
    { .name = text, .build = build_advance, .oracle = oracle_advance, .oracle_written = after_advance, .exact = true, \
      .n_in = 1, .p = { samples, steps },                                                          \
      .in = { { .dtype = QN_I64, .rank = 1, .dim = { 4 }, .stored = true, .high = 1e6 } } },
static const struct op_case advance_rng[] = { ADVANCE("samples", 128, 0) ADVANCE("step", 0, 1) ADVANCE("both", 5, 7) };
OP_CASES(advance_rng, advance_rng);
/* clang-format on */
