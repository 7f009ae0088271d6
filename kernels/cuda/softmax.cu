/* softmax.cu - softmax and log-softmax over the last axis, and their gradients.
 *
 * Compulsory bytes: forward 2 n elements, backward 3 n; rows.h says how a row is laid on threads so that each is moved
 * once. What neither registers nor shared memory of a block hold is read twice: of a row of f32 what is beyond 53,000
 * elements, of two (softmax_grad) beyond 38,000, where a block has 99 KB. The gradients take the operator's own result:
 *   softmax      dx = y (dy - sum dy y)          log-softmax      dx = dy - e^y sum dy */
#include "rows.h"

namespace
{

template <bool LOG> __device__ __forceinline__ float result(float x, const online_sum &s, float log_sum)
{
    return LOG ? x - s.max - log_sum : expf(x - s.max) / s.sum;
}
template <bool LOG> __device__ __forceinline__ void add_term(exact_sum &sum, float y, float dy)
{
    if (LOG)
        sum.add(dy);
    else
        sum.add_product(y, dy);
}
template <bool LOG> __device__ __forceinline__ float gradient(float y, float dy, float sum)
{
    return LOG ? dy - expf(y) * sum : y * (dy - sum);
}

/* ---- a warp for each row ---------------------------------------------------------------------------------- */

template <class T, int N, int PARTS, bool LOG>
__global__ void __launch_bounds__(32 * QN_WARP_ROWS) softmax_warp(T *y, const T *x, int64_t rows, int width)
{
    int64_t row = (int64_t)blockIdx.x * QN_WARP_ROWS + threadIdx.y;
    if (row >= rows) return;
    warp_row<T, N, PARTS> r;
    online_sum s;
    r.load(x + row * width, width);
    r.each(width, [&](T &v, int) { s.max = max_nan(s.max, to_f32(v)); });
    s.max = warp_max(s.max);
    r.each(width, [&](T &v, int) { s.sum += expf(to_f32(v) - s.max); });
    s.sum = warp_sum(s.sum);
    float log_sum = LOG ? logf(s.sum) : 0.0f;
    r.each(width, [&](T &v, int) { v = from_f32<T>(result<LOG>(to_f32(v), s, log_sum)); });
    r.store(y + row * width, width);
}

template <class T, int N, int PARTS, bool LOG>
__global__ void __launch_bounds__(32 * QN_WARP_ROWS)
    softmax_grad_warp(T *dx, const T *y, const T *dy, int64_t rows, int width)
{
    int64_t row = (int64_t)blockIdx.x * QN_WARP_ROWS + threadIdx.y;
    if (row >= rows) return;
    warp_row<T, N, PARTS> ry, rd;
    ry.load(y + row * width, width);
    rd.load(dy + row * width, width);
    exact_sum total;
#pragma unroll
    for (int k = 0; k < PARTS; k++)
#pragma unroll
        for (int i = 0; i < N; i++)
            if (ry.column(k) < width) add_term<LOG>(total, to_f32(ry.p[k].v[i]), to_f32(rd.p[k].v[i]));
    float sum = warp_sum(total).value();
#pragma unroll
    for (int k = 0; k < PARTS; k++)
#pragma unroll
        for (int i = 0; i < N; i++)
            if (ry.column(k) < width)
                rd.p[k].v[i] = from_f32<T>(gradient<LOG>(to_f32(ry.p[k].v[i]), to_f32(rd.p[k].v[i]), sum));
    rd.store(dx + row * width, width);
}

/* ---- a block for each row, the row in shared memory ---------------------------------------------------------- */

template <class T, int N, bool LOG>
__global__ void __launch_bounds__(QN_BLOCK_THREADS) softmax_shared(T *y, const T *x, int width)
{
    CU_SHARED(float, part, [64]);
    CU_SHARED_DYN(T, kept);
    int64_t at = (int64_t)blockIdx.x * width;
    online_sum s;
    shared_row_in<T, N>(kept, x + at, width);
    shared_row_each<T, N>(kept, width, [&](T v, int) { s.max = max_nan(s.max, to_f32(v)); });
    s.max = row_max(s.max, part);
    shared_row_each<T, N>(kept, width, [&](T v, int) { s.sum += expf(to_f32(v) - s.max); });
    s.sum = row_sum(s.sum, part);
    float log_sum = LOG ? logf(s.sum) : 0.0f;
    shared_row_out<T, N>(y + at, kept, width, [&](float v, int) { return result<LOG>(v, s, log_sum); });
}

/* f(y, dy) for this thread's elements of two rows in shared memory, 16 bytes of each at a time; its results go to out,
 * unless that is NULL. */
template <class T, int N, class F>
__device__ __forceinline__ void each_of_both(T *out, const T *y, const T *dy, int width, F f)
{
#pragma unroll 2
    for (int at = threadIdx.x * N; at < width; at += QN_BLOCK_THREADS * N) {
        pack<T, N> a, b;
        a.load(y + at);
        b.load(dy + at);
#pragma unroll
        for (int i = 0; i < N; i++) a.v[i] = from_f32<T>(f(to_f32(a.v[i]), to_f32(b.v[i])));
        if (out) a.store(out + at);
    }
}

template <class T, int N, bool LOG>
__global__ void __launch_bounds__(QN_BLOCK_THREADS) softmax_grad_shared(T *dx, const T *y, const T *dy, int width)
{
    CU_SHARED(float, part, [64]);
    CU_SHARED_DYN(T, kept);
    T *other = kept + width;
    int64_t at = (int64_t)blockIdx.x * width;
    exact_sum total;
    shared_row_in<T, N>(kept, y + at, width);
    shared_row_in<T, N>(other, dy + at, width);
    each_of_both<T, N>((T *)NULL, kept, other, width, [&](float v, float d) { return add_term<LOG>(total, v, d), v; });
    float sum = row_sum(total, part).value();
    each_of_both<T, N>(dx + at, kept, other, width, [&](float v, float d) { return gradient<LOG>(v, d, sum); });
}

/* ---- a thread for each row ------------------------------------------------------------------------------------ */

template <class T, bool LOG>
__global__ void __launch_bounds__(QN_THREAD_ROWS) softmax_thread(T *y, const T *x, int64_t rows, int width)
{
    CU_SHARED_DYN(float, buffer);
    int64_t first = (int64_t)blockIdx.x * QN_THREAD_ROWS;
    rows_in(buffer, x, first, rows, width);
    __syncthreads();
    float *row = buffer + thread_row(threadIdx.x, width);
    if (first + threadIdx.x < rows) {
        online_sum s;
        for (int i = 0; i < width; i++) s.max = max_nan(s.max, row[i]);
        for (int i = 0; i < width; i++) s.sum += expf(row[i] - s.max);
        float log_sum = LOG ? logf(s.sum) : 0.0f;
        for (int i = 0; i < width; i++) row[i] = result<LOG>(row[i], s, log_sum);
    }
    __syncthreads();
    rows_out(y, buffer, first, rows, width);
}

template <class T, bool LOG>
__global__ void __launch_bounds__(QN_THREAD_ROWS)
    softmax_grad_thread(T *dx, const T *y, const T *dy, int64_t rows, int width)
{
    CU_SHARED_DYN(float, buffer);
    float *other = buffer + thread_words(width);
    int64_t first = (int64_t)blockIdx.x * QN_THREAD_ROWS;
    rows_in(buffer, y, first, rows, width);
    rows_in(other, dy, first, rows, width);
    __syncthreads();
    float *ry = buffer + thread_row(threadIdx.x, width), *rd = other + thread_row(threadIdx.x, width);
    if (first + threadIdx.x < rows) {
        exact_sum total;
        for (int i = 0; i < width; i++) add_term<LOG>(total, ry[i], rd[i]);
        float sum = total.value();
        for (int i = 0; i < width; i++) rd[i] = gradient<LOG>(ry[i], rd[i], sum);
    }
    __syncthreads();
    rows_out(dx, other, first, rows, width);
}

/* ---- longer rows ------------------------------------------------------------------------------------------------- */

enum { HELD_THREADS = 1024 };
/* Accesses of a thread that stay in registers, of 64 there are for each. Elements of 16 bits are counted as if each
 * took a register: the compiler may keep what it has made of them. */
template <class T, int N> using held_row = held_rows<T, N, HELD_THREADS, N == 1 ? 20 : sizeof(T) == 4 ? 6 : 3, 1>;
/* Of two rows: in f32 as much as there are registers, in 16 bits what a row of 50,000 needs. */
template <class T, int N> struct pair_size {
    static constexpr bool wide = sizeof(T) == 4;
    static constexpr int threads = wide ? 256 : 512, parts = N == 1 ? (wide ? 64 : 24) : wide ? 26 : 5;
};
template <class T, int N> using held_pair = held_rows<T, N, pair_size<T, N>::threads, pair_size<T, N>::parts, 2>;

template <class T, int N, bool LOG>
__global__ void __launch_bounds__(HELD_THREADS) softmax_held(T *y, const T *x, int64_t width, int room)
{
    CU_SHARED(float, part, [64]);
    CU_SHARED_DYN(T, kept);
    using row = held_row<T, N>;
    y += blockIdx.x * width;
    row r = { { x + blockIdx.x * width }, kept, width, room };
    online_sum s;
    r.read([&](pack<T, N>(&v)[1], int64_t) { s.add(v[0]); });
    s.join_block(part);
    float log_sum = LOG ? logf(s.sum) : 0.0f;
    r.back([&](pack<T, N>(&v)[1], int64_t at) {
#pragma unroll
        for (int i = 0; i < N; i++) v[0].v[i] = from_f32<T>(result<LOG>(to_f32(v[0].v[i]), s, log_sum));
        v[0].store(y + at);
    });
}

template <class T, int N>
__global__ void __launch_bounds__(pair_size<T, N>::threads)
    softmax_grad_held(T *dx, const T *y, const T *dy, int64_t width, int room)
{
    CU_SHARED(float, part, [64]);
    CU_SHARED_DYN(T, kept);
    int64_t start = blockIdx.x * width;
    held_pair<T, N> r = { { y + start, dy + start }, kept, width, room };
    exact_sum total;
    r.read([&](pack<T, N>(&v)[2], int64_t) {
#pragma unroll
        for (int i = 0; i < N; i++) total.add_product(to_f32(v[0].v[i]), to_f32(v[1].v[i]));
    });
    float sum = row_sum(total, part).value();
    dx += start;
    r.back([&](pack<T, N>(&v)[2], int64_t at) {
#pragma unroll
        for (int i = 0; i < N; i++) v[0].v[i] = from_f32<T>(gradient<false>(to_f32(v[0].v[i]), to_f32(v[1].v[i]), sum));
        v[0].store(dx + at);
    });
}

/* The sum is of dy alone: y is read once, when its place is written. */
template <class T, int N>
__global__ void __launch_bounds__(HELD_THREADS)
    log_softmax_grad_held(T *dx, const T *y, const T *dy, int64_t width, int room)
{
    CU_SHARED(float, part, [64]);
    CU_SHARED_DYN(T, kept);
    int64_t start = blockIdx.x * width;
    held_row<T, N> r = { { dy + start }, kept, width, room };
    exact_sum total;
    r.read([&](pack<T, N>(&v)[1], int64_t) {
#pragma unroll
        for (int i = 0; i < N; i++) total.add(to_f32(v[0].v[i]));
    });
    float sum = row_sum(total, part).value();
    y += start;
    dx += start;
    r.back([&](pack<T, N>(&v)[1], int64_t at) {
        pack<T, N> q;
        q.load(y + at);
#pragma unroll
        for (int i = 0; i < N; i++) q.v[i] = from_f32<T>(gradient<true>(to_f32(q.v[i]), to_f32(v[0].v[i]), sum));
        q.store(dx + at);
    });
}

/* ---- host ----------------------------------------------------------------------------------------------- */

qn_status pick(const qn__args *a, qn__choice *c)
{
    for (int i = 0; i < a->n_in; i++)
        if (a->x[i].dtype != a->y.dtype) return QN_EUSAGE;
    if (!is_cuda_float(a->y.dtype)) return QN_EUSAGE;
    c->variant = rows_variant(a, rows_of(a->y).width, qn_dtype_size(a->y.dtype), a->n_in);
    return QN_OK;
}

/* The launch of a variant with N elements an access. */
template <class T, int N, int PARTS, bool LOG> cudaError_t forward_as(const qn__step *s, qn__rows r)
{
    T *y = (T *)s->args.y.data;
    const T *x = (const T *)s->args.x[0].data;
    int width = (int)r.width;
    if (s->choice.variant < QN_ROWS_SHARED)
        return LAUNCH((softmax_warp<T, N, PARTS, LOG>), ((unsigned)ceil_div(r.n, QN_WARP_ROWS)), (32, QN_WARP_ROWS), 0,
                      s->queue->stream, y, x, r.n, width);
    return LAUNCH((softmax_shared<T, N, LOG>), ((unsigned)r.n), (QN_BLOCK_THREADS), sizeof(T) * (size_t)width,
                  s->queue->stream, y, x, width);
}
template <class T, int N, bool LOG> cudaError_t forward_held(const qn__step *s, qn__rows r)
{
    using row = held_row<T, N>;
    int room = held_room(&s->args, r.width, sizeof(T), 1, row::stride, row::held);
    return LAUNCH((softmax_held<T, N, LOG>), ((unsigned)r.n), (HELD_THREADS), sizeof(T) * (size_t)room,
                  s->queue->stream, (T *)s->args.y.data, (const T *)s->args.x[0].data, r.width, room);
}
template <class T, bool LOG> cudaError_t forward(const qn__step *s)
{
    qn__rows r = rows_of(s->args.y);
    T *y = (T *)s->args.y.data;
    const T *x = (const T *)s->args.x[0].data;
    switch (s->choice.variant) {
    case QN_ROWS_THREAD:
        return LAUNCH((softmax_thread<T, LOG>), ((unsigned)ceil_div(r.n, QN_THREAD_ROWS)), (QN_THREAD_ROWS),
                      thread_bytes(r.width), s->queue->stream, y, x, r.n, (int)r.width);
    case QN_ROWS_WARP:
    case QN_ROWS_SHARED: return forward_as<T, vec16<T>::n, QN_VECTOR_PARTS, LOG>(s, r);
    case QN_ROWS_WARP_SCALAR:
    case QN_ROWS_SHARED_SCALAR: return forward_as<T, 1, QN_SCALAR_PARTS, LOG>(s, r);
    case QN_ROWS_HELD: return forward_held<T, vec16<T>::n, LOG>(s, r);
    default: return forward_held<T, 1, LOG>(s, r);
    }
}

template <class T, int N, int PARTS, bool LOG> cudaError_t backward_as(const qn__step *s, qn__rows r)
{
    T *dx = (T *)s->args.y.data;
    const T *y = (const T *)s->args.x[0].data, *dy = (const T *)s->args.x[1].data;
    int width = (int)r.width;
    if (s->choice.variant < QN_ROWS_SHARED)
        return LAUNCH((softmax_grad_warp<T, N, PARTS, LOG>), ((unsigned)ceil_div(r.n, QN_WARP_ROWS)),
                      (32, QN_WARP_ROWS), 0, s->queue->stream, dx, y, dy, r.n, width);
    return LAUNCH((softmax_grad_shared<T, N, LOG>), ((unsigned)r.n), (QN_BLOCK_THREADS), 2 * sizeof(T) * (size_t)width,
                  s->queue->stream, dx, y, dy, width);
}
template <class T, int N> cudaError_t softmax_backward_held(const qn__step *s, qn__rows r)
{
    using rows = held_pair<T, N>;
    int room = held_room(&s->args, r.width, sizeof(T), 2, rows::stride, rows::held);
    return LAUNCH((softmax_grad_held<T, N>), ((unsigned)r.n), (pair_size<T, N>::threads), 2 * sizeof(T) * (size_t)room,
                  s->queue->stream, (T *)s->args.y.data, (const T *)s->args.x[0].data, (const T *)s->args.x[1].data,
                  r.width, room);
}
template <class T, int N> cudaError_t log_softmax_backward_held(const qn__step *s, qn__rows r)
{
    using row = held_row<T, N>;
    int room = held_room(&s->args, r.width, sizeof(T), 1, row::stride, row::held);
    return LAUNCH((log_softmax_grad_held<T, N>), ((unsigned)r.n), (HELD_THREADS), sizeof(T) * (size_t)room,
                  s->queue->stream, (T *)s->args.y.data, (const T *)s->args.x[0].data, (const T *)s->args.x[1].data,
                  r.width, room);
}
template <class T, bool LOG> cudaError_t backward(const qn__step *s)
{
    qn__rows r = rows_of(s->args.y);
    T *dx = (T *)s->args.y.data;
    const T *y = (const T *)s->args.x[0].data, *dy = (const T *)s->args.x[1].data;
    switch (s->choice.variant) {
    case QN_ROWS_THREAD:
        return LAUNCH((softmax_grad_thread<T, LOG>), ((unsigned)ceil_div(r.n, QN_THREAD_ROWS)), (QN_THREAD_ROWS),
                      2 * thread_bytes(r.width), s->queue->stream, dx, y, dy, r.n, (int)r.width);
    case QN_ROWS_WARP:
    case QN_ROWS_SHARED: return backward_as<T, vec16<T>::n, QN_VECTOR_PARTS, LOG>(s, r);
    case QN_ROWS_WARP_SCALAR:
    case QN_ROWS_SHARED_SCALAR: return backward_as<T, 1, QN_SCALAR_PARTS, LOG>(s, r);
    case QN_ROWS_HELD:
        return LOG ? log_softmax_backward_held<T, vec16<T>::n>(s, r) : softmax_backward_held<T, vec16<T>::n>(s, r);
    default: return LOG ? log_softmax_backward_held<T, 1>(s, r) : softmax_backward_held<T, 1>(s, r);
    }
}

template <bool LOG> qn_status launch_forward(const qn__step *s, qn_error *err)
{
    if (!s->args.y.count) return QN_OK;
    return qn__cuda_check(with_float(s->args.y.dtype, [&](auto t) { return forward<decltype(t), LOG>(s); }), "softmax",
                          s, err);
}
template <bool LOG> qn_status launch_backward(const qn__step *s, qn_error *err)
{
    if (!s->args.y.count) return QN_OK;
    return qn__cuda_check(with_float(s->args.y.dtype, [&](auto t) { return backward<decltype(t), LOG>(s); }),
                          "softmax_grad", s, err);
}

const char *const variants[] = { QN_ROWS_VARIANTS };

} // namespace

KERNEL(softmax) = { .variants = variants, .pick = pick, .launch = launch_forward<false> };
KERNEL(log_softmax) = { .variants = variants, .pick = pick, .launch = launch_forward<true> };
KERNEL(softmax_grad) = { .variants = variants, .pick = pick, .launch = launch_backward<false> };
KERNEL(log_softmax_grad) = { .variants = variants, .pick = pick, .launch = launch_backward<true> };
