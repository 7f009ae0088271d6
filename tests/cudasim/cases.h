/* cases.h - small kernels, wrong in one way or right, and what the simulator must say of each. */
#ifndef QN_TESTS_CUDASIM_CASES_H
#define QN_TESTS_CUDASIM_CASES_H
#include <cuda_runtime_api.h>
#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* x: n (64) floats of device memory, all 0. What run returns does not matter; findings do. */
struct sim_case {
    const char *name;
    cudaError_t (*run)(float *x, int n, cudaStream_t s);
    const char *fast, *checked; /* part of the first finding in each build; NULL: there must be none */
};
extern const struct sim_case sim_wrong[], sim_right[]; /* the last has no name */

/* Kernels for the tests of streams, graphs and counts. */
cudaError_t sim_add(float *x, float v, int n, cudaStream_t s);                   /* x += v */
cudaError_t sim_scale(float *y, const float *x, float v, int n, cudaStream_t s); /* y = v x */
cudaError_t sim_copy_rows(float *y, const float *x, int n, int stride, int vector, cudaStream_t s);
cudaError_t sim_transpose(float *y, const float *x, int pad, cudaStream_t s); /* 32 x 32 through shared memory */
cudaError_t sim_shared_vectors(float *y, int step, cudaStream_t s);           /* a warp's float4s `step` apart */
cudaError_t sim_product(float *d, const void *a, const void *b, int half, cudaStream_t s); /* 16 x 8 x 16 */
cudaError_t sim_order(int *out, cudaStream_t s); /* out[0..63]: which thread of which block came when */

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
