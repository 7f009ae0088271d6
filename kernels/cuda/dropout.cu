/* dropout.cu - y = x / (1-p) where the mask keeps, else 0; x [N,..] plain. y may be x.
 *
 * Compulsory bytes: x read once, y written once; the mask is drawn again, never stored. Element e of global sample n at
 * step t is kept if word e mod 4 of Philox(key, e/4, n, n >> 32, t) is at least p 2^32, as on the CPU, bit for bit. A
 * draw gives four words: about 70 instructions for 32 bytes moved in f32.
 *
 * vector: a thread has one or two draws, as many as fill 16 bytes, or 8 where a sample of 16-bit elements is no multiple
 *   of that.
 * scalar: samples that are no multiple of four elements: a thread for each, so that neighbours move neighbours; it draws
 *   the words of its group of four and uses one of them. */
#include "../../core/philox.h"
#include "gpu.h"
#include "cuda.h"
#include "index.h"

enum { VECTOR, SCALAR, THREADS = 256, DRAW = 4 };

struct mask {
    const int64_t *rng;
    uint64_t name;
    uint32_t threshold;
    float scale;
    struct divisor pieces; /* of a sample: draws, or elements */
    int64_t each, n;       /* elements of a sample; pieces in all */
    int32_t narrow;
};

/* The words of elements 4 piece.. of a sample. */
static __device__ __forceinline__ struct qn__words draw(const struct mask &m, int64_t sample, int64_t piece)
{
    uint64_t key = qn__stream_key((uint64_t)m.rng[0], m.name), at = (uint64_t)(m.rng[2] + sample);
    return qn__philox(key, (uint32_t)piece, (uint32_t)at, (uint32_t)(at >> 32), (uint32_t)m.rng[1]);
}

/* N elements, at an address that is a multiple of their size. */
template <class T, int N> struct alignas(N * sizeof(T)) piece {
    T v[N];
};

template <class T, int N>
__global__ void __launch_bounds__(THREADS) dropout_vector(T *y, const T *x, const __grid_constant__ struct mask m)
{
    int64_t step = (int64_t)gridDim.x * THREADS;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < m.n; i += step) {
        int64_t sample = quotient(m.pieces, i, m.narrow), at = (i - sample * m.pieces.by) * (N / DRAW);
        struct piece<T, N> p = ((const struct piece<T, N> *)x)[i];
#pragma unroll
        for (int k = 0; k < N / DRAW; k++) {
            struct qn__words w = draw(m, sample, at + k);
#pragma unroll
            for (int j = 0; j < DRAW; j++) {
                float v = to_f32(p.v[DRAW * k + j]) * m.scale;
                p.v[DRAW * k + j] = from_f32<T>(w.w[j] >= m.threshold ? v : 0.0f);
            }
        }
        ((struct piece<T, N> *)y)[i] = p;
    }
}

template <class T>
__global__ void __launch_bounds__(THREADS) dropout_scalar(T *y, const T *x, const __grid_constant__ struct mask m)
{
    int64_t step = (int64_t)gridDim.x * THREADS;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < m.n; i += step) {
        int64_t sample = quotient(m.pieces, i, m.narrow), at = i - sample * m.pieces.by;
        struct qn__words w = draw(m, sample, at / DRAW);
        int which = (int)(at % DRAW);
        uint32_t word = which < 2 ? which == 0 ? w.w[0] : w.w[1] : which == 2 ? w.w[2] : w.w[3];
        float v = to_f32(x[i]) * m.scale;
        y[i] = from_f32<T>(word >= m.threshold ? v : 0.0f);
    }
}

static int64_t sample_size(const struct qn__args *a) { return a->y.dim[0] ? a->y.count / a->y.dim[0] : 0; }

static qn_status pick(const struct qn__args *a, struct qn__choice *c)
{
    c->variant = sample_size(a) % DRAW ? SCALAR : VECTOR;
    /* the element counter has 32 bits for groups of four */
    return is_cuda_float(a->y.dtype) && sample_size(a) < (int64_t)1 << 34 ? QN_OK : QN_EUSAGE;
}

template <class T, int N> static cudaError_t launch_vector(const struct qn__step *s, struct mask m)
{
    m.pieces = divisor_of(m.each / N);
    m.n = s->args.y.count / N;
    return LAUNCH((dropout_vector<T, N>), (grid_for(&s->args, ceil_div(m.n, THREADS), THREADS, 4)), (THREADS), 0,
                  s->queue->stream, (T *)s->args.y.data, (const T *)s->args.x[0].data, m);
}

template <class T> static cudaError_t launch_scalar(const struct qn__step *s, struct mask m)
{
    m.pieces = divisor_of(m.each);
    m.n = s->args.y.count;
    return LAUNCH(dropout_scalar<T>, (grid_for(&s->args, ceil_div(m.n, THREADS), THREADS, 4)), (THREADS), 0,
                  s->queue->stream, (T *)s->args.y.data, (const T *)s->args.x[0].data, m);
}

static qn_status launch(const struct qn__step *s, qn_error *err)
{
    const struct qn__args *a = &s->args;
    const struct qn__dropout_attr *attr = (const struct qn__dropout_attr *)a->attr;
    if (a->y.count == 0) return QN_OK;
    struct mask m = {};
    m.rng = (const int64_t *)a->x[1].data;
    m.name = attr->name_hash;
    m.threshold = (uint32_t)(attr->p * 0x1p32);
    m.scale = (float)(1 / (1 - attr->p));
    m.each = sample_size(a);
    m.narrow = a->y.count < INT32_MAX;
    bool vector = s->choice.variant == VECTOR;
    return qn__cuda_check(with_float(a->y.dtype,
                                     [&](auto t) {
                                         using T = decltype(t);
                                         constexpr int N = vec16<T>::n;
                                         if (!vector) return launch_scalar<T>(s, m);
                                         return m.each % N ? launch_vector<T, DRAW>(s, m) : launch_vector<T, N>(s, m);
                                     }),
                          vector ? "dropout_vector" : "dropout_scalar", s, err);
}

static const char *const variants[] = { "vector", "scalar", NULL };
KERNEL(dropout) = { .variants = variants, .pick = pick, .launch = launch };
