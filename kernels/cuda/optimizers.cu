/* optimizers.cu - every optimizer row and the moving average: one pass over weights, moments and gradient.
 *
 * Compulsory bytes: weights and moments read and written, the gradient read; for Adam in f32 that is 7 x 4 bytes an
 * element. All parameters of a model go into one launch (tensors.h): thread t of a block moves 16 bytes at a time,
 * neighbours neighbouring bytes, and what does not depend on the element is computed once per thread from the scalars
 * on the device (core/attr.h), so that a captured graph follows the schedule. lamb needs the norms of the weights and
 * of the step before it can move: its first pass leaves a sum of squares per chunk, added in a fixed order.
 *
 * Formulas: kernels/cpu/<row>.c. 1 - beta^t is -expm1(t ln beta), which keeps its digits in f32. */
#include "tensors.h"
#include <math.h>
#include <string.h>

namespace
{

struct tensor {
    void *w, *a, *b; /* weights, first and second moment; a, b NULL if the row has none */
    const void *g;
    int64_t n;
    float lr_scale, decay;
};

/* The same for all tensors of a launch. */
struct common {
    const float *hyper;
    float beta1, beta2, eps, momentum, limit, log_beta1, log_beta2, ema_decay;
    int32_t nesterov, decoupled;
};

struct batch {
    common k;
    qn__tensor_chunks chunks;
    tensor t[QN_TENSORS_MAX];
};
static_assert(sizeof(batch) <= 4096, "kernel parameters are at most 4 KB");

/* What an element's rule needs. */
struct numbers {
    float lr, factor, limit, decay, beta1, beta2, eps, momentum, scale1, scale2, rest;
    bool nesterov, decoupled;
};

__device__ bool read_numbers(const batch &p, const tensor &t, numbers &u)
{
    const float *hyper = p.k.hyper;
    if (hyper[2] == 0.0f) return false;
    float step = hyper[3], ramp = (step - 1.0f) / (step + 9.0f);
    u.lr = hyper[0] * t.lr_scale;
    u.factor = hyper[1];
    u.limit = p.k.limit;
    u.decay = t.decay;
    u.beta1 = p.k.beta1;
    u.beta2 = p.k.beta2;
    u.eps = p.k.eps;
    u.momentum = p.k.momentum;
    u.scale1 = 1.0f / -expm1f(step * p.k.log_beta1);
    u.scale2 = 1.0f / sqrtf(-expm1f(step * p.k.log_beta2));
    u.rest = 1.0f - fmaxf(fminf(p.k.ema_decay, ramp), 0.0f);
    u.nesterov = p.k.nesterov != 0;
    u.decoupled = p.k.decoupled != 0;
    return true;
}

__device__ __forceinline__ float gradient(const numbers &u, float g)
{
    float x = g * u.factor;
    return x < -u.limit ? -u.limit : x > u.limit ? u.limit : x;
}
/* a / d; nothing moves where the divisor is 0 (no gradient yet and eps 0). */
__device__ __forceinline__ float quotient(float a, float d) { return d == 0.0f ? 0.0f : a / d; }

/* ---- rules: one element ------------------------------------------------------------------------------- */

struct rule_sgd {
    static constexpr int moments = 0;
    static __device__ void apply(const numbers &u, float &w, float &, float &, float g)
    {
        w -= u.lr * (gradient(u, g) + u.decay * w);
    }
};
struct rule_momentum {
    static constexpr int moments = 1;
    static __device__ void apply(const numbers &u, float &w, float &v, float &, float g)
    {
        float x = gradient(u, g) + u.decay * w, moved = u.momentum * v + x;
        v = moved;
        w -= u.lr * (u.nesterov ? x + u.momentum * moved : moved);
    }
};
struct rule_adam {
    static constexpr int moments = 2;
    static __device__ void apply(const numbers &u, float &w, float &m, float &v, float g)
    {
        float x = gradient(u, g) + (u.decoupled ? 0.0f : u.decay) * w;
        m = u.beta1 * m + (1.0f - u.beta1) * x;
        v = u.beta2 * v + (1.0f - u.beta2) * (x * x);
        w -= u.lr * u.scale1 * quotient(m, sqrtf(v) * u.scale2 + u.eps) + (u.decoupled ? u.lr * u.decay : 0.0f) * w;
    }
};
struct rule_rmsprop {
    static constexpr int moments = 1;
    static __device__ void apply(const numbers &u, float &w, float &s, float &, float g)
    {
        float x = gradient(u, g) + u.decay * w;
        s = u.beta2 * s + (1.0f - u.beta2) * (x * x);
        w -= u.lr * quotient(x, sqrtf(s) + u.eps);
    }
};
struct rule_rmsprop_momentum {
    static constexpr int moments = 2;
    static __device__ void apply(const numbers &u, float &w, float &s, float &v, float g)
    {
        float x = gradient(u, g) + u.decay * w;
        s = u.beta2 * s + (1.0f - u.beta2) * (x * x);
        v = u.momentum * v + quotient(x, sqrtf(s) + u.eps);
        w -= u.lr * v;
    }
};
struct rule_adagrad {
    static constexpr int moments = 1;
    static __device__ void apply(const numbers &u, float &w, float &s, float &, float g)
    {
        float x = gradient(u, g) + u.decay * w;
        s += x * x;
        w -= u.lr * quotient(x, sqrtf(s) + u.eps);
    }
};
struct rule_lion {
    static constexpr int moments = 1;
    static __device__ void apply(const numbers &u, float &w, float &m, float &, float g)
    {
        float x = gradient(u, g), c = u.beta1 * m + (1.0f - u.beta1) * x;
        float sign = c > 0.0f ? 1.0f : c < 0.0f ? -1.0f : 0.0f;
        m = u.beta2 * m + (1.0f - u.beta2) * x;
        w -= u.lr * (sign + u.decay * w);
    }
};
/* "weights" are the shadow, the "gradient" is the weights. */
struct rule_ema {
    static constexpr int moments = 0;
    static __device__ void apply(const numbers &u, float &shadow, float &, float &, float w)
    {
        shadow = u.rest == 1.0f ? w : shadow + u.rest * (w - shadow);
    }
};

/* ---- one pass ------------------------------------------------------------------------------------------ */

template <class T> __device__ __forceinline__ vec16<T> load_part(const T *p, int64_t i, int64_t n)
{
    if (i + vec16<T>::n <= n) return load16(p + i);
    vec16<T> v;
#pragma unroll
    for (int k = 0; k < vec16<T>::n; k++) v.v[k] = i + k < n ? p[i + k] : from_f32<T>(0.0f);
    return v;
}
template <class T> __device__ __forceinline__ void store_part(T *p, int64_t i, int64_t n, const vec16<T> &v)
{
    if (i + vec16<T>::n <= n) {
        store16(p + i, v);
        return;
    }
#pragma unroll
    for (int k = 0; k < vec16<T>::n; k++)
        if (i + k < n) p[i + k] = v.v[k];
}

template <class T, class Rule> __global__ void __launch_bounds__(QN_CHUNK_THREADS) update_tensors(const batch p)
{
    int which = tensor_of(p.chunks, blockIdx.x);
    const tensor &t = p.t[which];
    numbers u;
    if (!read_numbers(p, t, u)) return;
    T *w = static_cast<T *>(t.w), *a = static_cast<T *>(t.a), *b = static_cast<T *>(t.b);
    const T *g = static_cast<const T *>(t.g);
    constexpr int N = vec16<T>::n;
    int64_t begin = (int64_t)((int)blockIdx.x - p.chunks.first[which]) * QN_CHUNK;
    int64_t end = begin + QN_CHUNK < t.n ? begin + QN_CHUNK : t.n;
#pragma unroll 1
    for (int64_t i = begin + threadIdx.x * N; i < end; i += QN_CHUNK_THREADS * N) {
        vec16<T> vw = load_part(w, i, end), vg = load_part(g, i, end), va = {}, vb = {};
        if (Rule::moments > 0) va = load_part(a, i, end);
        if (Rule::moments > 1) vb = load_part(b, i, end);
#pragma unroll
        for (int k = 0; k < N; k++) {
            float fw = to_f32(vw.v[k]), fa = to_f32(va.v[k]), fb = to_f32(vb.v[k]);
            Rule::apply(u, fw, fa, fb, to_f32(vg.v[k]));
            vw.v[k] = from_f32<T>(fw);
            va.v[k] = from_f32<T>(fa);
            vb.v[k] = from_f32<T>(fb);
        }
        store_part(w, i, end, vw);
        if (Rule::moments > 0) store_part(a, i, end, va);
        if (Rule::moments > 1) store_part(b, i, end, vb);
    }
}

/* ---- lamb ---------------------------------------------------------------------------------------------- */

__device__ __forceinline__ float lamb_direction(const numbers &u, float w, float m, float v)
{
    return u.scale1 * quotient(m, sqrtf(v) * u.scale2 + u.eps) + u.decay * w;
}

/* Moves the moments; sums[2 chunk] and [2 chunk + 1] become the sums of w^2 and of the step's squares. */
template <class T> __global__ void __launch_bounds__(QN_CHUNK_THREADS) lamb_measure(const batch p, float *sums)
{
    CU_SHARED(float, part, [2][32]);
    const tensor &t = p.t[0];
    numbers u;
    if (!read_numbers(p, t, u)) return;
    const T *w = static_cast<const T *>(t.w), *g = static_cast<const T *>(t.g);
    T *m = static_cast<T *>(t.a), *v = static_cast<T *>(t.b);
    constexpr int N = vec16<T>::n;
    int64_t begin = (int64_t)blockIdx.x * QN_CHUNK, end = begin + QN_CHUNK < t.n ? begin + QN_CHUNK : t.n;
    float of_w = 0.0f, of_u = 0.0f;
#pragma unroll 1
    for (int64_t i = begin + threadIdx.x * N; i < end; i += QN_CHUNK_THREADS * N) {
        vec16<T> vw = load_part(w, i, end), vg = load_part(g, i, end), vm = load_part(m, i, end);
        vec16<T> vv = load_part(v, i, end);
#pragma unroll
        for (int k = 0; k < N; k++) {
            float fw = to_f32(vw.v[k]), x = gradient(u, to_f32(vg.v[k]));
            float mean = u.beta1 * to_f32(vm.v[k]) + (1.0f - u.beta1) * x;
            float square = u.beta2 * to_f32(vv.v[k]) + (1.0f - u.beta2) * (x * x);
            float d = lamb_direction(u, fw, mean, square); /* 0 past the end, where all are 0 */
            vm.v[k] = from_f32<T>(mean);
            vv.v[k] = from_f32<T>(square);
            of_w += fw * fw;
            of_u += d * d;
        }
        store_part(m, i, end, vm);
        store_part(v, i, end, vv);
    }
    of_w = block_sum(of_w, part[0]);
    of_u = block_sum(of_u, part[1]);
    if (threadIdx.x == 0) {
        sums[2 * blockIdx.x] = of_w;
        sums[2 * blockIdx.x + 1] = of_u;
    }
}

/* sums[0] becomes |w| / |u|, 1 if either is 0. One block. */
__global__ void __launch_bounds__(QN_CHUNK_THREADS) lamb_trust(const float *hyper, float *sums, int chunks)
{
    CU_SHARED(float, part, [2][32]);
    if (hyper[2] == 0.0f) return; /* a skipped step has no sums */
    float of_w = 0.0f, of_u = 0.0f;
    for (int i = threadIdx.x; i < chunks; i += QN_CHUNK_THREADS) {
        of_w += sums[2 * i];
        of_u += sums[2 * i + 1];
    }
    of_w = block_sum(of_w, part[0]);
    of_u = block_sum(of_u, part[1]);
    if (threadIdx.x == 0) sums[0] = of_w > 0.0f && of_u > 0.0f ? sqrtf(of_w) / sqrtf(of_u) : 1.0f;
}

template <class T> __global__ void __launch_bounds__(QN_CHUNK_THREADS) lamb_move(const batch p, const float *sums)
{
    const tensor &t = p.t[0];
    numbers u;
    if (!read_numbers(p, t, u)) return;
    T *w = static_cast<T *>(t.w);
    const T *m = static_cast<const T *>(t.a), *v = static_cast<const T *>(t.b);
    constexpr int N = vec16<T>::n;
    float rate = u.lr * sums[0];
    int64_t begin = (int64_t)blockIdx.x * QN_CHUNK, end = begin + QN_CHUNK < t.n ? begin + QN_CHUNK : t.n;
#pragma unroll 1
    for (int64_t i = begin + threadIdx.x * N; i < end; i += QN_CHUNK_THREADS * N) {
        vec16<T> vw = load_part(w, i, end), vm = load_part(m, i, end), vv = load_part(v, i, end);
#pragma unroll
        for (int k = 0; k < N; k++) {
            float fw = to_f32(vw.v[k]);
            vw.v[k] = from_f32<T>(fw - rate * lamb_direction(u, fw, to_f32(vm.v[k]), to_f32(vv.v[k])));
        }
        store_part(w, i, end, vw);
    }
}

/* ---- host ----------------------------------------------------------------------------------------------- */

const float *hyper_of(const qn__args &a) { return static_cast<const float *>(a.x[a.n_in - 1].data); }

common common_of(const qn__args &a)
{
    common k = {};
    k.hyper = hyper_of(a);
    k.limit = INFINITY;
    if (a.op == QN_OP_ema) {
        k.ema_decay = (float)static_cast<const qn__ema_attr *>(a.attr)->decay;
        return k;
    }
    const qn__optim_attr *o = static_cast<const qn__optim_attr *>(a.attr);
    k.beta1 = (float)o->beta1;
    k.beta2 = (float)o->beta2;
    k.eps = (float)o->eps;
    k.momentum = (float)o->momentum;
    if (o->clip_value > 0) k.limit = (float)o->clip_value;
    k.log_beta1 = (float)log(o->beta1);
    k.log_beta2 = (float)log(o->beta2);
    k.nesterov = o->nesterov;
    k.decoupled = o->decoupled;
    return k;
}

tensor tensor_of_step(const qn__args &a)
{
    int moments = a.n_in - 3;
    tensor t = {};
    t.w = a.x[0].data;
    if (moments > 0) t.a = a.x[1].data;
    if (moments > 1) t.b = a.x[2].data;
    t.g = a.x[a.n_in - 2].data;
    t.n = a.x[0].count;
    t.lr_scale = 1.0f;
    if (a.op != QN_OP_ema) {
        const qn__optim_attr *o = static_cast<const qn__optim_attr *>(a.attr);
        t.lr_scale = (float)o->lr_scale;
        t.decay = (float)o->weight_decay;
    }
    return t;
}

/* As many of the steps as fit and agree in all but the numbers of a tensor; returns how many. */
int fill_batch(batch &p, const qn__step *const *steps, int n)
{
    p = {};
    p.k = common_of(steps[0]->args);
    int used = 0;
    for (; used < n && p.chunks.n < QN_TENSORS_MAX; used++) {
        const qn__args &a = steps[used]->args;
        common k = common_of(a);
        if (a.y.dtype != steps[0]->args.y.dtype || memcmp(&k, &p.k, sizeof k) != 0) break;
        if (!a.x[0].count) continue;
        int at = p.chunks.n++;
        p.t[at] = tensor_of_step(a);
        p.chunks.first[at + 1] = p.chunks.first[at] + chunks_of(a.x[0].count);
    }
    return used;
}

template <class Rule> qn_status launch_many(const qn__step *const *steps, int n, qn_error *err)
{
    for (int at = 0; at < n;) {
        batch p;
        const qn__step *s = steps[at];
        at += fill_batch(p, steps + at, n - at);
        if (!p.chunks.n) continue;
        cudaError_t answer = with_float(s->args.y.dtype, [&](auto t) {
            return LAUNCH((update_tensors<decltype(t), Rule>), ((unsigned)p.chunks.first[p.chunks.n]),
                          (QN_CHUNK_THREADS), 0, s->queue->stream, p);
        });
        QN_TRY(qn__cuda_check(answer, "update_tensors", s, err));
    }
    return QN_OK;
}
template <class Rule> qn_status launch(const qn__step *s, qn_error *err) { return launch_many<Rule>(&s, 1, err); }

qn_status pick(const qn__args *a, qn__choice *c)
{
    c->variant = 0;
    for (int i = 0; i < a->n_in; i++)
        if (a->x[i].dtype != (i < a->n_in - 1 ? a->y.dtype : QN_F32)) return QN_EUSAGE;
    return is_cuda_float(a->y.dtype) ? QN_OK : QN_EUSAGE;
}

qn_status pick_lamb(const qn__args *a, qn__choice *c)
{
    c->workspace = 2 * sizeof(float) * (size_t)chunks_of(a->x[0].count);
    return pick(a, c);
}

qn_status launch_lamb(const qn__step *s, qn_error *err)
{
    batch p;
    fill_batch(p, &s, 1);
    if (!p.chunks.n) return QN_OK;
    int chunks = p.chunks.first[1];
    float *sums = static_cast<float *>(s->workspace);
    cudaStream_t stream = s->queue->stream;
    cudaError_t answer = with_float(s->args.y.dtype, [&](auto t) {
        using T = decltype(t);
        cudaError_t e = LAUNCH(lamb_measure<T>, ((unsigned)chunks), (QN_CHUNK_THREADS), 0, stream, p, sums);
        if (e == cudaSuccess) e = LAUNCH(lamb_trust, (1), (QN_CHUNK_THREADS), 0, stream, p.k.hyper, sums, chunks);
        if (e == cudaSuccess) e = LAUNCH(lamb_move<T>, ((unsigned)chunks), (QN_CHUNK_THREADS), 0, stream, p, sums);
        return e;
    });
    return qn__cuda_check(answer, "lamb", s, err);
}

const char *const tensors[] = { "tensors", NULL };
const char *const two_passes[] = { "two passes", NULL };

} // namespace

#define UPDATE_KERNEL(row) \
    KERNEL(row) = { \
        .variants = tensors, .pick = pick, .launch = launch<rule_##row>, .launch_many = launch_many<rule_##row> \
    }
UPDATE_KERNEL(sgd);
UPDATE_KERNEL(momentum);
UPDATE_KERNEL(adam);
UPDATE_KERNEL(rmsprop);
UPDATE_KERNEL(rmsprop_momentum);
UPDATE_KERNEL(adagrad);
UPDATE_KERNEL(lion);
UPDATE_KERNEL(ema);
KERNEL(lamb) = { .variants = two_passes, .pick = pick_lamb, .launch = launch_lamb };
