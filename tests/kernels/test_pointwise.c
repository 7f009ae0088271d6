/* test_pointwise.c - what the pointwise kernel promises beyond the cases of tests/ops: accuracy over the whole range of
 * float, the same bits at every place of a tile, conversions as qn_convert makes them, every mixture of layouts. */
#include "../lib/drive.h"
#include "../../core/op.h"
#include "../../core/half.h"
#include "../../kernels/cpu/vecmath.h"
#include <stdio.h>
#include <stdlib.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* ---- accuracy -------------------------------------------------------------------------------------- */

/* |y - exact| in units of the last place of a float near exact; 0 for the same infinity, NaN or zero. */
static double ulps(float y, double exact)
{
    int e;
    float nearest = (float)exact;
    if (exact != exact) return y != y ? 0 : HUGE_VAL;
    if (isinf(nearest)) return y == nearest || (y == copysignf(0x1.fffffep127f, nearest)) ? 0 : HUGE_VAL;
    if (exact == 0) return y == 0 && !signbit(y) == !signbit(exact) ? 0 : HUGE_VAL;
    frexp(exact, &e);
    return fabs((double)y - exact) / ldexp(1, e - 24 < -149 ? -149 : e - 24);
}

static const struct function {
    const char *name;
    float (*fast)(float);
    double (*exact)(double);
    double bound;  /* ulp */
    float largest; /* of the range it is made for */
} functions[] = {
    { "exp", qn__expf, exp, 2, INFINITY },    { "expm1", qn__expm1f, expm1, 1, INFINITY },
    { "log", qn__logf, log, 1, INFINITY },    { "log1p", qn__log1pf, log1p, 1, INFINITY },
    { "tanh", qn__tanhf, tanh, 1, INFINITY }, { "erf", qn__erff, erf, 1, INFINITY },
    { "sin", qn__sinf, sin, 1, QN_TRIG_MAX }, { "cos", qn__cosf, cos, 1, QN_TRIG_MAX },
};

/* Bit patterns over all of float, so every exponent, both signs, subnormals, infinities and NaN. */
static void functions_are_accurate(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
        const struct function *f = &functions[i];
        double worst = 0;
        float at = 0;
        for (uint64_t bits = 0; bits <= UINT32_MAX; bits += 4099) {
            float x = qn__f32_of_bits((uint32_t)bits);
            if (f->largest < INFINITY && !(fabsf(x) <= f->largest)) continue;
            double u = ulps(f->fast(x), f->exact((double)x));
            if (u > worst) {
                worst = u;
                at = x;
            }
        }
        static const float special[] = {
            0.0f, -0.0f, 1.0f, -1.0f, INFINITY, -INFINITY, NAN, 0x1p-149f, 0x1.fffffep127f
        };
        for (size_t k = 0; k < sizeof special / sizeof special[0]; k++) {
            if (f->largest < INFINITY && !(fabsf(special[k]) <= f->largest)) continue;
            double u = ulps(f->fast(special[k]), f->exact((double)special[k]));
            if (u > f->bound)
                fail_msg("%s(%a) is %a; expected %a", f->name, (double)special[k], (double)f->fast(special[k]),
                         f->exact((double)special[k]));
        }
        printf("  %-6s at most %.3f ulp, at %a\n", f->name, worst, (double)at);
        if (!(worst <= f->bound))
            fail_msg("%s(%a): %.3f ulp; expected at most %g", f->name, (double)at, worst, f->bound);
    }
}

static void power_follows_c(void **state)
{
    (void)state;
    /* clang-format off */
    static const float v[] = {
        0.0f, -0.0f, 1, -1, 2, -2, 3, -3, 0.5f, -0.5f, 2.5f, -2.5f, 1e-3f, 1e30f, -1e30f, 16777215.0f, -16777215.0f,
        16777216.0f, 0x1p-149f, -0x1p-149f, INFINITY, -INFINITY, NAN, 0x1.fffffep-1f
    };
    /* clang-format on */
    enum { N = sizeof v / sizeof v[0] };
    for (int i = 0; i < N; i++)
        for (int j = 0; j < N; j++) {
            double exact = pow((double)v[i], (double)v[j]);
            float y = qn__powf(v[i], v[j]);
            bool zero = exact != 0 && (float)exact == 0 && y == 0; /* both below half of the smallest float */
            if (!zero && !(ulps(y, exact) <= 1))
                fail_msg("pow(%a, %a) is %a; expected %a", (double)v[i], (double)v[j], (double)y, exact);
        }
    double worst = 0;
    uint32_t s = 1;
    for (int i = 0; i < 400000; i++) {
        s = s * 1664525u + 1013904223u;
        float a = qn__f32_of_bits(s >> 1); /* any positive float */
        s = s * 1664525u + 1013904223u;
        float b = (float)(int32_t)s * 0x1p-28f;
        double u = a == a && !isinf(a) ? ulps(qn__powf(a, b), pow((double)a, (double)b)) : 0;
        if (u > worst && fabs(pow((double)a, (double)b)) > 0x1p-149) worst = u;
    }
    printf("  pow    at most %.3f ulp\n", worst);
    assert_true(worst <= 1);
}

/* ---- places ------------------------------------------------------------------------------------------ */

enum { LONGEST = 1100 };
static float values[3][LONGEST];

static void draw_values(void)
{
    uint32_t s = 12345;
    for (int k = 0; k < 3; k++)
        for (int i = 0; i < LONGEST; i++) {
            s = s * 1664525u + 1013904223u;
            values[k][i] = (float)(int32_t)s * 0x1p-28f;
            if (i % 37 == 5) values[k][i] = i % 2 ? INFINITY : NAN;
            if (i % 41 == 7) values[k][i] = 1e7f * (float)i; /* beyond the vector version of sin and cos */
        }
}

static void run(enum qn__opcode op, const void *attr, const struct qn__view *x, int n, const struct qn__view *y,
                int threads)
{
    qn_error err = { 0 };
    if (drive(&drive_cpu_f32, op, attr, x, n, y, threads, &err)) fail_msg("%s: %s", qn__op_of(op)->name, err.text);
}

/* An element alone, in a vector, in a remainder loop, in the second tile: the same bits. */
static void bits_do_not_depend_on_the_place(void **state)
{
    (void)state;
    static const int64_t lengths[] = { 2, 3, 7, 8, 9, 15, 17, 64, 511, 512, 513, LONGEST };
    const struct qn__pw_attr attr = { .p = 1.25, .q = 2, .dtype = QN_F32 };
    float alone[LONGEST], together[LONGEST];
    draw_values();
    for (int op = 1; op < QN_OP_COUNT; op++) {
        if (!qn__is_pointwise((enum qn__opcode)op)) continue;
        int n_in = qn__arity_of((enum qn__opcode)op);
        for (int i = 0; i < LONGEST; i++) {
            struct qn__view x[3], y = drive_view(QN_F32, 0, NULL, 1, &alone[i]);
            for (int k = 0; k < 3; k++) x[k] = drive_view(QN_F32, 0, NULL, 1, &values[k][i]);
            run((enum qn__opcode)op, &attr, x, n_in, &y, 1);
        }
        for (size_t l = 0; l < sizeof lengths / sizeof lengths[0]; l++)
            for (int start = 0; start < 3 && start + lengths[l] <= LONGEST; start++) {
                struct qn__view x[3], y = drive_view(QN_F32, 1, &lengths[l], 1, together);
                for (int k = 0; k < 3; k++) x[k] = drive_view(QN_F32, 1, &lengths[l], 1, values[k] + start);
                run((enum qn__opcode)op, &attr, x, n_in, &y, 1);
                for (int64_t i = 0; i < lengths[l]; i++)
                    if (qn__bits_of_f32(together[i]) != qn__bits_of_f32(alone[start + i]) &&
                        (together[i] == together[i] || alone[start + i] == alone[start + i]))
                        fail_msg("%s: element %lld of %lld is %a; alone it is %a", qn__op_of((enum qn__opcode)op)->name,
                                 (long long)i, (long long)lengths[l], (double)together[i], (double)alone[start + i]);
            }
    }
}

/* ---- conversions ---------------------------------------------------------------------------------------- */

static void casts_convert_as_qn_convert(void **state)
{
    (void)state;
    /* clang-format off */
    static const double hard[] = {
        0, -0.0, 0.5, -0.5, 1, -1, 1.5, 2.5, 255, 256, 254.99, -3.7, 65504, 65519, 65520, 1e5, 2147483520.0,
        2147483648.0, -2147483648.0, -3e9, 9.3e18, -9.3e18, 1e300, 1e-300, 6e-8, 3e-8, 1e-40, (double)INFINITY,
        -(double)INFINITY, (double)NAN, 0x1.01p0, 0x1.03p0, 0x1.001p0, 16777217
    };
    /* clang-format on */
    enum { N = sizeof hard / sizeof hard[0] };
    const int64_t n = N;
    for (int from = 0; from < QN_DTYPE_COUNT; from++)
        for (int to = 0; to < QN_DTYPE_COUNT; to++) {
            double source[N], got[N], want[N];
            memset(got, 0, sizeof got);
            memset(want, 0, sizeof want);
            qn_convert(source, (qn_dtype)from, hard, QN_F64, N);
            if (from == QN_I64) /* whole numbers travel as double: exact up to 2^53 */
                for (int i = 0; i < N; i++) ((int64_t *)(void *)source)[i] %= (int64_t)1 << 53;
            qn_convert(want, (qn_dtype)to, source, (qn_dtype)from, N);
            struct qn__node x = { .dtype = (qn_dtype)from }, y = { .dtype = (qn_dtype)to, .n_in = 1 };
            const struct qn__node *in[] = { &x };
            struct qn__view xv = drive_view((qn_dtype)from, 1, &n, 1, source);
            struct qn__view yv = drive_view((qn_dtype)to, 1, &n, 1, got);
            const struct qn__pw_attr attr = { .dtype = to };
            const struct drive_on *cpu = qn__compute_dtype(in, &y) == QN_F64 ? &drive_cpu_f64 : &drive_cpu_f32;
            assert_int_equal(drive(cpu, QN_OP_cast, &attr, &xv, 1, &yv, 1, NULL), QN_OK);
            for (int i = 0; i < N; i++) {
                size_t size = qn_dtype_size((qn_dtype)to);
                double a, b;
                qn_convert(&a, QN_F64, (char *)got + (size_t)i * size, (qn_dtype)to, 1);
                qn_convert(&b, QN_F64, (char *)want + (size_t)i * size, (qn_dtype)to, 1);
                if (a != b && (a == a || b == b))
                    fail_msg("%s to %s: %.17g becomes %.17g; expected %.17g", qn_dtype_name((qn_dtype)from),
                             qn_dtype_name((qn_dtype)to), hard[i], a, b);
            }
        }
}

/* ---- layouts --------------------------------------------------------------------------------------------- */

static const int64_t image[4] = { 2, 16, 3, 5 };
enum { IMAGE = 2 * 16 * 3 * 5 };

/* Operand shapes that broadcast to the image, and its blocks: the result of x + y is the same in every mixture. */
static void any_mixture_of_layouts(void **state)
{
    (void)state;
    static const int64_t shapes[][4] = { { 2, 16, 3, 5 }, { 1, 16, 1, 1 }, { 2, 16, 1, 1 }, { 2, 1, 3, 5 },
                                         { 1, 1, 3, 1 },  { 1, 16, 3, 5 }, { 1, 1, 1, 1 } };
    static const int blocks[] = { 1, 8, 16 };
    float full[IMAGE], full_blocked[IMAGE], part[IMAGE], part_blocked[IMAGE], want[IMAGE], y[IMAGE], plain[IMAGE];
    const struct qn__pw_attr attr = { 0 };
    int ran = 0, refused = 0;
    for (int i = 0; i < IMAGE; i++) {
        full[i] = (float)(i * 31 % 257);
        part[i] = (float)(i * 17 % 101) / 8;
    }
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++)
        for (int b = 0; b < 9; b++) {
            int by = blocks[b / 3], bx = shapes[s][1] == 16 ? blocks[b % 3] : 1;
            struct qn__view flat[] = { drive_view(QN_F32, 4, image, 1, full),
                                       drive_view(QN_F32, 4, shapes[s], 1, part) };
            struct qn__view x[] = { drive_view(QN_F32, 4, image, by, full_blocked),
                                    drive_view(QN_F32, 4, shapes[s], bx, part_blocked) };
            struct qn__view wanted = drive_view(QN_F32, 4, image, 1, want), out = drive_view(QN_F32, 4, image, by, y);
            struct qn__view flat_out = drive_view(QN_F32, 4, image, 1, plain);
            run(QN_OP_add, &attr, flat, 2, &wanted, 1);
            drive_reorder(&x[0], &flat[0]);
            drive_reorder(&x[1], &flat[1]);
            bool same_order = bx == by || shapes[s][1] == 1, two_blocks = bx != 1 && by != 1 && bx != by;
            qn_status status = drive(&drive_cpu_f32, QN_OP_add, &attr, x, 2, &out, 1, NULL);
            /* Refused: two different blocks; an operand of y's size in another order, whose bytes y might take. */
            bool refuse = two_blocks || (s == 0 && !same_order);
            assert_int_equal(status, refuse ? QN_EUSAGE : QN_OK);
            refused += refuse;
            if (refuse) continue;
            drive_reorder(&flat_out, &out);
            assert_memory_equal(plain, want, sizeof plain);
            assert_int_equal(drive(&drive_cpu_f32, QN_OP_broadcast, NULL, &x[1], 1, &out, 1, NULL), QN_OK);
            drive_reorder(&flat_out, &out);
            for (int i = 0; i < IMAGE; i++) assert_true(plain[i] == want[i] - full[i]);
            ran++;
        }
    assert_true(ran > 20 && refused > 4);
}

/* y on the memory of each operand in turn, and a program that reads the operand again late. */
static void results_may_lie_on_operands(void **state)
{
    (void)state;
    enum { N = 40000 };
    const int64_t n = N, half = 200;
    float *x[3], *want = malloc(N * sizeof *want), *copy = malloc(N * sizeof *copy);
    for (int k = 0; k < 3; k++) {
        x[k] = malloc(N * sizeof *x[k]);
        assert_non_null(x[k]);
        for (int i = 0; i < N; i++) x[k][i] = (float)((i * 37 + k * 11) % 513) / 16;
    }
    assert_true(want && copy);
    struct qn__fused_attr f;
    memset(&f, 0, sizeof f);
    f.n = 3;
    f.n_in = 3;
    f.instr[0] = (struct qn__pw_instr){ QN_OP_mul, 0, 1, 1, 0, 0 };
    f.instr[1] = (struct qn__pw_instr){ QN_OP_exp, 3, 3, 3, 0, 0 };
    f.instr[2] = (struct qn__pw_instr){ QN_OP_where, 2, 0, 4, 0, 0 };
    int64_t square[2] = { half, half };
    struct qn__view v[] = { drive_view(QN_F32, 1, &n, 1, x[0]), drive_view(QN_F32, 1, &n, 1, x[1]),
                            drive_view(QN_F32, 1, &n, 1, x[2]) };
    struct qn__view y = drive_view(QN_F32, 1, &n, 1, want);
    run(QN_OP_fused, &f, v, 3, &y, 1);
    for (int k = 0; k < 3; k++)
        for (int threads = 1; threads <= 5; threads += 2) {
            memcpy(copy, x[k], N * sizeof *copy);
            struct qn__view at[] = { v[0], v[1], v[2] };
            at[k].data = y.data = copy;
            run(QN_OP_fused, &f, at, 3, &y, threads);
            assert_memory_equal(copy, want, N * sizeof *copy);
        }
    /* one operand in place, the other repeated along rows */
    struct qn__view pair[] = { drive_view(QN_F32, 2, square, 1, x[0]), drive_view(QN_F32, 1, &half, 1, x[1]) };
    struct qn__view z = drive_view(QN_F32, 2, square, 1, want);
    const struct qn__pw_attr attr = { 0 };
    run(QN_OP_sub, &attr, pair, 2, &z, 1);
    memcpy(copy, x[0], N * sizeof *copy);
    pair[0].data = z.data = copy;
    run(QN_OP_sub, &attr, pair, 2, &z, 2);
    assert_memory_equal(copy, want, N * sizeof *copy);
    for (int k = 0; k < 3; k++) free(x[k]);
    free(want);
    free(copy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(functions_are_accurate),          cmocka_unit_test(power_follows_c),
        cmocka_unit_test(bits_do_not_depend_on_the_place), cmocka_unit_test(casts_convert_as_qn_convert),
        cmocka_unit_test(any_mixture_of_layouts),          cmocka_unit_test(results_may_lie_on_operands),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
