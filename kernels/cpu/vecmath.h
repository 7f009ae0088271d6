/* vecmath.h - mathematical functions that the compiler can vectorise: no calls, no branches, only selects.
 *
 * For float every function but exp works in double inside, where cancellation that would need care in float
 * costs nothing, and rounds once at the end: all are within 1 ulp of the exact value (exp: 2), which
 * tests/kernels/test_pointwise checks. No fused multiply-add and no reassociation: the same argument gives the same
 * bits in a vector, in a remainder loop and on every CPU. For double: the functions of libm.
 *
 * Polynomials: those of exp and erf interpolate at Chebyshev nodes on the interval named; all others are Taylor. */
#ifndef QN_KERNELS_CPU_VECMATH_H
#define QN_KERNELS_CPU_VECMATH_H
#include <math.h>
#include <stdint.h>
#include <string.h>

static inline uint64_t qn__bits_of_f64(double x)
{
    uint64_t u;
    memcpy(&u, &x, 8);
    return u;
}
static inline double qn__f64_of_bits(uint64_t u)
{
    double x;
    memcpy(&x, &u, 8);
    return x;
}

/* Adding and subtracting it rounds to the nearest integer, which then stands in its low bits. */
#define QN_ROUND_F64 0x1.8p52
#define QN_ROUND_F32 0x1.8p23f

/* ---- in double, to about 1e-11: what the float functions are made of --------------------------------- */

/* e^x for |x| < 700; NaN stays NaN. n = round(x / ln 2), r = x - n ln 2, |r| <= 0.3466. */
static inline double qn__exp_core(double x)
{
    double shifted = x * 0x1.71547652b82fep+0 + QN_ROUND_F64, n = shifted - QN_ROUND_F64;
    double r = (x - n * 0x1.62e42feep-1) - n * 0x1.a39ef35793c76p-33;
    double p = 1.0 / 362880;
    p = p * r + 1.0 / 40320;
    p = p * r + 1.0 / 5040;
    p = p * r + 1.0 / 720;
    p = p * r + 1.0 / 120;
    p = p * r + 1.0 / 24;
    p = p * r + 1.0 / 6;
    p = p * r + 0.5;
    p = p * r + 1.0;
    p = p * r + 1.0;
    return p * qn__f64_of_bits((qn__bits_of_f64(shifted) + 1023) << 52);
}

/* ln x for normal x > 0: x = m 2^e, m in [1/sqrt 2, sqrt 2); ln m = 2 artanh f, f = (m-1)/(m+1). */
static inline double qn__log_core(double x)
{
    uint64_t u = qn__bits_of_f64(x) + (0x3ff0000000000000u - 0x3fe6a09e667f3bcdu);
    /* The exponent as a double without a conversion that AVX2 lacks: put it into the low bits of 2^52. */
    double e = qn__f64_of_bits((u >> 52) | 0x4330000000000000u) - (0x1p52 + 1023);
    double m = qn__f64_of_bits((u & 0x000fffffffffffffu) + 0x3fe6a09e667f3bcdu);
    double f = (m - 1) / (m + 1), s = f * f;
    double p = 2.0 / 15;
    p = p * s + 2.0 / 13;
    p = p * s + 2.0 / 11;
    p = p * s + 2.0 / 9;
    p = p * s + 2.0 / 7;
    p = p * s + 2.0 / 5;
    p = p * s + 2.0 / 3;
    p = p * s + 2.0;
    return p * f + e * 0x1.62e42fefa39efp-1;
}

/* ln x with the limits: -inf at 0, NaN below, inf at inf. */
static inline double qn__log_full(double x)
{
    double y = qn__log_core(x);
    y = x < (double)INFINITY ? y : x; /* inf and NaN */
    return x > 0 ? y : x == 0 ? (double)-INFINITY : (double)NAN;
}

static inline double qn__bound(double x, double low, double high) { return x < low ? low : x > high ? high : x; }

/* ---- float ------------------------------------------------------------------------------------------ */

/* e^x = 2^n e^r, the power in two factors so that results below 2^-126 are reached. */
static inline float qn__expf(float x)
{
    x = x > 89.0f ? 89.0f : x < -104.0f ? -104.0f : x;
    float shifted = x * 0x1.715476p+0f + QN_ROUND_F32, n = shifted - QN_ROUND_F32;
    float r = (x - n * 0x1.62e4p-1f) - n * 0x1.7f7d1cp-20f;
    float p = 1.392618359e-03f; /* (e^r - 1 - r) / r^2 on [-0.3466, 0.3466] */
    p = p * r + 8.363179053e-03f;
    p = p * r + 4.166655462e-02f;
    p = p * r + 1.666657699e-01f;
    p = p * r + 0.5f;
    p = (p * r) * r + r + 1.0f;
    uint32_t u;
    memcpy(&u, &shifted, 4);
    int32_t k = (int32_t)(u - 0x4b400000u), half = k >> 1;
    uint32_t ua = (uint32_t)(half + 127) << 23, ub = (uint32_t)(k - half + 127) << 23;
    float a, b;
    memcpy(&a, &ua, 4);
    memcpy(&b, &ub, 4);
    return p * a * b;
}

/* e^x - 1 for |x| < 700 */
static inline double qn__expm1_core(double x)
{
    double big = qn__exp_core(x) - 1;
    double small = x + x * x * (0.5 + x * (1.0 / 6));
    return fabs(x) < 1e-4 ? small : big;
}
static inline float qn__expm1f(float x)
{
    double y = qn__expm1_core(qn__bound((double)x, -100, 100));
    return x == 0 ? x : (float)y; /* keeps the sign of zero */
}
static inline float qn__logf(float x) { return (float)qn__log_full((double)x); }
static inline float qn__log1pf(float x)
{
    double d = (double)x, big = qn__log_full(1 + d);
    double small = d - d * d * (0.5 - d * (1.0 / 3 - d * 0.25));
    return x == 0 ? x : (float)(fabs(d) < 1e-4 ? small : big);
}
/* (e^2x - 1) / (e^2x + 1) */
static inline float qn__tanhf(float x)
{
    double e = qn__expm1_core(qn__bound(2 * (double)x, -40, 40));
    return x == 0 ? x : (float)(e / (e + 2));
}

/* erf x = x P(x^2) up to 1 (relative error 1e-12), Q((x - 2.5) / 1.5) up to 4 (absolute error 1e-9), then 1. */
static inline float qn__erff(float x)
{
    double d = (double)x, a = d < 0 ? -d : d, s = d * d;
    double p = 1.0589669222503694e-06;
    p = p * s - 1.3909449888968891e-05;
    p = p * s + 0.00011956579464822426;
    p = p * s - 0.0008542639342737048;
    p = p * s + 0.0052237835363087015;
    p = p * s - 0.026866133249189118;
    p = p * s + 0.11283791308770139;
    p = p * s - 0.37612638889642519;
    p = (p * s + 1.128379167094677) * a;
    double u = ((a > 4 ? 4 : a) - 2.5) * (1 / 1.5);
    double q = -0.00016206581835831457;
    q = q * u + 0.00026081955647327959;
    q = q * u + 0.00070479260205047467;
    q = q * u - 0.0020429002260584639;
    q = q * u + 0.00062454962971258965;
    q = q * u + 0.0046813351243404355;
    q = q * u - 0.0097070384312853975;
    q = q * u + 0.0066277652746498106;
    q = q * u + 0.0092893637003257368;
    q = q * u - 0.031864766843195724;
    q = q * u + 0.046450885595727187;
    q = q * u - 0.043652124167515127;
    q = q * u + 0.028181682212508524;
    q = q * u - 0.012252787464506913;
    q = q * u + 0.0032674253298862962;
    q = q * u + 0.99959304750795075;
    double y = a <= 1 ? p : q;
    return x == 0 ? x : (float)(d < 0 ? -y : y);
}

/* |a|^b = e^(b ln |a|), then the sign and the special cases of C's pow (C11 F.10.4.4). */
static inline float qn__powf(float a, float b)
{
    double x = (double)a, y = (double)b, m = fabs(x), wide = fabs(y);
    double z = y * qn__log_full(m);
    z = ((m == 1) | (y == 0)) ? 0 : z;
    double r = qn__exp_core(qn__bound(z, -200, 200));
    /* An integer is odd if half of it is none; floats from 2^24 on are even, and rounding changes none of them. */
    double whole = (wide + 0x1p52) - 0x1p52, halved = (wide * 0.5 + 0x1p52) - 0x1p52;
    double odd = ((whole == wide) & (halved * 2 != wide) & (wide < 0x1p24)) ? x : 1;
    double y_or_nan = ((x < 0) & (m < (double)INFINITY) & (whole != wide)) ? (double)NAN : copysign(r, odd);
    return (float)y_or_nan;
}

/* Valid for |x| <= QN_TRIG_MAX, where n * (leading part of pi/2) is exact. */
#define QN_TRIG_MAX 1e6f
static inline float qn__trig_core(float x, uint64_t quarter)
{
    double d = (double)x, shifted = d * 0x1.45f306dc9c883p-1 + QN_ROUND_F64, n = shifted - QN_ROUND_F64;
    double r = (d - n * 0x1.921fb544p+0) - n * 0x1.0b4611a626331p-34, s = r * r;
    double sine = -1.0 / 39916800, cosine = 1.0 / 479001600;
    sine = sine * s + 1.0 / 362880;
    sine = sine * s - 1.0 / 5040;
    sine = sine * s + 1.0 / 120;
    sine = sine * s - 1.0 / 6;
    sine = sine * s * r + r;
    cosine = cosine * s - 1.0 / 3628800;
    cosine = cosine * s + 1.0 / 40320;
    cosine = cosine * s - 1.0 / 720;
    cosine = cosine * s + 1.0 / 24;
    cosine = cosine * s - 0.5;
    cosine = cosine * s + 1;
    uint64_t q = qn__bits_of_f64(shifted) + quarter;
    double y = q & 1 ? cosine : sine;
    return (float)(q & 2 ? -y : y);
}
static inline float qn__sinf(float x) { return x == 0 ? x : qn__trig_core(x, 0); }
static inline float qn__cosf(float x) { return qn__trig_core(x, 1); }

/* ---- the functions of ops.def in the element type of this build ------------------------------------- */

#ifdef REAL
#define QN_VF(name, x) (sizeof(REAL) == 4 ? (REAL)qn__##name##f((float)(x)) : (REAL)name((double)(x)))
#define K(x) ((REAL)(x))
#define EXP(x) QN_VF(exp, x)
#define EXPM1(x) QN_VF(expm1, x)
#define LOG(x) QN_VF(log, x)
#define LOG1P(x) QN_VF(log1p, x)
#define TANH(x) QN_VF(tanh, x)
#define ERF(x) QN_VF(erf, x)
#define SIN(x) QN_VF(sin, x)
#define COS(x) QN_VF(cos, x)
#define POW(x, y) (sizeof(REAL) == 4 ? (REAL)qn__powf((float)(x), (float)(y)) : (REAL)pow((double)(x), (double)(y)))
#define SQRT(x) (sizeof(REAL) == 4 ? (REAL)sqrtf((float)(x)) : (REAL)sqrt((double)(x)))
#define FABS(x) (sizeof(REAL) == 4 ? (REAL)fabsf((float)(x)) : (REAL)fabs((double)(x)))
#endif
#endif
