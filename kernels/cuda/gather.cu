/* gather.cu - y[o][i][inner] = x[o][index[i]][inner], any element type: embeddings, labels, rows of a table.
 *
 * Compulsory bytes: the rows that are named read once, y written once, the index read once. Some lanes of a warp (a power
 * of two, as many as a row has units, at most 32) share a row, so an index is read once per row and lane, and the units
 * of a row, up to 16 bytes each, are read and written as neighbours. An index outside x leaves
 * bytes 0xFF (a float's NaN) and a fault. */
#include "index.h"

enum { THREADS = 256 };

struct table {
    struct divisor places;     /* rows of y per outer index */
    int64_t rows, size, units; /* rows of y; rows of x per outer index; units of a row */
    int32_t lanes_log2, wide, position;
};

template <class U>
__global__ void __launch_bounds__(THREADS)
    gather_rows(U *y, const U *x, const void *index, struct qn__fault *fault, const __grid_constant__ struct table t)
{
    int64_t step = (int64_t)gridDim.x * (THREADS >> t.lanes_log2);
    int lanes = 1 << t.lanes_log2, lane = (int)threadIdx.x & (lanes - 1);
    U marked;
    memset(&marked, 0xff, sizeof marked);
    for (int64_t r = (int64_t)blockIdx.x * (THREADS >> t.lanes_log2) + (threadIdx.x >> t.lanes_log2); r < t.rows;
         r += step) {
        int64_t o = quotient(t.places, r, false), i = r - o * t.places.by, at = index_at(index, t.wide, i);
        bool good = at >= 0 && at < t.size;
        const U *from = x + (o * t.size + (good ? at : 0)) * t.units;
        if (!good && lane == 0) wrong_index(fault, t.position, i, at, t.size);
#pragma unroll 4
        for (int64_t j = lane; j < t.units; j += lanes) y[r * t.units + j] = good ? from[j] : marked;
    }
}

static qn_status launch(const struct qn__step *s, qn_error *err)
{
    const struct qn__args *a = &s->args;
    const struct qn__axis_attr *attr = (const struct qn__axis_attr *)a->attr;
    int64_t size = (int64_t)qn_dtype_size(a->x[0].dtype), inner = size, outer = 1;
    if (a->y.count == 0) return QN_OK;
    for (int i = 0; i < attr->axis; i++) outer *= a->x[0].dim[i];
    for (int i = attr->axis + 1; i < a->x[0].rank; i++) inner *= a->x[0].dim[i];
    int64_t unit = unit_for(size, &inner, 1);
    struct table t = {};
    t.places = divisor_of(a->x[1].count);
    t.rows = outer * a->x[1].count;
    t.size = a->x[0].dim[attr->axis];
    t.units = inner / unit;
    t.wide = a->x[1].dtype == QN_I64;
    t.position = s->position;
    while (t.lanes_log2 < 5 && (1 << t.lanes_log2) < t.units) t.lanes_log2++;
    unsigned grid = grid_for(a, ceil_div(t.rows, THREADS >> t.lanes_log2), THREADS, 4);
    return qn__cuda_check(with_unit(unit,
                                    [&](auto u) {
                                        using U = decltype(u);
                                        return LAUNCH(gather_rows<U>, (grid), (THREADS), 0, s->queue->stream,
                                                      (U *)a->y.data, (const U *)a->x[0].data, a->x[1].data,
                                                      s->queue->fault, t);
                                    }),
                          "gather_rows", s, err);
}

static const char *const variants[] = { "rows", NULL };
KERNEL(gather) = { .variants = variants, .launch = launch };
