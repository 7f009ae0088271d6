/* spike.h - losses that jump: the window they are compared with, and the batches left out after a rewind. Both are
 * part of a run's state. Private to train/. */
#ifndef QN_TRAIN_SPIKE_H
#define QN_TRAIN_SPIKE_H
#include "../include/quern/recipe.h"

enum { QN_LOSSES_MAX = 256, QN_SKIPS_MAX = 64 }; /* spike.window; a range for each of spike.max_rewinds */

/* The last losses, oldest first. */
struct qn__losses {
    int n;
    double at[QN_LOSSES_MAX];
};

/* Batches of an epoch by the position of their first sample, both ends included. */
struct qn__skips {
    int n;
    struct qn__skip {
        int64_t epoch, from, to;
    } at[QN_SKIPS_MAX];
};

void qn__losses_add(struct qn__losses *l, int64_t window, double loss);
/* The median of the window and the highest loss that is no spike; false as long as the window is not full. */
bool qn__spike_limit(const struct qn__losses *l, const qn_recipe_spike *o, double *median, double *limit);

/* The oldest range goes when there is no room. */
void qn__skips_add(struct qn__skips *s, int64_t epoch, int64_t from, int64_t to);
bool qn__skips_has(const struct qn__skips *s, int64_t epoch, int64_t first);
#endif
