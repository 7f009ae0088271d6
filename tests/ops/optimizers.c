/* optimizers.c - cases of the rows that move weights: sgd, momentum, adam, rmsprop, rmsprop_momentum, adagrad, lamb,
 * lion, ema, schedule. The definitions below are written from the papers, one element at a time. */
#include "ops.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* p[0]: row; p[1]: element of `options`; q: hyper */
enum { SGD, MOMENTUM, ADAM, RMSPROP, RMSPROP_MOMENTUM, ADAGRAD, LAMB, LION };

static const qn_update_opts options[] = {
    { .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .momentum = 0.9, .lr_scale = 1 },
    { .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-6, .momentum = 0.5, .lr_scale = 0.5, .weight_decay = 0.1 },
    { .beta1 = 0.9,
      .beta2 = 0.99,
      .eps = 1e-6,
      .momentum = 0.5,
      .lr_scale = 2,
      .weight_decay = 0.1,
      .nesterov = true,
      .decoupled = true },
    { .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-6, .momentum = 0.5, .lr_scale = 1, .clip_value = 0.25 },
    { .beta1 = 0, .beta2 = 0, .eps = 0, .momentum = 0, .lr_scale = 1 },
};

/* hyper, drawn in the type of the run, in the type it must have. */
static qn_t hyper_of(qn_graph *g, qn_t hyper)
{
    return qn_dtype_of(g, hyper) == QN_F64 ? hyper : qn_cast(g, hyper, QN_F32);
}
static qn_t build(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    const qn_update_opts *o = &options[c->p[1]];
    qn_t h = hyper_of(g, x[c->n_in - 1]);
    switch (c->p[0]) {
    case SGD: return qn_sgd(g, x[0], x[1], h, o);
    case MOMENTUM: return qn_momentum(g, x[0], x[1], x[2], h, o);
    case ADAM: return qn_adam(g, x[0], x[1], x[2], x[3], h, o);
    case RMSPROP: return qn_rmsprop(g, x[0], x[1], x[2], h, o);
    case RMSPROP_MOMENTUM: return qn_rmsprop_momentum(g, x[0], x[1], x[2], x[3], h, o);
    case ADAGRAD: return qn_adagrad(g, x[0], x[1], x[2], h, o);
    case LAMB: return qn_lamb(g, x[0], x[1], x[2], x[3], h, o);
    default: return qn_lion(g, x[0], x[1], x[2], h, o);
    }
}

/* lr, factor on the gradient, apply, number of the update */
static void set_hyper(const struct op_case *c, void *data, qn_dtype dtype, int64_t n)
{
    qn_convert(data, dtype, c->q, QN_F64, (size_t)n);
}

/* ---- definitions ----------------------------------------------------------------------------------- */

struct element {
    double w, a, b, step;
};

static double ratio(double a, double b) { return b == 0 ? 0 : a / b; }

/* The element after the update; for lamb `step` is the direction, which its caller scales. */
static struct element after_one(const struct op_case *c, struct element e, double grad)
{
    const qn_update_opts *o = &options[c->p[1]];
    double lr = c->q[0] * o->lr_scale, g = c->q[1] * grad, t = c->q[3], limit = o->clip_value;
    if (limit > 0) g = fmin(fmax(g, -limit), limit);
    double x = g + o->weight_decay * e.w, mu = o->momentum, b1 = o->beta1, b2 = o->beta2, old = e.w;
    switch (c->p[0]) {
    case SGD: e.w = old - lr * x; break;
    case MOMENTUM:
        e.a = mu * e.a + x;
        e.w = old - lr * (o->nesterov ? x + mu * e.a : e.a);
        break;
    case ADAM:
    case LAMB:
        if (o->decoupled || c->p[0] == LAMB) x = g;
        e.a = b1 * e.a + (1 - b1) * x;
        e.b = b2 * e.b + (1 - b2) * x * x;
        e.step = ratio(e.a / (1 - pow(b1, t)), sqrt(e.b / (1 - pow(b2, t))) + o->eps);
        if (c->p[0] == LAMB) e.step += o->weight_decay * old;
        e.w = old - lr * e.step - (o->decoupled ? lr * o->weight_decay * old : 0);
        break;
    case RMSPROP:
        e.a = b2 * e.a + (1 - b2) * x * x;
        e.w = old - lr * ratio(x, sqrt(e.a) + o->eps);
        break;
    case RMSPROP_MOMENTUM:
        e.a = b2 * e.a + (1 - b2) * x * x;
        e.b = mu * e.b + ratio(x, sqrt(e.a) + o->eps);
        e.w = old - lr * e.b;
        break;
    case ADAGRAD:
        e.a += x * x;
        e.w = old - lr * ratio(x, sqrt(e.a) + o->eps);
        break;
    case LION: {
        double direction = b1 * e.a + (1 - b1) * g;
        e.w = old - lr * ((direction > 0) - (direction < 0) + o->weight_decay * old);
        e.a = b2 * e.a + (1 - b2) * g;
        break;
    }
    }
    return e;
}

/* Operand `which` after the run. */
static void after_run(const struct op_case *c, int which, const struct op_data *x, struct op_data *after)
{
    int moments = c->n_in - 3;
    int64_t n = x[0].count;
    long double squares_w = 0, squares_u = 0;
    double *step = calloc((size_t)n + 1, sizeof *step);
    for (int64_t i = 0; step && i < n && c->q[2] != 0; i++) {
        struct element e = { x[0].v[i], moments > 0 ? x[1].v[i] : 0, moments > 1 ? x[2].v[i] : 0, 0 };
        e = after_one(c, e, x[c->n_in - 2].v[i]);
        squares_w += (long double)x[0].v[i] * (long double)x[0].v[i];
        squares_u += (long double)e.step * (long double)e.step;
        step[i] = e.step;
        after->v[i] = which == 0 ? e.w : which == 1 ? e.a : e.b;
    }
    if (c->p[0] == LAMB && which == 0 && step && c->q[2] != 0) {
        double trust = squares_w > 0 && squares_u > 0 ? sqrt((double)(squares_w / squares_u)) : 1;
        for (int64_t i = 0; i < n; i++) after->v[i] = x[0].v[i] - c->q[0] * options[c->p[1]].lr_scale * trust * step[i];
    }
    free(step);
}
static void oracle(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    memcpy(y->v, x[0].v, (size_t)y->count * sizeof *y->v);
    after_run(c, 0, x, y);
}

/* Terms of the formulas are below 4 in these cases, and at most 8 roundings of such terms reach a result. */
static double bound(const struct op_case *c, const struct op_data *x, const struct op_data *y, int64_t i, double eps)
{
    (void)x;
    (void)y;
    (void)i;
    return c->q[2] == 0 ? 0 : 16 * eps;
}
static double bound_written(const struct op_case *c, int which, const struct op_data *x, const struct op_data *after,
                            int64_t i, double eps)
{
    (void)which;
    return bound(c, x, after, i, eps);
}

/* Lamb goes over the elements twice, and the second time has the moments as they were stored: m off by a rounding, the
 * root of v by half of one. */
static double between(const struct op_case *c, const struct op_data *x, const struct op_data *y, int64_t i)
{
    if (c->p[0] != LAMB || c->q[2] == 0) return 0;
    double w = x[0].v[i];
    struct element e = after_one(c, (struct element){ w, x[1].v[i], x[2].v[i], 0 }, x[3].v[i]);
    if (e.step == 0) return 0;
    double rate = fabs((y->v[i] - w) / e.step);
    return 1.5 * rate * (fabs(e.step) + options[c->p[1]].weight_decay * fabs(w));
}

/* ---- cases ------------------------------------------------------------------------------------------- */

/* clang-format off */
#define WEIGHT(...) { .rank = 2, .dim = { __VA_ARGS__ }, .stored = true }
#define MEAN(...) { .rank = 2, .dim = { __VA_ARGS__ }, .stored = true, .values = OP_AWAY }
#define SQUARE(...) { .rank = 2, .dim = { __VA_ARGS__ }, .stored = true, .low = 0.25, .high = 2 }
#define GRAD(...) { .rank = 2, .dim = { __VA_ARGS__ }, .values = OP_AWAY }
#define HYPER { .rank = 1, .dim = { 4 }, .edit = set_hyper, .constant = true }
#define NO_MOMENT(...) WEIGHT(__VA_ARGS__), GRAD(__VA_ARGS__), HYPER
#define ONE_MEAN(...) WEIGHT(__VA_ARGS__), MEAN(__VA_ARGS__), GRAD(__VA_ARGS__), HYPER
#define ONE_SQUARE(...) WEIGHT(__VA_ARGS__), SQUARE(__VA_ARGS__), GRAD(__VA_ARGS__), HYPER
#define MEAN_SQUARE(...) WEIGHT(__VA_ARGS__), MEAN(__VA_ARGS__), SQUARE(__VA_ARGS__), GRAD(__VA_ARGS__), HYPER
#define SQUARE_MEAN(...) WEIGHT(__VA_ARGS__), SQUARE(__VA_ARGS__), MEAN(__VA_ARGS__), GRAD(__VA_ARGS__), HYPER

#define CASE(...) CASE_WITH(NULL, __VA_ARGS__)
#define CASE_WITH(loose, text, row, n, operands, option, lr, factor, apply, t, ...)                \
    { .name = text, .build = build, .oracle = oracle, .oracle_written = after_run, .bound = bound, \
      .bound_written = bound_written, .between = between, .n_in = n, .p = { row, option },         \
      .q = { lr, factor, apply, t },                                                               \
      .in = { operands(__VA_ARGS__) }, .finite_only = loose },
/* Of so many elements one has a step that 16 bits of the moments move across 0. */
#define LOOSE(row) (row) == LAMB ? "an infinite rate times a step of about 0" : NULL
#define CASES(name, row, n, operands)                                                              \
    static const struct op_case name[] = {                                                         \
        CASE("0", row, n, operands, 0, 0.1, 1, 1, 1, 2, 0)                                         \
        CASE("1", row, n, operands, 0, 0.1, 1, 1, 1, 1, 1)                                         \
        CASE("31", row, n, operands, 0, 0.1, 0.5, 1, 2, 1, 31)                                     \
        CASE("33", row, n, operands, 1, 0.1, 1, 1, 3, 1, 33)                                       \
        CASE("127", row, n, operands, 2, 0.05, 0.25, 1, 4, 1, 127)                                 \
        CASE("129", row, n, operands, 3, 0.1, 1, 1, 5, 1, 129)                                     \
        CASE("257", row, n, operands, 4, 0.1, 1, 1, 6, 1, 257)                                     \
        CASE("decay", row, n, operands, 1, 0.1, 0.5, 1, 7, 30, 11)                                 \
        CASE("nesterov or decoupled", row, n, operands, 2, 0.1, 0.5, 1, 8, 30, 11)                 \
        CASE("clipped", row, n, operands, 3, 0.1, 2, 1, 9, 30, 11)                                 \
        CASE("no memory", row, n, operands, 4, 0.1, 1, 1, 10, 30, 11)                              \
        CASE("late", row, n, operands, 1, 0.1, 1, 1, 1e6, 30, 11)                                  \
        CASE_WITH(LOOSE(row), "threads", row, n, operands, 2, 0.1, 1, 1, 3, 300, 111)                               \
        CASE("zero gradient", row, n, operands, 4, 0.1, 0, 1, 3, 5, 7)                             \
        CASE("skipped", row, n, operands, 2, 0.1, 1, 0, 3, 5, 7)                                   \
    };                                                                                             \
    OP_CASES(name, name)
/* clang-format on */
CASES(sgd, SGD, 3, NO_MOMENT);
CASES(momentum, MOMENTUM, 4, ONE_MEAN);
CASES(adam, ADAM, 5, MEAN_SQUARE);
CASES(rmsprop, RMSPROP, 4, ONE_SQUARE);
CASES(rmsprop_momentum, RMSPROP_MOMENTUM, 5, SQUARE_MEAN);
CASES(adagrad, ADAGRAD, 4, ONE_SQUARE);
CASES(lamb, LAMB, 5, MEAN_SQUARE);
CASES(lion, LION, 4, ONE_MEAN);

/* ---- moving average ------------------------------------------------------------------------------------ */

/* p[0]: 1000 decay; q: hyper */
static qn_t build_ema(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    return qn_ema(g, x[0], x[1], hyper_of(g, x[2]), (double)c->p[0] / 1000);
}
static void oracle_ema(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    double t = c->q[3], d = (t - 1) / (t + 9), decay = (double)c->p[0] / 1000;
    if (d > decay) d = decay;
    for (int64_t i = 0; i < y->count; i++) y->v[i] = c->q[2] == 0 ? x[0].v[i] : d * x[0].v[i] + (1 - d) * x[1].v[i];
}
static void after_ema(const struct op_case *c, int which, const struct op_data *x, struct op_data *after)
{
    (void)which;
    oracle_ema(c, x, after);
}
/* clang-format off */
#define EMA(text, decay, apply, t, ...)                                                            \
    { .name = text, .build = build_ema, .oracle = oracle_ema, .oracle_written = after_ema, .n_in = 3, \
      .bound = bound, .bound_written = bound_written, .p = { decay }, .q = { 0.1, 1, apply, t },   \
      .in = { WEIGHT(__VA_ARGS__), { .rank = 2, .dim = { __VA_ARGS__ } }, HYPER } },
#define EMA_SIZE(n) EMA(#n, 990, 1, 5, 1, n)
static const struct op_case ema[] = {
    OP_SIZES(EMA_SIZE)
    EMA("first copies", 999, 1, 1, 5, 7)
    EMA("late", 900, 1, 5000, 5, 7)
    EMA("no memory", 0, 1, 9, 5, 7)
    EMA("skipped", 900, 0, 9, 5, 7)
    EMA("threads", 900, 1, 9, 300, 111)
};
OP_CASES(ema, ema);
/* clang-format on */

/* ---- schedule ------------------------------------------------------------------------------------------ */

static const qn_schedule_opts plans[QN_SCHEDULE_COUNT] = {
    [QN_SCHEDULE_CONSTANT] = { .kind = QN_SCHEDULE_CONSTANT, .warmup = 5 },
    [QN_SCHEDULE_STEP] = { .kind = QN_SCHEDULE_STEP, .every = 10, .gamma = 0.5, .warmup = 4 },
    [QN_SCHEDULE_MULTI_STEP] = { .kind = QN_SCHEDULE_MULTI_STEP, .at = { 10, 25 }, .n_at = 2, .gamma = 0.1 },
    [QN_SCHEDULE_EXPONENTIAL] = { .kind = QN_SCHEDULE_EXPONENTIAL, .every = 10, .gamma = 0.5, .warmup = 2.5 },
    [QN_SCHEDULE_COSINE] = { .kind = QN_SCHEDULE_COSINE, .total = 100, .end = 0.1, .warmup = 10 },
    [QN_SCHEDULE_ONE_CYCLE] = { .kind = QN_SCHEDULE_ONE_CYCLE, .total = 100, .peak = 0.3, .start = 0.04, .end = 0.1 },
    [QN_SCHEDULE_LINEAR] = { .kind = QN_SCHEDULE_LINEAR, .total = 100, .end = 0.25, .warmup = 10 },
    [QN_SCHEDULE_PLATEAU] = { .kind = QN_SCHEDULE_PLATEAU, .warmup = 3 },
};

/* p[0]: kind; p[1]: counter; q[0]: expected factor, worked out by hand from the formulas of qn_schedule_opts */
static qn_t build_schedule(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    return qn_schedule(g, x[0], x[1], 0.5, &plans[c->p[0]]);
}
static void set_counter(const struct op_case *c, void *data, qn_dtype dtype, int64_t n)
{
    double u = (double)c->p[1];
    qn_convert(data, dtype, &u, QN_F64, (size_t)n);
}
static void oracle_schedule(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    y->v[0] = 0.5 * c->q[0] * x[1].v[0];
}
/* clang-format off */
#define AT(kind, u, expected)                                                                      \
    { .name = #kind " at " #u, .build = build_schedule, .oracle = oracle_schedule, .n_in = 2, .ulps = 8, \
      .p = { QN_SCHEDULE_##kind, u }, .q = { expected },                                           \
      .in = { { .dtype = QN_I64, .rank = 1, .dim = { 1 }, .edit = set_counter },                   \
              { .rank = 0, .low = 0.25, .high = 1, .constant = true } } },
static const struct op_case schedule[] = {
    AT(CONSTANT, 0, 0.2) AT(CONSTANT, 3, 0.8) AT(CONSTANT, 4, 1) AT(CONSTANT, 5, 1) AT(CONSTANT, 100000, 1)
    AT(STEP, 0, 0.25) AT(STEP, 9, 1) AT(STEP, 10, 0.5) AT(STEP, 19, 0.5) AT(STEP, 20, 0.25) AT(STEP, 35, 0.125)
    AT(MULTI_STEP, 9, 1) AT(MULTI_STEP, 10, 0.1) AT(MULTI_STEP, 24, 0.1) AT(MULTI_STEP, 25, 0.01)
    AT(MULTI_STEP, 999, 0.01)
    AT(EXPONENTIAL, 0, 0.4) AT(EXPONENTIAL, 2, 0.87055056329612412) AT(EXPONENTIAL, 5, 0.70710678118654752)
    AT(EXPONENTIAL, 20, 0.25)
    AT(COSINE, 0, 0.1) AT(COSINE, 9, 1) AT(COSINE, 10, 1) AT(COSINE, 55, 0.55) AT(COSINE, 40, 0.775)
    AT(COSINE, 100, 0.1) AT(COSINE, 101, 0.1) AT(COSINE, 5000, 0.1)
    AT(ONE_CYCLE, 0, 0.04) AT(ONE_CYCLE, 15, 0.52) AT(ONE_CYCLE, 30, 1) AT(ONE_CYCLE, 65, 0.55)
    AT(ONE_CYCLE, 100, 0.1) AT(ONE_CYCLE, 200, 0.1)
    AT(LINEAR, 0, 0.1) AT(LINEAR, 10, 1) AT(LINEAR, 55, 0.625) AT(LINEAR, 100, 0.25) AT(LINEAR, 300, 0.25)
    AT(PLATEAU, 0, 0.33333333333333333) AT(PLATEAU, 3, 1)
};
OP_CASES(schedule, schedule);
/* clang-format on */
