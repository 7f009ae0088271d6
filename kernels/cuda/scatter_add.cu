/* scatter_add.cu - y[o][j][inner] = sum over i with index[i] = j, in the order of i, of x[o][i][inner]: the gradient of
 * gather and of embeddings.
 *
 * Compulsory bytes: x and the index read once, y written once. The places are sorted by index first, then every row of y
 * is one sum that one thread per 16 bytes adds up in order: nothing is added twice at the same time, and the bits do not
 * depend on the grid. The sort is a radix sort of (index, place), 8 bits a pass (two passes for a vocabulary of 50,000),
 * and stable: within a block the warps have consecutive chunks of the keys, within a warp the lanes of a digit are
 * numbered by a match, and what each block and each warp has of a digit is counted before anything is placed.
 *
 *   count_digits   per block: how many keys of each digit
 *   place_digits   per block: where its keys of each digit begin, from all blocks' counts; moves keys and places
 *   find_starts    per row of y: the first of its keys, by binary search
 *   sum_rows       per row of y and unit of it: the sum
 *
 * A wrong index leaves a fault; its key is beyond all rows, so that it adds to none. */
#include "index.h"

enum { THREADS = 256, WARPS = THREADS / 32, DIGITS = 256, ROUND = 2048, MAX_BLOCKS = 128 };

/* Keys of a pass: the index itself in the first, then what the pass before has placed. */
struct keys {
    const void *index; /* NULL: key and place */
    const int32_t *key, *place;
    struct qn__fault *fault;
    int64_t size;
    int32_t n, per_block, wide, shift, position;
};

static __device__ __forceinline__ int32_t key_at(const struct keys &k, int32_t i, bool report)
{
    if (!k.index) return k.key[i];
    int64_t at = index_at(k.index, k.wide, i);
    if (at >= 0 && at < k.size) return (int32_t)at;
    if (report) wrong_index(k.fault, k.position, i, at, k.size);
    return (int32_t)k.size;
}
static __device__ __forceinline__ int digit_of(const struct keys &k, int32_t key)
{
    return key >> k.shift & (DIGITS - 1);
}

__global__ void __launch_bounds__(THREADS) count_digits(int32_t *counts, const __grid_constant__ struct keys k)
{
    CU_SHARED(int32_t, count, [DIGITS]);
    count[threadIdx.x] = 0;
    __syncthreads();
    int64_t from = (int64_t)blockIdx.x * k.per_block, to = from + k.per_block < k.n ? from + k.per_block : k.n;
    for (int64_t i = from + threadIdx.x; i < to; i += THREADS)
        atomicAdd(&count[digit_of(k, key_at(k, (int32_t)i, true))], 1);
    __syncthreads();
    counts[blockIdx.x * DIGITS + threadIdx.x] = count[threadIdx.x];
}

/* Sum of the values of the threads before this one. other: shared, two of THREADS. */
static __device__ __forceinline__ int32_t sum_before(int32_t value, int32_t (&other)[2][THREADS])
{
    int t = threadIdx.x, now = 0;
    other[0][t] = value;
    __syncthreads();
    for (int hop = 1; hop < THREADS; hop *= 2, now ^= 1) {
        other[now ^ 1][t] = other[now][t] + (t >= hop ? other[now][t - hop] : 0);
        __syncthreads();
    }
    return other[now][t] - value;
}

__global__ void __launch_bounds__(THREADS)
    place_digits(int32_t *key_out, int32_t *place_out, const int32_t *counts, const __grid_constant__ struct keys k)
{
    CU_SHARED(int32_t, other, [2][THREADS]);
    CU_SHARED(int32_t, at, [WARPS][DIGITS]);
    int t = threadIdx.x, warp = t / 32, lane = t & 31, chunk = k.per_block / WARPS;
    int32_t all = 0, before = 0;
#pragma unroll 4
    for (int b = 0; b < (int)gridDim.x; b++) {
        int32_t c = counts[b * DIGITS + t];
        all += c;
        before += b < (int)blockIdx.x ? c : 0;
    }
    for (int w = 0; w < WARPS; w++) at[w][t] = 0;
    int32_t start = sum_before(all, other) + before;
    int64_t from = (int64_t)blockIdx.x * k.per_block + (int64_t)warp * chunk,
            to = from + chunk < k.n ? from + chunk : k.n;
#pragma unroll 1
    for (int64_t i = from + lane; i < to; i += 32) atomicAdd(&at[warp][digit_of(k, key_at(k, (int32_t)i, false))], 1);
    __syncthreads();
    for (int w = 0; w < WARPS; w++) {
        int32_t c = at[w][t];
        at[w][t] = start;
        start += c;
    }
    __syncthreads();
#pragma unroll 1
    for (int64_t base = from; base < to; base += 32) {
        int64_t i = base + lane;
        /* lanes past the end are behind all others, and what they add to their digit nobody reads any more */
        int32_t key = i < to ? key_at(k, (int32_t)i, false) : 0;
        int digit = digit_of(k, key);
        uint32_t same = warp_same(digit), below = same & ((1u << lane) - 1);
        int32_t slot = at[warp][digit] + __popc(below);
        __syncwarp();
        if (below == 0) at[warp][digit] += __popc(same);
        __syncwarp();
        if (i < to) {
            key_out[slot] = key;
            place_out[slot] = k.index ? (int32_t)i : k.place[i];
        }
    }
}

/* start[j]: the first of n sorted keys that is at least j */
__global__ void __launch_bounds__(THREADS) find_starts(int32_t *start, const int32_t *key, int32_t n, int64_t size)
{
    int64_t step = (int64_t)gridDim.x * THREADS;
    for (int64_t j = (int64_t)blockIdx.x * THREADS + threadIdx.x; j <= size; j += step) {
        int32_t low = 0, high = n;
        while (low < high) {
            int32_t middle = low + (high - low) / 2;
            if (key[middle] < j)
                low = middle + 1;
            else
                high = middle;
        }
        start[j] = low;
    }
}

struct sums {
    const int32_t *start, *place;
    struct divisor units, rows; /* of a row; per outer index */
    int64_t n, places;          /* units of y; rows of x per outer index */
    int32_t narrow;
};

/* N elements of a row */
template <class T, int N> struct alignas(N * sizeof(T)) piece {
    T v[N];
};

template <class T, int N>
__global__ void __launch_bounds__(THREADS) sum_rows(T *y, const T *x, const __grid_constant__ struct sums s)
{
    typedef struct piece<T, N> unit;
    int64_t step = (int64_t)gridDim.x * THREADS;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < s.n; i += step) {
        int64_t row = quotient(s.units, i, s.narrow), o = quotient(s.rows, row, s.narrow);
        int32_t j = (int32_t)(row - o * s.rows.by), end = s.start[j + 1];
        const unit *from = (const unit *)x + o * s.places * s.units.by + (i - row * s.units.by);
        float sum[N];
#pragma unroll
        for (int k = 0; k < N; k++) sum[k] = 0.0f;
#pragma unroll 4
        for (int32_t e = s.start[j]; e < end; e++) {
            unit u = from[s.place[e] * s.units.by];
#pragma unroll
            for (int k = 0; k < N; k++) sum[k] += to_f32(u.v[k]);
        }
        unit out;
#pragma unroll
        for (int k = 0; k < N; k++) out.v[k] = from_f32<T>(sum[k]);
        ((unit *)y)[i] = out;
    }
}

/* ---- host ------------------------------------------------------------------------------------------------- */

enum { VECTOR, SCALAR };

struct room {
    int32_t *key[2], *place[2], *counts, *start;
    size_t bytes;
};

/* How the workspace is divided; base NULL: how much it takes. */
static struct room divide(char *base, int64_t n, int64_t size)
{
    struct room r = {};
    int32_t **part[] = { &r.key[0], &r.key[1], &r.place[0], &r.place[1], &r.counts, &r.start };
    int64_t count[] = { n, n, n, n, MAX_BLOCKS * DIGITS, size + 1 };
    for (int i = 0; i < 6; i++) {
        *part[i] = (int32_t *)((uintptr_t)base + r.bytes);
        r.bytes += ((size_t)count[i] * sizeof(int32_t) + 255) / 256 * 256;
    }
    return r;
}

static int64_t inner_of(const struct qn__args *a)
{
    const struct qn__axis_attr *attr = (const struct qn__axis_attr *)a->attr;
    int64_t inner = 1;
    for (int i = attr->axis + 1; i < a->y.rank; i++) inner *= a->y.dim[i];
    return inner;
}

static qn_status pick(const struct qn__args *a, struct qn__choice *c)
{
    const struct qn__axis_attr *attr = (const struct qn__axis_attr *)a->attr;
    if (!is_cuda_float(a->x[0].dtype) || a->x[1].count > INT32_MAX / 2 || attr->size > INT32_MAX / 2) return QN_EUSAGE;
    c->variant = inner_of(a) * (int64_t)qn_dtype_size(a->y.dtype) % 16 == 0 ? VECTOR : SCALAR;
    c->workspace = divide(NULL, a->x[1].count, attr->size).bytes;
    return QN_OK;
}

/* The sorted keys and places lie in r->key[*last], r->place[*last] afterwards. */
static qn_status sort(const struct qn__step *s, struct room *r, int *last, qn_error *err)
{
    const struct qn__args *a = &s->args;
    struct keys k = {};
    int64_t rounds = ceil_div(a->x[1].count, ROUND), blocks = rounds < MAX_BLOCKS ? rounds : (int64_t)MAX_BLOCKS;
    k.index = a->x[1].data;
    k.wide = a->x[1].dtype == QN_I64;
    k.fault = s->queue->fault;
    k.position = s->position;
    k.size = ((const struct qn__axis_attr *)a->attr)->size;
    k.n = (int32_t)a->x[1].count;
    k.per_block = (int32_t)(ceil_div(rounds, blocks) * ROUND);
    blocks = ceil_div(k.n, k.per_block);
    *last = 0;
    for (k.shift = 0; k.shift == 0 || k.size >> k.shift; k.shift += 8) {
        int to = k.shift ? !*last : 0;
        QN_TRY(qn__cuda_check(LAUNCH(count_digits, ((unsigned)blocks), (THREADS), 0, s->queue->stream, r->counts, k),
                              "count_digits", s, err));
        QN_TRY(qn__cuda_check(LAUNCH(place_digits, ((unsigned)blocks), (THREADS), 0, s->queue->stream, r->key[to],
                                     r->place[to], r->counts, k),
                              "place_digits", s, err));
        k.index = NULL;
        k.key = r->key[to];
        k.place = r->place[to];
        *last = to;
    }
    return QN_OK;
}

template <class T, int N>
static cudaError_t launch_sums(const struct qn__step *s, struct sums m, int64_t rows, int64_t inner)
{
    const struct qn__args *a = &s->args;
    m.units = divisor_of(inner / N);
    m.n = rows * (inner / N);
    m.narrow = m.n < INT32_MAX;
    return LAUNCH((sum_rows<T, N>), (grid_for(a, ceil_div(m.n, THREADS), THREADS, 4)), (THREADS), 0, s->queue->stream,
                  (T *)a->y.data, (const T *)a->x[0].data, m);
}

static qn_status launch(const struct qn__step *s, qn_error *err)
{
    const struct qn__args *a = &s->args;
    const struct qn__axis_attr *attr = (const struct qn__axis_attr *)a->attr;
    struct room r = divide((char *)s->workspace, a->x[1].count, attr->size);
    int last = 0;
    if (a->y.count == 0) return QN_OK;
    if (a->x[1].count) QN_TRY(sort(s, &r, &last, err));
    QN_TRY(qn__cuda_check(LAUNCH(find_starts, (grid_for(a, ceil_div(attr->size + 1, THREADS), THREADS, 4)), (THREADS),
                                 0, s->queue->stream, r.start, r.key[last], (int32_t)a->x[1].count, attr->size),
                          "find_starts", s, err));
    struct sums m = {};
    m.start = r.start;
    m.place = r.place[last];
    m.rows = divisor_of(attr->size);
    m.places = a->x[1].count;
    int64_t inner = inner_of(a), rows = a->y.count / inner;
    bool vector = s->choice.variant == VECTOR;
    return qn__cuda_check(with_float(a->y.dtype,
                                     [&](auto t) {
                                         using T = decltype(t);
                                         return vector ? launch_sums<T, vec16<T>::n>(s, m, rows, inner)
                                                       : launch_sums<T, 1>(s, m, rows, inner);
                                     }),
                          "sum_rows", s, err);
}

static const char *const variants[] = { "sorted_vector", "sorted_scalar", NULL };
KERNEL(scatter_add) = { .variants = variants, .pick = pick, .launch = launch };
