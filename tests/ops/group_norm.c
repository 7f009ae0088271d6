/* group_norm.c - cases of group_norm: forward, with a sum before, and the gradients. */
#include "norm.h"
#include <math.h>
#include <string.h>

/* p[0]: groups; p[1]: which result; q[0]: eps */
static struct qn__norm_attr attr_of(const struct op_case *c)
{
    struct qn__norm_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.eps = c->q[0];
    attr.groups = (int32_t)c->p[0];
    return attr;
}

static int64_t behind(const struct op_data *x) { return x->dim[1] && x->dim[0] ? x->count / x->dim[0] / x->dim[1] : 0; }
static int64_t width(const struct op_case *c, const struct op_data *x) { return x->dim[1] / c->p[0] * behind(x); }
static int64_t channel(const struct op_data *x, int64_t i) { return i / behind(x) % x->dim[1]; }

/* The row of element i of v, an array shaped like x. */
static struct norm_row row_of(const struct op_case *c, const struct op_data *x, const double *v, int64_t i, double u)
{
    int64_t w = width(c, x);
    return norm_row_of(v + i / w * w, w, c->q[0], true, u);
}

static qn_t build(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    return qn_group_norm(g, x[0], x[1], x[2], c->p[0], c->q[0]);
}
static void oracle(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    for (int64_t i = 0; i < y->count; i++) {
        struct norm_row k = row_of(c, &x[0], x[0].v, i, 0);
        y->v[i] = x[1].v[channel(y, i)] * norm_xhat(&k, x[0].v[i]) + x[2].v[channel(y, i)];
    }
}
static double bound(const struct op_case *c, const struct op_data *x, const struct op_data *y, int64_t i, double u)
{
    struct norm_row k = row_of(c, &x[0], x[0].v, i, u);
    return norm_y_error(&k, x[0].v[i], x[1].v[channel(y, i)], x[2].v[channel(y, i)]);
}

/* ---- a sum and its norm ------------------------------------------------------------------------------- */

static qn_t build_add(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    struct qn__norm_attr attr = attr_of(c);
    qn_t y = qn__node(g, QN_OP_add_group_norm, x, 4, &attr);
    struct qn__node shape = *qn__at(g, y);
    return c->p[1] ? qn__output(g, y, 0, shape.dtype, shape.rank, shape.dim) : y;
}
static void oracle_add(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    for (int64_t i = 0; i < y->count; i++) y->v[i] = x[0].v[i] + x[1].v[i];
    if (!c->p[1]) return;
    int64_t w = y->count ? width(c, y) : 1;
    for (int64_t r = 0; r < y->count / w; r++) {
        struct norm_row k = norm_row_of(y->v + r * w, w, c->q[0], true, 0);
        for (int64_t i = r * w; i < (r + 1) * w; i++)
            y->v[i] = x[2].v[channel(y, i)] * norm_xhat(&k, y->v[i]) + x[3].v[channel(y, i)];
    }
}
enum { WIDEST_SUM = 3 * 37 * 37 };
static double bound_add(const struct op_case *c, const struct op_data *x, const struct op_data *y, int64_t i, double u)
{
    double sum[WIDEST_SUM] = { 0 }, moved = 0, stretched = 0;
    int64_t w = width(c, y), begin = i / w * w, j = i - begin;
    for (int64_t k = 0; k < w; k++) sum[k] = x[0].v[begin + k] + x[1].v[begin + k];
    if (!c->p[1]) return u * fabs(sum[j]);
    struct norm_row k = norm_row_of(sum, w, c->q[0], true, u);
    for (int64_t e = 0; e < w; e++) {
        moved += u * fabs(sum[e]) / (double)w;
        stretched += u * fabs(sum[e] * norm_xhat(&k, sum[e])) / (double)w;
    }
    double of_sum = k.r * (u * fabs(sum[j]) + moved + fabs(norm_xhat(&k, sum[j])) * stretched);
    double gamma = x[2].v[channel(y, i)];
    return norm_y_error(&k, sum[j], gamma, x[3].v[channel(y, i)]) + 1.1 * fabs(gamma) * of_sum;
}

/* ---- gradients: operands x, dy, gamma, addend ---------------------------------------------------------- */

static qn_t build_dx(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    struct qn__norm_attr attr = attr_of(c);
    return qn__node(g, QN_OP_group_norm_grad_x, x, c->n_in, &attr);
}
static double dx_of(const struct op_case *c, const struct op_data *x, int64_t i, double u, double *error)
{
    int64_t w = width(c, &x[0]), begin = i / w * w;
    const double *gamma = x[2].v + channel(&x[0], begin);
    struct norm_row k = row_of(c, &x[0], x[0].v, i, u);
    struct norm_grad d = norm_grad_of(&k, x[0].v + begin, x[1].v + begin, gamma, behind(&x[0]));
    double own = x[2].v[channel(&x[0], i)], more = c->n_in == 4 ? x[3].v[i] : 0;
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
    qn_t y = qn__node(g, QN_OP_group_norm_grad_w, x, 2, &attr);
    struct qn__node shape = *qn__at(g, y);
    return c->p[1] ? qn__output(g, y, 0, shape.dtype, 1, shape.dim) : y;
}
/* Channel j: p[1] 0 dgamma, 1 dbeta. */
static double dw_of(const struct op_case *c, const struct op_data *x, int64_t j, double u, double *error)
{
    int64_t s = behind(&x[0]), all = x[0].dim[0] * s;
    long double sum = 0;
    double size = 0, of_xhat = 0;
    for (int64_t e = 0; e < all; e++) {
        int64_t i = (e / s * x[0].dim[1] + j) * s + e % s;
        struct norm_row k = row_of(c, &x[0], x[0].v, i, u);
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
#define LARGE SHAPE("threads", 8, 4, 32, 12, 12) SHAPE("512 threads", 1, 1, 4, 23, 24) SHAPE("long", 1, 1, 3, 37, 37)

#define SHAPE(text, groups, n, c, h, w)                                                            \
    { .name = text, .build = build, .oracle = oracle, .bound = bound, .n_in = 3, .p = { groups }, .q = { 1e-5 }, \
      .in = { X(n, c, h, w), VECTOR(c), VECTOR(c) } },
static const struct op_case forward[] = {
    SHAPES LARGE
    { .name = "rank 2", .build = build, .oracle = oracle, .bound = bound, .n_in = 3, .p = { 2 }, .q = { 1e-5 },
      .in = { { .rank = 2, .dim = { 5, 12 } }, VECTOR(12), VECTOR(12) } },
    { .name = "rank 3", .build = build, .oracle = oracle, .bound = bound, .n_in = 3, .p = { 3 }, .q = { 1e-3 },
      .in = { { .rank = 3, .dim = { 2, 6, 11 } }, VECTOR(6), VECTOR(6) } },
    { .name = "mean 1000, deviation 0.3", .build = build, .oracle = oracle, .bound = bound, .n_in = 3, .p = { 2 },
      .q = { 1e-5 }, .step = 0x1p-8,
      .in = { { .rank = 4, .dim = { 2, 4, 3, 4 }, .low = 1000, .high = 1001 }, VECTOR(4), VECTOR(4) } },
};
OP_CASES(group_norm, forward);
#undef SHAPE

#define SHAPE(text, groups, n, c, h, w)                                                            \
    WITH(text " sum", groups, n, c, h, w, 0) WITH(text " norm", groups, n, c, h, w, 1)
#define WITH(text, groups, n, c, h, w, which)                                                      \
    { .name = text, .build = build_add, .oracle = oracle_add, .bound = bound_add, .n_in = 4, .p = { groups, which }, \
      .q = { 1e-5 }, .in = { X(n, c, h, w), X(n, c, h, w), VECTOR(c), VECTOR(c) } },
static const struct op_case add[] = { SHAPES LARGE };
OP_CASES(add_group_norm, add);
#undef WITH
#undef SHAPE

#define SHAPE(text, groups, n, c, h, w)                                                            \
    { .name = text, .build = build_dx, .oracle = oracle_dx, .bound = bound_dx, .n_in = 3, .p = { groups }, \
      .q = { 1e-5 }, .in = { X(n, c, h, w), X(n, c, h, w), VECTOR(c) } },                          \
    { .name = text " and addend", .build = build_dx, .oracle = oracle_dx, .bound = bound_dx, .n_in = 4, \
      .p = { groups }, .q = { 1e-5 }, .in = { X(n, c, h, w), X(n, c, h, w), VECTOR(c), X(n, c, h, w) } },
static const struct op_case dx[] = { SHAPES LARGE };
OP_CASES(group_norm_grad_x, dx);
#undef SHAPE

#define SHAPE(text, groups, n, c, h, w)                                                            \
    WITH(text " gamma", groups, n, c, h, w, 0) WITH(text " beta", groups, n, c, h, w, 1)
#define WITH(text, groups, n, c, h, w, which)                                                      \
    { .name = text, .build = build_dw, .oracle = oracle_dw, .bound = bound_dw, .n_in = 2, .p = { groups, which }, \
      .q = { 1e-5 }, .in = { X(n, c, h, w), X(n, c, h, w) } },
static const struct op_case dw[] = { SHAPES LARGE };
OP_CASES(group_norm_grad_w, dw);
/* clang-format on */
