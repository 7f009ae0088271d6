/* conv.h - geometry that the three directions of a convolution share, and how their layouts are chosen.
 *
 * x [n,c,h,w] images, w [o,c/groups,kh,kw] filters, y [n,o,oh,ow]:
 *   y[n,o,i,j] = sum over c of o's group, a, b of x[n, c, i stride - pad + a dilation, ..] w[o,c,a,b]
 * The double loops take and give plain order; oneDNN says what it likes (dnn.h). */
#ifndef QN_KERNELS_CPU_CONV_H
#define QN_KERNELS_CPU_CONV_H
#include "dnn.h"
#include "epilogue.h"

struct qn__conv {
    int64_t n, c, h, w, o, kh, kw, oh, ow;
    int64_t cg, og; /* channels and results of one group */
    const struct qn__conv_attr *attr;
};

/* The images, the filters and the results (or their gradients), wherever they stand. */
static inline struct qn__conv qn__conv_of(const struct qn__args *a, const struct qn__view *x, const struct qn__view *w,
                                          const struct qn__view *y)
{
    const struct qn__conv_attr *attr = a->attr;
    return (struct qn__conv){ .n = x->dim[0],
                              .c = x->dim[1],
                              .h = x->dim[2],
                              .w = x->dim[3],
                              .o = w->dim[0],
                              .kh = w->dim[2],
                              .kw = w->dim[3],
                              .oh = y->dim[2],
                              .ow = y->dim[3],
                              .cg = w->dim[1],
                              .og = w->dim[0] / attr->groups,
                              .attr = attr };
}

/* Row of x under tap a of the window at row i of y; outside [0,h) in the padding. Columns likewise. */
static inline int64_t qn__conv_row(const struct qn__conv *g, int64_t i, int64_t a)
{
    return i * g->attr->stride[0] - g->attr->pad[0] + a * g->attr->dilation[0];
}
static inline int64_t qn__conv_col(const struct qn__conv *g, int64_t j, int64_t b)
{
    return j * g->attr->stride[1] - g->attr->pad[1] + b * g->attr->dilation[1];
}

static inline bool qn__conv_real(const struct qn__args *a)
{
    for (int i = 0; i < a->n_in; i++)
        if (a->x[i].dtype != QN_REAL_DTYPE) return false;
    return true;
}

static inline bool qn__conv_empty(const struct qn__args *a)
{
    return a->y.count == 0 || a->x[0].count == 0 || a->x[1].count == 0;
}

static inline void qn__conv_plain(const struct qn__args *a, struct qn__choice *c)
{
    for (int i = 0; i < a->n_in; i++) c->x_block[i] = QN_PLAIN;
    c->y_block = QN_PLAIN;
}

/* oneDNN with the layouts as they come, unless the layout pass asks (y QN_ANY_BLOCK) or that is not possible; then
 * with those it likes best. images: bit i for x[i], bit 31 for y. */
static inline bool qn__conv_library(const struct qn__args *a, struct qn__choice *c, uint32_t images)
{
    if (!QN_IS_F32 || qn__conv_empty(a)) return false;
    qn__conv_plain(a, c);
    if (a->y.block != QN_ANY_BLOCK && qn__dnn_conv_fits(a, c)) return true;
    struct qn__args free = *a;
    for (int i = 0; i < a->n_in; i++)
        if (images >> i & 1) free.x[i].block = QN_ANY_BLOCK;
    if (images >> 31) free.y.block = QN_ANY_BLOCK;
    return qn__dnn_conv_fits(&free, c);
}

/* The variants of the forward direction and of its gradient with respect to x, and how they are chosen. */
enum { QN_CONV_LOOPS, QN_CONV_ONEDNN };
static inline qn_status qn__conv_pick(const struct qn__args *a, struct qn__choice *c, uint32_t images)
{
    if (!qn__conv_real(a)) return QN_EUSAGE;
    c->variant = qn__conv_library(a, c, images) ? QN_CONV_ONEDNN : QN_CONV_LOOPS;
    if (c->variant == QN_CONV_LOOPS) qn__conv_plain(a, c);
    return QN_OK;
}
static inline qn_status qn__conv_prepare(struct qn__step *s, qn_error *err)
{
    return s->choice.variant == QN_CONV_ONEDNN ? qn__dnn_conv(s, err) : QN_OK;
}
#endif
