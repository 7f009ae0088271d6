/* attention_tensor.h - attention of bf16 and f16 on tensor cores, and what its two files share: a warp's products of
 * fragments (mma.m16n8k16, sums in f32).
 *
 * A warp owns 16 MT rows of one side (queries, or keys where the sums belong to keys); BN rows of the other side come
 * through two buffers of cp.async. Tiles lie in shared memory as in global memory, [row][SIZE] with a pitch of SIZE + 8
 * elements, so that the 8 rows of an 8 x 8 matrix lie in different banks; what lies outside an operand is zero there.
 * Heads shorter than SIZE are filled up with zeros. The scores of a warp are accumulators of the first product and, in
 * 16 bits, the left operand of the second, without leaving their lanes (Dao 2023, "FlashAttention-2"): lane 4 g + t has
 * rows g and g + 8, columns 2 t and 2 t + 1 of each 16 x 8 fragment. */
#ifndef QN_KERNELS_CUDA_ATTENTION_TENSOR_H
#define QN_KERNELS_CUDA_ATTENTION_TENSOR_H
#include "attention.h"

cudaError_t qn__attention_tensor(const qn__step *step);
cudaError_t qn__attention_grad_tensor(const qn__step *step);

namespace attention
{

/* The largest score is found before it is scaled, hence the positive scale. */
static inline bool fits_tensor(const shape &s, qn_dtype dtype)
{
    return dtype != QN_F32 && s.size % 8 == 0 && s.size <= 128 && s.scale > 0.0f;
}

namespace tensor
{

enum { WARPS = 4, THREADS = 32 * WARPS };

template <int SIZE> struct tile {
    static constexpr int pitch = SIZE + 8, chunks = SIZE / 8, step = THREADS / chunks;

    /* ROWS rows of x, n of which are there; asynchronous */
    template <int ROWS, class T>
    static __device__ __forceinline__ void fetch(T *to, const T *x, int64_t row_step, int n, int size)
    {
        int row = (int)threadIdx.x / chunks, column = (int)threadIdx.x % chunks * 8;
        const T *from = x + row * row_step + column;
        bool inside = column < size;
#pragma unroll
        for (int i = 0; i < ROWS / step; i++) {
            bool take = inside && row + i * step < n;
            cp_async16(to + (row + i * step) * pitch + column, take ? from : x, take);
            from += step * row_step;
        }
    }
};

/* s[i][j] = 16 x 8 fragments of A B^T: rows of a in 16s, rows of b in 8s, both along the head. */
template <int SIZE, int MT, int NT, class T>
__device__ __forceinline__ void rows_by_rows(float (&s)[MT][NT][4], const T *a, const T *b)
{
    constexpr int pitch = tile<SIZE>::pitch;
    int l = threadIdx.x & 31;
    const T *at_a = a + (l & 15) * pitch + (l >> 4) * 8,
            *at_b = b + ((l >> 4) * 8 + (l & 7)) * pitch + (l >> 3 & 1) * 8;
#pragma unroll
    for (int i = 0; i < MT * NT * 4; i++) s[i / (NT * 4)][i / 4 % NT][i % 4] = 0.0f;
#pragma unroll
    for (int p = 0; p < SIZE; p += 16) {
        uint32_t fa[MT][4];
#pragma unroll
        for (int i = 0; i < MT; i++) ldmatrix_x4(fa[i], at_a + 16 * i * pitch + p);
#pragma unroll
        for (int j = 0; j < NT; j += 2) {
            uint32_t fb[4];
            ldmatrix_x4(fb, at_b + 8 * j * pitch + p);
            const uint32_t b0[2] = { fb[0], fb[1] }, b1[2] = { fb[2], fb[3] };
#pragma unroll
            for (int i = 0; i < MT; i++) {
                mma_m16n8k16(T(), s[i][j], fa[i], b0);
                mma_m16n8k16(T(), s[i][j + 1], fa[i], b1);
            }
        }
    }
}

/* o[i][j] += P B: fragments of p, rounded to T; b has a row for each column of p. */
template <int SIZE, int MT, int NT, class T>
__device__ __forceinline__ void add_by_rows(float (&o)[MT][SIZE / 8][4], const float (&p)[MT][NT][4], const T *b)
{
    constexpr int pitch = tile<SIZE>::pitch;
    int l = threadIdx.x & 31;
    const T *at_b = b + (l & 15) * pitch + (l >> 4) * 8;
#pragma unroll
    for (int k = 0; k < NT; k += 2) {
        uint32_t fa[MT][4];
#pragma unroll
        for (int i = 0; i < MT; i++)
#pragma unroll
            for (int h = 0; h < 4; h++) fa[i][h] = pack2<T>(p[i][k + h / 2][h % 2 * 2], p[i][k + h / 2][h % 2 * 2 + 1]);
#pragma unroll
        for (int j = 0; j < SIZE / 8; j += 2) {
            uint32_t fb[4];
            ldmatrix_x4_trans(fb, at_b + 8 * k * pitch + 8 * j);
            const uint32_t b0[2] = { fb[0], fb[1] }, b1[2] = { fb[2], fb[3] };
#pragma unroll
            for (int i = 0; i < MT; i++) {
                mma_m16n8k16(T(), o[i][j], fa[i], b0);
                mma_m16n8k16(T(), o[i][j + 1], fa[i], b1);
            }
        }
    }
}

/* The warp's rows, times a factor each, through its own rows of a tile to memory, 16 bytes at a time. n rows of y are
 * there. */
template <int SIZE, int MT, class T>
__device__ __forceinline__ void write_rows(T *y, int64_t row_step, int n, int size, T *own,
                                           const float (&o)[MT][SIZE / 8][4], const float (&factor)[MT][2])
{
    constexpr int pitch = tile<SIZE>::pitch;
    int lane = threadIdx.x & 31, chunks = size / 8;
    __syncwarp(); /* no lane reads its operand there any more */
#pragma unroll
    for (int i = 0; i < MT; i++)
#pragma unroll
        for (int j = 0; j < SIZE / 8; j++)
#pragma unroll
            for (int h = 0; h < 2; h++)
                *reinterpret_cast<uint32_t *>(own + (16 * i + 8 * h + lane / 4) * pitch + 8 * j +
                                              lane % 4 * 2) = pack2<T>(o[i][j][2 * h] * factor[i][h],
                                                                       o[i][j][2 * h + 1] * factor[i][h]);
    __syncwarp();
#pragma unroll 1
    for (int i = lane; i < 16 * MT * chunks; i += 32) {
        int row = i / chunks, column = i % chunks * 8;
        if (row < n) store16(y + row * row_step + column, load16(own + row * pitch + column));
    }
}

} // namespace tensor
} // namespace attention
#endif
