/* channels.h - two sums for each channel of [n][cb][s][b], the physical order of every layout (kernels/cpu/cpu.h), on
 * two levels, and walks over elements with what belongs to their channel in registers.
 *
 *   columns   b > 1: lanes along the channels, N of them in 16 bytes, so that a warp moves whole sectors; the other
 *             threads of the block along the rows (n, s). A thread keeps its channels.
 *   planes    b = 1: a channel's elements lie together, s at a time
 *
 * Sums are exact_sum: within a thread, then over the block by a tree, then over parts of the rows in order. The parts
 * depend on the shape alone, so the bits do not depend on the device. A part is long enough that writing and reading
 * its sums adds a twentieth to the bytes at most. */
#ifndef QN_KERNELS_CUDA_CHANNELS_H
#define QN_KERNELS_CUDA_CHANNELS_H
#include "rows.h"

enum { QN_CHANNEL_THREADS = 256, QN_COLUMN_ROWS = 512, QN_PLANE_PART = 16384, QN_CHANNEL_PARTS = 512 };

struct qn__blocked {
    int64_t n, cb, s, b;
};
static inline qn__blocked blocked_of(const qn__view &v)
{
    if (v.rank == 2) return { v.dim[0], 1, 1, v.dim[1] };
    return { v.dim[0], v.dim[1] / v.block, v.dim[2] * v.dim[3], v.block };
}

/* How columns lie on threads: `lanes` threads of N channels along b, `rows` along (n, s); `tiles` blocks along b. */
struct qn__columns {
    qn__blocked g;
    int lanes, tiles, parts;
    int64_t rows, part; /* rows: n s; part: how many a block takes */
};
/* Parts of about `size` of n, at least one. */
static inline int parts_of(int64_t n, int64_t size)
{
    int64_t parts = ceil_div(n, size), most = QN_CHANNEL_PARTS;
    return (int)(parts < 1 ? 1 : parts < most ? parts : most);
}
static inline qn__columns columns_of(const qn__blocked &g, int n)
{
    qn__columns c = { .g = g, .lanes = 1, .rows = g.n * g.s };
    int64_t vectors = ceil_div(g.b, n);
    while (c.lanes < 32 && c.lanes < vectors) c.lanes *= 2;
    c.tiles = (int)ceil_div(vectors, c.lanes);
    c.parts = parts_of(c.rows, QN_COLUMN_ROWS);
    c.part = ceil_div(c.rows, c.parts);
    if (c.part) c.parts = (int)ceil_div(c.rows, c.part);
    return c;
}
/* Where row i of channel block cb begins. */
static __device__ __forceinline__ int64_t row_start(const qn__blocked &g, int64_t cb, int64_t i)
{
    if (g.cb == 1) return i * g.b;
    uint32_t s = (uint32_t)g.s, n = (uint32_t)i / s;
    return (((int64_t)n * g.cb + cb) * g.s + ((uint32_t)i - n * s)) * g.b;
}

struct exact_pair {
    exact_sum a, b;
    __device__ __forceinline__ void join(const exact_pair &o)
    {
        a.join(o.a);
        b.join(o.b);
    }
};
/* The pairs of a block in shared memory, each of the four floats in a row of its own, so that a warp uses all banks. */
struct exact_pairs {
    float (*v)[QN_CHANNEL_THREADS];
    __device__ __forceinline__ exact_pair get(int pair, int thread) const
    {
        exact_pair p;
        p.a.hi = v[4 * pair][thread];
        p.a.lo = v[4 * pair + 1][thread];
        p.b.hi = v[4 * pair + 2][thread];
        p.b.lo = v[4 * pair + 3][thread];
        return p;
    }
    __device__ __forceinline__ void set(int pair, int thread, const exact_pair &p) const
    {
        v[4 * pair][thread] = p.a.hi;
        v[4 * pair + 1][thread] = p.a.lo;
        v[4 * pair + 2][thread] = p.b.hi;
        v[4 * pair + 3][thread] = p.b.lo;
    }
};

/* What belongs to N neighbouring channels, the first a multiple of N: 16 bytes at a time. */
template <int N, class T> static __device__ __forceinline__ void by_channels(float (&to)[N], const T *from)
{
    constexpr int step = N < vec16<T>::n ? 1 : vec16<T>::n;
#pragma unroll
    for (int i = 0; i < N; i += step) {
        pack<T, step> p;
        p.load(from + i);
#pragma unroll
        for (int j = 0; j < step; j++) to[i + j] = to_f32(p.v[j]);
    }
}

/* Op: what a kernel sums.
 *   typename Op::type                      of the elements
 *   template <N> of(channel (&)[N], c)     what belongs to channels c on, N or one of them
 *   template <N> struct Op::packs          the packs of an access: load(op, at); add(op, pair, channel, j)
 *   finish(c, pair)                        writes the results of channel c                                   */

template <class Op, int N>
__global__ void __launch_bounds__(QN_CHANNEL_THREADS, 1) sum_columns(Op op, qn__columns k, exact_pair *partial)
{
    constexpr int lines = 4 * N;
    CU_SHARED(float, memory, [lines][QN_CHANNEL_THREADS]);
    exact_pairs others = { memory };
    int tx = (int)threadIdx.x % k.lanes, ty = (int)threadIdx.x / k.lanes, step = QN_CHANNEL_THREADS / k.lanes;
    int64_t cb = blockIdx.x / k.tiles, first = (int64_t)(blockIdx.x % k.tiles * k.lanes + tx) * N;
    int64_t c = cb * k.g.b + first, begin = (int64_t)blockIdx.y * k.part, end = begin + k.part;
    if (end > k.rows) end = k.rows;
    exact_pair sum[N];
    if (first < k.g.b) {
        typename Op::channel channel[N];
        op.of(channel, c);
#pragma unroll(N > 1 ? 2 : 4)
        for (int64_t i = begin + ty; i < end; i += step) {
            typename Op::template packs<N> p;
            p.load(op, row_start(k.g, cb, i) + first);
#pragma unroll
            for (int j = 0; j < N; j++) p.add(sum[j], channel[j], j);
        }
    }
#pragma unroll
    for (int j = 0; j < N; j++) others.set(j, (int)threadIdx.x, sum[j]);
    for (int h = step / 2; h; h /= 2) {
        __syncthreads();
        if (ty >= h) continue;
#pragma unroll
        for (int j = 0; j < N; j++) {
            sum[j].join(others.get(j, (int)threadIdx.x + h * k.lanes));
            if (h > 1) others.set(j, (int)threadIdx.x, sum[j]);
        }
    }
    if (ty != 0 || first >= k.g.b) return;
#pragma unroll
    for (int j = 0; j < N; j++) {
        if (partial)
            partial[(int64_t)blockIdx.y * k.g.cb * k.g.b + c + j] = sum[j];
        else
            op.finish(c + j, sum[j]);
    }
}

/* A block for each channel and part; N elements along s at a time. */
template <class Op, int N>
__global__ void __launch_bounds__(QN_CHANNEL_THREADS)
    sum_planes(Op op, qn__blocked g, int64_t part_size, exact_pair *partial)
{
    CU_SHARED(float, part, [128]);
    int64_t c = blockIdx.x;
    uint32_t s = (uint32_t)g.s, end = (uint32_t)(g.n * g.s), begin = (uint32_t)((int64_t)blockIdx.y * part_size);
    if (blockIdx.y + 1 < gridDim.y) end = begin + (uint32_t)part_size;
    typename Op::channel channel[1];
    op.of(channel, c);
    exact_pair sum;
#pragma unroll 4
    for (uint32_t i = begin + threadIdx.x * N; i < end; i += QN_CHANNEL_THREADS * N) {
        uint32_t n = i / s;
        typename Op::template packs<N> p;
        p.load(op, ((int64_t)n * g.cb + c) * s + (i - n * s));
#pragma unroll
        for (int j = 0; j < N; j++) p.add(sum, channel[0], j);
    }
    sum.a = block_sum(sum.a, part);
    sum.b = block_sum(sum.b, part + 64);
    if (threadIdx.x != 0) return;
    if (partial)
        partial[(int64_t)blockIdx.y * g.cb + c] = sum;
    else
        op.finish(c, sum);
}

template <class Op>
__global__ void __launch_bounds__(QN_CHANNEL_THREADS)
    join_sums(Op op, const exact_pair *partial, int64_t channels, int parts)
{
    int64_t c = (int64_t)blockIdx.x * QN_CHANNEL_THREADS + threadIdx.x;
    if (c >= channels) return;
    exact_pair v = partial[c];
#pragma unroll 4
    for (int p = 1; p < parts; p++) v.join(partial[p * channels + c]);
    op.finish(c, v);
}

/* ---- host ------------------------------------------------------------------------------------------------ */

enum { QN_CHANNEL_COLUMNS, QN_CHANNEL_PLANES };
#define QN_CHANNEL_VARIANTS "columns", "planes", NULL

static inline int plane_parts(const qn__blocked &g) { return parts_of(g.n * g.s, QN_PLANE_PART); }
/* Elements of a part: a multiple of 8, so that no access of 16 bytes is cut. */
static inline int64_t plane_part(const qn__blocked &g, int parts) { return (ceil_div(g.n * g.s, parts) + 7) / 8 * 8; }
static inline bool channels_fit(const qn__view &v)
{
    qn__blocked g = blocked_of(v);
    return g.n * g.s < INT32_MAX - QN_PLANE_PART && v.dim[1] < INT32_MAX;
}
static inline qn_status pick_channels(const qn__view &x, qn__choice *c)
{
    if (!channels_fit(x)) return QN_EUSAGE;
    c->variant = blocked_of(x).b > 1 ? QN_CHANNEL_COLUMNS : QN_CHANNEL_PLANES;
    return QN_OK;
}
/* The variant, and workspace for the sums of the parts. */
static inline qn_status pick_channel_sums(const qn__view &x, qn__choice *c)
{
    if (pick_channels(x, c)) return QN_EUSAGE;
    qn__blocked g = blocked_of(x);
    int parts = c->variant == QN_CHANNEL_COLUMNS ? columns_of(g, 1).parts : plane_parts(g);
    c->workspace = parts > 1 ? sizeof(exact_pair) * (size_t)parts * (size_t)x.dim[1] : 0;
    return QN_OK;
}

template <class Op, int N> static inline cudaError_t sum_channels_as(const qn__step *s, const Op &op, const qn__view &x)
{
    qn__blocked g = blocked_of(x);
    int64_t channels = g.cb * g.b;
    exact_pair *partial = NULL;
    cudaError_t answer;
    int parts;
    if (s->choice.variant == QN_CHANNEL_COLUMNS) {
        qn__columns k = columns_of(g, N);
        parts = k.parts;
        if (parts > 1) partial = (exact_pair *)s->workspace;
        answer = LAUNCH((sum_columns<Op, N>), ((unsigned)(g.cb * k.tiles), (unsigned)parts), (QN_CHANNEL_THREADS), 0,
                        s->queue->stream, op, k, partial);
    } else {
        int64_t part = plane_part(g, plane_parts(g));
        parts = part ? (int)ceil_div(g.n * g.s, part) : 1;
        if (parts > 1) partial = (exact_pair *)s->workspace;
        answer = LAUNCH((sum_planes<Op, N>), ((unsigned)g.cb, (unsigned)parts), (QN_CHANNEL_THREADS), 0,
                        s->queue->stream, op, g, part, partial);
    }
    if (answer != cudaSuccess || !partial) return answer;
    return LAUNCH((join_sums<Op>), ((unsigned)ceil_div(channels, QN_CHANNEL_THREADS)), (QN_CHANNEL_THREADS), 0,
                  s->queue->stream, op, (const exact_pair *)partial, channels, parts);
}

/* Sums over every channel of x. Nothing is launched for no channels; no elements give sums of 0. */
template <class Op> static inline cudaError_t sum_channels(const qn__step *s, const Op &op, const qn__view &x)
{
    using T = typename Op::type;
    qn__blocked g = blocked_of(x);
    if (x.dim[1] == 0) return cudaSuccess;
    bool aligned = (s->choice.variant == QN_CHANNEL_COLUMNS ? g.b : g.s) * (int64_t)sizeof(T) % 16 == 0;
    return aligned ? sum_channels_as<Op, vec16<T>::n>(s, op, x) : sum_channels_as<Op, 1>(s, op, x);
}

/* ---- elements with their channel ---------------------------------------------------------------------------- */

/* Map: typename type; channel, of as above; packs<N>: load(map, at), then store(map, at, channels): the results of
 * an access. As many rows go through a thread as make the reading of what belongs to its channels cheap. */

template <class Map, int N> __global__ void __launch_bounds__(QN_CHANNEL_THREADS) map_columns(Map map, qn__columns k)
{
    int tx = (int)threadIdx.x % k.lanes, ty = (int)threadIdx.x / k.lanes, step = QN_CHANNEL_THREADS / k.lanes;
    int64_t cb = blockIdx.x / k.tiles, first = (int64_t)(blockIdx.x % k.tiles * k.lanes + tx) * N;
    int64_t begin = (int64_t)blockIdx.y * k.part, end = begin + k.part;
    if (first >= k.g.b) return;
    if (end > k.rows) end = k.rows;
    typename Map::channel channel[N];
    map.of(channel, cb * k.g.b + first);
#pragma unroll 1
    for (int64_t i = begin + ty; i < end; i += step) {
        typename Map::template packs<N> p;
        int64_t at = row_start(k.g, cb, i) + first;
        p.load(map, at);
#pragma unroll
        for (int j = 0; j < N; j++) p.apply(map, channel[j], j);
        p.store(map, at);
    }
}

/* A warp for each (n, c). */
template <class Map, int N> __global__ void __launch_bounds__(QN_CHANNEL_THREADS) map_planes(Map map, qn__blocked g)
{
    int64_t planes = g.n * g.cb, step = (int64_t)gridDim.x * blockDim.y;
    for (int64_t plane = (int64_t)blockIdx.x * blockDim.y + threadIdx.y; plane < planes; plane += step) {
        typename Map::channel channel[1];
        map.of(channel, plane % g.cb);
#pragma unroll 2
        for (int64_t i = threadIdx.x * N; i < g.s; i += 32 * N) {
            typename Map::template packs<N> p;
            p.load(map, plane * g.s + i);
#pragma unroll
            for (int j = 0; j < N; j++) p.apply(map, channel[0], j);
            p.store(map, plane * g.s + i);
        }
    }
}

template <class Map, int N>
static inline cudaError_t map_channels_as(const qn__step *s, const Map &map, const qn__view &x)
{
    qn__blocked g = blocked_of(x);
    if (s->choice.variant == QN_CHANNEL_COLUMNS) {
        qn__columns k = columns_of(g, N);
        return LAUNCH((map_columns<Map, N>), ((unsigned)(g.cb * k.tiles), (unsigned)k.parts), (QN_CHANNEL_THREADS), 0,
                      s->queue->stream, map, k);
    }
    return LAUNCH((map_planes<Map, N>), (grid_for(&s->args, ceil_div(g.n * g.cb, 8), QN_CHANNEL_THREADS, 8)), (32, 8),
                  0, s->queue->stream, map, g);
}
template <class Map> static inline cudaError_t map_channels(const qn__step *s, const Map &map, const qn__view &x)
{
    using T = typename Map::type;
    qn__blocked g = blocked_of(x);
    if (x.count == 0) return cudaSuccess;
    bool aligned = (s->choice.variant == QN_CHANNEL_COLUMNS ? g.b : g.s) * (int64_t)sizeof(T) % 16 == 0;
    return aligned ? map_channels_as<Map, vec16<T>::n>(s, map, x) : map_channels_as<Map, 1>(s, map, x);
}
#endif
