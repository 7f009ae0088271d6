/* grad.c - reverse-mode differentiation: one sweep from the loss back, by the rules of core/ops. */
#include "graph_impl.h"
#include <string.h>

/* needs[i]: value i depends on one of wrt, through operators with a derivative. */
static void mark_needed(const qn_graph *g, int32_t last, const qn_t *wrt, int n, bool *needs)
{
    for (int k = 0; k < n; k++)
        if (wrt[k].id <= last) needs[wrt[k].id] = true;
    for (int32_t i = 1; i <= last; i++) {
        const struct qn__node *y = &g->node[i];
        if (qn__op_of(y->op)->flat || !qn_dtype_is_float(y->dtype)) continue;
        for (int k = 0; k < y->n_in; k++) needs[i] = needs[i] || needs[y->in[k]];
    }
}

/* Gradients are built in the scope of the value they belong to: "conv1.conv2d" -> "conv1.conv2d_grad_w". */
static void enter_scope_of(qn_graph *g, const struct qn__node *y)
{
    const char *dot = strrchr(y->name, '.');
    size_t n = dot ? (size_t)(dot - y->name) + 1 : 0;
    if (n >= QN_SCOPE_MAX) n = 0;
    memcpy(g->scope, y->name, n);
    g->scope[n] = 0;
}

static void add_contributions(qn_graph *g, const struct qn__node *y, const qn_t *dx, const bool *needs, qn_t *d)
{
    for (int k = 0; k < y->n_in; k++) {
        int32_t x = y->in[k];
        if (!dx[k].id || !needs[x]) continue;
        d[x] = d[x].id ? qn_add(g, d[x], dx[k]) : dx[k];
    }
}

/* The gradients of a value and of its operator's further results, which come after it. */
struct seeds {
    qn_t dy[1 + QN_MAX_MORE];
};

static bool any_seed(const struct seeds *s)
{
    for (int k = 0; k <= QN_MAX_MORE; k++)
        if (s->dy[k].id) return true;
    return false;
}

/* An `output` node has no rule of its own: what arrived at it belongs to its operand's. */
static void hand_over(const struct qn__node *y, qn_t dy, struct seeds *seeds)
{
    const struct qn__output_attr *attr = y->attr;
    seeds[y->in[0]].dy[1 + attr->index] = dy;
}

static void sweep(qn_graph *g, int32_t last, const bool *needs, struct seeds *seeds, qn_t *d)
{
    for (int32_t i = last; i > 0 && !qn__failed(g); i--) {
        struct qn__node y = g->node[i]; /* a copy: the array moves as the graph grows */
        const struct qn__op *op = qn__op_of(y.op);
        seeds[i].dy[0] = d[i];
        if (!any_seed(&seeds[i]) || !needs[i] || y.n_in == 0) continue;
        if (y.op == QN_OP_output) {
            hand_over(&y, d[i], seeds);
            continue;
        }
        enter_scope_of(g, &y);
        if (!qn__has_gradient(op) || (!op->vjp_all && !d[i].id)) {
            qn__graph_fail(g, 2205, op->name, "has no gradient: %s; expected no path from a weight to the loss",
                           op->no_gradient ? op->no_gradient : "none is defined");
            return;
        }
        qn_t dx[QN_MAX_IN] = { { 0 } };
        if (op->vjp_all)
            op->vjp_all(g, &y, (qn_t){ i }, seeds[i].dy, dx);
        else
            op->vjp(g, &y, (qn_t){ i }, d[i], dx);
        add_contributions(g, &y, dx, needs, d);
    }
}

static qn_status check(qn_graph *g, qn_t loss, const qn_t *wrt, int n)
{
    const struct qn__node *y = qn__at(g, loss);
    if (y->op == QN_OP_none || y->count != 1 || !qn_dtype_is_float(y->dtype))
        qn__graph_fail(g, 2201, "grad", "loss is %s %s; expected one floating-point element", qn_dtype_name(y->dtype),
                       qn__dims_show(y->rank, y->dim).s);
    for (int k = 0; k < n; k++)
        if (qn__at(g, wrt[k])->op == QN_OP_none)
            qn__graph_fail(g, 2206, "grad", "wrt[%d] is value %d; expected 1..%d", k, wrt[k].id, g->n - 1);
    return qn_graph_status(g);
}

qn_status qn_grad(qn_graph *g, qn_t loss, const qn_t *wrt, qn_t *dwrt, int n)
{
    for (int k = 0; k < n; k++) dwrt[k] = (qn_t){ 0 };
    if (qn__failed(g)) return qn_graph_status(g);
    QN_TRY(check(g, loss, wrt, n));
    size_t count = (size_t)loss.id + 1;
    qn_t *d = qn__calloc(&g->alloc, count, sizeof *d);
    bool *needs = qn__calloc(&g->alloc, count, sizeof *needs);
    struct seeds *seeds = qn__calloc(&g->alloc, count, sizeof *seeds);
    char scope[QN_SCOPE_MAX];
    memcpy(scope, g->scope, sizeof scope);
    if (!d || !needs || !seeds) {
        qn__graph_fail(g, 5002, "grad", "cannot allocate %zu values", count);
    } else {
        struct qn__node y = *qn__at(g, loss);
        mark_needed(g, loss.id, wrt, n, needs);
        d[loss.id] = qn_full(g, y.dtype, y.rank, y.dim, 1);
        sweep(g, loss.id, needs, seeds, d);
    }
    memcpy(g->scope, scope, sizeof scope);
    for (int k = 0; k < n && !qn__failed(g); k++) {
        struct qn__node w = *qn__at(g, wrt[k]);
        dwrt[k] = wrt[k].id <= loss.id ? d[wrt[k].id] : (qn_t){ 0 };
        if (!dwrt[k].id) dwrt[k] = qn_full(g, w.dtype, w.rank, w.dim, 0);
    }
    qn__free(&g->alloc, d, count * sizeof *d);
    qn__free(&g->alloc, needs, count * sizeof *needs);
    qn__free(&g->alloc, seeds, count * sizeof *seeds);
    return qn_graph_status(g);
}
