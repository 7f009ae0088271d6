/* advance_rng.c - the graph's random state: I64[4] in the store, and the operator that moves it on. */
#include "../op.h"

static qn_status infer(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    const struct qn__rng_attr *attr = y->attr;
    if (x[0]->dtype != QN_I64 || x[0]->rank != 1 || x[0]->dim[0] != 4)
        return qn__fail(err, 2201, NULL, "%s %s; expected I64 [4]", qn_dtype_name(x[0]->dtype),
                        qn__dims_show(x[0]->rank, x[0]->dim).s);
    if (attr->samples < 0 || attr->steps < 0)
        return qn__fail(err, 2204, NULL, "%lld samples, %lld steps; expected at least 0", (long long)attr->samples,
                        (long long)attr->steps);
    return qn__infer_written(x, y, err);
}

const struct qn__op qn__op_advance_rng = { .name = "advance_rng",
                                           .infer = infer,
                                           .cost = qn__cost_move,
                                           .attr_size = sizeof(struct qn__rng_attr),
                                           .writes = 1,
                                           .effect = true,
                                           .no_gradient = "it writes to the store" };

/* One per graph whatever the scope, so that every draw of a program reads the same counters. */
qn_t qn_rng(qn_graph *g) { return qn__global_tensor(g, QN_STATE, "quern.rng", 4); }

qn_t qn_advance_rng(qn_graph *g, qn_t rng, int64_t samples, int64_t steps)
{
    return qn__node(g, QN_OP_advance_rng, &rng, 1, &(struct qn__rng_attr){ samples, steps });
}
