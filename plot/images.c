/* images.c - sheets of images with labels, and of images with heat laid over: see quern/plot.h. */
#include "images.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

enum {
    MOST_SIDE = 512,
    TITLE_SIZE = 17,
    WIDTH = 900,
    GAP = 12,
    NAME_SIZE = 12,
    SMALL_SIZE = 10,
    MOST_SHEET = 400,
    MOST_PAIRS = 200
};

qn_status qn__images_check(const qn_plot_images *im, int64_t most, qn_error *err)
{
    if (!im->data) return qn__fail(err, 2204, QN_AT_FIELD("plot.images"), "NULL; expected images");
    if (im->n < 1 || im->n > most)
        return qn__fail(err, 2203, QN_AT_FIELD("plot.images"), "%lld images; expected 1..%lld", (long long)im->n,
                        (long long)most);
    if (im->channels != 1 && im->channels != 3)
        return qn__fail(err, 2203, QN_AT_FIELD("plot.images"), "%lld channels; expected 1 or 3",
                        (long long)im->channels);
    if (im->h < 1 || im->w < 1 || im->h > MOST_SIDE || im->w > MOST_SIDE)
        return qn__fail(err, 2203, QN_AT_FIELD("plot.images"), "%lld x %lld; expected sides of 1..%d", (long long)im->h,
                        (long long)im->w, MOST_SIDE);
    if (!isfinite(im->low) || !isfinite(im->high))
        return qn__fail(err, 2204, QN_AT_FIELD("plot.images"), "range is not finite");
    return QN_OK;
}

qn__color qn__images_color(const qn_plot_images *im, int64_t i, int64_t y, int64_t x)
{
    qn__color color = 0;
    double low = (double)im->low, high = (double)im->high;
    if (!(high > low)) high = low + 1;
    for (int k = 0; k < 3; k++) {
        int64_t plane = im->channels == 3 ? k : 0;
        double v = (double)im->data[((i * im->channels + plane) * im->h + y) * im->w + x];
        double level = isfinite(v) ? 255 * (v - low) / (high - low) : 128;
        color = color << 8 | (qn__color)lround(level < 0 ? 0 : level > 255 ? 255 : level);
    }
    return color;
}

/* How many of an image's pixels, each way, share one of the picture's. */
static int64_t step_of(double scale) { return scale < 1 ? lround(1 / scale) : 1; }

/* The mean colour of the step x step pixels at (x, y). */
static qn__color block_color(const qn_plot_images *im, int64_t i, int64_t y, int64_t x, int64_t step)
{
    int64_t sum[3] = { 0 }, n = 0;
    for (int64_t r = y; r < y + step && r < im->h; r++)
        for (int64_t k = x; k < x + step && k < im->w; k++, n++) {
            qn__color c = qn__images_color(im, i, r, k);
            for (int j = 0; j < 3; j++) sum[j] += c >> (16 - 8 * j) & 0xff;
        }
    return (qn__color)(sum[0] / n << 16 | sum[1] / n << 8 | sum[2] / n);
}

static void draw_block(struct qn__canvas *c, double x0, double y0, int64_t y, int64_t x, int64_t step, double scale,
                       qn__color color)
{
    qn__rect(c, x0 + (double)x * scale, y0 + (double)y * scale, x0 + (double)(x + step) * scale,
             y0 + (double)(y + step) * scale, color, 1);
}

void qn__images_draw(struct qn__canvas *c, const qn_plot_images *im, int64_t i, double x0, double y0, double scale)
{
    int64_t step = step_of(scale);
    for (int64_t y = 0; y < im->h; y += step)
        for (int64_t x = 0; x < im->w; x += step)
            draw_block(c, x0, y0, y, x, step, scale, block_color(im, i, y, x, step));
}

double qn__images_scale(const qn_plot_images *im, double side)
{
    double longest = (double)(im->h > im->w ? im->h : im->w);
    return side >= longest ? floor(side / longest) : 1 / ceil(longest / side);
}

void qn__sheet_title(struct qn__canvas *c, double x, const char *title)
{
    char fit[128];
    qn__text(c, x, 36, TITLE_SIZE, QN__LEFT, QN__BOLD, QN__INK,
             qn__text_fit(fit, c->w - x - 10, TITLE_SIZE, QN__BOLD, title));
}

/* ---- labels ------------------------------------------------------------------------------- */

static const char *label_of(const qn_image_sheet *s, int32_t label, char buf[128], double width, double size,
                            int weight, const char *before)
{
    char full[160];
    bool named = s->names && label >= 0 && label < s->classes && s->names[label];
    if (named)
        snprintf(full, sizeof full, "%s%.120s", before, s->names[label]);
    else
        snprintf(full, sizeof full, "%s%d", before, (int)label);
    return qn__text_fit(buf, width, size, weight, full);
}

/* Right: its name, quietly. Wrong: the guess in red, the truth under it, a red frame. */
static void draw_labels(struct qn__canvas *c, const qn_image_sheet *s, int64_t i, double x, double y, double w,
                        double h)
{
    char fit[128];
    double middle = x + w / 2, room = w + GAP - 4;
    if (!s->truth) return;
    if (!s->predicted || s->predicted[i] == s->truth[i]) {
        qn__text(c, middle, y + h + 16, NAME_SIZE, QN__CENTER, QN__REGULAR, QN__MUTED,
                 label_of(s, s->truth[i], fit, room, NAME_SIZE, QN__REGULAR, ""));
        return;
    }
    qn__frame(c, x - 3, y - 3, x + w + 3, y + h + 3, 3, QN__WRONG);
    qn__text(c, middle, y + h + 17, NAME_SIZE, QN__CENTER, QN__BOLD, QN__WRONG,
             label_of(s, s->predicted[i], fit, room, NAME_SIZE, QN__BOLD, ""));
    qn__text(c, middle, y + h + 30, SMALL_SIZE, QN__CENTER, QN__REGULAR, QN__MUTED,
             label_of(s, s->truth[i], fit, room, SMALL_SIZE, QN__REGULAR, "true: "));
}

qn_status qn_plot_sheet(const char *path, const qn_image_sheet *s, qn_error *err)
{
    struct qn__canvas c;
    if (!path || !s) return qn__fail(err, 2204, QN_AT_FIELD("plot.sheet"), "NULL; expected a path and a sheet");
    QN_TRY(qn__images_check(&s->images, MOST_SHEET, err));
    if (s->columns < 0 || s->classes < 0)
        return qn__fail(err, 2204, QN_AT_FIELD("plot.sheet"), "%d columns, %d classes; expected 0 or more", s->columns,
                        s->classes);
    const qn_plot_images *im = &s->images;
    int64_t columns = s->columns ? s->columns : im->n < 8 ? im->n : 8;
    if (columns > im->n) columns = im->n;
    double room = (WIDTH - 2.0 * QN__SHEET_MARGIN) / (double)columns - GAP;
    double scale = qn__images_scale(im, fmin(fmax(room, 16), 168));
    double w = (double)im->w * scale, h = (double)im->h * scale;
    double cell_w = fmax(w, s->truth ? 60 : 0) + GAP, cell_h = h + (s->truth ? 38 : 0) + GAP;
    int64_t rows = (im->n + columns - 1) / columns;
    double top = s->title ? QN__SHEET_TOP : QN__SHEET_MARGIN;
    QN_TRY(qn__canvas_open(&c, 2 * QN__SHEET_MARGIN + (double)columns * cell_w - GAP,
                           top + (double)rows * cell_h + QN__SHEET_MARGIN - GAP, err));
    if (s->title) qn__sheet_title(&c, QN__SHEET_MARGIN, s->title);
    for (int64_t i = 0; i < im->n; i++) {
        double x = floor(QN__SHEET_MARGIN + (double)(i % columns) * cell_w + (cell_w - GAP - w) / 2);
        double y = top + (double)(i / columns) * cell_h;
        qn__images_draw(&c, im, i, x, y, scale);
        draw_labels(&c, s, i, x, y, w, h);
    }
    qn_status status = qn__canvas_save(&c, path, err);
    qn__canvas_close(&c);
    return status;
}

/* ---- saliency ----------------------------------------------------------------------------- */

/* The strongest magnitude among the h x w values at (x, y) of a map `stride` wide. */
static double strongest(const float *heat, int64_t stride, int64_t y, int64_t x, int64_t h, int64_t w)
{
    double most = 0;
    for (int64_t r = y; r < y + h; r++)
        for (int64_t k = x; k < x + w; k++)
            if (isfinite(heat[r * stride + k])) most = fmax(most, fabs((double)heat[r * stride + k]));
    return most;
}

/* The image, grey and dimmed, shines through where the heat is weak. */
static void draw_overlay(struct qn__canvas *c, const qn_saliency_sheet *s, int64_t i, double x0, double y0,
                         double scale)
{
    const qn_plot_images *im = &s->images;
    const float *heat = s->heat + i * im->h * im->w;
    double most = strongest(heat, im->w, 0, 0, im->h, im->w);
    int64_t step = step_of(scale);
    for (int64_t y = 0; y < im->h; y += step)
        for (int64_t x = 0; x < im->w; x += step) {
            int64_t h = step < im->h - y ? step : im->h - y, w = step < im->w - x ? step : im->w - x;
            double t = most > 0 ? strongest(heat, im->w, y, x, h, w) / most : 0;
            qn__color p = block_color(im, i, y, x, step);
            double grey = 0.3 * (double)(p >> 16) + 0.59 * (double)(p >> 8 & 0xff) + 0.11 * (double)(p & 0xff);
            qn__color dim = (qn__color)lround(grey * 0.45) * 0x010101u;
            draw_block(c, x0, y0, y, x, step, scale, qn__mix(dim, qn__heat(0.25 + 0.75 * t), sqrt(t)));
        }
}

qn_status qn_plot_saliency(const char *path, const qn_saliency_sheet *s, qn_error *err)
{
    struct qn__canvas c;
    char fit[128];
    if (!path || !s || !s->heat)
        return qn__fail(err, 2204, QN_AT_FIELD("plot.saliency"), "NULL; expected a path and a heat map");
    QN_TRY(qn__images_check(&s->images, MOST_PAIRS, err));
    const qn_plot_images *im = &s->images;
    int64_t columns = im->n < 4 ? im->n : 4, rows = (im->n + columns - 1) / columns;
    double scale = qn__images_scale(im, 96), w = (double)im->w * scale, h = (double)im->h * scale;
    double pair = 2 * w + 3, cell_w = pair + 20, cell_h = h + (s->labels ? 26 : 0) + GAP;
    double top = s->title ? QN__SHEET_TOP : QN__SHEET_MARGIN;
    QN_TRY(qn__canvas_open(&c, 2 * QN__SHEET_MARGIN + (double)columns * cell_w - 20,
                           top + (double)rows * cell_h + QN__SHEET_MARGIN - GAP, err));
    if (s->title) qn__sheet_title(&c, QN__SHEET_MARGIN, s->title);
    for (int64_t i = 0; i < im->n; i++) {
        double x = QN__SHEET_MARGIN + (double)(i % columns) * cell_w;
        double y = top + (double)(i / columns) * cell_h;
        qn__images_draw(&c, im, i, x, y, scale);
        draw_overlay(&c, s, i, x + w + 3, y, scale);
        if (s->labels)
            qn__text(&c, x + pair / 2, y + h + 17, NAME_SIZE, QN__CENTER, QN__REGULAR, QN__MUTED,
                     qn__text_fit(fit, pair + 16, NAME_SIZE, QN__REGULAR, s->labels[i]));
    }
    qn_status status = qn__canvas_save(&c, path, err);
    qn__canvas_close(&c);
    return status;
}
