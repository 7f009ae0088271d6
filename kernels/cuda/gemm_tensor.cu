/* gemm_tensor.cu - products of bf16 and f16 on tensor cores, sums in f32.
 *
 * A block computes 128 x 128 results from slices of 32 along k; eight warps, 2 x 4, have 64 x 32 results each in their
 * registers, as 4 x 4 fragments of mma.m16n8k16. Three slices are in flight through cp.async, so one is computed while
 * two come. Slices lie in shared memory as in global memory, transposed or not; ldmatrix turns what must be turned. The
 * pitch of a row there is its length and 8 elements, so the 8 rows of an 8 x 8 matrix lie in different banks. Results
 * leave through shared memory, 16 bytes at a time. Main loop per warp and slice: 12 ldmatrix for 32 mma. */
#include "gemm_impl.h"

namespace
{

enum { TILE = 128, DEPTH = 32, STAGES = 3, THREADS = 256, PAD = 8 };

template <class T> struct operands {
    T *y;
    const T *a, *b, *bias;
    int64_t a_step, b_step, y_step;
    int m, n, k;
};

/* A slice as it lies in memory. ALONG: k runs along a line (128 lines of 32), else 32 lines of 128. */
template <class T, bool ALONG> struct slice {
    static constexpr int lines = ALONG ? TILE : DEPTH, length = ALONG ? DEPTH : TILE, pitch = length + PAD;
    static constexpr int elements = lines * pitch, chunks = length / 8;

    /* rows: extent across k; depth: extent along k */
    static __device__ __forceinline__ void fetch(T *to, const T *x, int at, int p0, int rows, int depth)
    {
#pragma unroll
        for (int i = 0; i < lines * chunks / THREADS; i++) {
            int chunk = i * THREADS + (int)threadIdx.x, line = chunk / chunks, first = chunk % chunks * 8;
            int row = ALONG ? at + line : at + first, p = ALONG ? p0 + first : p0 + line;
            bool take = row < rows && p < depth;
            int64_t from = ALONG ? (int64_t)row * depth + p : (int64_t)p * rows + row;
            cp_async16(to + line * pitch + first, x + (take ? from : 0), take);
        }
    }
    /* The 16 x 16 block at (row, p) as four matrices: (0,0), (8,0), (0,8), (8,8) in (row, k). */
    static __device__ __forceinline__ void read_rows(uint32_t (&r)[4], const T *tile, int row, int p)
    {
        int l = threadIdx.x & 31;
        if (ALONG)
            ldmatrix_x4(r, tile + (row + (l & 15)) * pitch + p + (l >> 4) * 8);
        else
            ldmatrix_x4_trans(r, tile + (p + (l >> 4) * 8 + (l & 7)) * pitch + row + (l >> 3 & 1) * 8);
    }
    /* The same as (0,0), (0,8), (8,0), (8,8): B's fragments, k first. */
    static __device__ __forceinline__ void read_columns(uint32_t (&r)[4], const T *tile, int column, int p)
    {
        int l = threadIdx.x & 31;
        if (ALONG)
            ldmatrix_x4(r, tile + (column + (l >> 4) * 8 + (l & 7)) * pitch + p + (l >> 3 & 1) * 8);
        else
            ldmatrix_x4_trans(r, tile + (p + (l & 15)) * pitch + column + (l >> 4) * 8);
    }
};

template <class T, bool TA, bool TB> __global__ void __launch_bounds__(THREADS, TA ? 1 : 2) gemm_tensor(operands<T> o)
{
    using SA = slice<T, !TA>;
    using SB = slice<T, TB>;
    CU_SHARED_DYN(T, memory);
    T *tiles_b = memory + STAGES * SA::elements;
    int r0 = blockIdx.y * TILE, c0 = blockIdx.x * TILE, warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
    int row0 = warp / 4 * 64, column0 = warp % 4 * 32, slices = (o.k + DEPTH - 1) / DEPTH;
    const T *a = o.a + blockIdx.z * o.a_step, *b = o.b + blockIdx.z * o.b_step;
    T *y = o.y + blockIdx.z * o.y_step;
    float sum[4][4][4] = {};

#pragma unroll
    for (int s = 0; s < STAGES - 1; s++) {
        if (s < slices) {
            SA::fetch(memory + s * SA::elements, a, r0, s * DEPTH, o.m, o.k);
            SB::fetch(tiles_b + s * SB::elements, b, c0, s * DEPTH, o.n, o.k);
        }
        cp_async_commit(); /* empty groups keep the count */
    }
#pragma unroll 1
    for (int s = 0, now = 0, next = STAGES - 1; s < slices; s++) {
        cp_async_wait<STAGES - 2>();
        __syncthreads(); /* slice s is there for all; slice s - 1 is no longer read */
        if (s + STAGES - 1 < slices) {
            SA::fetch(memory + next * SA::elements, a, r0, (s + STAGES - 1) * DEPTH, o.m, o.k);
            SB::fetch(tiles_b + next * SB::elements, b, c0, (s + STAGES - 1) * DEPTH, o.n, o.k);
        }
        cp_async_commit();
        const T *ta = memory + now * SA::elements, *tb = tiles_b + now * SB::elements;
#pragma unroll
        for (int p = 0; p < DEPTH; p += 16) {
            uint32_t fa[4][4], fb[2][4];
#pragma unroll
            for (int i = 0; i < 4; i++) SA::read_rows(fa[i], ta, row0 + 16 * i, p);
#pragma unroll
            for (int j = 0; j < 2; j++) SB::read_columns(fb[j], tb, column0 + 16 * j, p);
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 4; j++) {
                    uint32_t b16[2] = { fb[j / 2][j % 2 * 2], fb[j / 2][j % 2 * 2 + 1] };
                    mma_m16n8k16(T(), sum[i][j], fa[i], b16);
                }
        }
        now = now == STAGES - 1 ? 0 : now + 1;
        next = next == STAGES - 1 ? 0 : next + 1;
    }
    cp_async_wait<0>();
    __syncthreads();

    constexpr int pitch = TILE + PAD;
    struct alignas(4) pair {
        T v[2];
    };
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++)
#pragma unroll
            for (int h = 0; h < 2; h++) {
                int row = row0 + 16 * i + 8 * h + lane / 4, column = column0 + 8 * j + lane % 4 * 2;
                bool biased = o.bias && c0 + column < o.n;
                pair out;
#pragma unroll
                for (int e = 0; e < 2; e++)
                    out.v[e] = from_f32<T>(sum[i][j][2 * h + e] + (biased ? to_f32(o.bias[c0 + column + e]) : 0.0f));
                *reinterpret_cast<pair *>(memory + row * pitch + column) = out;
            }
    __syncthreads();
    for (int i = threadIdx.x; i < TILE * TILE / 8; i += THREADS) {
        int row = i / (TILE / 8), column = i % (TILE / 8) * 8;
        if (r0 + row < o.m && c0 + column < o.n)
            store16(y + (int64_t)(r0 + row) * o.n + c0 + column, load16(memory + row * pitch + column));
    }
}

template <class T, bool TA, bool TB> cudaError_t launch(const qn__gemm *g, cudaStream_t stream)
{
    operands<T> o = { (T *)g->y, (const T *)g->a, (const T *)g->b, (const T *)g->bias, g->a_step,
                      g->b_step, g->y_step,       (int)g->m,       (int)g->n,          (int)g->k };
    size_t slices = STAGES * (slice<T, !TA>::elements + slice<T, TB>::elements), result = TILE * (TILE + PAD);
    return LAUNCH((gemm_tensor<T, TA, TB>),
                  ((unsigned)ceil_div(g->n, TILE), (unsigned)ceil_div(g->m, TILE), (unsigned)g->batch), (THREADS),
                  sizeof(T) * (slices > result ? slices : result), stream, o);
}

template <class T> cudaError_t launch_as(const qn__gemm *g, cudaStream_t stream)
{
    if (g->ta) return g->tb ? launch<T, true, true>(g, stream) : launch<T, true, false>(g, stream);
    return g->tb ? launch<T, false, true>(g, stream) : launch<T, false, false>(g, stream);
}

} // namespace

cudaError_t qn__gemm_tensor(const qn__gemm *g, cudaStream_t stream)
{
    return g->dtype == QN_BF16 ? launch_as<bf16>(g, stream) : launch_as<f16>(g, stream);
}
