/* max_pool2d.c - y[n,c,i,j] = largest x[n,c] under window (i,j), NaN if one is; any layout (pool.h).
 *
 *   windows   every window in row-major order, 8 channels of a block at a time
 * Not oneDNN's: it drops a NaN, and the gradient needs no indices that it would store. */
#include "pool.h"

static inline __attribute__((always_inline)) void largest_lanes(REAL *y, const REAL *x, const struct qn__pool *p,
                                                                struct qn__window w)
{
    qn__lanes m = QN_LANES_OF(x + (w.row * p->w + w.col) * p->b);
    for (int64_t r = w.row; r < w.row_end; r++)
        for (int64_t c = w.col; c < w.col_end; c++) {
            qn__lanes at = QN_LANES_OF(x + (r * p->w + c) * p->b);
            m = QN_SELECT((qn__mask)(at > m) | (qn__mask)(at != at), at, m);
        }
    QN_LANES(y) = m;
}

static inline REAL largest(const REAL *x, const struct qn__pool *p, struct qn__window w)
{
    REAL m = x[(w.row * p->w + w.col) * p->b];
    for (int64_t r = w.row; r < w.row_end; r++)
        for (int64_t c = w.col; c < w.col_end; c++) {
            REAL at = x[(r * p->w + c) * p->b];
            m = at > m || at != at ? at : m;
        }
    return m;
}

QN_CLONES static void plane(REAL *y, const REAL *x, const struct qn__pool *p)
{
    for (int64_t i = 0; i < p->oh; i++)
        for (int64_t j = 0; j < p->ow; j++) {
            struct qn__window w = qn__window_at(p, i, j);
            REAL *to = y + (i * p->ow + j) * p->b;
            int64_t k = 0;
            for (; k + QN_POOL_LANES <= p->b; k += QN_POOL_LANES) largest_lanes(to + k, x + k, p, w);
            for (; k < p->b; k++) to[k] = largest(x + k, p, w);
        }
}

static qn_status pick(const struct qn__args *a, struct qn__choice *c) { return qn__pool_pick(a, c, false); }

static qn_status launch(const struct qn__step *s, qn_error *err)
{
    (void)err;
    return qn__pool_forward(&s->args, plane);
}

KERNEL(max_pool2d) = { .variants = (const char *const[]){ "windows", NULL }, .pick = pick, .launch = launch };
