/* idx.c - IDX files, plain and gzip: 00 00 TYPE RANK, RANK big-endian 32-bit sizes, the elements. */
#include "../core/file.h"
#include "data.h"
#include <string.h>

void qn_array_free(qn_array *array)
{
    if (!array) return;
    qn__free(NULL, array->data, array->bytes);
    *array = (qn_array){ 0 };
}

qn_status qn__array_alloc(qn_array *out, const char *what, qn_error *err)
{
    int64_t count;
    if (!qn__count(&count, out->dim, out->rank) || !qn__mul(&out->bytes, (size_t)count, qn_dtype_size(out->dtype)))
        return qn__nomem(err, what, SIZE_MAX);
    out->data = qn__calloc(NULL, out->bytes, 1);
    return out->data ? QN_OK : qn__nomem(err, what, out->bytes);
}

static const struct idx_type {
    int code, size;
    qn_dtype dtype;
} idx_types[] = {
    { 0x08, 1, QN_U8 },  { 0x09, 1, QN_I32 }, { 0x0B, 2, QN_I32 },
    { 0x0C, 4, QN_I32 }, { 0x0D, 4, QN_F32 }, { 0x0E, 8, QN_F64 },
};

struct header {
    const struct idx_type *type;
    int rank;
    int64_t dim[4], count;
};

/* The four bytes before the sizes. */
static qn_status parse_magic(struct header *h, const uint8_t *b, const char *name, qn_error *err)
{
    if (b[0] || b[1]) return qn__fail(err, 3021, QN_AT_BYTE(name, 0, "magic"), "%02x %02x; expected 00 00", b[0], b[1]);
    for (size_t i = 0; i < sizeof idx_types / sizeof idx_types[0]; i++)
        if (idx_types[i].code == b[2]) h->type = &idx_types[i];
    if (!h->type)
        return qn__fail(err, 3021, QN_AT_BYTE(name, 2, "type code"),
                        "0x%02x; expected 0x08, 0x09, 0x0b, 0x0c, 0x0d or 0x0e", b[2]);
    if (b[3] < 1 || b[3] > 4) return qn__fail(err, 3021, QN_AT_BYTE(name, 3, "rank"), "%d; expected 1..4", b[3]);
    h->rank = b[3];
    return QN_OK;
}

static qn_status parse_dims(struct header *h, const uint8_t *b, const char *name, qn_error *err)
{
    for (int i = 0; i < h->rank; i++) {
        char field[16] = "dim[0]";
        field[4] = (char)('0' + i);
        h->dim[i] = (int64_t)qn__big32(b + 4 * i);
        if (!qn__count(&h->count, h->dim, i + 1))
            return qn__fail(err, 3021, QN_AT_BYTE(name, 4 + 4 * i, field),
                            "%lld; expected fewer than 2^48 elements in all", (long long)h->dim[i]);
    }
    return QN_OK;
}

static qn_status wrong_size(const struct header *h, const char *name, unsigned long long has, const char *how,
                            qn_error *err)
{
    unsigned long long need = (unsigned long long)h->count * (unsigned)h->type->size;
    return qn__fail(err, 3021, QN_AT_BYTE(name, 4, "dim[0]"), "%lld (%llu bytes needed); file has %s%llu",
                    (long long)h->dim[0], need + (unsigned)QN_IDX_HEADER(h->rank), how, has);
}

/* Big-endian elements of the file, already at the start or end of the array's memory, to host
 * order. */
static void to_host(qn_array *a, const struct header *h, const uint8_t *src)
{
    size_t n = (size_t)h->count;
    if (h->type->code == 0x08) {
        if (src != a->data) memcpy(a->data, src, n);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        const uint8_t *p = src + i * (size_t)h->type->size;
        if (h->type->size == 8) {
            uint64_t v = (uint64_t)qn__big32(p) << 32 | qn__big32(p + 4);
            memcpy((char *)a->data + 8 * i, &v, 8);
            continue;
        }
        uint32_t v = h->type->size == 4   ? qn__big32(p)
                     : h->type->size == 2 ? (uint32_t)(int32_t)(int16_t)(p[0] << 8 | p[1])
                                          : (uint32_t)(int32_t)(int8_t)p[0];
        memcpy((char *)a->data + 4 * i, &v, 4);
    }
}

static qn_status make_array(qn_array *out, const struct header *h, qn_error *err)
{
    *out = (qn_array){ .dtype = h->type->dtype, .rank = h->rank };
    memcpy(out->dim, h->dim, sizeof h->dim);
    return qn__array_alloc(out, "IDX array", err);
}

static qn_status plain_header(struct header *h, const uint8_t *b, size_t n, const char *name, qn_error *err)
{
    if (n < 4) return qn__fail(err, 3021, QN_AT_BYTE(name, 0, "magic"), "file has %zu bytes; expected at least 4", n);
    QN_TRY(parse_magic(h, b, name, err));
    size_t head = (size_t)QN_IDX_HEADER(h->rank);
    if (n < head)
        return qn__fail(err, 3021, QN_AT_BYTE(name, 4, "dim"), "file has %zu bytes; expected a header of %zu", n, head);
    return parse_dims(h, b + 4, name, err);
}

static qn_status parse_plain(qn_array *out, struct header *h, const uint8_t *b, size_t n, const char *name,
                             qn_error *err)
{
    QN_TRY(plain_header(h, b, n, name, err));
    size_t head = (size_t)QN_IDX_HEADER(h->rank);
    if (n - head != (size_t)h->count * (size_t)h->type->size) return wrong_size(h, name, n, "", err);
    QN_TRY(make_array(out, h, err));
    to_host(out, h, b + head);
    return QN_OK;
}

static qn_status gzip_header(struct header *h, struct qn__gzip *g, const char *name, qn_error *err)
{
    uint8_t b[20];
    size_t got;
    QN_TRY(qn__gzip_read(g, b, 4, &got, err));
    if (got < 4)
        return qn__fail(err, 3021, QN_AT_BYTE(name, 0, "magic"), "%zu inflated bytes; expected at least 4", got);
    QN_TRY(parse_magic(h, b, name, err));
    size_t dims = (size_t)QN_IDX_HEADER(h->rank) - 4;
    QN_TRY(qn__gzip_read(g, b + 4, dims, &got, err));
    if (got < dims)
        return qn__fail(err, 3021, QN_AT_BYTE(name, 4, "dim"), "%zu inflated bytes; expected a header of %zu", got + 4,
                        dims + 4);
    return parse_dims(h, b + 4, name, err);
}

/* The elements of the file: exactly as many as the header says, then the end. */
static qn_status gzip_elements(qn_array *out, const struct header *h, struct qn__gzip *g, const char *name,
                               uint8_t *file, qn_error *err)
{
    size_t got, need = (size_t)h->count * (size_t)h->type->size, more;
    uint8_t probe;
    QN_TRY(qn__gzip_read(g, file, need, &got, err));
    if (got < need) return wrong_size(h, name, got + (size_t)QN_IDX_HEADER(h->rank), "(inflated) ", err);
    QN_TRY(qn__gzip_read(g, &probe, 1, &more, err));
    if (more) return wrong_size(h, name, need + 1 + (size_t)QN_IDX_HEADER(h->rank), "(inflated) at least ", err);
    to_host(out, h, file);
    return QN_OK;
}

static qn_status parse_gzip(qn_array *out, struct header *h, struct qn__gzip *g, size_t n, const char *name,
                            qn_error *err)
{
    enum { MAX_RATIO = 1032 /* deflate cannot do better: 258 bytes from 2 bits */ };
    QN_TRY(gzip_header(h, g, name, err));
    size_t need = (size_t)h->count * (size_t)h->type->size;
    if (need / MAX_RATIO > n) return wrong_size(h, name, (size_t)n * MAX_RATIO, "(inflated) at most ", err);
    QN_TRY(make_array(out, h, err));
    uint8_t *file = out->data;
    bool widened = need != out->bytes; /* i8 and i16 grow to i32 */
    if (widened && !(file = qn__calloc(NULL, need, 1))) return qn__nomem(err, "IDX array", need);
    qn_status status = gzip_elements(out, h, g, name, file, err);
    if (widened) qn__free(NULL, file, need);
    return status;
}

qn_status qn__idx_parse(qn_array *out, int *element, const uint8_t *bytes, size_t n, const char *name, qn_error *err)
{
    struct header h = { 0 };
    qn_status status;
    *out = (qn_array){ 0 };
    if (qn__gzip_is(bytes, n)) {
        struct qn__gzip *g;
        QN_TRY(qn__gzip_open(&g, bytes, n, name, err));
        status = parse_gzip(out, &h, g, n, name, err);
        qn__gzip_close(g);
    } else {
        status = parse_plain(out, &h, bytes, n, name, err);
    }
    if (status)
        qn_array_free(out);
    else if (element)
        *element = h.type->size;
    return status;
}

qn_status qn__idx_shape(qn_array *out, const uint8_t *bytes, size_t n, const char *name, qn_error *err)
{
    struct header h = { 0 };
    struct qn__gzip *g;
    *out = (qn_array){ 0 };
    if (qn__gzip_is(bytes, n)) {
        QN_TRY(qn__gzip_open(&g, bytes, n, name, err));
        qn_status status = gzip_header(&h, g, name, err);
        qn__gzip_close(g);
        if (status) return status;
    } else {
        QN_TRY(plain_header(&h, bytes, n, name, err));
    }
    *out = (qn_array){ .dtype = h.type->dtype, .rank = h.rank };
    memcpy(out->dim, h.dim, sizeof h.dim);
    return QN_OK;
}

qn_status qn_idx_read(qn_array *out, const char *path, qn_error *err)
{
    char *bytes;
    size_t n;
    *out = (qn_array){ 0 };
    QN_TRY(qn__file_read_all(NULL, path, QN_DATA_FILE_MAX, &bytes, &n, err));
    qn_status status = qn__idx_parse(out, NULL, (const uint8_t *)bytes, n, path, err);
    qn__free(NULL, bytes, n + 1);
    return status;
}
