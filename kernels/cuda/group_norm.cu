/* group_norm.cu - group_norm alone and of a sum, and its gradients; plain layout.
 *
 * A row is what a group of one sample holds; all of it lies together (norm.h), and gamma and beta go by channel, s
 * elements each. Compulsory bytes in elements of x: group_norm 2 n, of a sum 4 n; dx 3 n, 4 n with an addend; dgamma
 * and dbeta 2 n. Rows that fit into registers are read once; of longer ones x is read twice, and for dx dy too. dgamma
 * and dbeta take the moments of rows first, so that x is read twice there in any case: 3 n. */
#include "channels.h"
#include "index.h"
#include "norm.h"

namespace
{

struct group_shape {
    int64_t rows;
    int32_t width, groups, channels, s; /* channels: of a group */
    float eps;
    divisor channel; /* of a column */
};

/* b and sum: NULL unless it is a sum; y may be NULL then, if nobody reads the norm. */
template <class T> struct operands {
    T *y, *sum;
    const T *x, *b, *gamma, *beta;
};
template <class T> struct gradients {
    T *dx;
    const T *x, *dy, *gamma, *addend;
};

/* N of gamma or beta from a column on. */
template <class T, int N>
__device__ __forceinline__ void by_channel(float (&to)[N], const T *from, const group_shape &g, int64_t row, int column)
{
    from += row % g.groups * g.channels;
#pragma unroll
    for (int i = 0; i < N; i++) to[i] = to_f32(from[quotient32(g.channel, (uint32_t)(column + i))]);
}

/* ---- forward -------------------------------------------------------------------------------------------------- */

template <class T, class S>
__global__ void __launch_bounds__(S::threads *S::rows, 1) group_row(operands<T> o, group_shape g)
{
    CU_SHARED(float, part, [64]);
    int64_t row = (int64_t)blockIdx.x * S::rows + threadIdx.y, at = row * g.width;
    if (row >= g.rows) return; /* a whole warp */
    float v[S::all];
#pragma unroll
    for (int k = 0; k < S::parts; k++) {
        if (S::column(k) >= g.width) continue;
        pack<T, S::n> p, q;
        p.load(o.x + at + S::column(k));
        if (o.b) q.load(o.b + at + S::column(k));
#pragma unroll
        for (int i = 0; i < S::n; i++) {
            float &s = v[k * S::n + i];
            s = to_f32(p.v[i]);
            if (!o.b) continue;
            s += to_f32(q.v[i]);
            p.v[i] = from_f32<T>(s);
        }
        if (o.b) p.store(o.sum + at + S::column(k));
    }
    if (!o.y) return;
    norm_moments m = norm_moments_of<S>(v, g.width, g.eps, true, part);
#pragma unroll
    for (int k = 0; k < S::parts; k++) {
        if (S::column(k) >= g.width) continue;
        pack<T, S::n> p;
        float of[S::n];
        by_channel<T, S::n>(of, o.gamma, g, row, S::column(k));
#pragma unroll
        for (int i = 0; i < S::n; i++) v[k * S::n + i] = (v[k * S::n + i] - m.mean) * m.r * of[i];
        by_channel<T, S::n>(of, o.beta, g, row, S::column(k));
#pragma unroll
        for (int i = 0; i < S::n; i++) p.v[i] = from_f32<T>(v[k * S::n + i] + of[i]);
        p.store(o.y + at + S::column(k));
    }
}

template <class T> __global__ void __launch_bounds__(QN_NORM_LONG_THREADS) group_long(operands<T> o, group_shape g)
{
    CU_SHARED(float, part, [64]);
    int64_t start = (int64_t)blockIdx.x * g.width;
    const T *x = o.x + start, *b = o.b ? o.b + start : NULL;
    auto element = [&](int64_t i) { return b ? to_f32(x[i]) + to_f32(b[i]) : to_f32(x[i]); };
    norm_moments m = norm_moments_long(element, g.width, g.eps, true, part);
    for (int i = threadIdx.x; i < g.width; i += QN_NORM_LONG_THREADS) {
        float v = element(i), gamma[1], beta[1];
        if (b) o.sum[start + i] = from_f32<T>(v);
        if (!o.y) continue;
        by_channel<T, 1>(gamma, o.gamma, g, blockIdx.x, i);
        by_channel<T, 1>(beta, o.beta, g, blockIdx.x, i);
        o.y[start + i] = from_f32<T>((v - m.mean) * m.r * gamma[0] + beta[0]);
    }
}

/* ---- dx --------------------------------------------------------------------------------------------------------- */

template <class T, class S>
__global__ void __launch_bounds__(S::threads *S::rows) group_grad_row(gradients<T> o, group_shape g)
{
    CU_SHARED(float, part, [64]);
    CU_SHARED(float, more, [64]);
    int64_t row = (int64_t)blockIdx.x * S::rows + threadIdx.y, at = row * g.width;
    if (row >= g.rows) return; /* a whole warp */
    float v[S::all], u[S::all], a = 0.0f, b = 0.0f;
#pragma unroll
    for (int k = 0; k < S::parts; k++) {
        if (S::column(k) >= g.width) continue;
        pack<T, S::n> p, q;
        float gamma[S::n];
        p.load(o.x + at + S::column(k));
        q.load(o.dy + at + S::column(k));
        by_channel<T, S::n>(gamma, o.gamma, g, row, S::column(k));
#pragma unroll
        for (int i = 0; i < S::n; i++) {
            v[k * S::n + i] = to_f32(p.v[i]);
            u[k * S::n + i] = gamma[i] * to_f32(q.v[i]);
        }
    }
    norm_moments m = norm_moments_of<S>(v, g.width, g.eps, true, part);
#pragma unroll
    for (int k = 0; k < S::parts; k++)
#pragma unroll
        for (int i = 0; i < S::n; i++) {
            if (S::column(k) >= g.width) continue;
            float &x = v[k * S::n + i];
            x = (x - m.mean) * m.r;
            a += u[k * S::n + i];
            b = fmaf(u[k * S::n + i], x, b);
        }
    norm_totals<S>(a, b, more, 0);
    a /= (float)g.width;
    b /= (float)g.width;
#pragma unroll
    for (int k = 0; k < S::parts; k++) {
        if (S::column(k) >= g.width) continue;
        pack<T, S::n> p;
        if (o.addend) p.load(o.addend + at + S::column(k));
#pragma unroll
        for (int i = 0; i < S::n; i++) {
            float d = m.r * (u[k * S::n + i] - a - v[k * S::n + i] * b);
            p.v[i] = from_f32<T>(o.addend ? d + to_f32(p.v[i]) : d);
        }
        p.store(o.dx + at + S::column(k));
    }
}

template <class T>
__global__ void __launch_bounds__(QN_NORM_LONG_THREADS) group_grad_long(gradients<T> o, group_shape g)
{
    using S = norm_shape<float, QN_NORM_LONG_THREADS, false>;
    CU_SHARED(float, part, [64]);
    CU_SHARED(float, more, [64]);
    int64_t start = (int64_t)blockIdx.x * g.width;
    const T *x = o.x + start, *dy = o.dy + start;
    norm_moments m = norm_moments_long([&](int64_t i) { return to_f32(x[i]); }, g.width, g.eps, true, part);
    float a = 0.0f, b = 0.0f, gamma[1];
    for (int i = threadIdx.x; i < g.width; i += QN_NORM_LONG_THREADS) {
        by_channel<T, 1>(gamma, o.gamma, g, blockIdx.x, i);
        float u = gamma[0] * to_f32(dy[i]);
        a += u;
        b = fmaf(u, (to_f32(x[i]) - m.mean) * m.r, b);
    }
    norm_totals<S>(a, b, more, 0);
    a /= (float)g.width;
    b /= (float)g.width;
    for (int i = threadIdx.x; i < g.width; i += QN_NORM_LONG_THREADS) {
        by_channel<T, 1>(gamma, o.gamma, g, blockIdx.x, i);
        float xhat = (to_f32(x[i]) - m.mean) * m.r, d = m.r * (gamma[0] * to_f32(dy[i]) - a - xhat * b);
        o.dx[start + i] = from_f32<T>(o.addend ? d + to_f32(o.addend[start + i]) : d);
    }
}

/* ---- dgamma, dbeta ---------------------------------------------------------------------------------------------- */

template <class T>
__global__ void __launch_bounds__(QN_NORM_LONG_THREADS) group_moments(norm_moments *to, const T *x, group_shape g)
{
    CU_SHARED(float, part, [64]);
    const T *row = x + (int64_t)blockIdx.x * g.width;
    norm_moments m = norm_moments_long([&](int64_t i) { return to_f32(row[i]); }, g.width, g.eps, true, part);
    if (threadIdx.x == 0) to[blockIdx.x] = m;
}

template <class T> struct group_sums {
    using type = T;
    const T *x, *dy;
    const norm_moments *moments;
    T *dgamma, *dbeta;
    int64_t width, s; /* N elements of an access are all of one channel, or of as many; s 1: all of one sample */
    struct channel {
    };
    __device__ __forceinline__ channel of(int64_t) const { return {}; }
    template <int N> struct packs {
        pack<T, N> x, dy;
        norm_moments m[N];
        __device__ __forceinline__ void load(const group_sums &op, int64_t at)
        {
            x.load(op.x + at);
            dy.load(op.dy + at);
#pragma unroll
            for (int j = 0; j < N; j++) m[j] = j == 0 || op.s == 1 ? op.moments[(at + j) / op.width] : m[0];
        }
        __device__ __forceinline__ void add(exact_pair &sum, channel, int j) const
        {
            float d = to_f32(dy.v[j]);
            sum.a.add(d);
            sum.b.add_product(d, (to_f32(x.v[j]) - m[j].mean) * m[j].r);
        }
    };
    __device__ __forceinline__ void finish(int64_t c, const exact_pair &sum) const
    {
        dgamma[c] = from_f32<T>(sum.b.value());
        if (dbeta) dbeta[c] = from_f32<T>(sum.a.value());
    }
};

/* ---- host ------------------------------------------------------------------------------------------------------- */

group_shape shape_of(const qn__args &a)
{
    const qn__norm_attr *attr = static_cast<const qn__norm_attr *>(a.attr);
    const qn__view &x = a.x[0];
    int64_t s = 1, channels = x.dim[1] / attr->groups;
    for (int i = 2; i < x.rank; i++) s *= x.dim[i];
    return { x.dim[0] * attr->groups, (int32_t)(channels * s),  attr->groups, (int32_t)channels, (int32_t)s,
             (float)attr->eps,        divisor_of(s < 1 ? 1 : s) };
}
bool takes(const qn__args *a)
{
    const qn__view &x = a->x[0];
    int64_t behind = x.dim[1];
    for (int i = 2; i < x.rank; i++) behind *= x.dim[i];
    return is_cuda_float(x.dtype) && behind <= INT32_MAX && x.dim[0] * x.dim[1] <= INT32_MAX;
}
qn_status pick_rows(const qn__args *a, qn__choice *c)
{
    if (!takes(a)) return QN_EUSAGE;
    c->variant = norm_variant(shape_of(*a).width, qn_dtype_size(a->x[0].dtype), 2);
    return QN_OK;
}

/* x as channels.h wants it: nothing behind the channels is rank 2. */
qn__view as_image(const qn__args &a)
{
    qn__view v = a.x[0];
    group_shape g = shape_of(a);
    v.rank = g.s == 1 ? 2 : 4;
    v.dim[2] = g.s;
    v.dim[3] = 1;
    v.block = 1;
    return v;
}
size_t moments_bytes(int64_t rows) { return (sizeof(norm_moments) * (size_t)rows + 255) / 256 * 256; }
qn_status pick_dw(const qn__args *a, qn__choice *c)
{
    if (!takes(a) || pick_channel_sums(as_image(*a), c)) return QN_EUSAGE;
    c->workspace += moments_bytes(shape_of(*a).rows);
    return QN_OK;
}

/* Calls f with the norm_shape of a variant other than long. Two accesses a thread, where there is more than a warp: the
 * places of gamma and beta take registers too. */
template <class T, class F> cudaError_t with_group_shape(int32_t variant, F f)
{
    switch (variant) {
    case QN_NORM_WARP: return f(norm_shape<T, 32, true>());
    case QN_NORM_128: return f(norm_shape<T, 256, true, 2>());
    case QN_NORM_512: return f(norm_shape<T, 512, true, 2>());
    default: return f(norm_shape<T, 512, false, 8>());
    }
}

template <class T> const T *in(const qn__args &a, int i) { return static_cast<const T *>(a.x[i].data); }

/* x (and b if SUM), gamma, beta */
template <class T, bool SUM> cudaError_t start_norm(const qn__step *s)
{
    const qn__args &a = s->args;
    group_shape g = shape_of(a);
    operands<T> o = { (T *)(SUM ? a.more[0].data : a.y.data),
                      SUM ? (T *)a.y.data : NULL,
                      in<T>(a, 0),
                      SUM ? in<T>(a, 1) : NULL,
                      in<T>(a, 1 + SUM),
                      in<T>(a, 2 + SUM) };
    if (s->choice.variant == QN_NORM_LONG)
        return LAUNCH(group_long<T>, ((unsigned)g.rows), (QN_NORM_LONG_THREADS), 0, s->queue->stream, o, g);
    return with_group_shape<T>(s->choice.variant, [&](auto shape) {
        using S = decltype(shape);
        unsigned grid = (unsigned)ceil_div(g.rows, S::rows);
        return LAUNCH((group_row<T, S>), (grid), (S::threads, S::rows), 0, s->queue->stream, o, g);
    });
}
template <bool SUM> qn_status launch_norm(const qn__step *s, qn_error *err)
{
    if (!s->args.y.count) return QN_OK;
    cudaError_t answer = with_float(s->args.y.dtype, [&](auto t) { return start_norm<decltype(t), SUM>(s); });
    return qn__cuda_check(answer, "group_row", s, err);
}

template <class T> cudaError_t start_dx(const qn__step *s)
{
    const qn__args &a = s->args;
    group_shape g = shape_of(a);
    gradients<T> o = { (T *)a.y.data, in<T>(a, 0), in<T>(a, 1), in<T>(a, 2), a.n_in == 4 ? in<T>(a, 3) : NULL };
    if (s->choice.variant == QN_NORM_LONG)
        return LAUNCH(group_grad_long<T>, ((unsigned)g.rows), (QN_NORM_LONG_THREADS), 0, s->queue->stream, o, g);
    return with_group_shape<T>(s->choice.variant, [&](auto shape) {
        using S = decltype(shape);
        unsigned grid = (unsigned)ceil_div(g.rows, S::rows);
        return LAUNCH((group_grad_row<T, S>), (grid), (S::threads, S::rows), 0, s->queue->stream, o, g);
    });
}
qn_status launch_dx(const qn__step *s, qn_error *err)
{
    if (!s->args.y.count) return QN_OK;
    cudaError_t answer = with_float(s->args.y.dtype, [&](auto t) { return start_dx<decltype(t)>(s); });
    return qn__cuda_check(answer, "group_grad_row", s, err);
}

template <class T> cudaError_t start_dw(const qn__step *s)
{
    const qn__args &a = s->args;
    group_shape g = shape_of(a);
    norm_moments *moments = (norm_moments *)s->workspace;
    if (a.x[0].count) {
        cudaError_t answer = LAUNCH(group_moments<T>, ((unsigned)g.rows), (QN_NORM_LONG_THREADS), 0, s->queue->stream,
                                    moments, in<T>(a, 0), g);
        if (answer != cudaSuccess) return answer;
    }
    qn__step sums = *s;
    sums.workspace = (char *)s->workspace + moments_bytes(g.rows);
    group_sums<T> op = { in<T>(a, 0), in<T>(a, 1), moments, (T *)a.y.data, (T *)a.more[0].data, g.width, g.s };
    return sum_channels(&sums, op, as_image(a));
}
qn_status launch_dw(const qn__step *s, qn_error *err)
{
    if (!s->args.y.count) return QN_OK;
    cudaError_t answer = with_float(s->args.y.dtype, [&](auto t) { return start_dw<decltype(t)>(s); });
    return qn__cuda_check(answer, "group_moments", s, err);
}

const char *const variants[] = { "warp", "256 threads", "512 threads", "elements", "long", NULL };
const char *const sum_variants[] = { QN_CHANNEL_VARIANTS };

} // namespace

KERNEL(group_norm) = { .variants = variants, .pick = pick_rows, .launch = launch_norm<false> };
KERNEL(add_group_norm) = { .variants = variants, .pick = pick_rows, .launch = launch_norm<true> };
KERNEL(group_norm_grad_x) = { .variants = variants, .pick = pick_rows, .launch = launch_dx };
KERNEL(group_norm_grad_w) = { .variants = sum_variants, .pick = pick_dw, .launch = launch_dw };
