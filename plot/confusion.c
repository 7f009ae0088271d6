/* confusion.c - the confusion matrix: see quern/plot.h. */
#include "canvas.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MOST = 200, LABEL_SIZE = 13, TITLE_SIZE = 17, BAR = 14 };

struct layout {
    double cell, x0, y0; /* of the matrix */
    double names, below; /* room for the names to its left and below */
    double width, height;
    bool turned; /* the names below stand at an angle */
    int stride;  /* every how many-th name is shown   */
};

/* Errors are rare among many right ones: the square root makes them visible. */
static double tone(double share) { return sqrt(share); }

static qn_status check(const char *path, const qn_confusion_chart *m, qn_error *err)
{
    if (!path || !m || !m->counts)
        return qn__fail(err, 2204, QN_AT_FIELD("plot.confusion"), "NULL; expected a path and counts");
    if (m->classes < 1 || m->classes > MOST)
        return qn__fail(err, 2203, QN_AT_FIELD("plot.confusion"), "%d classes; expected 1..%d", m->classes, MOST);
    for (int i = 0; i < m->classes * m->classes; i++)
        if (m->counts[i] < 0)
            return qn__fail(err, 2204, QN_AT_FIELD("plot.confusion"), "row %d, column %d: %lld; expected a count",
                            i / m->classes, i % m->classes, (long long)m->counts[i]);
    return QN_OK;
}

static const char *name_of(const qn_confusion_chart *m, int i, char buf[128])
{
    char number[16];
    snprintf(number, sizeof number, "%d", i);
    return qn__text_fit(buf, 130, LABEL_SIZE, QN__REGULAR, m->names && m->names[i] ? m->names[i] : number);
}

static struct layout measure(const qn_confusion_chart *m)
{
    char buf[128];
    struct layout l = { .stride = 1 };
    for (int i = 0; i < m->classes; i++) l.names = fmax(l.names, qn__text_width(LABEL_SIZE, 0, name_of(m, i, buf)));
    l.cell = fmin(64, fmax(5, floor(640.0 / m->classes)));
    if (l.cell < 15) l.stride = (int)ceil(15 / l.cell);
    l.turned = l.names > l.cell * l.stride - 6;
    l.below = l.turned ? l.names * 0.64 + 14 : 22;
    l.x0 = 48 + l.names + 8;
    l.y0 = m->title ? 60 : 24;
    l.width = l.x0 + l.cell * m->classes + 24 + BAR + 62;
    l.height = l.y0 + l.cell * m->classes + l.below + 34;
    return l;
}

static void draw_cell(struct qn__canvas *c, const struct layout *l, int row, int column, int64_t count, double share)
{
    char text[32];
    double x = l->x0 + column * l->cell, y = l->y0 + row * l->cell, middle = x + l->cell / 2;
    qn__color fill = isnan(share) ? QN__GRID : qn__sequential(tone(share));
    double gap = l->cell > 20 ? 1 : 0;
    qn__rect(c, x, y, x + l->cell - gap, y + l->cell - gap, fill, 1);
    if (l->cell < 30 || count == 0) return;
    double size = l->cell >= 50 ? 14 : 11;
    qn__grouped(text, count);
    while (size > 7 && qn__text_width(size, 0, text) > l->cell - 6) size -= 1;
    bool both = l->cell >= 44;
    qn__text(c, middle, y + l->cell / 2 + (both ? -1 : size * 0.35), size, QN__CENTER,
             row == column ? QN__BOLD : QN__REGULAR, qn__ink_on(fill), text);
    if (!both) return;
    snprintf(text, sizeof text, share >= 0.0995 ? "%.0f %%" : "%.1f %%", 100 * share);
    for (char *p = text; *p; p++)
        if (*p == ',') *p = '.';
    qn__text(c, middle, y + l->cell / 2 + 14, 10, QN__CENTER, QN__REGULAR, qn__mix(qn__ink_on(fill), fill, 0.3), text);
}

static void draw_names(struct qn__canvas *c, const struct layout *l, const qn_confusion_chart *m)
{
    char buf[128];
    double bottom = l->y0 + l->cell * m->classes;
    for (int i = 0; i < m->classes; i += l->stride) {
        const char *name = name_of(m, i, buf);
        double at = (i + 0.5) * l->cell;
        qn__text(c, l->x0 - 8, l->y0 + at + 4.5, LABEL_SIZE, QN__RIGHT, QN__REGULAR, QN__INK, name);
        if (l->turned)
            qn__text_turned(c, l->x0 + at + 5, bottom + 13, LABEL_SIZE, QN__RIGHT, QN__REGULAR, QN__INK, 38, name);
        else
            qn__text(c, l->x0 + at, bottom + 17, LABEL_SIZE, QN__CENTER, QN__REGULAR, QN__INK, name);
    }
    qn__text(c, l->x0 + l->cell * m->classes / 2, l->height - 12, LABEL_SIZE, QN__CENTER, QN__REGULAR, QN__MUTED,
             "predicted");
    qn__text_turned(c, 28, l->y0 + l->cell * m->classes / 2, LABEL_SIZE, QN__CENTER, QN__REGULAR, QN__MUTED, 90,
                    "true class");
}

qn_status qn_plot_confusion(const char *path, const qn_confusion_chart *m, qn_error *err)
{
    static const double share[] = { 0, 0.01, 0.1, 0.25, 0.5, 0.75, 1 };
    static const char *const text[] = { "0 %", "1 %", "10 %", "25 %", "50 %", "75 %", "100 %" };
    struct qn__canvas c;
    char fit[128];
    QN_TRY(check(path, m, err));
    struct layout l = measure(m);
    QN_TRY(qn__canvas_open(&c, l.width, l.height, err));
    if (m->title)
        qn__text(&c, l.x0, 36, TITLE_SIZE, QN__LEFT, QN__BOLD, QN__INK,
                 qn__text_fit(fit, l.width - l.x0 - 10, TITLE_SIZE, QN__BOLD, m->title));
    for (int i = 0; i < m->classes; i++) {
        double total = 0;
        for (int j = 0; j < m->classes; j++) total += (double)m->counts[i * m->classes + j];
        for (int j = 0; j < m->classes; j++) {
            int64_t count = m->counts[i * m->classes + j];
            draw_cell(&c, &l, i, j, count, (double)count / total);
        }
    }
    draw_names(&c, &l, m);
    double x = l.x0 + l.cell * m->classes + 24, toned[7];
    for (int i = 0; i < 7; i++) toned[i] = tone(share[i]);
    struct qn__box bar = { x, l.y0, x + BAR, l.y0 + l.cell * m->classes };
    int shown = l.cell * m->classes < 120 ? 1 : 7; /* a low bar has room for one text */
    qn__color_bar(&c, &bar, qn__sequential, toned, text, shown);
    qn_status status = qn__canvas_save(&c, path, err);
    qn__canvas_close(&c);
    return status;
}
