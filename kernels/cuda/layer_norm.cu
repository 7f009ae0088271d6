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
        norm_load<T, S>(v, o.x + at, o.b ? o.b + at : NULL, o.sum + at, o.width);
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

/* ROWS 2: of a sum */
template <class T, int N, int ROWS>
__global__ void __launch_bounds__(QN_NORM_LONG_THREADS, 1) norm_long(operands<T> o, int room)
{
    CU_SHARED(float, part, [64]);
    CU_SHARED_DYN(T, kept);
    int64_t start = (int64_t)blockIdx.x * o.width;
    norm_held<T, N, ROWS> r;
    r.row[0] = o.x + start;
    if (ROWS == 2) r.row[ROWS - 1] = o.b + start;
    r.kept = kept;
    r.width = o.width;
    r.room = room;
    auto element = [](pack<T, N>(&v)[ROWS], int i) {
        return ROWS == 2 ? to_f32(v[0].v[i]) + to_f32(v[ROWS - 1].v[i]) : to_f32(v[0].v[i]);
    };
    norm_moments m = norm_moments_held(r, element, o.eps, o.centred, part);
    r.forth([&](pack<T, N>(&v)[ROWS], int64_t at) {
        pack<T, N> y, g, b;
        if (o.y) g.load(o.gamma + at);
        if (o.y && o.beta) b.load(o.beta + at);
#pragma unroll
        for (int i = 0; i < N; i++) {
            float x = element(v, i);
            v[0].v[i] = from_f32<T>(x);
            if (o.y) y.v[i] = from_f32<T>(normal<T>(m, x, to_f32(g.v[i]), o.beta ? to_f32(b.v[i]) : 0.0f));
        }
        if (ROWS == 2) v[0].store(o.sum + start + at);
        if (o.y) y.store(o.y + start + at);
    });
}
template <class T, int ROWS> cudaError_t start_long(const qn__step *s, const operands<T> &o)
{
    return with_long<T, ROWS>(s, s->choice.variant, o.width, [&](auto rows, int room) {
        constexpr int N = decltype(rows)::stride / QN_NORM_LONG_THREADS;
        return LAUNCH((norm_long<T, N, ROWS>), ((unsigned)o.rows), (QN_NORM_LONG_THREADS),
                      ROWS * sizeof(T) * (size_t)room, s->queue->stream, o, room);
    });
}

template <class T> cudaError_t start(const qn__step *s, const operands<T> &o)
{
    if (s->choice.variant >= QN_NORM_LONG) return o.b ? start_long<T, 2>(s, o) : start_long<T, 1>(s, o);
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
