/* layer_norm_grad.cu - gradients of layer_norm and rms_norm.
 *
 * Compulsory bytes in elements of x: dx 3 n, 4 n with an addend; dgamma and dbeta 2 n. Rows of x and dy stay in
 * registers (norm.h). For dgamma and dbeta a block goes through part of the rows and each thread adds up its columns,
 * which it keeps; a second launch joins the parts in order. A part has so many rows that writing and reading its sums
 * is a sixteenth of the bytes, unless there are few rows in all. Of rows too wide for registers the sums lie in shared
 * memory; of those too wide for that (12,288 elements) the moments are found first, and then columns added with them:
 * 3 n. */
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

template <class T, int N>
__global__ void __launch_bounds__(QN_NORM_LONG_THREADS, 1) norm_grad_long(operands<T> o, int room)
{
    using S = norm_shape<float, QN_NORM_LONG_THREADS, false>;
    CU_SHARED(float, part, [64]);
    CU_SHARED(float, more, [64]);
    CU_SHARED_DYN(T, kept);
    int64_t start = (int64_t)blockIdx.x * o.width;
    norm_held<T, N, 3> r; /* gamma too, which is wanted twice */
    r.row[0] = o.x + start;
    r.row[1] = o.dy + start;
    r.row[2] = o.gamma;
    r.kept = kept;
    r.width = o.width;
    r.room = room;
    auto element = [](pack<T, N>(&v)[3], int i) { return to_f32(v[0].v[i]); };
    norm_moments m = norm_moments_held(r, element, o.eps, o.centred, part);
    float a = 0.0f, b = 0.0f;
    r.forth([&](pack<T, N>(&v)[3], int64_t) {
#pragma unroll
        for (int i = 0; i < N; i++) {
            float u = to_f32(v[2].v[i]) * to_f32(v[1].v[i]);
            a += u;
            b = fmaf(u, (to_f32(v[0].v[i]) - m.mean) * m.r, b);
        }
    });
    norm_totals<S>(a, b, more, 0);
    a = o.centred ? a / (float)o.width : 0.0f;
    b /= (float)o.width;
    r.back([&](pack<T, N>(&v)[3], int64_t at) {
        pack<T, N> p;
        if (o.addend) p.load(o.addend + start + at);
#pragma unroll
        for (int i = 0; i < N; i++) {
            float xhat = (to_f32(v[0].v[i]) - m.mean) * m.r, u = to_f32(v[2].v[i]) * to_f32(v[1].v[i]);
            float d = m.r * (u - a - xhat * b);
            p.v[i] = from_f32<T>(o.addend ? d + to_f32(p.v[i]) : d);
        }
        p.store(o.dx + start + at);
    });
}

template <class T> cudaError_t start_dx(const qn__step *s, const operands<T> &o)
{
    if (s->choice.variant >= QN_NORM_LONG)
        return with_long<T, 3>(s, s->choice.variant, o.width, [&](auto rows, int room) {
            constexpr int N = decltype(rows)::stride / QN_NORM_LONG_THREADS;
            return LAUNCH((norm_grad_long<T, N>), ((unsigned)o.rows), (QN_NORM_LONG_THREADS),
                          3 * sizeof(T) * (size_t)room, s->queue->stream, o, room);
        });
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

enum { FEW_ROWS = 16, MANY_ROWS = 64 };

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

/* Longer rows, as far as shared memory has room for the sums of their columns: x stays in registers until its moments
 * are known. A thread's columns are its own, four floats beside its neighbours' four. */
enum { SUM_COLUMNS = 24 }; /* of a thread */
template <class T, int N> using sum_row = held_rows<T, N, QN_NORM_LONG_THREADS, SUM_COLUMNS / N, 1>;
template <class T, int N> struct column_room {
    static constexpr int words = N == 1 ? 1 : 4, groups = N / words, parts = SUM_COLUMNS / N;
    static int64_t used(int64_t width) { return ceil_div(width, (int64_t)QN_NORM_LONG_THREADS * N); }
    static size_t bytes(int64_t width) { return 2 * sizeof(float) * (size_t)(used(width) * QN_NORM_LONG_THREADS * N); }
    /* of sums `which` of access k */
    static __device__ __forceinline__ int place(int used, int which, int k, int group)
    {
        return (((which * used + k) * groups + group) * QN_NORM_LONG_THREADS + (int)threadIdx.x) * words;
    }
};

template <class T, int N>
__global__ void __launch_bounds__(QN_NORM_LONG_THREADS, 1)
    norm_sum_long(operands<T> o, float *partial, int64_t part_rows, int used)
{
    using room = column_room<T, N>;
    using some = pack<float, room::words>;
    CU_SHARED(float, part, [64]);
    CU_SHARED_DYN(float, sums);
    int64_t begin = blockIdx.x * part_rows, end = begin + part_rows;
    if (end > o.rows) end = o.rows;
    sum_row<T, N> r;
    auto element = [](pack<T, N>(&v)[1], int i) { return to_f32(v[0].v[i]); };
    for (int64_t row = begin; row < end; row++) {
        r.row[0] = o.x + row * o.width;
        r.kept = NULL;
        r.width = o.width;
        r.room = 0;
        norm_moments m = norm_moments_held(r, element, o.eps, o.centred, part);
#pragma unroll
        for (int k = 0; k < room::parts; k++) {
            if (r.column(k) >= o.width) continue;
            pack<T, N> dy;
            dy.load(o.dy + row * o.width + r.column(k));
#pragma unroll
            for (int g = 0; g < room::groups; g++) {
                some a = {}, b = {};
                float *to[2] = { sums + room::place(used, 0, k, g), sums + room::place(used, 1, k, g) };
                if (row > begin) a.load(to[0]);
                if (row > begin) b.load(to[1]);
#pragma unroll
                for (int i = 0; i < room::words; i++) {
                    int j = g * room::words + i;
                    float d = to_f32(dy.v[j]);
                    a.v[i] = fmaf(d, (to_f32(r.p[k][0].v[j]) - m.mean) * m.r, a.v[i]);
                    b.v[i] += d;
                }
                a.store(to[0]);
                b.store(to[1]);
            }
        }
        __syncthreads(); /* part is written again */
    }
    float *out = partial + (int64_t)blockIdx.x * 2 * o.width;
    for (int which = 0; which < 2; which++)
        for (int k = 0; k < used && r.column(k) < o.width; k++)
#pragma unroll
            for (int g = 0; g < room::groups; g++) {
                some v;
                v.load(sums + room::place(used, which, k, g));
                v.store(out + which * o.width + r.column(k) + g * room::words);
            }
}

/* What nothing holds: the moments first. */
template <class T> struct column_sums {
    using type = T;
    const T *x, *dy;
    const norm_moments *moments;
    T *dgamma, *dbeta;
    int64_t width;
    struct channel {
    };
    template <int N> __device__ __forceinline__ void of(channel (&)[N], int64_t) const {}
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

/* Whether norm_sum_long takes the rows. */
template <class T, int N> bool sums_fit(const qn__args *a, int64_t width)
{
    using room = column_room<T, N>;
    return room::used(width) <= room::parts && (int64_t)room::bytes(width) <= a->gpu->shared_per_block - 1024;
}
bool keeps_sums(const qn__args *a, int64_t width)
{
    bool vector = width * (int64_t)qn_dtype_size(a->x[0].dtype) % 16 == 0;
    if (a->x[0].dtype == QN_F32) return vector ? sums_fit<float, 4>(a, width) : sums_fit<float, 1>(a, width);
    return vector ? sums_fit<bf16, 8>(a, width) : sums_fit<bf16, 1>(a, width);
}
enum { LONG_SUMS = QN_NORM_LONG_ELEMENTS + 1, LONG_SUMS_ELEMENTS };

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

qn_status pick_dw(const qn__args *a, qn__choice *c)
{
    qn__rows r = rows_of(a->x[0]);
    if (pick_norm_grad(a, c)) return QN_EUSAGE;
    bool is_long = c->variant >= QN_NORM_LONG, summed = is_long && keeps_sums(a, r.width);
    if (summed) c->variant = c->variant == QN_NORM_LONG ? LONG_SUMS : LONG_SUMS_ELEMENTS;
    if (!is_long || summed) {
        c->workspace = sizeof(float) * 2 * (size_t)r.width * (size_t)ceil_div(r.n, part_rows(r.n));
        return QN_OK;
    }
    qn__choice sums = {};
    if (pick_channel_sums(as_columns(*a), &sums)) return QN_EUSAGE;
    c->workspace = norm_moments_bytes(r.n) + sums.workspace;
    return QN_OK;
}

template <class T> cudaError_t start_long(const qn__step *s, const operands<T> &o, T *dgamma, T *dbeta)
{
    cudaError_t answer = find_moments(s, o.x, o.rows, o.width, o.eps, o.centred);
    if (answer != cudaSuccess) return answer;
    qn__step columns = *s;
    columns.choice.variant = QN_CHANNEL_COLUMNS;
    columns.workspace = (char *)s->workspace + norm_moments_bytes(o.rows);
    column_sums<T> op = { o.x, o.dy, (const norm_moments *)s->workspace, dgamma, dbeta, o.width };
    return sum_channels(&columns, op, as_columns(s->args));
}

template <class T, int N>
cudaError_t start_long_sums(const qn__step *s, const operands<T> &o, float *partial, int parts)
{
    using room = column_room<T, N>;
    return LAUNCH((norm_sum_long<T, N>), ((unsigned)parts), (QN_NORM_LONG_THREADS), room::bytes(o.width),
                  s->queue->stream, o, partial, part_rows(o.rows), (int)room::used(o.width));
}
template <class T> cudaError_t start_dw(const qn__step *s, const operands<T> &o, T *dgamma, T *dbeta)
{
    cudaStream_t stream = s->queue->stream;
    if (s->choice.variant == QN_NORM_LONG || s->choice.variant == QN_NORM_LONG_ELEMENTS)
        return start_long(s, o, dgamma, dbeta);
    float *partial = (float *)s->workspace;
    int parts = (int)ceil_div(o.rows, part_rows(o.rows));
    cudaError_t answer;
    if (s->choice.variant == LONG_SUMS)
        answer = start_long_sums<T, vec16<T>::n>(s, o, partial, parts);
    else if (s->choice.variant == LONG_SUMS_ELEMENTS)
        answer = start_long_sums<T, 1>(s, o, partial, parts);
    else
        answer = with_shape<T, 2>(s->choice.variant, [&](auto shape) {
            using S = decltype(shape);
            size_t shared = S::rows > 1 ? sizeof(float) * S::all * S::threads : 0;
            return LAUNCH((norm_sum_rows<T, S>), ((unsigned)parts), (S::threads, S::rows), shared, stream, o, partial,
                          part_rows(o.rows));
        });
    if (answer != cudaSuccess) return answer;
    return join_parts<T>(s, dgamma, dbeta, partial, parts, o.width);
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
const char *const sum_variants[] = { "warp", "128 threads",    "512 threads",     "elements",
                                     "long", "long, elements", "long, sums kept", "long, sums kept, elements",
                                     NULL };

} // namespace

KERNEL(layer_norm_grad_x) = { .variants = variants, .pick = pick_norm_grad, .launch = launch_dx<true> };
KERNEL(rms_norm_grad_x) = { .variants = variants, .pick = pick_norm_grad, .launch = launch_dx<false> };
KERNEL(layer_norm_grad_w) = { .variants = sum_variants, .pick = pick_dw, .launch = launch_dw<true> };
KERNEL(rms_norm_grad_w) = { .variants = sum_variants, .pick = pick_dw, .launch = launch_dw<false> };
