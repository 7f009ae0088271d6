/* cudasim.h - what kernels/cuda/gpu.h includes when the compiler is not nvcc: the same names, run on the CPU.
 *
 * A CUDA thread is a fiber; barriers and warp operations are rendezvous in the engine (fiber.cpp). Everything that is
 * not arithmetic goes through the functions of namespace cudasim, which live in the simulator's libcudart.so.13. See
 * README.md. */
#ifndef QN_TESTS_CUDASIM_H
#define QN_TESTS_CUDASIM_H
#include <math.h>
#include <stdint.h>
#include <string.h>
#include <type_traits>
#include <utility>
#define __launch_bounds__(...)
#include <cuda_runtime.h>
#include <cuda_fp16.h>
#include <cuda_bf16.h>
#include "calls.h"

/* Constant for the thread that runs, as in CUDA: the compiler may keep them in registers across a barrier. (A dim3,
 * which has constructors, would count as a variable.) */
extern const uint3 threadIdx, blockIdx, blockDim, gridDim;
enum { warpSize = 32 };

#define CUDASIM_PLACE const char *file = __builtin_FILE(), int line = __builtin_LINE()

namespace cudasim
{

extern const int thread_in_block; /* x fastest, as warps are cut */

template <class T> static inline bool check_argument(const char *kernel, int position, const T &value)
{
    if constexpr (std::is_pointer<T>::value) return argument_fits(kernel, position, (const void *)value);
    return (void)kernel, (void)position, (void)value, true;
}
/* A kernel with its arguments. Not instrumented: this is the simulator's own business. */
#define CUDASIM_OWN __attribute__((no_sanitize("thread", "alignment", "bounds")))
template <size_t I, class T> struct Argument {
    T value;
};
template <class Places, class... P> struct Arguments;
template <size_t... I, class... P> struct Arguments<std::index_sequence<I...>, P...> : Argument<I, P>... {
    void (*kernel)(P...);
    CUDASIM_OWN static void run(const void *self)
    {
        const Arguments *a = static_cast<const Arguments *>(self);
        a->kernel(static_cast<const Argument<I, P> *>(a)->value...);
    }
    CUDASIM_OWN static bool fits(const void *self, const char *name)
    {
        const Arguments *a = static_cast<const Arguments *>(self);
        bool fit = true;
        ((fit = check_argument(name, (int)I, static_cast<const Argument<I, P> *>(a)->value) && fit), ...);
        return (void)a, (void)name, fit;
    }
};

template <class T> static inline uint64_t to_bits(T v)
{
    static_assert(sizeof(T) <= 8 && std::is_trivially_copyable<T>::value, "not a type that lanes exchange");
    uint64_t bits = 0;
    memcpy(&bits, &v, sizeof v);
    return bits;
}
template <class T> static inline T from_bits(uint64_t bits)
{
    T v;
    memcpy(&v, &bits, sizeof v);
    return v;
}
static inline int lane() { return thread_in_block & 31; }

} // namespace cudasim

template <class... P, class... A>
static inline cudaError_t gpu_launch(const char *name, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared,
                                     cudaStream_t stream, A &&...a)
{
    static_assert(sizeof...(P) == sizeof...(A), "wrong number of kernel arguments");
    static_assert((std::is_trivially_copyable<P>::value && ...), "kernel arguments are copied as bytes");
    using Arguments = cudasim::Arguments<std::make_index_sequence<sizeof...(P)>, P...>;
    Arguments arguments = { { static_cast<P>(a) }..., kernel };
    return cudasim::launch({ name, (const void *)kernel, Arguments::run, Arguments::fits }, &arguments,
                           sizeof arguments, grid, block, shared, stream);
}

/* ---- shared memory ---------------------------------------------------------------------------------- */

#define CU_SHARED(T, name, ...) \
    static char name##_key_; \
    using name##_type_ = T __VA_ARGS__; \
    name##_type_ &name = *(name##_type_ *)cudasim::shared_static(&name##_key_, sizeof(name##_type_), #name)
#define CU_SHARED_DYN(T, name) T *name = (T *)cudasim::shared_dynamic()

/* ---- barriers, votes, shuffles ------------------------------------------------------------------------ */

static inline void __syncthreads(CUDASIM_PLACE) { cudasim::block_barrier(0, "__syncthreads", file, line); }
static inline int __syncthreads_count(int p, CUDASIM_PLACE)
{
    return cudasim::block_barrier(p != 0, "__syncthreads_count", file, line);
}
static inline int __syncthreads_or(int p, CUDASIM_PLACE)
{
    return cudasim::block_barrier(p != 0, "__syncthreads_or", file, line) > 0;
}
static inline int __syncthreads_and(int p, CUDASIM_PLACE)
{
    return cudasim::block_barrier(p == 0, "__syncthreads_and", file, line) == 0;
}
static inline void __syncwarp(unsigned mask = 0xffffffffu, CUDASIM_PLACE) { cudasim::warp_sync(mask, file, line); }
static inline unsigned __activemask() { return cudasim::active_mask(); }
static inline void __threadfence_block() { cudasim::fence(0); }
static inline void __threadfence() { cudasim::fence(1); }
static inline void __threadfence_system() { cudasim::fence(2); }

template <class T> static inline T __shfl_sync(unsigned mask, T v, int source, int width = 32, CUDASIM_PLACE)
{
    int from = (cudasim::lane() & ~(width - 1)) | (source & (width - 1));
    return cudasim::from_bits<T>(cudasim::shuffle(mask, cudasim::to_bits(v), from, "__shfl_sync", file, line));
}
template <class T> static inline T __shfl_up_sync(unsigned mask, T v, unsigned delta, int width = 32, CUDASIM_PLACE)
{
    int l = cudasim::lane(), from = (l & (width - 1)) >= (int)delta ? l - (int)delta : -1;
    return cudasim::from_bits<T>(cudasim::shuffle(mask, cudasim::to_bits(v), from, "__shfl_up_sync", file, line));
}
template <class T> static inline T __shfl_down_sync(unsigned mask, T v, unsigned delta, int width = 32, CUDASIM_PLACE)
{
    int l = cudasim::lane(), from = (l & (width - 1)) + (int)delta < width ? l + (int)delta : -1;
    return cudasim::from_bits<T>(cudasim::shuffle(mask, cudasim::to_bits(v), from, "__shfl_down_sync", file, line));
}
template <class T> static inline T __shfl_xor_sync(unsigned mask, T v, int bits, int width = 32, CUDASIM_PLACE)
{
    int l = cudasim::lane(), from = l ^ bits;
    if (from >= (l & ~(width - 1)) + width) from = -1;
    return cudasim::from_bits<T>(cudasim::shuffle(mask, cudasim::to_bits(v), from, "__shfl_xor_sync", file, line));
}
static inline unsigned __ballot_sync(unsigned mask, int p, CUDASIM_PLACE)
{
    return cudasim::ballot(mask, p, "__ballot_sync", file, line);
}
static inline int __any_sync(unsigned mask, int p, CUDASIM_PLACE)
{
    return cudasim::ballot(mask, p, "__any_sync", file, line) != 0;
}
static inline int __all_sync(unsigned mask, int p, CUDASIM_PLACE)
{
    return cudasim::ballot(mask, p, "__all_sync", file, line) == mask;
}
template <class T> static inline unsigned __match_any_sync(unsigned mask, T v, CUDASIM_PLACE)
{
    return cudasim::match_any(mask, cudasim::to_bits(v), file, line);
}
#define CUDASIM_REDUCE(name, how, T) \
    static inline T name(unsigned mask, T v, CUDASIM_PLACE) \
    { \
        return (T)cudasim::reduce(mask, (int64_t)v, cudasim::how, #name, file, line); \
    }
CUDASIM_REDUCE(__reduce_add_sync, ADD, unsigned)
CUDASIM_REDUCE(__reduce_add_sync, ADD, int)
CUDASIM_REDUCE(__reduce_min_sync, MIN, unsigned)
CUDASIM_REDUCE(__reduce_min_sync, MIN, int)
CUDASIM_REDUCE(__reduce_max_sync, MAX, unsigned)
CUDASIM_REDUCE(__reduce_max_sync, MAX, int)
CUDASIM_REDUCE(__reduce_and_sync, AND, unsigned)
CUDASIM_REDUCE(__reduce_or_sync, OR, unsigned)
CUDASIM_REDUCE(__reduce_xor_sync, XOR, unsigned)

/* The butterflies of gpu.h as one rendezvous, added in the same order. */
static inline float warp_sum(float v, CUDASIM_PLACE) { return cudasim::warp_sum(v, file, line); }
static inline float warp_max(float v, CUDASIM_PLACE) { return cudasim::warp_max(v, file, line); }

/* ---- integer atomics ---------------------------------------------------------------------------------- */

namespace cudasim
{
template <class T> struct only_integer {
    static_assert(std::is_integral<T>::value, "atomics on floats are not deterministic");
    typedef T type;
};
template <class T, class F> __attribute__((noinline)) CUDASIM_OWN T update(T *p, F f)
{
    touch(p, sizeof(T), ATOMIC, __builtin_return_address(0));
    T old = *p;
    *p = f(old);
    return old;
}
} // namespace cudasim
#define CUDASIM_ATOMIC(name, expression) \
    template <class T> static inline T name(T *p, typename cudasim::only_integer<T>::type b) \
    { \
        return cudasim::update(p, [b](T a) CUDASIM_OWN -> T { return (T)(expression); }); \
    }
CUDASIM_ATOMIC(atomicAdd, a + b)
CUDASIM_ATOMIC(atomicSub, a - b)
CUDASIM_ATOMIC(atomicMax, a > b ? a : b)
CUDASIM_ATOMIC(atomicMin, a < b ? a : b)
CUDASIM_ATOMIC(atomicAnd, a &b)
CUDASIM_ATOMIC(atomicOr, a | b)
CUDASIM_ATOMIC(atomicXor, a ^ b)
CUDASIM_ATOMIC(atomicInc, a >= b ? 0 : a + 1)
CUDASIM_ATOMIC(atomicDec, a == 0 || a > b ? b : a - 1)
CUDASIM_ATOMIC(atomicExch, ((void)a, b))
template <class T>
static inline T atomicCAS(T *p, typename cudasim::only_integer<T>::type expected,
                          typename cudasim::only_integer<T>::type b)
{
    return cudasim::update(p, [=](T a) CUDASIM_OWN -> T { return a == expected ? b : a; });
}

/* ---- tensor cores and asynchronous copies -------------------------------------------------------------- */

static inline void mma_m16n8k16(__nv_bfloat16, float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                                CUDASIM_PLACE)
{
    cudasim::mma_bf16(d, a, b, file, line);
}
static inline void mma_m16n8k16(__half, float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], CUDASIM_PLACE)
{
    cudasim::mma_half(d, a, b, file, line);
}
static inline void ldmatrix_x4(uint32_t (&r)[4], const void *row, CUDASIM_PLACE)
{
    cudasim::ldmatrix(r, row, false, file, line);
}
static inline void ldmatrix_x4_trans(uint32_t (&r)[4], const void *row, CUDASIM_PLACE)
{
    cudasim::ldmatrix(r, row, true, file, line);
}
static inline void cp_async16(void *dst, const void *src, bool take = true, CUDASIM_PLACE)
{
    cudasim::copy_async(dst, src, take ? 16 : 0, file, line);
}
static inline void cp_async_commit() { cudasim::copy_commit(); }
template <int N> static inline void cp_async_wait() { cudasim::copy_wait(N); }

/* ---- functions that the CUDA headers declare for nvcc only --------------------------------------------- */

static inline float exp2_approx(float x) { return exp2f(x); }
/* glibc declares functions of these names, so they cannot be functions here. */
#define __expf(x) expf(x)
#define __logf(x) logf(x)
#define __log2f(x) log2f(x)
#define __log10f(x) log10f(x)
#define __powf(x, y) powf(x, y)
#define __sinf(x) sinf(x)
#define __cosf(x) cosf(x)
#define __exp2f(x) exp2f(x)
static inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
static inline float __frsqrt_rn(float x) { return 1.0f / sqrtf(x); }
static inline float __fdividef(float a, float b) { return a / b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline float __frcp_rn(float x) { return 1.0f / x; }
static inline float __fsqrt_rn(float x) { return sqrtf(x); }
static inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __saturatef(float x) { return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f; }
static inline float __int2float_rn(int x) { return (float)x; }
static inline float __uint2float_rn(unsigned x) { return (float)x; }
static inline int __float2int_rn(float x)
{
    if (x != x) return 0;
    if (x >= 2147483648.0f) return INT32_MAX;
    return x <= -2147483648.0f ? INT32_MIN : (int)rintf(x);
}
static inline int __float2int_rz(float x)
{
    if (x != x) return 0;
    if (x >= 2147483648.0f) return INT32_MAX;
    return x <= -2147483648.0f ? INT32_MIN : (int)x;
}
static inline int __float2int_rd(float x) { return __float2int_rz(floorf(x)); }
static inline int __float2int_ru(float x) { return __float2int_rz(ceilf(x)); }
static inline int __float_as_int(float x) { return (int)cudasim::to_bits(x); }
static inline unsigned __float_as_uint(float x) { return (unsigned)cudasim::to_bits(x); }
static inline float __int_as_float(int x) { return cudasim::from_bits<float>((uint32_t)x); }
static inline float __uint_as_float(unsigned x) { return cudasim::from_bits<float>(x); }
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
static inline int __ffs(int x) { return __builtin_ffs(x); }
static inline int __ffsll(long long x) { return __builtin_ffsll(x); }
static inline int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
static inline int __clzll(long long x) { return x ? __builtin_clzll((unsigned long long)x) : 64; }
static inline unsigned __brev(unsigned x)
{
    x = (x >> 1 & 0x55555555u) | (x & 0x55555555u) << 1;
    x = (x >> 2 & 0x33333333u) | (x & 0x33333333u) << 2;
    x = (x >> 4 & 0x0f0f0f0fu) | (x & 0x0f0f0f0fu) << 4;
    return __builtin_bswap32(x);
}
static inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((uint64_t)a * b >> 32); }
static inline int __mulhi(int a, int b) { return (int)((int64_t)a * b >> 32); }
static inline unsigned __umul24(unsigned a, unsigned b) { return (a & 0xffffffu) * (b & 0xffffffu); }
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b)
{
    return (unsigned long long)((unsigned __int128)a * b >> 64);
}
static inline unsigned __byte_perm(unsigned a, unsigned b, unsigned selector)
{
    uint64_t both = (uint64_t)b << 32 | a;
    unsigned r = 0;
    for (int i = 0; i < 4; i++) {
        unsigned s = selector >> 4 * i & 0xf, byte = (unsigned)(both >> 8 * (s & 7)) & 0xff;
        if (s & 8) byte = byte & 0x80 ? 0xff : 0;
        r |= byte << 8 * i;
    }
    return r;
}
static inline unsigned __funnelshift_l(unsigned lo, unsigned hi, unsigned n)
{
    return (unsigned)(((uint64_t)hi << 32 | lo) << (n & 31) >> 32);
}
static inline unsigned __funnelshift_r(unsigned lo, unsigned hi, unsigned n)
{
    return (unsigned)(((uint64_t)hi << 32 | lo) >> (n & 31));
}
static inline int __dp4a(int a, int b, int c)
{
    for (int i = 0; i < 4; i++) c += (int)(int8_t)(a >> 8 * i) * (int)(int8_t)(b >> 8 * i);
    return c;
}
template <class T> static inline T __ldg(const T *p) { return *p; }
template <class T> static inline T __ldcs(const T *p) { return *p; }
template <class T> static inline T __ldca(const T *p) { return *p; }
template <class T> static inline T __ldcg(const T *p) { return *p; }
template <class T> static inline void __stcs(T *p, T v) { *p = v; }
template <class T> static inline void __stcg(T *p, T v) { *p = v; }

#define CUDASIM_MIN_MAX(A, B, R) \
    static inline R min(A a, B b) { return (R)a < (R)b ? (R)a : (R)b; } \
    static inline R max(A a, B b) { return (R)a > (R)b ? (R)a : (R)b; }
CUDASIM_MIN_MAX(int, int, int)
CUDASIM_MIN_MAX(unsigned, unsigned, unsigned)
CUDASIM_MIN_MAX(int, unsigned, unsigned)
CUDASIM_MIN_MAX(unsigned, int, unsigned)
CUDASIM_MIN_MAX(long, long, long)
CUDASIM_MIN_MAX(unsigned long, unsigned long, unsigned long)
CUDASIM_MIN_MAX(long, unsigned long, unsigned long)
CUDASIM_MIN_MAX(unsigned long, long, unsigned long)
CUDASIM_MIN_MAX(long long, long long, long long)
CUDASIM_MIN_MAX(unsigned long long, unsigned long long, unsigned long long)
static inline float min(float a, float b) { return fminf(a, b); }
static inline float max(float a, float b) { return fmaxf(a, b); }
#endif
