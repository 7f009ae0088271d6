/* canvas.c - rectangles, strokes and discs with antialiased edges: see canvas.h. */
#include "canvas.h"
#include "../include/quern/data.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Longer segments come from values far outside of a chart; their dashes would never end. */
enum { LONGEST_DASHED = 100000 };

enum { SCALE = 2, LONGEST_SIDE = 16384, MOST_PIXELS = 1 << 24 };

qn_status qn__canvas_open(struct qn__canvas *c, double w, double h, qn_error *err)
{
    *c = (struct qn__canvas){ .rgb = NULL };
    if (!(w >= 1 && h >= 1 && w <= LONGEST_SIDE && h <= LONGEST_SIDE && w * h <= MOST_PIXELS))
        return qn__fail(err, 2203, QN_AT_FIELD("plot.size"),
                        "%.0f x %.0f pixels; expected 1..%d a side and at most %d in all", w, h, LONGEST_SIDE,
                        MOST_PIXELS);
    c->w = (int)ceil(w);
    c->h = (int)ceil(h);
    c->bytes = (size_t)c->w * (size_t)c->h * SCALE * SCALE * 3;
    c->rgb = malloc(c->bytes);
    if (!c->rgb) return qn__nomem(err, "plot", c->bytes);
    memset(c->rgb, 0xff, c->bytes);
    qn__unclip(c);
    return QN_OK;
}

void qn__canvas_close(struct qn__canvas *c)
{
    free(c->rgb);
    c->rgb = NULL;
}

unsigned char *qn__canvas_pixels(const struct qn__canvas *c)
{
    size_t w = (size_t)c->w, h = (size_t)c->h, row = w * SCALE * 3;
    size_t bytes;
    if (!qn__mul(&bytes, w, h) || !qn__mul(&bytes, bytes, 3)) return NULL;
    unsigned char *out = malloc(bytes);
    if (!out) return NULL;
    for (size_t y = 0; y < h; y++)
        for (size_t x = 0; x < w; x++)
            for (size_t k = 0; k < 3; k++) {
                const unsigned char *p = c->rgb + y * SCALE * row + x * SCALE * 3 + k;
                out[(y * w + x) * 3 + k] = (unsigned char)((p[0] + p[3] + p[row] + p[row + 3] + 2) / 4);
            }
    return out;
}

qn_status qn__canvas_save(const struct qn__canvas *c, const char *path, qn_error *err)
{
    unsigned char *pixels = qn__canvas_pixels(c);
    if (!pixels) return qn__nomem(err, "plot", (size_t)c->w * (size_t)c->h * 3);
    qn_status status = qn_png_write(path, pixels, c->w, c->h, 3, err);
    free(pixels);
    return status;
}

void qn__clip(struct qn__canvas *c, double x0, double y0, double x1, double y1)
{
    double clip[4] = { x0, y0, x1, y1 };
    memcpy(c->clip, clip, sizeof clip);
}

void qn__unclip(struct qn__canvas *c) { qn__clip(c, 0, 0, c->w, c->h); }

/* ---- pixels ------------------------------------------------------------------------------- */

static void blend(struct qn__canvas *c, long x, long y, qn__color color, double alpha)
{
    unsigned char *p = c->rgb + ((size_t)y * (size_t)c->w * SCALE + (size_t)x) * 3;
    int a = (int)(alpha * 256 + 0.5);
    for (int k = 0; k < 3; k++) {
        int target = (int)(color >> (16 - 8 * k) & 0xff);
        p[k] = (unsigned char)((p[k] * (256 - a) + target * a + 128) / 256);
    }
}

/* The pixels of the large picture that may be touched, as x0 y0 x1 y1 with the ends excluded; false if none
 * or if a coordinate is not a number. */
static bool pixel_range(const struct qn__canvas *c, const double box[4], long range[4])
{
    for (int k = 0; k < 2; k++) {
        double low = fmax(box[k], c->clip[k]) * SCALE, high = fmin(box[k + 2], c->clip[k + 2]) * SCALE;
        double most = (k ? c->h : c->w) * SCALE;
        if (!isfinite(box[k]) || !isfinite(box[k + 2]) || !(low < high)) return false;
        range[k] = (long)floor(fmax(low, 0));
        range[k + 2] = (long)ceil(fmin(high, most));
        if (range[k] >= range[k + 2]) return false;
    }
    return true;
}

/* How much of pixel i lies between low and high. */
static double overlap(long i, double low, double high)
{
    double part = fmin((double)i + 1, high) - fmax((double)i, low);
    return part < 0 ? 0 : part;
}

void qn__rect(struct qn__canvas *c, double x0, double y0, double x1, double y1, qn__color color, double alpha)
{
    long r[4];
    double box[4] = { x0, y0, x1, y1 };
    if (!pixel_range(c, box, r)) return;
    for (int k = 0; k < 2; k++) {
        box[k] = fmax(box[k], c->clip[k]) * SCALE;
        box[k + 2] = fmin(box[k + 2], c->clip[k + 2]) * SCALE;
    }
    for (long y = r[1]; y < r[3]; y++)
        for (long x = r[0]; x < r[2]; x++)
            blend(c, x, y, color, alpha * overlap(x, box[0], box[2]) * overlap(y, box[1], box[3]));
}

void qn__frame(struct qn__canvas *c, double x0, double y0, double x1, double y1, double width, qn__color color)
{
    qn__rect(c, x0, y0, x1, y0 + width, color, 1);
    qn__rect(c, x0, y1 - width, x1, y1, color, 1);
    qn__rect(c, x0, y0 + width, x0 + width, y1 - width, color, 1);
    qn__rect(c, x1 - width, y0 + width, x1, y1 - width, color, 1);
}

/* Coverage of a pixel whose centre is d outside of an edge (negative: inside), one pixel wide ramp. */
static double edge(double d) { return d <= -0.5 ? 1 : d >= 0.5 ? 0 : 0.5 - d; }

void qn__line(struct qn__canvas *c, double x0, double y0, double x1, double y1, double width, qn__color color,
              double alpha)
{
    long r[4];
    double half = width / 2 + 1;
    double box[4] = { fmin(x0, x1) - half, fmin(y0, y1) - half, fmax(x0, x1) + half, fmax(y0, y1) + half };
    if (!pixel_range(c, box, r)) return;
    double dx = (x1 - x0) * SCALE, dy = (y1 - y0) * SCALE, length2 = dx * dx + dy * dy;
    for (long y = r[1]; y < r[3]; y++)
        for (long x = r[0]; x < r[2]; x++) {
            double px = (double)x + 0.5 - x0 * SCALE, py = (double)y + 0.5 - y0 * SCALE;
            double t = length2 > 0 ? fmin(1, fmax(0, (px * dx + py * dy) / length2)) : 0;
            double part = edge(hypot(px - t * dx, py - t * dy) - width / 2 * SCALE);
            if (part > 0) blend(c, x, y, color, alpha * part);
        }
}

void qn__disc(struct qn__canvas *c, double x, double y, double r, qn__color color, double alpha)
{
    qn__line(c, x, y, x, y, 2 * r, color, alpha);
}

void qn__ring(struct qn__canvas *c, double cx, double cy, double radius, double width, qn__color color)
{
    long r[4];
    double reach = radius + width / 2 + 1;
    double box[4] = { cx - reach, cy - reach, cx + reach, cy + reach };
    if (!pixel_range(c, box, r)) return;
    for (long y = r[1]; y < r[3]; y++)
        for (long x = r[0]; x < r[2]; x++) {
            double d = hypot((double)x + 0.5 - cx * SCALE, (double)y + 0.5 - cy * SCALE);
            double part = edge(fabs(d - radius * SCALE) - width / 2 * SCALE);
            if (part > 0) blend(c, x, y, color, part);
        }
}

void qn__dashes(struct qn__canvas *c, const double *x, const double *y, int64_t n, double width, double dash,
                qn__color color)
{
    double along = 0;
    for (int64_t i = 0; i + 1 < n; i++) {
        double length = hypot(x[i + 1] - x[i], y[i + 1] - y[i]);
        if (!isfinite(length)) continue;
        if (!(dash > 0) || length > LONGEST_DASHED) {
            qn__line(c, x[i], y[i], x[i + 1], y[i + 1], width, color, 1);
            continue;
        }
        for (double at = 0; at < length;) { /* the pattern runs on over the corners */
            double phase = fmod(along, 3 * dash), rest = phase < 2 * dash ? 2 * dash - phase : 3 * dash - phase;
            double stop = fmin(length, at + fmax(rest, 1e-3)), a = at / length, b = stop / length;
            if (phase < 2 * dash)
                qn__line(c, x[i] + a * (x[i + 1] - x[i]), y[i] + a * (y[i + 1] - y[i]), x[i] + b * (x[i + 1] - x[i]),
                         y[i] + b * (y[i + 1] - y[i]), width, color, 1);
            along += stop - at;
            at = stop;
        }
    }
}
