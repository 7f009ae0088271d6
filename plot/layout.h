/* layout.h - where the nodes of a drawn graph stand. */
#ifndef QN_PLOT_LAYOUT_H
#define QN_PLOT_LAYOUT_H
#include "../core/base.h"
#include "../include/quern/plot.h"

/* An item is a node, or a bend: the place where an edge passes through a layer between its ends. */
struct qn__item {
    int layer;
    int node;        /* -1: a bend */
    double width, x; /* x: of the middle */
    double key;      /* where it would like to stand; what its layer is sorted by */
    double weight;   /* how much it would                                         */
};

/* A piece of an edge between neighbouring layers (or, where bends were given up, any two). */
struct qn__link {
    int from, to; /* items */
};

/* Items of a layer that stand shoulder to shoulder. */
struct qn__pool {
    double mean, weight;
    int n;
};

struct qn__layout {
    struct qn__item *items; /* the nodes come first, under their own index */
    size_t item_count, item_cap;
    struct qn__link *links;
    size_t link_count, link_cap;
    int *order, *layer_at;  /* items by layer and place; layer l is order[layer_at[l] .. layer_at[l+1]) */
    int *down, *down_at;    /* links leaving each item, and where its list begins */
    int *up, *up_at;        /* links entering each item */
    struct qn__pool *pools; /* scratch */
    int layers;
    double width;
};

enum { QN__SEPARATION = 26 };

/* Lays the graph out; width[i] is the width of node i. E2204 a cycle or an edge to nowhere, E5002. */
qn_status qn__layout_make(struct qn__layout *l, const qn_svg_graph *g, const double *width, qn_error *err);
void qn__layout_free(struct qn__layout *l);
#endif
