/* memory.h - is there enough of it? Private to train/. */
#ifndef QN_TRAIN_MEMORY_H
#define QN_TRAIN_MEMORY_H
#include "../include/quern/train.h"

/* As qn_memory_available, but /proc and /sys are looked for below `root` ("" for the real ones), so that a test can
 * lay out the files of any machine. The limits of the process itself are always the real ones. */
qn_memory qn__memory_below(const char *root);

/* All bytes of a program. */
int64_t qn__bytes_total(const qn_bytes *b);

/* E5001 with the share of each kind of memory and the largest batch that would fit, if `need` is more than there is
 * on the store's device. */
qn_status qn__memory_check(const qn_store *store, const qn_bytes *need, const qn_recipe *r, const qn_transform *shape,
                           int64_t batch, int threads, qn_error *err);
/* The same against a given amount. */
qn_status qn__memory_compare(const qn_bytes *need, int64_t have, const qn_recipe *r, const qn_transform *shape,
                             int64_t batch, int threads, qn_error *err);
#endif
