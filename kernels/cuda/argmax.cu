/* argmax.cu - y[o][d] = first r at which x[o][r][d] is largest; NaN counts as largest.
 *
 * Compulsory bytes: x read once. Any order of comparing gives the same index, since equals are settled by the index.
 *
 * warp_rows, block_rows: d = 1: a warp or, for long rows, a block has a row; lanes read neighbours.
 * columns: a thread has a column and goes down it; neighbouring threads read neighbours. */
#include "gpu.h"
#include "cuda.h"

enum { WARP_ROWS, BLOCK_ROWS, COLUMNS, THREADS = 256, LONG = 2048 };

struct extents {
    int64_t o, r, d;
};
struct best {
    float value;
    int32_t at; /* INT32_MAX: nothing yet */
};

/* Is v to replace the best so far? Only a number larger than it, or the first NaN. */
static __device__ __forceinline__ bool better(float v, float best) { return v > best || (v != v && best == best); }

template <class T>
static __device__ __forceinline__ struct best scan(const T *x, int64_t first, int64_t n, int64_t hop, int64_t stride)
{
    struct best b = { -INFINITY, INT32_MAX };
    if (first < n) b = { to_f32(x[first * stride]), (int32_t)first };
#pragma unroll 4
    for (int64_t i = first + hop; i < n; i += hop) {
        float v = to_f32(x[i * stride]);
        bool change = better(v, b.value);
        b.value = change ? v : b.value;
        b.at = change ? (int32_t)i : b.at;
    }
    return b;
}

/* The best of the warp, to every lane. */
static __device__ __forceinline__ struct best warp_best(struct best b)
{
    float most = warp_max(b.value);
    bool mine = b.value == most || (most != most && b.value != b.value);
    struct best all = { most, warp_min(mine ? b.at : INT32_MAX) };
    return all;
}

template <class T>
__global__ void __launch_bounds__(THREADS) argmax_warp_rows(int32_t *y, const T *x, int64_t o, int64_t r)
{
    int64_t step = (int64_t)gridDim.x * (THREADS / 32);
    for (int64_t i = (int64_t)blockIdx.x * (THREADS / 32) + threadIdx.x / 32; i < o; i += step) {
        struct best b = warp_best(scan(x + i * r, threadIdx.x & 31, r, 32, 1));
        if ((threadIdx.x & 31) == 0) y[i] = b.at;
    }
}

template <class T>
__global__ void __launch_bounds__(THREADS) argmax_block_rows(int32_t *y, const T *x, int64_t o, int64_t r)
{
    CU_SHARED(struct best, part, [THREADS / 32]);
    int lane = threadIdx.x & 31;
    for (int64_t i = blockIdx.x; i < o; i += gridDim.x) {
        struct best b = warp_best(scan(x + i * r, threadIdx.x, r, THREADS, 1)), none = { -INFINITY, INT32_MAX };
        if (lane == 0) part[threadIdx.x / 32] = b;
        __syncthreads();
        if (threadIdx.x < 32) {
            b = warp_best(lane < THREADS / 32 ? part[lane] : none);
            if (lane == 0) y[i] = b.at;
        }
        __syncthreads();
    }
}

template <class T>
__global__ void __launch_bounds__(THREADS) argmax_columns(int32_t *y, const T *x, int64_t o, int64_t r, int64_t d)
{
    int64_t step = (int64_t)gridDim.x * THREADS;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < o * d; i += step)
        y[i] = scan(x + i / d * r * d + i % d, 0, r, 1, d).at;
}

static struct extents extents_of(const struct qn__args *a)
{
    const struct qn__reduce_attr *attr = (const struct qn__reduce_attr *)a->attr;
    struct extents e = { 1, 1, 1 };
    bool after = false;
    for (int i = 0; i < a->x[0].rank; i++) {
        int64_t dim = a->x[0].dim[i];
        if (attr->axes >> i & 1) {
            e.r = dim;
            after = true;
        } else if (after) {
            e.d *= dim;
        } else {
            e.o *= dim;
        }
    }
    return e;
}

static qn_status pick(const struct qn__args *a, struct qn__choice *c)
{
    struct extents e = extents_of(a);
    c->variant = e.d != 1 ? COLUMNS : e.r > LONG ? BLOCK_ROWS : WARP_ROWS;
    return is_cuda_float(a->x[0].dtype) ? QN_OK : QN_EUSAGE;
}

static const char *const variants[] = { "warp_rows", "block_rows", "columns", NULL };

static qn_status launch(const struct qn__step *s, qn_error *err)
{
    static const char *const names[] = { "argmax_warp_rows", "argmax_block_rows", "argmax_columns" };
    const struct qn__args *a = &s->args;
    struct extents e = extents_of(a);
    int32_t *y = (int32_t *)a->y.data, variant = s->choice.variant;
    if (a->y.count == 0) return QN_OK;
    int64_t pieces = variant == COLUMNS      ? ceil_div(e.o * e.d, THREADS)
                     : variant == BLOCK_ROWS ? e.o
                                             : ceil_div(e.o, THREADS / 32);
    unsigned grid = grid_for(a, pieces, THREADS, 4);
    cudaStream_t stream = s->queue->stream;
    return qn__cuda_check(with_float(a->x[0].dtype,
                                     [&](auto t) {
                                         const decltype(t) *x = (const decltype(t) *)a->x[0].data;
                                         using T = decltype(t);
                                         if (variant == COLUMNS)
                                             return LAUNCH(argmax_columns<T>, (grid), (THREADS), 0, stream, y, x, e.o,
                                                           e.r, e.d);
                                         if (variant == BLOCK_ROWS)
                                             return LAUNCH(argmax_block_rows<T>, (grid), (THREADS), 0, stream, y, x,
                                                           e.o, e.r);
                                         return LAUNCH(argmax_warp_rows<T>, (grid), (THREADS), 0, stream, y, x, e.o,
                                                       e.r);
                                     }),
                          names[variant], s, err);
}

KERNEL(argmax) = { .variants = variants, .pick = pick, .launch = launch };
