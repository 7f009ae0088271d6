/* quantize_int8.cu - q = x / scale to the nearest whole number, even if two are, within -127..127; NaN gives 0.
 *
 * Compulsory bytes: x read once, one byte an element written, the scales. Groups and variants: quantize.h. */
#include "quantize.h"

/* The division is the rounded one, so that ties are where the CPU has them. */
static __device__ __forceinline__ int8_t quantized(float x, float scale)
{
    float v = x / scale;
    v = v > 127.0f ? 127.0f : v < -127.0f ? -127.0f : v == v ? v : 0.0f;
    return (int8_t)__float2int_rn(v);
}

template <class T, int VARIANT>
__global__ void __launch_bounds__(QUANTIZE_THREADS)
    quantize_groups(int8_t *q, const T *x, const __grid_constant__ struct scaled s)
{
    constexpr int N = vec16<T>::n;
    int64_t first = (int64_t)blockIdx.x * QUANTIZE_THREADS + threadIdx.x, whole = s.count / N;
    float scale[N];
    if constexpr (VARIANT == QUANTIZE_COLUMNS) {
        CU_SHARED(float, shared, [column_scales<N>::room]);
        column_scales<N>::take(scale, shared, s);
    }
    if (first >= s.step) return; /* not a whole row */
    for (int64_t i = first; i < whole; i += s.step) {
        vec16<T> v = load16(x + i * N);
        if (VARIANT != QUANTIZE_COLUMNS) scales_of<N, VARIANT>(scale, s, i * N);
        struct bytes_of<N> out;
#pragma unroll
        for (int k = 0; k < N; k++) out.v[k] = quantized(to_f32(v.v[k]), scale[k]);
        store_bytes(q + i * N, out);
    }
    int64_t i = whole * N + threadIdx.x;
    if (blockIdx.x == 0 && i < s.count) q[i] = quantized(to_f32(x[i]), s.scale[place_of(s, i).scale]);
}

static qn_status pick(const struct qn__args *a, struct qn__choice *c) { return pick_scaled(a, a->x[0].dtype, c); }

template <class T, int VARIANT> static cudaError_t launch_groups(const struct qn__step *s)
{
    const struct qn__args *a = &s->args;
    struct scaled by = scaled_of(a);
    unsigned grid = scaled_grid(a, VARIANT, vec16<T>::n, &by);
    return LAUNCH((quantize_groups<T, VARIANT>), (grid), (QUANTIZE_THREADS), 0, s->queue->stream, (int8_t *)a->y.data,
                  (const T *)a->x[0].data, by);
}

static qn_status launch(const struct qn__step *s, qn_error *err)
{
    return launch_scaled(s, s->args.x[0].dtype, "quantize_groups", err,
                         [&](auto t, auto v) { return launch_groups<decltype(t), decltype(v)::value>(s); });
}

static const char *const variants[] = { QUANTIZE_VARIANTS };
KERNEL(quantize_int8) = { .variants = variants, .pick = pick, .launch = launch };
