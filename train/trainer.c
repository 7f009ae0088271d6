/* trainer.c - the training loop: see train.h. What happens when, and what is written down, is here; how a step is
 * computed is in the program. */
#include "trainer_impl.h"
#include "evaluate.h"
#include "run_dir.h"
#include "watch.h"
#include "../core/base.h"
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char *qn_trainer_run_dir(const qn_trainer *t) { return t->dir; }
const qn_recipe *qn_trainer_recipe(const qn_trainer *t) { return t->recipe; }

const qn_program *qn_trainer_program(const qn_trainer *t) { return t->net.runner[0].program; }

/* ---- notes and saves ---------------------------------------------------------------------------------------- */

void qn__note(qn_trainer *t, const char *text)
{
    if (t->progress) qn_progress_note(t->progress, text);
}

void qn__end_line(qn_trainer *t)
{
    qn_error err = { 0 };
    if (qn_log_end(t->log, &err)) qn__note(t, err.text);
}

static qn_status save_at(qn_trainer *t, int64_t position, const char *name, qn_error *err)
{
    t->state.position = position;
    t->state.log_bytes = qn__log_bytes(t->log);
    struct qn__save s = { .dir = t->checkpoints,
                          .run_id = t->run_id,
                          .name = name,
                          .net = &t->net,
                          .state = &t->state,
                          .transform = qn_dataset_transform(t->parts.train_set),
                          .keep = (int)t->recipe->checkpoint.keep };
    return qn__checkpoint_save(&s, err);
}

static int64_t position_of(const qn_trainer *t)
{
    qn_loader_state at = qn_loader_tell(t->loader);
    /* the loader is ahead of an epoch whose last update is just being made */
    return at.epoch == t->state.epoch ? at.position : qn_loader_samples(t->loader);
}

qn_status qn__save_run(qn_trainer *t, const char *name, qn_error *err) { return save_at(t, position_of(t), name, err); }

void qn__save_for_repair(qn_trainer *t, int64_t position)
{
    char line[2 * QN_PATH_MAX + 100];
    qn_error err = { 0 };
    if (save_at(t, position, NULL, &err)) {
        qn__note(t, err.text);
        return;
    }
    snprintf(line, sizeof line, "step %lld is saved; when this is repaired, go on with: quern train --resume=%s",
             (long long)t->state.steps, qn__show(t->dir).s);
    if (!t->opts.quiet) qn__note(t, line);
}

bool qn__save_or_note(qn_trainer *t, const char *name)
{
    qn_error err = { 0 };
    qn_status status = qn__save_run(t, name, &err);
    if (!name) t->unsaved = status != QN_OK;
    if (status == QN_EDEVICE)
        t->lost = err;
    else if (err.code)
        qn__note(t, err.text);
    return err.code == 0;
}

qn_status qn__check_lost(const qn_trainer *t, qn_error *err)
{
    if (t->lost.code && err) *err = t->lost;
    return qn_error_status(&t->lost);
}

/* On failure of the first attempt the newest checkpoint that verifies is taken; what was skipped is told. */
static void tell(void *user, const char *line) { qn__note(user, line); }

qn_status qn__restore_run(qn_trainer *t, qn_error *err)
{
    qn_checkpoint *ck;
    struct qn__run_state state;
    QN_TRY(qn_checkpoint_open_newest(&ck, t->checkpoints, NULL, tell, t, err));
    qn_status status = qn__run_state_read(&state, qn_checkpoint_text(ck, "progress.json"), qn_checkpoint_path(ck), err);
    if (!status) status = qn__checkpoint_load(t->net.store, ck, QN_LOAD_MODEL | QN_LOAD_STATE, err);
    if (!status) {
        t->state = state;
        snprintf(t->run_id, sizeof t->run_id, "%s", qn_checkpoint_run(ck));
    }
    qn_checkpoint_close(ck);
    if (status) return status;
    QN_TRY(qn__steps_begin(t, err));
    return qn_loader_seek(t->loader, (qn_loader_state){ t->state.epoch, t->state.position }, err);
}

bool qn__asked_to_stop(const qn_trainer *t) { return t->opts.stop && *t->opts.stop; }

/* ---- after an epoch ------------------------------------------------------------------------------------------- */

static void log_summary(qn_trainer *t, const char *part, const qn_metrics_summary *m)
{
    static const struct {
        const char *name;
        size_t at;
    } rows[] = {
        { "loss", offsetof(qn_metrics_summary, loss) },
        { "accuracy", offsetof(qn_metrics_summary, accuracy) },
        { "top_k", offsetof(qn_metrics_summary, top_k) },
        { "precision", offsetof(qn_metrics_summary, precision_macro) },
        { "recall", offsetof(qn_metrics_summary, recall_macro) },
        { "f1", offsetof(qn_metrics_summary, f1_macro) },
        { "auc", offsetof(qn_metrics_summary, auc) },
        { "mse", offsetof(qn_metrics_summary, mse) },
        { "mae", offsetof(qn_metrics_summary, mae) },
    };
    qn_log_begin(t->log, part);
    qn_log_i64(t->log, "epoch", t->state.epoch + 1);
    qn_log_i64(t->log, "step", t->state.steps);
    qn_log_i64(t->log, "count", m->count);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        double x;
        memcpy(&x, (const char *)m + rows[i].at, sizeof x);
        if (isnan(x)) continue;
        char tag[64];
        qn_log_f64(t->log, rows[i].name, x);
        snprintf(tag, sizeof tag, "%s/%s", part, rows[i].name);
        qn_events_scalar(t->events, tag, t->state.steps, (float)x, NULL);
    }
    qn__end_line(t);
}

static qn_metrics_summary train_summary(const qn_trainer *t)
{
    const struct qn__run_state *s = &t->state;
    const double none = (double)NAN;
    qn_metrics_summary m = { .count = (int64_t)s->epoch_count,
                             .loss = s->epoch_loss / s->epoch_count,
                             .accuracy = none,
                             .top_k = none,
                             .precision_macro = none,
                             .recall_macro = none,
                             .f1_macro = none,
                             .precision_micro = none,
                             .recall_micro = none,
                             .f1_micro = none,
                             .auc = none,
                             .mse = none,
                             .mae = none };
    if (t->net.shape.n_classes > 0 && !t->net.shape.soft) m.accuracy = s->epoch_correct / s->epoch_count;
    return m;
}

static void show_epoch(qn_trainer *t, const qn_metrics_summary *train, const qn_metrics_summary *valid)
{
    if (!t->progress || t->opts.quiet) return;
    double none = (double)NAN;
    qn_progress_epoch_end(t->progress, &(qn_progress_epoch){ .epoch = t->state.epoch + 1,
                                                             .loss = train->loss,
                                                             .metric = train->accuracy,
                                                             .val_loss = valid->count ? valid->loss : none,
                                                             .val_metric = valid->count ? valid->accuracy : none });
}

/* Early stopping, the plateau schedule and the best checkpoint watch the validation part, or the training part where
 * there is none. */
static qn_status watch(qn_trainer *t, const qn_metrics_summary *m, bool *stop, qn_error *err)
{
    *stop = false;
    const qn_recipe *r = t->recipe;
    struct qn__run_state *s = &t->state;
    int64_t now = s->epoch + 1;
    const char *metric = r->early_stopping.on ? r->early_stopping.metric : t->net.shape.n_classes ? "accuracy" : "loss";
    double value = qn__watched(m, metric);
    if (s->best_epoch == 0 || qn__is_gain(metric, value, s->best_value, 0)) {
        int64_t old_epoch = s->best_epoch;
        double old_value = s->best_value;
        s->best_epoch = now;
        s->best_value = value;
        if (!qn__save_or_note(t, "best")) { /* what is on disk still is the best that can be gone back to */
            s->best_epoch = old_epoch;
            s->best_value = old_value;
        }
    }
    if (r->schedule.kind == QN_SCHEDULE_PLATEAU) {
        double x = qn__watched(m, r->schedule.metric);
        if (s->plateau_best == 0 || qn__is_gain(r->schedule.metric, x, s->plateau_value, r->schedule.min_delta)) {
            s->plateau_best = now;
            s->plateau_value = x;
        } else if (now - s->plateau_best >= r->schedule.patience) {
            QN_TRY(qn__lower_plateau(t->net.store, r->schedule.gamma, r->schedule.min_factor, err));
            s->plateau_best = now;
        }
    }
    if (!r->early_stopping.on) return QN_OK;
    if (s->stopping_best == 0 || qn__is_gain(metric, value, s->stopping_value, r->early_stopping.min_delta)) {
        s->stopping_best = now;
        s->stopping_value = value;
    }
    *stop = now - s->stopping_best >= r->early_stopping.patience;
    return QN_OK;
}

static qn_status evaluate_part(qn_trainer *t, qn_dataset *ds, const qn_indices *part, qn_metrics_summary *out,
                               qn_error *err)
{
    memset(out, 0, sizeof *out);
    if (!ds || part->n == 0) return QN_OK;
    QN_TRY(qn__network_swap_ema(&t->net, err));
    qn_status status = qn__evaluate(&t->net, ds, part, (int)t->recipe->data.workers, out, NULL, err);
    qn_status back = qn__network_swap_ema(&t->net, status ? NULL : err);
    return status ? status : back;
}

static qn_status end_epoch(qn_trainer *t, qn_error *err)
{
    qn_metrics_summary train = train_summary(t), valid;
    qn_status status = evaluate_part(t, t->parts.train_set, &t->parts.valid, &valid, err);
    if (status && status != QN_EDEVICE) qn__save_for_repair(t, position_of(t));
    if (status) return status;
    log_summary(t, "train", &train);
    if (valid.count) log_summary(t, "valid", &valid);
    show_epoch(t, &train, &valid);
    bool done;
    QN_TRY(watch(t, valid.count ? &valid : &train, &done, err));
    struct qn__run_state *s = &t->state;
    s->epoch++;
    s->epoch_loss = s->epoch_count = s->epoch_correct = 0;
    s->stopped_early = done;
    int64_t every = t->recipe->checkpoint.every_epochs;
    /* A rewind must never pass the best checkpoint: it would be of batches that were left out since. */
    bool best = t->recipe->spike.policy == QN_SPIKE_REWIND && s->best_epoch == s->epoch;
    if (done || best || s->epoch == t->recipe->epochs || (every > 0 && s->epoch % every == 0))
        qn__save_or_note(t, NULL);
    return qn__check_lost(t, err);
}

/* ---- the end ---------------------------------------------------------------------------------------------------- */

/* Back to the best weights, if the run has a best checkpoint. When that cannot be read any more, this is told and the
 * last weights are taken. */
static qn_status take_best(qn_trainer *t, qn_error *err)
{
    char path[QN_PATH_MAX];
    qn_checkpoint *ck;
    QN_TRY(qn__path_join(path, t->checkpoints, "best", err));
    if (t->state.best_epoch == 0) return QN_OK;
    qn_error why = { 0 };
    qn_status status = qn_checkpoint_open(&ck, path, &why);
    if (status == QN_EMEMORY && err) *err = why;
    if (status == QN_EMEMORY) return status;
    if (status) {
        qn__note(t, why.text);
        qn__note(t, "the figures are those of the last weights, not of the best");
        t->state.best_epoch = 0;
        return QN_OK;
    }
    status = qn__checkpoint_load(t->net.store, ck, QN_LOAD_MODEL, err);
    qn_checkpoint_close(ck);
    return status;
}

static qn_status finish(qn_trainer *t, qn_train_result *out, qn_error *err)
{
    const qn_store_entry *skipped = qn_store_find(t->net.store, "optim.skipped");
    const struct qn__run_state *s = &t->state;
    if (skipped) QN_TRY(qn_store_pull(t->net.store, skipped->name, err));
    QN_TRY(take_best(t, err));
    out->epochs = s->epoch;
    out->skipped = skipped && skipped->data ? *(const int64_t *)skipped->data : 0;
    out->steps = s->steps - out->skipped;
    out->seconds = s->seconds;
    out->samples_per_second = s->seconds > 0 ? (double)s->samples / s->seconds : 0;
    out->first_step_seconds = t->first_step;
    out->stopped_early = s->stopped_early;
    out->best_epoch = s->best_epoch;
    out->best_value = s->best_value;
    QN_TRY(evaluate_part(t, t->parts.train_set, &t->parts.valid, &out->valid, err));
    if (t->opts.profile) QN_TRY(qn__trace_write(&t->trace, t->dir, err));
    QN_TRY(evaluate_part(t, t->parts.test_set, &t->parts.test, &out->test, err));
    if (out->valid.count) log_summary(t, "best_valid", &out->valid);
    if (out->test.count) log_summary(t, "test", &out->test);
    return qn__run_dir_result(t->dir, out, err);
}

static qn_status run(qn_trainer *t, qn_train_result *result, qn_error *err)
{
    if (t->recipe->spike.policy == QN_SPIKE_REWIND && t->state.samples == 0) QN_TRY(qn__save_run(t, NULL, err));
    while (t->state.epoch < t->recipe->epochs && !t->state.stopped_early) {
        if (qn__asked_to_stop(t)) {
            QN_TRY(qn__save_run(t, NULL, err));
            return QN_STOPPED;
        }
        QN_TRY(qn__train_epoch(t, err));
        QN_TRY(end_epoch(t, err));
    }
    /* A run whose end is on no disk has failed, whatever it has learnt; there may be room by now. */
    qn_error unsaved = { 0 };
    qn_status saved = t->unsaved ? qn__save_run(t, NULL, &unsaved) : QN_OK;
    QN_TRY(finish(t, result, err));
    if (saved && err) *err = unsaved;
    return saved;
}

/* After an error of a GPU nothing can be read from it any more, and the host's copy of the weights is that of the last
 * checkpoint: there is nothing newer to save. */
static void tell_last_good(qn_trainer *t)
{
    char line[2 * QN_PATH_MAX + 100];
    qn_error unused;
    qn_checkpoint *ck;
    if (qn_checkpoint_open_newest(&ck, t->checkpoints, NULL, NULL, NULL, &unused)) {
        qn__note(t, "the GPU failed before a checkpoint was saved");
        return;
    }
    snprintf(line, sizeof line, "the GPU failed at step %lld; to go on from step %lld: quern train --resume=%s",
             (long long)t->state.steps + 1, (long long)qn_checkpoint_step(ck), qn__show(t->dir).s);
    qn_checkpoint_close(ck);
    qn__note(t, line);
}

qn_status qn_trainer_run(qn_trainer *t, qn_train_result *result, qn_error *err)
{
    memset(result, 0, sizeof *result);
    qn_status status = run(t, result, err);
    bool on_gpu = strcmp(qn_store_device(t->net.store), "cpu") != 0;
    if (on_gpu && (status == QN_EDEVICE || status == QN_EMEMORY)) tell_last_good(t);
    return status;
}

/* ---- opening ------------------------------------------------------------------------------------------ */

#define TUNING "tuning.lock"

/* The caller's lock file, or that of the run that goes on; the CPU needs none. */
static qn_status open_tuning(qn_trainer *t, qn_error *err)
{
    char own[QN_PATH_MAX];
    const char *path = t->opts.tuning;
    bool gpu = strcmp(qn_store_device(t->net.store), "cpu") != 0;
    if (path && !gpu)
        return qn__fail(err, 2001, QN_AT_FIELD("tuning"), "a lock file and the CPU; expected a GPU, --device=cuda");
    if (!path && t->opts.resume && gpu) {
        QN_TRY(qn__path_join(own, t->opts.resume, TUNING, err));
        if (access(own, F_OK) == 0) path = own;
    }
    if (path) QN_TRY(qn_tuning_load(&t->tuning, path, err));
    t->net.tuning = t->tuning;
    return QN_OK;
}

static qn_status keep_tuning(const qn_trainer *t, qn_error *err)
{
    char path[QN_PATH_MAX];
    if (!t->tuning) return QN_OK;
    QN_TRY(qn__path_join(path, t->dir, TUNING, err));
    return qn_tuning_save(t->tuning, path, err);
}

static qn_status open_network(qn_trainer *t, qn_error *err)
{
    const qn_recipe *r = t->recipe;
    struct qn__runner *first;
    int64_t n = t->parts.train.n, group = r->accumulate > 1 ? r->accumulate : 1;
    int threads = t->opts.threads > 0 ? t->opts.threads : r->threads > 0 ? (int)r->threads : omp_get_num_procs();
    t->micro_per_epoch = (n + r->batch - 1) / r->batch;
    int64_t updates = (t->micro_per_epoch + group - 1) / group;
    const char *device = t->opts.device ? t->opts.device : r->device;
    QN_TRY(qn__network_open(&t->net, r, qn_dataset_transform(t->parts.train_set), updates, device, threads, err));
    QN_TRY(open_tuning(t, err));
    return qn__network_runner(&t->net, QN_MODE_TRAIN, n < r->batch ? n : r->batch, &first, err);
}

static qn_status open_run_dir(qn_trainer *t, qn_error *err)
{
    if (t->opts.resume) {
        if (snprintf(t->dir, sizeof t->dir, "%s", t->opts.resume) >= (int)sizeof t->dir)
            return qn__fail(err, 6001, NULL, "path too long; expected fewer than %d bytes", QN_PATH_MAX);
    } else {
        QN_TRY(qn__run_dir_make(t->dir, t->opts.out ? t->opts.out : "runs", t->recipe->name, err));
        QN_TRY(qn__run_dir_describe(t->dir, t->recipe, qn_store_device(t->net.store), t->net.threads, err));
        QN_TRY(keep_tuning(t, err));
        const char *leaf = strrchr(t->dir, '/');
        snprintf(t->run_id, sizeof t->run_id, "%.150s", leaf ? leaf + 1 : t->dir);
    }
    return qn__path_join(t->checkpoints, t->dir, "checkpoints", err);
}

static qn_status open_logs(qn_trainer *t, qn_error *err)
{
    char path[QN_PATH_MAX];
    QN_TRY(qn__path_join(path, t->dir, "log.jsonl", err));
    QN_TRY(qn_log_open(&t->log, path, t->opts.resume != NULL, err));
    return qn_events_open(&t->events, t->dir, err);
}

static void note_missing_threads(qn_trainer *t)
{
    int asked = (int)t->recipe->data.workers, started = qn_loader_threads(t->loader);
    char line[160];
    if (started >= asked) return;
    snprintf(line, sizeof line,
             "loader: %d of %d threads could be started; data is prepared by fewer: slower, "
             "the same samples",
             started, asked);
    qn__note(t, line);
}

static qn_status open_progress(qn_trainer *t, qn_error *err)
{
    if (t->opts.fd < 0) return QN_OK;
    qn_progress_options o = { .fd = t->opts.fd,
                              .epochs = t->recipe->epochs,
                              .steps_per_epoch = t->micro_per_epoch,
                              .metric = t->net.shape.n_classes && !t->net.shape.soft ? "accuracy" : NULL,
                              .every = 0 };
    QN_TRY(qn_progress_create(&t->progress, &o, err));
    note_missing_threads(t);
    return QN_OK;
}

/* The recipe of the run that is continued, with another number of epochs if asked for. */
static qn_status load_recipe(qn_trainer *t, qn_error *err)
{
    char path[QN_PATH_MAX], epochs[48];
    const char *const set = epochs;
    qn_recipe_errors errs;
    QN_TRY(qn__path_join(path, t->opts.resume, "recipe.json", err));
    snprintf(epochs, sizeof epochs, "epochs=%lld", (long long)t->opts.epochs);
    qn_status status = qn_recipe_load(&t->own_recipe, path, NULL, 0, &errs);
    if (!status) t->old_epochs = t->own_recipe->epochs;
    if (!status && t->opts.epochs > 0) {
        qn_recipe_free(t->own_recipe);
        t->own_recipe = NULL;
        status = qn_recipe_load(&t->own_recipe, path, &set, 1, &errs);
    }
    if (status && err) *err = errs.list[0];
    if (!t->recipe) t->recipe = t->own_recipe;
    return status;
}

/* The longer run must be what it would have been from the beginning. */
static qn_status check_epochs(const qn_trainer *t, qn_error *err)
{
    static const char *const kinds[] = {
#define X(e, s) s,
        QN_SCHEDULE_MAP(X)
#undef X
    };
    const struct qn__where *at = QN_AT_FIELD("epochs");
    const struct qn__run_state *s = &t->state;
    qn_schedule_kind kind = t->recipe->schedule.kind;
    int64_t begun = s->epoch + (s->position > 0);
    long long epochs = t->recipe->epochs, old = t->old_epochs;
    bool ends = kind == QN_SCHEDULE_COSINE || kind == QN_SCHEDULE_ONE_CYCLE || kind == QN_SCHEDULE_LINEAR;
    if (epochs == old) return QN_OK;
    if (ends)
        return qn__fail(err, 2001, at,
                        "%lld; the schedule \"%s\" of this run ends with epoch %lld; expected %lld, or a new run",
                        epochs, kinds[kind], old, old);
    if (s->stopped_early)
        return qn__fail(err, 2001, at,
                        "%lld; early stopping has ended this run after epoch %lld; expected %lld, or a new run", epochs,
                        (long long)s->epoch, old);
    if (epochs < begun)
        return qn__fail(err, 2001, at, "%lld; the run has begun epoch %lld; expected at least that", epochs,
                        (long long)begun);
    return QN_OK;
}

/* From the newest checkpoint; the log forgets what came after it, for it will come again. */
static qn_status go_on(qn_trainer *t, qn_error *err)
{
    QN_TRY(qn__restore_run(t, err));
    if (t->opts.epochs > 0) {
        QN_TRY(check_epochs(t, err));
        QN_TRY(qn__run_dir_recipe(t->dir, t->recipe, err));
    }
    qn__log_trim(t->log, t->state.log_bytes);
    qn_log_begin(t->log, "resume");
    qn_log_i64(t->log, "from", t->state.steps);
    qn__end_line(t);
    return QN_OK;
}

static qn_status open_trainer(qn_trainer *t, qn_error *err)
{
    qn__run_state_init(&t->state);
    if (t->opts.resume) QN_TRY(qn_run_lock_take(&t->lock, t->opts.resume, err));
    if (t->opts.resume) QN_TRY(load_recipe(t, err));
    double begin = qn__now();
    QN_TRY(qn_parts_open(&t->parts, t->recipe, err));
    t->data_seconds = qn__now() - begin;
    QN_TRY(open_network(t, err));
    QN_TRY(qn_parts_loader(&t->loader, &t->parts, t->recipe, err));
    QN_TRY(open_progress(t, err));
    QN_TRY(open_run_dir(t, err));
    if (!t->lock) QN_TRY(qn_run_lock_take(&t->lock, t->dir, err));
    QN_TRY(open_logs(t, err));
    if (t->opts.profile) QN_TRY(qn_program_profile(t->net.runner[0].program, true, err));
    return t->opts.resume ? go_on(t, err) : qn__steps_begin(t, err);
}

static qn_status check_opts(const qn_recipe *recipe, const qn_trainer_opts *opts, qn_error *err)
{
    if (!recipe && !opts->resume) return qn__fail(err, 2001, NULL, "no recipe; expected one, or a run to resume");
    if (opts->epochs < 0 || (opts->epochs > 0 && (recipe || !opts->resume)))
        return qn__fail(err, 2001, QN_AT_FIELD("epochs"), "%lld; expected 0, or a run to resume without another recipe",
                        (long long)opts->epochs);
    return QN_OK;
}

qn_status qn_trainer_open(qn_trainer **out, const qn_recipe *recipe, const qn_trainer_opts *opts, qn_error *err)
{
    *out = NULL;
    qn_trainer *t = qn__calloc(NULL, 1, sizeof *t);
    if (!t) return qn__nomem(err, "trainer", sizeof *t);
    t->opts = *opts;
    t->recipe = recipe;
    t->opened = qn__now();
    qn_status status = check_opts(recipe, opts, err);
    if (!status) status = open_trainer(t, err);
    if (status)
        qn_trainer_free(t);
    else
        *out = t;
    return status;
}

void qn_trainer_free(qn_trainer *t)
{
    if (!t) return;
    qn__steps_free(t);
    qn__trace_free(&t->trace);
    qn_loader_free(t->loader);
    qn_progress_free(t->progress);
    qn_log_close(t->log, NULL);
    qn_events_close(t->events, NULL);
    qn_run_lock_release(t->lock);
    qn__network_close(&t->net);
    qn_tuning_free(t->tuning);
    qn_parts_free(&t->parts);
    qn_recipe_free(t->own_recipe);
    qn__free(NULL, t, sizeof *t);
}
