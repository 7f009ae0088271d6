/* test_edges.c - fault rows C5 and C6: what operators give at the edge of their domain, in f32 and f64, forward and
 * backward, through a compiled program. Each expected value is written down here, from the definition and not from a
 * kernel: a finite operand gives NaN only where the definition is 0/0 or has no real value. And indices that are no
 * index end the run with one line, before anything is read by them. */
#include "ops.h"
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#define INF ((double)INFINITY)
#define NOT ((double)NAN)
enum { MOST = 12 };

struct edge {
    const char *name;
    qn_t (*build)(qn_graph *g, const qn_t *x);
    int n_in;
    struct {
        int rank;
        int64_t dim[4];
        double v[MOST];
        bool index;
    } in[3];
    double y[MOST];  /* the result                                      */
    double dx[MOST]; /* gradient of sum y with respect to operand 0     */
    bool no_gradient;
};

/* ---- builders ------------------------------------------------------------------------------------- */

/* clang-format off */
#define UNARY(row) static qn_t do_##row(qn_graph *g, const qn_t *x) { return qn_##row(g, x[0]); }
#define BINARY(row) static qn_t do_##row(qn_graph *g, const qn_t *x) { return qn_##row(g, x[0], x[1]); }
#define WITH(name, expression) static qn_t do_##name(qn_graph *g, const qn_t *x) { return expression; }
UNARY(sqrt) UNARY(rsqrt) UNARY(exp) UNARY(log) UNARY(sigmoid) UNARY(tanh) UNARY(softplus) UNARY(silu) UNARY(gelu_erf)
UNARY(gelu_tanh) UNARY(relu) UNARY(abs) UNARY(softmax) UNARY(log_softmax) UNARY(mean_all) UNARY(sum_squares)
UNARY(global_avg_pool2d) UNARY(global_max_pool2d)
BINARY(div) BINARY(power) BINARY(mse) BINARY(l1) BINARY(bce_with_logits) BINARY(minimum)
WITH(elu, qn_elu(g, x[0], 1))
WITH(pow_0, qn_pow(g, x[0], 0))
WITH(pow_minus_1, qn_pow(g, x[0], -1))
WITH(pow_half, qn_pow(g, x[0], 0.5))
WITH(exponent, qn_power(g, x[1], x[0]))
WITH(huber, qn_huber(g, x[0], x[1], 1))
WITH(sum_rows, qn_sum(g, x[0], QN_AXIS(1), false))
WITH(mean_rows, qn_mean(g, x[0], QN_AXIS(1), false))
WITH(matmul, qn_matmul(g, x[0], x[1], NULL))
WITH(conv, qn_conv2d(g, x[0], x[1], NULL))
WITH(max_pool, qn_max_pool2d(g, x[0], &(qn_pool2d_opts){ .window = { 2, 2 } }))
WITH(argmax, qn_cast(g, qn_argmax(g, x[0], 1, false), qn_dtype_of(g, x[0])))
WITH(batch_norm, qn_batch_norm(g, x[0], x[1], x[2], 1e-5, NULL))
WITH(variance, qn_batch_norm_fixed(g, x[1], x[2], x[2], x[2], x[0], 1e-5))
WITH(masked, qn_softmax(g, qn_where(g, qn_gt(g, x[1], qn_scalar(g, qn_dtype_of(g, x[1]), 0)), x[0],
                                     qn_scalar(g, qn_dtype_of(g, x[0]), -1e30))))
WITH(loss, qn_cross_entropy(g, x[0], x[1], NULL))
WITH(ignoring, qn_cross_entropy(g, x[0], x[1], &(qn_cross_entropy_opts){ .use_ignore = true, .ignore_index = 2 }))
WITH(weighing, qn_cross_entropy(g, x[0], x[1], &(qn_cross_entropy_opts){ .weight = x[2] }))
WITH(smoothing, qn_cross_entropy(g, x[0], x[1], &(qn_cross_entropy_opts){ .use_ignore = true, .ignore_index = 2,
                                                                          .smoothing = 0.1 }))
WITH(gather, qn_gather(g, x[0], x[1], 0))
WITH(scatter, qn_scatter_add(g, x[0], x[1], 0, 3))
/* clang-format on */

/* ---- the table: values at the edge ------------------------------------------------------------------ */

#define V(...) \
    { \
        __VA_ARGS__ \
    }
#define ROW(n, ...) \
    { \
        .rank = 1, .dim = { n }, .v = { __VA_ARGS__ } \
    }
#define GRID(r, c, ...) \
    { \
        .rank = 2, .dim = { r, c }, .v = { __VA_ARGS__ } \
    }
#define INDEX(n, ...) \
    { \
        .rank = 1, .dim = { n }, .v = { __VA_ARGS__ }, .index = true \
    }
#define ONE(row, what, n, x, result, gradient) \
    { .name = #row ": " what, .build = do_##row, .n_in = 1, .in = { ROW(n, x) }, .y = { result }, .dx = { gradient } },
#define L(...) __VA_ARGS__

    /* clang-format off */
static const struct edge values[] = {
    ONE(log, "0, below 0, infinity", 5, L(0, -0.0, -1, 1, INF), L(-INF, -INF, NOT, 0, INF), L(INF, -INF, -1, 1, 0))
    ONE(sqrt, "0, below 0, infinity", 4, L(0, -1, INF, 4), L(0, NOT, INF, 2), L(INF, NOT, 0, 0.25))
    ONE(rsqrt, "0, below 0, infinity", 4, L(0, -1, INF, 4), L(INF, NOT, 0, 0.5), L(-INF, NOT, 0, -0.0625))
    ONE(exp, "far", 3, L(1000, -1000, -INF), L(INF, 0, 0), L(INF, 0, 0))
    ONE(sigmoid, "far", 4, L(1000, -1000, INF, -INF), L(1, 0, 1, 0), L(0, 0, 0, 0))
    ONE(tanh, "far", 4, L(1000, -1000, INF, -INF), L(1, -1, 1, -1), L(0, 0, 0, 0))
    ONE(softplus, "far", 3, L(1000, -1000, -INF), L(1000, 0, 0), L(1, 0, 0))
    ONE(silu, "far", 3, L(1000, -1000, 1e30), L(1000, 0, 1e30), L(1, 0, 1))
    ONE(gelu_erf, "far", 4, L(1000, -1000, 1e30, -1e30), L(1000, 0, 1e30, 0), L(1, 0, 1, 0))
    ONE(gelu_tanh, "far", 4, L(1000, -1000, 1e30, -1e30), L(1000, 0, 1e30, 0), L(1, 0, 1, 0))
    ONE(elu, "far", 3, L(1000, -1000, -INF), L(1000, -1, -1), L(1, 0, 0))
    ONE(relu, "0 and far", 4, L(0, -0.0, -1e30, 1e30), L(0, 0, 0, 1e30), L(0, 0, 0, 1))
    ONE(abs, "0", 2, L(0, -0.0), L(0, 0), L(0, 0))
    ONE(pow_0, "0^0", 4, L(0, -0.0, -2, INF), L(1, 1, 1, 1), L(0, 0, 0, 0))
    ONE(pow_minus_1, "1/0", 3, L(0, -0.0, 2), L(INF, -INF, 0.5), L(-INF, -INF, -0.25))
    ONE(pow_half, "below 0", 2, L(0, -1), L(0, NOT), L(INF, NOT))
    { "division by 0", do_div, 2, { ROW(5, 1, -1, 0, 0, 1), ROW(5, 0, 0, 0, 5, -0.0) }, V(INF, -INF, NOT, 0, -INF),
      V(INF, INF, INF, 0.2, -INF), false },
    { "power: by the base", do_power, 2, { ROW(5, 0, 0, -8, 2, 0), ROW(5, 0, 2, 0.5, 0, -1) }, V(1, 0, NOT, 1, INF),
      V(0, 0, NOT, 0, -INF), false },
    { "power: by the exponent", do_exponent, 2, { ROW(4, 0, 2, 3, -1), ROW(4, 0, 0, 1, 0) }, V(1, 0, 1, INF),
      V(0, 0, 0, -INF), false },
    { "minimum: NaN if either is", do_minimum, 2, { ROW(3, NOT, 1, -INF), ROW(3, 1, NOT, 1) }, V(NOT, NOT, -INF),
      V(0, 0, 1), false },

    /* nothing to reduce, nothing in the batch */
    { "sum over nothing", do_sum_rows, 1, { GRID(2, 0, 0) }, V(0, 0), V(0), false },
    { "mean over nothing", do_mean_rows, 1, { GRID(2, 0, 0) }, V(0, 0), V(0), false },
    { "mean of nothing", do_mean_all, 1, { ROW(0, 0) }, V(0), V(0), false },
    { "squares of nothing", do_sum_squares, 1, { ROW(0, 0) }, V(0), V(0), false },
    { "squares of zeros", do_sum_squares, 1, { ROW(3, 0, 0, 0) }, V(0), V(0, 0, 0), false },
    { "matrix product over nothing", do_matmul, 2, { GRID(2, 0, 0), GRID(0, 3, 0) }, V(0, 0, 0, 0, 0, 0), V(0),
      false },
    { "matrix product of an empty batch", do_matmul, 2, { GRID(0, 2, 0), GRID(2, 3, 1, 2, 3, 4, 5, 6) }, V(0), V(0),
      false },
    { "convolution of an empty batch", do_conv, 2,
      { { .rank = 4, .dim = { 0, 1, 2, 2 } }, { .rank = 4, .dim = { 1, 1, 2, 2 }, .v = { 1, 2, 3, 4 } } }, V(0), V(0),
      false },
    { "batch norm of an empty batch", do_batch_norm, 3, { GRID(0, 2, 0), ROW(2, 1, 2), ROW(2, 3, 4) }, V(0), V(0),
      false },
    { "softmax of no rows", do_softmax, 1, { GRID(0, 3, 0) }, V(0), V(0), false },
    { "softmax of no classes", do_softmax, 1, { GRID(2, 0, 0) }, V(0), V(0), false },
    { "mean square of nothing", do_mse, 2, { ROW(0, 0), ROW(0, 0) }, V(0), V(0), false },
    { "cross-entropy of nothing", do_loss, 2, { GRID(0, 3, 0), INDEX(0, 0) }, V(0), V(0), false },
    { "gather nothing", do_gather, 2, { ROW(3, 1, 2, 3), INDEX(0, 0) }, V(0), V(0, 0, 0), false },
    { "scatter nothing", do_scatter, 2, { ROW(0, 0), INDEX(0, 0) }, V(0, 0, 0), V(0), false },

    /* no variance */
    { "batch norm: no variance", do_batch_norm, 3, { GRID(3, 2, 7, 0, 7, 0, 7, 0), ROW(2, 1, 2), ROW(2, 3, 4) },
      V(3, 4, 3, 4, 3, 4), V(0, 0, 0, 0, 0, 0), false },
    { "batch norm: one sample", do_batch_norm, 3, { GRID(1, 2, 5, -1e30), ROW(2, 1, 2), ROW(2, 3, 4) },
      V(3, 4), V(0, 0), false },
    { "batch norm: variance 0 given", do_variance, 3, { ROW(1, 0), GRID(2, 1, 0, 0), ROW(1, 0) }, V(0, 0), V(0),
      false },

    /* masks */
    { "softmax: masked by -inf", do_softmax, 1, { GRID(2, 3, -INF, 0, -INF, 1, -INF, 1) }, V(0, 1, 0, 0.5, 0, 0.5),
      V(0, 0, 0, 0, 0, 0), false },
    { "softmax: all masked by a finite number", do_masked, 2, { GRID(2, 2, 5, 6, 7, 8), GRID(2, 2, 0, 0, 1, 0) },
      V(0.5, 0.5, 1, 0), V(0, 0, 0, 0), false },
    { "softmax: a row of -inf only is 0/0", do_softmax, 1, { GRID(2, 2, -INF, -INF, 0, 0) }, V(NOT, NOT, 0.5, 0.5),
      V(NOT, NOT, 0, 0), false },
    { "softmax: all at the end of the range", do_softmax, 1, { GRID(2, 2, 3e38, 3e38, -3e38, -3e38) },
      V(0.5, 0.5, 0.5, 0.5), V(0, 0, 0, 0), false },
    { "log-softmax: masked by -inf", do_log_softmax, 1, { GRID(1, 2, -INF, 5) }, V(-INF, 0), V(1, -1), false },
    { "cross-entropy: a masked class that is not the target", do_loss, 2, { GRID(1, 3, -INF, 0, 0), INDEX(1, 1) },
      V(0.69314718055994531), V(0, -0.5, 0.5), false },
    { "cross-entropy: the target has probability 0", do_loss, 2, { GRID(1, 3, -INF, 0, 0), INDEX(1, 0) }, V(INF),
      V(-1, 0.5, 0.5), false },
    { "cross-entropy: e^-1000", do_loss, 2, { GRID(1, 2, 1000, 0), INDEX(1, 1) }, V(1000), V(1, -1), false },
    { "cross-entropy: all rows ignored", do_ignoring, 2, { GRID(2, 3, 1, 2, 3, -INF, NOT, 5), INDEX(2, 2, 2) }, V(0),
      V(0, 0, 0, 0, 0, 0), false },
    { "cross-entropy: one row ignored", do_ignoring, 2, { GRID(2, 2, 9, -9, 0, 0), INDEX(2, 2, 0) },
      V(0.69314718055994531), V(0, 0, -0.5, 0.5), false },
    { "cross-entropy: all ignored, smoothed", do_smoothing, 2, { GRID(2, 3, 1, 2, 3, 4, 5, 6), INDEX(2, 2, 2) }, V(0),
      V(0, 0, 0, 0, 0, 0), false },
    { "cross-entropy: targets of weight 0 only", do_weighing, 3,
      { GRID(2, 2, 1, 2, 3, 4), INDEX(2, 1, 1), ROW(2, 1, 0) }, V(0), V(0, 0, 0, 0), false },
    { "cross-entropy: log 0 of a class without share", do_loss, 2, { GRID(1, 2, -INF, 3), GRID(1, 2, 0, 1) }, V(0),
      V(0, 0), false },
    { "BCE: far", do_bce_with_logits, 2, { ROW(4, 1000, -1000, 1000, -1000), ROW(4, 1, 0, 0, 1) }, V(500),
      V(0, 0, 0.25, -0.25), false },

    /* kinks and ends */
    { "L1: no difference", do_l1, 2, { ROW(2, 3, 3), ROW(2, 3, 3) }, V(0), V(0, 0), false },
    { "Huber: no difference, far", do_huber, 2, { ROW(2, 3, 1e30), ROW(2, 3, 0) }, V(5e29), V(0, 0.5), false },
    { "max pool: all -inf", do_max_pool, 1, { { .rank = 4, .dim = { 1, 1, 2, 2 }, .v = { -INF, -INF, -INF, -INF } } },
      V(-INF), V(1, 0, 0, 0), false },
    { "global max pool: one element", do_global_max_pool2d, 1, { { .rank = 4, .dim = { 1, 2, 1, 1 }, .v = { 0, -5 } } },
      V(0, -5), V(1, 1), false },
    { "global mean pool: one element", do_global_avg_pool2d, 1,
      { { .rank = 4, .dim = { 1, 2, 1, 1 }, .v = { 0, -5 } } }, V(0, -5), V(1, 1), false },
    { "argmax: ties, -inf only, NaN", do_argmax, 1, { GRID(3, 3, 1, 1, 0, -INF, -INF, -INF, 9, NOT, 10) }, V(0, 0, 1),
      V(0), true },
};
/* clang-format on */

/* ---- running a row ------------------------------------------------------------------------------------ */

struct run {
    qn_graph *g;
    qn_store *s;
    qn_program *p;
    qn_t x[3], y, dx;
};

static void put_in(const struct edge *e, const struct run *r, int i, qn_dtype real)
{
    int64_t n = qn_count(r->g, r->x[i]);
    void *data = qn_program_data(r->p, r->x[i]);
    if (data) qn_convert(data, e->in[i].index ? QN_I32 : real, e->in[i].v, QN_F64, (size_t)n);
}

static void start(const struct edge *e, qn_dtype real, struct run *r)
{
    qn_error err = { 0 };
    char name[16];
    assert_int_equal(qn_graph_new(&r->g, NULL), QN_OK);
    assert_int_equal(qn_store_new(&r->s, "cpu", 1, NULL, &err), QN_OK);
    for (int i = 0; i < e->n_in; i++) {
        snprintf(name, sizeof name, "x%d", i);
        r->x[i] = qn_input(r->g, name, e->in[i].index ? QN_I32 : real, e->in[i].rank, e->in[i].dim);
    }
    r->y = e->build(r->g, r->x);
    r->dx = (qn_t){ 0 };
    if (!e->no_gradient) qn_grad(r->g, qn_sum_all(r->g, r->y), &r->x[0], &r->dx, 1);
    if (qn_graph_status(r->g)) fail_msg("%s: %s", e->name, qn_graph_error(r->g)->text);
    qn_t keep[] = { r->y, r->dx };
    if (qn_compile(&r->p, r->g, keep, e->no_gradient ? 1 : 2, r->s, &(qn_compile_opts){ .threads = 2 }, &err) ||
        qn_program_load(r->p, &err))
        fail_msg("%s: %s", e->name, err.text);
    for (int i = 0; i < e->n_in; i++) put_in(e, r, i, real);
}

static void end(struct run *r)
{
    qn_program_free(r->p);
    qn_store_free(r->s);
    qn_graph_free(r->g);
}

static bool near(double got, double want, qn_dtype real)
{
    if (isnan(want) || isnan(got)) return isnan(want) && isnan(got);
    if (isinf(want) || isinf(got)) return want == got;
    return fabs(got - want) <= (real == QN_F32 ? 1e-5 : 1e-12) * fmax(fabs(want), 1e-3);
}

static void compare(const struct edge *e, const struct run *r, qn_t t, const double *want, const char *what,
                    qn_dtype real)
{
    double got[MOST];
    int64_t n = qn_count(r->g, t);
    assert_true(n <= MOST);
    qn_convert(got, QN_F64, qn_program_data(r->p, t), real, (size_t)n);
    for (int64_t i = 0; i < n; i++)
        if (!near(got[i], want[i], real))
            fail_msg("%s, %s: %s %lld is %g; expected %g", e->name, qn_dtype_name(real), what, (long long)i, got[i],
                     want[i]);
}

static void values_at_the_edge(void **state)
{
    (void)state;
    enum { N = sizeof values / sizeof *values };
    for (int i = 0; i < N; i++)
        for (int wide = 0; wide < 2; wide++) {
            const struct edge *e = &values[i];
            qn_dtype real = wide ? QN_F64 : QN_F32;
            struct run r;
            qn_error err = { 0 };
            start(e, real, &r);
            if (qn_program_run(r.p, QN_MICRO, &err)) fail_msg("%s: %s", e->name, err.text);
            compare(e, &r, r.y, e->y, "element", real);
            if (!e->no_gradient) compare(e, &r, r.dx, e->dx, "gradient", real);
            end(&r);
        }
    print_message("%d rows, forward and backward, in f32 and f64\n", N);
}

/* ---- C5: indices that are none -------------------------------------------------------------------------- */

/* The same table for 32 and 64 bits: the first index that is wrong is told, with its place. */
static const struct {
    const char *name;
    qn_t (*build)(qn_graph *g, const qn_t *x);
    const char *what;
} takers[] = {
    { "gather", do_gather, "index" },
    { "scatter_add", do_scatter, "index" },
    { "cross_entropy", do_loss, "target" },
    { "target_weight", do_ignoring, "target" },
};
static const int64_t wrong[] = { -1, 3, INT32_MIN, INT32_MAX, INT64_MIN, INT64_MAX };

static void try_index(int taker, qn_dtype type, int64_t bad)
{
    struct run r;
    qn_error err = { 0 };
    char line[200];
    int64_t index[2] = { 1, bad };
    bool rows = strcmp(takers[taker].what, "target") == 0;
    assert_int_equal(qn_graph_new(&r.g, NULL), QN_OK);
    assert_int_equal(qn_store_new(&r.s, "cpu", 1, NULL, &err), QN_OK);
    r.x[0] = qn_input(r.g, "x", QN_F32, rows ? 2 : 1, rows ? (int64_t[]){ 2, 3 } : (int64_t[]){ taker == 1 ? 2 : 3 });
    r.x[1] = qn_input(r.g, "index", type, 1, (int64_t[]){ 2 });
    r.y = takers[taker].build(r.g, r.x);
    qn_t dx, keep[2] = { r.y, { 0 } };
    qn_grad(r.g, qn_sum_all(r.g, r.y), r.x, &dx, 1);
    keep[1] = dx;
    if (qn_compile(&r.p, r.g, keep, 2, r.s, NULL, &err) || qn_program_load(r.p, &err)) fail_msg("%s", err.text);
    void *at = qn_program_data(r.p, r.x[1]);
    qn_convert(at, type, index, QN_I64, 2);
    assert_int_equal(qn_program_run(r.p, QN_MICRO, &err), QN_EDATA);
    snprintf(line, sizeof line, ": %s[1]: %lld; expected 0..2", takers[taker].what, (long long)bad);
    assert_int_equal(err.code, 3041);
    if (strncmp(err.text, "error E3041 data: ", 18) != 0 || !strstr(err.text, line))
        fail_msg("%s: %s; expected ...%s", takers[taker].name, err.text, line);
    index[1] = 2 - (strcmp(takers[taker].name, "target_weight") == 0); /* 2 is ignored there, and fine too */
    qn_convert(at, type, index, QN_I64, 2);
    assert_int_equal(qn_program_run(r.p, QN_MICRO, &err), QN_OK); /* the program is as good as before */
    end(&r);
}

static void indices_that_are_none(void **state)
{
    (void)state;
    for (int t = 0; t < 4; t++)
        for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
            if (wrong[i] >= INT32_MIN && wrong[i] <= INT32_MAX) try_index(t, QN_I32, wrong[i]);
            try_index(t, QN_I64, wrong[i]);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(values_at_the_edge), cmocka_unit_test(indices_that_are_none) };
    return cmocka_run_group_tests_name("edges", tests, NULL, NULL);
}
