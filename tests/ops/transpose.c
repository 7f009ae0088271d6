/* transpose.c - cases of transpose. p: the permutation. */
#include "ops.h"

static qn_t build(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    int perm[QN_MAX_DIMS];
    for (int i = 0; i < c->in[0].rank; i++) perm[i] = (int)c->p[i];
    return qn_transpose(g, x[0], perm);
}
static void oracle(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    for (int64_t i = 0; i < y->count; i++) {
        int64_t rest = i, index[QN_MAX_DIMS] = { 0 }, from = 0;
        for (int k = y->rank - 1; k >= 0; k--) {
            index[c->p[k]] = rest % y->dim[k];
            rest /= y->dim[k];
        }
        for (int k = 0; k < x[0].rank; k++) from = from * x[0].dim[k] + index[k];
        y->v[i] = x[0].v[from];
    }
}
static qn_t build_reverse(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    (void)c;
    return qn_transpose(g, x[0], NULL);
}

/* clang-format off */
#define COMMON .build = build, .oracle = oracle, .exact = true, .n_in = 1
#define MATRIX(n)                                                                                  \
    { .name = "3 by " #n, COMMON, .p = { 1, 0 }, .in = { { .rank = 2, .dim = { 3, n } } } },       \
    { .name = #n " by 37", COMMON, .p = { 1, 0 }, .in = { { .rank = 2, .dim = { n, 37 } } } },
#define BYTES(type)                                                                                \
    { .name = #type, COMMON, .p = { 2, 0, 1 },                                                     \
      .in = { { .dtype = QN_##type, .rank = 3, .dim = { 5, 33, 7 }, .high = 100 } } },
static const struct op_case cases[] = {
    OP_SIZES(MATRIX) BYTES(U8) BYTES(BF16) BYTES(I32) BYTES(I64) BYTES(BOOL)
    { .name = "rank 0", COMMON, .in = { { .rank = 0 } } },
    { .name = "identity", COMMON, .p = { 0, 1, 2 }, .in = { { .rank = 3, .dim = { 3, 4, 5 } } } },
    { .name = "rows stay", COMMON, .p = { 1, 0, 2 }, .in = { { .rank = 3, .dim = { 9, 4, 33 } } } },
    { .name = "NCHW to NHWC", COMMON, .p = { 0, 2, 3, 1 }, .in = { { .rank = 4, .dim = { 2, 7, 5, 9 } } } },
    { .name = "NHWC to NCHW", COMMON, .p = { 0, 3, 1, 2 }, .in = { { .rank = 4, .dim = { 2, 5, 9, 16 } } } },
    { .name = "heads", COMMON, .p = { 0, 2, 1, 3 }, .in = { { .rank = 4, .dim = { 2, 5, 3, 8 } } } },
    { .name = "reversed", .build = build_reverse, .oracle = oracle, .exact = true, .n_in = 1, .p = { 2, 1, 0 },
      .in = { { .rank = 3, .dim = { 3, 4, 5 } } } },
    { .name = "dimensions of 1", COMMON, .p = { 3, 2, 1, 0 }, .in = { { .rank = 4, .dim = { 1, 9, 1, 5 } } } },
    { .name = "3 by 1000", COMMON, .p = { 1, 0 }, .in = { { .rank = 2, .dim = { 3, 1000 } } } },
    { .name = "1000 by 3", COMMON, .p = { 1, 0 }, .in = { { .rank = 2, .dim = { 1000, 3 } } } },
    { .name = "large", COMMON, .p = { 2, 1, 0 }, .in = { { .rank = 3, .dim = { 300, 3, 130 } } } },
    { .name = "large, rows stay", COMMON, .p = { 1, 0, 2 }, .in = { { .rank = 3, .dim = { 90, 40, 33 } } } },
};
OP_CASES(transpose, cases);
/* clang-format on */
