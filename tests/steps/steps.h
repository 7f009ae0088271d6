/* steps.h - whole training runs for tests: a recipe in a string, a scratch directory, and what a run left behind as
 * bytes that can be compared. */
#ifndef QN_TESTS_STEPS_H
#define QN_TESTS_STEPS_H
#include "../../include/quern/checkpoint.h"
#include "../../include/quern/train.h"

enum { STEPS_PATH = 600 };

/* A scratch directory of this process; made on first use, removed by steps_clean. */
const char *steps_root(void);
void steps_clean(void);

/* Runs a recipe (JSON text; name in "name") to its end in a new directory under steps_root(), whose path goes to dir;
 * or continues the run in `resume`. */
struct steps_run {
    char dir[STEPS_PATH];
    qn_train_result result;
    qn_status status;
    qn_error err;
};
void steps_train(struct steps_run *out, const char *recipe, const char *resume);
/* Continues the run in `resume` with another number of epochs. */
void steps_train_epochs(struct steps_run *out, const char *resume, int64_t epochs);

/* Names of the step checkpoints of a run, ascending; returns how many. */
int steps_list(const char *run, int64_t *step, int max);

/* Makes a run directory `to` that holds the recipe and log of `from`, its best checkpoint and the one of `step`, the
 * latter changed by `change` (may be NULL) before it is written. */
struct steps_parts {
    qn_tensor_data tensor[256];
    int n_model, n; /* the first n_model belong to the model */
    char *progress; /* malloc'ed text of progress.json       */
};
typedef void steps_change(struct steps_parts *p, void *user);
void steps_fork(const char *from, int64_t step, const char *to, steps_change *change, void *user);

/* What a finished run amounts to: tensors of its last checkpoint, log without times, and result; malloc'ed. */
char *steps_digest(const struct steps_run *r);
#endif
