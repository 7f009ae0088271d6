/* trainer_impl.h - the trainer's fields; for trainer.c (epochs, opening, the end) and step.c (batches, updates). */
#ifndef QN_TRAIN_TRAINER_IMPL_H
#define QN_TRAIN_TRAINER_IMPL_H
#include "log.h"
#include "run_dir.h"
#include "state.h"
#include "trace.h"
#include "../include/quern/train.h"

/* The micro runs since the last update. Not part of the saved state: a run is saved between updates. */
struct qn__group {
    int64_t runs;
    int64_t epoch, first, last; /* positions of the first and the last batch       */
    int64_t rng[4];             /* the random state before the first               */
};

/* A micro run and an update that are started and whose results have not been looked at. On a GPU that happens when the
 * next micro run is under way, so that the loop never waits for the one it has just started; on the CPU at once. */
struct qn__flight {
    struct qn__runner *r; /* NULL: none */
    int64_t first;
    int32_t count;
    const int32_t *label; /* NULL: the batch has none */
};
struct qn__landing {
    struct qn__runner *r; /* NULL: none */
    struct qn__group group;
};

/* What micro runs add to the run's state. */
struct qn__sums {
    double loss, count, correct;
    int64_t samples;
};

struct qn_trainer {
    qn_trainer_opts opts;
    const qn_recipe *recipe;
    qn_recipe *own_recipe; /* of a resumed run */
    qn_parts parts;
    qn_tuning *tuning; /* NULL: none */
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
    qn_error lost;
    bool unsaved;       /* the newest checkpoint that was due could not be written */
    int64_t old_epochs; /* of a resumed run, before opts.epochs */

    bool ahead; /* results are looked at one micro run late */
    struct qn__group group;
    struct qn__flight flight;
    struct qn__landing update;
    double group_loss; /* of the group whose micro runs have been looked at: sum over its samples */
    int64_t group_samples;
    struct qn__sums before; /* the epoch's figures before them */
    int64_t rng[4];         /* the random state, as it is after what has been started */
    int32_t *label[2];      /* labels of a batch outlive it; `batch` each             */
    int turn;
};

void qn__note(qn_trainer *t, const char *text);
/* Ends a line of the log. One that cannot be written does not end a run: the first loss is told. */
void qn__end_line(qn_trainer *t);
/* name NULL: a checkpoint of this step. Nothing may be under way. */
qn_status qn__save_run(qn_trainer *t, const char *name, qn_error *err);
/* The same before a batch at `position` of the epoch, at the end of a run whose data could not be read on: it is told
 * how to go on, or that this could not be saved. */
void qn__save_for_repair(qn_trainer *t, int64_t position);
/* One in the middle of a run that fails is told, and the run goes on; the next one is tried as usual. */
bool qn__save_or_note(qn_trainer *t, const char *name);
/* The error of a GPU that such a save has met: there is nothing to go on with. */
qn_status qn__check_lost(const qn_trainer *t, qn_error *err);
/* Back to the newest checkpoint that verifies; what was skipped is told. */
qn_status qn__restore_run(qn_trainer *t, qn_error *err);
bool qn__asked_to_stop(const qn_trainer *t);

/* step.c: after opening and after each restore. */
qn_status qn__steps_begin(qn_trainer *t, qn_error *err);
/* The rest of the current epoch; QN_STOPPED when asked to stop, saved. */
qn_status qn__train_epoch(qn_trainer *t, qn_error *err);
void qn__steps_free(qn_trainer *t);
#endif
