/* quantize_int8.c - q = x / scale to the nearest whole number, even if two are, within -127..127; NaN gives 0. */
#include "quantize.h"

/* Adding and subtracting it rounds to the nearest whole number, to even in a tie. */
#define ROUND (sizeof(REAL) == 4 ? (REAL)0x1.8p23f : (REAL)0x1.8p52)

QN_CLONES static void quantize_run(void *to, const void *from, REAL scale, int64_t n)
{
    int8_t *q = to;
    const REAL *x = from;
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
    scaled_launch(&step->args, sizeof(int8_t), sizeof(REAL), quantize_run);
    return QN_OK;
}

KERNEL(quantize_int8) = { .variants = (const char *const[]){ "runs", NULL }, .pick = pick, .launch = launch };
