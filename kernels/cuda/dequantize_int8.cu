/* dequantize_int8.cu - y = q scale.
 *
 * Compulsory bytes: one byte an element read, y written once, the scales. Groups and variants: quantize.h. */
#include "quantize.h"

template <class T, int VARIANT>
__global__ void __launch_bounds__(QUANTIZE_THREADS)
    dequantize_groups(T *y, const int8_t *q, const __grid_constant__ struct scaled s)
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
        struct bytes_of<N> v;
        load_bytes(v, q + i * N);
        if (VARIANT != QUANTIZE_COLUMNS) scales_of<N, VARIANT>(scale, s, i * N);
        vec16<T> out;
#pragma unroll
        for (int k = 0; k < N; k++) out.v[k] = from_f32<T>((float)v.v[k] * scale[k]);
        store16(y + i * N, out);
    }
    int64_t i = whole * N + threadIdx.x;
    if (blockIdx.x == 0 && i < s.count) y[i] = from_f32<T>((float)q[i] * s.scale[place_of(s, i).scale]);
}

static qn_status pick(const struct qn__args *a, struct qn__choice *c) { return pick_scaled(a, a->y.dtype, c); }

template <class T, int VARIANT> static cudaError_t launch_groups(const struct qn__step *s)
{
    const struct qn__args *a = &s->args;
    struct scaled by = scaled_of(a);
    unsigned grid = scaled_grid(a, VARIANT, vec16<T>::n, &by);
    return LAUNCH((dequantize_groups<T, VARIANT>), (grid), (QUANTIZE_THREADS), 0, s->queue->stream, (T *)a->y.data,
                  (const int8_t *)a->x[0].data, by);
}

static qn_status launch(const struct qn__step *s, qn_error *err)
{
    return launch_scaled(s, s->args.y.dtype, "dequantize_groups", err,
                         [&](auto t, auto v) { return launch_groups<decltype(t), decltype(v)::value>(s); });
}

static const char *const variants[] = { QUANTIZE_VARIANTS };
KERNEL(dequantize_int8) = { .variants = variants, .pick = pick, .launch = launch };
