/* max_pool2d.c - largest element of each window. */
#include "pool.h"

static void vjp(qn_graph *g, const struct qn__node *y, qn_t self, qn_t dy, qn_t *dx)
{
    dx[0] = qn__node(g, QN_OP_max_pool2d_grad, (qn_t[]){ qn__in(y, 0), self, dy }, 3, y->attr);
}

static struct qn__cost cost(const struct qn__node *const *x, const struct qn__node *y)
{
    return qn__pool_cost(x, y, (double)y->count);
}

const struct qn__op qn__op_max_pool2d = { .name = "max_pool2d",
                                          .infer = qn__pool_infer,
                                          .vjp = vjp,
                                          .cost = cost,
                                          .attr_size = sizeof(struct qn__pool_attr),
                                          .layout = QN_LAYOUT_ASK };

qn_t qn_max_pool2d(qn_graph *g, qn_t x, const qn_pool2d_opts *opts)
{
    struct qn__pool_attr attr = qn__pool_attr_of(opts);
    return qn__node(g, QN_OP_max_pool2d, &x, 1, &attr);
}

qn_t qn_global_max_pool2d(qn_graph *g, qn_t x)
{
    qn_pool2d_opts opts = qn__pool_global(g, x);
    return qn_max_pool2d(g, x, &opts);
}
