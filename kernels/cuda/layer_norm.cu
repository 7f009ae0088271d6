/* layer_norm.cu - layer_norm and rms_norm over the last axis, alone and of a sum.
 *
 * Compulsory bytes in elements of x: 2 n; of a sum 4 n (two read, the sum and its norm written). A row stays in
 * registers (norm.h), so each is moved once; gamma and beta once a block. The norm of a sum sees it as it was before
 * rounding to the stored type. */
#include "norm.h"

namespace
{

/* b and sum: NULL unless it is a sum; beta: NULL for rms_norm; y may be NULL then, if nobody reads the norm. */
template <class T> struct operands {
    T *y, *sum;
    const T *x, *b, *gamma, *beta;
    int64_t rows;
    int32_t width;
    float eps;
    bool centred;
};

template <class T> __device__ __forceinline__ float normal(const norm_moments &m, float x, float gamma, float beta)
{
    return (x - m.mean) * m.r * gamma + beta;
}

template <class T, class S> __global__ void __launch_bounds__(S::threads *S::rows) norm_row(operands<T> o)
{
    CU_SHARED(float, part, [64]);
    CU_SHARED_DYN(T, kept);
    T *beta = kept + o.width;
    norm_keep<T, S::n>(kept, o.gamma, o.width, (int)(threadIdx.y * blockDim.x + threadIdx.x), S::threads * S::rows);
    norm_keep<T, S::n>(beta, o.beta, o.width, (int)(threadIdx.y * blockDim.x + threadIdx.x), S::threads * S::rows);
    __syncthreads();
    for (int64_t row = (int64_t)blockIdx.x * S::rows + threadIdx.y; row < o.rows; row += (int64_t)gridDim.x * S::rows) {
        int64_t at = row * o.width;
        float v[S::all];
#pragma unroll
        for (int k = 0; k < S::parts; k++) {
            if (S::column(k) >= o.width) continue;
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
        if (!o.y) continue;
        norm_moments m = norm_moments_of<S>(v, o.width, o.eps, o.centred, part);
#pragma unroll
        for (int k = 0; k < S::parts; k++) {
            if (S::column(k) >= o.width) continue;
            pack<T, S::n> p, g, b;
            g.load(kept + S::column(k));
            if (o.beta) b.load(beta + S::column(k));
#pragma unroll
            for (int i = 0; i < S::n; i++)
                p.v[i] = from_f32<T>(normal<T>(m, v[k * S::n + i], to_f32(g.v[i]), o.beta ? to_f32(b.v[i]) : 0.0f));
            p.store(o.y + at + S::column(k));
        }
        if (S::threads > 32) __syncthreads(); /* part is written again */
    }
}

template <class T> __global__ void __launch_bounds__(QN_NORM_LONG_THREADS) norm_long(operands<T> o)
{
    CU_SHARED(float, part, [64]);
    const T *x = o.x + (int64_t)blockIdx.x * o.width, *b = o.b ? o.b + (int64_t)blockIdx.x * o.width : NULL;
    auto element = [&](int64_t i) { return b ? to_f32(x[i]) + to_f32(b[i]) : to_f32(x[i]); };
    norm_moments m = norm_moments_long(element, o.width, o.eps, o.centred, part);
#pragma unroll 4
    for (int64_t i = threadIdx.x; i < o.width; i += QN_NORM_LONG_THREADS) {
        int64_t at = (int64_t)blockIdx.x * o.width + i;
        float v = element(i);
        if (b) o.sum[at] = from_f32<T>(v);
        if (o.y) o.y[at] = from_f32<T>(normal<T>(m, v, to_f32(o.gamma[i]), o.beta ? to_f32(o.beta[i]) : 0.0f));
    }
}

template <class T> cudaError_t start(const qn__step *s, const operands<T> &o)
{
    if (s->choice.variant == QN_NORM_LONG)
        return LAUNCH(norm_long<T>, ((unsigned)o.rows), (QN_NORM_LONG_THREADS), 0, s->queue->stream, o);
    return with_shape<T, 1>(s->choice.variant, [&](auto shape) {
        using S = decltype(shape);
        unsigned grid = grid_for(&s->args, ceil_div(o.rows, S::rows), S::threads * S::rows, 2);
        return LAUNCH((norm_row<T, S>), (grid), (S::threads, S::rows), 2 * sizeof(T) * (size_t)o.width,
                      s->queue->stream, o);
    });
}

/* x (and b if sum), gamma, and beta if centred */
template <bool SUM, bool CENTRED> qn_status launch(const qn__step *s, qn_error *err)
{
    const qn__args &a = s->args;
    qn__rows r = rows_of(a.y);
    if (!a.y.count) return QN_OK;
    return qn__cuda_check(with_float(a.y.dtype,
                                     [&](auto t) {
                                         using T = decltype(t);
                                         auto at = [&](int i) { return (const T *)a.x[i].data; };
                                         operands<T> o = { .y = (T *)(SUM ? a.more[0].data : a.y.data),
                                                           .sum = SUM ? (T *)a.y.data : NULL,
                                                           .x = at(0),
                                                           .b = SUM ? at(1) : NULL,
                                                           .gamma = at(1 + SUM),
                                                           .beta = CENTRED ? at(2 + SUM) : NULL,
                                                           .rows = r.n,
                                                           .width = (int32_t)r.width,
                                                           .eps = (float)((const qn__norm_attr *)a.attr)->eps,
                                                           .centred = CENTRED };
                                         return start(s, o);
                                     }),
                          "norm_row", s, err);
}

const char *const variants[] = { QN_NORM_VARIANTS };

} // namespace

KERNEL(layer_norm) = { .variants = variants, .pick = pick_norm, .launch = launch<false, true> };
KERNEL(rms_norm) = { .variants = variants, .pick = pick_norm, .launch = launch<false, false> };
KERNEL(add_layer_norm) = { .variants = variants, .pick = pick_norm, .launch = launch<true, true> };
KERNEL(add_rms_norm) = { .variants = variants, .pick = pick_norm, .launch = launch<true, false> };
