/* test_base.c - errors, escaping, checked sizes, memory, hashes, numbers. */
#include "../../core/base.h"
#include "../../core/philox.h"
#include <locale.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* ---- errors ------------------------------------------------------------------------------- */

static void status_texts_and_codes(void **state)
{
    (void)state;
#define X(name, code, text) \
    assert_int_equal(QN_##name, code); \
    assert_string_equal(qn_status_text(QN_##name), text);
    QN_STATUS_MAP(X)
#undef X
    assert_string_equal(qn_status_text((qn_status)1), "unknown status");
    assert_string_equal(qn_version(), QN_VERSION);
    char version[32];
    snprintf(version, sizeof version, "%d.%d.%d", QN_VERSION_MAJOR, QN_VERSION_MINOR, QN_VERSION_PATCH);
    assert_string_equal(version, QN_VERSION);
}

/* Each row of errors.def: its status is code / 1000 (or internal), and the line carries code and class. */
static void every_code_has_its_status(void **state)
{
    (void)state;
    static const struct {
        int code;
        const char *class_name;
    } rows[] = {
#define ERR(code, class_name, meaning) { code, class_name },
#include "../../core/errors.def"
#undef ERR
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        qn_error err = { 0 };
        char expected[64];
        qn_status status = qn__fail(&err, rows[i].code, NULL, "found; expected");
        assert_int_equal(status, rows[i].code / 10 == 707 ? QN_EINTERNAL : rows[i].code / 1000);
        assert_int_equal(qn_error_status(&err), status);
        assert_string_not_equal(qn_status_text(status), "unknown status");
        snprintf(expected, sizeof expected, "error E%d %s: found; expected", rows[i].code, rows[i].class_name);
        assert_string_equal(err.text, expected);
        assert_int_equal(qn__fail(NULL, rows[i].code, NULL, "x"), status);
        assert_true(err.offset == -1 && err.line == 0 && err.column == 0 && !err.file[0] && !err.field[0]);
    }
    qn_error none = { 0 };
    assert_int_equal(qn_error_status(&none), QN_OK);
    assert_int_equal(qn_error_status(NULL), QN_OK);
}

static void lines_say_where(void **state)
{
    (void)state;
    qn_error err = { 0 };
    qn__fail(&err, 6001, QN_AT_FILE("a.png"), "is a directory; expected a file");
    assert_string_equal(err.text, "error E6001 io: a.png: is a directory; expected a file");
    qn__fail(&err, 6001, QN_AT_BYTE("a.idx", 4, "dim[0]"), "%d; expected %s", 7, "1..3");
    assert_string_equal(err.text, "error E6001 io: a.idx@4: dim[0]: 7; expected 1..3");
    assert_true(err.code == 6001 && err.offset == 4);
    assert_string_equal(err.file, "a.idx");
    assert_string_equal(err.field, "dim[0]");
    qn__fail(&err, 6001, QN_AT_LINE("r.json", 41, 9, "layer \"c\".stride"), "0; expected 1..32");
    assert_string_equal(err.text, "error E6001 io: r.json:41:9: layer \"c\".stride: 0; expected 1..32");
    assert_true(err.line == 41 && err.column == 9 && err.offset == -1);
    qn__fail(&err, 6001, QN_AT_LINE("r.json", 41, 0, NULL), "x");
    assert_string_equal(err.text, "error E6001 io: r.json:41: x");
    qn__fail(&err, 2001, QN_AT_FIELD("--lr"), "abc; expected a number");
    assert_string_equal(err.text, "error E2001 usage: --lr: abc; expected a number");
    assert_int_equal(qn__nomem(&err, "weights", 123), QN_EMEMORY);
    assert_string_equal(err.text, "error E5002 memory: weights: cannot allocate 123 bytes");
}

static void foreign_names_are_escaped_and_lines_bounded(void **state)
{
    (void)state;
    qn_error err = { 0 };
    qn__fail(&err, 6001, QN_AT_FILE("evil\n%n\x1b[2J\xff.png"), "x");
    assert_string_equal(err.text, "error E6001 io: evil\\x0A%n\\x1B[2J\\xFF.png: x");
    char longest[1000];
    memset(longest, 'a', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    qn__fail(&err, 6001, QN_AT_BYTE(longest, 4, longest), "%s", longest);
    assert_int_equal(strlen(err.text), 400);
    assert_true(strlen(err.file) <= 255 && strlen(err.field) <= 127);
    /* A line that is cut is cut between characters: prefix of 16 bytes, then two-byte characters. */
    for (size_t i = 0; i + 2 < sizeof longest; i += 2) memcpy(longest + i, "\xc3\xa9", 2);
    longest[sizeof longest - 2] = 0;
    for (int shift = 0; shift < 2; shift++) {
        qn__fail(&err, 6001, NULL, "%s%s", shift ? "a" : "", longest);
        size_t n = strlen(err.text);
        assert_true(n >= 399 && (unsigned char)err.text[n - 1] == 0xa9);
    }
}

/* A caller may wrap an error: the old text is an argument of the new. */
static void old_error_may_be_an_argument(void **state)
{
    (void)state;
    qn_error err = { 0 };
    qn__fail(&err, 6001, QN_AT_FILE("a.bin"), "gone");
    qn__fail(&err, 2001, QN_AT_FILE(err.file), "%s", err.text);
    assert_string_equal(err.text, "error E2001 usage: a.bin: error E6001 io: a.bin: gone");
}

/* ---- escaping ----------------------------------------------------------------------------- */

static void escapes_what_is_not_text(void **state)
{
    (void)state;
    static const char *const rows[][2] = {
        { "plain", "plain" },
        { "", "" },
        { "tab\there", "tab\\x09here" },
        { "\x01\x1f\x7f", "\\x01\\x1F\\x7F" },
        { "back\\slash", "back\\x5Cslash" },
        { "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80" },
        { "\x80", "\\x80" },                            /* lone continuation */
        { "\xc0\xaf", "\\xC0\\xAF" },                   /* overlong */
        { "\xe0\x80\xaf", "\\xE0\\x80\\xAF" },          /* overlong */
        { "\xf0\x80\x80\xaf", "\\xF0\\x80\\x80\\xAF" }, /* overlong */
        { "\xed\xa0\x80", "\\xED\\xA0\\x80" },          /* surrogate */
        { "\xf4\x90\x80\x80", "\\xF4\\x90\\x80\\x80" }, /* above U+10FFFF */
        { "\xf5\x80\x80\x80", "\\xF5\\x80\\x80\\x80" },
        { "\xc2\x85", "\\xC2\\x85" }, /* C1 control */
        { "\xe2\x82", "\\xE2\\x82" }, /* cut short */
    };
    char buf[64];
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_string_equal(qn__escape(buf, sizeof buf, rows[i][0], 80), rows[i][1]);
    assert_string_equal(qn__escape(buf, sizeof buf, NULL, 80), "");
    assert_string_equal(qn__escape(buf, sizeof buf, "abcdef", 3), "abc");
    assert_string_equal(qn__escape(buf, sizeof buf, "ab\xc3\xa9", 3), "ab"); /* not half a character */
    assert_string_equal(qn__escape(buf, 4, "abcdef", 80), "abc");
    assert_string_equal(qn__escape(buf, 4, "\n", 80), ""); /* no room for \x0A and its end */
    assert_string_equal(qn__escape(buf, 1, "a", 80), "");
    buf[0] = 'x';
    qn__escape(buf, 0, "a", 80);
    assert_int_equal(buf[0], 'x');
    char controls[200];
    memset(controls, 1, sizeof controls - 1);
    controls[sizeof controls - 1] = 0;
    assert_int_equal(strlen(qn__show(controls).s), 320); /* 80 bytes, four characters each */
}

/* ---- sizes and memory --------------------------------------------------------------------- */

static uint64_t draw(uint32_t i, uint32_t stream)
{
    struct qn__words w = qn__philox(7, i, stream, 0, 0);
    return ((uint64_t)w.w[0] << 32 | w.w[1]) >> (w.w[2] % 64); /* all magnitudes */
}

static void arithmetic_agrees_with_128_bits(void **state)
{
    (void)state;
    __extension__ typedef unsigned __int128 wide;
    for (uint32_t i = 0; i < 100000; i++) {
        size_t a = draw(i, 0), b = draw(i, 1), out = 0;
        wide product = (wide)a * b, sum = (wide)a + b;
        assert_int_equal(qn__mul(&out, a, b), product <= SIZE_MAX);
        if (product <= SIZE_MAX) assert_true(out == (size_t)product);
        assert_int_equal(qn__add(&out, a, b), sum <= SIZE_MAX);
        if (sum <= SIZE_MAX) assert_true(out == (size_t)sum);
    }
}

static void counts_agree_with_128_bits(void **state)
{
    (void)state;
    __extension__ typedef unsigned __int128 wide;
    const int64_t limit = (int64_t)1 << 48;
    for (uint32_t i = 0; i < 100000; i++) {
        int64_t dim[4], out = -1;
        int n = (int)(draw(i, 9) % 5);
        bool good = true, empty = false;
        wide product = 1;
        for (int j = 0; j < n; j++) {
            dim[j] = (int64_t)(draw(i, (uint32_t)j) >> (draw(i, 20u + (uint32_t)j) % 60));
            good = good && dim[j] >= 0 && dim[j] < limit;
            empty = empty || dim[j] == 0;
            if (good && dim[j] > 0) product *= (wide)dim[j];
            good = good && product < (wide)limit;
        }
        assert_int_equal(qn__count(&out, dim, n), good);
        if (good) assert_true(out == (empty ? 0 : (int64_t)product));
    }
    int64_t out;
    assert_true(qn__count(&out, NULL, 0) && out == 1);
    assert_true(qn__count(&out, (int64_t[]){ 0, 5 }, 2) && out == 0);
    assert_false(qn__count(&out, (int64_t[]){ 0, -1 }, 2));
    assert_false(qn__count(&out, (int64_t[]){ 65536, 65536, 65536 }, 3));
    assert_false(qn__count(&out, (int64_t[]){ limit }, 1));
    assert_true(qn__count(&out, (int64_t[]){ limit - 1 }, 1) && out == limit - 1);
    assert_false(qn__count(&out, (int64_t[]){ 0, limit, limit }, 3)); /* empty is no excuse */
}

struct counting {
    size_t live, calls, fail_at;
};
static void *counting_realloc(void *user, void *ptr, size_t old_size, size_t new_size)
{
    struct counting *c = user;
    if (new_size == 0) {
        if (ptr) c->live -= old_size;
        free(ptr);
        return NULL;
    }
    if (++c->calls == c->fail_at) return NULL;
    void *p = realloc(ptr, new_size);
    if (p) c->live += new_size - old_size;
    return p;
}

static void memory_is_checked_and_zero(void **state)
{
    (void)state;
    struct counting count = { 0, 0, 0 };
    qn_alloc a = { counting_realloc, &count };
    unsigned char *p = qn__calloc(&a, 10, 3);
    assert_non_null(p);
    for (int i = 0; i < 30; i++) assert_int_equal(p[i], 0);
    assert_int_equal(count.live, 30);
    qn__free(&a, p, 30);
    assert_int_equal(count.live, 0);
    qn__free(&a, NULL, 0);
    assert_null(qn__calloc(&a, SIZE_MAX / 2, 3));
    assert_int_equal(count.calls, 1); /* the overflow never reached the allocator */
    count.fail_at = 2;
    assert_null(qn__calloc(&a, 1, 1));
    void *empty = qn__calloc(NULL, 0, 8);
    assert_non_null(empty);
    qn__free(NULL, empty, 1);
}

static void growth_keeps_contents(void **state)
{
    (void)state;
    struct counting count = { 0, 0, 0 };
    qn_alloc a = { counting_realloc, &count };
    int *v = NULL;
    size_t cap = 0;
    for (int i = 0; i < 1000; i++) {
        assert_true(qn__grow(&a, &v, &cap, (size_t)i + 1, sizeof *v));
        v[i] = i;
    }
    for (int i = 0; i < 1000; i++) assert_int_equal(v[i], i);
    assert_true(cap >= 1000 && cap < 2048 && count.calls < 12); /* doubles */
    assert_int_equal(count.live, cap * sizeof *v);
    size_t before = cap;
    int *same = v;
    assert_false(qn__grow(&a, &v, &cap, SIZE_MAX / 2, sizeof *v));
    assert_false(qn__grow(&a, &v, &cap, SIZE_MAX, 1));
    count.fail_at = count.calls + 1;
    assert_false(qn__grow(&a, &v, &cap, cap + 1, sizeof *v));
    assert_true(cap == before && v == same && v[999] == 999); /* a failure changes nothing */
    qn__free(&a, v, cap * sizeof *v);
    assert_int_equal(count.live, 0);
}

/* Vectors published with FNV (Fowler, Noll, Vo). */
static void hashes_are_fnv1a(void **state)
{
    (void)state;
    assert_true(qn__hash_str("") == 0xcbf29ce484222325u);
    assert_true(qn__hash_str("a") == 0xaf63dc4c8601ec8cu);
    assert_true(qn__hash_str("foobar") == 0x85944171f73967e8u);
    assert_true(qn__hash("foobar", 6) == qn__hash_str("foobar"));
}

/* ---- numbers ------------------------------------------------------------------------------ */

static void integers_parse_strictly(void **state)
{
    (void)state;
    int64_t x = 77;
    assert_true(qn__parse_i64("0", &x) && x == 0);
    assert_true(qn__parse_i64("-0", &x) && x == 0);
    assert_true(qn__parse_i64("+12", &x) && x == 12);
    assert_true(qn__parse_i64("007", &x) && x == 7);
    assert_true(qn__parse_i64("9223372036854775807", &x) && x == INT64_MAX);
    assert_true(qn__parse_i64("-9223372036854775808", &x) && x == INT64_MIN);
    /* clang-format off */
    static const char *const bad[] = { "",   "-",    "+",   "--1", " 1",  "1 ",  "1.0", "1e3",
                                       "0x1", "1,000", "abc", "1a",  "\xd9\xa1", "9223372036854775808",
                                       "-9223372036854775809", "9999999999999999999999" };
    /* clang-format on */
    x = 77;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) assert_false(qn__parse_i64(bad[i], &x));
    assert_int_equal(x, 77);
}

static void floats_parse_strictly(void **state)
{
    (void)state;
    double x = 77;
    assert_true(qn__parse_f64("3e-4", false, &x) && x == 3e-4);
    assert_true(qn__parse_f64("-.5", false, &x) && x == -0.5);
    assert_true(qn__parse_f64("+5.", false, &x) && x == 5);
    assert_true(qn__parse_f64("1E+2", false, &x) && x == 100);
    assert_true(qn__parse_f64("4.9e-324", false, &x) && x == 4.9e-324);
    assert_true(qn__parse_f64("1e-400", false, &x) && x == 0);
    assert_true(qn__parse_f64("1.7976931348623157e308", false, &x) && x == 1.7976931348623157e308);
    assert_true(qn__parse_f64("nan", true, &x) && isnan(x));
    assert_true(qn__parse_f64("-inf", true, &x) && isinf(x) && x < 0);
    static const char *const bad[] = { "",     ".",     "e5",  "1e",  "1e+",      "-",     " 1", "1 ",  "1,5",
                                       "0x10", "1e999", "nan", "inf", "infinity", "1.2.3", "1f", "--1", "+-1" };
    x = 77;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) assert_false(qn__parse_f64(bad[i], false, &x));
    assert_false(qn__parse_f64("infinity", true, &x));
    assert_false(qn__parse_f64("1e999", true, &x));
    assert_true(x == 77);
}

static void check_round_trips(void)
{
    char buf[32];
    double back;
    for (uint32_t i = 0; i < 5000; i++) {
        struct qn__words w = qn__philox(99, i, 0, 0, 0);
        double x;
        memcpy(&x, w.w, sizeof x);
        if (!isfinite(x)) continue;
        qn__format_f64(buf, x);
        assert_true(qn__parse_f64(buf, false, &back) && memcmp(&x, &back, sizeof x) == 0);
        assert_null(strchr(buf, ','));
    }
    assert_string_equal(qn__format_f64(buf, 0.1), "0.1");
    assert_string_equal(qn__format_f64(buf, -2.5e-7), "-2.5e-07");
    assert_string_equal(qn__format_f64(buf, 3), "3");
    assert_string_equal(qn__format_f64(buf, 1.0 / 3), "0.3333333333333333");
}

static void formatting_round_trips(void **state)
{
    (void)state;
    char buf[32];
    check_round_trips();
    assert_string_equal(qn__format_f64(buf, (double)NAN), "nan");
    assert_string_equal(qn__format_f64(buf, (double)INFINITY), "inf");
    assert_string_equal(qn__format_f64(buf, -(double)INFINITY), "-inf");
}

static void numbers_do_not_know_the_locale(void **state)
{
    (void)state;
    static const char *const commas[] = { "de_DE.UTF-8", "fr_FR.UTF-8", "de_DE", "nl_NL.UTF-8", "es_ES.UTF-8" };
    const char *found = NULL;
    for (size_t i = 0; i < sizeof commas / sizeof commas[0] && !found; i++) found = setlocale(LC_ALL, commas[i]);
    if (!found) {
        printf("# skip no locale with a decimal comma is installed\n");
        skip();
    }
    double x;
    assert_true(qn__parse_f64("1.5", false, &x) && x == 1.5);
    assert_false(qn__parse_f64("1,5", false, &x));
    check_round_trips();
    setlocale(LC_ALL, "C");
}

static void nearest_names(void **state)
{
    (void)state;
    static const char *const names[] = { "conv", "linear", "dropout", "kernel", "stride", "padding" };
    enum { N = sizeof names / sizeof names[0] };
    assert_int_equal(qn__nearest("linaer", names, N), 1);
    assert_int_equal(qn__nearest("drop_out", names, N), 2);
    assert_int_equal(qn__nearest("kernal", names, N), 3);
    assert_int_equal(qn__nearest("strides", names, N), 4);
    assert_int_equal(qn__nearest("conv", names, N), 0);
    assert_int_equal(qn__nearest("zzzzzzzz", names, N), -1);
    assert_int_equal(qn__nearest("", names, N), -1);
    assert_int_equal(qn__nearest("x", NULL, 0), -1);
    char endless[200];
    memset(endless, 'c', sizeof endless - 1);
    endless[sizeof endless - 1] = 0;
    assert_int_equal(qn__nearest(endless, names, N), -1);
}

static void clock_never_goes_back(void **state)
{
    (void)state;
    double last = qn__now();
    for (int i = 0; i < 1000; i++) {
        double now = qn__now();
        assert_true(now >= last);
        last = now;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(status_texts_and_codes),
        cmocka_unit_test(every_code_has_its_status),
        cmocka_unit_test(lines_say_where),
        cmocka_unit_test(foreign_names_are_escaped_and_lines_bounded),
        cmocka_unit_test(old_error_may_be_an_argument),
        cmocka_unit_test(escapes_what_is_not_text),
        cmocka_unit_test(arithmetic_agrees_with_128_bits),
        cmocka_unit_test(counts_agree_with_128_bits),
        cmocka_unit_test(memory_is_checked_and_zero),
        cmocka_unit_test(growth_keeps_contents),
        cmocka_unit_test(hashes_are_fnv1a),
        cmocka_unit_test(integers_parse_strictly),
        cmocka_unit_test(floats_parse_strictly),
        cmocka_unit_test(formatting_round_trips),
        cmocka_unit_test(numbers_do_not_know_the_locale),
        cmocka_unit_test(nearest_names),
        cmocka_unit_test(clock_never_goes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
