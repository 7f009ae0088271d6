/* argmax.c - cases of argmax. p[0]: axis, p[1]: keep. */
#include "ops.h"
#include <math.h>

static qn_t build(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    return qn_argmax(g, x[0], (int)c->p[0], c->p[1]);
}
static void oracle(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    int axis = (int)c->p[0] < 0 ? (int)c->p[0] + x[0].rank : (int)c->p[0];
    int64_t inner = 1, n = x[0].dim[axis];
    for (int i = axis + 1; i < x[0].rank; i++) inner *= x[0].dim[i];
    for (int64_t i = 0; i < y->count; i++) {
        const double *from = x[0].v + i / inner * n * inner + i % inner;
        int64_t best = 0;
        for (int64_t k = 1; k < n && !isnan(from[best * inner]); k++)
            if (isnan(from[k * inner]) || from[k * inner] > from[best * inner]) best = k;
        y->v[i] = (double)best;
    }
}
static void plant_nan(const struct op_case *c, void *data, qn_dtype dtype, int64_t n)
{
    (void)c;
    for (int64_t i = 7; i < n; i += 11)
        qn_convert((char *)data + (size_t)i * qn_dtype_size(dtype), dtype, &(double){ (double)NAN }, QN_F64, 1);
}

/* clang-format off */
#define ROW(n)                                                                                     \
    { .name = "row " #n, .build = build, .oracle = oracle, .n_in = 1, .p = { 1 },                  \
      .in = { { .rank = 2, .dim = { 3, n } } } },                                                  \
    { .name = "columns " #n, .build = build, .oracle = oracle, .n_in = 1, .p = { 0 },              \
      .in = { { .rank = 2, .dim = { 3, n } } } },
static const struct op_case cases[] = {
    ROW(1) ROW(31) ROW(33) ROW(127) ROW(129) ROW(257)
    { .name = "one row", .build = build, .oracle = oracle, .n_in = 1, .p = { 1 },
      .in = { { .rank = 2, .dim = { 1, 33 } } } },
    { .name = "no rows", .build = build, .oracle = oracle, .n_in = 1, .p = { 1 },
      .in = { { .rank = 2, .dim = { 0, 3 } } } },
    { .name = "first of equals", .build = build, .oracle = oracle, .n_in = 1, .p = { -1, 1 },
      .in = { { .rank = 2, .dim = { 9, 33 }, .values = OP_TIES } } },
    { .name = "middle axis, equals", .build = build, .oracle = oracle, .n_in = 1, .p = { 1 },
      .in = { { .rank = 3, .dim = { 4, 9, 5 }, .values = OP_TIES } } },
    { .name = "first NaN of rows", .build = build, .oracle = oracle, .n_in = 1, .p = { 1 },
      .in = { { .rank = 2, .dim = { 7, 33 }, .edit = plant_nan } } },
    { .name = "first NaN of columns", .build = build, .oracle = oracle, .n_in = 1, .p = { 0 },
      .in = { { .rank = 2, .dim = { 33, 7 }, .edit = plant_nan } } },
    { .name = "large", .build = build, .oracle = oracle, .n_in = 1, .p = { 1 },
      .in = { { .rank = 3, .dim = { 20, 10, 300 } } } },
    { .name = "more long rows than blocks", .build = build, .oracle = oracle, .n_in = 1, .p = { 1 },
      .in = { { .rank = 2, .dim = { 40, 2100 } } } },
    { .name = "long rows",
      .build = build,
      .oracle = oracle,
      .n_in = 1,
      .p = { 1 },
      .in = { { .rank = 2, .dim = { 3, 3001 }, .values = OP_TIES } } },
    { .name = "large rows", .build = build, .oracle = oracle, .n_in = 1, .p = { 1 },
      .in = { { .rank = 2, .dim = { 128, 200 } } } },
};
OP_CASES(argmax, cases);
/* clang-format on */
