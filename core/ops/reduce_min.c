/* reduce_min.c - smallest element over any axes. */
#include "../op.h"

const struct qn__op qn__op_reduce_min = { .name = "reduce_min",
                                          .infer = qn__infer_extreme,
                                          .vjp = qn__vjp_extreme,
                                          .cost = qn__cost_each,
                                          .attr_size = sizeof(struct qn__reduce_attr) };

qn_t qn_reduce_min(qn_graph *g, qn_t x, uint32_t axes, bool keep)
{
    return qn__reduce(g, QN_OP_reduce_min, x, axes, keep);
}
