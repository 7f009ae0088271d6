/* advance_rng.cu - rng = { seed, step + steps, sample + samples, 0 }; counters wrap. Two numbers: one thread. */
#include "gpu.h"
#include "cuda.h"

__global__ void advance_counters(uint64_t *rng, uint64_t steps, uint64_t samples)
{
    if (threadIdx.x == 0) rng[1] += steps;
    if (threadIdx.x == 1) rng[2] += samples;
}

static qn_status launch(const struct qn__step *s, qn_error *err)
{
    const struct qn__rng_attr *attr = (const struct qn__rng_attr *)s->args.attr;
    return qn__cuda_check(LAUNCH(advance_counters, (1), (32), 0, s->queue->stream, (uint64_t *)s->args.x[0].data,
                                 (uint64_t)attr->steps, (uint64_t)attr->samples),
                          "advance_counters", s, err);
}

static const char *const variants[] = { "counters", NULL };
KERNEL(advance_rng) = { .variants = variants, .launch = launch };
