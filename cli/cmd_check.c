/* cmd_check.c - `quern check RECIPE`: everything that could end a run later is looked at now. */
#include "answers.h"
#include "training.h"
#include "../include/quern/optim.h"
#include <math.h>
#include <omp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

enum { BAD_SHOWN = 20 };

struct check {
    const struct options *o;
    const qn_recipe *recipe;
    qn_parts parts;
    qn_plan plan;
    json_t *lines; /* with --json */
    int code;      /* of the first error */
    int64_t bad;
    int warnings;
};

/* ---- lines ------------------------------------------------------------------------------------------------------ */

static void keep_line(struct check *c, const char *level, const char *topic, const char *text)
{
    if (c->lines)
        json_array_append_new(c->lines,
                              json_pack("{s:s, s:s, s:o}", "level", level, "topic", topic, "text", cli_text(text)));
}

static void say(struct check *c, const char *level, const char *topic, const char *format, va_list args)
{
    char text[600];
    vsnprintf(text, sizeof text, format, args);
    keep_line(c, level, topic, text);
    if (!c->lines) printf("%s %s: %s\n", level, topic, text);
}

__attribute__((format(printf, 3, 4))) static void ok(struct check *c, const char *topic, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    if (!c->o->quiet || c->lines) say(c, "ok", topic, format, args);
    va_end(args);
}

__attribute__((format(printf, 3, 4))) static void warn(struct check *c, const char *topic, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    c->warnings++;
    say(c, "warn", topic, format, args);
    va_end(args);
}

static void error(struct check *c, const char *topic, const qn_error *err)
{
    keep_line(c, "error", topic, err->text);
    fflush(stdout); /* lines appear in the order of the checks */
    int code = cli_fail(err);
    if (!c->code) c->code = code;
}

/* ---- data -------------------------------------------------------------------------------------------------------- */

static void bad_sample(void *user, int64_t sample, const qn_error *err)
{
    struct check *c = user;
    (void)sample;
    c->bad++;
    if (c->bad <= BAD_SHOWN) error(c, "samples", err);
}

static void check_samples(struct check *c, qn_dataset *ds, const char *name)
{
    int64_t before = c->bad, n = qn_dataset_count(ds);
    qn_dataset_check(ds, bad_sample, c);
    if (c->bad > BAD_SHOWN && before <= BAD_SHOWN)
        warn(c, "samples", "%lld more bad samples are not listed", (long long)(c->bad - BAD_SHOWN));
    if (c->bad == before) ok(c, "samples", "all %lld of %s can be read", (long long)n, name);
    if (qn_dataset_ignored(ds))
        warn(c, "samples", "%lld files that are not .png are left out", (long long)qn_dataset_ignored(ds));
}

/* Samples per class of a part; labels themselves were checked when the data was read. */
static void check_balance(struct check *c, const qn_dataset *ds, const qn_indices *part, const char *name)
{
    const qn_transform *t = qn_dataset_transform(ds);
    int64_t *count = calloc((size_t)t->n_classes + 1, sizeof *count), least = INT64_MAX, most = 0;
    int rare = 0, common = 0;
    if (!count) return;
    for (int64_t i = 0; i < part->n; i++) {
        int32_t label = qn_dataset_label(ds, part->at[i]);
        if (label >= 0 && label < t->n_classes) count[label]++;
    }
    for (int k = 0; k < t->n_classes; k++) {
        if (count[k] < least) rare = k;
        if (count[k] > most) common = k;
        if (count[k] < least) least = count[k];
        if (count[k] > most) most = count[k];
    }
    free(count);
    const char *low = t->class_name ? t->class_name[rare] : "?", *high = t->class_name ? t->class_name[common] : "?";
    if (least == 0)
        warn(c, "classes", "%s part: no sample of class \"%s\"", name, qn__show(low).s);
    else if (most > 10 * least)
        warn(c, "classes", "%s part: %lld of \"%s\" but %lld of \"%s\"; consider loss.class_weights", name,
             (long long)most, qn__show(high).s, (long long)least, qn__show(low).s);
    else
        ok(c, "classes", "%s part: %d classes, the smallest of %lld samples, the largest of %lld", name, t->n_classes,
           (long long)least, (long long)most);
}

static void check_splits(struct check *c)
{
    const qn_parts *p = &c->parts;
    const qn_recipe *r = c->recipe;
    bool watched = r->early_stopping.on || r->schedule.kind == QN_SCHEDULE_PLATEAU;
    ok(c, "splits", "%lld training, %lld validation, %lld test samples", (long long)p->train.n, (long long)p->valid.n,
       (long long)p->test.n);
    if (p->valid.n == 0)
        warn(c, "splits", "no validation part; %s watch%s the training part; set data.validation",
             watched ? "early stopping, the schedule and the best checkpoint" : "the best checkpoint",
             watched ? "" : "es");
    if (p->test.n == 0) warn(c, "splits", "no test part; the result is measured on the validation part only");
    if (p->train.n < r->batch)
        warn(c, "splits", "batch %lld is larger than the training part of %lld", (long long)r->batch,
             (long long)p->train.n);
}

static bool check_data(struct check *c)
{
    qn_error err = { 0 };
    if (qn_parts_open(&c->parts, c->recipe, &err)) {
        error(c, "data", &err);
        return false;
    }
    const qn_parts *p = &c->parts;
    check_samples(c, p->train_set, "the training data");
    if (p->test_set && p->test_set != p->train_set) check_samples(c, p->test_set, "the test data");
    check_splits(c);
    qn_loader *loader = NULL;
    if (qn_parts_loader(&loader, p, c->recipe, &err)) error(c, "augment", &err);
    qn_loader_free(loader);
    if (qn_dataset_transform(p->train_set)->n_classes == 0) return true;
    check_balance(c, p->train_set, &p->train, "training");
    if (p->valid.n) check_balance(c, p->train_set, &p->valid, "validation");
    if (p->test.n) check_balance(c, p->test_set, &p->test, "test");
    return true;
}

/* ---- model, memory, disk --------------------------------------------------------------------- */

static int threads_of(const struct check *c)
{
    return c->o->threads > 0        ? (int)c->o->threads
           : c->recipe->threads > 0 ? (int)c->recipe->threads
                                    : omp_get_num_procs();
}

/* A group for no tensor at all is a slip of the pen. */
static void check_groups(struct check *c)
{
    const qn_recipe_optimizer *o = &c->recipe->optimizer;
    for (int i = 0; i < o->n_groups; i++) {
        bool found = false;
        for (int k = 0; k < qn_store_count(c->plan.store) && !found; k++) {
            const qn_store_entry *e = qn_store_at(c->plan.store, k);
            found = e->kind == QN_PARAM && qn_optimizer_group_matches(o->groups[i].match, e->name);
        }
        if (!found)
            warn(c, "model", "optimizer.groups[%d]: no parameter is called \"%s\"", i, qn__show(o->groups[i].match).s);
    }
}

static bool check_model(struct check *c)
{
    qn_error err = { 0 };
    int64_t batch = c->parts.train.n < c->recipe->batch ? c->parts.train.n : c->recipe->batch;
    const qn_transform *t = qn_dataset_transform(c->parts.train_set);
    if (qn_plan_open(&c->plan, c->recipe, t, batch, threads_of(c), NULL, &err)) {
        error(c, "model", &err);
        return false;
    }
    ok(c, "model", "%lld parameters, %d operators a step", (long long)c->plan.parameters,
       qn_program_steps(c->plan.program));
    check_groups(c);
    return true;
}

static void check_memory(struct check *c)
{
    qn_error err = { 0 };
    qn_memory have = qn_memory_available();
    qn_bytes b = qn_program_bytes(c->plan.program);
    size_t need = b.params + b.buffers + b.state + b.grads + b.io + b.work;
    int64_t batch = c->parts.train.n < c->recipe->batch ? c->parts.train.n : c->recipe->batch;
    if (qn_plan_fits(&c->plan, c->recipe, qn_dataset_transform(c->parts.train_set), batch, threads_of(c), have.bytes,
                     &err))
        error(c, "memory", &err);
    else
        ok(c, "memory", "needs %.1f MiB beside the data; have %.1f MiB (%s)", (double)need / 1048576,
           (double)have.bytes / 1048576, have.limit);
}

/* The deepest directory of path that is there. */
static void existing_parent(char *path)
{
    struct statvfs fs;
    while (*path && statvfs(path, &fs) != 0) {
        char *slash = strrchr(path, '/');
        if (!slash || slash == path) snprintf(path, 2, "%s", slash ? "/" : ".");
        if (!slash || slash == path) return;
        *slash = 0;
    }
}

/* Kept checkpoints, the best one, and one more of each while it is being written. */
static void check_disk(struct check *c)
{
    struct statvfs fs;
    char dir[4096] = "runs";
    qn_error err = { 0 };
    qn_bytes b = qn_program_bytes(c->plan.program);
    double one = (double)(b.params + b.buffers + b.state + b.grads) + 65536;
    double need = one * ((double)c->recipe->checkpoint.keep + 3);
    existing_parent(dir);
    if (statvfs(dir, &fs) != 0) {
        warn(c, "disk", "cannot ask the file system of the current directory for its free space");
        return;
    }
    double have = (double)fs.f_bavail * (double)fs.f_frsize;
    if (need <= have) {
        ok(c, "disk", "checkpoints need %.1f MiB; %.1f MiB are free", need / 1048576, have / 1048576);
        return;
    }
    qn__fail(&err, 6002, QN_AT_FILE("runs"),
             "checkpoints need %.1f MiB (%lld kept, the best, one being written); %.1f MiB are free", need / 1048576,
             (long long)c->recipe->checkpoint.keep, have / 1048576);
    error(c, "disk", &err);
}

/* ---- schedule -------------------------------------------------------------------------------- */

static void check_decay(struct check *c)
{
    const qn_recipe_schedule *s = &c->recipe->schedule;
    double epochs = (double)c->recipe->epochs;
    if (s->kind == QN_SCHEDULE_STEP && s->every >= epochs)
        warn(c, "schedule", "step: every %g epochs, but the run has %g; the rate never changes", s->every, epochs);
    for (int i = 0; s->kind == QN_SCHEDULE_MULTI_STEP && i < s->at.n; i++)
        if (s->at.v[i] >= epochs)
            warn(c, "schedule", "multi_step: epoch %g is not before the end of the run, %g", s->at.v[i], epochs);
    if (s->kind == QN_SCHEDULE_EXPONENTIAL && pow(s->gamma, epochs) < 1e-6)
        warn(c, "schedule", "exponential: the factor falls to %.2g; the last epochs learn nothing",
             pow(s->gamma, epochs));
    if (s->kind == QN_SCHEDULE_PLATEAU && s->patience >= c->recipe->epochs)
        warn(c, "schedule", "plateau: patience %lld, but the run has %g epochs; the rate never changes",
             (long long)s->patience, epochs);
}

static void check_schedule(struct check *c)
{
    const qn_recipe *r = c->recipe;
    const qn_recipe_schedule *s = &r->schedule;
    int64_t group = r->accumulate > 1 ? r->accumulate : 1, before = c->warnings;
    int64_t micro = (c->parts.train.n + r->batch - 1) / r->batch, updates = (micro + group - 1) / group;
    double all = (double)(updates * r->epochs);
    if (s->kind != QN_SCHEDULE_ONE_CYCLE && s->warmup >= (double)r->epochs)
        warn(c, "schedule", "warm-up of %g epochs is not over when the run ends after %lld; the rate never reaches %g",
             s->warmup, (long long)r->epochs, r->optimizer.lr);
    else if (s->kind != QN_SCHEDULE_ONE_CYCLE && s->warmup > 0 && s->warmup * (double)updates < 1)
        warn(c, "schedule", "warm-up of %g epochs is less than one of %lld updates", s->warmup, (long long)updates);
    if (s->kind == QN_SCHEDULE_ONE_CYCLE && (s->peak * all < 1 || (1 - s->peak) * all < 1))
        warn(c, "schedule", "one_cycle: peak %g of %g updates leaves no update on one side of it", s->peak, all);
    check_decay(c);
    if (r->early_stopping.on && r->early_stopping.patience >= r->epochs)
        warn(c, "schedule", "early_stopping: patience %lld, but the run has %lld epochs; it never stops early",
             (long long)r->early_stopping.patience, (long long)r->epochs);
    if (c->warnings == before)
        ok(c, "schedule", "%lld updates an epoch, %.0f in all; the rate is right to the end", (long long)updates, all);
}

/* ---- the command ----------------------------------------------------------------------------- */

static void check_all(struct check *c)
{
    ok(c, "recipe", "%s: %d layers, %lld epochs of batches of %lld", c->recipe->name, (int)c->recipe->n_layers,
       (long long)c->recipe->epochs, (long long)c->recipe->batch);
    if (!check_data(c)) return;
    check_schedule(c);
    if (!check_model(c)) return;
    check_memory(c);
    check_disk(c);
}

int cmd_check(int argc, char **argv)
{
    struct options o;
    qn_recipe *r = NULL;
    int code = cli_parse(&cli_check, argc, argv, &o);
    if (code >= 0) return code;
    struct check c = { .o = &o, .lines = o.json ? json_array() : NULL };
    code = cli_load_recipe(&r, o.args.v[0], &o);
    c.recipe = r;
    if (!code) {
        check_all(&c);
        code = c.code;
        if (o.json)
            cli_print_json(json_pack("{s:b, s:i, s:O}", "ok", code == 0, "warnings", c.warnings, "lines", c.lines), 2);
    }
    json_decref(c.lines);
    qn_plan_free(&c.plan);
    qn_parts_free(&c.parts);
    qn_recipe_free(r);
    cli_free(&o);
    return cli_finish(code);
}
