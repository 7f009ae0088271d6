/* state.h - everything of a run that is not a tensor, and how both go into a checkpoint. Private to train/. */
#ifndef QN_TRAIN_STATE_H
#define QN_TRAIN_STATE_H
#include "../include/quern/checkpoint.h"
#include "network.h"
#include "spike.h"

/* X(type, name, first value). One row here is all it takes to have a field saved, restored and checked: `progress.json`
 * of a checkpoint is written and read by this list. i: int64_t, d: double, l: losses, k: batches to skip. */
#define QN_RUN_STATE_MAP(X) \
    X(i, epoch, 0)         /* whole epochs done                                 */ \
    X(i, position, 0)      /* samples of this epoch handed out                   */ \
    X(i, steps, 0)         /* updates, applied or skipped                        */ \
    X(i, samples, 0)       /* training samples seen in all                       */ \
    X(i, bad_in_a_row, 0)  /* skipped updates since the last applied one         */ \
    X(d, epoch_loss, 0)    /* sum over this epoch's samples                      */ \
    X(d, epoch_count, 0)   /* ... and how many they are                          */ \
    X(d, epoch_correct, 0) /* ... and how many of them were right                */ \
    X(d, seconds, 0)       /* of training                                        */ \
    X(i, best_epoch, 0)    /* 1-based; 0: none yet                               */ \
    X(d, best_value, 0)    /* of the watched metric                              */ \
    X(i, stopping_best, 0) /* epoch of the last gain of early stopping           */ \
    X(d, stopping_value, 0) \
    X(i, plateau_best, 0) /* epoch of the last gain of the plateau schedule     */ \
    X(d, plateau_value, 0) \
    X(i, stopped_early, 0) \
    X(i, log_bytes, 0) /* length of log.jsonl; lines behind it are of no saved step */ \
    X(i, rewinds, 0)   /* after loss spikes                                  */ \
    X(k, skips, 0)     /* batches left out since                             */ \
    X(l, losses, 0)    /* of the last updates, for finding spikes            */

struct qn__run_state {
#define QN_FIELD_i int64_t
#define QN_FIELD_d double
#define QN_FIELD_k struct qn__skips
#define QN_FIELD_l struct qn__losses
#define X(type, name, first) QN_FIELD_##type name;
    QN_RUN_STATE_MAP(X)
#undef X
};

void qn__run_state_init(struct qn__run_state *s);
/* JSON, doubles with the digits that read back exactly; free with free(). */
qn_status qn__run_state_write(const struct qn__run_state *s, char **out, qn_error *err);
/* Every field must be there. `file` is named in the error (E4034). */
qn_status qn__run_state_read(struct qn__run_state *s, const char *text, const char *file, qn_error *err);

/* Writes the whole run: name NULL: a step checkpoint, keep of them; else the named one. */
struct qn__save {
    const char *dir, *run_id, *name;
    const struct qn__network *net;
    const struct qn__run_state *state;
    const qn_transform *transform;
    int keep;
};
qn_status qn__checkpoint_save(const struct qn__save *s, qn_error *err);

/* Fills the store's tensors of the given kinds from a checkpoint: all of them or, on failure, none. */
enum { QN_LOAD_MODEL = 1, QN_LOAD_STATE = 2 };
qn_status qn__checkpoint_load(qn_store *store, const qn_checkpoint *ck, unsigned what, qn_error *err);
#endif
