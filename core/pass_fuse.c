/* pass_fuse.c - trees of pointwise rows become one `fused` node: every operand is read once, nothing in between is
 * written.
 *
 * From each value that is needed the tree grows towards its operands, highest id first. An inner value joins if it
 * has the result's dims and phase, if its computation is in the same element type and loses nothing by not being
 * stored (no rounding to a narrower type), and if nobody outside reads it; or if it costs next to nothing to compute
 * again from an operand that is no larger, because then nobody may need to store it. The node stands where the
 * tree's root stood, so no operand may be written between its first reader and there. Results are the same bits. */
#include "pass.h"
#include <string.h>

struct fuse {
    const qn_graph *in;
    qn_graph *out;
    const struct qn__pass_env *env;
    int32_t *map, *readers;
    bool *live, *kept;
    bool *elsewhere; /* some reader could not take the value into its own tree */
    struct qn__writes writes;
};

/* Members and operands, ids in descending order. */
struct tree {
    int32_t root, n, n_operands, n_open;
    qn_dtype compute;
    int32_t member[QN_FUSED_MAX], operand[QN_MAX_IN], open[QN_MAX_IN];
    bool own[QN_FUSED_MAX]; /* nobody outside reads this member: it is computed here only */
};

static qn_dtype compute_dtype(const qn_graph *g, const struct qn__node *y)
{
    const struct qn__node *x[QN_MAX_IN] = { NULL };
    for (int k = 0; k < y->n_in; k++) x[k] = &g->node[y->in[k]];
    return qn__compute_dtype(x, y);
}

/* One or two instructions without a division or a function. */
static bool is_cheap(enum qn__opcode op)
{
    return op == QN_OP_affine || op == QN_OP_neg || op == QN_OP_abs || op == QN_OP_sign || op == QN_OP_step ||
           op == QN_OP_square || op == QN_OP_relu || op == QN_OP_leaky_relu || op == QN_OP_clamp || op == QN_OP_cast;
}

/* Only members that are computed nowhere else read the value, and nobody outside. */
static bool only_read_inside(const struct fuse *f, const struct tree *t, int32_t value)
{
    int32_t n = 0;
    for (int i = 0; i < t->n; i++) {
        const struct qn__node *y = &f->in->node[t->member[i]];
        for (int k = 0; k < y->n_in; k++) n += t->own[i] && y->in[k] == value;
    }
    return n == f->readers[value];
}

static bool contains(const int32_t *list, int n, int32_t id)
{
    for (int i = 0; i < n; i++)
        if (list[i] == id) return true;
    return false;
}

static bool may_be_computed_again(const struct fuse *f, int32_t c)
{
    const struct qn__node *y = &f->in->node[c];
    if (!is_cheap(y->op) || f->elsewhere[c]) return false;
    const struct qn__node *x = &f->in->node[y->in[0]];
    return qn_dtype_size(x->dtype) <= qn_dtype_size(y->dtype) && x->count <= y->count;
}

/* Does value c belong inside the tree? */
static bool fits(const struct fuse *f, const struct tree *t, int32_t c)
{
    const struct qn__node *y = &f->in->node[c], *root = &f->in->node[t->root];
    if (!qn__is_pointwise(y->op) || f->kept[c] || y->phase != root->phase || !qn__same_dims(y, root)) return false;
    if (y->dtype != t->compute && !qn__pw_compares(y->op)) return false;
    if (compute_dtype(f->in, y) != t->compute) return false;
    if (!only_read_inside(f, t, c) && !may_be_computed_again(f, c)) return false;
    for (int k = 0; k < y->n_in; k++)
        if (qn__written_between(&f->writes, y->in[k], c, t->root)) return false;
    return true;
}

/* Adds the operands of y to those still to be looked at; false if the tree would get too many. */
static bool open_operands(struct tree *t, const struct qn__node *y)
{
    int32_t list[QN_MAX_IN];
    int n = t->n_open;
    memcpy(list, t->open, sizeof list);
    for (int k = 0; k < y->n_in; k++) {
        if (contains(list, n, y->in[k])) continue;
        if (n + t->n_operands >= QN_MAX_IN) return false;
        int at = n++;
        for (; at > 0 && list[at - 1] > y->in[k]; at--) list[at] = list[at - 1];
        list[at] = y->in[k];
    }
    memcpy(t->open, list, sizeof list);
    t->n_open = n;
    return true;
}

/* open is in ascending order, so that its last is the highest: all readers of it inside the tree are members. */
static void grow(const struct fuse *f, int32_t root, struct tree *t)
{
    *t = (struct tree){ .root = root, .n = 1, .member = { root }, .own = { true } };
    t->compute = compute_dtype(f->in, &f->in->node[root]);
    open_operands(t, &f->in->node[root]);
    while (t->n_open > 0) {
        int32_t c = t->open[--t->n_open];
        bool own = only_read_inside(f, t, c);
        if (t->n < QN_FUSED_MAX && fits(f, t, c) && open_operands(t, &f->in->node[c])) {
            t->own[t->n] = own;
            t->member[t->n++] = c;
        } else {
            t->operand[t->n_operands++] = c;
        }
    }
}

static bool is_tree(const struct fuse *f, int32_t i, struct tree *t)
{
    if (!qn__is_pointwise(f->in->node[i].op)) return false;
    grow(f, i, t);
    return t->n > 1;
}

static void find_readers(const struct fuse *f)
{
    qn__count_readers(f->in, f->env, f->readers);
    for (int32_t i = 1; i < f->in->n; i++) {
        const struct qn__node *y = &f->in->node[i];
        for (int k = 0; k < y->n_in; k++) {
            const struct qn__node *x = &f->in->node[y->in[k]];
            if (!qn__is_pointwise(y->op) || y->phase != x->phase || !qn__same_dims(x, y)) f->elsewhere[y->in[k]] = true;
        }
    }
}

/* What is still read once trees swallow their inner values. */
static void find_live(const struct fuse *f)
{
    struct tree t;
    for (int i = 0; i < f->env->n_keep; i++) f->live[f->env->keep[i]] = f->kept[f->env->keep[i]] = true;
    for (int32_t i = f->in->n - 1; i > 0; i--) {
        const struct qn__node *y = &f->in->node[i];
        const struct qn__op *op = qn__op_of(y->op);
        if (!f->live[i] && !op->effect && !op->writes) continue;
        f->live[i] = true;
        if (is_tree(f, i, &t))
            for (int k = 0; k < t.n_operands; k++) f->live[t.operand[k]] = true;
        else
            for (int k = 0; k < y->n_in; k++) f->live[y->in[k]] = true;
    }
}

/* The register of value id: an operand, numbered when first met, or a member already computed. */
static int32_t reg_of(const struct tree *t, int32_t id, int32_t *operand, int32_t *n)
{
    for (int i = 0; i < t->n; i++)
        if (t->member[i] == id) return t->n_operands + (t->n - 1 - i);
    for (int32_t r = 0; r < *n; r++)
        if (operand[r] == id) return r;
    operand[*n] = id;
    return (*n)++;
}

static int32_t emit(const struct fuse *f, const struct tree *t)
{
    struct qn__fused_attr attr;
    int32_t operand[QN_MAX_IN], n_operands = 0;
    memset(&attr, 0, sizeof attr);
    attr.n = t->n;
    attr.n_in = t->n_operands;
    for (int i = 0; i < t->n; i++) {
        const struct qn__node *y = &f->in->node[t->member[t->n - 1 - i]];
        const struct qn__pw_attr *pw = y->attr;
        struct qn__pw_instr *o = &attr.instr[i];
        int32_t reg[3];
        for (int k = 0; k < 3; k++) reg[k] = k < y->n_in ? reg_of(t, y->in[k], operand, &n_operands) : reg[k - 1];
        *o = (struct qn__pw_instr){
            .op = (int32_t)y->op, .a = reg[0], .b = reg[1], .c = reg[2], .p = pw->p, .q = pw->q
        };
    }
    for (int k = 0; k < n_operands; k++) operand[k] = f->map[operand[k]];
    return qn__pass_node(f->out, &f->in->node[t->root], QN_OP_fused, operand, n_operands, &attr);
}

qn_status qn__pass_fuse(const qn_graph *in, qn_graph *out, int32_t *map, const struct qn__pass_env *env, qn_error *err)
{
    size_t n = (size_t)in->n;
    struct fuse f = { .in = in, .out = out, .env = env, .map = map };
    struct tree t;
    f.readers = qn__calloc(&in->alloc, n, sizeof *f.readers);
    f.live = qn__calloc(&in->alloc, n, sizeof *f.live);
    f.kept = qn__calloc(&in->alloc, n, sizeof *f.kept);
    f.elsewhere = qn__calloc(&in->alloc, n, sizeof *f.elsewhere);
    bool have = f.readers && f.live && f.kept && f.elsewhere;
    qn_status status = have ? qn__writes_find(&f.writes, in, err) : qn__nomem(err, "fuse", n * sizeof *f.readers);
    if (!status) {
        find_readers(&f);
        find_live(&f);
        for (int32_t i = 1; i < in->n; i++)
            if (f.live[i]) map[i] = is_tree(&f, i, &t) ? emit(&f, &t) : qn__graph_carry(out, in, i, map);
    }
    qn__writes_free(&f.writes);
    qn__free(&in->alloc, f.readers, n * sizeof *f.readers);
    qn__free(&in->alloc, f.live, n * sizeof *f.live);
    qn__free(&in->alloc, f.kept, n * sizeof *f.kept);
    qn__free(&in->alloc, f.elsewhere, n * sizeof *f.elsewhere);
    return status;
}
