/* matmul: oneDNN against the double loops within gamma_K; shapes, transposes, broadcasting, epilogues; errors. */
#include "product.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void product(int ta, int tb, int64_t batch, int64_t m, int64_t n, int64_t k, const struct qn__epilogue *e,
                    const char *force, const char *expect)
{
    struct qn__matmul_attr attr, plain;
    memset(&attr, 0, sizeof attr);
    attr.ta = ta, attr.tb = tb;
    if (e) attr.epilogue = *e;
    plain = attr;
    plain.epilogue.act = 0;
    struct product p = {
        .op = QN_OP_matmul, .attr = &attr, .plain_attr = e && e->act ? &plain : NULL, .variant = force
    };
    int64_t a[3] = { batch, ta ? k : m, ta ? m : k }, b[3] = { batch, tb ? n : k, tb ? k : n };
    int rank = batch ? 3 : 2;
    product_operand(&p, 1, rank, a + 3 - rank);
    product_operand(&p, 2, rank, b + 3 - rank);
    if (e && e->has_bias) product_operand(&p, 3, 1, &n);
    product_check(&p, k + 1, expect);
    product_free(&p);
}

static void transposes(void **state)
{
    (void)state;
    static const int64_t size[][3] = { { 1, 1, 1 },     { 1, 17, 300 },   { 19, 1, 300 },   { 16, 16, 16 },
                                       { 33, 65, 129 }, { 128, 10, 512 }, { 128, 512, 10 }, { 5, 7, 4099 } };
    for (size_t i = 0; i < sizeof size / sizeof size[0]; i++)
        for (int t = 0; t < 4; t++) {
            int64_t m = size[i][0], n = size[i][1], k = size[i][2];
            product(t & 1, t >> 1, 0, m, n, k, NULL, NULL, m * n * k < 4096 ? "loops" : "onednn");
            product(t & 1, t >> 1, 3, m, n, k, NULL, NULL, 3 * m * n * k < 4096 ? "loops" : "onednn");
            product(t & 1, t >> 1, 0, m, n, k, NULL, "loops", "loops");
        }
}

/* Edges of the 6 x 16 tiles, several depths of a strip, epilogues. */
static void tiles(void **state)
{
    (void)state;
    static const int64_t size[][3] = {
        { 24, 256, 32 }, { 25, 257, 33 }, { 29, 271, 256 }, { 66, 272, 257 }, { 31, 300, 700 }
    };
    for (size_t i = 0; i < sizeof size / sizeof size[0]; i++)
        for (int ta = 0; ta < 2; ta++)
            for (int act = 0; act < 2; act++) {
                struct qn__epilogue e = { .has_bias = 1, .act = act ? QN_OP_relu : 0 };
                product(ta, 0, 0, size[i][0], size[i][1], size[i][2], NULL, NULL, "tiles");
                product(ta, 0, 0, size[i][0], size[i][1], size[i][2], &e, NULL, "tiles");
            }
}

static void epilogues(void **state)
{
    (void)state;
    for (int i = 0; i < PRODUCT_ACTIVATIONS; i++)
        for (int bias = 0; bias < 2; bias++) {
            struct qn__epilogue e = { .has_bias = bias, .act = product_activation[i], .p = 0.25 };
            product(0, 0, 0, 5, 6, 7, &e, NULL, "loops");
            product(0, 1, 0, 40, 50, 60, &e, NULL, "onednn");
            product(0, 0, 2, 40, 50, 60, &e, NULL, "onednn");
        }
}

/* A NaN in an operand must come out of every activation. */
static void nan_passes(void **state)
{
    (void)state;
    for (int i = 0; i < PRODUCT_ACTIVATIONS; i++) {
        struct qn__matmul_attr attr;
        memset(&attr, 0, sizeof attr);
        attr.epilogue.act = product_activation[i], attr.epilogue.p = 0.25;
        struct product p = { .op = QN_OP_matmul, .attr = &attr };
        product_operand(&p, 1, 2, (int64_t[]){ 32, 64 });
        product_operand(&p, 2, 2, (int64_t[]){ 64, 32 });
        p.data[0][3 * 64 + 5] = (double)NAN;
        if (product_run(&p, false)) fail_msg("%s", p.err.text);
        assert_string_equal(p.chosen, "onednn");
        for (int64_t j = 0; j < p.y.count; j++) assert_true(isnan(p.result[j]) == (j / 32 == 3));
        product_free(&p);
    }
}

static void broadcasting(void **state)
{
    (void)state;
    static const struct {
        int ra, rb;
        int64_t a[4], b[4];
        int ta, tb;
    } c[] = {
        { 4, 2, { 2, 3, 20, 30 }, { 30, 40 }, 0, 0 },
        { 4, 2, { 2, 3, 30, 20 }, { 40, 30 }, 1, 1 },
        { 4, 4, { 2, 1, 20, 30 }, { 1, 3, 30, 40 }, 0, 0 },
        { 4, 3, { 2, 3, 20, 30 }, { 3, 40, 30 }, 0, 1 },
        { 2, 3, { 20, 30 }, { 5, 30, 40 }, 0, 0 },
        { 3, 3, { 0, 20, 30 }, { 1, 30, 40 }, 0, 0 },
        { 2, 2, { 0, 30 }, { 30, 40 }, 0, 0 },
        { 2, 2, { 20, 0 }, { 0, 40 }, 0, 0 },
    };
    for (size_t i = 0; i < sizeof c / sizeof c[0]; i++)
        for (int force = 0; force < 2; force++) {
            struct qn__matmul_attr attr;
            memset(&attr, 0, sizeof attr);
            attr.ta = c[i].ta, attr.tb = c[i].tb;
            struct product p = { .op = QN_OP_matmul, .attr = &attr, .variant = force ? "loops" : NULL };
            product_operand(&p, 1, c[i].ra, c[i].a);
            product_operand(&p, 2, c[i].rb, c[i].b);
            product_check(&p, 30, NULL);
            product_free(&p);
        }
}

/* Same bits with 1, 2 and 3 threads in loops and tiles; and run to run with the library. */
static void threads(void **state)
{
    (void)state;
    struct qn__matmul_attr attr;
    memset(&attr, 0, sizeof attr);
    static const char *const variant[] = { "loops", "tiles", "onednn" };
    for (int v = 0; v < 3; v++) {
        double *first = NULL;
        for (int round = 0; round < 3; round++) {
            struct product p = {
                .op = QN_OP_matmul, .attr = &attr, .threads = v < 2 ? round + 1 : 2, .variant = v == 0 ? "loops" : NULL
            };
            int64_t n = v == 1 ? 300 : 90;
            product_operand(&p, 1, 2, (int64_t[]){ 70, 300 });
            product_operand(&p, 2, 2, (int64_t[]){ 300, n });
            if (product_run(&p, false)) fail_msg("%s", p.err.text);
            assert_string_equal(p.chosen, variant[v]);
            if (first)
                assert_memory_equal(p.result, first, (size_t)p.y.count * sizeof(double));
            else
                first = p.result, p.result = NULL;
            product_free(&p);
        }
        free(first);
    }
}

static void fails(int code, const char *text, int ra, const int64_t *da, int rb, const int64_t *db, qn_dtype dtype,
                  const qn_matmul_opts *opts)
{
    qn_graph *g;
    assert_int_equal(qn_graph_new(&g, NULL), QN_OK);
    qn_t a = qn_input(g, "a", QN_F32, ra, da), b = qn_input(g, "b", dtype, rb, db);
    assert_int_equal(qn_matmul(g, a, b, opts).id, 0);
    assert_int_equal(qn_graph_error(g)->code, code);
    assert_string_equal(qn_graph_error(g)->text, text);
    qn_graph_free(g);
}

static void errors(void **state)
{
    (void)state;
    fails(2201, "error E2201 shape: matmul: inner sizes 3 and 4; expected equal sizes; operands [2,3] [4,5]", 2,
          (int64_t[]){ 2, 3 }, 2, (int64_t[]){ 4, 5 }, QN_F32, NULL);
    fails(2201,
          "error E2201 shape: matmul: inner sizes 2 and 5, a transposed, b transposed; expected equal sizes; operands "
          "[2,3] [4,5]",
          2, (int64_t[]){ 2, 3 }, 2, (int64_t[]){ 4, 5 }, QN_F32, &(qn_matmul_opts){ true, true });
    fails(2203, "error E2203 shape: matmul: operand 1 has rank 1; expected rank 2..8; operands [2,3] [3]", 2,
          (int64_t[]){ 2, 3 }, 1, (int64_t[]){ 3 }, QN_F32, NULL);
    fails(2202, "error E2202 shape: matmul: F32 and F64; expected one dtype; operands [2,3] [3,2]", 2,
          (int64_t[]){ 2, 3 }, 2, (int64_t[]){ 3, 2 }, QN_F64, NULL);
    fails(2201,
          "error E2201 shape: matmul: operand shapes do not fit; expected leading dims that broadcast; operands "
          "[2,2,3] [4,3,2]",
          3, (int64_t[]){ 2, 2, 3 }, 3, (int64_t[]){ 4, 3, 2 }, QN_F32, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(transposes),   cmocka_unit_test(tiles),
                                        cmocka_unit_test(epilogues),    cmocka_unit_test(nan_passes),
                                        cmocka_unit_test(broadcasting), cmocka_unit_test(threads),
                                        cmocka_unit_test(errors) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
