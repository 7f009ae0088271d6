/* test_layout.c - the layout pass: which orders it chooses, and that it inserts no reorder that is not needed. The
 * convolutions here like blocks of 8 wherever 8 divides the channels, whatever the machine has. */
#include "passes.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static int32_t wanted(const struct qn__view *v) { return v->dim[1] % 8 == 0 ? 8 : QN_PLAIN; }

static qn_status pick_conv(const struct qn__args *a, struct qn__choice *c)
{
    c->x_block[0] = a->op == QN_OP_conv2d_grad_x ? QN_PLAIN : wanted(&a->x[0]);
    c->x_block[1] = a->op == QN_OP_conv2d ? QN_PLAIN : wanted(&a->x[1]);
    c->y_block = a->op == QN_OP_conv2d_grad_w ? QN_PLAIN : wanted(&a->y);
    return QN_OK;
}

/* The real kernels but for the convolutions. */
static struct qn__backend backend(const struct qn__kernel **table)
{
    static const struct qn__kernel conv = { .pick = pick_conv };
    memcpy(table, qn__cpu_f32.kernel, QN_OP_COUNT * sizeof *table);
    table[QN_OP_conv2d] = table[QN_OP_conv2d_grad_x] = table[QN_OP_conv2d_grad_w] = &conv;
    return (struct qn__backend){ .name = "test", .kernel = table };
}

static qn_graph *run(qn__pass *pass, qn_graph *g, int32_t *keep, int n)
{
    const struct qn__kernel *table[QN_OP_COUNT];
    struct qn__backend b = backend(table);
    return passes_run(pass, g, keep, n, &b);
}

static qn_graph *all_passes(qn_graph *g, int32_t *keep, int n)
{
    qn__pass *const passes[] = { qn__pass_dead, qn__pass_fold,   qn__pass_cse, qn__pass_epilogue,
                                 qn__pass_fuse, qn__pass_layout, qn__pass_dead };
    for (size_t i = 0; i < sizeof passes / sizeof passes[0]; i++) g = run(passes[i], g, keep, n);
    return g;
}

static int count(const qn_graph *g, enum qn__opcode op)
{
    int n = 0;
    for (int32_t i = 1; i < g->n; i++) n += g->node[i].op == op;
    return n;
}

static qn_graph *new_graph(void)
{
    qn_graph *g;
    assert_int_equal(qn_graph_new(&g, NULL), QN_OK);
    return g;
}
#define DIMS(...) ((const int64_t[]){ __VA_ARGS__ })

static qn_t filters(qn_graph *g, const char *name, int64_t o, int64_t c)
{
    return qn_param(g, name, QN_F32, 4, DIMS(o, c, 3, 3), NULL);
}
static qn_t bias(qn_graph *g, const char *name, int64_t o, qn_t y)
{
    return qn_add(g, y, qn_reshape(g, qn_param(g, name, QN_F32, 1, &o, NULL), 4, DIMS(1, o, 1, 1)));
}

/* conv, relu, pool, conv, relu, dense, and the gradients of all weights. Reorders: the second convolution's result
 * before flatten, and its gradient after. */
static void chain(void **state)
{
    (void)state;
    qn_graph *g = new_graph();
    qn_t x = qn_input(g, "x", QN_F32, 4, DIMS(2, 1, 12, 12));
    qn_t w[] = { filters(g, "w1", 16, 1), filters(g, "w2", 24, 16), qn_param(g, "w3", QN_F32, 2, DIMS(216, 10), NULL) };
    qn_t y = qn_relu(g, bias(g, "b1", 16, qn_conv2d(g, x, w[0], NULL)));
    y = qn_max_pool2d(g, y, &(qn_pool2d_opts){ .window = { 2, 2 } });
    y = qn_relu(g, bias(g, "b2", 24, qn_conv2d(g, y, w[1], NULL)));
    qn_t loss = qn_sum_all(g, qn_square(g, qn_matmul(g, qn_flatten(g, y), w[2], NULL))), dw[3];
    assert_int_equal(qn_grad(g, loss, w, dw, 3), QN_OK);
    int32_t keep[] = { loss.id, dw[0].id, dw[1].id, dw[2].id };
    g = all_passes(g, keep, 4);
    passes_check_golden(g, "layout");
    assert_int_equal(count(g, QN_OP_reorder), 2);
    qn_graph_free(g);
}

/* Two branches of one value, batch norm, a residual sum and a global pool stay in blocks from end to end. */
static void residual(void **state)
{
    (void)state;
    qn_graph *g = new_graph();
    int64_t c = 16;
    qn_conv2d_opts same = { .pad = { 1, 1 }, .pad_end = { 1, 1 } };
    qn_t x = qn_input(g, "x", QN_F32, 4, DIMS(2, 3, 8, 8)), gamma = qn_param(g, "gamma", QN_F32, 1, &c, NULL);
    qn_t beta = qn_param(g, "beta", QN_F32, 1, &c, NULL), w1 = filters(g, "w1", 16, 3), w2 = filters(g, "w2", 16, 16);
    qn_t a = qn_relu(g, qn_batch_norm(g, qn_conv2d(g, x, w1, &same), gamma, beta, 1e-5, NULL));
    qn_t b = qn_add(g, a, qn_conv2d(g, a, w2, &same));
    qn_t y = qn_reshape(g, qn_global_avg_pool2d(g, b), 2, DIMS(2, 16));
    qn_t loss = qn_sum_all(g, qn_square(g, y)), wrt[] = { w1, w2, gamma, beta }, d[4];
    assert_int_equal(qn_grad(g, loss, wrt, d, 4), QN_OK);
    int32_t keep[] = { loss.id, d[0].id, d[1].id, d[2].id, d[3].id };
    g = all_passes(g, keep, 5);
    passes_check_golden(g, "layout_residual");
    qn_graph_free(g);
}

/* A kept value is plain; the chain after it is not. A value read twice in plain order is reordered once. */
static void kept_values_are_plain(void **state)
{
    (void)state;
    qn_graph *g = new_graph();
    qn_t x = qn_input(g, "x", QN_F32, 4, DIMS(2, 8, 6, 6)), w = filters(g, "w", 8, 8), w2 = filters(g, "v", 8, 8);
    qn_t a = qn_conv2d(g, x, w, NULL), b = qn_conv2d(g, a, w2, NULL);
    qn_t u = qn_transpose(g, b, (const int[]){ 1, 0, 2, 3 }), v = qn_reshape(g, b, 1, DIMS(64));
    int32_t keep[] = { a.id, u.id, v.id };
    g = run(qn__pass_layout, g, keep, 3);
    for (int i = 0; i < 3; i++) assert_int_equal(g->node[keep[i]].block, QN_PLAIN);
    assert_int_equal(count(g, QN_OP_reorder), 3); /* x, a, b */
    qn_graph_free(g);
}

/* Double graphs have nothing to gain from blocks, and odd channels none to use. */
static void plain_graphs_stay_plain(void **state)
{
    (void)state;
    for (int f64 = 0; f64 < 2; f64++) {
        qn_graph *g = new_graph();
        qn_dtype t = f64 ? QN_F64 : QN_F32;
        int64_t c = f64 ? 16 : 5;
        qn_t x = qn_input(g, "x", t, 4, DIMS(2, c, 6, 6)), w = qn_param(g, "w", t, 4, DIMS(c, c, 3, 3), NULL);
        qn_t loss = qn_sum_all(g, qn_square(g, qn_conv2d(g, x, w, NULL))), dw;
        assert_int_equal(qn_grad(g, loss, &w, &dw, 1), QN_OK);
        int32_t n = g->n, keep[] = { loss.id, dw.id };
        g = run(qn__pass_layout, g, keep, 2);
        assert_int_equal(g->n, n);
        for (int32_t i = 1; i < n; i++) assert_int_equal(g->node[i].block, QN_PLAIN);
        qn_graph_free(g);
    }
}

/* The real kernels: loss and gradients in blocks against those of the same graph left plain and unfused. */
static void compile_and_run(qn_graph *g, const qn_t *keep, int n, bool plain, double *sums, int *reordered)
{
    qn_store *s;
    qn_program *p;
    qn_error err = { 0 };
    assert_int_equal(qn_store_new(&s, "cpu", 7, NULL, NULL), QN_OK);
    if (qn_compile(&p, g, keep, n, s, &(qn_compile_opts){ .threads = 2, .no_fuse = plain, .check_plan = true }, &err) ||
        qn_program_load(p, &err))
        fail_msg("%s", err.text);
    float *x = qn_program_data(p, (qn_t){ 1 });
    for (int i = 0; i < 4 * 3 * 12 * 12; i++) x[i] = (float)(i * 37 % 101) / 101 - 0.5f;
    if (qn_program_run(p, QN_MICRO, &err)) fail_msg("%s", err.text);
    for (int i = 0; i < n; i++) {
        const float *v = qn_program_data(p, keep[i]);
        for (int64_t k = 0; k < qn_count(g, keep[i]); k++) sums[i] += (double)v[k] * (double)(k % 7 - 3);
    }
    for (int i = 0; i < qn_program_steps(p); i++) *reordered += strcmp(qn_program_step(p, i).op, "reorder") == 0;
    qn_program_free(p);
    qn_store_free(s);
}

static void blocks_change_no_result(void **state)
{
    (void)state;
    qn_graph *g = new_graph();
    const qn_init he = { .kind = QN_INIT_HE };
    qn_t x = qn_input(g, "x", QN_F32, 4, DIMS(4, 3, 12, 12));
    qn_t w[] = { qn_param(g, "w1", QN_F32, 4, DIMS(16, 3, 3, 3), &he),
                 qn_param(g, "w2", QN_F32, 4, DIMS(24, 16, 3, 3), &he),
                 qn_param(g, "w3", QN_F32, 2, DIMS(216, 10), &he) };
    qn_t y = qn_max_pool2d(g, qn_relu(g, qn_conv2d(g, x, w[0], NULL)), &(qn_pool2d_opts){ .window = { 2, 2 } });
    y = qn_relu(g, qn_conv2d(g, y, w[1], NULL));
    qn_t loss = qn_sum_all(g, qn_square(g, qn_matmul(g, qn_flatten(g, y), w[2], NULL))), dw[3];
    assert_int_equal(qn_grad(g, loss, w, dw, 3), QN_OK);
    qn_t keep[] = { loss, dw[0], dw[1], dw[2] };
    double blocked[4] = { 0 }, plain[4] = { 0 };
    int reorders[2] = { 0, 0 };
    compile_and_run(g, keep, 4, false, blocked, &reorders[0]);
    compile_and_run(g, keep, 4, true, plain, &reorders[1]);
    for (int i = 0; i < 4; i++) {
        assert_true(isfinite(plain[i]) && plain[i] != 0);
        assert_true(fabs(blocked[i] - plain[i]) <= 1e-4 * (fabs(plain[i]) + 1));
    }
    assert_true(reorders[0] <= 2);
    assert_int_equal(reorders[1], 0);
    qn_graph_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(chain), cmocka_unit_test(residual),
                                        cmocka_unit_test(kept_values_are_plain),
                                        cmocka_unit_test(blocks_change_no_result),
                                        cmocka_unit_test(plain_graphs_stay_plain) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
