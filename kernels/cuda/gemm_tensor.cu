/* gemm_tensor.cu - products of bf16 and f16 on tensor cores, sums in f32.
 *
 * A block computes 128 x 128 results from slices of 32 along k (gemm_tile.h). Three slices are in flight through
 * cp.async, so one is computed while two come. Slices lie in shared memory as in global memory, transposed or not;
 * ldmatrix turns what must be turned. Results leave through shared memory, 16 bytes at a time. */
#include "gemm_impl.h"
#include "gemm_tile.h"

namespace
{

template <class T> struct operands {
    T *y;
    const T *a, *b, *bias;
    int64_t a_step, b_step, y_step;
    int m, n, k;
};

template <class T, bool TA, bool TB> __global__ void __launch_bounds__(THREADS, TA ? 1 : 2) gemm_tensor(operands<T> o)
{
    using SA = slice<T, !TA>;
    using SB = slice<T, TB>;
    CU_SHARED_DYN(T, memory);
    T *tiles_b = memory + STAGES * SA::elements;
    int r0 = blockIdx.y * TILE, c0 = blockIdx.x * TILE, warp = threadIdx.x >> 5;
    int row0 = warp / 4 * 64, column0 = warp % 4 * 32, slices = (o.k + DEPTH - 1) / DEPTH;
    const T *a = o.a + blockIdx.z * o.a_step, *b = o.b + blockIdx.z * o.b_step;
    float sum[4][4][4] = {};

#pragma unroll
    for (int s = 0; s < STAGES - 1; s++) {
        if (s < slices) {
            SA::fetch(memory + s * SA::elements, a, r0, s * DEPTH, o.m, o.k);
            SB::fetch(tiles_b + s * SB::elements, b, c0, s * DEPTH, o.n, o.k);
        }
        cp_async_commit(); /* empty groups keep the count */
    }
#pragma unroll 1
    for (int s = 0, now = 0, next = STAGES - 1; s < slices; s++) {
        cp_async_wait<STAGES - 2>();
        __syncthreads(); /* slice s is there for all; slice s - 1 is no longer read */
        if (s + STAGES - 1 < slices) {
            SA::fetch(memory + next * SA::elements, a, r0, (s + STAGES - 1) * DEPTH, o.m, o.k);
            SB::fetch(tiles_b + next * SB::elements, b, c0, (s + STAGES - 1) * DEPTH, o.n, o.k);
        }
        cp_async_commit();
        const T *ta = memory + now * SA::elements, *tb = tiles_b + now * SB::elements;
        multiply_slices<T, SA, SB>(sum, ta, tb, row0, column0);
        now = now == STAGES - 1 ? 0 : now + 1;
        next = next == STAGES - 1 ? 0 : next + 1;
    }
    __syncthreads(); /* what is under way by now are empty groups */
    store_tile(o.y + blockIdx.z * o.y_step, memory, sum, o.bias, false, r0, c0, o.m, o.n);
}

template <class T, bool TA, bool TB> cudaError_t launch(const qn__gemm *g, cudaStream_t stream)
{
    operands<T> o = { (T *)g->y, (const T *)g->a, (const T *)g->b, (const T *)g->bias, g->a_step,
                      g->b_step, g->y_step,       (int)g->m,       (int)g->n,          (int)g->k };
    size_t slices = STAGES * (slice<T, !TA>::elements + slice<T, TB>::elements), result = TILE * (TILE + PAD);
    return LAUNCH((gemm_tensor<T, TA, TB>),
                  ((unsigned)ceil_div(g->n, TILE), (unsigned)ceil_div(g->m, TILE), (unsigned)g->batch), (THREADS),
                  sizeof(T) * (slices > result ? slices : result), stream, o);
}

template <class T> cudaError_t launch_as(const qn__gemm *g, cudaStream_t stream)
{
    if (g->ta) return g->tb ? launch<T, true, true>(g, stream) : launch<T, true, false>(g, stream);
    return g->tb ? launch<T, false, true>(g, stream) : launch<T, false, false>(g, stream);
}

} // namespace

cudaError_t qn__gemm_tensor(const qn__gemm *g, cudaStream_t stream)
{
    return g->dtype == QN_BF16 ? launch_as<bf16>(g, stream) : launch_as<f16>(g, stream);
}
