/* wrong.cu - kernels and launches that are wrong in one way each. */
#include "../../kernels/cuda/gpu.h"
#include "cases_impl.h"

/* ---- addresses ------------------------------------------------------------------------------------------------- */

__global__ void past_the_end(float *x, int n)
{
    x[threadIdx.x] = 1;
    if (threadIdx.x == 7) x[n] = 1;
}
RUN(past_the_end, (1), (32), 0)
__global__ void before_the_begin(float *x, int n) { x[n - 1] = x[(int)threadIdx.x - 1]; }
RUN(before_the_begin, (1), (1), 0)
__global__ void far_away(float *x, int n) { x[(int64_t)n << 28] = 1; }
RUN(far_away, (1), (1), 0)
__global__ void null_pointer(float *x, int n) { ((volatile float *)nullptr)[n - 64] = x[0]; }
RUN(null_pointer, (1), (1), 0)
__global__ void past_shared(float *x, int n)
{
    CU_SHARED(float, s, [32]);
    float *p = s;
    p[threadIdx.x + (n > 0)] = 1;
    __syncthreads();
    x[threadIdx.x] = p[threadIdx.x];
}
RUN(past_shared, (1), (32), 0)
__global__ void past_dynamic(float *x, int n)
{
    CU_SHARED_DYN(float, s);
    s[threadIdx.x] = (float)n;
    __syncthreads();
    x[threadIdx.x] = s[threadIdx.x];
}
RUN(past_dynamic, (1), (32), 31 * 4)
__global__ void past_local(float *x, int n)
{
    float a[8];
    for (int i = 0; i < 8; i++) a[i] = (float)i;
    x[threadIdx.x] = a[(int)threadIdx.x + n - 64];
}
RUN(past_local, (1), (32), 0)
__global__ void misaligned_vector(float *x, int n)
{
    vec16<float> v = load16(x + 1 + n - 64);
    x[threadIdx.x] = v.v[0];
}
RUN(misaligned_vector, (1), (1), 0)
__global__ void read_one(const float *from, float *x) { x[0] = from[0]; }
static cudaError_t run_host_pointer(float *x, int, cudaStream_t s)
{
    static float here[4];
    return LAUNCH(read_one, (1), (1), 0, s, (const float *)here, x);
}
struct Pointers {
    const float *p[2];
};
__global__ void read_through(Pointers t, float *x) { x[0] = t.p[1][0]; }
static cudaError_t run_host_pointer_in_struct(float *x, int, cudaStream_t s)
{
    static float here[4];
    return LAUNCH(read_through, (1), (1), 0, s, (Pointers{ { x, here } }), x);
}
__global__ void read_twice(float **from, float *x) { x[0] = from[0][0]; }
static cudaError_t run_host_pointer_in_memory(float *x, int, cudaStream_t s)
{
    static float here[4];
    float *p = here, **device;
    cudaMalloc((void **)&device, sizeof p);
    cudaMemcpy(device, &p, sizeof p, cudaMemcpyHostToDevice);
    return LAUNCH(read_twice, (1), (1), 0, s, device, x);
}
static float *freed(void)
{
    float *gone;
    cudaMalloc((void **)&gone, 64);
    cudaMemset(gone, 0, 64);
    cudaFree(gone);
    return gone;
}
static cudaError_t run_freed_argument(float *x, int, cudaStream_t s)
{
    return LAUNCH(read_one, (1), (1), 0, s, (const float *)freed(), x);
}
static cudaError_t run_freed_in_struct(float *x, int, cudaStream_t s)
{
    return LAUNCH(read_through, (1), (1), 0, s, (Pointers{ { x, freed() } }), x);
}
__global__ void others_stack(float *x, int n)
{
    CU_SHARED(float *, where, [1]);
    float mine = (float)n;
    if (threadIdx.x == 0) where[0] = &mine;
    __syncthreads();
    x[threadIdx.x] = *where[0];
    __syncthreads();
}
RUN(others_stack, (1), (2), 0)

/* ---- what nothing has written ------------------------------------------------------------------------------------ */

__global__ void unwritten_shared(float *x, int n)
{
    CU_SHARED(float, s, [64]);
    s[threadIdx.x] = (float)n;
    __syncthreads();
    x[threadIdx.x] = s[threadIdx.x + 16];
}
RUN(unwritten_shared, (1), (32), 0)
static cudaError_t run_unwritten_device(float *x, int, cudaStream_t s)
{
    float *fresh;
    cudaMalloc((void **)&fresh, 64);
    return LAUNCH(read_one, (1), (1), 0, s, (const float *)fresh, x);
}
static cudaError_t run_unwritten_copy(float *x, int, cudaStream_t s)
{
    float *fresh, *copy;
    cudaMalloc((void **)&fresh, 64);
    cudaMalloc((void **)&copy, 64);
    cudaMemset(copy, 0, 64);
    cudaMemcpy(copy, fresh, 4, cudaMemcpyDeviceToDevice);
    return LAUNCH(read_one, (1), (1), 0, s, (const float *)copy, x);
}

/* ---- races within a block --------------------------------------------------------------------------------------- */

/* The read stands behind the write: the report of this race is looked at for both lines. */
__global__ void read_after_write(float *x, int n)
{
    CU_SHARED(float, s, [64]);
    s[threadIdx.x] = 0;
    __syncthreads();
    s[threadIdx.x] = (float)n;
    x[threadIdx.x] = s[(threadIdx.x + 63) % 64];
}
RUN(read_after_write, (1), (64), 0)
/* Threads write their places and read others', after what is no barrier for all of them. */
enum { NOTHING, SHUFFLE, WARP, HALF_WARPS };
template <int Between> static __device__ void exchange(float *x, int n, unsigned other)
{
    CU_SHARED(float, s, [64]);
    float more = 0;
    s[threadIdx.x] = 0;
    __syncthreads();
    s[threadIdx.x] = (float)n;
    if (Between == SHUFFLE) more = __shfl_xor_sync(0xffffffffu, 1.0f, 1);
    if (Between == WARP) __syncwarp();
    if (Between == HALF_WARPS) __syncwarp(threadIdx.x < 16 ? 0x0000ffffu : 0xffff0000u);
    x[threadIdx.x] = s[other] + more;
}
__global__ void lanes_without_sync(float *x, int n) { exchange<NOTHING>(x, n, threadIdx.x ^ 1); }
RUN(lanes_without_sync, (1), (32), 0)
__global__ void shuffle_is_no_barrier(float *x, int n) { exchange<SHUFFLE>(x, n, threadIdx.x ^ 1); }
RUN(shuffle_is_no_barrier, (1), (32), 0)
__global__ void warps_need_more_than_syncwarp(float *x, int n) { exchange<WARP>(x, n, threadIdx.x ^ 32); }
RUN(warps_need_more_than_syncwarp, (1), (64), 0)
__global__ void other_half_not_in_mask(float *x, int n) { exchange<HALF_WARPS>(x, n, threadIdx.x ^ 16); }
RUN(other_half_not_in_mask, (1), (32), 0)
__global__ void write_after_read(float *x, int n)
{
    CU_SHARED(float, s, [64]);
    int t = (int)threadIdx.x;
    for (int k = 0; k < 2; k++) {
        s[t] = (float)(k + n);
        __syncthreads();
        x[t] = s[63 - t];
    }
}
RUN(write_after_read, (1), (64), 0)
__global__ void write_after_write(float *x, int n)
{
    CU_SHARED(float, s, [32]);
    s[threadIdx.x % 32] = (float)n;
    __syncthreads();
    x[threadIdx.x] = s[threadIdx.x % 32];
}
RUN(write_after_write, (1), (64), 0)
/* Many have read; the one who writes read last itself. */
__global__ void write_after_reads(float *x, int n)
{
    CU_SHARED(float, s, [1]);
    if (threadIdx.x == 0) s[0] = (float)n;
    __syncthreads();
    x[threadIdx.x] = s[0];
    if (threadIdx.x == 0) s[0] = 2;
}
RUN(write_after_reads, (1), (64), 0)
__global__ void race_in_device_memory(float *x, int n)
{
    x[threadIdx.x] = (float)n;
    x[threadIdx.x + 32] = x[threadIdx.x ^ 1];
}
RUN(race_in_device_memory, (1), (32), 0)
__global__ void atomic_and_plain(float *x, int n)
{
    CU_SHARED(int, s, [1]);
    if (threadIdx.x == 0) s[0] = n;
    __syncthreads();
    atomicAdd(&s[0], 1);
    x[threadIdx.x] = (float)s[0];
}
RUN(atomic_and_plain, (1), (64), 0)

/* ---- races between blocks ---------------------------------------------------------------------------------------- */

__global__ void blocks_write_one_place(float *x, int n)
{
    if (threadIdx.x == 0) x[0] = (float)n;
}
RUN(blocks_write_one_place, (4), (32), 0)
__global__ void block_reads_from_block(float *x, int)
{
    if (threadIdx.x == 0) x[blockIdx.x + 1] = x[blockIdx.x];
}
RUN(block_reads_from_block, (4), (32), 0)
template <bool Release, bool Acquire> static __device__ void last_block(float *x)
{
    CU_SHARED(int, last, [1]);
    unsigned *ticket = (unsigned *)x;
    if (threadIdx.x == 0) {
        x[1 + blockIdx.x] = (float)blockIdx.x;
        if (Release) __threadfence();
        last[0] = atomicAdd(ticket, 1u) == gridDim.x - 1;
        if (Acquire) __threadfence();
    }
    __syncthreads();
    if (!last[0] || threadIdx.x) return;
    float sum = 0;
    for (unsigned i = 0; i < gridDim.x; i++) sum += x[1 + i];
    x[40] = sum;
}
__global__ void no_release(float *x, int) { last_block<false, true>(x); }
RUN(no_release, (4), (32), 0)
__global__ void no_acquire(float *x, int) { last_block<true, false>(x); }
RUN(no_acquire, (4), (32), 0)
__global__ void fence_alone(float *x, int)
{
    if (threadIdx.x) return;
    if (blockIdx.x == 0) x[1] = 1;
    __threadfence();
    x[2 + blockIdx.x] = x[1];
}
RUN(fence_alone, (2), (32), 0)

/* ---- barriers and warp operations -------------------------------------------------------------------------------- */

__global__ void divergent_barrier(float *x, int n)
{
    if (threadIdx.x < 32) {
        __syncthreads();
        x[threadIdx.x] = (float)n;
    } else {
        __syncthreads();
        x[threadIdx.x] = 0;
    }
}
RUN(divergent_barrier, (1), (64), 0)
__global__ void exit_before_barrier(float *x, int n)
{
    if ((int)threadIdx.x >= n - 4) return;
    __syncthreads();
    x[threadIdx.x] = 1;
}
RUN(exit_before_barrier, (1), (64), 0)
__global__ void half_a_warp_shuffles(float *x, int)
{
    float v = 1;
    if (threadIdx.x < 16) v = __shfl_down_sync(0xffffffffu, v, 1);
    x[threadIdx.x] = v;
}
RUN(half_a_warp_shuffles, (1), (32), 0)
__global__ void shuffle_from_outside(float *x, int)
{
    float v = 1;
    if (threadIdx.x < 16) v = __shfl_sync(0x0000ffffu, v, 20);
    x[threadIdx.x] = v;
}
RUN(shuffle_from_outside, (1), (32), 0)
__global__ void lanes_that_are_not_there(float *x, int) { x[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1.0f, 1); }
RUN(lanes_that_are_not_there, (1), (48), 0)
__global__ void different_shuffles(float *x, int)
{
    float v = 1;
    if (threadIdx.x & 1)
        v = __shfl_xor_sync(0xffffffffu, v, 2);
    else
        v = __shfl_down_sync(0xffffffffu, v, 2);
    x[threadIdx.x] = v;
}
RUN(different_shuffles, (1), (32), 0)
__global__ void mask_without_self(float *x, int)
{
    __syncwarp(0x0000ffffu);
    x[threadIdx.x] = 1;
}
RUN(mask_without_self, (1), (32), 0)
__global__ void barrier_against_shuffle(float *x, int)
{
    if (threadIdx.x < 16)
        __syncthreads();
    else
        x[threadIdx.x] = __shfl_xor_sync(0xffffffffu, 1.0f, 1);
}
RUN(barrier_against_shuffle, (1), (32), 0)

/* ---- cp.async and ldmatrix --------------------------------------------------------------------------------------- */

template <int Mistake> static __device__ void copy_in(float *x)
{
    CU_SHARED(float, s, [2][128]);
    int t = (int)threadIdx.x;
    cp_async16(&s[0][t * 4], x + t % 16 * 4);
    cp_async_commit();
    cp_async16(&s[1][t * 4], x + t % 16 * 4);
    cp_async_commit();
    if (Mistake == 0) cp_async_wait<1>();
    if (Mistake == 1) cp_async_wait<0>();
    if (Mistake == 0) __syncwarp();
    float v = s[1][Mistake == 1 ? t : t * 4];
    cp_async_wait<0>();
    __syncthreads();
    x[t] = v;
}
__global__ void wait_for_too_few(float *x, int) { copy_in<0>(x); }
RUN(wait_for_too_few, (1), (32), 0)
__global__ void wait_without_barrier(float *x, int) { copy_in<1>(x); }
RUN(wait_without_barrier, (1), (32), 0)
__global__ void no_wait(float *x, int) { copy_in<2>(x); }
RUN(no_wait, (1), (32), 0)
__global__ void never_waited_for(float *x, int)
{
    CU_SHARED(float, s, [128]);
    cp_async16(&s[threadIdx.x * 4], x);
    cp_async_commit();
}
RUN(never_waited_for, (1), (32), 0)
__global__ void copy_misaligned(float *x, int)
{
    CU_SHARED(float, s, [132]);
    cp_async16(&s[threadIdx.x * 4 + 1], x);
    cp_async_wait<0>();
}
RUN(copy_misaligned, (1), (1), 0)
__global__ void copy_to_device_memory(float *x, int)
{
    cp_async16(x, x + 16);
    cp_async_wait<0>();
}
RUN(copy_to_device_memory, (1), (1), 0)
template <bool Shared, int Shift> static __device__ void load_matrices(float *x)
{
    CU_SHARED(float, s, [32][8]);
    for (int i = 0; i < 8; i++) s[threadIdx.x][i] = 0;
    __syncthreads();
    uint32_t r[4];
    ldmatrix_x4(r, Shared ? (const char *)s[threadIdx.x] + Shift : (const char *)x);
    x[threadIdx.x] = (float)r[0];
}
__global__ void matrix_misaligned(float *x, int) { load_matrices<true, 4>(x); }
RUN(matrix_misaligned, (1), (32), 0)
__global__ void matrix_in_device_memory(float *x, int) { load_matrices<false, 0>(x); }
RUN(matrix_in_device_memory, (1), (32), 0)

/* ---- limits ------------------------------------------------------------------------------------------------------ */

__global__ void one(float *x, int n) { x[threadIdx.x % 64 + 64 * 0] = (float)n; }
static cudaError_t run_block_too_large(float *x, int n, cudaStream_t s) { return LAUNCH(one, (1), (1056), 0, s, x, n); }
static cudaError_t run_block_too_deep(float *x, int n, cudaStream_t s)
{
    return LAUNCH(one, (1), (1, 1, 65), 0, s, x, n);
}
static cudaError_t run_grid_too_high(float *x, int n, cudaStream_t s)
{
    return LAUNCH(one, (1, 70000), (1), 0, s, x, n);
}
static cudaError_t run_grid_of_nothing(float *x, int n, cudaStream_t s) { return LAUNCH(one, (0), (32), 0, s, x, n); }
static cudaError_t run_shared_not_asked_for(float *x, int n, cudaStream_t s)
{
    return gpu_launch("one", one, dim3(1), dim3(1), 60000, s, x, n);
}
__global__ void too_much_static(float *x, int n)
{
    CU_SHARED(float, s, [12289]);
    s[threadIdx.x] = (float)n;
    x[threadIdx.x] = s[threadIdx.x];
}
RUN(too_much_static, (1), (1), 0)

const struct sim_case sim_wrong[] = {
    CASE(past_the_end, NULL, "write at tests/cudasim/wrong.cu"),
    CASE(before_the_begin, NULL, "-4 bytes into an allocation of 256"),
    CASE(far_away, NULL, "which is not inside any allocation"),
    CASE(null_pointer, "cannot be answered", "at the host address (nil)"),
    CASE(past_shared, NULL, "outside of any array"),
    CASE(past_dynamic, NULL, "outside of any array"),
    CASE(past_local, NULL, "index 8 out of the array's bounds at tests/cudasim/wrong.cu"),
    CASE(misaligned_vector, NULL, "the access needs a multiple of 16"),
    CASE(host_pointer, "argument 0", "argument 0"),
    CASE(host_pointer_in_struct, NULL, "at the host address"),
    CASE(host_pointer_in_memory, NULL, "at the host address"),
    CASE(freed_argument, "is freed memory", "is freed memory"),
    CASE(freed_in_struct, NULL, "bytes into freed memory"),
    CASE(others_stack, NULL, "at the host address"),
    CASE(unwritten_shared, NULL, "shared memory"),
    CASE(unwritten_device, NULL, "that nothing has written"),
    CASE(unwritten_copy, NULL, "that nothing has written"),
    CASE(read_after_write, NULL, "race in shared memory: read"),
    CASE(write_after_read, NULL, "race in shared memory"),
    CASE(write_after_write, NULL, "race in shared memory: write"),
    CASE(write_after_reads, NULL, "race in shared memory: write"),
    CASE(lanes_without_sync, NULL, "race in shared memory"),
    CASE(shuffle_is_no_barrier, NULL, "race in shared memory"),
    CASE(warps_need_more_than_syncwarp, NULL, "race in shared memory"),
    CASE(other_half_not_in_mask, NULL, "race in shared memory"),
    CASE(race_in_device_memory, NULL, "race in device memory"),
    CASE(atomic_and_plain, NULL, "race in shared memory"),
    CASE(blocks_write_one_place, NULL, "race in device memory between blocks: write"),
    CASE(block_reads_from_block, NULL, "race in device memory between blocks"),
    CASE(no_release, NULL, "race in device memory between blocks: read"),
    CASE(no_acquire, NULL, "race in device memory between blocks: read"),
    CASE(fence_alone, NULL, "race in device memory between blocks"),
    CASE(divergent_barrier, "divergent barrier", "divergent barrier"),
    CASE(exit_before_barrier, "exit", "exit"),
    CASE(half_a_warp_shuffles, "exit", "exit"),
    CASE(shuffle_from_outside, "reads lane 20", "reads lane 20"),
    CASE(lanes_that_are_not_there, "its last warp has 16", "its last warp has 16"),
    CASE(different_shuffles, "divergent warp operation", "divergent warp operation"),
    CASE(mask_without_self, "is not in the mask", "is not in the mask"),
    CASE(barrier_against_shuffle, "deadlock", "deadlock"),
    CASE(wait_for_too_few, NULL, "a cp.async has yet to fill"),
    CASE(wait_without_barrier, NULL, "race in shared memory: read"),
    CASE(no_wait, NULL, "a cp.async has yet to fill"),
    CASE(never_waited_for, "nothing waited for", "nothing waited for"),
    CASE(copy_misaligned, "not a multiple of 16", "not a multiple of 16"),
    CASE(copy_to_device_memory, "is not shared memory", "is not shared memory"),
    CASE(matrix_misaligned, "is not a multiple of 16", "is not a multiple of 16"),
    CASE(matrix_in_device_memory, "is not shared memory", "is not shared memory"),
    CASE(block_too_large, "is not possible", "is not possible"),
    CASE(block_too_deep, "is not possible", "is not possible"),
    CASE(grid_too_high, "is not possible", "is not possible"),
    CASE(grid_of_nothing, "is not possible", "is not possible"),
    CASE(shared_not_asked_for, "60000 bytes of dynamic shared memory", "60000 bytes of dynamic shared memory"),
    CASE(too_much_static, "static shared memory", "static shared memory"),
    { NULL, NULL, NULL, NULL },
};
