/* avg_pool2d_grad: equal shares of dy over each window. */
#include "ops.h"

static qn_t build(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    struct qn__pool_attr attr = { { (int32_t)c->p[0], (int32_t)c->p[1] },
                                  { (int32_t)c->p[2], (int32_t)c->p[2] },
                                  { (int32_t)c->p[3], (int32_t)c->p[4] },
                                  { c->p[5], c->p[6] } };
    return qn__node(g, QN_OP_avg_pool2d_grad, x, 1, &attr);
}

static void share(double *dx, double dy, int64_t row, int64_t col, const struct op_case *c)
{
    int64_t h = c->p[5], w = c->p[6];
    int n = 0;
    for (int count = 1; count >= 0; count--)
        for (int64_t i = row; i < row + c->p[0]; i++)
            for (int64_t j = col; j < col + c->p[1]; j++) {
                if (i < 0 || i >= h || j < 0 || j >= w) continue;
                if (count)
                    n++;
                else
                    dx[i * w + j] += dy / n;
            }
}
static void oracle(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    int64_t oh = x[0].dim[2], ow = x[0].dim[3], image = c->p[5] * c->p[6];
    for (int64_t n = 0; n < y->dim[0] * y->dim[1]; n++)
        for (int64_t i = 0; i < oh; i++)
            for (int64_t j = 0; j < ow; j++)
                share(y->v + n * image, x[0].v[(n * oh + i) * ow + j], i * c->p[2] - c->p[3], j * c->p[2] - c->p[4], c);
}

/* clang-format off */
#define CASE(text, n, ...)                                                                         \
    .name = text, .build = build, .oracle = oracle, .n_in = 1, .terms = n, .p = { __VA_ARGS__ }
#define IN(...) .in = { { .rank = 4, .dim = { __VA_ARGS__ } } }
#define SIZES(S) S(31) S(33) S(127) S(129) S(257)
#define SIZE(n) \
    { CASE(#n " channels", 2, 2, 2, 1, 0, 0, 2, 3), IN(1, n, 1, 2) }, \
    { CASE(#n " pixels", 6, 2, 3, 1, 0, 1, 3, n), IN(1, 2, 2, n) },
static const struct op_case cases[] = {
    SIZES(SIZE)
    { CASE("a row", 3, 1, 3, 1, 0, 1, 1, 33), IN(1, 1, 1, 33) },
    { CASE("2x2", 1, 2, 2, 2, 0, 0, 6, 8), IN(2, 16, 3, 4) },
    { CASE("odd sizes", 1, 2, 2, 2, 0, 0, 7, 9), IN(3, 8, 3, 4) },
    { CASE("overlapping, padded", 4, 3, 3, 2, 1, 1, 7, 8), IN(2, 24, 4, 4) },
    { CASE("2x5 by 1x1", 10, 2, 5, 1, 1, 2, 6, 11), IN(1, 10, 7, 11) },
    { CASE("gaps", 1, 1, 2, 3, 0, 0, 7, 8), IN(2, 3, 3, 3) },
    { CASE("one channel", 1, 2, 2, 2, 0, 0, 5, 5), IN(2, 1, 2, 2) },
    { CASE("empty batch", 1, 2, 2, 2, 0, 0, 4, 4), IN(0, 8, 2, 2) },
    { CASE("many", 4, 3, 3, 2, 1, 1, 14, 14), IN(4, 32, 7, 7) },
    { CASE("5x5 by 1x1", 25, 5, 5, 1, 0, 0, 7, 9), IN(2, 3, 3, 5) },
    { CASE("global", 1, 5, 7, 7, 0, 0, 5, 7), IN(2, 16, 1, 1) },
};
OP_CASES(avg_pool2d_grad, cases);
/* clang-format on */
