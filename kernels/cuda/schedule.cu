/* schedule.cu - learning rate = base * factor(u) * warm-up(u) * plateau, u = number of updates done; one number.
 * Operands: u I64 [1], plateau []. The factors are listed at qn_schedule_opts.
 *
 * u changes from step to step, so this runs on the device (a launch that is replayed has its arguments fixed). One
 * thread, in float, since GPUs for graphics have hardly any double precision; written so that nothing cancels: times are
 * measured from whole numbers, half cosines are sums of squares of sines, and powers take the logarithm, the host's, in
 * two floats. Within 8 ulp of the double result. */
#include "functions.h"
#include "cuda.h"

/* A number as whole + part, 0 <= part < 1; whole up to 2^53. */
struct split {
    int64_t whole;
    float part;
};

struct plan {
    int32_t kind, n_at, whole_every, zero_gamma;
    float base, end, start, warmup;
    struct split warm, up, total, every, at[QN_SCHEDULE_MAX_AT];
    float every_high, every_low, log_high, log_low;
};

/* u - s */
static __device__ __forceinline__ float since(int64_t u, const struct split &s)
{
    return (float)(u - s.whole) - s.part;
}
static __device__ __forceinline__ float until(int64_t u, const struct split &s)
{
    return (float)(s.whole - u) + s.part;
}

/* The way from `from` to `to`, and what is left of it: they add up to 1. */
struct way {
    float done, left;
};
static __device__ __forceinline__ struct way way_of(int64_t u, const struct split &from, const struct split &to)
{
    float done = since(u, from), left = until(u, to), length = (float)(to.whole - from.whole) + (to.part - from.part);
    struct way w = { 0.0f, 1.0f };
    if (done <= 0.0f) return w;
    w.done = left > 0.0f ? done / length : 1.0f;
    w.left = left > 0.0f ? left / length : 0.0f;
    return w;
}

/* a at the start of the way, b at its end, along half a cosine: cos^2(pi t/2) a + sin^2(pi t/2) b. */
static __device__ __forceinline__ float half_cosine(float a, float b, struct way w)
{
    float near = sine(w.left * 0x1.921fb6p+0f, 0), far = sine(w.done * 0x1.921fb6p+0f, 0);
    return near * near * a + far * far * b;
}

/* gamma^(n + rest) */
static __device__ float gamma_to(const struct plan &p, float n, float rest)
{
    if (n == 0.0f && rest == 0.0f) return 1.0f;
    if (p.zero_gamma) return 0.0f;
    float high = n * p.log_high, low = fmaf(n, p.log_high, -high) + n * p.log_low + rest * p.log_high;
    if (!(fabsf(high) < 200.0f)) return high > 0 ? INFINITY : 0.0f;
    float y = expf(high);
    return y < INFINITY ? fmaf(y, low, y) : y;
}

/* u / every as high + low */
static __device__ __forceinline__ struct two_floats quotient_of(const struct plan &p, int64_t u)
{
    float high = (float)u, low = (float)(u - (int64_t)high), q = high / p.every_high;
    float rest = fmaf(-q, p.every_high, high) + low - q * p.every_low;
    struct two_floats y = { q, rest / p.every_high };
    return y;
}

/* How many whole times `every` fits into u. */
static __device__ float times(const struct plan &p, int64_t u, float &rest)
{
    int64_t n;
    if (p.whole_every) {
        n = u / p.every.whole;
    } else {
        struct two_floats q = quotient_of(p, u);
        n = (int64_t)floorf(q.high);
        float over = (q.high - (float)n) + q.low, near = 0x1p-40f * q.high;
        n += over >= 1.0f - near ? 1 : over < -near ? -1 : 0;
    }
    float high = (float)n;
    rest = (float)(n - (int64_t)high);
    return high;
}

static __device__ float factor(const struct plan &p, int64_t u)
{
    float rest = 0.0f, n = 0.0f;
    switch (p.kind) {
    case QN_SCHEDULE_STEP: n = times(p, u, rest); return gamma_to(p, n, rest);
    case QN_SCHEDULE_MULTI_STEP:
        for (int i = 0; i < p.n_at; i++) n += since(u, p.at[i]) >= 0.0f ? 1.0f : 0.0f;
        return gamma_to(p, n, 0.0f);
    case QN_SCHEDULE_EXPONENTIAL: {
        struct two_floats q = quotient_of(p, u);
        return gamma_to(p, q.high, q.low);
    }
    case QN_SCHEDULE_COSINE: return half_cosine(1.0f, p.end, way_of(u, p.warm, p.total));
    case QN_SCHEDULE_LINEAR: {
        struct way w = way_of(u, p.warm, p.total);
        return w.left + p.end * w.done;
    }
    case QN_SCHEDULE_ONE_CYCLE: {
        struct split zero = { 0, 0.0f };
        if (since(u, p.up) < 0.0f) return half_cosine(p.start, 1.0f, way_of(u, zero, p.up));
        return half_cosine(1.0f, p.end, way_of(u, p.up, p.total));
    }
    default: return 1.0f; /* constant; plateau, whose factor is an operand */
    }
}

__global__ void schedule_scalar(float *y, const int64_t *updates, const float *plateau,
                                const __grid_constant__ struct plan p)
{
    if (threadIdx.x != 0) return;
    int64_t u = updates[0];
    float warm = 1.0f;
    if (p.kind != QN_SCHEDULE_ONE_CYCLE && since(u, p.warm) < 0.0f) warm = fminf((float)(u + 1) / p.warmup, 1.0f);
    y[0] = p.base * factor(p, u) * warm * plateau[0];
}

static struct split split_of(double x)
{
    double most = x < 0x1p53 ? x : 0x1p53, whole = floor(most);
    return { (int64_t)whole, (float)(most - whole) };
}

static struct plan plan_of(const struct qn__schedule_attr *a)
{
    struct plan p = {};
    double log_gamma = a->gamma > 0 ? log(a->gamma) : 0;
    p.kind = a->kind;
    p.n_at = a->n_at;
    p.base = (float)a->base;
    p.end = (float)a->end;
    p.start = (float)a->start;
    p.warmup = (float)a->warmup;
    p.warm = split_of(a->warmup);
    p.up = split_of(a->peak * a->total);
    p.total = split_of(a->total);
    p.every = split_of(a->every);
    p.whole_every = p.every.part == 0.0f && p.every.whole > 0;
    for (int i = 0; i < a->n_at; i++) p.at[i] = split_of(a->at[i]);
    p.every_high = (float)a->every;
    p.every_low = (float)(a->every - (double)p.every_high);
    p.log_high = (float)log_gamma;
    p.log_low = (float)(log_gamma - (double)p.log_high);
    p.zero_gamma = a->gamma == 0;
    return p;
}

static qn_status pick(const struct qn__args *a, struct qn__choice *c)
{
    c->variant = 0;
    return a->y.dtype == QN_F32 ? QN_OK : QN_EUSAGE;
}

static qn_status launch(const struct qn__step *s, qn_error *err)
{
    struct plan p = plan_of((const struct qn__schedule_attr *)s->args.attr);
    return qn__cuda_check(LAUNCH(schedule_scalar, (1), (32), 0, s->queue->stream, (float *)s->args.y.data,
                                 (const int64_t *)s->args.x[0].data, (const float *)s->args.x[1].data, p),
                          "schedule_scalar", s, err);
}

static const char *const variants[] = { "scalar", NULL };
KERNEL(schedule) = { .variants = variants, .pick = pick, .launch = launch };
