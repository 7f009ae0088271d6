/* scatter_add.c - cases of scatter_add. p[0]: axis, p[1]: size; p[2], p[3]: place and value of a bad index. */
#include "ops.h"

static qn_t build(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    return qn_scatter_add(g, x[0], x[1], (int)c->p[0], c->p[1]);
}
static void oracle(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    int axis = (int)c->p[0] < 0 ? (int)c->p[0] + y->rank : (int)c->p[0];
    int64_t inner = 1, n = x[1].count;
    for (int i = axis + 1; i < y->rank; i++) inner *= y->dim[i];
    for (int64_t i = 0; i < x[0].count; i++) {
        int64_t o = i / inner / n, at = (int64_t)x[1].v[i / inner % n];
        y->v[(o * c->p[1] + at) * inner + i % inner] += x[0].v[i];
    }
}
static void spoil(const struct op_case *c, void *data, qn_dtype dtype, int64_t n)
{
    (void)n;
    if (dtype == QN_I32)
        ((int32_t *)data)[c->p[2]] = (int32_t)c->p[3];
    else
        ((int64_t *)data)[c->p[2]] = c->p[3];
}

/* clang-format off */
#define COMMON .build = build, .oracle = oracle, .n_in = 2
#define SIZE(n)                                                                                    \
    { .name = "rows of " #n, COMMON, .p = { 0, 10 }, .terms = 7,                                   \
      .in = { { .rank = 2, .dim = { 7, n } }, { .dtype = QN_I64, .rank = 1, .dim = { 7 }, .high = 10 } } }, \
    { .name = #n " places", COMMON, .p = { 1, 5 }, .terms = 257,                                   \
      .in = { { .rank = 2, .dim = { 3, n } }, { .dtype = QN_I32, .rank = 1, .dim = { n }, .high = 5 } } },
#define BAD(text, type, place, value, message)                                                     \
    { .name = text, COMMON, .p = { 0, 10, place, value }, .fails = message,                        \
      .in = { { .rank = 2, .dim = { 20, 3 } }, { .dtype = QN_##type, .rank = 1, .dim = { 20 }, .high = 10, \
              .edit = spoil } } },
static const struct op_case cases[] = {
    OP_SIZES(SIZE)
    { .name = "one index", COMMON, .p = { 0, 4 }, .terms = 1,
      .in = { { .rank = 1, .dim = { 5 } }, { .dtype = QN_I32, .rank = 0, .high = 4 } } },
    { .name = "matrix of indices, last axis", COMMON, .p = { -1, 4 }, .terms = 15,
      .in = { { .rank = 4, .dim = { 2, 3, 3, 5 } }, { .dtype = QN_I32, .rank = 2, .dim = { 3, 5 }, .high = 4 } } },
    { .name = "middle axis", COMMON, .p = { 1, 6 }, .terms = 9,
      .in = { { .rank = 3, .dim = { 2, 9, 5 } }, { .dtype = QN_I64, .rank = 1, .dim = { 9 }, .high = 6 } } },
    { .name = "to 63 rows", COMMON, .p = { 0, 63 }, .terms = 7,
      .in = { { .rank = 2, .dim = { 7, 33 } }, { .dtype = QN_I32, .rank = 1, .dim = { 7 }, .high = 63 } } },
    { .name = "to nothing", COMMON, .p = { 0, 0 },
      .in = { { .rank = 2, .dim = { 0, 5 } }, { .dtype = QN_I32, .rank = 1, .dim = { 0 } } } },
    { .name = "all to one", COMMON, .p = { 0, 3 }, .terms = 1000,
      .in = { { .rank = 2, .dim = { 1000, 33 } }, { .dtype = QN_I32, .rank = 1, .dim = { 1000 }, .high = 0.5 } } },
    { .name = "large", COMMON, .p = { 0, 100 }, .terms = 400,
      .in = { { .rank = 2, .dim = { 400, 700 } }, { .dtype = QN_I32, .rank = 1, .dim = { 400 }, .high = 100 } } },
    BAD("just above", I32, 17, 10, "error E3041 data: scatter_add: index[17]: 10; expected 0..9")
    BAD("negative", I64, 0, -1, "error E3041 data: scatter_add: index[0]: -1; expected 0..9")
    BAD("least", I64, 19, INT64_MIN, "error E3041 data: scatter_add: index[19]: -9223372036854775808; expected 0..9")
};
OP_CASES(scatter_add, cases);
/* clang-format on */
