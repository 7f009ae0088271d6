/* step.c - batches, micro runs and updates of the training loop: what is started, what is looked at when, what is done
 * about steps that go wrong. See train.h.
 *
 * On the CPU a run is done when it returns, and its results are looked at there. On a GPU (t->ahead) runs are only
 * started: the results of a micro run, and of the update behind it, are looked at when the next micro run has been
 * started and before its update is. So the GPU always has work, a step that went wrong can still be looked into (its
 * update has left the weights as they were), and the order of everything that is written down is the same. Whatever
 * must decide before an update waits for the run instead: spikes, --check-finite, --profile. */
#include "trainer_impl.h"
#include "evaluate.h"
#include "run_dir.h"
#include "watch.h"
#include "../core/base.h"
#include "../core/rerun.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- results ----- */

/* Of the run `ago` runs of its phase back. */
static double scalar(const struct qn__runner *r, qn_t value, int ago)
{
    const float *x = qn_program_past(r->program, value, ago);
    return x ? (double)*x : (double)NAN;
}

/* In samples of the batch; those whose label the loss ignores count as right as the others are on average. */
static double count_correct(const struct qn__network *net, const struct qn__flight *f, int ago)
{
    const float *scores = qn_program_past(f->r->program, f->r->nodes.scores, ago);
    const qn_recipe_loss *l = &net->recipe->loss;
    int64_t right = 0, counted = 0, width = f->r->width;
    if (!f->label || net->shape.n_classes == 0 || !scores) return 0;
    bool binary = width == 1;
    float half = l->kind == QN_LOSS_BCE ? 0.0f : 0.5f;
    for (int i = 0; i < f->count; i++) {
        int64_t best = 0;
        if (l->kind == QN_LOSS_CROSS_ENTROPY && l->ignore_index >= 0 && f->label[i] == l->ignore_index) continue;
        if (binary) best = scores[i] > half;
        for (int64_t k = 1; k < width && !binary; k++)
            if (scores[i * width + k] > scores[i * width + best]) best = k;
        right += best == f->label[i];
        counted++;
    }
    if (counted == f->count || counted == 0) return (double)right;
    return (double)right * f->count / (double)counted;
}

/* ---- steps that go wrong ----- */

/* The micro runs of an update once more, from the batches that the loader makes again: the skipped update has left the
 * weights as they were, and no write is repeated. */
static qn_status search_group(qn_trainer *t, const struct qn__group *group, char *where, size_t size, qn_error *err)
{
    struct qn__group was = *group;
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

/* The first operator at fault is looked for only now: what failed is run again and every value looked at. next: whose
 * micro run is under way since; what it has left for its update is overwritten by that, and made again. */
static qn_status find_fault(qn_trainer *t, const struct qn__landing *u, struct qn__runner *next, char *where,
                            size_t size, qn_error *err)
{
    qn_loader_state at = qn_loader_tell(t->loader);
    where[0] = 0;
    if (t->recipe->accumulate <= 1) {
        QN_TRY(qn__find_nonfinite_past(u->r->program, next != NULL, where, size, err));
    } else {
        QN_TRY(search_group(t, &u->group, where, size, err));
        QN_TRY(qn_loader_seek(t->loader, at, err));
    }
    return next ? qn__repeat_micro(next->program, err) : QN_OK;
}

static qn_status report_bad_step(qn_trainer *t, const struct qn__landing *u, struct qn__runner *next, qn_error *err)
{
    char where[200], line[400];
    t->state.bad_in_a_row++;
    QN_TRY(find_fault(t, u, next, where, sizeof where, err));
    const char *first = where[0] ? where : "the gradient norm";
    snprintf(line, sizeof line,
             "warn W9001 step %lld: non-finite gradient, first in \"%s\"; step skipped (%lld in a row)",
             (long long)t->state.steps, first, (long long)t->state.bad_in_a_row);
    qn__note(t, line);
    qn_log_begin(t->log, "skipped");
    qn_log_i64(t->log, "step", t->state.steps);
    qn_log_text(t->log, "first", where);
    qn__end_line(t);
    int limit = t->opts.check_finite ? 1 : t->opts.max_bad_steps > 0 ? t->opts.max_bad_steps : 10;
    if (t->state.bad_in_a_row < limit) return QN_OK;
    qn__save_or_note(t, "diagnostic"); /* beside, never over, the good ones */
    return qn__fail(err, 9001, QN_AT_FILE(t->dir),
                    "step %lld: %d non-finite steps in a row, first in \"%s\"; expected a "
                    "finite gradient; lower optimizer.lr or look at the data; saved checkpoints/diagnostic",
                    (long long)t->state.steps, limit, qn__show(first).s);
}

/* Of the latest update. */
static void log_step(qn_trainer *t, const struct qn__runner *r, double loss)
{
    qn_log_begin(t->log, "step");
    qn_log_i64(t->log, "step", t->state.steps);
    qn_log_i64(t->log, "epoch", t->state.epoch + 1);
    qn_log_f32(t->log, "loss", (float)loss);
    qn_log_f32(t->log, "lr", (float)scalar(r, r->train.lr, 0));
    qn_log_f32(t->log, "grad_norm", (float)scalar(r, r->train.grad_norm, 0));
    qn_log_f64(t->log, "seconds", t->state.seconds);
    qn__end_line(t);
    qn_events_scalar(t->events, "train/loss", t->state.steps, (float)loss, NULL);
    qn_events_scalar(t->events, "train/lr", t->state.steps, (float)scalar(r, r->train.lr, 0), NULL);
}

static void show_step(qn_trainer *t, int64_t first, int count)
{
    const struct qn__run_state *s = &t->state;
    int64_t done = first / t->recipe->batch + 1;
    bool classes = t->net.shape.n_classes > 0 && !t->net.shape.soft;
    if (!t->progress || t->opts.quiet) return;
    qn_progress_step(t->progress,
                     &(qn_progress_state){ .epoch = s->epoch + 1,
                                           .step = done,
                                           .samples = count,
                                           .loss = s->epoch_loss / s->epoch_count,
                                           .metric = classes ? s->epoch_correct / s->epoch_count : (double)NAN });
}

/* For opts.check_finite: before the update, so that no weight has been touched by it. */
static qn_status check_values(qn_trainer *t, struct qn__runner *r, qn_error *err)
{
    char where[200];
    QN_TRY(qn_program_find_nonfinite(r->program, NULL, where, sizeof where, err));
    if (!where[0]) return QN_OK;
    return qn__fail(err, 9001, QN_AT_FILE(t->dir),
                    "step %lld: result of \"%s\" is not finite; expected finite values; "
                    "lower optimizer.lr or look at the data",
                    (long long)t->state.steps + 1, qn__show(where).s);
}

/* ---- losses that jump ----- */

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
    QN_TRY(qn__restore_run(t, err));
    t->state.rewinds = was.rewinds + 1;
    t->state.skips = was.skips;
    t->state.seconds = was.seconds;
    snprintf(line, sizeof line, "back to step %lld, leaving out the batches of step %lld (rewind %lld of %lld)",
             (long long)t->state.steps, (long long)was.steps + 1, (long long)t->state.rewinds,
             (long long)t->recipe->spike.max_rewinds);
    qn__note(t, line);
    qn_log_begin(t->log, "rewind");
    qn_log_i64(t->log, "step", was.steps + 1);
    qn_log_i64(t->log, "to", t->state.steps);
    qn_log_i64(t->log, "rewinds", t->state.rewinds);
    qn_log_f64(t->log, "loss", loss);
    qn_log_f64(t->log, "limit", limit);
    qn__end_line(t);
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
    qn__note(t, line);
    log_spike(t, "spike", loss, limit);
    qn__end_line(t);
    if (o->policy == QN_SPIKE_WARN) return QN_OK;
    *rewound = o->policy == QN_SPIKE_REWIND && t->state.rewinds < o->max_rewinds;
    if (*rewound) return rewind_run(t, loss, limit, err);
    qn__save_or_note(t, "diagnostic");
    return qn__fail(err, 9002, QN_AT_FILE(t->dir),
                    "step %lld: loss %s after %lld rewinds, median of the last %lld %s; "
                    "expected at most %s; lower optimizer.lr or look at the data; saved checkpoints/diagnostic",
                    (long long)t->state.steps + 1, a, (long long)t->state.rewinds, (long long)o->window, m, l);
}

/* ---- what has been started is looked at ----- */

/* What the loss of a micro run adds to the figures of its epoch and of the update. */
static void count_loss(qn_trainer *t, const struct qn__flight *f, int ago)
{
    struct qn__run_state *s = &t->state;
    double loss = scalar(f->r, f->r->train.loss, ago);
    if (t->group_samples == 0)
        t->before = (struct qn__sums){ s->epoch_loss, s->epoch_count, s->epoch_correct, s->samples };
    if (isfinite(loss)) {
        s->epoch_loss += loss * f->count;
        s->epoch_count += f->count;
        s->epoch_correct += count_correct(&t->net, f, ago);
    }
    s->samples += f->count;
    t->group_loss += loss * f->count;
    t->group_samples += f->count;
}

static qn_status land_update(qn_trainer *t, struct qn__runner *next, qn_error *err)
{
    struct qn__landing u = t->update;
    double loss = t->group_loss / (double)t->group_samples;
    if (!u.r) return QN_OK;
    t->update.r = NULL;
    QN_TRY(qn_program_wait(u.r->program, QN_UPDATE, 0, err));
    t->group_loss = 0;
    t->group_samples = 0;
    t->state.steps++;
    if (t->first_step == 0) t->first_step = qn__now() - t->opened - t->data_seconds;
    if (!(scalar(u.r, u.r->train.applied, 0) > 0)) return report_bad_step(t, &u, next, err);
    t->state.bad_in_a_row = 0;
    int64_t every = t->recipe->log.every_steps, save_every = t->recipe->checkpoint.every_steps;
    if (every > 0 && t->state.steps % every == 0) log_step(t, u.r, loss);
    if (save_every > 0 && t->state.steps % save_every == 0) qn__save_or_note(t, NULL);
    return qn__check_lost(t, err);
}

/* next: the program whose micro run has been started since, which is the flight's own; NULL: none has. */
static qn_status land(qn_trainer *t, struct qn__runner *next, qn_error *err)
{
    struct qn__flight f = t->flight;
    if (f.r) {
        t->flight.r = NULL;
        QN_TRY(qn_program_wait(f.r->program, QN_MICRO, next != NULL, err));
        count_loss(t, &f, next != NULL);
    }
    QN_TRY(land_update(t, next, err));
    if (f.r && t->ahead) show_step(t, f.first, f.count);
    return QN_OK;
}

/* ---- micro runs and updates ----- */

static void begin_group(qn_trainer *t, const qn_batch *b)
{
    t->group = (struct qn__group){ .epoch = b->epoch, .first = b->first };
    memcpy(t->group.rng, t->rng, sizeof t->group.rng);
}

/* A save must find nothing under way behind the step that it is of. */
static bool is_saved_next(const qn_trainer *t)
{
    int64_t every = t->recipe->checkpoint.every_steps;
    return every > 0 && (t->state.steps + 1) % every == 0;
}

/* The update that the micro runs so far lead to. r: any training program. The batch is not valid any more. */
static qn_status end_group(qn_trainer *t, struct qn__runner *r, bool *rewound, qn_error *err)
{
    *rewound = false;
    if (!t->ahead) QN_TRY(look_for_spike(t, t->group_loss / (double)t->group_samples, rewound, err));
    if (*rewound) return QN_OK;
    QN_TRY(qn_program_run(r->program, QN_UPDATE, err));
    t->update = (struct qn__landing){ r, t->group };
    t->group.runs = 0;
    t->rng[1]++;
    return t->ahead && !is_saved_next(t) ? QN_OK : land(t, NULL, err);
}

/* The labels are copied where the batch will be gone before they are looked at. */
static struct qn__flight flight_of(qn_trainer *t, struct qn__runner *r, const qn_batch *b)
{
    struct qn__flight f = { .r = r, .first = b->first, .count = b->count, .label = b->label };
    if (!t->ahead || !b->label) return f;
    t->turn = !t->turn;
    memcpy(t->label[t->turn], b->label, (size_t)b->count * sizeof *b->label);
    f.label = t->label[t->turn];
    return f;
}

static qn_status micro_run(qn_trainer *t, struct qn__runner *r, const qn_batch *b, qn_error *err)
{
    qn__runner_feed(&t->net, r, b);
    if (t->group.runs == 0) begin_group(t, b);
    QN_TRY(qn_program_run(r->program, QN_MICRO, err));
    t->rng[2] += b->count;
    t->group.last = b->first;
    t->group.runs++;
    if (t->opts.check_finite) QN_TRY(check_values(t, r, err));
    struct qn__flight started = flight_of(t, r, b);
    QN_TRY(land(t, r, err)); /* the run before */
    t->flight = started;
    return t->ahead ? QN_OK : land(t, NULL, err);
}

static qn_status step(qn_trainer *t, const qn_batch *b, qn_error *err)
{
    struct qn__runner *r;
    double begin = qn__now();
    bool rewound = false;
    int64_t first = b->first;
    int count = b->count;
    if (t->flight.r && t->flight.r->batch != b->count) QN_TRY(land(t, NULL, err)); /* programs may be dropped now */
    QN_TRY(qn__network_runner(&t->net, QN_MODE_TRAIN, b->count, &r, err));
    QN_TRY(micro_run(t, r, b, err));
    if (t->group.runs >= t->recipe->accumulate) QN_TRY(end_group(t, r, &rewound, err));
    if (rewound) return QN_OK;
    t->state.seconds += qn__now() - begin;
    bool updated = t->group.runs == 0;
    if (updated && t->opts.profile && r == &t->net.runner[0]) qn__trace_step(&t->trace, r->program);
    if (!t->ahead) show_step(t, first, count);
    return QN_OK;
}

/* The last update of an epoch has the micro runs that are left. */
static qn_status step_rest(qn_trainer *t, bool *rewound, qn_error *err)
{
    double begin = qn__now();
    *rewound = false;
    QN_TRY(land(t, NULL, err));
    if (t->group.runs > 0) QN_TRY(end_group(t, &t->net.runner[0], rewound, err));
    QN_TRY(land(t, NULL, err));
    if (!*rewound) t->state.seconds += qn__now() - begin;
    return QN_OK;
}

/* ---- data that cannot be read ----- */

/* A buffer that the micro runs of a group have moved is as it was before them in "B.before". */
static void put_back(const qn_store *store, const qn_store_entry *buffer)
{
    size_t n = strlen(buffer->name);
    for (int i = 0; i < qn_store_count(store); i++) {
        const qn_store_entry *e = qn_store_at(store, i);
        if (e->data && strncmp(e->name, buffer->name, n) == 0 && strcmp(e->name + n, ".before") == 0)
            memcpy(buffer->data, e->data, buffer->bytes);
    }
}

/* As if there had been no micro run since the last update. */
static qn_status undo_group(qn_trainer *t, qn_error *err)
{
    qn_store *store = t->net.store;
    struct qn__run_state *s = &t->state;
    QN_TRY(qn_store_pull(store, NULL, err));
    for (int i = 0; i < qn_store_count(store); i++) {
        const qn_store_entry *e = qn_store_at(store, i);
        if (!e->data) continue;
        if (e->kind == QN_GRAD) memset(e->data, 0, e->bytes);
        if (e->kind == QN_BUFFER) put_back(store, e);
        if (strcmp(e->name, "quern.rng") == 0) memcpy(e->data, t->group.rng, sizeof t->group.rng);
    }
    s->epoch_loss = t->before.loss;
    s->epoch_count = t->before.count;
    s->epoch_correct = t->before.correct;
    s->samples = t->before.samples;
    t->group.runs = 0;
    return qn_store_push(store, NULL, err);
}

/* The next batch. The error of one that cannot be made ends the run, but what has been learnt before it is kept. */
static qn_status next_batch(qn_trainer *t, const qn_batch **out, qn_error *err)
{
    qn_loader_state at = qn_loader_tell(t->loader);
    qn_status status = qn_loader_next(t->loader, out, err);
    int64_t position = t->group.runs > 0 ? t->group.first : at.position;
    if (!status) return QN_OK;
    QN_TRY(land(t, NULL, err)); /* an error of a step before is the first one */
    if (t->group.runs > 0) QN_TRY(undo_group(t, err));
    qn__save_for_repair(t, position);
    return status;
}

/* A stop is honoured between updates only, so that what is saved is a whole step. */
qn_status qn__train_epoch(qn_trainer *t, qn_error *err)
{
    const qn_batch *b = NULL;
    for (;;) {
        QN_TRY(next_batch(t, &b, err));
        if (!b) {
            bool rewound;
            QN_TRY(step_rest(t, &rewound, err));
            if (rewound) continue;
            return QN_OK;
        }
        if (qn__skips_has(&t->state.skips, b->epoch, b->first)) continue;
        QN_TRY(step(t, b, err));
        if (!qn__asked_to_stop(t) || t->group.runs > 0) continue;
        QN_TRY(land(t, NULL, err));
        QN_TRY(qn__save_run(t, NULL, err));
        return QN_STOPPED;
    }
}

/* ---- beginning ----- */

static qn_status make_labels(qn_trainer *t, qn_error *err)
{
    size_t n = (size_t)t->recipe->batch;
    for (int i = 0; i < 2; i++)
        if (!t->label[i] && !(t->label[i] = qn__calloc(NULL, n, sizeof *t->label[i])))
            return qn__nomem(err, "labels", n * sizeof *t->label[i]);
    return QN_OK;
}

qn_status qn__steps_begin(qn_trainer *t, qn_error *err)
{
    const qn_store_entry *rng = qn_store_find(t->net.store, "quern.rng");
    bool decides = t->recipe->spike.policy != QN_SPIKE_OFF || t->opts.check_finite || t->opts.profile;
    t->ahead = qn_program_lag(t->net.runner[0].program) > 0 && !decides;
    t->group.runs = 0;
    t->group_loss = 0;
    t->group_samples = 0;
    t->flight.r = NULL;
    t->update.r = NULL;
    if (rng) QN_TRY(qn_store_pull(t->net.store, rng->name, err));
    if (rng && rng->data) memcpy(t->rng, rng->data, sizeof t->rng);
    return t->ahead ? make_labels(t, err) : QN_OK;
}

void qn__steps_free(qn_trainer *t)
{
    size_t n = t->recipe ? (size_t)t->recipe->batch : 0;
    for (int i = 0; i < 2; i++) qn__free(NULL, t->label[i], n * sizeof *t->label[i]);
}
