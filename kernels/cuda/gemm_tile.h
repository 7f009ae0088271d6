/* gemm_tile.h - 128 x 128 results on tensor cores from slices of 32 along k in shared memory: what gemm_tensor.cu and
 * conv_tensor.cu share. Eight warps, 2 x 4, have 64 x 32 results each in their registers, as 4 x 4 fragments of
 * mma.m16n8k16. The pitch of a row in shared memory is its length and 8 elements, so the 8 rows of an 8 x 8 matrix lie
 * in different banks. */
#ifndef QN_KERNELS_CUDA_GEMM_TILE_H
#define QN_KERNELS_CUDA_GEMM_TILE_H
#include "gpu.h"

enum { TILE = 128, DEPTH = 32, STAGES = 3, THREADS = 256, PAD = 8 };

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

/* sum += the warp's rows of a slice of A times its columns of one of B. Per slice 12 ldmatrix for 32 mma. */
template <class T, class SA, class SB>
static __device__ __forceinline__ void multiply_slices(float (&sum)[4][4][4], const T *ta, const T *tb, int row0,
                                                       int column0)
{
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
}

/* The block's results with bias (NULL: none) and relu, through shared memory, 16 bytes at a time. No slice is read or
 * under way any more. r0, c0: the block's place among m rows of n results, n a multiple of 8. */
template <class T>
static __device__ __forceinline__ void store_tile(T *y, T *memory, const float (&sum)[4][4][4], const T *bias,
                                                  bool relu, int r0, int c0, int m, int n)
{
    constexpr int pitch = TILE + PAD;
    struct alignas(4) pair {
        T v[2];
    };
    int warp = threadIdx.x >> 5, lane = threadIdx.x & 31, row0 = warp / 4 * 64, column0 = warp % 4 * 32;
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++)
#pragma unroll
            for (int h = 0; h < 2; h++) {
                int row = row0 + 16 * i + 8 * h + lane / 4, column = column0 + 8 * j + lane % 4 * 2;
                bool biased = bias && c0 + column < n;
                pair out;
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    float v = sum[i][j][2 * h + e] + (biased ? to_f32(bias[c0 + column + e]) : 0.0f);
                    out.v[e] = from_f32<T>(!relu || v > 0.0f || v != v ? v : 0.0f);
                }
                *reinterpret_cast<pair *>(memory + row * pitch + column) = out;
            }
    __syncthreads();
    for (int i = threadIdx.x; i < TILE * TILE / 8; i += THREADS) {
        int row = i / (TILE / 8), column = i % (TILE / 8) * 8;
        if (r0 + row < m && c0 + column < n)
            store16(y + (int64_t)(r0 + row) * n + c0 + column, load16(memory + row * pitch + column));
    }
}
#endif
