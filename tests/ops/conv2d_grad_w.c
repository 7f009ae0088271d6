/* conv2d_grad_w: the geometries of conv2d; x and dy give dw. p[5..6]: height and width of the window. */
#include "conv.h"

static qn_t build(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    struct qn__conv_attr a = conv_attr(c);
    return qn__node(g, QN_OP_conv2d_grad_w, x, 2, &a);
}

static void add(void *to, int64_t xi, int64_t wi, int64_t yi)
{
    struct conv_sum *s = to;
    s->y[wi] += s->a[xi] * s->b[yi];
}
static void oracle(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    conv_products(c, x[0].dim, y->dim, x[1].dim, add, &(struct conv_sum){ x[0].v, x[1].v, y->v });
}

/* clang-format off */
#define SIZE(n) \
    { CASE(#n " channels", 4, 1, 1, 0, 0, 1, 1, 1), .in = { X(1, n, 2, 2), X(1, 3, 2, 2) } }, \
    { CASE(#n " filters", 4, 1, 1, 0, 0, 1, 1, 1), .in = { X(1, 3, 2, 2), X(1, n, 2, 2) } }, \
    { PADDED CASE(#n " pixels", n, 1, 1, 1, 1, 1, 3, 3), .in = { X(1, 2, 1, n), X(1, 3, 1, n) } }, \
    { PADDED CASE("depthwise, " #n " channels", 9, 1, 1, 1, 1, n, 3, 3), .in = { X(1, n, 3, 3), X(1, n, 3, 3) } },
static const struct op_case cases[] = {
    { CASE("first layer", 60, 1, 1, 0, 0, 1, 3, 3), .in = { X(2, 1, 7, 8), X(2, 16, 5, 6) } },
    { PADDED CASE("first layer, padded", 112, 1, 1, 1, 1, 1, 3, 3),
      .in = { X(2, 1, 7, 8), X(2, 32, 7, 8) } },
    { PADDED CASE("colours, stride", 40, 2, 1, 2, 2, 1, 5, 5),
      .in = { X(2, 3, 9, 8), X(2, 8, 5, 4) } },
    { CASE("wide batch", 340, 1, 1, 0, 0, 1, 3, 2), .in = { X(17, 2, 6, 6), X(17, 40, 4, 5) } },
    { PADDED CASE("blocks", 60, 1, 1, 1, 1, 1, 3, 3), .in = { X(2, 8, 5, 6), X(2, 16, 5, 6) } },
    { PADDED CASE("odd channels", 40, 1, 1, 1, 0, 1, 3, 3),
      .in = { X(2, 10, 5, 6), X(2, 7, 4, 5) } },
    { CASE("1x1", 32, 1, 1, 0, 0, 1, 1, 1), .in = { X(2, 24, 4, 4), X(2, 8, 4, 4) } },
    { PADDED CASE("dilation", 72, 1, 2, 2, 2, 1, 3, 3), .in = { X(2, 8, 6, 6), X(2, 8, 6, 6) } },
    { PADDED CASE("groups", 50, 1, 1, 1, 1, 2, 3, 3), .in = { X(2, 8, 5, 5), X(2, 16, 5, 5) } },
    { PADDED CASE("depthwise", 50, 1, 1, 1, 1, 16, 3, 3),
      .in = { X(2, 16, 5, 5), X(2, 16, 5, 5) } },
    { PADDED CASE("depthwise, stride", 108, 2, 1, 1, 0, 24, 3, 3),
      .in = { X(3, 24, 19, 8), X(3, 24, 9, 4) } },
    { PADDED CASE("depthwise, dilation, odd", 304, 1, 2, 3, 4, 35, 5, 5),
      .in = { X(2, 35, 9, 20), X(2, 35, 8, 19) } },
    { PADDED CASE("depthwise, many images", 576, 1, 1, 1, 1, 16, 3, 3),
      .in = { X(64, 16, 3, 3), X(64, 16, 3, 3) } },
    { CASE("one element", 1, 1, 1, 0, 0, 1, 1, 1), .in = { X(1, 1, 1, 1), X(1, 1, 1, 1) } },
    { CASE("empty batch", 1, 1, 1, 1, 1, 1, 3, 3), .in = { X(0, 8, 4, 4), X(0, 8, 4, 4) } },
    { CASE("a row of pixels", 33, 1, 1, 0, 0, 1, 1, 1), .in = { X(1, 1, 1, 33), X(1, 1, 1, 33) } },
    CONV_SIZES(SIZE)
};
OP_CASES(conv2d_grad_w, cases);
/* clang-format on */
