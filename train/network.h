/* network.h - a recipe's network with its weights and the programs that run it. Private to train/. */
#ifndef QN_TRAIN_NETWORK_H
#define QN_TRAIN_NETWORK_H
#include "../include/quern/checkpoint.h"
#include "../include/quern/optim.h"
#include "../include/quern/train.h"
#include "../include/quern/tuning.h"
#include "model.h"

enum qn__mode {
    QN_MODE_TRAIN,    /* loss, gradients, update                       */
    QN_MODE_EVAL,     /* running statistics, no dropout; loss           */
    QN_MODE_PREDICT,  /* the same without target and loss              */
    QN_MODE_SALIENCY, /* PREDICT with d score / d x; batch 1            */
};

/* A compiled and loaded program for one mode and batch size. A last, smaller batch has a program of its own. */
struct qn__runner {
    enum qn__mode mode;
    int64_t batch;
    qn_program *program;
    struct qn__model_nodes nodes;
    qn_train_nodes train; /* TRAIN    */
    qn_t pick, dx;        /* SALIENCY */
    int64_t width;        /* K of scores and output */
};

enum { QN_RUNNERS_MAX = 8 };

struct qn__network {
    const qn_recipe *recipe; /* not owned */
    struct qn__model_shape shape;
    qn_train_opts train; /* what the optimizer is built with */
    qn_store *store;
    const qn_tuning *tuning; /* not owned; NULL: none */
    int threads;
    struct qn__runner runner[QN_RUNNERS_MAX];
    int n_runners;
};

/* shape from the transform of the data; steps_per_epoch turns the recipe's times into updates. */
qn_status qn__network_open(struct qn__network *net, const qn_recipe *r, const qn_transform *t,
                           int64_t updates_per_epoch, const char *device, int threads, qn_error *err);
void qn__network_close(struct qn__network *net);

/* The graph of a mode, for whoever wants to look at it or compile it differently. */
qn_status qn__network_graph(const struct qn__network *net, enum qn__mode mode, int64_t batch, qn_graph **g,
                            struct qn__runner *nodes, qn_error *err);
/* Kept values of a runner's nodes; returns how many. */
int qn__runner_keep(const struct qn__runner *r, qn_t *keep);
enum { QN_RUNNER_KEEP = 12 };

/* The program, compiled and loaded on first need. When QN_RUNNERS_MAX are there, the oldest one that is not the first
 * is dropped. */
qn_status qn__network_runner(struct qn__network *net, enum qn__mode mode, int64_t batch, struct qn__runner **out,
                             qn_error *err);

/* Copies a batch into the runner's inputs: x, and the target as label, soft label or values. */
void qn__runner_feed(const struct qn__network *net, struct qn__runner *r, const qn_batch *b);

/* Exchanges every weight with its moving average (if the recipe has them and at least one update was applied). */
qn_status qn__network_swap_ema(struct qn__network *net, qn_error *err);
/* After loading a model for use: the weights are replaced by their moving averages, where the checkpoint has them. */
qn_status qn__network_load_ema(struct qn__network *net, const qn_checkpoint *ck, qn_error *err);
#endif
