/* gru_cell.cu - gates p, q [B,3H] r, z, n; h [B,H] -> h' = (1 - z) n + z h, r = s(p_r + q_r), z = s(p_z + q_z),
 * n = tanh(p_n + r q_n). s: logistic function.
 *
 * Compulsory bytes: gates and h read once, h' written once. Variants: recurrent.h. */
#include "recurrent.h"

struct gru {
    struct cells cells;
    const void *p, *q, *h;
    void *y;
};

template <class T, int N>
__global__ void __launch_bounds__(CELLS_THREADS) gru_groups(const __grid_constant__ struct gru a)
{
    int64_t step = (int64_t)gridDim.x * CELLS_THREADS, width = a.cells.width;
    for (int64_t g = (int64_t)blockIdx.x * CELLS_THREADS + threadIdx.x; g < a.cells.n; g += step) {
        int64_t at = gates_at(a.cells, g, 3, N);
        float r[N], z[N], p[N], q[N], h[N];
        load_gate<T>(r, a.p, a.q, at);
        load_gate<T>(z, a.p, a.q, at + width);
        load_floats(p, (const T *)a.p + at + 2 * width);
        load_floats(q, (const T *)a.q + at + 2 * width);
        load_floats(h, (const T *)a.h + g * N);
#pragma unroll
        for (int k = 0; k < N; k++) {
            float sz = logistic(z[k]), n = tanhf(p[k] + logistic(r[k]) * q[k]);
            h[k] = (1.0f - sz) * n + sz * h[k];
        }
        store_floats((T *)a.y + g * N, h);
    }
}

static qn_status pick(const struct qn__args *a, struct qn__choice *c) { return pick_cells(&a->x[2], c); }

template <class T, int N> static cudaError_t launch_groups(const struct qn__step *s)
{
    const struct qn__args *a = &s->args;
    struct gru g = { cells_of(&a->x[2], N), a->x[0].data, a->x[1].data, a->x[2].data, a->y.data };
    return LAUNCH((gru_groups<T, N>), (cells_grid(a, g.cells)), (CELLS_THREADS), 0, s->queue->stream, g);
}

static qn_status launch(const struct qn__step *s, qn_error *err)
{
    return launch_cells(s, "gru_groups", err,
                        [&](auto t, auto n) { return launch_groups<decltype(t), decltype(n)::value>(s); });
}

static const char *const variants[] = { CELLS_VARIANTS };
KERNEL(gru_cell) = { .variants = variants, .pick = pick, .launch = launch };
