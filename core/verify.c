/* verify.c - what every graph must satisfy, before and after each pass. A failure is a mistake of ours: E7070. */
#include "graph_impl.h"
#include <string.h>

struct place {
    const qn_graph *g;
    int32_t i;
    qn_error *err;
};

#define RULE(p, holds, ...) \
    do { \
        if (!(holds)) return broken(p, __VA_ARGS__); \
    } while (0)

static qn_status broken(struct place p, const char *rule, long long found, long long expected)
{
    const struct qn__node *y = &p.g->node[p.i];
    bool known = y->op > QN_OP_none && y->op < QN_OP_COUNT;
    return qn__fail(p.err, 7070, QN_AT_FIELD("graph"), "value %d, %s: %s is %lld; expected %lld", p.i,
                    known ? qn__op_of(y->op)->name : "?", rule, found, expected);
}

/* Sources have no launch: their phase says where they were written down, not when they are there. */
static bool is_source(const struct qn__node *y) { return qn__arity_of(y->op) == 0; }

static qn_status check_operands(struct place p)
{
    const struct qn__node *y = &p.g->node[p.i];
    const struct qn__op *op = qn__op_of(y->op);
    int arity = qn__arity_of(y->op);
    RULE(p, arity < 0 || y->n_in == arity, "number of operands", y->n_in, arity);
    RULE(p, y->n_in >= 0 && y->n_in <= QN_MAX_IN, "number of operands", y->n_in, QN_MAX_IN);
    for (int k = 0; k < y->n_in; k++) {
        RULE(p, y->in[k] > 0 && y->in[k] < p.i, "operand (must come before)", y->in[k], p.i - 1);
        const struct qn__node *x = &p.g->node[y->in[k]];
        RULE(p, x->phase <= y->phase || is_source(x), "phase of an operand", x->phase, y->phase);
        if (op->writes >> k & 1)
            RULE(p, x->op == QN_OP_store || qn__op_of(x->op)->writes, "operand written in place: value", y->in[k], 0);
    }
    RULE(p, y->op != QN_OP_output || p.g->node[y->in[0]].phase == y->phase, "phase of a further result", y->phase,
         p.g->node[y->in[0]].phase);
    return QN_OK;
}

static qn_status check_shape(struct place p)
{
    const struct qn__node *y = &p.g->node[p.i];
    int64_t count = 0;
    RULE(p, (unsigned)y->dtype < QN_DTYPE_COUNT, "dtype", (long long)y->dtype, QN_DTYPE_COUNT - 1);
    RULE(p, y->rank >= 0 && y->rank <= QN_MAX_DIMS, "rank", y->rank, QN_MAX_DIMS);
    RULE(p, qn__count(&count, y->dim, y->rank), "number of elements", -1, 0);
    RULE(p, count == y->count, "number of elements", y->count, count);
    for (int i = y->rank; i < QN_MAX_DIMS; i++) RULE(p, y->dim[i] == 0, "dim beyond the rank", y->dim[i], 0);
    RULE(p, y->block >= 1, "block", y->block, QN_PLAIN);
    RULE(p, y->block == QN_PLAIN || y->rank == 4, "rank of a value in channel blocks", y->rank, 4);
    RULE(p, y->block == QN_PLAIN || y->dim[1] % y->block == 0, "channels modulo block", y->dim[1] % y->block, 0);
    return QN_OK;
}

/* Running the shape rule again must find what is there. */
static qn_status check_inferred(struct place p)
{
    const struct qn__node *y = &p.g->node[p.i], *x[QN_MAX_IN] = { NULL };
    const struct qn__op *op = qn__op_of(y->op);
    struct qn__node again = *y;
    qn_error err = { 0 };
    if (!op->infer) return QN_OK;
    for (int k = 0; k < y->n_in; k++) x[k] = &p.g->node[y->in[k]];
    qn_status status = op->infer(x, &again, &err);
    RULE(p, !status, "error of its shape rule", err.code, 0);
    RULE(p, again.dtype == y->dtype, "dtype", (long long)y->dtype, (long long)again.dtype);
    RULE(p, again.rank == y->rank, "rank", y->rank, again.rank);
    for (int i = 0; i < y->rank; i++) RULE(p, again.dim[i] == y->dim[i], "dim", y->dim[i], again.dim[i]);
    return QN_OK;
}

static qn_status check_node(struct place p)
{
    const struct qn__node *y = &p.g->node[p.i];
    RULE(p, y->op > QN_OP_none && y->op < QN_OP_COUNT, "opcode", y->op, QN_OP_COUNT - 1);
    RULE(p, y->name != NULL, "name", 0, 1);
    RULE(p, !qn__op_of(y->op)->attr_size || y->attr, "attribute", 0, 1);
    RULE(p, y->op != QN_OP_constant || y->data || y->count == 0, "data", 0, 1);
    RULE(p, y->phase == QN_MICRO || y->phase == QN_UPDATE, "phase", y->phase, QN_UPDATE);
    QN_TRY(check_operands(p));
    QN_TRY(check_shape(p));
    return check_inferred(p);
}

qn_status qn__graph_verify(const qn_graph *g, qn_error *err)
{
    for (int32_t i = 1; i < g->n; i++) QN_TRY(check_node((struct place){ g, i, err }));
    return QN_OK;
}
