/* plot.h - pictures of a run as PNG, and graphs as SVG.
 *
 *     double epoch[12], loss[12], val[12];
 *     qn_plot_series s[] = { { .name = "training", .x = epoch, .y = loss, .n = 12 },
 *                            { .name = "validation", .x = epoch, .y = val, .n = 12 } };
 *     qn_line_chart chart = { .title = "Loss", .x_label = "epoch", .series = s, .count = 2 };
 *     if (qn_plot_lines("loss.png", &chart, 1, &err)) ...
 *
 * Nothing passed in is kept. Sizes are pixels; 0 means a sensible default. Values that are NaN or
 * infinite are left out: a gap in a line, a missing point, a grey cell. Any text may be NULL; text is
 * shortened where it does not fit, and what the built-in font does not have (all but printable ASCII)
 * shows as a box. Colours stay apart for colour-blind readers.
 *
 * Errors of all: E2203 a dimension or count out of range, E2204 NULL or an attribute out of range,
 * E5002, E6002. A file appears whole or not at all. */
#ifndef QUERN_PLOT_H
#define QUERN_PLOT_H
#include "base.h"
#ifdef __cplusplus
extern "C" {
#endif

/* ---- lines -------------------------------------------------------------------------------- */

typedef struct qn_plot_series {
    const char *name;
    const double *x, *y; /* [n]; x NULL: 1, 2, ..., n */
    int64_t n;
    int color;    /* 0: by position; k: k-th colour of the palette, so that training and validation
                     of one thing can share one */
    bool dashed;  /* dashed and a little thinner */
    bool markers; /* a dot on every point        */
} qn_plot_series;

typedef struct qn_line_chart {
    const char *title, *x_label, *y_label;
    const qn_plot_series *series;
    int count;  /* 0..64 */
    bool log_y; /* values <= 0 are left out */
} qn_line_chart;

/* 1..8 charts side by side, 450 pixels each (a single one: 900), 420 high. */
QN_API QN_CHECKED qn_status qn_plot_lines(const char *path, const qn_line_chart *charts, int count, qn_error *err);

/* ---- confusion matrix --------------------------------------------------------------------- */

typedef struct qn_confusion_chart {
    const char *title;
    const int64_t *counts;    /* [classes, classes], row: true class, column: predicted */
    int classes;              /* 1..200 */
    const char *const *names; /* [classes] or NULL: 0, 1, ... */
} qn_confusion_chart;

/* Coloured by the share of the row; each cell says its count and that share in percent. */
QN_API QN_CHECKED qn_status qn_plot_confusion(const char *path, const qn_confusion_chart *chart, qn_error *err);

/* ---- pictures ----------------------------------------------------------------------------- */

/* A batch of images, f32 [n, channels, h, w] with channels 1 (gray) or 3 (RGB); low is drawn as black
 * and high as full brightness (both 0: 0..1). */
typedef struct qn_plot_images {
    const float *data;
    int64_t n, channels, h, w;
    float low, high;
} qn_plot_images;

typedef struct qn_image_sheet {
    const char *title;
    qn_plot_images images;    /* n: 1..400, sides 1..512 */
    const int32_t *truth;     /* [n], or NULL: no labels at all        */
    const int32_t *predicted; /* [n], or NULL: the true labels only    */
    const char *const *names; /* [classes], or NULL: numbers           */
    int classes;              /* length of names; labels beyond it are shown as numbers */
    int columns;              /* 0: eight, or fewer images           */
} qn_image_sheet;

/* Images enlarged by whole numbers, the predicted label under each; where it is wrong, a red frame, and
 * the true label below. */
QN_API QN_CHECKED qn_status qn_plot_sheet(const char *path, const qn_image_sheet *sheet, qn_error *err);

typedef struct qn_filter_grid {
    const char *title;
    const float *weights;  /* [out, in, h, w] */
    int64_t out, in, h, w; /* out * in <= 4096, sides 1..64 */
} qn_filter_grid;

/* One tile per filter and input channel (in > 1: one row per filter), blue below and red above zero,
 * on one scale for all. */
QN_API QN_CHECKED qn_status qn_plot_filters(const char *path, const qn_filter_grid *grid, qn_error *err);

typedef struct qn_saliency_sheet {
    const char *title;
    qn_plot_images images;     /* n: 1..200 */
    const float *heat;         /* [n, h, w]: how much each pixel matters; the magnitude is shown */
    const char *const *labels; /* [n] or NULL */
} qn_saliency_sheet;

/* Pairs: the image, and the heat (scaled to each picture's own maximum) laid over it. */
QN_API QN_CHECKED qn_status qn_plot_saliency(const char *path, const qn_saliency_sheet *sheet, qn_error *err);

/* ---- bars and points ---------------------------------------------------------------------- */

typedef struct qn_plot_bar {
    const char *label;
    double value;     /* >= 0; NaN: no bar, "n/a"  */
    const char *text; /* at the bar's end; NULL: the value */
    int color;        /* 0: the first colour; k: the k-th of the palette */
} qn_plot_bar;

typedef struct qn_bar_chart {
    const char *title, *value_label;
    const qn_plot_bar *bars;
    int count;        /* 1..200, from top to bottom */
    double reference; /* a vertical line at this value, if > 0 */
    const char *reference_label;
} qn_bar_chart;

/* Horizontal bars from zero. */
QN_API QN_CHECKED qn_status qn_plot_bars(const char *path, const qn_bar_chart *chart, qn_error *err);

typedef struct qn_scatter_chart {
    const char *title, *x_label, *y_label, *color_label;
    const double *x, *y, *color; /* [n]; color NULL: all alike */
    int64_t n;                   /* 0..100000 */
    bool log_x, log_y;
    int64_t best; /* index of a point to mark; < 0: none */
} qn_scatter_chart;

QN_API QN_CHECKED qn_status qn_plot_scatter(const char *path, const qn_scatter_chart *chart, qn_error *err);

/* ---- graphs of operators ------------------------------------------------------------------ */

typedef struct qn_svg_node {
    const char *label;    /* e.g. the operator     */
    const char *sublabel; /* e.g. name and shape   */
    int kind;             /* 0..7: fill colour     */
} qn_svg_node;

/* Nodes are known by their index; an edge goes from a producer to a consumer. */
typedef struct qn_svg_edge {
    int from, to;
} qn_svg_edge;

typedef struct qn_svg_graph {
    const char *title;
    const qn_svg_node *nodes;
    int node_count; /* 1..20000 */
    const qn_svg_edge *edges;
    int edge_count; /* 0..100000 */
} qn_svg_graph;

/* Layers from top to bottom by the longest path from a source, ordered within a layer by barycentres
 * (Sugiyama, Tagawa and Toda, IEEE Trans. SMC 11, 1981) so that few edges cross. Text is escaped.
 * Errors: E2204 also for an edge out of range or a cycle. */
QN_API QN_CHECKED qn_status qn_svg_write(const char *path, const qn_svg_graph *graph, qn_error *err);

#ifdef __cplusplus
}
#endif
#endif
