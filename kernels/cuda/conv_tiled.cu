/* conv_tiled.cu - the three directions of a convolution as products in f32, any geometry, layout and type: for what cuDNN
 * has no engine for (implicit GEMM, see conv_tensor.cu).
 *
 *              rows            columns         along k
 *   forward    n, oh, ow       o of a group    r, s, c of a group
 *   grad x     n, h, w         c of a group    r, s, o of a group
 *   grad w     o of a group    r, s, c         n, oh, ow
 *
 * 64 x 64 results a block, 4 x 4 a thread, slices of 16 along k through shared memory; sums in the order of k. Where an
 * element lies is computed anew for each, so this is limited by integer arithmetic: right, not fast. */
#include "conv_own.h"
#include "index.h"

namespace
{

enum { SIDE = 64, SLICE = 16, SIDES = 16 };

struct strides {
    int64_t n, c, h, w;
};
struct shape {
    strides x, y, w;                                            /* w: n is o, c is c of a group, h and w are r and s */
    int c, o, h, width, oh, ow, stride[2], dilation[2], pad[2]; /* c, o: of one group */
    int rows, columns, k;
    bool relu;
    divisor by_image, by_line, by_channels, by_kw, by_stride[2]; /* image and line: of what rows or k run over */
};

struct point {
    int n, i, j;
};
struct tap {
    int r, s, e;
};

__device__ __forceinline__ point point_of(const shape &p, int at)
{
    int n = (int)quotient32(p.by_image, (uint32_t)at), rest = at - n * (int)p.by_image.by;
    int i = (int)quotient32(p.by_line, (uint32_t)rest);
    return { n, i, rest - i * (int)p.by_line.by };
}
__device__ __forceinline__ tap tap_of(const shape &p, int at)
{
    int t = (int)quotient32(p.by_channels, (uint32_t)at), r = (int)quotient32(p.by_kw, (uint32_t)t);
    return { r, t - r * (int)p.by_kw.by, at - t * (int)p.by_channels.by };
}

/* x under tap t of the window at point p of y; 0 beside the image. */
template <class T> __device__ __forceinline__ float x_at(const shape &p, const T *x, int group, point at, tap t)
{
    int i = at.i * p.stride[0] - p.pad[0] + t.r * p.dilation[0];
    int j = at.j * p.stride[1] - p.pad[1] + t.s * p.dilation[1];
    if ((unsigned)i >= (unsigned)p.h || (unsigned)j >= (unsigned)p.width) return 0.0f;
    return to_f32(x[at.n * p.x.n + ((int64_t)group * p.c + t.e) * p.x.c + i * p.x.h + j * p.x.w]);
}
/* y whose window has pixel `at` of x under tap t; 0 if there is none. */
template <class T> __device__ __forceinline__ float y_at(const shape &p, const T *y, int group, point at, tap t)
{
    int i = at.i + p.pad[0] - t.r * p.dilation[0], j = at.j + p.pad[1] - t.s * p.dilation[1];
    if (i < 0 || j < 0) return 0.0f;
    int oh = (int)quotient32(p.by_stride[0], (uint32_t)i), ow = (int)quotient32(p.by_stride[1], (uint32_t)j);
    if (oh * p.stride[0] != i || ow * p.stride[1] != j || oh >= p.oh || ow >= p.ow) return 0.0f;
    return to_f32(y[at.n * p.y.n + ((int64_t)group * p.o + t.e) * p.y.c + oh * p.y.h + ow * p.y.w]);
}
__device__ __forceinline__ int64_t place_y(const shape &p, int group, point at, int o)
{
    return at.n * p.y.n + ((int64_t)group * p.o + o) * p.y.c + at.i * p.y.h + at.j * p.y.w;
}
__device__ __forceinline__ int64_t place_w(const shape &p, int group, int o, int c, tap t)
{
    return ((int64_t)group * p.o + o) * p.w.n + c * p.w.c + t.r * p.w.h + t.s * p.w.w;
}

/* Element (row, k) of A. The place of the row and of k are decoded once for many elements. */
template <class T, int DIRECTION> struct left {
    point at[4];
    int row[4];
    __device__ __forceinline__ void start(const shape &p, int first, int thread)
    {
#pragma unroll
        for (int j = 0; j < 4; j++) {
            row[j] = first + thread / SLICE + SIDES * j;
            if (DIRECTION != QN_DNN_GRAD_W) at[j] = point_of(p, row[j]);
        }
    }
    __device__ __forceinline__ float get(const shape &p, const T *x, const T *y, int group, int j, int k) const
    {
        if (row[j] >= p.rows || k >= p.k) return 0.0f;
        if (DIRECTION == QN_DNN_FORWARD) return x_at(p, x, group, at[j], tap_of(p, k));
        if (DIRECTION == QN_DNN_GRAD_X) return y_at(p, y, group, at[j], tap_of(p, k));
        return to_f32(y[place_y(p, group, point_of(p, k), row[j])]);
    }
};
template <class T, int DIRECTION> struct right {
    tap at[4];
    int column[4];
    __device__ __forceinline__ void start(const shape &p, int first, int thread)
    {
#pragma unroll
        for (int j = 0; j < 4; j++) {
            column[j] = first + thread / SLICE + SIDES * j;
            if (DIRECTION == QN_DNN_GRAD_W) at[j] = tap_of(p, column[j]);
        }
    }
    __device__ __forceinline__ float get(const shape &p, const T *x, const T *w, int group, int j, int k) const
    {
        if (column[j] >= p.columns || k >= p.k) return 0.0f;
        if (DIRECTION == QN_DNN_GRAD_W) return x_at(p, x, group, point_of(p, k), at[j]);
        tap t = tap_of(p, k);
        bool forward = DIRECTION == QN_DNN_FORWARD;
        return to_f32(w[place_w(p, group, forward ? column[j] : t.e, forward ? t.e : column[j], t)]);
    }
};

template <class T, int DIRECTION>
__device__ __forceinline__ void put(const shape &p, T *result, const T *bias, int group, int row, int column, float v)
{
    if (row >= p.rows || column >= p.columns) return;
    if (DIRECTION == QN_DNN_GRAD_W) {
        tap t = tap_of(p, column);
        result[place_w(p, group, row, t.e, t)] = from_f32<T>(v);
        return;
    }
    int channels = DIRECTION == QN_DNN_FORWARD ? p.o : p.c, channel = group * channels + column;
    point at = point_of(p, row);
    const strides &s = DIRECTION == QN_DNN_FORWARD ? p.y : p.x;
    if (bias) v += to_f32(bias[channel]);
    if (p.relu) v = v > 0.0f || v != v ? v : 0.0f;
    result[at.n * s.n + channel * s.c + at.i * s.h + at.j * s.w] = from_f32<T>(v);
}

/* Thread (x, y) has rows y + 16 i and columns x + 16 j, as gemm_registers. */
template <class T, int DIRECTION>
__global__ void __launch_bounds__(256)
    conv_tiled(T *result, const T *x, const T *w, const T *y, const T *bias, const __grid_constant__ shape p)
{
    CU_SHARED(float, ta, [SLICE][SIDE + 1]);
    CU_SHARED(float, tb, [SLICE][SIDE + 1]);
    int r0 = blockIdx.x * SIDE, c0 = blockIdx.y * SIDE, group = blockIdx.z, thread = threadIdx.y * 16 + threadIdx.x;
    left<T, DIRECTION> a;
    right<T, DIRECTION> b;
    a.start(p, r0, thread);
    b.start(p, c0, thread);
    float sum[4][4] = {};
#pragma unroll 1
    for (int p0 = 0; p0 < p.k; p0 += SLICE) {
        int own = thread % SLICE, k = p0 + own;
#pragma unroll
        for (int j = 0; j < 4; j++) {
            ta[own][thread / SLICE + SIDES * j] = a.get(p, x, y, group, j, k);
            tb[own][thread / SLICE + SIDES * j] = b.get(p, x, w, group, j, k);
        }
        __syncthreads();
#pragma unroll
        for (int q = 0; q < SLICE; q++) {
            float fa[4], fb[4];
#pragma unroll
            for (int i = 0; i < 4; i++) fa[i] = ta[q][threadIdx.y + 16 * i];
#pragma unroll
            for (int j = 0; j < 4; j++) fb[j] = tb[q][threadIdx.x + 16 * j];
#pragma unroll
            for (int i = 0; i < 4; i++)
#pragma unroll
                for (int j = 0; j < 4; j++) sum[i][j] += fa[i] * fb[j];
        }
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++)
            put<T, DIRECTION>(p, result, bias, group, r0 + threadIdx.y + 16 * i, c0 + threadIdx.x + 16 * j, sum[i][j]);
}

/* ---- host ------------------------------------------------------------------------------------------------------- */

strides image_of(bool nhwc, int64_t c, int64_t h, int64_t w)
{
    if (nhwc) return { c * h * w, 1, w * c, c };
    return { c * h * w, h * w, w, 1 };
}

shape shape_of(const qn__dnn_conv *c)
{
    shape p = {};
    bool grad_x = c->direction == QN_DNN_GRAD_X, grad_w = c->direction == QN_DNN_GRAD_W;
    int64_t channels = c->c / c->groups, results = c->o / c->groups, taps = c->kh * c->kw;
    int64_t places = c->n * (grad_x ? c->h * c->w : c->oh * c->ow);
    p.x = image_of(c->nhwc, c->c, c->h, c->w);
    p.y = image_of(c->nhwc, c->o, c->oh, c->ow);
    p.w = { channels * taps, taps, c->kw, 1 };
    p.c = (int)channels;
    p.o = (int)results;
    p.h = (int)c->h;
    p.width = (int)c->w;
    p.oh = (int)c->oh;
    p.ow = (int)c->ow;
    p.rows = (int)(grad_w ? results : places);
    p.columns = (int)(grad_w ? taps * channels : grad_x ? channels : results);
    p.k = (int)(grad_w ? places : grad_x ? taps * results : taps * channels);
    p.relu = c->act == QN_OP_relu;
    p.by_image = divisor_of(grad_x ? c->h * c->w : c->oh * c->ow);
    p.by_line = divisor_of(grad_x ? c->w : c->ow);
    p.by_channels = divisor_of(grad_x ? results : channels);
    p.by_kw = divisor_of(c->kw);
    for (int i = 0; i < 2; i++) {
        p.stride[i] = c->stride[i];
        p.dilation[i] = c->dilation[i];
        p.pad[i] = c->pad[i];
        p.by_stride[i] = divisor_of(c->stride[i]);
    }
    return p;
}

template <class T, int DIRECTION> cudaError_t run(const qn__dnn_conv *c, const qn__dnn_data *d, cudaStream_t stream)
{
    shape p = shape_of(c);
    void *result = DIRECTION == QN_DNN_FORWARD ? d->y : DIRECTION == QN_DNN_GRAD_X ? d->x : d->w;
    return LAUNCH((conv_tiled<T, DIRECTION>),
                  ((unsigned)ceil_div(p.rows, SIDE), (unsigned)ceil_div(p.columns, SIDE), (unsigned)c->groups),
                  (16, 16), 0, stream, (T *)result, (const T *)d->x, (const T *)d->w, (const T *)d->y,
                  (const T *)(c->bias ? d->bias : NULL), p);
}

} // namespace

cudaError_t qn__conv_tiled(const qn__dnn_conv *c, const qn__dnn_data *d, const qn__step *s)
{
    return with_float(c->dtype, [&](auto t) {
        using T = decltype(t);
        cudaStream_t stream = s->queue->stream;
        if (c->direction == QN_DNN_FORWARD) return run<T, QN_DNN_FORWARD>(c, d, stream);
        if (c->direction == QN_DNN_GRAD_X) return run<T, QN_DNN_GRAD_X>(c, d, stream);
        return run<T, QN_DNN_GRAD_W>(c, d, stream);
    });
}
