/* max_pool2d_grad.c - gradient of max_pool2d from x, y and dy: each dy goes to the first element of its window that
 * equals y. */
#include "pool.h"

static qn_status infer(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    QN_TRY(qn__check_images(x, 3, err));
    QN_TRY(qn__pool_infer(x, y, err));
    for (int i = 1; i < 3; i++)
        if (!qn__same_dims(x[i], y) || x[i]->dtype != y->dtype)
            return qn__fail(err, 2201, NULL, "operand %d is %s %s; expected %s %s", i, qn_dtype_name(x[i]->dtype),
                            qn__dims_show(4, x[i]->dim).s, qn_dtype_name(y->dtype), qn__dims_show(4, y->dim).s);
    return qn__infer_like(x, y, err);
}

static struct qn__cost cost(const struct qn__node *const *x, const struct qn__node *y)
{
    return qn__pool_cost(x, y, (double)x[2]->count);
}

const struct qn__op qn__op_max_pool2d_grad = {
    .name = "max_pool2d_grad",
    .infer = infer,
    .no_gradient = "it chooses elements by comparing x with y; the same choice from another tensor is no operator here",
    .cost = cost,
    .attr_size = sizeof(struct qn__pool_attr),
    .layout = QN_LAYOUT_ASK,
};
