/* slice.c - cases of slice. p: begin of each axis, then size of each axis. */
#include "ops.h"

static qn_t build(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    return qn_slice(g, x[0], c->p, c->p + c->in[0].rank);
}
static void oracle(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    for (int64_t i = 0; i < y->count; i++) {
        int64_t rest = i, from = 0, step = 1;
        for (int k = y->rank - 1; k >= 0; k--) {
            from += (c->p[k] + rest % y->dim[k]) * step;
            step *= x[0].dim[k];
            rest /= y->dim[k];
        }
        y->v[i] = x[0].v[from];
    }
}

/* clang-format off */
#define COMMON .build = build, .oracle = oracle, .exact = true, .n_in = 1
#define SIZE(n)                                                                                    \
    { .name = "row of " #n, COMMON, .p = { 1, 2, 2, n }, .in = { { .rank = 2, .dim = { 4, n + 3 } } } },
#define BYTES(type)                                                                                \
    { .name = #type, COMMON, .p = { 1, 2, 3, 4 },                                                  \
      .in = { { .dtype = QN_##type, .rank = 2, .dim = { 5, 7 }, .high = 100 } } },
static const struct op_case cases[] = {
    OP_SIZES(SIZE) BYTES(U8) BYTES(F16) BYTES(I32) BYTES(I64) BYTES(BOOL)
    { .name = "rank 0", COMMON, .in = { { .rank = 0 } } },
    { .name = "whole", COMMON, .p = { 0, 0, 4, 5 }, .in = { { .rank = 2, .dim = { 4, 5 } } } },
    { .name = "nothing of nothing", COMMON, .p = { 0, 1, 0, 3 }, .in = { { .rank = 2, .dim = { 0, 5 } } } },
    { .name = "of one row", COMMON, .p = { 0, 1, 1, 31 }, .in = { { .rank = 2, .dim = { 1, 33 } } } },
    { .name = "one row", COMMON, .p = { 3, 0, 1, 5 }, .in = { { .rank = 2, .dim = { 4, 5 } } } },
    { .name = "one column", COMMON, .p = { 0, 2, 9, 1 }, .in = { { .rank = 2, .dim = { 9, 5 } } } },
    { .name = "channels", COMMON, .p = { 0, 3, 0, 0, 2, 4, 3, 5 }, .in = { { .rank = 4, .dim = { 2, 8, 3, 5 } } } },
    { .name = "box", COMMON, .p = { 1, 0, 1, 1, 1, 2, 2, 3 }, .in = { { .rank = 4, .dim = { 2, 3, 4, 5 } } } },
    { .name = "large", COMMON, .p = { 3, 1, 120, 300 }, .in = { { .rank = 2, .dim = { 129, 302 } } } },
};
OP_CASES(slice, cases);
/* clang-format on */
