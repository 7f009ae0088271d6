/* test_events.c - TensorBoard files, taken apart by a reader of their own. */
#include "../../train/events.h"
#include "../lib/workdir.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

/* RFC 3720 B.4, and "123456789" as every catalogue of CRCs has it. */
static void crc_vectors(void **state)
{
    (void)state;
    unsigned char b[32] = { 0 };
    assert_int_equal(qn__crc32c(0, "123456789", 9), 0xe3069283u);
    assert_int_equal(qn__crc32c(0, b, 32), 0x8a9136aau);
    memset(b, 0xff, 32);
    assert_int_equal(qn__crc32c(0, b, 32), 0x62a8ab43u);
    for (int i = 0; i < 32; i++) b[i] = (unsigned char)i;
    assert_int_equal(qn__crc32c(0, b, 32), 0x46dd794eu);
    /* a record of a u64 24, as at the start of every event file TensorFlow writes */
    const unsigned char length[8] = { 24 };
    const unsigned char masked[4] = { 0xa3, 0x7f, 0x4b, 0x22 };
    uint32_t crc = qn__crc32c_masked(length, 8);
    for (int i = 0; i < 4; i++) assert_int_equal(crc >> 8 * i & 0xff, masked[i]);
}

/* ---- a reader that shares nothing with the writer ---------------------------------------- */

struct reader {
    const unsigned char *p, *end;
};

static uint64_t little(const unsigned char *p, int n)
{
    uint64_t x = 0;
    while (n--) x = x << 8 | p[n];
    return x;
}

/* CRC-32C by a table, masked as the format asks. */
static uint32_t table_crc(const unsigned char *p, size_t n)
{
    uint32_t table[256], crc = 0xffffffffu;
    for (uint32_t i = 0; i < 256; i++) {
        table[i] = i;
        for (int k = 0; k < 8; k++) table[i] = table[i] & 1 ? table[i] >> 1 ^ 0x82f63b78u : table[i] >> 1;
    }
    while (n--) crc = table[(crc ^ *p++) & 0xff] ^ crc >> 8;
    crc ^= 0xffffffffu;
    return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

static bool next_record(struct reader *r, struct reader *event)
{
    if (r->p == r->end) return false;
    assert_true(r->end - r->p >= 16);
    uint64_t n = little(r->p, 8);
    assert_true(n <= (uint64_t)(r->end - r->p - 16));
    assert_int_equal(little(r->p + 8, 4), table_crc(r->p, 8));
    assert_int_equal(little(r->p + 12 + n, 4), table_crc(r->p + 12, n));
    *event = (struct reader){ r->p + 12, r->p + 12 + n };
    r->p += n + 16;
    return true;
}

struct field {
    unsigned number;
    uint64_t value; /* of numbers: the bits */
    struct reader bytes;
};

static uint64_t varint(struct reader *r)
{
    uint64_t x = 0;
    for (int shift = 0;; shift += 7) {
        assert_true(r->p < r->end && shift < 64);
        x |= (uint64_t)(*r->p & 0x7f) << shift;
        if (*r->p++ < 0x80) return x;
    }
}

static bool next_field(struct reader *r, struct field *f)
{
    if (r->p == r->end) return false;
    uint64_t key = varint(r);
    f->number = (unsigned)(key >> 3);
    size_t n = (key & 7) == 1 ? 8 : (key & 7) == 5 ? 4 : 0;
    if ((key & 7) == 0) {
        f->value = varint(r);
    } else if ((key & 7) == 2) {
        n = varint(r);
        f->bytes = (struct reader){ r->p, r->p + n };
    } else {
        f->value = little(r->p, (int)n);
    }
    assert_true(n <= (size_t)(r->end - r->p));
    r->p += n;
    return true;
}

static bool equals(struct reader r, const char *text)
{
    return (size_t)(r.end - r.p) == strlen(text) && memcmp(r.p, text, strlen(text)) == 0;
}

/* The one Summary.Value of an event; checks the step and that the time is now. */
static struct reader summary_value(struct reader event, int64_t step)
{
    struct field f;
    struct reader value = { 0 };
    while (next_field(&event, &f)) {
        double wall;
        memcpy(&wall, &f.value, 8);
        if (f.number == 1) assert_true(fabs(wall - (double)time(NULL)) < 100);
        if (f.number == 2) assert_true((int64_t)f.value == step);
        if (f.number == 5) {
            struct reader summary = f.bytes;
            assert_true(next_field(&summary, &f) && f.number == 1);
            value = f.bytes;
            assert_true(summary.p == summary.end);
        }
    }
    assert_non_null(value.p);
    return value;
}

static void expect_scalar(struct reader event, int64_t step, const char *tag, float want)
{
    struct reader v = summary_value(event, step);
    struct field f;
    assert_true(next_field(&v, &f) && f.number == 1 && equals(f.bytes, tag));
    assert_true(next_field(&v, &f) && f.number == 2);
    uint32_t bits = (uint32_t)f.value, want_bits;
    memcpy(&want_bits, &want, 4);
    assert_int_equal(bits, want_bits);
    assert_true(v.p == v.end);
}

static void expect_image(struct reader event, const char *png, size_t n)
{
    struct reader v = summary_value(event, 7), image;
    struct field f;
    assert_true(next_field(&v, &f) && f.number == 1 && equals(f.bytes, "pictures/filters"));
    assert_true(next_field(&v, &f) && f.number == 4);
    image = f.bytes;
    assert_true(next_field(&image, &f) && f.number == 1 && f.value == 30);
    assert_true(next_field(&image, &f) && f.number == 2 && f.value == 40);
    assert_true(next_field(&image, &f) && f.number == 3);
    assert_true(next_field(&image, &f) && f.number == 4);
    assert_true((size_t)(f.bytes.end - f.bytes.p) == n && memcmp(f.bytes.p, png, n) == 0);
}

static void round_trip(void **state)
{
    (void)state;
    static char png[5000];
    static unsigned char file[20000];
    qn_events *e = NULL;
    qn_error err = { 0 };
    char tag[256];
    memset(tag, 't', 255);
    tag[255] = 0;
    for (size_t i = 0; i < sizeof png; i++) png[i] = (char)(i * 7);
    assert_int_equal(qn_events_open(&e, workdir, &err), QN_OK);
    assert_int_equal(qn_events_scalar(e, "train/loss", 1, 0.25f, &err), QN_OK);
    assert_int_equal(qn_events_scalar(e, tag, INT64_MAX, NAN, &err), QN_OK);
    assert_int_equal(qn_events_image(e, "pictures/filters", 7, png, sizeof png, 40, 30, &err), QN_OK);
    char path[4096];
    snprintf(path, sizeof path, "%s", qn_events_path(e));
    assert_int_equal(qn_events_close(e, &err), QN_OK);
    FILE *in = fopen(path, "rb");
    assert_non_null(in);
    size_t n = fread(file, 1, sizeof file, in);
    fclose(in);
    unlink(path);
    struct reader r = { file, file + n }, event;
    struct field f;
    assert_true(next_record(&r, &event));
    assert_true(next_field(&event, &f) && f.number == 1);
    assert_true(next_field(&event, &f) && f.number == 3 && equals(f.bytes, "brain.Event:2"));
    assert_true(next_record(&r, &event));
    expect_scalar(event, 1, "train/loss", 0.25f);
    assert_true(next_record(&r, &event));
    expect_scalar(event, INT64_MAX, tag, NAN);
    assert_true(next_record(&r, &event));
    expect_image(event, png, sizeof png);
    assert_false(next_record(&r, &event));
}

/* Two writers in the same second and process get two files; the name has its four parts. */
static void names(void **state)
{
    (void)state;
    qn_events *a = NULL, *b = NULL;
    char pid[32];
    assert_int_equal(qn_events_open(&a, workdir, NULL), QN_OK);
    assert_int_equal(qn_events_open(&b, workdir, NULL), QN_OK);
    const char *name = strstr(qn_events_path(a), "/events.out.tfevents.");
    assert_non_null(name);
    assert_true(strspn(name + 21, "0123456789") == 10);
    snprintf(pid, sizeof pid, ".%ld", (long)getpid());
    assert_non_null(strstr(name + 31, pid));
    assert_string_not_equal(qn_events_path(a), qn_events_path(b));
    unlink(qn_events_path(a));
    unlink(qn_events_path(b));
    qn_events_close(a, NULL);
    qn_events_close(b, NULL);
}

static void refusals(void **state)
{
    (void)state;
    qn_events *e = NULL;
    qn_error err = { 0 };
    char tag[300];
    memset(tag, 't', 299);
    tag[299] = 0;
    assert_int_equal(qn_events_open(&e, "/nowhere/at/all", &err), QN_EIO);
    assert_int_equal(err.code, 6002);
    assert_null(e);
    assert_int_equal(qn_events_open(&e, workdir, &err), QN_OK);
    assert_int_equal(qn_events_scalar(e, "", 1, 0, &err), QN_EUSAGE);
    assert_int_equal(qn_events_scalar(e, tag, 1, 0, &err), QN_EUSAGE);
    assert_string_equal(err.text, "error E2204 graph: events.tag: 299 bytes; expected 1..255");
    assert_int_equal(qn_events_image(e, "a", 1, "x", 1, 0, 5, &err), QN_EUSAGE);
    unlink(qn_events_path(e));
    qn_events_close(e, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(crc_vectors), cmocka_unit_test(round_trip),
                                        cmocka_unit_test(names), cmocka_unit_test(refusals) };
    return cmocka_run_group_tests(tests, workdir_begin, workdir_end);
}
