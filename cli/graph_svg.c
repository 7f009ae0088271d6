/* graph_svg.c - the text of a graph as a picture: see showing.h. Store tensors and constants are left out: a training
 * step reads each of them many times, and their lines would hide all others. */
#include "showing.h"
#include "../include/quern/plot.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

struct drawing {
    qn_svg_node *node;
    qn_svg_edge *edge;
    int *place; /* of each value of the text among the nodes; -1: left out */
    char *text; /* labels, cut out of a copy of the graph's text             */
    int n_values, n_nodes, n_edges, max_edges;
};

static int count_of(const char *s, char c)
{
    int n = 0;
    for (; *s; s++) n += *s == c;
    return n;
}

static bool make_room(struct drawing *d, const char *text)
{
    d->n_values = count_of(text, '\n') + 2; /* ids begin at 1 */
    d->max_edges = count_of(text, '%');
    d->node = calloc((size_t)d->n_values, sizeof *d->node);
    d->place = calloc((size_t)d->n_values, sizeof *d->place);
    d->edge = calloc((size_t)d->max_edges + 1, sizeof *d->edge);
    d->text = strdup(text);
    for (int i = 0; d->place && i < d->n_values; i++) d->place[i] = -1;
    return d->node && d->place && d->edge && d->text;
}

static int id_at(const char **p)
{
    int id = 0;
    if (**p != '%') return -1;
    for (++*p; isdigit((unsigned char)**p) && id < 100000000; ++*p) id = id * 10 + (**p - '0');
    return id;
}

static bool is_source(const char *op, size_t n)
{
    return (n == 5 && memcmp(op, "store", n) == 0) || (n == 4 && memcmp(op, "full", n) == 0) ||
           (n == 8 && memcmp(op, "constant", n) == 0);
}

static bool begins(const char *op, const char *with) { return strncmp(op, with, strlen(with)) == 0; }

/* 0 inputs, 1 matrix products and convolutions, 2 other operators, 3 their gradients, 4 updates */
static int kind_of(const char *op, bool update)
{
    if (update) return 4;
    if (begins(op, "input")) return 0;
    if (strstr(op, "_grad")) return 3;
    return begins(op, "matmul") || begins(op, "conv") ? 1 : 2;
}

/* "%12 = op{attributes}(%3, %4) F32[32,10]/8 update name": the operands become edges, the rest labels. */
static bool take_line(struct drawing *d, char *line)
{
    const char *p = line;
    int id = id_at(&p);
    if (id < 1 || id >= d->n_values || strncmp(p, " = ", 3) != 0) return false;
    char *op = line + (p - line) + 3, *open = strchr(op, '('), *close = open ? strchr(open, ')') : NULL;
    size_t n = strcspn(op, "{("); /* attributes have braces within braces, but no parentheses */
    if (!close || close[1] != ' ') return false;
    if (is_source(op, n)) return true;
    int to = d->n_nodes++;
    d->place[id] = to;
    for (const char *q = open; q < close; q++) {
        if (*q != '%') continue;
        int from = id_at(&q);
        if (from < 1 || from >= id || d->n_edges >= d->max_edges) return false;
        if (d->place[from] >= 0) d->edge[d->n_edges++] = (qn_svg_edge){ d->place[from], to };
        q--;
    }
    op[n] = 0;
    d->node[to] = (qn_svg_node){ op, close + 2, kind_of(op, strstr(close, " update ") != NULL) };
    return true;
}

static qn_status take_text(struct drawing *d, qn_error *err)
{
    int number = 0;
    for (char *line = d->text; *line; number++) {
        char *end = strchr(line, '\n'), *next = end ? end + 1 : line + strlen(line);
        if (end) *end = 0;
        if (!take_line(d, line)) return qn__fail(err, 7070, QN_AT_FIELD("graph"), "line %d is not a value", number + 1);
        line = next;
    }
    return QN_OK;
}

qn_status cli_draw_graph(const char *path, const char *recipe, const char *stage, const char *text, qn_error *err)
{
    struct drawing d = { 0 };
    char title[200];
    qn_status status = make_room(&d, text) ? take_text(&d, err) : qn__nomem(err, "picture", strlen(text));
    snprintf(title, sizeof title, "%.120s after %.40s", recipe, stage);
    qn_svg_graph g = {
        .title = title, .nodes = d.node, .node_count = d.n_nodes, .edges = d.edge, .edge_count = d.n_edges
    };
    if (!status) status = qn_svg_write(path, &g, err);
    free(d.node);
    free(d.edge);
    free(d.place);
    free(d.text);
    return status;
}
