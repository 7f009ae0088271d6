/* conv2d: strides, dilation, groups, padding, channel counts on both sides of a vector. */
#include "conv.h"

static qn_t build(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    struct qn__conv_attr a = conv_attr(c);
    return qn__node(g, QN_OP_conv2d, x, 2, &a);
}
static qn_t build_with(qn_graph *g, const qn_t *x, const struct op_case *c, enum qn__opcode act)
{
    struct qn__conv_attr a = conv_attr(c);
    a.epilogue.has_bias = 1;
    a.epilogue.act = (int32_t)act;
    return qn__node(g, QN_OP_conv2d, x, 3, &a);
}
static qn_t build_bias(qn_graph *g, const qn_t *x, const struct op_case *c) { return build_with(g, x, c, QN_OP_none); }
static qn_t build_silu(qn_graph *g, const qn_t *x, const struct op_case *c) { return build_with(g, x, c, QN_OP_silu); }
static qn_t build_relu(qn_graph *g, const qn_t *x, const struct op_case *c) { return build_with(g, x, c, QN_OP_relu); }

static void add(void *to, int64_t xi, int64_t wi, int64_t yi)
{
    struct conv_sum *s = to;
    s->y[yi] += s->a[xi] * s->b[wi];
}
static void oracle(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    conv_products(c, x[0].dim, x[1].dim, y->dim, add, &(struct conv_sum){ x[0].v, x[1].v, y->v });
    int64_t plane = y->dim[2] * y->dim[3];
    for (int64_t i = 0; c->n_in == 3 && i < y->count; i++) y->v[i] += x[2].v[i / plane % y->dim[1]];
    for (int64_t i = 0; c->build == build_relu && i < y->count; i++) y->v[i] = y->v[i] > 0 ? y->v[i] : 0;
    for (int64_t i = 0; c->build == build_silu && i < y->count; i++)
        y->v[i] = qn__pw_eval(QN_OP_silu, y->v[i], 0, 0, 0, 0);
}
/* relu of a sum of `terms` products within [-2,2]: its magnitudes as such are not a result of the row. */
static double bound_relu(const struct op_case *c, const struct op_data *x, const struct op_data *y, int64_t i,
                         double eps)
{
    (void)y, (void)i;
    double k = (double)(x[1].dim[1] * x[1].dim[2] * x[1].dim[3] + 1);
    (void)c;
    return 2 * k * eps * 4 * k;
}
/* silu has slopes below 1.1. */
static double bound_silu(const struct op_case *c, const struct op_data *x, const struct op_data *y, int64_t i,
                         double eps)
{
    double size = y->v[i] < 0 ? -y->v[i] : y->v[i];
    return 1.1 * bound_relu(c, x, y, i, eps) + 16 * eps * (size + 0.0625);
}
/* cuDNN's graph adds a bias and applies relu in f32, with one rounding; silu reads the stored sum s. Where s is
 * positive it is at most y + 1.3, and the slope at most 1.1; where it is negative |s| times the slope at s is below 1.1
 * times 1.3 (checked from -40 to 40 in steps of 0.01). */
static double before_silu(const struct op_case *c, const struct op_data *x, const struct op_data *y, int64_t i)
{
    (void)c, (void)x;
    return 1.1 * ((y->v[i] < 0 ? 0 : y->v[i]) + 1.3);
}

/* clang-format off */
#define SIZE(n) \
    { CASE(#n " channels", n, 1, 1, 0, 0, 1), .in = { X(1, n, 2, 2), X(3, n, 1, 1) } }, \
    { CASE(#n " filters", 3, 1, 1, 0, 0, 1), .in = { X(1, 3, 2, 2), X(n, 3, 1, 1) } }, \
    { PADDED CASE(#n " pixels", 18, 1, 1, 1, 1, 1), .in = { X(1, 2, 1, n), X(3, 2, 3, 3) } }, \
    { PADDED CASE("depthwise, " #n " channels", 9, 1, 1, 1, 1, n), .in = { X(1, n, 3, 3), X(n, 1, 3, 3) } },
#define WITH_BIAS(text, act, groups, c)                                                            \
    .name = text, .build = build_##act, .oracle = oracle, .n_in = 3, LIBRARY, PADDED .p = { 1, 1, 1, 1, groups }, \
    .in = { X(2, c, 5, 6), X(c, c / (groups), 3, 3), { .rank = 1, .dim = { c } } }
#define FOLDED .no_gradient_check = "activations are folded in after differentiation"
static const struct op_case cases[] = {
    { CASE("first layer", 9, 1, 1, 0, 0, 1), .in = { X(2, 1, 7, 8), X(16, 1, 3, 3) } },
    { PADDED CASE("colours, stride", 75, 2, 1, 2, 2, 1), .in = { X(2, 3, 9, 8), X(8, 3, 5, 5) } },
    { PADDED CASE("blocks", 72, 1, 1, 1, 1, 1), .in = { X(2, 8, 5, 6), X(16, 8, 3, 3) } },
    { PADDED CASE("16 to 32", 144, 1, 1, 1, 1, 1), .in = { X(1, 16, 5, 5), X(32, 16, 3, 3) } },
    { PADDED CASE("odd channels", 90, 1, 1, 1, 0, 1), .in = { X(2, 10, 5, 6), X(7, 10, 3, 3) } },
    { CASE("1x1", 24, 1, 1, 0, 0, 1), .in = { X(2, 24, 4, 4), X(8, 24, 1, 1) } },
    { PADDED CASE("dilation", 72, 1, 2, 2, 2, 1), .in = { X(2, 8, 6, 6), X(8, 8, 3, 3) } },
    { PADDED CASE("groups", 36, 1, 1, 1, 1, 2), .in = { X(2, 8, 5, 5), X(16, 4, 3, 3) } },
    { PADDED CASE("depthwise", 9, 1, 1, 1, 1, 16), .in = { X(2, 16, 5, 5), X(16, 1, 3, 3) } },
    { PADDED CASE("depthwise, stride", 9, 2, 1, 1, 0, 24), .in = { X(3, 24, 19, 8), X(24, 1, 3, 3) } },
    { PADDED CASE("depthwise, dilation, odd", 25, 1, 2, 3, 4, 35), .in = { X(2, 35, 9, 20), X(35, 1, 5, 5) } },
    { PADDED CASE("two filters a channel", 9, 1, 1, 1, 1, 4), .in = { X(2, 4, 5, 5), X(8, 1, 3, 3) } },
    { CASE("window of the image", 128, 1, 1, 0, 0, 1), .in = { X(2, 8, 4, 4), X(8, 8, 4, 4) } },
    { CASE("one element", 1, 1, 1, 0, 0, 1), .in = { X(1, 1, 1, 1), X(1, 1, 1, 1) } },
    { CASE("empty batch", 9, 1, 1, 1, 1, 1), .in = { X(0, 8, 4, 4), X(8, 8, 3, 3) } },
    CONV_SIZES(SIZE)
    { WITH_BIAS("bias", bias, 1, 8), .terms = 73 },
    { WITH_BIAS("bias and relu", relu, 1, 8), FOLDED, .bound = bound_relu },
    { WITH_BIAS("depthwise, bias and relu", relu, 16, 16), FOLDED, .bound = bound_relu },
    { WITH_BIAS("depthwise, bias and silu", silu, 16, 16), FOLDED, .bound = bound_silu, .between = before_silu },
    { WITH_BIAS("bias and silu", silu, 1, 8), FOLDED, .bound = bound_silu, .between = before_silu },
};
OP_CASES(conv2d, cases);
/* clang-format on */
