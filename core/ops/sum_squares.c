/* sum_squares.c - the squared Euclidean norm of everything: for clipping and penalties. */
#include "../op.h"

static qn_status infer(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    if (!qn_dtype_is_float(x[0]->dtype))
        return qn__fail(err, 2202, NULL, "%s; expected F32, F64, BF16 or F16", qn_dtype_name(x[0]->dtype));
    y->dtype = x[0]->dtype;
    y->rank = 0;
    return QN_OK;
}

/* dx = 2 x dy */
static void vjp(qn_graph *g, const struct qn__node *y, qn_t self, qn_t dy, qn_t *dx)
{
    (void)self;
    dx[0] = qn_mul(g, qn_scale(g, qn__in(y, 0), 2), dy);
}

static struct qn__cost cost(const struct qn__node *const *x, const struct qn__node *y)
{
    struct qn__cost c = qn__cost_each(x, y);
    c.flops *= 2;
    return c;
}

const struct qn__op qn__op_sum_squares = {
    .name = "sum_squares", .infer = infer, .vjp = vjp, .cost = cost, .layout = QN_LAYOUT_REDUCE
};

qn_t qn_sum_squares(qn_graph *g, qn_t x) { return qn__node(g, QN_OP_sum_squares, &x, 1, NULL); }
