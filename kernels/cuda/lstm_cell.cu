/* lstm_cell.cu - gates [B,4H] i, f, g, o (and a second such, added), c [B,H] -> h' = s(o) tanh c'; if wanted
 * c' = s(f) c + s(i) tanh g. s: logistic function.
 *
 * Compulsory bytes: gates, second gates and c read once, h' and c' written once. Variants: recurrent.h. */
#include "recurrent.h"

struct lstm {
    struct cells cells;
    const void *gates, *more, *c;
    void *h, *next; /* more and next may be NULL */
};

template <class T, int N>
__global__ void __launch_bounds__(CELLS_THREADS) lstm_groups(const __grid_constant__ struct lstm p)
{
    int64_t step = (int64_t)gridDim.x * CELLS_THREADS, width = p.cells.width;
    for (int64_t g = (int64_t)blockIdx.x * CELLS_THREADS + threadIdx.x; g < p.cells.n; g += step) {
        int64_t at = gates_at(p.cells, g, 4, N);
        float i[N], f[N], new_c[N], o[N], c[N];
        load_gate<T>(i, p.gates, p.more, at);
        load_gate<T>(f, p.gates, p.more, at + width);
        load_gate<T>(new_c, p.gates, p.more, at + 2 * width);
        load_gate<T>(o, p.gates, p.more, at + 3 * width);
        load_floats(c, (const T *)p.c + g * N);
#pragma unroll
        for (int k = 0; k < N; k++) {
            c[k] = logistic(f[k]) * c[k] + logistic(i[k]) * tanhf(new_c[k]);
            o[k] = logistic(o[k]) * tanhf(c[k]);
        }
        if (p.next) store_floats((T *)p.next + g * N, c);
        store_floats((T *)p.h + g * N, o);
    }
}

static qn_status pick(const struct qn__args *a, struct qn__choice *c) { return pick_cells(&a->x[1], c); }

template <class T, int N> static cudaError_t launch_groups(const struct qn__step *s)
{
    const struct qn__args *a = &s->args;
    struct lstm p = {};
    p.cells = cells_of(&a->x[1], N);
    p.gates = a->x[0].data;
    p.c = a->x[1].data;
    p.more = a->n_in == 3 ? a->x[2].data : NULL;
    p.h = a->y.data;
    p.next = a->more[0].data;
    return LAUNCH((lstm_groups<T, N>), (cells_grid(a, p.cells)), (CELLS_THREADS), 0, s->queue->stream, p);
}

static qn_status launch(const struct qn__step *s, qn_error *err)
{
    return launch_cells(s, "lstm_groups", err,
                        [&](auto t, auto n) { return launch_groups<decltype(t), decltype(n)::value>(s); });
}

static const char *const variants[] = { CELLS_VARIANTS };
KERNEL(lstm_cell) = { .variants = variants, .pick = pick, .launch = launch };
