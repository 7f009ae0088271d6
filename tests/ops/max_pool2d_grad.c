/* max_pool2d_grad: each dy to the first largest of its window; ties, NaN, overlapping windows. */
#include "ops.h"
#include <math.h>

static qn_t build(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    struct qn__pool_attr attr = { { (int32_t)c->p[0], (int32_t)c->p[1] },
                                  { (int32_t)c->p[2], (int32_t)c->p[3] },
                                  { (int32_t)c->p[4], (int32_t)c->p[5] },
                                  { 0, 0 } };
    qn_t y = qn__node(g, QN_OP_max_pool2d, x, 1, &attr);
    return qn__node(g, QN_OP_max_pool2d_grad, (qn_t[]){ x[0], y, x[1] }, 3, &attr);
}

/* Index in the plane of the first largest of a window; a NaN counts as largest. */
static int64_t first_largest(const double *x, int64_t h, int64_t w, int64_t row, int64_t col, const struct op_case *c)
{
    int64_t best = -1;
    for (int64_t i = row; i < row + c->p[0]; i++)
        for (int64_t j = col; j < col + c->p[1]; j++) {
            if (i < 0 || i >= h || j < 0 || j >= w) continue;
            int64_t at = i * w + j;
            if (best < 0 || (!isnan(x[best]) && (isnan(x[at]) || x[at] > x[best]))) best = at;
        }
    return best;
}
static void oracle(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    int64_t h = y->dim[2], w = y->dim[3], oh = x[1].dim[2], ow = x[1].dim[3];
    for (int64_t n = 0; n < y->dim[0] * y->dim[1]; n++)
        for (int64_t i = 0; i < oh; i++)
            for (int64_t j = 0; j < ow; j++)
                y->v[n * h * w + first_largest(x[0].v + n * h * w, h, w, i * c->p[2] - c->p[4], j * c->p[3] - c->p[5],
                                               c)] += x[1].v[(n * oh + i) * ow + j];
}

/* A sum of at most p[6] terms; magnitudes of x would choose other elements, so the bound is taken from dy's range. */
static double bound(const struct op_case *c, const struct op_data *x, const struct op_data *y, int64_t i, double eps)
{
    (void)x, (void)y, (void)i;
    return (double)c->p[6] * (double)c->p[6] * 2 * eps * 2;
}

/* clang-format off */
#define CASE(text, ...)                                                                            \
    .name = text, .build = build, .oracle = oracle, .n_in = 2, .bound = bound, .p = { __VA_ARGS__ }
/* clang-format on */
#define IN(n, c, h, w, oh, ow, kind) \
    .in = { { .rank = 4, .dim = { n, c, h, w }, .values = kind }, { .rank = 4, .dim = { n, c, oh, ow } } }
/* clang-format off */
#define SIZES(S) S(31) S(33) S(127) S(129) S(257)
#define SIZE(n) \
    { CASE(#n " channels", 2, 2, 1, 1, 0, 0, 2), IN(1, n, 2, 3, 1, 2, OP_DISTINCT) }, \
    { CASE(#n " pixels", 2, 3, 1, 2, 0, 1, 4), IN(1, 2, 3, n, 2, (n + 1) / 2, OP_DISTINCT) },
static const struct op_case cases[] = {
    SIZES(SIZE)
    { CASE("a row", 1, 3, 1, 1, 0, 1, 3), IN(1, 1, 1, 33, 1, 33, OP_DISTINCT) },
    { CASE("2x2", 2, 2, 2, 2, 0, 0, 0), IN(2, 16, 6, 8, 3, 4, OP_DISTINCT) },
    { CASE("odd sizes", 2, 2, 2, 2, 0, 0, 0), IN(3, 8, 7, 9, 3, 4, OP_DISTINCT) },
    { CASE("overlapping, padded", 3, 3, 2, 2, 1, 1, 4), IN(2, 24, 7, 8, 4, 4, OP_DISTINCT) },
    { CASE("2x5 by 1x3", 2, 5, 1, 3, 1, 2, 4), IN(1, 10, 6, 11, 7, 4, OP_DISTINCT) },
    { CASE("gaps", 1, 2, 3, 3, 0, 0, 0), IN(2, 3, 7, 8, 3, 3, OP_DISTINCT) },
    { CASE("one channel", 2, 2, 2, 2, 0, 0, 0), IN(2, 1, 5, 5, 2, 2, OP_DISTINCT) },
    { CASE("empty batch", 2, 2, 2, 2, 0, 0, 0), IN(0, 8, 4, 4, 2, 2, OP_DISTINCT) },
    { CASE("many", 2, 2, 2, 2, 0, 0, 0), IN(4, 32, 14, 14, 7, 7, OP_DISTINCT) },
    { CASE("5x5 by 1x1", 5, 5, 1, 1, 0, 0, 15), IN(1, 3, 7, 9, 3, 5, OP_DISTINCT) },
    { CASE("ties", 3, 3, 1, 1, 1, 1, 9), IN(2, 8, 6, 6, 6, 6, OP_TIES) },
};
OP_CASES(max_pool2d_grad, cases);
/* clang-format on */
