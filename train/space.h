/* space.h - what a search varies. Private to train/. */
#ifndef QN_TRAIN_SPACE_H
#define QN_TRAIN_SPACE_H
#include "json.h"

enum qn__range { QN_RANGE_LIST, QN_RANGE_UNIFORM, QN_RANGE_LOG };

struct qn__parameter {
    const char *key;
    enum qn__range kind;
    double low, high;
    int64_t steps; /* of a range in a grid; 0: not given */
    bool whole;    /* a range of integers; the reader does not know, who knows the recipe says so */
    const struct qn__json *node;
};

struct qn__space {
    struct qn__pool pool;
    char *text; /* of the file */
    size_t bytes;
    int n;
    struct qn__parameter *parameter;
};

/* Reads and checks FILE; every mistake goes to the report. Free in any case. */
void qn__space_read(struct qn__space *s, const char *path, struct qn__report *report);
void qn__space_free(struct qn__space *s);

/* How many points the grid has (at most 10^9); 0 after noting the ranges that have no steps. */
int64_t qn__space_grid(const struct qn__space *s, struct qn__report *report);

/* "KEY=VALUE" of parameter i in trial k (from 1). */
enum { QN_SETTING_MAX = 400 };
void qn__space_random(const struct qn__space *s, int i, int64_t k, uint64_t seed, char out[QN_SETTING_MAX]);
void qn__space_point(const struct qn__space *s, int i, int64_t k, char out[QN_SETTING_MAX]);
/* The smallest and the largest value (which 0, 1), or entry `which` of a list; false beyond. */
bool qn__space_sample(const struct qn__space *s, int i, int64_t which, char out[QN_SETTING_MAX]);
#endif
