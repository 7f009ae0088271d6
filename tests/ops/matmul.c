/* matmul: transposes, broadcast leading dims, sizes around vectors and tiles, epilogues. p: ta, tb, activation. */
#include "ops.h"
#include <string.h>

static qn_t build(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    return qn_matmul(g, x[0], x[1], &(qn_matmul_opts){ c->p[0] != 0, c->p[1] != 0 });
}
static qn_t build_epilogue(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    struct qn__matmul_attr a;
    memset(&a, 0, sizeof a);
    a.ta = (int32_t)c->p[0], a.tb = (int32_t)c->p[1];
    a.epilogue.has_bias = c->n_in == 3;
    a.epilogue.act = (int32_t)c->p[2];
    a.epilogue.p = c->q[0];
    return qn__node(g, QN_OP_matmul, x, c->n_in, &a);
}

/* Offset of the matrix of x that meets matrix `batch` of y. */
static int64_t matrix(const struct op_data *x, const struct op_data *y, int64_t batch)
{
    int64_t at = 0, stride = x->dim[x->rank - 1] * x->dim[x->rank - 2];
    for (int i = y->rank - 3, k = x->rank - 3; i >= 0; i--, k--) {
        int64_t index = batch % y->dim[i];
        batch /= y->dim[i];
        if (k < 0) continue;
        at += (x->dim[k] == 1 ? 0 : index) * stride;
        stride *= x->dim[k];
    }
    return at;
}
/* Element i before the activation. */
static double sum_of(const struct op_case *c, const struct op_data *x, const struct op_data *y, int64_t i)
{
    int64_t m = y->dim[y->rank - 2], n = y->dim[y->rank - 1], k = x[0].dim[x[0].rank - (c->p[0] ? 2 : 1)];
    int64_t row = i / n % m, col = i % n, batch = i / n / m;
    const double *a = x[0].v + matrix(&x[0], y, batch), *b = x[1].v + matrix(&x[1], y, batch);
    double sum = c->n_in == 3 ? x[2].v[col] : 0;
    for (int64_t t = 0; t < k; t++)
        sum += (c->p[0] ? a[t * m + row] : a[row * k + t]) * (c->p[1] ? b[col * k + t] : b[t * n + col]);
    return sum;
}
static void oracle(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    for (int64_t i = 0; i < y->count; i++) {
        y->v[i] = sum_of(c, x, y, i);
        if (c->p[2]) y->v[i] = qn__pw_eval((enum qn__opcode)c->p[2], y->v[i], 0, 0, c->q[0], 0);
    }
}
/* cuBLASLt's epilogue adds a bias and applies relu and, in 16 bits, the tanh form of gelu to the sum in f32: one
 * rounding. The other activations read a stored sum; their slopes are below 1.13. */
static double before_act(const struct op_case *c, const struct op_data *x, const struct op_data *y, int64_t i)
{
    if (c->p[2] == QN_OP_relu || c->p[2] == QN_OP_gelu_tanh) return 0;
    double sum = sum_of(c, x, y, i);
    return 1.13 * (sum < 0 ? -sum : sum);
}
/* An activation of slope below 1.13 after a sum of k + 1 products of magnitude at most 4. */
static double bound_act(const struct op_case *c, const struct op_data *x, const struct op_data *y, int64_t i,
                        double eps)
{
    double k = (double)x[0].dim[x[0].rank - (c->p[0] ? 2 : 1)] + 1, size = y->v[i] < 0 ? -y->v[i] : y->v[i];
    return 1.13 * (k + 2) * 2 * eps * 4 * k + 16 * eps * (size + 0.0625);
}

#define LIBRARY .fixed_threads = "oneDNN divides sums among the threads it has"
/* clang-format off */
#define CASE(text, k, ...)                                                                         \
    .name = text, .build = build, .oracle = oracle, .n_in = 2, .terms = k, LIBRARY,                \
    .p = { __VA_ARGS__ }
#define M(r, ...)                                                                                  \
    {                                                                                              \
        .rank = r, .dim = { __VA_ARGS__ }                                                          \
    }
/* clang-format on */
#define SIZE(n) \
    { CASE("inner " #n, n, 0, 0), .in = { M(2, 5, n), M(2, n, 3) } }, \
        { CASE("outer " #n, 3, 0, 1), .in = { M(2, n, 3), M(2, 7, 3) } },
/* clang-format off */
#define ACT(row)                                                                                   \
    { .name = "bias and " #row,                                                                    \
      .build = build_epilogue,                                                                     \
      .oracle = oracle,                                                                            \
      .n_in = 3,                                                                                   \
      .bound = bound_act,                                                                          \
      .between = before_act,                                                                       \
      LIBRARY,                                                                                     \
      .p = { 0, 0, QN_OP_##row },                                                                  \
      .q = { 0.25 },                                                                               \
      .no_gradient_check = "activations are folded in after differentiation",                      \
      .in = { M(2, 33, 20), M(2, 20, 17), M(1, 17) } },
static const struct op_case cases[] = {
    OP_SIZES(SIZE){ CASE("A B", 40, 0, 0), .in = { M(2, 33, 40), M(2, 40, 17) } },
    { CASE("A^T B", 40, 1, 0), .in = { M(2, 40, 33), M(2, 40, 17) } },
    { CASE("A B^T", 40, 0, 1), .in = { M(2, 33, 40), M(2, 17, 40) } },
    { CASE("A^T B^T", 40, 1, 1), .in = { M(2, 40, 33), M(2, 17, 40) } },
    { CASE("wide B", 40, 0, 0), .in = { M(2, 33, 40), M(2, 40, 260) } },
    { CASE("wide B, A^T", 40, 1, 0), .in = { M(2, 40, 33), M(2, 40, 260) } },
    { CASE("wide shared B", 40, 0, 0), .in = { M(3, 4, 9, 40), M(2, 40, 260) } },
    { CASE("small A^T B", 4, 1, 0), .in = { M(2, 4, 3), M(2, 4, 5) } },
    { CASE("batch", 20, 0, 0), .in = { M(3, 3, 9, 20), M(3, 3, 20, 11) } },
    { CASE("batch, transposed", 20, 1, 1), .in = { M(3, 3, 20, 9), M(3, 3, 11, 20) } },
    { CASE("shared right", 20, 0, 0), .in = { M(4, 2, 3, 9, 20), M(2, 20, 11) } },
    { CASE("shared right, left transposed", 20, 1, 1), .in = { M(3, 3, 20, 9), M(2, 11, 20) } },
    { CASE("shared left", 20, 0, 0), .in = { M(2, 9, 20), M(3, 3, 20, 11) } },
    { CASE("broadcast both", 20, 0, 1), .in = { M(4, 2, 1, 9, 20), M(4, 1, 3, 11, 20) } },
    { CASE("empty batch", 4, 0, 0), .in = { M(3, 0, 3, 4), M(2, 4, 5) } },
    { .name = "bias",
      .build = build_epilogue,
      .oracle = oracle,
      LIBRARY,
      .n_in = 3,
      .terms = 21,
      .p = { 0, 1, 0 },
      .in = { M(2, 33, 20), M(2, 17, 20), M(1, 17) } },
    { .name = "small bias",
      .build = build_epilogue,
      .oracle = oracle,
      LIBRARY,
      .n_in = 3,
      .terms = 5,
      .p = { 0, 0, 0 },
      .in = { M(2, 3, 4), M(2, 4, 5), M(1, 5) } },
    ACT(relu) ACT(leaky_relu) ACT(elu) ACT(gelu_tanh) ACT(gelu_erf) ACT(sigmoid) ACT(tanh) ACT(silu)
};
OP_CASES(matmul, cases);
/* clang-format on */
