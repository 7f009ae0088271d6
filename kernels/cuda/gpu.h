/* gpu.h - the one header of CUDA that a kernel includes.
 *
 * The same .cu file is compiled by nvcc for a GPU and by a host compiler for tests/cudasim, which runs it on the
 * CPU under checkers. So this file is the only place with inline PTX, <<<>>>, raw __shared__ and shuffles by hand;
 * scripts/lint keeps it so. Not available in kernels: CUB, cooperative groups, wmma, curand_kernel, __device__
 * variables, double precision, atomics on floats.
 *
 *   LAUNCH(kernel<T>, (grid), (block), dynamic shared bytes, stream, arguments...)   returns cudaError_t
 *   CU_SHARED(float, tile, [32][33]);      a shared array, 16-byte aligned
 *   CU_SHARED_DYN(float, buffer);          the launch's dynamic shared memory
 *
 * Conventions: a warp is 32 lanes and every lane takes part in every collective below; blocks are multiples of 32
 * threads (up to 1024); a kernel loops over its elements (grid-stride) where the grid may be capped. */
#ifndef QN_KERNELS_CUDA_GPU_H
#define QN_KERNELS_CUDA_GPU_H
#include <stdint.h>

#ifdef __CUDACC__
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#define CU_SHARED(T, name, ...) __shared__ alignas(16) T name __VA_ARGS__
#define CU_SHARED_DYN(T, name) \
    extern __shared__ __align__(16) unsigned char qn_dynamic_shared_[]; \
    T *name = reinterpret_cast<T *>(qn_dynamic_shared_)

template <class... P, class... A>
static inline cudaError_t gpu_launch(const char *, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared,
                                     cudaStream_t stream, A &&...a)
{
    static_assert(sizeof...(P) == sizeof...(A), "wrong number of kernel arguments");
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared;
    config.stream = stream;
    return cudaLaunchKernelEx(&config, kernel, static_cast<P>(a)...);
}

/* ---- whole-warp collectives ---------------------------------------------------------------------- */

static __device__ __forceinline__ float warp_sum(float v)
{
#pragma unroll
    for (int o = 16; o; o >>= 1) v += __shfl_xor_sync(0xffffffffu, v, o);
    return v;
}
/* NaN if any lane has one. */
static __device__ __forceinline__ float warp_max(float v)
{
#pragma unroll
    for (int o = 16; o; o >>= 1) {
        float w = __shfl_xor_sync(0xffffffffu, v, o);
        v = v != v || v > w ? v : w;
    }
    return v;
}

/* 2^x within two units in the last place; below 2^-126: 0. One instruction. */
static __device__ __forceinline__ float exp2_approx(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0,%1;" : "=f"(y) : "f"(x));
    return y;
}

/* ---- tensor cores and asynchronous copies (sm_80) ------------------------------------------------- */

/* D[16,8] = A[16,16] B[16,8] + C, row.col; fragments as in the PTX ISA, "Matrix Fragments for mma.m16n8k16". */
static __device__ __forceinline__ void mma_m16n8k16(__nv_bfloat16, float (&d)[4], const uint32_t (&a)[4],
                                                    const uint32_t (&b)[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
static __device__ __forceinline__ void mma_m16n8k16(__half, float (&d)[4], const uint32_t (&a)[4],
                                                    const uint32_t (&b)[2])
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
                 "{%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
/* Four 8x8 matrices of 16-bit elements: lane l gives the address of row l % 8 of matrix l / 8. */
static __device__ __forceinline__ void ldmatrix_x4(uint32_t (&r)[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3},[%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"((uint32_t)__cvta_generic_to_shared(row))
                 : "memory");
}
static __device__ __forceinline__ void ldmatrix_x4_trans(uint32_t (&r)[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3},[%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"((uint32_t)__cvta_generic_to_shared(row))
                 : "memory");
}
/* 16 bytes from global to shared memory; zeros if !take (then src is not read, but must be a valid pointer). */
static __device__ __forceinline__ void cp_async16(void *dst, const void *src, bool take = true)
{
    asm volatile("cp.async.cg.shared.global [%0],[%1],16,%2;" ::"r"((uint32_t)__cvta_generic_to_shared(dst)), "l"(src),
                 "r"(take ? 16 : 0)
                 : "memory");
}
static __device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/* At most N groups of this thread are still under way; a barrier must follow before other threads read. */
template <int N> static __device__ __forceinline__ void cp_async_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}
#else
#include "cudasim.h"
#endif

/* More dynamic shared memory than 48 KB must be asked for, kernel by kernel (CUDA C++ Programming Guide). */
template <class Kernel, class... A>
static inline cudaError_t gpu_start(const char *name, Kernel kernel, dim3 grid, dim3 block, size_t shared,
                                    cudaStream_t stream, A &&...a)
{
    if (shared > 48 * 1024) {
        cudaError_t answer = cudaFuncSetAttribute((const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                  (int)shared);
        if (answer != cudaSuccess) return answer;
    }
    return gpu_launch(name, kernel, grid, block, shared, stream, static_cast<A &&>(a)...);
}

#define LAUNCH(kernel, grid, block, shared, stream, ...) \
    gpu_start(#kernel, kernel, dim3 grid, dim3 block, shared, stream, ##__VA_ARGS__)

/* Over the warp: the least number; the lanes that have the same number as this one, as bits. */
static __device__ __forceinline__ int warp_min(int v) { return __reduce_min_sync(0xffffffffu, v); }
static __device__ __forceinline__ uint32_t warp_same(int v) { return __match_any_sync(0xffffffffu, v); }

/* Over groups of N neighbouring lanes, N a power of two. The maximum is not NaN unless all are. */
template <int N> static __device__ __forceinline__ float group_sum(float v)
{
#pragma unroll
    for (int o = N / 2; o; o >>= 1) v += __shfl_xor_sync(0xffffffffu, v, o);
    return v;
}
template <int N> static __device__ __forceinline__ float group_max(float v)
{
#pragma unroll
    for (int o = N / 2; o; o >>= 1) v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, o));
    return v;
}

/* ---- elements --------------------------------------------------------------------------------------- */

typedef __nv_bfloat16 bf16;
typedef __half f16;

/* Storage to arithmetic (f32) and back, rounded to nearest even. */
static __device__ __forceinline__ float to_f32(float x) { return x; }
static __device__ __forceinline__ float to_f32(bf16 x) { return __bfloat162float(x); }
static __device__ __forceinline__ float to_f32(f16 x) { return __half2float(x); }
template <class T> static __device__ __forceinline__ T from_f32(float x);
template <> __device__ __forceinline__ float from_f32<float>(float x) { return x; }
template <> __device__ __forceinline__ bf16 from_f32<bf16>(float x) { return __float2bfloat16_rn(x); }
template <> __device__ __forceinline__ f16 from_f32<f16>(float x) { return __float2half_rn(x); }

/* Two elements in a register, the first in the low half. */
template <class T> static __device__ __forceinline__ uint32_t pack2(float low, float high);
template <> __device__ __forceinline__ uint32_t pack2<bf16>(float low, float high)
{
    union {
        __nv_bfloat162_raw pair;
        uint32_t bits;
    } u = { __floats2bfloat162_rn(low, high) };
    return u.bits;
}
template <> __device__ __forceinline__ uint32_t pack2<f16>(float low, float high)
{
    union {
        __half2_raw pair;
        uint32_t bits;
    } u = { __floats2half2_rn(low, high) };
    return u.bits;
}

/* 16 bytes of elements, moved by one instruction; the address must be a multiple of 16. */
template <class T> struct alignas(16) vec16 {
    static constexpr int n = 16 / (int)sizeof(T);
    T v[n];
};
template <class T> static __device__ __forceinline__ vec16<T> load16(const T *p)
{
    union {
        uint4 bits;
        vec16<T> v;
    } u = { *reinterpret_cast<const uint4 *>(p) };
    return u.v;
}
template <class T> static __device__ __forceinline__ void store16(T *p, const vec16<T> &v)
{
    union {
        vec16<T> v;
        uint4 bits;
    } u = { v };
    *reinterpret_cast<uint4 *>(p) = u.bits;
}

/* ---- blocks ------------------------------------------------------------------------------------------ */

/* Sum and maximum over a block of whole warps, given to every thread, always added in the same order. part: at
 * least 32 floats of shared memory, free for other use after the next __syncthreads of the caller. */
static __device__ __forceinline__ float block_sum(float v, float *part)
{
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
    v = warp_sum(v);
    if (lane == 0) part[warp] = v;
    __syncthreads();
    v = warp_sum(lane < warps ? part[lane] : 0.0f);
    return v;
}
static __device__ __forceinline__ float block_max(float v, float *part)
{
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
    v = warp_max(v);
    if (lane == 0) part[warp] = v;
    __syncthreads();
    v = warp_max(lane < warps ? part[lane] : -INFINITY);
    return v;
}

/* ---- sums that keep what rounding drops ---------------------------------------------------------------- */

/* hi + lo with the error of each addition collected in lo (Knuth 1997, section 4.2.2, theorem B; Ogita, Rump and Oishi
 * 2005, "Accurate sum and dot product"): as exact as a sum in double rounded once, for six operations an element, which
 * kernels that wait for memory have to spare. */
struct exact_sum {
    float hi = 0.0f, lo = 0.0f;
    __device__ __forceinline__ void add(float x)
    {
        float s = hi + x, b = s - hi;
        lo += (hi - (s - b)) + (x - b);
        hi = s;
    }
    __device__ __forceinline__ void add_product(float a, float b)
    {
        float p = a * b;
        add(p);
        lo += fmaf(a, b, -p);
    }
    __device__ __forceinline__ void join(exact_sum o)
    {
        add(o.hi);
        lo += o.lo;
    }
    /* An infinite or undefined sum is what plain addition says. */
    __device__ __forceinline__ float value() const
    {
        float v = hi + lo;
        return hi - hi == 0.0f ? v : hi;
    }
};
static __device__ __forceinline__ exact_sum warp_sum(exact_sum v)
{
#pragma unroll
    for (int o = 16; o; o >>= 1) {
        exact_sum w;
        w.hi = __shfl_xor_sync(0xffffffffu, v.hi, o);
        w.lo = __shfl_xor_sync(0xffffffffu, v.lo, o);
        v.join(w);
    }
    return v;
}
/* part: at least 64 floats of shared memory; otherwise as block_sum. */
static __device__ __forceinline__ exact_sum block_sum(exact_sum v, float *part)
{
    int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
    v = warp_sum(v);
    if (lane == 0) {
        part[2 * warp] = v.hi;
        part[2 * warp + 1] = v.lo;
    }
    __syncthreads();
    exact_sum w;
    if (lane < warps) {
        w.hi = part[2 * lane];
        w.lo = part[2 * lane + 1];
    }
    return warp_sum(w);
}
#endif
