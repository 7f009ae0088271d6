/* conv2d and its gradients: every path against the double loops within gamma_k, k the number of products; odd sizes,
 * strides, dilation, groups, padding, layouts, epilogues; and the exact errors of the constructors. */
#include "product.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

struct geometry {
    int64_t n, c, h, w, o, kh, kw;
    int32_t stride[2], dilation[2], pad[2], pad_end[2], groups;
};
/* clang-format off */
#define ONES { 1, 1 }
#define NONE { 0, 0 }
/* clang-format on */

static struct qn__conv_attr attr_of(const struct geometry *g)
{
    struct qn__conv_attr a;
    memset(&a, 0, sizeof a);
    memcpy(a.stride, g->stride, sizeof a.stride);
    memcpy(a.dilation, g->dilation, sizeof a.dilation);
    memcpy(a.pad, g->pad, sizeof a.pad);
    memcpy(a.pad_end, g->pad_end, sizeof a.pad_end);
    a.groups = g->groups;
    return a;
}

static int64_t out(const struct geometry *g, int i)
{
    int64_t size = i ? g->w : g->h, k = i ? g->kw : g->kh;
    return (size + g->pad[i] + g->pad_end[i] - g->dilation[i] * (k - 1) - 1) / g->stride[i] + 1;
}

static int threads = 1; /* of the test that runs: one test uses two */

/* Runs one direction; layouts: ask, or the blocks given (0: plain) of images x and y of the forward direction. */
static void direction(const struct geometry *g, enum qn__opcode op, bool ask, int32_t bx, int32_t by,
                      const struct qn__epilogue *e, const char *expect)
{
    struct qn__conv_attr a = attr_of(g), plain;
    int64_t x[] = { g->n, g->c, g->h, g->w }, w[] = { g->o, g->c / g->groups, g->kh, g->kw };
    int64_t y[] = { g->n, g->o, out(g, 0), out(g, 1) };
    struct product p = { .op = op, .ask = ask, .threads = threads };
    bool forward = op == QN_OP_conv2d, grad_w = op == QN_OP_conv2d_grad_w;
    if (!forward) {
        a.size[0] = grad_w ? g->kh : g->h;
        a.size[1] = grad_w ? g->kw : g->w;
        a.channels = g->c;
    }
    if (e) a.epilogue = *e;
    plain = a;
    plain.epilogue.act = 0;
    p.attr = &a;
    p.plain_attr = a.epilogue.act ? &plain : NULL;
    product_operand(&p, 1, 4, op == QN_OP_conv2d_grad_x ? w : x);
    product_operand(&p, 2, 4, forward ? w : y);
    if (a.epilogue.has_bias) product_operand(&p, 3, 1, forward ? &g->o : &g->c);
    if (op != QN_OP_conv2d_grad_x) p.x_block[0] = bx;
    if (!forward) p.x_block[1] = by;
    p.y_block = forward ? by : grad_w ? 0 : bx;
    int64_t k = forward ? w[1] * g->kh * g->kw : grad_w ? g->n * y[2] * y[3] : g->o / g->groups * g->kh * g->kw;
    product_check(&p, k + 1, expect);
    product_free(&p);
}

static void all_directions(const struct geometry *g, bool ask, int32_t bx, int32_t by)
{
    direction(g, QN_OP_conv2d, ask, bx, by, NULL, NULL);
    direction(g, QN_OP_conv2d_grad_x, ask, bx, by, NULL, NULL);
    direction(g, QN_OP_conv2d_grad_w, ask, bx, by, NULL, NULL);
}

static const struct geometry geometries[] = {
    { 2, 1, 9, 11, 32, 3, 3, ONES, ONES, NONE, NONE, 1 },
    { 3, 1, 8, 8, 8, 3, 3, ONES, ONES, ONES, ONES, 1 },
    { 5, 3, 13, 17, 16, 5, 5, { 2, 2 }, ONES, { 2, 2 }, { 2, 2 }, 1 },
    { 2, 3, 20, 20, 24, 7, 7, { 2, 3 }, ONES, { 3, 3 }, { 3, 2 }, 1 },
    { 2, 2, 9, 9, 40, 1, 2, ONES, ONES, NONE, NONE, 1 },
    { 2, 1, 10, 10, 8, 2, 3, ONES, { 2, 2 }, ONES, NONE, 1 },
    { 17, 1, 6, 6, 8, 3, 4, ONES, ONES, { 0, 1 }, { 0, 2 }, 1 },
    { 2, 5, 6, 6, 8, 3, 6, ONES, ONES, { 3, 3 }, { 3, 3 }, 1 },
    { 2, 8, 9, 9, 8, 3, 3, ONES, ONES, ONES, ONES, 1 },
    { 2, 16, 9, 7, 32, 3, 3, ONES, ONES, ONES, ONES, 1 },
    { 2, 32, 5, 5, 64, 3, 3, ONES, ONES, NONE, NONE, 1 },
    { 3, 64, 7, 7, 16, 1, 1, ONES, ONES, NONE, NONE, 1 },
    { 1, 24, 10, 9, 8, 3, 3, { 2, 2 }, ONES, ONES, ONES, 1 },
    { 2, 16, 12, 12, 8, 3, 3, ONES, { 2, 3 }, { 2, 3 }, { 2, 3 }, 1 },
    { 2, 10, 8, 8, 12, 3, 3, ONES, ONES, ONES, ONES, 1 },
    { 2, 10, 8, 8, 15, 3, 3, ONES, ONES, ONES, ONES, 5 },
    { 2, 16, 8, 8, 32, 3, 3, ONES, ONES, ONES, ONES, 2 },
    { 2, 16, 8, 8, 16, 3, 3, ONES, ONES, ONES, ONES, 16 },
    { 2, 24, 9, 9, 24, 5, 5, { 2, 2 }, ONES, { 2, 2 }, { 2, 2 }, 24 },
    { 2, 3, 8, 8, 6, 3, 3, ONES, ONES, ONES, ONES, 3 },
    { 2, 8, 7, 7, 16, 3, 3, ONES, ONES, { 0, 1 }, { 2, 0 }, 1 },
    { 2, 8, 4, 5, 8, 4, 5, ONES, ONES, NONE, NONE, 1 },
    { 2, 8, 1, 1, 8, 3, 3, ONES, ONES, ONES, ONES, 1 },
    { 2, 8, 6, 6, 8, 2, 2, { 3, 3 }, ONES, { 4, 4 }, { 4, 4 }, 1 },
    { 1, 1, 1, 1, 1, 1, 1, ONES, ONES, NONE, NONE, 1 },
    { 2, 16, 9, 9, 10, 3, 3, ONES, ONES, ONES, ONES, 1 },
    { 0, 8, 6, 6, 8, 3, 3, ONES, ONES, ONES, ONES, 1 },
    { 2, 0, 6, 6, 8, 3, 3, ONES, ONES, ONES, ONES, 1 },
};
enum { GEOMETRIES = sizeof geometries / sizeof geometries[0] };

static void asked(void **state)
{
    (void)state;
    threads = 2;
    for (int i = 0; i < GEOMETRIES; i++) all_directions(&geometries[i], true, 0, 0);
    threads = 1;
}

static void plain(void **state)
{
    (void)state;
    for (int i = 0; i < GEOMETRIES; i++) all_directions(&geometries[i], false, 0, 0);
}

static void layouts(void **state)
{
    (void)state;
    for (int i = 0; i < GEOMETRIES; i++) {
        const struct geometry *g = &geometries[i];
        if (g->c % 8 == 0 && g->o % 8 == 0 && g->c && g->n) all_directions(g, true, 8, 8);
        if (g->groups == 1 && g->c && g->n) all_directions(g, true, (int32_t)g->c, (int32_t)g->o);
    }
}

/* Each variant is the one that is meant, where it is meant. */
static void variants(void **state)
{
    (void)state;
    const struct geometry *first = &geometries[0], *wide = &geometries[10], *depthwise = &geometries[17];
    direction(first, QN_OP_conv2d, true, 0, 0, NULL, "onednn");
    direction(first, QN_OP_conv2d_grad_w, true, 0, 0, NULL, "rows");
    direction(&geometries[2], QN_OP_conv2d_grad_w, true, 0, 0, NULL, "rows");
    for (int op = QN_OP_conv2d; op <= QN_OP_conv2d_grad_w; op++) {
        direction(wide, (enum qn__opcode)op, true, 0, 0, NULL, "onednn");
        direction(wide, (enum qn__opcode)op, false, 0, 0, NULL, "onednn");
        direction(depthwise, (enum qn__opcode)op, true, 0, 0, NULL, "onednn");
        direction(&geometries[26], (enum qn__opcode)op, true, 0, 0, NULL, "loops");
    }
}

static void epilogues(void **state)
{
    (void)state;
    for (int i = 0; i < PRODUCT_ACTIVATIONS; i++)
        for (int bias = 0; bias < 2; bias++) {
            struct qn__epilogue e = { .has_bias = bias, .act = product_activation[i], .p = 0.25 };
            static const int of[] = { 0, 9, 14, 24 };
            for (size_t k = 0; k < sizeof of / sizeof of[0]; k++)
                for (int ask = 0; ask < 2; ask++) {
                    direction(&geometries[of[k]], QN_OP_conv2d, ask, 0, 0, &e, NULL);
                    direction(&geometries[of[k]], QN_OP_conv2d_grad_x, ask, 0, 0, &e, NULL);
                }
        }
}

/* A NaN in one image comes out of every activation, in that image only. */
static void nan_passes(void **state)
{
    (void)state;
    for (int i = 0; i < PRODUCT_ACTIVATIONS; i++) {
        struct qn__conv_attr a = attr_of(&geometries[9]);
        a.epilogue.act = product_activation[i], a.epilogue.p = 0.25;
        struct product p = { .op = QN_OP_conv2d, .attr = &a, .ask = true };
        product_operand(&p, 1, 4, (int64_t[]){ 2, 16, 3, 3 });
        product_operand(&p, 2, 4, (int64_t[]){ 32, 16, 3, 3 });
        p.data[0][16 * 9 + 4] = (double)NAN;
        if (product_run(&p, false)) fail_msg("%s", p.err.text);
        for (int64_t j = 0; j < p.y.count; j++) assert_true(isnan(p.result[j]) == (j >= p.y.count / 2));
        product_free(&p);
    }
}

/* ---- errors ------------------------------------------------------------------------------------- */

static void fails(const char *text, const int64_t *x, const int64_t *w, const qn_conv2d_opts *opts)
{
    qn_graph *g;
    assert_int_equal(qn_graph_new(&g, NULL), QN_OK);
    qn_t y = qn_conv2d(g, qn_input(g, "x", QN_F32, 4, x), qn_input(g, "w", QN_F32, 4, w), opts);
    assert_int_equal(y.id, 0);
    assert_string_equal(qn_graph_error(g)->text, text);
    qn_graph_free(g);
}
#define DIMS(...) ((const int64_t[]){ __VA_ARGS__ })

static void errors(void **state)
{
    (void)state;
    fails("error E2203 shape: conv2d: height of 4, padded to 4, under a window of 5; expected at least 5; operands "
          "[1,1,4,9] [8,1,5,5]",
          DIMS(1, 1, 4, 9), DIMS(8, 1, 5, 5), NULL);
    fails("error E2203 shape: conv2d: width of 9, padded to 10, under a window of 13; expected at least 13; operands "
          "[1,1,14,9] [8,1,5,5]",
          DIMS(1, 1, 14, 9), DIMS(8, 1, 5, 5), &(qn_conv2d_opts){ .dilation = { 3, 3 }, .pad = { 0, 1 } });
    fails("error E2201 shape: conv2d: filters of 3 channels; expected 4 (4 in 1 groups); operands [1,4,9,9] [8,3,3,3]",
          DIMS(1, 4, 9, 9), DIMS(8, 3, 3, 3), NULL);
    fails("error E2204 graph: conv2d: groups: 3; expected a divisor of 4 and 9 channels; operands [1,4,9,9] [9,4,3,3]",
          DIMS(1, 4, 9, 9), DIMS(9, 4, 3, 3), &(qn_conv2d_opts){ .groups = 3 });
    fails("error E2204 graph: conv2d: groups: -1; expected 1 or more; operands [1,4,9,9] [8,4,3,3]", DIMS(1, 4, 9, 9),
          DIMS(8, 4, 3, 3), &(qn_conv2d_opts){ .groups = -1 });
    fails("error E2204 graph: conv2d: stride[1]: -2; expected 1..65535; operands [1,4,9,9] [8,4,3,3]", DIMS(1, 4, 9, 9),
          DIMS(8, 4, 3, 3), &(qn_conv2d_opts){ .stride = { 1, -2 } });
    fails("error E2204 graph: conv2d: pad[0]: -1; expected 0..65535; operands [1,4,9,9] [8,4,3,3]", DIMS(1, 4, 9, 9),
          DIMS(8, 4, 3, 3), &(qn_conv2d_opts){ .pad = { -1, 0 } });
    fails("error E2204 graph: conv2d: dilation[0]: 70000; expected 1..65535; operands [1,4,9,9] [8,4,3,3]",
          DIMS(1, 4, 9, 9), DIMS(8, 4, 3, 3), &(qn_conv2d_opts){ .dilation = { 70000, 0 } });
    fails("error E2203 shape: conv2d: window 0 x 3; expected sizes in 1..65535; operands [1,4,9,9] [8,4,0,3]",
          DIMS(1, 4, 9, 9), DIMS(8, 4, 0, 3), NULL);
}

static void transposed(void **state)
{
    (void)state;
    qn_graph *g;
    assert_int_equal(qn_graph_new(&g, NULL), QN_OK);
    qn_t x = qn_input(g, "x", QN_F32, 4, DIMS(2, 6, 5, 7)), w = qn_input(g, "w", QN_F32, 4, DIMS(6, 4, 3, 3));
    qn_conv2d_opts opts = { .stride = { 2, 2 }, .pad = { 1, 1 }, .pad_end = { 1, 0 }, .groups = 2 };
    qn_t y = qn_conv_transpose2d(g, x, w, &opts, (const int32_t[]){ 1, 0 });
    static const int64_t want[] = { 2, 8, 10, 14 };
    for (int i = 0; i < 4; i++) assert_int_equal(qn_dim(g, y, i), want[i]);
    assert_int_equal(qn_conv_transpose2d(g, x, w, &opts, (const int32_t[]){ 2, 0 }).id, 0);
    assert_string_equal(qn_graph_error(g)->text, "error E2204 graph: conv_transpose2d: out_pad[0]: 2; expected 0..1, "
                                                 "less than the stride");
    qn_graph_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(asked),     cmocka_unit_test(plain),
                                        cmocka_unit_test(layouts),   cmocka_unit_test(variants),
                                        cmocka_unit_test(epilogues), cmocka_unit_test(nan_passes),
                                        cmocka_unit_test(errors),    cmocka_unit_test(transposed) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
