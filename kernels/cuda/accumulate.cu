/* accumulate.cu - dst += src, the gradient of a micro-batch onto the sum of those before.
 *
 * Compulsory bytes: read dst, read src, write dst: 3 n elements. Each thread moves 16 bytes at a time, neighbouring
 * threads neighbouring 16 bytes, so every 32-byte sector is touched once; the last n mod (16 / size) elements go one
 * by one. */
#include "gpu.h"
#include "cuda.h"

enum { THREADS = 256 };

template <class T> __global__ void __launch_bounds__(THREADS) accumulate_vector(T *dst, const T *src, int64_t n)
{
    constexpr int N = vec16<T>::n;
    int64_t step = (int64_t)gridDim.x * THREADS, whole = n / N;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < whole; i += step) {
        vec16<T> d = load16(dst + i * N), s = load16(src + i * N);
        for (int k = 0; k < N; k++) d.v[k] = from_f32<T>(to_f32(d.v[k]) + to_f32(s.v[k]));
        store16(dst + i * N, d);
    }
    int64_t i = whole * N + threadIdx.x;
    if (blockIdx.x == 0 && i < n) dst[i] = from_f32<T>(to_f32(dst[i]) + to_f32(src[i]));
}

/* Whole numbers wrap. They are counters and masks, never many. */
template <class T> __global__ void __launch_bounds__(THREADS) accumulate_integers(T *dst, const T *src, int64_t n)
{
    int64_t step = (int64_t)gridDim.x * THREADS;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < n; i += step) dst[i] += src[i];
}

enum { VECTOR, INTEGERS };

static qn_status pick(const struct qn__args *a, struct qn__choice *c)
{
    c->variant = is_cuda_float(a->y.dtype) ? VECTOR : INTEGERS;
    bool known = c->variant == VECTOR || a->y.dtype == QN_I32 || a->y.dtype == QN_I64;
    return known && a->x[1].dtype == a->y.dtype ? QN_OK : QN_EUSAGE;
}

static qn_status launch_integers(const struct qn__step *s, qn_error *err)
{
    const struct qn__args *a = &s->args;
    unsigned grid = grid_for(a, ceil_div(a->y.count, THREADS), THREADS, 2);
    cudaStream_t stream = s->queue->stream;
    cudaError_t answer = a->y.dtype == QN_I64
                             ? LAUNCH(accumulate_integers<uint64_t>, (grid), (THREADS), 0, stream,
                                      (uint64_t *)a->x[0].data, (const uint64_t *)a->x[1].data, a->y.count)
                             : LAUNCH(accumulate_integers<uint32_t>, (grid), (THREADS), 0, stream,
                                      (uint32_t *)a->x[0].data, (const uint32_t *)a->x[1].data, a->y.count);
    return qn__cuda_check(answer, "accumulate_integers", s, err);
}

static qn_status launch(const struct qn__step *s, qn_error *err)
{
    const struct qn__args *a = &s->args;
    if (!a->y.count) return QN_OK;
    if (s->choice.variant == INTEGERS) return launch_integers(s, err);
    return qn__cuda_check(with_float(a->y.dtype,
                                     [&](auto t) {
                                         using T = decltype(t);
                                         int64_t pieces = ceil_div(a->y.count, (int64_t)vec16<T>::n * THREADS);
                                         return LAUNCH(accumulate_vector<T>, (grid_for(a, pieces, THREADS, 2)),
                                                       (THREADS), 0, s->queue->stream, (T *)a->x[0].data,
                                                       (const T *)a->x[1].data, a->y.count);
                                     }),
                          "accumulate_vector", s, err);
}

static const char *const variants[] = { "vector", "integers", NULL };
KERNEL(accumulate) = { .variants = variants, .pick = pick, .launch = launch };
