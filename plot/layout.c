/* layout.c - layered drawing of a directed graph (Sugiyama, Tagawa and Toda, 1981): longest-path layers,
 * bends on long edges, order by barycentres, then places that pull neighbours into line. */
#include "layout.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SWEEPS = 12, PULLS = 40, MOST_BENDS = 60000, BEND_WIDTH = 4 };

void qn__layout_free(struct qn__layout *l)
{
    free(l->items);
    free(l->links);
    free(l->order);
    free(l->layer_at);
    free(l->down);
    free(l->down_at);
    free(l->up);
    free(l->up_at);
    free(l->pools);
    memset(l, 0, sizeof *l);
}

static qn_status no_memory(qn_error *err) { return qn__nomem(err, "plot.graph", 0); }

/* ---- layers ------------------------------------------------------------------------------- */

/* Longest path from a source, by removing nodes whose inputs are all placed; `work` holds [4 * nodes + edges]. */
static bool assign_layers(struct qn__layout *l, const qn_svg_graph *g, int *work)
{
    int n = g->node_count, *waiting = work, *at = work + n, *queue = work + 2 * n + 1, *next = work + 3 * n + 1;
    int head = 0, tail = 0;
    for (int e = 0; e < g->edge_count; e++) {
        waiting[g->edges[e].to]++;
        at[g->edges[e].from + 1]++;
    }
    for (int i = 0; i < n; i++) at[i + 1] += at[i];
    for (int e = g->edge_count - 1; e >= 0; e--) next[--at[g->edges[e].from + 1]] = g->edges[e].to;
    for (int i = 0; i < n; i++)
        if (waiting[i] == 0) queue[tail++] = i;
    while (head < tail) {
        int i = queue[head++];
        int stop = i + 2 <= n ? at[i + 2] : g->edge_count;
        for (int k = at[i + 1]; k < stop; k++) {
            struct qn__item *to = &l->items[next[k]];
            if (to->layer <= l->items[i].layer) to->layer = l->items[i].layer + 1;
            if (--waiting[next[k]] == 0) queue[tail++] = next[k];
        }
    }
    return tail == n;
}

/* A source (a parameter, an input) belongs next to its first reader, not at the top. */
static void sink_sources(struct qn__layout *l, const qn_svg_graph *g, int *work)
{
    int n = g->node_count, *nearest = work, *entered = work + n;
    for (int i = 0; i < n; i++) {
        nearest[i] = -1;
        entered[i] = 0;
    }
    for (int e = 0; e < g->edge_count; e++) {
        int from = g->edges[e].from, to = g->edges[e].to, layer = l->items[to].layer - 1;
        if (nearest[from] < 0 || layer < nearest[from]) nearest[from] = layer;
        entered[to] = 1;
    }
    for (int i = 0; i < n; i++)
        if (!entered[i] && nearest[i] > 0) l->items[i].layer = nearest[i];
}

/* ---- bends -------------------------------------------------------------------------------- */

static bool add_link(struct qn__layout *l, int from, int to)
{
    if (!qn__grow(NULL, &l->links, &l->link_cap, l->link_count + 1, sizeof *l->links)) return false;
    l->links[l->link_count++] = (struct qn__link){ from, to };
    return true;
}

static bool add_edge(struct qn__layout *l, int from, int to, bool bends)
{
    for (int layer = l->items[from].layer + 1; bends && layer < l->items[to].layer; layer++) {
        if (!qn__grow(NULL, &l->items, &l->item_cap, l->item_count + 1, sizeof *l->items)) return false;
        int bend = (int)l->item_count++;
        l->items[bend] = (struct qn__item){ .layer = layer, .node = -1, .width = BEND_WIDTH };
        if (!add_link(l, from, bend)) return false;
        from = bend;
    }
    return add_link(l, from, to);
}

/* Thousands of long edges would drown the picture in bends: then they run straight. */
static bool add_edges(struct qn__layout *l, const qn_svg_graph *g)
{
    int64_t bends = 0;
    for (int e = 0; e < g->edge_count; e++)
        bends += l->items[g->edges[e].to].layer - l->items[g->edges[e].from].layer - 1;
    for (int e = 0; e < g->edge_count; e++)
        if (!add_edge(l, g->edges[e].from, g->edges[e].to, bends <= MOST_BENDS)) return false;
    return true;
}

/* Lists of the links at each item, for one of their two ends. */
static bool index_links(const struct qn__layout *l, bool leaving, int **list, int **at)
{
    size_t n = l->item_count;
    *list = qn__calloc(NULL, l->link_count, sizeof **list);
    *at = qn__calloc(NULL, n + 2, sizeof **at);
    if (!*list || !*at) return false;
    int *start = *at;
    for (size_t k = 0; k < l->link_count; k++) start[(leaving ? l->links[k].from : l->links[k].to) + 2]++;
    for (size_t i = 2; i < n + 2; i++) start[i] += start[i - 1];
    for (size_t k = 0; k < l->link_count; k++)
        (*list)[start[(leaving ? l->links[k].from : l->links[k].to) + 1]++] = (int)k;
    return true;
}

/* ---- order and places --------------------------------------------------------------------- */

static bool group_layers(struct qn__layout *l)
{
    for (size_t i = 0; i < l->item_count; i++)
        if (l->items[i].layer >= l->layers) l->layers = l->items[i].layer + 1;
    l->order = qn__calloc(NULL, l->item_count, sizeof *l->order);
    l->layer_at = qn__calloc(NULL, (size_t)l->layers + 2, sizeof *l->layer_at);
    l->pools = qn__calloc(NULL, l->item_count, sizeof *l->pools);
    if (!l->order || !l->layer_at || !l->pools) return false;
    for (size_t i = 0; i < l->item_count; i++) l->layer_at[l->items[i].layer + 2]++;
    for (int k = 2; k < l->layers + 2; k++) l->layer_at[k] += l->layer_at[k - 1];
    for (size_t i = 0; i < l->item_count; i++) l->order[l->layer_at[l->items[i].layer + 1]++] = (int)i;
    return true;
}

/* How much a link wants to be short and upright: long edges first, then the path of the data; the parameter
 * beside an operator stands wherever there is room. */
static double stiffness(const struct qn__layout *l, const struct qn__link *k)
{
    bool bend_from = l->items[k->from].node < 0, bend_to = l->items[k->to].node < 0;
    if (bend_from && bend_to) return 8;
    if (l->up_at[k->from] == l->up_at[k->from + 1]) return 0.2;
    return bend_from || bend_to ? 1 : 3;
}

/* Sums stiffness * place, and stiffness, of an item's neighbours on one side. */
static void gather(const struct qn__layout *l, int item, bool above, double *sum, double *weight)
{
    const int *list = above ? l->up : l->down, *at = above ? l->up_at : l->down_at;
    for (int k = at[item]; k < at[item + 1]; k++) {
        const struct qn__link *link = &l->links[list[k]];
        double w = stiffness(l, link);
        *sum += w * l->items[above ? link->from : link->to].x;
        *weight += w;
    }
}

/* Where an item would like to stand: the mean of its neighbours, or where it is if it has none there. */
static void pull(struct qn__layout *l, int item, bool above, bool below)
{
    double sum = 0, weight = 0;
    struct qn__item *it = &l->items[item];
    if (above) gather(l, item, true, &sum, &weight);
    if (below) gather(l, item, false, &sum, &weight);
    it->key = weight > 0 ? sum / weight : it->x;
    it->weight = weight > 0 ? weight : 0.1;
}

/* Sorts one layer by key; insertion, since it is nearly sorted and must be stable. */
static void sort_layer(struct qn__layout *l, int layer)
{
    int *o = l->order + l->layer_at[layer], n = l->layer_at[layer + 1] - l->layer_at[layer];
    for (int i = 1; i < n; i++) {
        int item = o[i], j = i;
        for (; j > 0 && l->items[o[j - 1]].key > l->items[item].key; j--) o[j] = o[j - 1];
        o[j] = item;
    }
}

static double gap(const struct qn__layout *l, int a, int b)
{
    double room = l->items[a].node < 0 || l->items[b].node < 0 ? 14 : QN__SEPARATION;
    return (l->items[a].width + l->items[b].width) / 2 + room;
}

/* Puts a layer's items as near to their keys as their order and widths allow, in the sense of least squares:
 * with the widths taken off this is isotonic regression, solved by pooling neighbours that are out of order. */
static void place_layer(struct qn__layout *l, int layer)
{
    const int *o = l->order + l->layer_at[layer];
    int n = l->layer_at[layer + 1] - l->layer_at[layer], pools = 0;
    struct qn__pool *pool = l->pools;
    double offset = 0;
    for (int i = 0; i < n; i++) {
        const struct qn__item *it = &l->items[o[i]];
        if (i > 0) offset += gap(l, o[i - 1], o[i]);
        pool[pools++] = (struct qn__pool){ it->key - offset, it->weight, 1 };
        for (; pools > 1 && pool[pools - 2].mean > pool[pools - 1].mean; pools--) {
            struct qn__pool *a = &pool[pools - 2], *b = &pool[pools - 1];
            a->mean = (a->mean * a->weight + b->mean * b->weight) / (a->weight + b->weight);
            a->weight += b->weight;
            a->n += b->n;
        }
    }
    offset = 0;
    for (int i = 0, p = 0, used = 0; i < n; i++, used++) {
        if (i > 0) offset += gap(l, o[i - 1], o[i]);
        if (used == pool[p].n) {
            p++;
            used = 0;
        }
        l->items[o[i]].x = pool[p].mean + offset;
    }
}

/* One pass over the layers; the neighbours of the layers already passed count, or those of both sides. */
static void sweep(struct qn__layout *l, bool down, bool both, bool reorder)
{
    for (int k = 0; k < l->layers; k++) {
        int layer = down ? k : l->layers - 1 - k;
        for (int i = l->layer_at[layer]; i < l->layer_at[layer + 1]; i++)
            pull(l, l->order[i], down || both, !down || both);
        if (reorder) sort_layer(l, layer);
        place_layer(l, layer);
    }
}

static void arrange(struct qn__layout *l)
{
    for (size_t i = 0; i < l->item_count; i++) l->items[i].weight = 1;
    for (int layer = 0; layer < l->layers; layer++) place_layer(l, layer);
    for (int k = 0; k < SWEEPS; k++) sweep(l, k % 2 == 0, k > SWEEPS / 2, true);
    for (int k = 0; k < PULLS; k++) sweep(l, k % 2 == 0, true, false);
    double left = (double)INFINITY, right = -left;
    for (size_t i = 0; i < l->item_count; i++) {
        left = fmin(left, l->items[i].x - l->items[i].width / 2);
        right = fmax(right, l->items[i].x + l->items[i].width / 2);
    }
    for (size_t i = 0; i < l->item_count; i++) l->items[i].x -= left;
    l->width = right - left;
}

static qn_status build(struct qn__layout *l, const qn_svg_graph *g, const double *width, qn_error *err)
{
    size_t n = (size_t)g->node_count;
    if (!qn__grow(NULL, &l->items, &l->item_cap, n, sizeof *l->items)) return no_memory(err);
    for (size_t i = 0; i < n; i++) l->items[i] = (struct qn__item){ .node = (int)i, .width = width[i] };
    l->item_count = n;
    size_t room;
    if (!qn__mul(&room, n, 4) || !qn__add(&room, room, (size_t)g->edge_count + 2)) return no_memory(err);
    int *work = qn__calloc(NULL, room, sizeof *work);
    if (!work) return no_memory(err);
    bool acyclic = assign_layers(l, g, work);
    if (acyclic) sink_sources(l, g, work);
    free(work);
    if (!acyclic) return qn__fail(err, 2204, QN_AT_FIELD("plot.graph"), "the edges form a cycle; expected none");
    if (!add_edges(l, g) || !group_layers(l) || !index_links(l, true, &l->down, &l->down_at) ||
        !index_links(l, false, &l->up, &l->up_at))
        return no_memory(err);
    arrange(l);
    return QN_OK;
}

qn_status qn__layout_make(struct qn__layout *l, const qn_svg_graph *g, const double *width, qn_error *err)
{
    memset(l, 0, sizeof *l);
    for (int e = 0; e < g->edge_count; e++) {
        int from = g->edges[e].from, to = g->edges[e].to;
        if (from < 0 || to < 0 || from >= g->node_count || to >= g->node_count)
            return qn__fail(err, 2204, QN_AT_FIELD("plot.graph"), "edge %d: %d -> %d; expected 0..%d", e, from, to,
                            g->node_count - 1);
    }
    qn_status status = build(l, g, width, err);
    if (status) qn__layout_free(l);
    return status;
}
