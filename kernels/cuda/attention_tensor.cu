/* attention_tensor.cu - y = softmax(scale q k^T) v of bf16 and f16 on tensor cores (attention_tensor.h).
 *
 * A block has 128 queries of a head, a warp 32 of them, and goes once along the keys, 64 at a time (32 for heads beyond
 * 64), with the largest score so far and the sums relative to it in registers. Softmax and sums are in f32; p is rounded
 * to the type of v for the second product, as in every implementation of flash attention. */
#include "attention_tensor.h"

using namespace attention;
using namespace attention::tensor;

namespace
{

template <int SIZE> struct plan {
    static constexpr int mt = 2, queries = 16 * mt * WARPS, keys = SIZE > 64 ? 32 : 64;
    static constexpr int pitch = tile<SIZE>::pitch, elements = (queries + 4 * keys) * pitch;
};

/* -inf where the query does not see the key: columns from `begin` on. */
template <int MT, int NT>
__device__ __forceinline__ void mask(float (&p)[MT][NT][4], int first, int begin, const shape &s)
{
    int lane = threadIdx.x & 31;
#pragma unroll
    for (int i = 0; i < MT; i++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            int seen = s.seen(first + 16 * i + 8 * h + lane / 4) - begin - lane % 4 * 2;
#pragma unroll
            for (int j = 0; j < NT; j++)
#pragma unroll
                for (int e = 0; e < 2; e++)
                    if (8 * j + e >= seen) p[i][j][2 * h + e] = -INFINITY;
        }
}

/* Scores become 2^(scale (score - largest so far)); what was summed before is brought to the new largest. */
template <int SIZE, int MT, int NT>
__device__ __forceinline__ void take_scores(float (&p)[MT][NT][4], float (&o)[MT][SIZE / 8][4], float (&largest)[MT][2],
                                            float (&total)[MT][2], float scale)
{
#pragma unroll
    for (int i = 0; i < MT; i++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            float m = largest[i][h], sum = 0.0f;
#pragma unroll
            for (int j = 0; j < NT; j++) m = fmaxf(m, fmaxf(p[i][j][2 * h], p[i][j][2 * h + 1]));
            m = group_max<4>(m);
            float from = m == -INFINITY ? 0.0f : m * scale, factor = exp2_approx(largest[i][h] * scale - from);
            largest[i][h] = m;
#pragma unroll
            for (int j = 0; j < NT; j++)
#pragma unroll
                for (int e = 2 * h; e < 2 * h + 2; e++) {
                    p[i][j][e] = exp2_approx(p[i][j][e] * scale - from);
                    sum += p[i][j][e];
                }
            total[i][h] = total[i][h] * factor + sum;
#pragma unroll
            for (int j = 0; j < SIZE / 8; j++) {
                o[i][j][2 * h] *= factor;
                o[i][j][2 * h + 1] *= factor;
            }
        }
}

template <class T, int SIZE>
__global__ void __launch_bounds__(THREADS, 2) attention_tensor(const __grid_constant__ forward<T> f)
{
    using P = plan<SIZE>;
    constexpr int MT = P::mt, NT = P::keys / 8, STAGE = P::keys * P::pitch;
    CU_SHARED_DYN(T, memory);
    const shape &s = f.s;
    int blocks = (s.queries + P::queries - 1) / P::queries, head = blockIdx.x / blocks, kv = s.kv_of(head);
    int first = (blocks - 1 - (int)blockIdx.x % blocks) * P::queries; /* causal: the longest work first */
    int own = (int)(threadIdx.x >> 5) * 16 * MT, lane = threadIdx.x & 31;
    int n = s.queries - first, end = s.seen(first + P::queries - 1);
    T *q = memory, *keys = q + P::queries * P::pitch, *values = keys + 2 * STAGE;
    const T *k = f.k.of(kv), *v = f.v.of(kv);
    auto fetch = [&](int stage, int begin) {
        tile<SIZE>::template fetch<P::keys>(keys + stage * STAGE, k + begin * f.k.row, f.k.row, s.keys - begin, s.size);
        tile<SIZE>::template fetch<P::keys>(values + stage * STAGE, v + begin * f.v.row, f.v.row, s.keys - begin,
                                            s.size);
    };
    if (end > 0) {
        tile<SIZE>::template fetch<P::queries>(q, f.q.of(head) + first * f.q.row, f.q.row, n, s.size);
        fetch(0, 0);
    }
    cp_async_commit();
    float o[MT][SIZE / 8][4] = {}, total[MT][2] = {}, largest[MT][2], scale = s.scale * LOG2_E;
#pragma unroll
    for (int i = 0; i < MT; i++) largest[i][0] = largest[i][1] = -INFINITY;
#pragma unroll 1
    for (int begin = 0, stage = 0; begin < end; begin += P::keys, stage ^= 1) {
        float p[MT][NT][4];
        cp_async_wait<0>();
        __syncthreads(); /* this stage is there for all; the other is no longer read */
        if (begin + P::keys < end) fetch(stage ^ 1, begin + P::keys);
        cp_async_commit();
        rows_by_rows<SIZE>(p, q + own * P::pitch, keys + stage * STAGE);
        if (begin + P::keys > s.seen(first + own)) mask(p, first + own, begin, s);
        take_scores<SIZE>(p, o, largest, total, scale);
        add_by_rows<SIZE>(o, p, values + stage * STAGE);
    }
    float share[MT][2];
#pragma unroll
    for (int i = 0; i < MT; i++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            int row = first + own + 16 * i + 8 * h + lane / 4;
            bool any = s.seen(row) > 0;
            float all = group_sum<4>(total[i][h]);
            share[i][h] = any ? 1.0f / all : 0.0f;
            if (f.l && row < s.queries && lane % 4 == 0)
                f.l[(int64_t)head * s.queries + row] = any ? (largest[i][h] * scale + log2f(all)) * LN_2 : 0.0f;
        }
    tensor::write_rows<SIZE, MT>(f.y.of(head) + (first + own) * f.y.row, f.y.row, n - own, s.size, q + own * P::pitch,
                                 o, share);
}

template <class T, int SIZE> cudaError_t launch(const qn__step *step)
{
    using P = plan<SIZE>;
    forward<T> f = forward_of<T>(&step->args);
    unsigned blocks = (unsigned)(ceil_div(f.s.queries, P::queries) * f.s.batch * f.s.heads);
    return LAUNCH((attention_tensor<T, SIZE>), (blocks), (THREADS), P::elements * sizeof(T), step->queue->stream, f);
}

} // namespace

cudaError_t qn__attention_tensor(const qn__step *step)
{
    shape s;
    shape_of(&step->args, &s);
    if (step->args.y.dtype == QN_BF16) return s.size > 64 ? launch<bf16, 128>(step) : launch<bf16, 64>(step);
    return s.size > 64 ? launch<f16, 128>(step) : launch<f16, 64>(step);
}
