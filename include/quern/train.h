/* train.h - from a recipe to a trained network: the training loop, evaluation and prediction.
 *
 *     qn_recipe *r;
 *     qn_trainer *t;
 *     qn_train_result result;
 *     if (!qn_recipe_load(&r, "recipes/mlp-784-128.json", NULL, 0, &errs) &&
 *         !qn_trainer_open(&t, r, &(qn_trainer_opts){ .out = "runs", .fd = 2 }, &err) &&
 *         !qn_trainer_run(t, &result, &err))
 *         printf("test accuracy: %.4f\n", result.test.accuracy);
 *     qn_trainer_free(t);
 *     qn_recipe_free(r);
 *
 * A run is a directory OUT/NAME-N (N counts up; nothing is ever overwritten):
 *
 *     recipe.json   the resolved recipe          versions.json   of Quern, its libraries, the machine
 *     log.jsonl     one line per event           events.out...   the same curves for TensorBoard
 *     checkpoints/  step-NNNNNN, best, last      result.json     what came out, when it has ended
 *
 * A run that was stopped (QN_STOPPED) or killed continues bit for bit: weights, optimizer, random state, position in
 * the data, schedule, early stopping and running averages are all in the checkpoint. */
#ifndef QUERN_TRAIN_H
#define QUERN_TRAIN_H
#include <signal.h>
#include "core.h"
#include "data.h"
#include "metrics.h"
#include "plan.h"
#include "recipe.h"
#ifdef __cplusplus
extern "C" {
#endif

/* ---- training ------------------------------------------------------------------------------- */

typedef struct qn_trainer qn_trainer;

typedef struct qn_trainer_opts {
    const char *out;    /* where runs are made; NULL: "runs"                                            */
    const char *resume; /* a run's directory, to continue it; NULL: a new run                            */
    int64_t epochs;     /* with resume: end after so many epochs instead of the recipe's; 0: the recipe's */
    int fd;             /* stream for progress and notes, e.g. 2; -1: silent                              */
    bool quiet;         /* no progress, only notes                                                       */
    const char *device; /* "cpu", "cuda:1", "auto", ...; NULL: the recipe's                              */
    int threads;        /* 0: the recipe's, or as many as there are cores                                */
    const char *tuning; /* lock file of a GPU's algorithms (tuning.h), kept in the run's directory; NULL: with resume
                           the run's own, else none                                                        */
    int max_bad_steps;  /* non-finite steps in a row before the run is given up; 0: 10                    */
    bool profile;       /* time every operator; trace.json of a few steps in the run's directory             */
    bool check_finite;  /* look at every value of every step and stop at the first that is not finite (E9001)  */
    /* Looked at between steps: non-zero ends the run after the step, saved. The library installs no signal handlers. */
    const volatile sig_atomic_t *stop;
} qn_trainer_opts;

typedef struct qn_train_result {
    int64_t epochs, steps, skipped; /* whole epochs, updates applied, updates skipped as non-finite */
    double seconds;                 /* of training, without evaluation                              */
    double samples_per_second;
    double first_step_seconds; /* from qn_trainer_open to the end of the first step, without reading data */
    bool stopped_early;
    int64_t best_epoch;                    /* 1-based; 0: none                                              */
    double best_value;                     /* of the watched metric on the validation part                  */
    qn_metrics_summary train, valid, test; /* count 0 where there is no such part                    */
} qn_train_result;

/* Reads the data, builds and compiles the network, takes memory and makes the run's directory. With resume, the
 * recipe may be NULL: it comes from the run. With epochs, what comes out is, bit for bit, what the recipe would have
 * led to with that number from the beginning, and the run's recipe.json says so from then on; E2001 where that cannot
 * be: the schedule ends with the last epoch (cosine, one_cycle, linear), the run has gone further already, or early
 * stopping has ended it. Errors: E2xxx recipe does not fit the data, E3xxx data, E4xxx checkpoint, E5001 more memory
 * needed than there is (before any is taken), E6xxx files. */
QN_API QN_CHECKED qn_status qn_trainer_open(qn_trainer **out, const qn_recipe *recipe, const qn_trainer_opts *opts,
                                            qn_error *err);
/* Trains to the end of the recipe and evaluates the best weights on validation and test part. QN_STOPPED when asked to
 * stop: everything is saved. E9001 after too many non-finite steps, E9002 when the loss ran away and the
 * recipe says stop. Data that cannot be read on ends the run with that error; the last whole step is saved, and resume
 * goes on from it. E6002 when the last checkpoint could not be written, after everything else was done. */
QN_API QN_CHECKED qn_status qn_trainer_run(qn_trainer *t, qn_train_result *result, qn_error *err);
/* The program of a training step with a whole batch: with opts.profile, what its operators took. */
QN_API const qn_program *qn_trainer_program(const qn_trainer *t);
QN_API const char *qn_trainer_run_dir(const qn_trainer *t);
QN_API const qn_recipe *qn_trainer_recipe(const qn_trainer *t);
QN_API void qn_trainer_free(qn_trainer *t); /* NULL is fine */

/* ---- a trained network ------------------------------------------------------------------------- */

typedef struct qn_model qn_model;

/* Opens a checkpoint directory, or a run's directory (its best checkpoint, else its newest). The checkpoint carries
 * recipe, class names and normalisation. device: as in qn_store_new; NULL: the CPU. threads 0: all cores. */
QN_API QN_CHECKED qn_status qn_model_open(qn_model **out, const char *path, const char *device, int threads,
                                          qn_error *err);
QN_API void qn_model_free(qn_model *m);
QN_API const qn_recipe *qn_model_recipe(const qn_model *m);
QN_API const qn_transform *qn_model_transform(const qn_model *m);
QN_API int64_t qn_model_outputs(const qn_model *m);       /* K: classes, or predicted values; 1 for BCE */
QN_API const qn_store *qn_model_store(const qn_model *m); /* its weights by name                        */
QN_API const char *qn_model_path(const qn_model *m);      /* the checkpoint it came from                 */

/* x f32 [n, transform size], normalised as the transform says -> out f32 [n, K]: probabilities (BCE: of class 1), or
 * values. Works in batches of at most 256. */
QN_API QN_CHECKED qn_status qn_model_predict(qn_model *m, const float *x, int64_t n, float *out, qn_error *err);

/* d score[target] / d x, f32 of x's shape, for one sample: the saliency map of Simonyan et al. 2014 before taking
 * absolute values. target < 0: the highest score. */
QN_API QN_CHECKED qn_status qn_model_saliency(qn_model *m, const float *x, int64_t target, float *dx, qn_error *err);

/* Metrics over a data set with labels (over NULL: all of it). confusion (may be NULL): i64 [K,K], row true class. */
QN_API QN_CHECKED qn_status qn_model_evaluate(qn_model *m, qn_dataset *ds, const qn_indices *over,
                                              qn_metrics_summary *out, int64_t *confusion, qn_error *err);

/* The parts of a recipe's data, transformed with the statistics of the training part. Test is NULL and empty where the
 * recipe has none. */
typedef struct qn_parts {
    qn_dataset *train_set, *test_set; /* may be the same object when the test part was split off */
    qn_indices train, valid, test;
} qn_parts;
QN_API QN_CHECKED qn_status qn_parts_open(qn_parts *out, const qn_recipe *recipe, qn_error *err);
QN_API void qn_parts_free(qn_parts *p);
/* The training part in the batches, order and augmentation of the recipe. E2301 an augmentation that the data does not
 * allow. */
QN_API QN_CHECKED qn_status qn_parts_loader(qn_loader **out, const qn_parts *p, const qn_recipe *recipe, qn_error *err);

/* Other data of the same kind, transformed as t (of a trained model) says: a table FILE.csv, a directory with the test
 * images of a named set (t10k-images-idx3-ubyte and its labels, plain or .gz), or one with a folder of PNGs
 * per class. */
QN_API QN_CHECKED qn_status qn_parts_open_other(qn_dataset **out, const qn_recipe *recipe, const qn_transform *t,
                                                const char *path, qn_error *err);

/* ---- planning ------------------------------------------------------------------------------------- */

/* The largest batch not above `most` whose training step takes at most `have` bytes; 0 if not even
 * one sample fits. */
QN_API QN_CHECKED qn_status qn_plan_largest_batch(int64_t *out, const qn_recipe *recipe, const qn_transform *shape,
                                                  int64_t most, int threads, int64_t have, qn_error *err);

/* E5001, as the trainer would say it, if a plan needs more than `have` bytes: what for, and the largest batch
 * that fits. */
QN_API QN_CHECKED qn_status qn_plan_fits(const qn_plan *plan, const qn_recipe *recipe, const qn_transform *shape,
                                         int64_t batch, int threads, int64_t have, qn_error *err);

/* ---- memory --------------------------------------------------------------------------------------- */

/* How many bytes this process can still take, less a reserve of 32 MiB, and what sets that limit: "MemAvailable" of
 * the machine, "cgroup" (version 1 or 2, the tightest on the way up), "RLIMIT_AS" or "RLIMIT_DATA". Page cache that the
 * system can drop counts as free. */
typedef struct qn_memory {
    int64_t bytes;
    const char *limit;
} qn_memory;
QN_API qn_memory qn_memory_available(void);

#ifdef __cplusplus
}
#endif
#endif
