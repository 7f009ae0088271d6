/* conv2d_grad_x.c - dx[n,c] = act(sum over o, taps of dy[n,o] w[o,c] + bias[c]), each product added where conv2d read
 * its x; operands are w and dy. Geometry in conv.h.
 *
 *   loops    one plane of dx at a time: the definition, and the oracle in double
 *   onednn   one oneDNN backward-data convolution; bias and activation afterwards, because they only occur where this
 *            is the transposed convolution of a network */
#include "conv.h"

/* Adds what (o, i, j) of dy gives to the plane of dx under its window. */
static void spread(REAL *dx, const REAL *w, REAL dy, const struct qn__conv *g, int64_t i, int64_t j)
{
    for (int64_t p = 0; p < g->kh; p++)
        for (int64_t q = 0; q < g->kw; q++) {
            int64_t row = qn__conv_row(g, i, p), col = qn__conv_col(g, j, q);
            if (row < 0 || row >= g->h || col < 0 || col >= g->w) continue;
            dx[row * g->w + col] += dy * w[p * g->kw + q];
        }
}

static void plane(const struct qn__args *a, const struct qn__conv *g, int64_t n, int64_t c)
{
    REAL *dx = qn__real(&a->y) + (n * g->c + c) * g->h * g->w;
    int64_t first = c / g->cg * g->og;
    for (int64_t i = 0; i < g->h * g->w; i++) dx[i] = 0;
    for (int64_t o = first; o < first + g->og; o++) {
        const REAL *w = qn__real(&a->x[0]) + (o * g->cg + c % g->cg) * g->kh * g->kw;
        const REAL *dy = qn__real(&a->x[1]) + (n * g->o + o) * g->oh * g->ow;
        for (int64_t i = 0; i < g->oh; i++)
            for (int64_t j = 0; j < g->ow; j++) spread(dx, w, dy[i * g->ow + j], g, i, j);
    }
}

static void loops(const struct qn__args *a)
{
    struct qn__conv g = qn__conv_of(a, &a->y, &a->x[0], &a->x[1]);
    if (a->y.count == 0) return;
#pragma omp parallel for num_threads(qn__threads_for(a, a->x[1].count *(g.cg * g.kh * g.kw + 1)))
    for (int64_t i = 0; i < g.n * g.c; i++) plane(a, &g, i / g.c, i % g.c);
}

static qn_status pick(const struct qn__args *a, struct qn__choice *c) { return qn__conv_pick(a, c, 1u << 31 | 2); }

static qn_status launch(const struct qn__step *s, qn_error *err)
{
    const struct qn__conv_attr *attr = s->args.attr;
    if (s->choice.variant == QN_CONV_ONEDNN)
        QN_TRY(qn__dnn_launch(s, err));
    else
        loops(&s->args);
    if (attr->epilogue.has_bias) qn__add_bias(&s->args, qn__real(&s->args.x[2]));
    if (attr->epilogue.act) qn__activate_all(&s->args, &attr->epilogue);
    return QN_OK;
}

KERNEL(conv2d_grad_x) = { .variants = (const char *const[]){ "loops", QN_F32_ONLY("onednn"), NULL },
                          .pick = pick,
                          .prepare = qn__conv_prepare,
                          .bind = qn__dnn_bind,
                          .launch = launch,
                          .release = qn__dnn_release };
