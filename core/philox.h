/* philox.h - Philox4x32-10, the only random number generator of Quern.
 *
 * Counter based: the four words are a pure function of (key, counter), so masks, shuffles, initial
 * weights and augmentation are the same for any number of threads, ranks, and on either backend.
 * Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC'11; checked
 * against the known-answer vectors published with it (tests/core/test_philox.c). */
#ifndef QN_CORE_PHILOX_H
#define QN_CORE_PHILOX_H
#include <stdint.h>

/* The same source runs inside CUDA kernels, so that their masks are those of the CPU. */
#ifdef __CUDACC__
#define QN_EVERYWHERE __host__ __device__
#else
#define QN_EVERYWHERE
#endif

struct qn__words {
    uint32_t w[4];
};

static inline QN_EVERYWHERE struct qn__words qn__philox(uint64_t key, uint32_t c0, uint32_t c1, uint32_t c2,
                                                        uint32_t c3)
{
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    struct qn__words words = { { c0, c1, c2, c3 } };
    return words;
}

/* Key of a named stream: mixes the user's seed with the hash of a (scoped) name. Of the hash 63 bits count: two names
 * share a stream with probability 2^-63 instead of 2^-64. Not for numbers that follow each other. */
static inline QN_EVERYWHERE uint64_t qn__stream_key(uint64_t seed, uint64_t name_hash)
{
    uint64_t z = seed + 0x9E3779B97F4A7C15u * (name_hash | 1u); /* splitmix64 finaliser */
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

/* Key of a numbered stream (of an epoch, say) below another key; indices below 2^63. */
static inline QN_EVERYWHERE uint64_t qn__stream_at(uint64_t key, uint64_t index)
{
    return qn__stream_key(key, index << 1); /* its lowest bit would not count */
}

/* A word as a float in [0, 1) with 24 bits, and as a double in [0, 1) with 32 bits. */
static inline QN_EVERYWHERE float qn__unit_f32(uint32_t w) { return (float)(w >> 8) * 0x1p-24f; }
static inline QN_EVERYWHERE double qn__unit_f64(uint32_t w) { return (double)w * 0x1p-32; }
#endif
