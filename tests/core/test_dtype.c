/* test_dtype.c - the 16-bit formats over all their values, and conversion between all types. */
#include "../../core/base.h"
#include "../../core/half.h"
#include "../../core/philox.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

/* The meaning of a 16-bit float by its definition: sign, exponent, mantissa. */
static double value_of(uint16_t h, int exponent_bits)
{
    int mantissa_bits = 15 - exponent_bits, bias = (1 << (exponent_bits - 1)) - 1;
    int mantissa = h & ((1 << mantissa_bits) - 1), exponent = h >> mantissa_bits & ((1 << exponent_bits) - 1);
    double sign = h & 0x8000 ? -1 : 1;
    if (exponent == (1 << exponent_bits) - 1) return mantissa ? (double)NAN : sign * (double)INFINITY;
    if (exponent == 0) return sign * ldexp(mantissa, 1 - bias - mantissa_bits);
    return sign * ldexp((1 << mantissa_bits) + mantissa, exponent - bias - mantissa_bits);
}

static bool same(double a, double b) { return (isnan(a) && isnan(b)) || (a == b && signbit(a) == signbit(b)); }

static void every_half_has_its_value(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        assert_true(same((double)qn__f32_of_f16((uint16_t)h), value_of((uint16_t)h, 5)));
        assert_true(same((double)qn__f32_of_bf16((uint16_t)h), value_of((uint16_t)h, 8)));
    }
}

static void every_half_survives_the_way_through_f32(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        uint16_t f16 = qn__f16_of_f32(qn__f32_of_f16((uint16_t)h));
        uint16_t bf16 = qn__bf16_of_f32(qn__f32_of_bf16((uint16_t)h));
        /* A signalling NaN may come back quiet, but as a NaN of the same sign. */
        if (isnan(value_of((uint16_t)h, 5)))
            assert_true(isnan(value_of(f16, 5)) && (f16 & 0x8000) == (h & 0x8000));
        else
            assert_int_equal(f16, h);
        if (isnan(value_of((uint16_t)h, 8)))
            assert_true(isnan(value_of(bf16, 8)) && (bf16 & 0x8000) == (h & 0x8000));
        else
            assert_int_equal(bf16, h);
    }
}

/* Between each value and the next, of either sign: below the middle rounds down, above it up, on it to even.
 * What would be the next after the largest is infinity. */
static void rounds_to_nearest_even(void **state)
{
    (void)state;
    for (uint32_t sign = 0; sign < 2; sign++) {
        float s = sign ? -1.0f : 1.0f;
        for (uint32_t h = 0; h < 0x7c00; h++) {
            double low = value_of((uint16_t)h, 5), high = h == 0x7bff ? 65536 : value_of((uint16_t)(h + 1), 5);
            float middle = (float)((low + high) / 2);
            uint32_t down = h | sign << 15, up = (h + 1) | sign << 15;
            assert_int_equal(qn__f16_of_f32(s * nextafterf(middle, 0)), down);
            assert_int_equal(qn__f16_of_f32(s * middle), h & 1 ? up : down);
            assert_int_equal(qn__f16_of_f32(s * nextafterf(middle, INFINITY)), up);
        }
        for (uint32_t h = 0; h < 0x7f80; h++) {
            uint32_t down = h | sign << 15, up = (h + 1) | sign << 15, middle = down << 16 | 0x8000;
            assert_int_equal(qn__bf16_of_f32(qn__f32_of_bits(middle - 1)), down);
            assert_int_equal(qn__bf16_of_f32(qn__f32_of_bits(middle)), h & 1 ? up : down);
            assert_int_equal(qn__bf16_of_f32(qn__f32_of_bits(middle + 1)), up);
        }
    }
}

static void large_and_tiny_f32_reach_the_ends(void **state)
{
    (void)state;
    static const float large[] = { 65520.0f, 1e5f, 1e38f, INFINITY };
    for (size_t i = 0; i < sizeof large / sizeof large[0]; i++) {
        assert_int_equal(qn__f16_of_f32(large[i]), 0x7c00);
        assert_int_equal(qn__f16_of_f32(-large[i]), 0xfc00);
    }
    assert_int_equal(qn__f16_of_f32(0x1p-25f), 0); /* half of the smallest, to even */
    assert_int_equal(qn__f16_of_f32(0x1.000002p-25f), 1);
    assert_int_equal(qn__f16_of_f32(-0x1p-140f), 0x8000);
    assert_int_equal(qn__f16_of_f32(-0.0f), 0x8000);
    assert_int_equal(qn__bf16_of_f32(-0.0f), 0x8000);
}

static void sizes_and_names(void **state)
{
    (void)state;
    assert_int_equal(qn_dtype_size(QN_F64), 8);
    assert_int_equal(qn_dtype_size(QN_F32), 4);
    assert_int_equal(qn_dtype_size(QN_BF16), 2);
    assert_int_equal(qn_dtype_size(QN_F16), 2);
    assert_int_equal(qn_dtype_size(QN_I64), 8);
    assert_int_equal(qn_dtype_size(QN_I32), 4);
    assert_int_equal(qn_dtype_size(QN_U8), 1);
    assert_int_equal(qn_dtype_size(QN_I8), 1);
    assert_int_equal(qn_dtype_size(QN_BOOL), 1);
    assert_string_equal(qn_dtype_name(QN_BF16), "BF16");
    assert_string_equal(qn_dtype_name(QN_BOOL), "BOOL");
    assert_int_equal(qn_dtype_size(QN_DTYPE_COUNT), 0);
    assert_string_equal(qn_dtype_name((qn_dtype)-1), "?");
    for (int d = 0; d < QN_DTYPE_COUNT; d++)
        assert_int_equal(qn_dtype_is_float((qn_dtype)d), d == QN_F32 || d == QN_F64 || d == QN_F16 || d == QN_BF16);
}

/* Converts one f64 to `type` and back. */
static double through(qn_dtype type, double x)
{
    unsigned char cell[8] = { 0 };
    double back = 0;
    qn_convert(cell, type, &x, QN_F64, 1);
    qn_convert(&back, QN_F64, cell, type, 1);
    return back;
}

static void floats_become_integers(void **state)
{
    (void)state;
    static const struct {
        double x, i64, i32, u8, b, i8;
    } rows[] = {
        { 0, 0, 0, 0, 0, 0 },
        { 0.5, 0, 0, 0, 1, 0 },
        { -0.5, 0, 0, 0, 1, 0 },
        { 1.999, 1, 1, 1, 1, 1 },
        { -1.999, -1, -1, 0, 1, -1 },
        { 255.9, 255, 255, 255, 1, 127 },
        { 256, 256, 256, 255, 1, 127 },
        { 2147483647.5, 2147483647, 2147483647, 255, 1, 127 },
        { 4e9, 4e9, 2147483647, 255, 1, 127 },
        { -4e9, -4e9, -2147483648.0, 0, 1, -128 },
        { 1e300, 9223372036854775807.0, 2147483647, 255, 1, 127 },
        { -1e300, -9223372036854775808.0, -2147483648.0, 0, 1, -128 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_true(through(QN_I64, rows[i].x) == rows[i].i64);
        assert_true(through(QN_I32, rows[i].x) == rows[i].i32);
        assert_true(through(QN_U8, rows[i].x) == rows[i].u8);
        assert_true(through(QN_BOOL, rows[i].x) == rows[i].b);
        assert_true(through(QN_I8, rows[i].x) == rows[i].i8);
    }
    assert_true(through(QN_I64, (double)NAN) == 0 && through(QN_I32, (double)NAN) == 0);
    assert_true(through(QN_I8, (double)NAN) == 0);
    assert_true(through(QN_U8, (double)NAN) == 0 && through(QN_BOOL, (double)NAN) == 1);
    assert_true(through(QN_I64, -(double)INFINITY) == -9223372036854775808.0);
    assert_true(through(QN_U8, (double)INFINITY) == 255);
}

static void integers_stay_exact(void **state)
{
    (void)state;
    static const int64_t large[] = { INT64_MIN, INT64_MIN + 1, -1, 0, 1, INT64_MAX - 1, INT64_MAX };
    enum { N = sizeof large / sizeof large[0] };
    int64_t same64[N];
    int32_t narrow[N];
    uint8_t byte[N], truth[N];
    int8_t signed_byte[N];
    qn_convert(same64, QN_I64, large, QN_I64, N);
    qn_convert(narrow, QN_I32, large, QN_I64, N);
    qn_convert(byte, QN_U8, large, QN_I64, N);
    qn_convert(truth, QN_BOOL, large, QN_I64, N);
    qn_convert(signed_byte, QN_I8, large, QN_I64, N);
    static const int8_t expected_signed[] = { -128, -128, -1, 0, 1, 127, 127 };
    assert_memory_equal(signed_byte, expected_signed, sizeof expected_signed);
    static const int32_t expected32[] = { INT32_MIN, INT32_MIN, -1, 0, 1, INT32_MAX, INT32_MAX };
    static const uint8_t expected8[] = { 0, 0, 0, 0, 1, 255, 255 }, expected1[] = { 1, 1, 1, 0, 1, 1, 1 };
    assert_memory_equal(same64, large, sizeof large);
    assert_memory_equal(narrow, expected32, sizeof expected32);
    assert_memory_equal(byte, expected8, sizeof expected8);
    assert_memory_equal(truth, expected1, sizeof expected1);
    qn_convert(same64, QN_I64, expected32, QN_I32, N);
    for (int i = 0; i < N; i++) assert_true(same64[i] == expected32[i]);
}

/* A detour through f32 would round twice: these lie just beyond a middle of the 16-bit format. */
static void f64_rounds_once(void **state)
{
    (void)state;
    assert_true(through(QN_F16, 1 + 0x1p-11 + 0x1p-40) == 1 + 0x1p-10);
    assert_true(through(QN_F16, -(1 + 0x1p-11 + 0x1p-40)) == -(1 + 0x1p-10));
    assert_true(through(QN_F16, 1 + 0x1.8p-10 - 0x1p-40) == 1 + 0x1p-10);
    assert_true(through(QN_F16, 1 + 0x1p-11) == 1);
    assert_true(through(QN_BF16, 1 + 0x1p-8 + 0x1p-50) == 1 + 0x1p-7);
    assert_true(through(QN_BF16, 1 + 0x1.8p-7 - 0x1p-50) == 1 + 0x1p-7);
    assert_true(through(QN_F16, 0x1p-25 + 0x1p-70) == 0x1p-24);
    assert_true(through(QN_F16, 65520 - 0x1p-30) == 65504);
    assert_true(isinf(through(QN_BF16, 1e300)) && isinf(through(QN_F16, 65520)));
    int64_t beyond = ((int64_t)1 << 62) + ((int64_t)1 << 38) + 1; /* double drops the 1 and makes a tie of it */
    float f;
    qn_convert(&f, QN_F32, &beyond, QN_I64, 1);
    assert_true(f == 0x1p62f + 0x1p39f);
}

/* Against a search over all halves: seeded random doubles of every magnitude. */
static void random_f64_reach_the_nearest_half(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 20000; i++) {
        struct qn__words w = qn__philox(20240501, i, 0, 0, 0);
        double x = ldexp(1 + qn__unit_f64(w.w[0]) + qn__unit_f64(w.w[1]) * 0x1p-32, (int)(w.w[2] % 46) - 28);
        double got = through(QN_F16, x);
        int low = 0, high = 0x7c00; /* largest half that is <= x */
        while (high - low > 1) {
            int mid = (low + high) / 2;
            if (value_of((uint16_t)mid, 5) <= x)
                low = mid;
            else
                high = mid;
        }
        double below = value_of((uint16_t)low, 5), above = low == 0x7bff ? 65536 : value_of((uint16_t)high, 5);
        double expected = x - below < above - x || (x - below == above - x && !(low & 1)) ? below : above;
        if (expected >= 65536) expected = (double)INFINITY;
        assert_true(got == expected);
    }
}

static void every_pair_of_types_converts(void **state)
{
    (void)state;
    for (int from = 0; from < QN_DTYPE_COUNT; from++)
        for (int to = 0; to < QN_DTYPE_COUNT; to++) {
            static const double values[] = { 0, 1, 2, 100 };
            unsigned char a[32], b[32];
            double back[4];
            qn_convert(a, (qn_dtype)from, values, QN_F64, 4);
            qn_convert(b, (qn_dtype)to, a, (qn_dtype)from, 4);
            qn_convert(back, QN_F64, b, (qn_dtype)to, 4);
            bool truth = from == QN_BOOL || to == QN_BOOL;
            for (int i = 0; i < 4; i++) assert_true(back[i] == (truth ? values[i] != 0 : values[i]));
        }
    qn_convert(NULL, QN_F32, NULL, QN_F32, 0);
    qn_convert(NULL, QN_F32, NULL, QN_I64, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_half_has_its_value),
        cmocka_unit_test(every_half_survives_the_way_through_f32),
        cmocka_unit_test(rounds_to_nearest_even),
        cmocka_unit_test(large_and_tiny_f32_reach_the_ends),
        cmocka_unit_test(sizes_and_names),
        cmocka_unit_test(floats_become_integers),
        cmocka_unit_test(integers_stay_exact),
        cmocka_unit_test(f64_rounds_once),
        cmocka_unit_test(random_f64_reach_the_nearest_half),
        cmocka_unit_test(every_pair_of_types_converts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
