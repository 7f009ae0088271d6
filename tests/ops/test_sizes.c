/* test_sizes.c - the cases of every operator go through the sizes at which loops over lanes, warps, tiles and threads
 * end: 1, 31, 33, 127, 129, 257, nothing at all, one row; in F32, and in BF16 and F16 where the row takes them; with
 * NaN and infinities planted. What a row does without is listed here, with the reason. */
#include "ops.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

enum { EMPTY = 0, ONE_ROW = -1, NOT_FINITE = -2 };
static const int wanted[] = { 1, 31, 33, 127, 129, 257, EMPTY, ONE_ROW, NOT_FINITE };
enum { WANTED = sizeof wanted / sizeof wanted[0] };

static const char *name_of(int what, char room[20])
{
    snprintf(room, 20, "%d", what);
    return what == EMPTY ? "empty" : what == ONE_ROW ? "one row" : what == NOT_FINITE ? "not finite" : room;
}

static bool has_size(const struct op_in *in, int64_t size)
{
    for (int i = 0; i < in->rank; i++)
        if (in->dim[i] == size) return true;
    return size == 1 && in->rank == 0;
}

/* All dimensions but the last are 1. */
static bool is_row(const struct op_in *in)
{
    int64_t n = 1;
    for (int i = 0; i < in->rank - 1; i++) n *= in->dim[i];
    return in->rank > 0 && n == 1 && in->dim[in->rank - 1] > 1;
}

/* slice has the sizes of its result among its attributes. */
static bool shows(const struct op_case *c, int what)
{
    for (size_t i = 0; what > 1 && i < sizeof c->p / sizeof c->p[0]; i++)
        if (c->p[i] == what) return true;
    if (what == NOT_FINITE && c->finite_only) return false;
    for (int i = 0; i < c->n_in; i++) {
        const struct op_in *in = &c->in[i];
        if (what == NOT_FINITE && op_in_dtype(in, QN_F64) == QN_F64 && op_in_count(in) > 0) return true;
        if (what == ONE_ROW && is_row(in)) return true;
        if (what == EMPTY && op_in_count(in) == 0) return true;
        if (what > 0 && has_size(in, what)) return true;
    }
    return false;
}

/* Rows without a loop over elements. */
static const struct {
    enum qn__opcode op;
    const char *reason;
} without[] = {
    { QN_OP_input, "its bytes are ready before the step" },
    { QN_OP_constant, "its bytes are ready before the step" },
    { QN_OP_full, "its bytes are ready before the step" },
    { QN_OP_store, "its bytes are ready before the step" },
    { QN_OP_reshape, "an alias" },
    { QN_OP_output, "written by the step of its operand" },
    { QN_OP_advance_rng, "a tensor of four numbers" },
    { QN_OP_schedule, "one number of a few" },
    { QN_OP_loss_scale, "a tensor of three numbers" },
};

static bool is_without(enum qn__opcode op)
{
    for (size_t i = 0; i < sizeof without / sizeof without[0]; i++)
        if (without[i].op == op) return true;
    return false;
}

static bool has_real(const struct op_case *c)
{
    for (int i = 0; i < c->n_in; i++)
        if (op_in_dtype(&c->in[i], QN_F64) == QN_F64) return true;
    return false;
}

static int row_lacks(enum qn__opcode op, qn_dtype type)
{
    const struct op_cases *cases = op_cases_of[op];
    int seen[WANTED] = { 0 }, of_type = 0, lacks = 0;
    char room[20];
    for (int i = 0; i < cases->n; i++) {
        const struct op_case *c = &cases->c[i];
        if (c->fails || !has_real(c) || (type != QN_F32 && !direct_builds(op, c, type))) continue;
        of_type++;
        for (int w = 0; w < WANTED; w++) seen[w] += shows(c, wanted[w]);
    }
    for (int w = 0; w < WANTED; w++) {
        if (seen[w] || (type != QN_F32 && of_type == 0)) continue;
        printf("  %s, %s: no case of %s\n", qn__op_of(op)->name, qn_dtype_name(type), name_of(wanted[w], room));
        lacks++;
    }
    return lacks;
}

static void every_row_has_them(void **state)
{
    static const qn_dtype types[] = { QN_F32, QN_BF16, QN_F16 };
    int lacks = 0;
    (void)state;
    for (int op = 1; op < QN_OP_COUNT; op++)
        for (int t = 0; t < 3 && !is_without((enum qn__opcode)op); t++)
            lacks += row_lacks((enum qn__opcode)op, types[t]);
    assert_int_equal(lacks, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(every_row_has_them) };
    return cmocka_run_group_tests_name("sizes", tests, NULL, NULL);
}
