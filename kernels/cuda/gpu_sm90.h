/* gpu_sm90.h - instructions that only sm_90a has: matrix products of a warpgroup (wgmma) and the engine that copies
 * tiles (TMA). Beside gpu.h, for gemm_wgmma.cu alone; the simulator has none of them. */
#ifndef QN_KERNELS_CUDA_GPU_SM90_H
#define QN_KERNELS_CUDA_GPU_SM90_H
#include "gpu.h"

/* A warpgroup is four warps, threads 128 i.. of a block. */

/* ---- barriers in shared memory that count bytes -------------------------------------------------------------- */

static __device__ __forceinline__ uint32_t shared_address(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}

static __device__ __forceinline__ void arrival_init(uint64_t *barrier)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0],1;" ::"r"(shared_address(barrier)) : "memory");
}
/* After all arrival_init: the copying engine sees them. */
static __device__ __forceinline__ void arrival_fence()
{
    asm volatile("fence.mbarrier_init.release.cluster;\n\tfence.proxy.async.shared::cta;" ::: "memory");
}
/* This phase ends when so many bytes have come. */
static __device__ __forceinline__ void arrival_expect(uint64_t *barrier, uint32_t bytes)
{
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _,[%0],%1;" ::"r"(shared_address(barrier)), "r"(bytes)
                 : "memory");
}
/* Until the phase with this parity (0, 1, 0, ...) has ended. */
static __device__ __forceinline__ void arrival_wait(uint64_t *barrier, uint32_t parity)
{
    asm volatile("{\n\t.reg .pred p;\nagain:\n\tmbarrier.try_wait.parity.shared::cta.b64 p,[%0],%1;\n\t"
                 "@!p bra again;\n\t}" ::"r"(shared_address(barrier)),
                 "r"(parity)
                 : "memory");
}

/* ---- tiles ------------------------------------------------------------------------------------------------------ */

/* The box of a tensor map at (x, y), x along memory; outside the tensor: zeros. */
static __device__ __forceinline__ void copy_tile(void *to, const void *map, int x, int y, uint64_t *barrier)
{
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0],[%1,{%2,%3}],[%4];" ::"r"(
            shared_address(to)),
        "l"(map), "r"(x), "r"(y), "r"(shared_address(barrier))
        : "memory");
}

/* ---- products of a warpgroup ------------------------------------------------------------------------------------- */

/* Describes rows of 64 elements of 16 bits, 128 bytes apart, as copy_tile lays them with a swizzle of 128 bytes: groups
 * of 8 rows are 1024 bytes apart. 16 elements further along the row: + 2. */
static __device__ __forceinline__ uint64_t wgmma_rows(const void *tile)
{
    return 1ull << 62 | 64ull << 32 | 1ull << 16 | (shared_address(tile) & 0x3ffff) >> 4;
}
static __device__ __forceinline__ void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
static __device__ __forceinline__ void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
/* At most N groups of this warpgroup are still under way. */
template <int N> static __device__ __forceinline__ void wgmma_wait()
{
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N) : "memory");
}

#define QN_D8(i) "%" #i "0,%" #i "1,%" #i "2,%" #i "3,%" #i "4,%" #i "5,%" #i "6,%" #i "7,%" #i "8,%" #i "9,"
#define QN_F8(i) \
    "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), \
        "+f"(d[i + 7])
/* D[64,128] += A[64,16] B[128,16]^T. Lane 4 g + t of warp w has rows 16 w + g and 16 w + g + 8; of 8 columns j the
 * columns 2 t and 2 t + 1 as d[4 j], d[4 j + 1] and d[4 j + 2], d[4 j + 3]. */
#define QN_WGMMA(type) \
    asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32." type "." type \
                 " {%0,%1,%2,%3,%4,%5,%6,%7,%8,%9," QN_D8(1) QN_D8(2) QN_D8(3) QN_D8(4) \
                     QN_D8(5) "%60,%61,%62,%63},%64,%65,1,1,1,0,0;" \
                 : QN_F8(0), QN_F8(8), QN_F8(16), QN_F8(24), QN_F8(32), QN_F8(40), QN_F8(48), QN_F8(56) \
                 : "l"(a), "l"(b))
static __device__ __forceinline__ void wgmma_m64n128k16(__nv_bfloat16, float (&d)[64], uint64_t a, uint64_t b)
{
    QN_WGMMA("bf16");
}
static __device__ __forceinline__ void wgmma_m64n128k16(__half, float (&d)[64], uint64_t a, uint64_t b)
{
    QN_WGMMA("f16");
}
#undef QN_WGMMA
#undef QN_F8
#undef QN_D8
#endif
