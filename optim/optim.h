/* optim.h - what the files of this room share. Private to optim/. */
#ifndef QN_OPTIM_OPTIM_H
#define QN_OPTIM_OPTIM_H
#include "../include/quern/optim.h"

/* Makes the graph fail with E2204 if an option is out of range. */
qn_status qn__optim_check(qn_graph *g, const qn_train_opts *opts);

/* A tensor of the current scope like the parameter, zeros at first. */
qn_t qn__optim_tensor(qn_graph *g, qn_kind kind, qn_t param, const char *name);

/* Appends the step of one parameter; the current scope is the parameter's name, so that its moments are "P.exp_avg",
 * ... Returns w after the step. */
qn_t qn__optim_step(qn_graph *g, const qn_train_opts *opts, qn_t w, qn_t grad, qn_t hyper);
#endif
