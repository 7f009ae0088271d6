/* loss_scale.cu - state [3]: scale, finite steps in a row, steps that overflowed; one step of the rule. One thread: the
 * state is 12 bytes, and stays on the device so that no step waits for the host to look at the overflow. */
#include "gpu.h"
#include "cuda.h"

struct rule {
    float growth, backoff, least, most, interval;
};

__global__ void loss_scale_step(float *state, const uint8_t *finite, const struct rule r)
{
    if (threadIdx.x != 0) return;
    float scale = state[0], steps = state[1] + 1.0f;
    if (!*finite) {
        float smaller = scale * r.backoff;
        state[0] = smaller > r.least ? smaller : r.least;
        state[1] = 0.0f;
        state[2] += 1.0f;
    } else if (steps >= r.interval) {
        float larger = scale * r.growth;
        state[0] = larger < r.most ? larger : r.most;
        state[1] = 0.0f;
    } else {
        state[1] = steps;
    }
}

static qn_status pick(const struct qn__args *a, struct qn__choice *c)
{
    c->variant = 0;
    return a->y.dtype == QN_F32 ? QN_OK : QN_EUSAGE;
}

static qn_status launch(const struct qn__step *s, qn_error *err)
{
    const struct qn__loss_scale_attr *a = (const struct qn__loss_scale_attr *)s->args.attr;
    struct rule r = { (float)a->growth, (float)a->backoff, (float)a->least, (float)a->most, (float)a->interval };
    return qn__cuda_check(LAUNCH(loss_scale_step, (1), (32), 0, s->queue->stream, (float *)s->args.x[0].data,
                                 (const uint8_t *)s->args.x[1].data, r),
                          "loss_scale_step", s, err);
}

static const char *const variants[] = { "one thread", NULL };
KERNEL(loss_scale) = { .variants = variants, .pick = pick, .launch = launch };
