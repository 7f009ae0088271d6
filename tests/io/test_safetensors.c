/* safetensors: every malformed header by name and exact line, every truncation and bit flip of a seed,
 * verdicts compared with a second parser, round trips, memory bounds. */
#include "io.h"
#include "../../core/half.h"
#include "../../include/quern/safetensors.h"
#include <jansson.h>
#include <math.h>

/* A file image: length, header text, data bytes of value 0. */
struct image {
    unsigned char *bytes;
    size_t n;
};
static struct image image_of(const char *header, size_t n_header, size_t n_data)
{
    struct image im = { calloc(1, 8 + n_header + n_data + 1), 8 + n_header + n_data };
    assert_non_null(im.bytes);
    for (int i = 0; i < 8; i++) im.bytes[i] = (unsigned char)((uint64_t)n_header >> (8 * i));
    memcpy(im.bytes + 8, header, n_header);
    return im;
}

static qn_status try_open(const void *bytes, size_t n, qn_error *err)
{
    qn_safetensors *st;
    qn_status status = qn_safetensors_open_memory(&st, bytes, n, "m.safetensors", NULL, err);
    if (status) assert_null(st);
    qn_safetensors_close(st);
    return status;
}

#define E(code) "error E" #code " model: m.safetensors"
#define T "{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}"
static const struct {
    const char *header;
    size_t data;
    const char *line; /* NULL: accepted */
} cases[] = {
    /* accepted */
    { "{}", 0, NULL },
    { "{}   \n", 0, NULL },
    { "{ \"a\" : { \"shape\" : [ 2 ] , \"data_offsets\":[0, 8],\"dtype\":\"F32\"} }", 8, NULL },
    { "{\"a\":{\"dtype\":\"F64\",\"shape\":[],\"data_offsets\":[0,8]}}", 8, NULL },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[0,7],\"data_offsets\":[0,0]},\"b\":" T "}", 8, NULL },
    { "{\"a\":{\"dtype\":\"F8_E4M3\",\"shape\":[3],\"data_offsets\":[0,3]}}", 3, NULL },
    { "{\"a\":{\"dtype\":\"F4\",\"shape\":[4],\"data_offsets\":[0,2]}}", 2, NULL },
    { "{\"a\":{\"dtype\":\"F6_E2M3\",\"shape\":[4],\"data_offsets\":[0,3]}}", 3, NULL },
    { "{\"\\u00e9\\ud83d\\ude00\\n\":1}", 0,
      E(4013) "@9: tensor \"\xc3\xa9\xf0\x9f\x98\x80\\x0A\": control character in the name; expected none" },
    { "{\"\xc3\xa9\":" T "}", 8, NULL },
    { "{\"__metadata__\":{},\"a\":" T "}", 8, NULL },
    { "{\"__metadata__\":{\"format\":\"pt\",\"x\":\"a\\nb\"}}", 0, NULL },
    { "{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1],\"data_offsets\":[0,1]}}", 1, NULL },
    /* framing */
    { "[]", 0, E(4012) "@8: header: '['; expected '{'" },
    { " {}", 0, E(4012) "@8: header: byte 0x20; expected '{'" },
    { "{", 0, E(4011) "@0: header length: 1; expected at least 2" },
    { "{}", 3, E(4015) "@10: data: 3 bytes; expected 0, where the last tensor ends" },
    { "{\"a\":" T "}", 7, E(4015) "@62: data: 7 bytes; expected 8, where the last tensor ends" },
    { "{\"a\":" T "}", 9, E(4015) "@62: data: 9 bytes; expected 8, where the last tensor ends" },
    { "{}x", 0, E(4012) "@10: header: 'x'; expected only spaces after the header" },
    { "{}{}", 0, E(4012) "@10: header: '{'; expected only spaces after the header" },
    { "{\"a\":" T, 8, E(4012) "@61: header: the header ends; expected ',' or '}'" },
    { "{\"a\":" T ",}", 8, E(4012) "@62: header: '}'; expected a name in quotes" },
    { "{\"a\xff\":" T "}", 8, E(4012) "@11: header: byte 0xFF; expected UTF-8" },
    { "{\"a\xc0\x80\":" T "}", 8, E(4012) "@11: header: byte 0xC0; expected UTF-8" },
    { "{\"a\xed\xa0\x80\":" T "}", 8, E(4012) "@11: header: byte 0xED; expected UTF-8" },
    { "{\"a\xf4\x90\x80\x80\":" T "}", 8, E(4012) "@11: header: byte 0xF4; expected UTF-8" },
    { "{\"a\xe2\x82", 0, E(4012) "@11: header: byte 0xE2; expected UTF-8" },
    { "{\"a\\q\":" T "}", 8, E(4012) "@11: header: bad escape in a string; expected \\\" or \\uXXXX" },
    { "{\"a\\ud800x\":" T "}", 8, E(4012) "@11: header: bad escape in a string; expected \\\" or \\uXXXX" },
    { "{\"a\\udc00\":" T "}", 8, E(4012) "@11: header: bad escape in a string; expected \\\" or \\uXXXX" },
    { "{\"a\\u12", 0, E(4012) "@11: header: bad escape in a string; expected \\\" or \\uXXXX" },
    { "{\"a\n\":" T "}", 8, E(4012) "@11: header: byte 0x0A; expected no control character in a string" },
    { "{\"a", 0, E(4012) "@11: header: the header ends; expected '\"' at the end of the string" },
    /* names */
    { "{\"\":" T "}", 8, E(4013) "@9: tensor name of 0 bytes; expected 1..512" },
    { "{\"a\\u0000b\":" T "}", 8, E(4012) "@11: header: NUL character in a string; expected none" },
    { "{\"a\x7f\":" T "}", 8, E(4013) "@9: tensor \"a\\x7F\": control character in the name; expected none" },
    { "{\"a\":" T ",\"a\":" T "}", 8, E(4014) "@62: header: tensor \"a\" appears twice" },
    { "{\"a\":" T ",\"\\u0061\":" T "}", 8, E(4014) "@62: header: tensor \"a\" appears twice" },
    /* entries */
    { "{\"a\":3}", 0, E(4012) "@13: tensor \"a\": '3'; expected '{' and the tensor's entry" },
    { "{\"fc1.weight\":{\"dtype\":\"F32\",\"shape\":[1000,1000],\"data_offsets\":[0,4194304]}}", 0,
      E(4013) "@9: tensor \"fc1.weight\": data_offsets [0,4194304]; expected length 4000000 = 1000x1000 F32" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8],\"x\":1}}", 8,
      E(4013) "@61: tensor \"a\": unknown key \"x\"; expected dtype, shape, data_offsets" },
    { "{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8,
      E(4014) "@28: tensor \"a\": key \"dtype\" appears twice" },
    { "{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,8]    }      }", 8,
      E(4013) "@9: tensor \"a\": no \"shape\"; expected one" },
    { "{\"a\":{\"shape\":[2],\"data_offsets\":[0,8]           }  }", 8,
      E(4013) "@9: tensor \"a\": no \"dtype\"; expected one" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2]                 }  }", 8,
      E(4013) "@9: tensor \"a\": no \"data_offsets\"; expected one" },
    { "{\"a\":{\"dtype\":\"F31\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8,
      E(4013) "@22: tensor \"a\": dtype \"F31\"; expected F32, F16, I64, U8, ..." },
    { "{\"a\":{\"dtype\":32,\"shape\":[2],\"data_offsets\":[0,8]        }}", 8,
      E(4012) "@22: tensor \"a\": '3'; expected a dtype in quotes" },
    { "{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,1]}}", 1,
      E(4013) "@52: tensor \"a\": shape has more than 8 dimensions" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[-2],\"data_offsets\":[0,8]}}", 8,
      E(4013) "@37: tensor \"a\": shape[0] -2; expected an integer in 0..281474976710656" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2.0],\"data_offsets\":[0,8]}}", 8,
      E(4013) "@37: tensor \"a\": shape[0] 2.0; expected an integer in 0..281474976710656" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[1e3],\"data_offsets\":[0,8]}}", 8,
      E(4013) "@37: tensor \"a\": shape[0] 1e3; expected an integer in 0..281474976710656" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[02],\"data_offsets\":[0,8]}}", 8,
      E(4013) "@37: tensor \"a\": shape[0] 02; expected an integer in 0..281474976710656" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[281474976710657],\"data_offsets\":[0,8]}}", 8,
      E(4013) "@37: tensor \"a\": shape[0] 281474976710657; expected an integer in 0..281474976710656" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[99999999999999999999],\"data_offsets\":[0,8]}}", 8,
      E(4013) "@37: tensor \"a\": shape[0] 99999999999999999999; expected an integer in 0..281474976710656" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[null],\"data_offsets\":[0,8]}}", 8,
      E(4013) "@37: tensor \"a\": shape[0] null; expected an integer in 0..281474976710656" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[[[[2]]]],\"data_offsets\":[0,8]}}", 8,
      E(4012) "@37: tensor \"a\": '['; expected an integer" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[16777216,16777216],\"data_offsets\":[0,8]}}", 8,
      E(4013) "@9: tensor \"a\": shape 16777216x16777216 F32; expected fewer than 2^48 elements" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296,4294967296],\"data_offsets\":[0,0]}}", 0,
      E(4013) "@9: tensor \"a\": shape 4294967296x4294967296x4294967296 F32; expected fewer than 2^48 elements" },
    { "{\"a\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,2]}}", 2,
      E(4013) "@9: tensor \"a\": shape 3 F4: 12 bits; expected whole bytes" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}", 8,
      E(4013) "@9: tensor \"a\": data_offsets [8,0] reversed; expected begin <= end" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0]    }}", 8,
      E(4012) "@57: tensor \"a\": ']'; expected ',' and the second of two offsets" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8,8]}}", 8,
      E(4012) "@59: tensor \"a\": ','; expected ']' after two offsets" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}", 12,
      E(4013) "@9: tensor \"a\": data_offsets [4,12] leave a hole; expected to begin at 0" },
    { "{\"a\":" T ",\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}", 12,
      E(4013) "@62: tensor \"b\": data_offsets [4,12] overlap another tensor; expected to begin at 8" },
    { "{\"a\":" T ",\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[16,24]}}", 24,
      E(4013) "@62: tensor \"b\": data_offsets [16,24] leave a hole; expected to begin at 8" },
    { "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,18446744073709551608]}}", 8,
      E(4013) "@58: tensor \"a\": data_offsets[1] 18446744073709551608; expected an integer in "
              "0..281474976710656" },
    /* metadata */
    { "{\"__metadata__\":{\"a\":1}}", 0, E(4012) "@29: __metadata__: '1'; expected a string as value" },
    { "{\"__metadata__\":{\"a\":{\"b\":{\"c\":{}}}}}", 0,
      E(4012) "@29: __metadata__: '{'; expected a string as value" },
    { "{\"__metadata__\":[]}", 0, E(4012) "@24: __metadata__: '['; expected '{' and strings" },
    { "{\"__metadata__\":null}", 0, E(4012) "@24: __metadata__: 'n'; expected '{' and strings" },
    { "{\"__metadata__\":{\"a\":\"1\",\"a\":\"2\"}}", 0, E(4014) "@24: __metadata__: key \"a\" appears twice" },
    { "{\"__metadata__\":{},\"__metadata__\":{}}", 0, E(4014) "@27: header: key \"__metadata__\" appears twice" },
};

static void names_every_malformed_header(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_OF(cases); i++) {
        struct image im = image_of(cases[i].header, strlen(cases[i].header), cases[i].data);
        qn_error err = { 0 };
        qn_status status = try_open(im.bytes, im.n, &err);
        assert_string_equal(err.text, cases[i].line ? cases[i].line : "");
        assert_int_equal(status, cases[i].line ? QN_EMODEL : QN_OK);
        free(im.bytes);
    }
}

static void names_bad_frames(void **state)
{
    (void)state;
    qn_error err = { 0 };
    assert_int_equal(try_open("1234567", 7, &err), QN_EMODEL);
    assert_line(&err, E(4011) ": 7 bytes; expected at least 8");
    assert_int_equal(try_open(NULL, 0, &err), QN_EMODEL);
    assert_line(&err, E(4011) ": 0 bytes; expected at least 8");
    assert_int_equal(try_open("\3\0\0\0\0\0\0\0{}", 10, &err), QN_EMODEL);
    assert_line(&err, E(4011) "@0: header length: 3; expected at most 2, the rest of the file");
    assert_int_equal(try_open("\0\0\0\0\0\0\0\2{}", 10, &err), QN_EMODEL);
    assert_line(&err, E(4011) "@0: header length: 144115188075855872 (written big-endian?); expected at most 16777216");
    assert_int_equal(try_open("\1\0\0\1\0\0\0\0{}", 10, &err), QN_EMODEL); /* cap + 1 */
    assert_line(&err, E(4011) "@0: header length: 16777217; expected at most 16777216");
    assert_int_equal(try_open("\0\0\0\1\0\0\0\0{}", 10, &err), QN_EMODEL); /* cap */
    assert_line(&err, E(4011) "@0: header length: 16777216; expected at most 2, the rest of the file");
    qn_safetensors *st;
    qn_safetensors_opts all = { .max_header = SIZE_MAX };
    assert_int_equal(qn_safetensors_open_memory(&st, "\1\341\365\5\0\0\0\0{}", 10, "m", &all, &err), QN_EMODEL);
    assert_line(&err, "error E4011 model: m@0: header length: 100000001; expected at most 100000000");
    assert_int_equal(qn_safetensors_open(&st, workdir_path("absent"), NULL, &err), QN_EIO);
    assert_line(&err, "error E6001 io: ~/absent: open: No such file or directory");
}

/* ---- limits and memory -------------------------------------------------------------------- */

struct meter {
    size_t now, peak;
};
static void *metered(void *user, void *ptr, size_t old_size, size_t new_size)
{
    struct meter *m = user;
    if (ptr) m->now -= old_size;
    m->now += new_size;
    if (m->now > m->peak) m->peak = m->now;
    if (new_size == 0) {
        free(ptr);
        return NULL;
    }
    return realloc(ptr, new_size);
}

/* Appends n entries of the shortest legal form. */
static struct image many_tensors(size_t n)
{
    char *header = malloc(n * 64 + 16);
    size_t at = 0;
    header[at++] = '{';
    for (size_t i = 0; i < n; i++)
        at += (size_t)sprintf(header + at, "%s\"%zx\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}",
                              i ? "," : "", i);
    header[at++] = '}';
    struct image im = image_of(header, at, 0);
    free(header);
    return im;
}

static void limits_have_two_sides(void **state)
{
    (void)state;
    qn_error err = { 0 };
    qn_safetensors *st;
    qn_safetensors_opts big = { .max_header = 100000000 };
    struct image im = many_tensors(1000000);
    assert_int_equal(qn_safetensors_open_memory(&st, im.bytes, im.n, "m", &big, &err), QN_OK);
    assert_int_equal(qn_safetensors_count(st), 1000000);
    qn_safetensors_close(st);
    free(im.bytes);
    im = many_tensors(1000001);
    assert_int_equal(qn_safetensors_open_memory(&st, im.bytes, im.n, "m", &big, &err), QN_EMODEL);
    assert_non_null(strstr(err.text, "more than 1000000 tensors"));
    free(im.bytes);
    char header[1024], name[514];
    for (int n = 512; n <= 513; n++) {
        memset(name, 'n', (size_t)n);
        name[n] = 0;
        snprintf(header, sizeof header, "{\"%s\":" T "}", name);
        im = image_of(header, strlen(header), 8);
        assert_int_equal(try_open(im.bytes, im.n, &err), n == 512 ? QN_OK : QN_EMODEL);
        free(im.bytes);
    }
    assert_line(&err, E(4013) "@9: tensor name of 513 bytes; expected 1..512");
}

static void assert_bounded(struct image im, qn_status expected)
{
    struct meter m = { 0 };
    qn_alloc alloc = { metered, &m };
    qn_safetensors_opts opts = { .alloc = &alloc };
    qn_safetensors *st;
    assert_int_equal(qn_safetensors_open_memory(&st, im.bytes, im.n, "m", &opts, NULL), expected);
    qn_safetensors_close(st);
    assert_int_equal(m.now, 0);
    assert_true(m.peak <= 3 * im.n + 2048);
    free(im.bytes);
}

static void memory_is_bounded_by_the_header(void **state)
{
    (void)state;
    enum { N = 1 << 20 };
    char *text = malloc(N);
    assert_bounded(many_tensors(20000), QN_OK);
    memset(text, '{', N);
    assert_bounded(image_of(text, N, 0), QN_EMODEL);
    memset(text, '[', N);
    text[0] = '{';
    assert_bounded(image_of(text, N, 0), QN_EMODEL);
    size_t at = (size_t)sprintf(text, "{\"__metadata__\":{");
    while (at + 16 < N) at += (size_t)sprintf(text + at, "\"%zx\":\"\",", at);
    assert_bounded(image_of(text, at, 0), QN_EMODEL); /* more than 65,536 entries */
    free(text);
    assert_bounded(image_of("{}", 2, 0), QN_OK);
}

/* A refused allocation, whichever it is, gives E5002 and leaks nothing. */
static void *stingy(void *user, void *ptr, size_t old_size, size_t new_size)
{
    (void)old_size;
    int *left = user;
    if (new_size == 0) {
        free(ptr);
        return NULL;
    }
    return (*left)-- > 0 ? realloc(ptr, new_size) : NULL;
}
static void every_allocation_may_fail(void **state)
{
    (void)state;
    const char *header = "{\"__metadata__\":{\"a\":\"b\"},\"a\":" T "}";
    struct image im = image_of(header, strlen(header), 8);
    put_file(workdir_path("torture"), im.bytes, im.n);
    int fds = open_fds();
    for (int k = 0;; k++) {
        int left = k;
        qn_alloc alloc = { stingy, &left };
        qn_safetensors_opts opts = { .alloc = &alloc };
        qn_safetensors *st;
        qn_error err = { 0 };
        qn_status status = qn_safetensors_open(&st, workdir_path("torture"), &opts, &err);
        qn_safetensors_close(st);
        assert_int_equal(open_fds(), fds);
        if (!status) {
            assert_int_equal(k, 5);
            break;
        }
        assert_int_equal(status, QN_EMEMORY);
        assert_int_equal(err.code, 5002);
    }
    free(im.bytes);
}

/* ---- a small real file -------------------------------------------------------------------- */

static const float weights[6] = { 1, -2, 3.5f, 0, 1e-30f, 7 };
static const int64_t steps[1] = { 1234567890123456789 };
static const uint8_t mask[3] = { 1, 0, 1 };
static const qn_tensor_data sample[] = {
    { "mask", QN_BOOL, 1, { 3 }, mask },
    { "fc.weight", QN_F32, 2, { 2, 3 }, weights },
    { "step", QN_I64, 0, { 0 }, steps },
    { "empty", QN_F32, 2, { 0, 3 }, NULL },
};
static const qn_meta_entry sample_meta[] = { { "note", "two\nlines, \"quotes\", \xc3\xa9" } };

static char *write_sample(const char *name, size_t *n)
{
    qn_error err = { 0 };
    assert_int_equal(qn_safetensors_write(workdir_path(name), sample, N_OF(sample), sample_meta, 1, &err), QN_OK);
    return get_file(workdir_path(name), n);
}

static void round_trip(void **state)
{
    (void)state;
    size_t n;
    char *bytes = write_sample("sample", &n);
    static const char header[] = "{\"__metadata__\":{\"format\":\"pt\",\"note\":\"two\\u000alines, \\\"quotes\\\", "
                                 "\xc3\xa9\"},"
                                 "\"step\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[0,8]},"
                                 "\"empty\":{\"dtype\":\"F32\",\"shape\":[0,3],\"data_offsets\":[8,8]},"
                                 "\"fc.weight\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[8,32]},"
                                 "\"mask\":{\"dtype\":\"BOOL\",\"shape\":[3],\"data_offsets\":[32,35]}}";
    size_t padded = (sizeof header - 1 + 7) / 8 * 8;
    assert_int_equal(n, 8 + padded + 35);
    assert_memory_equal(bytes + 8, header, sizeof header - 1);
    free(bytes);
    qn_safetensors *st;
    qn_error err = { 0 };
    qn_tensor_info t;
    assert_int_equal(qn_safetensors_open(&st, workdir_path("sample"), NULL, &err), QN_OK);
    assert_int_equal(qn_safetensors_count(st), 4);
    assert_false(qn_safetensors_find(st, "fc", NULL));
    assert_true(qn_safetensors_find(st, "fc.weight", &t));
    assert_int_equal(t.count, 6);
    assert_int_equal(t.rank, 2);
    assert_int_equal(t.dim[1], 3);
    float f[6];
    double d[6];
    int64_t step;
    uint8_t m[3];
    assert_int_equal(qn_safetensors_read(st, &t, f, QN_F32, &err), QN_OK);
    assert_memory_equal(f, weights, sizeof f);
    assert_int_equal(qn_safetensors_read(st, &t, d, QN_F64, &err), QN_OK);
    for (int i = 0; i < 6; i++) assert_true(d[i] == (double)weights[i]);
    assert_true(qn_safetensors_find(st, "step", &t));
    assert_int_equal(t.rank, 0);
    assert_int_equal(qn_safetensors_read(st, &t, &step, QN_I64, &err), QN_OK);
    assert_int_equal(step, steps[0]);
    assert_true(qn_safetensors_find(st, "mask", &t));
    assert_int_equal(qn_safetensors_read(st, &t, m, QN_BOOL, &err), QN_OK);
    assert_memory_equal(m, mask, 3);
    assert_true(qn_safetensors_find(st, "empty", &t));
    assert_int_equal(t.count, 0);
    assert_int_equal(qn_safetensors_read(st, &t, NULL, QN_F32, &err), QN_OK);
    assert_int_equal(qn_safetensors_meta_count(st), 2);
    assert_string_equal(qn_safetensors_meta(st, "format"), "pt");
    assert_string_equal(qn_safetensors_meta(st, "note"), sample_meta[0].value);
    assert_null(qn_safetensors_meta(st, "absent"));
    const char *key, *value;
    qn_safetensors_meta_at(st, 1, &key, &value);
    assert_string_equal(key, "note");
    assert_string_equal(value, sample_meta[0].value);
    qn_safetensors_close(st);
}

static void bytes_do_not_depend_on_the_order_given(void **state)
{
    (void)state;
    size_t n, m;
    char *a = write_sample("a", &n);
    qn_tensor_data reversed[N_OF(sample)];
    for (size_t i = 0; i < N_OF(sample); i++) reversed[i] = sample[N_OF(sample) - 1 - i];
    assert_int_equal(qn_safetensors_write(workdir_path("b"), reversed, N_OF(sample), sample_meta, 1, NULL), QN_OK);
    char *b = get_file(workdir_path("b"), &m);
    assert_int_equal(n, m);
    assert_memory_equal(a, b, n);
    free(a);
    free(b);
}

static void writer_refuses_what_no_reader_takes(void **state)
{
    (void)state;
    static const struct {
        qn_tensor_data t;
        const char *line;
    } bad[] = {
        { { "", QN_F32, 0, { 0 }, weights }, "~/w: tensor \"\": name of 0 bytes; expected 1..512" },
        { { NULL, QN_F32, 0, { 0 }, weights }, "~/w: tensor \"\": name of 0 bytes; expected 1..512" },
        { { "a\n", QN_F32, 0, { 0 }, weights },
          "~/w: tensor \"a\\x0A\": control character in the name; expected none" },
        { { "a\xff", QN_F32, 0, { 0 }, weights }, "~/w: tensor \"a\\xFF\": name is not UTF-8" },
        { { "__metadata__", QN_F32, 0, { 0 }, weights },
          "~/w: tensor \"__metadata__\": reserved name; expected another" },
        { { "a", QN_DTYPE_COUNT, 0, { 0 }, weights }, "~/w: tensor \"a\": dtype 9; expected one of Quern's" },
        { { "a", QN_F32, 9, { 0 }, weights }, "~/w: tensor \"a\": rank 9; expected 0..8" },
        { { "a", QN_F32, 1, { -1 }, weights }, "~/w: tensor \"a\": shape too large; expected less than 2^48 bytes" },
        { { "a", QN_F32, 1, { 2 }, NULL }, "~/w: tensor \"a\": no data; expected 8 bytes" },
        { { "b", QN_F32, 0, { 0 }, weights }, "~/w: tensor \"b\" is given twice" },
    };
    for (size_t i = 0; i < N_OF(bad); i++) {
        qn_tensor_data two[2] = { { "b", QN_F32, 0, { 0 }, weights }, bad[i].t };
        qn_error err = { 0 };
        char line[300];
        assert_int_equal(qn_safetensors_write(workdir_path("w"), two, 2, NULL, 0, &err), QN_EMODEL);
        snprintf(line, sizeof line, "error E4018 model: %s", bad[i].line);
        assert_line(&err, line);
        assert_int_not_equal(access(workdir_path("w"), F_OK), 0);
    }
    qn_error err = { 0 };
    qn_meta_entry twice = { "format", "np" };
    assert_int_equal(qn_safetensors_write(workdir_path("w"), sample, 1, &twice, 1, &err), QN_EMODEL);
    assert_line(&err, "error E4018 model: ~/w: metadata key \"format\" is given twice");
}

/* C4: the tensor, the flat index of the first and how many. */
static void refuses_values_that_are_not_finite(void **state)
{
    (void)state;
    enum { N = 20000 };
    static float w[N];
    static double d[3];
    static uint16_t h[4], b[4];
    w[4321] = NAN;
    w[19999] = INFINITY;
    d[2] = -(double)INFINITY;
    h[1] = qn__f16_of_f32(INFINITY);
    b[3] = qn__bf16_of_f32(-NAN);
    const qn_tensor_data t[] = { { "w", QN_F32, 1, { N }, w },
                                 { "d", QN_F64, 1, { 3 }, d },
                                 { "h", QN_F16, 1, { 4 }, h },
                                 { "b", QN_BF16, 2, { 2, 2 }, b },
                                 { "fine", QN_I32, 1, { 4 }, h } };
    static const char *const lines[] = { "value [4321] is nan (2 of 20000 not finite)",
                                         "value [2] is -inf (1 of 3 not finite)",
                                         "value [1] is inf (1 of 4 not finite)",
                                         "value [3] is nan (1 of 4 not finite)" };
    static float out[N];
    put_file(workdir_path("nan"), "", 0);
    assert_int_equal(qn_safetensors_write(workdir_path("nan"), t, 4, NULL, 0, NULL), QN_OK);
    for (int allow = 0; allow < 2; allow++) {
        qn_safetensors *st;
        qn_safetensors_opts opts = { .allow_nonfinite = allow };
        assert_int_equal(qn_safetensors_open(&st, workdir_path("nan"), &opts, NULL), QN_OK);
        for (int i = 0; i < 4; i++) {
            qn_tensor_info info;
            qn_error err = { 0 };
            assert_true(qn_safetensors_find(st, t[i].name, &info));
            qn_status status = qn_safetensors_read(st, &info, out, QN_F32, &err);
            assert_int_equal(status, allow ? QN_OK : QN_EMODEL);
            if (allow) continue;
            char line[256];
            int index = (int[]){ 4321, 2, 1, 3 }[i];
            long long at = info.offset + index * (long long)qn_dtype_size(t[i].dtype);
            snprintf(line, sizeof line, "error E4016 model: ~/nan@%lld: tensor \"%s\": %s; expected finite numbers", at,
                     t[i].name, lines[i]);
            assert_line(&err, line);
        }
        qn_safetensors_close(st);
    }
}

static void types_quern_does_not_have_are_listed_but_not_read(void **state)
{
    (void)state;
    const char *header = "{\"a\":{\"dtype\":\"U16\",\"shape\":[2],\"data_offsets\":[0,4]}}";
    struct image im = image_of(header, strlen(header), 4);
    qn_safetensors *st;
    qn_tensor_info t;
    qn_error err = { 0 };
    float out[2];
    assert_int_equal(qn_safetensors_open_memory(&st, im.bytes, im.n, "m", NULL, &err), QN_OK);
    qn_safetensors_at(st, 0, &t);
    assert_string_equal(t.dtype_name, "U16");
    assert_int_equal(t.dtype, QN_DTYPE_COUNT);
    assert_int_equal(qn_safetensors_read(st, &t, out, QN_F32, &err), QN_EMODEL);
    assert_line(&err, "error E4017 model: m@62: tensor \"a\": dtype U16; expected one of F32 F64 BF16 F16 I64 I32 I8 "
                      "U8 BOOL");
    qn_safetensors_close(st);
    free(im.bytes);
}

/* ---- exhaustive corruption, with a second opinion ----------------------------------------- */

static int64_t bits_of(const char *dtype)
{
    static const char *const names[] = { "F64",         "I64",     "U64",     "C64",     "F32",     "I32",
                                         "U32",         "BF16",    "F16",     "I16",     "U16",     "U8",
                                         "I8",          "BOOL",    "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ",
                                         "F8_E5M2FNUZ", "F6_E2M3", "F6_E3M2", "F4" };
    static const int bits[] = { 64, 64, 64, 64, 32, 32, 32, 16, 16, 16, 16, 8, 8, 8, 8, 8, 8, 8, 8, 6, 6, 4 };
    for (size_t i = 0; i < N_OF(names); i++)
        if (strcmp(names[i], dtype) == 0) return bits[i];
    return -1;
}

/* One entry by the rules, on a jansson tree; adds its range to [begin, end). */
static bool oracle_entry(json_t *e, int64_t range[2])
{
    if (!json_is_object(e) || json_object_size(e) != 3) return false;
    json_t *dtype = json_object_get(e, "dtype"), *shape = json_object_get(e, "shape");
    json_t *offsets = json_object_get(e, "data_offsets");
    if (!json_is_string(dtype) || !json_is_array(shape) || !json_is_array(offsets)) return false;
    if (json_array_size(offsets) != 2 || json_array_size(shape) > QN_MAX_DIMS) return false;
    int64_t bits = bits_of(json_string_value(dtype));
    bool zero = false;
    if (bits < 0) return false;
    for (size_t i = 0; i < json_array_size(shape); i++) {
        json_t *d = json_array_get(shape, i);
        json_int_t v = json_integer_value(d);
        if (!json_is_integer(d) || v < 0 || v >= (json_int_t)1 << 48) return false;
        if (v == 0)
            zero = true;
        else if (__builtin_mul_overflow(bits, v, &bits))
            return false;
    }
    for (size_t i = 0; i < 2; i++) {
        json_t *o = json_array_get(offsets, i);
        range[i] = json_integer_value(o);
        if (!json_is_integer(o) || range[i] < 0 || range[i] > (int64_t)1 << 48) return false;
    }
    return !(bits % 8) && range[1] - range[0] == (zero ? 0 : bits / 8);
}

/* The reference rules, written a second time on top of jansson; for small files. */
static bool oracle(const unsigned char *s, size_t n)
{
    uint64_t h = 0;
    if (n < 8) return false;
    for (int i = 0; i < 8; i++) h |= (uint64_t)s[i] << (8 * i);
    if (h > n - 8 || h < 2 || s[8] != '{') return false;
    json_t *root = json_loadb((const char *)s + 8, h, JSON_REJECT_DUPLICATES, NULL), *value;
    const char *key;
    if (!json_is_object(root)) return false;
    int64_t range[64][2];
    size_t k = 0;
    bool good = true;
    json_object_foreach(root, key, value)
    {
        json_t *v;
        const char *name;
        if (strcmp(key, "__metadata__") == 0) {
            good = good && json_is_object(value);
            json_object_foreach(value, name, v)
                good = good && json_is_string(v) && strlen(json_string_value(v)) == json_string_length(v);
            continue;
        }
        for (const char *c = key; *c; c++) good = good && (unsigned char)*c >= 0x20 && *c != 0x7f;
        good = good && *key && strlen(key) <= 512 && oracle_entry(value, range[k++]);
    }
    json_decref(root);
    /* Contiguity without sorting: walk from the end of one to the begin of the next. */
    int64_t at = 0;
    size_t used = 0, last = SIZE_MAX;
    while (good && used < k && last != used) {
        last = used;
        for (size_t i = 0; i < k; i++) {
            if (range[i][0] != at || range[i][0] < 0) continue;
            at = range[i][1];
            range[i][0] = -1;
            used++;
            if (at != range[i][1]) break;
        }
    }
    return good && used == k && at == (int64_t)(n - 8 - h);
}

/* Compares the two verdicts; on our side also reads every tensor, so a wrong one would trip ASan. */
static bool verdict(const unsigned char *bytes, size_t n)
{
    qn_safetensors *st;
    qn_error err = { 0 }, again = { 0 };
    qn_safetensors_opts opts = { .allow_nonfinite = true };
    qn_status status = qn_safetensors_open_memory(&st, bytes, n, "m", &opts, &err);
    if (status) {
        assert_int_equal(status, QN_EMODEL);
        assert_int_equal(qn_safetensors_open_memory(&st, bytes, n, "m", &opts, &again), status);
        assert_string_equal(err.text, again.text);
        return false;
    }
    for (int64_t i = 0; i < qn_safetensors_count(st); i++) {
        qn_tensor_info t;
        double out[64];
        qn_safetensors_at(st, i, &t);
        if (t.dtype < QN_DTYPE_COUNT && t.count <= 64)
            assert_int_equal(qn_safetensors_read(st, &t, out, QN_F64, &err), QN_OK);
    }
    qn_safetensors_close(st);
    return true;
}

static void every_truncation_and_bit_flip(void **state)
{
    (void)state;
    size_t n, accepted = 0;
    char *text = write_sample("seed", &n);
    unsigned char *seed = (unsigned char *)text;
    assert_true(verdict(seed, n) && oracle(seed, n));
    for (size_t cut = 0; cut < n; cut++) {
        unsigned char *part = malloc(cut ? cut : 1); /* exact size: one byte too far is a finding */
        memcpy(part, seed, cut);
        assert_false(verdict(part, cut));
        free(part);
    }
    for (size_t bit = 0; bit < n * 8; bit++) {
        seed[bit / 8] ^= (unsigned char)(1u << bit % 8);
        bool ours = verdict(seed, n);
        if (ours != oracle(seed, n)) print_error("bit %zu: ours %d, jansson %d\n", bit, ours, !ours);
        assert_true(ours == oracle(seed, n));
        accepted += ours;
        seed[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
    assert_true(accepted >= 35 * 8); /* flips in the data are not ours to see */
    for (size_t i = 0; i < N_OF(cases); i++) {
        struct image im = image_of(cases[i].header, strlen(cases[i].header), cases[i].data);
        if (oracle(im.bytes, im.n) != !cases[i].line) print_error("case %s\n", cases[i].header);
        assert_true(oracle(im.bytes, im.n) == !cases[i].line);
        free(im.bytes);
    }
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_every_malformed_header),
        cmocka_unit_test(names_bad_frames),
        cmocka_unit_test(limits_have_two_sides),
        cmocka_unit_test(memory_is_bounded_by_the_header),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(round_trip),
        cmocka_unit_test(bytes_do_not_depend_on_the_order_given),
        cmocka_unit_test(writer_refuses_what_no_reader_takes),
        cmocka_unit_test(refuses_values_that_are_not_finite),
        cmocka_unit_test(types_quern_does_not_have_are_listed_but_not_read),
        cmocka_unit_test(every_truncation_and_bit_flip),
    };
    return cmocka_run_group_tests(tests, workdir_begin, workdir_end);
}
