/* metrics.h - what the training room shares of the metrics. */
#ifndef QN_TRAIN_METRICS_H
#define QN_TRAIN_METRICS_H
#include "../include/quern/metrics.h"

/* One score and whether its sample is a positive. */
struct qn__scored {
    float score;
    int32_t positive;
};

/* Exact ROC-AUC with ties counting one half; sorts s in place. NaN without positives or negatives. */
double qn__roc_auc(struct qn__scored *s, int64_t n);
#endif
