/* test_npy.c - .npy files: what NumPy writes, what we write, and what is refused. */
#include "aid.h"

/* A file of version 1.0 whose header is exactly `dict`, with n bytes behind it. */
static size_t make(uint8_t *b, int version, const char *dict, const void *data, size_t n)
{
    size_t length = strlen(dict), at = version == 1 ? 10 : 12;
    memcpy(b, "\x93NUMPY", 6);
    b[6] = (uint8_t)version;
    b[7] = 0;
    b[8] = (uint8_t)length;
    b[9] = (uint8_t)(length >> 8);
    b[10] = b[11] = 0;
    memcpy(b + at, dict, length);
    if (n) memcpy(b + at + length, data, n);
    return at + length + n;
}

static qn_status parse(const uint8_t *b, size_t n, qn_error *err)
{
    qn_array a;
    qn_status status = qn__npy_parse(&a, NULL, b, n, "f.npy", err);
    qn_array_free(&a);
    return status;
}

static void expect(const char *dict, size_t n, const char *line)
{
    uint8_t b[512];
    qn_error err = { 0 };
    assert_int_equal(parse(b, make(b, 1, dict, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", n), &err), QN_EDATA);
    aid_error(&err, line);
}

static void reads_both_versions(void **state)
{
    (void)state;
    uint8_t b[256];
    qn_array a;
    int64_t at;
    const int32_t v[2] = { -5, 1 << 30 };
    size_t n = make(b, 1, "{'descr': '<i4', 'fortran_order': False, 'shape': (2,), }   \n", v, 8);
    assert_int_equal(qn__npy_parse(&a, &at, b, n, "f", NULL), QN_OK);
    assert_int_equal(a.dtype, QN_I32);
    assert_int_equal(a.rank, 1);
    assert_memory_equal(a.data, v, 8);
    assert_int_equal((size_t)at + 8, n);
    qn_array_free(&a);
    n = make(b, 2, "{\"shape\": (1, 2, 1), 'fortran_order': False, 'descr': '<i4'}", v, 8);
    assert_int_equal(qn__npy_parse(&a, NULL, b, n, "f", NULL), QN_OK);
    assert_int_equal(a.rank, 3);
    assert_int_equal(a.dim[1], 2);
    qn_array_free(&a);
    n = make(b, 1, "{'descr': '<f8', 'fortran_order': False, 'shape': (), }", "\0\0\0\0\0\0\xf0\x3f", 8);
    assert_int_equal(qn__npy_parse(&a, NULL, b, n, "f", NULL), QN_OK);
    assert_int_equal(a.rank, 0);
    assert_true(*(double *)a.data == 1.0);
    qn_array_free(&a);
}

static void names_header_faults(void **state)
{
    (void)state;
    expect("{'descr': '>f4', 'fortran_order': False, 'shape': (1,), }", 4,
           "error E3061 data: f.npy@20: descr: '>f4'; expected '<f2', '<f4', '<f8', '<i4', '<i8', '|u1' or '|b1'");
    expect("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", 8,
           "error E3061 data: f.npy@20: descr: '|O'; expected '<f2', '<f4', '<f8', '<i4', '<i8', '|u1' or '|b1'");
    expect("{'descr': '<f4', 'fortran_order': Maybe, 'shape': (1,), }", 4,
           "error E3061 data: f.npy@44: fortran_order: Maybe; expected True or False");
    expect("{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296), }", 4,
           "error E3061 data: f.npy@73: shape: 4294967296; expected fewer than 2^48 elements in all");
    expect("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }", 4,
           "error E3061 data: f.npy@61: shape: -1; expected a size or ')'");
    expect("{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1), }", 4,
           "error E3061 data: f.npy@77: shape: 1; expected at most 8 dimensions");
    expect("{'descr': '<f4', 'shape': (1,), }", 4,
           "error E3061 data: f.npy@43: header: end of text; expected the keys 'descr', 'fortran_order' and 'shape'");
    expect("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (1,), }", 4,
           "error E3061 data: f.npy@35: descr: 0x20; expected each of 'descr', 'fortran_order' and 'shape' once");
    expect("__import__('os')", 0, "error E3061 data: f.npy@10: header: __import__; expected '{'");
    expect("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), } x", 4,
           "error E3061 data: f.npy@68: header: x; expected nothing behind '}'");
    qn_error err = { 0 };
    assert_int_equal(parse((const uint8_t *)"\x93NUMPY\3\0\0\0\0\0", 12, &err), QN_EDATA);
    aid_error(&err, "error E3061 data: f.npy@6: version: 3.0; expected 1.0 or 2.0");
    assert_int_equal(parse((const uint8_t *)"PK\3\4", 4, &err), QN_EDATA);
    aid_error(&err, "error E3061 data: f.npy@0: magic: not an npy file; expected 93 \"NUMPY\"");
    assert_int_equal(parse((const uint8_t *)"\x93NUMPY\1\0\xff\xff", 10, &err), QN_EDATA);
    aid_error(&err, "error E3061 data: f.npy@8: header length: 65535; expected at most 0");
}

static void names_sizes(void **state)
{
    (void)state;
    expect("{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }", 8,
           "error E3062 data: f.npy@67: elements: 8 bytes; expected 12 (3 elements of 4 bytes)");
    expect("{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }", 8,
           "error E3062 data: f.npy@67: elements: 8 bytes; expected 4 (1 elements of 4 bytes)");
    uint8_t b[128];
    qn_error err = { 0 };
    size_t n = make(b, 1, "{'descr': '|b1', 'fortran_order': False, 'shape': (3,), }", "\0\1\2", 3);
    assert_int_equal(parse(b, n, &err), QN_EDATA);
    aid_error(&err, "error E3062 data: f.npy@69: element: 2; expected 0 or 1");
}

static void writes_what_it_reads(void **state)
{
    (void)state;
    float v[6] = { 0, -1.5f, 2, 3, 4, 1e-30f };
    const qn_dtype types[] = { QN_F16, QN_F32, QN_F64, QN_I32, QN_I64, QN_U8, QN_BOOL };
    for (int rank = 0; rank <= 3; rank++) {
        for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
            uint8_t bytes[48] = { 0 };
            qn_array a = { .dtype = types[i], .rank = rank, .dim = { rank == 1 ? 6 : 2, 3, 1 }, .data = bytes }, b;
            size_t count = rank == 0 ? 1 : 6;
            if (rank == 0) a.dim[0] = 0;
            qn_error err = { 0 };
            qn_convert(bytes, types[i], v, QN_F32, count);
            if (types[i] == QN_F32) memcpy(bytes, v, 4 * count);
            assert_int_equal(qn_npy_write(workdir_path("a.npy"), &a, &err), QN_OK);
            assert_int_equal(qn_npy_read(&b, workdir_path("a.npy"), &err), QN_OK);
            assert_int_equal(b.dtype, types[i]);
            assert_int_equal(b.rank, rank);
            assert_int_equal(b.bytes, count * qn_dtype_size(types[i]));
            assert_memory_equal(b.data, bytes, b.bytes);
            qn_array_free(&b);
        }
    }
    /* The elements begin at a multiple of 64, as the format asks. */
    struct stat st;
    assert_int_equal(stat(workdir_path("a.npy"), &st), 0);
    assert_int_equal((st.st_size - 6) % 64, 0);
}

/* Where the k-th element of C order lies in Fortran order: the indices from the last, the offset from the first. */
static size_t fortran_place(const int64_t *dim, int rank, size_t k)
{
    size_t index[QN_MAX_DIMS], place = 0;
    for (int i = rank - 1; i >= 0; i--) {
        index[i] = k % (size_t)dim[i];
        k /= (size_t)dim[i];
    }
    for (int i = rank - 1; i >= 0; i--) place = place * (size_t)dim[i] + index[i];
    return place;
}

enum { FORTRAN_MOST = 512 }; /* elements */

static void read_fortran(const char *descr, qn_dtype dtype, const int64_t *dim, int rank)
{
    static uint8_t file[8 * FORTRAN_MOST + 256], in_c[8 * FORTRAN_MOST], in_fortran[8 * FORTRAN_MOST];
    size_t size = qn_dtype_size(dtype), count = 1, used = 0;
    char shape[100] = "", dict[200];
    for (int i = 0; i < rank; i++) {
        count *= (size_t)dim[i];
        used += (size_t)snprintf(shape + used, sizeof shape - used, "%lld, ", (long long)dim[i]);
    }
    assert_true(count <= FORTRAN_MOST);
    for (size_t k = 0; k < count; k++) {
        uint8_t *element = in_c + k * size;
        for (size_t i = 0; i < size; i++)
            element[i] = (uint8_t)(dtype == QN_BOOL ? k * k / 3 % 2 : i == 0 ? k : i == 1 ? k >> 8 : i * 37);
        memcpy(in_fortran + fortran_place(dim, rank, k) * size, element, size);
    }
    snprintf(dict, sizeof dict, "{'descr': '%s', 'fortran_order': True, 'shape': (%s), }", descr, shape);
    size_t n = make(file, 1, dict, in_fortran, count * size);
    qn_array a;
    qn_error err = { 0 };
    if (qn__npy_parse(&a, NULL, file, n, "f.npy", &err)) fail_msg("%s", err.text);
    assert_int_equal(a.dtype, dtype);
    assert_int_equal(a.rank, rank);
    for (int i = 0; i < rank; i++) assert_int_equal(a.dim[i], dim[i]);
    assert_int_equal(a.bytes, count * size);
    if (count) assert_memory_equal(a.data, in_c, a.bytes);
    qn_array_free(&a);
    if (count == 0) return;
    char line[200];
    snprintf(line, sizeof line,
             "error E3062 data: f.npy@%zu: elements: %zu bytes; expected %zu (%zu elements of %zu bytes)",
             10 + strlen(dict), count * size - 1, count * size, count, size);
    assert_int_equal(parse(file, n - 1, &err), QN_EDATA);
    aid_error(&err, line);
}

static void reads_fortran_order(void **state)
{
    (void)state;
    static const struct {
        int rank;
        int64_t dim[QN_MAX_DIMS];
    } shapes[] = {
        { 1, { 7 } },
        { 2, { 3, 5 } },
        { 2, { 16, 2 } },
        { 2, { 1, 9 } },
        { 2, { 37, 11 } },
        { 3, { 17, 1, 4 } },
        { 4, { 2, 3, 4, 5 } },
        { 4, { 33, 2, 1, 3 } },
        { 3, { 4, 0, 2 } },
        { 0, { 0 } },
        { 8, { 2, 1, 3, 2, 1, 2, 2, 2 } },
    };
    static const struct {
        const char *descr;
        qn_dtype dtype;
    } types[] = { { "<f2", QN_F16 }, { "<f4", QN_F32 }, { "<f8", QN_F64 }, { "<i4", QN_I32 },
                  { "<i8", QN_I64 }, { "|u1", QN_U8 },  { "|b1", QN_BOOL } };
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++)
        for (size_t t = 0; t < sizeof types / sizeof types[0]; t++)
            read_fortran(types[t].descr, types[t].dtype, shapes[s].dim, shapes[s].rank);
    /* What is wrong is told where it stands in the file. */
    uint8_t b[128];
    qn_error err = { 0 };
    size_t n = make(b, 1, "{'descr': '|b1', 'fortran_order': True, 'shape': (2, 2), }", "\0\1\2\0", 4);
    assert_int_equal(parse(b, n, &err), QN_EDATA);
    aid_error(&err, "error E3062 data: f.npy@70: element: 2; expected 0 or 1");
}

static void survives_damage(void **state)
{
    (void)state;
    static const char *const dict[] = { "{'descr': '<i8', 'fortran_order': False, 'shape': (1, 2), }\n",
                                        "{'descr': '<i4', 'fortran_order': True, 'shape': (2, 2), }\n" };
    for (int i = 0; i < 2; i++) {
        uint8_t b[256];
        size_t accepted, n = make(b, 1, dict[i], "\1\2\3\4\5\6\7\10\1\2\3\4\5\6\7\10", 16);
        aid_damage(parse, b, n, &accepted);
        assert_true(accepted >= 16 * 8); /* every bit of the elements */
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_both_versions), cmocka_unit_test(names_header_faults),
        cmocka_unit_test(names_sizes),         cmocka_unit_test(writes_what_it_reads),
        cmocka_unit_test(reads_fortran_order), cmocka_unit_test(survives_damage),
    };
    return cmocka_run_group_tests(tests, workdir_begin, workdir_end);
}
