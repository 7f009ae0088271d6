/* index.h - from the number of an element to its place in memory, for the kernels that move elements; indices that come
 * from outside.
 *
 * A division by a number that is known when the kernel is launched is a multiplication and a shift (Granlund and
 * Montgomery, "Division by invariant integers using multiplication", 1994): 3 instructions where everything is counted
 * below 2^31, 10 otherwise. */
#ifndef QN_KERNELS_CUDA_INDEX_H
#define QN_KERNELS_CUDA_INDEX_H
#include "gpu.h"
#include "cuda.h"

/* ---- division ------------------------------------------------------------------------------------------ */

struct divisor {
    uint64_t wide;
    uint32_t narrow, shift;
    int64_t by;
};

/* by >= 1 */
static inline struct divisor divisor_of(int64_t by)
{
    struct divisor d = { 0, 0, 0, by };
    while (((uint64_t)1 << d.shift) < (uint64_t)by) d.shift++;
    __extension__ typedef unsigned __int128 u128;
    u128 over = ((u128)1 << d.shift) - (u128)by;
    d.wide = (uint64_t)((over << 64) / (u128)by + 1);
    d.narrow = (uint32_t)((over << 32) / (u128)by + 1);
    return d;
}

/* i / d.by for 0 <= i; narrow: i and d.by are below 2^31 */
static __device__ __forceinline__ int64_t quotient(const struct divisor &d, int64_t i, bool narrow)
{
    if (narrow) return (__umulhi((uint32_t)i, d.narrow) + (uint32_t)i) >> d.shift;
    return (int64_t)((__umul64hi((unsigned long long)i, d.wide) + (uint64_t)i) >> d.shift);
}
static __device__ __forceinline__ uint32_t quotient32(const struct divisor &d, uint32_t i)
{
    return (__umulhi(i, d.narrow) + i) >> d.shift;
}

/* ---- boxes --------------------------------------------------------------------------------------------- */

/* Dimensions, outermost first, and the step in elements along each. The first size is not divided by. */
enum { BOX_MAX = QN_MAX_DIMS + 1 };
struct box {
    int32_t n, narrow; /* narrow: every index is below 2^31 */
    struct divisor size[BOX_MAX];
    int64_t step[BOX_MAX];
};

static __device__ __forceinline__ int64_t box_offset(const struct box &b, int64_t i)
{
    int64_t offset = 0;
    for (int k = b.n - 1; k > 0; k--) {
        int64_t q = quotient(b.size[k], i, b.narrow);
        offset += (i - q * b.size[k].by) * b.step[k];
        i = q;
    }
    return b.n > 0 ? offset + i * b.step[0] : 0;
}

/* ---- element sizes ------------------------------------------------------------------------------------- */

/* Calls f with a value of a type of 1, 2, 4 or 8 bytes, and of 16 for units: what is moved without being looked at. */
template <class F> static inline cudaError_t with_element(int64_t bytes, F f)
{
    switch (bytes) {
    case 1: return f(uint8_t());
    case 2: return f(uint16_t());
    case 4: return f(uint32_t());
    default: return f(uint2());
    }
}
template <class F> static inline cudaError_t with_unit(int64_t bytes, F f)
{
    return bytes == 16 ? f(uint4()) : with_element(bytes, f);
}

/* The widest access of 16 bytes or less that keeps to the alignment of every number given (0 counts as aligned). */
static inline int64_t unit_for(int64_t element, const int64_t *bytes, int n)
{
    int64_t unit = 16;
    for (int i = 0; i < n; i++)
        while (unit > element && bytes[i] % unit) unit /= 2;
    return unit;
}

/* ---- indices from outside ------------------------------------------------------------------------------ */

static __device__ __forceinline__ int64_t index_at(const void *index, bool wide, int64_t i)
{
    return wide ? ((const int64_t *)index)[i] : ((const int32_t *)index)[i];
}

/* Keeps the first wrong index that is met. */
static __device__ __forceinline__ void wrong_index(struct qn__fault *fault, int32_t step, int64_t at, int64_t value,
                                                   int64_t limit)
{
    if (atomicCAS(&fault->position, 0, step + 1) != 0) return;
    fault->kind = QN_FAULT_INDEX;
    fault->at = at;
    fault->value = value;
    fault->limit = limit;
}
#endif
