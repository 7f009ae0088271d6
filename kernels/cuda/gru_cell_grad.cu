/* gru_cell_grad.cu - p, q [B,3H], h, dy [B,H] -> dp [B,3H]; if wanted dq [B,3H] and dh [B,H]:
 *   dp_n = dy (1 - z)(1 - n^2)   dp_z = dy (h - n) z (1 - z)   dp_r = dp_n q_n r (1 - r)
 *   dq_r = dp_r   dq_z = dp_z   dq_n = dp_n r   dh = dy z
 *
 * Compulsory bytes: the operands read once, the results written once. Variants: recurrent.h. */
#include "recurrent.h"

struct gru_grad {
    struct cells cells;
    const void *p, *q, *h, *dy;
    void *dp[3], *dq[3], *dh; /* each gate's in row 0, as in lstm_cell_grad.cu; dq[0] and dh may be NULL */
};

/* r, z: pre-activations, then their gradients; p, q: of n, then the gradients of p_n and of q_n; dy: then dh. */
static __device__ __forceinline__ void gru_back(float &r, float &z, float &p, float &q, float h, float &dy)
{
    float sr = logistic(r), sz = logistic(z), n = tanhf(p + sr * q);
    float dn = dy * (1.0f - sz) * (1.0f - n * n);
    r = dn * q * sr * (1.0f - sr);
    z = dy * (h - n) * sz * (1.0f - sz);
    p = dn;
    q = dn * sr;
    dy = dy * sz;
}

template <class T, int N>
__global__ void __launch_bounds__(CELLS_THREADS) gru_grad_groups(const __grid_constant__ struct gru_grad a)
{
    int64_t step = (int64_t)gridDim.x * CELLS_THREADS, width = a.cells.width;
    for (int64_t g = (int64_t)blockIdx.x * CELLS_THREADS + threadIdx.x; g < a.cells.n; g += step) {
        int64_t at = gates_at(a.cells, g, 3, N);
        float r[N], z[N], p[N], q[N], h[N], dy[N];
        load_gate<T>(r, a.p, a.q, at);
        load_gate<T>(z, a.p, a.q, at + width);
        load_floats(p, (const T *)a.p + at + 2 * width);
        load_floats(q, (const T *)a.q + at + 2 * width);
        load_floats(h, (const T *)a.h + g * N);
        load_floats(dy, (const T *)a.dy + g * N);
#pragma unroll
        for (int k = 0; k < N; k++) gru_back(r[k], z[k], p[k], q[k], h[k], dy[k]);
        store_floats((T *)a.dp[0] + at, r);
        store_floats((T *)a.dp[1] + at, z);
        store_floats((T *)a.dp[2] + at, p);
        if (a.dq[0]) {
            store_floats((T *)a.dq[0] + at, r);
            store_floats((T *)a.dq[1] + at, z);
            store_floats((T *)a.dq[2] + at, q);
        }
        if (a.dh) store_floats((T *)a.dh + g * N, dy);
    }
}

static qn_status pick(const struct qn__args *a, struct qn__choice *c) { return pick_cells(&a->x[2], c); }

template <class T, int N> static cudaError_t launch_groups(const struct qn__step *s)
{
    const struct qn__args *a = &s->args;
    struct gru_grad g = {};
    g.cells = cells_of(&a->x[2], N);
    g.p = a->x[0].data;
    g.q = a->x[1].data;
    g.h = a->x[2].data;
    g.dy = a->x[3].data;
    for (int k = 0; k < 3; k++) {
        g.dp[k] = (T *)a->y.data + k * g.cells.width;
        if (a->more[0].data) g.dq[k] = (T *)a->more[0].data + k * g.cells.width;
    }
    g.dh = a->more[1].data;
    return LAUNCH((gru_grad_groups<T, N>), (cells_grid(a, g.cells)), (CELLS_THREADS), 0, s->queue->stream, g);
}

static qn_status launch(const struct qn__step *s, qn_error *err)
{
    return launch_cells(s, "gru_grad_groups", err,
                        [&](auto t, auto n) { return launch_groups<decltype(t), decltype(n)::value>(s); });
}

static const char *const variants[] = { CELLS_VARIANTS };
KERNEL(gru_cell_grad) = { .variants = variants, .pick = pick, .launch = launch };
