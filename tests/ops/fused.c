/* fused.c - cases of fused: programs such as the fusion pass makes. */
#include "ops.h"
#include <math.h>
#include <string.h>

#define MAKE(result, operands, ...) \
    struct qn__fused_attr f; \
    static const struct qn__pw_instr program[] = { __VA_ARGS__ }; \
    memset(&f, 0, sizeof f); \
    f.n = (int32_t)(sizeof program / sizeof *program); \
    f.n_in = operands; \
    memcpy(f.instr, program, sizeof program); \
    return qn__node_shaped(g, QN_OP_fused, x, operands, &f, result, 0, NULL, NULL, NULL)

/* relu(a b + c) */
static qn_t build_relu(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    (void)c;
    MAKE(qn_dtype_of(g, x[0]), 3, { QN_OP_mul, 0, 1, 1, 0, 0 }, { QN_OP_add, 3, 2, 2, 0, 0 },
         { QN_OP_relu, 4, 4, 4, 0, 0 });
}
static double at(const struct op_data *x, const struct op_data *y, int64_t i)
{
    int64_t offset = 0, step = 1;
    for (int k = y->rank - 1; k >= y->rank - x->rank; k--) {
        int64_t dim = x->dim[k - (y->rank - x->rank)];
        if (dim > 1) offset += i % y->dim[k] * step;
        step *= dim;
        i /= y->dim[k];
    }
    return x->v[offset];
}
static void oracle_relu(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    (void)c;
    for (int64_t i = 0; i < y->count; i++) {
        double t = at(&x[0], y, i) * at(&x[1], y, i) + at(&x[2], y, i);
        y->v[i] = t > 0 || isnan(t) ? t : 0;
    }
}
/* the product's rounding, then the sum's */
static double bound_relu(const struct op_case *c, const struct op_data *x, const struct op_data *y, int64_t i,
                         double eps)
{
    (void)c;
    return eps * (fabs(at(&x[0], y, i) * at(&x[1], y, i)) + 2 * fabs(y->v[i])) * (1 + 4 * eps) + eps * eps;
}

/* Twenty-four instructions, each needing the one before: t = t/2 + 1/8. */
static qn_t build_long(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    struct qn__fused_attr f;
    (void)c;
    memset(&f, 0, sizeof f);
    f.n = QN_FUSED_MAX;
    f.n_in = 1;
    for (int32_t i = 0; i < f.n; i++) f.instr[i] = (struct qn__pw_instr){ QN_OP_affine, i, i, i, 0.5, 0.125 };
    return qn__node_shaped(g, QN_OP_fused, x, 1, &f, qn_dtype_of(g, x[0]), 0, NULL, NULL, NULL);
}
static void oracle_long(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    (void)c;
    for (int64_t i = 0; i < y->count; i++) {
        y->v[i] = x[0].v[i];
        for (int k = 0; k < QN_FUSED_MAX; k++) y->v[i] = 0.5 * y->v[i] + 0.125;
    }
}

/* a result of another element type than the operands */
static qn_t build_compare(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    (void)c;
    MAKE(QN_BOOL, 2, { QN_OP_gt, 0, 1, 1, 0, 0 });
}
static void oracle_compare(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    (void)c;
    for (int64_t i = 0; i < y->count; i++) y->v[i] = at(&x[0], y, i) > at(&x[1], y, i);
}

/* sin(a) + cos(b): arguments beyond the vector version's range take another way */
static qn_t build_trig(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    (void)c;
    MAKE(qn_dtype_of(g, x[0]), 2, { QN_OP_sin, 0, 0, 0, 0, 0 }, { QN_OP_cos, 1, 1, 1, 0, 0 },
         { QN_OP_add, 2, 3, 3, 0, 0 });
}
static void oracle_trig(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    (void)c;
    for (int64_t i = 0; i < y->count; i++) y->v[i] = sin(x[0].v[i]) + cos(x[1].v[i]);
}
/* 1 ulp of numbers up to 1, twice, and the sum's rounding */
static double bound_trig(const struct op_case *c, const struct op_data *x, const struct op_data *y, int64_t i,
                         double eps)
{
    (void)c;
    (void)x;
    return 4 * eps + eps * fabs(y->v[i]);
}

/* (a + b)(c + d) + (e + f)(g + h): as many operands as there may be, every sum alive until its product */
static qn_t build_wide(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    (void)c;
    MAKE(qn_dtype_of(g, x[0]), 8, { QN_OP_add, 0, 1, 1, 0, 0 }, { QN_OP_add, 2, 3, 3, 0, 0 },
         { QN_OP_add, 4, 5, 5, 0, 0 }, { QN_OP_add, 6, 7, 7, 0, 0 }, { QN_OP_mul, 8, 9, 9, 0, 0 },
         { QN_OP_mul, 10, 11, 11, 0, 0 }, { QN_OP_add, 12, 13, 13, 0, 0 });
}
static void oracle_wide(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    (void)c;
    for (int64_t i = 0; i < y->count; i++)
        y->v[i] = (at(&x[0], y, i) + at(&x[1], y, i)) * (at(&x[2], y, i) + at(&x[3], y, i)) +
                  (at(&x[4], y, i) + at(&x[5], y, i)) * (at(&x[6], y, i) + at(&x[7], y, i));
}
/* operands below 2, sums below 4: each product carries three roundings of at most 16 eps, the sum one of 32 eps */
static double bound_wide(const struct op_case *c, const struct op_data *x, const struct op_data *y, int64_t i,
                         double eps)
{
    (void)c;
    (void)x;
    (void)y;
    (void)i;
    return (2 * 3 * 16 + 32) * eps * (1 + 8 * eps);
}

/* clang-format off */
#define RELU .build = build_relu, .oracle = oracle_relu, .bound = bound_relu, .n_in = 3
#define SIZE(n)                                                                                    \
    { .name = #n, RELU,                                                                            \
      .in = { { .rank = 2, .dim = { 3, n } }, { .rank = 2, .dim = { 3, n } }, { .rank = 1, .dim = { n } } } },
static const struct op_case cases[] = {
    OP_SIZES(SIZE)
    { .name = "numbers", RELU, .in = { { .rank = 1, .dim = { 700 } }, { .rank = 0 }, { .rank = 0 } } },
    { .name = "dense", RELU, .in = { { .rank = 1, .dim = { 700 } }, { .rank = 1, .dim = { 700 } }, { .rank = 1,
          .dim = { 700 } } } },
    { .name = "channels", RELU,
      .in = { { .rank = 4, .dim = { 2, 16, 5, 7 } }, { .rank = 4, .dim = { 1, 16, 1, 1 } }, { .rank = 3,
              .dim = { 16, 1, 1 } } } },
    { .name = "large", RELU,
      .in = { { .rank = 2, .dim = { 60, 701 } }, { .rank = 2, .dim = { 60, 1 } }, { .rank = 1, .dim = { 701 } } } },
    { .name = "other element types", RELU,
      .in = { { .rank = 2, .dim = { 9, 70 } }, { .dtype = QN_BF16, .rank = 2, .dim = { 9, 70 } },
              { .dtype = QN_U8, .rank = 1, .dim = { 70 } } } },
    { .name = "eight operands", .build = build_wide, .oracle = oracle_wide, .bound = bound_wide, .n_in = 8,
      .in = { { .rank = 2, .dim = { 3, 700 } }, { .rank = 1, .dim = { 700 } }, { .rank = 2, .dim = { 3, 1 } },
              { .rank = 0 },
              { .rank = 2, .dim = { 3, 700 } }, { .rank = 2, .dim = { 1, 700 } }, { .rank = 2, .dim = { 3, 1 } },
              { .rank = 2, .dim = { 3, 700 } } } },
    { .name = "longest", .build = build_long, .oracle = oracle_long, .ulps = QN_FUSED_MAX, .n_in = 1,
      .in = { { .rank = 1, .dim = { 1000 }, .high = 2 } } },
    { .name = "comparison", .build = build_compare, .oracle = oracle_compare, .n_in = 2,
      .in = { { .rank = 2, .dim = { 9, 70 }, .values = OP_TIES }, { .rank = 2, .dim = { 9, 1 }, .values = OP_TIES } } },
    { .name = "comparison of integers", .build = build_compare, .oracle = oracle_compare, .n_in = 2,
      .in = { { .dtype = QN_I64, .rank = 2, .dim = { 9, 70 }, .high = 9 }, { .dtype = QN_I64, .rank = 0,
              .high = 9 } } },
    { .name = "trigonometry", .build = build_trig, .oracle = oracle_trig, .bound = bound_trig, .n_in = 2,
      .in = { { .rank = 1, .dim = { 600 }, .low = -30, .high = 30 }, { .rank = 1, .dim = { 600 }, .low = -30,
              .high = 30 } } },
    { .name = "trigonometry, large arguments", .build = build_trig, .oracle = oracle_trig, .bound = bound_trig,
          .n_in = 2,
      .in = { { .rank = 1, .dim = { 600 }, .low = -1e7, .high = 1e7 }, { .rank = 1, .dim = { 600 }, .low = -1e12,
              .high = 1e12 } } },
};
OP_CASES(fused, cases);
/* clang-format on */
