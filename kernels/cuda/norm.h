/* norm.h - rows of the last axis for layer_norm and rms_norm: a row is read once into registers, by a warp or a block.
 *
 *   warp, 128 threads, 512 threads    16 bytes at a time, four a thread
 *   elements                          rows that do not start at multiples of 16 bytes: 256 threads, sixteen a thread;
 *                                     of two operands 512 threads, eight a thread
 *   long                              what fits nowhere: 512 threads, the row is read again for each use
 *
 * gamma and beta are copied to shared memory once a block, which goes through many rows. The mean is found twice, the
 * second time of the distances to the first, and the squares are of those: so its digits do not depend on how large it
 * is against the deviation, and nothing is left to double. */
#ifndef QN_KERNELS_CUDA_NORM_H
#define QN_KERNELS_CUDA_NORM_H
#include "rows.h"

enum { QN_NORM_WARP, QN_NORM_128, QN_NORM_512, QN_NORM_ELEMENTS, QN_NORM_LONG };
#define QN_NORM_VARIANTS "warp", "128 threads", "512 threads", "elements", "long", NULL
enum { QN_NORM_VECTORS = 4, QN_NORM_SCALARS = 16, QN_NORM_SCALAR_THREADS = 256, QN_NORM_LONG_THREADS = 512 };

/* Threads of a row, elements of an access, accesses of a thread. */
template <class T, int THREADS_, bool VECTOR, int PARTS = VECTOR ? (int)QN_NORM_VECTORS : (int)QN_NORM_SCALARS>
struct norm_shape {
    static constexpr int threads = THREADS_, n = VECTOR ? vec16<T>::n : 1, parts = PARTS, all = n * parts;
    static constexpr int rows = threads == 32 ? QN_WARP_ROWS : 1; /* of a block */
    static __device__ __forceinline__ int column(int k) { return (k * threads + (int)threadIdx.x) * n; }
};

/* Two sums over the threads of a row; part: 64 floats, of which each call in turn takes another half. */
template <class S> static __device__ __forceinline__ void norm_totals(float &a, float &b, float *part, int turn)
{
    a = warp_sum(a);
    b = warp_sum(b);
    if constexpr (S::threads > 32) {
        int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = S::threads / 32;
        float *p = part + (turn & 1) * 32;
        if (lane == 0) {
            p[2 * warp] = a;
            p[2 * warp + 1] = b;
        }
        __syncthreads();
        a = lane < warps ? p[2 * lane] : 0.0f;
        b = lane < warps ? p[2 * lane + 1] : 0.0f;
        a = warp_sum(a);
        b = warp_sum(b);
    }
}

struct norm_moments {
    float mean, r;
};
static __device__ __forceinline__ norm_moments norm_finish(float first, float s1, float s2, float n, float eps,
                                                           bool centred)
{
    float d = centred ? s1 / n : 0.0f;
    return { first + d, 1.0f / sqrtf(fmaf(-d, d, s2 / n) + eps) };
}
/* Of a row of which this thread has v[S::all]; elements beyond `width` are not looked at. */
template <class S>
static __device__ __forceinline__ norm_moments norm_moments_of(const float *v, int width, float eps, bool centred,
                                                               float *part)
{
    float n = (float)width, first = 0.0f, s1 = 0.0f, s2 = 0.0f, none = 0.0f;
    if (centred) {
#pragma unroll
        for (int k = 0; k < S::parts; k++)
#pragma unroll
            for (int i = 0; i < S::n; i++)
                if (S::column(k) < width) first += v[k * S::n + i];
        norm_totals<S>(first, none, part, 0);
        first /= n;
    }
#pragma unroll
    for (int k = 0; k < S::parts; k++)
#pragma unroll
        for (int i = 0; i < S::n; i++)
            if (S::column(k) < width) {
                float d = v[k * S::n + i] - first;
                s1 += d;
                s2 = fmaf(d, d, s2);
            }
    norm_totals<S>(s1, s2, part, 1);
    return norm_finish(first, s1, s2, n, eps, centred);
}
/* Of a row in device memory, by QN_NORM_LONG_THREADS; at(i): its element. */
template <class F>
static __device__ __forceinline__ norm_moments norm_moments_long(F at, int64_t width, float eps, bool centred,
                                                                 float *part)
{
    float n = (float)width, first = 0.0f, s1 = 0.0f, s2 = 0.0f, none = 0.0f;
    using S = norm_shape<float, QN_NORM_LONG_THREADS, false>;
    if (centred) {
#pragma unroll 4
        for (int64_t i = threadIdx.x; i < width; i += QN_NORM_LONG_THREADS) first += at(i);
        norm_totals<S>(first, none, part, 0);
        first /= n;
    }
#pragma unroll 4
    for (int64_t i = threadIdx.x; i < width; i += QN_NORM_LONG_THREADS) {
        float d = at(i) - first;
        s1 += d;
        s2 = fmaf(d, d, s2);
    }
    norm_totals<S>(s1, s2, part, 1);
    return norm_finish(first, s1, s2, n, eps, centred);
}

/* from[width] to shared memory, by all threads of the block; a barrier must follow. NULL: nothing. */
template <class T, int N>
static __device__ __forceinline__ void norm_keep(T *kept, const T *from, int width, int thread, int threads)
{
    for (int i = thread * N; from && i < width; i += threads * N) {
        pack<T, N> p;
        p.load(from + i);
        p.store(kept + i);
    }
}

/* ---- host ------------------------------------------------------------------------------------------------ */

/* operands: how many are kept in registers; of two, half as much of a row fits into a thread of 512. */
static inline int32_t norm_variant(int64_t width, size_t size, int operands)
{
    int64_t vector = 16 / (int64_t)size * QN_NORM_VECTORS;
    if (width * (int64_t)size % 16 != 0)
        return width <= QN_NORM_SCALAR_THREADS * QN_NORM_SCALARS ? QN_NORM_ELEMENTS : QN_NORM_LONG;
    return width <= 32 * vector               ? QN_NORM_WARP
           : width <= 128 * vector            ? QN_NORM_128
           : width <= 512 / operands * vector ? QN_NORM_512
                                              : QN_NORM_LONG;
}
static inline qn_status pick_norm_of(const qn__args *a, qn__choice *c, int operands)
{
    qn__rows r = rows_of(a->x[0]);
    if (!is_cuda_float(a->x[0].dtype) || r.width > INT32_MAX || r.n > INT32_MAX) return QN_EUSAGE;
    c->variant = norm_variant(r.width, qn_dtype_size(a->x[0].dtype), operands);
    return QN_OK;
}
static inline qn_status pick_norm(const qn__args *a, qn__choice *c) { return pick_norm_of(a, c, 1); }
static inline qn_status pick_norm_grad(const qn__args *a, qn__choice *c) { return pick_norm_of(a, c, 2); }
/* Calls f with the norm_shape of a variant other than long. */
template <class T, int OPERANDS, class F> static inline cudaError_t with_shape(int32_t variant, F f)
{
    switch (variant) {
    case QN_NORM_WARP: return f(norm_shape<T, 32, true>());
    case QN_NORM_128: return f(norm_shape<T, 128, true>());
    case QN_NORM_512: return f(norm_shape<T, 512, true, QN_NORM_VECTORS / OPERANDS>());
    default: return f(norm_shape<T, QN_NORM_SCALAR_THREADS * OPERANDS, false, QN_NORM_SCALARS / OPERANDS>());
    }
}
#endif
