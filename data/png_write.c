/* png_write.c - 8-bit grey or RGB pixels to a PNG, compressed in memory and then put in place
 * atomically. */
#include "../core/file.h"
#include "data.h"
#include <png.h>
#include <setjmp.h>
#include <string.h>

struct sink {
    uint8_t *at;
    size_t n, cap;
    qn_error *err;
    qn_status status;
    jmp_buf out;
};

static void on_write(png_structp png, png_bytep data, png_size_t n)
{
    struct sink *s = png_get_io_ptr(png);
    size_t need;
    if (!qn__add(&need, s->n, n) || !qn__grow(NULL, &s->at, &s->cap, need, 1)) {
        s->status = qn__nomem(s->err, "PNG file", s->n + n);
        longjmp(s->out, 1);
    }
    memcpy(s->at + s->n, data, n);
    s->n = need;
}
static void on_flush(png_structp png) { (void)png; }

static void on_error(png_structp png, png_const_charp message)
{
    struct sink *s = png_get_error_ptr(png);
    s->status = qn__fail(s->err, 7002, QN_AT_FIELD("libpng"), "%s", qn__show(message).s);
    longjmp(s->out, 1);
}
static void on_warning(png_structp png, png_const_charp message)
{
    (void)png;
    (void)message;
}

static qn_status encode(png_structp png, png_infop info, struct sink *s, const uint8_t *pixels, int width, int height,
                        int channels)
{
    if (setjmp(s->out)) return s->status;
    png_set_write_fn(png, s, on_write, on_flush);
    png_set_IHDR(png, info, (png_uint_32)width, (png_uint_32)height, 8,
                 channels == 1 ? PNG_COLOR_TYPE_GRAY : PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_write_info(png, info);
    for (int y = 0; y < height; y++) png_write_row(png, pixels + (size_t)y * (size_t)width * (size_t)channels);
    png_write_end(png, info);
    return QN_OK;
}

qn_status qn_png_write(const char *path, const uint8_t *pixels, int width, int height, int channels, qn_error *err)
{
    enum { MOST = 65536 };
    if (width < 1 || height < 1 || width > MOST || height > MOST || (channels != 1 && channels != 3))
        return qn__fail(err, 3053, QN_AT_FILE(path), "%d x %d pixels, %d channels; expected 1..%d, 1 or 3", width,
                        height, channels, MOST);
    struct sink s = { .err = err };
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &s, on_error, on_warning);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    qn_status status = info ? encode(png, info, &s, pixels, width, height, channels) : qn__nomem(err, "libpng", 0);
    png_destroy_write_struct(&png, &info);
    if (!status) status = qn__file_replace(path, s.at, s.n, err);
    qn__free(NULL, s.at, s.cap);
    return status;
}
