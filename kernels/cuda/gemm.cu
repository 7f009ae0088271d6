/* gemm.cu - the rungs of gemm.h but the last (gemm_tensor.cu).
 *
 * A tile of T x T results needs 2 T k elements for T^2 k multiplications, so the bytes from memory fall as 1 / T, and
 * shared memory's as one over the results a thread has in its registers (Volkov and Demmel 2008). */
#include "gemm_impl.h"

namespace
{

template <class T> struct operands {
    T *y;
    const T *a, *b, *bias;
    int64_t a_step, b_step, y_step;
    int m, n, k;

    /* the matrices of this block's batch */
    __device__ __forceinline__ void to_batch()
    {
        a += blockIdx.z * a_step;
        b += blockIdx.z * b_step;
        y += blockIdx.z * y_step;
    }
    __device__ __forceinline__ void store(int row, int column, float v) const
    {
        if (row >= m || column >= n) return;
        if (bias) v += to_f32(bias[column]);
        y[(int64_t)row * n + column] = from_f32<T>(v);
    }
};

template <class T, bool TA> __device__ __forceinline__ float a_of(const operands<T> &o, int row, int p)
{
    return to_f32(TA ? o.a[(int64_t)p * o.m + row] : o.a[(int64_t)row * o.k + p]);
}
template <class T, bool TB> __device__ __forceinline__ float b_of(const operands<T> &o, int p, int column)
{
    return to_f32(TB ? o.b[(int64_t)column * o.k + p] : o.b[(int64_t)p * o.n + column]);
}
/* 0 outside */
template <class T, bool TA> __device__ __forceinline__ float a_at(const operands<T> &o, int row, int p)
{
    return row < o.m && p < o.k ? a_of<T, TA>(o, row, p) : 0.0f;
}
template <class T, bool TB> __device__ __forceinline__ float b_at(const operands<T> &o, int p, int column)
{
    return column < o.n && p < o.k ? b_of<T, TB>(o, p, column) : 0.0f;
}

/* ---- a thread for each result -------------------------------------------------------------------------------- */

template <class T, bool TA, bool TB> __global__ void __launch_bounds__(256) gemm_naive(operands<T> o)
{
    int column = blockIdx.x * 32 + threadIdx.x, row = blockIdx.y * 8 + threadIdx.y;
    o.to_batch();
    float sum = 0.0f;
    if (row >= o.m || column >= o.n) return;
#pragma unroll 1
    for (int p = 0; p < o.k; p++) sum += a_of<T, TA>(o, row, p) * b_of<T, TB>(o, p, column);
    o.store(row, column, sum);
}

/* ---- through shared memory -------------------------------------------------------------------------------------- */

/* Rows r0.. of A' by p0.. as tile[p][row], and of B' as tile[p][column]: threads run along what is contiguous. */
template <class T, bool TA, int ROWS, int DEPTH, int THREADS, int PITCH>
__device__ __forceinline__ void fill_a(float (&tile)[DEPTH][PITCH], const operands<T> &o, int r0, int p0, int thread)
{
#pragma unroll
    for (int i = thread; i < ROWS * DEPTH; i += THREADS) {
        int row = TA ? i % ROWS : i / DEPTH, p = TA ? i / ROWS : i % DEPTH;
        tile[p][row] = a_at<T, TA>(o, r0 + row, p0 + p);
    }
}
template <class T, bool TB, int COLUMNS, int DEPTH, int THREADS, int PITCH>
__device__ __forceinline__ void fill_b(float (&tile)[DEPTH][PITCH], const operands<T> &o, int p0, int c0, int thread)
{
#pragma unroll
    for (int i = thread; i < COLUMNS * DEPTH; i += THREADS) {
        int column = TB ? i / DEPTH : i % COLUMNS, p = TB ? i % DEPTH : i / COLUMNS;
        tile[p][column] = b_at<T, TB>(o, p0 + p, c0 + column);
    }
}

/* Pitch 33: a warp writes a column of the tile or a row of it, either way to 32 banks. */
template <class T, bool TA, bool TB> __global__ void __launch_bounds__(1024) gemm_tiled(operands<T> o)
{
    CU_SHARED(float, ta, [32][33]);
    CU_SHARED(float, tb, [32][33]);
    int r0 = blockIdx.y * 32, c0 = blockIdx.x * 32, thread = threadIdx.y * 32 + threadIdx.x;
    o.to_batch();
    float sum = 0.0f;
#pragma unroll 1
    for (int p0 = 0; p0 < o.k; p0 += 32) {
        fill_a<T, TA, 32, 32, 1024>(ta, o, r0, p0, thread);
        fill_b<T, TB, 32, 32, 1024>(tb, o, p0, c0, thread);
        __syncthreads();
#pragma unroll
        for (int p = 0; p < 32; p++) sum += ta[p][threadIdx.y] * tb[p][threadIdx.x];
        __syncthreads();
    }
    o.store(r0 + threadIdx.y, c0 + threadIdx.x, sum);
}

/* Thread (x, y) has rows y + 16 i and columns x + 16 j, so that a warp reads two elements of one tile, a row of the
 * other. */
template <class T, bool TA, bool TB> __global__ void __launch_bounds__(256) gemm_registers(operands<T> o)
{
    CU_SHARED(float, ta, [16][65]);
    CU_SHARED(float, tb, [16][65]);
    int r0 = blockIdx.y * 64, c0 = blockIdx.x * 64, thread = threadIdx.y * 16 + threadIdx.x;
    o.to_batch();
    float sum[4][4] = {};
#pragma unroll 1
    for (int p0 = 0; p0 < o.k; p0 += 16) {
        fill_a<T, TA, 64, 16, 256>(ta, o, r0, p0, thread);
        fill_b<T, TB, 64, 16, 256>(tb, o, p0, c0, thread);
        __syncthreads();
#pragma unroll
        for (int p = 0; p < 16; p++) {
            float a[4], b[4];
#pragma unroll
            for (int i = 0; i < 4; i++) a[i] = ta[p][threadIdx.y + 16 * i];
#pragma unroll
            for (int j = 0; j < 4; j++) b[j] = tb[p][threadIdx.x + 16 * j];
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 4; j++) sum[i][j] += a[i] * b[j];
        }
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) o.store(r0 + threadIdx.y + 16 * i, c0 + threadIdx.x + 16 * j, sum[i][j]);
}

/* ---- 16-byte access, two buffers ------------------------------------------------------------------------------- */

enum { TILE = 128, DEPTH = 8, PITCH = TILE + 4 };

/* A tile of 128 rows of 8 along k, or of 8 rows of 128: four elements a thread, kept in registers until the buffer
 * that is being read is free. ALONG: k runs along memory. */
template <bool ALONG> struct staged {
    float v[4];
    __device__ __forceinline__ void load(const float *x, int at, int p0, int rows, int depth, int thread)
    {
        int line = ALONG ? thread / 2 : thread / 32, first = ALONG ? thread % 2 * 4 : thread % 32 * 4;
        int row = ALONG ? at + line : at + first, p = ALONG ? p0 + first : p0 + line;
        bool inside = row < rows && p < depth;
        float4 f = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (inside)
            f = *reinterpret_cast<const float4 *>(x + (ALONG ? (int64_t)row * depth + p : (int64_t)p * rows + row));
        v[0] = f.x;
        v[1] = f.y;
        v[2] = f.z;
        v[3] = f.w;
    }
    __device__ __forceinline__ void store(float (&tile)[DEPTH][PITCH], int thread) const
    {
        int line = ALONG ? thread / 2 : thread / 32, first = ALONG ? thread % 2 * 4 : thread % 32 * 4;
        if constexpr (ALONG) {
#pragma unroll
            for (int i = 0; i < 4; i++) tile[first + i][line] = v[i];
        } else {
            *reinterpret_cast<float4 *>(&tile[line][first]) = make_float4(v[0], v[1], v[2], v[3]);
        }
    }
};

/* Thread (x, y) of 16 x 16 has rows 4 y + i and 64 + 4 y + i, columns 4 x + j and 64 + 4 x + j: reads of 16 bytes. */
template <bool TA, bool TB> __global__ void __launch_bounds__(256) gemm_vector(operands<float> o)
{
    CU_SHARED(float, ta, [2][DEPTH][PITCH]);
    CU_SHARED(float, tb, [2][DEPTH][PITCH]);
    int r0 = blockIdx.y * TILE, c0 = blockIdx.x * TILE, x = threadIdx.x % 16, y = threadIdx.x / 16;
    o.to_batch();
    staged<!TA> sa;
    staged<TB> sb;
    float sum[8][8] = {};
    sa.load(o.a, r0, 0, o.m, o.k, threadIdx.x);
    sb.load(o.b, c0, 0, o.n, o.k, threadIdx.x);
    sa.store(ta[0], threadIdx.x);
    sb.store(tb[0], threadIdx.x);
    __syncthreads();
#pragma unroll 1
    for (int p0 = 0, now = 0; p0 < o.k; p0 += DEPTH, now ^= 1) {
        bool more = p0 + DEPTH < o.k;
        if (more) {
            sa.load(o.a, r0, p0 + DEPTH, o.m, o.k, threadIdx.x);
            sb.load(o.b, c0, p0 + DEPTH, o.n, o.k, threadIdx.x);
        }
#pragma unroll
        for (int p = 0; p < DEPTH; p++) {
            float a[8], b[8];
#pragma unroll
            for (int i = 0; i < 2; i++) {
                *reinterpret_cast<float4 *>(a + 4 * i) = *reinterpret_cast<float4 *>(&ta[now][p][64 * i + 4 * y]);
                *reinterpret_cast<float4 *>(b + 4 * i) = *reinterpret_cast<float4 *>(&tb[now][p][64 * i + 4 * x]);
            }
#pragma unroll
            for (int i = 0; i < 8; i++)
#pragma unroll
                for (int j = 0; j < 8; j++) sum[i][j] += a[i] * b[j];
        }
        if (more) { /* the other buffer was last read before the last barrier */
            sa.store(ta[now ^ 1], threadIdx.x);
            sb.store(tb[now ^ 1], threadIdx.x);
        }
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < 8; i++) {
        int row = r0 + i / 4 * 64 + 4 * y + i % 4;
#pragma unroll
        for (int j = 0; j < 8; j += 4) {
            int column = c0 + j / 4 * 64 + 4 * x;
            if (row >= o.m || column >= o.n) continue; /* n is a multiple of 4 */
            float4 v = make_float4(sum[i][j], sum[i][j + 1], sum[i][j + 2], sum[i][j + 3]);
            if (o.bias) {
                float4 c = *reinterpret_cast<const float4 *>(o.bias + column);
                v = make_float4(v.x + c.x, v.y + c.y, v.z + c.z, v.w + c.w);
            }
            *reinterpret_cast<float4 *>(o.y + (int64_t)row * o.n + column) = v;
        }
    }
}

/* ---- host ------------------------------------------------------------------------------------------------------- */

template <class T> operands<T> operands_of(const qn__gemm *g)
{
    return { (T *)g->y, (const T *)g->a, (const T *)g->b, (const T *)g->bias, g->a_step,
             g->b_step, g->y_step,       (int)g->m,       (int)g->n,          (int)g->k };
}

/* f(std::bool-like constants of ta and tb) */
template <class F> cudaError_t with_transposes(const qn__gemm *g, F f)
{
    if (g->ta) return g->tb ? f(flag<true>(), flag<true>()) : f(flag<true>(), flag<false>());
    return g->tb ? f(flag<false>(), flag<true>()) : f(flag<false>(), flag<false>());
}

template <class T, bool TA, bool TB> cudaError_t run_as(enum qn__gemm_rung rung, const qn__gemm *g, cudaStream_t stream)
{
    operands<T> o = operands_of<T>(g);
    unsigned z = (unsigned)g->batch;
    auto blocks = [](int64_t n, int tile) { return (unsigned)ceil_div(n, tile); };
    if (rung == QN_GEMM_NAIVE)
        return LAUNCH((gemm_naive<T, TA, TB>), (blocks(g->n, 32), blocks(g->m, 8), z), (32, 8), 0, stream, o);
    if (rung == QN_GEMM_TILED)
        return LAUNCH((gemm_tiled<T, TA, TB>), (blocks(g->n, 32), blocks(g->m, 32), z), (32, 32), 0, stream, o);
    return LAUNCH((gemm_registers<T, TA, TB>), (blocks(g->n, 64), blocks(g->m, 64), z), (16, 16), 0, stream, o);
}

cudaError_t run_vector(const qn__gemm *g, cudaStream_t stream)
{
    operands<float> o = operands_of<float>(g);
    dim3 grid((unsigned)ceil_div(g->n, TILE), (unsigned)ceil_div(g->m, TILE), (unsigned)g->batch);
    return with_transposes(g, [&](auto ta, auto tb) {
        return LAUNCH((gemm_vector<decltype(ta)::value, decltype(tb)::value>), (grid.x, grid.y, grid.z), (256), 0,
                      stream, o);
    });
}

/* What runs along memory is a multiple of 16 bytes. */
bool is_aligned(const qn__gemm *g)
{
    int64_t n = 16 / (int64_t)qn_dtype_size(g->dtype);
    int64_t a_line = g->ta ? g->m : g->k, b_line = g->tb ? g->k : g->n;
    return a_line % n == 0 && b_line % n == 0 && g->n % n == 0 && g->a_step % n == 0 && g->b_step % n == 0 &&
           g->y_step % n == 0;
}

} // namespace

const char *qn__gemm_name(enum qn__gemm_rung rung)
{
    static const char *const name[QN_GEMM_RUNGS] = { "naive", "tiled", "registers", "vector", "tensor" };
    return name[rung];
}

bool qn__gemm_takes(enum qn__gemm_rung rung, const struct qn__gemm *g)
{
    if (g->m > INT32_MAX || g->n > INT32_MAX || g->k > INT32_MAX || g->batch > 65535 || g->m > 65535 * 8) return false;
    if (rung == QN_GEMM_VECTOR) return g->dtype == QN_F32 && is_aligned(g);
    if (rung == QN_GEMM_TENSOR) return g->dtype != QN_F32 && is_aligned(g);
    return is_cuda_float(g->dtype);
}

enum qn__gemm_rung qn__gemm_best(const struct qn__gemm *g)
{
    int rung = QN_GEMM_RUNGS - 1;
    while (rung > QN_GEMM_NAIVE && !qn__gemm_takes((enum qn__gemm_rung)rung, g)) rung--;
    return (enum qn__gemm_rung)rung;
}

qn_status qn__gemm_run(enum qn__gemm_rung rung, const struct qn__gemm *g, const struct qn__step *s, qn_error *err)
{
    cudaStream_t stream = s->queue->stream;
    if (g->m == 0 || g->n == 0 || g->batch == 0) return QN_OK;
    cudaError_t answer = rung == QN_GEMM_TENSOR ? qn__gemm_tensor(g, stream)
                         : rung == QN_GEMM_VECTOR
                             ? run_vector(g, stream)
                             : with_float(g->dtype, [&](auto t) {
                                   return with_transposes(g, [&](auto ta, auto tb) {
                                       return run_as<decltype(t), decltype(ta)::value, decltype(tb)::value>(rung, g,
                                                                                                            stream);
                                   });
                               });
    return qn__cuda_check(answer, "gemm", s, err);
}
