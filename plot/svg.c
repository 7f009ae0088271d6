/* svg.c - graphs of operators as SVG: see quern/plot.h. */
#include "../core/file.h"
#include "layout.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MARGIN = 24,
    NODE_HEIGHT = 44,
    LAYER = 84,
    TITLE = 34,
    MOST_NODES = 20000,
    MOST_EDGES = 100000,
    LONGEST_TEXT = 56
};

struct text {
    char *s;
    size_t n, cap;
    bool failed;
};

static void __attribute__((format(printf, 2, 3))) add(struct text *t, const char *fmt, ...)
{
    char piece[1024];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(piece, sizeof piece, fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= sizeof piece || t->failed || !qn__grow(NULL, &t->s, &t->cap, t->n + (size_t)n + 1, 1)) {
        t->failed = true;
        return;
    }
    memcpy(t->s + t->n, piece, (size_t)n + 1);
    t->n += (size_t)n;
}

/* A tenth of a pixel, written without a decimal point of the locale's. */
static void add_number(struct text *t, const char *before, double x)
{
    long tenths = lround(x * 10);
    add(t, "%s%s%ld.%ld", before, tenths < 0 ? "-" : "", labs(tenths) / 10, labs(tenths) % 10);
}

/* Text as XML wants it, cut to a length; what is not UTF-8, and control bytes, show as \xNN. */
static void add_escaped(struct text *t, const char *raw)
{
    char safe[4 * LONGEST_TEXT + 8];
    if (!raw) return;
    qn__escape(safe, sizeof safe, raw, LONGEST_TEXT);
    for (const char *p = safe; *p; p++) {
        switch (*p) {
        case '&': add(t, "&amp;"); break;
        case '<': add(t, "&lt;"); break;
        case '>': add(t, "&gt;"); break;
        case '"': add(t, "&quot;"); break;
        case '\'': add(t, "&#39;"); break;
        default: add(t, "%c", *p);
        }
    }
    if (strlen(raw) > LONGEST_TEXT) add(t, "...");
}

static double columns(const char *raw)
{
    char safe[4 * LONGEST_TEXT + 8];
    double n = 0;
    qn__escape(safe, sizeof safe, raw ? raw : "", LONGEST_TEXT);
    for (const char *p = safe; *p; p++) n += ((unsigned char)*p & 0xc0) != 0x80;
    return n + (raw && strlen(raw) > LONGEST_TEXT ? 3 : 0);
}

/* Room for the wider of the two lines, at the widths of common sans-serif fonts. */
static double node_width(const qn_svg_node *n)
{
    return fmax(64, fmax(columns(n->label) * 7.6, columns(n->sublabel) * 6.2) + 24);
}

static void add_head(struct text *t, const qn_svg_graph *g, double width, double height)
{
    static const char *const fill[8] = { "#eef2f7", "#dbeafe", "#dcfce7", "#ffedd5",
                                         "#f3e8ff", "#fee2e2", "#fef9c3", "#e0f2fe" };
    static const char *const edge[8] = { "#94a3b8", "#3b82f6", "#22a55a", "#ea8a2f",
                                         "#a36bd6", "#dc5a5a", "#c9a227", "#38a0d8" };
    add(t, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" viewBox=\"0 0 %.0f %.0f\">\n",
        width, height, width, height);
    add(t, "<style>\n"
           "text{font-family:system-ui,'Helvetica Neue',Arial,sans-serif;text-anchor:middle;fill:#222831}\n"
           ".l{font-size:13px;font-weight:600}.s{font-size:11px;fill:#6b7280}\n"
           ".t{font-size:17px;font-weight:600;text-anchor:start}\n"
           "rect{stroke-width:1.2}.e{fill:none;stroke:#9ca3af;stroke-width:1.4}\n");
    for (int k = 0; k < 8; k++) add(t, ".k%d{fill:%s;stroke:%s}\n", k, fill[k], edge[k]);
    add(t, "</style>\n<defs><marker id=\"a\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"7\" "
           "markerHeight=\"7\" orient=\"auto\"><path d=\"M0 0 8 4 0 8z\" fill=\"#9ca3af\"/></marker></defs>\n"
           "<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n");
    if (!g->title) return;
    add(t, "<text class=\"t\" x=\"%d\" y=\"%d\">", MARGIN, MARGIN + 8);
    add_escaped(t, g->title);
    add(t, "</text>\n");
}

struct frame {
    double left, top; /* of the first layer */
};

static double x_of(const struct qn__layout *l, const struct frame *f, int item) { return f->left + l->items[item].x; }

/* The upper edge of an item. A bend is as high as a node: edges turn only between the layers, so none runs
 * through a box. */
static double top_of(const struct qn__layout *l, const struct frame *f, int item)
{
    return f->top + (double)l->items[item].layer * LAYER;
}

static double bottom_of(const struct qn__layout *l, const struct frame *f, int item)
{
    return top_of(l, f, item) + NODE_HEIGHT;
}

static void add_curve(struct text *t, double x0, double y0, double x1, double y1)
{
    double middle = (y0 + y1) / 2;
    add_number(t, "C", x0);
    add_number(t, " ", middle);
    add_number(t, " ", x1);
    add_number(t, " ", middle);
    add_number(t, " ", x1);
    add_number(t, " ", y1);
}

/* One path for a whole edge: from a node through its bends to the next node. */
static void add_edge(struct text *t, const struct qn__layout *l, const struct frame *f, size_t link)
{
    int from = l->links[link].from, to = l->links[link].to;
    add_number(t, "<path class=\"e\" marker-end=\"url(#a)\" d=\"M", x_of(l, f, from));
    add_number(t, " ", bottom_of(l, f, from));
    for (;;) {
        add_curve(t, x_of(l, f, from), bottom_of(l, f, from), x_of(l, f, to), top_of(l, f, to));
        if (l->items[to].node >= 0) break;
        add_number(t, "V", bottom_of(l, f, to));
        from = to;
        to = l->links[l->down[l->down_at[from]]].to;
    }
    add(t, "\"/>\n");
}

static void add_node(struct text *t, const struct qn__layout *l, const struct frame *f, const qn_svg_node *n, int item)
{
    double w = l->items[item].width, x = x_of(l, f, item), y = top_of(l, f, item);
    add(t, "<rect class=\"k%d\" rx=\"6\" height=\"%d\"", n->kind, NODE_HEIGHT);
    add_number(t, " x=\"", x - w / 2);
    add_number(t, "\" y=\"", y);
    add_number(t, "\" width=\"", w);
    add_number(t, "\"/>\n<text class=\"l\" x=\"", x);
    add_number(t, "\" y=\"", y + (n->sublabel ? 19 : 27));
    add(t, "\">");
    add_escaped(t, n->label);
    if (n->sublabel) {
        add_number(t, "</text><text class=\"s\" x=\"", x);
        add_number(t, "\" y=\"", y + 35);
        add(t, "\">");
        add_escaped(t, n->sublabel);
    }
    add(t, "</text>\n");
}

static qn_status check(const char *path, const qn_svg_graph *g, qn_error *err)
{
    if (!path || !g || !g->nodes || (g->edge_count > 0 && !g->edges))
        return qn__fail(err, 2204, QN_AT_FIELD("plot.graph"), "NULL; expected a path, nodes and edges");
    if (g->node_count < 1 || g->node_count > MOST_NODES || g->edge_count < 0 || g->edge_count > MOST_EDGES)
        return qn__fail(err, 2203, QN_AT_FIELD("plot.graph"), "%d nodes, %d edges; expected 1..%d and 0..%d",
                        g->node_count, g->edge_count, MOST_NODES, MOST_EDGES);
    for (int i = 0; i < g->node_count; i++)
        if (g->nodes[i].kind < 0 || g->nodes[i].kind > 7)
            return qn__fail(err, 2204, QN_AT_FIELD("plot.graph"), "node %d: kind %d; expected 0..7", i,
                            g->nodes[i].kind);
    return QN_OK;
}

qn_status qn_svg_write(const char *path, const qn_svg_graph *g, qn_error *err)
{
    struct qn__layout l;
    struct text t = { .s = NULL };
    QN_TRY(check(path, g, err));
    double *width = qn__calloc(NULL, (size_t)g->node_count, sizeof *width);
    if (!width) return qn__nomem(err, "plot.graph", (size_t)g->node_count * sizeof *width);
    for (int i = 0; i < g->node_count; i++) width[i] = node_width(&g->nodes[i]);
    qn_status status = qn__layout_make(&l, g, width, err);
    free(width);
    if (status) return status;
    struct frame f = { MARGIN, MARGIN + (g->title ? TITLE : 0) };
    double title = g->title ? columns(g->title) * 10 : 0;
    add_head(&t, g, ceil(fmax(l.width, title)) + 2 * MARGIN,
             f.top + (double)(l.layers - 1) * LAYER + NODE_HEIGHT + MARGIN);
    for (size_t k = 0; k < l.link_count; k++)
        if (l.items[l.links[k].from].node >= 0) add_edge(&t, &l, &f, k);
    for (int i = 0; i < g->node_count; i++) add_node(&t, &l, &f, &g->nodes[i], i);
    add(&t, "</svg>\n");
    status = t.failed ? qn__nomem(err, "plot.svg", t.n) : qn__file_replace(path, t.s, t.n, err);
    free(t.s);
    qn__layout_free(&l);
    return status;
}
