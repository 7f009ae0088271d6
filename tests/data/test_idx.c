/* test_idx.c - IDX files: every type code, gzip, and every way in which they can be wrong (fault
 * row A2). */
#include "aid.h"
#include <zlib.h>

static size_t gzip(uint8_t *out, size_t room, const uint8_t *in, size_t n)
{
    z_stream z = { 0 };
    assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_in = (Bytef *)(uintptr_t)in;
    z.avail_in = (uInt)n;
    z.next_out = out;
    z.avail_out = (uInt)room;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    size_t made = z.total_out;
    deflateEnd(&z);
    return made;
}

static qn_status parse(const uint8_t *b, size_t n, qn_error *err)
{
    qn_array a;
    qn_status status = qn__idx_parse(&a, NULL, b, n, "f.idx", err);
    qn_array_free(&a);
    return status;
}

static void expect(const void *bytes, size_t n, const char *line)
{
    qn_error err = { 0 }, again = { 0 };
    assert_int_equal(parse(bytes, n, &err), QN_EDATA);
    aid_error(&err, line);
    parse(bytes, n, &again);
    assert_string_equal(err.text, again.text);
}

static void reads_every_type(void **state)
{
    (void)state;
    qn_array a;
    static const uint8_t u8[] = { 0, 0, 8, 2, 0, 0, 0, 1, 0, 0, 0, 2, 7, 255 };
    assert_int_equal(qn__idx_parse(&a, NULL, u8, sizeof u8, "f", NULL), QN_OK);
    assert_int_equal(a.dtype, QN_U8);
    assert_int_equal(a.rank, 2);
    assert_int_equal(a.dim[1], 2);
    assert_int_equal(((uint8_t *)a.data)[1], 255);
    qn_array_free(&a);
    static const uint8_t i8[] = { 0, 0, 9, 1, 0, 0, 0, 2, 0x80, 5 };
    assert_int_equal(qn__idx_parse(&a, NULL, i8, sizeof i8, "f", NULL), QN_OK);
    assert_int_equal(((int32_t *)a.data)[0], -128);
    assert_int_equal(((int32_t *)a.data)[1], 5);
    qn_array_free(&a);
    static const uint8_t i16[] = { 0, 0, 11, 1, 0, 0, 0, 2, 0xff, 0xfe, 1, 0 };
    assert_int_equal(qn__idx_parse(&a, NULL, i16, sizeof i16, "f", NULL), QN_OK);
    assert_int_equal(((int32_t *)a.data)[0], -2);
    assert_int_equal(((int32_t *)a.data)[1], 256);
    qn_array_free(&a);
    static const uint8_t i32[] = { 0, 0, 12, 1, 0, 0, 0, 1, 0x80, 0, 0, 1 };
    assert_int_equal(qn__idx_parse(&a, NULL, i32, sizeof i32, "f", NULL), QN_OK);
    assert_int_equal(((int32_t *)a.data)[0], INT32_MIN + 1);
    qn_array_free(&a);
    static const uint8_t f32[] = { 0, 0, 13, 1, 0, 0, 0, 1, 0x3f, 0xc0, 0, 0 };
    assert_int_equal(qn__idx_parse(&a, NULL, f32, sizeof f32, "f", NULL), QN_OK);
    assert_true(((float *)a.data)[0] == 1.5f);
    qn_array_free(&a);
    static const uint8_t f64[] = { 0, 0, 14, 1, 0, 0, 0, 1, 0xc0, 4, 0, 0, 0, 0, 0, 0 };
    assert_int_equal(qn__idx_parse(&a, NULL, f64, sizeof f64, "f", NULL), QN_OK);
    assert_true(((double *)a.data)[0] == -2.5);
    qn_array_free(&a);
}

static void names_header_faults(void **state)
{
    (void)state;
    expect("\0\1\10\1\0\0\0\0", 8, "error E3021 data: f.idx@0: magic: 00 01; expected 00 00");
    expect("\0\0", 2, "error E3021 data: f.idx@0: magic: file has 2 bytes; expected at least 4");
    expect("\0\0\12\1\0\0\0\0", 8,
           "error E3021 data: f.idx@2: type code: 0x0a; expected 0x08, 0x09, 0x0b, 0x0c, 0x0d or 0x0e");
    expect("\0\0\10\0\0\0\0\0", 8, "error E3021 data: f.idx@3: rank: 0; expected 1..4");
    expect("\0\0\10\5\0\0\0\0", 8, "error E3021 data: f.idx@3: rank: 5; expected 1..4");
    expect("\0\0\10\2\0\0\0\1", 8, "error E3021 data: f.idx@4: dim: file has 8 bytes; expected a header of 12");
    expect("\0\0\10\3\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 16,
           "error E3021 data: f.idx@8: dim[1]: 4294967295; expected fewer than 2^48 elements in all");
}

static void names_sizes(void **state)
{
    (void)state;
    static const uint8_t shape[16] = { 0, 0, 8, 3, 0, 0, 0xea, 0x60, 0, 0, 0, 28, 0, 0, 0, 28 };
    expect(shape, sizeof shape, "error E3021 data: f.idx@4: dim[0]: 60000 (47040016 bytes needed); file has 16");
    expect("\0\0\10\1\0\0\0\1\7\7", 10, "error E3021 data: f.idx@4: dim[0]: 1 (9 bytes needed); file has 10");
    uint8_t gz[128];
    size_t n = gzip(gz, sizeof gz, shape, sizeof shape);
    expect(gz, n,
           "error E3021 data: f.idx@4: dim[0]: 60000 (47040016 bytes needed); file has (inflated) at most 34056");
    uint8_t few[16] = { 0, 0, 8, 1, 0, 0, 0, 9, 1, 2, 3 };
    n = gzip(gz, sizeof gz, few, 11);
    expect(gz, n, "error E3021 data: f.idx@4: dim[0]: 9 (17 bytes needed); file has (inflated) 11");
    few[7] = 2;
    n = gzip(gz, sizeof gz, few, 11);
    expect(gz, n, "error E3021 data: f.idx@4: dim[0]: 2 (10 bytes needed); file has (inflated) at least 11");
}

/* 64 MiB of zeros behind a header that asks for one: nothing but the announced byte is inflated. */
static void gzip_bomb_is_not_inflated(void **state)
{
    (void)state;
    enum { BIG = 64 << 20 };
    uint8_t *plain = calloc(BIG, 1), *gz = malloc(1 << 20);
    assert_non_null(plain);
    assert_non_null(gz);
    memcpy(plain, "\0\0\10\1\0\0\0\1", 8);
    size_t n = gzip(gz, 1 << 20, plain, BIG);
    free(plain);
    expect(gz, n, "error E3021 data: f.idx@4: dim[0]: 1 (9 bytes needed); file has (inflated) at least 10");
    free(gz);
}

static void gzip_faults(void **state)
{
    (void)state;
    static const uint8_t plain[] = { 0, 0, 8, 1, 0, 0, 0, 3, 1, 2, 3 };
    uint8_t gz[256];
    size_t n = gzip(gz, sizeof gz, plain, sizeof plain), half;
    qn_array a;
    assert_int_equal(qn__idx_parse(&a, NULL, gz, n, "f", NULL), QN_OK);
    assert_int_equal(((uint8_t *)a.data)[2], 3);
    qn_array_free(&a);
    expect(gz, n - 1,
           "error E3002 data: f.idx@30: gzip: file ends inside the stream; expected its checksum at the end");
    gz[n] = 'x';
    expect(gz, n + 1, "error E3002 data: f.idx@31: gzip: 1 bytes after the end of the stream; expected none");
    gz[n - 8] ^= 1;
    expect(gz, n, "error E3002 data: f.idx@27: gzip: incorrect data check; expected an intact stream");
    n = gzip(gz, sizeof gz, plain, 5); /* a file of two members is one stream */
    half = gzip(gz + n, sizeof gz - n, plain + 5, sizeof plain - 5);
    assert_int_equal(parse(gz, n + half, NULL), QN_OK);
}

static void survives_damage(void **state)
{
    (void)state;
    static const uint8_t plain[] = { 0, 0, 11, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 };
    uint8_t gz[256];
    size_t accepted, n = gzip(gz, sizeof gz, plain, sizeof plain);
    aid_damage(parse, plain, sizeof plain, &accepted);
    assert_int_equal(accepted, 12 * 8); /* every bit of the elements, and nothing else */
    aid_damage(parse, gz, n, &accepted);
}

static void reads_files(void **state)
{
    (void)state;
    qn_array a;
    qn_error err = { 0 };
    const char *path = workdir_write("a.idx", "\0\0\10\1\0\0\0\2\7\10", 10);
    assert_int_equal(qn_idx_read(&a, path, &err), QN_OK);
    assert_int_equal(a.dim[0], 2);
    qn_array_free(&a);
    assert_int_equal(qn_idx_read(&a, workdir_path("none"), &err), QN_EIO);
    assert_int_equal(err.code, 6001);
    assert_int_equal(mkfifo(workdir_path("fifo"), 0600), 0); /* must neither hang nor be read (row G2) */
    assert_int_equal(qn_idx_read(&a, workdir_path("fifo"), &err), QN_EIO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_every_type), cmocka_unit_test(names_header_faults),
        cmocka_unit_test(names_sizes),      cmocka_unit_test(gzip_bomb_is_not_inflated),
        cmocka_unit_test(gzip_faults),      cmocka_unit_test(survives_damage),
        cmocka_unit_test(reads_files),
    };
    return cmocka_run_group_tests(tests, workdir_begin, workdir_end);
}
