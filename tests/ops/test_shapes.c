/* test_shapes.c - shape rules of reductions, shape operators and writes to the store: what they give, and the exact
 * line for what they refuse. */
#include "ops.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#define DIMS(...) ((const int64_t[]){ __VA_ARGS__ })

struct fixture {
    qn_graph *g;
    qn_t x;       /* F32 [2,3,5] */
    qn_t y;       /* F32 [2,4]   */
    qn_t image;   /* F32 [2,6,4,4] */
    qn_t index;   /* I32 [7]     */
    qn_t stored;  /* F32 [2,4], of the store */
    qn_t nothing; /* F32 [0,3]   */
};

static struct fixture start(void)
{
    struct fixture f = { 0 };
    assert_int_equal(qn_graph_new(&f.g, NULL), QN_OK);
    f.x = qn_input(f.g, "x", QN_F32, 3, DIMS(2, 3, 5));
    f.y = qn_input(f.g, "y", QN_F32, 2, DIMS(2, 4));
    f.image = qn_input(f.g, "image", QN_F32, 4, DIMS(2, 6, 4, 4));
    f.index = qn_input(f.g, "index", QN_I32, 1, DIMS(7));
    f.stored = qn_tensor(f.g, QN_STATE, "stored", QN_F32, 2, DIMS(2, 4), NULL);
    f.nothing = qn_input(f.g, "nothing", QN_F32, 2, DIMS(0, 3));
    assert_int_equal(qn_graph_status(f.g), QN_OK);
    return f;
}

static void expect(const struct fixture *f, qn_t t, qn_dtype dtype, const char *dims)
{
    if (qn_graph_status(f->g)) fail_msg("%s", qn_graph_error(f->g)->text);
    assert_int_equal(qn_dtype_of(f->g, t), dtype);
    const struct qn__node *y = qn__at(f->g, t);
    assert_string_equal(qn__dims_show(y->rank, y->dim).s, dims);
}

static void results_have_the_shapes_of_their_rules(void **state)
{
    (void)state;
    struct fixture f = start();
    qn_graph *g = f.g;
    expect(&f, qn_sum(g, f.x, QN_AXIS(1), false), QN_F32, "[2,5]");
    expect(&f, qn_sum(g, f.x, QN_AXIS(0) | QN_AXIS(2), true), QN_F32, "[1,3,1]");
    expect(&f, qn_sum(g, f.x, QN_ALL_AXES, false), QN_F32, "[]");
    expect(&f, qn_sum(g, f.nothing, QN_AXIS(0), false), QN_F32, "[3]");
    expect(&f, qn_reduce_max(g, f.x, QN_ALL_AXES, true), QN_F32, "[1,1,1]");
    expect(&f, qn_reduce_min(g, f.nothing, QN_AXIS(1), false), QN_F32, "[0]");
    expect(&f, qn_argmax(g, f.x, -1, false), QN_I32, "[2,3]");
    expect(&f, qn_argmax(g, f.x, 0, true), QN_I32, "[1,3,5]");
    expect(&f, qn_sum_squares(g, f.x), QN_F32, "[]");
    expect(&f, qn_reshape(g, f.x, 2, DIMS(-1, 10)), QN_F32, "[3,10]");
    expect(&f, qn_reshape(g, f.nothing, 3, DIMS(4, 0, 9)), QN_F32, "[4,0,9]");
    expect(&f, qn_flatten(g, f.image), QN_F32, "[2,96]");
    expect(&f, qn_flatten(g, f.index), QN_I32, "[7,1]");
    expect(&f, qn_transpose(g, f.x, (const int[]){ 2, 0, 1 }), QN_F32, "[5,2,3]");
    expect(&f, qn_transpose(g, f.x, NULL), QN_F32, "[5,3,2]");
    expect(&f, qn_slice(g, f.x, DIMS(1, 0, 5), DIMS(1, 3, 0)), QN_F32, "[1,3,0]");
    expect(&f, qn_concat(g, (const qn_t[]){ f.x, f.x, f.x }, 3, -2), QN_F32, "[2,9,5]");
    expect(&f, qn_pad(g, f.y, DIMS(0, 1), DIMS(2, 3)), QN_F32, "[4,8]");
    expect(&f, qn_gather(g, f.x, f.index, 1), QN_F32, "[2,7,5]");
    expect(&f, qn_scatter_add(g, qn_gather(g, f.x, f.index, -1), f.index, -1, 9), QN_F32, "[2,3,9]");
    expect(&f, qn_assign(g, f.stored, f.y), QN_F32, "[2,4]");
    expect(&f, qn_accumulate(g, qn_accumulate(g, f.stored, f.y), f.y), QN_F32, "[2,4]");
    qn_graph_free(g);
}

/* ---- refusals ------------------------------------------------------------------------------------- */

#define WIDEST ((int64_t)1 << 47)
/* clang-format off */
#define REFUSALS(X)                                                                                \
    X(qn_sum(g, f->x, QN_AXIS(3), false), \
      "E2204 graph: b: sum: axes 0x8; expected bits below rank 3; operands [2,3,5]") \
    X(qn_sum(g, f->index, 1, false), \
      "E2202 shape: b: sum: I32; expected F32, F64, BF16 or F16; operands [7]") \
    X(qn_reduce_max(g, f->nothing, QN_AXIS(0), false),                                             \
      "E2203 shape: b: reduce_max: axis 0 is empty; expected at least one element to choose from; operands [0,3]") \
    X(qn_argmax(g, f->x, 3, false), "E2204 graph: b: argmax: axis 3 of rank 3; expected -rank..rank-1") \
    X(qn_argmax(g, f->nothing, 0, false),                                                          \
      "E2203 shape: b: argmax: axis 0 is empty; expected at least one element to choose from; operands [0,3]") \
    X(qn_sum_squares(g, f->index), \
      "E2202 shape: b: sum_squares: I32; expected F32, F64, BF16 or F16; operands [7]") \
    X(qn_reshape(g, f->x, 2, DIMS(4, 7)), \
      "E2201 shape: b: reshape: to [4,7]; expected dims of 30 elements; operands [2,3,5]") \
    X(qn_reshape(g, f->x, 2, DIMS(-1, 7)),                                                         \
      "E2201 shape: b: reshape: [-1,7] of 30 elements; expected at most one -1, which the others divide") \
    X(qn_reshape(g, f->x, 2, DIMS(-1, -1)),                                                        \
      "E2201 shape: b: reshape: [-1,-1] of 30 elements; expected at most one -1, which the others divide") \
    X(qn_reshape(g, f->x, 2, DIMS(-2, -15)), \
      "E2201 shape: b: reshape: to []; expected dims of 30 elements; operands [2,3,5]") \
    X(qn_reshape(g, f->x, 9, DIMS(30)), "E2203 shape: b: reshape: rank 9; expected 0..8")           \
    X(qn_transpose(g, f->y, (const int[]){ 1, 1 }),                                                \
      "E2204 graph: b: transpose: permutation[1] = 1; expected each of 0..1 once; operands [2,4]")  \
    X(qn_transpose(g, f->y, (const int[]){ 0, -1 }),                                               \
      "E2204 graph: b: transpose: permutation[1] = -1; expected each of 0..1 once; operands [2,4]") \
    X(qn_slice(g, f->y, DIMS(0, 3), DIMS(2, 2)),                                                   \
      "E2204 graph: b: slice: axis 1: begin 3, size 2; expected a part of 0..4; operands [2,4]")    \
    X(qn_slice(g, f->y, DIMS(0, INT64_MAX), DIMS(2, INT64_MAX)),                                   \
      "E2204 graph: b: slice: axis 1: begin 9223372036854775807, size 9223372036854775807; expected a part of 0..4; " \
      "operands [2,4]")                                                                            \
    X(qn_slice(g, f->y, DIMS(0, -1), DIMS(2, 2)),                                                  \
      "E2204 graph: b: slice: axis 1: begin -1, size 2; expected a part of 0..4; operands [2,4]")   \
    X(qn_concat(g, (const qn_t[]){ f->x, f->y }, 2, 0),                                            \
      "E2201 shape: b: concat: operand 1 does not fit; expected equal dims but for axis 0; operands [2,3,5] [2,4]") \
    X(qn_concat(g, (const qn_t[]){ f->y, f->y }, 2, 2),                                            \
      "E2204 graph: b: concat: axis 2 of rank 2; expected 0..rank-1; operands [2,4] [2,4]")         \
    X(qn_concat(g, (const qn_t[]){ f->index, qn_cast(g, f->index, QN_I64) }, 2, 0),                \
      "E2202 shape: b: concat: I32 and I64; expected one dtype; operands [7] [7]")                  \
    X(qn_concat(g, NULL, 0, 0), "E2204 graph: b: concat: 0 operands; expected at least 1")          \
    X(qn_pad(g, f->y, DIMS(0, -1), DIMS(0, 0)),                                                    \
      "E2204 graph: b: pad: axis 1: -1 before, 0 after; expected 0..281474976710655; operands [2,4]") \
    X(qn_pad(g, f->y, DIMS(WIDEST, WIDEST), DIMS(0, 0)),                                           \
      "E2203 shape: b: pad: [140737488355330,140737488355332], rank 2; expected rank 0..8, dims >= 0, fewer than " \
      "2^48 elements")                                                                                  \
    X(qn_gather(g, f->x, f->y, 0), \
      "E2202 shape: b: gather: index of F32; expected I32 or I64; operands [2,3,5] [2,4]") \
    X(qn_gather(g, f->x, f->index, 3), \
      "E2204 graph: b: gather: axis 3 of rank 3; expected 0..rank-1; operands [2,3,5] [7]") \
    X(qn_gather(g, f->nothing, f->index, 0),                                                       \
      "E2203 shape: b: gather: axis 0 is empty; expected at least one element to choose from; operands [0,3] [7]") \
    X(qn_scatter_add(g, f->x, f->index, 1, 9),                                                     \
      "E2201 shape: b: scatter_add: operands do not fit; expected the dims of the index from axis 1 on; operands " \
      "[2,3,5] [7]")                                                                               \
    X(qn_scatter_add(g, qn_gather(g, f->x, f->index, 1), f->index, 1, 0),                          \
      "E2204 graph: b: scatter_add: size 0; expected at least 1; operands [2,7,5] [7]")             \
    X(qn_assign(g, f->y, f->stored),                                                               \
      "E2209 graph: b: assign: operand 0 is the result of input; expected a tensor of the store; operands " \
      "[2,4] [2,4]") \
    X(qn_assign(g, f->stored, f->x), \
      "E2201 shape: b: assign: operand shapes differ; expected equal dims; operands [2,4] [2,3,5]") \
    X(qn_assign(g, f->stored, qn_cast(g, f->y, QN_F64)),                                           \
      "E2202 shape: b: assign: F64 into F32; expected one dtype; operands [2,4] [2,4]")             \
    X(qn_accumulate(g, f->stored, f->x),                                                           \
      "E2201 shape: b: accumulate: operand shapes differ; expected equal dims; operands [2,4] [2,3,5]") \
    X(qn_advance_rng(g, f->stored, 1, 0), \
      "E2201 shape: b: advance_rng: F32 [2,4]; expected I64 [4]; operands [2,4]") \
    X(qn_advance_rng(g, qn_rng(g), -1, 0),                                                         \
      "E2204 graph: b: advance_rng: -1 samples, 0 steps; expected at least 0; operands [4]")
/* clang-format on */

#define BUILD(call, text) \
    if (i == at++) { \
        (void)(call); \
        return; \
    }
static void build(qn_graph *g, const struct fixture *f, int i)
{
    int at = 0;
    REFUSALS(BUILD)
}

static void refusals_say_what_was_found_and_expected(void **state)
{
    (void)state;
#define TEXT(call, text) "error " text,
    static const char *const expected[] = { REFUSALS(TEXT) };
    for (int i = 0; i < (int)(sizeof expected / sizeof *expected); i++) {
        struct fixture f = start();
        qn_scope_push(f.g, "b");
        build(f.g, &f, i);
        assert_string_equal(qn_graph_error(f.g)->text, expected[i]);
        assert_int_equal(qn_graph_status(f.g), QN_EUSAGE);
        assert_int_equal(qn_sum_all(f.g, f.x).id, 0); /* the graph stays failed */
        qn_graph_free(f.g);
    }
}

static void the_random_state_is_one_tensor_whatever_the_scope(void **state)
{
    (void)state;
    struct fixture f = start();
    qn_scope_push(f.g, "block");
    qn_t a = qn_rng(f.g);
    qn_scope_pop(f.g);
    qn_t b = qn_rng(f.g);
    assert_int_equal(a.id, b.id);
    assert_string_equal(qn__at(f.g, a)->name, "quern.rng");
    expect(&f, qn_advance_rng(f.g, a, 128, 0), QN_I64, "[4]");
    qn_graph_free(f.g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(results_have_the_shapes_of_their_rules),
        cmocka_unit_test(refusals_say_what_was_found_and_expected),
        cmocka_unit_test(the_random_state_is_one_tensor_whatever_the_scope),
    };
    return cmocka_run_group_tests_name("shapes", tests, NULL, NULL);
}
