/* lines.c - curves over steps or epochs, in one or several panels: see quern/plot.h. */
#include "canvas.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PANEL = 450, ALONE = 900, HEIGHT = 420, TITLE_SIZE = 17, LEGEND_SIZE = 12, MOST_SERIES = 64, MOST_CHARTS = 8 };

static double x_of(const qn_plot_series *s, int64_t i) { return s->x ? s->x[i] : (double)(i + 1); }

/* A point that can be drawn. */
static bool usable(const qn_line_chart *chart, const qn_plot_series *s, int64_t i)
{
    return isfinite(x_of(s, i)) && isfinite(s->y[i]) && (!chart->log_y || s->y[i] > 0);
}

static qn_status check(const qn_line_chart *charts, int count, qn_error *err)
{
    if (!charts || count < 1 || count > MOST_CHARTS)
        return qn__fail(err, 2203, QN_AT_FIELD("plot.charts"), "%d; expected 1..%d", charts ? count : 0, MOST_CHARTS);
    for (int k = 0; k < count; k++) {
        const qn_line_chart *c = &charts[k];
        if (c->count < 0 || c->count > MOST_SERIES || (c->count > 0 && !c->series))
            return qn__fail(err, 2203, QN_AT_FIELD("plot.series"), "%d; expected 0..%d", c->count, MOST_SERIES);
        for (int i = 0; i < c->count; i++)
            if (c->series[i].n < 0 || (c->series[i].n > 0 && !c->series[i].y))
                return qn__fail(err, 2204, QN_AT_FIELD("plot.series"),
                                "series %d: %lld points without values; expected an array", i,
                                (long long)c->series[i].n);
    }
    return QN_OK;
}

static void make_axes(const qn_line_chart *chart, double width, struct qn__axis *x, struct qn__axis *y)
{
    double x0 = (double)INFINITY, x1 = -x0, y0 = x0, y1 = -x0;
    for (int k = 0; k < chart->count; k++)
        for (int64_t i = 0; i < chart->series[k].n; i++) {
            const qn_plot_series *s = &chart->series[k];
            if (!usable(chart, s, i)) continue;
            x0 = fmin(x0, x_of(s, i));
            x1 = fmax(x1, x_of(s, i));
            y0 = fmin(y0, s->y[i]);
            y1 = fmax(y1, s->y[i]);
        }
    qn__axis_make(x, x0, x1, false, false, width > 600 ? 10 : 6);
    qn__axis_make(y, y0, y1, chart->log_y, true, 6);
}

static qn__color color_of(const qn_line_chart *chart, int k)
{
    return qn__palette(chart->series[k].color > 0 ? chart->series[k].color - 1 : k);
}

/* Runs of usable points, each at once so that dashes run on; `px` and `py` hold one run. */
static void draw_series(struct qn__canvas *c, const struct qn__box *b, const qn_line_chart *chart, int k,
                        const struct qn__axis *ax, const struct qn__axis *ay, double *px, double *py)
{
    const qn_plot_series *s = &chart->series[k];
    qn__color color = color_of(chart, k);
    int64_t run = 0;
    for (int64_t i = 0; i <= s->n; i++) {
        if (i < s->n && usable(chart, s, i)) {
            px[run] = b->x0 + qn__axis_share(ax, x_of(s, i)) * (b->x1 - b->x0);
            py[run] = b->y1 - qn__axis_share(ay, s->y[i]) * (b->y1 - b->y0);
            run++;
            continue;
        }
        qn__dashes(c, px, py, run, s->dashed ? 1.8 : 2.2, s->dashed ? 3.5 : 0, color);
        for (int64_t j = 0; j < run; j++) /* a single point would otherwise not show */
            if (s->markers || run == 1) qn__disc(c, px[j], py[j], 3.4, color, 1);
        run = 0;
    }
}

static double legend_width(const qn_line_chart *chart)
{
    double widest = 0;
    char fit[128];
    for (int k = 0; k < chart->count; k++)
        widest = fmax(widest,
                      qn__text_width(LEGEND_SIZE, 0, qn__text_fit(fit, 200, LEGEND_SIZE, 0, chart->series[k].name)));
    return widest + 52;
}

/* How many points lie under a legend in the given corner. */
static int64_t covered(const qn_line_chart *chart, const struct qn__axis *ax, const struct qn__axis *ay, double w,
                       double h, bool right, bool bottom)
{
    int64_t n = 0;
    for (int k = 0; k < chart->count; k++)
        for (int64_t i = 0; i < chart->series[k].n; i++) {
            const qn_plot_series *s = &chart->series[k];
            if (!usable(chart, s, i)) continue;
            double u = qn__axis_share(ax, x_of(s, i)), v = qn__axis_share(ay, s->y[i]);
            n += (right ? u > 1 - w : u < w) && (bottom ? v < h : v > 1 - h);
        }
    return n;
}

static void draw_legend(struct qn__canvas *c, const struct qn__box *b, const qn_line_chart *chart,
                        const struct qn__axis *ax, const struct qn__axis *ay)
{
    char fit[128];
    double w = legend_width(chart), h = chart->count * 19 + 12.0, bw = b->x1 - b->x0, bh = b->y1 - b->y0;
    int corner = 0;
    int64_t least = INT64_MAX;
    for (int k = 0; k < 4; k++) { /* upper right, lower right, upper left, lower left */
        int64_t n = covered(chart, ax, ay, (w + 16) / bw, (h + 16) / bh, k < 2, k % 2);
        if (n >= least) continue;
        least = n;
        corner = k;
    }
    double x = corner < 2 ? b->x1 - w - 10 : b->x0 + 10, y = corner % 2 ? b->y1 - h - 10 : b->y0 + 10;
    qn__rect(c, x, y, x + w, y + h, QN__PAPER, 0.88);
    qn__frame(c, x, y, x + w, y + h, 1, QN__GRID);
    for (int k = 0; k < chart->count; k++) {
        double at = y + 16 + 19 * k, lx[2] = { x + 10, x + 36 }, ly[2] = { at - 0.5, at - 0.5 };
        const qn_plot_series *s = &chart->series[k];
        qn__dashes(c, lx, ly, 2, s->dashed ? 1.8 : 2.2, s->dashed ? 3.5 : 0, color_of(chart, k));
        if (s->markers) qn__disc(c, x + 23, at - 0.5, 3.4, color_of(chart, k), 1);
        qn__text(c, x + 44, at + 3.8, LEGEND_SIZE, QN__LEFT, QN__REGULAR, QN__INK,
                 qn__text_fit(fit, 200, LEGEND_SIZE, 0, s->name));
    }
}

static void draw_chart(struct qn__canvas *c, const qn_line_chart *chart, double left, double width, double *px,
                       double *py)
{
    struct qn__axis ax, ay;
    char fit[128];
    bool named = false;
    make_axes(chart, width, &ax, &ay);
    struct qn__box b = { left + 18 + qn__axis_room(&ay, chart->y_label != NULL), 56, left + width - 24,
                         HEIGHT - (chart->x_label ? 60 : 38) };
    if (chart->title)
        qn__text(c, b.x0, 34, TITLE_SIZE, QN__LEFT, QN__BOLD, QN__INK,
                 qn__text_fit(fit, b.x1 - b.x0, TITLE_SIZE, QN__BOLD, chart->title));
    qn__axes_draw(c, &b, &ax, &ay, chart->x_label, chart->y_label);
    qn__clip(c, b.x0 - 4, b.y0 - 4, b.x1 + 4, b.y1 + 4);
    for (int k = 0; k < chart->count; k++) {
        draw_series(c, &b, chart, k, &ax, &ay, px, py);
        named = named || chart->series[k].name;
    }
    qn__unclip(c);
    if (named) draw_legend(c, &b, chart, &ax, &ay);
}

qn_status qn_plot_lines(const char *path, const qn_line_chart *charts, int count, qn_error *err)
{
    struct qn__canvas c;
    if (!path) return qn__fail(err, 2204, QN_AT_FIELD("plot.path"), "NULL; expected a file name");
    QN_TRY(check(charts, count, err));
    int64_t longest = 1;
    for (int k = 0; k < count; k++)
        for (int i = 0; i < charts[k].count; i++)
            if (charts[k].series[i].n > longest) longest = charts[k].series[i].n;
    double width = count == 1 ? ALONE : PANEL;
    double *px = qn__calloc(NULL, (size_t)longest, sizeof *px);
    double *py = qn__calloc(NULL, (size_t)longest, sizeof *py);
    qn_status status = px && py ? qn__canvas_open(&c, width * count, HEIGHT, err)
                                : qn__nomem(err, "plot.series", (size_t)longest * 2 * sizeof *px);
    if (status == QN_OK) {
        for (int k = 0; k < count; k++) draw_chart(&c, &charts[k], k * width, width, px, py);
        status = qn__canvas_save(&c, path, err);
        qn__canvas_close(&c);
    }
    free(px);
    free(py);
    return status;
}
