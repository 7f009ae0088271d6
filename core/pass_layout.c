/* pass_layout.c - the physical order of every rank-4 value, and the reorders between orders.
 *
 * One walk in order of execution. A value keeps the order its operator gives it; where a reader wants another, a
 * reorder is put before that reader and remembered for later ones. What an operator wants follows from its rule
 * (op->layout) and the kernel's pick:
 *
 *   PLAIN    its operands plain
 *   SAME     all operands of the result's shape in one order: the first that is not plain, if the kernel takes it
 *   REDUCE   all operands of the first one's shape likewise; gives plain
 *   ASK      pick is asked with the result QN_ANY_BLOCK, and says what it wants of each operand and gives
 *
 * Inputs, constants, tensors of the store, and values that the caller keeps are plain; of a kept value in another
 * order a plain copy is kept. Results do not change, except that a convolution in another order may round otherwise. */
#include "pass.h"
#include <string.h>

enum { MAX_VERSIONS = 4 };

/* What has been made of a value of `in`: its own order first, then the reorders. */
struct versions {
    int n;
    bool stored; /* a tensor of the store, whose bytes change: its copies are not kept for later readers */
    int32_t id[MAX_VERSIONS];
};

struct layout {
    const qn_graph *in;
    qn_graph *out;
    const struct qn__pass_env *env;
    struct versions *made; /* by value of in */
    int32_t *own;          /* by value of in: its own order in out */
};

static int32_t block_of(const struct layout *l, int32_t value) { return l->out->node[l->own[value]].block; }

/* The value in the wanted order, for a reader that is appended next. */
static int32_t in_order(struct layout *l, int32_t value, int32_t block, const struct qn__node *reader)
{
    struct versions *v = &l->made[value];
    for (int i = 0; i < v->n; i++)
        if (l->out->node[v->id[i]].block == block) return v->id[i];
    struct qn__reorder_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.block = block;
    struct qn__node like = *reader;
    like.name = "reorder";
    int32_t id = qn__pass_node(l->out, &like, QN_OP_reorder, &l->own[value], 1, &attr);
    if (id && v->n < MAX_VERSIONS && !v->stored) v->id[v->n++] = id;
    return id;
}

/* ---- what an operator wants --------------------------------------------------------------------------- */

struct wish {
    int32_t x[QN_MAX_IN], y;
};

static struct qn__view view_of(const struct qn__node *y, int32_t block)
{
    struct qn__view v = { .dtype = y->dtype, .rank = y->rank, .block = block, .count = y->count };
    memcpy(v.dim, y->dim, sizeof v.dim);
    return v;
}

/* Asks the kernel with these orders; its answer is in c. */
static bool accepts(const struct layout *l, int32_t i, const struct wish *w, struct qn__choice *c)
{
    const struct qn__node *y = &l->in->node[i], *x[QN_MAX_IN];
    struct qn__args a = { .op = y->op,
                          .n_in = y->n_in,
                          .y = view_of(y, w->y),
                          .attr = y->attr,
                          .writes = qn__op_of(y->op)->writes,
                          .threads = l->env->threads,
                          .gpu = l->env->gpu };
    *c = (struct qn__choice){ .y_block = w->y };
    for (int k = 0; k < y->n_in; k++) {
        x[k] = &l->in->node[y->in[k]];
        a.x[k] = view_of(x[k], w->x[k]);
        c->x_block[k] = w->x[k];
    }
    const struct qn__kernel *kernel = l->env->backend[qn__compute_dtype(x, y) == QN_F64]->kernel[y->op];
    return kernel && (!kernel->pick || kernel->pick(&a, c) == QN_OK);
}

static void wish_plain(const struct layout *l, int32_t i, struct wish *w)
{
    for (int k = 0; k < l->in->node[i].n_in; k++) w->x[k] = QN_PLAIN;
    w->y = QN_PLAIN;
}

/* SAME and REDUCE: one order for all operands of the shape of `full`. */
static void wish_same(const struct layout *l, int32_t i, const struct qn__node *full, bool result, struct wish *w)
{
    const struct qn__node *y = &l->in->node[i];
    struct qn__choice c;
    int32_t block = QN_PLAIN;
    wish_plain(l, i, w);
    if (full->rank != 4) return;
    for (int k = y->n_in - 1; k >= 0; k--)
        if (qn__same_dims(&l->in->node[y->in[k]], full) && block_of(l, y->in[k]) != QN_PLAIN)
            block = block_of(l, y->in[k]);
    for (int k = 0; k < y->n_in; k++)
        if (qn__same_dims(&l->in->node[y->in[k]], full)) w->x[k] = block;
    if (result) w->y = block;
    if (block != QN_PLAIN && !accepts(l, i, w, &c)) wish_plain(l, i, w);
}

static void wish_ask(const struct layout *l, int32_t i, struct wish *w)
{
    const struct qn__node *y = &l->in->node[i];
    struct qn__choice c;
    for (int k = 0; k < y->n_in; k++) w->x[k] = block_of(l, y->in[k]);
    w->y = y->rank == 4 ? QN_ANY_BLOCK : QN_PLAIN;
    if (!accepts(l, i, w, &c)) {
        wish_plain(l, i, w);
        return;
    }
    for (int k = 0; k < y->n_in; k++) w->x[k] = c.x_block[k];
    w->y = c.y_block;
}

static void wish_of(const struct layout *l, int32_t i, struct wish *w)
{
    const struct qn__node *y = &l->in->node[i];
    switch (qn__op_of(y->op)->layout) {
    case QN_LAYOUT_SAME: wish_same(l, i, y, true, w); break;
    case QN_LAYOUT_REDUCE: wish_same(l, i, &l->in->node[y->in[0]], false, w); break;
    case QN_LAYOUT_ASK: wish_ask(l, i, w); break;
    case QN_LAYOUT_PLAIN: wish_plain(l, i, w); break;
    }
}

/* ---- the walk ----------------------------------------------------------------------------------------- */

static void carry(struct layout *l, int32_t i)
{
    const struct qn__node *y = &l->in->node[i];
    const struct qn__op *op = qn__op_of(y->op);
    struct wish w;
    int32_t in[QN_MAX_IN];
    wish_of(l, i, &w);
    for (int k = 0; k < y->n_in; k++) in[k] = in_order(l, y->in[k], w.x[k], y);
    int32_t id = qn__graph_carry(l->out, l->in, i, l->own);
    if (!id) return;
    memcpy(l->out->node[id].in, in, (size_t)y->n_in * sizeof *in);
    l->out->node[id].block = w.y;
    l->own[i] = id;
    l->made[i] = (struct versions){ .n = 1, .id = { id } };
    l->made[i].stored = y->op == QN_OP_store || op->writes || (op->alias && l->made[y->in[0]].stored);
}

static bool is_kept(const struct qn__pass_env *env, int32_t i)
{
    for (int k = 0; k < env->n_keep; k++)
        if (env->keep[k] == i) return true;
    return false;
}

qn_status qn__pass_layout(const qn_graph *in, qn_graph *out, int32_t *map, const struct qn__pass_env *env,
                          qn_error *err)
{
    size_t n = (size_t)in->n;
    struct layout l = { in, out, env, NULL, NULL };
    l.made = qn__calloc(&in->alloc, n, sizeof *l.made);
    l.own = qn__calloc(&in->alloc, n, sizeof *l.own);
    if (!l.made || !l.own) {
        qn__free(&in->alloc, l.made, n * sizeof *l.made);
        qn__free(&in->alloc, l.own, n * sizeof *l.own);
        return qn__nomem(err, "layout", n * sizeof *l.made);
    }
    for (int32_t i = 1; i < in->n && !qn__failed(out); i++) {
        carry(&l, i);
        map[i] = is_kept(env, i) ? in_order(&l, i, QN_PLAIN, &in->node[i]) : l.own[i];
    }
    qn__free(&in->alloc, l.made, n * sizeof *l.made);
    qn__free(&in->alloc, l.own, n * sizeof *l.own);
    return QN_OK;
}
