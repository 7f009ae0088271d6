/* epilogue.cu - bias and activation in place, behind a product or convolution whose library call does not hold them; and
 * the order of filters.
 *
 * Compulsory bytes of the former: y read and written, the bias (a row, which stays in the cache). 16 bytes a thread,
 * neighbours beside each other; one by one where a group of 16 bytes would cross from one bias element's part to the
 * next. The activations are the rows of ops.def, in f32. */
#include "gpu.h"
#include "move.h"
#include "epilogue.h"

enum { THREADS = 256 };

/* Only what core folds into products (pass_epilogue.c); the rest of ops.def is not compiled. */
static constexpr bool is_activation(int op)
{
    return op == QN_OP_relu || op == QN_OP_leaky_relu || op == QN_OP_elu || op == QN_OP_gelu_tanh ||
           op == QN_OP_gelu_erf || op == QN_OP_sigmoid || op == QN_OP_tanh || op == QN_OP_silu;
}

#define K(x) ((float)(x))
#define EXP(x) expf(x)
#define EXPM1(x) expm1f(x)
#define LOG(x) logf(x)
#define LOG1P(x) log1pf(x)
#define SQRT(x) sqrtf(x)
#define SIN(x) sinf(x)
#define COS(x) cosf(x)
#define TANH(x) tanhf(x)
#define ERF(x) erff(x)
#define FABS(x) fabsf(x)
#define POW(x, y) powf(x, y)

template <int op> static __device__ __forceinline__ float activate(float a, float p)
{
    const float b = 1, c = 0, q = 1; /* operands that no activation has */
    (void)b, (void)c, (void)p, (void)q;
#define OP(name, n_in, meaning)
#define PW(name, n_in, meaning, expression) \
    if constexpr (op == QN_OP_##name) return expression;
#include "../../core/ops.def"
#undef OP
    return a;
}

struct after {
    int64_t n;
    struct divisor inner, channels;
    int32_t narrow, act;
    float p;
};

static __device__ __forceinline__ float finish(float v, const struct after &a)
{
    switch (a.act) {
    case QN_OP_relu: return activate<QN_OP_relu>(v, a.p);
    case QN_OP_leaky_relu: return activate<QN_OP_leaky_relu>(v, a.p);
    case QN_OP_elu: return activate<QN_OP_elu>(v, a.p);
    case QN_OP_gelu_tanh: return activate<QN_OP_gelu_tanh>(v, a.p);
    case QN_OP_gelu_erf: return activate<QN_OP_gelu_erf>(v, a.p);
    case QN_OP_sigmoid: return activate<QN_OP_sigmoid>(v, a.p);
    case QN_OP_tanh: return activate<QN_OP_tanh>(v, a.p);
    case QN_OP_silu: return activate<QN_OP_silu>(v, a.p);
    default: return v;
    }
}

static __device__ __forceinline__ int64_t channel_of(const struct after &a, int64_t i)
{
    int64_t q = quotient(a.inner, i, a.narrow);
    return q - quotient(a.channels, q, a.narrow) * a.channels.by;
}

/* Groups of 16 bytes lie within one row of the bias (inner 1) or within one element's part of y (same). */
template <class T, bool same>
__global__ void __launch_bounds__(THREADS)
    after_vector(T *y, const T *bias, bool nothing, const __grid_constant__ struct after a)
{
    constexpr int N = vec16<T>::n;
    int64_t step = (int64_t)gridDim.x * THREADS, whole = a.n / N;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < whole; i += step) {
        vec16<T> v, w;
        if (!nothing) v = load16(y + i * N);
        int64_t channel = bias ? channel_of(a, i * N) : 0;
        if (bias && !same) w = load16(bias + channel);
        float one = bias && same ? to_f32(bias[channel]) : 0.0f;
        for (int k = 0; k < N; k++) {
            float x = nothing ? 0.0f : to_f32(v.v[k]);
            if (bias) x += same ? one : to_f32(w.v[k]);
            v.v[k] = from_f32<T>(finish(x, a));
        }
        store16(y + i * N, v);
    }
}

template <class T>
__global__ void __launch_bounds__(THREADS)
    after_scalar(T *y, const T *bias, bool nothing, const __grid_constant__ struct after a)
{
    int64_t step = (int64_t)gridDim.x * THREADS;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < a.n; i += step) {
        float x = nothing ? 0.0f : to_f32(y[i]);
        if (bias) x += to_f32(bias[channel_of(a, i)]);
        y[i] = from_f32<T>(finish(x, a));
    }
}

enum { SCALAR, ROW, SAME };

/* How the bias lies against groups of n elements. */
static int kind_of(const struct qn__after *a, int64_t n)
{
    if (a->count % n) return SCALAR;
    if (!a->bias || a->inner % n == 0) return SAME;
    return a->inner == 1 && a->channels % n == 0 ? ROW : SCALAR;
}

template <class T> static cudaError_t run(const struct qn__step *s, const struct qn__after *after)
{
    constexpr int N = vec16<T>::n;
    int kind = kind_of(after, N);
    struct after a = {
        after->count, divisor_of(after->inner), divisor_of(after->channels), after->count < (int64_t)1 << 31,
        after->act,   (float)after->p
    };
    int64_t pieces = ceil_div(after->count, (int64_t)THREADS * (kind == SCALAR ? 1 : N));
    unsigned grid = grid_for(&s->args, pieces, THREADS, 2);
    T *y = (T *)after->y;
    const T *bias = (const T *)after->bias;
    cudaStream_t stream = s->queue->stream;
    if (kind == SCALAR) return LAUNCH(after_scalar<T>, (grid), (THREADS), 0, stream, y, bias, after->nothing, a);
    if (kind == SAME) return LAUNCH((after_vector<T, true>), (grid), (THREADS), 0, stream, y, bias, after->nothing, a);
    return LAUNCH((after_vector<T, false>), (grid), (THREADS), 0, stream, y, bias, after->nothing, a);
}

bool qn__cuda_activates(int32_t act) { return act == 0 || is_activation(act); }

qn_status qn__cuda_after(const struct qn__step *s, const struct qn__after *a, qn_error *err)
{
    if (a->count == 0) return QN_OK;
    return qn__cuda_check(with_float(a->dtype, [&](auto t) { return run<decltype(t)>(s, a); }), "after", s, err);
}

qn_status qn__cuda_filters(const struct qn__step *s, void *to, const void *from, qn_dtype dtype, int64_t o,
                           int64_t channels, int64_t taps, bool pack, qn_error *err)
{
    struct turn t = {};
    if (o * channels * taps == 0) return QN_OK;
    t.size = (int64_t)qn_dtype_size(dtype);
    t.rows = t.to_row = pack ? channels : taps;
    t.columns = t.from_row = pack ? taps : channels;
    t.n_outer = 1;
    t.outer[0] = o;
    t.to_step[0] = t.from_step[0] = channels * taps;
    if (qn__cuda_turn_variant(&t) != QN_TURN_NONE) return qn__cuda_turn(s, to, from, &t, err);
    struct copy_from c = {};
    c.rank = 3;
    c.size = t.size;
    c.dim[0] = o, c.dim[1] = t.columns, c.dim[2] = t.rows;
    c.step[0] = channels * taps, c.step[1] = 1, c.step[2] = t.from_row;
    struct copy_from merged = qn__cuda_merged(&c);
    return qn__cuda_copy(s, to, from, &merged, err);
}
