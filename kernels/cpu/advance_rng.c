/* advance_rng.c - rng = { seed, step + steps, sample + samples, 0 }; counters wrap. */
#include "cpu.h"

/* Work on integers alone is the f64 build's (qn__compute_dtype). */
static qn_status pick(const struct qn__args *a, struct qn__choice *c)
{
    (void)a;
    (void)c;
    return QN_IS_F32 ? QN_EUSAGE : QN_OK;
}

static qn_status launch(const struct qn__step *s, qn_error *err)
{
    (void)err;
    const struct qn__rng_attr *attr = s->args.attr;
    uint64_t *rng = s->args.x[0].data;
    rng[1] += (uint64_t)attr->steps;
    rng[2] += (uint64_t)attr->samples;
    return QN_OK;
}

KERNEL(advance_rng) = { .variants = (const char *const[]){ QN_F64_ONLY("counters"), NULL },
                        .pick = pick,
                        .launch = launch };
