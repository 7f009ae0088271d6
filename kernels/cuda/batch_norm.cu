/* batch_norm.cu - bn_stats, batch_norm, bn_grad_stats, bn_grad_x, in every layout; rank 2 is one row of channels.
 *
 * Compulsory bytes in elements of x: bn_stats 1 n; batch_norm 2 n, 3 n with an addend; bn_grad_stats 2 n; bn_grad_x
 * 3 n, 4 n with an addend. channels.h moves each once, 16 bytes at a time where rows allow it; vectors of channels are
 * read once a thread, not once an element.
 *
 * Statistics are sums of the distance to a pivot, the channel's first element, which keeps its digits when the mean is
 * large against the deviation. They and the sums of the gradient are f32 whatever x is. Formulas: batch_norm.c in
 * core/ops. */
#include "channels.h"

namespace
{

/* ---- statistics -------------------------------------------------------------------------------------------- */

template <class T> struct statistics {
    using type = T;
    const T *x;
    float *mean, *var;
    int64_t count, s, b; /* elements of a channel; where its first is */
    typedef float channel;
    template <int N> __device__ __forceinline__ void of(float (&pivot)[N], int64_t c) const
    {
#pragma unroll
        for (int j = 0; j < N; j++) pivot[j] = 0.0f;
        if (count == 0) return;
        by_channels(pivot, x + (c / b * s * b + c % b));
#pragma unroll
        for (int j = 0; j < N; j++) /* must not spoil other elements */
            if (pivot[j] - pivot[j] != 0.0f) pivot[j] = 0.0f;
    }
    template <int N> struct packs {
        pack<T, N> x;
        __device__ __forceinline__ void load(const statistics &op, int64_t at) { x.load(op.x + at); }
        __device__ __forceinline__ void add(exact_pair &sum, float pivot, int j) const
        {
            float d = to_f32(x.v[j]) - pivot;
            sum.a.add(d);
            sum.b.add_product(d, d);
        }
    };
    __device__ __forceinline__ void finish(int64_t c, const exact_pair &sum) const
    {
        float m = count > 0 ? (float)count : 1.0f, d = sum.a.value() / m, v = fmaf(-d, d, sum.b.value() / m);
        float pivot[1];
        of(pivot, c);
        mean[c] = pivot[0] + d;
        var[c] = v < 0.0f ? 0.0f : v;
    }
};

/* ---- sums of the gradient ------------------------------------------------------------------------------------ */

template <class T> struct gradient_sums {
    using type = T;
    const T *x, *dy;
    const float *mean, *var;
    float *dbeta, *dgamma, eps;
    typedef float channel;
    template <int N> __device__ __forceinline__ void of(float (&m)[N], int64_t c) const { by_channels(m, mean + c); }
    template <int N> struct packs {
        pack<T, N> x, dy;
        __device__ __forceinline__ void load(const gradient_sums &op, int64_t at)
        {
            x.load(op.x + at);
            dy.load(op.dy + at);
        }
        __device__ __forceinline__ void add(exact_pair &sum, float m, int j) const
        {
            float d = to_f32(dy.v[j]);
            sum.a.add(d);
            sum.b.add_product(d, to_f32(x.v[j]) - m);
        }
    };
    __device__ __forceinline__ void finish(int64_t c, const exact_pair &sum) const
    {
        dbeta[c] = sum.a.value();
        dgamma[c] = sum.b.value() / sqrtf(var[c] + eps);
    }
};

/* ---- elements ---------------------------------------------------------------------------------------------- */

template <class T, bool ADD, bool RELU> struct normalise {
    using type = T;
    T *y;
    const T *x, *addend, *gamma, *beta;
    const float *mean, *var;
    float eps;
    struct channel {
        float mean, scale, beta;
    };
    template <int N> __device__ __forceinline__ void of(channel (&k)[N], int64_t c) const
    {
        float m[N], v[N], g[N], b[N];
        by_channels(m, mean + c);
        by_channels(v, var + c);
        by_channels(g, gamma + c);
        by_channels(b, beta + c);
#pragma unroll
        for (int j = 0; j < N; j++) k[j] = { m[j], g[j] / sqrtf(v[j] + eps), b[j] };
    }
    template <int N> struct packs {
        pack<T, N> x, r;
        __device__ __forceinline__ void load(const normalise &map, int64_t at)
        {
            x.load(map.x + at);
            if constexpr (ADD) r.load(map.addend + at);
        }
        __device__ __forceinline__ void apply(const normalise &, const channel &c, int j)
        {
            float v = (to_f32(x.v[j]) - c.mean) * c.scale + c.beta;
            if constexpr (ADD) v += to_f32(r.v[j]);
            if constexpr (RELU) v = v < 0.0f ? 0.0f : v;
            x.v[j] = from_f32<T>(v);
        }
        __device__ __forceinline__ void store(const normalise &map, int64_t at) const { x.store(map.y + at); }
    };
};

/* dx = p dy + q (x - mean) + o, p = gamma r, q = -p r dgamma / M, o = -p dbeta / M */
template <class T, bool ADD> struct gradient {
    using type = T;
    T *dx;
    const T *x, *dy, *addend, *gamma;
    const float *mean, *var, *dbeta, *dgamma;
    float eps, m;
    struct channel {
        float mean, p, q, o;
    };
    template <int N> __device__ __forceinline__ void of(channel (&k)[N], int64_t c) const
    {
        float u[N], v[N], g[N], sum[2][N];
        by_channels(u, mean + c);
        by_channels(v, var + c);
        by_channels(g, gamma + c);
        by_channels(sum[0], dbeta + c);
        by_channels(sum[1], dgamma + c);
#pragma unroll
        for (int j = 0; j < N; j++) {
            float r = 1.0f / sqrtf(v[j] + eps), p = g[j] * r;
            k[j] = { u[j], p, -p * r * (sum[1][j] / m), -p * (sum[0][j] / m) };
        }
    }
    template <int N> struct packs {
        pack<T, N> x, dy, r;
        __device__ __forceinline__ void load(const gradient &map, int64_t at)
        {
            x.load(map.x + at);
            dy.load(map.dy + at);
            if constexpr (ADD) r.load(map.addend + at);
        }
        __device__ __forceinline__ void apply(const gradient &, const channel &c, int j)
        {
            float v = c.p * to_f32(dy.v[j]) + c.q * (to_f32(x.v[j]) - c.mean) + c.o;
            if constexpr (ADD) v += to_f32(r.v[j]);
            x.v[j] = from_f32<T>(v);
        }
        __device__ __forceinline__ void store(const gradient &map, int64_t at) const { x.store(map.dx + at); }
    };
};

/* ---- host -------------------------------------------------------------------------------------------------- */

float eps_of(const qn__args &a) { return (float)static_cast<const qn__bn_attr *>(a.attr)->eps; }
float *vector(const qn__view &v, int row) { return (float *)v.data + row * v.dim[1]; }
bool takes(const qn__args *a) { return is_cuda_float(a->x[0].dtype); }

qn_status pick_sums(const qn__args *a, qn__choice *c) { return takes(a) ? pick_channel_sums(a->x[0], c) : QN_EUSAGE; }
qn_status pick_map(const qn__args *a, qn__choice *c)
{
    int32_t act = static_cast<const qn__bn_attr *>(a->attr)->act;
    return takes(a) && (act == 0 || act == QN_OP_relu) ? pick_channels(a->x[0], c) : QN_EUSAGE;
}

qn_status launch_stats(const qn__step *s, qn_error *err)
{
    const qn__args &a = s->args;
    const qn__view &x = a.x[0];
    return qn__cuda_check(with_float(x.dtype,
                                     [&](auto t) {
                                         using T = decltype(t);
                                         qn__blocked g = blocked_of(x);
                                         statistics<T> op = {
                                             (const T *)x.data, vector(a.y, 0), vector(a.y, 1), g.n * g.s, g.s, g.b
                                         };
                                         return sum_channels(s, op, x);
                                     }),
                          "bn_stats", s, err);
}

qn_status launch_grad_stats(const qn__step *s, qn_error *err)
{
    const qn__args &a = s->args;
    return qn__cuda_check(with_float(a.x[0].dtype,
                                     [&](auto t) {
                                         using T = decltype(t);
                                         gradient_sums<T> op = { (const T *)a.x[0].data,
                                                                 (const T *)a.x[1].data,
                                                                 vector(a.x[2], 0),
                                                                 vector(a.x[2], 1),
                                                                 vector(a.y, 0),
                                                                 vector(a.y, 1),
                                                                 eps_of(a) };
                                         return sum_channels(s, op, a.x[0]);
                                     }),
                          "bn_grad_stats", s, err);
}

template <class T, bool ADD, bool RELU> cudaError_t norm_as(const qn__step *s)
{
    const qn__args &a = s->args;
    normalise<T, ADD, RELU> map = { (T *)a.y.data,
                                    (const T *)a.x[0].data,
                                    ADD ? (const T *)a.x[4].data : NULL,
                                    (const T *)a.x[1].data,
                                    (const T *)a.x[2].data,
                                    vector(a.x[3], 0),
                                    vector(a.x[3], 1),
                                    eps_of(a) };
    return map_channels(s, map, a.x[0]);
}
qn_status launch_norm(const qn__step *s, qn_error *err)
{
    bool relu = static_cast<const qn__bn_attr *>(s->args.attr)->act != 0, add = s->args.n_in == 5;
    return qn__cuda_check(with_float(s->args.y.dtype,
                                     [&](auto t) {
                                         using T = decltype(t);
                                         if (add) return relu ? norm_as<T, true, true>(s) : norm_as<T, true, false>(s);
                                         return relu ? norm_as<T, false, true>(s) : norm_as<T, false, false>(s);
                                     }),
                          "batch_norm", s, err);
}

template <class T, bool ADD> cudaError_t grad_as(const qn__step *s)
{
    const qn__args &a = s->args;
    qn__blocked g = blocked_of(a.x[0]);
    int64_t m = g.n * g.s;
    gradient<T, ADD> map = { (T *)a.y.data,          (const T *)a.x[0].data,
                             (const T *)a.x[1].data, ADD ? (const T *)a.x[5].data : NULL,
                             (const T *)a.x[3].data, vector(a.x[2], 0),
                             vector(a.x[2], 1),      vector(a.x[4], 0),
                             vector(a.x[4], 1),      eps_of(a),
                             m > 0 ? (float)m : 1.0f };
    return map_channels(s, map, a.x[0]);
}
qn_status launch_grad_x(const qn__step *s, qn_error *err)
{
    return qn__cuda_check(with_float(s->args.y.dtype,
                                     [&](auto t) {
                                         using T = decltype(t);
                                         return s->args.n_in == 6 ? grad_as<T, true>(s) : grad_as<T, false>(s);
                                     }),
                          "bn_grad_x", s, err);
}

const char *const variants[] = { QN_CHANNEL_VARIANTS };

} // namespace

KERNEL(bn_stats) = { .variants = variants, .pick = pick_sums, .launch = launch_stats };
KERNEL(batch_norm) = { .variants = variants, .pick = pick_map, .launch = launch_norm };
KERNEL(bn_grad_stats) = { .variants = variants, .pick = pick_sums, .launch = launch_grad_stats };
KERNEL(bn_grad_x) = { .variants = variants, .pick = pick_map, .launch = launch_grad_x };
