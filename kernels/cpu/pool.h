/* pool.h - windows over images in any layout: an image with channel block b is [n][cb][s][b], and each of the n*cb
 * planes is pooled on its own, b channels at a time. */
#ifndef QN_KERNELS_CPU_POOL_H
#define QN_KERNELS_CPU_POOL_H
#include "cpu.h"

typedef int32_t qn__bits_f32;
typedef int64_t qn__bits_f64;

struct qn__pool {
    int64_t planes, h, w, oh, ow, b;
    const struct qn__pool_attr *attr;
};
/* Rows [row,row_end) and columns [col,col_end) of the image under one window. */
struct qn__window {
    int64_t row, row_end, col, col_end;
};

static inline struct qn__pool qn__pool_of(const struct qn__args *a, const struct qn__view *x, const struct qn__view *y)
{
    struct qn__blocked v = qn__blocked_of(x);
    return (struct qn__pool){ v.n * v.cb, x->dim[2], x->dim[3], y->dim[2], y->dim[3], v.b, a->attr };
}

static inline void qn__window_span(int64_t at, int64_t window, int64_t size, int64_t *begin, int64_t *end)
{
    *begin = at < 0 ? 0 : at;
    *end = at + window < size ? at + window : size;
}

static inline struct qn__window qn__window_at(const struct qn__pool *p, int64_t i, int64_t j)
{
    struct qn__window w;
    qn__window_span(i * p->attr->stride[0] - p->attr->pad[0], p->attr->window[0], p->h, &w.row, &w.row_end);
    qn__window_span(j * p->attr->stride[1] - p->attr->pad[1], p->attr->window[1], p->w, &w.col, &w.col_end);
    return w;
}

static inline REAL qn__window_size(struct qn__window w) { return (REAL)((w.row_end - w.row) * (w.col_end - w.col)); }

/* The channels of a block are worked on in vectors of this many, the rest one by one. Comparisons of vectors give
 * masks of all ones and zeros. */
enum { QN_POOL_LANES = 8 };
typedef REAL qn__lanes __attribute__((vector_size(8 * sizeof(REAL)), aligned(sizeof(REAL)), may_alias));
typedef QN_CAT(qn__bits, KIND) qn__mask
    __attribute__((vector_size(8 * sizeof(REAL)), aligned(sizeof(REAL)), may_alias));

#define QN_LANES(p) (*(qn__lanes *)(p))
#define QN_LANES_OF(p) (*(const qn__lanes *)(p))
/* a where the mask is set, else b */
#define QN_SELECT(mask, a, b) ((qn__lanes)(((mask) & (qn__mask)(a)) | (~(mask) & (qn__mask)(b))))

/* y's planes from x's, each on its own. */
typedef void qn__pool_plane(REAL *y, const REAL *x, const struct qn__pool *p);
static inline qn_status qn__pool_forward(const struct qn__args *a, qn__pool_plane *plane)
{
    struct qn__pool p = qn__pool_of(a, &a->x[0], &a->y);
    if (a->y.count == 0) return QN_OK;
#pragma omp parallel for num_threads(qn__threads_for(a, a->x[0].count))
    for (int64_t i = 0; i < p.planes; i++)
        plane(qn__real(&a->y) + i * p.oh * p.ow * p.b, qn__real(&a->x[0]) + i * p.h * p.w * p.b, &p);
    return QN_OK;
}

/* All operands and the result in one layout: that of the operands if one is blocked. A gradient whose operand is plain
 * is spread in blocks where they fit, because dy is the smaller side and what follows mostly wants blocks. */
static inline qn_status qn__pool_pick(const struct qn__args *a, struct qn__choice *c, bool spread)
{
    int32_t block = a->y.block;
    for (int i = a->n_in - 1; i >= 0; i--) {
        if (a->x[i].dtype != QN_REAL_DTYPE) return QN_EUSAGE;
        if (a->x[i].block > QN_PLAIN) block = a->x[i].block;
    }
    if (a->y.block == QN_ANY_BLOCK && block == QN_ANY_BLOCK)
        block = spread && QN_IS_F32 && a->y.dim[1] % QN_POOL_LANES == 0 ? QN_POOL_LANES : QN_PLAIN;
    for (int i = 0; i < a->n_in; i++) c->x_block[i] = block;
    c->y_block = block;
    return QN_OK;
}
#endif
