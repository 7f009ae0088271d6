/* test_misuse.c - mistakes of a program that uses the library: one line each, no crash. */
#include "../../include/quern/core.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

/* E2206: a program must be loaded before it runs. */
static void run_before_load(void **state)
{
    (void)state;
    qn_graph *g;
    qn_store *store;
    qn_program *p;
    qn_error err = { 0 };
    char where[40];
    assert_int_equal(qn_graph_new(&g, NULL), 0);
    assert_int_equal(qn_store_new(&store, "cpu", 1, NULL, &err), 0);
    qn_t y = qn_relu(g, qn_input(g, "x", QN_F32, 1, (int64_t[]){ 3 }));
    assert_int_equal(qn_compile(&p, g, &y, 1, store, NULL, &err), 0);
    assert_int_equal(qn_program_run(p, QN_MICRO, &err), QN_EUSAGE);
    assert_int_equal(err.code, 2206);
    assert_int_equal(qn_program_find_nonfinite(p, NULL, where, sizeof where, &err), QN_EUSAGE);
    assert_null(qn_program_data(p, y));
    assert_int_equal(qn_program_load(p, &err), 0);
    assert_int_equal(qn_program_run(p, QN_MICRO, &err), 0);
    qn_program_free(p);
    qn_store_free(store);
    qn_graph_free(g);
}

/* E2205: the gradient of a gradient kernel that has none says which operator and why. */
static void no_gradient(void **state)
{
    (void)state;
    qn_graph *g;
    assert_int_equal(qn_graph_new(&g, NULL), 0);
    qn_t x = qn_input(g, "x", QN_F32, 2, (int64_t[]){ 2, 3 }), t = qn_input(g, "t", QN_I32, 1, (int64_t[]){ 2 }), dx,
         ddx;
    assert_int_equal(qn_grad(g, qn_cross_entropy(g, x, t, NULL), &x, &dx, 1), 0);
    assert_int_equal(qn_grad(g, qn_sum_squares(g, dx), &x, &ddx, 1), QN_EUSAGE);
    assert_int_equal(qn_graph_error(g)->code, 2205);
    assert_string_equal(qn_graph_error(g)->text,
                        "error E2205 graph: cross_entropy_grad: has no gradient: first derivative only: the gradient "
                        "kernel of cross_entropy; expected no path from a weight to the loss");
    assert_int_equal(ddx.id, 0);
    qn_graph_free(g);
}

/* E2208: an operator that no kernel can run is refused when the program is compiled, not in the step. */
static void no_kernel(void **state)
{
    (void)state;
    qn_graph *g;
    qn_program *p;
    qn_error err = { 0 };
    assert_int_equal(qn_graph_new(&g, NULL), 0);
    qn_t y = qn_sum_all(g, qn_input(g, "x", QN_BF16, 1, (int64_t[]){ 8 }));
    assert_int_equal(qn_compile(&p, g, &y, 1, NULL, NULL, &err), QN_EUSAGE);
    assert_null(p);
    assert_int_equal(err.code, 2208);
    assert_string_equal(
        err.text,
        "error E2208 graph: sum: sum: BF16 [8] -> BF16 []; expected F32 or F64, in which the cpu backend computes");
    qn_graph_free(g);
}

/* The first mistake is kept, later calls do nothing, and qn_compile reports it with scope and shapes. */
static void sticky(void **state)
{
    (void)state;
    qn_graph *g;
    qn_program *p;
    qn_error err = { 0 };
    assert_int_equal(qn_graph_new(&g, NULL), 0);
    qn_scope_push(g, "block3");
    qn_t a = qn_input(g, "a", QN_F32, 2, (int64_t[]){ 32, 768 }),
         b = qn_input(g, "b", QN_F32, 2, (int64_t[]){ 512, 768 });
    qn_t y = qn_matmul(g, a, b, NULL);
    assert_int_equal(y.id, 0);
    y = qn_relu(g, qn_add(g, y, y));
    assert_int_equal(y.id, 0);
    assert_int_equal(qn_compile(&p, g, &y, 1, NULL, NULL, &err), QN_EUSAGE);
    assert_int_equal(err.code, 2201);
    assert_non_null(strstr(err.text, "block3: matmul"));
    assert_non_null(strstr(err.text, "[32,768] [512,768]"));
    qn_graph_free(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(run_before_load), cmocka_unit_test(no_gradient),
                                        cmocka_unit_test(no_kernel), cmocka_unit_test(sticky) };
    return cmocka_run_group_tests_name("misuse", tests, NULL, NULL);
}
