/* broadcast.c - cases of broadcast. p[0]: rank of the result, then its dims. */
#include "ops.h"

static qn_t build(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    return qn_broadcast(g, x[0], (int)c->p[0], c->p + 1);
}
static void oracle(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    (void)c;
    for (int64_t i = 0; i < y->count; i++) {
        int64_t rest = i, offset = 0, step = 1;
        for (int k = y->rank - 1; k >= y->rank - x[0].rank; k--) {
            int64_t dim = x[0].dim[k - (y->rank - x[0].rank)];
            if (dim > 1) offset += rest % y->dim[k] * step;
            step *= dim;
            rest /= y->dim[k];
        }
        y->v[i] = x[0].v[offset];
    }
}

/* clang-format off */
#define COMMON .build = build, .oracle = oracle, .exact = true, .n_in = 1
#define SIZE(n)                                                                                    \
    { .name = "row of " #n, COMMON, .p = { 2, 5, n }, .in = { { .rank = 1, .dim = { n } } } },     \
    { .name = "column, " #n, COMMON, .p = { 2, 3, n }, .in = { { .rank = 2, .dim = { 3, 1 } } } },
#define BYTES(type)                                                                                \
    { .name = #type, COMMON, .p = { 2, 3, 7 }, .in = { { .dtype = QN_##type, .rank = 1, .dim = { 7 }, .high = 100 } } },
static const struct op_case cases[] = {
    { .name = "row of 0", COMMON, .p = { 2, 5, 0 }, .in = { { .rank = 1, .dim = { 0 } } } },
    SIZE(31) SIZE(33) SIZE(127) SIZE(129) SIZE(257) BYTES(U8) BYTES(F16) BYTES(I32) BYTES(I64) BYTES(BOOL)
    { .name = "number", COMMON, .p = { 3, 2, 3, 5 }, .in = { { .rank = 0 } } },
    { .name = "no rows", COMMON, .p = { 2, 0, 5 }, .in = { { .rank = 1, .dim = { 5 } } } },
    { .name = "middle", COMMON, .p = { 3, 4, 6, 5 }, .in = { { .rank = 3, .dim = { 4, 1, 5 } } } },
    { .name = "outer and inner", COMMON, .p = { 3, 4, 6, 5 }, .in = { { .rank = 3, .dim = { 1, 6, 1 } } } },
    { .name = "channels", COMMON, .p = { 4, 2, 16, 3, 5 }, .in = { { .rank = 4, .dim = { 1, 16, 1, 1 } } } },
    { .name = "images", COMMON, .p = { 4, 3, 16, 3, 5 }, .in = { { .rank = 4, .dim = { 1, 16, 3, 5 } } } },
    { .name = "large", COMMON, .p = { 2, 130, 301 }, .in = { { .rank = 1, .dim = { 301 } } } },
};
OP_CASES(broadcast, cases);
/* clang-format on */
