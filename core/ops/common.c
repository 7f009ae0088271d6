/* common.c - shape rules, gradients and costs that several operators share. */
#include "../op.h"
#include <string.h>

qn_status qn__infer_reduce(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    const struct qn__reduce_attr *attr = y->attr;
    if (!qn_dtype_is_float(x[0]->dtype))
        return qn__fail(err, 2202, NULL, "%s; expected F32, F64, BF16 or F16", qn_dtype_name(x[0]->dtype));
    if (attr->axes >> x[0]->rank)
        return qn__fail(err, 2204, NULL, "axes %#x; expected bits below rank %d", attr->axes, x[0]->rank);
    y->dtype = x[0]->dtype;
    y->rank = 0;
    for (int i = 0; i < x[0]->rank; i++) {
        bool reduced = attr->axes >> i & 1;
        if (!reduced || attr->keep) y->dim[y->rank++] = reduced ? 1 : x[0]->dim[i];
    }
    return QN_OK;
}

qn_status qn__infer_broadcast(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    y->rank = x[0]->rank;
    memcpy(y->dim, x[0]->dim, sizeof y->dim);
    for (int i = 1; i < y->n_in; i++) {
        int64_t dim[QN_MAX_DIMS];
        int rank;
        if (!qn__broadcast_dims(&rank, dim, y->rank, y->dim, x[i]->rank, x[i]->dim))
            return qn__fail(err, 2201, NULL, "operand shapes do not fit; expected shapes that broadcast");
        y->rank = rank;
        memcpy(y->dim, dim, (size_t)rank * sizeof dim[0]);
    }
    return QN_OK;
}

qn_status qn__infer_extreme(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    QN_TRY(qn__infer_reduce(x, y, err));
    const struct qn__reduce_attr *attr = y->attr;
    for (int i = 0; i < x[0]->rank; i++)
        if ((attr->axes >> i & 1) && x[0]->dim[i] == 0)
            return qn__fail(err, 2203, NULL, "axis %d is empty; expected at least one element to choose from", i);
    return QN_OK;
}

qn_t qn__unreduced(qn_graph *g, const struct qn__node *y, qn_t t)
{
    const struct qn__reduce_attr *attr = y->attr;
    struct qn__node x = *qn__at(g, qn__in(y, 0));
    int64_t kept[QN_MAX_DIMS];
    for (int i = 0; i < x.rank; i++) kept[i] = attr->axes >> i & 1 ? 1 : x.dim[i];
    return qn_reshape(g, t, x.rank, kept);
}

/* dx = dy where x equals the result, divided evenly among equals. Where the extreme element is unique this is the
 * gradient; at a tie it is the mean of the one-sided choices, and the shares add up to dy. Nothing equals NaN: the
 * gradient of a NaN result is zero. */
void qn__vjp_extreme(qn_graph *g, const struct qn__node *y, qn_t self, qn_t dy, qn_t *dx)
{
    const struct qn__reduce_attr *attr = y->attr;
    qn_t chosen = qn_eq(g, qn__in(y, 0), qn__unreduced(g, y, self));
    qn_t share = qn_div(g, qn__unreduced(g, y, dy), qn_sum(g, qn_cast(g, chosen, y->dtype), attr->axes, true));
    dx[0] = qn_where(g, chosen, share, qn_scalar(g, y->dtype, 0));
}

qn_t qn__reduce(qn_graph *g, enum qn__opcode op, qn_t x, uint32_t axes, bool keep)
{
    if (axes == QN_ALL_AXES) axes = (1u << qn_rank(g, x)) - 1;
    return qn__node(g, op, &x, 1, &(struct qn__reduce_attr){ axes, keep });
}

qn_status qn__infer_written(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    const struct qn__op *op = qn__op_of(x[0]->op);
    if (x[0]->op != QN_OP_store && !op->writes)
        return qn__fail(err, 2209, NULL, "operand 0 is the result of %s; expected a tensor of the store", op->name);
    return qn__infer_like(x, y, err);
}

static double bytes_of(const struct qn__node *x) { return (double)x->count * (double)qn_dtype_size(x->dtype); }

/* Cost functions run after y.count is known. */
struct qn__cost qn__cost_move(const struct qn__node *const *x, const struct qn__node *y)
{
    struct qn__cost c = { 0, bytes_of(y) };
    for (int i = 0; i < y->n_in; i++) c.bytes += bytes_of(x[i]);
    return c;
}

struct qn__cost qn__cost_each(const struct qn__node *const *x, const struct qn__node *y)
{
    struct qn__cost c = qn__cost_move(x, y);
    c.flops = (double)x[0]->count;
    return c;
}
