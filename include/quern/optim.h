/* optim.h - from a loss to a training step: gradients, clipping, schedules, optimizers, moving averages.
 *
 *     qn_train_nodes t;
 *     qn_train_opts o = { .optimizer = { .kind = QN_OPTIMIZER_ADAMW, .lr = 1e-3, .weight_decay = 0.01,
 *                                        .betas = { 0.9, 0.999 }, .eps = 1e-8 }, .batch = 128 };
 *     qn_train_build(g, loss, &o, &t);
 *     ...compile; then for each step: qn_program_run(p, QN_MICRO, &err), qn_program_run(p, QN_UPDATE, &err)
 *
 * Graph sugar: everything becomes operators of the same graph. All that changes from step to step (learning rate,
 * counters, clip factor) is computed on the device. A step whose gradient is not finite writes nothing: no weight, no
 * moment, no average, and buffers that its micro runs have moved go back (a layer that moves buffer B in the micro
 * phase first copies it to STATE "B.before"); only "optim.skipped" counts it.
 *
 * Tensors of the store (P a parameter's full name): moments "P.momentum" (SGD, RMSPROP), "P.exp_avg" (ADAM, ADAMW,
 * LAMB, LION), "P.exp_avg_sq" (ADAM, ADAMW, LAMB), "P.square_avg" (RMSPROP), "P.sum" (ADAGRAD); "P.ema" moving average;
 * "optim.updates", "optim.skipped" I64 [1]; "optim.plateau" F32 [], a factor on the learning rate that the host may
 * lower between steps; with accumulate > 1 "grad.P", the sum of the gradients of all samples since the last update, and
 * "optim.count" I64 [1], how many they are. */
#ifndef QUERN_OPTIM_H
#define QUERN_OPTIM_H
#include "core.h"
#ifdef __cplusplus
extern "C" {
#endif

/* SGD: with momentum mu > 0, v = mu v + g, w -= lr v, or lr (g + mu v) for Nesterov (Sutskever et al. 2013, in the form
 * PyTorch uses). ADAM: Kingma, Ba 2015; weight decay is added to the gradient. ADAMW: Loshchilov, Hutter 2019; decay is
 * decoupled, w -= lr wd w. RMSPROP: Tieleman, Hinton 2012. ADAGRAD: Duchi et al. 2011. LAMB: You et al. 2020.
 * LION: Chen et al. 2023. */
#define QN_OPTIMIZER_MAP(X) \
    X(SGD, "sgd") \
    X(ADAM, "adam") \
    X(ADAMW, "adamw") \
    X(RMSPROP, "rmsprop") \
    X(ADAGRAD, "adagrad") \
    X(LAMB, "lamb") \
    X(LION, "lion")
typedef enum qn_optimizer_kind {
#define X(e, s) QN_OPTIMIZER_##e,
    QN_OPTIMIZER_MAP(X)
#undef X
        QN_OPTIMIZER_COUNT
} qn_optimizer_kind;

/* Options for the parameters whose full name matches the pattern ('*' stands for any text); the first match counts. */
typedef struct qn_optimizer_group {
    const char *match;
    double lr_scale;     /* multiplies the learning rate          */
    double weight_decay; /* instead of the optimizer's; -1: as it */
} qn_optimizer_group;
/* Does the pattern fit the name of a parameter? */
QN_API bool qn_optimizer_group_matches(const char *pattern, const char *name);

typedef struct qn_optimizer_opts {
    qn_optimizer_kind kind;
    double lr, weight_decay, eps;
    double momentum; /* SGD, RMSPROP                          */
    bool nesterov;   /* SGD                                   */
    double betas[2]; /* ADAM, ADAMW, LAMB, LION               */
    double decay;    /* RMSPROP: weight of the old mean square */
    int n_groups;
    const qn_optimizer_group *groups;
} qn_optimizer_opts;

typedef struct qn_train_opts {
    qn_optimizer_opts optimizer;
    qn_schedule_opts schedule;    /* core.h                                                                */
    int accumulate;               /* most micro runs per update; 0 and 1: one. The gradient is the mean over the
                                     samples of those there were: fewer, and programs of other batches, are fine */
    double clip_norm, clip_value; /* 0: off. Norm: of all gradients together (Pascanu et al. 2013)         */
    double ema_decay;             /* 0: off. See qn_ema; to evaluate with the averages, exchange the bytes of P
                                    and "P.ema" in the store before the run and back after it              */
    double l1, l2;                /* added to the loss: l1 sum |w| + l2 sum w^2 over all parameters          */
    int64_t batch;                /* samples of a micro run: how far the random state moves on, and its weight
                                     in the gradient of several; 0: the state stays, all weigh the same      */
} qn_train_opts;

/* Values to keep: one element each, valid after the phase that computes them. */
typedef struct qn_train_nodes {
    qn_t loss;      /* of the micro run, penalties included                */
    qn_t lr;        /* of the update                                       */
    qn_t grad_norm; /* of the update, before clipping; not finite if skipped */
    qn_t applied;   /* 1, or 0 if the update was skipped                   */
} qn_train_nodes;

/* Appends gradients of all parameters (QN_PARAM tensors) of the graph and their update. Call it once, outside of every
 * scope, in the micro phase, which it leaves as it was. The loss has one element of the parameters' dtype (F32 or F64).
 * If the graph uses qn_rng, each micro run moves it on by `batch` samples and each update by a step, skipped or not.
 * Errors are sticky: E2204 an option out of range, E2205 a parameter's path has no gradient, E2202 dtypes differ, E2207
 * inside a scope. */
QN_API qn_status qn_train_build(qn_graph *g, qn_t loss, const qn_train_opts *opts, qn_train_nodes *out);

#ifdef __cplusplus
}
#endif
#endif
