/* png_scan.c - checks the chunks of a PNG before libpng sees any of it: the signature, IHDR, the
 * order, lengths and checksums of PLTE, tRNS, IDAT and IEND. Source: PNG specification, third
 * edition, sections 5, 11.
 *
 * libpng's messages name no offset and it keeps going in places where a training set should not;
 * after this scan only the compressed pixels themselves can still be wrong. */
#include "data.h"
#include <string.h>
#include <zlib.h>

enum { SIGNATURE = 8, CHUNK_OVERHEAD = 12, IHDR_LENGTH = 13, MAX_SIDE = 16384 };
enum { GREY = 0, RGB = 2, PALETTE = 3, GREY_ALPHA = 4, RGB_ALPHA = 6 };

struct chunk {
    int64_t at; /* offset of its length field */
    uint32_t length;
    char type[5];
    const uint8_t *data;
};

struct scan {
    const uint8_t *b;
    size_t n;
    const char *name;
    const qn_png_options *o;
    struct qn__png_info *info;
    bool palette, data, data_over, end;
    size_t palette_entries, data_bytes;
    qn_error *err;
};

#define FAIL(s, code, offset, field, ...) \
    qn__fail((s)->err, code, QN_AT_BYTE((s)->name, (int64_t)(offset), field), __VA_ARGS__)

static qn_status side(struct scan *s, size_t at, const char *field, uint32_t value)
{
    int limit = s->o && s->o->max_side > 0 ? s->o->max_side : MAX_SIDE;
    if (value >= 1 && value <= (uint32_t)limit) return QN_OK;
    return FAIL(s, 3011, at, field, "%lu; expected 1..%d", (unsigned long)value, limit);
}

static bool depth_allowed(int colour, int depth)
{
    switch (colour) {
    case GREY: return depth == 1 || depth == 2 || depth == 4 || depth == 8 || depth == 16;
    case PALETTE: return depth == 1 || depth == 2 || depth == 4 || depth == 8;
    case RGB:
    case GREY_ALPHA:
    case RGB_ALPHA: return depth == 8 || depth == 16;
    default: return false;
    }
}

/* Offsets in messages are those of the fields: IHDR's data begin at byte 16. */
static qn_status check_header(struct scan *s, const struct chunk *c)
{
    if (memcmp(c->type, "IHDR", 4) != 0)
        return FAIL(s, 3012, c->at + 4, "IHDR", "chunk %s comes first; expected IHDR", qn__show(c->type).s);
    if (c->length != IHDR_LENGTH)
        return FAIL(s, 3012, c->at, "IHDR.length", "%lu; expected 13", (unsigned long)c->length);
    const uint8_t *d = c->data;
    size_t at = (size_t)(d - s->b);
    QN_TRY(side(s, at, "IHDR.width", qn__big32(d)));
    QN_TRY(side(s, at + 4, "IHDR.height", qn__big32(d + 4)));
    if (!depth_allowed(d[9], d[8]))
        return FAIL(s, 3011, at + 8, "IHDR.depth", "%d bits with colour type %d; expected an allowed pair", d[8], d[9]);
    if (d[10]) return FAIL(s, 3011, at + 10, "IHDR.compression", "%d; expected 0", d[10]);
    if (d[11]) return FAIL(s, 3011, at + 11, "IHDR.filter", "%d; expected 0", d[11]);
    if (d[12] > 1) return FAIL(s, 3011, at + 12, "IHDR.interlace", "%d; expected 0 or 1", d[12]);
    *s->info = (struct qn__png_info){ .width = qn__big32(d),
                                      .height = qn__big32(d + 4),
                                      .depth = d[8],
                                      .colour = d[9],
                                      .channels = d[9] == GREY || d[9] == GREY_ALPHA ? 1 : 3,
                                      .interlaced = d[12] == 1 };
    return QN_OK;
}

static bool is(const struct chunk *c, const char *type) { return memcmp(c->type, type, 4) == 0; }
static bool matters(const struct chunk *c)
{
    return is(c, "IHDR") || is(c, "PLTE") || is(c, "tRNS") || is(c, "IDAT") || is(c, "IEND");
}

/* Reads the frame of the chunk at offset `at`; its data are inside the file afterwards. */
static qn_status read_chunk(struct scan *s, size_t at, struct chunk *c)
{
    if (s->n - at < CHUNK_OVERHEAD)
        return FAIL(s, 3012, at, "chunk", "file ends here; expected %s", s->data ? "IEND" : "more chunks");
    c->at = (int64_t)at;
    c->length = qn__big32(s->b + at);
    memcpy(c->type, s->b + at + 4, 4);
    c->type[4] = 0;
    c->data = s->b + at + 8;
    for (int i = 0; i < 4; i++)
        if (!((c->type[i] >= 'A' && c->type[i] <= 'Z') || (c->type[i] >= 'a' && c->type[i] <= 'z')))
            return FAIL(s, 3012, at + 4, "chunk type", "%s; expected four letters", qn__show(c->type).s);
    char field[16] = "XXXX.length";
    memcpy(field, c->type, 4);
    if (c->length > 0x7fffffffu || c->length > s->n - at - CHUNK_OVERHEAD)
        return FAIL(s, 3012, at, field, "%lu; file has %zu bytes left", (unsigned long)c->length,
                    s->n - at - CHUNK_OVERHEAD);
    if (!matters(c)) return QN_OK; /* skipped unseen, whatever it holds */
    memcpy(field + 5, "crc", 4);
    uint32_t found = qn__big32(c->data + c->length), real = (uint32_t)crc32(0, c->data - 4, c->length + 4);
    if (found != real)
        return FAIL(s, 3012, at + 8 + c->length, field, "%08lx; expected %08lx", (unsigned long)found,
                    (unsigned long)real);
    return QN_OK;
}

static qn_status check_palette(struct scan *s, const struct chunk *c)
{
    int colour = s->info->colour;
    if (s->palette || s->data)
        return FAIL(s, 3012, c->at + 4, "PLTE", "a second one, or behind IDAT; expected one before IDAT");
    if (colour == GREY || colour == GREY_ALPHA)
        return FAIL(s, 3012, c->at + 4, "PLTE", "in a grey image; expected none");
    size_t most = colour == PALETTE ? (size_t)1 << s->info->depth : 256;
    if (c->length == 0 || c->length % 3 || c->length / 3 > most)
        return FAIL(s, 3012, c->at, "PLTE.length", "%lu; expected 3 x 1..%zu", (unsigned long)c->length, most);
    s->palette = true;
    s->palette_entries = c->length / 3;
    return QN_OK;
}

static qn_status check_transparency(struct scan *s, const struct chunk *c)
{
    int colour = s->info->colour;
    size_t low = colour == GREY ? 2 : colour == RGB ? 6 : 1;
    size_t high = colour == PALETTE ? s->palette_entries : low;
    if (colour == GREY_ALPHA || colour == RGB_ALPHA || s->data || (colour == PALETTE && !s->palette))
        return FAIL(s, 3012, c->at + 4, "tRNS", "not allowed here; expected none");
    if (c->length < low || c->length > high)
        return FAIL(s, 3012, c->at, "tRNS.length", "%lu; expected %zu..%zu", (unsigned long)c->length, low, high);
    return QN_OK;
}

static qn_status check_chunk(struct scan *s, const struct chunk *c)
{
    if (is(c, "IDAT")) {
        if (s->info->colour == PALETTE && !s->palette)
            return FAIL(s, 3012, c->at + 4, "PLTE", "missing before IDAT; expected a palette");
        if (s->data_over) return FAIL(s, 3012, c->at + 4, "IDAT", "apart from the others; expected them in a row");
        s->data = true;
        s->data_bytes += c->length;
        return QN_OK;
    }
    s->data_over = s->data;
    if (is(c, "IHDR")) return FAIL(s, 3012, c->at + 4, "IHDR", "a second one; expected one");
    if (is(c, "PLTE")) return check_palette(s, c);
    if (is(c, "tRNS")) return check_transparency(s, c);
    if (is(c, "IEND")) {
        if (!s->data) return FAIL(s, 3012, c->at + 4, "IDAT", "missing; expected pixels before IEND");
        if (c->length) return FAIL(s, 3012, c->at, "IEND.length", "%lu; expected 0", (unsigned long)c->length);
        s->end = true;
        return QN_OK;
    }
    if (c->type[0] >= 'A' && c->type[0] <= 'Z')
        return FAIL(s, 3012, c->at + 4, "chunk type", "unknown critical chunk %s; expected IHDR, PLTE, IDAT or IEND",
                    qn__show(c->type).s);
    return QN_OK;
}

/* Deflate packs at most 1032 bytes into one: fewer compressed bytes cannot hold the rows, so the
 * memory taken for them is bounded by the size of the file. */
static qn_status check_volume(struct scan *s)
{
    static const int samples[7] = { 1, 0, 3, 1, 2, 0, 4 };
    const struct qn__png_info *i = s->info;
    size_t row = ((size_t)i->width * (size_t)(samples[i->colour] * i->depth) + 7) / 8 + 1;
    size_t need = row * i->height;
    if (need / 1032 > s->data_bytes)
        return FAIL(s, 3013, 0, "IDAT", "%zu bytes; expected at least %zu for %lu x %lu pixels", s->data_bytes,
                    need / 1032, (unsigned long)i->width, (unsigned long)i->height);
    return QN_OK;
}

qn_status qn__png_scan(struct qn__png_info *out, const uint8_t *bytes, size_t n, const char *name,
                       const qn_png_options *o, qn_error *err)
{
    struct scan s = { .b = bytes, .n = n, .name = name, .o = o, .info = out, .err = err };
    struct chunk c;
    if (n < SIGNATURE || memcmp(bytes, "\x89PNG\r\n\x1a\n", SIGNATURE) != 0)
        return FAIL(&s, 3012, 0, "signature", "not a PNG file; expected 89 \"PNG\" 0d 0a 1a 0a");
    size_t at = SIGNATURE;
    QN_TRY(read_chunk(&s, at, &c));
    QN_TRY(check_header(&s, &c));
    for (at += CHUNK_OVERHEAD + c.length; !s.end; at += CHUNK_OVERHEAD + c.length) {
        QN_TRY(read_chunk(&s, at, &c));
        QN_TRY(check_chunk(&s, &c));
    }
    return check_volume(&s);
}
