/* canvas.h - a small antialiased picture: what the charts are drawn with. Private to plot/.
 *
 * Coordinates are pixels of the finished picture, x to the right, y down, (0,0) the upper left
 * corner of the upper left pixel. The picture is drawn twice as large and averaged when it is written. */
#ifndef QN_PLOT_CANVAS_H
#define QN_PLOT_CANVAS_H
#include "../core/base.h"
#include "../include/quern/plot.h"

typedef uint32_t qn__color; /* 0xRRGGBB */

struct qn__canvas {
    int w, h;           /* of the finished picture */
    unsigned char *rgb; /* [2h, 2w, 3] */
    size_t bytes;
    double clip[4]; /* x0 y0 x1 y1: nothing is drawn outside */
};

enum { QN__LEFT, QN__CENTER, QN__RIGHT }; /* what of the text stands at x */
enum { QN__REGULAR, QN__BOLD };

/* A white picture of 1..16384 pixels a side and at most 2^24 pixels in all. E2203, E5002. */
qn_status qn__canvas_open(struct qn__canvas *c, double w, double h, qn_error *err);
void qn__canvas_close(struct qn__canvas *c);
/* Averages to the final size and writes a PNG. */
qn_status qn__canvas_save(const struct qn__canvas *c, const char *path, qn_error *err);
/* The averaged picture, [h, w, 3]; the caller frees it. NULL: no memory. */
unsigned char *qn__canvas_pixels(const struct qn__canvas *c);
void qn__clip(struct qn__canvas *c, double x0, double y0, double x1, double y1);
void qn__unclip(struct qn__canvas *c);

void qn__rect(struct qn__canvas *c, double x0, double y0, double x1, double y1, qn__color color, double alpha);
/* The outline of a rectangle, its strokes inside. */
void qn__frame(struct qn__canvas *c, double x0, double y0, double x1, double y1, double width, qn__color color);
/* A stroke with round ends. */
void qn__line(struct qn__canvas *c, double x0, double y0, double x1, double y1, double width, qn__color color,
              double alpha);
void qn__disc(struct qn__canvas *c, double x, double y, double r, qn__color color, double alpha);
void qn__ring(struct qn__canvas *c, double x, double y, double r, double width, qn__color color);
/* Connected strokes; dash > 0 leaves gaps of that length between dashes of twice the length. */
void qn__dashes(struct qn__canvas *c, const double *x, const double *y, int64_t n, double width, double dash,
                qn__color color);

/* ---- text (font.c) ------------------------------------------------------------------------ */

/* `size` is the em in pixels; capitals are 0.7 of it. The baseline is at y. What is not printable
 * ASCII appears as an empty box, one for each character. Long text is cut at 512 bytes. */
double qn__text_width(double size, int weight, const char *text);
void qn__text(struct qn__canvas *c, double x, double y, double size, int align, int weight, qn__color color,
              const char *text);
/* Turned counter-clockwise by `degrees` about (x, y). */
void qn__text_turned(struct qn__canvas *c, double x, double y, double size, int align, int weight, qn__color color,
                     double degrees, const char *text);
/* Copies text, shortened with "..." so that it is at most `width` pixels wide. */
const char *qn__text_fit(char buf[128], double width, double size, int weight, const char *text);

/* ---- colours (color.c) -------------------------------------------------------------------- */

enum {
    QN__INK = 0x222831,
    QN__MUTED = 0x6b7280,
    QN__GRID = 0xe5e7eb,
    QN__AXIS = 0x9ca3af,
    QN__WRONG = 0xd62728,
    QN__PAPER = 0xffffff
};

/* Eight colours that stay apart for colour-blind readers (Okabe and Ito, 2008), repeating. */
qn__color qn__palette(int index);
qn__color qn__mix(qn__color a, qn__color b, double share_of_b);
qn__color qn__sequential(double t); /* 0 white .. 1 deep blue         */
qn__color qn__diverging(double t);  /* -1 blue .. 0 white .. 1 red    */
qn__color qn__heat(double t);       /* 0 black .. 1 light yellow      */
qn__color qn__ink_on(qn__color background);

/* ---- axes (axis.c) ------------------------------------------------------------------------ */

enum { QN__TICKS = 24 };
struct qn__axis {
    double low, high; /* of the data shown */
    bool log;
    int n;                    /* ticks */
    double at[QN__TICKS];     /* their values */
    char text[QN__TICKS][24]; /* "" : a tick without text */
};

/* An axis over [low, high] with about `wanted` ticks at 1, 2 or 5 times a power of ten; the ends are
 * moved outwards to ticks when `round`. A log axis needs low > 0. */
void qn__axis_make(struct qn__axis *a, double low, double high, bool log, bool round, int wanted);
/* Where value lies: 0 at low, 1 at high. */
double qn__axis_share(const struct qn__axis *a, double value);

/* "12,345", "0.8871", "3e-05": a number as people read it. */
const char *qn__number(char buf[32], double x, int digits);
const char *qn__grouped(char buf[32], int64_t x);

/* The frame of a chart: the axes around a box, their ticks, grid, labels, and the title above. */
struct qn__box {
    double x0, y0, x1, y1;
};
void qn__axes_draw(struct qn__canvas *c, const struct qn__box *b, const struct qn__axis *x, const struct qn__axis *y,
                   const char *x_label, const char *y_label);
/* Room that the texts of a vertical axis take to its left. */
double qn__axis_room(const struct qn__axis *y, bool label);
/* A vertical colour scale with texts to its right; `color` maps 0..1. */
void qn__color_bar(struct qn__canvas *c, const struct qn__box *b, qn__color (*color)(double), const double *share,
                   const char *const *text, int n);
#endif
