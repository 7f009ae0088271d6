/* functions.h - the functions of core/ops.def in float, for kernels.
 *
 * exp, expm1, log, log1p, tanh, erf and sqrt are those of the CUDA library, which are within 2 ulp (CUDA C++
 * Programming
 * Guide, "Mathematical Functions"). Its sinf and cosf keep a table in local memory for large arguments and its powf is
 * within 4 ulp only, so these three are written here, within 2 ulp; they are called, not inlined, since they are
 * long. */
#ifndef QN_KERNELS_CUDA_FUNCTIONS_H
#define QN_KERNELS_CUDA_FUNCTIONS_H
#include "gpu.h"
#include <math.h>

/* ---- sine and cosine ------------------------------------------------------------------------------------ */

/* |x| = quadrant pi/2 + r, |r| <= pi/4. Up to 2^15 by subtracting pi/2 in three parts (Cody and Waite); each product is
 * exact in the fused multiply-add. */
static __device__ __forceinline__ float reduce_small(float x, uint32_t &quadrant)
{
    float n = rintf(x * 0x1.45f306p-1f);
    quadrant = (uint32_t)n;
    float r = fmaf(n, -0x1.921fb6p+0f, x);
    r = fmaf(n, 0x1.777a5cp-25f, r);
    return fmaf(n, 0x1.ee59dap-50f, r);
}

/* Word i of 2/pi in binary, the point after word 0. */
static __device__ __forceinline__ uint32_t two_over_pi(int i)
{
    uint32_t w = i == 1 ? 0xa2f9836eu : 0x4e441529u;
    w = i == 3 ? 0xfc2757d1u : w;
    w = i == 4 ? 0xf534ddc0u : w;
    w = i == 5 ? 0xdb629599u : w;
    w = i == 6 ? 0x3c439041u : w;
    w = i == 7 ? 0xfe5163abu : w;
    return i == 0 ? 0 : w;
}

/* The same for any finite x (Payne and Hanek): x = m 2^(e-23) with whole m; of 2/pi only the 96 bits are multiplied
 * whose products with x have a place between 2 and 2^-94. */
static __device__ float reduce_large(float x, uint32_t &quadrant)
{
    uint32_t bits = __float_as_uint(x), m = (bits & 0x7fffffu) | 0x800000u;
    int skip = (int)(bits >> 23) - 127 + 7, word = skip >> 5, shift = skip & 31;
    uint32_t w0 = two_over_pi(word), w1 = two_over_pi(word + 1), w2 = two_over_pi(word + 2), w3 = two_over_pi(word + 3);
    uint64_t low = (uint64_t)m * __funnelshift_l(w3, w2, shift);
    uint64_t middle = (uint64_t)m * __funnelshift_l(w2, w1, shift) + (low >> 32);
    uint32_t high = m * __funnelshift_l(w1, w0, shift) + (uint32_t)(middle >> 32);
    uint64_t fraction = (uint64_t)high << 34 | (uint64_t)(uint32_t)middle << 2 | (uint32_t)low >> 30;
    quadrant = (high >> 30) + (uint32_t)(fraction >> 63);
    float part = (float)(int64_t)fraction; /* of a quadrant, in 2^-64; the next quadrant's if above one half */
    return fmaf(part, 0x1.921fb6p-64f, part * -0x1.777a5cp-89f);
}

/* sin(x + turn pi/2), turn 0 or 1. */
static __device__ __attribute__((noinline)) float sine(float x, uint32_t turn)
{
    uint32_t q;
    float size = fabsf(x);
    if (!(size < INFINITY)) return x - x;
    float r = size < 32768.0f ? reduce_small(size, q) : reduce_large(size, q);
    float s = r * r, even = -0x1.27e4fcp-22f, odd = 0x1.71de3ap-19f; /* -1/10! and 1/9!: Taylor */
    even = fmaf(even, s, 0x1.a01a02p-16f);
    even = fmaf(even, s, -0x1.6c16c2p-10f);
    even = fmaf(even, s, 0x1.555556p-5f);
    even = fmaf(even, s, -0.5f);
    even = fmaf(even, s, 1.0f);
    odd = fmaf(odd, s, -0x1.a01a02p-13f);
    odd = fmaf(odd, s, 0x1.111112p-7f);
    odd = fmaf(odd, s, -0x1.555556p-3f);
    odd = fmaf(odd * s, r, r);
    bool negative = turn == 0 && x < 0;
    q += turn;
    float y = q & 1 ? even : odd;
    y = ((q & 2) != 0) != negative ? -y : y;
    return turn == 0 && x == 0 ? x : y;
}

/* ---- power ---------------------------------------------------------------------------------------------- */

struct two_floats {
    float high, low;
};

/* ln x for normal x > 0, to about 2^-45: ln m = 2 artanh t, t = (m-1)/(m+1), m in [0.70, 1.41), and the exponent. */
static __device__ __forceinline__ struct two_floats log_two(float x, float scale)
{
    int bits = __float_as_int(x) - 0x3f3504f3, e = bits >> 23;
    float m = __int_as_float((bits & 0x7fffff) + 0x3f3504f3), n = (float)e - scale;
    float over = m - 1.0f, under = m + 1.0f, under_low = m - (under - 1.0f), inverse = 1.0f / under;
    float t = over * inverse, t_low = (fmaf(-t, under, over) - t * under_low) * inverse;
    float s = t * t, s_low = fmaf(t, t, -s) + 2.0f * t * t_low;
    float q = fmaf(fmaf(fmaf(s, 0x1.745d18p-4f, 0x1.c71c72p-4f), s, 0x1.24924ap-3f), s, 0x1.99999ap-3f);
    float u = s * 0x1.555556p-2f;
    float u_low = fmaf(s, 0x1.555556p-2f, -u) + (s_low * 0x1.555556p-2f - s * 0x1.555556p-27f) + s * s * q;
    float f = 1.0f + u, f_low = (1.0f - f) + u + u_low, twice = 2.0f * t;
    float high = twice * f, low = fmaf(twice, f, -high) + (twice * f_low + 2.0f * t_low * f);
    float base = n * 0x1.62e4p-1f, sum = base + high;
    float rest = (base - sum) + high + fmaf(n, 0x1.7f7d1cp-20f, low), all = sum + rest;
    struct two_floats y = { all, (sum - all) + rest };
    return y;
}

/* m^b for 0 < m < infinity and finite b. */
static __device__ __forceinline__ float power_inside(float m, float b)
{
    bool subnormal = m < 0x1p-126f;
    struct two_floats ln = log_two(subnormal ? m * 0x1p24f : m, subnormal ? 24.0f : 0.0f);
    float high = b * ln.high, low = fmaf(b, ln.high, -high) + b * ln.low;
    if (!(fabsf(high) < 200.0f)) return high > 0 ? INFINITY : 0.0f;
    float y = expf(high);
    return y < INFINITY ? fmaf(y, low, y) : y;
}

/* With the special cases of C's pow (C11 F.10.4.4). */
static __device__ __attribute__((noinline)) float power(float a, float b)
{
    float m = fabsf(a), half = 0.5f * fabsf(b), y;
    bool whole = truncf(b) == b, odd = whole && truncf(half) != half;
    if (b == 0.0f || a == 1.0f) return 1.0f;
    if (a != a || b != b) return a + b;
    if (a < 0.0f && m < INFINITY && !whole) return NAN;
    if (m == 1.0f)
        y = 1.0f;
    else if (m == 0.0f || m == INFINITY || half == INFINITY)
        y = (m > 1.0f) == (b > 0.0f) ? INFINITY : 0.0f;
    else
        y = power_inside(m, b);
    return odd && __float_as_int(a) < 0 ? -y : y;
}

/* Rare, and long: called, not inlined. */
static __device__ __attribute__((noinline)) float natural_log(float x) { return logf(x); }
static __device__ __attribute__((noinline)) float log_of_one_more(float x) { return log1pf(x); }
static __device__ __attribute__((noinline)) float exp_less_one(float x) { return expm1f(x); }

/* ---- the names of ops.def ------------------------------------------------------------------------------- */

#define K(x) ((float)(x))
#define EXP(x) expf(x)
#define EXPM1(x) exp_less_one(x)
#define LOG(x) natural_log(x)
#define LOG1P(x) log_of_one_more(x)
#define TANH(x) tanhf(x)
#define ERF(x) erff(x)
#define SIN(x) sine(x, 0)
#define COS(x) sine(x, 1)
#define POW(x, y) power(x, y)
#define SQRT(x) sqrtf(x)
#define FABS(x) fabsf(x)
#endif
