/* evaluate.h - metrics of a network over a part of the data. Private to train/. */
#ifndef QN_TRAIN_EVALUATE_H
#define QN_TRAIN_EVALUATE_H
#include "network.h"

/* An accumulator with the metrics the recipe asks for. */
qn_status qn__metrics_for(qn_metrics **out, const struct qn__network *net, int64_t expect, bool confusion,
                          qn_error *err);
/* Scores and targets of the batch that the runner has just run. */
qn_status qn__metrics_add(qn_metrics *m, const struct qn__network *net, const struct qn__runner *r, const qn_batch *b,
                          qn_error *err);
/* Every sample once, in order, with the weights as they are. confusion may be NULL. */
qn_status qn__evaluate(struct qn__network *net, qn_dataset *ds, const qn_indices *over, int workers,
                       qn_metrics_summary *out, int64_t *confusion, qn_error *err);
#endif
