/* dequantize_int8.c - y = q scale. */
#include "quantize.h"

QN_CLONES static void dequantize_run(void *to, const void *from, REAL scale, int64_t n)
{
    REAL *y = to;
    const int8_t *q = from;
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
    scaled_launch(&step->args, sizeof(REAL), sizeof(int8_t), dequantize_run);
    return QN_OK;
}

KERNEL(dequantize_int8) = { .variants = (const char *const[]){ "runs", NULL }, .pick = pick, .launch = launch };
