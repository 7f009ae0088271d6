/* pool.cu - maximum and mean over windows of images, and their gradients; any layout.
 *
 * An image with channel block b is [n][cb][h][w][b]; each of the n cb planes is pooled on its own, 16 bytes of channels
 * at a time where b allows (NHWC: b = C). Compulsory bytes: the image and the pooled image once each, for the gradient
 * of the maximum the image, its maxima and dy read and dx written.
 *
 *   windows   a thread for each window: where windows do not overlap, everything is moved once, backward too
 *   global    plain images under one window each: a warp for each, along the row
 *   pixels    backward with overlapping windows: a thread for each pixel gathers from the windows that cover it, in
 *             row-major order; pixels are read again for each of them
 *
 * The gradient of a maximum goes to the first of equals in row-major order; a NaN is a maximum (kernels/cpu). */
#include "rows.h"

namespace
{

enum { THREADS = 256, WARPS = 8 };
enum { POOL_WINDOWS, POOL_GLOBAL };
enum { GRAD_WINDOWS, GRAD_PIXELS };

/* 32-bit sizes: pick refuses images of 2^31 elements in a plane. */
struct geometry {
    int64_t planes;
    int h, w, oh, ow, b, window[2], stride[2], pad[2];
};
struct span {
    int row, row_end, col, col_end;
};

__device__ __forceinline__ span window_at(const geometry &p, int i, int j)
{
    int r = i * p.stride[0] - p.pad[0], c = j * p.stride[1] - p.pad[1];
    return { max(r, 0), min(r + p.window[0], p.h), max(c, 0), min(c + p.window[1], p.w) };
}
__device__ __forceinline__ float size_of(const span &s) { return (float)((s.row_end - s.row) * (s.col_end - s.col)); }

/* Window number `index` of all, N channels of it at once. */
struct place {
    int64_t plane;
    int i, j, k;
};
template <int N> __device__ __forceinline__ place place_of(int64_t index, int height, int width, int b)
{
    int lanes = b / N, inner = height * width * lanes;
    int rest = (int)(index % inner);
    return { index / inner, rest / lanes / width, rest / lanes % width, rest % lanes * N };
}

struct reduce_max {
    static __device__ __forceinline__ float identity() { return -INFINITY; }
    static __device__ __forceinline__ float join(float a, float b) { return b > a || b != b ? b : a; }
    static __device__ __forceinline__ float finish(float v, float) { return v; }
    static __device__ __forceinline__ float over_warp(float v) { return warp_max(v); }
};
struct reduce_mean {
    static __device__ __forceinline__ float identity() { return 0.0f; }
    static __device__ __forceinline__ float join(float a, float b) { return a + b; }
    static __device__ __forceinline__ float finish(float v, float n) { return v / n; }
    static __device__ __forceinline__ float over_warp(float v) { return warp_sum(v); }
};

/* ---- forward ------------------------------------------------------------------------------------------------- */

template <class T, int N, class Op>
__global__ void __launch_bounds__(THREADS) pool_windows(T *y, const T *x, const geometry p, int64_t count)
{
    int64_t index = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (index >= count) return;
    place at = place_of<N>(index, p.oh, p.ow, p.b);
    span s = window_at(p, at.i, at.j);
    const T *image = x + at.plane * p.h * p.w * p.b + at.k;
    float acc[N];
#pragma unroll
    for (int n = 0; n < N; n++) acc[n] = Op::identity();
    for (int r = s.row; r < s.row_end; r++)
        for (int c = s.col; c < s.col_end; c++) {
            pack<T, N> v;
            v.load(image + ((int64_t)r * p.w + c) * p.b);
#pragma unroll
            for (int n = 0; n < N; n++) acc[n] = Op::join(acc[n], to_f32(v.v[n]));
        }
    pack<T, N> out;
#pragma unroll
    for (int n = 0; n < N; n++) out.v[n] = from_f32<T>(Op::finish(acc[n], size_of(s)));
    out.store(y + index * N);
}

template <class T, class Op>
__global__ void __launch_bounds__(THREADS) pool_global(T *y, const T *x, int64_t planes, int size)
{
    int64_t plane = (int64_t)blockIdx.x * WARPS + threadIdx.y;
    if (plane >= planes) return;
    float acc = Op::identity();
    for (int i = threadIdx.x; i < size; i += 32) acc = Op::join(acc, to_f32(x[plane * size + i]));
    acc = Op::over_warp(acc);
    if (threadIdx.x == 0) y[plane] = from_f32<T>(Op::finish(acc, (float)size));
}

/* ---- backward, windows apart from each other -------------------------------------------------------------------- */

template <class T, int N, bool MAX>
__global__ void __launch_bounds__(THREADS)
    pool_grad_windows(T *dx, const T *x, const T *y, const T *dy, const geometry p, int64_t count)
{
    int64_t index = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (index >= count) return;
    place at = place_of<N>(index, p.oh, p.ow, p.b);
    span s = window_at(p, at.i, at.j);
    int64_t image = at.plane * p.h * p.w * p.b + at.k;
    pack<T, N> top, left;
    left.load(dy + index * N);
    if (MAX) top.load(y + index * N);
#pragma unroll
    for (int n = 0; n < N && !MAX; n++) left.v[n] = from_f32<T>(to_f32(left.v[n]) / size_of(s));
    for (int r = s.row; r < s.row_end; r++)
        for (int c = s.col; c < s.col_end; c++) {
            int64_t pixel = image + ((int64_t)r * p.w + c) * p.b;
            pack<T, N> v, out = left;
            if (MAX) v.load(x + pixel);
#pragma unroll
            for (int n = 0; n < N && MAX; n++) {
                float a = to_f32(v.v[n]), m = to_f32(top.v[n]);
                bool hit = a == m || (a != a && m != m);
                if (!hit) out.v[n] = from_f32<T>(0.0f);
                if (hit) left.v[n] = from_f32<T>(0.0f);
            }
            out.store(dx + pixel);
        }
}

/* ---- backward, any windows ------------------------------------------------------------------------------------- */

/* The windows [first, last] that cover pixel `at`. */
__device__ __forceinline__ void covering(int at, int window, int stride, int pad, int count, int &first, int &last)
{
    int low = at + pad - window + 1;
    first = low <= 0 ? 0 : (low + stride - 1) / stride;
    last = min((at + pad) / stride, count - 1);
}

/* No element of the window before pixel (row, col) equals its maximum. */
template <class T>
__device__ __forceinline__ bool is_first(const T *image, const geometry &p, const span &s, int row, int col, float m)
{
    for (int r = s.row; r <= row; r++)
        for (int c = s.col; c < s.col_end && (r < row || c < col); c++) {
            float a = to_f32(image[((int64_t)r * p.w + c) * p.b]);
            if (a == m || (a != a && m != m)) return false;
        }
    return true;
}

template <class T, bool MAX>
__global__ void __launch_bounds__(THREADS)
    pool_grad_pixels(T *dx, const T *x, const T *y, const T *dy, const geometry p, int64_t count)
{
    int64_t index = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (index >= count) return;
    place at = place_of<1>(index, p.h, p.w, p.b);
    const T *image = x + at.plane * p.h * p.w * p.b + at.k;
    int64_t pooled = at.plane * p.oh * p.ow * p.b + at.k;
    int i0, i1, j0, j1;
    covering(at.i, p.window[0], p.stride[0], p.pad[0], p.oh, i0, i1);
    covering(at.j, p.window[1], p.stride[1], p.pad[1], p.ow, j0, j1);
    float own = MAX ? to_f32(x[index]) : 0.0f, sum = 0.0f;
    for (int i = i0; i <= i1; i++)
        for (int j = j0; j <= j1; j++) {
            int64_t from = pooled + ((int64_t)i * p.ow + j) * p.b;
            span s = window_at(p, i, j);
            float g = to_f32(dy[from]);
            if (!MAX) {
                sum += g / size_of(s);
                continue;
            }
            float m = to_f32(y[from]);
            if ((own == m || (own != own && m != m)) && is_first(image, p, s, at.i, at.j, m)) sum += g;
        }
    dx[index] = from_f32<T>(sum);
}

/* ---- host ------------------------------------------------------------------------------------------------------- */

geometry geometry_of(const qn__args &a, const qn__view &x, const qn__view &y)
{
    const qn__pool_attr *attr = static_cast<const qn__pool_attr *>(a.attr);
    geometry p = {};
    p.b = x.block;
    p.planes = x.dim[0] * (x.dim[1] / x.block);
    p.h = (int)x.dim[2];
    p.w = (int)x.dim[3];
    p.oh = (int)y.dim[2];
    p.ow = (int)y.dim[3];
    for (int i = 0; i < 2; i++) {
        p.window[i] = attr->window[i];
        p.stride[i] = attr->stride[i];
        p.pad[i] = attr->pad[i];
    }
    return p;
}

/* One window over all of a plain image. */
bool is_global(const geometry &p)
{
    return p.b == 1 && p.oh == 1 && p.ow == 1 && p.pad[0] == 0 && p.pad[1] == 0 && p.window[0] >= p.h &&
           p.window[1] >= p.w && p.h * p.w > QN_THREAD_ROW;
}
bool are_apart(const geometry &p) { return p.stride[0] >= p.window[0] && p.stride[1] >= p.window[1]; }

/* All operands and the result in one layout: that of the operands if one is blocked, else NHWC for a gradient, because
 * dy is the smaller side. */
qn_status pick_layout(const qn__args *a, qn__choice *c, bool spread)
{
    int32_t block = a->y.block;
    if (!is_cuda_float(a->y.dtype) || a->y.rank != 4) return QN_EUSAGE;
    for (int i = a->n_in - 1; i >= 0; i--) {
        if (a->x[i].dtype != a->y.dtype) return QN_EUSAGE;
        if (a->x[i].block > QN_PLAIN) block = a->x[i].block;
        if (a->x[i].dim[1] * a->x[i].dim[2] * a->x[i].dim[3] >= INT32_MAX) return QN_EUSAGE;
    }
    if (block == QN_ANY_BLOCK) block = spread && a->y.dim[1] > 0 ? (int32_t)a->y.dim[1] : QN_PLAIN;
    for (int i = 0; i < a->n_in; i++) c->x_block[i] = block;
    c->y_block = block;
    return QN_OK;
}

qn_status pick(const qn__args *a, qn__choice *c)
{
    QN_TRY(pick_layout(a, c, false));
    qn__view x = a->x[0];
    x.block = c->x_block[0];
    c->variant = is_global(geometry_of(*a, x, a->y)) ? POOL_GLOBAL : POOL_WINDOWS;
    return QN_OK;
}

template <bool MAX> qn_status pick_grad(const qn__args *a, qn__choice *c)
{
    QN_TRY(pick_layout(a, c, true));
    qn__view dx = a->y;
    dx.block = c->y_block;
    c->variant = are_apart(geometry_of(*a, dx, a->x[a->n_in - 1])) ? GRAD_WINDOWS : GRAD_PIXELS;
    return QN_OK;
}

template <class T, int N, class Op> cudaError_t forward_as(const qn__step *s, const geometry &p)
{
    const qn__args &a = s->args;
    int64_t count = a.y.count / N;
    return LAUNCH((pool_windows<T, N, Op>), ((unsigned)ceil_div(count, THREADS)), (THREADS), 0, s->queue->stream,
                  (T *)a.y.data, (const T *)a.x[0].data, p, count);
}

template <class Op> qn_status launch(const qn__step *s, qn_error *err)
{
    const qn__args &a = s->args;
    if (!a.y.count) return QN_OK;
    geometry p = geometry_of(a, a.x[0], a.y);
    cudaError_t answer = with_float(a.y.dtype, [&](auto t) {
        using T = decltype(t);
        if (s->choice.variant == POOL_GLOBAL)
            return LAUNCH((pool_global<T, Op>), ((unsigned)ceil_div(p.planes, WARPS)), (32, WARPS), 0, s->queue->stream,
                          (T *)a.y.data, (const T *)a.x[0].data, p.planes, p.h * p.w);
        return p.b % vec16<T>::n == 0 ? forward_as<T, vec16<T>::n, Op>(s, p) : forward_as<T, 1, Op>(s, p);
    });
    return qn__cuda_check(answer, "pool", s, err);
}

template <class T, int N, bool MAX> cudaError_t backward_as(const qn__step *s, const geometry &p, const qn__view &dy)
{
    const qn__args &a = s->args;
    int64_t count = dy.count / N;
    return LAUNCH((pool_grad_windows<T, N, MAX>), ((unsigned)ceil_div(count, THREADS)), (THREADS), 0, s->queue->stream,
                  (T *)a.y.data, MAX ? (const T *)a.x[0].data : NULL, MAX ? (const T *)a.x[1].data : NULL,
                  (const T *)dy.data, p, count);
}

/* Windows that are apart may leave pixels uncovered. */
bool covers_all(const geometry &p)
{
    return p.stride[0] == p.window[0] && p.stride[1] == p.window[1] && p.pad[0] == 0 && p.pad[1] == 0 &&
           p.oh * p.window[0] >= p.h && p.ow * p.window[1] >= p.w;
}

template <bool MAX> qn_status launch_grad(const qn__step *s, qn_error *err)
{
    const qn__args &a = s->args;
    const qn__view &dy = a.x[a.n_in - 1];
    if (!a.y.count) return QN_OK;
    geometry p = geometry_of(a, a.y, dy);
    cudaStream_t stream = s->queue->stream;
    if (!dy.count || (s->choice.variant == GRAD_WINDOWS && !covers_all(p)))
        QN_TRY(qn__cuda_check(cudaMemsetAsync(a.y.data, 0, (size_t)a.y.count * qn_dtype_size(a.y.dtype), stream),
                              "cudaMemsetAsync", s, err));
    if (!dy.count) return QN_OK;
    cudaError_t answer = with_float(a.y.dtype, [&](auto t) {
        using T = decltype(t);
        if (s->choice.variant == GRAD_WINDOWS)
            return p.b % vec16<T>::n == 0 ? backward_as<T, vec16<T>::n, MAX>(s, p, dy)
                                          : backward_as<T, 1, MAX>(s, p, dy);
        return LAUNCH((pool_grad_pixels<T, MAX>), ((unsigned)ceil_div(a.y.count, THREADS)), (THREADS), 0, stream,
                      (T *)a.y.data, MAX ? (const T *)a.x[0].data : NULL, MAX ? (const T *)a.x[1].data : NULL,
                      (const T *)dy.data, p, a.y.count);
    });
    return qn__cuda_check(answer, "pool_grad", s, err);
}

const char *const variants[] = { "windows", "global", NULL };
const char *const grad_variants[] = { "windows", "pixels", NULL };

} // namespace

KERNEL(max_pool2d) = { .variants = variants, .pick = pick, .launch = launch<reduce_max> };
KERNEL(avg_pool2d) = { .variants = variants, .pick = pick, .launch = launch<reduce_mean> };
KERNEL(max_pool2d_grad) = { .variants = grad_variants, .pick = pick_grad<true>, .launch = launch_grad<true> };
KERNEL(avg_pool2d_grad) = { .variants = grad_variants, .pick = pick_grad<false>, .launch = launch_grad<false> };
