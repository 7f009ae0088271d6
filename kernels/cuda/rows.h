/* rows.h - what the kernels over rows of the last axis share: ways to lay a row on threads.
 *
 *   thread   up to QN_THREAD_ROW elements: a block copies its rows to shared memory in one piece (so every sector is
 *            moved once although rows are short), one thread works on each row; words left free there let
 *            neighbouring threads use different banks
 *   warp     a row fits into the registers of a warp
 *   shared   a row fits into the shared memory of a block: each thread reads back only what it wrote
 *   held     anything longer: in the registers of a large block first, what is left in its shared memory; what still
 *            is left is read again
 *
 * warp, shared and held move 16 bytes at a time where rows start at multiples of 16 bytes, else element by element.
 * pick decides from the width alone. A maximum is NaN if one element is, so that a bad row stays visible. */
#ifndef QN_KERNELS_CUDA_ROWS_H
#define QN_KERNELS_CUDA_ROWS_H
#include "gpu.h"
#include "cuda.h"

enum {
    QN_ROWS_THREAD,
    QN_ROWS_WARP,
    QN_ROWS_WARP_SCALAR,
    QN_ROWS_SHARED,
    QN_ROWS_SHARED_SCALAR,
    QN_ROWS_HELD,
    QN_ROWS_HELD_SCALAR
};
#define QN_ROWS_VARIANTS \
    "thread", "warp, 16 bytes", "warp, elements", "shared, 16 bytes", "shared, elements", "held, 16 bytes", \
        "held, elements", NULL
enum { QN_THREAD_ROW = 32, QN_THREAD_ROWS = 128, QN_WARP_ROWS = 4, QN_BLOCK_THREADS = 256 };
/* accesses of one lane that a row in registers may take */
enum { QN_VECTOR_PARTS = 4, QN_SCALAR_PARTS = 16 };

struct qn__rows {
    int64_t n, width;
};
static inline qn__rows rows_of(const qn__view &v)
{
    int64_t width = v.rank ? v.dim[v.rank - 1] : 1;
    return { width ? v.count / width : 0, width };
}

/* copies: how many rows a block keeps in shared memory at once (operands that are read twice) */
static inline int32_t rows_variant(const qn__args *a, int64_t width, size_t size, int copies)
{
    if (width <= QN_THREAD_ROW) return QN_ROWS_THREAD;
    bool aligned = width * (int64_t)size % 16 == 0;
    int64_t lane = aligned ? QN_VECTOR_PARTS * 16 / (int64_t)size : (int64_t)QN_SCALAR_PARTS;
    if (width <= 32 * lane) return aligned ? QN_ROWS_WARP : QN_ROWS_WARP_SCALAR;
    if (width * (int64_t)size * copies > a->gpu->shared_per_block - 1024)
        return aligned ? QN_ROWS_HELD : QN_ROWS_HELD_SCALAR;
    return aligned ? QN_ROWS_SHARED : QN_ROWS_SHARED_SCALAR;
}

/* Over the threads of a row: a warp (blockDim.x 32), or the block. part: 32 floats of shared memory. */
static __device__ __forceinline__ float row_sum(float v, float *part)
{
    v = block_sum(v, part);
    __syncthreads();
    return v;
}
/* part: 64 floats */
static __device__ __forceinline__ exact_sum row_sum(exact_sum v, float *part)
{
    v = block_sum(v, part);
    __syncthreads();
    return v;
}
static __device__ __forceinline__ float row_max(float v, float *part)
{
    v = block_max(v, part);
    __syncthreads();
    return v;
}
static __device__ __forceinline__ float max_nan(float a, float b) { return a != a || a > b ? a : b; }

/* N elements of row[at..] as one access; N is 1 or 16 bytes' worth. */
template <class T, int N> struct pack {
    T v[N];
    __device__ __forceinline__ void load(const T *p)
    {
        if constexpr (N == 1) {
            v[0] = *p;
        } else {
            vec16<T> w = load16(p);
#pragma unroll
            for (int i = 0; i < N; i++) v[i] = w.v[i];
        }
    }
    __device__ __forceinline__ void store(T *p) const
    {
        if constexpr (N == 1) {
            *p = v[0];
        } else {
            vec16<T> w;
#pragma unroll
            for (int i = 0; i < N; i++) w.v[i] = v[i];
            store16(p, w);
        }
    }
};

/* A row in the registers of a warp: part k of lane l holds the N elements from (32 k + l) N on. */
template <class T, int N, int PARTS> struct warp_row {
    pack<T, N> p[PARTS];
    static __device__ __forceinline__ int column(int k) { return (k * 32 + (int)threadIdx.x) * N; }
    __device__ __forceinline__ void load(const T *row, int width)
    {
#pragma unroll
        for (int k = 0; k < PARTS; k++)
            if (column(k) < width) p[k].load(row + column(k));
    }
    __device__ __forceinline__ void store(T *row, int width) const
    {
#pragma unroll
        for (int k = 0; k < PARTS; k++)
            if (column(k) < width) p[k].store(row + column(k));
    }
    /* f(element, its column) for every element that is there */
    template <class F> __device__ __forceinline__ void each(int width, F f)
    {
#pragma unroll
        for (int k = 0; k < PARTS; k++) {
            if (column(k) >= width) continue;
#pragma unroll
            for (int i = 0; i < N; i++) f(p[k].v[i], column(k) + i);
        }
    }
};

/* The same for a block whose threads keep a row in shared memory: copies it there, or walks over what it copied. */
template <class T, int N> static __device__ __forceinline__ void shared_row_in(T *kept, const T *row, int width)
{
#pragma unroll 4
    for (int at = threadIdx.x * N; at < width; at += QN_BLOCK_THREADS * N) {
        pack<T, N> p;
        p.load(row + at);
        p.store(kept + at);
    }
}
template <class T, int N, class F> static __device__ __forceinline__ void shared_row_each(const T *kept, int width, F f)
{
#pragma unroll 2
    for (int at = threadIdx.x * N; at < width; at += QN_BLOCK_THREADS * N) {
        pack<T, N> p;
        p.load(kept + at);
#pragma unroll
        for (int i = 0; i < N; i++) f(p.v[i], at + i);
    }
}
/* row[i] = f(kept[i], i) */
template <class T, int N, class F>
static __device__ __forceinline__ void shared_row_out(T *row, const T *kept, int width, F f)
{
#pragma unroll 2
    for (int at = threadIdx.x * N; at < width; at += QN_BLOCK_THREADS * N) {
        pack<T, N> p;
        p.load(kept + at);
#pragma unroll
        for (int i = 0; i < N; i++) p.v[i] = from_f32<T>(f(to_f32(p.v[i]), at + i));
        p.store(row + at);
    }
}

/* What a block of THREADS keeps of ROWS rows of one width: PARTS accesses of a thread in registers, then `room`
 * elements of each row in shared memory. What is left is read again; passes go to and fro, so that each begins with
 * what the one before had last, while a cache may have it. Where a column is kept does not change the order in which a
 * thread comes to it, so the bits of a sum do not depend on how much shared memory a device has. A thread sees no
 * other's elements; every thread of the block makes every pass. */
template <class T, int N, int THREADS, int PARTS, int ROWS> struct held_rows {
    static constexpr int stride = THREADS * N, held = PARTS * stride;
    const T *row[ROWS];
    T *kept; /* [ROWS][room]; room: a multiple of stride */
    int64_t width;
    int room;
    pack<T, N> p[PARTS][ROWS];

    static __device__ __forceinline__ int column(int k) { return (k * THREADS + (int)threadIdx.x) * N; }
    __device__ __forceinline__ int inside() const { return (int)(width < held + room ? width : held + room); }
    __device__ __forceinline__ void load(pack<T, N> (&v)[ROWS], int64_t at) const
    {
#pragma unroll
        for (int r = 0; r < ROWS; r++) v[r].load(row[r] + at);
    }
    /* f(the N elements of each row from a column on, the column), for the first time */
    template <class F> __device__ __forceinline__ void read(F f)
    {
        int end = inside();
#pragma unroll
        for (int k = 0; k < PARTS; k++)
            if (column(k) < end) load(p[k], column(k));
#pragma unroll
        for (int k = 0; k < PARTS; k++)
            if (column(k) < end) f(p[k], (int64_t)column(k));
        pack<T, N> v[ROWS];
#pragma unroll 2
        for (int at = column(PARTS); at < end; at += stride) {
            load(v, at);
#pragma unroll
            for (int r = 0; r < ROWS; r++) v[r].store(kept + r * room + at - held);
            f(v, (int64_t)at);
        }
#pragma unroll 1
        for (int64_t base = held + room; base < width; base += stride) rest(base, f);
    }
    /* What is not kept, `stride` columns from base on. All warps go on together: else one of them would read first what
     * another has read long ago. */
    template <class F> __device__ __forceinline__ void rest(int64_t base, F f)
    {
        int64_t at = base + (int)threadIdx.x * N;
        pack<T, N> v[ROWS];
        if (at < width) {
            load(v, at);
            f(v, at);
        }
        __syncthreads();
    }
    /* The last of first, first + stride, .. below end; less than first if there is none. */
    static __device__ __forceinline__ int64_t last(int64_t first, int64_t end)
    {
        return end > first ? first + (end - 1 - first) / stride * stride : first - stride;
    }
    __device__ __forceinline__ void recall(pack<T, N> (&v)[ROWS], int at) const
    {
#pragma unroll
        for (int r = 0; r < ROWS; r++) v[r].load(kept + r * room + at - held);
    }
    /* Once more, the last column first. */
    template <class F> __device__ __forceinline__ void back(F f)
    {
        int end = inside();
        pack<T, N> v[ROWS];
#pragma unroll 1
        for (int64_t base = last(held + room, width); base >= held + room; base -= stride) rest(base, f);
#pragma unroll 2
        for (int at = (int)last(column(PARTS), end); at >= column(PARTS); at -= stride) {
            recall(v, at);
            f(v, (int64_t)at);
        }
#pragma unroll
        for (int k = PARTS - 1; k >= 0; k--)
            if (column(k) < end) f(p[k], (int64_t)column(k));
    }
    /* Once more after that, the first column first. */
    template <class F> __device__ __forceinline__ void forth(F f)
    {
        int end = inside();
        pack<T, N> v[ROWS];
#pragma unroll
        for (int k = 0; k < PARTS; k++)
            if (column(k) < end) f(p[k], (int64_t)column(k));
#pragma unroll 2
        for (int at = column(PARTS); at < end; at += stride) {
            recall(v, at);
            f(v, (int64_t)at);
        }
#pragma unroll 1
        for (int64_t base = held + room; base < width; base += stride) rest(base, f);
    }
};
/* Elements of each of `rows` rows that shared memory takes, where `held` are in registers. */
static inline int held_room(const qn__args *a, int64_t width, size_t size, int rows, int stride, int held)
{
    int64_t left = width > held ? ceil_div(width - held, stride) * stride : 0;
    int64_t fits = (a->gpu->shared_per_block - 1024) / ((int64_t)size * rows) / stride * stride;
    return (int)(left < fits ? left : fits);
}

/* Running maximum and sum of e^(x - maximum) (Milakov and Gimelshein 2018, "Online normalizer calculation for
 * softmax"). An element equal to the maximum counts 1 also if both are -inf; a row of -inf only, or with +inf, becomes
 * NaN in finish, as the definition has it. */
struct online_sum {
    float max = -INFINITY, sum = 0.0f;
    __device__ __forceinline__ void add(float x)
    {
        float m = max_nan(max, x);
        sum = sum * (max == m ? 1.0f : expf(max - m)) + (x == m ? 1.0f : expf(x - m));
        max = m;
    }
    template <class T, int N> __device__ __forceinline__ void add(const pack<T, N> &p)
    {
        float m = max;
#pragma unroll
        for (int i = 0; i < N; i++) m = max_nan(m, to_f32(p.v[i]));
        sum *= max == m ? 1.0f : expf(max - m);
#pragma unroll
        for (int i = 0; i < N; i++) sum += to_f32(p.v[i]) == m ? 1.0f : expf(to_f32(p.v[i]) - m);
        max = m;
    }
    __device__ __forceinline__ void join_warp()
    {
        float m = warp_max(max);
        sum = warp_sum(sum == 0.0f ? 0.0f : sum * (max == m ? 1.0f : expf(max - m)));
        max = m;
        finish();
    }
    __device__ __forceinline__ void join_block(float *part)
    {
        float m = row_max(max, part);
        sum = row_sum(sum == 0.0f ? 0.0f : sum * (max == m ? 1.0f : expf(max - m)), part);
        max = m;
        finish();
    }
    __device__ __forceinline__ void finish()
    {
        if (max == INFINITY || max == -INFINITY) sum = NAN;
    }
};

/* ---- short rows through shared memory ------------------------------------------------------------------ */

/* Where row `row` of a block begins in shared memory: rows lie end to end, a word is left free after each
 * lcm(width, 32) elements. So the elements that a warp copies, and the same column of a warp's rows, lie in 32
 * different banks. */
static __device__ __forceinline__ int thread_gaps(int row, int width)
{
    int twos = width ? __ffs(width) - 1 : 0;
    return row >> (twos < 5 ? 5 - twos : 0);
}
static __device__ __forceinline__ int thread_row(int row, int width) { return row * width + thread_gaps(row, width); }
static __device__ __host__ __forceinline__ int thread_words(int width) { return QN_THREAD_ROWS * (width + 1); }

/* The block's rows [first, first + QN_THREAD_ROWS) into shared memory, as f32; and back. */
template <class T>
static __device__ __forceinline__ void rows_in(float *buffer, const T *x, int64_t first, int64_t rows, int width)
{
    int64_t left = rows - first;
    int n = (int)(left < QN_THREAD_ROWS ? left : QN_THREAD_ROWS) * width;
    const T *from = x + first * width;
    for (int i = threadIdx.x; i < n; i += QN_THREAD_ROWS) buffer[i + thread_gaps(i / width, width)] = to_f32(from[i]);
}
template <class T>
static __device__ __forceinline__ void rows_out(T *y, const float *buffer, int64_t first, int64_t rows, int width)
{
    int64_t left = rows - first;
    int n = (int)(left < QN_THREAD_ROWS ? left : QN_THREAD_ROWS) * width;
    T *to = y + first * width;
    for (int i = threadIdx.x; i < n; i += QN_THREAD_ROWS)
        to[i] = from_f32<T>(buffer[i + thread_gaps(i / width, width)]);
}
static inline size_t thread_bytes(int64_t width) { return sizeof(float) * (size_t)thread_words((int)width); }
#endif
