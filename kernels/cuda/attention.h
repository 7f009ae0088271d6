/* attention.h - what the kernels of attention and of its gradient share: where heads lie, who sees whom,.
 * The attributes and the meaning of l are those of core/ops/attention.c. Scores are kept in base 2: the scale has a
 * factor log2 e, so that a softmax is powers of two. */
#ifndef QN_KERNELS_CUDA_ATTENTION_H
#define QN_KERNELS_CUDA_ATTENTION_H
#include "gpu.h"
#include "cuda.h"
#include <math.h>

namespace attention
{

enum { TILED, TENSOR }; /* variants: attention_tile.h, attention_tensor.h */
constexpr float LOG2_E = 1.4426950408889634f, LN_2 = 0.6931471805599453f;

/* Heads of a tensor: element d of time t of head n (batch included) is of(n)[t row + d]. */
template <class T> struct lanes {
    T *data; /* NULL: nobody reads this result */
    int64_t batch, head, row;
    int32_t heads;

    __device__ __forceinline__ T *of(int n) const { return data + n / heads * batch + n % heads * head; }
};

struct shape {
    int32_t batch, heads, kv_heads, queries, keys, size, causal;
    int32_t vector; /* heads begin at multiples of 16 bytes and have no remainder */
    float scale;

    /* Keys that query t sees: the first so many; none if that is below 0. */
    __device__ __forceinline__ int seen(int t) const
    {
        int n = causal ? t + keys - queries + 1 : keys;
        return n < keys ? n : keys;
    }
    /* The head of k that head n of q uses; batch included. */
    __device__ __forceinline__ int kv_of(int n) const { return n / (heads / kv_heads); }
};

static inline bool is_packed(const qn__args *a) { return ((const qn__attention_attr *)a->attr)->heads != 0; }

/* false: too large */
static inline bool shape_of(const qn__args *a, shape *s)
{
    const qn__attention_attr *attr = (const qn__attention_attr *)a->attr;
    const int64_t *q = a->x[0].dim, *k = a->x[1].dim;
    bool packed = is_packed(a);
    int64_t heads = packed ? attr->heads : q[1], kv = packed ? attr->kv_heads : k[1];
    int64_t queries = packed ? q[1] : q[2], keys = packed ? q[1] : k[2];
    int64_t size = packed ? q[2] / (heads + 2 * kv) : q[3], longest = queries > keys ? queries : keys;
    if (longest > INT32_MAX / 2 || size > INT32_MAX / 2 || heads > INT32_MAX / 2 || q[0] > INT32_MAX / 2) return false;
    if (q[0] * heads > 0 && ceil_div(longest, 64) > INT32_MAX / (q[0] * heads)) return false;
    *s = { (int32_t)q[0],     (int32_t)heads, (int32_t)kv,  (int32_t)queries,
           (int32_t)keys,     (int32_t)size,  attr->causal, size * (int64_t)qn_dtype_size(a->x[0].dtype) % 16 == 0,
           (float)attr->scale };
    return true;
}

template <class T> lanes<T> lanes_of(const qn__view *v, const shape &s, int64_t heads, int64_t times, bool packed)
{
    int64_t size = s.size;
    if (packed) return { (T *)v->data, times * heads * size, size, heads * size, (int32_t)heads };
    return { (T *)v->data, heads * times * size, times * size, size, (int32_t)heads };
}
/* q, k and v as operands, or their gradients as results: one view each, or all packed in the first */
template <class T> void lanes_of_qkv(lanes<T> (&to)[3], const qn__view *const (&v)[3], const shape &s, bool packed)
{
    if (!packed) {
        to[0] = lanes_of<T>(v[0], s, s.heads, s.queries, false);
        to[1] = lanes_of<T>(v[1], s, s.kv_heads, s.keys, false);
        to[2] = lanes_of<T>(v[2], s, s.kv_heads, s.keys, false);
        return;
    }
    int64_t size = s.size, row = (s.heads + 2 * (int64_t)s.kv_heads) * size;
    int64_t at[] = { 0, s.heads * size, (s.heads + (int64_t)s.kv_heads) * size };
    for (int i = 0; i < 3; i++)
        to[i] = { (T *)v[0]->data + at[i], s.queries * row, size, row, i ? s.kv_heads : s.heads };
}

template <class T> struct forward {
    lanes<T> q, k, v, y;
    float *l; /* may be NULL */
    shape s;
};
template <class T> forward<T> forward_of(const qn__args *a)
{
    forward<T> f = {};
    lanes<T> x[3];
    shape_of(a, &f.s);
    lanes_of_qkv<T>(x, { &a->x[0], &a->x[1], &a->x[2] }, f.s, is_packed(a));
    f.q = x[0];
    f.k = x[1];
    f.v = x[2];
    f.y = lanes_of<T>(&a->y, f.s, f.s.heads, f.s.queries, is_packed(a));
    f.l = (float *)a->more[0].data;
    return f;
}

template <class T> struct backward {
    lanes<T> q, k, v, y, dy, dq, dk, dv;
    const float *l;
    float *d; /* sum of dy y for each query: written by the pass along the keys, read by the other */
    shape s;
};
template <class T> backward<T> backward_of(const qn__args *a, void *workspace)
{
    backward<T> b = {};
    lanes<T> x[3], dx[3];
    bool packed = is_packed(a);
    int n = a->n_in - 3;
    shape_of(a, &b.s);
    lanes_of_qkv<T>(x, { &a->x[0], &a->x[1], &a->x[2] }, b.s, packed);
    lanes_of_qkv<T>(dx, { &a->y, &a->more[0], &a->more[1] }, b.s, packed);
    b.q = x[0];
    b.k = x[1];
    b.v = x[2];
    b.dq = dx[0];
    b.dk = dx[1];
    b.dv = dx[2];
    b.y = lanes_of<T>(&a->x[n], b.s, b.s.heads, b.s.queries, packed);
    b.dy = lanes_of<T>(&a->x[n + 2], b.s, b.s.heads, b.s.queries, packed);
    b.l = (const float *)a->x[n + 1].data;
    b.d = (float *)workspace;
    return b;
}

} // namespace attention
#endif
