/* quantize_int8.c - q = x / scale to the nearest whole number, even if two are, within -127..127; NaN gives 0. */
#include "quantize.h"

/* Adding and subtracting it rounds to the nearest whole number, to even in a tie. */
#define ROUND (sizeof(REAL) == 4 ? (REAL)0x1.8p23f : (REAL)0x1.8p52)

QN_CLONES static void quantize_run(int8_t *q, const REAL *x, REAL scale, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        REAL v = x[i] / scale;
        v = v > 127 ? 127 : v < -127 ? -127 : v == v ? v : 0;
        q[i] = (int8_t)(int32_t)((v + ROUND) - ROUND);
    }
}

static qn_status pick(const struct qn__args *a, struct qn__choice *c)
{
    c->variant = 0;
    return a->x[0].dtype == QN_REAL_DTYPE ? QN_OK : QN_EUSAGE;
}

static qn_status launch(const struct qn__step *step, qn_error *err)
{
    (void)err;
    const struct qn__args *a = &step->args;
    struct scaled s = scaled_of(a);
    const REAL *x = qn__real(&a->x[0]), *scale = qn__real(&a->x[1]);
    int8_t *q = a->y.data;
    enum { PIECE = 1 << 14 }; /* one scale for all is split over threads too */
    int64_t pieces = (s.inner + PIECE - 1) / PIECE;
#pragma omp parallel for num_threads(qn__threads_for(a, a->y.count)) schedule(static)
    for (int64_t i = 0; i < s.runs * pieces; i++) {
        int64_t run = i / pieces, at = i % pieces * PIECE, n = s.inner - at < PIECE ? s.inner - at : PIECE;
        quantize_run(q + run * s.inner + at, x + run * s.inner + at, scale[run % s.n], n);
    }
    return QN_OK;
}

KERNEL(quantize_int8) = { .variants = (const char *const[]){ "runs", NULL }, .pick = pick, .launch = launch };
