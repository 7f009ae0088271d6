/* half.h - bf16 and f16 as bits, to and from f32; round to nearest even, NaN stays NaN. */
#ifndef QN_CORE_HALF_H
#define QN_CORE_HALF_H
#include <stdint.h>
#include <string.h>

static inline float qn__f32_of_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, 4);
    return f;
}
static inline uint32_t qn__bits_of_f32(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}

static inline float qn__f32_of_bf16(uint16_t h) { return qn__f32_of_bits((uint32_t)h << 16); }
static inline uint16_t qn__bf16_of_f32(float f)
{
    uint32_t u = qn__bits_of_f32(f);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)((u >> 16) | 0x40u);
    return (uint16_t)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}

static inline float qn__f32_of_f16(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, magnitude = h & 0x7fffu;
    if (magnitude >= 0x7c00u) return qn__f32_of_bits(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
    /* Shift exponent and mantissa into place; the multiplication by 2^112 rebiases and also
     * normalises subnormals exactly. */
    return qn__f32_of_bits(sign | qn__bits_of_f32(qn__f32_of_bits(magnitude << 13) * 0x1p112f));
}
static inline uint16_t qn__f16_of_f32(float f)
{
    uint32_t u = qn__bits_of_f32(f), sign = u >> 16 & 0x8000u, a = u & 0x7fffffffu;
    if (a > 0x7f800000u) return (uint16_t)(sign | 0x7e00u | (a >> 13 & 0x3ffu));
    if (a >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u); /* rounds to at least 2^16 */
    if (a < 0x38800000u) {                                   /* subnormal: let the adder round */
        float r = qn__f32_of_bits(a) + 0.5f;                 /* ulp of [0.5,1) is 2^-24      */
        return (uint16_t)(sign | (qn__bits_of_f32(r) - 0x3f000000u));
    }
    a += 0xfffu + (a >> 13 & 1u);
    return (uint16_t)(sign | (a - 0x38000000u) >> 13);
}
#endif
