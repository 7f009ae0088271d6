/* group_norm.cu - group_norm alone and of a sum, and its gradients; plain layout.
 *
 * A row is what a group of one sample holds; all of it lies together (norm.h), and gamma and beta go by channel, s
 * elements each. Compulsory bytes in elements of x: group_norm 2 n, of a sum 4 n; dx 3 n, 4 n with an addend; dgamma
 * and dbeta 2 n. Rows are read once, if they fit into registers and shared memory of a block (norm.h). dgamma and
 * dbeta of a sample come from the row in shared memory, then samples are joined; of rows that it does not hold, and of
 * channels of few places, the moments come first, so that x is read twice: 3 n. */
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
    norm_load<T, S>(v, o.x + at, o.b ? o.b + at : NULL, o.sum + at, g.width);
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

/* ROWS 2: of a sum */
template <class T, int N, int ROWS>
__global__ void __launch_bounds__(QN_NORM_LONG_THREADS, 1) group_long(operands<T> o, group_shape g, int room)
{
    CU_SHARED(float, part, [64]);
    CU_SHARED_DYN(T, kept);
    int64_t start = (int64_t)blockIdx.x * g.width;
    norm_held<T, N, ROWS> r;
    r.row[0] = o.x + start;
    if (ROWS == 2) r.row[ROWS - 1] = o.b + start;
    r.kept = kept;
    r.width = g.width;
    r.room = room;
    auto element = [](pack<T, N>(&v)[ROWS], int i) {
        return ROWS == 2 ? to_f32(v[0].v[i]) + to_f32(v[ROWS - 1].v[i]) : to_f32(v[0].v[i]);
    };
    norm_moments m = norm_moments_held(r, element, g.eps, true, part);
    r.forth([&](pack<T, N>(&v)[ROWS], int64_t at) {
        pack<T, N> y;
        float gamma[N], beta[N];
        if (o.y) by_channel<T, N>(gamma, o.gamma, g, blockIdx.x, (int)at);
        if (o.y) by_channel<T, N>(beta, o.beta, g, blockIdx.x, (int)at);
#pragma unroll
        for (int i = 0; i < N; i++) {
            float x = element(v, i);
            v[0].v[i] = from_f32<T>(x);
            if (o.y) y.v[i] = from_f32<T>((x - m.mean) * m.r * gamma[i] + beta[i]);
        }
        if (ROWS == 2) v[0].store(o.sum + start + at);
        if (o.y) y.store(o.y + start + at);
    });
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

template <class T, int N>
__global__ void __launch_bounds__(QN_NORM_LONG_THREADS, 1) group_grad_long(gradients<T> o, group_shape g, int room)
{
    using S = norm_shape<float, QN_NORM_LONG_THREADS, false>;
    CU_SHARED(float, part, [64]);
    CU_SHARED(float, more, [64]);
    CU_SHARED_DYN(T, kept);
    int64_t start = (int64_t)blockIdx.x * g.width;
    norm_held<T, N, 2> r;
    r.row[0] = o.x + start;
    r.row[1] = o.dy + start;
    r.kept = kept;
    r.width = g.width;
    r.room = room;
    auto element = [](pack<T, N>(&v)[2], int i) { return to_f32(v[0].v[i]); };
    norm_moments m = norm_moments_held(r, element, g.eps, true, part);
    float a = 0.0f, b = 0.0f;
    r.forth([&](pack<T, N>(&v)[2], int64_t at) {
        float gamma[N];
        by_channel<T, N>(gamma, o.gamma, g, blockIdx.x, (int)at);
#pragma unroll
        for (int i = 0; i < N; i++) {
            float u = gamma[i] * to_f32(v[1].v[i]);
            a += u;
            b = fmaf(u, (to_f32(v[0].v[i]) - m.mean) * m.r, b);
        }
    });
    norm_totals<S>(a, b, more, 0);
    a /= (float)g.width;
    b /= (float)g.width;
    r.back([&](pack<T, N>(&v)[2], int64_t at) {
        pack<T, N> p;
        float gamma[N];
        by_channel<T, N>(gamma, o.gamma, g, blockIdx.x, (int)at);
        if (o.addend) p.load(o.addend + start + at);
#pragma unroll
        for (int i = 0; i < N; i++) {
            float xhat = (to_f32(v[0].v[i]) - m.mean) * m.r;
            float d = m.r * (gamma[i] * to_f32(v[1].v[i]) - a - xhat * b);
            p.v[i] = from_f32<T>(o.addend ? d + to_f32(p.v[i]) : d);
        }
        p.store(o.dx + start + at);
    });
}

/* ---- dgamma, dbeta ---------------------------------------------------------------------------------------------- */

template <class T> struct group_sums {
    using type = T;
    const T *x, *dy;
    const norm_moments *moments;
    T *dgamma, *dbeta;
    int64_t width, s; /* N elements of an access are all of one channel, or of as many; s 1: all of one sample */
    struct channel {
    };
    template <int N> __device__ __forceinline__ void of(channel (&)[N], int64_t) const {}
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

/* A block for each group of a sample, whose row of x stays in shared memory; then a warp for each channel of it, or
 * several for long ones: `parts` of `size` places. partial[sample][part][2][channel]: sums of dy xhat, then of dy. */
enum { GROUP_THREADS = QN_BLOCK_THREADS, GROUP_PLACES = 64, GROUP_PART = 512 };
template <class T, int N>
__global__ void __launch_bounds__(GROUP_THREADS)
    group_sum_rows(float *partial, const T *x, const T *dy, group_shape g, int parts, int size)
{
    using S = norm_shape<float, GROUP_THREADS, false>;
    CU_SHARED(float, part, [64]);
    CU_SHARED_DYN(T, kept);
    int64_t start = (int64_t)blockIdx.x * g.width;
    float n = (float)g.width, first = 0.0f, s1 = 0.0f, s2 = 0.0f, none = 0.0f;
    shared_row_in<T, N>(kept, x + start, g.width);
    shared_row_each<T, N>(kept, g.width, [&](T v, int) { first += to_f32(v); });
    norm_totals<S>(first, none, part, 0); /* with a barrier: the row is there for all */
    first /= n;
    shared_row_each<T, N>(kept, g.width, [&](T v, int) {
        float d = to_f32(v) - first;
        s1 += d;
        s2 = fmaf(d, d, s2);
    });
    norm_totals<S>(s1, s2, part, 1);
    norm_moments m = norm_finish(first, s1, s2, n, g.eps, true);
    int lane = threadIdx.x & 31, all = g.groups * g.channels;
    int64_t sample = blockIdx.x / g.groups, own = blockIdx.x % g.groups * g.channels;
    for (int job = threadIdx.x >> 5; job < g.channels * parts; job += GROUP_THREADS / 32) {
        int c = job / parts, p = job % parts, end = p + 1 < parts ? (p + 1) * size : g.s;
        exact_pair sum;
#pragma unroll 4
        for (int i = p * size + lane * N; i < end; i += 32 * N) {
            pack<T, N> of_x, of_dy;
            of_x.load(kept + c * g.s + i);
            of_dy.load(dy + start + c * g.s + i);
#pragma unroll
            for (int j = 0; j < N; j++) {
                float d = to_f32(of_dy.v[j]);
                sum.a.add(d);
                sum.b.add_product(d, (to_f32(of_x.v[j]) - m.mean) * m.r);
            }
        }
        sum.a = warp_sum(sum.a);
        sum.b = warp_sum(sum.b);
        if (lane != 0) continue;
        float *to = partial + (sample * parts + p) * 2 * all + own + c;
        to[0] = sum.b.value();
        to[all] = sum.a.value();
    }
}

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

/* How a channel's places are dealt out: parts of `size`, a multiple of what an access takes. */
struct group_parts {
    int n, size;
};
group_parts parts_of_channel(const group_shape &g)
{
    int warps = GROUP_THREADS / 32 / (g.channels < 1 ? 1 : g.channels), most = g.s / GROUP_PART;
    int n = warps < most ? warps : most, size = n > 1 ? (int)ceil_div(ceil_div(g.s, n), 8) * 8 : g.s;
    return { n > 1 ? (int)ceil_div(g.s, size) : 1, size };
}
enum { GROUP_ROWS = QN_CHANNEL_PLANES + 1 };
/* Rows, where shared memory has one and sums of so many places are little beside them. */
qn_status pick_dw(const qn__args *a, qn__choice *c)
{
    if (!takes(a)) return QN_EUSAGE;
    group_shape g = shape_of(*a);
    if (g.s >= GROUP_PLACES && g.width * (int64_t)qn_dtype_size(a->x[0].dtype) <= a->gpu->shared_per_block - 1024) {
        c->variant = GROUP_ROWS;
        c->workspace = 2 * sizeof(float) * (size_t)a->x[0].dim[0] * (size_t)parts_of_channel(g).n *
                       (size_t)(g.groups * g.channels);
        return QN_OK;
    }
    if (pick_channel_sums(as_image(*a), c)) return QN_EUSAGE;
    c->workspace += norm_moments_bytes(g.rows);
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
    if (s->choice.variant >= QN_NORM_LONG)
        return with_long<T, 1 + SUM>(s, s->choice.variant, g.width, [&](auto rows, int room) {
            constexpr int N = decltype(rows)::stride / QN_NORM_LONG_THREADS;
            return LAUNCH((group_long<T, N, 1 + SUM>), ((unsigned)g.rows), (QN_NORM_LONG_THREADS),
                          (1 + SUM) * sizeof(T) * (size_t)room, s->queue->stream, o, g, room);
        });
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
    if (s->choice.variant >= QN_NORM_LONG)
        return with_long<T, 2>(s, s->choice.variant, g.width, [&](auto rows, int room) {
            constexpr int N = decltype(rows)::stride / QN_NORM_LONG_THREADS;
            return LAUNCH((group_grad_long<T, N>), ((unsigned)g.rows), (QN_NORM_LONG_THREADS),
                          2 * sizeof(T) * (size_t)room, s->queue->stream, o, g, room);
        });
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

template <class T> cudaError_t start_dw_rows(const qn__step *s, const group_shape &g)
{
    const qn__args &a = s->args;
    group_parts p = parts_of_channel(g);
    float *partial = (float *)s->workspace;
    auto sum = [&](auto kernel) {
        return LAUNCH(kernel, ((unsigned)g.rows), (GROUP_THREADS), sizeof(T) * (size_t)g.width, s->queue->stream,
                      partial, in<T>(a, 0), in<T>(a, 1), g, p.n, p.size);
    };
    cudaError_t answer = cudaSuccess;
    if (a.x[0].count)
        answer = g.s * (int64_t)sizeof(T) % 16 == 0 ? sum(group_sum_rows<T, vec16<T>::n>) : sum(group_sum_rows<T, 1>);
    if (answer != cudaSuccess) return answer;
    return join_parts<T>(s, (T *)a.y.data, (T *)a.more[0].data, partial, (int)(a.x[0].dim[0] * p.n),
                         g.groups * g.channels);
}
template <class T> cudaError_t start_dw(const qn__step *s)
{
    const qn__args &a = s->args;
    group_shape g = shape_of(a);
    if (s->choice.variant == GROUP_ROWS) return start_dw_rows<T>(s, g);
    if (a.x[0].count) {
        cudaError_t answer = find_moments(s, in<T>(a, 0), g.rows, g.width, g.eps, true);
        if (answer != cudaSuccess) return answer;
    }
    qn__step sums = *s;
    sums.workspace = (char *)s->workspace + norm_moments_bytes(g.rows);
    group_sums<T> op = {
        in<T>(a, 0), in<T>(a, 1), (const norm_moments *)s->workspace, (T *)a.y.data, (T *)a.more[0].data, g.width, g.s
    };
    return sum_channels(&sums, op, as_image(a));
}
qn_status launch_dw(const qn__step *s, qn_error *err)
{
    if (!s->args.y.count) return QN_OK;
    cudaError_t answer = with_float(s->args.y.dtype, [&](auto t) { return start_dw<decltype(t)>(s); });
    return qn__cuda_check(answer, "group_sum_rows", s, err);
}

const char *const variants[] = { "warp", "256 threads", "512 threads", "elements", "long", "long, elements", NULL };
const char *const sum_variants[] = { "columns", "planes", "rows", NULL };

} // namespace

KERNEL(group_norm) = { .variants = variants, .pick = pick_rows, .launch = launch_norm<false> };
KERNEL(add_group_norm) = { .variants = variants, .pick = pick_rows, .launch = launch_norm<true> };
KERNEL(group_norm_grad_x) = { .variants = variants, .pick = pick_rows, .launch = launch_dx };
KERNEL(group_norm_grad_w) = { .variants = sum_variants, .pick = pick_dw, .launch = launch_dw };
