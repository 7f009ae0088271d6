/* avg_pool2d_grad.c - dx = 0, then each x under window (i,j) += dy[i,j] / elements of the window inside the image; any
 * layout (pool.h).
 *
 *   windows   every window in row-major order, 8 channels of a block at a time
 *   onednn    its primitive: faster only on plain images, where there are no channels side by side */
#include "dnn.h"
#include "pool.h"

enum { WINDOWS, ONEDNN };

static inline __attribute__((always_inline)) void share_lanes(REAL *dx, const REAL *dy, const struct qn__pool *p,
                                                              struct qn__window w)
{
    qn__lanes part = QN_LANES_OF(dy) / qn__window_size(w);
    for (int64_t r = w.row; r < w.row_end; r++)
        for (int64_t c = w.col; c < w.col_end; c++) QN_LANES(dx + (r * p->w + c) * p->b) += part;
}

static inline void share(REAL *dx, REAL part, const struct qn__pool *p, struct qn__window w)
{
    for (int64_t r = w.row; r < w.row_end; r++)
        for (int64_t c = w.col; c < w.col_end; c++) dx[(r * p->w + c) * p->b] += part;
}

QN_CLONES static void plane(REAL *dx, const REAL *dy, const struct qn__pool *p)
{
    memset(dx, 0, (size_t)(p->h * p->w * p->b) * sizeof *dx);
    for (int64_t i = 0; i < p->oh; i++)
        for (int64_t j = 0; j < p->ow; j++) {
            struct qn__window w = qn__window_at(p, i, j);
            const REAL *from = dy + (i * p->ow + j) * p->b;
            int64_t k = 0;
            for (; k + QN_POOL_LANES <= p->b; k += QN_POOL_LANES) share_lanes(dx + k, from + k, p, w);
            for (; k < p->b; k++) share(dx + k, from[k] / qn__window_size(w), p, w);
        }
}

static qn_status pick(const struct qn__args *a, struct qn__choice *c)
{
    QN_TRY(qn__pool_pick(a, c, true));
    bool plain = QN_IS_F32 && a->y.count > 0 && c->y_block == QN_PLAIN && a->y.count >= QN_PARALLEL_MIN;
    c->variant = plain && qn__dnn_pool_fits(a, c) ? ONEDNN : WINDOWS;
    return QN_OK;
}

static qn_status prepare(struct qn__step *s, qn_error *err)
{
    return s->choice.variant == ONEDNN ? qn__dnn_pool(s, err) : QN_OK;
}

static qn_status launch(const struct qn__step *s, qn_error *err)
{
    const struct qn__args *a = &s->args;
    struct qn__pool p = qn__pool_of(a, &a->y, &a->x[0]);
    if (s->choice.variant == ONEDNN) return qn__dnn_launch(s, err);
    if (a->y.count == 0) return QN_OK;
#pragma omp parallel for num_threads(qn__threads_for(a, a->y.count))
    for (int64_t i = 0; i < p.planes; i++)
        plane(qn__real(&a->y) + i * p.h * p.w * p.b, qn__real(&a->x[0]) + i * p.oh * p.ow * p.b, &p);
    return QN_OK;
}

KERNEL(avg_pool2d_grad) = { .variants = (const char *const[]){ "windows", QN_F32_ONLY("onednn"), NULL },
                            .pick = pick,
                            .prepare = prepare,
                            .bind = qn__dnn_bind,
                            .launch = launch,
                            .release = qn__dnn_release };
