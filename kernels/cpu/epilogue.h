/* epilogue.h - the activations of matmul and the convolutions in plain loops, from the definitions of ops.def. */
#ifndef QN_KERNELS_CPU_EPILOGUE_H
#define QN_KERNELS_CPU_EPILOGUE_H
#include "cpu.h"

#define K(x) ((REAL)(x))
#define ONE_OF(name, x) (QN_IS_F32 ? (REAL)name##f((float)(x)) : (REAL)name((double)(x)))
#define EXP(x) ONE_OF(exp, x)
#define EXPM1(x) ONE_OF(expm1, x)
#define LOG(x) ONE_OF(log, x)
#define LOG1P(x) ONE_OF(log1p, x)
#define SQRT(x) ONE_OF(sqrt, x)
#define SIN(x) ONE_OF(sin, x)
#define COS(x) ONE_OF(cos, x)
#define TANH(x) ONE_OF(tanh, x)
#define ERF(x) ONE_OF(erf, x)
#define FABS(x) ONE_OF(fabs, x)
#define POW(x, y) ((REAL)pow((double)(x), (double)(y)))

/* act(a); rows with more operands than one never are an epilogue. */
static inline REAL qn__activate(REAL a, const struct qn__epilogue *e)
{
    const REAL b = 0, c = 0, p = (REAL)e->p, q = 0;
    (void)b, (void)c, (void)q;
    switch (e->act) {
#define OP(name, n_in, meaning)
#define PW(name, n_in, meaning, expression) \
    case QN_OP_##name: \
        return (expression);
#include "../../core/ops.def"
#undef OP
    default: return a;
    }
}

/* y = act(y), in place, any layout. */
QN_CLONES static void qn__activate_range(REAL *y, int64_t n, const struct qn__epilogue *e)
{
    if (e->act == QN_OP_relu)
        for (int64_t i = 0; i < n; i++) y[i] = y[i] > K(0) || y[i] != y[i] ? y[i] : K(0);
    else
        for (int64_t i = 0; i < n; i++) y[i] = qn__activate(y[i], e);
}

static inline void qn__activate_all(const struct qn__args *a, const struct qn__epilogue *e)
{
    enum { RANGE = 4096 };
    int64_t n = a->y.count;
#pragma omp parallel for num_threads(qn__threads_for(a, n))
    for (int64_t at = 0; at < n; at += RANGE)
        qn__activate_range(qn__real(&a->y) + at, n - at < RANGE ? n - at : RANGE, e);
}

/* y += bias of the channel, in place, any layout. */
static inline void qn__add_bias(const struct qn__args *a, const REAL *bias)
{
    struct qn__blocked v = qn__blocked_of(&a->y);
#pragma omp parallel for num_threads(qn__threads_for(a, a->y.count))
    for (int64_t i = 0; i < v.n * v.cb; i++) {
        REAL *y = qn__real(&a->y) + i * v.s * v.b;
        const REAL *channel = bias + i % v.cb * v.b;
        for (int64_t s = 0; s < v.s; s++)
            for (int64_t b = 0; b < v.b; b++) y[s * v.b + b] += channel[b];
    }
}
#undef K
#undef ONE_OF
#undef EXP
#undef EXPM1
#undef LOG
#undef LOG1P
#undef SQRT
#undef SIN
#undef COS
#undef TANH
#undef ERF
#undef FABS
#undef POW
#endif
