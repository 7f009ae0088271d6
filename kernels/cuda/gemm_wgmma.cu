/* gemm_wgmma.cu - the rung above gemm_tensor.cu on a device of capability 9.0: wgmma reads both operands from shared
 * memory, where TMA lays them. Compiled for sm_90a alone (mk/nvcc.mk); the simulator cannot run it, so it is checked by
 * its machine code only, and nothing but bench_kernels uses it.
 *
 * A block computes 128 x 128 results from slices of 64 along k, two warpgroups 64 x 128 each. Four slices are in flight:
 * one thread asks for a slice when all have done with the one that lay there. A slice's rows are 128 bytes, which TMA
 * swizzles so that the 8 rows of a core matrix lie in different banks. One product of each warpgroup may still run while
 * the next is issued. Both operands run along k: Y = A B^T. */
#include "gemm_impl.h"
#include "gemm_wgmma.h"
#ifdef __CUDACC__
#include "gpu_sm90.h"
#include <cuda.h>

namespace
{

enum { TILE = 128, DEPTH = 64, STAGES = 4, THREADS = 256, SLICE = TILE * DEPTH, ALIGNED = 1024 };

struct operands {
    CUtensorMap a, b;
    void *y;
    const void *bias;
    int m, n, k;
};

template <class T> __global__ void __launch_bounds__(THREADS, 1) gemm_wgmma(const __grid_constant__ operands o)
{
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    CU_SHARED_DYN(char, memory);
    CU_SHARED(uint64_t, arrival, [STAGES]);
    T *tiles = reinterpret_cast<T *>(memory + (ALIGNED - shared_address(memory) % ALIGNED) % ALIGNED);
    int r0 = blockIdx.y * TILE, c0 = blockIdx.x * TILE, slices = (o.k + DEPTH - 1) / DEPTH;
    int group = threadIdx.x / 128, lane = threadIdx.x & 31, warp = threadIdx.x / 32 % 4;
    auto fetch = [&](int slice) {
        T *to = tiles + slice % STAGES * 2 * SLICE;
        uint64_t *barrier = &arrival[slice % STAGES];
        arrival_expect(barrier, 2 * SLICE * sizeof(T));
        copy_tile(to, &o.a, slice * DEPTH, r0, barrier);
        copy_tile(to + SLICE, &o.b, slice * DEPTH, c0, barrier);
    };
    if (threadIdx.x == 0) {
        for (int i = 0; i < STAGES; i++) arrival_init(&arrival[i]);
        arrival_fence();
        for (int i = 0; i < STAGES - 1 && i < slices; i++) fetch(i);
    }
    __syncthreads();
    float d[64] = {};
#pragma unroll 1
    for (int i = 0; i < slices; i++) {
        const T *a = tiles + i % STAGES * 2 * SLICE + group * 64 * DEPTH, *b = tiles + i % STAGES * 2 * SLICE + SLICE;
        arrival_wait(&arrival[i % STAGES], i / STAGES & 1);
        wgmma_fence();
#pragma unroll
        for (int p = 0; p < DEPTH / 16; p++) wgmma_m64n128k16(T(), d, wgmma_rows(a) + 2 * p, wgmma_rows(b) + 2 * p);
        wgmma_commit();
        wgmma_wait<1>();
        __syncthreads(); /* slice i - 1 is no longer read */
        if (threadIdx.x == 0 && i + STAGES - 1 < slices) fetch(i + STAGES - 1);
    }
    wgmma_wait<0>();
    T *y = static_cast<T *>(o.y);
    const T *bias = static_cast<const T *>(o.bias);
#pragma unroll
    for (int j = 0; j < 16; j++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            int row = r0 + group * 64 + warp * 16 + h * 8 + lane / 4, column = c0 + 8 * j + lane % 4 * 2;
            if (row >= o.m || column >= o.n) continue; /* n is even */
            float low = bias ? to_f32(bias[column]) : 0.0f, high = bias ? to_f32(bias[column + 1]) : 0.0f;
            *reinterpret_cast<uint32_t *>(y + (int64_t)row * o.n + column) = pack2<T>(d[4 * j + 2 * h] + low,
                                                                                      d[4 * j + 2 * h + 1] + high);
        }
#endif
}

using encoder = CUresult (*)(CUtensorMap *, CUtensorMapDataType, cuuint32_t, void *, const cuuint64_t *,
                             const cuuint64_t *, const cuuint32_t *, const cuuint32_t *, CUtensorMapInterleave,
                             CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

/* A matrix [rows][k] by boxes of 128 rows and 64 columns. */
bool describe(encoder encode, CUtensorMap *map, const void *x, int64_t rows, int64_t k, qn_dtype dtype)
{
    const cuuint64_t size[2] = { (cuuint64_t)k, (cuuint64_t)rows }, step[1] = { (cuuint64_t)k * 2 };
    const cuuint32_t box[2] = { DEPTH, TILE }, every[2] = { 1, 1 };
    CUtensorMapDataType type = dtype == QN_BF16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
    return encode(map, type, 2, const_cast<void *>(x), size, step, box, every, CU_TENSOR_MAP_INTERLEAVE_NONE,
                  CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
                  CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

template <class T> cudaError_t launch(const operands &o, cudaStream_t stream)
{
    return LAUNCH(gemm_wgmma<T>, ((unsigned)ceil_div(o.n, TILE), (unsigned)ceil_div(o.m, TILE)), (THREADS),
                  STAGES * 2 * SLICE * sizeof(T) + ALIGNED, stream, o);
}

} // namespace

bool qn__gemm_wgmma_takes(const struct qn__gpu *gpu, const struct qn__gemm *g)
{
    return gpu->capability == 90 && qn__gemm_takes(QN_GEMM_TENSOR, g) && g->batch == 1 && !g->ta && g->tb;
}

cudaError_t qn__gemm_wgmma(const struct qn__gemm *g, cudaStream_t stream)
{
    operands o = {};
    void *found = NULL;
    enum cudaDriverEntryPointQueryResult result;
    cudaError_t answer = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000, cudaEnableDefault,
                                                          &result);
    if (answer != cudaSuccess) return answer;
    if (result != cudaDriverEntryPointSuccess || !found) return cudaErrorNotSupported;
    encoder encode = reinterpret_cast<encoder>(found);
    if (!describe(encode, &o.a, g->a, g->m, g->k, g->dtype) || !describe(encode, &o.b, g->b, g->n, g->k, g->dtype))
        return cudaErrorInvalidValue;
    o.y = g->y;
    o.bias = g->bias;
    o.m = (int)g->m;
    o.n = (int)g->n;
    o.k = (int)g->k;
    return g->dtype == QN_BF16 ? launch<bf16>(o, stream) : launch<f16>(o, stream);
}
#else
bool qn__gemm_wgmma_takes(const struct qn__gpu *, const struct qn__gemm *) { return false; }
cudaError_t qn__gemm_wgmma(const struct qn__gemm *, cudaStream_t) { return cudaErrorNotSupported; }
#endif
