/* quantize.h - what quantize_int8 and dequantize_int8 share: [outer][n][inner] with a scale for each of n.
 *
 * A tensor is walked as one row of groups, each as many elements as fill 16 bytes of the floating-point side, so that
 * side moves in whole sectors and the other in 4 or 8 bytes a thread, neighbours neighbouring bytes, whatever the axis.
 *
 *   runs      one scale for a group: one for all, or inner is a multiple of the group
 *   columns   a scale for each element of a row: a thread goes on by whole rows, as many as fill whole groups, so that
 *             it stays in its columns and keeps their scales. A block reads them side by side and hands them out
 *             through shared memory
 *   elements  any other: a scale for each element of a group, found by one division and counting on, out of the
 *             cache */
#ifndef QN_KERNELS_CUDA_QUANTIZE_H
#define QN_KERNELS_CUDA_QUANTIZE_H
#include "gpu.h"
#include "cuda.h"
#include "dispatch.h"
#include "index.h"

enum { QUANTIZE_RUNS, QUANTIZE_COLUMNS, QUANTIZE_ELEMENTS };
enum { QUANTIZE_THREADS = 256, QUANTIZE_ROWS = 8 }; /* rows of a thread that keeps scales, where there are enough */
#define QUANTIZE_VARIANTS "runs", "columns", "elements", NULL

struct scaled {
    const float *scale;
    struct divisor inner, n;
    int64_t count, step; /* step: groups from one of a thread to its next; with `columns` whole rows */
    int32_t narrow;      /* every index is below 2^31 */
};

static inline struct scaled scaled_of(const struct qn__args *a)
{
    int axis = ((const struct qn__quantize_attr *)a->attr)->axis;
    int64_t inner = axis < 0 ? a->y.count : 1, n = axis < 0 ? 1 : a->y.dim[axis];
    for (int i = axis + 1; axis >= 0 && i < a->y.rank; i++) inner *= a->y.dim[i];
    struct scaled s = {};
    s.scale = (const float *)a->x[1].data;
    s.inner = divisor_of(inner);
    s.n = divisor_of(n);
    s.count = a->y.count;
    s.narrow = a->y.count < INT32_MAX - 8 * QUANTIZE_THREADS; /* the last block looks beyond the end */
    return s;
}

/* dtype: of the floating-point side */
static inline qn_status pick_scaled(const struct qn__args *a, qn_dtype dtype, struct qn__choice *c)
{
    int axis = ((const struct qn__quantize_attr *)a->attr)->axis;
    if (!is_cuda_float(dtype)) return QN_EUSAGE;
    int64_t inner = 1, elements = 16 / (int64_t)qn_dtype_size(dtype); /* in a group */
    for (int i = axis + 1; i < a->y.rank; i++) inner *= a->y.dim[i];
    if (axis < 0 || inner % elements == 0)
        c->variant = QUANTIZE_RUNS;
    else
        c->variant = inner == 1 ? QUANTIZE_COLUMNS : QUANTIZE_ELEMENTS;
    return QN_OK;
}

/* Blocks for groups of `elements`; sets s->step. */
static inline unsigned scaled_grid(const struct qn__args *a, int32_t variant, int64_t elements, struct scaled *s)
{
    int64_t blocks = ceil_div(s->count, elements * QUANTIZE_THREADS),
            row = s->n.by; /* groups of `elements` whole rows */
    for (int64_t rows = elements; row % 2 == 0 && rows > 1; rows /= 2) row /= 2;
    unsigned grid = grid_for(a, blocks, QUANTIZE_THREADS, 4);
    s->step = (int64_t)grid * QUANTIZE_THREADS;
    if (variant != QUANTIZE_COLUMNS) return grid;
    int64_t least = ceil_div(row, QUANTIZE_THREADS), few = a->gpu->multiprocessors;
    if (least < few) least = few;
    if (least > blocks) least = blocks;
    grid = grid_for(a, ceil_div(blocks, QUANTIZE_ROWS), QUANTIZE_THREADS, 4);
    if (grid < least) grid = (unsigned)least;
    s->step = (int64_t)grid * QUANTIZE_THREADS / row * row;
    if (s->step == 0) s->step = row; /* fewer groups than that: one of each thread */
    return grid;
}

/* Calls f(t, v), t a value of the floating-point side's storage type and v the step's variant. */
template <class F>
static inline qn_status launch_scaled(const struct qn__step *s, qn_dtype dtype, const char *kernel, qn_error *err, F f)
{
    if (!s->args.y.count) return QN_OK;
    cudaError_t answer = with_float(dtype, [&](auto t) {
        if (s->choice.variant == QUANTIZE_RUNS) return f(t, number<QUANTIZE_RUNS>());
        if (s->choice.variant == QUANTIZE_COLUMNS) return f(t, number<QUANTIZE_COLUMNS>());
        return f(t, number<QUANTIZE_ELEMENTS>());
    });
    return qn__cuda_check(answer, kernel, s, err);
}

/* The place of an element's scale, and how far into its run the element is. */
struct scale_place {
    int64_t scale, into;
};
static __device__ __forceinline__ struct scale_place place_of(const struct scaled &s, int64_t element)
{
    int64_t run = quotient(s.inner, element, s.narrow);
    struct scale_place p = { run - quotient(s.n, run, s.narrow) * s.n.by, element - run * s.inner.by };
    return p;
}

/* The scales of N elements from `element` on. */
template <int N, int VARIANT>
static __device__ __forceinline__ void scales_of(float (&v)[N], const struct scaled &s, int64_t element)
{
    struct scale_place p = place_of(s, element);
#pragma unroll
    for (int k = 0; k < N; k++) {
        v[k] = VARIANT == QUANTIZE_RUNS && k ? v[0] : s.scale[p.scale];
        if (VARIANT == QUANTIZE_RUNS || ++p.into < s.inner.by) continue;
        p.into = 0;
        p.scale = p.scale + 1 < s.n.by ? p.scale + 1 : 0;
    }
}

/* Those of the N columns of each thread of the block; every thread comes here. A word is left free after 32, so that
 * the same one of a warp's N lies in 32 different banks. */
template <int N> struct column_scales {
    static constexpr int words = QUANTIZE_THREADS * N, room = words + words / 32;
    static __device__ __forceinline__ int place(int i) { return i + i / 32; }
    static __device__ __forceinline__ void take(float (&v)[N], float *shared, const struct scaled &s)
    {
        int64_t first = (int64_t)blockIdx.x * words;
#pragma unroll
        for (int k = 0; k < N; k++) {
            int i = k * QUANTIZE_THREADS + (int)threadIdx.x;
            shared[place(i)] = s.scale[place_of(s, first + i).scale];
        }
        __syncthreads();
#pragma unroll
        for (int k = 0; k < N; k++) v[k] = shared[place((int)threadIdx.x * N + k)];
    }
};

/* N numbers of 8 bits, moved by one instruction; the address must be a multiple of N, which is 4 or 8. */
template <int N> struct alignas(N) bytes_of {
    int8_t v[N];
};
static __device__ __forceinline__ void store_bytes(int8_t *p, const struct bytes_of<4> &v)
{
    union {
        struct bytes_of<4> v;
        uint32_t bits;
    } u = { v };
    *reinterpret_cast<uint32_t *>(p) = u.bits;
}
static __device__ __forceinline__ void store_bytes(int8_t *p, const struct bytes_of<8> &v)
{
    union {
        struct bytes_of<8> v;
        uint2 bits;
    } u = { v };
    *reinterpret_cast<uint2 *>(p) = u.bits;
}
static __device__ __forceinline__ void load_bytes(struct bytes_of<4> &v, const int8_t *p)
{
    union {
        uint32_t bits;
        struct bytes_of<4> v;
    } u = { *reinterpret_cast<const uint32_t *>(p) };
    v = u.v;
}
static __device__ __forceinline__ void load_bytes(struct bytes_of<8> &v, const int8_t *p)
{
    union {
        uint2 bits;
        struct bytes_of<8> v;
    } u = { *reinterpret_cast<const uint2 *>(p) };
    v = u.v;
}

#endif
