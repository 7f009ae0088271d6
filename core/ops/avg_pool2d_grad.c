/* avg_pool2d_grad.c - gradient of avg_pool2d from dy: each element of a window gets an equal share. Linear. */
#include "pool.h"

static qn_status infer(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    const struct qn__pool_attr *attr = y->attr;
    int64_t pooled[2];
    QN_TRY(qn__check_images(x, 1, err));
    QN_TRY(qn__pool_resolve(attr, attr->size, pooled, err));
    if (memcmp(pooled, &x[0]->dim[2], sizeof pooled) != 0)
        return qn__fail(err, 2201, NULL, "dy of %lld x %lld; expected %lld x %lld", (long long)x[0]->dim[2],
                        (long long)x[0]->dim[3], (long long)pooled[0], (long long)pooled[1]);
    qn__set_dims4(y, x[0]->dtype, x[0]->dim[0], x[0]->dim[1], attr->size[0], attr->size[1]);
    return QN_OK;
}

static void vjp(qn_graph *g, const struct qn__node *y, qn_t self, qn_t dy, qn_t *dx)
{
    (void)self;
    dx[0] = qn__node(g, QN_OP_avg_pool2d, &dy, 1, y->attr);
}

static struct qn__cost cost(const struct qn__node *const *x, const struct qn__node *y)
{
    return qn__pool_cost(x, y, (double)x[0]->count);
}

const struct qn__op qn__op_avg_pool2d_grad = { .name = "avg_pool2d_grad",
                                               .infer = infer,
                                               .vjp = vjp,
                                               .cost = cost,
                                               .attr_size = sizeof(struct qn__pool_attr),
                                               .layout = QN_LAYOUT_ASK };
