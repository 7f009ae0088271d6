/* quantize.c - cases of quantize_int8, dequantize_int8 and loss_scale. */
#include "ops.h"
#include <math.h>
#include <string.h>

/* p[0]: axis */
static double scale_of(const struct op_case *c, const struct op_data *x, int64_t i)
{
    int64_t inner = 1;
    if (c->p[0] < 0) return x[1].v[0];
    for (int d = (int)c->p[0] + 1; d < x[0].rank; d++) inner *= x[0].dim[d];
    return x[1].v[i / inner % x[0].dim[c->p[0]]];
}

/* Scales are F32 where the numbers have 16 bits. */
static qn_t wide_scale(qn_graph *g, qn_t scale)
{
    return qn_dtype_of(g, scale) == QN_F64 ? scale : qn_cast(g, scale, QN_F32);
}
static qn_t build_quantize(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    return qn_quantize_int8(g, x[0], wide_scale(g, x[1]), (int)c->p[0]);
}
static double nearest(double v)
{
    double low = floor(v), rest = v - low;
    if (isnan(v)) return 0;
    if (rest != 0.5) return rest < 0.5 ? low : low + 1;
    return fmod(low, 2) == 0 ? low : low + 1;
}
static void oracle_quantize(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    for (int64_t i = 0; i < y->count; i++) y->v[i] = fmin(fmax(nearest(x[0].v[i] / scale_of(c, x, i)), -127), 127);
}
/* Where the quotient is next to a half, its rounding decides. */
static double bound_quantize(const struct op_case *c, const struct op_data *x, const struct op_data *y, int64_t i,
                             double u)
{
    double v = fabs(x[0].v[i] / scale_of(c, x, i));
    (void)y;
    return fabs(v - floor(v) - 0.5) <= 2 * u * v && v < 127 ? 1 : 0;
}

static qn_t build_dequantize(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    return qn_dequantize_int8(g, x[0], wide_scale(g, x[1]), (int)c->p[0], qn_dtype_of(g, x[1]));
}
static void oracle_dequantize(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    for (int64_t i = 0; i < y->count; i++) y->v[i] = x[0].v[i] * scale_of(c, x, i);
}

/* ---- loss scale: p[0] finite; q: growth, backoff, steps in a row before; p[1] interval; p[2], p[3] limits -------- */

static void edit_state(const struct op_case *c, void *data, qn_dtype dtype, int64_t n)
{
    const double state[] = { 1024, c->q[2], 7 };
    qn_convert(data, dtype, state, QN_F64, (size_t)n);
}
static void edit_flag(const struct op_case *c, void *data, qn_dtype dtype, int64_t n)
{
    (void)dtype;
    if (n) *(uint8_t *)data = c->p[0] != 0;
}
static qn_t build_scale(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    return qn_loss_scale(g, x[0], x[1],
                         &(qn_loss_scale_opts){ .growth = c->q[0],
                                                .backoff = c->q[1],
                                                .interval = c->p[1],
                                                .least = (double)c->p[2],
                                                .most = (double)c->p[3] });
}
static void oracle_scale(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    double growth = c->q[0] != 0 ? c->q[0] : 2, backoff = c->q[1] != 0 ? c->q[1] : 0.5, scale = x[0].v[0];
    double least = c->p[2] ? (double)c->p[2] : 1, most = c->p[3] ? (double)c->p[3] : 16777216;
    int64_t interval = c->p[1] ? c->p[1] : 2000;
    bool grows = c->p[0] && c->q[2] + 1 >= (double)interval;
    y->v[0] = c->p[0] ? grows ? fmin(scale * growth, most) : scale : fmax(scale * backoff, least);
    y->v[1] = c->p[0] && !grows ? c->q[2] + 1 : 0;
    y->v[2] = c->p[0] ? 7 : 8;
}
static void written_scale(const struct op_case *c, int which, const struct op_data *x, struct op_data *after)
{
    if (which == 0) oracle_scale(c, x, after);
}

/* clang-format off */
#define SIZE(n) ONE(#n, n)
#define ONE(text, n) CASE(text, -1, 1, 1, n)
#define SHAPES                                                                                     \
    OP_SIZES(SIZE) CASE("rank 0 scale", -1, 0, 2, 5, 9) CASE("first axis", 0, 1, 2, 6, 35)         \
    CASE("last axis", 1, 1, 2, 7, 33) CASE("channels", 1, 1, 4, 3, 5, 4, 7) CASE("empty axis", 0, 1, 2, 0, 4) \
    CASE("columns", 1, 1, 2, 37, 48)                                                                \
    CASE("threads", -1, 1, 2, 129, 260) CASE("threads by row", 0, 1, 2, 130, 257)

/* the size of the scale: that of the axis, or 1 */
#define PICK(axis, a, b, ...) ((axis) < 0 ? 1 : (axis) == 0 ? (a) : (b))
#define CASE(text, axis, rank_, r, ...)                                                            \
    { .name = text, .build = build_quantize, .oracle = oracle_quantize, .bound = bound_quantize, .n_in = 2, \
      .p = { axis }, .in = { { .rank = r, .dim = { __VA_ARGS__ }, .low = -5, .high = 5 },          \
                             { .rank = rank_, .dim = { (rank_) ? PICK(axis, __VA_ARGS__, 0, 0) : 0 }, .low = 0.01, \
                               .high = 0.05 } } },
static const struct op_case quantize[] = {
    SHAPES
    { .name = "ties", .build = build_quantize, .oracle = oracle_quantize, .exact = true, .n_in = 2, .p = { -1 },
      .in = { { .rank = 1, .dim = { 300 }, .values = OP_TIES, .low = -20, .high = 20 },
              { .rank = 1, .dim = { 1 }, .low = 2, .high = 2 } } },
    { .name = "zero scale", .build = build_quantize, .oracle = oracle_quantize, .exact = true, .n_in = 2, .p = { -1 },
      .in = { { .rank = 1, .dim = { 9 }, .values = OP_TIES }, { .rank = 1, .dim = { 1 }, .values = OP_ZEROS } } },
};
OP_CASES(quantize_int8, quantize);
#undef CASE

#define CASE(text, axis, rank_, r, ...)                                                            \
    { .name = text, .build = build_dequantize, .oracle = oracle_dequantize, .ulps = 1, .n_in = 2, .p = { axis }, \
      .in = { { .dtype = QN_I8, .rank = r, .dim = { __VA_ARGS__ }, .low = -127, .high = 128 },     \
              { .rank = rank_, .dim = { (rank_) ? PICK(axis, __VA_ARGS__, 0, 0) : 0 } } } },
static const struct op_case dequantize[] = { SHAPES };
OP_CASES(dequantize_int8, dequantize);
#undef CASE

#define CASE(text, finite, before, ...)                                                            \
    { .name = text, .build = build_scale, .oracle = oracle_scale, .oracle_written = written_scale, .exact = true, \
      .n_in = 2, .p = { finite, __VA_ARGS__ }, .q = { 0, 0, before },                              \
      .in = { { .rank = 1, .dim = { 3 }, .stored = true, .edit = edit_state },                     \
              { .dtype = QN_BOOL, .rank = 0, .edit = edit_flag } } },
static const struct op_case scale[] = {
    CASE("counts", 1, 5, 0) CASE("grows", 1, 1999, 0) CASE("shrinks", 0, 5, 0) CASE("interval of 1", 1, 0, 1)
    CASE("at the upper limit", 1, 3, 4, 1, 1500) CASE("at the lower limit", 0, 3, 4, 700, 4000)
};
OP_CASES(loss_scale, scale);
/* clang-format on */
