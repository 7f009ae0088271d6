/* tensors.h - one launch over many tensors: how blocks find their tensor and their part of it.
 *
 * A model has hundreds of parameters, most of them small; a launch for each would cost more than the work. Entries go
 * to the kernel by value (so a captured graph holds them), at most 4 KB of them; each tensor is cut into chunks of
 * QN_CHUNK elements, and chunks are numbered through all tensors: block b works on chunk b. */
#ifndef QN_KERNELS_CUDA_TENSORS_H
#define QN_KERNELS_CUDA_TENSORS_H
#include "gpu.h"
#include "cuda.h"

enum { QN_CHUNK_THREADS = 256, QN_CHUNK = 16 * QN_CHUNK_THREADS, QN_TENSORS_MAX = 56 };

struct qn__tensor_chunks {
    int32_t n;
    int32_t first[QN_TENSORS_MAX + 1]; /* number of the first chunk of each tensor; first[n]: of all */
};

/* The tensor of chunk number `chunk`: the last whose first chunk is not beyond it. */
static __device__ __forceinline__ int tensor_of(const qn__tensor_chunks &c, int chunk)
{
    int low = 0, high = c.n - 1;
    while (low < high) {
        int middle = (low + high + 1) / 2;
        if (c.first[middle] <= chunk)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

static inline int chunks_of(int64_t elements) { return (int)ceil_div(elements, QN_CHUNK); }
#endif
