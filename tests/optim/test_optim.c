/* test_optim.c - training steps that qn_train_build makes, against the plain loops of reference.c. */
#include "reference.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { STEPS = 20, BATCH = 8 };

#define SGD .kind = QN_OPTIMIZER_SGD, .lr = 0.1
#define ADAM(which) .kind = QN_OPTIMIZER_##which, .lr = 0.05, .betas = { 0.9, 0.99 }, .eps = 1e-8
#define RMS .kind = QN_OPTIMIZER_RMSPROP, .lr = 0.02, .decay = 0.9, .eps = 1e-8

static const qn_optimizer_group two_groups[] = { { "*.bias", 2, 0 }, { "net.*.w*t", 0.5, -1 }, { "*", 100, 9 } };
static const qn_optimizer_group one_group[] = { { "*", 0.25, 0.5 } };

/* clang-format off */
static const struct setting {
    const char *name, *a, *b; /* suffixes of the moments */
    qn_train_opts o;
} settings[] = {
    { "sgd", NULL, NULL, { .optimizer = { SGD } } },
    { "sgd, decay", NULL, NULL, { .optimizer = { SGD, .weight_decay = 0.1 } } },
    { "momentum", ".momentum", NULL, { .optimizer = { SGD, .momentum = 0.9 } } },
    { "momentum, decay", ".momentum", NULL, { .optimizer = { SGD, .momentum = 0.9, .weight_decay = 0.1 } } },
    { "nesterov", ".momentum", NULL,
      { .optimizer = { SGD, .momentum = 0.9, .nesterov = true, .weight_decay = 0.1 } } },
    { "adam", ".exp_avg", ".exp_avg_sq", { .optimizer = { ADAM(ADAM) } } },
    { "adam, decay", ".exp_avg", ".exp_avg_sq", { .optimizer = { ADAM(ADAM), .weight_decay = 0.1 } } },
    { "adamw", ".exp_avg", ".exp_avg_sq", { .optimizer = { ADAM(ADAMW), .weight_decay = 0.1 } } },
    { "rmsprop", ".square_avg", NULL, { .optimizer = { RMS, .weight_decay = 0.1 } } },
    { "rmsprop, momentum", ".square_avg", ".momentum", { .optimizer = { RMS, .momentum = 0.5 } } },
    { "adagrad", ".sum", NULL, { .optimizer = { .kind = QN_OPTIMIZER_ADAGRAD, .lr = 0.1, .eps = 1e-10 } } },
    { "lamb", ".exp_avg", ".exp_avg_sq", { .optimizer = { ADAM(LAMB), .weight_decay = 0.1 } } },
    { "lion", ".exp_avg", NULL, { .optimizer = { ADAM(LION), .weight_decay = 0.1 } } },
    { "groups", ".exp_avg", ".exp_avg_sq",
      { .optimizer = { ADAM(ADAMW), .weight_decay = 0.1, .groups = two_groups, .n_groups = 3 } } },
    { "one group", NULL, NULL, { .optimizer = { SGD, .groups = one_group, .n_groups = 1 } } },
    { "norm clipped", ".momentum", NULL, { .optimizer = { SGD, .momentum = 0.5 }, .clip_norm = 0.1 } },
    { "norm below the limit", NULL, NULL, { .optimizer = { SGD }, .clip_norm = 1000 } },
    { "values clipped", NULL, NULL, { .optimizer = { SGD }, .clip_value = 0.05 } },
    { "both clipped", ".exp_avg", ".exp_avg_sq",
      { .optimizer = { ADAM(ADAM) }, .clip_norm = 0.5, .clip_value = 0.05 } },
    { "penalties", NULL, NULL, { .optimizer = { SGD }, .l1 = 0.01, .l2 = 0.02 } },
    { "average", NULL, NULL, { .optimizer = { SGD }, .ema_decay = 0.4 } },
    { "warm-up and cosine", NULL, NULL,
      { .optimizer = { SGD }, .schedule = { .kind = QN_SCHEDULE_COSINE, .warmup = 5, .total = 15, .end = 0.1 } } },
    { "one cycle", NULL, NULL,
      { .optimizer = { SGD },
        .schedule = { .kind = QN_SCHEDULE_ONE_CYCLE, .peak = 0.3, .total = 18, .start = 0.04, .end = 0.01 } } },
    { "everything", ".exp_avg", ".exp_avg_sq",
      { .optimizer = { ADAM(LAMB), .weight_decay = 0.1, .groups = two_groups, .n_groups = 3 }, .clip_norm = 0.4,
        .clip_value = 0.1, .l1 = 0.01, .l2 = 0.02, .ema_decay = 0.9,
        .schedule = { .kind = QN_SCHEDULE_STEP, .every = 6, .gamma = 0.5, .warmup = 4 } } },
};
/* clang-format on */
enum { SETTINGS = sizeof settings / sizeof settings[0] };

static void expect_near(const char *what, const char *part, int step, double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance * fmax(fabs(want), 0.01)))
        fail_msg("%s: %s after step %d is %.17g; expected %.17g", what, part, step, got, want);
}

static void compare(const struct setting *s, struct model *m, const struct reference *r, int step, double tolerance)
{
    expect_near(s->name, "loss", step, model_scalar(m, m->nodes.loss), r->loss, tolerance);
    expect_near(s->name, "learning rate", step, model_scalar(m, m->nodes.lr), r->lr, tolerance);
    expect_near(s->name, "norm", step, model_scalar(m, m->nodes.grad_norm), r->norm, tolerance);
    assert_true(model_scalar(m, m->nodes.applied) == 1);
    assert_true(model_tensor(m, "optim.updates", 0) == (double)r->updates);
    assert_true(model_tensor(m, "optim.skipped", 0) == 0);
    for (int i = 0; i < PARAMS; i++) {
        expect_near(s->name, "weight", step, model_param(m, "", i), r->w[i], tolerance);
        if (s->a) expect_near(s->name, s->a, step, model_param(m, s->a, i), r->a[i], tolerance);
        if (s->b) expect_near(s->name, s->b, step, model_param(m, s->b, i), r->b[i], tolerance);
        if (s->o.ema_decay > 0) expect_near(s->name, "average", step, model_param(m, ".ema", i), r->ema[i], tolerance);
    }
}

static void run_setting(const struct setting *s, qn_dtype dtype, double tolerance)
{
    struct model m = model_open(&s->o, dtype, BATCH, NULL);
    struct reference r = reference_of(&m);
    for (int step = 0; step < STEPS; step++) {
        model_feed(&m, step * BATCH, 1);
        model_micro(&m);
        model_update(&m);
        reference_step(&r, &s->o, step * BATCH, BATCH);
        compare(s, &m, &r, step, tolerance);
    }
    model_close(&m);
}

static void settings_in_f64(void **state)
{
    (void)state;
    for (int i = 0; i < SETTINGS; i++) run_setting(&settings[i], QN_F64, 1e-12);
}

/* 20 steps, about ten roundings each, of which the division by small roots magnifies some. */
static void settings_in_f32(void **state)
{
    (void)state;
    for (int i = 0; i < SETTINGS; i++) run_setting(&settings[i], QN_F32, 2e-4);
}

/* ---- accumulation ------------------------------------------------------------------------------------- */

static void four_small_batches_are_one_large(void **state)
{
    (void)state;
    for (int i = 0; i < SETTINGS; i++) {
        qn_train_opts o = settings[i].o;
        o.accumulate = 4;
        struct model m = model_open(&o, QN_F64, BATCH, NULL);
        struct reference r = reference_of(&m);
        for (int step = 0; step < 6; step++) {
            for (int k = 0; k < 4; k++) {
                model_feed(&m, (4 * step + k) * BATCH, 1);
                model_micro(&m);
            }
            model_update(&m);
            reference_step(&r, &o, 4 * step * BATCH, 4 * BATCH);
            expect_near(settings[i].name, "norm", step, model_scalar(&m, m.nodes.grad_norm), r.norm, 1e-12);
            for (int k = 0; k < PARAMS; k++)
                expect_near(settings[i].name, "weight", step, model_param(&m, "", k), r.w[k], 1e-12);
            assert_true(model_tensor(&m, "grad.net.fc.weight", 0) == 0); /* ready for the next */
            assert_true(model_tensor(&m, "grad.net.fc.bias", 2) == 0);
        }
        assert_int_equal(qn_store_find(m.store, "grad.net.fc.bias")->kind, QN_GRAD);
        model_close(&m);
    }
}

/* The gradient is the mean over the samples there were: fewer micro runs than `accumulate`, the last one smaller. */
static void what_is_left_over_counts_by_its_samples(void **state)
{
    (void)state;
    for (int i = 0; i < SETTINGS; i++) {
        qn_train_opts o = settings[i].o, rest = o;
        o.accumulate = rest.accumulate = 4;
        o.batch = BATCH;
        rest.batch = 3;
        struct model m = model_open(&o, QN_F64, BATCH, NULL), small = model_beside(&m, &rest, 3);
        struct reference r = reference_of(&m);
        int at = 0;
        for (int step = 0; step < 6; step++) {
            int whole = step % 3, first = at;
            for (int k = 0; k < whole; k++, at += BATCH) {
                model_feed(&m, at, 1);
                model_micro(&m);
            }
            model_feed(&small, at, 1);
            model_micro(&small);
            at += 3;
            assert_true(model_tensor(&m, "optim.count", 0) == at - first);
            model_update(step % 2 ? &m : &small);
            reference_step(&r, &o, first, at - first);
            double norm = model_scalar(step % 2 ? &m : &small, (step % 2 ? &m : &small)->nodes.grad_norm);
            expect_near(settings[i].name, "norm", step, norm, r.norm, 1e-12);
            for (int k = 0; k < PARAMS; k++)
                expect_near(settings[i].name, "weight", step, model_param(&m, "", k), r.w[k], 1e-12);
            assert_true(model_tensor(&m, "optim.count", 0) == 0);
        }
        model_close(&small);
        model_close(&m);
    }
}

static void one_micro_run_needs_no_tensors_of_gradients(void **state)
{
    (void)state;
    qn_train_opts o = settings[0].o;
    o.accumulate = 1;
    struct model m = model_open(&o, QN_F32, BATCH, NULL);
    assert_int_equal(qn_store_bytes(m.store, QN_GRAD), 0);
    model_close(&m);
}

/* ---- steps that are skipped -------------------------------------------------------------------------------- */

enum { TENSORS_MAX = 64 };
struct snapshot {
    int n;
    unsigned char bytes[TENSORS_MAX][WEIGHTS * sizeof(double)];
};

static struct snapshot snapshot_of(const struct model *m)
{
    struct snapshot s = { .n = qn_store_count(m->store) };
    assert_true(s.n <= TENSORS_MAX);
    for (int i = 0; i < s.n; i++) {
        const qn_store_entry *e = qn_store_at(m->store, i);
        assert_true(e->bytes <= sizeof s.bytes[i]);
        memcpy(s.bytes[i], e->data, e->bytes);
    }
    return s;
}

static void expect_untouched(const struct setting *s, const struct model *m, const struct snapshot *before)
{
    for (int i = 0; i < before->n; i++) {
        const qn_store_entry *e = qn_store_at(m->store, i);
        if (strcmp(e->name, "optim.skipped") != 0 && memcmp(before->bytes[i], e->data, e->bytes) != 0)
            fail_msg("%s: a skipped step changed \"%s\"", s->name, e->name);
    }
}

static void skip_and_go_on(const struct setting *s, int accumulate, double spoil, qn_dtype dtype)
{
    qn_train_opts o = s->o;
    o.accumulate = accumulate;
    if (o.ema_decay == 0) o.ema_decay = 0.9;
    struct model m = model_open(&o, dtype, BATCH, NULL);
    struct reference r = reference_of(&m);
    int at = 0;
    for (int step = 0; step < 7; step++) {
        bool bad = step == 0 || step == 3 || step == 4; /* the first one too: moments are still zero */
        struct snapshot before = snapshot_of(&m);
        for (int k = 0; k < accumulate; k++, at += BATCH) {
            model_feed(&m, at, bad && k == 0 ? spoil : 1);
            model_micro(&m);
        }
        model_update(&m);
        if (bad) {
            expect_untouched(s, &m, &before);
            assert_true(model_scalar(&m, m.nodes.applied) == 0);
            assert_false(isfinite(model_scalar(&m, m.nodes.grad_norm)));
        } else {
            reference_step(&r, &o, at - accumulate * BATCH, accumulate * BATCH);
        }
    }
    double tolerance = dtype == QN_F64 ? 1e-12 : 2e-4;
    for (int i = 0; i < PARAMS; i++) expect_near(s->name, "weight", 7, model_param(&m, "", i), r.w[i], tolerance);
    assert_true(model_tensor(&m, "optim.updates", 0) == 4);
    assert_true(model_tensor(&m, "optim.skipped", 0) == 3);
    model_close(&m);
}

static void skipped_steps_leave_every_byte(void **state)
{
    (void)state;
    for (int i = 0; i < SETTINGS; i++) {
        skip_and_go_on(&settings[i], 1, (double)NAN, QN_F64);
        skip_and_go_on(&settings[i], 1, (double)INFINITY, QN_F32);
        skip_and_go_on(&settings[i], 3, -(double)INFINITY, QN_F64);
    }
}

/* ---- random state ------------------------------------------------------------------------------------------ */

static void random_state_moves_with_samples_and_steps(void **state)
{
    (void)state;
    const qn_train_opts o = { .optimizer = { SGD }, .accumulate = 2, .batch = 5 };
    qn_graph *g;
    qn_store *store;
    qn_program *p;
    qn_train_nodes nodes;
    qn_error err = { 0 };
    assert_int_equal(qn_graph_new(&g, NULL), QN_OK);
    qn_t w = qn_param(g, "w", QN_F32, 1, (int64_t[]){ 6 }, NULL), x = qn_input(g, "x", QN_F32, 2, (int64_t[]){ 5, 6 });
    qn_t y = qn_dropout(g, qn_mul(g, x, w), qn_rng(g), 0.5, "drop");
    assert_int_equal(qn_train_build(g, qn_mean_all(g, y), &o, &nodes), QN_OK);
    assert_int_equal(qn_store_new(&store, "cpu", 77, NULL, &err), QN_OK);
    assert_int_equal(qn_compile(&p, g, &nodes.loss, 1, store, NULL, &err), QN_OK);
    assert_int_equal(qn_program_load(p, &err), QN_OK);
    const int64_t *rng = qn_store_find(store, "quern.rng")->data;
    for (int step = 0; step < 3; step++) {
        /* a step that is skipped moves it just the same: its masks must not come back */
        for (int i = 0; i < 30; i++) ((float *)qn_program_data(p, x))[i] = step == 1 ? NAN : 1;
        for (int k = 0; k < 2; k++) assert_int_equal(qn_program_run(p, QN_MICRO, &err), QN_OK);
        assert_int_equal(qn_program_run(p, QN_UPDATE, &err), QN_OK);
        assert_int_equal(rng[0], 77);
        assert_int_equal(rng[1], step + 1);
        assert_int_equal(rng[2], 10 * (step + 1));
    }
    assert_int_equal(*(const int64_t *)qn_store_find(store, "optim.skipped")->data, 1);
    qn_program_free(p);
    qn_store_free(store);
    qn_graph_free(g);
}

/* ---- schedules ----------------------------------------------------------------------------------------------- */

static void schedules_follow_their_formulas(void **state)
{
    (void)state;
    static const qn_schedule_opts plans[] = {
        { .kind = QN_SCHEDULE_CONSTANT },
        { .kind = QN_SCHEDULE_CONSTANT, .warmup = 6.5 },
        { .kind = QN_SCHEDULE_STEP, .every = 7, .gamma = 0.3, .warmup = 3 },
        { .kind = QN_SCHEDULE_MULTI_STEP, .at = { 4, 9.5, 20 }, .n_at = 3, .gamma = 0.5 },
        { .kind = QN_SCHEDULE_EXPONENTIAL, .every = 10, .gamma = 0.9, .warmup = 5 },
        { .kind = QN_SCHEDULE_COSINE, .total = 25, .end = 0.01, .warmup = 8 },
        { .kind = QN_SCHEDULE_COSINE, .total = 25 },
        { .kind = QN_SCHEDULE_ONE_CYCLE, .total = 25, .peak = 0.3, .start = 0.1, .end = 0.2, .warmup = 9 },
        { .kind = QN_SCHEDULE_ONE_CYCLE, .total = 25, .peak = 0.3, .start = 0.1 },
        { .kind = QN_SCHEDULE_ONE_CYCLE, .total = 25, .peak = 1, .start = 0.1 },
        { .kind = QN_SCHEDULE_LINEAR, .total = 25, .end = 0.5, .warmup = 2 },
        { .kind = QN_SCHEDULE_PLATEAU, .warmup = 2 },
    };
    for (size_t i = 0; i < sizeof plans / sizeof plans[0]; i++) {
        const qn_train_opts o = { .optimizer = { SGD }, .schedule = plans[i] };
        struct model m = model_open(&o, QN_F64, 1, NULL);
        float *plateau = qn_store_find(m.store, "optim.plateau")->data;
        double wanted = 1;
        for (int u = 0; u < 30; u++) {
            if (u == 12) *plateau = 0.125F, wanted = 0.125;
            model_feed(&m, u, 1);
            model_micro(&m);
            model_update(&m);
            double expected = 0.1 * wanted * reference_schedule(&plans[i], (double)u);
            double lr = model_scalar(&m, m.nodes.lr);
            if (!(fabs(lr - expected) <= 1e-13))
                fail_msg("schedule %zu at update %d: %.17g; expected %.17g", i, u, lr, expected);
        }
        model_close(&m);
    }
}

/* ---- the whole ------------------------------------------------------------------------------------------------ */

/* (w - c)^2 summed, from zero: far from the goal at first, at it in the end. */
static void every_optimizer_finds_the_bottom_of_a_bowl(void **state)
{
    (void)state;
    static const qn_optimizer_opts optimizers[] = {
        { SGD },
        { SGD, .momentum = 0.8 },
        { SGD, .momentum = 0.8, .nesterov = true },
        { ADAM(ADAM) },
        { ADAM(ADAMW) },
        { RMS },
        { RMS, .momentum = 0.5 },
        { .kind = QN_OPTIMIZER_ADAGRAD, .lr = 0.5, .eps = 1e-10 },
        { ADAM(LAMB) },
        { ADAM(LION) },
    };
    for (size_t i = 0; i < sizeof optimizers / sizeof optimizers[0]; i++) {
        const qn_train_opts o = { .optimizer = optimizers[i],
                                  .schedule = { .kind = QN_SCHEDULE_LINEAR, .total = 400, .end = 0 } };
        const int64_t four = 4;
        qn_graph *g;
        qn_store *store;
        qn_program *p;
        qn_train_nodes nodes;
        qn_error err = { 0 };
        assert_int_equal(qn_graph_new(&g, NULL), QN_OK);
        qn_t loss = qn_scalar(g, QN_F32, 0);
        for (int k = 0; k < 11; k++) { /* more parameters than a node has operands */
            char name[16];
            snprintf(name, sizeof name, "w%d", k);
            qn_init init = { .kind = QN_INIT_VALUE, .a = 0.5 };
            const float goal[] = { 1, -2, 0.25F * (float)k, 1 - 0.125F * (float)k };
            qn_t w = qn_param(g, name, QN_F32, 1, &four, &init), c = qn_constant(g, QN_F32, 1, &four, goal);
            loss = qn_add(g, loss, qn_sum_all(g, qn_square(g, qn_sub(g, w, c))));
        }
        assert_int_equal(qn_train_build(g, loss, &o, &nodes), QN_OK);
        assert_int_equal(qn_store_new(&store, "cpu", 1, NULL, &err), QN_OK);
        assert_int_equal(qn_compile(&p, g, &nodes.loss, 1, store, NULL, &err), QN_OK);
        assert_int_equal(qn_program_load(p, &err), QN_OK);
        for (int step = 0; step < 400; step++) {
            assert_int_equal(qn_program_run(p, QN_MICRO, &err), QN_OK);
            assert_int_equal(qn_program_run(p, QN_UPDATE, &err), QN_OK);
        }
        float end = *(float *)qn_program_data(p, nodes.loss);
        if (!(end < 1e-3F)) fail_msg("optimizer %zu ends with loss %g", i, (double)end);
        qn_program_free(p);
        qn_store_free(store);
        qn_graph_free(g);
    }
}

static void plans_and_threads_do_not_change_a_bit(void **state)
{
    (void)state;
    static const qn_compile_opts other[] = { { .threads = 3 }, { .threads = 1, .no_plan = true } };
    for (int i = 0; i < SETTINGS; i++) {
        struct snapshot first = { 0 };
        for (int k = -1; k < 2; k++) {
            struct model m = model_open(&settings[i].o, QN_F32, BATCH, k < 0 ? NULL : &other[k]);
            for (int step = 0; step < 4; step++) {
                model_feed(&m, step * BATCH, 1);
                model_micro(&m);
                model_update(&m);
            }
            if (k < 0)
                first = snapshot_of(&m);
            else
                expect_untouched(&settings[i], &m, &first);
            model_close(&m);
        }
    }
}

/* A group with lr_scale 0 holds the parameters that it matches where they are. */
static void patterns_match_whole_names(void **state)
{
    (void)state;
    /* clang-format off */
    static const struct { const char *pattern; bool weight, bias; } rows[] = {
        { "*", true, true }, { "net.fc.*", true, true }, { "*.bias", false, true }, { "net.fc.bias", false, true },
        { "net.fc.bia", false, false }, { "et.fc.bias", false, false }, { "net.fc.bias*", false, true },
        { "*net.fc.bias", false, true }, { "", false, false }, { "**", true, true }, { "n*t.*.w*ght", true, false },
        { "*fc.*e*t", true, false }, { "*s", false, true }, { "*ias*s", false, false }, { "*.weigh", false, false },
        { "*t*t", true, false }, { "*t*t*t", false, false },
    };
    /* clang-format on */
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const qn_optimizer_group group = { rows[i].pattern, 0, -1 };
        const qn_train_opts o = { .optimizer = { SGD, .groups = &group, .n_groups = 1 } };
        struct model m = model_open(&o, QN_F64, BATCH, NULL);
        double weight = model_param(&m, "", 0), bias = model_param(&m, "", WEIGHTS);
        model_feed(&m, 0, 1);
        model_micro(&m);
        model_update(&m);
        bool weight_held = model_param(&m, "", 0) == weight, bias_held = model_param(&m, "", WEIGHTS) == bias;
        if (weight_held != rows[i].weight || bias_held != rows[i].bias)
            fail_msg("\"%s\" matches the wrong parameters", rows[i].pattern);
        model_close(&m);
    }
}

/* ---- mistakes -------------------------------------------------------------------------------------------------- */

static void expect_error(const qn_train_opts *o, const char *scope, qn_dtype loss_dtype, const char *expected)
{
    qn_graph *g;
    qn_train_nodes nodes;
    assert_int_equal(qn_graph_new(&g, NULL), QN_OK);
    qn_t w = qn_param(g, "w", QN_F32, 1, (int64_t[]){ 3 }, NULL);
    if (scope) qn_scope_push(g, scope);
    qn_t loss = qn_cast(g, qn_sum_squares(g, w), loss_dtype);
    assert_int_equal(qn_train_build(g, loss, o, &nodes), QN_EUSAGE);
    assert_string_equal(qn_graph_error(g)->text, expected);
    assert_int_equal(nodes.loss.id + nodes.lr.id + nodes.grad_norm.id + nodes.applied.id, 0);
    qn_graph_free(g);
}

static void mistakes_are_told(void **state)
{
    (void)state;
    static const qn_optimizer_group no_match[] = { { NULL, 1, -1 } }, below[] = { { "*", -2, -1 } };
    static const qn_optimizer_group decay[] = { { "*", 1, -2 } };
    static const struct {
        qn_train_opts o;
        const char *text;
    } rows[] = {
#define ROW(expected, ...) { { __VA_ARGS__ }, "error E2204 graph: " expected }
        ROW("train: optimizer.kind 7; expected 0..6", .optimizer = { .kind = (qn_optimizer_kind)7 }),
        ROW("train: optimizer.lr -1; expected a finite number from 0", .optimizer = { .lr = -1 }),
        ROW("train: optimizer.lr nan; expected a finite number from 0", .optimizer = { .lr = NAN }),
        ROW("train: optimizer.weight_decay inf; expected a finite number from 0",
            .optimizer = { .weight_decay = INFINITY }),
        ROW("train: optimizer.eps -1; expected a finite number from 0",
            .optimizer = { .kind = QN_OPTIMIZER_ADAGRAD, .eps = -1 }),
        ROW("train: optimizer.momentum 1; expected at least 0, below 1", .optimizer = { .momentum = 1 }),
        ROW("train: optimizer.betas[0] -0.5; expected at least 0, below 1",
            .optimizer = { .kind = QN_OPTIMIZER_LION, .betas = { -0.5, 0 } }),
        ROW("train: optimizer.betas[1] 1; expected at least 0, below 1",
            .optimizer = { .kind = QN_OPTIMIZER_LAMB, .betas = { 0, 1 } }),
        ROW("train: optimizer.decay 2; expected at least 0, below 1",
            .optimizer = { .kind = QN_OPTIMIZER_RMSPROP, .decay = 2 }),
        ROW("train: optimizer.nesterov without momentum; expected optimizer.momentum > 0",
            .optimizer = { .nesterov = true }),
        ROW("train: optimizer.n_groups 2; expected the number of groups", .optimizer = { .n_groups = 2 }),
        ROW("train: optimizer.groups[0].match is missing; expected a pattern",
            .optimizer = { .groups = no_match, .n_groups = 1 }),
        ROW("train: optimizer.groups[].lr_scale -2; expected a finite number from 0",
            .optimizer = { .groups = below, .n_groups = 1 }),
        ROW("train: optimizer.groups[].weight_decay -2; expected a finite number from 0",
            .optimizer = { .groups = decay, .n_groups = 1 }),
        ROW("train: accumulate -1; expected at least 0", .accumulate = -1),
        ROW("train: batch -1; expected at least 0", .batch = -1),
        ROW("train: clip_norm -1; expected a finite number from 0", .clip_norm = -1),
        ROW("train: clip_value nan; expected a finite number from 0", .clip_value = NAN),
        ROW("train: ema_decay 1; expected at least 0, below 1", .ema_decay = 1),
        ROW("train: l1 -1; expected a finite number from 0", .l1 = -1),
        ROW("train: l2 -1; expected a finite number from 0", .l2 = -1),
        ROW("schedule: kind 9; expected 0..7; operands [1] []", .schedule = { .kind = (qn_schedule_kind)9 }),
        ROW("schedule: warmup -1; expected a finite number, >= 0; operands [1] []", .schedule = { .warmup = -1 }),
        ROW("schedule: every 0; expected a finite number, > 0; operands [1] []",
            .schedule = { .kind = QN_SCHEDULE_STEP, .gamma = 0.5 }),
        ROW("schedule: gamma nan; expected a finite number, >= 0; operands [1] []",
            .schedule = { .kind = QN_SCHEDULE_EXPONENTIAL, .every = 1, .gamma = NAN }),
        ROW("schedule: 17 times; expected 0..16; operands [1] []",
            .schedule = { .kind = QN_SCHEDULE_MULTI_STEP, .n_at = 17 }),
        ROW("schedule: at[] -3; expected a finite number, >= 0; operands [1] []",
            .schedule = { .kind = QN_SCHEDULE_MULTI_STEP, .n_at = 1, .at = { -3 } }),
        ROW("schedule: total 0; expected a finite number, > 0; operands [1] []",
            .schedule = { .kind = QN_SCHEDULE_COSINE }),
        ROW("schedule: end -1; expected a finite number, >= 0; operands [1] []",
            .schedule = { .kind = QN_SCHEDULE_LINEAR, .total = 1, .end = -1 }),
        ROW("schedule: peak 2; expected a finite number, >= 0, at most 1; operands [1] []",
            .schedule = { .kind = QN_SCHEDULE_ONE_CYCLE, .total = 1, .peak = 2 }),
        ROW("schedule: end nan; expected a finite number, >= 0; operands [1] []",
            .schedule = { .kind = QN_SCHEDULE_ONE_CYCLE, .total = 1, .end = NAN }),
#undef ROW
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) expect_error(&rows[i].o, NULL, QN_F32, rows[i].text);
    const qn_train_opts fine = { .optimizer = { SGD } };
    expect_error(&fine, "net", QN_F32,
                 "error E2207 graph: net: train: built inside a scope; expected outside of all, after qn_scope_pop");
    expect_error(&fine, NULL, QN_F64, "error E2202 shape: train: \"w\" is F32; expected F64 like the loss");
}

/* A parameter called like the average of another would be overwritten by it. */
static void names_taken_by_parameters_are_told(void **state)
{
    (void)state;
    const qn_train_opts o = { .optimizer = { SGD }, .ema_decay = 0.5 };
    const int64_t three = 3;
    qn_graph *g;
    qn_train_nodes nodes;
    assert_int_equal(qn_graph_new(&g, NULL), QN_OK);
    qn_t w = qn_param(g, "w", QN_F32, 1, &three, NULL), shadow = qn_param(g, "w.ema", QN_F32, 1, &three, NULL);
    assert_int_equal(qn_train_build(g, qn_sum_all(g, qn_mul(g, w, shadow)), &o, &nodes), QN_EUSAGE);
    assert_string_equal(qn_graph_error(g)->text,
                        "error E2207 graph: w: tensor: \"w.ema\" is of kind 1 here; expected kind 0 as before");
    qn_graph_free(g);
}

/* What the rows themselves refuse; each graph starts afresh. */
static qn_t broken_row(qn_graph *g, int which)
{
    const int64_t three = 3, four = 4, two = 2, one = 1;
    const qn_update_opts fine = { .lr_scale = 1 }, beta = { .beta1 = 1 }, decay = { .weight_decay = -1 };
    const qn_schedule_opts constant = { .kind = QN_SCHEDULE_CONSTANT };
    qn_t w = qn_param(g, "w", QN_F32, 1, &three, NULL), v = qn_tensor(g, QN_STATE, "v", QN_F32, 1, &three, NULL);
    qn_t x = qn_input(g, "x", QN_F32, 1, &three), short_v = qn_tensor(g, QN_STATE, "u", QN_F32, 1, &two, NULL);
    qn_t hyper = qn_input(g, "hyper", QN_F32, 1, &four), u = qn_tensor(g, QN_STATE, "n", QN_I64, 1, &one, NULL);
    switch (which) {
    case 0: return qn_sgd(g, x, x, hyper, &fine);
    case 1: return qn_momentum(g, w, x, x, hyper, &fine);
    case 2: return qn_momentum(g, w, short_v, x, hyper, &fine);
    case 3: return qn_sgd(g, w, x, x, &fine);
    case 4: return qn_sgd(g, w, qn_cast(g, x, QN_F64), hyper, &fine);
    case 5: return qn_adam(g, w, v, v, x, hyper, &beta);
    case 6: return qn_sgd(g, w, x, hyper, &decay);
    case 7: return qn_ema(g, v, x, hyper, 1);
    case 8: return qn_ema(g, v, short_v, hyper, 0.5);
    case 9: return qn_schedule(g, u, hyper, 1, &constant);
    default: return qn_schedule(g, w, qn_scalar(g, QN_F32, 1), 1, &constant);
    }
}

static void rows_refuse_what_does_not_fit(void **state)
{
    (void)state;
    static const char *const expected[] = {
        "error E2209 graph: sgd: operand 0 is the result of input; expected a tensor of the store; operands [3] "
        "[3] [4]",
        "error E2209 graph: momentum: operand 1 is the result of input; expected a tensor of the store; operands [3] "
        "[3] [3] [4]",
        "error E2201 shape: momentum: operand 1 does not fit; expected the dims of operand 0; operands [3] [2] [3] [4]",
        "error E2201 shape: sgd: hyper does not fit; expected [4]; operands [3] [3] [3]",
        "error E2202 shape: sgd: F32 and F64; expected one dtype; operands [3] [3] [4]",
        "error E2204 graph: adam: beta1 1; expected 0 <= beta1 < 1; operands [3] [3] [3] [3] [4]",
        "error E2204 graph: sgd: weight_decay -1; expected a finite number from 0; operands [3] [3] [4]",
        "error E2204 graph: ema: decay 1; expected 0 <= decay < 1; operands [3] [3] [4]",
        "error E2201 shape: ema: operands do not fit; expected two of equal dims and hyper [4]; operands [3] [2] [4]",
        "error E2201 shape: schedule: factor has rank 1; expected a scalar; operands [1] [4]",
        "error E2201 shape: schedule: counter is F32 [3]; expected I64 [1]; operands [3] []",
    };
    for (int i = 0; i < (int)(sizeof expected / sizeof expected[0]); i++) {
        qn_graph *g;
        assert_int_equal(qn_graph_new(&g, NULL), QN_OK);
        assert_int_equal(broken_row(g, i).id, 0);
        assert_string_equal(qn_graph_error(g)->text, expected[i]);
        qn_graph_free(g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(settings_in_f64),
        cmocka_unit_test(settings_in_f32),
        cmocka_unit_test(four_small_batches_are_one_large),
        cmocka_unit_test(what_is_left_over_counts_by_its_samples),
        cmocka_unit_test(one_micro_run_needs_no_tensors_of_gradients),
        cmocka_unit_test(skipped_steps_leave_every_byte),
        cmocka_unit_test(random_state_moves_with_samples_and_steps),
        cmocka_unit_test(schedules_follow_their_formulas),
        cmocka_unit_test(every_optimizer_finds_the_bottom_of_a_bowl),
        cmocka_unit_test(plans_and_threads_do_not_change_a_bit),
        cmocka_unit_test(patterns_match_whole_names),
        cmocka_unit_test(mistakes_are_told),
        cmocka_unit_test(names_taken_by_parameters_are_told),
        cmocka_unit_test(rows_refuse_what_does_not_fit),
    };
    return cmocka_run_group_tests_name("optimizers", tests, NULL, NULL);
}
