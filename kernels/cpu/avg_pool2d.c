/* avg_pool2d.c - y[n,c,i,j] = sum of x[n,c] under window (i,j), divided by the elements inside the image; any layout
 * (pool.h).
 *
 *   windows   every window in row-major order, 8 channels of a block at a time
 *   onednn    its primitive: faster only on plain images, where there are no channels side by side */
#include "dnn.h"
#include "pool.h"

enum { WINDOWS, ONEDNN };

static inline __attribute__((always_inline)) void mean_lanes(REAL *y, const REAL *x, const struct qn__pool *p,
                                                             struct qn__window w)
{
    qn__lanes sum = { 0 };
    for (int64_t r = w.row; r < w.row_end; r++)
        for (int64_t c = w.col; c < w.col_end; c++) sum += QN_LANES_OF(x + (r * p->w + c) * p->b);
    QN_LANES(y) = sum / qn__window_size(w);
}

static inline REAL mean(const REAL *x, const struct qn__pool *p, struct qn__window w)
{
    REAL sum = 0;
    for (int64_t r = w.row; r < w.row_end; r++)
        for (int64_t c = w.col; c < w.col_end; c++) sum += x[(r * p->w + c) * p->b];
    return sum / qn__window_size(w);
}

QN_CLONES static void plane(REAL *y, const REAL *x, const struct qn__pool *p)
{
    for (int64_t i = 0; i < p->oh; i++)
        for (int64_t j = 0; j < p->ow; j++) {
            struct qn__window w = qn__window_at(p, i, j);
            REAL *to = y + (i * p->ow + j) * p->b;
            int64_t k = 0;
            for (; k + QN_POOL_LANES <= p->b; k += QN_POOL_LANES) mean_lanes(to + k, x + k, p, w);
            for (; k < p->b; k++) to[k] = mean(x + k, p, w);
        }
}

static qn_status pick(const struct qn__args *a, struct qn__choice *c)
{
    QN_TRY(qn__pool_pick(a, c, false));
    bool plain = QN_IS_F32 && a->y.count > 0 && c->y_block == QN_PLAIN && a->x[0].count >= QN_PARALLEL_MIN;
    c->variant = plain && qn__dnn_pool_fits(a, c) ? ONEDNN : WINDOWS;
    return QN_OK;
}

static qn_status prepare(struct qn__step *s, qn_error *err)
{
    return s->choice.variant == ONEDNN ? qn__dnn_pool(s, err) : QN_OK;
}

static qn_status launch(const struct qn__step *s, qn_error *err)
{
    return s->choice.variant == ONEDNN ? qn__dnn_launch(s, err) : qn__pool_forward(&s->args, plane);
}

KERNEL(avg_pool2d) = { .variants = (const char *const[]){ "windows", QN_F32_ONLY("onednn"), NULL },
                       .pick = pick,
                       .prepare = prepare,
                       .bind = qn__dnn_bind,
                       .launch = launch,
                       .release = qn__dnn_release };
