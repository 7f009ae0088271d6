/* attention_grad_tensor.cu - the gradient of attention of bf16 and f16 on tensor cores (attention_tensor.h), by the two
 * passes of attention_grad.cu.
 *
 * A block has 64 rows of its side, a warp 16 of them, and goes along the other side, 64 rows at a time (32 for heads
 * beyond 64). The scores are computed with the rows of the sums' owner as rows, so p and ds are left operands of the
 * second product as they lie in registers, rounded to the type of the operands. The scale comes last. */
#include "attention_tensor.h"

using namespace attention;
using namespace attention::tensor;

namespace
{

template <int SIZE> struct plan {
    static constexpr int own = 16 * WARPS, other = SIZE > 64 ? 32 : 64, pitch = tile<SIZE>::pitch;
    static constexpr int stage = other * pitch, elements = 2 * own * pitch + 4 * stage;
};

/* Of two rows of this lane: sum of dy y, by the 4 lanes that share them. */
template <class T>
__device__ __forceinline__ void dot_rows(float (&d)[2], const T *y, int64_t y_row, const T *dy, int64_t dy_row, int n,
                                         int size)
{
    int lane = threadIdx.x & 31;
#pragma unroll
    for (int h = 0; h < 2; h++) {
        int row = 8 * h + lane / 4;
        float sum = 0.0f;
#pragma unroll 1
        for (int at = lane % 4 * 8; row < n && at < size; at += 32) {
            vec16<T> a = load16(y + row * y_row + at), b = load16(dy + row * dy_row + at);
#pragma unroll
            for (int i = 0; i < 8; i++) sum += to_f32(a.v[i]) * to_f32(b.v[i]);
        }
        d[h] = group_sum<4>(sum);
    }
}

template <class T, int SIZE>
__global__ void __launch_bounds__(THREADS, 2) attention_grad_queries_tensor(const __grid_constant__ backward<T> b)
{
    using P = plan<SIZE>;
    constexpr int NT = P::other / 8;
    CU_SHARED_DYN(T, memory);
    const shape &s = b.s;
    int blocks = (s.queries + P::own - 1) / P::own, head = blockIdx.x / blocks, kv = s.kv_of(head);
    int first = (blocks - 1 - (int)blockIdx.x % blocks) * P::own, n = s.queries - first;
    int own = (int)(threadIdx.x >> 5) * 16, lane = threadIdx.x & 31, end = s.seen(first + P::own - 1);
    T *q = memory, *dy = q + P::own * P::pitch, *keys = dy + P::own * P::pitch, *values = keys + 2 * P::stage;
    const T *k = b.k.of(kv), *v = b.v.of(kv), *from_dy = b.dy.of(head) + first * b.dy.row;
    auto fetch = [&](int stage, int begin) {
        tile<SIZE>::template fetch<P::other>(keys + stage * P::stage, k + begin * b.k.row, b.k.row, s.keys - begin,
                                             s.size);
        tile<SIZE>::template fetch<P::other>(values + stage * P::stage, v + begin * b.v.row, b.v.row, s.keys - begin,
                                             s.size);
    };
    if (end > 0) {
        tile<SIZE>::template fetch<P::own>(q, b.q.of(head) + first * b.q.row, b.q.row, n, s.size);
        tile<SIZE>::template fetch<P::own>(dy, from_dy, b.dy.row, n, s.size);
        fetch(0, 0);
    }
    cp_async_commit();
    float dq[1][SIZE / 8][4] = {}, d[2], l[2], scale = s.scale * LOG2_E;
    dot_rows(d, b.y.of(head) + (first + own) * b.y.row, b.y.row, from_dy + own * b.dy.row, b.dy.row, n - own, s.size);
#pragma unroll
    for (int h = 0; h < 2; h++) {
        int row = own + 8 * h + lane / 4;
        int64_t place = (int64_t)head * s.queries + first + row;
        l[h] = row < n ? b.l[place] * LOG2_E : 0.0f;
        if (row < n && lane % 4 == 0) b.d[place] = d[h];
    }
#pragma unroll 1
    for (int begin = 0, stage = 0; begin < end; begin += P::other, stage ^= 1) {
        float p[1][NT][4], ds[1][NT][4];
        cp_async_wait<0>();
        __syncthreads(); /* this stage is there for all; the other is no longer read */
        if (begin + P::other < end) fetch(stage ^ 1, begin + P::other);
        cp_async_commit();
        rows_by_rows<SIZE>(p, q + own * P::pitch, keys + stage * P::stage);
        rows_by_rows<SIZE>(ds, dy + own * P::pitch, values + stage * P::stage);
#pragma unroll
        for (int i = 0; i < NT * 4; i++) {
            float e = exp2_approx(p[0][i / 4][i % 4] * scale - l[i % 4 / 2]);
            ds[0][i / 4][i % 4] = e * (ds[0][i / 4][i % 4] - d[i % 4 / 2]);
        }
        if (begin + P::other > s.seen(first + own)) {
#pragma unroll
            for (int i = 0; i < NT * 4; i++) {
                int seen = s.seen(first + own + 8 * (i % 4 / 2) + lane / 4) - begin - lane % 4 * 2;
                if (i / 4 * 8 + i % 2 >= seen) ds[0][i / 4][i % 4] = 0.0f;
            }
        }
        add_by_rows<SIZE>(dq, ds, keys + stage * P::stage);
    }
    const float factor[1][2] = { { s.scale, s.scale } };
    tensor::write_rows<SIZE, 1>(b.dq.of(head) + (first + own) * b.dq.row, b.dq.row, n - own, s.size, q + own * P::pitch,
                                dq, factor);
}

/* Rows of the scores are keys, columns are queries. */
template <class T, int SIZE>
__global__ void __launch_bounds__(THREADS, 2) attention_grad_keys_tensor(const __grid_constant__ backward<T> b)
{
    using P = plan<SIZE>;
    constexpr int NT = P::other / 8;
    CU_SHARED_DYN(T, memory);
    CU_SHARED(float, l, [2][64]);
    CU_SHARED(float, d, [2][64]);
    const shape &s = b.s;
    int blocks = (s.keys + P::own - 1) / P::own, kv = blockIdx.x / blocks, begin = (int)blockIdx.x % blocks * P::own;
    int own = (int)(threadIdx.x >> 5) * 16, lane = threadIdx.x & 31, group = s.heads / s.kv_heads, n = s.keys - begin;
    int from = s.causal ? begin + s.queries - s.keys : 0; /* the first query that sees a key of this block */
    from = from < 0 ? 0 : from / P::other * P::other;
    int along = s.queries > from ? (s.queries - from + P::other - 1) / P::other : 0; /* tiles of each head */
    T *k = memory, *v = k + P::own * P::pitch, *queries = v + P::own * P::pitch, *dys = queries + 2 * P::stage;
    const T *q = b.q.of(kv * group), *dy = b.dy.of(kv * group); /* of the head whose tile comes next */
    int64_t place = (int64_t)kv * group * s.queries;
    auto fetch = [&](int stage, int first) {
        int left = s.queries - first;
        tile<SIZE>::template fetch<P::other>(queries + stage * P::stage, q + first * b.q.row, b.q.row, left, s.size);
        tile<SIZE>::template fetch<P::other>(dys + stage * P::stage, dy + first * b.dy.row, b.dy.row, left, s.size);
        if (threadIdx.x < P::other) {
            bool there = (int)threadIdx.x < left;
            l[stage][threadIdx.x] = there ? b.l[place + first + threadIdx.x] * LOG2_E : 0.0f;
            d[stage][threadIdx.x] = there ? b.d[place + first + threadIdx.x] : 0.0f;
        }
    };
    if (along > 0) {
        tile<SIZE>::template fetch<P::own>(k, b.k.of(kv) + begin * b.k.row, b.k.row, n, s.size);
        tile<SIZE>::template fetch<P::own>(v, b.v.of(kv) + begin * b.v.row, b.v.row, n, s.size);
        fetch(0, from);
    }
    cp_async_commit();
    float dk[1][SIZE / 8][4] = {}, dv[1][SIZE / 8][4] = {}, scale = s.scale * LOG2_E;
    int first = from, ahead = s.causal ? s.keys - s.queries : s.keys; /* query t sees the keys to t + ahead */
#pragma unroll 1
    for (int i = 0; i < group * along; i++) {
        float p[1][NT][4], ds[1][NT][4];
        int stage = i & 1, now = first;
        cp_async_wait<0>();
        __syncthreads(); /* this stage is there for all; the other is no longer read */
        first += P::other;
        if (first >= s.queries) {
            first = from;
            q += b.q.head;
            dy += b.dy.head;
            place += s.queries;
        }
        if (i + 1 < group * along) fetch(stage ^ 1, first);
        cp_async_commit();
        rows_by_rows<SIZE>(p, k + own * P::pitch, queries + stage * P::stage);
        rows_by_rows<SIZE>(ds, v + own * P::pitch, dys + stage * P::stage);
#pragma unroll
        for (int j = 0; j < NT; j++) {
            float2 lj = *reinterpret_cast<const float2 *>(&l[stage][8 * j + lane % 4 * 2]);
            float2 dj = *reinterpret_cast<const float2 *>(&d[stage][8 * j + lane % 4 * 2]);
#pragma unroll
            for (int e = 0; e < 4; e++) {
                p[0][j][e] = exp2_approx(p[0][j][e] * scale - (e % 2 ? lj.y : lj.x));
                ds[0][j][e] = p[0][j][e] * (ds[0][j][e] - (e % 2 ? dj.y : dj.x));
            }
        }
        if (begin + own + 15 > now + ahead || now + P::other > s.queries) {
            /* how far the lane's first key is before what its first query sees; queries that are left from that on */
            int before = now + lane % 4 * 2 + ahead - (begin + own + lane / 4), left = s.queries - now - lane % 4 * 2;
#pragma unroll
            for (int j = 0; j < NT * 4; j++) {
                int column = j / 4 * 8 + j % 2, row = j % 4 / 2 * 8;
                if (before < row - column || left <= column) p[0][j / 4][j % 4] = ds[0][j / 4][j % 4] = 0.0f;
            }
        }
        add_by_rows<SIZE>(dv, p, dys + stage * P::stage);
        add_by_rows<SIZE>(dk, ds, queries + stage * P::stage);
    }
    const float one[1][2] = { { 1.0f, 1.0f } }, factor[1][2] = { { s.scale, s.scale } };
    if (b.dk.data)
        tensor::write_rows<SIZE, 1>(b.dk.of(kv) + (begin + own) * b.dk.row, b.dk.row, n - own, s.size,
                                    k + own * P::pitch, dk, factor);
    if (b.dv.data)
        tensor::write_rows<SIZE, 1>(b.dv.of(kv) + (begin + own) * b.dv.row, b.dv.row, n - own, s.size,
                                    v + own * P::pitch, dv, one);
}

template <class T, int SIZE> cudaError_t launch(const qn__step *step)
{
    using P = plan<SIZE>;
    backward<T> b = backward_of<T>(&step->args, step->workspace);
    unsigned along_keys = (unsigned)(ceil_div(b.s.queries, P::own) * b.s.batch * b.s.heads);
    unsigned along_queries = (unsigned)(ceil_div(b.s.keys, P::own) * b.s.batch * b.s.kv_heads);
    if (along_keys) {
        cudaError_t answer = LAUNCH((attention_grad_queries_tensor<T, SIZE>), (along_keys), (THREADS),
                                    P::elements * sizeof(T), step->queue->stream, b);
        if (answer != cudaSuccess) return answer;
    }
    if (!along_queries || (!b.dk.data && !b.dv.data)) return cudaSuccess;
    return LAUNCH((attention_grad_keys_tensor<T, SIZE>), (along_queries), (THREADS), P::elements * sizeof(T),
                  step->queue->stream, b);
}

} // namespace

cudaError_t qn__attention_grad_tensor(const qn__step *step)
{
    shape s;
    shape_of(&step->args, &s);
    if (step->args.y.dtype == QN_BF16) return s.size > 64 ? launch<bf16, 128>(step) : launch<bf16, 64>(step);
    return s.size > 64 ? launch<f16, 128>(step) : launch<f16, 64>(step);
}
