/* cross_entropy.cu - logits [rows,V], target [rows] or [rows,V] (, weight [V]) -> loss [rows]; and its gradient.
 *
 * With u = (1 - s) t + s / V (smoothing s), class weights c and p = softmax(x):
 *   loss = sum_v u_v c_v (lse - x_v)        dx_v = dloss (p_v W - u_v c_v), W = sum_v u_v c_v
 *
 * Compulsory bytes: the loss reads the logits once; the gradient reads and writes them once. The loss of class indices
 * needs one pass, maximum and sum of exponentials together (Milakov and Gimelshein 2018); with soft targets or smoothing
 * each row is read a second time from the cache, now that its sum is known. The gradient keeps its row in shared memory (rows.h). A class that is
 * out of range raises a fault; its row becomes NaN. */
#include "rows.h"

namespace
{

/* What a row is compared with. A class of a one-hot target that is not the target has no share, whatever its weight. */
template <class T> struct targets {
    const void *target;
    const T *weight; /* [V] or NULL */
    qn__fault *fault;
    float smoothing;
    int32_t dtype, position;
    bool index, use_ignore;
    int64_t ignore, width;

    __device__ __forceinline__ int64_t class_of(int64_t row) const
    {
        if (!index) return 0;
        return dtype == QN_I64 ? static_cast<const int64_t *>(target)[row] : static_cast<const int32_t *>(target)[row];
    }
    __device__ __forceinline__ bool ignored(int64_t c) const { return index && use_ignore && c == ignore; }
    __device__ __forceinline__ bool wrong(int64_t c) const { return index && (c < 0 || c >= width); }
    __device__ __forceinline__ bool one_hot() const { return index && !(smoothing > 0.0f); }
    /* u_v c_v */
    __device__ __forceinline__ float share(int64_t row, int64_t c, int v) const
    {
        float hard = index ? (c == v ? 1.0f : 0.0f) : to_f32(static_cast<const T *>(target)[row * width + v]);
        float smooth = (1.0f - smoothing) * hard + smoothing / (float)width;
        return weight ? smooth * to_f32(weight[v]) : smooth;
    }
    __device__ __forceinline__ float own_share(int64_t row, int64_t c, int v) const
    {
        return one_hot() && v != c ? 0.0f : share(row, c, v);
    }
};

/* u_v c_v (lse - x_v): what element v adds to the loss. A class without share may have probability 0. */
__device__ __forceinline__ float loss_term(const online_sum &s, float log_sum, float x, float share)
{
    return share == 0.0f ? 0.0f : share * (log_sum + (s.max - x));
}

/* ---- loss -------------------------------------------------------------------------------------------------- */

/* blockDim (32, 4): a warp for each row; (QN_BLOCK_THREADS, 1): a block for each row. */
template <class T, int N>
__global__ void __launch_bounds__(QN_BLOCK_THREADS) cross_entropy_online(T *y, const T *x, targets<T> t, int64_t rows)
{
    CU_SHARED(float, part, [32]);
    int64_t row = (int64_t)blockIdx.x * blockDim.y + threadIdx.y;
    if (row >= rows) return;
    int64_t c = t.class_of(row);
    bool skip = t.ignored(c) || t.wrong(c);
    if (skip) { /* every thread of the row comes here */
        if (threadIdx.x == 0) {
            y[row] = from_f32<T>(t.ignored(c) ? 0.0f : NAN);
            if (!t.ignored(c)) raise_fault(t.fault, t.position, QN_FAULT_TARGET, row, c, t.width);
        }
        return;
    }
    int width = (int)t.width;
    const T *from = x + row * t.width;
    online_sum s;
#pragma unroll 2
    for (int at = threadIdx.x * N; at < width; at += blockDim.x * N) {
        pack<T, N> p;
        p.load(from + at);
#pragma unroll
        for (int i = 0; i < N; i++) s.add(to_f32(p.v[i]));
    }
    if (blockDim.x == 32)
        s.join_warp();
    else
        s.join_block(part);
    float log_sum = logf(s.sum);
    if (t.one_hot()) {
        if (threadIdx.x == 0) y[row] = from_f32<T>(t.share(row, c, (int)c) * (log_sum + (s.max - to_f32(from[c]))));
        return;
    }
    exact_sum loss; /* every class has a share: the row once more, now from the cache */
#pragma unroll 2
    for (int at = threadIdx.x * N; at < width; at += blockDim.x * N) {
        pack<T, N> p;
        p.load(from + at);
#pragma unroll
        for (int i = 0; i < N; i++) loss.add(loss_term(s, log_sum, to_f32(p.v[i]), t.share(row, c, at + i)));
    }
    loss = blockDim.x == 32 ? warp_sum(loss) : row_sum(loss, part);
    if (threadIdx.x == 0) y[row] = from_f32<T>(loss.value());
}

template <class T>
__global__ void __launch_bounds__(QN_THREAD_ROWS) cross_entropy_thread(T *y, const T *x, targets<T> t, int64_t rows)
{
    CU_SHARED_DYN(float, buffer);
    int width = (int)t.width;
    int64_t first = (int64_t)blockIdx.x * QN_THREAD_ROWS, row = first + threadIdx.x;
    rows_in(buffer, x, first, rows, width);
    __syncthreads();
    if (row >= rows) return;
    int64_t c = t.class_of(row);
    if (t.ignored(c) || t.wrong(c)) {
        y[row] = from_f32<T>(t.ignored(c) ? 0.0f : NAN);
        if (!t.ignored(c)) raise_fault(t.fault, t.position, QN_FAULT_TARGET, row, c, t.width);
        return;
    }
    const float *from = buffer + thread_row(threadIdx.x, width);
    online_sum s;
    exact_sum loss;
    for (int i = 0; i < width; i++) s.add(from[i]);
    if (width > 0) s.finish();
    float log_sum = logf(s.sum);
    if (t.one_hot())
        loss.add(t.share(row, c, (int)c) * (log_sum + (s.max - from[c])));
    else
        for (int i = 0; i < width; i++) loss.add(loss_term(s, log_sum, from[i], t.share(row, c, i)));
    y[row] = from_f32<T>(loss.value());
}

/* ---- gradient ------------------------------------------------------------------------------------------------ */

/* dx of one element, given the row's numbers. */
template <class T>
__device__ __forceinline__ float gradient(float x, const online_sum &s, const targets<T> &t, int64_t row, int64_t c,
                                          int v, float dloss, float scale)
{
    float p = expf(x - s.max) * scale;
    return t.one_hot() && v != c ? p : p - dloss * t.share(row, c, v);
}

/* What a row that counts for nothing, or whose class is wrong, gets; true if it is one. */
template <class T> __device__ __forceinline__ bool no_row(const targets<T> &t, int64_t row, int64_t c, float &value)
{
    value = t.ignored(c) ? 0.0f : NAN;
    if (!t.ignored(c) && t.wrong(c) && threadIdx.x == 0)
        raise_fault(t.fault, t.position, QN_FAULT_TARGET, row, c, t.width);
    return t.ignored(c) || t.wrong(c);
}

template <class T, int N>
__global__ void __launch_bounds__(QN_BLOCK_THREADS)
    cross_entropy_grad_shared(T *dx, const T *x, const T *dloss, targets<T> t)
{
    CU_SHARED(float, part, [32]);
    CU_SHARED_DYN(T, kept);
    int width = (int)t.width;
    int64_t row = blockIdx.x, c = t.class_of(row);
    float value;
    if (no_row(t, row, c, value)) {
        for (int i = threadIdx.x; i < width; i += QN_BLOCK_THREADS) dx[row * width + i] = from_f32<T>(value);
        return;
    }
    online_sum s;
    float shares = 0.0f, d = to_f32(dloss[row]);
    shared_row_in<T, N>(kept, x + row * width, width);
    shared_row_each<T, N>(kept, width, [&](T v, int i) {
        s.add(to_f32(v));
        shares += t.own_share(row, c, i);
    });
    s.join_block(part);
    float scale = d * row_sum(shares, part) / s.sum;
    shared_row_out<T, N>(dx + row * width, kept, width,
                         [&](float v, int i) { return gradient(v, s, t, row, c, i, d, scale); });
}

template <class T>
__global__ void __launch_bounds__(QN_BLOCK_THREADS)
    cross_entropy_grad_long(T *dx, const T *x, const T *dloss, targets<T> t)
{
    CU_SHARED(float, part, [32]);
    int width = (int)t.width;
    int64_t row = blockIdx.x, c = t.class_of(row);
    x += row * width;
    dx += row * width;
    float value;
    if (no_row(t, row, c, value)) {
        for (int i = threadIdx.x; i < width; i += QN_BLOCK_THREADS) dx[i] = from_f32<T>(value);
        return;
    }
    online_sum s;
    float shares = 0.0f, d = to_f32(dloss[row]);
#pragma unroll 2
    for (int i = threadIdx.x; i < width; i += QN_BLOCK_THREADS) {
        s.add(to_f32(x[i]));
        shares += t.own_share(row, c, i);
    }
    s.join_block(part);
    float scale = d * row_sum(shares, part) / s.sum;
#pragma unroll 2
    for (int i = threadIdx.x; i < width; i += QN_BLOCK_THREADS)
        dx[i] = from_f32<T>(gradient(to_f32(x[i]), s, t, row, c, i, d, scale));
}

template <class T>
__global__ void __launch_bounds__(QN_THREAD_ROWS)
    cross_entropy_grad_thread(T *dx, const T *x, const T *dloss, targets<T> t, int64_t rows)
{
    CU_SHARED_DYN(float, buffer);
    int width = (int)t.width;
    int64_t first = (int64_t)blockIdx.x * QN_THREAD_ROWS, row = first + threadIdx.x;
    rows_in(buffer, x, first, rows, width);
    __syncthreads();
    if (row < rows) {
        float *r = buffer + thread_row(threadIdx.x, width), d = to_f32(dloss[row]), shares = 0.0f;
        int64_t c = t.class_of(row);
        bool none = t.ignored(c) || t.wrong(c);
        if (none && !t.ignored(c)) raise_fault(t.fault, t.position, QN_FAULT_TARGET, row, c, t.width);
        online_sum s;
        for (int i = 0; i < width && !none; i++) {
            s.add(r[i]);
            shares += t.own_share(row, c, i);
        }
        s.finish();
        float scale = d * shares / s.sum, value = t.ignored(c) ? 0.0f : NAN;
        for (int i = 0; i < width; i++) r[i] = none ? value : gradient(r[i], s, t, row, c, i, d, scale);
    }
    __syncthreads();
    rows_out(dx, buffer, first, rows, width);
}

/* ---- weights of targets ----------------------------------------------------------------------------------------- */

template <class T>
__global__ void __launch_bounds__(QN_BLOCK_THREADS) target_weight_each(T *y, targets<T> t, int64_t rows)
{
    int64_t row = (int64_t)blockIdx.x * QN_BLOCK_THREADS + threadIdx.x;
    if (row >= rows) return;
    int64_t c = t.class_of(row);
    bool wrong = !t.ignored(c) && t.wrong(c);
    if (wrong) raise_fault(t.fault, t.position, QN_FAULT_TARGET, row, c, t.width);
    y[row] = wrong ? from_f32<T>(NAN) : t.ignored(c) ? from_f32<T>(0.0f) : t.weight ? t.weight[c] : from_f32<T>(1.0f);
}

/* ---- host ------------------------------------------------------------------------------------------------------- */

template <class T> targets<T> targets_of(const qn__step *s, const qn__view &target, int64_t width)
{
    const qn__args &a = s->args;
    const qn__xent_attr *attr = static_cast<const qn__xent_attr *>(a.attr);
    targets<T> t = {};
    t.target = target.data;
    t.weight = attr->has_weight ? static_cast<const T *>(a.x[a.n_in - 1].data) : NULL;
    t.fault = s->queue->fault;
    t.smoothing = (float)attr->smoothing;
    t.dtype = target.dtype;
    t.position = s->position;
    t.index = target.dtype == QN_I32 || target.dtype == QN_I64;
    t.use_ignore = attr->use_ignore != 0;
    t.ignore = attr->ignore_index;
    t.width = width;
    return t;
}

bool floats_agree(const qn__args *a)
{
    for (int i = 0; i < a->n_in; i++)
        if (qn_dtype_is_float(a->x[i].dtype) && a->x[i].dtype != a->y.dtype) return false;
    return is_cuda_float(a->y.dtype);
}

enum { LOSS_THREAD, LOSS_VECTOR, LOSS_SCALAR };

qn_status pick_loss(const qn__args *a, qn__choice *c)
{
    int64_t width = rows_of(a->x[0]).width;
    bool aligned = width * (int64_t)qn_dtype_size(a->y.dtype) % 16 == 0;
    c->variant = width <= QN_THREAD_ROW ? LOSS_THREAD : aligned ? LOSS_VECTOR : LOSS_SCALAR;
    return floats_agree(a) ? QN_OK : QN_EUSAGE;
}

template <class T> cudaError_t loss(const qn__step *s)
{
    int64_t width = rows_of(s->args.x[0]).width, rows = s->args.y.count;
    targets<T> t = targets_of<T>(s, s->args.x[1], width);
    T *y = (T *)s->args.y.data;
    const T *x = (const T *)s->args.x[0].data;
    if (s->choice.variant == LOSS_THREAD)
        return LAUNCH(cross_entropy_thread<T>, ((unsigned)ceil_div(rows, QN_THREAD_ROWS)), (QN_THREAD_ROWS),
                      thread_bytes(width), s->queue->stream, y, x, t, rows);
    unsigned threads = width <= 1024 ? 32 : QN_BLOCK_THREADS, per_block = width <= 1024 ? QN_WARP_ROWS : 1;
    unsigned blocks = (unsigned)ceil_div(rows, per_block);
    if (s->choice.variant == LOSS_VECTOR)
        return LAUNCH((cross_entropy_online<T, vec16<T>::n>), (blocks), (threads, per_block), 0, s->queue->stream, y, x,
                      t, rows);
    return LAUNCH((cross_entropy_online<T, 1>), (blocks), (threads, per_block), 0, s->queue->stream, y, x, t, rows);
}

enum { GRAD_THREAD, GRAD_VECTOR, GRAD_SCALAR, GRAD_LONG };

qn_status pick_grad(const qn__args *a, qn__choice *c)
{
    int64_t width = rows_of(a->y).width;
    size_t size = qn_dtype_size(a->y.dtype);
    bool fits = width * (int64_t)size <= a->gpu->shared_per_block - 1024;
    c->variant = width <= QN_THREAD_ROW            ? GRAD_THREAD
                 : !fits                           ? GRAD_LONG
                 : width * (int64_t)size % 16 == 0 ? GRAD_VECTOR
                                                   : GRAD_SCALAR;
    return floats_agree(a) ? QN_OK : QN_EUSAGE;
}

template <class T> cudaError_t grad(const qn__step *s)
{
    qn__rows r = rows_of(s->args.y);
    targets<T> t = targets_of<T>(s, s->args.x[1], r.width);
    T *dx = (T *)s->args.y.data;
    const T *x = (const T *)s->args.x[0].data, *dloss = (const T *)s->args.x[2].data;
    size_t bytes = sizeof(T) * (size_t)r.width;
    cudaStream_t stream = s->queue->stream;
    switch (s->choice.variant) {
    case GRAD_THREAD:
        return LAUNCH(cross_entropy_grad_thread<T>, ((unsigned)ceil_div(r.n, QN_THREAD_ROWS)), (QN_THREAD_ROWS),
                      thread_bytes(r.width), stream, dx, x, dloss, t, r.n);
    case GRAD_VECTOR:
        return LAUNCH((cross_entropy_grad_shared<T, vec16<T>::n>), ((unsigned)r.n), (QN_BLOCK_THREADS), bytes, stream,
                      dx, x, dloss, t);
    case GRAD_SCALAR:
        return LAUNCH((cross_entropy_grad_shared<T, 1>), ((unsigned)r.n), (QN_BLOCK_THREADS), bytes, stream, dx, x,
                      dloss, t);
    default: return LAUNCH(cross_entropy_grad_long<T>, ((unsigned)r.n), (QN_BLOCK_THREADS), 0, stream, dx, x, dloss, t);
    }
}

qn_status launch_loss(const qn__step *s, qn_error *err)
{
    if (!s->args.y.count) return QN_OK;
    return qn__cuda_check(with_float(s->args.y.dtype, [&](auto t) { return loss<decltype(t)>(s); }), "cross_entropy", s,
                          err);
}
qn_status launch_grad(const qn__step *s, qn_error *err)
{
    if (!s->args.y.count) return QN_OK;
    return qn__cuda_check(with_float(s->args.y.dtype, [&](auto t) { return grad<decltype(t)>(s); }),
                          "cross_entropy_grad", s, err);
}

qn_status pick_weight(const qn__args *a, qn__choice *c)
{
    c->variant = 0;
    return floats_agree(a) ? QN_OK : QN_EUSAGE;
}
qn_status launch_weight(const qn__step *s, qn_error *err)
{
    const qn__args &a = s->args;
    const qn__xent_attr *attr = static_cast<const qn__xent_attr *>(a.attr);
    if (!a.y.count) return QN_OK;
    int64_t width = attr->has_weight ? a.x[a.n_in - 1].count : INT64_MAX;
    cudaError_t answer = with_float(a.y.dtype, [&](auto v) {
        using T = decltype(v);
        return LAUNCH(target_weight_each<T>, ((unsigned)ceil_div(a.y.count, QN_BLOCK_THREADS)), (QN_BLOCK_THREADS), 0,
                      s->queue->stream, (T *)a.y.data, targets_of<T>(s, a.x[0], width), a.y.count);
    });
    return qn__cuda_check(answer, "target_weight", s, err);
}

const char *const loss_variants[] = { "thread", "online, 16 bytes", "online, elements", NULL };
const char *const grad_variants[] = { "thread", "shared, 16 bytes", "shared, elements", "long", NULL };
const char *const weight_variants[] = { "each", NULL };

} // namespace

KERNEL(cross_entropy) = { .variants = loss_variants, .pick = pick_loss, .launch = launch_loss };
KERNEL(cross_entropy_grad) = { .variants = grad_variants, .pick = pick_grad, .launch = launch_grad };
KERNEL(target_weight) = { .variants = weight_variants, .pick = pick_weight, .launch = launch_weight };
