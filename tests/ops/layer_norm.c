/* layer_norm.c - cases of layer_norm and rms_norm: forward, with a sum before, and the gradients. */
#include "norm.h"
#include <math.h>
#include <string.h>

/* p[0]: centred (layer_norm); p[1]: which result; q[0]: eps */
static bool centred(const struct op_case *c) { return c->p[0] != 0; }
static int64_t width(const struct op_data *x) { return x->dim[x->rank - 1]; }

static struct norm_row row_of(const struct op_case *c, const struct op_data *x, int64_t i, double u)
{
    int64_t w = width(x);
    return norm_row_of(x->v + i / w * w, w, c->q[0], centred(c), u);
}

static struct qn__norm_attr attr_of(const struct op_case *c)
{
    struct qn__norm_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.eps = c->q[0];
    attr.groups = 1;
    return attr;
}

/* ---- forward ---------------------------------------------------------------------------------------- */

static qn_t build(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    return centred(c) ? qn_layer_norm(g, x[0], x[1], x[2], c->q[0]) : qn_rms_norm(g, x[0], x[1], c->q[0]);
}
static double beta_of(const struct op_case *c, const struct op_data *beta, int64_t j)
{
    return centred(c) ? beta->v[j] : 0;
}
static void oracle(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    int64_t w = width(y);
    for (int64_t i = 0; i < y->count; i++) {
        struct norm_row k = row_of(c, &x[0], i, 0);
        y->v[i] = x[1].v[i % w] * norm_xhat(&k, x[0].v[i]) + beta_of(c, &x[2], i % w);
    }
}
static double bound(const struct op_case *c, const struct op_data *x, const struct op_data *y, int64_t i, double u)
{
    struct norm_row k = row_of(c, &x[0], i, u);
    int64_t j = i % width(y);
    return norm_y_error(&k, x[0].v[i], x[1].v[j], beta_of(c, &x[2], j));
}

/* ---- a sum and its norm ------------------------------------------------------------------------------- */

static qn_t build_add(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    struct qn__norm_attr attr = attr_of(c);
    qn_t y = qn__node(g, centred(c) ? QN_OP_add_layer_norm : QN_OP_add_rms_norm, x, centred(c) ? 4 : 3, &attr);
    struct qn__node shape = *qn__at(g, y);
    return c->p[1] ? qn__output(g, y, 0, shape.dtype, shape.rank, shape.dim) : y;
}
static void oracle_add(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    for (int64_t i = 0; i < y->count; i++) y->v[i] = x[0].v[i] + x[1].v[i];
    if (!c->p[1]) return;
    int64_t w = width(y);
    for (int64_t r = 0; r < (w ? y->count / w : 0); r++) {
        struct norm_row k = norm_row_of(y->v + r * w, w, c->q[0], centred(c), 0);
        for (int64_t j = 0; j < w; j++)
            y->v[r * w + j] = x[2].v[j] * norm_xhat(&k, y->v[r * w + j]) + beta_of(c, &x[3], j);
    }
}
enum { WIDEST_SUM = 4099 };
/* Rounding the sum moves the element, the mean and the deviation. */
static double bound_add(const struct op_case *c, const struct op_data *x, const struct op_data *y, int64_t i, double u)
{
    double sum[WIDEST_SUM] = { 0 }, moved = 0, stretched = 0;
    int64_t w = width(y), begin = i / w * w, j = i - begin;
    for (int64_t k = 0; k < w; k++) sum[k] = x[0].v[begin + k] + x[1].v[begin + k];
    if (!c->p[1]) return u * fabs(sum[j]);
    struct norm_row k = norm_row_of(sum, w, c->q[0], centred(c), u);
    for (int64_t e = 0; e < w; e++) {
        moved += u * fabs(sum[e]) / (double)w;
        stretched += u * fabs(sum[e] * norm_xhat(&k, sum[e])) / (double)w;
    }
    double of_sum = k.r * (u * fabs(sum[j]) + moved + fabs(norm_xhat(&k, sum[j])) * stretched);
    return norm_y_error(&k, sum[j], x[2].v[j], beta_of(c, &x[3], j)) + 1.1 * fabs(x[2].v[j]) * of_sum;
}

/* ---- gradients: operands x, dy, gamma, addend ---------------------------------------------------------- */

static qn_t build_dx(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    struct qn__norm_attr attr = attr_of(c);
    return qn__node(g, centred(c) ? QN_OP_layer_norm_grad_x : QN_OP_rms_norm_grad_x, x, c->n_in, &attr);
}
static double dx_of(const struct op_case *c, const struct op_data *x, int64_t i, double u, double *error)
{
    int64_t w = width(&x[0]), begin = i / w * w, j = i - begin;
    struct norm_row k = row_of(c, &x[0], i, u);
    struct norm_grad d = norm_grad_of(&k, x[0].v + begin, x[1].v + begin, x[2].v, 1);
    double dx = norm_dx(&k, &d, x[0].v[i], x[1].v[i], x[2].v[j]), more = c->n_in == 4 ? x[3].v[i] : 0;
    *error = norm_dx_error(&k, &d, x[0].v[i], x[1].v[i], x[2].v[j]) + u * fabs(dx + more);
    return dx + more;
}
static void oracle_dx(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    double error;
    for (int64_t i = 0; i < y->count; i++) y->v[i] = dx_of(c, x, i, 0, &error);
}
static double bound_dx(const struct op_case *c, const struct op_data *x, const struct op_data *y, int64_t i, double u)
{
    double error;
    (void)y;
    dx_of(c, x, i, u, &error);
    return error;
}

static qn_t build_dw(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    struct qn__norm_attr attr = attr_of(c);
    qn_t y = qn__node(g, centred(c) ? QN_OP_layer_norm_grad_w : QN_OP_rms_norm_grad_w, x, 2, &attr);
    struct qn__node shape = *qn__at(g, y);
    return c->p[1] ? qn__output(g, y, 0, shape.dtype, 1, shape.dim) : y;
}
/* Column j: p[1] 0 dgamma, 1 dbeta. Rows are added in parts, in double or, on a GPU, in float. */
static double dw_of(const struct op_case *c, const struct op_data *x, int64_t j, double u, double *error)
{
    int64_t w = width(&x[0]), rows = x[0].count / w;
    long double sum = 0;
    double size = 0, of_xhat = 0;
    for (int64_t r = 0; r < rows; r++) {
        int64_t i = r * w + j;
        struct norm_row k = row_of(c, &x[0], i, u);
        double factor = c->p[1] ? 1 : norm_xhat(&k, x[0].v[i]);
        sum += (long double)x[1].v[i] * (long double)factor;
        size += fabs(x[1].v[i] * factor);
        of_xhat += c->p[1] ? 0 : fabs(x[1].v[i]) * norm_xhat_error(&k, x[0].v[i]);
    }
    double steps = u < 0x1p-40 ? (double)rows + 8 : (double)rows / 32 + 20;
    *error = of_xhat + steps * u * size + u * fabs((double)sum);
    return (double)sum;
}
static void oracle_dw(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    double error;
    for (int64_t j = 0; j < y->count; j++) y->v[j] = x[0].count ? dw_of(c, x, j, 0, &error) : 0;
}
static double bound_dw(const struct op_case *c, const struct op_data *x, const struct op_data *y, int64_t j, double u)
{
    double error = 0;
    (void)y;
    if (x[0].count) dw_of(c, x, j, u, &error);
    return error;
}

/* ---- tables --------------------------------------------------------------------------------------------- */

/* clang-format off */
#define X(...) { .rank = 2, .dim = { __VA_ARGS__ } }
#define ROW(c) { .rank = 1, .dim = { c } }
#define NEAR(low_, high_, ...) { .rank = 2, .dim = { __VA_ARGS__ }, .low = low_, .high = high_ }
#define WIDTH(n) SHAPE(#n " wide", 1e-5, 3, n)
#define ROWS(n) SHAPE(#n " rows", 1e-5, n, 10)
/* Widths around a warp's 16-byte vectors and its registers, more rows than parts, work for several threads; rows too
 * wide for registers only where the oracle is cheap. */
#define SHAPES                                                                                     \
    OP_SIZES(WIDTH) OP_SIZES(ROWS)                                                                 \
    SHAPE("vectors", 1e-5, 5, 64) SHAPE("one", 1e-5, 1, 1) SHAPE("eps 0", 0, 4, 24) SHAPE("parts", 1e-6, 37, 36)

/* A row to each of the blocks that GPUs have. */
#define BLOCKS SHAPE("128 threads", 1e-5, 3, 516) SHAPE("512 threads", 1e-5, 1, 2052) SHAPE("long", 1e-5, 1, 4099)

#define SHAPE(text, eps, rows, n)                                                                  \
    { .name = text, COMMON, .q = { eps }, .in = { X(rows, n), ROW(n), ROW(n) } },
#define WIDE SHAPE("threads", 1e-5, 70, 300) SHAPE("128 threads", 1e-5, 3, 516) SHAPE("block", 1e-5, 4, 2052) \
    SHAPE("odd block", 1e-5, 3, 4099) SHAPE("stream", 1e-5, 1, 8201)
#define OTHERS                                                                                     \
    { .name = "mean 1000, deviation 0.3", COMMON, .q = { 1e-5 }, .step = 0x1p-8,                                 \
      .in = { NEAR(1000, 1001, 6, 40), ROW(40), ROW(40) } },                                       \
    { .name = "no deviation", COMMON, .q = { 1e-5 }, .step = 0x1p-14,                              \
      .in = { NEAR(0.7, 0.7, 3, 24), ROW(24), ROW(24) } }, \
    { .name = "rank 1", COMMON, .q = { 1e-5 }, .in = { { .rank = 1, .dim = { 13 } }, ROW(13), ROW(13) } }, \
    { .name = "rank 4", COMMON, .q = { 1e-5 }, .in = { { .rank = 4, .dim = { 2, 3, 2, 20 } }, ROW(20), ROW(20) } },

#define COMMON .build = build, .oracle = oracle, .bound = bound, .n_in = 3, .p = { 1 }
static const struct op_case layer[] = { SHAPES WIDE OTHERS };
OP_CASES(layer_norm, layer);
#undef COMMON
#define COMMON .build = build, .oracle = oracle, .bound = bound, .n_in = 2
static const struct op_case rms[] = { SHAPES WIDE OTHERS };
OP_CASES(rms_norm, rms);
#undef COMMON
#undef SHAPE
#undef OTHERS

#define SHAPE(text, eps, rows, n)                                                                  \
    { .name = text " sum", COMMON, .q = { eps }, .in = { X(rows, n), X(rows, n), ROW(n), ROW(n) } }, \
    { .name = text " norm", COMMON_1, .q = { eps }, .in = { X(rows, n), X(rows, n), ROW(n), ROW(n) } },
#define OF_SUM .build = build_add, .oracle = oracle_add, .bound = bound_add
#define COMMON OF_SUM, .n_in = 4, .p = { 1, 0 }
#define COMMON_1 OF_SUM, .n_in = 4, .p = { 1, 1 }
static const struct op_case add_layer[] = { SHAPES SHAPE("threads", 1e-5, 70, 300) BLOCKS };
OP_CASES(add_layer_norm, add_layer);
#undef COMMON
#undef COMMON_1
#define COMMON OF_SUM, .n_in = 3, .p = { 0, 0 }
#define COMMON_1 OF_SUM, .n_in = 3, .p = { 0, 1 }
static const struct op_case add_rms[] = { SHAPES SHAPE("threads", 1e-5, 70, 300) BLOCKS };
OP_CASES(add_rms_norm, add_rms);
#undef COMMON
#undef COMMON_1
#undef SHAPE

#define SHAPE(text, eps, rows, n)                                                                  \
    { .name = text, COMMON, .n_in = 3, .q = { eps }, .in = { X(rows, n), X(rows, n), ROW(n) } },   \
    { .name = text " and addend", COMMON, .n_in = 4, .q = { eps },                                 \
      .in = { X(rows, n), X(rows, n), ROW(n), X(rows, n) } },
#define OTHERS                                                                                     \
    { .name = "mean 1000, deviation 0.3", COMMON, .n_in = 3, .q = { 1e-5 },                        \
      .in = { NEAR(1000, 1001, 6, 40), X(6, 40), ROW(40) } },                                      \
    { .name = "no deviation", COMMON, .n_in = 3, .q = { 1e-5 }, .in = { NEAR(0.7, 0.7, 3, 24), X(3, 24), ROW(24) } },
#define LARGE SHAPE("threads", 1e-5, 70, 300) BLOCKS
#define OF_DX .build = build_dx, .oracle = oracle_dx, .bound = bound_dx
#define COMMON OF_DX, .p = { 1 }
static const struct op_case layer_dx[] = { SHAPES LARGE OTHERS };
OP_CASES(layer_norm_grad_x, layer_dx);
#undef COMMON
#define COMMON OF_DX, .p = { 0 }
static const struct op_case rms_dx[] = { SHAPES LARGE OTHERS };
OP_CASES(rms_norm_grad_x, rms_dx);
#undef COMMON
#undef SHAPE
#undef OTHERS

#define MANY SHAPE("threads", 1e-5, 70, 300) SHAPE("many rows", 1e-5, 1031, 12)
#define SHAPE(text, eps, rows, n) WITH(text " gamma", eps, rows, n, 0) WITH(text " beta", eps, rows, n, 1)
#define WITH(text, eps, rows, n, which)                                                            \
    { .name = text, .build = build_dw, .oracle = oracle_dw, .bound = bound_dw, .n_in = 2, .p = { 1, which }, \
      .q = { eps }, .in = { X(rows, n), X(rows, n) } },
static const struct op_case layer_dw[] = { SHAPES MANY BLOCKS };
OP_CASES(layer_norm_grad_w, layer_dw);
#undef WITH
#undef SHAPE
#define SHAPE(text, eps, rows, n)                                                                  \
    { .name = text, .build = build_dw, .oracle = oracle_dw, .bound = bound_dw, .n_in = 2, .q = { eps }, \
      .in = { X(rows, n), X(rows, n) } },
static const struct op_case rms_dw[] = { SHAPES MANY BLOCKS };
OP_CASES(rms_norm_grad_w, rms_dw);

/* A further result on its own: any operator that has one. */
static const struct op_case further[] = {
    { .name = "second result", .build = build_add, .oracle = oracle_add, .bound = bound_add, .n_in = 4, .p = { 1, 1 },
      .q = { 1e-5 }, .in = { X(3, 7), X(3, 7), ROW(7), ROW(7) } },
};
OP_CASES(output, further);
/* clang-format on */
