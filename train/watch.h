/* watch.h - values that decisions between epochs are made by. Private to train/. */
#ifndef QN_TRAIN_WATCH_H
#define QN_TRAIN_WATCH_H
#include "../include/quern/core.h"
#include "../include/quern/metrics.h"

/* The figures of a part by the names recipes use; NaN where a figure does not apply. */
struct qn__figure {
    const char *name;
    double value;
};
enum { QN_FIGURES = 9 };
void qn__figures(const qn_metrics_summary *m, struct qn__figure row[QN_FIGURES]);
/* The value of a metric by the name recipes use: "loss", "accuracy", "f1", ...; the loss if there is no such value. */
double qn__watched(const qn_metrics_summary *m, const char *metric);
/* Whether value is better than best by more than min_delta: lower for losses and errors, higher for all else. A value
 * that is not finite is never a gain. */
bool qn__is_gain(const char *metric, double value, double best, double min_delta);
/* Multiplies "optim.plateau" by factor, not below `least`. */
qn_status qn__lower_plateau(qn_store *store, double factor, double least, qn_error *err);
#endif
