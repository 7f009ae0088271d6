/* avg_pool2d.c - mean of each window, over the elements inside the image. */
#include "pool.h"

static void vjp(qn_graph *g, const struct qn__node *y, qn_t self, qn_t dy, qn_t *dx)
{
    (void)self;
    struct qn__pool_attr attr = *(const struct qn__pool_attr *)y->attr;
    for (int i = 0; i < 2; i++) attr.size[i] = qn_dim(g, qn__in(y, 0), 2 + i);
    dx[0] = qn__node(g, QN_OP_avg_pool2d_grad, &dy, 1, &attr);
}

static struct qn__cost cost(const struct qn__node *const *x, const struct qn__node *y)
{
    return qn__pool_cost(x, y, (double)y->count);
}

const struct qn__op qn__op_avg_pool2d = { .name = "avg_pool2d",
                                          .infer = qn__pool_infer,
                                          .vjp = vjp,
                                          .cost = cost,
                                          .attr_size = sizeof(struct qn__pool_attr),
                                          .layout = QN_LAYOUT_ASK };

qn_t qn_avg_pool2d(qn_graph *g, qn_t x, const qn_pool2d_opts *opts)
{
    struct qn__pool_attr attr = qn__pool_attr_of(opts);
    return qn__node(g, QN_OP_avg_pool2d, &x, 1, &attr);
}

qn_t qn_global_avg_pool2d(qn_graph *g, qn_t x)
{
    qn_pool2d_opts opts = qn__pool_global(g, x);
    return qn_avg_pool2d(g, x, &opts);
}
