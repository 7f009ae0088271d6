/* safetensors.c - the reader: see include/quern/safetensors.h.
 *
 * The header is JSON of one fixed shape, so it is read by a scanner for that shape instead of a general
 * parser: a tree of a hostile header would take fourteen times its bytes, and could not say at which
 * byte an entry is wrong. Strings are decoded in place (they never grow), entries become 32-byte
 * records, dimensions stay text until somebody asks. The tests compare its verdicts with jansson's. */
#include "safetensors.h"
#include "file.h"
#include "utf8.h"
#include "../include/quern/safetensors.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    DEFAULT_HEADER = 16 << 20,
    LARGEST_HEADER = 100000000, /* the reference implementation's cap */
    MAX_TENSORS = 1000000,
    MAX_META = 65536,
    SHORTEST_PAIR = 5,  /* "":"" */
    SHORTEST_ENTRY = 50 /* "a":{"dtype":"U8","shape":[],"data_offsets":[0,0]} */
};
#define MAX_INTEGER ((int64_t)1 << 48)

/* name and shape are positions in the header. */
struct record {
    int64_t begin, end; /* from the start of the data section */
    uint32_t name, shape;
    uint8_t dtype, rank;
};

struct qn_safetensors {
    const qn_alloc *alloc;
    struct qn__file file; /* fd -1: in memory */
    const unsigned char *memory;
    int64_t size;
    char *header; /* header_bytes + a NUL; strings decoded and NUL-terminated */
    size_t header_bytes;
    struct record *tensor; /* by offset */
    uint32_t *by_name;     /* indices into tensor */
    size_t count, capacity;
    uint32_t meta, meta_count; /* key NUL value NUL ..., packed from here on */
    bool allow_nonfinite;
    char path[256];
};

static const struct {
    const char *name;
    qn_dtype dtype;
    uint8_t bits;
} dtypes[] = {
    { "F64", QN_F64, 64 },
    { "F32", QN_F32, 32 },
    { "BF16", QN_BF16, 16 },
    { "F16", QN_F16, 16 },
    { "I64", QN_I64, 64 },
    { "I32", QN_I32, 32 },
    { "I8", QN_I8, 8 },
    { "U8", QN_U8, 8 },
    { "BOOL", QN_BOOL, 8 },
    { "U64", QN_DTYPE_COUNT, 64 },
    { "C64", QN_DTYPE_COUNT, 64 },
    { "U32", QN_DTYPE_COUNT, 32 },
    { "U16", QN_DTYPE_COUNT, 16 },
    { "I16", QN_DTYPE_COUNT, 16 },
    { "F8_E4M3", QN_DTYPE_COUNT, 8 },
    { "F8_E5M2", QN_DTYPE_COUNT, 8 },
    { "F8_E8M0", QN_DTYPE_COUNT, 8 },
    { "F8_E4M3FNUZ", QN_DTYPE_COUNT, 8 },
    { "F8_E5M2FNUZ", QN_DTYPE_COUNT, 8 },
    { "F6_E2M3", QN_DTYPE_COUNT, 6 },
    { "F6_E3M2", QN_DTYPE_COUNT, 6 },
    { "F4", QN_DTYPE_COUNT, 4 },
};
enum { N_DTYPES = sizeof dtypes / sizeof dtypes[0] };

/* ---- scanner ------------------------------------------------------------------------------ */

struct scan {
    unsigned char *s; /* n bytes and a NUL */
    size_t n, at;
    const char *path;
    char field[600]; /* what is being read, for messages */
    qn_error *err;
};
#define WHERE(sc, pos) QN_AT_BYTE((sc)->path, 8 + (int64_t)(pos), (sc)->field)

static void skip_space(struct scan *sc)
{
    while (sc->at < sc->n && strchr(" \t\r\n", sc->s[sc->at]) && sc->s[sc->at]) sc->at++;
}

static qn_status unexpected(struct scan *sc, const char *expected)
{
    if (sc->at >= sc->n) return qn__fail(sc->err, 4012, WHERE(sc, sc->at), "the header ends; expected %s", expected);
    unsigned char c = sc->s[sc->at];
    if (c > 0x20 && c < 0x7f) return qn__fail(sc->err, 4012, WHERE(sc, sc->at), "'%c'; expected %s", c, expected);
    return qn__fail(sc->err, 4012, WHERE(sc, sc->at), "byte 0x%02X; expected %s", c, expected);
}

static bool accept(struct scan *sc, char c)
{
    skip_space(sc);
    if (sc->at >= sc->n || sc->s[sc->at] != (unsigned char)c) return false;
    sc->at++;
    return true;
}

static qn_status expect(struct scan *sc, char c, const char *expected)
{
    return accept(sc, c) ? QN_OK : unexpected(sc, expected);
}

/* Four hexadecimal digits at s, or -1; stops at the terminating NUL. */
static int32_t hex4(const unsigned char *s)
{
    int32_t v = 0;
    for (int i = 0; i < 4; i++) {
        int c = s[i], letter = c | 32;
        if (c >= '0' && c <= '9')
            v = v * 16 + (c - '0');
        else if (letter >= 'a' && letter <= 'f')
            v = v * 16 + (letter - 'a' + 10);
        else
            return -1;
    }
    return v;
}

static size_t put_utf8(unsigned char *to, uint32_t c)
{
    if (c < 0x80) {
        to[0] = (unsigned char)c;
        return 1;
    }
    size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n; i-- > 1; c >>= 6) to[i] = (unsigned char)(0x80 | (c & 0x3f));
    to[0] = (unsigned char)((0xf0u << (4 - n)) | c);
    return n;
}

/* Decodes the escape whose backslash is at sc->at into `to`; never longer than its source. Returns the
 * bytes written, 0 if it is malformed. */
static size_t unescape(struct scan *sc, unsigned char *to)
{
    static const char from[] = "\"\\/bfnrt", result[] = "\"\\/\b\f\n\r\t";
    const unsigned char *s = sc->s + sc->at;
    if (s[1] != 'u') {
        const char *hit = s[1] ? strchr(from, s[1]) : NULL;
        if (!hit) return 0;
        sc->at += 2;
        *to = (unsigned char)result[hit - from];
        return 1;
    }
    int32_t c = hex4(s + 2);
    if (c < 0 || (c >= 0xdc00 && c < 0xe000)) return 0;
    sc->at += 6;
    if (c < 0xd800 || c >= 0xe000) return put_utf8(to, (uint32_t)c);
    int32_t low = s[6] == '\\' && s[7] == 'u' ? hex4(s + 8) : -1;
    if (low < 0xdc00 || low >= 0xe000) return 0;
    sc->at += 6;
    return put_utf8(to, (uint32_t)(0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00)));
}

/* A string, decoded in place and NUL-terminated (the closing quote makes room). */
static qn_status scan_string(struct scan *sc, char **out, const char *expected)
{
    QN_TRY(expect(sc, '"', expected));
    unsigned char *start = sc->s + sc->at, *to = start;
    for (;;) {
        if (sc->at >= sc->n) return unexpected(sc, "'\"' at the end of the string");
        unsigned char c = sc->s[sc->at];
        if (c == '"') break;
        if (c < 0x20) return unexpected(sc, "no control character in a string");
        if (c != '\\') {
            *to++ = c;
            sc->at++;
            continue;
        }
        size_t pos = sc->at, n = unescape(sc, to);
        if (n == 0) return qn__fail(sc->err, 4012, WHERE(sc, pos), "bad escape in a string; expected \\\" or \\uXXXX");
        if (*to == 0) return qn__fail(sc->err, 4012, WHERE(sc, pos), "NUL character in a string; expected none");
        to += n;
    }
    *to = 0;
    sc->at++;
    *out = (char *)start;
    return QN_OK;
}

/* An integer 0..2^48, written as JSON does: no sign, fraction, exponent or leading zero. */
static qn_status scan_integer(struct scan *sc, const char *what, int64_t *out)
{
    skip_space(sc);
    char token[32];
    size_t n = 0, pos = sc->at;
    while (n + 1 < sizeof token && sc->at < sc->n) {
        unsigned char c = sc->s[sc->at];
        bool part = (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z') || c == '+' || c == '-' || c == '.';
        if (!part) break;
        token[n++] = (char)c;
        sc->at++;
    }
    token[n] = 0;
    if (n == 0) return unexpected(sc, "an integer");
    bool digits = token[0] >= '0' && token[0] <= '9' && strspn(token, "0123456789") == n;
    bool zero_first = token[0] == '0' && n > 1;
    if (!digits || zero_first || !qn__parse_i64(token, out) || *out > MAX_INTEGER)
        return qn__fail(sc->err, 4013, WHERE(sc, pos), "%s %s; expected an integer in 0..%lld", what, token,
                        (long long)MAX_INTEGER);
    return QN_OK;
}

/* ---- entries ------------------------------------------------------------------------------ */

static void show_shape(char text[160], const char *dtype, const int64_t *dim, int rank)
{
    size_t at = 0;
    text[0] = 0;
    for (int i = 0; i < rank; i++)
        at += (size_t)snprintf(text + at, 160 - at, "%s%lld", i ? "x" : "", (long long)dim[i]);
    snprintf(text + at, 160 - at, "%s%s", rank ? " " : "scalar ", dtype);
}

static qn_status scan_dtype(struct scan *sc, struct record *r)
{
    char *name;
    skip_space(sc);
    size_t pos = sc->at;
    QN_TRY(scan_string(sc, &name, "a dtype in quotes"));
    for (r->dtype = 0; r->dtype < N_DTYPES; r->dtype++)
        if (strcmp(dtypes[r->dtype].name, name) == 0) return QN_OK;
    return qn__fail(sc->err, 4013, WHERE(sc, pos), "dtype \"%s\"; expected F32, F16, I64, U8, ...", qn__show(name).s);
}

static qn_status scan_shape(struct scan *sc, struct record *r, int64_t dim[QN_MAX_DIMS])
{
    QN_TRY(expect(sc, '[', "'[' and the dimensions"));
    r->shape = (uint32_t)sc->at;
    r->rank = 0;
    if (accept(sc, ']')) return QN_OK;
    do {
        char what[16];
        if (r->rank == QN_MAX_DIMS)
            return qn__fail(sc->err, 4013, WHERE(sc, sc->at), "shape has more than %d dimensions", QN_MAX_DIMS);
        snprintf(what, sizeof what, "shape[%d]", r->rank);
        QN_TRY(scan_integer(sc, what, &dim[r->rank]));
        r->rank++;
    } while (accept(sc, ','));
    return expect(sc, ']', "',' or ']'");
}

static qn_status scan_offsets(struct scan *sc, struct record *r)
{
    QN_TRY(expect(sc, '[', "'[' and two offsets"));
    QN_TRY(scan_integer(sc, "data_offsets[0]", &r->begin));
    QN_TRY(expect(sc, ',', "',' and the second of two offsets"));
    QN_TRY(scan_integer(sc, "data_offsets[1]", &r->end));
    return expect(sc, ']', "']' after two offsets");
}

static qn_status check_entry(struct scan *sc, const struct record *r, const int64_t *dim)
{
    char shape[160];
    const char *dtype = dtypes[r->dtype].name;
    const struct qn__where *at = WHERE(sc, r->name - 1);
    show_shape(shape, dtype, dim, r->rank);
    int64_t count, bits;
    if (!qn__count(&count, dim, r->rank))
        return qn__fail(sc->err, 4013, at, "shape %s; expected fewer than 2^48 elements", shape);
    bits = count * dtypes[r->dtype].bits; /* < 2^48 * 2^6 */
    if (bits % 8)
        return qn__fail(sc->err, 4013, at, "shape %s: %lld bits; expected whole bytes", shape, (long long)bits);
    if (r->end < r->begin)
        return qn__fail(sc->err, 4013, at, "data_offsets [%lld,%lld] reversed; expected begin <= end",
                        (long long)r->begin, (long long)r->end);
    if (r->end - r->begin != bits / 8)
        return qn__fail(sc->err, 4013, at, "data_offsets [%lld,%lld]; expected length %lld = %s", (long long)r->begin,
                        (long long)r->end, (long long)(bits / 8), shape);
    return QN_OK;
}

/* {"dtype": ..., "shape": ..., "data_offsets": ...} in any order. */
static qn_status scan_entry(struct scan *sc, struct record *r)
{
    static const char *const keys[] = { "dtype", "shape", "data_offsets" };
    bool seen[3] = { false, false, false };
    int64_t dim[QN_MAX_DIMS] = { 0 };
    QN_TRY(expect(sc, '{', "'{' and the tensor's entry"));
    do {
        char *key;
        skip_space(sc);
        size_t pos = sc->at;
        QN_TRY(scan_string(sc, &key, "dtype, shape or data_offsets"));
        int k = 0;
        while (k < 3 && strcmp(keys[k], key) != 0) k++;
        if (k == 3)
            return qn__fail(sc->err, 4013, WHERE(sc, pos), "unknown key \"%s\"; expected dtype, shape, data_offsets",
                            qn__show(key).s);
        if (seen[k]) return qn__fail(sc->err, 4014, WHERE(sc, pos), "key \"%s\" appears twice", keys[k]);
        seen[k] = true;
        QN_TRY(expect(sc, ':', "':'"));
        QN_TRY(k == 0 ? scan_dtype(sc, r) : k == 1 ? scan_shape(sc, r, dim) : scan_offsets(sc, r));
    } while (accept(sc, ','));
    QN_TRY(expect(sc, '}', "',' or '}'"));
    for (int k = 0; k < 3; k++)
        if (!seen[k]) return qn__fail(sc->err, 4013, WHERE(sc, r->name - 1), "no \"%s\"; expected one", keys[k]);
    return check_entry(sc, r, dim);
}

static int compare_text(const void *a, const void *b, void *text)
{
    return strcmp((const char *)text + *(const uint32_t *)a, (const char *)text + *(const uint32_t *)b);
}

/* Finds a key that is there twice; at[] are positions of NUL-terminated strings, and gets sorted. The
 * strings have moved, so the byte to name is that of the object, pos. */
static qn_status check_repeats(struct scan *sc, size_t pos, uint32_t *at, size_t n)
{
    qsort_r(at, n, sizeof at[0], compare_text, sc->s);
    for (size_t i = 1; i < n; i++) {
        const char *name = (const char *)sc->s + at[i];
        if (strcmp(name, (const char *)sc->s + at[i - 1]) == 0)
            return qn__fail(sc->err, 4014, WHERE(sc, pos), "key \"%s\" appears twice", qn__show(name).s);
    }
    return QN_OK;
}

/* {"key": "value", ...}, packed in place as key NUL value NUL. */
static qn_status scan_meta(qn_safetensors *st, struct scan *sc)
{
    size_t most = (sc->n - sc->at) / SHORTEST_PAIR + 1;
    if (most > MAX_META) most = MAX_META;
    uint32_t *keys = qn__calloc(st->alloc, most, sizeof keys[0]);
    if (!keys) return qn__nomem(sc->err, "safetensors metadata", most * sizeof keys[0]);
    snprintf(sc->field, sizeof sc->field, "__metadata__");
    qn_status status = expect(sc, '{', "'{' and strings");
    size_t to = st->meta = (uint32_t)sc->at;
    bool more = !status && !accept(sc, '}');
    while (more && !status) {
        char *key, *value;
        if (st->meta_count == most) {
            status = qn__fail(sc->err, 4012, WHERE(sc, sc->at), "more than %d entries", MAX_META);
            break;
        }
        status = scan_string(sc, &key, "a key in quotes");
        if (!status) status = expect(sc, ':', "':'");
        if (!status) status = scan_string(sc, &value, "a string as value");
        if (status) break;
        size_t n = strlen(key) + 1, m = strlen(value) + 1;
        memmove(sc->s + to, key, n);
        memmove(sc->s + to + n, value, m);
        keys[st->meta_count++] = (uint32_t)to;
        to += n + m;
        more = accept(sc, ',');
        if (!more) status = expect(sc, '}', "',' or '}'");
    }
    if (!status) status = check_repeats(sc, st->meta - 1, keys, st->meta_count);
    qn__free(st->alloc, keys, most * sizeof keys[0]);
    return status;
}

static qn_status scan_tensor(qn_safetensors *st, struct scan *sc, char *name)
{
    size_t pos = (size_t)(name - (char *)sc->s), n = strlen(name);
    sc->field[0] = 0;
    if (n == 0 || n > 512)
        return qn__fail(sc->err, 4013, WHERE(sc, pos - 1), "tensor name of %zu bytes; expected 1..512", n);
    snprintf(sc->field, sizeof sc->field, "tensor \"%s\"", name);
    for (const char *c = name; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            return qn__fail(sc->err, 4013, WHERE(sc, pos - 1), "control character in the name; expected none");
    if (st->count == MAX_TENSORS)
        return qn__fail(sc->err, 4013, WHERE(sc, pos - 1), "more than %d tensors", MAX_TENSORS);
    if (st->count == st->capacity) /* entries shorter than any valid one can be */
        return unexpected(sc, "'{' and the tensor's entry");
    struct record *r = &st->tensor[st->count];
    *r = (struct record){ .name = (uint32_t)pos };
    QN_TRY(scan_entry(sc, r));
    st->count++;
    return QN_OK;
}

static qn_status scan_header(qn_safetensors *st, struct scan *sc)
{
    bool meta_seen = false;
    QN_TRY(expect(sc, '{', "'{'"));
    bool more = !accept(sc, '}');
    while (more) {
        char *key;
        snprintf(sc->field, sizeof sc->field, "header");
        skip_space(sc);
        size_t pos = sc->at;
        QN_TRY(scan_string(sc, &key, "a name in quotes"));
        QN_TRY(expect(sc, ':', "':'"));
        if (strcmp(key, "__metadata__") != 0) {
            QN_TRY(scan_tensor(st, sc, key));
        } else if (meta_seen) {
            return qn__fail(sc->err, 4014, WHERE(sc, pos), "key \"__metadata__\" appears twice");
        } else {
            meta_seen = true;
            QN_TRY(scan_meta(st, sc));
        }
        snprintf(sc->field, sizeof sc->field, "header");
        more = accept(sc, ',');
        if (!more) QN_TRY(expect(sc, '}', "',' or '}'"));
    }
    skip_space(sc);
    return sc->at < sc->n ? unexpected(sc, "only spaces after the header") : QN_OK;
}

/* ---- the whole file ----------------------------------------------------------------------- */

static int compare_offset(const void *a, const void *b)
{
    const struct record *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    if (x->end != y->end) return x->end < y->end ? -1 : 1;
    return x->name < y->name ? -1 : 1;
}

struct name_order {
    const char *header;
    const struct record *tensor;
};
static int compare_name(const void *a, const void *b, void *user)
{
    const struct name_order *o = user;
    return strcmp(o->header + o->tensor[*(const uint32_t *)a].name, o->header + o->tensor[*(const uint32_t *)b].name);
}

static qn_status check_names(qn_safetensors *st, qn_error *err)
{
    for (size_t i = 0; i < st->count; i++) st->by_name[i] = (uint32_t)i;
    struct name_order order = { st->header, st->tensor };
    qsort_r(st->by_name, st->count, sizeof st->by_name[0], compare_name, &order);
    for (size_t i = 1; i < st->count; i++) {
        uint32_t a = st->tensor[st->by_name[i - 1]].name, b = st->tensor[st->by_name[i]].name;
        if (strcmp(st->header + a, st->header + b) == 0)
            return qn__fail(err, 4014, QN_AT_BYTE(st->path, 8 + (int64_t)(a > b ? a : b) - 1, "header"),
                            "tensor \"%s\" appears twice", qn__show(st->header + a).s);
    }
    return QN_OK;
}

/* The tensors must cover the data section without hole or overlap, exactly to the end of the file: then
 * no byte of it is unaccounted for and nothing else can hide there. */
static qn_status check_cover(qn_safetensors *st, qn_error *err)
{
    int64_t end = 0, have = st->size - 8 - (int64_t)st->header_bytes;
    for (size_t i = 0; i < st->count; i++) {
        const struct record *r = &st->tensor[i];
        if (r->begin != end) {
            char field[600];
            snprintf(field, sizeof field, "tensor \"%s\"", st->header + r->name);
            return qn__fail(err, 4013, QN_AT_BYTE(st->path, 8 + (int64_t)r->name - 1, field),
                            "data_offsets [%lld,%lld] %s; expected to begin at %lld", (long long)r->begin,
                            (long long)r->end, r->begin < end ? "overlap another tensor" : "leave a hole",
                            (long long)end);
        }
        end = r->end;
    }
    if (end != have)
        return qn__fail(err, 4015, QN_AT_BYTE(st->path, 8 + (int64_t)st->header_bytes, "data"),
                        "%lld bytes; expected %lld, where the last tensor ends", (long long)have, (long long)end);
    return QN_OK;
}

qn_status qn__safetensors_bytes(const qn_safetensors *st, int64_t offset, void *out, size_t n, qn_error *err)
{
    if (!st->memory) return qn__file_read(&st->file, offset, out, n, err);
    memcpy(out, st->memory + offset, n);
    return QN_OK;
}

static qn_status load_header(qn_safetensors *st, size_t cap, qn_error *err)
{
    unsigned char raw[8];
    uint64_t n = 0, reversed = 0;
    if (st->size < 8)
        return qn__fail(err, 4011, QN_AT_FILE(st->path), "%lld bytes; expected at least 8", (long long)st->size);
    QN_TRY(qn__safetensors_bytes(st, 0, raw, 8, err));
    for (int i = 0; i < 8; i++) {
        n |= (uint64_t)raw[i] << (8 * i);
        reversed |= (uint64_t)raw[i] << (56 - 8 * i);
    }
    const struct qn__where *at = QN_AT_BYTE(st->path, 0, "header length");
    uint64_t room = (uint64_t)st->size - 8;
    if (n > cap)
        return qn__fail(err, 4011, at, "%llu%s; expected at most %zu", (unsigned long long)n,
                        reversed <= room ? " (written big-endian?)" : "", cap);
    if (n > room)
        return qn__fail(err, 4011, at, "%llu; expected at most %llu, the rest of the file", (unsigned long long)n,
                        (unsigned long long)room);
    if (n < 2) return qn__fail(err, 4011, at, "%llu; expected at least 2", (unsigned long long)n);
    st->header_bytes = (size_t)n;
    st->header = qn__calloc(st->alloc, st->header_bytes + 1, 1);
    if (!st->header) return qn__nomem(err, "safetensors header", st->header_bytes + 1);
    return qn__safetensors_bytes(st, 8, st->header, st->header_bytes, err);
}

static qn_status parse_header(qn_safetensors *st, qn_error *err)
{
    struct scan sc = {
        .s = (unsigned char *)st->header, .n = st->header_bytes, .path = st->path, .field = "header", .err = err
    };
    size_t bad = qn__utf8_error(sc.s, sc.n), braces = 0;
    if (bad < sc.n) return qn__fail(err, 4012, WHERE(&sc, bad), "byte 0x%02X; expected UTF-8", sc.s[bad]);
    if (sc.s[0] != '{') return unexpected(&sc, "'{'");
    for (size_t i = 0; i < sc.n; i++) braces += sc.s[i] == '{';
    size_t most = sc.n / SHORTEST_ENTRY;
    st->capacity = (braces < most ? braces : most) + 1; /* never an empty allocation */
    st->tensor = qn__calloc(st->alloc, st->capacity, sizeof st->tensor[0]);
    st->by_name = qn__calloc(st->alloc, st->capacity, sizeof st->by_name[0]);
    if (!st->tensor || !st->by_name) return qn__nomem(err, "safetensors index", st->capacity * sizeof st->tensor[0]);
    QN_TRY(scan_header(st, &sc));
    qsort(st->tensor, st->count, sizeof st->tensor[0], compare_offset);
    QN_TRY(check_names(st, err));
    return check_cover(st, err);
}

static qn_status open_source(qn_safetensors **out, struct qn__file *file, const void *data, int64_t size,
                             const char *path, const qn_safetensors_opts *opts, qn_error *err)
{
    static const qn_safetensors_opts defaults;
    if (!opts) opts = &defaults;
    size_t cap = opts->max_header ? opts->max_header : DEFAULT_HEADER;
    if (cap > LARGEST_HEADER) cap = LARGEST_HEADER;
    *out = NULL;
    qn_safetensors *st = qn__calloc(opts->alloc, 1, sizeof *st);
    if (!st) {
        if (file) qn__file_close(file);
        return qn__nomem(err, "safetensors file", sizeof *st);
    }
    st->alloc = opts->alloc;
    st->allow_nonfinite = opts->allow_nonfinite;
    st->file = file ? *file : (struct qn__file){ .fd = -1 };
    st->memory = data;
    st->size = size;
    snprintf(st->path, sizeof st->path, "%s", path);
    qn_status status = load_header(st, cap, err);
    if (!status) status = parse_header(st, err);
    if (status)
        qn_safetensors_close(st);
    else
        *out = st;
    return status;
}

qn_status qn__safetensors_open_file(qn_safetensors **out, struct qn__file *file, const char *path,
                                    const qn_safetensors_opts *opts, qn_error *err)
{
    return open_source(out, file, NULL, file->size, path, opts, err);
}

qn_status qn_safetensors_open(qn_safetensors **out, const char *path, const qn_safetensors_opts *opts, qn_error *err)
{
    struct qn__file file;
    *out = NULL;
    QN_TRY(qn__file_open(&file, path, err));
    return qn__safetensors_open_file(out, &file, path, opts, err);
}

qn_status qn_safetensors_open_memory(qn_safetensors **out, const void *data, size_t size, const char *name,
                                     const qn_safetensors_opts *opts, qn_error *err)
{
    /* memory == NULL means "a file" inside; an empty buffer needs another address. */
    return open_source(out, NULL, data ? data : "", data ? (int64_t)size : 0, name, opts, err);
}

void qn_safetensors_close(qn_safetensors *st)
{
    if (!st) return;
    const qn_alloc *a = st->alloc;
    qn__file_close(&st->file);
    qn__free(a, st->header, st->header_bytes + 1);
    qn__free(a, st->tensor, st->capacity * sizeof st->tensor[0]);
    qn__free(a, st->by_name, st->capacity * sizeof st->by_name[0]);
    qn__free(a, st, sizeof *st);
}

/* ---- questions ---------------------------------------------------------------------------- */

const char *qn__safetensors_path(const qn_safetensors *st) { return st->path; }
int64_t qn_safetensors_count(const qn_safetensors *st) { return (int64_t)st->count; }

void qn_safetensors_at(const qn_safetensors *st, int64_t index, qn_tensor_info *out)
{
    const struct record *r = &st->tensor[index];
    *out = (qn_tensor_info){ .name = st->header + r->name,
                             .dtype_name = dtypes[r->dtype].name,
                             .dtype = dtypes[r->dtype].dtype,
                             .rank = r->rank,
                             .bytes = r->end - r->begin,
                             .offset = 8 + (int64_t)st->header_bytes + r->begin,
                             .count = 1 };
    const char *s = st->header + r->shape; /* validated: digits, commas and spaces */
    for (int i = 0; i < r->rank; i++) {
        s += strcspn(s, "0123456789");
        for (; *s >= '0' && *s <= '9'; s++) out->dim[i] = out->dim[i] * 10 + (*s - '0');
        out->count *= out->dim[i] && out->count ? out->dim[i] : 0;
    }
}

bool qn_safetensors_find(const qn_safetensors *st, const char *name, qn_tensor_info *out)
{
    size_t low = 0, high = st->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        uint32_t i = st->by_name[middle];
        int order = strcmp(name, st->header + st->tensor[i].name);
        if (order == 0) {
            if (out) qn_safetensors_at(st, i, out);
            return true;
        }
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return false;
}

int64_t qn_safetensors_meta_count(const qn_safetensors *st) { return st->meta_count; }

void qn_safetensors_meta_at(const qn_safetensors *st, int64_t index, const char **key, const char **value)
{
    const char *s = st->header + st->meta;
    for (int64_t i = 0; i < index; i++) {
        s += strlen(s) + 1;
        s += strlen(s) + 1;
    }
    *key = s;
    *value = s + strlen(s) + 1;
}

const char *qn_safetensors_meta(const qn_safetensors *st, const char *key)
{
    const char *s = st->header + st->meta;
    for (uint32_t i = 0; i < st->meta_count; i++) {
        const char *value = s + strlen(s) + 1;
        if (strcmp(s, key) == 0) return value;
        s = value + strlen(value) + 1;
    }
    return NULL;
}

/* ---- values ------------------------------------------------------------------------------- */

/* Non-finite values met so far. */
struct finite {
    int64_t first, bad;
    const char *what;
};

/* All exponent bits set: NaN or infinity, in each of the four formats. */
static void count_nonfinite(struct finite *f, const void *data, qn_dtype dtype, size_t n, int64_t base)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t x, exponent, sign;
        switch (dtype) {
        case QN_F64:
            x = ((const uint64_t *)data)[i];
            exponent = 0x7ffull << 52;
            sign = 1ull << 63;
            break;
        case QN_F32:
            x = ((const uint32_t *)data)[i];
            exponent = 0x7f800000;
            sign = 1ull << 31;
            break;
        case QN_BF16:
            x = ((const uint16_t *)data)[i];
            exponent = 0x7f80;
            sign = 0x8000;
            break;
        case QN_F16:
            x = ((const uint16_t *)data)[i];
            exponent = 0x7c00;
            sign = 0x8000;
            break;
        default: return;
        }
        if ((x & exponent) != exponent) continue;
        if (f->bad++) continue;
        f->first = base + (int64_t)i;
        f->what = x & ~exponent & ~sign ? "nan" : x & sign ? "-inf" : "inf";
    }
}

qn_status qn_safetensors_read(const qn_safetensors *st, const qn_tensor_info *tensor, void *out, qn_dtype as,
                              qn_error *err)
{
    enum { CHUNK = 16384 };
    _Alignas(16) unsigned char chunk[CHUNK];
    struct finite finite = { 0 };
    char field[600];
    snprintf(field, sizeof field, "tensor \"%s\"", tensor->name);
    if (tensor->dtype >= QN_DTYPE_COUNT || (unsigned)as >= QN_DTYPE_COUNT)
        return qn__fail(err, 4017, QN_AT_BYTE(st->path, tensor->offset, field),
                        "dtype %s; expected one of F32 F64 BF16 F16 I64 I32 I8 U8 BOOL", tensor->dtype_name);
    size_t size = qn_dtype_size(tensor->dtype), step = CHUNK / size;
    for (size_t at = 0, n; at < (size_t)tensor->count; at += n) {
        n = (size_t)tensor->count - at < step ? (size_t)tensor->count - at : step;
        QN_TRY(qn__safetensors_bytes(st, tensor->offset + (int64_t)(at * size), chunk, n * size, err));
        if (tensor->dtype == QN_BOOL) /* a byte of 2 must not become a bool that is neither */
            for (size_t i = 0; i < n; i++) chunk[i] = chunk[i] != 0;
        if (!st->allow_nonfinite) count_nonfinite(&finite, chunk, tensor->dtype, n, (int64_t)at);
        if (out) qn_convert((char *)out + at * qn_dtype_size(as), as, chunk, tensor->dtype, n);
    }
    if (finite.bad == 0) return QN_OK;
    return qn__fail(err, 4016, QN_AT_BYTE(st->path, tensor->offset + finite.first * (int64_t)size, field),
                    "value [%lld] is %s (%lld of %lld not finite); expected finite numbers", (long long)finite.first,
                    finite.what, (long long)finite.bad, (long long)tensor->count);
}
