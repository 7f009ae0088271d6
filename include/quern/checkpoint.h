/* checkpoint.h - saving and restoring the state of a training run.
 *
 *     runs/mlp-1/checkpoints/          the directory that is passed as `dir`
 *         step-000800/  step-000900/   one checkpoint each; a directory appears whole or not at all
 *             model.safetensors        parameters and running statistics
 *             state.safetensors        optimizer state and everything else a resumed run needs
 *             recipe.json ...          text parts, named by the caller
 *             manifest.json            format version, run, step; size and CRC-32 of every file and tensor
 *         best/                        a named checkpoint, replaced in one step
 *         latest                       a hint for people: the name of the newest
 *
 *     qn_checkpoint *ck;
 *     if (qn_checkpoint_open_newest(&ck, dir, &skipped, print_line, NULL, &err)) return fail(&err);
 *     resume_from(qn_checkpoint_step(ck), qn_checkpoint_model(ck), qn_checkpoint_state(ck));
 *     qn_checkpoint_close(ck);
 *
 * What is promised: when qn_checkpoint_write has returned QN_OK, the checkpoint survives a crash of the
 * process, of the machine and a power cut; while it runs, and when it fails, every earlier checkpoint
 * stays as it was. What is restored has passed the checksums of all its bytes. docs/checkpoints.md
 * describes the format and the order of the system calls. */
#ifndef QUERN_CHECKPOINT_H
#define QUERN_CHECKPOINT_H
#include "safetensors.h"
#ifdef __cplusplus
extern "C" {
#endif

enum { QN_CHECKPOINT_VERSION = 1, QN_CHECKPOINT_MAX_PARTS = 32 };

/* A file of text beside the tensors. name: 1..100 of A-Z a-z 0-9 . _ - and not beginning with '.'. */
typedef struct qn_checkpoint_part {
    const char *name, *text;
} qn_checkpoint_part;

typedef struct qn_checkpoint_contents {
    int64_t step;       /* >= 0                                              */
    const char *run_id; /* 1..128 bytes of UTF-8 without control characters   */
    const qn_tensor_data *model;
    int64_t n_model;
    const qn_tensor_data *state;
    int64_t n_state;
    const qn_checkpoint_part *parts;
    int n_parts;
} qn_checkpoint_contents;

/* Writes dir/step-NNNNNN (dir is made if it is missing), replacing one of the same step, points `latest`
 * at it and then removes the oldest step directories beyond `keep` (0: keep all), never the one just
 * written and never a named one. Unfinished directories of dead writers are removed first. One process
 * at a time may write to dir: hold qn_run_lock_take. Errors: E6002, E4018, E4024, E5002; the line ends
 * with "; kept step-NNNNNN" if there is an older checkpoint. */
QN_API QN_CHECKED qn_status qn_checkpoint_write(const char *dir, const qn_checkpoint_contents *contents, int keep,
                                                qn_error *err);
/* The same under a name such as "best" (rules of a part's name, and not "step-..." or "latest"): at every
 * moment dir/name is the whole old checkpoint or the whole new one, where the file system can exchange
 * two names; elsewhere the next writer completes a replacement that was interrupted. */
QN_API QN_CHECKED qn_status qn_checkpoint_write_named(const char *dir, const char *name,
                                                      const qn_checkpoint_contents *contents, qn_error *err);

typedef struct qn_checkpoint qn_checkpoint;

/* Opens the checkpoint directory `path` and verifies it completely: versions, names, sizes, step and run
 * of every file, CRC-32 of every tensor and file. Errors: E4021 (manifest), E4022 (missing, extra or
 * refused file, step or run of another checkpoint), E4023 (newer format), E4031 (size), E4032 (checksum,
 * with the tensor), E401x (safetensors), E6001, E5002. */
QN_API QN_CHECKED qn_status qn_checkpoint_open(qn_checkpoint **out, const char *path, qn_error *err);
/* Opens and closes. */
QN_API QN_CHECKED qn_status qn_checkpoint_verify(const char *path, qn_error *err);

/* Receives one complete line, without newline; it is gone after the call. */
typedef void qn_report(void *user, const char *line);

/* Opens the step directory with the highest step that verifies. For each that does not, report (may be
 * NULL) gets its error line, ending in "; trying step-NNNNNN" while there are others, and *skipped (may
 * be NULL) counts them. Error: E4033 if none verifies or there is none; E5002. */
QN_API QN_CHECKED qn_status qn_checkpoint_open_newest(qn_checkpoint **out, const char *dir, int *skipped,
                                                      qn_report *report, void *user, qn_error *err);
/* NULL is allowed. */
QN_API void qn_checkpoint_close(qn_checkpoint *ck);

/* What it holds; all results live until the close. */
QN_API int64_t qn_checkpoint_step(const qn_checkpoint *ck);
QN_API const char *qn_checkpoint_run(const qn_checkpoint *ck);
QN_API const char *qn_checkpoint_path(const qn_checkpoint *ck);
/* Reading a value that is not finite is an error for the model and allowed for the state, where an
 * infinity may mean "no best value yet". */
QN_API const qn_safetensors *qn_checkpoint_model(const qn_checkpoint *ck);
QN_API const qn_safetensors *qn_checkpoint_state(const qn_checkpoint *ck);
/* The text of a part, or NULL if there is none of that name. */
QN_API const char *qn_checkpoint_text(const qn_checkpoint *ck, const char *name);

/* ---- does it fit the program? ------------------------------------------------------------- */

enum {
    QN_MATCH_ANY_DTYPE = 1, /* a tensor of another element type will be converted */
    QN_MATCH_EXTRA = 2      /* tensors that the program does not have are ignored  */
};

/* Compares names, element types and shapes with those expected (data is not looked at) before anything is
 * loaded. E4041 with the counts if they differ; report (may be NULL) then gets up to three lines that
 * list the first five missing, unexpected and mismatched ones. */
QN_API QN_CHECKED qn_status qn_tensors_match(const qn_safetensors *st, const qn_tensor_data *expected, int64_t n,
                                             unsigned flags, qn_report *report, void *user, qn_error *err);

/* ---- one job per directory ---------------------------------------------------------------- */

typedef struct qn_run_lock qn_run_lock;

/* Takes the lock of a run's directory, which must exist, without waiting. It is the process's as long as
 * it lives, however it ends. Errors: E6011, with the pid, host and start of the job that holds it; E6001. */
QN_API QN_CHECKED qn_status qn_run_lock_take(qn_run_lock **out, const char *dir, qn_error *err);
/* NULL is allowed. */
QN_API void qn_run_lock_release(qn_run_lock *lock);

#ifdef __cplusplus
}
#endif
#endif
