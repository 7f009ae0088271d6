/* dtype.c - element types and conversion between them. */
#include "base.h"
#include "half.h"

static const struct {
    size_t bytes;
    const char *name;
} dtypes[] = {
#define X(name, bytes, text) [QN_##name] = { bytes, text },
    QN_DTYPE_MAP(X)
#undef X
};

size_t qn_dtype_size(qn_dtype d) { return (unsigned)d < QN_DTYPE_COUNT ? dtypes[d].bytes : 0; }
const char *qn_dtype_name(qn_dtype d) { return (unsigned)d < QN_DTYPE_COUNT ? dtypes[d].name : "?"; }
bool qn_dtype_is_float(qn_dtype d) { return d == QN_F32 || d == QN_F64 || d == QN_BF16 || d == QN_F16; }

/* Integers travel as int64 so that large ones stay exact; floats as double. */
static int64_t load_int(const void *src, qn_dtype from, size_t i)
{
    switch (from) {
    case QN_I64: return ((const int64_t *)src)[i];
    case QN_I32: return ((const int32_t *)src)[i];
    case QN_I8: return ((const int8_t *)src)[i];
    default: return ((const uint8_t *)src)[i];
    }
}
static double load_float(const void *src, qn_dtype from, size_t i)
{
    switch (from) {
    case QN_F64: return ((const double *)src)[i];
    case QN_F32: return (double)((const float *)src)[i];
    case QN_BF16: return (double)qn__f32_of_bf16(((const uint16_t *)src)[i]);
    case QN_F16: return (double)qn__f32_of_f16(((const uint16_t *)src)[i]);
    default: return (double)load_int(src, from, i);
    }
}
/* A double on its way to a 16-bit format. Rounding to odd keeps in the last bit that something was cut off, so that
 * the rounding to 16 bits which follows sees no false tie. */
static float to_f32_odd(double x)
{
    float f = (float)x;
    uint32_t u = qn__bits_of_f32(f);
    if (!(x == x) || (double)f == x || u & 1u) return f;
    bool away = x < 0 ? (double)f < x : (double)f > x;
    return qn__f32_of_bits(away ? u - 1 : u + 1);
}
/* Truncates towards zero; out-of-range values saturate and NaN becomes 0, so nothing is undefined. */
static int64_t to_int(double x, int64_t low, int64_t high)
{
    if (!(x == x)) return 0;
    if (x <= (double)low) return low;
    if (x >= (double)high) return high;
    return (int64_t)x;
}
static void store_float(void *dst, qn_dtype to, size_t i, double x)
{
    switch (to) {
    case QN_F64: ((double *)dst)[i] = x; break;
    case QN_F32: ((float *)dst)[i] = (float)x; break;
    case QN_BF16: ((uint16_t *)dst)[i] = qn__bf16_of_f32(to_f32_odd(x)); break;
    case QN_F16: ((uint16_t *)dst)[i] = qn__f16_of_f32(to_f32_odd(x)); break;
    case QN_I64: ((int64_t *)dst)[i] = to_int(x, INT64_MIN, INT64_MAX); break;
    case QN_I32: ((int32_t *)dst)[i] = (int32_t)to_int(x, INT32_MIN, INT32_MAX); break;
    case QN_I8: ((int8_t *)dst)[i] = (int8_t)to_int(x, INT8_MIN, INT8_MAX); break;
    case QN_U8: ((uint8_t *)dst)[i] = (uint8_t)to_int(x, 0, UINT8_MAX); break;
    default: ((uint8_t *)dst)[i] = x != 0; break;
    }
}
static void store_int(void *dst, qn_dtype to, size_t i, int64_t x)
{
    switch (to) {
    case QN_I64: ((int64_t *)dst)[i] = x; break;
    case QN_I32: ((int32_t *)dst)[i] = (int32_t)(x < INT32_MIN ? INT32_MIN : x > INT32_MAX ? INT32_MAX : x); break;
    case QN_I8: ((int8_t *)dst)[i] = (int8_t)(x < INT8_MIN ? INT8_MIN : x > INT8_MAX ? INT8_MAX : x); break;
    case QN_U8: ((uint8_t *)dst)[i] = (uint8_t)(x < 0 ? 0 : x > UINT8_MAX ? UINT8_MAX : x); break;
    case QN_BOOL: ((uint8_t *)dst)[i] = x != 0; break;
    case QN_F32: ((float *)dst)[i] = (float)x; break; /* not by way of double: one rounding */
    default: store_float(dst, to, i, (double)x); break;
    }
}

void qn_convert(void *dst, qn_dtype to, const void *src, qn_dtype from, size_t n)
{
    if (to == from) {
        if (n) memcpy(dst, src, n * qn_dtype_size(to));
    } else if (qn_dtype_is_float(from)) {
        for (size_t i = 0; i < n; i++) store_float(dst, to, i, load_float(src, from, i));
    } else {
        for (size_t i = 0; i < n; i++) store_int(dst, to, i, load_int(src, from, i));
    }
}
