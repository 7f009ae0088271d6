/* layer_norm_grad.cu - gradients of layer_norm and rms_norm.
 *
 * Compulsory bytes in elements of x: dx 3 n, 4 n with an addend; dgamma and dbeta 2 n. Rows of x and dy stay in
 * registers (norm.h). For dgamma and dbeta a block goes through part of the rows and each thread adds up its columns,
 * which it keeps; a second launch joins the parts in order. A part has so many rows that writing and reading its sums is a
 * sixteenth of the bytes, unless there are few rows in all. Of rows too wide for registers the moments are found first,
 * and then columns added with them. */
#include "channels.h"
#include "norm.h"

namespace
{

template <class T> struct operands {
    T *dx;
    const T *x, *dy, *gamma, *addend;
    int64_t rows;
    int32_t width;
    float eps;
    bool centred;
};

/* A row of x and dy in registers, and x's moments. */
template <class T, class S> struct rows_pair {
    pack<T, S::n> x[S::parts], dy[S::parts];
    norm_moments m;
    __device__ __forceinline__ void load(const T *px, const T *pdy, int width, float eps, bool centred, float *part)
    {
        float v[S::all];
#pragma unroll
        for (int k = 0; k < S::parts; k++) {
            if (S::column(k) >= width) continue;
            x[k].load(px + S::column(k));
            dy[k].load(pdy + S::column(k));
#pragma unroll
            for (int i = 0; i < S::n; i++) v[k * S::n + i] = to_f32(x[k].v[i]);
        }
        m = norm_moments_of<S>(v, width, eps, centred, part);
    }
    __device__ __forceinline__ float xhat(int k, int i) const { return (to_f32(x[k].v[i]) - m.mean) * m.r; }
};

/* ---- dx ------------------------------------------------------------------------------------------------------ */

template <class T, class S> __global__ void __launch_bounds__(S::threads *S::rows) norm_grad_row(operands<T> o)
{
    CU_SHARED(float, part, [64]);
    CU_SHARED(float, more, [64]);
    CU_SHARED_DYN(T, gamma);
    norm_keep<T, S::n>(gamma, o.gamma, o.width, (int)(threadIdx.y * blockDim.x + threadIdx.x), S::threads * S::rows);
    __syncthreads();
    for (int64_t row = (int64_t)blockIdx.x * S::rows + threadIdx.y; row < o.rows; row += (int64_t)gridDim.x * S::rows) {
        int64_t at = row * o.width;
        rows_pair<T, S> r;
        float a = 0.0f, b = 0.0f;
        r.load(o.x + at, o.dy + at, o.width, o.eps, o.centred, part);
#pragma unroll
        for (int k = 0; k < S::parts; k++) {
            if (S::column(k) >= o.width) continue;
            pack<T, S::n> g;
            g.load(gamma + S::column(k));
#pragma unroll
            for (int i = 0; i < S::n; i++) {
                float u = to_f32(g.v[i]) * to_f32(r.dy[k].v[i]);
                a += u;
                b = fmaf(u, r.xhat(k, i), b);
            }
        }
        norm_totals<S>(a, b, more, 0);
        a = o.centred ? a / (float)o.width : 0.0f;
        b /= (float)o.width;
#pragma unroll
        for (int k = 0; k < S::parts; k++) {
            if (S::column(k) >= o.width) continue;
            pack<T, S::n> g, p;
            g.load(gamma + S::column(k));
            if (o.addend) p.load(o.addend + at + S::column(k));
#pragma unroll
            for (int i = 0; i < S::n; i++) {
                float v = r.m.r * (to_f32(g.v[i]) * to_f32(r.dy[k].v[i]) - a - r.xhat(k, i) * b);
                p.v[i] = from_f32<T>(o.addend ? v + to_f32(p.v[i]) : v);
            }
            p.store(o.dx + at + S::column(k));
        }
        if (S::threads > 32) __syncthreads(); /* part and more are written again */
    }
}

template <class T> __global__ void __launch_bounds__(QN_NORM_LONG_THREADS) norm_grad_long(operands<T> o)
{
    using S = norm_shape<float, QN_NORM_LONG_THREADS, false>;
    CU_SHARED(float, part, [64]);
    CU_SHARED(float, more, [64]);
    int64_t at = (int64_t)blockIdx.x * o.width;
    const T *x = o.x + at, *dy = o.dy + at;
    norm_moments m = norm_moments_long([&](int64_t i) { return to_f32(x[i]); }, o.width, o.eps, o.centred, part);
    float a = 0.0f, b = 0.0f;
#pragma unroll 4
    for (int64_t i = threadIdx.x; i < o.width; i += QN_NORM_LONG_THREADS) {
        float u = to_f32(o.gamma[i]) * to_f32(dy[i]);
        a += u;
        b = fmaf(u, (to_f32(x[i]) - m.mean) * m.r, b);
    }
    norm_totals<S>(a, b, more, 0);
    a = o.centred ? a / (float)o.width : 0.0f;
    b /= (float)o.width;
#pragma unroll 4
    for (int64_t i = threadIdx.x; i < o.width; i += QN_NORM_LONG_THREADS) {
        float xhat = (to_f32(x[i]) - m.mean) * m.r, v = m.r * (to_f32(o.gamma[i]) * to_f32(dy[i]) - a - xhat * b);
        o.dx[at + i] = from_f32<T>(o.addend ? v + to_f32(o.addend[at + i]) : v);
    }
}

template <class T> cudaError_t start_dx(const qn__step *s, const operands<T> &o)
{
    if (s->choice.variant == QN_NORM_LONG)
        return LAUNCH(norm_grad_long<T>, ((unsigned)o.rows), (QN_NORM_LONG_THREADS), 0, s->queue->stream, o);
    return with_shape<T, 2>(s->choice.variant, [&](auto shape) {
        using S = decltype(shape);
        unsigned grid = grid_for(&s->args, ceil_div(o.rows, S::rows), S::threads * S::rows, 2);
        return LAUNCH((norm_grad_row<T, S>), (grid), (S::threads, S::rows), sizeof(T) * (size_t)o.width,
                      s->queue->stream, o);
    });
}

template <bool CENTRED> qn_status launch_dx(const qn__step *s, qn_error *err)
{
    const qn__args &a = s->args;
    qn__rows r = rows_of(a.y);
    if (!a.y.count) return QN_OK;
    return qn__cuda_check(with_float(a.y.dtype,
                                     [&](auto t) {
                                         using T = decltype(t);
                                         operands<T> o = { .dx = (T *)a.y.data,
                                                           .x = (const T *)a.x[0].data,
                                                           .dy = (const T *)a.x[1].data,
                                                           .gamma = (const T *)a.x[2].data,
                                                           .addend = a.n_in == 4 ? (const T *)a.x[3].data : NULL,
                                                           .rows = r.n,
                                                           .width = (int32_t)r.width,
                                                           .eps = (float)((const qn__norm_attr *)a.attr)->eps,
                                                           .centred = CENTRED };
                                         return start_dx(s, o);
                                     }),
                          "norm_grad_row", s, err);
}

/* ---- dgamma, dbeta -------------------------------------------------------------------------------------------- */

enum { FEW_ROWS = 16, MANY_ROWS = 64, JOIN = 32 };

/* partial[part][2][width]: sums of dy xhat, then of dy. */
template <class T, class S>
__global__ void __launch_bounds__(S::threads *S::rows) norm_sum_rows(operands<T> o, float *partial, int64_t part_rows)
{
    CU_SHARED(float, part, [64]);
    CU_SHARED_DYN(float, others);
    int64_t begin = blockIdx.x * part_rows, end = begin + part_rows;
    if (end > o.rows) end = o.rows;
    float sum[2][S::all] = {};
    for (int64_t row = begin + threadIdx.y; row < end; row += S::rows) {
        rows_pair<T, S> r;
        r.load(o.x + row * o.width, o.dy + row * o.width, o.width, o.eps, o.centred, part);
#pragma unroll
        for (int k = 0; k < S::parts; k++)
#pragma unroll
            for (int i = 0; i < S::n; i++) {
                if (S::column(k) >= o.width) continue;
                float d = to_f32(r.dy[k].v[i]);
                sum[0][k * S::n + i] = fmaf(d, r.xhat(k, i), sum[0][k * S::n + i]);
                sum[1][k * S::n + i] += d;
            }
        if (S::threads > 32) __syncthreads(); /* part is written again */
    }
    float *out = partial + (int64_t)blockIdx.x * 2 * o.width;
#pragma unroll
    for (int which = 0; which < 2; which++) {
        if (S::rows > 1) { /* warps one after the other onto the first one's */
            for (int w = 0; w < S::rows; w++) {
                __syncthreads();
                if ((int)threadIdx.y != w) continue;
#pragma unroll
                for (int k = 0; k < S::parts; k++)
#pragma unroll
                    for (int i = 0; i < S::n; i++)
                        if (S::column(k) < o.width) {
                            float *to = others + (k * S::n + i) * S::threads + threadIdx.x;
                            *to = w ? *to + sum[which][k * S::n + i] : sum[which][k * S::n + i];
                        }
            }
            __syncthreads();
        }
        if (threadIdx.y != 0) continue;
#pragma unroll
        for (int k = 0; k < S::parts; k++) {
            if (S::column(k) >= o.width) continue;
            pack<float, S::n == 1 ? 1 : 4> p;
#pragma unroll
            for (int i = 0; i < S::n; i++) {
                float v = S::rows > 1 ? others[(k * S::n + i) * S::threads + threadIdx.x] : sum[which][k * S::n + i];
                p.v[i % (S::n == 1 ? 1 : 4)] = v;
                if (S::n == 1 || i % 4 == 3) p.store(out + which * o.width + S::column(k) + (S::n == 1 ? 0 : i - 3));
            }
        }
    }
}

/* Columns 0..width of dgamma, then of dbeta if there: parts in order, JOIN of them side by side. */
template <class T>
__global__ void __launch_bounds__(JOIN *JOIN) norm_join(T *dgamma, T *dbeta, const float *partial, int parts, int width)
{
    CU_SHARED(float, others, [JOIN][JOIN + 1]);
    int column = (int)(blockIdx.x * JOIN + threadIdx.x);
    float sum = 0.0f;
    if (column < 2 * width)
#pragma unroll 4
        for (int p = threadIdx.y; p < parts; p += JOIN) sum += partial[(int64_t)p * 2 * width + column];
    others[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y != 0 || column >= 2 * width) return;
    for (int i = 1; i < JOIN; i++) sum += others[i][threadIdx.x];
    if (column < width)
        dgamma[column] = from_f32<T>(sum);
    else if (dbeta)
        dbeta[column - width] = from_f32<T>(sum);
}

/* Long rows: the moments first. */
template <class T>
__global__ void __launch_bounds__(QN_NORM_LONG_THREADS) norm_moments_row(norm_moments *to, operands<T> o)
{
    CU_SHARED(float, part, [64]);
    const T *x = o.x + (int64_t)blockIdx.x * o.width;
    norm_moments m = norm_moments_long([&](int64_t i) { return to_f32(x[i]); }, o.width, o.eps, o.centred, part);
    if (threadIdx.x == 0) to[blockIdx.x] = m;
}
template <class T> struct column_sums {
    using type = T;
    const T *x, *dy;
    const norm_moments *moments;
    T *dgamma, *dbeta;
    int64_t width;
    struct channel {
    };
    __device__ __forceinline__ channel of(int64_t) const { return {}; }
    template <int N> struct packs {
        pack<T, N> x, dy;
        norm_moments m;
        __device__ __forceinline__ void load(const column_sums &op, int64_t at)
        {
            x.load(op.x + at);
            dy.load(op.dy + at);
            m = op.moments[at / op.width];
        }
        __device__ __forceinline__ void add(exact_pair &sum, channel, int j) const
        {
            float d = to_f32(dy.v[j]);
            sum.a.add(d);
            sum.b.add_product(d, (to_f32(x.v[j]) - m.mean) * m.r);
        }
    };
    __device__ __forceinline__ void finish(int64_t c, const exact_pair &sum) const
    {
        dgamma[c] = from_f32<T>(sum.b.value());
        if (dbeta) dbeta[c] = from_f32<T>(sum.a.value());
    }
};

int64_t part_rows(int64_t rows) { return rows < MANY_ROWS * MANY_ROWS ? FEW_ROWS : MANY_ROWS; }

/* The rows as an image of rank 2 for channels.h, whose sums come after the moments. */
qn__view as_columns(const qn__args &a)
{
    qn__rows r = rows_of(a.x[0]);
    qn__view v = a.x[0];
    v.rank = 2;
    v.dim[0] = r.n;
    v.dim[1] = r.width;
    return v;
}

size_t moments_bytes(int64_t rows) { return (sizeof(norm_moments) * (size_t)rows + 255) / 256 * 256; }

qn_status pick_dw(const qn__args *a, qn__choice *c)
{
    qn__rows r = rows_of(a->x[0]);
    if (pick_norm_grad(a, c)) return QN_EUSAGE;
    if (c->variant != QN_NORM_LONG) {
        c->workspace = sizeof(float) * 2 * (size_t)r.width * (size_t)ceil_div(r.n, part_rows(r.n));
        return QN_OK;
    }
    qn__choice sums = {};
    if (pick_channel_sums(as_columns(*a), &sums)) return QN_EUSAGE;
    c->workspace = moments_bytes(r.n) + sums.workspace;
    return QN_OK;
}

template <class T> cudaError_t start_long(const qn__step *s, const operands<T> &o, T *dgamma, T *dbeta)
{
    norm_moments *moments = (norm_moments *)s->workspace;
    cudaError_t answer = LAUNCH(norm_moments_row<T>, ((unsigned)o.rows), (QN_NORM_LONG_THREADS), 0, s->queue->stream,
                                moments, o);
    if (answer != cudaSuccess) return answer;
    qn__step columns = *s;
    columns.choice.variant = QN_CHANNEL_COLUMNS;
    columns.workspace = (char *)s->workspace + moments_bytes(o.rows);
    column_sums<T> op = { o.x, o.dy, moments, dgamma, dbeta, o.width };
    return sum_channels(&columns, op, as_columns(s->args));
}

template <class T> cudaError_t start_dw(const qn__step *s, const operands<T> &o, T *dgamma, T *dbeta)
{
    cudaStream_t stream = s->queue->stream;
    if (s->choice.variant == QN_NORM_LONG) return start_long(s, o, dgamma, dbeta);
    float *partial = (float *)s->workspace;
    int parts = (int)ceil_div(o.rows, part_rows(o.rows));
    cudaError_t answer = with_shape<T, 2>(s->choice.variant, [&](auto shape) {
        using S = decltype(shape);
        size_t shared = S::rows > 1 ? sizeof(float) * S::all * S::threads : 0;
        return LAUNCH((norm_sum_rows<T, S>), ((unsigned)parts), (S::threads, S::rows), shared, stream, o, partial,
                      part_rows(o.rows));
    });
    if (answer != cudaSuccess) return answer;
    return LAUNCH(norm_join<T>, ((unsigned)ceil_div(2 * (int64_t)o.width, JOIN)), (JOIN, JOIN), 0, stream, dgamma,
                  dbeta, (const float *)partial, parts, o.width);
}

template <bool CENTRED> qn_status launch_dw(const qn__step *s, qn_error *err)
{
    const qn__args &a = s->args;
    qn__rows r = rows_of(a.x[0]);
    if (!a.y.count) return QN_OK;
    if (!r.n) { /* no rows: sums of nothing */
        size_t bytes = (size_t)a.y.count * qn_dtype_size(a.y.dtype);
        cudaError_t answer = cudaMemsetAsync(a.y.data, 0, bytes, s->queue->stream);
        if (answer == cudaSuccess && CENTRED && a.more[0].data)
            answer = cudaMemsetAsync(a.more[0].data, 0, bytes, s->queue->stream);
        return qn__cuda_check(answer, "cudaMemsetAsync", s, err);
    }
    return qn__cuda_check(with_float(a.y.dtype,
                                     [&](auto t) {
                                         using T = decltype(t);
                                         operands<T> o = { .dx = NULL,
                                                           .x = (const T *)a.x[0].data,
                                                           .dy = (const T *)a.x[1].data,
                                                           .gamma = NULL,
                                                           .addend = NULL,
                                                           .rows = r.n,
                                                           .width = (int32_t)r.width,
                                                           .eps = (float)((const qn__norm_attr *)a.attr)->eps,
                                                           .centred = CENTRED };
                                         return start_dw(s, o, (T *)a.y.data, CENTRED ? (T *)a.more[0].data : NULL);
                                     }),
                          "norm_sum_rows", s, err);
}

const char *const variants[] = { QN_NORM_VARIANTS };

} // namespace

KERNEL(layer_norm_grad_x) = { .variants = variants, .pick = pick_norm_grad, .launch = launch_dx<true> };
KERNEL(rms_norm_grad_x) = { .variants = variants, .pick = pick_norm_grad, .launch = launch_dx<false> };
KERNEL(layer_norm_grad_w) = { .variants = variants, .pick = pick_dw, .launch = launch_dw<true> };
KERNEL(rms_norm_grad_w) = { .variants = variants, .pick = pick_dw, .launch = launch_dw<false> };
