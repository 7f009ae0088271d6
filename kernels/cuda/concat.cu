/* concat.cu - operands one after the other along one axis, any element type: y[o][part of k][inner] = x_k[o][..].
 *
 * Compulsory bytes: every operand read once, y written once. One launch for all operands: a thread's place in a row of y
 * says which operand it comes from. Units of up to 16 bytes, as wide as all rows allow; neighbouring threads write
 * neighbouring units and, within an operand's part, read neighbouring ones. */
#include "index.h"

enum { THREADS = 256, EACH = 4 };

struct parts {
    struct divisor row; /* of y, in units */
    int32_t n, narrow;
    const void *x[QN_MAX_IN];
    int64_t begin[QN_MAX_IN + 1]; /* of each part in a row of y */
};

template <class U> static __device__ __forceinline__ U from_part(const struct parts &p, int64_t at)
{
    int64_t o = quotient(p.row, at, p.narrow), column = at - o * p.row.by;
    int k = 0;
    while (column >= p.begin[k + 1]) k++;
    return ((const U *)p.x[k])[o * (p.begin[k + 1] - p.begin[k]) + column - p.begin[k]];
}

template <class U>
__global__ void __launch_bounds__(THREADS) concat_rows(U *y, int64_t n, const __grid_constant__ struct parts p)
{
    int64_t step = (int64_t)gridDim.x * THREADS * EACH;
    for (int64_t at = (int64_t)blockIdx.x * THREADS * EACH + threadIdx.x; at < n; at += step) {
        U v[EACH];
#pragma unroll
        for (int k = 0; k < EACH; k++)
            if (at + k * THREADS < n) v[k] = from_part<U>(p, at + k * THREADS);
#pragma unroll
        for (int k = 0; k < EACH; k++)
            if (at + k * THREADS < n) y[at + k * THREADS] = v[k];
    }
}

static qn_status launch(const struct qn__step *s, qn_error *err)
{
    const struct qn__args *a = &s->args;
    const struct qn__axis_attr *attr = (const struct qn__axis_attr *)a->attr;
    int64_t size = (int64_t)qn_dtype_size(a->y.dtype), inner = size, bytes[QN_MAX_IN], row = 0;
    if (a->y.count == 0) return QN_OK;
    for (int i = attr->axis + 1; i < a->y.rank; i++) inner *= a->y.dim[i];
    for (int k = 0; k < a->n_in; k++) bytes[k] = a->x[k].dim[attr->axis] * inner;
    int64_t unit = unit_for(size, bytes, a->n_in);
    struct parts p = {};
    p.n = a->n_in;
    for (int k = 0; k < a->n_in; k++) {
        p.x[k] = a->x[k].data;
        p.begin[k + 1] = row += bytes[k] / unit;
    }
    p.row = divisor_of(row);
    int64_t n = a->y.count * size / unit;
    p.narrow = n < INT32_MAX;
    unsigned grid = grid_for(a, ceil_div(n, THREADS * EACH), THREADS, 4);
    return qn__cuda_check(with_unit(unit,
                                    [&](auto u) {
                                        using U = decltype(u);
                                        return LAUNCH(concat_rows<U>, (grid), (THREADS), 0, s->queue->stream,
                                                      (U *)a->y.data, n, p);
                                    }),
                          "concat_rows", s, err);
}

static const char *const variants[] = { "rows", NULL };
KERNEL(concat) = { .variants = variants, .launch = launch };
