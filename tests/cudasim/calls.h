/* calls.h - what compiled kernels call in the simulator; seen by cudasim.h and by the engine. */
#ifndef QN_TESTS_CUDASIM_CALLS_H
#define QN_TESTS_CUDASIM_CALLS_H
#include <stddef.h>
#include <stdint.h>
#pragma GCC visibility push(default)
#include <cuda_runtime_api.h>

namespace cudasim
{

enum Access { READ, WRITE, ATOMIC };
enum Reduction { ADD, MIN, MAX, AND, OR, XOR };

/* ---- memory ---- */
void *shared_static(const void *key, size_t bytes, const char *name);
void *shared_dynamic();
/* An access that the compiler does not report: atomics, vector instructions. */
void touch(const void *p, size_t bytes, Access kind, const void *place);
void fence(int scope); /* 0: block, 1: device, 2: system */

/* ---- barriers and warp operations ---- */
int block_barrier(int predicate, const char *what, const char *file, int line); /* how many threads gave non-zero */
void warp_sync(uint32_t mask, const char *file, int line);
uint32_t active_mask();
/* source: the lane whose bits this one gets; -1: its own. */
uint64_t shuffle(uint32_t mask, uint64_t bits, int source, const char *what, const char *file, int line);
uint32_t ballot(uint32_t mask, int predicate, const char *what, const char *file, int line);
uint32_t match_any(uint32_t mask, uint64_t bits, const char *file, int line);
uint64_t reduce(uint32_t mask, int64_t value, Reduction how, const char *what, const char *file, int line);
float warp_sum(float v, const char *file, int line);
float warp_max(float v, const char *file, int line);

/* ---- tensor cores and asynchronous copies ---- */
void mma_bf16(float *d, const uint32_t *a, const uint32_t *b, const char *file, int line);
void mma_half(float *d, const uint32_t *a, const uint32_t *b, const char *file, int line);
void ldmatrix(uint32_t *r, const void *row, bool transposed, const char *file, int line);
void copy_async(void *dst, const void *src, size_t take, const char *file, int line);
void copy_commit();
void copy_wait(int newest);

/* ---- launch ---- */
struct Kernel {
    const char *name;
    const void *function;
    void (*call)(const void *arguments);
    bool (*fits)(const void *arguments, const char *name); /* its pointers are the device's */
};
bool argument_fits(const char *kernel, int position, const void *pointer);
cudaError_t launch(const Kernel &kernel, const void *arguments, size_t bytes, dim3 grid, dim3 block, size_t shared,
                   cudaStream_t stream);

} // namespace cudasim
#pragma GCC visibility pop
#endif
