/* sum_squares.cu - y = sum of x^2 over everything: the norm of a gradient.
 *
 * Compulsory bytes: x read once. All gradients of a model go into one launch (tensors.h): each chunk leaves its sum, a
 * second launch adds those of each tensor in a fixed order. */
#include "tensors.h"

namespace
{

struct tensor {
    const void *x;
    void *y;
    exact_sum *part; /* for each chunk */
    int64_t n;
};
struct batch {
    qn__tensor_chunks chunks;
    tensor t[QN_TENSORS_MAX];
};
static_assert(sizeof(batch) <= 4096, "kernel parameters are at most 4 KB");

/* x^2 into sum; what would vanish below the range of float is kept aside times 2^128 (Blue 1978). */
struct squares {
    exact_sum sum;
    float small = 0.0f;
    __device__ __forceinline__ void add(float x)
    {
        float up = x * 0x1p64f;
        bool tiny = fabsf(x) < 0x1p-50f;
        sum.add_product(tiny ? 0.0f : x, tiny ? 0.0f : x);
        small += tiny ? up * up : 0.0f;
    }
};

template <class T> __global__ void __launch_bounds__(QN_CHUNK_THREADS) sum_squares_chunks(const batch p)
{
    CU_SHARED(float, part, [64]);
    int which = tensor_of(p.chunks, blockIdx.x), chunk = (int)blockIdx.x - p.chunks.first[which];
    const tensor &t = p.t[which];
    const T *x = static_cast<const T *>(t.x);
    constexpr int N = vec16<T>::n;
    int64_t begin = (int64_t)chunk * QN_CHUNK, end = begin + QN_CHUNK < t.n ? begin + QN_CHUNK : t.n;
    squares own;
#pragma unroll 2
    for (int64_t i = begin + threadIdx.x * N; i < end; i += QN_CHUNK_THREADS * N) {
        if (i + N <= end) {
            vec16<T> v = load16(x + i);
#pragma unroll
            for (int k = 0; k < N; k++) own.add(to_f32(v.v[k]));
        } else {
            for (int64_t k = i; k < end; k++) own.add(to_f32(x[k]));
        }
    }
    exact_sum sum = block_sum(own.sum, part);
    __syncthreads();
    float small = block_sum(own.small, part);
    sum.add(small * 0x1p-64f * 0x1p-64f);
    if (threadIdx.x == 0) t.part[chunk] = sum;
}

template <class T> __global__ void __launch_bounds__(QN_CHUNK_THREADS) sum_squares_join(const batch p)
{
    CU_SHARED(float, part, [64]);
    const tensor &t = p.t[blockIdx.x];
    int chunks = p.chunks.first[blockIdx.x + 1] - p.chunks.first[blockIdx.x];
    exact_sum sum;
    for (int i = threadIdx.x; i < chunks; i += QN_CHUNK_THREADS) sum.join(t.part[i]);
    sum = block_sum(sum, part);
    if (threadIdx.x == 0) *static_cast<T *>(t.y) = from_f32<T>(sum.value());
}

int fill_batch(batch &p, const qn__step *const *steps, int n)
{
    p = {};
    int used = 0;
    for (; used < n && p.chunks.n < QN_TENSORS_MAX; used++) {
        const qn__args &a = steps[used]->args;
        if (a.y.dtype != steps[0]->args.y.dtype) break;
        int at = p.chunks.n++;
        p.t[at] = { a.x[0].data, a.y.data, static_cast<exact_sum *>(steps[used]->workspace), a.x[0].count };
        p.chunks.first[at + 1] = p.chunks.first[at] + chunks_of(a.x[0].count);
    }
    return used;
}

qn_status launch_many(const qn__step *const *steps, int n, qn_error *err)
{
    for (int at = 0; at < n;) {
        batch p;
        const qn__step *s = steps[at];
        cudaStream_t stream = s->queue->stream;
        at += fill_batch(p, steps + at, n - at);
        int chunks = p.chunks.first[p.chunks.n], tensors = p.chunks.n;
        cudaError_t answer = with_float(s->args.y.dtype, [&](auto t) {
            using T = decltype(t);
            cudaError_t e = cudaSuccess;
            if (chunks) e = LAUNCH(sum_squares_chunks<T>, ((unsigned)chunks), (QN_CHUNK_THREADS), 0, stream, p);
            if (e == cudaSuccess)
                e = LAUNCH(sum_squares_join<T>, ((unsigned)tensors), (QN_CHUNK_THREADS), 0, stream, p);
            return e;
        });
        QN_TRY(qn__cuda_check(answer, "sum_squares", s, err));
    }
    return QN_OK;
}
qn_status launch(const qn__step *s, qn_error *err) { return launch_many(&s, 1, err); }

qn_status pick(const qn__args *a, qn__choice *c)
{
    c->workspace = sizeof(exact_sum) * (size_t)chunks_of(a->x[0].count);
    return is_cuda_float(a->y.dtype) && a->x[0].dtype == a->y.dtype ? QN_OK : QN_EUSAGE;
}

const char *const variants[] = { "tensors", NULL };

} // namespace

KERNEL(sum_squares) = { .variants = variants, .pick = pick, .launch = launch, .launch_many = launch_many };
