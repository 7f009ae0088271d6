/* finite.cu - is every element finite? Asked when a step went wrong, of one value after the other.
 *
 * Compulsory bytes: read n elements. Each thread reads 16 bytes at a time, neighbours neighbouring bytes; the last
 * n mod (16 / size) elements go one by one. */
#include "gpu.h"
#include "device.h"

namespace
{

enum { THREADS = 256 };

/* x - x is 0 for every finite x and NaN for all others. */
template <class T> __device__ __forceinline__ bool is_bad(T x)
{
    float f = to_f32(x);
    return f - f != 0.0f;
}

template <class T> __global__ void __launch_bounds__(THREADS) finite_vector(const T *x, int64_t n, int *flag)
{
    constexpr int N = vec16<T>::n;
    int64_t step = (int64_t)gridDim.x * THREADS, whole = n / N;
    bool bad = false;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < whole; i += step) {
        vec16<T> v = load16(x + i * N);
        for (int k = 0; k < N; k++) bad = bad || is_bad(v.v[k]);
    }
    int64_t i = whole * N + threadIdx.x;
    if (blockIdx.x == 0 && i < n) bad = bad || is_bad(x[i]);
    if (bad) atomicExch(flag, 1);
}

template <class T> cudaError_t launch(const void *x, int64_t n, int *flag, const qn__gpu *gpu, cudaStream_t stream)
{
    qn__args a = {};
    a.gpu = gpu;
    return LAUNCH(finite_vector<T>, (grid_for(&a, ceil_div(n, (int64_t)vec16<T>::n * THREADS), THREADS, 2)), (THREADS),
                  0, stream, static_cast<const T *>(x), n, flag);
}

} // namespace

cudaError_t qn__finite_launch(const void *x, qn_dtype dtype, int64_t n, int *flag, const qn__gpu *gpu,
                              cudaStream_t stream)
{
    return with_float(dtype, [&](auto t) { return launch<decltype(t)>(x, n, flag, gpu, stream); });
}

cudaError_t qn__finite_probe(void)
{
    cudaFuncAttributes a;
    return cudaFuncGetAttributes(&a, reinterpret_cast<const void *>(finite_vector<float>));
}
