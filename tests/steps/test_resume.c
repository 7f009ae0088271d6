/* A run that is continued from any of its checkpoints ends with the same bytes as one that was never interrupted, for
 * every optimizer; and every part of the saved state is needed for that: each tensor and each row of
 * QN_RUN_STATE_MAP is
 * changed and left out in turn, and the run must end differently, or refuse. run-tests: timeout 300 */
#include "steps.h"
#include "../../train/state.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <jansson.h>
#include <math.h>

/* 96 training samples in batches of 20: five micro-batches an epoch, the last one smaller, two to an update and what
 * is left to the last one. */
#define BASE(name, optimizer, more) \
    "{\"quern\": 1, \"name\": \"" name "\", \"data\": {\"digits\": 120, \"validation\": 0.2, \"workers\": 2}, " \
    "\"augment\": {\"flip\": 0.5, \"rotate\": 10, \"crop\": 2, \"scale\": 0.1, \"brightness\": " \
    "0.1, " \
    "\"contrast\": 0.1, \"erase\": 0.5}, " \
    "\"model\": [{\"conv\": 4, \"stride\": 2}, {\"batch_norm\": true, \"activation\": \"relu\"}, " \
    "{\"dropout\": 0.3}, " \
    "{\"linear\": 10}], \"optimizer\": " optimizer ", \"batch\": 20, \"accumulate\": 2, \"seed\": 7, " \
    "\"ema\": {\"decay\": 0.9}, \"clip\": {\"norm\": 1}, \"log\": {\"every_steps\": 1}, " more "}"

static const struct {
    const char *name, *recipe;
} optimizers[] = {
#define ROW(name, optimizer) \
    { \
        name, BASE(name, optimizer, \
                   "\"epochs\": 3, \"schedule\": {\"name\": \"cosine\", \"warmup\": 1}, " \
                   "\"checkpoint\": {\"every_steps\": 1, \"keep\": 100}") \
    }
    ROW("sgd", "{\"name\": \"sgd\", \"lr\": 0.05, \"weight_decay\": 0.01}"),
    ROW("momentum", "{\"name\": \"sgd\", \"lr\": 0.05, \"momentum\": 0.9}"),
    ROW("nesterov", "{\"name\": \"sgd\", \"lr\": 0.05, \"momentum\": 0.9, \"nesterov\": true}"),
    ROW("adam", "{\"name\": \"adam\", \"lr\": 0.01}"),
    ROW("adamw", "{\"name\": \"adamw\", \"lr\": 0.01}"),
    ROW("rmsprop", "{\"name\": \"rmsprop\", \"lr\": 0.01}"),
    ROW("rmsprop-momentum", "{\"name\": \"rmsprop\", \"lr\": 0.01, \"momentum\": 0.9}"),
    ROW("adagrad", "{\"name\": \"adagrad\", \"lr\": 0.05}"),
    ROW("lamb", "{\"name\": \"lamb\", \"lr\": 0.01}"),
    ROW("lion", "{\"name\": \"lion\", \"lr\": 0.003}"),
#undef ROW
};
enum { N_OPTIMIZERS = sizeof optimizers / sizeof optimizers[0] };

static int forks;

static void fork_path(char path[STEPS_PATH]) { snprintf(path, STEPS_PATH, "%s/fork-%d", steps_root(), forks++); }

/* The digest of continuing `from` at `step` after `change`. */
static char *continued(const char *from, int64_t step, steps_change *change, void *user, struct steps_run *run)
{
    char path[STEPS_PATH];
    fork_path(path);
    steps_fork(from, step, path, change, user);
    steps_train(run, NULL, path);
    if (run->dir[0] == 0) snprintf(run->dir, sizeof run->dir, "%s", path); /* it did not open */
    return steps_digest(run);
}

static void expect_same(const char *name, int64_t step, const char *a, const char *b)
{
    if (strcmp(a, b) == 0) return;
    const char *x = a, *y = b;
    for (const char *p = a, *q = b; *p && *p == *q; p++, q++)
        if (*p == '\n') {
            x = p + 1;
            y = q + 1;
        }
    fail_msg("%s continued from step %lld differs:\n  %.*s\n  %.*s", name, (long long)step, (int)strcspn(x, "\n"), x,
             (int)strcspn(y, "\n"), y);
}

/* ---- changes ------------------------------------------------------------------------------------- */

struct target {
    const char *name;
    bool omit;
    const char *value; /* of a row of progress.json, as JSON */
    bool found;
};

static void change_tensor(struct steps_parts *p, void *user)
{
    struct target *t = user;
    for (int i = 0; i < p->n; i++) {
        qn_tensor_data *x = &p->tensor[i];
        if (strcmp(x->name, t->name) != 0) continue;
        t->found = true;
        if (t->omit) {
            memmove(x, x + 1, (size_t)(p->n - i - 1) * sizeof *x);
            p->n--;
            p->n_model -= i < p->n_model;
            return;
        }
        int64_t count = 1;
        for (int d = 0; d < x->rank; d++) count *= x->dim[d];
        float *f = (void *)(uintptr_t)x->data;
        int64_t *l = (void *)(uintptr_t)x->data;
        for (int64_t k = 0; k < count; k++) {
            if (x->dtype == QN_F32) f[k] += 0.01f;
            if (x->dtype == QN_I64) l[k] += 1;
        }
    }
}

static void change_row(struct steps_parts *p, void *user)
{
    struct target *t = user;
    json_t *o = json_loads(p->progress, 0, NULL);
    t->found = json_object_get(o, t->name) != NULL;
    if (t->omit) {
        json_object_del(o, t->name);
    } else {
        json_t *v = json_loads(t->value, JSON_DECODE_ANY, NULL);
        assert_non_null(v);
        json_object_set_new(o, t->name, v);
    }
    free(p->progress);
    p->progress = json_dumps(o, JSON_INDENT(2));
    json_decref(o);
}

/* Tensors of earlier optimizers need not be tried again; the long run does. */
static bool is_new(const char *name)
{
    static char seen[200][80];
    static int n;
    if (getenv("QN_TEST_LONG")) return true;
    for (int i = 0; i < n; i++)
        if (strcmp(seen[i], name) == 0) return false;
    assert_true(n < 200);
    snprintf(seen[n++], sizeof seen[0], "%s", name);
    return true;
}

/* What a buffer was before the first micro run since the last update is needed in the middle of one only; a run is
 * saved between updates. */
static bool without_effect(const char *name)
{
    size_t n = strlen(name), k = strlen(".before");
    return n > k && strcmp(name + n - k, ".before") == 0;
}

/* Every tensor of the checkpoint, changed: another end; left out: E4041. Returns how many were tried. */
static int every_tensor(const char *name, const char *run, int64_t step, const char *good)
{
    char path[STEPS_PATH + 60];
    qn_checkpoint *ck;
    qn_error err;
    int n = 0;
    snprintf(path, sizeof path, "%s/checkpoints/step-%06lld", run, (long long)step);
    if (qn_checkpoint_open(&ck, path, &err)) fail_msg("%s", err.text);
    const qn_safetensors *files[] = { qn_checkpoint_model(ck), qn_checkpoint_state(ck) };
    for (int f = 0; f < 2; f++)
        for (int64_t i = 0; i < qn_safetensors_count(files[f]); i++) {
            qn_tensor_info info;
            struct steps_run r;
            qn_safetensors_at(files[f], i, &info);
            if (!is_new(info.name)) continue;
            n++;
            struct target t = { .name = info.name };
            char *got = continued(run, step, change_tensor, &t, &r);
            assert_true(t.found);
            if (strcmp(got, good) == 0 && !without_effect(info.name))
                fail_msg("%s: \"%s\" was changed and nothing came of it", name, info.name);
            free(got);
            if (f == 0 && i > 0) continue; /* refused alike: one of the model is enough */
            t.omit = true;
            free(continued(run, step, change_tensor, &t, &r));
            assert_int_equal(r.err.code, 4041);
        }
    qn_checkpoint_close(ck);
    return n;
}

static void every_optimizer(void **state)
{
    (void)state;
    int resumes = 0, tensors = 0;
    for (int i = 0; i < N_OPTIMIZERS; i++) {
        struct steps_run whole, part;
        int64_t step[64];
        steps_train(&whole, optimizers[i].recipe, NULL);
        if (whole.status) fail_msg("%s: %s", optimizers[i].name, whole.err.text);
        char *good = steps_digest(&whole);
        int n = steps_list(whole.dir, step, 64);
        assert_int_equal(n, 9);
        bool all = i == 0 || getenv("QN_TEST_LONG");
        for (int k = all ? 0 : i % 3; k < n; k += all ? 1 : 3, resumes++) {
            char *got = continued(whole.dir, step[k], NULL, NULL, &part);
            expect_same(optimizers[i].name, step[k], good, got);
            free(got);
        }
        tensors += every_tensor(optimizers[i].name, whole.dir, step[1], good);
        free(good);
        steps_clean();
    }
    print_message("%d optimizers, %d continued runs, %d tensors changed\n", N_OPTIMIZERS, resumes, tensors);
}

/* ---- the rows of QN_RUN_STATE_MAP ----------------------------------------------------------------------------- */

/* A run whose validation loss rises after the second epoch, so that early stopping, plateau and best checkpoint all
 * hang on that one; two epochs without gain end it. It is continued after the third. */
static const char stale[] =
    BASE("stale", "{\"name\": \"sgd\", \"lr\": 40}",
         "\"epochs\": 9, \"schedule\": {\"name\": \"plateau\", \"patience\": 1, \"gamma\": 0.9}, \"early_stopping\": "
         "{\"patience\": 2, \"metric\": \"loss\"}, \"checkpoint\": {\"keep\": 100}, \"spike\": {\"policy\": \"stop\", "
         "\"factor\": 1000000, \"window\": 4}");

/* What each row is changed to, and where changing it cannot matter to this run, why. */
static const struct {
    const char *name, *value, *harmless;
} rows[] = {
    { "epoch", "2", NULL },
    { "position", "20", NULL },
    { "steps", "3", NULL },
    { "samples", "5", "only the throughput that is reported follows from it" },
    { "bad_in_a_row", "5", "counts only while steps are not finite: see test_bad_data" },
    { "epoch_loss", "\"5\"", NULL },
    { "epoch_count", "\"5\"", NULL },
    { "epoch_correct", "\"5\"", NULL },
    { "seconds", "\"5\"", "a time" },
    { "best_epoch", "7", NULL },
    { "best_value", "\"1e9\"", NULL },
    { "stopping_best", "7", NULL },
    { "stopping_value", "\"1e9\"", NULL },
    { "plateau_best", "7", NULL },
    { "plateau_value", "\"1e9\"", NULL },
    { "stopped_early", "1", NULL },
    { "log_bytes", "1", NULL },
    { "rewinds", "1", "only a rewind looks at it: see test_bad_data" },
    { "skips", "[[3, 0, 1000]]", NULL },
    { "losses", "[\"1e-9\", \"1e-9\", \"1e-9\", \"1e-9\"]", NULL },
};
enum { N_ROWS = sizeof rows / sizeof rows[0] };

static void every_row(void **state)
{
    (void)state;
    static const char *const listed[] = {
#define X(type, name, first) #name,
        QN_RUN_STATE_MAP(X)
#undef X
    };
    struct steps_run whole, r;
    int harmless = 0;
    assert_int_equal(sizeof listed / sizeof listed[0], N_ROWS);
    steps_train(&whole, stale, NULL);
    if (whole.status) fail_msg("%s", whole.err.text);
    assert_int_equal(whole.result.best_epoch, 2); /* else the test tests nothing */
    assert_int_equal(whole.result.epochs, 4);
    assert_true(whole.result.stopped_early);
    char *good = steps_digest(&whole), *same = continued(whole.dir, 9, NULL, NULL, &r);
    expect_same("stale", 9, good, same);
    for (int i = 0; i < N_ROWS; i++) {
        struct target t = { .name = rows[i].name, .value = rows[i].value };
        assert_string_equal(listed[i], rows[i].name);
        char *got = continued(whole.dir, 9, change_row, &t, &r);
        assert_true(t.found);
        if ((strcmp(got, good) == 0) != (rows[i].harmless != NULL))
            fail_msg("%s was changed to %s: the run ended %s", t.name, t.value,
                     rows[i].harmless ? "differently" : "the same");
        if (rows[i].harmless) print_message("  %s: %s\n", rows[i].name, rows[i].harmless);
        harmless += rows[i].harmless != NULL;
        t.omit = true;
        free(got);
        free(continued(whole.dir, 9, change_row, &t, &r));
        assert_int_equal(r.err.code, 4034);
    }
    free(good);
    free(same);
    print_message("%d rows of progress.json, %d of them without effect on this run\n", N_ROWS, harmless);
}

/* A resumed log has each step once; lines of before the kill that are of no saved step are gone. */
static void log_has_each_step_once(void **state)
{
    (void)state;
    struct steps_run whole, r;
    steps_train(&whole, optimizers[4].recipe, NULL);
    char *good = steps_digest(&whole), *got = continued(whole.dir, 4, NULL, NULL, &r);
    expect_same("adamw", 4, good, got);
    int steps = 0;
    for (const char *p = got; (p = strstr(p, "\"event\": \"step\"")); p++) steps++;
    assert_int_equal(steps, 9);
    free(good);
    free(got);
}

/* ---- other numbers of epochs ---------------------------------------------------------------------- */

/* Going on to `epochs` with a run that has ended; its digest. */
static char *lengthened(const char *recipe, int64_t epochs, struct steps_run *run)
{
    struct steps_run first;
    steps_train(&first, recipe, NULL);
    if (first.status) fail_msg("%s", first.err.text);
    steps_train_epochs(run, first.dir, epochs);
    if (run->dir[0] == 0) snprintf(run->dir, sizeof run->dir, "%s", first.dir);
    return steps_digest(run);
}

/* A run that was stopped before its first step. */
static void begin(struct steps_run *out, const char *text, int64_t epochs)
{
    static volatile sig_atomic_t stop = 1;
    qn_recipe *recipe;
    qn_recipe_errors errs;
    qn_trainer *t;
    qn_trainer_opts opts = { .out = steps_root(), .fd = -1, .threads = 1, .epochs = epochs, .stop = &stop };
    memset(out, 0, sizeof *out);
    assert_int_equal(qn_recipe_parse(&recipe, "test.json", text, strlen(text), NULL, 0, &errs), 0);
    out->status = qn_trainer_open(&t, recipe, &opts, &out->err);
    if (!out->status) {
        snprintf(out->dir, sizeof out->dir, "%s", qn_trainer_run_dir(t));
        out->status = qn_trainer_run(t, &out->result, &out->err);
    }
    qn_trainer_free(t);
    qn_recipe_free(recipe);
}

#define EPOCHS(n, more) \
    BASE("epochs", "{\"name\": \"sgd\", \"lr\": 0.05}", "\"epochs\": " n ", " more "\"checkpoint\": {\"keep\": 100}")

#define STEPS "\"schedule\": {\"name\": \"step\", \"every\": 2, \"warmup\": 1}, "

/* A run that has ended goes on as the longer run would have; a run may also end sooner. */
static void epochs_of_a_run_can_be_changed(void **state)
{
    (void)state;
    struct steps_run whole, r;
    steps_train(&whole, EPOCHS("4", STEPS), NULL);
    char *good = steps_digest(&whole);
    char *got = lengthened(EPOCHS("2", STEPS), 4, &r);
    expect_same("two epochs and two more", 6, good, got);
    free(got);
    steps_train(&r, NULL, r.dir); /* it has four now */
    assert_int_equal(r.result.epochs, 4);
    begin(&r, EPOCHS("6", STEPS), 0);
    assert_int_equal(r.status, QN_STOPPED);
    steps_train_epochs(&r, r.dir, 4);
    got = steps_digest(&r);
    expect_same("four of six epochs", 0, good, got);
    free(got);
    free(good);
}

/* Where the longer run would be another one, and where there is nothing to go on with. */
static void epochs_that_cannot_be_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *recipe;
        int64_t epochs;
        const char *line;
    } cases[] = {
        { EPOCHS("2", "\"schedule\": \"cosine\", "), 3,
          "error E2001 usage: epochs: 3; the schedule \"cosine\" of this run ends with epoch 2; expected 2, or a new "
          "run" },
        { EPOCHS("2", "\"schedule\": \"one_cycle\", "), 3,
          "error E2001 usage: epochs: 3; the schedule \"one_cycle\" of this run ends with epoch 2; expected 2, or a "
          "new "
          "run" },
        { EPOCHS("3", ""), 2, "error E2001 usage: epochs: 2; the run has begun epoch 3; expected at least that" },
        { EPOCHS("9", "\"early_stopping\": {\"patience\": 1, \"min_delta\": 1e9}, "), 12,
          "error E2001 usage: epochs: 12; early stopping has ended this run after epoch 2; expected 9, or a new run" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct steps_run r;
        free(lengthened(cases[i].recipe, cases[i].epochs, &r));
        assert_int_equal(r.status, QN_EUSAGE);
        assert_string_equal(r.err.text, cases[i].line);
        steps_train(&r, NULL, r.dir); /* and nothing has changed */
        assert_int_equal(r.status, 0);
        assert_true(r.result.epochs == 2 || i == 2);
    }
    struct steps_run r;
    begin(&r, EPOCHS("2", ""), 3);
    assert_string_equal(r.err.text,
                        "error E2001 usage: epochs: 3; expected 0, or a run to resume without another recipe");
}

static int clean(void **state)
{
    (void)state;
    steps_clean();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test_teardown(every_optimizer, clean),
                                        cmocka_unit_test_teardown(every_row, clean),
                                        cmocka_unit_test_teardown(log_has_each_step_once, clean),
                                        cmocka_unit_test_teardown(epochs_of_a_run_can_be_changed, clean),
                                        cmocka_unit_test_teardown(epochs_that_cannot_be_are_refused, clean) };
    return cmocka_run_group_tests_name("resume", tests, NULL, NULL);
}
