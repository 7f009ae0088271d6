/* update.h - what the kernels of the optimizers share: the numbers of this step, the gradient, the loop over chunks.
 *
 * Operands w, moments, gradient, hyper (core/attr.h). Every row but lamb is one pass over memory. What does not depend
 * on the element is computed once per launch in double. */
#ifndef QN_KERNELS_CPU_UPDATE_H
#define QN_KERNELS_CPU_UPDATE_H
#include "cpu.h"
#include "vecmath.h"

struct qn__update {
    REAL lr, factor, limit; /* rate, scale of the gradient, bound of its elements (infinity: none) */
    REAL decay;             /* weight decay                                                      */
    REAL beta1, rest1, beta2, rest2, momentum, eps; /* rest: 1 - beta                             */
    REAL scale1, scale2; /* bias corrections: 1 / (1 - beta1^t), 1 / sqrt(1 - beta2^t)         */
    bool nesterov, decoupled;
};

static inline const REAL *qn__hyper(const struct qn__args *a) { return qn__real(&a->x[a->n_in - 1]); }
static inline bool qn__skipped(const struct qn__args *a) { return qn__hyper(a)[2] == 0; }

static inline struct qn__update qn__update_of(const struct qn__args *a)
{
    const struct qn__optim_attr *o = a->attr;
    const REAL *hyper = qn__hyper(a);
    double t = (double)hyper[3];
    return (struct qn__update){
        .lr = (REAL)((double)hyper[0] * o->lr_scale),
        .factor = hyper[1],
        .limit = o->clip_value > 0 ? (REAL)o->clip_value : (REAL)INFINITY,
        .decay = (REAL)o->weight_decay,
        .beta1 = (REAL)o->beta1,
        .rest1 = (REAL)(1 - o->beta1),
        .beta2 = (REAL)o->beta2,
        .rest2 = (REAL)(1 - o->beta2),
        .momentum = (REAL)o->momentum,
        .eps = (REAL)o->eps,
        .scale1 = (REAL)(1 / (1 - pow(o->beta1, t))),
        .scale2 = (REAL)(1 / sqrt(1 - pow(o->beta2, t))),
        .nesterov = o->nesterov,
        .decoupled = o->decoupled,
    };
}

/* The gradient as the optimizer sees it: scaled, then clipped element by element. NaN stays NaN. */
static inline REAL qn__gradient(REAL g, REAL factor, REAL limit)
{
    REAL x = g * factor;
    return x < -limit ? -limit : x > limit ? limit : x;
}

/* a / d; nothing moves where the divisor is 0 (no gradient yet and eps 0). */
static inline REAL qn__quotient(REAL a, REAL d) { return d == 0 ? 0 : a / d; }

enum { QN_UPDATE_CHUNK = 4096 };

/* One chunk: weights, first and second moment (NULL if the row has none), gradient. */
typedef void qn__update_fn(const struct qn__update *u, REAL *restrict w, REAL *restrict a, REAL *restrict b,
                           const REAL *restrict g, int64_t n);

static inline qn_status qn__update_run(const struct qn__step *s, qn__update_fn *fn)
{
    const struct qn__args *args = &s->args;
    if (qn__skipped(args)) return QN_OK;
    const struct qn__update u = qn__update_of(args);
    int moments = args->n_in - 3;
    int64_t n = args->x[0].count, chunks = (n + QN_UPDATE_CHUNK - 1) / QN_UPDATE_CHUNK;
    REAL *w = qn__real(&args->x[0]);
    REAL *a = moments > 0 ? qn__real(&args->x[1]) : NULL, *b = moments > 1 ? qn__real(&args->x[2]) : NULL;
    const REAL *g = qn__real(&args->x[args->n_in - 2]);
#pragma omp parallel for num_threads(qn__threads_for(args, n)) schedule(static)
    for (int64_t i = 0; i < chunks; i++) {
        int64_t at = i * QN_UPDATE_CHUNK, part = n - at < QN_UPDATE_CHUNK ? n - at : QN_UPDATE_CHUNK;
        fn(&u, w + at, a ? a + at : NULL, b ? b + at : NULL, g + at, part);
    }
    return QN_OK;
}

/* The kernel of a row whose chunk function is `fn`. */
#define QN_UPDATE_KERNEL(row, fn) \
    static qn_status launch(const struct qn__step *s, qn_error *err) \
    { \
        (void)err; \
        return qn__update_run(s, fn); \
    } \
    KERNEL(row) = { .variants = (const char *const[]){ "chunks", NULL }, .launch = launch }
#endif
