/* npy.c - NumPy's .npy files: 93 "NUMPY" MAJOR MINOR, length of the header (2 or 4 bytes,
 * little-endian), a Python dictionary as text, the elements. Only the literals that NumPy itself
 * writes are understood; nothing is evaluated. */
#include "../core/file.h"
#include "data.h"
#include <stdio.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "npy.c copies little-endian elements as they are"
#endif

static const struct {
    const char *descr;
    qn_dtype dtype;
} npy_types[] = {
    { "<f4", QN_F32 }, { "<f2", QN_F16 }, { "<f8", QN_F64 },  { "<i4", QN_I32 },
    { "<i8", QN_I64 }, { "|u1", QN_U8 },  { "|b1", QN_BOOL },
};
enum { N_TYPES = sizeof npy_types / sizeof npy_types[0], NPY_ALIGN = 64, MAX_HEADER = 1 << 16 };

/* The dictionary's text and how far it has been read. */
struct scan {
    const char *at, *end;
    const uint8_t *file;
    const char *name;
    qn_error *err;
    bool fortran; /* the first index runs fastest */
};

static bool in_word(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '-';
}

static qn_status bad(struct scan *s, const char *field, const char *expected)
{
    char found[32] = "end of text";
    int word = 0; /* a number or name as it stands, anything else as a byte */
    while (word < 30 && s->at + word < s->end && in_word(s->at[word])) word++;
    if (word > 0)
        snprintf(found, sizeof found, "%.*s", word, s->at);
    else if (s->at < s->end)
        snprintf(found, sizeof found, "0x%02x", (unsigned char)*s->at);
    return qn__fail(s->err, 3061, QN_AT_BYTE(s->name, (const uint8_t *)s->at - s->file, field), "%s; expected %s",
                    found, expected);
}

static void blanks(struct scan *s)
{
    while (s->at < s->end && (*s->at == ' ' || *s->at == '\n' || *s->at == '\t')) s->at++;
}

static bool take(struct scan *s, char c)
{
    blanks(s);
    if (s->at >= s->end || *s->at != c) return false;
    s->at++;
    return true;
}

static bool take_word(struct scan *s, const char *word)
{
    size_t n = strlen(word);
    blanks(s);
    if ((size_t)(s->end - s->at) < n || memcmp(s->at, word, n) != 0) return false;
    s->at += n;
    return true;
}

/* A quoted string of at most size - 1 plain characters. */
static bool take_string(struct scan *s, char *out, size_t size)
{
    blanks(s);
    if (s->at >= s->end || (*s->at != '\'' && *s->at != '"')) return false;
    char quote = *s->at;
    const char *p = s->at + 1;
    size_t n = 0;
    for (; p < s->end && *p != quote; p++) {
        if (*p < 0x20 || *p > 0x7e || *p == '\\' || n + 1 >= size) return false;
        out[n++] = *p;
    }
    if (p >= s->end) return false;
    out[n] = 0;
    s->at = p + 1;
    return true;
}

static qn_status parse_descr(struct scan *s, qn_array *a)
{
    char descr[32];
    blanks(s);
    int64_t offset = (const uint8_t *)s->at - s->file;
    if (!take_string(s, descr, sizeof descr)) return bad(s, "descr", "a quoted element type");
    for (int i = 0; i < N_TYPES; i++) {
        if (strcmp(descr, npy_types[i].descr) == 0) {
            a->dtype = npy_types[i].dtype;
            return QN_OK;
        }
    }
    return qn__fail(s->err, 3061, QN_AT_BYTE(s->name, offset, "descr"),
                    "'%s'; expected '<f2', '<f4', '<f8', '<i4', '<i8', '|u1' or '|b1'", qn__show(descr).s);
}

static qn_status parse_shape(struct scan *s, qn_array *a)
{
    if (!take(s, '(')) return bad(s, "shape", "'('");
    a->rank = 0;
    while (!take(s, ')')) {
        blanks(s);
        if (a->rank == QN_MAX_DIMS) return bad(s, "shape", "at most 8 dimensions");
        if (s->at >= s->end || *s->at < '0' || *s->at > '9') return bad(s, "shape", "a size or ')'");
        const char *number = s->at;
        int64_t dim = 0, count;
        for (; s->at < s->end && *s->at >= '0' && *s->at <= '9'; s->at++)
            if (dim < (int64_t)1 << 50) dim = dim * 10 + (*s->at - '0');
        a->dim[a->rank++] = dim;
        if (!qn__count(&count, a->dim, a->rank)) {
            s->at = number;
            return bad(s, "shape", "fewer than 2^48 elements in all");
        }
        if (take(s, ',')) continue;
        blanks(s);
        if (s->at >= s->end || *s->at != ')') return bad(s, "shape", "',' or ')'");
    }
    return QN_OK;
}

static qn_status parse_entry(struct scan *s, qn_array *a, unsigned *seen)
{
    char key[32];
    if (!take_string(s, key, sizeof key)) return bad(s, "header", "a quoted key or '}'");
    if (!take(s, ':')) return bad(s, "header", "':'");
    unsigned bit = strcmp(key, "descr") == 0           ? 1
                   : strcmp(key, "fortran_order") == 0 ? 2
                   : strcmp(key, "shape") == 0         ? 4
                                                       : 0;
    if (!bit || (*seen & bit)) return bad(s, key, "each of 'descr', 'fortran_order' and 'shape' once");
    *seen |= bit;
    if (bit == 1) return parse_descr(s, a);
    if (bit == 4) return parse_shape(s, a);
    s->fortran = take_word(s, "True");
    return s->fortran || take_word(s, "False") ? QN_OK : bad(s, "fortran_order", "True or False");
}

static qn_status parse_header(struct scan *s, qn_array *a)
{
    unsigned seen = 0;
    if (!take(s, '{')) return bad(s, "header", "'{'");
    while (!take(s, '}')) {
        QN_TRY(parse_entry(s, a, &seen));
        if (take(s, ',')) continue;
        blanks(s);
        if (s->at >= s->end || *s->at != '}') return bad(s, "header", "',' or '}'");
    }
    if (seen != 7) return bad(s, "header", "the keys 'descr', 'fortran_order' and 'shape'");
    blanks(s);
    return s->at == s->end ? QN_OK : bad(s, "header", "nothing behind '}'");
}

/* Finds the dictionary behind magic and version. */
static qn_status find_header(struct scan *s, const uint8_t *b, size_t n, const char *name, qn_error *err)
{
    if (n < 10 || memcmp(b, "\x93NUMPY", 6) != 0)
        return qn__fail(err, 3061, QN_AT_BYTE(name, 0, "magic"), "not an npy file; expected 93 \"NUMPY\"");
    if ((b[6] != 1 && b[6] != 2) || b[7] != 0)
        return qn__fail(err, 3061, QN_AT_BYTE(name, 6, "version"), "%d.%d; expected 1.0 or 2.0", b[6], b[7]);
    size_t start = b[6] == 1 ? 10 : 12;
    if (n < start)
        return qn__fail(err, 3061, QN_AT_BYTE(name, 8, "header length"), "file has %zu bytes; expected more", n);
    size_t length = (size_t)b[8] | (size_t)b[9] << 8;
    if (b[6] == 2) length |= (size_t)b[10] << 16 | (size_t)b[11] << 24;
    if (length > n - start || length > MAX_HEADER)
        return qn__fail(err, 3061, QN_AT_BYTE(name, 8, "header length"), "%zu; expected at most %zu", length,
                        n - start < MAX_HEADER ? n - start : (size_t)MAX_HEADER);
    const char *text = (const char *)b + start;
    *s = (struct scan){ .at = text, .end = text + length, .file = b, .name = name, .err = err };
    return QN_OK;
}

/* The bytes of a bool are only ever 0 and 1, so that nothing later branches on a third value. */
static qn_status check_bools(const uint8_t *file, int64_t at, size_t n, const char *name, qn_error *err)
{
    const uint8_t *p = file + at;
    for (size_t i = 0; i < n; i++)
        if (p[i] > 1)
            return qn__fail(err, 3062, QN_AT_BYTE(name, at + (int64_t)i, "element"), "%d; expected 0 or 1", p[i]);
    return QN_OK;
}

/* Elements of `size` bytes from Fortran to C order. A few rows of the first axis at a time: what is read of them lies
 * side by side, and each is written from its beginning to its end. */
static void to_c_order(const qn_array *a, const uint8_t *from, size_t size)
{
    enum { ROWS = 16 };
    int64_t rows = a->dim[0], row = 1, stride[QN_MAX_DIMS];
    for (int i = 1; i < a->rank; i++) {
        stride[i] = i == 1 ? rows : stride[i - 1] * a->dim[i - 1];
        row *= a->dim[i];
    }
    for (int64_t first = 0; first < rows; first += ROWS) {
        int64_t index[QN_MAX_DIMS] = { 0 }, at = first, n = rows - first < ROWS ? rows - first : ROWS;
        for (int64_t k = 0; k < row; k++) {
            uint8_t *to = (uint8_t *)a->data + (size_t)(first * row + k) * size;
            for (int64_t i = 0; i < n; i++) memcpy(to + (size_t)(i * row) * size, from + (size_t)(at + i) * size, size);
            for (int d = a->rank - 1; d > 0; d--) { /* the next index, the last axis fastest */
                at += stride[d];
                if (++index[d] < a->dim[d]) break;
                at -= stride[d] * a->dim[d];
                index[d] = 0;
            }
        }
    }
}

static qn_status parse(qn_array *out, int64_t *at, const uint8_t *b, size_t n, const char *name, qn_error *err)
{
    struct scan s = { 0 };
    QN_TRY(find_header(&s, b, n, name, err));
    QN_TRY(parse_header(&s, out));
    int64_t count;
    *at = (const uint8_t *)s.end - b;
    if (!qn__count(&count, out->dim, out->rank)) return bad(&s, "shape", "fewer than 2^48 elements");
    size_t has = n - (size_t)*at, need = (size_t)count * qn_dtype_size(out->dtype);
    if (has != need)
        return qn__fail(err, 3062, QN_AT_BYTE(name, *at, "elements"),
                        "%zu bytes; expected %zu (%lld elements of %zu bytes)", has, need, (long long)count,
                        qn_dtype_size(out->dtype));
    if (out->dtype == QN_BOOL) QN_TRY(check_bools(b, *at, need, name, err));
    QN_TRY(qn__array_alloc(out, "npy array", err));
    if (need && s.fortran && out->rank > 1)
        to_c_order(out, b + *at, qn_dtype_size(out->dtype));
    else if (need)
        memcpy(out->data, b + *at, need);
    return QN_OK;
}

qn_status qn__npy_parse(qn_array *out, int64_t *at, const uint8_t *bytes, size_t n, const char *name, qn_error *err)
{
    int64_t first;
    *out = (qn_array){ 0 };
    qn_status status = parse(out, at ? at : &first, bytes, n, name, err);
    if (status) qn_array_free(out);
    return status;
}

qn_status qn__npy_shape(qn_array *out, const uint8_t *bytes, size_t n, const char *name, qn_error *err)
{
    struct scan s = { 0 };
    *out = (qn_array){ 0 };
    QN_TRY(find_header(&s, bytes, n, name, err));
    return parse_header(&s, out);
}

qn_status qn_npy_read(qn_array *out, const char *path, qn_error *err)
{
    char *bytes;
    size_t n;
    *out = (qn_array){ 0 };
    QN_TRY(qn__file_read_all(NULL, path, QN_DATA_FILE_MAX, &bytes, &n, err));
    qn_status status = qn__npy_parse(out, NULL, (const uint8_t *)bytes, n, path, err);
    qn__free(NULL, bytes, n + 1);
    return status;
}

/* ---- writing ------------------------------------------------------------------------------ */

/* Version 1.0; the elements start at a multiple of 64, as NEP 1 asks. Returns the length. */
static size_t make_header(char *out, size_t size, const qn_array *a, const char *descr)
{
    int n = snprintf(out, size, "\x93NUMPY%c%c__{'descr': '%s', 'fortran_order': False, 'shape': (", 1, 1, descr);
    out[7] = 0; /* the minor version; a NUL would have ended snprintf's view of the text */
    for (int i = 0; i < a->rank; i++)
        n += snprintf(out + n, size - (size_t)n, i ? ", %lld" : "%lld", (long long)a->dim[i]);
    n += snprintf(out + n, size - (size_t)n, a->rank == 1 ? ",), }" : "), }");
    size_t total = ((size_t)n + NPY_ALIGN) / NPY_ALIGN * NPY_ALIGN; /* room for the newline */
    memset(out + n, ' ', total - (size_t)n);
    out[total - 1] = '\n';
    out[8] = (char)((total - 10) & 0xff);
    out[9] = (char)((total - 10) >> 8);
    return total;
}

qn_status qn_npy_write(const char *path, const qn_array *array, qn_error *err)
{
    enum { ROOM = 512 };
    char header[ROOM];
    const char *descr = NULL;
    int64_t count;
    for (int i = 0; i < N_TYPES; i++)
        if (npy_types[i].dtype == array->dtype) descr = npy_types[i].descr;
    if (!descr)
        return qn__fail(err, 3061, QN_AT_FILE(path), "element type %s; expected F16, F32, F64, I32, I64, U8 or BOOL",
                        qn_dtype_name(array->dtype));
    if (array->rank < 0 || array->rank > QN_MAX_DIMS || !qn__count(&count, array->dim, array->rank))
        return qn__fail(err, 3061, QN_AT_FILE(path), "rank %d; expected 0..8 and fewer than 2^48 elements",
                        array->rank);
    size_t length = make_header(header, sizeof header, array, descr);
    size_t bytes = (size_t)count * qn_dtype_size(array->dtype);
    struct qn__file_out f;
    QN_TRY(qn__file_create(&f, path, (int64_t)(length + bytes), err));
    qn_status status = qn__file_write(&f, header, length, err);
    if (!status && bytes) status = qn__file_write(&f, array->data, bytes, err);
    if (!status) return qn__file_commit(&f, err);
    qn__file_discard(&f);
    return status;
}
