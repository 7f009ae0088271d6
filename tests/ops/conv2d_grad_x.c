/* conv2d_grad_x: the geometries of conv2d; w and dy give dx. p[5..7]: height, width and channels of dx. */
#include "conv.h"

static qn_t build(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    struct qn__conv_attr a = conv_attr(c);
    a.epilogue.has_bias = c->n_in == 3;
    return qn__node(g, QN_OP_conv2d_grad_x, x, c->n_in, &a);
}
static qn_t build_transposed(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    (void)c;
    return qn_conv_transpose2d(g, x[1], x[0],
                               &(qn_conv2d_opts){ .stride = { 2, 2 }, .pad = { 1, 1 }, .pad_end = { 1, 1 } },
                               (const int32_t[]){ 1, 1 });
}

static void add(void *to, int64_t xi, int64_t wi, int64_t yi)
{
    struct conv_sum *s = to;
    s->y[xi] += s->a[wi] * s->b[yi];
}
static void oracle(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    conv_products(c, y->dim, x[0].dim, x[1].dim, add, &(struct conv_sum){ x[0].v, x[1].v, y->v });
    int64_t plane = y->dim[2] * y->dim[3];
    for (int64_t i = 0; c->n_in == 3 && i < y->count; i++) y->v[i] += x[2].v[i / plane % y->dim[1]];
}

/* cuDNN's graph of a gradient takes no bias (dnn.h): the product is stored, then the bias added to what was stored. */
static double product(const struct op_case *c, const struct op_data *x, const struct op_data *y, int64_t i)
{
    (void)c;
    double sum = y->v[i] - x[2].v[i / (y->dim[2] * y->dim[3]) % y->dim[1]];
    return sum < 0 ? -sum : sum;
}

/* clang-format off */
#define SIZE(n) \
    { CASE(#n " channels", 3, 1, 1, 0, 0, 1, 2, 2, n), .in = { X(3, n, 1, 1), X(1, 3, 2, 2) } }, \
    { CASE(#n " filters", n, 1, 1, 0, 0, 1, 2, 2, 3), .in = { X(n, 3, 1, 1), X(1, n, 2, 2) } }, \
    { CASE(#n " pixels", 27, 1, 1, 1, 1, 1, 1, n, 2), .in = { X(3, 2, 3, 3), X(1, 3, 1, n) } }, \
    { CASE("depthwise, " #n " channels", 9, 1, 1, 1, 1, n, 3, 3, n), .in = { X(n, 1, 3, 3), X(1, n, 3, 3) } },
static const struct op_case cases[] = {
    { CASE("first layer", 144, 1, 1, 0, 0, 1, 7, 8, 1), .in = { X(16, 1, 3, 3), X(2, 16, 5, 6) } },
    { CASE("colours, stride", 200, 2, 1, 2, 2, 1, 9, 8, 3),
      .in = { X(8, 3, 5, 5), X(2, 8, 5, 4) } },
    { CASE("blocks", 144, 1, 1, 1, 1, 1, 5, 6, 8), .in = { X(16, 8, 3, 3), X(2, 16, 5, 6) } },
    { CASE("odd channels", 63, 1, 1, 1, 0, 1, 5, 6, 10), .in = { X(7, 10, 3, 3), X(2, 7, 4, 5) } },
    { CASE("1x1", 8, 1, 1, 0, 0, 1, 4, 4, 24), .in = { X(8, 24, 1, 1), X(2, 8, 4, 4) } },
    { CASE("dilation", 72, 1, 2, 2, 2, 1, 6, 6, 8), .in = { X(8, 8, 3, 3), X(2, 8, 6, 6) } },
    { CASE("groups", 72, 1, 1, 1, 1, 2, 5, 5, 8), .in = { X(16, 4, 3, 3), X(2, 16, 5, 5) } },
    { CASE("depthwise", 9, 1, 1, 1, 1, 16, 5, 5, 16), .in = { X(16, 1, 3, 3), X(2, 16, 5, 5) } },
    { CASE("depthwise, stride", 9, 2, 1, 1, 0, 24, 19, 8, 24), .in = { X(24, 1, 3, 3), X(3, 24, 9, 4) } },
    { CASE("depthwise, dilation, odd", 25, 1, 2, 3, 4, 35, 9, 20, 35),
      .in = { X(35, 1, 5, 5), X(2, 35, 8, 19) } },
    { CASE("depthwise, stride and dilation", 9, 3, 2, 2, 1, 16, 12, 11, 16),
      .in = { X(16, 1, 3, 3), X(2, 16, 4, 4) } },
    { CASE("depthwise, stride 3", 9, 3, 1, 1, 1, 16, 10, 10, 16), .in = { X(16, 1, 3, 3), X(2, 16, 4, 4) } },
    { CASE("unread rows", 72, 3, 1, 0, 0, 1, 8, 8, 8), .in = { X(8, 8, 3, 3), X(2, 8, 2, 2) } },
    { CASE("one element", 1, 1, 1, 0, 0, 1, 1, 1, 1), .in = { X(1, 1, 1, 1), X(1, 1, 1, 1) } },
    { CASE("empty batch", 72, 1, 1, 1, 1, 1, 4, 4, 8), .in = { X(8, 8, 3, 3), X(0, 8, 4, 4) } },
    CONV_SIZES(SIZE)
    { .name = "bias",
      .build = build,
      .oracle = oracle,
      LIBRARY,
      .n_in = 3,
      .terms = 73,
      .between = product,
      .p = { 1, 1, 1, 1, 1, 5, 6, 8 },
      .in = { X(8, 8, 3, 3), X(2, 8, 5, 6), { .rank = 1, .dim = { 8 } } } },
    { .name = "depthwise, bias",
      .build = build,
      .oracle = oracle,
      LIBRARY,
      .n_in = 3,
      .terms = 10,
      .between = product, /* plain images go through cuDNN */
      .p = { 1, 1, 1, 1, 16, 5, 6, 16 },
      .in = { X(16, 1, 3, 3), X(2, 16, 5, 6), { .rank = 1, .dim = { 16 } } } },
    { .name = "transposed convolution",
      .build = build_transposed,
      .oracle = oracle,
      LIBRARY,
      .n_in = 2,
      .terms = 72,
      .p = { 2, 1, 1, 1, 1 },
      .in = { X(8, 16, 3, 3), X(2, 8, 4, 5) } },
};
OP_CASES(conv2d_grad_x, cases);
/* clang-format on */
