/* filters.c - the weights of a convolution as tiles: see quern/plot.h. */
#include "images.h"
#include <math.h>
#include <stdio.h>

enum { MOST_TILES = 4096, MOST_SIDE = 64, GAP = 8, BAR = 14, WIDTH = 900 };

static qn_status check(const char *path, const qn_filter_grid *g, qn_error *err)
{
    if (!path || !g || !g->weights)
        return qn__fail(err, 2204, QN_AT_FIELD("plot.filters"), "NULL; expected a path and weights");
    if (g->out < 1 || g->in < 1 || g->out > MOST_TILES || g->in > MOST_TILES || g->out * g->in > MOST_TILES)
        return qn__fail(err, 2203, QN_AT_FIELD("plot.filters"), "%lld x %lld filters; expected 1..%d",
                        (long long)g->out, (long long)g->in, MOST_TILES);
    if (g->h < 1 || g->w < 1 || g->h > MOST_SIDE || g->w > MOST_SIDE)
        return qn__fail(err, 2203, QN_AT_FIELD("plot.filters"), "%lld x %lld; expected sides of 1..%d", (long long)g->h,
                        (long long)g->w, MOST_SIDE);
    return QN_OK;
}

static double largest(const qn_filter_grid *g)
{
    double most = 0;
    for (int64_t i = 0; i < g->out * g->in * g->h * g->w; i++)
        if (isfinite(g->weights[i])) most = fmax(most, fabs((double)g->weights[i]));
    return most > 0 ? most : 1;
}

static void draw_tile(struct qn__canvas *c, const qn_filter_grid *g, int64_t tile, double x0, double y0, double scale,
                      double most)
{
    for (int64_t y = 0; y < g->h; y++)
        for (int64_t x = 0; x < g->w; x++) {
            double v = (double)g->weights[(tile * g->h + y) * g->w + x];
            qn__color color = isfinite(v) ? qn__diverging(v / most) : (qn__color)QN__AXIS;
            qn__rect(c, x0 + (double)x * scale, y0 + (double)y * scale, x0 + (double)(x + 1) * scale,
                     y0 + (double)(y + 1) * scale, color, 1);
        }
    qn__frame(c, x0 - 1, y0 - 1, x0 + (double)g->w * scale + 1, y0 + (double)g->h * scale + 1, 1, 0xd1d5db);
}

static qn__color diverging_01(double t) { return qn__diverging(2 * t - 1); }

static void draw_scale(struct qn__canvas *c, double x, double y0, double y1, double most)
{
    static const double share[3] = { 0, 0.5, 1 };
    char low[32], high[32], number[32];
    qn__number(number, most, 2);
    snprintf(low, sizeof low, "-%.30s", number);
    snprintf(high, sizeof high, "+%.30s", number);
    const char *const text[3] = { low, "0", high };
    struct qn__box b = { x, y0, x + BAR, y1 };
    qn__color_bar(c, &b, diverging_01, share, text, 3);
}

qn_status qn_plot_filters(const char *path, const qn_filter_grid *g, qn_error *err)
{
    struct qn__canvas c;
    QN_TRY(check(path, g, err));
    int64_t tiles = g->out * g->in, columns = g->in;
    if (g->in == 1) { /* rows of equal length where that is possible */
        columns = tiles < 12 ? tiles : 12;
        for (int64_t k = columns; k >= 6; k--)
            if (tiles % k == 0) {
                columns = k;
                break;
            }
    }
    double longest = (double)(g->h > g->w ? g->h : g->w);
    double side = fmin(84, fmax(longest, (WIDTH - 130.0) / (double)columns - GAP));
    double scale = fmax(1, floor(side / longest));
    double w = (double)g->w * scale + GAP, h = (double)g->h * scale + GAP;
    int64_t rows = (tiles + columns - 1) / columns;
    double top = g->title ? QN__SHEET_TOP : QN__SHEET_MARGIN;
    double right = QN__SHEET_MARGIN + (double)columns * w + 12;
    double bottom = top + fmax((double)rows * h - GAP, 60);
    QN_TRY(qn__canvas_open(&c, right + BAR + 62, bottom + QN__SHEET_MARGIN, err));
    if (g->title) qn__sheet_title(&c, QN__SHEET_MARGIN, g->title);
    double most = largest(g);
    for (int64_t i = 0; i < tiles; i++)
        draw_tile(&c, g, i, QN__SHEET_MARGIN + (double)(i % columns) * w, top + (double)(i / columns) * h, scale, most);
    draw_scale(&c, right, top, fmin(bottom, top + 260), most);
    qn_status status = qn__canvas_save(&c, path, err);
    qn__canvas_close(&c);
    return status;
}
