/* metrics.h - how good a model is: an accumulator fed with batches.
 *
 *     qn_metrics *m;
 *     qn_metrics_options o = { .kind = QN_METRICS_CLASSES, .width = 10, .logits = true,
 *                              .auc = true, .confusion = true, .expect = 10000 };
 *     if (qn_metrics_create(&m, &o, NULL, &err)) ...
 *     while (next batch)
 *         qn_metrics_add_classes(m, scores, labels, n, &err);
 *     qn_metrics_summary s;
 *     qn_metrics_result(m, &s, &err);
 *     printf("accuracy %.4f\n", s.accuracy);
 *
 * Adding a batch allocates nothing, except that an accumulator for ROC-AUC has to keep the scores:
 * its room is made for `expect` samples when it is created, and doubled when there are more.
 *
 * Definitions (TP, FP, FN: counts for one class against all others; n: samples that were counted):
 *   accuracy      correct / n
 *   top-k         share of samples whose true class is among the k highest scores; of equal scores the
 *                 lower index ranks first, so top-1 is accuracy
 *   precision     TP / (TP + FP)                    } van Rijsbergen, Information Retrieval (1979),
 *   recall        TP / (TP + FN)                    } chapter 7
 *   F1            2 TP / (2 TP + FP + FN)           }
 *   macro         mean over the classes that occur among the labels or the predictions
 *   micro         the formula applied to the sums of TP, FP, FN over the classes
 *                 (Sokolova and Lapalme, Inf. Process. Manag. 45, 2009, for macro and micro)
 *   ROC-AUC       the probability that a positive scores above a negative, ties counting one half:
 *                 (R - P (P + 1) / 2) / (P N), R the sum of the mid-ranks of the P positives among
 *                 P + N scores (Hanley and McNeil, Radiology 143, 1982; Mann-Whitney). Exact.
 *   one-vs-rest   the ROC-AUC of each class's probability against the others; macro: the plain mean
 *   MSE, MAE      mean of (prediction - target)^2, of |prediction - target|, over all elements
 *
 * Conventions: 0/0 in precision, recall and F1 is 0. Whatever has nothing to be computed from (no
 * sample; AUC without positives or without negatives) is NaN, and such classes are left out of the
 * macro AUC. A sample whose scores hold a NaN or +inf (or nothing above -inf) has no prediction: it
 * counts in n and as a miss (FN) of its class, adds to `nonfinite`, and makes the AUC NaN. */
#ifndef QUERN_METRICS_H
#define QUERN_METRICS_H
#include "base.h"
#ifdef __cplusplus
extern "C" {
#endif

typedef struct qn_metrics qn_metrics;

typedef enum qn_metrics_kind {
    QN_METRICS_CLASSES,   /* one score per class, one true class             */
    QN_METRICS_BINARY,    /* one score per sample, label 0 or 1              */
    QN_METRICS_REGRESSION /* `width` predicted and target values per sample  */
} qn_metrics_kind;

typedef struct qn_metrics_options {
    qn_metrics_kind kind;
    int64_t width;      /* CLASSES: number of classes, 2..2^20; REGRESSION: values per sample, >= 1;
                             BINARY: 0 or 1 */
    int64_t top_k;      /* CLASSES: k of `top_k`, 1..width; 0: min(5, width)                   */
    bool logits;        /* scores are logits: AUC sees softmax (BINARY: sigmoid is monotone, so the
                             scores serve as they are); false: they are probabilities */
    bool has_threshold; /* BINARY: class 1 when score > threshold; by default 0 for logits, 0.5 else */
    float threshold;
    bool has_ignore; /* samples with label ignore_index are not counted at all              */
    int32_t ignore_index;
    bool auc;       /* keep the scores for ROC-AUC: 4 * width + 4 bytes a sample            */
    bool confusion; /* keep the confusion matrix: 8 * width^2 bytes                         */
    int64_t expect; /* samples to make room for when auc is set                             */
} qn_metrics_options;

/* NaN where a value does not apply to the kind or nothing was counted. */
typedef struct qn_metrics_summary {
    int64_t count;     /* samples counted, ignored ones left out     */
    int64_t ignored;   /* samples with the ignored label             */
    int64_t nonfinite; /* samples without a usable prediction        */
    double loss;       /* mean of what qn_metrics_add_loss was given */
    double accuracy;
    double top_k;
    double precision_macro, recall_macro, f1_macro;
    double precision_micro, recall_micro, f1_micro;
    double auc; /* BINARY: class 1 against 0; CLASSES: macro one-vs-rest */
    double mse, mae;
} qn_metrics_summary;

typedef struct qn_metrics_class {
    int64_t support;   /* samples whose true class it is */
    int64_t predicted; /* samples taken for it           */
    int64_t correct;
    double precision, recall, f1;
    double auc; /* against all others; NaN if not kept or not defined */
} qn_metrics_class;

/* Makes an empty accumulator; the caller frees it. alloc NULL: malloc; else it must outlive *out.
 * Errors: E2204 an option out of range, E5002. */
QN_API QN_CHECKED qn_status qn_metrics_create(qn_metrics **out, const qn_metrics_options *options,
                                              const qn_alloc *alloc, qn_error *err);
QN_API void qn_metrics_free(qn_metrics *m);

/* Back to empty, keeping the memory. */
QN_API void qn_metrics_reset(qn_metrics *m);

/* Adds the mean loss of a batch of `weight` samples (or tokens). */
QN_API void qn_metrics_add_loss(qn_metrics *m, double mean, double weight);

/* Adds n samples: scores f32 [n, width] (BINARY: [n]), labels i32 [n]. Nothing of a batch is counted
 * when it is refused. Errors: E2204 a label outside 0..width-1, or the wrong kind; E5002. */
QN_API QN_CHECKED qn_status qn_metrics_add_classes(qn_metrics *m, const float *scores, const int32_t *labels, int64_t n,
                                                   qn_error *err);

/* Adds n samples of a regression: both f32 [n, width]. Errors: E2204 the wrong kind. */
QN_API QN_CHECKED qn_status qn_metrics_add_values(qn_metrics *m, const float *predicted, const float *target, int64_t n,
                                                  qn_error *err);

/* Everything at once. ROC-AUC sorts what was kept: O(width * n log n). Errors: E2204 NULL. */
QN_API QN_CHECKED qn_status qn_metrics_result(qn_metrics *m, qn_metrics_summary *out, qn_error *err);

/* One class (BINARY: 0 or 1). Errors: E2204 no such class. */
QN_API QN_CHECKED qn_status qn_metrics_of_class(qn_metrics *m, int64_t c, qn_metrics_class *out, qn_error *err);

/* i64 [width, width] (BINARY: [2, 2]), row: true class, column: predicted; NULL if not kept.
 * Owned by m and valid until it is freed. */
QN_API const int64_t *qn_metrics_confusion(const qn_metrics *m);

#ifdef __cplusplus
}
#endif
#endif
