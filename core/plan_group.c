/* plan_group.c - which steps may go into one launch: see plan.h.
 *
 * Steps of one kernel that follow each other in a phase, none of which touches what another writes. Memory is placed
 * for the group as if it were one step: without that, a workspace or a result would take bytes that another step of the
 * group still works in, and the steps would have to be launched one by one. */
#include "plan.h"

int32_t qn__plan_identity(const qn_graph *g, int32_t i)
{
    while (g->node[i].n_in && (qn__op_of(g->node[i].op)->alias || qn__op_of(g->node[i].op)->writes))
        i = g->node[i].in[0];
    return i;
}

/* Is v what node i writes: its result, a further result of it, or a tensor that it changes? */
static bool is_written(const qn_graph *g, int32_t i, int32_t v)
{
    const struct qn__node *y = &g->node[i], *x = &g->node[v];
    if (v == qn__plan_identity(g, i) || (x->op == QN_OP_output && x->in[0] == i)) return true;
    for (int q = 0; q < y->n_in; q++)
        if (qn__op_of(y->op)->writes >> q & 1 && qn__plan_identity(g, y->in[q]) == v) return true;
    return false;
}

/* Does b read or write what a writes? */
static bool touches(const qn_graph *g, int32_t a, int32_t b)
{
    const struct qn__node *y = &g->node[b];
    if (is_written(g, a, qn__plan_identity(g, b))) return true;
    for (int q = 0; q < y->n_in; q++)
        if (is_written(g, a, qn__plan_identity(g, y->in[q]))) return true;
    return false;
}

void qn__plan_groups(const qn_graph *g, const int32_t *order, const struct qn__step *step, int32_t n_micro,
                     int32_t n_steps, int32_t *group)
{
    for (int32_t k = 0, n = 1; k < n_steps; k += n, n = 1) {
        const struct qn__kernel *kernel = step[k].kernel;
        int32_t end = k < n_micro ? n_micro : n_steps;
        bool apart = kernel && kernel->launch_many;
        for (; apart && k + n < end && step[k + n].kernel == kernel; n += apart)
            for (int32_t i = k; i < k + n && apart; i++)
                apart = !touches(g, order[i], order[k + n]) && !touches(g, order[k + n], order[i]);
        group[k] = n;
        for (int32_t i = k + 1; i < k + n; i++) group[i] = 0;
    }
}
