/* norm_cases.c - cases of layer_norm, rms_norm and group_norm: forward, with a sum before, and the gradients. */
#include "norm.h"
#include <math.h>
#include <string.h>

/* p[0]: centred (not rms_norm); p[1]: which result; p[2]: groups of channels, 0 where a row is the last axis;
 * q[0]: eps */
static bool centred(const struct op_case *c) { return c->p[0] != 0; }
static bool grouped(const struct op_case *c) { return c->p[2] != 0; }

/* Elements of a channel of a sample that lie side by side; channels; elements of a row; the channel of element i. */
static int64_t behind(const struct op_case *c, const struct op_data *x)
{
    return grouped(c) ? x->count / x->dim[0] / x->dim[1] : 1;
}
static int64_t channels(const struct op_case *c, const struct op_data *x)
{
    return grouped(c) ? x->dim[1] : x->dim[x->rank - 1];
}
static int64_t width(const struct op_case *c, const struct op_data *x)
{
    return grouped(c) ? x->dim[1] / c->p[2] * behind(c, x) : channels(c, x);
}
static int64_t channel(const struct op_case *c, const struct op_data *x, int64_t i)
{
    return i / behind(c, x) % channels(c, x);
}

static struct norm_row row_of(const struct op_case *c, const struct op_data *x, int64_t i, double u)
{
    static struct norm_walk last;
    static struct norm_row row;
    int64_t w = width(c, x);
    if (!norm_same_row(&last, x->v, w, i, u)) row = norm_row_of(x->v + i / w * w, w, c->q[0], centred(c), u);
    return row;
}

static struct qn__norm_attr attr_of(const struct op_case *c)
{
    struct qn__norm_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.eps = c->q[0];
    attr.groups = grouped(c) ? (int32_t)c->p[2] : 1;
    return attr;
}

/* The row of the table that a case is of. */
static enum qn__opcode one_of(const struct op_case *c, enum qn__opcode layer, enum qn__opcode rms,
                              enum qn__opcode group)
{
    return grouped(c) ? group : centred(c) ? layer : rms;
}
#define ONE_OF(c, before, behind) \
    one_of(c, QN_OP_##before##layer_norm##behind, QN_OP_##before##rms_norm##behind, QN_OP_##before##group_norm##behind)

/* ---- forward ---------------------------------------------------------------------------------------- */

static qn_t build(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    if (grouped(c)) return qn_group_norm(g, x[0], x[1], x[2], c->p[2], c->q[0]);
    return centred(c) ? qn_layer_norm(g, x[0], x[1], x[2], c->q[0]) : qn_rms_norm(g, x[0], x[1], c->q[0]);
}
static double beta_of(const struct op_case *c, const struct op_data *beta, int64_t j)
{
    return centred(c) ? beta->v[j] : 0;
}
static void oracle(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    for (int64_t i = 0; i < y->count; i++) {
        struct norm_row k = row_of(c, &x[0], i, 0);
        int64_t j = channel(c, y, i);
        y->v[i] = x[1].v[j] * norm_xhat(&k, x[0].v[i]) + beta_of(c, &x[2], j);
    }
}
static double bound(const struct op_case *c, const struct op_data *x, const struct op_data *y, int64_t i, double u)
{
    struct norm_row k = row_of(c, &x[0], i, u);
    int64_t j = channel(c, y, i);
    return norm_y_error(&k, x[0].v[i], x[1].v[j], beta_of(c, &x[2], j));
}

/* ---- a sum and its norm ------------------------------------------------------------------------------- */

static qn_t build_add(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    struct qn__norm_attr attr = attr_of(c);
    qn_t y = qn__node(g, ONE_OF(c, add_, ), x, centred(c) ? 4 : 3, &attr);
    struct qn__node shape = *qn__at(g, y);
    return c->p[1] ? qn__output(g, y, 0, shape.dtype, shape.rank, shape.dim) : y;
}
static void oracle_add(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    for (int64_t i = 0; i < y->count; i++) y->v[i] = x[0].v[i] + x[1].v[i];
    if (!c->p[1] || !y->count) return;
    int64_t w = width(c, y);
    for (int64_t begin = 0; begin < y->count; begin += w) {
        struct norm_row k = norm_row_of(y->v + begin, w, c->q[0], centred(c), 0);
        for (int64_t i = begin; i < begin + w; i++) {
            int64_t j = channel(c, y, i);
            y->v[i] = x[2].v[j] * norm_xhat(&k, y->v[i]) + beta_of(c, &x[3], j);
        }
    }
}
enum { WIDEST_SUM = 8196 };
/* Rounding the sum moves the element, the mean and the deviation. */
static double bound_add(const struct op_case *c, const struct op_data *x, const struct op_data *y, int64_t i, double u)
{
    static struct norm_walk last;
    static double sum[WIDEST_SUM], moved, stretched;
    static struct norm_row k;
    int64_t w = width(c, y), begin = i / w * w, at = i - begin, j = channel(c, y, i);
    if (!c->p[1]) return u * fabs(x[0].v[i] + x[1].v[i]);
    if (!norm_same_row(&last, x[0].v, w, i, u)) {
        for (int64_t e = 0; e < w; e++) sum[e] = x[0].v[begin + e] + x[1].v[begin + e];
        k = norm_row_of(sum, w, c->q[0], centred(c), u);
        moved = stretched = 0;
        for (int64_t e = 0; e < w; e++) {
            moved += u * fabs(sum[e]) / (double)w;
            stretched += u * fabs(sum[e] * norm_xhat(&k, sum[e])) / (double)w;
        }
    }
    double of_sum = k.r * (u * fabs(sum[at]) + moved + fabs(norm_xhat(&k, sum[at])) * stretched);
    return norm_y_error(&k, sum[at], x[2].v[j], beta_of(c, &x[3], j)) + 1.1 * fabs(x[2].v[j]) * of_sum;
}

/* ---- gradients: operands x, dy, gamma, addend ---------------------------------------------------------- */

static qn_t build_dx(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    struct qn__norm_attr attr = attr_of(c);
    return qn__node(g, ONE_OF(c, , _grad_x), x, c->n_in, &attr);
}
static double dx_of(const struct op_case *c, const struct op_data *x, int64_t i, double u, double *error)
{
    int64_t w = width(c, &x[0]), begin = i / w * w;
    const double *gamma = x[2].v + channel(c, &x[0], begin);
    struct norm_row k = row_of(c, &x[0], i, u);
    struct norm_grad d = norm_grad_of(&k, x[0].v + begin, x[1].v + begin, gamma, behind(c, &x[0]));
    double own = x[2].v[channel(c, &x[0], i)], more = c->n_in == 4 ? x[3].v[i] : 0;
    double dx = norm_dx(&k, &d, x[0].v[i], x[1].v[i], own);
    *error = norm_dx_error(&k, &d, x[0].v[i], x[1].v[i], own) + u * fabs(dx + more);
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
    qn_t y = qn__node(g, ONE_OF(c, , _grad_w), x, 2, &attr);
    struct qn__node shape = *qn__at(g, y);
    return c->p[1] ? qn__output(g, y, 0, shape.dtype, 1, shape.dim) : y;
}
/* Channel j: p[1] 0 dgamma, 1 dbeta. Rows are added in parts, in double or, on a GPU, in float. */
static double dw_of(const struct op_case *c, const struct op_data *x, int64_t j, double u, double *error)
{
    int64_t s = behind(c, &x[0]), n = channels(c, &x[0]), all = x[0].count / n;
    long double sum = 0;
    double size = 0, of_xhat = 0;
    for (int64_t e = 0; e < all; e++) {
        int64_t i = (e / s * n + j) * s + e % s;
        struct norm_row k = row_of(c, &x[0], i, u);
        double factor = c->p[1] ? 1 : norm_xhat(&k, x[0].v[i]);
        sum += (long double)x[1].v[i] * (long double)factor;
        size += fabs(x[1].v[i] * factor);
        of_xhat += c->p[1] ? 0 : fabs(x[1].v[i]) * norm_xhat_error(&k, x[0].v[i]);
    }
    double steps = u < 0x1p-40 ? (double)all + 8 : (double)all / 32 + 20;
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
#define BLOCKS                                                                                     \
    SHAPE("128 threads", 1e-5, 3, 516) SHAPE("512 threads", 1e-5, 1, 2052) SHAPE("long, elements", 1e-5, 1, 4099)
#define SUMS_OF SHAPES SHAPE("threads", 1e-5, 70, 300) SHAPE("long", 1e-5, 1, 8196) BLOCKS

#define SHAPE(text, eps, rows, n)                                                                  \
    { .name = text, COMMON, .q = { eps }, .in = { X(rows, n), ROW(n), ROW(n) } },
#define WIDE SHAPE("threads", 1e-5, 70, 300) SHAPE("128 threads", 1e-5, 3, 516) SHAPE("block", 1e-5, 4, 2052) \
    SHAPE("odd block", 1e-5, 3, 4099) SHAPE("stream", 1e-5, 1, 8201) \
    SHAPE("long", 1e-5, 1, 8196)
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
static const struct op_case add_layer[] = { SUMS_OF };
OP_CASES(add_layer_norm, add_layer);
#undef COMMON
#undef COMMON_1
#define COMMON OF_SUM, .n_in = 3, .p = { 0, 0 }
#define COMMON_1 OF_SUM, .n_in = 3, .p = { 0, 1 }
static const struct op_case add_rms[] = { SUMS_OF };
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
#define LARGE SHAPE("threads", 1e-5, 70, 300) SHAPE("long", 1e-5, 1, 4100) BLOCKS
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

/* Sums that shared memory holds, of more than one row; and those that it does not. */
#define SUMS SHAPE("sums kept", 1e-5, 2, 4100) SHAPE("sums not kept", 1e-5, 1, 12292)
#define MANY SHAPE("threads", 1e-5, 70, 300) SHAPE("many rows", 1e-5, 1031, 12)
#define SHAPE(text, eps, rows, n) WITH(text " gamma", eps, rows, n, 0) WITH(text " beta", eps, rows, n, 1)
#define WITH(text, eps, rows, n, which)                                                            \
    { .name = text, .build = build_dw, .oracle = oracle_dw, .bound = bound_dw, .n_in = 2, .p = { 1, which }, \
      .q = { eps }, .in = { X(rows, n), X(rows, n) } },
static const struct op_case layer_dw[] = { SHAPES MANY BLOCKS SUMS };
OP_CASES(layer_norm_grad_w, layer_dw);
#undef WITH
#undef SHAPE
#define SHAPE(text, eps, rows, n)                                                                  \
    { .name = text, .build = build_dw, .oracle = oracle_dw, .bound = bound_dw, .n_in = 2, .q = { eps }, \
      .in = { X(rows, n), X(rows, n) } },
static const struct op_case rms_dw[] = { SHAPES MANY BLOCKS SUMS };
OP_CASES(rms_norm_grad_w, rms_dw);

/* A further result on its own: any operator that has one. */
static const struct op_case further[] = {
    { .name = "second result", .build = build_add, .oracle = oracle_add, .bound = bound_add, .n_in = 4, .p = { 1, 1 },
      .q = { 1e-5 }, .in = { X(3, 7), X(3, 7), ROW(7), ROW(7) } },
};
OP_CASES(output, further);

/* ---- tables of group_norm ---------------------------------------------------------------------------------- */

#undef X
#undef SHAPES
#undef SHAPE
#undef WITH
#undef LARGE
#undef COMMON
#undef OTHERS
#define VECTOR(c) { .rank = 1, .dim = { c } }
#define X(n, c, h, w) { .rank = 4, .dim = { n, c, h, w } }
#define SIZE(n) SHAPE("behind " #n, 2, 2, 4, n, 1)
/* X(name, groups, n, c, h, w): one group, a group a channel, odd channels, nothing, more samples than parts */
#define SHAPES                                                                                     \
    OP_SIZES(SIZE) SHAPE("empty batch", 2, 0, 4, 3, 3) SHAPE("one group", 1, 2, 5, 3, 3)           \
    SHAPE("a group a channel", 6, 3, 6, 3, 5) SHAPE("odd channels", 3, 2, 9, 2, 7)                 \
    SHAPE("one element", 1, 1, 1, 1, 1) SHAPE("many samples", 2, 37, 4, 2, 2) SHAPE("16 channels", 4, 2, 16, 4, 4) \
    SHAPE("32 channels", 2, 3, 32, 3, 5) \
    SHAPE("one row", 1, 1, 1, 1, 33)
#define LARGE SHAPE("threads", 8, 4, 32, 12, 12) SHAPE("512 threads", 1, 1, 4, 23, 24) \
    SHAPE("long, elements", 1, 1, 3, 37, 37) SHAPE("long", 1, 1, 3, 37, 40)

#define SHAPE(text, groups, n, c, h, w)                                                            \
    { .name = text, .build = build, .oracle = oracle, .bound = bound, .n_in = 3, .p = { 1, 0, groups }, .q = { 1e-5 }, \
      .in = { X(n, c, h, w), VECTOR(c), VECTOR(c) } },
static const struct op_case forward[] = {
    SHAPES LARGE
    { .name = "rank 2", .build = build, .oracle = oracle, .bound = bound, .n_in = 3, .p = { 1, 0, 2 }, .q = { 1e-5 },
      .in = { { .rank = 2, .dim = { 5, 12 } }, VECTOR(12), VECTOR(12) } },
    { .name = "rank 3", .build = build, .oracle = oracle, .bound = bound, .n_in = 3, .p = { 1, 0, 3 }, .q = { 1e-3 },
      .in = { { .rank = 3, .dim = { 2, 6, 11 } }, VECTOR(6), VECTOR(6) } },
    { .name = "mean 1000, deviation 0.3", .build = build, .oracle = oracle, .bound = bound, .n_in = 3, .p = { 1, 0, 2 },
      .q = { 1e-5 }, .step = 0x1p-8,
      .in = { { .rank = 4, .dim = { 2, 4, 3, 4 }, .low = 1000, .high = 1001 }, VECTOR(4), VECTOR(4) } },
};
OP_CASES(group_norm, forward);
#undef SHAPE

#define SHAPE(text, groups, n, c, h, w)                                                            \
    WITH(text " sum", groups, n, c, h, w, 0) WITH(text " norm", groups, n, c, h, w, 1)
#define WITH(text, groups, n, c, h, w, which)                                                      \
    { .name = text, .build = build_add, .oracle = oracle_add, .bound = bound_add, .n_in = 4, \
      .p = { 1, which, groups }, .q = { 1e-5 }, .in = { X(n, c, h, w), X(n, c, h, w), VECTOR(c), VECTOR(c) } },
static const struct op_case add[] = { SHAPES LARGE };
OP_CASES(add_group_norm, add);
#undef WITH
#undef SHAPE

#define SHAPE(text, groups, n, c, h, w)                                                            \
    { .name = text, .build = build_dx, .oracle = oracle_dx, .bound = bound_dx, .n_in = 3, .p = { 1, 0, groups }, \
      .q = { 1e-5 }, .in = { X(n, c, h, w), X(n, c, h, w), VECTOR(c) } },                          \
    { .name = text " and addend", .build = build_dx, .oracle = oracle_dx, .bound = bound_dx, .n_in = 4, \
      .p = { 1, 0, groups }, .q = { 1e-5 }, .in = { X(n, c, h, w), X(n, c, h, w), VECTOR(c), X(n, c, h, w) } },
static const struct op_case dx[] = { SHAPES LARGE };
OP_CASES(group_norm_grad_x, dx);
#undef SHAPE

#define SHAPE(text, groups, n, c, h, w)                                                            \
    WITH(text " gamma", groups, n, c, h, w, 0) WITH(text " beta", groups, n, c, h, w, 1)
#define WITH(text, groups, n, c, h, w, which)                                                      \
    { .name = text, .build = build_dw, .oracle = oracle_dw, .bound = bound_dw, .n_in = 2, .p = { 1, which, groups }, \
      .q = { 1e-5 }, .in = { X(n, c, h, w), X(n, c, h, w) } },
static const struct op_case dw[] = { SHAPES LARGE };
OP_CASES(group_norm_grad_w, dw);
/* clang-format on */
