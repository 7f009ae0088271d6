/* axis.c - ticks at round numbers, grids, labels and colour scales: see canvas.h. */
#include "canvas.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { TICK_SIZE = 12, LABEL_SIZE = 13 };

static void point_for_comma(char *s)
{
    for (; *s; s++)
        if (*s == ',') *s = '.'; /* whatever the locale says */
}

const char *qn__number(char buf[32], double x, int digits)
{
    snprintf(buf, 32, "%.*g", digits, x);
    point_for_comma(buf);
    return buf;
}

const char *qn__grouped(char buf[32], int64_t x)
{
    char plain[24];
    int n = snprintf(plain, sizeof plain, "%lld", (long long)x), at = 0;
    for (int i = 0; i < n; i++) {
        buf[at++] = plain[i];
        if ((n - 1 - i) % 3 == 0 && i < n - 1 && plain[i] != '-') buf[at++] = ',';
    }
    buf[at] = 0;
    return buf;
}

/* A tick's text: as many decimals as the step between ticks needs. */
static void tick_text(char buf[24], double x, double step)
{
    double size = fmax(fabs(x), fabs(step));
    if (fabs(x) < step * 1e-6) x = 0;
    if (x != 0 && (size >= 1e6 || step < 1e-5)) {
        snprintf(buf, 24, "%.4g", x);
    } else {
        int decimals = (int)ceil(-log10(step) - 1e-9);
        snprintf(buf, 24, "%.*f", decimals > 0 ? decimals < 8 ? decimals : 8 : 0, x);
    }
    point_for_comma(buf);
}

static double nice_step(double range, int wanted)
{
    double raw = range / wanted, power = pow(10, floor(log10(raw))), m = raw / power;
    return (m <= 1 ? 1 : m <= 2 ? 2 : m <= 5 ? 5 : 10) * power;
}

static void linear_ticks(struct qn__axis *a, bool round, int wanted)
{
    double step = nice_step(a->high - a->low, wanted);
    if (round) {
        a->low = floor(a->low / step + 1e-9) * step;
        a->high = ceil(a->high / step - 1e-9) * step;
    }
    double first = ceil(a->low / step - 1e-9);
    for (a->n = 0; a->n < QN__TICKS; a->n++) {
        double at = (first + a->n) * step;
        if (at > a->high + 1e-9 * step) break;
        a->at[a->n] = at;
        tick_text(a->text[a->n], at, step);
    }
}

static void log_text(char buf[24], double x)
{
    if (x >= 1e-3 && x < 1e5)
        snprintf(buf, 24, "%.10g", x);
    else
        snprintf(buf, 24, "%.0e", x);
    point_for_comma(buf);
}

/* Ticks at 1, 2 and 5 of each decade where there are few decades, else at powers of ten. */
static void log_ticks(struct qn__axis *a, bool round, int wanted)
{
    double from = floor(log10(a->low) + 1e-9), to = ceil(log10(a->high) - 1e-9);
    int stride = (int)ceil((to - from) / wanted), per = to - from <= wanted / 2.0 ? 3 : 1;
    if (stride < 1) stride = 1;
    static const double mantissa[3] = { 1, 2, 5 };
    if (round) {
        double low = a->low * (1 + 1e-9), high = a->high * (1 - 1e-9);
        a->low = pow(10, from);
        a->high = pow(10, to);
        for (int k = 1; per == 3 && k < 3; k++) {
            if (mantissa[k] * pow(10, from) <= low) a->low = mantissa[k] * pow(10, from);
            if (mantissa[3 - k] * pow(10, to - 1) >= high) a->high = mantissa[3 - k] * pow(10, to - 1);
        }
    }
    a->n = 0;
    for (double e = from; e <= to; e += stride)
        for (int k = 0; k < per && a->n < QN__TICKS; k++) {
            double at = mantissa[k] * pow(10, e);
            if (at < a->low * (1 - 1e-9) || at > a->high * (1 + 1e-9)) continue;
            a->at[a->n] = at;
            log_text(a->text[a->n++], at);
        }
}

void qn__axis_make(struct qn__axis *a, double low, double high, bool log, bool round, int wanted)
{
    memset(a, 0, sizeof *a);
    if (!(isfinite(low) && isfinite(high)) || low > high || (log && !(low > 0))) {
        low = log ? 0.1 : 0; /* nothing to show: an axis all the same */
        high = 1;
    }
    /* Ends beyond what rounding to ticks can bear; points out there fall outside of the chart. */
    low = fmin(fmax(low, log ? 1e-290 : -1e290), 1e290);
    high = fmin(fmax(high, low), 1e290);
    if (high - low <= fmax(fabs(low), fabs(high)) * 1e-9) { /* one value: put it in the middle */
        double room = log ? 0.5 * low : low == 0 ? 0.5 : fabs(low) * 0.1;
        low -= room;
        high += room;
    }
    a->low = low;
    a->high = high;
    a->log = log;
    (log ? log_ticks : linear_ticks)(a, round, wanted > 1 ? wanted : 2);
}

double qn__axis_share(const struct qn__axis *a, double v)
{
    if (!a->log) return (v - a->low) / (a->high - a->low);
    return v > 0 ? (log(v) - log(a->low)) / (log(a->high) - log(a->low)) : (double)NAN;
}

double qn__axis_room(const struct qn__axis *y, bool label)
{
    double widest = 0;
    for (int i = 0; i < y->n; i++) widest = fmax(widest, qn__text_width(TICK_SIZE, 0, y->text[i]));
    return widest + 8 + (label ? 24 : 0);
}

static void draw_x(struct qn__canvas *c, const struct qn__box *b, const struct qn__axis *x)
{
    double last_end = -1e9;
    for (int i = 0; i < x->n; i++) {
        double at = b->x0 + qn__axis_share(x, x->at[i]) * (b->x1 - b->x0);
        double half = qn__text_width(TICK_SIZE, 0, x->text[i]) / 2;
        qn__rect(c, at - 0.5, b->y0, at + 0.5, b->y1, QN__GRID, 1);
        qn__rect(c, at - 0.5, b->y1, at + 0.5, b->y1 + 4, QN__AXIS, 1);
        if (at - half < last_end + 6) continue;
        qn__text(c, at, b->y1 + 19, TICK_SIZE, QN__CENTER, QN__REGULAR, QN__MUTED, x->text[i]);
        last_end = at + half;
    }
}

static void draw_y(struct qn__canvas *c, const struct qn__box *b, const struct qn__axis *y)
{
    double last = 1e9;
    for (int i = 0; i < y->n; i++) {
        double at = b->y1 - qn__axis_share(y, y->at[i]) * (b->y1 - b->y0);
        qn__rect(c, b->x0, at - 0.5, b->x1, at + 0.5, QN__GRID, 1);
        if (fabs(last - at) < TICK_SIZE + 2) continue;
        qn__text(c, b->x0 - 8, at + 4.2, TICK_SIZE, QN__RIGHT, QN__REGULAR, QN__MUTED, y->text[i]);
        last = at;
    }
}

void qn__axes_draw(struct qn__canvas *c, const struct qn__box *b, const struct qn__axis *x, const struct qn__axis *y,
                   const char *x_label, const char *y_label)
{
    char fit[128];
    draw_x(c, b, x);
    draw_y(c, b, y);
    qn__rect(c, b->x0, b->y1 - 0.5, b->x1, b->y1 + 0.5, QN__AXIS, 1);
    qn__rect(c, b->x0 - 0.5, b->y0, b->x0 + 0.5, b->y1, QN__AXIS, 1);
    if (x_label)
        qn__text(c, (b->x0 + b->x1) / 2, b->y1 + 42, LABEL_SIZE, QN__CENTER, QN__REGULAR, QN__INK,
                 qn__text_fit(fit, b->x1 - b->x0, LABEL_SIZE, QN__REGULAR, x_label));
    if (y_label)
        qn__text_turned(c, b->x0 - qn__axis_room(y, false) - 10, (b->y0 + b->y1) / 2, LABEL_SIZE, QN__CENTER,
                        QN__REGULAR, QN__INK, 90, qn__text_fit(fit, b->y1 - b->y0, LABEL_SIZE, QN__REGULAR, y_label));
}

void qn__color_bar(struct qn__canvas *c, const struct qn__box *b, qn__color (*color)(double), const double *share,
                   const char *const *text, int n)
{
    double height = b->y1 - b->y0;
    for (double y = b->y0; y < b->y1; y += 0.5)
        qn__rect(c, b->x0, y, b->x1, fmin(y + 0.5, b->y1), color((b->y1 - y - 0.25) / height), 1);
    qn__frame(c, b->x0, b->y0, b->x1, b->y1, 1, QN__GRID);
    for (int i = 0; i < n; i++) {
        double y = b->y1 - share[i] * height;
        qn__rect(c, b->x1, y - 0.5, b->x1 + 4, y + 0.5, QN__AXIS, 1);
        qn__text(c, b->x1 + 9, y + 4.2, TICK_SIZE, QN__LEFT, QN__REGULAR, QN__MUTED, text[i]);
    }
}
