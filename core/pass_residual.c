/* pass_residual.c - sums around a normalisation go into it, one pass over memory less for each:
 *
 *   s = a + b, read by a normalisation and elsewhere  ->  add_layer_norm and the like: s, and the norm as its
 *                                                        further result
 *   dx of a normalisation + another gradient          ->  the gradient row with an addend
 *   batch_norm + residual, relu or not                ->  batch_norm with an addend
 *
 * The sum must be of equal shapes. A value in between has no other reader; s is read first by the normalisation, where
 * the merged node stands. Results are the same bits. */
#include "pass.h"
#include <string.h>

/* What a node of `in` is for: it ends a pattern whose other part is `with`, or has gone into one. */
enum role { CARRIED, INSIDE, NORM_OF_SUM, SUM_OF_GRADIENT, SUM_OF_NORM, RELU_OF_NORM };
struct part {
    enum role role;
    int32_t with;
};

struct residual {
    const qn_graph *in;
    qn_graph *out;
    int32_t *map, *readers, *first; /* first: the reader that comes first */
    struct part *part;
    struct qn__writes writes;
};

static enum qn__opcode with_sum(enum qn__opcode norm)
{
    switch ((int)norm) {
    case QN_OP_layer_norm: return QN_OP_add_layer_norm;
    case QN_OP_rms_norm: return QN_OP_add_rms_norm;
    case QN_OP_group_norm: return QN_OP_add_group_norm;
    default: return QN_OP_none;
    }
}

/* Operands of a gradient row without its addend; 0 for any other row. */
static int gradient_operands(enum qn__opcode op)
{
    bool rows = op == QN_OP_layer_norm_grad_x || op == QN_OP_rms_norm_grad_x || op == QN_OP_group_norm_grad_x;
    return rows ? 3 : op == QN_OP_bn_grad_x ? 5 : 0;
}

static const struct qn__node *at(const struct residual *r, int32_t i) { return &r->in->node[i]; }

static bool is_plain_sum(const struct residual *r, int32_t i)
{
    const struct qn__node *s = at(r, i);
    if (s->op != QN_OP_add || r->part[i].role != CARRIED) return false;
    for (int k = 0; k < 2; k++)
        if (!qn__same_dims(at(r, s->in[k]), s) || at(r, s->in[k])->dtype != s->dtype) return false;
    return true;
}

/* Operands of `from` still hold at `to` what they held. */
static bool reads_may_move(const struct residual *r, int32_t from, int32_t to)
{
    for (int k = 0; k < at(r, from)->n_in; k++)
        if (qn__written_between(&r->writes, at(r, from)->in[k], from, to)) return false;
    return at(r, from)->phase == at(r, to)->phase;
}

/* x goes into the sum i: nobody else reads it, and the sum is not of x and x. */
static bool goes_into(const struct residual *r, int32_t x, int32_t i)
{
    return r->readers[x] == 1 && r->part[x].role == CARRIED && reads_may_move(r, x, i);
}

static bool is_open_norm(const struct qn__node *x)
{
    return x->op == QN_OP_batch_norm && x->n_in == 4 && !((const struct qn__bn_attr *)x->attr)->act;
}

static void look_at_sum(struct residual *r, int32_t i)
{
    const struct qn__node *s = at(r, i);
    if (!is_plain_sum(r, i)) return;
    for (int k = 0; k < 2 && r->part[i].role == CARRIED; k++) {
        const struct qn__node *x = at(r, s->in[k]);
        bool gradient = gradient_operands(x->op) && x->n_in == gradient_operands(x->op);
        if ((!gradient && !is_open_norm(x)) || !goes_into(r, s->in[k], i)) continue;
        r->part[s->in[k]].role = INSIDE;
        r->part[i] = (struct part){ gradient ? SUM_OF_GRADIENT : SUM_OF_NORM, s->in[k] };
    }
}

static void look_at_norm(struct residual *r, int32_t i)
{
    int32_t s = at(r, i)->in[0];
    if (!is_plain_sum(r, s) || r->first[s] != i || !reads_may_move(r, s, i)) return;
    r->part[s].role = INSIDE;
    r->part[i] = (struct part){ NORM_OF_SUM, s };
}

static void look_at_relu(struct residual *r, int32_t i)
{
    int32_t s = at(r, i)->in[0];
    if (r->part[s].role != SUM_OF_NORM || r->readers[s] != 1 || !reads_may_move(r, s, i) ||
        !reads_may_move(r, r->part[s].with, i))
        return;
    r->part[i] = (struct part){ RELU_OF_NORM, s };
    r->part[s].role = INSIDE;
}

/* A norm takes the sum before it; else the sum may take what it is made of. */
static void find_parts(struct residual *r)
{
    for (int32_t i = 1; i < r->in->n; i++)
        if (with_sum(at(r, i)->op)) look_at_norm(r, i);
    for (int32_t i = 1; i < r->in->n; i++) {
        look_at_sum(r, i);
        if (at(r, i)->op == QN_OP_relu) look_at_relu(r, i);
    }
}

/* ---- writing ---------------------------------------------------------------------------------------- */

static void emit_norm_of_sum(struct residual *r, int32_t i, int32_t s)
{
    const struct qn__node *y = at(r, i), *sum = at(r, s);
    int32_t in[QN_MAX_IN] = { r->map[sum->in[0]], r->map[sum->in[1]] };
    struct qn__output_attr first;
    memset(&first, 0, sizeof first);
    for (int k = 1; k < y->n_in; k++) in[k + 1] = r->map[y->in[k]];
    r->map[s] = qn__pass_node(r->out, sum, with_sum(y->op), in, y->n_in + 1, y->attr);
    r->map[i] = r->map[s] ? qn__pass_node(r->out, y, QN_OP_output, &r->map[s], 1, &first) : 0;
}

/* x, with what else the sum s adds as its last operand, in the place of node i. */
static void emit_with_addend(struct residual *r, int32_t i, int32_t s, int32_t x, bool relu)
{
    const struct qn__node *y = at(r, x), *sum = at(r, s);
    int32_t in[QN_MAX_IN];
    int n = y->n_in;
    for (int k = 0; k < n; k++) in[k] = r->map[y->in[k]];
    in[n++] = r->map[sum->in[0] == x ? sum->in[1] : sum->in[0]];
    if (!relu) {
        r->map[i] = qn__pass_node(r->out, at(r, i), y->op, in, n, y->attr);
        return;
    }
    struct qn__bn_attr attr = *(const struct qn__bn_attr *)y->attr;
    attr.act = QN_OP_relu;
    r->map[i] = qn__pass_node(r->out, at(r, i), y->op, in, n, &attr);
}

static void rewrite(struct residual *r)
{
    for (int32_t i = 1; i < r->in->n; i++) {
        int32_t with = r->part[i].with;
        switch (r->part[i].role) {
        case CARRIED: r->map[i] = qn__graph_carry(r->out, r->in, i, r->map); break;
        case INSIDE: break;
        case NORM_OF_SUM: emit_norm_of_sum(r, i, with); break;
        case SUM_OF_GRADIENT:
        case SUM_OF_NORM: emit_with_addend(r, i, i, with, false); break;
        case RELU_OF_NORM: emit_with_addend(r, i, with, r->part[with].with, true); break;
        }
    }
}

qn_status qn__pass_residual(const qn_graph *in, qn_graph *out, int32_t *map, const struct qn__pass_env *env,
                            qn_error *err)
{
    size_t n = (size_t)in->n;
    struct residual r = { .in = in, .out = out, .map = map };
    r.readers = qn__calloc(&in->alloc, n, sizeof *r.readers);
    r.first = qn__calloc(&in->alloc, n, sizeof *r.first);
    r.part = qn__calloc(&in->alloc, n, sizeof *r.part);
    bool have = r.readers && r.first && r.part;
    qn_status status = have ? qn__writes_find(&r.writes, in, err) : qn__nomem(err, "residual", n * sizeof *r.part);
    if (!status) {
        qn__count_readers(in, env, r.readers);
        for (int32_t i = in->n - 1; i > 0; i--)
            for (int k = 0; k < in->node[i].n_in; k++) r.first[in->node[i].in[k]] = i;
        find_parts(&r);
        rewrite(&r);
    }
    qn__writes_free(&r.writes);
    qn__free(&in->alloc, r.readers, n * sizeof *r.readers);
    qn__free(&in->alloc, r.first, n * sizeof *r.first);
    qn__free(&in->alloc, r.part, n * sizeof *r.part);
    return status;
}
