/* naive.cu - the lowest rung of a ladder: the operator as its formula says, one thread for each element or row, no
 * shared memory, one element an access. What the other rungs are measured against; pick never chooses them. f32 and the
 * 16-bit types; plain layouts. */
#include "gpu.h"
#include "cuda.h"

namespace
{

enum { THREADS = 256 };

unsigned blocks(int64_t n) { return (unsigned)ceil_div(n, THREADS); }
__device__ __forceinline__ int64_t own_index() { return (int64_t)blockIdx.x * THREADS + threadIdx.x; }

template <class T>
__global__ void __launch_bounds__(THREADS) affine_naive(T *y, const T *x, int64_t n, float p, float q)
{
    int64_t i = own_index();
    if (i < n) y[i] = from_f32<T>(p * to_f32(x[i]) + q);
}

/* Sum of the last axis. */
template <class T> __global__ void __launch_bounds__(THREADS) sum_naive(T *y, const T *x, int64_t rows, int64_t width)
{
    int64_t row = own_index();
    if (row >= rows) return;
    float sum = 0.0f;
    for (int64_t i = 0; i < width; i++) sum += to_f32(x[row * width + i]);
    y[row] = from_f32<T>(sum);
}

/* [rows, columns] -> [columns, rows] */
template <class T>
__global__ void __launch_bounds__(THREADS) transpose_naive(T *y, const T *x, int64_t rows, int64_t columns)
{
    int64_t i = own_index();
    if (i < rows * columns) y[i] = x[i % rows * columns + i / rows];
}

template <class T>
__global__ void __launch_bounds__(THREADS) softmax_naive(T *y, const T *x, int64_t rows, int64_t width)
{
    int64_t row = own_index();
    if (row >= rows) return;
    float m = -INFINITY, sum = 0.0f;
    for (int64_t i = 0; i < width; i++) m = fmaxf(m, to_f32(x[row * width + i]));
    for (int64_t i = 0; i < width; i++) sum += expf(to_f32(x[row * width + i]) - m);
    for (int64_t i = 0; i < width; i++) y[row * width + i] = from_f32<T>(expf(to_f32(x[row * width + i]) - m) / sum);
}

template <class T>
__global__ void __launch_bounds__(THREADS)
    cross_entropy_naive(T *y, const T *x, const int32_t *target, int64_t rows, int64_t width)
{
    int64_t row = own_index();
    if (row >= rows) return;
    float m = -INFINITY, sum = 0.0f;
    for (int64_t i = 0; i < width; i++) m = fmaxf(m, to_f32(x[row * width + i]));
    for (int64_t i = 0; i < width; i++) sum += expf(to_f32(x[row * width + i]) - m);
    y[row] = from_f32<T>(logf(sum) + m - to_f32(x[row * width + target[row]]));
}

template <class T>
__global__ void __launch_bounds__(THREADS)
    layer_norm_naive(T *y, const T *x, const T *gamma, const T *beta, int64_t rows, int64_t width, float eps)
{
    int64_t row = own_index();
    if (row >= rows) return;
    float mean = 0.0f, square = 0.0f;
    for (int64_t i = 0; i < width; i++) mean += to_f32(x[row * width + i]);
    mean /= (float)width;
    for (int64_t i = 0; i < width; i++) {
        float d = to_f32(x[row * width + i]) - mean;
        square += d * d;
    }
    float scale = rsqrtf(square / (float)width + eps);
    for (int64_t i = 0; i < width; i++)
        y[row * width + i] = from_f32<T>((to_f32(x[row * width + i]) - mean) * scale * to_f32(gamma[i]) +
                                         to_f32(beta[i]));
}

struct adam_numbers {
    float beta1, beta2, eps, decay;
};
template <class T>
__global__ void __launch_bounds__(THREADS)
    adam_naive(T *w, T *m, T *v, const T *g, const T *hyper, int64_t n, adam_numbers k)
{
    int64_t i = own_index();
    float t = to_f32(hyper[3]);
    if (i >= n || to_f32(hyper[2]) == 0.0f) return;
    float x = to_f32(g[i]) * to_f32(hyper[1]), mean = k.beta1 * to_f32(m[i]) + (1.0f - k.beta1) * x;
    float square = k.beta2 * to_f32(v[i]) + (1.0f - k.beta2) * x * x, lr = to_f32(hyper[0]);
    float c1 = -expm1f(t * logf(k.beta1)), c2 = -expm1f(t * logf(k.beta2)), old = to_f32(w[i]);
    m[i] = from_f32<T>(mean);
    v[i] = from_f32<T>(square);
    w[i] = from_f32<T>(old - lr * (mean / c1) / (sqrtf(square / c2) + k.eps) - lr * k.decay * old);
}

struct window {
    int h, w, oh, ow, kh, kw, stride_h, stride_w, pad_h, pad_w;
};
template <class T>
__global__ void __launch_bounds__(THREADS) max_pool2d_naive(T *y, const T *x, int64_t count, window p)
{
    int64_t i = own_index();
    if (i >= count) return;
    int64_t plane = i / (p.oh * p.ow);
    int row = (int)(i / p.ow % p.oh) * p.stride_h - p.pad_h, column = (int)(i % p.ow) * p.stride_w - p.pad_w;
    float m = -INFINITY;
    for (int r = max(row, 0); r < min(row + p.kh, p.h); r++)
        for (int c = max(column, 0); c < min(column + p.kw, p.w); c++)
            m = fmaxf(m, to_f32(x[(plane * p.h + r) * p.w + c]));
    y[i] = from_f32<T>(m);
}

/* No dilation, one group or as many as channels; nhwc: images. */
template <class T>
__global__ void __launch_bounds__(THREADS)
    conv2d_naive(T *y, const T *x, const T *w, int64_t count, int channels, int out, bool nhwc, bool each, window p)
{
    int64_t i = own_index(), inner = nhwc ? out : 1, q = i / inner;
    if (i >= count) return;
    int ow = (int)(q % p.ow), oh = (int)(q / p.ow % p.oh);
    int o = (int)(nhwc ? i % out : q / (p.ow * p.oh) % out), in = each ? 1 : channels;
    int64_t image = i / ((int64_t)p.ow * p.oh * out);
    float sum = 0.0f;
    for (int c = 0; c < in; c++)
        for (int r = 0; r < p.kh; r++)
            for (int s = 0; s < p.kw; s++) {
                int h = oh * p.stride_h - p.pad_h + r, v = ow * p.stride_w - p.pad_w + s;
                if (h < 0 || h >= p.h || v < 0 || v >= p.w) continue;
                int channel = each ? o : c;
                int64_t at = nhwc ? ((image * p.h + h) * p.w + v) * channels + channel
                                  : ((image * channels + channel) * p.h + h) * p.w + v;
                sum += to_f32(x[at]) * to_f32(w[((o * in + c) * p.kh + r) * p.kw + s]);
            }
    y[i] = from_f32<T>(sum);
}

/* ---- host ---------------------------------------------------------------------------------------------------- */

/* Floats of one type and nothing blocked. */
qn_status pick_plain(const qn__args *a, qn__choice *c)
{
    c->variant = 0;
    for (int i = 0; i < a->n_in; i++) {
        if (qn_dtype_is_float(a->x[i].dtype) && a->x[i].dtype != a->y.dtype) return QN_EUSAGE;
        if (a->x[i].block > QN_PLAIN) return QN_EUSAGE;
        c->x_block[i] = QN_PLAIN;
    }
    if (a->y.block > QN_PLAIN) return QN_EUSAGE;
    c->y_block = QN_PLAIN;
    return is_cuda_float(a->y.dtype) ? QN_OK : QN_EUSAGE;
}
qn_status pick_last_axis(const qn__args *a, qn__choice *c)
{
    const qn__reduce_attr *attr = static_cast<const qn__reduce_attr *>(a->attr);
    return attr->axes == 1u << (a->x[0].rank - 1) ? pick_plain(a, c) : QN_EUSAGE;
}
qn_status pick_matrix(const qn__args *a, qn__choice *c)
{
    return a->y.rank == 2 && a->y.dim[0] == a->x[0].dim[1] ? pick_plain(a, c) : QN_EUSAGE;
}
qn_status pick_index_target(const qn__args *a, qn__choice *c)
{
    const qn__xent_attr *attr = static_cast<const qn__xent_attr *>(a->attr);
    bool simple = a->x[1].dtype == QN_I32 && attr->smoothing == 0 && !attr->use_ignore && !attr->has_weight;
    return simple ? pick_plain(a, c) : QN_EUSAGE;
}
qn_status pick_adamw(const qn__args *a, qn__choice *c)
{
    const qn__optim_attr *o = static_cast<const qn__optim_attr *>(a->attr);
    bool simple = (o->decoupled || o->weight_decay == 0) && o->clip_value == 0 && o->lr_scale == 1;
    return simple ? pick_plain(a, c) : QN_EUSAGE;
}
qn_status pick_one_group(const qn__args *a, qn__choice *c)
{
    const qn__conv_attr *v = static_cast<const qn__conv_attr *>(a->attr);
    bool each = v->groups == a->x[0].dim[1] && v->groups == a->y.dim[1];
    bool simple = (v->groups == 1 || each) && v->dilation[0] == 1 && v->dilation[1] == 1 && !v->epilogue.has_bias &&
                  !v->epilogue.act;
    bool nhwc = a->x[0].block == a->x[0].dim[1] && a->y.block == a->y.dim[1];
    if (!nhwc) return simple ? pick_plain(a, c) : QN_EUSAGE;
    qn__args plain = *a;
    plain.x[0].block = plain.y.block = QN_PLAIN;
    if (!simple || pick_plain(&plain, c)) return QN_EUSAGE;
    c->x_block[0] = a->x[0].block;
    c->y_block = a->y.block;
    return QN_OK;
}

/* launch_f(step, a value of the storage type) for each of the kernels above */
#define NAIVE(op, call) \
    qn_status launch_##op(const qn__step *s, qn_error *err) \
    { \
        const qn__args &a = s->args; \
        cudaStream_t stream = s->queue->stream; \
        if (!a.y.count) return QN_OK; \
        return qn__cuda_check(with_float(a.y.dtype, \
                                         [&](auto t) { \
                                             using T = decltype(t); \
                                             return call; \
                                         }), \
                              #op "_naive", s, err); \
    } \
    const char *const variants_##op[] = { "naive", NULL }

template <class T> const T *in(const qn__args &a, int i) { return static_cast<const T *>(a.x[i].data); }
template <class T> T *out(const qn__args &a) { return static_cast<T *>(a.y.data); }
template <class T> T *store(const qn__args &a, int i) { return static_cast<T *>(a.x[i].data); }
int64_t width_of(const qn__view &v) { return v.dim[v.rank - 1]; }

window window_of(const qn__args &a)
{
    const qn__view &x = a.x[0];
    if (a.op == QN_OP_max_pool2d) {
        const qn__pool_attr *p = static_cast<const qn__pool_attr *>(a.attr);
        return { (int)x.dim[2], (int)x.dim[3], (int)a.y.dim[2], (int)a.y.dim[3], p->window[0],
                 p->window[1],  p->stride[0],  p->stride[1],    p->pad[0],       p->pad[1] };
    }
    const qn__conv_attr *v = static_cast<const qn__conv_attr *>(a.attr);
    return { (int)x.dim[2],      (int)x.dim[3], (int)a.y.dim[2], (int)a.y.dim[3], (int)a.x[1].dim[2],
             (int)a.x[1].dim[3], v->stride[0],  v->stride[1],    v->pad[0],       v->pad[1] };
}
adam_numbers numbers_of(const qn__args &a)
{
    const qn__optim_attr *o = static_cast<const qn__optim_attr *>(a.attr);
    return { (float)o->beta1, (float)o->beta2, (float)o->eps, (float)o->weight_decay };
}
const qn__pw_attr &pw_of(const qn__args &a) { return *static_cast<const qn__pw_attr *>(a.attr); }

NAIVE(affine, LAUNCH(affine_naive<T>, (blocks(a.y.count)), (THREADS), 0, stream, out<T>(a), in<T>(a, 0), a.y.count,
                     (float)pw_of(a).p, (float)pw_of(a).q));
NAIVE(sum, LAUNCH(sum_naive<T>, (blocks(a.y.count)), (THREADS), 0, stream, out<T>(a), in<T>(a, 0), a.y.count,
                  width_of(a.x[0])));
NAIVE(transpose, LAUNCH(transpose_naive<T>, (blocks(a.y.count)), (THREADS), 0, stream, out<T>(a), in<T>(a, 0),
                        a.x[0].dim[0], a.x[0].dim[1]));
NAIVE(softmax, LAUNCH(softmax_naive<T>, (blocks(a.y.count / width_of(a.y))), (THREADS), 0, stream, out<T>(a),
                      in<T>(a, 0), a.y.count / width_of(a.y), width_of(a.y)));
NAIVE(cross_entropy, LAUNCH(cross_entropy_naive<T>, (blocks(a.y.count)), (THREADS), 0, stream, out<T>(a), in<T>(a, 0),
                            in<int32_t>(a, 1), a.y.count, width_of(a.x[0])));
NAIVE(layer_norm, LAUNCH(layer_norm_naive<T>, (blocks(a.y.count / width_of(a.y))), (THREADS), 0, stream, out<T>(a),
                         in<T>(a, 0), in<T>(a, 1), in<T>(a, 2), a.y.count / width_of(a.y), width_of(a.y),
                         (float)static_cast<const qn__norm_attr *>(a.attr)->eps));
NAIVE(adam, LAUNCH(adam_naive<T>, (blocks(a.y.count)), (THREADS), 0, stream, store<T>(a, 0), store<T>(a, 1),
                   store<T>(a, 2), in<T>(a, 3), in<T>(a, 4), a.y.count, numbers_of(a)));
NAIVE(max_pool2d, LAUNCH(max_pool2d_naive<T>, (blocks(a.y.count)), (THREADS), 0, stream, out<T>(a), in<T>(a, 0),
                         a.y.count, window_of(a)));
NAIVE(conv2d, LAUNCH(conv2d_naive<T>, (blocks(a.y.count)), (THREADS), 0, stream, out<T>(a), in<T>(a, 0), in<T>(a, 1),
                     a.y.count, (int)a.x[0].dim[1], (int)a.y.dim[1], a.x[0].block > QN_PLAIN,
                     a.x[1].dim[1] < a.x[0].dim[1], window_of(a)));

} // namespace

#define NAIVE_KERNEL(op, pick_) \
    extern "C" const struct qn__kernel qn__naive_##op; \
    const struct qn__kernel qn__naive_##op = { .variants = variants_##op, .pick = pick_, .launch = launch_##op }
NAIVE_KERNEL(affine, pick_plain);
NAIVE_KERNEL(sum, pick_last_axis);
NAIVE_KERNEL(transpose, pick_matrix);
NAIVE_KERNEL(softmax, pick_plain);
NAIVE_KERNEL(cross_entropy, pick_index_target);
NAIVE_KERNEL(layer_norm, pick_plain);
NAIVE_KERNEL(adam, pick_adamw);
NAIVE_KERNEL(max_pool2d, pick_plain);
NAIVE_KERNEL(conv2d, pick_one_group);
