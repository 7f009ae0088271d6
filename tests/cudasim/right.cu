/* right.cu - kernels that are right, of which nothing may be said; and those whose counts are known. */
#include "../../kernels/cuda/gpu.h"
#include "cases_impl.h"

/* ---- order that is there ---------------------------------------------------------------------------------------- */

__global__ void warp_in_step(float *x, int n)
{
    CU_SHARED(float, s, [64]);
    int t = (int)threadIdx.x;
    for (int k = 0; k < 3; k++) {
        s[t] = (float)(n + k);
        __syncwarp();
        x[t] = s[t ^ 1];
        __syncwarp();
    }
}
RUN(warp_in_step, (1), (64), 0)
/* Lane 0 hands on to 1, 1 to 2, and so on, by pairs. */
__global__ void chain_of_pairs(float *x, int n)
{
    CU_SHARED(float, s, [32]);
    int t = (int)threadIdx.x;
    if (t == 0) s[0] = (float)n;
    for (int pair = 0; pair < 31; pair++) {
        if (t == pair || t == pair + 1) __syncwarp(3u << pair);
        if (t == pair + 1) s[t] = s[pair] + s[0];
    }
    x[t] = s[t];
}
RUN(chain_of_pairs, (1), (32), 0)
__global__ void barriers_between(float *x, int n)
{
    CU_SHARED(float, s, [64]);
    int t = (int)threadIdx.x;
    for (int k = 0; k < 3; k++) {
        s[t] = (float)(k + n);
        __syncthreads();
        x[t] = s[63 - t];
        __syncthreads();
    }
}
RUN(barriers_between, (2 - 1), (64), 0)
__global__ void read_before_own_write(float *x, int n)
{
    CU_SHARED(float, s, [1]);
    if (threadIdx.x == 0) s[0] = (float)n;
    __syncthreads();
    x[threadIdx.x] = s[0];
    __syncthreads();
    if (threadIdx.x == 63) s[0] += 1;
    __syncthreads();
    x[threadIdx.x] += s[0];
}
RUN(read_before_own_write, (1), (64), 0)
__global__ void whole_block_sums(float *x, int)
{
    CU_SHARED(float, part, [32]);
    float sum = block_sum(x[threadIdx.x] + 1, part);
    __syncthreads();
    float most = block_max((float)threadIdx.x, part);
    x[threadIdx.x] = sum + most;
}
RUN(whole_block_sums, (1), (64), 0)
__global__ void device_memory_in_order(float *x, int n)
{
    x[threadIdx.x] = (float)n;
    __syncthreads();
    float v = x[63 - threadIdx.x];
    __syncthreads();
    x[threadIdx.x] = v;
}
RUN(device_memory_in_order, (1), (64), 0)
__global__ void each_block_its_own(float *x, int n)
{
    if (threadIdx.x < 8) x[blockIdx.x * 8 + threadIdx.x] += (float)n;
}
RUN(each_block_its_own, (8), (32), 0)
__global__ void all_blocks_read(float *x, int) { x[1 + blockIdx.x * 2] = x[0]; }
RUN(all_blocks_read, (8), (1), 0)
__global__ void counted_atomically(float *x, int)
{
    CU_SHARED(int, votes, [1]);
    if (threadIdx.x == 0) votes[0] = 0;
    __syncthreads();
    atomicAdd(&votes[0], 1);
    atomicMax((int *)x, (int)threadIdx.x);
    __syncthreads();
    if (threadIdx.x == 0) atomicAdd((int *)x + 1, votes[0]);
}
RUN(counted_atomically, (4), (64), 0)
/* The last block adds up what all have written; the others' threads are ordered by their block's barrier. */
__global__ void last_block_adds_up(float *x, int)
{
    CU_SHARED(int, last, [1]);
    unsigned *ticket = (unsigned *)x;
    if (threadIdx.x < 4) x[8 + blockIdx.x * 4 + threadIdx.x] = 1;
    __syncthreads();
    if (threadIdx.x == 0) {
        __threadfence();
        last[0] = atomicAdd(ticket, 1u) == gridDim.x - 1;
        __threadfence();
    }
    __syncthreads();
    if (!last[0]) return;
    float v = threadIdx.x < gridDim.x * 4 ? x[8 + threadIdx.x] : 0;
    v = warp_sum(v);
    if (threadIdx.x == 0) {
        x[1] = v;
        x[0] = 0;
    }
}
RUN(last_block_adds_up, (6), (32), 0)
/* Neighbouring bytes and halves belong to different threads. */
__global__ void small_neighbours(float *x, int n)
{
    CU_SHARED(uint8_t, s, [64]);
    s[threadIdx.x] = (uint8_t)n;
    ((uint8_t *)x)[threadIdx.x] = (uint8_t)threadIdx.x;
    ((uint16_t *)x)[64 + threadIdx.x] = (uint16_t)threadIdx.x;
    __syncthreads();
    if (threadIdx.x < 16) x[threadIdx.x + 16 * 3] = (float)((uint32_t *)s)[threadIdx.x];
}
RUN(small_neighbours, (1), (64), 0)

/* ---- memory that is the kernel's to read ------------------------------------------------------------------------- */

__constant__ static const float table[4] = { 1, 2, 3, 4 };
__global__ void constants(float *x, int n)
{
    const float *p = table + n - 64;
    x[threadIdx.x] = p[threadIdx.x % 4];
}
RUN(constants, (1), (64), 0)
__global__ void copy_one(float *x, const float *from) { x[threadIdx.x] = from[threadIdx.x]; }
static cudaError_t run_pinned(float *x, int, cudaStream_t s)
{
    static float *pinned;
    cudaHostAlloc((void **)&pinned, 256, cudaHostAllocDefault);
    for (int i = 0; i < 64; i++) pinned[i] = 1;
    return LAUNCH(copy_one, (1), (64), 0, s, x, (const float *)pinned);
}
struct Many {
    const float *p[4];
    int count;
};
__global__ void through_struct(Many m, float *x)
{
    for (int i = 0; i < m.count; i++) x[threadIdx.x] += m.p[i][63 - threadIdx.x] * 0 + 1;
}
static cudaError_t run_pointers_in_struct(float *x, int, cudaStream_t s)
{
    float *y;
    cudaMalloc((void **)&y, 256);
    cudaMemsetAsync(y, 0, 256, s);
    Many m = { { y, y, (const float *)&y, nullptr }, 2 }; /* what is not used may be anything */
    return LAUNCH(through_struct, (1), (64), 0, s, m, x);
}
__global__ void much_shared(float *x, int n)
{
    CU_SHARED_DYN(float, s);
    for (int i = (int)threadIdx.x; i < 20000; i += (int)blockDim.x) s[i] = (float)n;
    __syncthreads();
    x[threadIdx.x] = s[19999 - threadIdx.x];
}
RUN(much_shared, (1), (64), 80000)
__global__ void copies_in_flight(float *x, int)
{
    CU_SHARED(float, s, [2][64]);
    int t = (int)threadIdx.x;
    cp_async16(&s[0][t * 4], x + t * 4);
    cp_async_commit();
    cp_async16(&s[1][t * 4], x, false);
    cp_async_commit();
    cp_async_wait<1>();
    __syncthreads();
    float v = s[0][63 - t];
    cp_async_wait<0>();
    __syncthreads();
    for (int i = 0; i < 4; i++) v += s[1][(t * 4 + i) ^ 1];
    x[t] = v;
}
RUN(copies_in_flight, (1), (16), 0)
__global__ void votes(float *x, int n)
{
    unsigned odd = __ballot_sync(0xffffffffu, threadIdx.x & 1);
    int all = __all_sync(0xffffffffu, n == 64), any = __any_sync(0xffffffffu, threadIdx.x == 40);
    unsigned same = __match_any_sync(0xffffffffu, (int)threadIdx.x % 4);
    int sum = __reduce_add_sync(0xffffffffu, (int)threadIdx.x % 32), up = __shfl_up_sync(0xffffffffu, sum, 1);
    bool good = odd == 0xaaaaaaaau && all && any == (threadIdx.x >= 32) && sum == 496 && up == 496 &&
                same == 0x11111111u << threadIdx.x % 4 && __syncthreads_count(threadIdx.x < 5) == 5;
    if (!good) x[4096] = 1; /* becomes a finding */
}
RUN(votes, (1), (64), 0)

const struct sim_case sim_right[] = {
    CASE(warp_in_step, NULL, NULL),
    CASE(chain_of_pairs, NULL, NULL),
    CASE(barriers_between, NULL, NULL),
    CASE(read_before_own_write, NULL, NULL),
    CASE(whole_block_sums, NULL, NULL),
    CASE(device_memory_in_order, NULL, NULL),
    CASE(each_block_its_own, NULL, NULL),
    CASE(all_blocks_read, NULL, NULL),
    CASE(counted_atomically, NULL, NULL),
    CASE(last_block_adds_up, NULL, NULL),
    CASE(small_neighbours, NULL, NULL),
    CASE(constants, NULL, NULL),
    CASE(pinned, NULL, NULL),
    CASE(pointers_in_struct, NULL, NULL),
    CASE(much_shared, NULL, NULL),
    CASE(copies_in_flight, NULL, NULL),
    CASE(votes, NULL, NULL),
    { NULL, NULL, NULL, NULL },
};

/* ---- for tests of streams, counts and numbers ------------------------------------------------------------------------ */

__global__ void add(float *x, float v, int n)
{
    int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < n) x[i] += v;
}
cudaError_t sim_add(float *x, float v, int n, cudaStream_t s)
{
    return LAUNCH(add, ((unsigned)(n + 63) / 64), (64), 0, s, x, v, n);
}
__global__ void scale(float *y, const float *x, float v, int n)
{
    int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < n) y[i] = v * x[i];
}
cudaError_t sim_scale(float *y, const float *x, float v, int n, cudaStream_t s)
{
    return LAUNCH(scale, ((unsigned)(n + 63) / 64), (64), 0, s, y, x, v, n);
}

__global__ void copy_scalar(float *y, const float *x, int n, int stride)
{
    int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < n) y[i] = x[(int64_t)i * stride];
}
__global__ void copy_vector(float *y, const float *x, int n)
{
    int i = (int)(blockIdx.x * blockDim.x + threadIdx.x) * 4;
    if (i < n) store16(y + i, load16(x + i));
}
cudaError_t sim_copy_rows(float *y, const float *x, int n, int stride, int vector, cudaStream_t s)
{
    if (vector) return LAUNCH(copy_vector, ((unsigned)n / 256), (64), 0, s, y, x, n);
    return LAUNCH(copy_scalar, ((unsigned)(n + 63) / 64), (64), 0, s, y, x, n, stride);
}

template <int Pitch> __global__ void transpose(float *y, const float *x)
{
    CU_SHARED(float, tile, [32][Pitch]);
    for (int r = 0; r < 32; r++) tile[r][threadIdx.x] = x[r * 32 + (int)threadIdx.x];
    __syncthreads();
    for (int r = 0; r < 32; r++) y[r * 32 + (int)threadIdx.x] = tile[threadIdx.x][r];
}
cudaError_t sim_transpose(float *y, const float *x, int pad, cudaStream_t s)
{
    return pad ? LAUNCH(transpose<33>, (1), (32), 0, s, y, x) : LAUNCH(transpose<32>, (1), (32), 0, s, y, x);
}

__global__ void shared_vectors(float *y, int step)
{
    CU_SHARED_DYN(float, s);
    vec16<float> v = { { 1, 2, 3, 4 } };
    store16(s + (int)threadIdx.x * 4 * step, v);
    __syncthreads();
    v = load16(s + (int)threadIdx.x * 4 * step);
    y[threadIdx.x] = v.v[0];
}
cudaError_t sim_shared_vectors(float *y, int step, cudaStream_t s)
{
    return LAUNCH(shared_vectors, (1), (32), (size_t)(512 * step), s, y, step);
}

/* D[16,8] = A[16,16] B[16,8], row-major, through ldmatrix and mma. */
template <class T> __global__ void product(float *d, const T *a, const T *b)
{
    CU_SHARED(T, as, [16][16]);
    CU_SHARED(T, bs, [16][8]);
    int l = (int)threadIdx.x;
    for (int i = l; i < 256; i += 32) as[i / 16][i % 16] = a[i];
    for (int i = l; i < 128; i += 32) bs[i / 8][i % 8] = b[i];
    __syncwarp();
    uint32_t fa[4], fb[4];
    float acc[4] = { 0, 0, 0, 0 };
    ldmatrix_x4(fa, &as[l % 16][l / 16 * 8]);
    ldmatrix_x4_trans(fb, &bs[l % 16][0]);
    mma_m16n8k16(T(), acc, fa, { fb[0], fb[1] });
    int g = l / 4, t = l % 4 * 2;
    d[g * 8 + t] = acc[0];
    d[g * 8 + t + 1] = acc[1];
    d[(g + 8) * 8 + t] = acc[2];
    d[(g + 8) * 8 + t + 1] = acc[3];
}
cudaError_t sim_product(float *d, const void *a, const void *b, int half, cudaStream_t s)
{
    if (half) return LAUNCH(product<f16>, (1), (32), 0, s, d, (const f16 *)a, (const f16 *)b);
    return LAUNCH(product<bf16>, (1), (32), 0, s, d, (const bf16 *)a, (const bf16 *)b);
}

__global__ void order(int *out)
{
    int k = atomicAdd(out + 64, 1);
    out[k] = (int)(blockIdx.x * blockDim.x + threadIdx.x);
}
cudaError_t sim_order(int *out, cudaStream_t s) { return LAUNCH(order, (4), (16), 0, s, out); }
