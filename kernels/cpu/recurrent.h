/* recurrent.h - what the cells share. */
#ifndef QN_KERNELS_CPU_RECURRENT_H
#define QN_KERNELS_CPU_RECURRENT_H
#include "cpu.h"
#include "vecmath.h"

#define LOGISTIC(a) (K(1) / (K(1) + EXP(-(a))))

/* One pre-activation; `more` may be NULL. */
static inline REAL gate(const REAL *gates, const REAL *more, int64_t at)
{
    return more ? gates[at] + more[at] : gates[at];
}

static inline qn_status recurrent_pick(const struct qn__args *a, struct qn__choice *c)
{
    c->variant = 0;
    return a->x[0].dtype == QN_REAL_DTYPE ? QN_OK : QN_EUSAGE;
}
#endif
