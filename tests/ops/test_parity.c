/* test_parity.c - what each row of ops.def has: shape rule, gradient or the reason why not, kernel variants on the CPU
 * and on CUDA, cases. With --report (make parity) prints the table. Fails if a row lacks any of it, or if a variant of
 * a CPU kernel is reached by no case (of a CUDA kernel: tests/cuda/test_ops). */
#include "ops.h"
#include "../lib/gpu.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

/* Every layout that the checks of test_ops ask for, so that the variants seen are those it has checked. */
static void launch_cases(enum qn__opcode op)
{
    const struct op_cases *cases = op_cases_of[op];
    for (int i = 0; i < cases->n; i++)
        for (int wide = 0; wide < 2; wide++) {
            int32_t block[5] = { QN_PLAIN };
            int n = 1 + op_blocks(&cases->c[i], block + 1);
            for (int k = 0; k < n; k++) {
                struct direct_opts o = { .threads = 1, .block = block[k], .fill = 0xFF };
                struct direct d = direct_run(op, &cases->c[i], wide ? QN_F64 : QN_F32, &o, NULL);
                if (d.status && !cases->c[i].fails) fail_msg("case \"%s\": %s", cases->c[i].name, d.err.text);
                direct_free(&d);
            }
        }
}

static void launch_all(void)
{
    for (int op = 1; op < QN_OP_COUNT; op++) launch_cases((enum qn__opcode)op);
}

static const struct qn__kernel *kernel_of(enum qn__opcode op, int wide)
{
    return (wide ? &qn__cpu_f64 : &qn__cpu_f32)->kernel[op];
}

/* Variants of a row that no case has reached. Pointwise rows share the kernel of fused: what counts is whether any of
 * them reaches a variant. */
static int unreached(enum qn__opcode op, int wide, char *text, size_t size)
{
    const struct qn__kernel *k = kernel_of(op, wide);
    int missing = 0;
    for (int v = 0; k->variants && k->variants[v]; v++) {
        uint64_t hits = 0;
        for (int other = 1; other < QN_OP_COUNT; other++)
            if (kernel_of((enum qn__opcode)other, wide) == k) hits += direct_hits[wide][other][v];
        if (hits) continue;
        size_t at = strlen(text);
        snprintf(text + at, size - at, " %s (%s)", k->variants[v], wide ? "f64" : "f32");
        missing++;
    }
    return missing;
}

static bool has_variant(const struct qn__kernel *k, const char *name)
{
    for (int v = 0; k->variants && k->variants[v]; v++)
        if (strcmp(k->variants[v], name) == 0) return true;
    return false;
}

/* Both builds' variants, marked where only one has them. */
static void variants_text(enum qn__opcode op, char *text, size_t size)
{
    size_t at = (size_t)snprintf(text, size, "%s", kernel_of(op, 0)->launch ? "" : "no launch");
    for (int wide = 0; wide < 2; wide++) {
        const struct qn__kernel *k = kernel_of(op, wide), *other = kernel_of(op, !wide);
        for (int v = 0; k->variants && k->variants[v] && at < size; v++) {
            bool both = has_variant(other, k->variants[v]);
            if (both && wide) continue;
            at += (size_t)snprintf(text + at, size - at, "%s%s%s", at ? ", " : "", k->variants[v],
                                   both   ? ""
                                   : wide ? " (f64)"
                                          : " (f32)");
        }
    }
}

/* ---- CUDA ----- */

static const struct drive_on *gpu; /* NULL: this build has no plugin */

/* What CUDA has for a row: variants of a kernel of its own; the kernel of fused chains, which takes every pointwise row
 * as a chain of one, and moves the same bytes as a kernel of its own would; or bytes that are ready before the step.
 * False: nothing. */
static bool cuda_text(enum qn__opcode op, char *text, size_t size)
{
    const struct qn__kernel *k = gpu ? gpu->backend->kernel[op] : NULL;
    size_t at = 0;
    snprintf(text, size, "%s", gpu ? "LACKS" : "not built");
    if (!k) return !gpu;
    if (k == gpu->backend->kernel[QN_OP_fused] && op != QN_OP_fused) {
        snprintf(text, size, "lowered: a fused chain of one");
        return true;
    }
    snprintf(text, size, "ready before the step");
    for (int v = 0; k->launch && k->variants && k->variants[v] && at < size; v++)
        at += (size_t)snprintf(text + at, size - at, "%s%s", at ? "; " : "", k->variants[v]);
    return !k->launch || at > 0;
}

/* Rows that have nothing for CUDA. */
static int cuda_lacks(bool print)
{
    int own = 0, lowered = 0, ready = 0, lacks = 0;
    for (int op = 1; op < QN_OP_COUNT; op++) {
        char text[200];
        bool has = cuda_text((enum qn__opcode)op, text, sizeof text);
        lacks += !has;
        lowered += has && strncmp(text, "lowered", 7) == 0;
        ready += has && strncmp(text, "ready", 5) == 0;
        own += has && strncmp(text, "lowered", 7) != 0 && strncmp(text, "ready", 5) != 0;
        if (!has) printf("  %s has no CUDA kernel\n", qn__op_of((enum qn__opcode)op)->name);
    }
    if (print || lacks)
        printf("CUDA: %d rows with a kernel of their own, %d lowered, %d ready before the step; %d lacking\n", own,
               lowered, ready, lacks);
    return lacks;
}

/* ---- the table ----- */

/* One line of the table; what the row lacks. */
static int examine(enum qn__opcode op, bool print)
{
    const struct qn__op *row = qn__op_of(op);
    char variants[160] = "", missing[400] = "", cuda[200];
    int lacks = unreached(op, 0, missing, sizeof missing) + unreached(op, 1, missing, sizeof missing);
    variants_text(op, variants, sizeof variants);
    cuda_text(op, cuda, sizeof cuda);
    if (print)
        printf("%-18s %-5s %3d  %-44s %-44s %s\n", row->name, row->infer ? "yes" : "NO", op_cases_of[op]->n, variants,
               cuda,
               qn__has_gradient(row) ? "gradient"
               : row->no_gradient    ? row->no_gradient
                                     : "NO GRADIENT, NO REASON");
    if (lacks) printf("  %s: no case reaches%s\n", row->name, missing);
    if (!row->infer || (!qn__has_gradient(row) && !row->no_gradient) || op_cases_of[op]->n == 0) {
        printf("  %s lacks a shape rule, a gradient or its reason, or cases\n", row->name);
        lacks++;
    }
    return lacks;
}

static int examine_all(bool print)
{
    int lacks = 0, gradients = 0, reasons = 0, variants = 0, cases = 0;
    if (print)
        printf("%-18s %-5s %5s %-44s %-44s %s\n", "operator", "shape", "cases", "CPU variants", "CUDA variants",
               "gradient");
    for (int op = 1; op < QN_OP_COUNT; op++) {
        lacks += examine((enum qn__opcode)op, print);
        bool has = qn__has_gradient(qn__op_of((enum qn__opcode)op));
        gradients += has;
        reasons += !has;
        cases += op_cases_of[op]->n;
        for (int wide = 0; wide < 2; wide++) {
            const struct qn__kernel *k = kernel_of((enum qn__opcode)op, wide);
            bool shared = k == kernel_of(QN_OP_fused, wide) && op != QN_OP_fused;
            for (int v = 0; !shared && k->variants && k->variants[v]; v++) variants++;
        }
    }
    printf("%d rows: %d with gradient, %d without and with a reason; %d variants; %d cases; %d lacking\n",
           QN_OP_COUNT - 1, gradients, reasons, variants, cases, lacks);
    return lacks;
}

static void nothing_is_lacking(void **state)
{
    (void)state;
    launch_all();
    assert_int_equal(examine_all(false), 0);
}

static void cuda_has_every_row(void **state)
{
    (void)state;
    if (!gpu) {
        printf("# skip: no CUDA headers: this build has no cudasim/fast/libquern_cuda.so (make cudasim)\n");
        skip();
    }
    assert_int_equal(cuda_lacks(false), 0);
}

/* The report runs inside a test too, because a case that cannot be built fails as one. */
static void report(void **state)
{
    (void)state;
    launch_all();
    int lacks = examine_all(true);
    if (gpu)
        lacks += cuda_lacks(true);
    else
        printf("CUDA: not built (make cudasim)\n");
    assert_int_equal(lacks, 0);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest check[] = { cmocka_unit_test(nothing_is_lacking), cmocka_unit_test(cuda_has_every_row) };
    const struct CMUnitTest table[] = { cmocka_unit_test(report) };
    bool print = argc > 1 && strcmp(argv[1], "--report") == 0;
    gpu = gpu_open();
    int failed = print ? cmocka_run_group_tests_name("parity", table, NULL, NULL)
                       : cmocka_run_group_tests_name("parity", check, NULL, NULL);
    gpu_close();
    return failed;
}
