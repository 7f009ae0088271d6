/* max_pool2d_grad.c - dx = 0, then for each window: dx at the first x that equals y (or is NaN where y is) += dy; any
 * layout (pool.h).
 *
 *   windows   every window in row-major order, 8 channels of a block at a time */
#include "pool.h"

struct planes {
    REAL *dx;
    const REAL *x, *y, *dy;
};

/* left: what of dy has not been given yet. */
static inline __attribute__((always_inline)) void give_lanes(struct planes t, const struct qn__pool *p,
                                                             struct qn__window w, int64_t at, int64_t k)
{
    qn__lanes left = QN_LANES_OF(t.dy + at + k), y = QN_LANES_OF(t.y + at + k);
    qn__mask y_nan = (qn__mask)(y != y);
    for (int64_t r = w.row; r < w.row_end; r++)
        for (int64_t c = w.col; c < w.col_end; c++) {
            int64_t i = (r * p->w + c) * p->b + k;
            qn__lanes x = QN_LANES_OF(t.x + i);
            qn__mask hit = (qn__mask)(x == y) | ((qn__mask)(x != x) & y_nan);
            QN_LANES(t.dx + i) += (qn__lanes)(hit & (qn__mask)left);
            left = (qn__lanes)(~hit & (qn__mask)left);
        }
}

static inline void give(struct planes t, const struct qn__pool *p, struct qn__window w, int64_t at, int64_t k)
{
    REAL y = t.y[at + k];
    for (int64_t r = w.row; r < w.row_end; r++)
        for (int64_t c = w.col; c < w.col_end; c++) {
            int64_t i = (r * p->w + c) * p->b + k;
            if (!(t.x[i] == y || (t.x[i] != t.x[i] && y != y))) continue;
            t.dx[i] += t.dy[at + k];
            return;
        }
}

QN_CLONES static void plane(struct planes t, const struct qn__pool *p)
{
    memset(t.dx, 0, (size_t)(p->h * p->w * p->b) * sizeof *t.dx);
    for (int64_t i = 0; i < p->oh; i++)
        for (int64_t j = 0; j < p->ow; j++) {
            struct qn__window w = qn__window_at(p, i, j);
            int64_t at = (i * p->ow + j) * p->b, k = 0;
            for (; k + QN_POOL_LANES <= p->b; k += QN_POOL_LANES) give_lanes(t, p, w, at, k);
            for (; k < p->b; k++) give(t, p, w, at, k);
        }
}

static qn_status pick(const struct qn__args *a, struct qn__choice *c) { return qn__pool_pick(a, c, true); }

static qn_status launch(const struct qn__step *s, qn_error *err)
{
    (void)err;
    const struct qn__args *a = &s->args;
    struct qn__pool p = qn__pool_of(a, &a->x[0], &a->x[1]);
    int64_t image = p.h * p.w * p.b, pooled = p.oh * p.ow * p.b;
    if (a->y.count == 0) return QN_OK;
#pragma omp parallel for num_threads(qn__threads_for(a, a->y.count))
    for (int64_t i = 0; i < p.planes; i++)
        plane((struct planes){ qn__real(&a->y) + i * image, qn__real(&a->x[0]) + i * image,
                               qn__real(&a->x[1]) + i * pooled, qn__real(&a->x[2]) + i * pooled },
              &p);
    return QN_OK;
}

KERNEL(max_pool2d_grad) = { .variants = (const char *const[]){ "windows", NULL }, .pick = pick, .launch = launch };
