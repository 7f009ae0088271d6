/* avg_pool2d: windows, strides, padding that is not counted, blocks of channels. */
#include "ops.h"

static qn_t build(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    return qn_avg_pool2d(g, x[0],
                         &(qn_pool2d_opts){ { (int32_t)c->p[0], (int32_t)c->p[1] },
                                            { (int32_t)c->p[2], (int32_t)c->p[3] },
                                            { (int32_t)c->p[4], (int32_t)c->p[5] } });
}
static qn_t build_global(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    (void)c;
    return qn_global_avg_pool2d(g, x[0]);
}

static double mean(const double *x, int64_t h, int64_t w, int64_t row, int64_t col, const struct op_case *c)
{
    double sum = 0;
    int n = 0;
    for (int64_t i = row; i < row + c->p[0]; i++)
        for (int64_t j = col; j < col + c->p[1]; j++)
            if (i >= 0 && i < h && j >= 0 && j < w) sum += x[i * w + j], n++;
    return sum / n;
}
static void oracle(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    int64_t h = x[0].dim[2], w = x[0].dim[3], oh = y->dim[2], ow = y->dim[3];
    for (int64_t n = 0; n < y->dim[0] * y->dim[1]; n++)
        for (int64_t i = 0; i < oh; i++)
            for (int64_t j = 0; j < ow; j++)
                y->v[(n * oh + i) * ow + j] = mean(x[0].v + n * h * w, h, w, i * c->p[2] - c->p[4],
                                                   j * c->p[3] - c->p[5], c);
}

/* clang-format off */
#define CASE(text, n, ...)                                                                         \
    .name = text, .build = build, .oracle = oracle, .n_in = 1, .terms = n, .p = { __VA_ARGS__ }
#define IN(...) .in = { { .rank = 4, .dim = { __VA_ARGS__ } } }
#define SIZES(S) S(31) S(33) S(127) S(129) S(257)
#define SIZE(n) \
    { CASE(#n " channels", 4, 2, 2, 1, 1, 0, 0), IN(1, n, 2, 3) }, \
    { CASE(#n " pixels", 6, 2, 3, 1, 2, 0, 1), IN(1, 2, 3, n) },
static const struct op_case cases[] = {
    SIZES(SIZE)
    { CASE("a row", 3, 1, 3, 1, 1, 0, 1), IN(1, 1, 1, 33) },
    { CASE("2x2", 4, 2, 2, 2, 2, 0, 0), IN(2, 16, 6, 8) },
    { CASE("odd sizes", 4, 2, 2, 2, 2, 0, 0), IN(3, 8, 7, 9) },
    { CASE("overlapping, padded", 9, 3, 3, 2, 2, 1, 1), IN(2, 24, 7, 8) },
    { CASE("2x5 by 1x3", 10, 2, 5, 1, 3, 1, 2), IN(1, 10, 6, 11) },
    { CASE("gaps", 2, 1, 2, 3, 3, 0, 0), IN(2, 3, 7, 8) },
    { CASE("one channel", 4, 2, 2, 2, 2, 0, 0), IN(2, 1, 5, 5) },
    { CASE("empty batch", 4, 2, 2, 2, 2, 0, 0), IN(0, 8, 4, 4) },
    { CASE("many", 9, 3, 3, 2, 2, 1, 1), IN(4, 32, 14, 14) },
    { .name = "global",
      .build = build_global,
      .oracle = oracle,
      .n_in = 1,
      .terms = 35,
      .p = { 5, 7, 5, 7 },
      IN(2, 16, 5, 7) },
    { .name = "global, odd planes",
      .build = build_global,
      .oracle = oracle,
      .n_in = 1,
      .terms = 35,
      .p = { 5, 7, 5, 7 },
      IN(3, 5, 5, 7) },
};
OP_CASES(avg_pool2d, cases);
/* clang-format on */
