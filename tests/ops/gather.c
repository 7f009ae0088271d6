/* gather.c - cases of gather. p[0]: axis; p[1], p[2]: place and value of a bad index. */
#include "ops.h"

static qn_t build(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    return qn_gather(g, x[0], x[1], (int)c->p[0]);
}
static void oracle(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    int axis = (int)c->p[0] < 0 ? (int)c->p[0] + x[0].rank : (int)c->p[0];
    int64_t inner = 1, n = x[1].count, size = x[0].dim[axis];
    for (int i = axis + 1; i < x[0].rank; i++) inner *= x[0].dim[i];
    for (int64_t i = 0; i < y->count; i++) {
        int64_t o = i / inner / n, at = (int64_t)x[1].v[i / inner % n];
        y->v[i] = x[0].v[(o * size + at) * inner + i % inner];
    }
}
static void spoil(const struct op_case *c, void *data, qn_dtype dtype, int64_t n)
{
    (void)n;
    if (dtype == QN_I32)
        ((int32_t *)data)[c->p[1]] = (int32_t)c->p[2];
    else
        ((int64_t *)data)[c->p[1]] = c->p[2];
}

/* clang-format off */
#define COMMON .build = build, .oracle = oracle, .exact = true, .n_in = 2
#define SIZE(n)                                                                                    \
    { .name = "rows of " #n, COMMON, .p = { 0 },                                                   \
      .in = { { .rank = 2, .dim = { 10, n } }, { .dtype = QN_I64, .rank = 1, .dim = { 7 }, .high = 10 } } }, \
    { .name = #n " places", COMMON, .p = { 1 },                                                    \
      .in = { { .rank = 2, .dim = { 3, 5 } }, { .dtype = QN_I32, .rank = 1, .dim = { n }, .high = 5 } } },
#define BYTES(type)                                                                                \
    { .name = #type, COMMON, .p = { 0 },                                                           \
      .in = { { .dtype = QN_##type, .rank = 2, .dim = { 5, 7 }, .high = 100 },                     \
              { .dtype = QN_I64, .rank = 1, .dim = { 9 }, .high = 5 } } },
#define BAD(text, type, place, value, message)                                                     \
    { .name = text, COMMON, .p = { 0, place, value }, .fails = message,                            \
      .in = { { .rank = 2, .dim = { 10, 3 } }, { .dtype = QN_##type, .rank = 1, .dim = { 20 }, .high = 10, \
              .edit = spoil } } },
static const struct op_case cases[] = {
    OP_SIZES(SIZE) BYTES(U8) BYTES(F16) BYTES(I32) BYTES(I64) BYTES(BOOL)
    { .name = "one index", COMMON, .p = { 0 },
      .in = { { .rank = 2, .dim = { 4, 5 } }, { .dtype = QN_I32, .rank = 0, .high = 4 } } },
    { .name = "matrix of indices, last axis", COMMON, .p = { -1 },
      .in = { { .rank = 3, .dim = { 2, 3, 4 } }, { .dtype = QN_I32, .rank = 2, .dim = { 3, 5 }, .high = 4 } } },
    { .name = "nothing from nothing", COMMON, .p = { 0 },
      .in = { { .rank = 2, .dim = { 0, 5 } }, { .dtype = QN_I32, .rank = 1, .dim = { 0 } } } },
    { .name = "large", COMMON, .p = { 0 },
      .in = { { .rank = 2, .dim = { 500, 64 } }, { .dtype = QN_I32, .rank = 1, .dim = { 400 }, .high = 500 } } },
    BAD("just above", I32, 17, 10, "error E3041 data: gather: index[17]: 10; expected 0..9")
    BAD("just above, I64", I64, 19, 12, "error E3041 data: gather: index[19]: 12; expected 0..9")
    BAD("negative", I32, 0, -1, "error E3041 data: gather: index[0]: -1; expected 0..9")
    BAD("least", I64, 3, INT64_MIN, "error E3041 data: gather: index[3]: -9223372036854775808; expected 0..9")
    BAD("greatest", I64, 3, INT64_MAX, "error E3041 data: gather: index[3]: 9223372036854775807; expected 0..9")
};
OP_CASES(gather, cases);
/* clang-format on */
