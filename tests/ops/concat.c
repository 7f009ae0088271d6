/* concat.c - cases of concat. p[0]: axis. */
#include "ops.h"

static qn_t build(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    return qn_concat(g, x, c->n_in, (int)c->p[0]);
}
static void oracle(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    int axis = (int)c->p[0] < 0 ? (int)c->p[0] + y->rank : (int)c->p[0];
    int64_t inner = 1, at = 0;
    for (int i = axis + 1; i < y->rank; i++) inner *= y->dim[i];
    for (int k = 0; k < c->n_in; k++) {
        int64_t row = x[k].dim[axis] * inner;
        for (int64_t i = 0; i < x[k].count; i++) y->v[i / row * y->dim[axis] * inner + at + i % row] = x[k].v[i];
        at += row;
    }
}
/* more operands than a node takes */
static qn_t build_many(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    qn_t part[20];
    for (int i = 0; i < 20; i++) part[i] = qn_slice(g, x[0], (int64_t[]){ 0, i * 3 }, (int64_t[]){ 2, 3 });
    return qn_concat(g, part, 20, (int)c->p[0]);
}
static void oracle_many(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    (void)c;
    for (int64_t i = 0; i < y->count; i++) y->v[i] = x[0].v[i];
}

/* clang-format off */
#define COMMON .build = build, .oracle = oracle, .exact = true
#define SIZE(n)                                                                                    \
    { .name = "rows " #n, COMMON, .n_in = 2, .p = { 0 },                                           \
      .in = { { .rank = 2, .dim = { 2, n } }, { .rank = 2, .dim = { 3, n } } } },                  \
    { .name = "columns " #n, COMMON, .n_in = 3, .p = { -1 },                                       \
      .in = { { .rank = 2, .dim = { 3, n } }, { .rank = 2, .dim = { 3, 1 } }, { .rank = 2, .dim = { 3, 5 } } } },
#define BYTES(type)                                                                                \
    { .name = #type, COMMON, .n_in = 2, .p = { 1 },                                                \
      .in = { { .dtype = QN_##type, .rank = 2, .dim = { 5, 7 }, .high = 100 },                     \
              { .dtype = QN_##type, .rank = 2, .dim = { 5, 2 }, .high = 100 } } },
static const struct op_case cases[] = {
    OP_SIZES(SIZE) BYTES(U8) BYTES(F16) BYTES(I32) BYTES(I64) BYTES(BOOL)
    { .name = "one", COMMON, .n_in = 1, .p = { 0 }, .in = { { .rank = 1, .dim = { 5 } } } },
    { .name = "eight", COMMON, .n_in = 8, .p = { 1 },
      .in = { { .rank = 2, .dim = { 2, 1 } }, { .rank = 2, .dim = { 2, 2 } }, { .rank = 2, .dim = { 2, 3 } },
              { .rank = 2, .dim = { 2, 4 } }, { .rank = 2, .dim = { 2, 5 } }, { .rank = 2, .dim = { 2, 6 } },
              { .rank = 2, .dim = { 2, 0 } }, { .rank = 2, .dim = { 2, 8 } } } },
    { .name = "twenty", .build = build_many, .oracle = oracle_many, .exact = true, .n_in = 1, .p = { 1 },
      .in = { { .rank = 2, .dim = { 2, 60 } } } },
    { .name = "channels", COMMON, .n_in = 2, .p = { 1 },
      .in = { { .rank = 4, .dim = { 2, 8, 3, 5 } }, { .rank = 4, .dim = { 2, 3, 3, 5 } } } },
    { .name = "large", COMMON, .n_in = 2, .p = { 1 },
      .in = { { .rank = 2, .dim = { 129, 302 } }, { .rank = 2, .dim = { 129, 31 } } } },
    { .name = "large, one run", COMMON, .n_in = 2, .p = { 0 },
      .in = { { .rank = 2, .dim = { 129, 302 } }, { .rank = 2, .dim = { 31, 302 } } } },
};
OP_CASES(concat, cases);
/* clang-format on */
