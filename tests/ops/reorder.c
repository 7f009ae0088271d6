/* reorder.c - cases of reorder: to a block, and through it to another. p: blocks, one after the other, 0 at the end. */
#include "ops.h"

static qn_t build(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    qn_t y = x[0];
    for (int i = 0; c->p[i]; i++)
        y = qn__node(g, QN_OP_reorder, &y, 1, &(struct qn__reorder_attr){ .block = (int32_t)c->p[i] });
    return y;
}
static void oracle(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    (void)c;
    for (int64_t i = 0; i < y->count; i++) y->v[i] = x[0].v[i];
}

/* clang-format off */
#define COMMON .build = build, .oracle = oracle, .exact = true, .n_in = 1
#define IMAGE(text, n, channels, h, w, ...)                                                        \
    { .name = text, COMMON, .p = { __VA_ARGS__ }, .in = { { .rank = 4, .dim = { n, channels, h, w } } } },
#define BYTES(type)                                                                                \
    { .name = #type, COMMON, .p = { 8, 16, 4, 1 },                                                 \
      .in = { { .dtype = QN_##type, .rank = 4, .dim = { 2, 16, 3, 5 }, .high = 100 } } },
static const struct op_case cases[] = {
    IMAGE("blocks of 8", 2, 16, 5, 7, 8) IMAGE("blocks of 16", 2, 32, 5, 7, 16) IMAGE("NHWC", 3, 5, 4, 9, 5)
    IMAGE("there and back", 2, 16, 5, 7, 8, 1) IMAGE("NHWC and back", 2, 10, 5, 7, 10, 1)
    IMAGE("between blocks", 2, 48, 3, 5, 8, 16, 48, 16, 8, 1) IMAGE("no common divisor", 2, 15, 3, 5, 3, 5, 15)
    IMAGE("no change", 2, 8, 3, 5, 1, 8, 8) IMAGE("one pixel", 3, 16, 1, 1, 8, 16, 1)
    IMAGE("empty", 0, 16, 3, 5, 8, 16, 1) IMAGE("no pixels", 2, 16, 0, 5, 8, 16, 1)
    IMAGE("31 pixels", 1, 8, 1, 31, 8, 1) IMAGE("33 pixels", 1, 8, 1, 33, 8, 1) IMAGE("127 pixels", 1, 8, 1, 127, 8, 1)
    IMAGE("129 pixels", 1, 8, 129, 1, 8, 1) IMAGE("257 pixels", 1, 8, 1, 257, 8, 1)
    IMAGE("one row", 1, 1, 1, 33, 1)
    IMAGE("large", 4, 64, 14, 14, 16, 8, 64, 1) BYTES(U8) BYTES(BF16) BYTES(I32) BYTES(I64)
};
OP_CASES(reorder, cases);
/* clang-format on */
