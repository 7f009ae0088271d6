/* model.h - a recipe's network as a graph. Private to train/. */
#ifndef QN_TRAIN_MODEL_H
#define QN_TRAIN_MODEL_H
#include "../include/quern/core.h"
#include "../include/quern/recipe.h"

/* What the network is fed with: shapes without the batch. */
struct qn__model_shape {
    int rank; /* of one sample: 1 [F] or 3 [C,H,W]                           */
    int64_t dim[3];
    int n_classes; /* 0: regression                                                */
    int n_targets; /* regression: values per sample                                */
    bool soft;     /* class targets are probabilities [B,classes] (mixup)          */
};

struct qn__model_nodes {
    qn_t x;      /* input "x" F32 [B,...]                                                    */
    qn_t target; /* input "target": I32 [B], or F32 [B,T] or [B,classes]; {0} without loss  */
    qn_t scores; /* [B,K]: logits of classes, a logit, or predicted values                   */
    qn_t output; /* what the network says: probabilities, or predicted values [B,K]          */
    qn_t loss;   /* mean over the batch, without penalties; {0} if not asked for             */
};

/* Appends the network for batches of `batch`. training: dropout and batch statistics; with_loss: target and loss too.
 * A softmax at the end of a classifier with cross-entropy, and a sigmoid at the end of one with BCE, is taken out of
 * the way of the loss, which works on logits. Mistakes of the recipe (shapes that do not fit) end up in the graph's
 * error, with the layer's name. */
qn_status qn__model_build(qn_graph *g, const qn_recipe *r, const struct qn__model_shape *shape, int64_t batch,
                          bool training, bool with_loss, struct qn__model_nodes *out, qn_error *err);
/* The layers alone: value[r->n_layers] receives what each gives. */
qn_status qn__model_layers(qn_graph *g, const qn_recipe *r, const struct qn__model_shape *shape, int64_t batch,
                           qn_t *value, qn_error *err);
#endif
