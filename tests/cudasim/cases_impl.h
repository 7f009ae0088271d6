/* cases_impl.h - how wrong.cu and right.cu write their cases down. */
#ifndef QN_TESTS_CUDASIM_CASES_IMPL_H
#define QN_TESTS_CUDASIM_CASES_IMPL_H
#include "cases.h"

/* run_<name> launches kernel <name>. */
#define RUN(kernel, grid, block, shared) \
    static cudaError_t run_##kernel(float *x, int n, cudaStream_t s) \
    { \
        return LAUNCH(kernel, grid, block, shared, s, x, n); \
    }
#define CASE(kernel, fast, checked) \
    { \
#kernel, run_##kernel, fast, checked \
    }

#endif
