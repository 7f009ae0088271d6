/* attention_tile.h - products of 64 x 64 tiles in f32 by 256 threads, for heads of any size.
 *
 * Thread (x, y) of 16 x 16 has rows 4 y.. and columns 4 x.. of a tile, so the 16 threads of a row are neighbours in a
 * warp. Operands come through shared memory in slices of 32 along what is summed, [32][64] with a pitch of 68: a thread
 * reads four rows and four columns by two accesses of 16 bytes for 16 multiplications. What lies outside an operand is
 * zero in its slice. */
#ifndef QN_KERNELS_CUDA_ATTENTION_TILE_H
#define QN_KERNELS_CUDA_ATTENTION_TILE_H
#include "attention.h"

namespace attention
{

enum { TILE = 64, DEPTH = 32, PITCH = 68, SLICE = DEPTH * PITCH, THREADS = 256, KEPT = 128 };

/* Rows of a head from `first` on; there are n in all. */
template <class T> struct rows {
    const T *data;
    int64_t step;
    int first, n;

    /* N elements from column `at` on */
    __device__ __forceinline__ vec16<T> read(int row, int at, const shape &s) const
    {
        constexpr int N = vec16<T>::n;
        vec16<T> v;
        const T *from = data + (int64_t)(first + row) * step + at;
        bool there = first + row < n;
#pragma unroll
        for (int i = 0; i < N; i++) v.v[i] = from_f32<T>(0.0f);
        if (s.vector) {
            if (there && at < s.size) v = load16(from);
        } else {
#pragma unroll
            for (int i = 0; i < N; i++)
                if (there && at + i < s.size) v.v[i] = from[i];
        }
        return v;
    }
};
template <class T> __device__ __forceinline__ rows<T> rows_of(const lanes<T> &l, int head, int first, int n)
{
    return { l.of(head), l.row, first, n };
}

/* slice[d][row]: 64 rows, of which 32 columns from `at` on. A warp writes 32 rows of a column: 32 banks. */
template <class T> __device__ __forceinline__ void fill_turned(float *slice, const rows<T> &x, int at, const shape &s)
{
    constexpr int N = vec16<T>::n;
    int row = threadIdx.x % 64, d = threadIdx.x / 64 * 8;
#pragma unroll
    for (int k = 0; k < 8; k += N) {
        vec16<T> v = x.read(row, at + d + k, s);
#pragma unroll
        for (int i = 0; i < N; i++) slice[(d + k + i) * PITCH + row] = to_f32(v.v[i]);
    }
}
/* slice[row][d]: 32 rows, of which 64 columns from `at` on. */
template <class T> __device__ __forceinline__ void fill_straight(float *slice, const rows<T> &x, int at, const shape &s)
{
    constexpr int N = vec16<T>::n;
    int row = threadIdx.x / 8, first = threadIdx.x % 8 * N;
#pragma unroll
    for (int k = 0; k < 64; k += 8 * N) {
        vec16<T> v = x.read(row, at + first + k, s);
#pragma unroll
        for (int i = 0; i < N; i += 4)
            *reinterpret_cast<float4 *>(slice + row * PITCH + first + k +
                                        i) = make_float4(to_f32(v.v[i]), to_f32(v.v[i + 1]), to_f32(v.v[i + 2]),
                                                         to_f32(v.v[i + 3]));
    }
}

/* sum[i][j] += over the slice's 32 lines, a[line][4 y + i] b[line][4 x + j] */
static __device__ __forceinline__ void multiply(float (&sum)[4][4], const float *a, const float *b)
{
    const float *ay = a + threadIdx.x / 16 * 4, *bx = b + threadIdx.x % 16 * 4;
#pragma unroll 4
    for (int p = 0; p < DEPTH; p++) {
        float4 u = *reinterpret_cast<const float4 *>(ay + p * PITCH);
        float4 w = *reinterpret_cast<const float4 *>(bx + p * PITCH);
        float r[4] = { u.x, u.y, u.z, u.w }, c[4] = { w.x, w.y, w.z, w.w };
#pragma unroll
        for (int i = 0; i < 4; i++)
#pragma unroll
            for (int j = 0; j < 4; j++) sum[i][j] += r[i] * c[j];
    }
}

/* An operand whose rows are the tile's rows: in shared memory for the whole kernel if its head is at most 128 long
 * (kept), else read again for each tile. */
template <class T> struct own_rows {
    float *slices;
    rows<T> x;
    bool kept;

    static size_t slices_for(int size) { return size <= KEPT ? (size_t)ceil_div(size, DEPTH) : 1; }
    __device__ __forceinline__ own_rows(float *memory, const rows<T> &from, const shape &s)
        : slices(memory), x(from), kept(s.size <= KEPT)
    {
        for (int at = 0; kept && at < s.size; at += DEPTH) fill_turned(slices + at / DEPTH * SLICE, x, at, s);
    }
};

/* sum[i][j] = a's row 4 y + i times b's row 4 x + j. Begins with a barrier: what was in `slice`, and what threads wrote
 * before, is then done with. */
template <class T>
__device__ __forceinline__ void product_of_rows(float (&sum)[4][4], const own_rows<T> &a, float *slice,
                                                const rows<T> &b, const shape &s)
{
#pragma unroll
    for (int i = 0; i < 16; i++) sum[i / 4][i % 4] = 0.0f;
#pragma unroll 1
    for (int at = 0; at < s.size; at += DEPTH) {
        __syncthreads();
        if (!a.kept) fill_turned(a.slices, a.x, at, s);
        fill_turned(slice, b, at, s);
        __syncthreads();
        multiply(sum, a.slices + (a.kept ? at / DEPTH * SLICE : 0), slice);
    }
}

/* tile[column][row]: the left operand of the second product; column 4 x + j of it, and all of them. The caller sees to
 * it that nobody reads it any more. */
static __device__ __forceinline__ void write_column(float *tile, int j, const float (&v)[4][4])
{
    float *to = tile + (threadIdx.x % 16 * 4 + j) * PITCH + threadIdx.x / 16 * 4;
    *reinterpret_cast<float4 *>(to) = make_float4(v[0][j], v[1][j], v[2][j], v[3][j]);
}
static __device__ __forceinline__ void write_turned(float *tile, const float (&v)[4][4])
{
#pragma unroll
    for (int j = 0; j < 4; j++) write_column(tile, j, v);
}

/* sum[c] += tile times columns 64 c.. from `at` on of the rows x: 64 rows, of which `n` are there. Begins with a
 * barrier. */
template <int NC, class T>
__device__ __forceinline__ void add_product(float (&sum)[NC][4][4], const float *tile, float *slice, rows<T> x, int n,
                                            int at, const shape &s)
{
#pragma unroll 1
    for (int half = 0; half * DEPTH < n; half++, x.first += DEPTH)
#pragma unroll
        for (int c = 0; c < NC; c++) {
            __syncthreads();
            fill_straight(slice, x, at + TILE * c, s);
            __syncthreads();
            multiply(sum[c], tile + half * SLICE, slice);
        }
}

/* Columns 64 c.. from `at` on of rows 4 y.. of the result, times a factor for each row. */
template <int NC, class T>
__device__ __forceinline__ void write_rows(T *y, int64_t step, int first, int n, int at, const float (&sum)[NC][4][4],
                                           const float (&factor)[4], const shape &s)
{
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int row = first + threadIdx.x / 16 * 4 + i;
#pragma unroll
        for (int c = 0; c < NC; c++)
#pragma unroll
            for (int j = 0; j < 4; j++) {
                int column = at + TILE * c + threadIdx.x % 16 * 4 + j;
                if (row < n && column < s.size) y[row * step + column] = from_f32<T>(sum[c][i][j] * factor[i]);
            }
    }
}

} // namespace attention
#endif
