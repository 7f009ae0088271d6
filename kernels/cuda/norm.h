/* norm.h - rows of the last axis for layer_norm and rms_norm: a row is read once into registers, by a warp or a block.
 *
 *   warp, 128 threads, 512 threads    16 bytes at a time, four a thread
 *   elements                          rows that do not start at multiples of 16 bytes: 256 threads, sixteen a thread;
 *                                     of two operands 512 threads, eight a thread
 *   long, and long, elements          anything longer: 512 threads, what registers do not hold in shared memory, what
 *                                     that does not hold is read again for each use
 *
 * gamma and beta are copied to shared memory once a block, which goes through many rows. The mean is found twice, the
 * second time of the distances to the first, and the squares are of those: so its digits do not depend on how large it
 * is against the deviation, and nothing is left to double. */
#ifndef QN_KERNELS_CUDA_NORM_H
#define QN_KERNELS_CUDA_NORM_H
#include "rows.h"

enum { QN_NORM_WARP, QN_NORM_128, QN_NORM_512, QN_NORM_ELEMENTS, QN_NORM_LONG, QN_NORM_LONG_ELEMENTS };
#define QN_NORM_VARIANTS "warp", "128 threads", "512 threads", "elements", "long", "long, elements", NULL
enum { QN_NORM_VECTORS = 4, QN_NORM_SCALARS = 16, QN_NORM_SCALAR_THREADS = 256 };
enum { QN_NORM_LONG_THREADS = 512, QN_NORM_LONG_PARTS = 2 };

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
/* Rows that the registers of a block do not hold whole. */
template <class T, int N, int ROWS>
using norm_held = held_rows<T, N, QN_NORM_LONG_THREADS, N == 1 ? 4 : QN_NORM_LONG_PARTS, ROWS>;

/* Of held rows that no one has read yet, in two passes, the second from the end. at(elements of a column, i): the
 * row's. */
template <class T, int N, int THREADS, int PARTS, int ROWS, class F>
static __device__ __forceinline__ norm_moments norm_moments_held(held_rows<T, N, THREADS, PARTS, ROWS> &rows, F at,
                                                                 float eps, bool centred, float *part)
{
    using S = norm_shape<float, THREADS, false>;
    float n = (float)rows.width, first = 0.0f, s1 = 0.0f, s2 = 0.0f, none = 0.0f;
    rows.read([&](pack<T, N>(&v)[ROWS], int64_t) {
#pragma unroll
        for (int i = 0; i < N; i++) first += at(v, i);
    });
    norm_totals<S>(first, none, part, 0);
    first = centred ? first / n : 0.0f;
    rows.back([&](pack<T, N>(&v)[ROWS], int64_t) {
#pragma unroll
        for (int i = 0; i < N; i++) {
            float d = at(v, i) - first;
            s1 += d;
            s2 = fmaf(d, d, s2);
        }
    });
    norm_totals<S>(s1, s2, part, 1);
    return norm_finish(first, s1, s2, n, eps, centred);
}

/* to[row]: the moments of each row of x, for sums over rows that are too long to be kept until they are known. */
template <class T, int N>
__global__ void __launch_bounds__(QN_NORM_LONG_THREADS, 1)
    norm_moments_row(norm_moments *to, const T *x, int64_t width, float eps, bool centred, int room)
{
    CU_SHARED(float, part, [64]);
    CU_SHARED_DYN(T, kept);
    norm_held<T, N, 1> r;
    r.row[0] = x + blockIdx.x * width;
    r.kept = kept;
    r.width = width;
    r.room = room;
    auto element = [](pack<T, N>(&v)[1], int i) { return to_f32(v[0].v[i]); };
    norm_moments m = norm_moments_held(r, element, eps, centred, part);
    if (threadIdx.x == 0) to[blockIdx.x] = m;
}

/* This thread's part of a row: of x, or of x + b, which it stores as `sum` and gives as it was before rounding. */
template <class T, class S>
static __device__ __forceinline__ void norm_load(float (&v)[S::all], const T *x, const T *b, T *sum, int width)
{
#pragma unroll
    for (int k = 0; k < S::parts; k++) {
        if (S::column(k) >= width) continue;
        pack<T, S::n> p, q;
        p.load(x + S::column(k));
        if (b) q.load(b + S::column(k));
#pragma unroll
        for (int i = 0; i < S::n; i++) {
            float &s = v[k * S::n + i];
            s = to_f32(p.v[i]);
            if (!b) continue;
            s += to_f32(q.v[i]);
            p.v[i] = from_f32<T>(s);
        }
        if (b) p.store(sum + S::column(k));
    }
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

enum { QN_NORM_JOIN = 32 };
/* dgamma and, if there, dbeta from partial[part][2][width], sums of dy xhat, then of dy: parts in order, QN_NORM_JOIN
 * of them side by side. */
template <class T>
__global__ void __launch_bounds__(QN_NORM_JOIN *QN_NORM_JOIN)
    norm_join(T *dgamma, T *dbeta, const float *partial, int parts, int width)
{
    CU_SHARED(float, others, [QN_NORM_JOIN][QN_NORM_JOIN + 1]);
    int column = (int)(blockIdx.x * QN_NORM_JOIN + threadIdx.x);
    float sum = 0.0f;
    if (column < 2 * width)
#pragma unroll 4
        for (int p = threadIdx.y; p < parts; p += QN_NORM_JOIN) sum += partial[(int64_t)p * 2 * width + column];
    others[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y != 0 || column >= 2 * width) return;
    for (int i = 1; i < QN_NORM_JOIN; i++) sum += others[i][threadIdx.x];
    if (column < width)
        dgamma[column] = from_f32<T>(sum);
    else if (dbeta)
        dbeta[column - width] = from_f32<T>(sum);
}

/* ---- host ------------------------------------------------------------------------------------------------ */

/* operands: how many are kept in registers; of two, half as much of a row fits into a thread of 512. */
static inline int32_t norm_variant(int64_t width, size_t size, int operands)
{
    int64_t vector = 16 / (int64_t)size * QN_NORM_VECTORS;
    if (width * (int64_t)size % 16 != 0)
        return width <= QN_NORM_SCALAR_THREADS * QN_NORM_SCALARS ? QN_NORM_ELEMENTS : QN_NORM_LONG_ELEMENTS;
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
/* Calls f with the type of held rows of a long variant and how many elements of a row go to shared memory. */
template <class T, int ROWS, class F>
static inline cudaError_t with_long(const qn__step *s, int32_t variant, int64_t width, F f)
{
    auto as = [&](auto rows) {
        using R = decltype(rows);
        return f(rows, held_room(&s->args, width, sizeof(T), ROWS, R::stride, R::held));
    };
    return variant == QN_NORM_LONG ? as(norm_held<T, vec16<T>::n, ROWS>()) : as(norm_held<T, 1, ROWS>());
}
static inline size_t norm_moments_bytes(int64_t rows)
{
    return (sizeof(norm_moments) * (size_t)rows + 255) / 256 * 256;
}
/* The moments of `rows` rows to the workspace. */
template <class T>
static inline cudaError_t find_moments(const qn__step *s, const T *x, int64_t rows, int64_t width, float eps,
                                       bool centred)
{
    int32_t variant = width * (int64_t)sizeof(T) % 16 == 0 ? QN_NORM_LONG : QN_NORM_LONG_ELEMENTS;
    return with_long<T, 1>(s, variant, width, [&](auto held, int room) {
        constexpr int N = decltype(held)::stride / QN_NORM_LONG_THREADS;
        return LAUNCH((norm_moments_row<T, N>), ((unsigned)rows), (QN_NORM_LONG_THREADS), sizeof(T) * (size_t)room,
                      s->queue->stream, (norm_moments *)s->workspace, x, width, eps, centred, room);
    });
}
template <class T>
static inline cudaError_t join_parts(const qn__step *s, T *dgamma, T *dbeta, const float *partial, int parts, int width)
{
    return LAUNCH(norm_join<T>, ((unsigned)ceil_div(2 * (int64_t)width, QN_NORM_JOIN)), (QN_NORM_JOIN, QN_NORM_JOIN), 0,
                  s->queue->stream, dgamma, dbeta, partial, parts, width);
}
#endif
