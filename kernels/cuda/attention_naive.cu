/* attention_naive.cu - the lowest rung of attention's ladder: scores, softmax and sums by three kernels, one thread for
 * each score, row and result, the matrix of scores in memory. pick never chooses it. */
#include "attention.h"

using namespace attention;

namespace
{

enum { THREADS = 256 };

__device__ __forceinline__ int64_t own_index() { return (int64_t)blockIdx.x * THREADS + threadIdx.x; }

/* p [B H,T,S] */
template <class T>
__global__ void __launch_bounds__(THREADS) scores_naive(float *p, const __grid_constant__ forward<T> f)
{
    const shape &s = f.s;
    int64_t i = own_index(), row = i / s.keys;
    if (row >= (int64_t)s.batch * s.heads * s.queries) return;
    int head = (int)(row / s.queries), query = (int)(row % s.queries), key = (int)(i % s.keys);
    const T *q = f.q.of(head) + query * f.q.row, *k = f.k.of(s.kv_of(head)) + key * f.k.row;
    float sum = 0.0f;
    for (int d = 0; d < s.size; d++) sum += to_f32(q[d]) * to_f32(k[d]);
    p[i] = key < s.seen(query) ? sum * s.scale : -INFINITY;
}

__global__ void __launch_bounds__(THREADS) softmax_scores_naive(float *p, int64_t rows, int keys)
{
    int64_t row = own_index();
    if (row >= rows) return;
    p += row * keys;
    float m = -INFINITY, sum = 0.0f;
    for (int j = 0; j < keys; j++) m = fmaxf(m, p[j]);
    for (int j = 0; j < keys; j++) sum += expf(p[j] - m);
    for (int j = 0; j < keys; j++) p[j] = expf(p[j] - m) / sum;
}

template <class T>
__global__ void __launch_bounds__(THREADS) values_naive(const float *p, const __grid_constant__ forward<T> f)
{
    const shape &s = f.s;
    int64_t i = own_index(), row = i / s.size;
    if (row >= (int64_t)s.batch * s.heads * s.queries) return;
    int head = (int)(row / s.queries), query = (int)(row % s.queries), d = (int)(i % s.size);
    const T *v = f.v.of(s.kv_of(head)) + d;
    float sum = 0.0f;
    for (int j = 0; j < s.keys; j++) sum += p[row * s.keys + j] * to_f32(v[j * f.v.row]);
    f.y.of(head)[query * f.y.row + d] = from_f32<T>(sum);
}

int64_t rows_of(const shape &s) { return (int64_t)s.batch * s.heads * s.queries; }
unsigned blocks(int64_t n) { return (unsigned)ceil_div(n, THREADS); }

template <class T> cudaError_t launch_as(const qn__step *step)
{
    forward<T> f = forward_of<T>(&step->args);
    float *p = (float *)step->workspace;
    cudaStream_t stream = step->queue->stream;
    int64_t rows = rows_of(f.s);
    cudaError_t answer = LAUNCH(scores_naive<T>, (blocks(rows * f.s.keys)), (THREADS), 0, stream, p, f);
    if (answer != cudaSuccess) return answer;
    answer = LAUNCH(softmax_scores_naive, (blocks(rows)), (THREADS), 0, stream, p, rows, f.s.keys);
    if (answer != cudaSuccess) return answer;
    return LAUNCH(values_naive<T>, (blocks(rows * f.s.size)), (THREADS), 0, stream, p, f);
}

/* Every query must see a key; l is not written. */
qn_status pick(const qn__args *a, qn__choice *c)
{
    shape s;
    if (!is_cuda_float(a->y.dtype) || !shape_of(a, &s) || a->wanted || !s.keys || (s.causal && s.queries > s.keys))
        return QN_EUSAGE;
    for (int i = 0; i < a->n_in; i++)
        if (a->x[i].dtype != a->y.dtype) return QN_EUSAGE;
    if (rows_of(s) && s.keys > INT32_MAX / rows_of(s)) return QN_EUSAGE;
    c->variant = 0;
    c->workspace = sizeof(float) * (size_t)rows_of(s) * (size_t)s.keys;
    return QN_OK;
}

qn_status launch(const qn__step *s, qn_error *err)
{
    if (!s->args.y.count) return QN_OK;
    return qn__cuda_check(with_float(s->args.y.dtype, [&](auto t) { return launch_as<decltype(t)>(s); }),
                          "attention_naive", s, err);
}

const char *const variants[] = { "naive", NULL };

} // namespace

extern "C" const struct qn__kernel qn__naive_attention;
const struct qn__kernel qn__naive_attention = { .variants = variants, .pick = pick, .launch = launch };
