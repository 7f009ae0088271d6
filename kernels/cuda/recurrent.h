/* recurrent.h - what the cells share: a thread works on N neighbours of a row of states, from the gates of the same
 * place.
 *
 *   vector  N elements are 16 bytes, and every row starts at a multiple of 16 bytes
 *   scalar  any other size of the state: one element a thread
 *
 * Either way neighbouring threads move neighbouring bytes. A thread reads all that it needs before it writes, so a
 * result may lie on an operand of its size. */
#ifndef QN_KERNELS_CUDA_RECURRENT_H
#define QN_KERNELS_CUDA_RECURRENT_H
#include "gpu.h"
#include "cuda.h"
#include "dispatch.h"
#include "index.h"
#include "rows.h"
#include <math.h>

enum { CELLS_VECTOR, CELLS_SCALAR, CELLS_THREADS = 256 };
#define CELLS_VARIANTS "vector", "scalar", NULL

/* [rows, width] states in groups of N. */
struct cells {
    struct divisor groups; /* in a row */
    int64_t width, n;      /* of a row; groups in all */
    int32_t narrow;
};
static inline struct cells cells_of(const struct qn__view *state, int64_t group)
{
    struct cells c = {};
    c.width = state->dim[1];
    c.n = state->count / group;
    c.groups = divisor_of(c.width / group);
    c.narrow = state->count < INT32_MAX;
    return c;
}
static inline qn_status pick_cells(const struct qn__view *state, struct qn__choice *c)
{
    if (!is_cuda_float(state->dtype)) return QN_EUSAGE;
    c->variant = state->dim[1] * (int64_t)qn_dtype_size(state->dtype) % 16 ? CELLS_SCALAR : CELLS_VECTOR;
    return QN_OK;
}
static inline unsigned cells_grid(const struct qn__args *a, const struct cells &c)
{
    return grid_for(a, ceil_div(c.n, CELLS_THREADS), CELLS_THREADS, 4);
}

/* Calls f(t, n), t a value of the storage type and n the elements of a group as the step's variant has them. */
template <class F>
static inline qn_status launch_cells(const struct qn__step *s, const char *kernel, qn_error *err, F f)
{
    if (!s->args.y.count) return QN_OK;
    bool vector = s->choice.variant == CELLS_VECTOR;
    cudaError_t answer = with_float(s->args.y.dtype, [&](auto t) {
        return vector ? f(t, number<vec16<decltype(t)>::n>()) : f(t, number<1>());
    });
    return qn__cuda_check(answer, kernel, s, err);
}

/* Where gate 0 of group i is, if there are `gates` of them. */
static __device__ __forceinline__ int64_t gates_at(const struct cells &c, int64_t i, int gates, int group)
{
    int64_t row = quotient(c.groups, i, c.narrow);
    return (row * (gates - 1) * c.groups.by + i) * group;
}

template <class T, int N> static __device__ __forceinline__ void load_floats(float (&v)[N], const T *p)
{
    pack<T, N> w;
    w.load(p);
#pragma unroll
    for (int k = 0; k < N; k++) v[k] = to_f32(w.v[k]);
}
template <class T, int N> static __device__ __forceinline__ void store_floats(T *p, const float (&v)[N])
{
    pack<T, N> w;
#pragma unroll
    for (int k = 0; k < N; k++) w.v[k] = from_f32<T>(v[k]);
    w.store(p);
}

/* Pre-activations; `more`, added to them, may be NULL. */
template <class T, int N>
static __device__ __forceinline__ void load_gate(float (&v)[N], const void *gates, const void *more, int64_t at)
{
    load_floats(v, (const T *)gates + at);
    if (!more) return;
    float w[N];
    load_floats(w, (const T *)more + at);
#pragma unroll
    for (int k = 0; k < N; k++) v[k] += w[k];
}

/* 1 / (1 + e^-a); the division is within 2 ulp (CUDA C++ Programming Guide, "Intrinsic Functions"), and 0 where the
 * divisor is above 2^126, as the result then is to within its bound. */
static __device__ __forceinline__ float logistic(float a) { return __fdividef(1.0f, 1.0f + expf(-a)); }
#endif
