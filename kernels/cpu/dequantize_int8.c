/* dequantize_int8.c - y = q scale. */
#include "quantize.h"

QN_CLONES static void dequantize_run(REAL *y, const int8_t *q, REAL scale, int64_t n)
{
    for (int64_t i = 0; i < n; i++) y[i] = (REAL)q[i] * scale;
}

static qn_status pick(const struct qn__args *a, struct qn__choice *c)
{
    c->variant = 0;
    return a->y.dtype == QN_REAL_DTYPE ? QN_OK : QN_EUSAGE;
}

static qn_status launch(const struct qn__step *step, qn_error *err)
{
    (void)err;
    const struct qn__args *a = &step->args;
    struct scaled s = scaled_of(a);
    const int8_t *q = a->x[0].data;
    const REAL *scale = qn__real(&a->x[1]);
    REAL *y = qn__real(&a->y);
    enum { PIECE = 1 << 14 };
    int64_t pieces = (s.inner + PIECE - 1) / PIECE;
#pragma omp parallel for num_threads(qn__threads_for(a, a->y.count)) schedule(static)
    for (int64_t i = 0; i < s.runs * pieces; i++) {
        int64_t run = i / pieces, at = i % pieces * PIECE, n = s.inner - at < PIECE ? s.inner - at : PIECE;
        dequantize_run(y + run * s.inner + at, q + run * s.inner + at, scale[run % s.n], n);
    }
    return QN_OK;
}

KERNEL(dequantize_int8) = { .variants = (const char *const[]){ "runs", NULL }, .pick = pick, .launch = launch };
