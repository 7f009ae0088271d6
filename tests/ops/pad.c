/* pad.c - cases of pad. p: zeros before each axis, then after each axis. */
#include "ops.h"

static qn_t build(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    return qn_pad(g, x[0], c->p, c->p + c->in[0].rank);
}
static void oracle(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    for (int64_t i = 0; i < x[0].count; i++) {
        int64_t rest = i, to = 0, step = 1;
        for (int k = y->rank - 1; k >= 0; k--) {
            to += (c->p[k] + rest % x[0].dim[k]) * step;
            step *= y->dim[k];
            rest /= x[0].dim[k];
        }
        y->v[to] = x[0].v[i];
    }
}

/* clang-format off */
#define COMMON .build = build, .oracle = oracle, .exact = true, .n_in = 1
#define SIZE(n)                                                                                    \
    { .name = "row of " #n, COMMON, .p = { 1, 2, 0, 3 }, .in = { { .rank = 2, .dim = { 4, n } } } },
#define BYTES(type)                                                                                \
    { .name = #type, COMMON, .p = { 1, 0, 0, 2 },                                                  \
      .in = { { .dtype = QN_##type, .rank = 2, .dim = { 5, 7 }, .high = 100 } } },
static const struct op_case cases[] = {
    OP_SIZES(SIZE) BYTES(U8) BYTES(F16) BYTES(I32) BYTES(I64) BYTES(BOOL)
    { .name = "rank 0", COMMON, .in = { { .rank = 0 } } },
    { .name = "one row", COMMON, .p = { 1, 2, 0, 3 }, .in = { { .rank = 2, .dim = { 1, 33 } } } },
    { .name = "no zeros", COMMON, .in = { { .rank = 2, .dim = { 4, 5 } } } },
    { .name = "rows above and below", COMMON, .p = { 2, 0, 1, 0 }, .in = { { .rank = 2, .dim = { 4, 5 } } } },
    { .name = "nothing inside", COMMON, .p = { 2, 1, 1, 0 }, .in = { { .rank = 2, .dim = { 0, 5 } } } },
    { .name = "frame", COMMON, .p = { 0, 0, 1, 2, 0, 0, 3, 1 }, .in = { { .rank = 4, .dim = { 2, 3, 4, 5 } } } },
    { .name = "channels", COMMON, .p = { 0, 1, 0, 0, 0, 2, 0, 0 }, .in = { { .rank = 4, .dim = { 2, 3, 4, 5 } } } },
    { .name = "large", COMMON, .p = { 3, 1, 2, 5 }, .in = { { .rank = 2, .dim = { 129, 302 } } } },
};
OP_CASES(pad, cases);
/* clang-format on */
