/* conv.h - what the three directions of a convolution share: attributes, sizes, cost. Private to core/ops. */
#ifndef QN_CORE_OPS_CONV_H
#define QN_CORE_OPS_CONV_H
#include "epilogue.h"
#include <string.h>

enum { QN__WINDOW_MAX = 65535 }; /* of strides, dilations, padding and windows: sizes then stay below 2^63 */

static inline qn_status qn__check_range(const char *what, const int32_t v[2], int32_t low, qn_error *err)
{
    for (int i = 0; i < 2; i++)
        if (v[i] < low || v[i] > QN__WINDOW_MAX)
            return qn__fail(err, 2204, NULL, "%s[%d]: %d; expected %d..%d", what, i, v[i], low, QN__WINDOW_MAX);
    return QN_OK;
}

static inline qn_status qn__check_images(const struct qn__node *const *x, int n, qn_error *err)
{
    QN_TRY(qn__check_float(x[0], err));
    for (int i = 0; i < n; i++)
        if (x[i]->rank != 4) return qn__fail(err, 2203, NULL, "operand %d has rank %d; expected rank 4", i, x[i]->rank);
    return QN_OK;
}

/* Size of the result along axis 0 (vertical) or 1 of windows over `size` elements; false if none fits. */
static inline bool qn__window_out(int64_t *out, int64_t size, int64_t extent, int64_t pad, int32_t stride)
{
    int64_t room = size + pad - extent;
    *out = room < 0 ? 0 : room / stride + 1;
    return room >= 0;
}

/* A convolution of images [n,c,h,w] with filters [o,c/groups,kh,kw] to [n,o,oh,ow]. */
struct qn__conv_dims {
    int64_t n, c, h, w, o, kh, kw, oh, ow;
};

static inline qn_status qn__conv_check_attr(const struct qn__conv_attr *a, qn_error *err)
{
    QN_TRY(qn__check_range("stride", a->stride, 1, err));
    QN_TRY(qn__check_range("dilation", a->dilation, 1, err));
    QN_TRY(qn__check_range("pad", a->pad, 0, err));
    QN_TRY(qn__check_range("pad_end", a->pad_end, 0, err));
    if (a->groups < 1) return qn__fail(err, 2204, NULL, "groups: %d; expected 1 or more", a->groups);
    return QN_OK;
}

/* Fills oh and ow from the rest; checks the window and the groups. */
static inline qn_status qn__conv_resolve(const struct qn__conv_attr *a, struct qn__conv_dims *d, qn_error *err)
{
    const int64_t window[2] = { d->kh, d->kw }, image[2] = { d->h, d->w };
    int64_t *const out[2] = { &d->oh, &d->ow };
    if (d->c % a->groups != 0 || d->o % a->groups != 0)
        return qn__fail(err, 2204, NULL, "groups: %d; expected a divisor of %lld and %lld channels", a->groups,
                        (long long)d->c, (long long)d->o);
    for (int i = 0; i < 2; i++) {
        if (window[i] < 1 || window[i] > QN__WINDOW_MAX)
            return qn__fail(err, 2203, NULL, "window %lld x %lld; expected sizes in 1..%d", (long long)d->kh,
                            (long long)d->kw, QN__WINDOW_MAX);
        int64_t extent = a->dilation[i] * (window[i] - 1) + 1, pad = (int64_t)a->pad[i] + a->pad_end[i];
        if (!qn__window_out(out[i], image[i], extent, pad, a->stride[i]))
            return qn__fail(err, 2203, NULL,
                            "%s of %lld, padded to %lld, under a window of %lld; expected at least %lld",
                            i ? "width" : "height", (long long)image[i], (long long)(image[i] + pad), (long long)extent,
                            (long long)extent);
    }
    return QN_OK;
}

static inline qn_status qn__conv_check_y(const struct qn__conv_dims *d, const struct qn__node *y, qn_error *err)
{
    const int64_t dim[4] = { d->n, d->o, d->oh, d->ow };
    if (memcmp(dim, y->dim, sizeof dim) == 0) return QN_OK;
    return qn__fail(err, 2201, NULL, "dy %s; expected %s", qn__dims_show(4, y->dim).s, qn__dims_show(4, dim).s);
}

static inline void qn__set_dims4(struct qn__node *y, qn_dtype dtype, int64_t a, int64_t b, int64_t c, int64_t d)
{
    y->dtype = dtype;
    y->rank = 4;
    y->dim[0] = a, y->dim[1] = b, y->dim[2] = c, y->dim[3] = d;
}

/* 2 products of every filter element at every place of y, in all three directions. */
static inline struct qn__cost qn__conv_cost(const struct qn__node *const *x, const struct qn__node *y, double places,
                                            double filter)
{
    const struct qn__conv_attr *attr = y->attr;
    double extra = (double)(attr->epilogue.has_bias + (attr->epilogue.act != 0));
    struct qn__cost c = { 2 * places * filter + extra * (double)y->count, (double)y->count };
    for (int i = 0; i < y->n_in; i++) c.bytes += (double)x[i]->count;
    c.bytes *= (double)qn_dtype_size(y->dtype);
    return c;
}

/* Appends one direction with the geometry of another (attr's epilogue left out). */
static inline qn_t qn__conv_node(qn_graph *g, enum qn__opcode op, qn_t a, qn_t b, const struct qn__conv_attr *geometry,
                                 int64_t size_h, int64_t size_w, int64_t channels)
{
    struct qn__conv_attr attr;
    memset(&attr, 0, sizeof attr);
    memcpy(attr.stride, geometry->stride, sizeof attr.stride);
    memcpy(attr.dilation, geometry->dilation, sizeof attr.dilation);
    memcpy(attr.pad, geometry->pad, sizeof attr.pad);
    memcpy(attr.pad_end, geometry->pad_end, sizeof attr.pad_end);
    attr.groups = geometry->groups;
    attr.size[0] = size_h, attr.size[1] = size_w;
    attr.channels = channels;
    return qn__node(g, op, (qn_t[]){ a, b }, 2, &attr);
}

/* Options with their zeros replaced by the defaults. */
static inline struct qn__conv_attr qn__conv_attr_of(const qn_conv2d_opts *opts)
{
    struct qn__conv_attr attr;
    memset(&attr, 0, sizeof attr);
    for (int i = 0; i < 2; i++) {
        attr.stride[i] = opts && opts->stride[i] ? opts->stride[i] : 1;
        attr.dilation[i] = opts && opts->dilation[i] ? opts->dilation[i] : 1;
        attr.pad[i] = opts ? opts->pad[i] : 0;
        attr.pad_end[i] = opts ? opts->pad_end[i] : 0;
    }
    attr.groups = opts && opts->groups ? opts->groups : 1;
    return attr;
}

/* Gradients are taken before the epilogue pass runs; a bias is still allowed, an activation is not. */
static inline bool qn__conv_no_act(qn_graph *g, const struct qn__node *y)
{
    const struct qn__conv_attr *attr = y->attr;
    if (!attr->epilogue.act) return true;
    qn__graph_fail(g, 2205, qn__op_of(y->op)->name, "activation is folded in; expected gradients to be taken before");
    return false;
}
#endif
