/* pass_dead.c - drops what nobody needs; and what the passes share. */
#include "pass.h"
#include <stdlib.h>
#include <string.h>

void qn__count_readers(const qn_graph *g, const struct qn__pass_env *env, int32_t *readers)
{
    memset(readers, 0, (size_t)g->n * sizeof *readers);
    for (int32_t i = 1; i < g->n; i++)
        for (int k = 0; k < g->node[i].n_in; k++) readers[g->node[i].in[k]]++;
    for (int i = 0; i < env->n_keep; i++) readers[env->keep[i]]++;
}

/* ---- writes to the store ------------------------------------------------------------------------ */

static int by_root(const void *a, const void *b)
{
    const struct qn__write *x = a, *y = b;
    return x->root != y->root ? (x->root < y->root ? -1 : 1) : (x->at > y->at) - (x->at < y->at);
}

qn_status qn__writes_find(struct qn__writes *w, const qn_graph *g, qn_error *err)
{
    w->g = g;
    w->root = qn__calloc(&g->alloc, (size_t)g->n, sizeof *w->root);
    if (!w->root) return qn__nomem(err, "pass", (size_t)g->n * sizeof *w->root);
    for (int32_t i = 1; i < g->n; i++) {
        const struct qn__node *y = &g->node[i];
        const struct qn__op *op = qn__op_of(y->op);
        w->root[i] = y->op == QN_OP_store ? i : op->alias || op->writes ? w->root[y->in[0]] : 0;
        for (int k = 0; k < y->n_in; k++) {
            if (!(op->writes >> k & 1)) continue;
            if (!qn__grow(&g->alloc, &w->write, &w->cap, w->n + 1, sizeof *w->write))
                return qn__nomem(err, "pass", (w->n + 1) * sizeof *w->write);
            w->write[w->n++] = (struct qn__write){ w->root[y->in[k]], i };
        }
    }
    if (w->n) qsort(w->write, w->n, sizeof *w->write, by_root);
    return QN_OK;
}

void qn__writes_free(struct qn__writes *w)
{
    if (!w->g) return;
    qn__free(&w->g->alloc, w->root, (size_t)w->g->n * sizeof *w->root);
    qn__free(&w->g->alloc, w->write, w->cap * sizeof *w->write);
}

bool qn__written_between(const struct qn__writes *w, int32_t value, int32_t from, int32_t to)
{
    struct qn__write first = { w->root[value], from + 1 };
    if (!first.root) return false;
    size_t low = 0, high = w->n;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (by_root(&w->write[mid], &first) < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low < w->n && w->write[low].root == first.root && w->write[low].at < to;
}

/* ---- building ------------------------------------------------------------------------------------- */

int32_t qn__pass_node(qn_graph *out, const struct qn__node *like, enum qn__opcode op, const int32_t *in, int n_in,
                      const void *attr)
{
    if (out->err.code) return 0;
    qn_t x[QN_MAX_IN];
    for (int k = 0; k < n_in; k++) x[k] = (qn_t){ in[k] };
    char *name = qn__graph_copy(out, like->name, strlen(like->name) + 1);
    out->phase = like->phase;
    return qn__node_shaped(out, op, x, n_in, attr, like->dtype, like->rank, like->dim, name, NULL).id;
}

/* ---- the pass --------------------------------------------------------------------------------------- */

static bool is_source(const struct qn__node *y) { return qn__arity_of(y->op) == 0; }

qn_status qn__pass_dead(const qn_graph *in, qn_graph *out, int32_t *map, const struct qn__pass_env *env, qn_error *err)
{
    bool *live = qn__calloc(&in->alloc, (size_t)in->n, sizeof *live);
    if (!live) return qn__nomem(err, "dead", (size_t)in->n);
    for (int i = 0; i < env->n_keep; i++) live[env->keep[i]] = true;
    for (int32_t i = in->n - 1; i > 0; i--) {
        const struct qn__node *y = &in->node[i];
        const struct qn__op *op = qn__op_of(y->op);
        live[i] = live[i] || op->effect || op->writes;
        for (int k = 0; live[i] && k < y->n_in; k++) live[y->in[k]] = true;
    }
    for (int phase = QN_MICRO; phase <= QN_UPDATE; phase++)
        for (int32_t i = 1; i < in->n; i++) {
            const struct qn__node *y = &in->node[i];
            int order = is_source(y) ? QN_MICRO : (int)y->phase;
            if (live[i] && order == phase) map[i] = qn__graph_carry(out, in, i, map);
        }
    qn__free(&in->alloc, live, (size_t)in->n * sizeof *live);
    return QN_OK;
}
