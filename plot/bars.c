/* bars.c - horizontal bars, and points in a plane: see quern/plot.h. */
#include "canvas.h"
#include <math.h>
#include <stdio.h>

enum {
    WIDTH = 900,
    ROW = 30,
    TITLE_SIZE = 17,
    LABEL_SIZE = 13,
    MOST_BARS = 200,
    MOST_POINTS = 100000,
    SCATTER_HEIGHT = 480,
    BAR = 14
};

/* ---- bars --------------------------------------------------------------------------------- */

static qn_status check_bars(const char *path, const qn_bar_chart *ch, qn_error *err)
{
    if (!path || !ch || !ch->bars)
        return qn__fail(err, 2204, QN_AT_FIELD("plot.bars"), "NULL; expected a path and bars");
    if (ch->count < 1 || ch->count > MOST_BARS)
        return qn__fail(err, 2203, QN_AT_FIELD("plot.bars"), "%d; expected 1..%d", ch->count, MOST_BARS);
    for (int i = 0; i < ch->count; i++)
        if (ch->bars[i].value < 0)
            return qn__fail(err, 2204, QN_AT_FIELD("plot.bars"), "bar %d: %g; expected 0 or more", i,
                            ch->bars[i].value);
    return QN_OK;
}

static const char *value_text(const qn_plot_bar *bar, char buf[32])
{
    if (!isfinite(bar->value)) return "n/a";
    return bar->text ? bar->text : qn__number(buf, bar->value, 4);
}

static void draw_bar(struct qn__canvas *c, const struct qn__box *b, const struct qn__axis *x, const qn_plot_bar *bar,
                     double y)
{
    char fit[128], number[32];
    double end = b->x0;
    if (isfinite(bar->value)) {
        end += qn__axis_share(x, bar->value) * (b->x1 - b->x0);
        qn__rect(c, b->x0, y + 5, end, y + ROW - 5, qn__palette(bar->color > 0 ? bar->color - 1 : 0), 1);
    }
    qn__text(c, b->x0 - 10, y + ROW / 2.0 + 4.6, LABEL_SIZE, QN__RIGHT, QN__REGULAR, QN__INK,
             qn__text_fit(fit, 280, LABEL_SIZE, QN__REGULAR, bar->label));
    const char *text = value_text(bar, number);
    double width = qn__text_width(LABEL_SIZE, QN__REGULAR, text);
    qn__rect(c, end + 4, y + 6, end + 12 + width, y + ROW - 6, QN__PAPER, 0.85);
    qn__text(c, end + 8, y + ROW / 2.0 + 4.6, LABEL_SIZE, QN__LEFT, QN__REGULAR, QN__INK, text);
}

static void draw_reference(struct qn__canvas *c, const struct qn__box *b, const struct qn__axis *x,
                           const qn_bar_chart *ch)
{
    if (!(ch->reference > 0) || ch->reference > x->high) return;
    double at = b->x0 + qn__axis_share(x, ch->reference) * (b->x1 - b->x0);
    double lx[2] = { at, at }, ly[2] = { b->y0 - 4, b->y1 };
    char fit[128];
    qn__dashes(c, lx, ly, 2, 1.5, 4, QN__INK);
    bool left = at > (b->x0 + b->x1) / 2;
    qn__text(c, at + (left ? 4 : -4), b->y0 - 9, 12, left ? QN__RIGHT : QN__LEFT, QN__REGULAR, QN__INK,
             qn__text_fit(fit, 300, 12, QN__REGULAR, ch->reference_label));
}

qn_status qn_plot_bars(const char *path, const qn_bar_chart *ch, qn_error *err)
{
    struct qn__canvas c;
    struct qn__axis x, none = { .n = 0 };
    char fit[128], number[32];
    QN_TRY(check_bars(path, ch, err));
    double labels = 0, texts = 0, most = ch->reference > 0 && isfinite(ch->reference) ? ch->reference : 0;
    for (int i = 0; i < ch->count; i++) {
        const qn_plot_bar *bar = &ch->bars[i];
        labels = fmax(labels, qn__text_width(LABEL_SIZE, 0, qn__text_fit(fit, 280, LABEL_SIZE, 0, bar->label)));
        texts = fmax(texts, qn__text_width(LABEL_SIZE, 0, value_text(bar, number)));
        if (isfinite(bar->value)) most = fmax(most, bar->value);
    }
    double top = 24 + (ch->title ? 32 : 0) + (ch->reference > 0 ? 22 : 0);
    double height = top + ch->count * ROW + 6.0;
    struct qn__box b = { 24 + labels + 12, top, WIDTH - 24 - fmin(texts, 200) - 12, height };
    qn__axis_make(&x, 0, most > 0 ? most : 1, false, false, 6);
    QN_TRY(qn__canvas_open(&c, WIDTH, height + (ch->value_label ? 60 : 36), err));
    if (ch->title)
        qn__text(&c, 24, 36, TITLE_SIZE, QN__LEFT, QN__BOLD, QN__INK,
                 qn__text_fit(fit, WIDTH - 48, TITLE_SIZE, QN__BOLD, ch->title));
    qn__axes_draw(&c, &b, &x, &none, ch->value_label, NULL);
    draw_reference(&c, &b, &x, ch);
    for (int i = 0; i < ch->count; i++) draw_bar(&c, &b, &x, &ch->bars[i], top + 3 + ROW * (double)i);
    qn_status status = qn__canvas_save(&c, path, err);
    qn__canvas_close(&c);
    return status;
}

/* ---- points ------------------------------------------------------------------------------- */

static bool usable(const qn_scatter_chart *ch, int64_t i)
{
    return isfinite(ch->x[i]) && isfinite(ch->y[i]) && (!ch->log_x || ch->x[i] > 0) && (!ch->log_y || ch->y[i] > 0);
}

/* Five hundredths of room on either side, so that no point sits on the frame. */
static void make_axis(struct qn__axis *a, double low, double high, bool log, int ticks)
{
    if (log && low > 0 && high > low) {
        double room = pow(high / low, 0.05);
        low /= room;
        high *= room;
    } else if (high > low) {
        double room = (high - low) * 0.05;
        low -= room;
        high += room;
    }
    qn__axis_make(a, low, high, log, false, ticks);
}

static void range_of(const qn_scatter_chart *ch, const double *v, double *low, double *high)
{
    *low = (double)INFINITY;
    *high = -*low;
    for (int64_t i = 0; i < ch->n; i++) {
        if (!usable(ch, i) || !isfinite(v[i])) continue;
        *low = fmin(*low, v[i]);
        *high = fmax(*high, v[i]);
    }
}

static qn__color point_color(double t) { return qn__heat(0.9 - 0.72 * t); }

static void draw_color_scale(struct qn__canvas *c, const struct qn__box *b, const char *label, double low, double high)
{
    struct qn__axis a;
    double share[QN__TICKS];
    const char *text[QN__TICKS];
    char fit[128];
    qn__axis_make(&a, low, high, false, false, 5);
    for (int i = 0; i < a.n; i++) {
        share[i] = qn__axis_share(&a, a.at[i]);
        text[i] = a.text[i];
    }
    qn__color_bar(c, b, point_color, share, text, a.n);
    if (label)
        qn__text(c, b->x1 + 50, b->y0 - 10, 12, QN__RIGHT, QN__REGULAR, QN__INK,
                 qn__text_fit(fit, 160, 12, QN__REGULAR, label));
}

static void draw_points(struct qn__canvas *c, const struct qn__box *b, const qn_scatter_chart *ch,
                        const struct qn__axis *ax, const struct qn__axis *ay, double low, double high)
{
    for (int64_t i = 0; i < ch->n; i++) {
        if (!usable(ch, i)) continue;
        double x = b->x0 + qn__axis_share(ax, ch->x[i]) * (b->x1 - b->x0);
        double y = b->y1 - qn__axis_share(ay, ch->y[i]) * (b->y1 - b->y0);
        qn__color color = qn__palette(0);
        if (ch->color)
            color = !isfinite(ch->color[i]) ? (qn__color)QN__AXIS
                    : high > low            ? point_color((ch->color[i] - low) / (high - low))
                                            : point_color(1);
        qn__disc(c, x, y, 5.4, QN__PAPER, 1);
        qn__disc(c, x, y, 4.6, color, 0.92);
        if (i == ch->best) qn__ring(c, x, y, 9, 2, QN__WRONG);
    }
}

qn_status qn_plot_scatter(const char *path, const qn_scatter_chart *ch, qn_error *err)
{
    struct qn__canvas c;
    struct qn__axis ax, ay;
    char fit[128];
    double low, high, cl = 0, chigh = 0;
    if (!path || !ch || (ch->n > 0 && (!ch->x || !ch->y)))
        return qn__fail(err, 2204, QN_AT_FIELD("plot.scatter"), "NULL; expected a path and points");
    if (ch->n < 0 || ch->n > MOST_POINTS)
        return qn__fail(err, 2203, QN_AT_FIELD("plot.scatter"), "%lld points; expected 0..%d", (long long)ch->n,
                        MOST_POINTS);
    range_of(ch, ch->x, &low, &high);
    make_axis(&ax, low, high, ch->log_x, 9);
    range_of(ch, ch->y, &low, &high);
    make_axis(&ay, low, high, ch->log_y, 7);
    QN_TRY(qn__canvas_open(&c, WIDTH, SCATTER_HEIGHT, err));
    struct qn__box b = { 24 + qn__axis_room(&ay, ch->y_label != NULL), 60, WIDTH - (ch->color ? 110 : 28),
                         SCATTER_HEIGHT - (ch->x_label ? 62 : 40) };
    if (ch->title)
        qn__text(&c, b.x0, 34, TITLE_SIZE, QN__LEFT, QN__BOLD, QN__INK,
                 qn__text_fit(fit, b.x1 - b.x0 - 60, TITLE_SIZE, QN__BOLD, ch->title));
    qn__axes_draw(&c, &b, &ax, &ay, ch->x_label, ch->y_label);
    if (ch->color) range_of(ch, ch->color, &cl, &chigh);
    draw_points(&c, &b, ch, &ax, &ay, cl, chigh);
    struct qn__box bar = { b.x1 + 22, b.y0, b.x1 + 22 + BAR, b.y1 };
    if (ch->color && chigh > cl) draw_color_scale(&c, &bar, ch->color_label, cl, chigh);
    qn_status status = qn__canvas_save(&c, path, err);
    qn__canvas_close(&c);
    return status;
}
