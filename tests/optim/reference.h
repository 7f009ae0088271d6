/* reference.h - a linear model and its training step, once built with Quern and once as plain loops in double. */
#ifndef QN_TESTS_OPTIM_REFERENCE_H
#define QN_TESTS_OPTIM_REFERENCE_H
#include "../../include/quern/optim.h"

/* y = x W + b, loss = mean (y - target)^2; W [4,3] is "net.fc.weight", b [3] "net.fc.bias". */
enum { INPUTS = 4, OUTPUTS = 3, WEIGHTS = INPUTS * OUTPUTS, PARAMS = WEIGHTS + OUTPUTS, BATCH_MAX = 64 };

/* ---- with Quern -------------------------------------------------------------------------------------- */

struct model {
    qn_graph *g;
    qn_store *store;
    qn_program *program;
    qn_t x, target;
    qn_train_nodes nodes;
    qn_dtype dtype;
    int batch;
    bool beside; /* the store is another model's */
};
struct model model_open(const qn_train_opts *o, qn_dtype dtype, int batch, const qn_compile_opts *compile);
/* Another batch, the same weights. */
struct model model_beside(const struct model *m, const qn_train_opts *o, int batch);
void model_close(struct model *m);
/* Batch `first` samples from the stream; element 0 of x is multiplied by `spoil` (1: none). */
void model_feed(struct model *m, int first, double spoil);
void model_micro(struct model *m);
void model_update(struct model *m);
double model_scalar(struct model *m, qn_t t);
/* Element i of a tensor of the store, which must exist. */
double model_tensor(const struct model *m, const char *name, int i);
/* Element i of "net.fc.weight" + suffix, or from WEIGHTS on of "net.fc.bias" + suffix. */
double model_param(const struct model *m, const char *suffix, int i);

/* ---- without ------------------------------------------------------------------------------------------- */

struct reference {
    double w[PARAMS], a[PARAMS], b[PARAMS], ema[PARAMS]; /* weights, moments, averages */
    double plateau, loss, lr, norm;
    int64_t updates;
};
/* Weights as the model's. */
struct reference reference_of(const struct model *m);
/* One update from `samples` samples of the stream. */
void reference_step(struct reference *r, const qn_train_opts *o, int first, int samples);
double reference_schedule(const qn_schedule_opts *s, double u);
#endif
