/* conv2d.c - y[n,o] = act(sum_c x[n,c] * w[o,c] + bias[o]); geometry in conv.h.
 *
 *   loops    one plane of y at a time: the definition, and the oracle in double
 *   onednn   one oneDNN convolution, bias included; weights are packed in the workspace on every launch, because in
 *            training they are new each time (microseconds; benchmarks/kernels_cpu/conv.c) */
#include "conv.h"

/* y's plane (n, o). */
static void plane(const struct qn__args *a, const struct qn__conv *g, int64_t n, int64_t o)
{
    REAL *y = qn__real(&a->y) + (n * g->o + o) * g->oh * g->ow;
    const REAL *w = qn__real(&a->x[1]) + o * g->cg * g->kh * g->kw;
    const REAL *x = qn__real(&a->x[0]) + (n * g->c + o / g->og * g->cg) * g->h * g->w;
    const struct qn__epilogue *e = &g->attr->epilogue;
    for (int64_t i = 0; i < g->oh; i++)
        for (int64_t j = 0; j < g->ow; j++) {
            REAL sum = 0;
            for (int64_t c = 0; c < g->cg; c++)
                for (int64_t p = 0; p < g->kh; p++)
                    for (int64_t q = 0; q < g->kw; q++) {
                        int64_t row = qn__conv_row(g, i, p), col = qn__conv_col(g, j, q);
                        if (row < 0 || row >= g->h || col < 0 || col >= g->w) continue;
                        sum += x[(c * g->h + row) * g->w + col] * w[(c * g->kh + p) * g->kw + q];
                    }
            if (e->has_bias) sum += qn__real(&a->x[2])[o];
            y[i * g->ow + j] = qn__activate(sum, e);
        }
}

static void loops(const struct qn__args *a)
{
    struct qn__conv g = qn__conv_of(a, &a->x[0], &a->x[1], &a->y);
    if (a->y.count == 0) return;
#pragma omp parallel for num_threads(qn__threads_for(a, a->y.count *(g.cg * g.kh * g.kw + 1)))
    for (int64_t i = 0; i < g.n * g.o; i++) plane(a, &g, i / g.o, i % g.o);
}

static qn_status pick(const struct qn__args *a, struct qn__choice *c) { return qn__conv_pick(a, c, 1u << 31 | 1); }

static qn_status launch(const struct qn__step *s, qn_error *err)
{
    const struct qn__conv_attr *attr = s->args.attr;
    if (s->choice.variant == QN_CONV_LOOPS) {
        loops(&s->args);
        return QN_OK;
    }
    QN_TRY(qn__dnn_launch(s, err));
    if (!qn__dnn_activates(&attr->epilogue)) qn__activate_all(&s->args, &attr->epilogue);
    return QN_OK;
}

KERNEL(conv2d) = { .variants = (const char *const[]){ "loops", QN_F32_ONLY("onednn"), NULL },
                   .pick = pick,
                   .prepare = qn__conv_prepare,
                   .bind = qn__dnn_bind,
                   .launch = launch,
                   .release = qn__dnn_release };
