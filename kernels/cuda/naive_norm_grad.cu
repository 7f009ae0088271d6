/* naive_norm_grad.cu - the lowest rungs (naive.cu) of the gradients of layer norm, RMS norm and group norm: one thread
 * for each row, then for each channel, no shared memory, one element an access. Compulsory bytes in elements of x: dx
 * 3 n, dgamma 2 n; these kernels read x twice more, and a warp's threads read from as many rows. */
#include "gpu.h"
#include "cuda.h"

namespace
{

/* No multiple of it is a usual number of rows, so that the last block is mostly a part of one. */
enum { THREADS = 192 };

unsigned blocks(int64_t n) { return (unsigned)ceil_div(n, THREADS); }
__device__ __forceinline__ int64_t own_index() { return (int64_t)blockIdx.x * THREADS + threadIdx.x; }

/* x [n, c, s]: a row is a group of channels of one sample, and lies together. Layer norm: s = 1, one group. */
struct rows {
    int64_t n, groups;
    int32_t c, s, width;
    float eps;
    bool centred;
};

/* Mean (0 in RMS norm) and reciprocal deviation of each row. */
template <class T> __global__ void __launch_bounds__(THREADS) norm_moments_naive(float2 *moments, const T *x, rows k)
{
    int64_t row = own_index();
    float mean = 0.0f, square = 0.0f, n = (float)k.width;
    if (row >= k.n * k.groups) return;
    x += row * k.width;
#pragma unroll 1
    for (int i = 0; i < k.width && k.centred; i++) mean += to_f32(x[i]);
    mean /= n;
#pragma unroll 1
    for (int i = 0; i < k.width; i++) square += (to_f32(x[i]) - mean) * (to_f32(x[i]) - mean);
    moments[row] = { mean, 1.0f / sqrtf(square / n + k.eps) };
}

template <class T>
__global__ void __launch_bounds__(THREADS)
    norm_grad_x_naive(T *dx, const T *x, const T *dy, const T *gamma, const float2 *moments, rows k)
{
    int64_t row = own_index();
    float a = 0.0f, b = 0.0f, n = (float)k.width;
    if (row >= k.n * k.groups) return;
    float2 m = moments[row];
    x += row * k.width, dy += row * k.width, dx += row * k.width;
    gamma += row % k.groups * (k.width / k.s);
#pragma unroll 1
    for (int i = 0; i < k.width; i++) {
        float u = to_f32(gamma[i / k.s]) * to_f32(dy[i]);
        a += u;
        b += u * (to_f32(x[i]) - m.x) * m.y;
    }
    if (!k.centred) a = 0.0f;
#pragma unroll 1
    for (int i = 0; i < k.width; i++) {
        float u = to_f32(gamma[i / k.s]) * to_f32(dy[i]);
        dx[i] = from_f32<T>(m.y * (u - a / n - (to_f32(x[i]) - m.x) * m.y * b / n));
    }
}

template <class T>
__global__ void __launch_bounds__(THREADS)
    norm_grad_w_naive(T *dgamma, const T *x, const T *dy, const float2 *moments, rows k)
{
    int64_t c = own_index();
    float sum = 0.0f;
    if (c >= k.c) return;
    int64_t group = c / (k.width / k.s);
#pragma unroll 1
    for (int64_t n = 0; n < k.n; n++) {
        float2 m = moments[n * k.groups + group];
        int64_t at = (n * k.c + c) * k.s;
#pragma unroll 1
        for (int i = 0; i < k.s; i++) sum += to_f32(dy[at + i]) * (to_f32(x[at + i]) - m.x) * m.y;
    }
    dgamma[c] = from_f32<T>(sum);
}

/* ---- host ---------------------------------------------------------------------------------------------------- */

rows rows_of(const qn__args &a)
{
    const qn__view &x = a.x[0];
    const qn__norm_attr *attr = static_cast<const qn__norm_attr *>(a.attr);
    bool group = a.op == QN_OP_group_norm_grad_x || a.op == QN_OP_group_norm_grad_w;
    int64_t c = x.dim[group ? 1 : x.rank - 1], n = group ? x.dim[0] : x.count / c;
    rows k = { .n = n, .groups = group ? attr->groups : 1, .c = (int32_t)c, .s = (int32_t)(x.count / n / c) };
    k.width = (int32_t)(c / k.groups * k.s);
    k.eps = (float)attr->eps;
    k.centred = a.op != QN_OP_rms_norm_grad_x && a.op != QN_OP_rms_norm_grad_w;
    return k;
}

/* Something, in no layout but the plain one, without an addend. */
qn_status pick(const qn__args *a, qn__choice *c)
{
    bool of_x = a->op == QN_OP_layer_norm_grad_x || a->op == QN_OP_rms_norm_grad_x || a->op == QN_OP_group_norm_grad_x;
    bool plain = a->y.block <= QN_PLAIN && a->x[0].block <= QN_PLAIN && a->x[1].block <= QN_PLAIN;
    if (!plain || !is_cuda_float(a->y.dtype) || a->n_in != (of_x ? 3 : 2) || !a->x[0].count) return QN_EUSAGE;
    rows k = rows_of(*a);
    c->variant = 0;
    c->workspace = sizeof(float2) * (size_t)(k.n * k.groups);
    return QN_OK;
}

template <class T> cudaError_t start(const qn__step *s)
{
    const qn__args &a = s->args;
    rows k = rows_of(a);
    const T *x = static_cast<const T *>(a.x[0].data), *dy = static_cast<const T *>(a.x[1].data);
    T *y = static_cast<T *>(a.y.data);
    float2 *moments = static_cast<float2 *>(s->workspace);
    cudaStream_t stream = s->queue->stream;
    cudaError_t answer = LAUNCH(norm_moments_naive<T>, (blocks(k.n * k.groups)), (THREADS), 0, stream, moments, x, k);
    if (answer != cudaSuccess) return answer;
    if (a.n_in == 2) return LAUNCH(norm_grad_w_naive<T>, (blocks(k.c)), (THREADS), 0, stream, y, x, dy, moments, k);
    return LAUNCH(norm_grad_x_naive<T>, (blocks(k.n * k.groups)), (THREADS), 0, stream, y, x, dy,
                  static_cast<const T *>(a.x[2].data), moments, k);
}

qn_status launch(const qn__step *s, qn_error *err)
{
    return qn__cuda_check(with_float(s->args.y.dtype, [&](auto t) { return start<decltype(t)>(s); }), "norm_grad_naive",
                          s, err);
}

const char *const variants[] = { "naive", NULL };

} // namespace

extern "C" const struct qn__kernel qn__naive_norm_grad;
const struct qn__kernel qn__naive_norm_grad = { .variants = variants, .pick = pick, .launch = launch };
