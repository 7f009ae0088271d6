/* tuning.h - a tuning's fields; for tuning.c, tune.c and compile.c. */
#ifndef QN_CORE_TUNING_H
#define QN_CORE_TUNING_H
#include "backend.h"
#include "../include/quern/tuning.h"

enum { QN_TUNING_WHAT = 320, QN_TUNING_MAX = 4096 };

struct qn__tuned {
    char what[QN_TUNING_WHAT];
    struct qn__algorithm algorithm;
    double seconds, first;
    int tried;
};

struct qn_tuning {
    struct qn__identity of;
    char shown[240];
    struct qn__tuned *at; /* ascending by `what` */
    int n;
    size_t room;
};

qn_status qn__tuning_new(qn_tuning **out, const struct qn__identity *of, qn_error *err);
/* Keeps the order; E7070 for a second one of the same. */
qn_status qn__tuning_add(qn_tuning *t, const struct qn__tuned *row, qn_error *err);
/* NULL: none. */
const struct qn__tuned *qn__tuning_find(const qn_tuning *t, const char *what);
/* E7004 unless the tuning is of this GPU, driver and libraries. */
qn_status qn__tuning_fits(const qn_tuning *t, const struct qn__identity *here, qn_error *err);
#endif
