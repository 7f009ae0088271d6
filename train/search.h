/* search.h - a search while it runs. Private to train/. */
#ifndef QN_TRAIN_SEARCH_H
#define QN_TRAIN_SEARCH_H
#include "../include/quern/search.h"
#include "space.h"

/* A trial that has ended with so many epochs. */
struct qn__trial {
    int64_t trial, epochs;
    double value, seconds; /* of the watched metric on the validation part, NaN if it failed; of training */
};

struct qn__search {
    const qn_search_opts *opts;
    struct qn__space space;
    int64_t trials, epochs; /* epochs: the recipe's */
    char metric[32], dir[4096];
    struct qn__trial *row; /* as they ended */
    size_t n_rows, cap_rows;
    qn_run_lock *lock;
};

/* search.png, and a picture for each range. */
qn_status qn__search_draw(const struct qn__search *s, int64_t best, qn_error *err);
#endif
