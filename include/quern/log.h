/* log.h - what a run leaves behind and shows: JSONL, TensorBoard event files, a progress line.
 *
 * A log must never end a training run. When a line or record cannot be written (disk full, file
 * system gone), the *first* loss is reported once, as E6002; later ones return QN_OK and are only
 * counted (qn_log_lost, qn_events_lost), and writing is tried again each time. A torn line or record
 * is taken back, so that what is in the file stays readable. None of these objects may be used by two
 * threads at once. SIGPIPE is not raised by them. */
#ifndef QUERN_LOG_H
#define QUERN_LOG_H
#include "base.h"
#ifdef __cplusplus
extern "C" {
#endif

/* ---- JSONL -------------------------------------------------------------------------------- */

/* One JSON object per line, in the order in which its fields were added, handed to the system when
 * the line ends.
 *
 *     qn_log_begin(log, "epoch");
 *     qn_log_i64(log, "step", step);
 *     qn_log_f32(log, "loss", loss);
 *     if (qn_log_end(log, &err)) warn(err.text);
 *
 * gives {"event":"epoch","step":430,"loss":0.31}. Numbers are the shortest decimal text that reads
 * back as the same float or double, in every locale. JSON has no NaN: a value that is not finite is
 * null, followed by a text field that says which, {"loss":null,"loss_is":"nan"} (or "inf", "-inf"),
 * so the column stays numeric. Keys and text are escaped; bytes that are not UTF-8 become U+FFFD. A line
 * holds at most 16 KiB: fields that would pass it are left out and the line ends with "cut":true. */
typedef struct qn_logger qn_logger;

/* Opens path for writing. With `append` an existing file is continued (a last line without newline,
 * left by a killed run, is removed); else a file that exists already is an error.
 * Errors: E6001 cannot open, E6002 exists, E5002. */
QN_API QN_CHECKED qn_status qn_log_open(qn_logger **out, const char *path, bool append, qn_error *err);
/* Closes and frees; log may be NULL. Errors: E6002 if the system reports a late failure. */
QN_API qn_status qn_log_close(qn_logger *log, qn_error *err);

QN_API void qn_log_begin(qn_logger *log, const char *event);
QN_API void qn_log_i64(qn_logger *log, const char *key, int64_t value);
QN_API void qn_log_f32(qn_logger *log, const char *key, float value);
QN_API void qn_log_f64(qn_logger *log, const char *key, double value);
QN_API void qn_log_bool(qn_logger *log, const char *key, bool value);
QN_API void qn_log_text(qn_logger *log, const char *key, const char *value); /* NULL: null */
/* An array; elements that are not finite are null. */
QN_API void qn_log_f64s(qn_logger *log, const char *key, const double *values, int64_t n);
/* Writes the line. Errors: E6002, the first time only. */
QN_API qn_status qn_log_end(qn_logger *log, qn_error *err);
/* Lines that could not be written so far. */
QN_API int64_t qn_log_lost(const qn_logger *log);

/* ---- TensorBoard -------------------------------------------------------------------------- */

/* An event file as TensorBoard reads it: records of {u64 length, masked CRC-32C of it, data, masked
 * CRC-32C of the data}, little-endian, each holding a protobuf `Event` (tensorflow/core/util/
 * event.proto, framework/summary.proto); the first one says "brain.Event:2". */
typedef struct qn_events qn_events;

/* Makes dir/events.out.tfevents.<seconds>.<host>.<pid>, with ".1" and so on appended if it exists.
 * The directory must exist. Errors: E6002 cannot create or write, E5002. */
QN_API QN_CHECKED qn_status qn_events_open(qn_events **out, const char *dir, qn_error *err);
QN_API qn_status qn_events_close(qn_events *events, qn_error *err);
/* Adds one point to the curve `tag` ("train/loss"); value may be NaN. Tags hold at most 255 bytes.
 * Errors: E6002 the first time only; E2204 tag NULL, empty or too long. */
QN_API qn_status qn_events_scalar(qn_events *events, const char *tag, int64_t step, float value, qn_error *err);
/* Adds a picture: the bytes of a PNG file of width x height. Errors: as above, E2204 for sizes. */
QN_API qn_status qn_events_image(qn_events *events, const char *tag, int64_t step, const void *png, size_t bytes,
                                 int64_t width, int64_t height, qn_error *err);
QN_API const char *qn_events_path(const qn_events *events);
QN_API int64_t qn_events_lost(const qn_events *events);

/* ---- progress ----------------------------------------------------------------------------- */

/* Where the run stands, on a stream that the caller names: the library prints nothing by itself.
 * On a terminal it is one line, redrawn at most ten times a second and fitted to its width:
 *
 *   epoch 3/12 ━━━━━━━━━━━━━━────────── 214/430  loss 0.3121  accuracy 0.8871  21.3k/s  eta 0:42
 *
 * Elsewhere (file, pipe, TERM=dumb) it is one plain line every `every` steps and one per epoch.
 * NO_COLOR turns colour off; a locale that is not UTF-8 turns the bar into # and -. A stream that is
 * closed or broken is given up silently. Updates allocate nothing. */
typedef struct qn_progress qn_progress;

typedef enum qn_progress_mode {
    QN_PROGRESS_AUTO,     /* as the stream and the environment say */
    QN_PROGRESS_TERMINAL, /* the redrawn line                      */
    QN_PROGRESS_PLAIN,    /* lines                                 */
    QN_PROGRESS_OFF       /* nothing                               */
} qn_progress_mode;

typedef struct qn_progress_options {
    int fd; /* e.g. fileno(stderr); not closed by us */
    qn_progress_mode mode;
    int64_t epochs;              /* epochs of the run, >= 1                               */
    int64_t steps_per_epoch;     /* >= 1                                                  */
    int64_t every;               /* plain lines: one every so many steps; 0: per epoch only */
    const char *metric;          /* its name, copied (31 bytes); NULL: no metric          */
    const char *unit;            /* what samples are ("img"), copied (15 bytes); NULL: none */
    double (*clock)(void *user); /* seconds that never go back; NULL: the system's    */
    void *user;
} qn_progress_options;

/* After a step. epoch and step count from 1; samples is what this step consumed. NaN leaves loss or
 * metric out. */
typedef struct qn_progress_state {
    int64_t epoch, step;
    int64_t samples;
    double loss, metric;
} qn_progress_state;

/* The values of a whole epoch, NaN: not there. */
typedef struct qn_progress_epoch {
    int64_t epoch;
    double loss, metric, val_loss, val_metric;
} qn_progress_epoch;

/* Errors: E2204 an option out of range, E5002. */
QN_API QN_CHECKED qn_status qn_progress_create(qn_progress **out, const qn_progress_options *options, qn_error *err);
QN_API void qn_progress_step(qn_progress *p, const qn_progress_state *state);
/* Ends an epoch with one line that stays. */
QN_API void qn_progress_epoch_end(qn_progress *p, const qn_progress_epoch *epoch);
/* Prints one line of the caller's, e.g. a warning, without tearing the bar. Control bytes are escaped. */
QN_API void qn_progress_note(qn_progress *p, const char *text);
/* Clears an unfinished line and frees; p may be NULL. */
QN_API void qn_progress_free(qn_progress *p);

#ifdef __cplusplus
}
#endif
#endif
