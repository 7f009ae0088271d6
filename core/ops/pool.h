/* pool.h - what the pooling operators share: attributes and sizes. Private to core/ops. */
#ifndef QN_CORE_OPS_POOL_H
#define QN_CORE_OPS_POOL_H
#include "conv.h"

/* Sizes of the pooled image from those of the image. A pad below the window leaves no window without an element. */
static inline qn_status qn__pool_resolve(const struct qn__pool_attr *a, const int64_t image[2], int64_t pooled[2],
                                         qn_error *err)
{
    QN_TRY(qn__check_range("window", a->window, 1, err));
    QN_TRY(qn__check_range("stride", a->stride, 1, err));
    for (int i = 0; i < 2; i++) {
        if (a->pad[i] < 0 || a->pad[i] >= a->window[i])
            return qn__fail(err, 2204, NULL, "pad[%d]: %d; expected 0..%d, less than the window", i, a->pad[i],
                            a->window[i] - 1);
        if (image[i] < 1 || !qn__window_out(&pooled[i], image[i], a->window[i], 2 * (int64_t)a->pad[i], a->stride[i]))
            return qn__fail(err, 2203, NULL, "%s of %lld, padded to %lld, under a window of %d; expected at least %d",
                            i ? "width" : "height", (long long)image[i], (long long)(image[i] + 2 * (int64_t)a->pad[i]),
                            a->window[i], a->window[i]);
    }
    return QN_OK;
}

static inline qn_status qn__pool_infer(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    int64_t pooled[2];
    QN_TRY(qn__check_images(x, 1, err));
    QN_TRY(qn__pool_resolve(y->attr, &x[0]->dim[2], pooled, err));
    qn__set_dims4(y, x[0]->dtype, x[0]->dim[0], x[0]->dim[1], pooled[0], pooled[1]);
    return QN_OK;
}

/* One operation for each element of each window. */
static inline struct qn__cost qn__pool_cost(const struct qn__node *const *x, const struct qn__node *y, double places)
{
    const struct qn__pool_attr *attr = y->attr;
    struct qn__cost c = { places * attr->window[0] * attr->window[1], (double)y->count };
    for (int i = 0; i < y->n_in; i++) c.bytes += (double)x[i]->count;
    c.bytes *= (double)qn_dtype_size(y->dtype);
    return c;
}

static inline struct qn__pool_attr qn__pool_attr_of(const qn_pool2d_opts *opts)
{
    struct qn__pool_attr attr;
    memset(&attr, 0, sizeof attr);
    for (int i = 0; opts && i < 2; i++) {
        attr.window[i] = opts->window[i];
        attr.stride[i] = opts->stride[i] ? opts->stride[i] : opts->window[i];
        attr.pad[i] = opts->pad[i];
    }
    return attr;
}

/* A window of the image's size, for the global pools; sizes that no window can have fail in the shape rule. */
static inline qn_pool2d_opts qn__pool_global(const qn_graph *g, qn_t x)
{
    qn_pool2d_opts opts;
    memset(&opts, 0, sizeof opts);
    for (int i = 0; i < 2; i++) {
        int64_t size = qn_rank(g, x) == 4 ? qn_dim(g, x, 2 + i) : 1;
        opts.window[i] = size > QN__WINDOW_MAX ? QN__WINDOW_MAX + 1 : (int32_t)size;
    }
    return opts;
}
#endif
