/* lstm_cell_grad.cu - gates, c, second gates, dh, dc' (the last three may be missing) -> dgates [B,4H]; if wanted dc
 * [B,H]. With t = tanh c' and e = dc' + dh s(o) (1 - t^2):
 *   di = e tanh g s(i)(1 - s(i))   df = e c s(f)(1 - s(f))   dg = e s(i) (1 - tanh^2 g)   do = dh t s(o)(1 - s(o))
 *   dc = e s(f)
 *
 * Compulsory bytes: the operands read once, dgates and dc written once. Variants: recurrent.h. */
#include "recurrent.h"

struct lstm_grad {
    struct cells cells;
    const void *gates, *more, *c, *dh, *dnext;
    void *dgate[4],
        *dc; /* each gate's in row 0, so that nvcc sees four stores of 16 bytes: what it finds at one pointer
                            plus multiples of a width it moves by elements. more, dh, dnext and dc may be NULL */
};

/* zeros if there is no such operand */
template <class T, int N>
static __device__ __forceinline__ void load_given(float (&v)[N], const void *given, int64_t at)
{
#pragma unroll
    for (int k = 0; k < N; k++) v[k] = 0.0f;
    if (given) load_floats(v, (const T *)given + at);
}

/* The pre-activations become their gradients, the state its own; the gradient of c' becomes that of c. */
static __device__ __forceinline__ void lstm_back(float &i, float &f, float &g, float &o, float c, float dh, float &dc)
{
    float si = logistic(i), sf = logistic(f), tg = tanhf(g), so = logistic(o);
    float t = tanhf(sf * c + si * tg), e = dc + dh * so * (1.0f - t * t);
    i = e * tg * si * (1.0f - si);
    f = e * c * sf * (1.0f - sf);
    g = e * si * (1.0f - tg * tg);
    o = dh * t * so * (1.0f - so);
    dc = e * sf;
}

template <class T, int N>
__global__ void __launch_bounds__(CELLS_THREADS) lstm_grad_groups(const __grid_constant__ struct lstm_grad p)
{
    int64_t step = (int64_t)gridDim.x * CELLS_THREADS, width = p.cells.width;
    for (int64_t group = (int64_t)blockIdx.x * CELLS_THREADS + threadIdx.x; group < p.cells.n; group += step) {
        int64_t at = gates_at(p.cells, group, 4, N);
        float i[N], f[N], g[N], o[N], c[N], dh[N], dc[N];
        load_gate<T>(i, p.gates, p.more, at);
        load_gate<T>(f, p.gates, p.more, at + width);
        load_gate<T>(g, p.gates, p.more, at + 2 * width);
        load_gate<T>(o, p.gates, p.more, at + 3 * width);
        load_floats(c, (const T *)p.c + group * N);
        load_given<T>(dh, p.dh, group * N);
        load_given<T>(dc, p.dnext, group * N);
#pragma unroll
        for (int k = 0; k < N; k++) lstm_back(i[k], f[k], g[k], o[k], c[k], dh[k], dc[k]);
        store_floats((T *)p.dgate[0] + at, i);
        store_floats((T *)p.dgate[1] + at, f);
        store_floats((T *)p.dgate[2] + at, g);
        store_floats((T *)p.dgate[3] + at, o);
        if (p.dc) store_floats((T *)p.dc + group * N, dc);
    }
}

static qn_status pick(const struct qn__args *a, struct qn__choice *c) { return pick_cells(&a->x[1], c); }

template <class T, int N> static cudaError_t launch_groups(const struct qn__step *s)
{
    const struct qn__args *a = &s->args;
    const struct qn__lstm_attr *attr = (const struct qn__lstm_attr *)a->attr;
    struct lstm_grad p = {};
    p.cells = cells_of(&a->x[1], N);
    p.gates = a->x[0].data;
    p.c = a->x[1].data;
    p.more = attr->two_gates ? a->x[2].data : NULL;
    p.dh = attr->has_dh ? a->x[attr->two_gates ? 3 : 2].data : NULL;
    p.dnext = attr->has_dc ? a->x[a->n_in - 1].data : NULL;
    for (int k = 0; k < 4; k++) p.dgate[k] = (T *)a->y.data + k * p.cells.width;
    p.dc = a->more[0].data;
    return LAUNCH((lstm_grad_groups<T, N>), (cells_grid(a, p.cells)), (CELLS_THREADS), 0, s->queue->stream, p);
}

static qn_status launch(const struct qn__step *s, qn_error *err)
{
    return launch_cells(s, "lstm_grad_groups", err,
                        [&](auto t, auto n) { return launch_groups<decltype(t), decltype(n)::value>(s); });
}

static const char *const variants[] = { CELLS_VARIANTS };
KERNEL(lstm_cell_grad) = { .variants = variants, .pick = pick, .launch = launch };
