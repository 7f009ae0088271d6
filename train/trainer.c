/* trainer.c - the training loop: see train.h. What happens when, and what is written down, is here; how a step is
 * computed is in the program. */
#include "log.h"
#include "evaluate.h"
#include "run_dir.h"
#include "state.h"
#include "trace.h"
#include "watch.h"
#include "../core/base.h"
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The micro runs since the last update. Not part of the saved state: a run is saved between updates. */
struct group {
    int64_t runs, samples;
    double loss;                /* sum over the samples                            */
    int64_t epoch, first, last; /* positions of the first and the last batch       */
    int64_t rng[4];             /* the random state before the first               */
};

struct qn_trainer {
    qn_trainer_opts opts;
    const qn_recipe *recipe;
    qn_recipe *own_recipe; /* of a resumed run */
    qn_parts parts;
    struct qn__network net;
    qn_loader *loader;
    struct qn__run_state state;
    int64_t micro_per_epoch;
    char dir[QN_PATH_MAX], checkpoints[QN_PATH_MAX], run_id[200];
    qn_run_lock *lock;
    qn_logger *log;
    qn_events *events;
    qn_progress *progress;
    struct qn__trace trace; /* only with opts.profile */
    double opened, data_seconds, first_step;
    int64_t old_epochs; /* of a resumed run, before opts.epochs */
    struct group group;
};

const char *qn_trainer_run_dir(const qn_trainer *t) { return t->dir; }
const qn_recipe *qn_trainer_recipe(const qn_trainer *t) { return t->recipe; }

const qn_program *qn_trainer_program(const qn_trainer *t) { return t->net.runner[0].program; }

/* ---- notes and saves ---------------------------------------------------------------------------------------- */

static void note(qn_trainer *t, const char *text)
{
    if (t->progress) qn_progress_note(t->progress, text);
}

/* A log that cannot be written does not end a run: the first loss is told. */
static void end_line(qn_trainer *t)
{
    qn_error err = { 0 };
    if (qn_log_end(t->log, &err)) note(t, err.text);
}

static qn_status save(qn_trainer *t, const char *name, qn_error *err)
{
    qn_loader_state at = qn_loader_tell(t->loader);
    /* the loader is ahead of an epoch whose last update is just being made */
    t->state.position = at.epoch == t->state.epoch ? at.position : qn_loader_samples(t->loader);
    t->state.log_bytes = qn__log_bytes(t->log);
    struct qn__save s = { .dir = t->checkpoints, .run_id = t->run_id, .name = name, .net = &t->net, .state = &t->state,
                          .transform = qn_dataset_transform(t->parts.train_set),
                          .keep = (int)t->recipe->checkpoint.keep };
    return qn__checkpoint_save(&s, err);
}

/* A checkpoint in the middle of a run that fails is told, and the run goes on; the next one is tried as usual. */
static bool save_or_note(qn_trainer *t, const char *name)
{
    qn_error err = { 0 };
    if (save(t, name, &err)) note(t, err.text);
    return err.code == 0;
}

/* On failure of the first attempt the newest checkpoint that verifies is taken; what was skipped is told. */
static void tell(void *user, const char *line) { note(user, line); }

static qn_status restore(qn_trainer *t, qn_error *err)
{
    qn_checkpoint *ck;
    struct qn__run_state state;
    QN_TRY(qn_checkpoint_open_newest(&ck, t->checkpoints, NULL, tell, t, err));
    qn_status status = qn__run_state_read(&state, qn_checkpoint_text(ck, "progress.json"), qn_checkpoint_path(ck), err);
    if (!status) status = qn__checkpoint_load(t->net.store, ck, QN_LOAD_MODEL | QN_LOAD_STATE, err);
    if (!status) {
        t->state = state;
        t->group.runs = 0;
        snprintf(t->run_id, sizeof t->run_id, "%s", qn_checkpoint_run(ck));
    }
    qn_checkpoint_close(ck);
    if (status) return status;
    return qn_loader_seek(t->loader, (qn_loader_state){ t->state.epoch, t->state.position }, err);
}

/* ---- one step ------------------------------------------------------------------------------------------------ */

static double scalar(const struct qn__runner *r, qn_t value)
{
    const float *x = qn_program_data(r->program, value);
    return x ? (double)*x : (double)NAN;
}

static int64_t count_correct(const struct qn__network *net, const struct qn__runner *r, const qn_batch *b)
{
    const float *scores = qn_program_data(r->program, r->nodes.scores);
    int64_t right = 0, width = net->shape.n_classes;
    if (!b->label || width == 0) return 0;
    bool binary = net->recipe->loss.kind != QN_LOSS_CROSS_ENTROPY && width <= 2;
    float half = net->recipe->loss.kind == QN_LOSS_BCE ? 0.0f : 0.5f;
    for (int i = 0; i < b->count; i++) {
        int64_t best = 0;
        if (binary) best = scores[i] > half;
        for (int64_t k = 1; k < width && !binary; k++)
            if (scores[i * width + k] > scores[i * width + best]) best = k;
        right += best == b->label[i];
    }
    return right;
}

/* The random state; NULL if the network draws nothing. */
static const int64_t *random_state(const qn_trainer *t)
{
    const qn_store_entry *e = qn_store_find(t->net.store, "quern.rng");
    return e ? e->data : NULL;
}

/* The micro runs since the last update once more, from the batches that the loader makes again: the skipped update has
 * left the weights as they were, and no write is repeated. */
static qn_status search_group(qn_trainer *t, char *where, size_t size, qn_error *err)
{
    struct group was = t->group;
    QN_TRY(qn_loader_seek(t->loader, (qn_loader_state){ was.epoch, was.first }, err));
    for (bool last = false; !last && !where[0];) {
        const qn_batch *b;
        struct qn__runner *r;
        QN_TRY(qn_loader_next(t->loader, &b, err));
        if (!b) return QN_OK;
        last = b->first >= was.last;
        if (qn__skips_has(&t->state.skips, b->epoch, b->first)) continue;
        QN_TRY(qn__network_runner(&t->net, QN_MODE_TRAIN, b->count, &r, err));
        qn__runner_feed(&t->net, r, b);
        QN_TRY(qn_program_find_nonfinite(r->program, was.rng, where, size, err));
        was.rng[2] += b->count;
    }
    return QN_OK;
}

/* The first operator at fault is looked for only now: what failed is run again and every value looked at. */
static qn_status find_fault(qn_trainer *t, struct qn__runner *r, char *where, size_t size, qn_error *err)
{
    qn_loader_state at = qn_loader_tell(t->loader);
    where[0] = 0;
    if (t->recipe->accumulate <= 1) return qn_program_find_nonfinite(r->program, NULL, where, size, err);
    QN_TRY(search_group(t, where, size, err));
    return qn_loader_seek(t->loader, at, err);
}

static qn_status report_bad_step(qn_trainer *t, struct qn__runner *r, qn_error *err)
{
    char where[200], line[400];
    t->state.bad_in_a_row++;
    QN_TRY(find_fault(t, r, where, sizeof where, err));
    snprintf(
        line, sizeof line,
        "warn W9001 step %lld: non-finite gradient, first in \"%s\"; step skipped (%lld in a row)",
        (long long)t->state.steps, where[0] ? where : "the gradient norm",
        (long long)t->state.bad_in_a_row);
    note(t, line);
    qn_log_begin(t->log, "skipped");
    qn_log_i64(t->log, "step", t->state.steps);
    qn_log_text(t->log, "first", where);
    end_line(t);
    int limit = t->opts.check_finite ? 1 : t->opts.max_bad_steps > 0 ? t->opts.max_bad_steps : 10;
    if (t->state.bad_in_a_row < limit) return QN_OK;
    save_or_note(t, "diagnostic"); /* beside, never over, the good ones */
    return qn__fail(
        err, 9001, QN_AT_FILE(t->dir),
        "step %lld: %d non-finite steps in a row, first in \"%s\"; expected a "
        "finite gradient; lower optimizer.lr or look at the data; saved checkpoints/diagnostic",
        (long long)t->state.steps, limit, qn__show(where).s);
}

static void log_step(qn_trainer *t, const struct qn__runner *r, double loss)
{
    qn_log_begin(t->log, "step");
    qn_log_i64(t->log, "step", t->state.steps);
    qn_log_i64(t->log, "epoch", t->state.epoch + 1);
    qn_log_f32(t->log, "loss", (float)loss);
    qn_log_f32(t->log, "lr", (float)scalar(r, r->train.lr));
    qn_log_f32(t->log, "grad_norm", (float)scalar(r, r->train.grad_norm));
    qn_log_f64(t->log, "seconds", t->state.seconds);
    end_line(t);
    qn_events_scalar(t->events, "train/loss", t->state.steps, (float)loss, NULL);
    qn_events_scalar(t->events, "train/lr", t->state.steps, (float)scalar(r, r->train.lr), NULL);
}

static void show_step(qn_trainer *t, int64_t first, int count)
{
    const struct qn__run_state *s = &t->state;
    int64_t done = first / t->recipe->batch + 1;
    bool classes = t->net.shape.n_classes > 0 && !t->net.shape.soft;
    if (!t->progress || t->opts.quiet) return;
    qn_progress_step(t->progress, &(qn_progress_state){ .epoch = s->epoch + 1, .step = done, .samples = count,
                                                        .loss = s->epoch_loss / s->epoch_count,
                                                        .metric = classes ? s->epoch_correct / s->epoch_count
                                                                          : (double)NAN });
}

/* For opts.check_finite: before the update, so that no weight has been touched by it. */
static qn_status check_values(qn_trainer *t, struct qn__runner *r, qn_error *err)
{
    char where[200];
    QN_TRY(qn_program_find_nonfinite(r->program, NULL, where, sizeof where, err));
    if (!where[0]) return QN_OK;
    return qn__fail(err, 9001, QN_AT_FILE(t->dir), "step %lld: result of \"%s\" is not finite; expected finite values; "
                    "lower optimizer.lr or look at the data", (long long)t->state.steps + 1, qn__show(where).s);
}

static qn_status update(qn_trainer *t, struct qn__runner *r, double loss, qn_error *err)
{
    QN_TRY(qn_program_run(r->program, QN_UPDATE, err));
    t->group.runs = 0;
    t->state.steps++;
    if (t->first_step == 0) t->first_step = qn__now() - t->opened - t->data_seconds;
    if (!(scalar(r, r->train.applied) > 0)) return report_bad_step(t, r, err);
    t->state.bad_in_a_row = 0;
    int64_t every = t->recipe->log.every_steps, save_every = t->recipe->checkpoint.every_steps;
    if (every > 0 && t->state.steps % every == 0) log_step(t, r, loss);
    if (save_every > 0 && t->state.steps % save_every == 0) save_or_note(t, NULL);
    return QN_OK;
}

/* ---- losses that jump ----------------------------------------------------------------------------------------- */

/* %g without the host's decimal comma */
static const char *number(char buf[32], double x)
{
    snprintf(buf, 32, "%.5g", x);
    for (char *p = buf; *p; p++)
        if (*p == ',') *p = '.';
    return buf;
}

static void log_spike(qn_trainer *t, const char *event, double loss, double limit)
{
    qn_log_begin(t->log, event);
    qn_log_i64(t->log, "step", t->state.steps + 1);
    qn_log_f64(t->log, "loss", loss);
    qn_log_f64(t->log, "limit", limit);
}

/* Back to the newest checkpoint; the micro-batches of this update will be left out. */
static qn_status rewind_run(qn_trainer *t, double loss, double limit, qn_error *err)
{
    struct qn__run_state was = t->state;
    char line[200];
    qn__skips_add(&was.skips, t->group.epoch, t->group.first, t->group.last);
    QN_TRY(restore(t, err));
    t->state.rewinds = was.rewinds + 1;
    t->state.skips = was.skips;
    t->state.seconds = was.seconds;
    snprintf(line, sizeof line, "back to step %lld, leaving out the batches of step %lld (rewind %lld of %lld)",
             (long long)t->state.steps, (long long)was.steps + 1, (long long)t->state.rewinds,
             (long long)t->recipe->spike.max_rewinds);
    note(t, line);
    qn_log_begin(t->log, "rewind");
    qn_log_i64(t->log, "step", was.steps + 1);
    qn_log_i64(t->log, "to", t->state.steps);
    qn_log_i64(t->log, "rewinds", t->state.rewinds);
    qn_log_f64(t->log, "loss", loss);
    qn_log_f64(t->log, "limit", limit);
    end_line(t);
    return QN_OK;
}

/* loss: of the update that is about to be made. *rewound: the state is that of a checkpoint now. */
static qn_status look_for_spike(qn_trainer *t, double loss, bool *rewound, qn_error *err)
{
    const qn_recipe_spike *o = &t->recipe->spike;
    double median, limit;
    char line[300], a[32], m[32], l[32];
    *rewound = false;
    if (o->policy == QN_SPIKE_OFF || !isfinite(loss)) return QN_OK;
    bool spike = qn__spike_limit(&t->state.losses, o, &median, &limit) && loss > limit;
    if (!spike || o->policy == QN_SPIKE_WARN) qn__losses_add(&t->state.losses, o->window, loss);
    if (!spike) return QN_OK;
    snprintf(line, sizeof line, "warn W9002 step %lld: loss %s, median of the last %lld %s; expected at most %s",
             (long long)t->state.steps + 1, number(a, loss), (long long)o->window, number(m, median), number(l, limit));
    note(t, line);
    log_spike(t, "spike", loss, limit);
    end_line(t);
    if (o->policy == QN_SPIKE_WARN) return QN_OK;
    *rewound = o->policy == QN_SPIKE_REWIND && t->state.rewinds < o->max_rewinds;
    if (*rewound) return rewind_run(t, loss, limit, err);
    save_or_note(t, "diagnostic");
    return qn__fail(err, 9002, QN_AT_FILE(t->dir), "step %lld: loss %s after %lld rewinds, median of the last %lld %s; "
                    "expected at most %s; lower optimizer.lr or look at the data; saved checkpoints/diagnostic",
                    (long long)t->state.steps + 1, a, (long long)t->state.rewinds, (long long)o->window, m, l);
}

/* ---- micro runs and updates ------------------------------------------------------------------------------------ */

/* What the loss of a micro run adds to the figures of its epoch and of the update. */
static void count_loss(qn_trainer *t, const struct qn__runner *r, const qn_batch *b)
{
    struct qn__run_state *s = &t->state;
    double loss = scalar(r, r->train.loss);
    if (isfinite(loss)) {
        s->epoch_loss += loss * b->count;
        s->epoch_count += b->count;
        s->epoch_correct += (double)count_correct(&t->net, r, b);
    }
    s->samples += b->count;
    t->group.loss += loss * b->count;
    t->group.samples += b->count;
    t->group.last = b->first;
    t->group.runs++;
}

static void begin_group(qn_trainer *t, const qn_batch *b)
{
    const int64_t *rng = random_state(t);
    t->group = (struct group){ .epoch = b->epoch, .first = b->first };
    if (rng) memcpy(t->group.rng, rng, sizeof t->group.rng);
}

/* The update that the micro runs so far lead to. r: any training program. The batch is not valid any more. */
static qn_status end_group(qn_trainer *t, struct qn__runner *r, bool *rewound, qn_error *err)
{
    double loss = t->group.loss / (double)t->group.samples;
    QN_TRY(look_for_spike(t, loss, rewound, err));
    return *rewound ? QN_OK : update(t, r, loss, err);
}

static qn_status step(qn_trainer *t, const qn_batch *b, qn_error *err)
{
    struct qn__runner *r;
    double begin = qn__now();
    bool rewound = false;
    int64_t first = b->first;
    int count = b->count;
    QN_TRY(qn__network_runner(&t->net, QN_MODE_TRAIN, b->count, &r, err));
    qn__runner_feed(&t->net, r, b);
    if (t->group.runs == 0) begin_group(t, b);
    QN_TRY(qn_program_run(r->program, QN_MICRO, err));
    if (t->opts.check_finite) QN_TRY(check_values(t, r, err));
    count_loss(t, r, b);
    if (t->group.runs >= t->recipe->accumulate) QN_TRY(end_group(t, r, &rewound, err));
    if (rewound) return QN_OK;
    t->state.seconds += qn__now() - begin;
    bool updated = t->group.runs == 0;
    if (updated && t->opts.profile && r == &t->net.runner[0]) qn__trace_step(&t->trace, r->program);
    show_step(t, first, count);
    return QN_OK;
}

static bool asked_to_stop(const qn_trainer *t) { return t->opts.stop && *t->opts.stop; }

/* The last update of an epoch has the micro runs that are left. */
static qn_status step_rest(qn_trainer *t, bool *rewound, qn_error *err)
{
    double begin = qn__now();
    *rewound = false;
    if (t->group.runs == 0) return QN_OK;
    QN_TRY(end_group(t, &t->net.runner[0], rewound, err));
    if (!*rewound) t->state.seconds += qn__now() - begin;
    return QN_OK;
}

/* The rest of the current epoch. A stop is honoured between updates only, so that what is saved is a whole step. */
static qn_status train_epoch(qn_trainer *t, qn_error *err)
{
    const qn_batch *b = NULL;
    for (;;) {
        QN_TRY(qn_loader_next(t->loader, &b, err));
        if (!b) {
            bool rewound;
            QN_TRY(step_rest(t, &rewound, err));
            if (rewound) continue;
            return QN_OK;
        }
        if (qn__skips_has(&t->state.skips, b->epoch, b->first)) continue;
        QN_TRY(step(t, b, err));
        if (!asked_to_stop(t) || t->group.runs > 0) continue;
        QN_TRY(save(t, NULL, err));
        return QN_STOPPED;
    }
}

/* ---- after an epoch ------------------------------------------------------------------------------------------- */

static void log_summary(qn_trainer *t, const char *part, const qn_metrics_summary *m)
{
    static const struct { const char *name; size_t at; } rows[] = {
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
    end_line(t);
}

static qn_metrics_summary train_summary(const qn_trainer *t)
{
    const struct qn__run_state *s = &t->state;
    const double none = (double)NAN;
    qn_metrics_summary m = { .count = (int64_t)s->epoch_count, .loss = s->epoch_loss / s->epoch_count, .accuracy = none,
                             .top_k = none, .precision_macro = none, .recall_macro = none, .f1_macro = none,
                             .precision_micro = none, .recall_micro = none, .f1_micro = none, .auc = none, .mse = none,
                             .mae = none };
    if (t->net.shape.n_classes > 0 && !t->net.shape.soft) m.accuracy = s->epoch_correct / s->epoch_count;
    return m;
}

static void show_epoch(qn_trainer *t, const qn_metrics_summary *train, const qn_metrics_summary *valid)
{
    if (!t->progress || t->opts.quiet) return;
    double none = (double)NAN;
    qn_progress_epoch_end(t->progress, &(qn_progress_epoch){ .epoch = t->state.epoch + 1, .loss = train->loss,
                                                             .metric = train->accuracy,
                                                             .val_loss = valid->count ? valid->loss : none,
                                                             .val_metric = valid->count ? valid->accuracy : none });
}

/* Early stopping, the plateau schedule and the best checkpoint watch the validation part, or the training part where
 * there is none. */
static bool watch(qn_trainer *t, const qn_metrics_summary *m)
{
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
        if (!save_or_note(t, "best")) { /* what is on disk still is the best that can be gone back to */
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
            qn__lower_plateau(t->net.store, r->schedule.gamma, r->schedule.min_factor);
            s->plateau_best = now;
        }
    }
    if (!r->early_stopping.on) return false;
    if (s->stopping_best == 0 || qn__is_gain(metric, value, s->stopping_value, r->early_stopping.min_delta)) {
        s->stopping_best = now;
        s->stopping_value = value;
    }
    return now - s->stopping_best >= r->early_stopping.patience;
}

static qn_status evaluate_part(qn_trainer *t, qn_dataset *ds, const qn_indices *part, qn_metrics_summary *out,
                               qn_error *err)
{
    memset(out, 0, sizeof *out);
    if (!ds || part->n == 0) return QN_OK;
    qn__network_swap_ema(&t->net);
    qn_status status = qn__evaluate(&t->net, ds, part, (int)t->recipe->data.workers, out, NULL, err);
    qn__network_swap_ema(&t->net);
    return status;
}

static qn_status end_epoch(qn_trainer *t, qn_error *err)
{
    qn_metrics_summary train = train_summary(t), valid;
    QN_TRY(evaluate_part(t, t->parts.train_set, &t->parts.valid, &valid, err));
    log_summary(t, "train", &train);
    if (valid.count) log_summary(t, "valid", &valid);
    show_epoch(t, &train, &valid);
    bool done = watch(t, valid.count ? &valid : &train);
    struct qn__run_state *s = &t->state;
    s->epoch++;
    s->epoch_loss = s->epoch_count = s->epoch_correct = 0;
    s->stopped_early = done;
    int64_t every = t->recipe->checkpoint.every_epochs;
    /* A rewind must never pass the best checkpoint: it would be of batches that were left out since. */
    bool best = t->recipe->spike.policy == QN_SPIKE_REWIND && s->best_epoch == s->epoch;
    if (done || best || s->epoch == t->recipe->epochs || (every > 0 && s->epoch % every == 0)) save_or_note(t, NULL);
    return QN_OK;
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
        note(t, why.text);
        note(t, "the figures are those of the last weights, not of the best");
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

qn_status qn_trainer_run(qn_trainer *t, qn_train_result *result, qn_error *err)
{
    memset(result, 0, sizeof *result);
    if (t->recipe->spike.policy == QN_SPIKE_REWIND && t->state.samples == 0) QN_TRY(save(t, NULL, err));
    while (t->state.epoch < t->recipe->epochs && !t->state.stopped_early) {
        if (asked_to_stop(t)) {
            QN_TRY(save(t, NULL, err));
            return QN_STOPPED;
        }
        QN_TRY(train_epoch(t, err));
        QN_TRY(end_epoch(t, err));
    }
    return finish(t, result, err);
}

/* ---- opening ------------------------------------------------------------------------------------------ */

static qn_status open_loader(qn_trainer *t, qn_error *err)
{
    const qn_recipe *r = t->recipe;
    const qn_recipe_augment *a = &r->augment;
    qn_loader_options o = { .batch = (int)r->batch, .shuffle = r->data.shuffle, .seed = (uint64_t)r->seed,
                            .threads = (int)r->data.workers };
    if (a->on)
        o.augment = (qn_augment){ .flip = a->flip, .rotate = a->rotate, .scale = a->scale, .crop = (int)a->crop,
                                  .brightness = a->brightness, .contrast = a->contrast, .erase = a->erase,
                                  .erase_area = a->erase_size, .mixup = a->mixup };
    return qn_loader_open(&t->loader, t->parts.train_set, &t->parts.train, &o, err);
}

static qn_status open_network(qn_trainer *t, qn_error *err)
{
    const qn_recipe *r = t->recipe;
    struct qn__runner *first;
    int64_t n = t->parts.train.n, group = r->accumulate > 1 ? r->accumulate : 1;
    int threads = t->opts.threads > 0 ? t->opts.threads : r->threads > 0 ? (int)r->threads : omp_get_num_procs();
    t->micro_per_epoch = (n + r->batch - 1) / r->batch;
    int64_t updates = (t->micro_per_epoch + group - 1) / group;
    QN_TRY(qn__network_open(&t->net, r, qn_dataset_transform(t->parts.train_set), updates, threads, err));
    return qn__network_runner(&t->net, QN_MODE_TRAIN, n < r->batch ? n : r->batch, &first, err);
}

static qn_status open_run_dir(qn_trainer *t, qn_error *err)
{
    if (t->opts.resume) {
        if (snprintf(t->dir, sizeof t->dir, "%s", t->opts.resume) >= (int)sizeof t->dir)
            return qn__fail(err, 6001, NULL, "path too long; expected fewer than %d bytes", QN_PATH_MAX);
    } else {
        QN_TRY(qn__run_dir_make(t->dir, t->opts.out ? t->opts.out : "runs", t->recipe->name, err));
        QN_TRY(qn__run_dir_describe(t->dir, t->recipe, t->net.threads, err));
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
    snprintf(line, sizeof line, "loader: %d of %d threads could be started; data is prepared by fewer: slower, "
             "the same samples", started, asked);
    note(t, line);
}

static qn_status open_progress(qn_trainer *t, qn_error *err)
{
    if (t->opts.fd < 0) return QN_OK;
    qn_progress_options o = { .fd = t->opts.fd, .epochs = t->recipe->epochs, .steps_per_epoch = t->micro_per_epoch,
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
    QN_TRY(restore(t, err));
    if (t->opts.epochs > 0) {
        QN_TRY(check_epochs(t, err));
        QN_TRY(qn__run_dir_recipe(t->dir, t->recipe, err));
    }
    qn__log_trim(t->log, t->state.log_bytes);
    qn_log_begin(t->log, "resume");
    qn_log_i64(t->log, "from", t->state.steps);
    end_line(t);
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
    QN_TRY(open_loader(t, err));
    QN_TRY(open_progress(t, err));
    QN_TRY(open_run_dir(t, err));
    if (!t->lock) QN_TRY(qn_run_lock_take(&t->lock, t->dir, err));
    QN_TRY(open_logs(t, err));
    if (t->opts.profile) QN_TRY(qn_program_profile(t->net.runner[0].program, true, err));
    return t->opts.resume ? go_on(t, err) : QN_OK;
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
    qn__trace_free(&t->trace);
    qn_loader_free(t->loader);
    qn_progress_free(t->progress);
    qn_log_close(t->log, NULL);
    qn_events_close(t->events, NULL);
    qn_run_lock_release(t->lock);
    qn__network_close(&t->net);
    qn_parts_free(&t->parts);
    qn_recipe_free(t->own_recipe);
    qn__free(NULL, t, sizeof *t);
}
