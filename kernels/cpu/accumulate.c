/* accumulate.c - dst += src; y is dst. Integers wrap. */
#include "cpu.h"

enum { REALS, INTEGERS };

static qn_status pick(const struct qn__args *a, struct qn__choice *c)
{
    qn_dtype dtype = a->y.dtype;
    c->variant = dtype == QN_I32 || dtype == QN_I64 ? INTEGERS : REALS;
    return c->variant == INTEGERS ? (QN_IS_F32 ? QN_EUSAGE : QN_OK) : dtype == QN_REAL_DTYPE ? QN_OK : QN_EUSAGE;
}

enum { CHUNK = 4096 };

QN_CLONES static void add(REAL *to, const REAL *from, int64_t n)
{
    for (int64_t i = 0; i < n; i++) to[i] += from[i];
}

static void add_integers(const struct qn__args *a)
{
    if (a->y.dtype == QN_I64) {
        uint64_t *to = a->x[0].data;
        const uint64_t *from = a->x[1].data;
        for (int64_t i = 0; i < a->y.count; i++) to[i] += from[i];
    } else {
        uint32_t *to = a->x[0].data;
        const uint32_t *from = a->x[1].data;
        for (int64_t i = 0; i < a->y.count; i++) to[i] += from[i];
    }
}

static qn_status launch(const struct qn__step *s, qn_error *err)
{
    (void)err;
    const struct qn__args *a = &s->args;
    if (s->choice.variant == INTEGERS) {
        add_integers(a);
        return QN_OK;
    }
    REAL *to = qn__real(&a->x[0]);
    const REAL *from = qn__real(&a->x[1]);
    int64_t n = a->y.count, chunks = (n + CHUNK - 1) / CHUNK;
#pragma omp parallel for num_threads(qn__threads_for(a, n)) schedule(static)
    for (int64_t i = 0; i < chunks; i++)
        add(to + i * CHUNK, from + i * CHUNK, n - i * CHUNK < CHUNK ? n - i * CHUNK : CHUNK);
    return QN_OK;
}

/* Work on integers alone is the f64 build's (qn__compute_dtype). */
KERNEL(accumulate) = { .variants = (const char *const[]){ "reals", QN_F64_ONLY("integers"), NULL },
                       .pick = pick,
                       .launch = launch };
