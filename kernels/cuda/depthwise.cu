/* depthwise.cu - convolution of each channel by itself, NHWC, in three directions; limited by memory.
 *
 * Compulsory bytes: forward and the gradient of x read one image and write the other; the gradient of w reads both. A
 * block brings a tile of the image that it reads into shared memory, with what windows at the edge reach beyond it
 * (18 x 34 pixels for 16 x 32 results of a 3 x 3 window), so each pixel comes once and windows read it from there. A
 * tile has 64 bytes of channels: 16 bytes a thread where pixels start at multiples of 16 bytes, else element by
 * element, 32 channels.
 *
 *   gather   forward; and the gradient of x, where each pixel gathers from the windows that cover it
 *   filters  the gradient of w: a thread has one tap of one channel and walks over the tile; blocks go through tiles
 *            in turn and leave their sums in the workspace, which are added in order (no atomics) */
#include "conv_own.h"
#include "index.h"
#include "rows.h"

namespace
{

enum { THREADS = 256, TALL = 16, WIDE = 32, ALL_CHANNELS = 32 };
/* bytes of shared memory for one image, and for two, of which less can be shared out among more blocks */
enum { SHARED_ONE = 48 * 1024 - 256, SHARED_TWO = 64 * 1024 };

struct extent {
    int h, w;
};
struct geometry {
    int c, groups; /* groups of channels: of a tile each */
    extent from, to, window, stride, dilation, pad, tile, in, tiles;
    divisor by_groups, by_tiles, by_tiles_w, by_in_w, by_tile_w, by_window_w, by_stride_h, by_stride_w;
    bool relu;
};

/* One tile of one image, of one group of channels. */
struct place {
    int64_t image;
    int channel, row, column;
};
__device__ __forceinline__ place place_of(const geometry &p, uint32_t tile, int group, int channels)
{
    uint32_t image = quotient32(p.by_tiles, tile), rest = tile - image * (uint32_t)p.by_tiles.by;
    uint32_t row = quotient32(p.by_tiles_w, rest), column = rest - row * (uint32_t)p.tiles.w;
    return { image, group * channels, (int)row * p.tile.h, (int)column * p.tile.w };
}

/* size.h x size.w pixels of an image of `all` pixels from (row, column) on into shared memory, zeros beside it. */
template <class T, int N, int CHANNELS>
__device__ __forceinline__ void bring(T *to, const T *image, int c, extent all, extent size, divisor by_w, int row,
                                      int column, int channel)
{
    constexpr int PARTS = CHANNELS / N;
    int items = size.h * size.w * PARTS;
    for (int i = threadIdx.x; i < items; i += THREADS) {
        int part = i % PARTS, pixel = i / PARTS, down = (int)quotient32(by_w, (uint32_t)pixel);
        int h = row + down, w = column + pixel - down * size.w, first = channel + part * N;
        bool there = (unsigned)h < (unsigned)all.h && (unsigned)w < (unsigned)all.w && first < c;
        pack<T, N> v;
        if (there) v.load(image + ((int64_t)h * all.w + w) * c + first);
#pragma unroll
        for (int k = 0; k < N && !there; k++) v.v[k] = from_f32<T>(0.0f);
        v.store(to + pixel * CHANNELS + part * N);
    }
}

/* floor of a / b, a at least -below */
__device__ __forceinline__ int floor_div(int a, int b, int below) { return (a + below * b) / b - below; }

/* ---- forward, and the gradient of x -------------------------------------------------------------------------- */

template <class T, int N, bool BACK>
__global__ void __launch_bounds__(THREADS)
    depthwise_gather(T *to, const T *from, const T *filters, const T *bias, const __grid_constant__ geometry p)
{
    constexpr int CHANNELS = N == 1 ? (int)ALL_CHANNELS : 4 * N, PARTS = CHANNELS / N;
    CU_SHARED_DYN(float, memory);
    int taps = p.window.h * p.window.w;
    float *weight = memory; /* [taps][CHANNELS] */
    T *tile = reinterpret_cast<T *>(memory + taps * CHANNELS);
    uint32_t block = quotient32(p.by_groups, blockIdx.x);
    place at = place_of(p, block, (int)(blockIdx.x - block * (uint32_t)p.groups), CHANNELS);
    int reach_h = (p.window.h - 1) * p.dilation.h, reach_w = (p.window.w - 1) * p.dilation.w;
    int row = BACK ? floor_div(at.row + p.pad.h - reach_h, p.stride.h, reach_h) : at.row * p.stride.h - p.pad.h;
    int column = BACK ? floor_div(at.column + p.pad.w - reach_w, p.stride.w, reach_w)
                      : at.column * p.stride.w - p.pad.w;
    bring<T, N, CHANNELS>(tile, from + at.image * p.from.h * p.from.w * p.c, p.c, p.from, p.in, p.by_in_w, row, column,
                          at.channel);
    for (int i = threadIdx.x; i < taps * CHANNELS; i += THREADS) {
        int channel = at.channel + i % CHANNELS;
        weight[i] = channel < p.c ? to_f32(filters[(int64_t)channel * taps + i / CHANNELS]) : 0.0f;
    }
    __syncthreads();
    for (int i = threadIdx.x; i < p.tile.h * p.tile.w * PARTS; i += THREADS) {
        int part = i % PARTS, pixel = i / PARTS, a = (int)quotient32(p.by_tile_w, (uint32_t)pixel);
        int b = pixel - a * p.tile.w, first = at.channel + part * N;
        if (at.row + a >= p.to.h || at.column + b >= p.to.w || first >= p.c) continue;
        float sum[N];
#pragma unroll
        for (int k = 0; k < N; k++) sum[k] = bias ? to_f32(bias[first + k]) : 0.0f;
#pragma unroll 1
        for (int r = 0; r < p.window.h; r++) {
            int h = a * p.stride.h + r * p.dilation.h;
            if (BACK) { /* the row of windows that has this pixel under its row r */
                int low = at.row + p.pad.h - row * p.stride.h + a - r * p.dilation.h; /* not below 0 */
                h = (int)quotient32(p.by_stride_h, (uint32_t)low);
                if (h * p.stride.h != low) continue;
            }
#pragma unroll 1
            for (int s = 0; s < p.window.w; s++) {
                int w = b * p.stride.w + s * p.dilation.w;
                if (BACK) {
                    int low = at.column + p.pad.w - column * p.stride.w + b - s * p.dilation.w;
                    w = (int)quotient32(p.by_stride_w, (uint32_t)low);
                    if (w * p.stride.w != low) continue;
                }
                const float *own = weight + (r * p.window.w + s) * CHANNELS + part * N;
                pack<T, N> v;
                v.load(tile + (h * p.in.w + w) * CHANNELS + part * N);
#pragma unroll
                for (int k = 0; k < N; k++) sum[k] += to_f32(v.v[k]) * own[k];
            }
        }
        pack<T, N> out;
#pragma unroll
        for (int k = 0; k < N; k++)
            out.v[k] = from_f32<T>(!p.relu || sum[k] > 0.0f || sum[k] != sum[k] ? sum[k] : 0.0f);
        out.store(to + ((at.image * p.to.h + at.row + a) * p.to.w + at.column + b) * p.c + first);
    }
}

/* ---- the gradient of w ------------------------------------------------------------------------------------------ */

/* `from` is x, `to` is dy. parts: [splits][c][taps]. */
template <class T, int N>
__global__ void __launch_bounds__(THREADS) depthwise_filters(float *parts, const T *x, const T *dy, uint32_t tiles,
                                                             uint32_t splits, const __grid_constant__ geometry p)
{
    constexpr int CHANNELS = N == 1 ? (int)ALL_CHANNELS : 4 * N;
    CU_SHARED_DYN(float, memory);
    int taps = p.window.h * p.window.w, all = taps * CHANNELS;
    float *sum = memory; /* [taps][CHANNELS] */
    T *tile_x = reinterpret_cast<T *>(memory + all), *tile_y = tile_x + p.in.h * p.in.w * CHANNELS;
    uint32_t split = quotient32(p.by_groups, blockIdx.x);
    int group = (int)(blockIdx.x - split * (uint32_t)p.groups);
    for (uint32_t t = split; t < tiles; t += splits) {
        place at = place_of(p, t, group, CHANNELS);
        __syncthreads(); /* the tiles before are no longer read */
        bring<T, N, CHANNELS>(tile_x, x + at.image * p.from.h * p.from.w * p.c, p.c, p.from, p.in, p.by_in_w,
                              at.row * p.stride.h - p.pad.h, at.column * p.stride.w - p.pad.w, at.channel);
        bring<T, N, CHANNELS>(tile_y, dy + at.image * p.to.h * p.to.w * p.c, p.c, p.to, p.tile, p.by_tile_w, at.row,
                              at.column, at.channel);
        __syncthreads();
        for (int i = threadIdx.x; i < all; i += THREADS) {
            int channel = i % CHANNELS, r = (int)quotient32(p.by_window_w, (uint32_t)(i / CHANNELS));
            int s = i / CHANNELS - r * p.window.w;
            float v = 0.0f;
            for (int a = 0; a < p.tile.h; a++) {
                const T *line = tile_x + ((a * p.stride.h + r * p.dilation.h) * p.in.w + s * p.dilation.w) * CHANNELS +
                                channel;
                const T *other = tile_y + a * p.tile.w * CHANNELS + channel;
#pragma unroll 4
                for (int b = 0; b < p.tile.w; b++)
                    v += to_f32(line[b * p.stride.w * CHANNELS]) * to_f32(other[b * CHANNELS]);
            }
            sum[i] = t == split ? v : sum[i] + v;
        }
    }
    __syncthreads();
    for (int i = threadIdx.x; i < all; i += THREADS) {
        int channel = i / taps, tap = i - channel * taps; /* neighbours beside each other in the workspace */
        if (group * CHANNELS + channel >= p.c) continue;
        parts[((int64_t)split * p.c + group * CHANNELS + channel) * taps + tap] = sum[tap * CHANNELS + channel];
    }
}

template <class T>
__global__ void __launch_bounds__(THREADS) depthwise_join(T *dw, const float *parts, int64_t n, int splits)
{
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= n) return;
    float sum = 0.0f;
    for (int k = 0; k < splits; k++) sum += parts[k * n + i];
    dw[i] = from_f32<T>(sum);
}

/* ---- host ------------------------------------------------------------------------------------------------------- */

extent extent_of(const int32_t v[2]) { return { v[0], v[1] }; }

bool is_vector(const qn__dnn_conv *c) { return c->c * (int64_t)qn_dtype_size(c->dtype) % 16 == 0; }
int channels_of(const qn__dnn_conv *c) { return is_vector(c) ? 64 / (int)qn_dtype_size(c->dtype) : (int)ALL_CHANNELS; }

/* The pixels of what is read for a tile of results. */
int64_t reach(const qn__dnn_conv *c, int axis, int64_t window, int64_t tile)
{
    int64_t stride = c->stride[axis], span = (window - 1) * c->dilation[axis];
    return c->direction == QN_DNN_GRAD_X ? (tile - 1 + span) / stride + 2 : (tile - 1) * stride + span + 1;
}
int64_t shared_of(const qn__dnn_conv *c, int64_t h, int64_t w)
{
    int64_t size = (int64_t)qn_dtype_size(c->dtype), channels = channels_of(c);
    int64_t pixels = reach(c, 0, c->kh, h) * reach(c, 1, c->kw, w);
    if (c->direction == QN_DNN_GRAD_W) pixels += h * w;
    return channels * (c->kh * c->kw * 4 + pixels * size);
}

/* The size of equal parts, at most `most` each. */
int64_t part_of(int64_t size, int64_t most) { return size < 1 ? 0 : ceil_div(size, ceil_div(size, most)); }

/* Tiles as large as the image and shared memory allow; false if not even one pixel fits. */
bool tile_of(const qn__dnn_conv *c, extent *tile)
{
    bool grad_x = c->direction == QN_DNN_GRAD_X;
    int64_t h = grad_x ? c->h : c->oh, w = grad_x ? c->w : c->ow;
    if (c->kh > 255 || c->kw > 255 || c->dilation[0] > 255 || c->dilation[1] > 255 || c->stride[0] > 255 ||
        c->stride[1] > 255)
        return false;
    int64_t most = c->direction == QN_DNN_GRAD_W ? SHARED_TWO : SHARED_ONE;
    h = part_of(h, TALL);
    w = part_of(w, WIDE);
    while (shared_of(c, h, w) > most && (h > 1 || w > 1)) {
        if (h >= w)
            h = (h + 1) / 2;
        else
            w = (w + 1) / 2;
    }
    *tile = { (int)h, (int)w };
    return h > 0 && w > 0 && shared_of(c, h, w) <= most;
}

geometry geometry_of(const qn__dnn_conv *c)
{
    geometry p = {};
    bool grad_x = c->direction == QN_DNN_GRAD_X;
    extent image = { (int)c->h, (int)c->w }, result = { (int)c->oh, (int)c->ow };
    tile_of(c, &p.tile);
    p.c = (int)c->c;
    p.groups = (int)ceil_div(c->c, channels_of(c));
    p.from = grad_x ? result : image;
    p.to = grad_x ? image : result;
    p.window = { (int)c->kh, (int)c->kw };
    p.stride = extent_of(c->stride);
    p.dilation = extent_of(c->dilation);
    p.pad = extent_of(c->pad);
    p.in = { (int)reach(c, 0, c->kh, p.tile.h), (int)reach(c, 1, c->kw, p.tile.w) };
    p.tiles = { (int)ceil_div(p.to.h, p.tile.h), (int)ceil_div(p.to.w, p.tile.w) };
    p.relu = c->act == QN_OP_relu;
    p.by_groups = divisor_of(p.groups);
    p.by_tiles = divisor_of((int64_t)p.tiles.h * p.tiles.w);
    p.by_tiles_w = divisor_of(p.tiles.w);
    p.by_in_w = divisor_of(p.in.w);
    p.by_tile_w = divisor_of(p.tile.w);
    p.by_window_w = divisor_of(p.window.w);
    p.by_stride_h = divisor_of(p.stride.h);
    p.by_stride_w = divisor_of(p.stride.w);
    return p;
}

int64_t tiles_of(const qn__dnn_conv *c, const geometry &p) { return c->n * p.tiles.h * p.tiles.w; }

/* Blocks that share the tiles of a group of channels: enough to fill the device twice. */
int64_t splits_of(const qn__dnn_conv *c, const geometry &p, const qn__gpu *gpu)
{
    int64_t blocks = 2 * (int64_t)gpu->multiprocessors * (gpu->threads_per_multiprocessor / THREADS);
    int64_t splits = ceil_div(blocks, p.groups), tiles = tiles_of(c, p);
    return splits < tiles ? splits : tiles;
}

template <class T, int N> cudaError_t gather(const qn__dnn_conv *c, const qn__dnn_data *d, cudaStream_t stream)
{
    geometry p = geometry_of(c);
    unsigned blocks = (unsigned)(tiles_of(c, p) * p.groups);
    size_t shared = (size_t)shared_of(c, p.tile.h, p.tile.w);
    const T *w = (const T *)d->w, *bias = c->bias ? (const T *)d->bias : NULL;
    if (c->direction == QN_DNN_GRAD_X)
        return LAUNCH((depthwise_gather<T, N, true>), (blocks), (THREADS), shared, stream, (T *)d->x, (const T *)d->y,
                      w, bias, p);
    return LAUNCH((depthwise_gather<T, N, false>), (blocks), (THREADS), shared, stream, (T *)d->y, (const T *)d->x, w,
                  bias, p);
}

template <class T, int N> cudaError_t filters(const qn__dnn_conv *c, const qn__dnn_data *d, const qn__step *s)
{
    geometry p = geometry_of(c);
    int64_t splits = splits_of(c, p, s->args.gpu), n = c->c * c->kh * c->kw;
    float *parts = (float *)d->workspace;
    cudaStream_t stream = s->queue->stream;
    cudaError_t answer = LAUNCH((depthwise_filters<T, N>), ((unsigned)(splits * p.groups)), (THREADS),
                                (size_t)shared_of(c, p.tile.h, p.tile.w), stream, parts, (const T *)d->x,
                                (const T *)d->y, (uint32_t)tiles_of(c, p), (uint32_t)splits, p);
    if (answer != cudaSuccess) return answer;
    return LAUNCH(depthwise_join<T>, ((unsigned)ceil_div(n, THREADS)), (THREADS), 0, stream, (T *)d->w,
                  (const float *)parts, n, (int)splits);
}

} // namespace

bool qn__conv_depthwise_takes(const qn__dnn_conv *c, const qn__gpu *)
{
    extent tile;
    if (c->groups != c->c || c->c != c->o || c->c < 2 || !c->nhwc || !tile_of(c, &tile)) return false;
    geometry p = geometry_of(c);
    return tiles_of(c, p) < ((int64_t)1 << 31) / p.groups;
}

size_t qn__conv_depthwise_workspace(const qn__dnn_conv *c, const qn__gpu *gpu)
{
    if (c->direction != QN_DNN_GRAD_W) return 0;
    geometry p = geometry_of(c);
    return sizeof(float) * (size_t)(splits_of(c, p, gpu) * c->c * c->kh * c->kw);
}

cudaError_t qn__conv_depthwise(const qn__dnn_conv *c, const qn__dnn_data *d, const qn__step *s)
{
    return with_float(c->dtype, [&](auto t) {
        using T = decltype(t);
        constexpr int N = vec16<T>::n;
        cudaStream_t stream = s->queue->stream;
        if (c->direction == QN_DNN_GRAD_W) return is_vector(c) ? filters<T, N>(c, d, s) : filters<T, 1>(c, d, s);
        return is_vector(c) ? gather<T, N>(c, d, stream) : gather<T, 1>(c, d, stream);
    });
}
