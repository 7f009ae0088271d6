/* naive_norm.cu - the lowest rungs (naive.cu) of normalisation over channels and groups: one thread
 * for each channel, row or element, no shared memory, one element an access. */
#include "gpu.h"
#include "cuda.h"

namespace
{

enum { THREADS = 256 };

unsigned blocks(int64_t n) { return (unsigned)ceil_div(n, THREADS); }
__device__ __forceinline__ int64_t own_index() { return (int64_t)blockIdx.x * THREADS + threadIdx.x; }

/* [n, c, s] */
struct image {
    int64_t n, c, s;
};

template <class T> __global__ void __launch_bounds__(THREADS) bn_stats_naive(float *y, const T *x, image g)
{
    int64_t c = own_index();
    float mean = 0.0f, square = 0.0f, m = (float)(g.n * g.s);
    if (c >= g.c) return;
    for (int64_t n = 0; n < g.n; n++)
        for (int64_t i = 0; i < g.s; i++) mean += to_f32(x[(n * g.c + c) * g.s + i]);
    mean /= m;
    for (int64_t n = 0; n < g.n; n++)
        for (int64_t i = 0; i < g.s; i++) {
            float d = to_f32(x[(n * g.c + c) * g.s + i]) - mean;
            square += d * d;
        }
    y[c] = mean;
    y[g.c + c] = square / m;
}

template <class T>
__global__ void __launch_bounds__(THREADS)
    batch_norm_naive(T *y, const T *x, const T *gamma, const T *beta, const float *stats, image g, float eps)
{
    int64_t i = own_index(), c = i / g.s % g.c;
    if (i >= g.n * g.c * g.s) return;
    float scale = to_f32(gamma[c]) / sqrtf(stats[g.c + c] + eps);
    y[i] = from_f32<T>((to_f32(x[i]) - stats[c]) * scale + to_f32(beta[c]));
}

template <class T>
__global__ void __launch_bounds__(THREADS)
    bn_grad_stats_naive(float *y, const T *x, const T *dy, const float *stats, image g, float eps)
{
    int64_t c = own_index();
    float sum = 0.0f, product = 0.0f;
    if (c >= g.c) return;
    for (int64_t n = 0; n < g.n; n++)
        for (int64_t i = 0; i < g.s; i++) {
            int64_t at = (n * g.c + c) * g.s + i;
            sum += to_f32(dy[at]);
            product += to_f32(dy[at]) * (to_f32(x[at]) - stats[c]);
        }
    y[c] = sum;
    y[g.c + c] = product / sqrtf(stats[g.c + c] + eps);
}

template <class T>
__global__ void __launch_bounds__(THREADS) bn_grad_x_naive(T *dx, const T *x, const T *dy, const float *stats,
                                                           const T *gamma, const float *sums, image g, float eps)
{
    int64_t i = own_index(), c = i / g.s % g.c;
    if (i >= g.n * g.c * g.s) return;
    float m = (float)(g.n * g.s), r = 1.0f / sqrtf(stats[g.c + c] + eps), xhat = (to_f32(x[i]) - stats[c]) * r;
    dx[i] = from_f32<T>(to_f32(gamma[c]) * r * (to_f32(dy[i]) - sums[c] / m - xhat * sums[g.c + c] / m));
}

/* Rows of [groups, width] a sample; s elements a channel. */
struct rows {
    int64_t n, width, groups, s;
};
template <class T>
__global__ void __launch_bounds__(THREADS)
    group_norm_naive(T *y, const T *x, const T *gamma, const T *beta, rows k, float eps)
{
    int64_t row = own_index(), first = row % k.groups * (k.width / k.s);
    int width = (int)k.width, s = (int)k.s;
    float mean = 0.0f, square = 0.0f, n = (float)k.width;
    if (row >= k.n) return;
    x += row * k.width;
    for (int i = 0; i < width; i++) mean += to_f32(x[i]);
    mean /= n;
    for (int i = 0; i < width; i++) square += (to_f32(x[i]) - mean) * (to_f32(x[i]) - mean);
    float r = 1.0f / sqrtf(square / n + eps);
    for (int i = 0; i < width; i++)
        y[row * k.width + i] = from_f32<T>((to_f32(x[i]) - mean) * r * to_f32(gamma[first + i / s]) +
                                           to_f32(beta[first + i / s]));
}

/* ---- host ---------------------------------------------------------------------------------------------------- */

bool is_plain(const qn__args *a)
{
    for (int i = 0; i < a->n_in; i++)
        if (a->x[i].block > QN_PLAIN) return false;
    return a->y.block <= QN_PLAIN;
}
/* No layout but the plain one, nothing folded in, `n` operands. */
qn_status pick_of(const qn__args *a, qn__choice *c, qn_dtype real, int n)
{
    c->variant = 0;
    return is_plain(a) && is_cuda_float(real) && a->n_in == n ? QN_OK : QN_EUSAGE;
}
int32_t act_of(const qn__args *a) { return static_cast<const qn__bn_attr *>(a->attr)->act; }
qn_status pick_stats(const qn__args *a, qn__choice *c) { return pick_of(a, c, a->x[0].dtype, 1); }
qn_status pick_batch_norm(const qn__args *a, qn__choice *c)
{
    return act_of(a) ? QN_EUSAGE : pick_of(a, c, a->y.dtype, 4);
}
qn_status pick_three(const qn__args *a, qn__choice *c) { return pick_of(a, c, a->x[0].dtype, 3); }
qn_status pick_grad_x(const qn__args *a, qn__choice *c) { return pick_of(a, c, a->y.dtype, 5); }

image image_of(const qn__args &a)
{
    const qn__view &x = a.x[0];
    image g = { x.dim[0], x.dim[1], 1 };
    for (int i = 2; i < x.rank; i++) g.s *= x.dim[i];
    return g;
}
float bn_eps(const qn__args &a) { return (float)static_cast<const qn__bn_attr *>(a.attr)->eps; }
float norm_eps(const qn__args &a) { return (float)static_cast<const qn__norm_attr *>(a.attr)->eps; }
rows group_rows(const qn__args &a)
{
    image g = image_of(a);
    int64_t groups = static_cast<const qn__norm_attr *>(a.attr)->groups;
    return { g.n * groups, g.c / groups * g.s, groups, g.s };
}
template <class T> const T *in(const qn__args &a, int i) { return static_cast<const T *>(a.x[i].data); }
template <class T> T *out(const qn__args &a) { return static_cast<T *>(a.y.data); }

#define NAIVE(op, real, call) \
    qn_status launch_##op(const qn__step *s, qn_error *err) \
    { \
        const qn__args &a = s->args; \
        cudaStream_t stream = s->queue->stream; \
        if (!a.y.count || !a.x[0].count) return QN_OK; \
        return qn__cuda_check(with_float(real, \
                                         [&](auto t) { \
                                             using T = decltype(t); \
                                             return call; \
                                         }), \
                              #op "_naive", s, err); \
    } \
    const char *const variants_##op[] = { "naive", NULL }

NAIVE(bn_stats, a.x[0].dtype,
      LAUNCH(bn_stats_naive<T>, (blocks(image_of(a).c)), (THREADS), 0, stream, out<float>(a), in<T>(a, 0),
             image_of(a)));
NAIVE(batch_norm, a.y.dtype,
      LAUNCH(batch_norm_naive<T>, (blocks(a.y.count)), (THREADS), 0, stream, out<T>(a), in<T>(a, 0), in<T>(a, 1),
             in<T>(a, 2), in<float>(a, 3), image_of(a), bn_eps(a)));
NAIVE(bn_grad_stats, a.x[0].dtype,
      LAUNCH(bn_grad_stats_naive<T>, (blocks(image_of(a).c)), (THREADS), 0, stream, out<float>(a), in<T>(a, 0),
             in<T>(a, 1), in<float>(a, 2), image_of(a), bn_eps(a)));
NAIVE(bn_grad_x, a.y.dtype,
      LAUNCH(bn_grad_x_naive<T>, (blocks(a.y.count)), (THREADS), 0, stream, out<T>(a), in<T>(a, 0), in<T>(a, 1),
             in<float>(a, 2), in<T>(a, 3), in<float>(a, 4), image_of(a), bn_eps(a)));
NAIVE(group_norm, a.y.dtype,
      LAUNCH(group_norm_naive<T>, (blocks(group_rows(a).n)), (THREADS), 0, stream, out<T>(a), in<T>(a, 0), in<T>(a, 1),
             in<T>(a, 2), group_rows(a), norm_eps(a)));

} // namespace

#define NAIVE_KERNEL(op, pick_) \
    extern "C" const struct qn__kernel qn__naive_##op; \
    const struct qn__kernel qn__naive_##op = { .variants = variants_##op, .pick = pick_, .launch = launch_##op }
NAIVE_KERNEL(bn_stats, pick_stats);
NAIVE_KERNEL(batch_norm, pick_batch_norm);
NAIVE_KERNEL(bn_grad_stats, pick_three);
NAIVE_KERNEL(bn_grad_x, pick_grad_x);
NAIVE_KERNEL(group_norm, pick_three);
