/* conv2d.c - cross-correlation of images with filters, with stride, padding, dilation and groups. */
#include "conv.h"

static qn_status infer(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    const struct qn__conv_attr *attr = y->attr;
    if (y->n_in < 2) return qn__fail(err, 2204, NULL, "%d operands; expected 2 or 3", y->n_in);
    QN_TRY(qn__check_images(x, 2, err));
    QN_TRY(qn__conv_check_attr(attr, err));
    const int64_t *i = x[0]->dim, *w = x[1]->dim;
    struct qn__conv_dims d = { .n = i[0], .c = i[1], .h = i[2], .w = i[3], .o = w[0], .kh = w[2], .kw = w[3] };
    QN_TRY(qn__conv_resolve(attr, &d, err));
    if (w[1] != d.c / attr->groups)
        return qn__fail(err, 2201, NULL, "filters of %lld channels; expected %lld (%lld in %d groups)", (long long)w[1],
                        (long long)(d.c / attr->groups), (long long)d.c, attr->groups);
    qn__set_dims4(y, x[0]->dtype, d.n, d.o, d.oh, d.ow);
    return qn__epilogue_check(x, y, &attr->epilogue, d.o, err);
}

static void vjp(qn_graph *g, const struct qn__node *y, qn_t self, qn_t dy, qn_t *dx)
{
    (void)self;
    const struct qn__conv_attr *attr = y->attr;
    if (!qn__conv_no_act(g, y)) return;
    qn_t x = qn__in(y, 0), w = qn__in(y, 1);
    dx[0] = qn__conv_node(g, QN_OP_conv2d_grad_x, w, dy, attr, qn_dim(g, x, 2), qn_dim(g, x, 3), qn_dim(g, x, 1));
    dx[1] = qn__conv_node(g, QN_OP_conv2d_grad_w, x, dy, attr, qn_dim(g, w, 2), qn_dim(g, w, 3), qn_dim(g, x, 1));
    if (attr->epilogue.has_bias) dx[2] = qn_sum(g, dy, QN_AXIS(0) | QN_AXIS(2) | QN_AXIS(3), false);
}

static struct qn__cost cost(const struct qn__node *const *x, const struct qn__node *y)
{
    const int64_t *w = x[1]->dim;
    return qn__conv_cost(x, y, (double)y->count, (double)w[1] * (double)w[2] * (double)w[3]);
}

const struct qn__op qn__op_conv2d = { .name = "conv2d",
                                      .infer = infer,
                                      .vjp = vjp,
                                      .cost = cost,
                                      .attr_size = sizeof(struct qn__conv_attr),
                                      .layout = QN_LAYOUT_ASK };

qn_t qn_conv2d(qn_graph *g, qn_t x, qn_t w, const qn_conv2d_opts *opts)
{
    struct qn__conv_attr attr = qn__conv_attr_of(opts);
    return qn__node(g, QN_OP_conv2d, (qn_t[]){ x, w }, 2, &attr);
}
