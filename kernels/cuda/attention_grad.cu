/* attention_grad.cu - q, k, v, y, l, dy -> dq, and if wanted dk and dv; packed: qkv, y, l, dy -> all in one.
 *
 * Compulsory bytes: the operands read, the gradients written; scores are computed again from l (Dao et al. 2022), once
 * by each of two kernels, so that every sum has one owner and one order:
 *   attention_grad_queries   64 queries along the keys: d = sum of dy y, dq = scale ds k with ds = p (dy v^T - d)
 *   attention_grad_keys      64 keys along the queries of all heads that share them: dk = scale ds^T q, dv = p^T dy
 * Heads of more than 64 (NC = 1) or 128 (NC = 2) are cut along D as in attention.cu. */
#include "attention_pick.h"

using namespace attention;

namespace
{

__device__ __forceinline__ float softmax_again(float score, float l, const shape &s)
{
    return exp2_approx(score * (s.scale * LOG2_E) - l * LOG2_E);
}

/* d of the rows of this thread, by the 16 threads that share them. */
template <class T>
__device__ __forceinline__ void dot_rows(float (&d)[4], const rows<T> &y, const rows<T> &dy, int size)
{
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int row = y.first + threadIdx.x / 16 * 4 + i;
        float sum = 0.0f;
#pragma unroll 1
        for (int j = threadIdx.x % 16; row < y.n && j < size; j += 16)
            sum += to_f32(y.data[row * y.step + j]) * to_f32(dy.data[row * dy.step + j]);
        d[i] = group_sum<16>(sum);
    }
}

template <class T, int NC>
__global__ void __launch_bounds__(THREADS, NC == 1 ? 2 : 1)
    attention_grad_queries(const __grid_constant__ backward<T> b)
{
    CU_SHARED_DYN(float, memory);
    const shape &s = b.s;
    int blocks = (s.queries + TILE - 1) / TILE, head = blockIdx.x / blocks, kv = s.kv_of(head);
    int first = (blocks - 1 - (int)blockIdx.x % blocks) * TILE, row0 = first + (int)threadIdx.x / 16 * 4;
    int end = s.seen(first + TILE - 1), at = (int)blockIdx.y * TILE * NC;
    float *tile = memory, *slice = tile + 2 * SLICE, *kept = slice + SLICE;
    own_rows<T> q(kept, rows_of(b.q, head, first, s.queries), s);
    own_rows<T> dy(kept + (s.size <= KEPT ? (s.size + DEPTH - 1) / DEPTH : 1) * SLICE,
                   rows_of(b.dy, head, first, s.queries), s);
    float sum[NC][4][4] = {}, d[4], l[4], scale[4];
    dot_rows(d, rows_of(b.y, head, first, s.queries), dy.x, s.size);
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int64_t place = (int64_t)head * s.queries + row0 + i;
        bool there = row0 + i < s.queries;
        l[i] = there ? b.l[place] : 0.0f;
        scale[i] = s.scale;
        if (there && at == 0 && threadIdx.x % 16 == 0) b.d[place] = d[i];
    }
#pragma unroll 1
    for (int begin = 0; begin < end; begin += TILE) {
        float p[4][4], ds[4][4];
        product_of_rows(p, q, slice, rows_of(b.k, kv, begin, s.keys), s);
        product_of_rows(ds, dy, slice, rows_of(b.v, kv, begin, s.keys), s);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int seen = s.seen(row0 + i) - begin - (int)threadIdx.x % 16 * 4;
#pragma unroll
            for (int j = 0; j < 4; j++)
                ds[i][j] = j < seen ? softmax_again(p[i][j], l[i], s) * (ds[i][j] - d[i]) : 0.0f;
        }
        write_turned(tile, ds);
        add_product<NC>(sum, tile, slice, rows_of(b.k, kv, begin, s.keys),
                        s.keys - begin < TILE ? s.keys - begin : TILE, at, s);
    }
    write_rows<NC>(b.dq.of(head), b.dq.row, first, s.queries, at, sum, scale, s);
}

/* Rows of a tile are keys, columns are queries. */
template <class T, int NC>
__global__ void __launch_bounds__(THREADS, 1) attention_grad_keys(const __grid_constant__ backward<T> b)
{
    CU_SHARED_DYN(float, memory);
    const shape &s = b.s;
    int blocks = (s.keys + TILE - 1) / TILE, kv = blockIdx.x / blocks, begin = (int)blockIdx.x % blocks * TILE;
    int group = s.heads / s.kv_heads, at = (int)blockIdx.y * TILE * NC, key0 = begin + (int)threadIdx.x / 16 * 4;
    int from = s.causal ? begin + s.queries - s.keys : 0; /* the first query that sees a key of this block */
    float *tile = memory, *slice = tile + 2 * SLICE, *kept = slice + SLICE;
    own_rows<T> k(kept, rows_of(b.k, kv, begin, s.keys), s);
    own_rows<T> v(kept + (s.size <= KEPT ? (s.size + DEPTH - 1) / DEPTH : 1) * SLICE, rows_of(b.v, kv, begin, s.keys),
                  s);
    float dk[NC][4][4] = {}, dv[NC][4][4] = {};
    from = from < 0 ? 0 : from / TILE * TILE;
#pragma unroll 1
    for (int head = kv * group; head < (kv + 1) * group; head++) {
        rows<T> q = rows_of(b.q, head, from, s.queries), dy = rows_of(b.dy, head, from, s.queries);
        const float *l_of = b.l + (int64_t)head * s.queries, *d_of = b.d + (int64_t)head * s.queries;
#pragma unroll 1
        for (int first = from; first < s.queries; first += TILE) {
            q.first = dy.first = first;
            int n = s.queries - first < TILE ? s.queries - first : TILE, query0 = first + (int)threadIdx.x % 16 * 4;
            float p[4][4], ds[4][4];
            product_of_rows(p, k, slice, q, s);
            product_of_rows(ds, v, slice, dy, s);
#pragma unroll
            for (int j = 0; j < 4; j++) {
                bool there = query0 + j < s.queries;
                float l = there ? l_of[query0 + j] : 0.0f, d = there ? d_of[query0 + j] : 0.0f;
                int seen = there ? s.seen(query0 + j) : 0;
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    p[i][j] = key0 + i < seen ? softmax_again(p[i][j], l, s) : 0.0f;
                    ds[i][j] = key0 + i < seen ? p[i][j] * (ds[i][j] - d) : 0.0f;
                }
                write_column(tile, j, p);
            }
            add_product<NC>(dv, tile, slice, dy, n, at, s);
            __syncthreads();
            write_turned(tile, ds);
            add_product<NC>(dk, tile, slice, q, n, at, s);
        }
    }
    const float one[4] = { 1.0f, 1.0f, 1.0f, 1.0f }, scale[4] = { s.scale, s.scale, s.scale, s.scale };
    if (b.dk.data) write_rows<NC>(b.dk.of(kv), b.dk.row, begin, s.keys, at, dk, scale, s);
    if (b.dv.data) write_rows<NC>(b.dv.of(kv), b.dv.row, begin, s.keys, at, dv, one, s);
}

template <class T, int NC> cudaError_t launch_tiled(const qn__step *step)
{
    backward<T> b = backward_of<T>(&step->args, step->workspace);
    unsigned along_keys = (unsigned)(ceil_div(b.s.queries, TILE) * b.s.batch * b.s.heads), cuts;
    unsigned along_queries = (unsigned)(ceil_div(b.s.keys, TILE) * b.s.batch * b.s.kv_heads);
    size_t bytes = (3 + 2 * own_rows<T>::slices_for(b.s.size)) * SLICE * sizeof(float);
    cuts = (unsigned)ceil_div(b.s.size, TILE * NC);
    if (along_keys) {
        cudaError_t answer = LAUNCH((attention_grad_queries<T, NC>), (along_keys, cuts), (THREADS), bytes,
                                    step->queue->stream, b);
        if (answer != cudaSuccess) return answer;
    }
    if (!along_queries || (!b.dk.data && !b.dv.data)) return cudaSuccess;
    return LAUNCH((attention_grad_keys<T, NC>), (along_queries, cuts), (THREADS), bytes, step->queue->stream, b);
}

qn_status pick(const qn__args *a, qn__choice *c)
{
    shape s;
    QN_TRY(pick_kernel(a, a->n_in - 2, &s, c));
    c->workspace = sizeof(float) * (size_t)s.batch * (size_t)s.heads * (size_t)s.queries;
    return QN_OK;
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
    if (step->choice.variant == TENSOR)
        return qn__cuda_check(qn__attention_grad_tensor(step), "attention_grad_tensor", step, err);
    auto tiled = [&](auto t, auto n) { return launch_tiled<decltype(t), decltype(n)::value>(step); };
    return qn__cuda_check(with_tiles(a, tiled), "attention_grad_tiled", step, err);
}

const char *const variants[] = { ATTENTION_VARIANTS };

} // namespace

KERNEL(attention_grad) = { .variants = variants, .pick = pick, .launch = launch };

extern "C" const struct qn__kernel qn__attention_grad_tiled;
const struct qn__kernel qn__attention_grad_tiled = { .variants = variants, .pick = pick_tiled, .launch = launch };
