/* conv2d_grad_x.c - gradient of conv2d with respect to its images: operands are the filters and dy. Linear in both,
 * and the forward direction of the transposed convolution. */
#include "conv.h"

static qn_status infer(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    const struct qn__conv_attr *attr = y->attr;
    if (y->n_in < 2) return qn__fail(err, 2204, NULL, "%d operands; expected 2 or 3", y->n_in);
    QN_TRY(qn__check_images(x, 2, err));
    QN_TRY(qn__conv_check_attr(attr, err));
    const int64_t *w = x[0]->dim, *dy = x[1]->dim;
    struct qn__conv_dims d = {
        .n = dy[0], .c = attr->channels, .h = attr->size[0], .w = attr->size[1], .o = w[0], .kh = w[2], .kw = w[3]
    };
    if (d.c < 0 || d.h < 0 || d.w < 0)
        return qn__fail(err, 2203, NULL, "result of %lld channels of %lld x %lld; expected sizes of 0 or more",
                        (long long)d.c, (long long)d.h, (long long)d.w);
    QN_TRY(qn__conv_resolve(attr, &d, err));
    if (w[1] != d.c / attr->groups)
        return qn__fail(err, 2201, NULL, "filters of %lld channels; expected %lld (%lld in %d groups)", (long long)w[1],
                        (long long)(d.c / attr->groups), (long long)d.c, attr->groups);
    QN_TRY(qn__conv_check_y(&d, x[1], err));
    qn__set_dims4(y, x[0]->dtype, d.n, d.c, d.h, d.w);
    return qn__epilogue_check(x, y, &attr->epilogue, d.c, err);
}

static void vjp(qn_graph *g, const struct qn__node *y, qn_t self, qn_t dy, qn_t *dx)
{
    (void)self;
    const struct qn__conv_attr *attr = y->attr;
    if (!qn__conv_no_act(g, y)) return;
    qn_t w = qn__in(y, 0), from = qn__in(y, 1);
    dx[0] = qn__conv_node(g, QN_OP_conv2d_grad_w, dy, from, attr, qn_dim(g, w, 2), qn_dim(g, w, 3), attr->channels);
    dx[1] = qn__conv_node(g, QN_OP_conv2d, dy, w, attr, 0, 0, 0);
    if (attr->epilogue.has_bias) dx[2] = qn_sum(g, dy, QN_AXIS(0) | QN_AXIS(2) | QN_AXIS(3), false);
}

static struct qn__cost cost(const struct qn__node *const *x, const struct qn__node *y)
{
    const int64_t *w = x[0]->dim;
    return qn__conv_cost(x, y, (double)x[1]->count, (double)w[1] * (double)w[2] * (double)w[3]);
}

const struct qn__op qn__op_conv2d_grad_x = { .name = "conv2d_grad_x",
                                             .infer = infer,
                                             .vjp = vjp,
                                             .cost = cost,
                                             .attr_size = sizeof(struct qn__conv_attr),
                                             .layout = QN_LAYOUT_ASK };

qn_t qn_conv_transpose2d(qn_graph *g, qn_t x, qn_t w, const qn_conv2d_opts *opts, const int32_t *out_pad)
{
    if (qn__failed(g)) return (qn_t){ 0 };
    struct qn__conv_attr attr = qn__conv_attr_of(opts);
    qn_error err = { 0 };
    if (qn__conv_check_attr(&attr, &err))
        return qn__graph_fail(g, 2204, "conv_transpose2d", "%s", strstr(err.text, ": ") + 2);
    if (qn_rank(g, x) != 4 || qn_rank(g, w) != 4)
        return qn__graph_fail(g, 2203, "conv_transpose2d", "operands of rank %d and %d; expected rank 4", qn_rank(g, x),
                              qn_rank(g, w));
    int64_t size[2];
    for (int i = 0; i < 2; i++) {
        int32_t extra = out_pad ? out_pad[i] : 0;
        int64_t image = qn_dim(g, x, 2 + i), window = qn_dim(g, w, 2 + i);
        if (extra < 0 || extra >= attr.stride[i])
            return qn__graph_fail(g, 2204, "conv_transpose2d", "out_pad[%d]: %d; expected 0..%d, less than the stride",
                                  i, extra, attr.stride[i] - 1);
        if (image < 1 || window < 1 || window > QN__WINDOW_MAX)
            return qn__graph_fail(g, 2203, "conv_transpose2d",
                                  "image of %lld under a window of %lld; expected 1 or more", (long long)image,
                                  (long long)window);
        size[i] = (image - 1) * attr.stride[i] - attr.pad[i] - attr.pad_end[i] + attr.dilation[i] * (window - 1) + 1 +
                  extra;
    }
    return qn__conv_node(g, QN_OP_conv2d_grad_x, w, x, &attr, size[0], size[1], qn_dim(g, w, 1) * attr.groups);
}
