/* png_read.c - PNG to u8 [C,H,W] through libpng's row API. libpng is fed from memory with the
 * chunks that make the picture and no others, so text, profiles and unknown chunks never reach
 * it. */
#include "../core/file.h"
#include "data.h"
#include <png.h>
#include <setjmp.h>
#include <string.h>

enum { SIDE_LIMIT = 1 << 24, CHUNK_CACHE = 64, MAX_CHUNK = 1 << 20 };

/* Where libpng stands in the file: inside a part that is handed out, up to `stop`. */
struct feed {
    const uint8_t *b;
    size_t n, at, stop;
    const char *name;
    qn_error *err;
    jmp_buf out;
};

/* qn__png_scan has been through the same chunks, so lengths can be trusted. */
static void skip_to_picture(struct feed *f)
{
    while (f->n - f->at >= 12) {
        const char *type = (const char *)f->b + f->at + 4;
        size_t whole = 12 + (size_t)qn__big32(f->b + f->at);
        if (!memcmp(type, "IHDR", 4) || !memcmp(type, "PLTE", 4) || !memcmp(type, "IDAT", 4) ||
            !memcmp(type, "IEND", 4)) {
            f->stop = f->at + whole;
            return;
        }
        f->at += whole;
    }
    f->stop = f->at;
}

static void on_read(png_structp png, png_bytep out, png_size_t n)
{
    struct feed *f = png_get_io_ptr(png);
    while (n) {
        if (f->at == f->stop) skip_to_picture(f);
        if (f->at == f->stop) png_error(png, "file ends");
        size_t part = f->stop - f->at < n ? f->stop - f->at : n;
        memcpy(out, f->b + f->at, part);
        f->at += part;
        out += part;
        n -= part;
    }
}

static void on_error(png_structp png, png_const_charp message)
{
    struct feed *f = png_get_error_ptr(png);
    qn__fail(f->err, 3013, QN_AT_BYTE(f->name, (int64_t)f->at, "IDAT"), "%s; expected intact pixels",
             qn__show(message).s);
    longjmp(f->out, 1);
}

/* libpng warns of what leaves the pixels as they are, such as data behind the last row. */
static void on_warning(png_structp png, png_const_charp message)
{
    (void)png;
    (void)message;
}

/* Decoded picture with 8-bit samples, interleaved. */
struct pixels {
    uint8_t *at; /* [h,w,samples] */
    size_t bytes;
    png_bytep *row;
    int samples;
    uint8_t palette[3 * PNG_MAX_PALETTE_LENGTH]; /* of a palette image, whose sample is an index */
    int entries;
};

static qn_status take_memory(struct pixels *p, const struct qn__png_info *info, size_t row_bytes, qn_error *err)
{
    if (!qn__mul(&p->bytes, row_bytes, info->height)) return qn__nomem(err, "PNG pixels", SIZE_MAX);
    p->at = qn__calloc(NULL, p->bytes, 1);
    p->row = qn__calloc(NULL, info->height, sizeof *p->row);
    if (!p->at || !p->row) return qn__nomem(err, "PNG pixels", p->bytes);
    for (uint32_t y = 0; y < info->height; y++) p->row[y] = p->at + row_bytes * y;
    return QN_OK;
}

/* Header, transformations to 8 bits per sample; the size of a row is known afterwards. */
static size_t begin(png_structp png, png_infop info, int *samples)
{
    png_set_user_limits(png, SIDE_LIMIT, SIDE_LIMIT);
    png_set_chunk_cache_max(png, CHUNK_CACHE);
    png_set_chunk_malloc_max(png, MAX_CHUNK);
    png_set_benign_errors(png, 1);
    png_set_check_for_invalid_index(png, 0); /* done here, on the indices themselves */
    png_read_info(png, info);
    int colour = png_get_color_type(png, info);
    if (colour == PNG_COLOR_TYPE_PALETTE) png_set_packing(png);
    if (colour == PNG_COLOR_TYPE_GRAY) png_set_expand_gray_1_2_4_to_8(png);
    if (png_get_bit_depth(png, info) == 16) png_set_scale_16(png);
    if (colour & PNG_COLOR_MASK_ALPHA) png_set_strip_alpha(png);
    png_set_interlace_handling(png);
    png_read_update_info(png, info);
    *samples = png_get_channels(png, info);
    return png_get_rowbytes(png, info);
}

static qn_status check_indices(struct pixels *p, const struct feed *f)
{
    for (size_t k = 0; k < p->bytes; k++)
        if (p->at[k] >= p->entries)
            return qn__fail(f->err, 3013, QN_AT_BYTE(f->name, (int64_t)f->at, "IDAT"),
                            "a pixel has palette index %d; expected 0..%d", p->at[k], p->entries - 1);
    return QN_OK;
}

/* Everything between creating and destroying libpng's structures. Nothing here owns memory that
 * a longjmp could lose: the pixels belong to the caller. */
static qn_status decode(png_structp png, png_infop info, struct feed *f, struct pixels *p, const struct qn__png_info *i)
{
    if (setjmp(f->out)) return QN_EDATA;
    size_t row_bytes = begin(png, info, &p->samples);
    qn_status status = take_memory(p, i, row_bytes, f->err);
    if (status) return status;
    png_read_image(png, p->row);
    png_colorp palette;
    if (i->colour != PNG_COLOR_TYPE_PALETTE || !png_get_PLTE(png, info, &palette, &p->entries)) return QN_OK;
    for (int k = 0; k < p->entries; k++) {
        p->palette[3 * k] = palette[k].red;
        p->palette[3 * k + 1] = palette[k].green;
        p->palette[3 * k + 2] = palette[k].blue;
    }
    return check_indices(p, f);
}

static qn_status read_pixels(struct pixels *p, struct feed *f, const struct qn__png_info *i)
{
    png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, f, on_error, on_warning);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    qn_status status;
    if (!info) {
        status = qn__nomem(f->err, "libpng", 0);
    } else {
        png_set_read_fn(png, f, on_read);
        status = decode(png, info, f, p, i);
    }
    png_destroy_read_struct(&png, &info, NULL);
    return status;
}

/* Pixel k of the picture as channel c of `channels`. */
static inline uint8_t channel_of(const struct pixels *p, int64_t k, int channels, int c)
{
    const uint8_t *v = p->at + k * p->samples;
    if (p->entries)
        v = p->palette + 3 * *v;
    else if (p->samples == 1)
        return *v;
    if (channels == 1) return (uint8_t)((299u * v[0] + 587u * v[1] + 114u * v[2] + 500u) / 1000u);
    return v[c];
}

void qn__resize(uint8_t *out, int H, int W, const uint8_t *in, int h, int w, int channels)
{
    double sy = (double)h / H, sx = (double)w / W;
    for (int y = 0; y < H; y++) {
        double fy = ((double)y + 0.5) * sy - 0.5;
        if (fy < 0) fy = 0;
        int y0 = (int)fy, y1 = y0 + 1 < h ? y0 + 1 : h - 1;
        double ty = fy - y0;
        for (int x = 0; x < W; x++) {
            double fx = ((double)x + 0.5) * sx - 0.5;
            if (fx < 0) fx = 0;
            int x0 = (int)fx, x1 = x0 + 1 < w ? x0 + 1 : w - 1;
            double tx = fx - x0;
            for (int c = 0; c < channels; c++) {
                const uint8_t *p = in + (size_t)c * (size_t)h * (size_t)w;
                const uint8_t *a = p + (size_t)y0 * (size_t)w, *b = p + (size_t)y1 * (size_t)w;
                double top = a[x0] + tx * (a[x1] - a[x0]), low = b[x0] + tx * (b[x1] - b[x0]);
                out[((size_t)c * (size_t)H + (size_t)y) * (size_t)W + (size_t)x] = (uint8_t)(top + ty * (low - top) +
                                                                                             0.5);
            }
        }
    }
}

/* Interleaved pixels to out[C,H,W] of the wished channels and size. */
static qn_status convert(qn_array *out, const struct pixels *p, const struct qn__png_info *i, const qn_png_options *o,
                         qn_error *err)
{
    int channels = o && o->channels ? o->channels : i->channels;
    int64_t h = i->height, w = i->width;
    qn_array planes = { .dtype = QN_U8, .rank = 3, .dim = { channels, h, w } };
    QN_TRY(qn__array_alloc(&planes, "PNG planes", err));
    uint8_t *d = planes.data;
    for (int c = 0; c < channels; c++)
        for (int64_t k = 0; k < h * w; k++) *d++ = channel_of(p, k, channels, c);
    bool resize = o && o->height && (o->height != h || o->width != w);
    if (!resize) {
        *out = planes;
        return QN_OK;
    }
    *out = (qn_array){ .dtype = QN_U8, .rank = 3, .dim = { channels, o->height, o->width } };
    qn_status status = qn__array_alloc(out, "PNG planes", err);
    if (!status) qn__resize(out->data, o->height, o->width, planes.data, (int)h, (int)w, channels);
    qn_array_free(&planes);
    return status;
}

static qn_status check_options(const qn_png_options *o, qn_error *err)
{
    enum { MOST = 65536 };
    if (!o) return QN_OK;
    if (o->channels != 0 && o->channels != 1 && o->channels != 3)
        return qn__fail(err, 2301, QN_AT_FIELD("channels"), "%d; expected 1 or 3", o->channels);
    if (o->height < 0 || o->width < 0 || o->height > MOST || o->width > MOST || !o->height != !o->width)
        return qn__fail(err, 2301, QN_AT_FIELD("height, width"), "%d, %d; expected both 1..%d or neither", o->height,
                        o->width, MOST);
    if (o->max_side < 0 || o->max_side > MOST)
        return qn__fail(err, 2301, QN_AT_FIELD("max_side"), "%d; expected 1..%d", o->max_side, MOST);
    return QN_OK;
}

qn_status qn__png_parse(qn_array *out, const uint8_t *bytes, size_t n, const char *name, const qn_png_options *o,
                        qn_error *err)
{
    struct qn__png_info info;
    struct pixels p = { 0 };
    struct feed f = { .b = bytes, .n = n, .stop = 8, .name = name, .err = err };
    *out = (qn_array){ 0 };
    QN_TRY(check_options(o, err));
    QN_TRY(qn__png_scan(&info, bytes, n, name, o, err));
    qn_status status = read_pixels(&p, &f, &info);
    if (!status) status = convert(out, &p, &info, o, err);
    qn__free(NULL, p.row, info.height * sizeof *p.row);
    qn__free(NULL, p.at, p.bytes);
    if (status) qn_array_free(out);
    return status;
}

qn_status qn_png_read(qn_array *out, const char *path, const qn_png_options *options, qn_error *err)
{
    char *bytes;
    size_t n;
    *out = (qn_array){ 0 };
    QN_TRY(qn__file_read_all(NULL, path, QN_DATA_FILE_MAX, &bytes, &n, err));
    qn_status status = qn__png_parse(out, (const uint8_t *)bytes, n, path, options, err);
    qn__free(NULL, bytes, n + 1);
    return status;
}
