/* ema.c - shadow += (1 - d) (w - shadow), d = min(decay, (t - 1) / (t + 9)). Operands shadow, w, hyper. */
#include "update.h"

QN_CLONES static void chunk(REAL *restrict shadow, const REAL *restrict w, REAL rest, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) shadow[i] = rest == 1 ? w[i] : shadow[i] + rest * (w[i] - shadow[i]);
}

static qn_status launch(const struct qn__step *s, qn_error *err)
{
    (void)err;
    const struct qn__args *a = &s->args;
    const struct qn__ema_attr *attr = a->attr;
    if (qn__skipped(a)) return QN_OK;
    double t = (double)qn__hyper(a)[3], decay = fmax(fmin(attr->decay, (t - 1) / (t + 9)), 0);
    REAL *shadow = qn__real(&a->x[0]);
    const REAL *w = qn__real(&a->x[1]);
    int64_t n = a->x[0].count, chunks = (n + QN_UPDATE_CHUNK - 1) / QN_UPDATE_CHUNK;
#pragma omp parallel for num_threads(qn__threads_for(a, n)) schedule(static)
    for (int64_t i = 0; i < chunks; i++) {
        int64_t at = i * QN_UPDATE_CHUNK;
        chunk(shadow + at, w + at, (REAL)(1 - decay), n - at < QN_UPDATE_CHUNK ? n - at : QN_UPDATE_CHUNK);
    }
    return QN_OK;
}

KERNEL(ema) = { .variants = (const char *const[]){ "chunks", NULL }, .launch = launch };
