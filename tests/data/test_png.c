/* test_png.c - PNG reading and writing: every colour type, and every way in which a file can be
 * wrong (row A1). */
#include "aid.h"
#include <sys/resource.h>
#include <zlib.h>

struct file {
    uint8_t b[4096];
    size_t n;
};

static void put32(struct file *f, uint32_t v)
{
    for (int i = 24; i >= 0; i -= 8) f->b[f->n++] = (uint8_t)(v >> i);
}

static void chunk(struct file *f, const char *type, const void *data, size_t n)
{
    assert_true(f->n + n + 12 <= sizeof f->b);
    put32(f, (uint32_t)n);
    size_t at = f->n;
    memcpy(f->b + f->n, type, 4);
    if (n) memcpy(f->b + f->n + 4, data, n);
    f->n += 4 + n;
    put32(f, (uint32_t)crc32(0, f->b + at, (uInt)(n + 4)));
}

static void header(struct file *f, uint32_t w, uint32_t h, int depth, int colour, int interlace)
{
    f->n = 8;
    memcpy(f->b, "\x89PNG\r\n\x1a\n", 8);
    uint8_t d[13] = { (uint8_t)(w >> 24),
                      (uint8_t)(w >> 16),
                      (uint8_t)(w >> 8),
                      (uint8_t)w,
                      (uint8_t)(h >> 24),
                      (uint8_t)(h >> 16),
                      (uint8_t)(h >> 8),
                      (uint8_t)h,
                      (uint8_t)depth,
                      (uint8_t)colour,
                      0,
                      0,
                      (uint8_t)interlace };
    chunk(f, "IHDR", d, 13);
}

static void pixels(struct file *f, const void *raw, size_t n)
{
    uint8_t z[2048];
    uLongf size = sizeof z;
    assert_int_equal(compress2(z, &size, raw, n, 9), Z_OK);
    chunk(f, "IDAT", z, size);
}

static void simple(struct file *f, uint32_t w, uint32_t h, int depth, int colour, const void *raw, size_t n)
{
    header(f, w, h, depth, colour, 0);
    pixels(f, raw, n);
    chunk(f, "IEND", NULL, 0);
}

static void expect(const struct file *f, const char *line)
{
    qn_array a;
    qn_error err = { 0 }, again = { 0 };
    uint8_t *exact = malloc(f->n ? f->n : 1); /* so that a checker sees one byte too far */
    assert_non_null(exact);
    memcpy(exact, f->b, f->n);
    assert_int_equal(qn__png_parse(&a, exact, f->n, "cats/17.png", NULL, &err), QN_EDATA);
    aid_error(&err, line);
    assert_int_equal(qn__png_parse(&a, exact, f->n, "cats/17.png", NULL, &again), QN_EDATA);
    assert_string_equal(err.text, again.text);
    assert_null(a.data);
    free(exact);
}

static void expect_pixels(const struct file *f, const qn_png_options *o, int c, int h, int w, const uint8_t *want)
{
    qn_array a;
    qn_error err = { 0 };
    if (qn__png_parse(&a, f->b, f->n, "f.png", o, &err)) fail_msg("%s", err.text);
    assert_int_equal(a.rank, 3);
    assert_int_equal(a.dim[0], c);
    assert_int_equal(a.dim[1], h);
    assert_int_equal(a.dim[2], w);
    assert_memory_equal(a.data, want, (size_t)(c * h * w));
    qn_array_free(&a);
}

static void reads_every_colour_type(void **state)
{
    (void)state;
    struct file f;
    const qn_png_options grey = { .channels = 1 }, rgb = { .channels = 3 };
    simple(&f, 2, 2, 8, 0, "\0\1\2\0\3\4", 6);
    expect_pixels(&f, NULL, 1, 2, 2, (const uint8_t *)"\1\2\3\4");
    expect_pixels(&f, &rgb, 3, 2, 2, (const uint8_t *)"\1\2\3\4\1\2\3\4\1\2\3\4");
    simple(&f, 3, 1, 1, 0, "\0\xa0", 2);
    expect_pixels(&f, NULL, 1, 1, 3, (const uint8_t *)"\xff\0\xff");
    simple(&f, 1, 1, 16, 0, "\0\x80\xff", 3); /* 0x80ff / 257 = 128.49 */
    expect_pixels(&f, NULL, 1, 1, 1, (const uint8_t *)"\x80");
    simple(&f, 1, 1, 8, 4, "\0\x64\0", 3);
    expect_pixels(&f, NULL, 1, 1, 1, (const uint8_t *)"\x64");
    simple(&f, 1, 1, 8, 2, "\0\xff\0\0", 4);
    expect_pixels(&f, NULL, 3, 1, 1, (const uint8_t *)"\xff\0\0");
    expect_pixels(&f, &grey, 1, 1, 1, (const uint8_t *)"\x4c"); /* (299 * 255 + 500) / 1000 = 76 */
    simple(&f, 1, 1, 16, 6, "\0\xff\xff\0\0\x10\x10\0\0", 9);
    expect_pixels(&f, NULL, 3, 1, 1, (const uint8_t *)"\xff\0\x10");
    header(&f, 2, 1, 4, 3, 0);
    chunk(&f, "PLTE", "\1\2\3\4\5\6", 6);
    chunk(&f, "tRNS", "\0", 1);
    pixels(&f, "\0\x10", 2);
    chunk(&f, "IEND", NULL, 0);
    expect_pixels(&f, NULL, 3, 1, 2, (const uint8_t *)"\4\1\5\2\6\3");
}

static void reads_interlaced_split_and_foreign_chunks(void **state)
{
    (void)state;
    struct file f;
    uint8_t z[128];
    uLongf n = sizeof z;
    /* 2x2 interlaced: pass 1 has (0,0), pass 6 (1,0), pass 7 the row (0,1), (1,1) */
    header(&f, 2, 2, 8, 0, 1);
    chunk(&f, "acTL", "\0\0\0\1\0\0\0\0", 8); /* an APNG's still picture */
    assert_int_equal(compress2(z, &n, (const Bytef *)"\0\1\0\2\0\3\4", 7, 9), Z_OK);
    chunk(&f, "IDAT", z, 3);
    chunk(&f, "IDAT", NULL, 0);
    chunk(&f, "IDAT", z + 3, n - 3);
    chunk(&f, "tEXt", "k\0v", 3);
    chunk(&f, "IEND", NULL, 0);
    expect_pixels(&f, NULL, 1, 2, 2, (const uint8_t *)"\1\2\3\4");
}

static void resizes(void **state)
{
    (void)state;
    struct file f;
    simple(&f, 2, 1, 8, 0, "\0\0\xc8", 3);
    expect_pixels(&f, &(qn_png_options){ .height = 1, .width = 4 }, 1, 1, 4, (const uint8_t *)"\0\x32\x96\xc8");
    simple(&f, 4, 1, 8, 0, "\0\0\12\24\36", 5);
    expect_pixels(&f, &(qn_png_options){ .height = 1, .width = 2 }, 1, 1, 2, (const uint8_t *)"\5\x19");
}

static void names_header_faults(void **state)
{
    (void)state;
    struct file f;
    memcpy(f.b, "GIF89a..", f.n = 8);
    expect(&f, "error E3012 data: cats/17.png@0: signature: not a PNG file; expected 89 \"PNG\" 0d 0a 1a 0a");
    f.n = 0;
    expect(&f, "error E3012 data: cats/17.png@0: signature: not a PNG file; expected 89 \"PNG\" 0d 0a 1a 0a");
    header(&f, 0xffffffffu, 1, 8, 0, 0);
    expect(&f, "error E3011 data: cats/17.png@16: IHDR.width: 4294967295; expected 1..16384");
    header(&f, 1, 0, 8, 0, 0);
    expect(&f, "error E3011 data: cats/17.png@20: IHDR.height: 0; expected 1..16384");
    header(&f, 16385, 1, 8, 0, 0);
    expect(&f, "error E3011 data: cats/17.png@16: IHDR.width: 16385; expected 1..16384");
    header(&f, 1, 1, 3, 0, 0);
    expect(&f, "error E3011 data: cats/17.png@24: IHDR.depth: 3 bits with colour type 0; expected an allowed pair");
    header(&f, 1, 1, 4, 2, 0);
    expect(&f, "error E3011 data: cats/17.png@24: IHDR.depth: 4 bits with colour type 2; expected an allowed pair");
    header(&f, 1, 1, 8, 1, 0);
    expect(&f, "error E3011 data: cats/17.png@24: IHDR.depth: 8 bits with colour type 1; expected an allowed pair");
    header(&f, 1, 1, 8, 0, 2);
    expect(&f, "error E3011 data: cats/17.png@28: IHDR.interlace: 2; expected 0 or 1");
    f.n = 8;
    chunk(&f, "IDAT", NULL, 0);
    expect(&f, "error E3012 data: cats/17.png@12: IHDR: chunk IDAT comes first; expected IHDR");
    f.n = 8;
    chunk(&f, "IHDR", "\0\0\0\1\0\0\0\1\10\0\0\0", 12);
    expect(&f, "error E3012 data: cats/17.png@8: IHDR.length: 12; expected 13");
    header(&f, 1, 1, 8, 0, 0);
    f.b[29] ^= 1;
    expect(&f, "error E3012 data: cats/17.png@29: IHDR.crc: 3b7e9b55; expected 3a7e9b55");
    f.b[29] ^= 1;
    chunk(&f, "IHDR", f.b + 16, 13);
    expect(&f, "error E3012 data: cats/17.png@37: IHDR: a second one; expected one");
}

static void names_chunk_faults(void **state)
{
    (void)state;
    struct file f;
    header(&f, 1, 1, 8, 0, 0);
    expect(&f, "error E3012 data: cats/17.png@33: chunk: file ends here; expected more chunks");
    put32(&f, 0x80000000u);
    memcpy(f.b + f.n, "IDATxxxx", 8);
    f.n += 8;
    expect(&f, "error E3012 data: cats/17.png@33: IDAT.length: 2147483648; file has 0 bytes left");
    header(&f, 1, 1, 8, 0, 0);
    put32(&f, 104857600); /* a text chunk of 100 MiB that is not there */
    memcpy(f.b + f.n, "tEXtxxxx", 8);
    f.n += 8;
    expect(&f, "error E3012 data: cats/17.png@33: tEXt.length: 104857600; file has 0 bytes left");
    header(&f, 1, 1, 8, 0, 0);
    chunk(&f, "IEND", NULL, 0);
    expect(&f, "error E3012 data: cats/17.png@37: IDAT: missing; expected pixels before IEND");
    header(&f, 1, 1, 8, 0, 0);
    chunk(&f, "I4AT", NULL, 0);
    expect(&f, "error E3012 data: cats/17.png@37: chunk type: I4AT; expected four letters");
    header(&f, 1, 1, 8, 0, 0);
    chunk(&f, "ABCD", NULL, 0);
    expect(&f, "error E3012 data: cats/17.png@37: chunk type: unknown critical chunk ABCD; expected IHDR, PLTE, IDAT "
               "or IEND");
    header(&f, 1, 1, 8, 0, 0);
    pixels(&f, "\0\1", 2);
    expect(&f, "error E3012 data: cats/17.png@55: chunk: file ends here; expected IEND");
    chunk(&f, "tEXt", NULL, 0);
    pixels(&f, "\0\1", 2);
    expect(&f, "error E3012 data: cats/17.png@71: IDAT: apart from the others; expected them in a row");
    simple(&f, 1, 1, 8, 0, "\0\1", 2);
    f.b[50] ^= 0x40; /* inside IDAT's data: 33 + 8 + 10 bytes of zlib stream = 51 */
    expect(&f, "error E3012 data: cats/17.png@51: IDAT.crc: e67da767; expected 90a1e6f7");
    f.b[50] ^= 0x40;
    f.b[51] ^= 0x40; /* in the checksum itself */
    expect(&f, "error E3012 data: cats/17.png@51: IDAT.crc: a67da767; expected e67da767");
}

static void names_palette_faults(void **state)
{
    (void)state;
    struct file f;
    header(&f, 1, 1, 8, 3, 0);
    pixels(&f, "\0\0", 2);
    expect(&f, "error E3012 data: cats/17.png@37: PLTE: missing before IDAT; expected a palette");
    header(&f, 1, 1, 2, 3, 0);
    chunk(&f, "PLTE", "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 15);
    expect(&f, "error E3012 data: cats/17.png@33: PLTE.length: 15; expected 3 x 1..4");
    header(&f, 1, 1, 8, 0, 0);
    chunk(&f, "PLTE", "\0\0\0", 3);
    expect(&f, "error E3012 data: cats/17.png@37: PLTE: in a grey image; expected none");
    header(&f, 1, 1, 8, 3, 0);
    chunk(&f, "PLTE", "\0\0\0", 3);
    f.b[f.n - 1] ^= 1;
    expect(&f, "error E3012 data: cats/17.png@44: PLTE.crc: a77a3ddb; expected a77a3dda");
    header(&f, 1, 1, 8, 3, 0);
    chunk(&f, "PLTE", "\0\0\0", 3);
    chunk(&f, "tRNS", "\0\0", 2);
    expect(&f, "error E3012 data: cats/17.png@48: tRNS.length: 2; expected 1..1");
    header(&f, 1, 1, 8, 3, 0);
    chunk(&f, "PLTE", "\0\0\0", 3);
    pixels(&f, "\0\1", 2);
    chunk(&f, "IEND", NULL, 0);
    expect(&f, "error E3013 data: cats/17.png@70: IDAT: a pixel has palette index 1; expected 0..0");
}

static void names_pixel_faults(void **state)
{
    (void)state;
    struct file f;
    uint8_t z[64];
    uLongf n = sizeof z;
    simple(&f, 4, 4, 8, 0, "\0\1\2\3\4", 5);
    expect(&f, "error E3013 data: cats/17.png@66: IDAT: Not enough image data; expected intact pixels");
    header(&f, 16384, 16384, 8, 0, 0); /* claims 268 MB with 16 bytes: refused before memory is taken */
    pixels(&f, "\0\1", 2);
    chunk(&f, "IEND", NULL, 0);
    expect(&f, "error E3013 data: cats/17.png@0: IDAT: 10 bytes; expected at least 260127 for 16384 x 16384 pixels");
    assert_int_equal(compress2(z, &n, (const Bytef *)"\0\1\0\2", 4, 9), Z_OK);
    header(&f, 1, 2, 8, 0, 0);
    chunk(&f, "IDAT", z, 5); /* the compressed stream is cut */
    chunk(&f, "IEND", NULL, 0);
    expect(&f, "error E3013 data: cats/17.png@58: IDAT: Not enough image data; expected intact pixels");
    z[n] = 7; /* a byte after the end of the stream */
    header(&f, 1, 2, 8, 0, 0);
    chunk(&f, "IDAT", z, n + 1);
    chunk(&f, "IEND", NULL, 0);
    expect_pixels(&f, NULL, 1, 2, 1, (const uint8_t *)"\1\2");
    simple(&f, 1, 1, 8, 0, "\0\1\7\7\7\7\7", 7); /* more rows than the header says: the picture is whole */
    expect_pixels(&f, NULL, 1, 1, 1, (const uint8_t *)"\1");
}

static long peak_kib(void)
{
    struct rusage u;
    assert_int_equal(getrusage(RUSAGE_SELF, &u), 0);
    return u.ru_maxrss;
}

/* 100 MiB of text before the pixels: passed over, not kept beside the file's own bytes. */
static void long_text_is_passed_over(void **state)
{
    (void)state;
    enum { TEXT = 100 << 20 };
    struct file f;
    qn_array a;
    qn_error err = { 0 };
    uint8_t *b = malloc(TEXT + 1000);
    assert_non_null(b);
    simple(&f, 1, 1, 8, 0, "\0\1", 2);
    memcpy(b, f.b, 33);
    memcpy(b + 33, "\6\100\0\0tEXt", 8); /* 0x06400000 */
    memset(b + 41, 'x', TEXT);
    uint32_t crc = (uint32_t)crc32(0, b + 37, TEXT + 4);
    for (int i = 0; i < 4; i++) b[41 + TEXT + i] = (uint8_t)(crc >> (24 - 8 * i));
    memcpy(b + 45 + TEXT, f.b + 33, f.n - 33);
    long before = peak_kib();
    if (qn__png_parse(&a, b, TEXT + 12 + f.n, "f.png", NULL, &err)) fail_msg("%s", err.text);
    assert_memory_equal(a.data, "\1", 1);
    assert_true(peak_kib() - before < 8192);
    qn_array_free(&a);
    free(b);
}

/* A few hundred bytes that inflate to 400 KiB beyond the picture: only the picture is inflated. */
static void bomb_stops_at_the_last_row(void **state)
{
    (void)state;
    enum { BIG = 400000 };
    struct file f;
    uint8_t *raw = calloc(BIG, 1);
    assert_non_null(raw);
    raw[1] = 9;
    header(&f, 1, 1, 8, 0, 0);
    pixels(&f, raw, BIG);
    chunk(&f, "IEND", NULL, 0);
    free(raw);
    expect_pixels(&f, NULL, 1, 1, 1, (const uint8_t *)"\11");
}

static qn_status parse_seed(const uint8_t *b, size_t n, qn_error *err)
{
    qn_array a;
    qn_status status = qn__png_parse(&a, b, n, "f.png", &(qn_png_options){ .channels = 1 }, err);
    qn_array_free(&a);
    return status;
}

static void survives_damage(void **state)
{
    (void)state;
    struct file f;
    size_t accepted;
    header(&f, 2, 2, 4, 3, 1);
    chunk(&f, "PLTE", "\1\2\3\4\5\6", 6);
    chunk(&f, "tRNS", "\1", 1);
    pixels(&f, "\0\0\0\x10\0\x10", 6);
    chunk(&f, "IEND", NULL, 0);
    aid_damage(parse_seed, f.b, f.n, &accepted);
    assert_int_equal(accepted, 20); /* the bits that rename tRNS to another chunk that may be passed over unread */
}

static void writes_what_it_reads(void **state)
{
    (void)state;
    uint8_t grey[6] = { 0, 50, 100, 150, 200, 255 }, rgb[12] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 };
    qn_array a;
    qn_error err = { 0 };
    const char *path = workdir_path("w.png");
    assert_int_equal(qn_png_write(path, grey, 3, 2, 1, &err), QN_OK);
    assert_int_equal(qn_png_read(&a, path, NULL, &err), QN_OK);
    assert_int_equal(a.dim[1], 2);
    assert_memory_equal(a.data, grey, 6);
    qn_array_free(&a);
    assert_int_equal(qn_png_write(path, rgb, 2, 2, 3, &err), QN_OK); /* replaces */
    assert_int_equal(qn_png_read(&a, path, NULL, &err), QN_OK);
    assert_memory_equal(a.data, "\1\4\7\12\2\5\10\13\3\6\11\14", 12);
    qn_array_free(&a);
    assert_int_equal(qn_png_write(path, rgb, 0, 2, 3, &err), QN_EDATA);
    assert_int_equal(err.code, 3053);
    assert_int_equal(qn_png_write(workdir_path("no/such/dir.png"), rgb, 2, 2, 3, &err), QN_EIO);
    assert_int_equal(err.code, 6002);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_every_colour_type),
        cmocka_unit_test(reads_interlaced_split_and_foreign_chunks),
        cmocka_unit_test(resizes),
        cmocka_unit_test(names_header_faults),
        cmocka_unit_test(names_chunk_faults),
        cmocka_unit_test(names_palette_faults),
        cmocka_unit_test(names_pixel_faults),
        cmocka_unit_test(long_text_is_passed_over),
        cmocka_unit_test(bomb_stops_at_the_last_row),
        cmocka_unit_test(survives_damage),
        cmocka_unit_test(writes_what_it_reads),
    };
    return cmocka_run_group_tests(tests, workdir_begin, workdir_end);
}
