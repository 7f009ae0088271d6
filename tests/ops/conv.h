/* conv.h - geometry and definition that the cases of the three directions of a convolution share.
 * p: stride, dilation, pad, pad_end (each the same along both axes), groups; then what the row's size fields need. */
#ifndef QN_TESTS_OPS_CONV_H
#define QN_TESTS_OPS_CONV_H
#include "ops.h"
#include <string.h>

static inline struct qn__conv_attr conv_attr(const struct op_case *c)
{
    struct qn__conv_attr a;
    memset(&a, 0, sizeof a);
    for (int i = 0; i < 2; i++) {
        a.stride[i] = (int32_t)c->p[0];
        a.dilation[i] = (int32_t)c->p[1];
        a.pad[i] = (int32_t)c->p[2];
        a.pad_end[i] = (int32_t)c->p[3];
        a.size[i] = c->p[5 + i];
    }
    a.groups = (int32_t)c->p[4];
    a.channels = c->p[7];
    return a;
}

/* Calls `add` for every product of the definition: indices into x, w and y. */
static inline void conv_products(const struct op_case *c, const int64_t *x, const int64_t *w, const int64_t *y,
                                 void (*add)(void *to, int64_t xi, int64_t wi, int64_t yi), void *to)
{
    int64_t index[7], limit[7] = { y[0], y[1], y[2], y[3], w[1], w[2], w[3] }, total = 1;
    for (int i = 0; i < 7; i++) total *= limit[i];
    for (int64_t at = 0; at < total; at++) {
        int64_t rest = at;
        for (int i = 6; i >= 0; i--) {
            index[i] = rest % limit[i];
            rest /= limit[i];
        }
        int64_t row = index[2] * c->p[0] - c->p[2] + index[5] * c->p[1];
        int64_t col = index[3] * c->p[0] - c->p[2] + index[6] * c->p[1];
        int64_t channel = index[1] / (w[0] / c->p[4]) * w[1] + index[4];
        if (row < 0 || row >= x[2] || col < 0 || col >= x[3]) continue;
        add(to, ((index[0] * x[1] + channel) * x[2] + row) * x[3] + col,
            ((index[1] * w[1] + index[4]) * w[2] + index[5]) * w[3] + index[6], at / (w[1] * w[2] * w[3]));
    }
}

struct conv_sum {
    const double *a, *b;
    double *y;
};

/* What the tables of the three directions are written with. */
/* clang-format off */
#define LIBRARY .fixed_threads = "oneDNN divides sums among the threads it has"
#define PADDED .finite_only = "padding is multiplied as zeros, and 0 times infinity is NaN",
#define CASE(text, n, ...)                                                                         \
    .name = text, .build = build, .oracle = oracle, .n_in = 2, .terms = n, LIBRARY, .p = { __VA_ARGS__ }
#define X(...) { .rank = 4, .dim = { __VA_ARGS__ } }
/* Sizes at which loops over lanes, warps and tiles end: for channels, filters and pixels of each table. */
#define CONV_SIZES(S) S(31) S(33) S(127) S(129) S(257)
/* clang-format on */
#endif
