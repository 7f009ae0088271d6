/* pass_cse.c - equal values are computed once.
 *
 * Two nodes are equal if operator, operands, attributes, dims, dtype, layout and phase (and, of a constant, the
 * bytes) are; add and mul also with their operands swapped. The first stands for both, unless a tensor that they
 * read is written between the two. */
#include "pass.h"
#include <string.h>

struct table {
    const qn_graph *in;
    qn_graph *out;
    const int32_t *map;
    int32_t *slot; /* open addressing: ids of `in`, 0 for none */
    size_t mask;
    struct qn__writes writes;
};

static bool is_source(const struct qn__node *y) { return qn__arity_of(y->op) == 0; }

/* Operands in `out`, in the order in which they are compared. */
static void operands(const struct table *t, const struct qn__node *y, int32_t *x)
{
    for (int k = 0; k < y->n_in; k++) x[k] = t->map[y->in[k]];
    if ((y->op == QN_OP_add || y->op == QN_OP_mul) && x[0] > x[1]) {
        int32_t swap = x[0];
        x[0] = x[1];
        x[1] = swap;
    }
}

static size_t bytes_of(const struct qn__node *y) { return (size_t)y->count * qn_dtype_size(y->dtype); }

static uint64_t hash(const struct table *t, const struct qn__node *y)
{
    int32_t x[QN_MAX_IN + 2] = { 0 };
    operands(t, y, x);
    x[QN_MAX_IN] = (int32_t)y->op;
    x[QN_MAX_IN + 1] = (int32_t)y->dtype;
    uint64_t h = qn__hash(x, sizeof x) * 31 + qn__hash(y->dim, sizeof y->dim);
    if (qn__op_of(y->op)->attr_size) h = h * 31 + qn__hash(y->attr, qn__op_of(y->op)->attr_size);
    return y->op == QN_OP_constant && y->count ? h * 31 + qn__hash(y->data, bytes_of(y)) : h;
}

static bool equal(const struct table *t, const struct qn__node *a, const struct qn__node *b)
{
    size_t attr = qn__op_of(a->op)->attr_size;
    int32_t xa[QN_MAX_IN] = { 0 }, xb[QN_MAX_IN] = { 0 };
    if (a->op != b->op || a->dtype != b->dtype || a->block != b->block || a->n_in != b->n_in || !qn__same_dims(a, b) ||
        (a->phase != b->phase && !is_source(a)) || (attr && memcmp(a->attr, b->attr, attr) != 0))
        return false;
    operands(t, a, xa);
    operands(t, b, xb);
    if (memcmp(xa, xb, sizeof xa) != 0) return false;
    return a->op != QN_OP_constant || a->count == 0 || memcmp(a->data, b->data, bytes_of(a)) == 0;
}

static bool still_the_same(const struct table *t, int32_t first, int32_t second)
{
    const struct qn__node *y = &t->in->node[first];
    for (int k = 0; k < y->n_in; k++)
        if (qn__written_between(&t->writes, y->in[k], first, second)) return false;
    return true;
}

/* The value that stands for node i: an earlier equal one, or its own copy. */
static int32_t merged(struct table *t, int32_t i)
{
    const struct qn__node *y = &t->in->node[i];
    const struct qn__op *op = qn__op_of(y->op);
    if (op->effect || op->writes) return qn__graph_carry(t->out, t->in, i, t->map);
    size_t at = hash(t, y) & t->mask;
    while (t->slot[at] && !equal(t, &t->in->node[t->slot[at]], y)) at = (at + 1) & t->mask;
    if (t->slot[at] && still_the_same(t, t->slot[at], i)) return t->map[t->slot[at]];
    t->slot[at] = i;
    return qn__graph_carry(t->out, t->in, i, t->map);
}

qn_status qn__pass_cse(const qn_graph *in, qn_graph *out, int32_t *map, const struct qn__pass_env *env, qn_error *err)
{
    (void)env;
    size_t size = 16;
    while (size < 2 * (size_t)in->n) size *= 2;
    struct table t = { .in = in, .out = out, .map = map, .mask = size - 1 };
    t.slot = qn__calloc(&in->alloc, size, sizeof *t.slot);
    qn_status status = t.slot ? qn__writes_find(&t.writes, in, err) : qn__nomem(err, "cse", size * sizeof *t.slot);
    for (int32_t i = 1; i < in->n && !status; i++) map[i] = merged(&t, i);
    qn__writes_free(&t.writes);
    qn__free(&in->alloc, t.slot, size * sizeof *t.slot);
    return status;
}
