/* attention.cu - q [B,H,T,D], k, v [B,Hk,S,D] -> y like q, and if wanted l [B,H,T]; or all packed.
 *
 * Compulsory bytes: q, k, v read, y and l written; the scores are never in memory. A block has 64 queries of a head and
 * goes once along the keys, 64 at a time, keeping the largest score so far and the sums relative to it (Dao et al. 2022;
 * Milakov and Gimelshein 2018). Keys and values are read once for each block of queries, from L2 for most of them.
 * Heads of more than 64 (NC = 1) or 128 (NC = 2) are cut along D: each cut computes the scores again. */
#include "attention_pick.h"

using namespace attention;

namespace
{

/* Scores become 2^(score - largest so far), 0 for keys that are not seen; what was summed before is brought to the new
 * largest. A largest of -inf leaves a total of 0, so that the result is NaN as the definition's. */
template <int NC>
__device__ __forceinline__ void take_scores(float (&p)[4][4], float (&sum)[NC][4][4], float (&largest)[4],
                                            float (&total)[4], int first, int begin, const shape &s)
{
    float scale = s.scale * LOG2_E;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int seen = s.seen(first + threadIdx.x / 16 * 4 + i) - begin - threadIdx.x % 16 * 4;
        float m = largest[i];
#pragma unroll
        for (int j = 0; j < 4; j++) {
            p[i][j] = j < seen ? p[i][j] * scale : -INFINITY;
            m = fmaxf(m, p[i][j]); /* a NaN reappears in the sum */
        }
        m = group_max<16>(m);
        float from = m == -INFINITY ? 0.0f : m, factor = exp2_approx(largest[i] - from);
        total[i] *= factor;
        largest[i] = m;
#pragma unroll
        for (int j = 0; j < 4; j++) {
            p[i][j] = exp2_approx(p[i][j] - from);
            total[i] += p[i][j];
        }
#pragma unroll
        for (int c = 0; c < NC; c++)
#pragma unroll
            for (int j = 0; j < 4; j++) sum[c][i][j] *= factor;
    }
}

template <class T, int NC>
__global__ void __launch_bounds__(THREADS, 2) attention_tiled(const __grid_constant__ forward<T> f)
{
    CU_SHARED_DYN(float, memory);
    const shape &s = f.s;
    int blocks = (s.queries + TILE - 1) / TILE, head = blockIdx.x / blocks, kv = s.kv_of(head);
    int first = (blocks - 1 - (int)blockIdx.x % blocks) * TILE; /* causal: the longest work first */
    int end = s.seen(first + TILE - 1), at = (int)blockIdx.y * TILE * NC;
    float *tile = memory, *slice = tile + 2 * SLICE;
    own_rows<T> q(slice + SLICE, rows_of(f.q, head, first, s.queries), s);
    float sum[NC][4][4] = {}, total[4] = {}, largest[4];
#pragma unroll
    for (int i = 0; i < 4; i++) largest[i] = -INFINITY;
#pragma unroll 1
    for (int begin = 0; begin < end; begin += TILE) {
        float p[4][4];
        product_of_rows(p, q, slice, rows_of(f.k, kv, begin, s.keys), s);
        take_scores<NC>(p, sum, largest, total, first, begin, s);
        write_turned(tile, p);
        add_product<NC>(sum, tile, slice, rows_of(f.v, kv, begin, s.keys),
                        s.keys - begin < TILE ? s.keys - begin : TILE, at, s);
    }
    float share[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int row = first + (int)threadIdx.x / 16 * 4 + i;
        bool any = s.seen(row) > 0;
        float all = group_sum<16>(total[i]);
        share[i] = any ? 1.0f / all : 0.0f;
        if (f.l && row < s.queries && at == 0 && threadIdx.x % 16 == 0)
            f.l[(int64_t)head * s.queries + row] = any ? (largest[i] + log2f(all)) * LN_2 : 0.0f;
    }
    write_rows<NC>(f.y.of(head), f.y.row, first, s.queries, at, sum, share, s);
}

template <class T, int NC> cudaError_t launch_tiled(const qn__step *step)
{
    forward<T> f = forward_of<T>(&step->args);
    unsigned blocks = (unsigned)(ceil_div(f.s.queries, TILE) * f.s.batch * f.s.heads);
    return LAUNCH((attention_tiled<T, NC>), (blocks, (unsigned)ceil_div(f.s.size, TILE * NC)), (THREADS),
                  (3 + own_rows<T>::slices_for(f.s.size)) * SLICE * sizeof(float), step->queue->stream, f);
}

qn_status pick(const qn__args *a, qn__choice *c)
{
    shape s;
    return pick_kernel(a, -1, &s, c);
}

/* A rung of the ladder: f32 arithmetic whatever the type. */
qn_status pick_tiled(const qn__args *a, qn__choice *c)
{
    qn_status status = pick(a, c);
    c->variant = TILED;
    return status;
}

qn_status launch(const qn__step *step, qn_error *err)
{
    const qn__args *a = &step->args;
    if (!a->y.count) return QN_OK;
    if (step->choice.variant == TENSOR)
        return qn__cuda_check(qn__attention_tensor(step), "attention_tensor", step, err);
    auto tiled = [&](auto t, auto n) { return launch_tiled<decltype(t), decltype(n)::value>(step); };
    return qn__cuda_check(with_tiles(a, tiled), "attention_tiled", step, err);
}

const char *const variants[] = { ATTENTION_VARIANTS };

} // namespace

KERNEL(attention) = { .variants = variants, .pick = pick, .launch = launch };

extern "C" const struct qn__kernel qn__attention_tiled;
const struct qn__kernel qn__attention_tiled = { .variants = variants, .pick = pick_tiled, .launch = launch };
