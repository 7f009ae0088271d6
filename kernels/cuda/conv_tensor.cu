/* conv_tensor.cu - forward convolution of NHWC images in bf16 and f16 as a product on tensor cores, sums in f32: rows are
 * places of the result, columns its channels, k runs over window and channels with the channels innermost, so that 16
 * bytes of k are 8 neighbours in memory (implicit GEMM: the matrix of windows is never stored; Chetlur et al. 2014,
 * "cuDNN: Efficient Primitives for Deep Learning").
 *
 * Bytes: images and filters once from memory; a pixel is asked for again by every window that covers it, from the L2
 * cache. Tiles and pipeline are those of gemm_tensor.cu; what is added to its main loop is the place of a thread's two
 * pixels in the image, once for each slice. */
#include "conv_own.h"
#include "gemm_tile.h"
#include "index.h"

namespace
{

template <class T> struct operands {
    T *y;
    const T *x, *w, *bias;
    int m, n, k; /* places, channels of the result, window times channels */
    int h, width, c, kw, stride[2], dilation[2], pad[2];
    bool relu;
    divisor by_plane, by_ow, by_c, by_kw;
};

/* The lines of the slices of A that a thread fetches: where the windows of its two places begin. */
struct windows {
    int offset[2]; /* in elements from the image's start; the corner may lie outside of it */
    int row[2], column[2];
};

template <class T> __device__ __forceinline__ windows windows_of(const operands<T> &o, int r0)
{
    windows v;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        int at = r0 + i * 64 + ((int)threadIdx.x >> 2);
        int image = (int)quotient32(o.by_plane, (uint32_t)at), rest = at - image * (int)o.by_plane.by;
        int oh = (int)quotient32(o.by_ow, (uint32_t)rest), ow = rest - oh * (int)o.by_ow.by;
        v.row[i] = at < o.m ? oh * o.stride[0] - o.pad[0] : INT32_MIN / 2; /* outside of every image */
        v.column[i] = ow * o.stride[1] - o.pad[1];
        v.offset[i] = ((image * o.h + oh * o.stride[0] - o.pad[0]) * o.width + v.column[i]) * o.c;
    }
    return v;
}

template <class T> __device__ __forceinline__ void fetch_windows(T *to, const operands<T> &o, const windows &v, int p0)
{
    constexpr int pitch = slice<T, true>::pitch;
    int first = (int)(threadIdx.x & 3) * 8, k = p0 + first;
    int tap = (int)quotient32(o.by_c, (uint32_t)k), channel = k - tap * o.c;
    int r = (int)quotient32(o.by_kw, (uint32_t)tap), s = tap - r * o.kw;
    int down = r * o.dilation[0], right = s * o.dilation[1];
    int step = (down * o.width + right) * o.c + channel;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        bool take = k < o.k && (unsigned)(v.row[i] + down) < (unsigned)o.h &&
                    (unsigned)(v.column[i] + right) < (unsigned)o.width;
        cp_async16(to + (i * 64 + ((int)threadIdx.x >> 2)) * pitch + first, o.x + (take ? v.offset[i] + step : 0),
                   take);
    }
}

template <class T> __global__ void __launch_bounds__(THREADS, 2) conv_tensor(const __grid_constant__ operands<T> o)
{
    using S = slice<T, true>;
    CU_SHARED_DYN(T, memory);
    T *tiles_b = memory + STAGES * S::elements;
    int r0 = blockIdx.x * TILE, c0 = blockIdx.y * TILE, warp = threadIdx.x >> 5;
    int row0 = warp / 4 * 64, column0 = warp % 4 * 32, slices = (o.k + DEPTH - 1) / DEPTH;
    windows v = windows_of(o, r0);
    float sum[4][4][4] = {};

#pragma unroll
    for (int s = 0; s < STAGES - 1; s++) {
        if (s < slices) {
            fetch_windows(memory + s * S::elements, o, v, s * DEPTH);
            S::fetch(tiles_b + s * S::elements, o.w, c0, s * DEPTH, o.n, o.k);
        }
        cp_async_commit(); /* empty groups keep the count */
    }
#pragma unroll 1
    for (int s = 0, now = 0, next = STAGES - 1; s < slices; s++) {
        cp_async_wait<STAGES - 2>();
        __syncthreads(); /* slice s is there for all; slice s - 1 is no longer read */
        if (s + STAGES - 1 < slices) {
            fetch_windows(memory + next * S::elements, o, v, (s + STAGES - 1) * DEPTH);
            S::fetch(tiles_b + next * S::elements, o.w, c0, (s + STAGES - 1) * DEPTH, o.n, o.k);
        }
        cp_async_commit();
        multiply_slices<T, S, S>(sum, memory + now * S::elements, tiles_b + now * S::elements, row0, column0);
        now = now == STAGES - 1 ? 0 : now + 1;
        next = next == STAGES - 1 ? 0 : next + 1;
    }
    __syncthreads(); /* what is under way by now are empty groups */
    store_tile(o.y, memory, sum, o.bias, o.relu, r0, c0, o.m, o.n);
}

template <class T> cudaError_t run(const qn__dnn_conv *c, const qn__dnn_data *d, cudaStream_t stream)
{
    operands<T> o = {};
    o.y = (T *)d->y;
    o.x = (const T *)d->x;
    o.w = (const T *)d->w;
    o.bias = c->bias ? (const T *)d->bias : NULL;
    o.m = (int)(c->n * c->oh * c->ow);
    o.n = (int)c->o;
    o.k = (int)(c->kh * c->kw * c->c);
    o.h = (int)c->h;
    o.width = (int)c->w;
    o.c = (int)c->c;
    o.kw = (int)c->kw;
    for (int i = 0; i < 2; i++) {
        o.stride[i] = c->stride[i];
        o.dilation[i] = c->dilation[i];
        o.pad[i] = c->pad[i];
    }
    o.relu = c->act == QN_OP_relu;
    o.by_plane = divisor_of(c->oh * c->ow);
    o.by_ow = divisor_of(c->ow);
    o.by_c = divisor_of(c->c);
    o.by_kw = divisor_of(c->kw);
    size_t slices = 2 * STAGES * slice<T, true>::elements, result = TILE * (TILE + PAD);
    return LAUNCH(conv_tensor<T>, ((unsigned)ceil_div(o.m, TILE), (unsigned)ceil_div(o.n, TILE)), (THREADS),
                  sizeof(T) * (slices > result ? slices : result), stream, o);
}

} // namespace

cudaError_t qn__conv_tensor(const qn__dnn_conv *c, const qn__dnn_data *d, const qn__step *s)
{
    return c->dtype == QN_BF16 ? run<bf16>(c, d, s->queue->stream) : run<f16>(c, d, s->queue->stream);
}
