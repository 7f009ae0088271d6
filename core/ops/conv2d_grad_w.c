/* conv2d_grad_w.c - gradient of conv2d with respect to its filters: operands are the images and dy. Linear in both. */
#include "conv.h"

static qn_status infer(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    const struct qn__conv_attr *attr = y->attr;
    QN_TRY(qn__check_images(x, 2, err));
    QN_TRY(qn__conv_check_attr(attr, err));
    const int64_t *i = x[0]->dim, *dy = x[1]->dim;
    struct qn__conv_dims d = {
        .n = i[0], .c = i[1], .h = i[2], .w = i[3], .o = dy[1], .kh = attr->size[0], .kw = attr->size[1]
    };
    QN_TRY(qn__conv_resolve(attr, &d, err));
    QN_TRY(qn__conv_check_y(&d, x[1], err));
    qn__set_dims4(y, x[0]->dtype, d.o, d.c / attr->groups, d.kh, d.kw);
    return qn__epilogue_check(x, y, NULL, 0, err);
}

static void vjp(qn_graph *g, const struct qn__node *y, qn_t self, qn_t dy, qn_t *dx)
{
    (void)self;
    const struct qn__conv_attr *attr = y->attr;
    qn_t x = qn__in(y, 0), from = qn__in(y, 1);
    dx[0] = qn__conv_node(g, QN_OP_conv2d_grad_x, dy, from, attr, qn_dim(g, x, 2), qn_dim(g, x, 3), qn_dim(g, x, 1));
    dx[1] = qn__conv_node(g, QN_OP_conv2d, x, dy, attr, 0, 0, 0);
}

static struct qn__cost cost(const struct qn__node *const *x, const struct qn__node *y)
{
    return qn__conv_cost(x, y, (double)x[1]->count, (double)y->dim[1] * (double)y->dim[2] * (double)y->dim[3]);
}

const struct qn__op qn__op_conv2d_grad_w = { .name = "conv2d_grad_w",
                                             .infer = infer,
                                             .vjp = vjp,
                                             .cost = cost,
                                             .attr_size = sizeof(struct qn__conv_attr),
                                             .layout = QN_LAYOUT_ASK };
