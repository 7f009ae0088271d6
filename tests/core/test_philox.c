/* test_philox.c - the random number generator against the vectors published with it. */
#include "../../core/philox.h"
#include "../../core/base.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

/* Rows "philox4x32 10" of kat_vectors in Random123 (Salmon, Moraes, Dror, Shaw). */
static const struct {
    uint32_t counter[4], key[2], expected[4];
} known[] = {
    { { 0, 0, 0, 0 }, { 0, 0 }, { 0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u } },
    { { 0xffffffffu, 0xffffffffu, 0xffffffffu, 0xffffffffu },
      { 0xffffffffu, 0xffffffffu },
      { 0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu } },
    { { 0x243f6a88u, 0x85a308d3u, 0x13198a2eu, 0x03707344u },
      { 0xa4093822u, 0x299f31d0u },
      { 0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u } },
};

static void matches_known_answers(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        const uint32_t *c = known[i].counter;
        uint64_t key = (uint64_t)known[i].key[1] << 32 | known[i].key[0];
        struct qn__words got = qn__philox(key, c[0], c[1], c[2], c[3]);
        for (int j = 0; j < 4; j++) assert_int_equal(got.w[j], known[i].expected[j]);
    }
}

static void unit_numbers_stay_below_one(void **state)
{
    (void)state;
    assert_true(qn__unit_f32(0) == 0.0f);
    assert_true(qn__unit_f64(0) == 0.0);
    assert_true(qn__unit_f32(UINT32_MAX) < 1.0f);
    assert_true(qn__unit_f64(UINT32_MAX) < 1.0);
    assert_true(qn__unit_f32(0x80000000u) == 0.5f);
    assert_true(qn__unit_f64(0x80000000u) == 0.5);
    assert_true(qn__unit_f32(0xffu) == 0.0f); /* only the upper 24 bits count */
}

/* Keys of nearby seeds and names must not lead to related streams: no two of them are equal, and each
 * output bit flips about half the time when one bit of the seed does. */
static void stream_keys_are_distinct(void **state)
{
    (void)state;
    enum { SEEDS = 16, NAMES = 16 };
    static const char *const names[NAMES] = { "a",     "b",     "ab",   "ba",    "fc1", "fc2", "fc1/w", "fc1/b",
                                              "conv1", "conv2", "drop", "drop1", "",    "x",   "y",     "z" };
    uint64_t keys[SEEDS * NAMES];
    int n = 0;
    for (uint64_t seed = 0; seed < SEEDS; seed++)
        for (int i = 0; i < NAMES; i++) keys[n++] = qn__stream_key(seed, qn__hash_str(names[i]));
    for (int i = 0; i < n; i++)
        for (int j = 0; j < i; j++) assert_true(keys[i] != keys[j]);
    int flips = 0;
    for (int bit = 0; bit < 64; bit++)
        flips += __builtin_popcountll(qn__stream_key(7, 11) ^ qn__stream_key(7 ^ 1ull << bit, 11));
    assert_in_range(flips, 64 * 28, 64 * 36);
}

static int by_value(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

/* Epoch n + 1 must not have the order of epoch n. */
static void numbered_streams_are_distinct(void **state)
{
    (void)state;
    enum { KEYS = 1 << 14 };
    static uint64_t keys[KEYS];
    uint64_t above = qn__stream_key(7, qn__hash_str("order"));
    for (uint64_t i = 0; i < KEYS; i++) keys[i] = qn__stream_at(above, i);
    assert_true(keys[1] == qn__stream_key(above, 2)); /* orders of runs that have begun stay what they are */
    qsort(keys, KEYS, sizeof *keys, by_value);
    for (int i = 1; i < KEYS; i++) assert_true(keys[i] != keys[i - 1]);
}

/* Mean and variance of 2^16 draws: within five standard errors of 1/2 and 1/12. */
static void draws_are_uniform(void **state)
{
    (void)state;
    enum { N = 1 << 16 };
    double sum = 0, squares = 0;
    for (uint32_t i = 0; i < N / 4; i++) {
        struct qn__words w = qn__philox(42, i, 0, 0, 0);
        for (int j = 0; j < 4; j++) {
            double u = qn__unit_f64(w.w[j]);
            sum += u;
            squares += (u - 0.5) * (u - 0.5);
        }
    }
    double mean = sum / N, variance = squares / N;
    assert_true(mean > 0.5 - 5 * 0.2887 / 256 && mean < 0.5 + 5 * 0.2887 / 256);
    /* variance of (u-1/2)^2 is 1/180 */
    assert_true(variance > 1.0 / 12 - 5 * 0.0745 / 256 && variance < 1.0 / 12 + 5 * 0.0745 / 256);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matches_known_answers),    cmocka_unit_test(unit_numbers_stay_below_one),
        cmocka_unit_test(stream_keys_are_distinct), cmocka_unit_test(numbered_streams_are_distinct),
        cmocka_unit_test(draws_are_uniform),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
