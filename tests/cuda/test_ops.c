/* test_ops.c - the cases of tests/ops on the GPU: each kernel by itself against the double kernels of the CPU.
 *
 * For every case: f32 within the case's bound; BF16 and F16, where the row takes them, within the bound and one
 * rounding
 * of the result, from operands rounded to that type; planted NaN and infinities come out at the same places; the same
 * bits from other memory, on top of an operand, and in blocked layouts within the bound; the error text of a case that
 * must fail. Memory has guards, unless the plugin is a checking one. Rows that have neither a kernel nor a reason in
 * `lowered`, and variants that no case reaches, are listed; a kernel that takes 16 bits where no case has them fails.
 * Rows named on the command line: those alone.
 *
 * run-tests: timeout 1800 */
#include "../lib/gpu.h"
#include "../ops/ops.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* Rows that the backend makes of others. */
static const struct {
    enum qn__opcode op;
    const char *reason;
} lowered[] = { { QN_OP_none, "" } };

static const struct drive_on *gpu;

static bool is_ready(enum qn__opcode op) /* bytes that are there before the step */
{
    const struct qn__kernel *k = gpu->backend->kernel[op];
    return k && !k->launch;
}
static const char *lowered_to(enum qn__opcode op)
{
    for (size_t i = 0; i < sizeof lowered / sizeof *lowered; i++)
        if (lowered[i].op == op) return lowered[i].reason;
    return NULL;
}

static struct direct_opts at_home(qn_dtype storage)
{
    return (struct direct_opts){ .threads = 1, .block = QN_PLAIN, .fill = 0xFF, .storage = storage };
}
static struct direct_opts there(int32_t block, unsigned char fill, bool in_place)
{
    return (struct direct_opts){ .on = gpu, .threads = 1, .block = block, .fill = fill, .in_place = in_place };
}

static struct direct run(enum qn__opcode op, const struct op_case *c, qn_dtype real, const struct direct_opts *o)
{
    struct direct d = direct_run(op, c, real, o, NULL);
    if (d.status) fail_msg("case \"%s\", %s: %s", c->name, qn_dtype_name(real), d.err.text);
    return d;
}

static double check(const struct op_reference *r, const struct direct *got, qn_dtype real, const char *what)
{
    char text[80];
    snprintf(text, sizeof text, "%s, %s", qn_dtype_name(real), what);
    return real == QN_F32 ? op_check(r, got, 0x1p-24, text) : op_check_rounded(r, got, text);
}

static void check_bits(const struct direct *first, const struct direct_opts *o, const char *what)
{
    struct direct d = run(first->op, first->c, first->real, o);
    if (!direct_same_bits(first, &d))
        fail_msg("case \"%s\", %s: %s changes the bits", first->c->name, qn_dtype_name(first->real), what);
    direct_free(&d);
}

static int check_layouts(const struct op_reference *r, const struct direct *first)
{
    int32_t block[4];
    int n = qn__op_of(first->op)->layout == QN_LAYOUT_PLAIN ? 0 : op_blocks(first->c, block), checked = 0;
    for (int i = 0; i < n; i++) {
        struct direct_opts o = there(block[i], 0xFF, false), again = there(block[i], 0x3A, false);
        struct direct d = run(first->op, first->c, first->real, &o);
        if (d.blocked) {
            checked++;
            check(r, &d, first->real, "blocked layout");
            check_bits(&d, &again, "running again in a blocked layout");
        }
        direct_free(&d);
    }
    return checked;
}

/* One special value in one operand: the result is of the same class everywhere as the double kernel's. */
static void check_special(const struct direct *first, const struct direct_plant *plant, qn_dtype storage)
{
    struct direct_opts home = at_home(storage), away = there(QN_PLAIN, 0xFF, false);
    struct direct wide = direct_run(first->op, first->c, QN_F64, &home, plant);
    struct direct narrow = direct_run(first->op, first->c, first->real, &away, plant);
    assert_int_equal(wide.status, narrow.status);
    struct op_data a = direct_result(&wide), b = direct_result(&narrow);
    for (int64_t j = 0; j < a.count; j++)
        if (!op_same_class(a.v[j], b.v[j]))
            fail_msg("case \"%s\", %g in element %lld of operand %d: element %lld is %.9g in %s, %.17g in F64",
                     first->c->name, plant->value, (long long)plant->element, plant->operand, (long long)j, b.v[j],
                     qn_dtype_name(first->real), a.v[j]);
    free(a.v);
    free(b.v);
    direct_free(&wide);
    direct_free(&narrow);
}

static void check_class(const struct direct *first, qn_dtype storage)
{
    static const double special[] = { (double)NAN, (double)INFINITY, -(double)INFINITY };
    const struct op_case *c = first->c;
    for (int i = 0; i < c->n_in && !c->finite_only; i++) {
        int64_t n = op_in_count(&c->in[i]);
        if (op_in_dtype(&c->in[i], QN_F64) != QN_F64 || n == 0) continue;
        for (int k = 0; k < 3; k++) {
            struct direct_plant plant = { i, k == 0 ? n / 2 : k == 1 ? 0 : n - 1, special[k], false };
            check_special(first, &plant, storage);
        }
    }
}

/* What a row's line says. */
struct tally {
    int cases, blocked, halves;
    double worst[3]; /* error as a share of what is allowed: f32, BF16, F16 */
};

static void check_case(enum qn__opcode op, const struct op_case *c, int kind, struct tally *t)
{
    static const qn_dtype types[] = { QN_F32, QN_BF16, QN_F16 };
    qn_dtype real = types[kind];
    struct direct_opts home = at_home(real), away = there(QN_PLAIN, 0xFF, false);
    struct direct wide = run(op, c, QN_F64, &home), got = run(op, c, real, &away);
    struct op_reference r = op_reference_of(&wide);
    double error = check(&r, &got, real, "against the f64 kernel");
    if (error > t->worst[kind]) t->worst[kind] = error;
    struct direct_opts again = there(QN_PLAIN, 0x3A, false), on_top = there(QN_PLAIN, 0x3A, true);
    check_bits(&got, &again, "running again from other memory");
    check_bits(&got, &on_top, "writing onto an operand");
    t->blocked += check_layouts(&r, &got);
    if (real != QN_F16) check_class(&got, real); /* F16: what is finite in F64 may be too large */
    op_reference_free(&r);
    direct_free(&wide);
    direct_free(&got);
}

static void check_failure(enum qn__opcode op, const struct op_case *c)
{
    struct direct_opts away = there(QN_PLAIN, 0xFF, false);
    struct direct d = direct_run(op, c, QN_F32, &away, NULL);
    if (!d.status) fail_msg("case \"%s\" succeeds; expected %s", c->name, c->fails);
    assert_string_equal(d.err.text, c->fails);
    direct_free(&d);
}

/* Whether a run with floats of this type has any. */
static bool has_floats(const struct op_case *c, qn_dtype real)
{
    for (int i = 0; i < c->n_in; i++)
        if (op_in_dtype(&c->in[i], real) == real) return true;
    return false;
}
/* What a kernel offers to take, a case must give it. */
static void check_halves_offered(enum qn__opcode op, const struct op_cases *cases)
{
    for (int i = 0; i < cases->n; i++)
        for (int kind = 1; kind < 3; kind++)
            if (!cases->c[i].fails && direct_takes(op, &cases->c[i], kind == 1 ? QN_BF16 : QN_F16, gpu))
                fail_msg("the kernel takes case \"%s\" in %s, and no case is of 16 bits", cases->c[i].name,
                         kind == 1 ? "BF16" : "F16");
}

static void check_row(void **state)
{
    enum qn__opcode op = *(enum qn__opcode *)*state;
    const struct op_cases *cases = op_cases_of[op];
    struct tally t = { 0 };
    for (int i = 0; i < cases->n; i++) {
        const struct op_case *c = &cases->c[i];
        t.cases++;
        if (c->fails) {
            check_failure(op, c);
            continue;
        }
        check_case(op, c, 0, &t);
        for (int kind = 1; kind < 3; kind++) {
            qn_dtype real = kind == 1 ? QN_BF16 : QN_F16;
            if (!direct_builds(op, c, real)) continue;
            t.halves += has_floats(c, real);
            check_case(op, c, kind, &t);
        }
    }
    if (!t.halves) check_halves_offered(op, cases);
    printf("  %-18s %3d cases, %3d of 16 bits, %3d blocked; error at most %.3f f32, %.3f BF16, %.3f F16 of its bound\n",
           qn__op_of(op)->name, t.cases, t.halves, t.blocked, t.worst[0], t.worst[1], t.worst[2]);
}

/* ---- what the backend has ------------------------------------------------------------------------------ */

static void every_row_is_there(void **state)
{
    (void)state;
    int kernels = 0, ready = 0, others = 0, missing = 0;
    for (int op = 1; op < QN_OP_COUNT; op++) {
        const struct qn__kernel *k = gpu->backend->kernel[op];
        const char *reason = lowered_to((enum qn__opcode)op);
        kernels += k && k->launch;
        ready += is_ready((enum qn__opcode)op);
        others += !k && reason;
        if (k || reason) continue;
        printf("missing: %s\n", qn__op_of((enum qn__opcode)op)->name);
        missing++;
    }
    printf("  %d rows: %d with a kernel, %d whose bytes are ready, %d lowered, %d missing\n", QN_OP_COUNT - 1, kernels,
           ready, others, missing);
}

/* Variants that no shape chooses, and who reaches them. */
static bool is_elsewhere(const char *variant)
{
    return strcmp(variant, "own") == 0; /* of convolutions, where cuDNN refuses: test_libraries.c */
}

static void every_variant_is_reached(void **state)
{
    (void)state;
    int unreached = 0, variants = 0;
    for (int op = 1; op < QN_OP_COUNT; op++) {
        const struct qn__kernel *k = gpu->backend->kernel[op];
        for (int v = 0; k && k->variants && k->variants[v]; v++) {
            uint64_t hits = 0;
            for (int other = 1; other < QN_OP_COUNT; other++)
                if (gpu->backend->kernel[other] == k) hits += direct_hits[DIRECT_OTHER][other][v];
            variants++;
            if (hits || is_elsewhere(k->variants[v])) continue;
            unreached++;
            printf("  no case reaches %s of %s\n", k->variants[v], qn__op_of((enum qn__opcode)op)->name);
        }
    }
    printf("  %d variants, %d not reached\n", variants, unreached);
    assert_int_equal(unreached, 0);
}

static void no_plugin(void **state)
{
    (void)state;
    printf("# skip: no CUDA headers: this build has no cudasim/fast/libquern_cuda.so (make cudasim)\n");
    skip();
}

static bool has_kernel(enum qn__opcode op)
{
    const struct qn__kernel *k = gpu->backend->kernel[op];
    return k && k->launch;
}

int main(int argc, char **argv)
{
    gpu = gpu_open();
    if (!gpu) {
        const struct CMUnitTest skipped[] = { cmocka_unit_test(no_plugin) };
        return cmocka_run_group_tests_name("operators on the GPU", skipped, NULL, NULL);
    }
    const struct CMUnitTest last[] = { cmocka_unit_test(every_row_is_there),
                                       cmocka_unit_test(every_variant_is_reached) };
    int failed = op_run_rows("operators on the GPU", check_row, has_kernel, last, 2, argc, argv);
    gpu_close();
    return failed;
}
