/* reduce.cu - sum, maximum and minimum over any axes.
 *
 * Compulsory bytes: the operand read once, the result written. Neighbouring axes of one kind merge; what is left is
 * read as x[o][a][k][r][d], y[o][k][d] = reduce over a and r (kernels/cpu/reduce.h). NHWC is a = N, r = H W, d = C.
 *
 *   thread    short rows: through shared memory, a thread for each (rows.h)
 *   warp      d = 1, up to 1024 elements for each result: a warp for each
 *   block     d = 1, more: blocks for each result; their results are joined in order by a second launch
 *   columns   d > 1: lanes along d, so that a warp reads whole sectors; warps along the reduced elements
 *   strided   whatever alternates more often: a thread for each result
 *
 * The partition depends on the shape alone, so the bits do not depend on the device. */
#include "rows.h"

namespace
{

enum { THREADS = 256, WARPS = 8, WARP_MOST = 1024, PART = 8192, COLUMN_PART = 512 };
enum { RED_THREAD, RED_WARP, RED_BLOCK, RED_COLUMNS, RED_STRIDED };

/* What a result grows from: begin, add an element, join two, over a warp, over a block (part: 64 floats), value. */
struct op_sum {
    using acc = exact_sum;
    static __device__ __forceinline__ void add(acc &a, float v) { a.add(v); }
    static __device__ __forceinline__ void join(acc &a, acc b) { a.join(b); }
    static __device__ __forceinline__ acc over_warp(acc a) { return warp_sum(a); }
    static __device__ __forceinline__ acc over_block(acc a, float *part) { return block_sum(a, part); }
    static __device__ __forceinline__ float value(acc a) { return a.value(); }
};
struct largest {
    float v = -INFINITY;
};
struct op_max {
    using acc = largest;
    static __device__ __forceinline__ void add(acc &a, float v) { a.v = max_nan(a.v, v); }
    static __device__ __forceinline__ void join(acc &a, acc b) { a.v = max_nan(a.v, b.v); }
    static __device__ __forceinline__ acc over_warp(acc a) { return { warp_max(a.v) }; }
    static __device__ __forceinline__ acc over_block(acc a, float *part) { return { block_max(a.v, part) }; }
    static __device__ __forceinline__ float value(acc a) { return a.v; }
};
struct smallest {
    float v = INFINITY;
};
struct op_min {
    using acc = smallest;
    static __device__ __forceinline__ void add(acc &a, float v) { a.v = a.v != a.v || a.v < v ? a.v : v; }
    static __device__ __forceinline__ void join(acc &a, acc b) { add(a, b.v); }
    static __device__ __forceinline__ acc over_warp(acc a) { return { -warp_max(-a.v) }; }
    static __device__ __forceinline__ acc over_block(acc a, float *part) { return { -block_max(-a.v, part) }; }
    static __device__ __forceinline__ float value(acc a) { return a.v; }
};

/* Extents, and how many blocks share one result. */
struct extents {
    int64_t o, a, k, r, d;
    int32_t parts;
    bool fits;
};

/* Where a result goes: y, or the partial results [parts][count]. */
template <class T, class Op> struct sink {
    T *y;
    typename Op::acc *partial;
    int64_t count;
    __device__ __forceinline__ void put(int part, int64_t at, typename Op::acc a) const
    {
        if (partial)
            partial[part * count + at] = a;
        else
            y[at] = from_f32<T>(Op::value(a));
    }
};

/* Reduced element i (of a r) of result (o, k), d = 1. */
__device__ __forceinline__ int64_t row_offset(const extents &e, int64_t o, int64_t k, unsigned i)
{
    unsigned r = (unsigned)e.r, a = i / r;
    return ((o * e.a + a) * e.k + k) * e.r + (i - a * r);
}

/* This thread's share of elements [begin, end) of a result, N at a time. */
template <class T, int N, class Op>
__device__ __forceinline__ typename Op::acc walk(const T *x, const extents &e, int64_t result, unsigned begin,
                                                 unsigned end, unsigned thread, unsigned threads)
{
    int64_t o = result / e.k, k = result % e.k;
    typename Op::acc acc;
#pragma unroll 4
    for (unsigned i = begin + thread * N; i < end; i += threads * N) {
        pack<T, N> p;
        p.load(x + row_offset(e, o, k, i));
#pragma unroll
        for (int j = 0; j < N; j++) Op::add(acc, to_f32(p.v[j]));
    }
    return acc;
}

template <class T, int N, class Op>
__global__ void __launch_bounds__(THREADS) reduce_warp(T *y, const T *x, extents e, int64_t results)
{
    int64_t result = (int64_t)blockIdx.x * WARPS + threadIdx.y;
    if (result >= results) return;
    typename Op::acc v = Op::over_warp(walk<T, N, Op>(x, e, result, 0, (unsigned)(e.a * e.r), threadIdx.x, 32));
    if (threadIdx.x == 0) y[result] = from_f32<T>(Op::value(v));
}

template <class T, int N, class Op>
__global__ void __launch_bounds__(THREADS) reduce_block(sink<T, Op> out, const T *x, extents e)
{
    CU_SHARED(float, part, [64]);
    int64_t result = blockIdx.x / e.parts;
    int which = (int)(blockIdx.x % e.parts);
    unsigned begin = (unsigned)which * PART, end = (unsigned)(e.a * e.r);
    if (which < e.parts - 1) end = begin + PART;
    typename Op::acc v = Op::over_block(walk<T, N, Op>(x, e, result, begin, end, threadIdx.x, THREADS), part);
    if (threadIdx.x == 0) out.put(which, result, v);
}

template <class T, class Op>
__global__ void __launch_bounds__(QN_THREAD_ROWS) reduce_thread(T *y, const T *x, int64_t rows, int width)
{
    CU_SHARED_DYN(float, buffer);
    int64_t first = (int64_t)blockIdx.x * QN_THREAD_ROWS, row = first + threadIdx.x;
    rows_in(buffer, x, first, rows, width);
    __syncthreads();
    if (row >= rows) return;
    const float *from = buffer + thread_row(threadIdx.x, width);
    typename Op::acc acc;
    for (int i = 0; i < width; i++) Op::add(acc, from[i]);
    y[row] = from_f32<T>(Op::value(acc));
}

/* blockDim (32, 8); grid: groups of 32 N columns, parts, o k. */
template <class T, int N, class Op>
__global__ void __launch_bounds__(THREADS) reduce_columns(sink<T, Op> out, const T *x, extents e)
{
    CU_SHARED(float, shared, [WARPS * 32 * N * (sizeof(typename Op::acc) / sizeof(float))]);
    typename Op::acc *others = reinterpret_cast<typename Op::acc *>(shared);
    int64_t column = ((int64_t)blockIdx.x * 32 + threadIdx.x) * N, group = blockIdx.z;
    int64_t o = group / e.k, k = group % e.k;
    unsigned begin = blockIdx.y * COLUMN_PART, end = (unsigned)(e.a * e.r), r = (unsigned)e.r;
    if ((int)blockIdx.y < e.parts - 1) end = begin + COLUMN_PART;
    typename Op::acc acc[N];
    if (column < e.d) {
#pragma unroll 4
        for (unsigned i = begin + threadIdx.y; i < end; i += WARPS) {
            unsigned a = i / r;
            pack<T, N> p;
            p.load(x + (((o * e.a + a) * e.k + k) * e.r + (i - a * r)) * e.d + column);
#pragma unroll
            for (int j = 0; j < N; j++) Op::add(acc[j], to_f32(p.v[j]));
        }
    }
#pragma unroll
    for (int j = 0; j < N; j++) others[(threadIdx.y * N + j) * 32 + threadIdx.x] = acc[j];
    __syncthreads();
    if (threadIdx.y != 0 || column >= e.d) return;
#pragma unroll
    for (int j = 0; j < N; j++) {
        typename Op::acc v = acc[j];
        for (int w = 1; w < WARPS; w++) Op::join(v, others[(w * N + j) * 32 + threadIdx.x]);
        out.put((int)blockIdx.y, group * e.d + column + j, v);
    }
}

template <class T, class Op>
__global__ void __launch_bounds__(THREADS) reduce_join(T *y, const typename Op::acc *partial, int64_t count, int parts)
{
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= count) return;
    typename Op::acc acc = partial[i];
#pragma unroll 4
    for (int p = 1; p < parts; p++) Op::join(acc, partial[p * count + i]);
    y[i] = from_f32<T>(Op::value(acc));
}

/* Axes from the innermost out, kept and reduced ones apart. */
struct strides {
    int32_t n_kept, n_reduced;
    int64_t kept_dim[QN_MAX_DIMS], kept_step[QN_MAX_DIMS], reduced_dim[QN_MAX_DIMS], reduced_step[QN_MAX_DIMS];
    int64_t reduced;
};
__device__ __forceinline__ int64_t offset_of(int64_t index, int n, const int64_t *dim, const int64_t *step)
{
    int64_t at = 0;
#pragma unroll
    for (int i = 0; i < QN_MAX_DIMS; i++) {
        if (i >= n) break;
        at += index % dim[i] * step[i];
        index /= dim[i];
    }
    return at;
}
template <class T, class Op>
__global__ void __launch_bounds__(THREADS) reduce_strided(T *y, const T *x, const strides s, int64_t count)
{
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= count) return;
    const T *from = x + offset_of(i, s.n_kept, s.kept_dim, s.kept_step);
    typename Op::acc acc;
    for (int64_t j = 0; j < s.reduced; j++)
        Op::add(acc, to_f32(from[offset_of(j, s.n_reduced, s.reduced_dim, s.reduced_step)]));
    y[i] = from_f32<T>(Op::value(acc));
}

/* ---- host: geometry ------------------------------------------------------------------------------------------ */

uint32_t axes_of(const qn__args *a) { return static_cast<const qn__reduce_attr *>(a->attr)->axes; }

/* The axes in physical order, each kept or reduced, neighbours of one kind merged. */
int physical_axes(const qn__view &x, uint32_t axes, int64_t *size, bool *reduced)
{
    int n = 0;
    for (int i = 0; i <= x.rank; i++) {
        bool tail = i == x.rank;
        if (tail && x.block == QN_PLAIN) break;
        int64_t extent = tail ? x.block : i == 1 && x.rank == 4 ? x.dim[1] / x.block : x.dim[i];
        bool flag = axes >> (tail ? 1 : i) & 1;
        if (extent == 1) continue;
        if (n > 0 && reduced[n - 1] == flag) {
            size[n - 1] *= extent;
        } else {
            size[n] = extent;
            reduced[n++] = flag;
        }
    }
    return n;
}
int64_t take(const int64_t *size, const bool *reduced, int *n, bool wanted)
{
    return *n > 0 && reduced[*n - 1] == wanted ? size[--*n] : 1;
}

extents extents_of(const qn__args *args)
{
    int64_t size[QN_MAX_DIMS + 1];
    bool reduced[QN_MAX_DIMS + 1];
    int n = physical_axes(args->x[0], axes_of(args), size, reduced);
    extents e = {};
    e.d = take(size, reduced, &n, false);
    e.r = take(size, reduced, &n, true);
    e.k = take(size, reduced, &n, false);
    e.a = take(size, reduced, &n, true);
    e.o = take(size, reduced, &n, false);
    e.fits = n == 0 && e.a * e.r < INT32_MAX && e.o * e.k < 65536;
    int64_t part = e.d == 1 ? PART : COLUMN_PART, parts = e.a * e.r / part;
    e.parts = (int32_t)(parts < 1 ? 1 : parts);
    if (e.d == 1) e.fits = n == 0 && e.a * e.r < INT32_MAX;
    if (e.d > 1 && e.parts > 65535) e.fits = false;
    return e;
}

/* Kept axes of a blocked operand must leave in the order of the plain result: C/b then b, nothing between. */
bool order_kept(const qn__view &x, uint32_t axes)
{
    bool channels = !(axes >> 1 & 1), space = (axes >> 2 & 3) == 3;
    return x.block == QN_PLAIN || !channels || space;
}

strides strides_of(const qn__args *a)
{
    const qn__view &x = a->x[0];
    strides s = {};
    s.reduced = 1;
    int64_t step = 1;
    for (int i = x.rank - 1; i >= 0; i--) {
        if (axes_of(a) >> i & 1) {
            s.reduced_dim[s.n_reduced] = x.dim[i];
            s.reduced_step[s.n_reduced++] = step;
            s.reduced *= x.dim[i];
        } else {
            s.kept_dim[s.n_kept] = x.dim[i];
            s.kept_step[s.n_kept++] = step;
        }
        step *= x.dim[i];
    }
    return s;
}

qn_status pick(const qn__args *a, qn__choice *c)
{
    if (!is_cuda_float(a->y.dtype) || a->x[0].dtype != a->y.dtype || !order_kept(a->x[0], axes_of(a))) return QN_EUSAGE;
    extents e = extents_of(a);
    int64_t n = e.a * e.r;
    if (!e.fits && a->x[0].block != QN_PLAIN) return QN_EUSAGE;
    c->variant = !e.fits                          ? RED_STRIDED
                 : e.d > 1                        ? RED_COLUMNS
                 : n <= QN_THREAD_ROW && e.a == 1 ? RED_THREAD
                 : n <= WARP_MOST                 ? RED_WARP
                                                  : RED_BLOCK;
    if ((c->variant == RED_COLUMNS || c->variant == RED_BLOCK) && e.parts > 1)
        c->workspace = sizeof(exact_sum) * (size_t)e.parts * (size_t)a->y.count;
    return QN_OK;
}

/* ---- host: launches -------------------------------------------------------------------------------------------- */

template <class T, int N, class Op> cudaError_t launch_as(const qn__step *s, const extents &e)
{
    const qn__args &a = s->args;
    cudaStream_t stream = s->queue->stream;
    T *y = (T *)a.y.data;
    const T *x = (const T *)a.x[0].data;
    sink<T, Op> out = { y, e.parts > 1 ? (typename Op::acc *)s->workspace : NULL, a.y.count };
    cudaError_t answer;
    if (s->choice.variant == RED_WARP)
        return LAUNCH((reduce_warp<T, N, Op>), ((unsigned)ceil_div(a.y.count, WARPS)), (32, WARPS), 0, stream, y, x, e,
                      a.y.count);
    if (s->choice.variant == RED_BLOCK)
        answer = LAUNCH((reduce_block<T, N, Op>), ((unsigned)(a.y.count * e.parts)), (THREADS), 0, stream, out, x, e);
    else
        answer = LAUNCH((reduce_columns<T, N, Op>),
                        ((unsigned)ceil_div(e.d, 32 * N), (unsigned)e.parts, (unsigned)(e.o * e.k)), (32, WARPS), 0,
                        stream, out, x, e);
    if (answer != cudaSuccess || e.parts == 1) return answer;
    return LAUNCH((reduce_join<T, Op>), ((unsigned)ceil_div(a.y.count, THREADS)), (THREADS), 0, stream, y,
                  (const typename Op::acc *)out.partial, a.y.count, e.parts);
}

template <class T, class Op> cudaError_t launch_reduce(const qn__step *s)
{
    const qn__args &a = s->args;
    extents e = extents_of(&a);
    T *y = (T *)a.y.data;
    const T *x = (const T *)a.x[0].data;
    if (s->choice.variant == RED_STRIDED)
        return LAUNCH((reduce_strided<T, Op>), ((unsigned)ceil_div(a.y.count, THREADS)), (THREADS), 0, s->queue->stream,
                      y, x, strides_of(&a), a.y.count);
    if (s->choice.variant == RED_THREAD)
        return LAUNCH((reduce_thread<T, Op>), ((unsigned)ceil_div(e.o * e.k, QN_THREAD_ROWS)), (QN_THREAD_ROWS),
                      thread_bytes(e.r), s->queue->stream, y, x, e.o * e.k, (int)e.r);
    int64_t line = e.d > 1 ? e.d : e.r;
    return line % vec16<T>::n == 0 ? launch_as<T, vec16<T>::n, Op>(s, e) : launch_as<T, 1, Op>(s, e);
}

template <class Op> qn_status launch(const qn__step *s, qn_error *err)
{
    if (!s->args.y.count) return QN_OK;
    return qn__cuda_check(with_float(s->args.y.dtype, [&](auto t) { return launch_reduce<decltype(t), Op>(s); }),
                          "reduce", s, err);
}

const char *const variants[] = { "thread", "warp", "block", "columns", "strided", NULL };

} // namespace

KERNEL(sum) = { .variants = variants, .pick = pick, .launch = launch<op_sum> };
KERNEL(reduce_max) = { .variants = variants, .pick = pick, .launch = launch<op_max> };
KERNEL(reduce_min) = { .variants = variants, .pick = pick, .launch = launch<op_min> };
