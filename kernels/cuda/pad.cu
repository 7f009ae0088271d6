/* pad.cu - zeros around the operand, any element type.
 *
 * Compulsory bytes: x read once, y written once. Dimensions behind the last one with zeros are one run with it, so a row
 * of y is zeros, a run of x, zeros; units of up to 16 bytes where these three allow it. Threads go over y in order:
 * writes are neighbours, reads are neighbours within a run. */
#include "index.h"

enum { THREADS = 256, EACH = 4 };

/* Rows of y and the outer dimensions that say whether x has the row. */
struct rows {
    struct divisor row;   /* units of a row of y */
    int64_t before, copy; /* units of it that are zeros, then x */
    int32_t n, narrow;
    struct divisor outer[QN_MAX_DIMS];
    int64_t skip[QN_MAX_DIMS], size[QN_MAX_DIMS]; /* zeros before, and extent of x */
};

template <class U> static __device__ __forceinline__ U element(const struct rows &r, const U *x, int64_t at)
{
    int64_t row = quotient(r.row, at, r.narrow), column = at - row * r.row.by - r.before, from = 0, step = r.copy;
    bool inside = column >= 0 && column < r.copy;
    for (int k = r.n - 1; k >= 0; k--) {
        int64_t q = quotient(r.outer[k], row, r.narrow), i = row - q * r.outer[k].by - r.skip[k];
        inside = inside && i >= 0 && i < r.size[k];
        from += i * step;
        step *= r.size[k];
        row = q;
    }
    return inside ? x[from + column] : U();
}

template <class U>
__global__ void __launch_bounds__(THREADS) pad_rows(U *y, const U *x, int64_t n, const __grid_constant__ struct rows r)
{
    int64_t step = (int64_t)gridDim.x * THREADS * EACH;
    for (int64_t at = (int64_t)blockIdx.x * THREADS * EACH + threadIdx.x; at < n; at += step) {
        U v[EACH];
#pragma unroll
        for (int k = 0; k < EACH; k++) v[k] = element(r, x, at + k * THREADS); /* past the end: not stored */
#pragma unroll
        for (int k = 0; k < EACH; k++)
            if (at + k * THREADS < n) y[at + k * THREADS] = v[k];
    }
}

/* In bytes first, then in units. */
static int64_t rows_of(const struct qn__args *a, struct rows *r)
{
    const struct qn__pad_attr *attr = (const struct qn__pad_attr *)a->attr;
    int i = a->y.rank - 1;
    int64_t size = (int64_t)qn_dtype_size(a->y.dtype), run = size, all = size;
    while (i > 0 && attr->before[i] == 0 && attr->after[i] == 0) run *= a->x[0].dim[i--];
    r->copy = all = run;
    if (i >= 0) {
        r->before = attr->before[i] * run;
        r->copy = a->x[0].dim[i] * run;
        all = a->y.dim[i] * run;
    }
    int64_t bytes[] = { r->before, r->copy, all }, unit = unit_for(size, bytes, 3);
    r->before /= unit;
    r->copy /= unit;
    r->row = divisor_of(all / unit);
    r->n = i > 0 ? i : 0;
    for (int k = 0; k < r->n; k++) {
        r->outer[k] = divisor_of(a->y.dim[k]);
        r->skip[k] = attr->before[k];
        r->size[k] = a->x[0].dim[k];
    }
    return unit;
}

static qn_status launch(const struct qn__step *s, qn_error *err)
{
    const struct qn__args *a = &s->args;
    if (a->y.count == 0) return QN_OK;
    struct rows r = {};
    int64_t unit = rows_of(a, &r), n = a->y.count * (int64_t)qn_dtype_size(a->y.dtype) / unit;
    r.narrow = n < INT32_MAX;
    unsigned grid = grid_for(a, ceil_div(n, THREADS * EACH), THREADS, 4);
    return qn__cuda_check(with_unit(unit,
                                    [&](auto u) {
                                        using U = decltype(u);
                                        return LAUNCH(pad_rows<U>, (grid), (THREADS), 0, s->queue->stream,
                                                      (U *)a->y.data, (const U *)a->x[0].data, n, r);
                                    }),
                          "pad_rows", s, err);
}

static const char *const variants[] = { "rows", NULL };
KERNEL(pad) = { .variants = variants, .launch = launch };
