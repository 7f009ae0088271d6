/* softmax.c - cases of softmax, log_softmax and their gradients: rows of the last axis. */
#include "softmax.h"
#include <float.h>
#include <math.h>

struct softmax_row softmax_row_of(const double *x, int64_t n)
{
    struct softmax_row r = { .max = -INFINITY };
    long double sum = 0, far = 0;
    for (int64_t i = 0; i < n; i++) r.max = fmax(r.max, x[i]);
    for (int64_t i = 0; i < n; i++) {
        long double e = expl((long double)x[i] - (long double)r.max);
        sum += e;
        far += e * ((long double)r.max - (long double)x[i]);
    }
    r.log_sum = (double)logl(sum);
    r.far = (double)(far / sum);
    return r;
}

bool softmax_same_row(struct softmax_walk *last, const struct op_data *x, int64_t i)
{
    bool same = last->v == x->v && last->at + 1 == i && i % x->dim[x->rank - 1] != 0;
    *last = (struct softmax_walk){ x->v, i };
    return same;
}

struct softmax_row softmax_row_at(const struct op_data *x, int64_t i)
{
    static struct softmax_walk last;
    static struct softmax_row row;
    int64_t n = x->dim[x->rank - 1];
    if (!softmax_same_row(&last, x, i)) row = softmax_row_of(x->v + i / n * n, n);
    return row;
}

double softmax_p(const struct softmax_row *r, double x) { return exp(x - r->max - r->log_sum); }

double softmax_sum_steps(int64_t n, double unit) { return unit < 0x1p-40 ? (double)n + 4 : 4; }

double softmax_least(double unit) { return unit > 0x1p-40 ? 2 * (double)FLT_MIN : 2 * DBL_MIN; }

static qn_t build_row(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    (void)c;
    return qn_softmax(g, x[0]);
}
static qn_t build_log(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    (void)c;
    return qn_log_softmax(g, x[0]);
}
static qn_t build_grad(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    (void)c;
    return qn__node(g, QN_OP_softmax_grad, x, 2, NULL);
}
static qn_t build_log_grad(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    (void)c;
    return qn__node(g, QN_OP_log_softmax_grad, x, 2, NULL);
}

static int64_t width(const struct op_data *x) { return x->dim[x->rank - 1]; }

static void oracle_row(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    (void)c;
    for (int64_t i = 0; i < y->count; i++) {
        struct softmax_row r = softmax_row_at(&x[0], i);
        y->v[i] = softmax_p(&r, x[0].v[i]);
    }
}
static void oracle_log(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    (void)c;
    for (int64_t i = 0; i < y->count; i++) {
        struct softmax_row r = softmax_row_at(&x[0], i);
        y->v[i] = x[0].v[i] - r.max - r.log_sum;
    }
}
/* Sums over the row of dy, |dy|, dy y and |dy y|, y being operand 0. */
struct row_sums {
    double dy, abs_dy, dy_y, abs_dy_y;
};
static struct row_sums row_sums(const struct op_data *x, int64_t i)
{
    static struct softmax_walk last;
    static struct row_sums s;
    if (softmax_same_row(&last, x, i)) return s;
    int64_t w = width(x), begin = i / w * w;
    long double dy = 0, dy_y = 0;
    s = (struct row_sums){ 0 };
    for (int64_t k = begin; k < begin + w; k++) {
        dy += (long double)x[1].v[k];
        dy_y += (long double)x[1].v[k] * (long double)x[0].v[k];
        s.abs_dy += fabs(x[1].v[k]);
        s.abs_dy_y += fabs(x[1].v[k] * x[0].v[k]);
    }
    s.dy = (double)dy;
    s.dy_y = (double)dy_y;
    return s;
}
static void oracle_grad(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    (void)c;
    for (int64_t i = 0; i < y->count; i++) y->v[i] = x[0].v[i] * (x[1].v[i] - row_sums(x, i).dy_y);
}
static void oracle_log_grad(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    (void)c;
    for (int64_t i = 0; i < y->count; i++) y->v[i] = x[1].v[i] - exp(x[0].v[i]) * row_sums(x, i).dy;
}

/* x - max rounds, which e^ makes relative; likewise every term of the sum; then e^, the scale and the product. */
static double bound_row(const struct op_case *c, const struct op_data *x, const struct op_data *y, int64_t i,
                        double eps)
{
    (void)c;
    struct softmax_row r = softmax_row_at(&x[0], i);
    double share = r.max - x[0].v[i] + r.far + 10 + softmax_sum_steps(width(y), eps);
    return eps * share * fabs(y->v[i]) + softmax_least(eps);
}
static double bound_log(const struct op_case *c, const struct op_data *x, const struct op_data *y, int64_t i,
                        double eps)
{
    (void)c;
    struct softmax_row r = softmax_row_at(&x[0], i);
    double of_sum = r.far + softmax_sum_steps(width(y), eps) + 2 * fabs(r.log_sum);
    return eps * (r.max - x[0].v[i] + 4 + of_sum + fabs(y->v[i]));
}
static double bound_grad(const struct op_case *c, const struct op_data *x, const struct op_data *y, int64_t i,
                         double eps)
{
    (void)c;
    struct row_sums s = row_sums(x, i);
    double sum = fabs(s.dy_y) + softmax_sum_steps(width(y), eps) * (eps < 0x1p-40 ? s.abs_dy_y : 1e-6 * s.abs_dy_y);
    return eps * (fabs(x[0].v[i]) * (fabs(x[1].v[i]) + 2 * sum) + 2 * fabs(y->v[i])) + softmax_least(eps);
}
static double bound_log_grad(const struct op_case *c, const struct op_data *x, const struct op_data *y, int64_t i,
                             double eps)
{
    (void)c;
    struct row_sums s = row_sums(x, i);
    double sum = fabs(s.dy) + softmax_sum_steps(width(y), eps) * (eps < 0x1p-40 ? s.abs_dy : 1e-6 * s.abs_dy);
    return eps * (exp(x[0].v[i]) * 8 * sum + 2 * fabs(x[1].v[i]) + fabs(y->v[i])) + softmax_least(eps);
}

/* clang-format off */
#define SIZE(n)                                                                                    \
    { .name = #n " classes", ROW, .in = { OPERAND(2, 3, n) } },                                    \
    { .name = #n " rows", ROW, .in = { OPERAND(2, n, 10) } },
#define OTHERS                                                                                     \
    { .name = "rank 1", ROW, .in = { OPERAND(1, 7) } },                                            \
    { .name = "rank 4", ROW, .in = { OPERAND(4, 2, 3, 4, 5) } },                                   \
    { .name = "threads", ROW, .in = { OPERAND(2, 700, 30) } },                                     \
    { .name = "64 classes", ROW, .in = { OPERAND(2, 3, 64) } },                                    \
    { .name = "1000 classes", ROW, .in = { OPERAND(2, 2, 1000) } },                                \
    { .name = "1001 classes", ROW, .in = { OPERAND(2, 2, 1001) } },                                \
    { .name = "beyond shared memory", ROW, .no_gradient_check = "60001 differences",               \
      .in = { OPERAND(2, 1, 60001) } },                                                            \
    { .name = "beyond shared memory, whole", ROW, .no_gradient_check = "60000 differences",        \
      .in = { OPERAND(2, 1, 60000) } },

#define OPERAND(r, ...) { .rank = r, .dim = { __VA_ARGS__ } }
#define ROW .build = build_row, .oracle = oracle_row, .bound = bound_row, .n_in = 1
static const struct op_case row[] = {
    OP_SIZES(SIZE) OTHERS
    { .name = "far apart", ROW, .in = { { .rank = 2, .dim = { 9, 50 }, .low = -80, .high = 80 } } },
    { .name = "huge", ROW, .finite_only = "f32 has no e^-200, f64 has", .no_gradient_check = "all but one are 0",
      .in = { { .rank = 2, .dim = { 9, 50 }, .low = -1e30, .high = 1e30 } } },
    { .name = "all equal and large", ROW, .in = { { .rank = 2, .dim = { 3, 7 }, .low = 3e38, .high = 3e38 } },
      .no_gradient_check = "a step is lost in numbers of that size" },
};
OP_CASES(softmax, row);
#undef ROW

#define ROW .build = build_log, .oracle = oracle_log, .bound = bound_log, .n_in = 1
static const struct op_case log_row[] = {
    OP_SIZES(SIZE) OTHERS
    { .name = "far apart", ROW, .in = { { .rank = 2, .dim = { 9, 50 }, .low = -80, .high = 80 } } },
    { .name = "huge", ROW, .in = { { .rank = 2, .dim = { 9, 50 }, .low = -1e30, .high = 1e30 } },
      .no_gradient_check = "a step is lost in numbers of that size" },
};
OP_CASES(log_softmax, log_row);
#undef ROW
#undef OPERAND

#define OPERAND(r, ...) { .rank = r, .dim = { __VA_ARGS__ } }, { .rank = r, .dim = { __VA_ARGS__ } }
#define ROW .build = build_grad, .oracle = oracle_grad, .bound = bound_grad, .n_in = 2
static const struct op_case grad[] = { OP_SIZES(SIZE) OTHERS };
OP_CASES(softmax_grad, grad);
#undef ROW

#define ROW .build = build_log_grad, .oracle = oracle_log_grad, .bound = bound_log_grad, .n_in = 2
static const struct op_case log_grad[] = { OP_SIZES(SIZE) OTHERS };
OP_CASES(log_softmax_grad, log_grad);
/* clang-format on */
