/* counts.h - what the simulator counts of a kernel. Requests are those of a warp; see count.cpp. All of this is
 * simulated: counted, not measured. */
#ifndef QN_TESTS_CUDASIM_COUNTS_H
#define QN_TESTS_CUDASIM_COUNTS_H
#include <stdint.h>

struct cudasim_traffic {             /* device memory */
    uint64_t requests, asked;        /* asked: bytes, each lane's     */
    uint64_t bytes;                  /* each byte once in a request   */
    uint64_t sectors, ideal_sectors; /* of 32 bytes; ideal: that the bytes would fill */
    uint64_t missed;                 /* sectors that a small cache had not */
};
struct cudasim_shared {
    uint64_t requests, wavefronts, ideal_wavefronts;
};
struct cudasim_counts { /* sums over the launches of one kernel */
    uint64_t launches, threads;
    struct cudasim_traffic load, store, atomic;
    struct cudasim_shared shared_load, shared_store; /* store: atomics too */
    uint64_t footprint_read, footprint_written;      /* different bytes of device memory, of each launch */
    uint64_t matrix_products;                        /* mma instructions of warps */
};
#endif
