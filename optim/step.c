/* step.c - the optimizer's step of one parameter: its row, its moments, the options of its group. */
#include "optim.h"

/* ---- names ----------------------------------------------------------------------------------------- */

qn_t qn__optim_tensor(qn_graph *g, qn_kind kind, qn_t param, const char *name)
{
    int64_t dims[QN_MAX_DIMS];
    int rank = qn_rank(g, param);
    for (int i = 0; i < rank; i++) dims[i] = qn_dim(g, param, i);
    return qn_tensor(g, kind, name, qn_dtype_of(g, param), rank, dims, NULL);
}

/* ---- groups ---------------------------------------------------------------------------------------- */

/* After a mismatch the last star takes one character more. */
bool qn_optimizer_group_matches(const char *pattern, const char *text)
{
    const char *star = NULL, *retry = NULL;
    while (*text) {
        if (*pattern == '*') {
            star = pattern++;
            retry = text;
        } else if (*pattern == *text) {
            pattern++;
            text++;
        } else if (star) {
            pattern = star + 1;
            text = ++retry;
        } else {
            return false;
        }
    }
    while (*pattern == '*') pattern++;
    return *pattern == 0;
}

/* Only what the optimizer uses: the rest of the caller's struct may hold anything. */
static qn_update_opts update_opts(const qn_train_opts *opts, const char *name)
{
    const qn_optimizer_opts *o = &opts->optimizer;
    qn_update_opts u = { .eps = o->eps,
                         .weight_decay = o->weight_decay,
                         .lr_scale = 1,
                         .clip_value = opts->clip_value,
                         .decoupled = o->kind == QN_OPTIMIZER_ADAMW };
    bool sgd = o->kind == QN_OPTIMIZER_SGD, rms = o->kind == QN_OPTIMIZER_RMSPROP;
    if (sgd || rms) u.momentum = o->momentum;
    if (sgd) u.nesterov = o->nesterov;
    if (sgd || o->kind == QN_OPTIMIZER_LION) u.eps = 0;
    if (rms) {
        u.beta2 = o->decay;
    } else if (!sgd && o->kind != QN_OPTIMIZER_ADAGRAD) {
        u.beta1 = o->betas[0];
        u.beta2 = o->betas[1];
    }
    for (int i = 0; i < o->n_groups; i++) {
        const qn_optimizer_group *group = &o->groups[i];
        if (!qn_optimizer_group_matches(group->match, name)) continue;
        u.lr_scale = group->lr_scale;
        if (group->weight_decay != -1) u.weight_decay = group->weight_decay;
        break;
    }
    return u;
}

/* ---- rows ------------------------------------------------------------------------------------------ */

static qn_t moment(qn_graph *g, qn_t w, const char *name) { return qn__optim_tensor(g, QN_STATE, w, name); }

static qn_t step_sgd(qn_graph *g, qn_t w, qn_t grad, qn_t hyper, const qn_update_opts *u)
{
    if (u->momentum == 0) return qn_sgd(g, w, grad, hyper, u);
    return qn_momentum(g, w, moment(g, w, "momentum"), grad, hyper, u);
}
static qn_t step_adam(qn_graph *g, qn_t w, qn_t grad, qn_t hyper, const qn_update_opts *u)
{
    qn_t m = moment(g, w, "exp_avg"), v = moment(g, w, "exp_avg_sq");
    return qn_adam(g, w, m, v, grad, hyper, u);
}
static qn_t step_rmsprop(qn_graph *g, qn_t w, qn_t grad, qn_t hyper, const qn_update_opts *u)
{
    qn_t s = moment(g, w, "square_avg");
    if (u->momentum == 0) return qn_rmsprop(g, w, s, grad, hyper, u);
    return qn_rmsprop_momentum(g, w, s, moment(g, w, "momentum"), grad, hyper, u);
}
static qn_t step_adagrad(qn_graph *g, qn_t w, qn_t grad, qn_t hyper, const qn_update_opts *u)
{
    return qn_adagrad(g, w, moment(g, w, "sum"), grad, hyper, u);
}
static qn_t step_lamb(qn_graph *g, qn_t w, qn_t grad, qn_t hyper, const qn_update_opts *u)
{
    qn_t m = moment(g, w, "exp_avg"), v = moment(g, w, "exp_avg_sq");
    return qn_lamb(g, w, m, v, grad, hyper, u);
}
static qn_t step_lion(qn_graph *g, qn_t w, qn_t grad, qn_t hyper, const qn_update_opts *u)
{
    return qn_lion(g, w, moment(g, w, "exp_avg"), grad, hyper, u);
}

qn_t qn__optim_step(qn_graph *g, const qn_train_opts *opts, qn_t w, qn_t grad, qn_t hyper)
{
    static qn_t (*const step[QN_OPTIMIZER_COUNT])(qn_graph *, qn_t, qn_t, qn_t, const qn_update_opts *) = {
        [QN_OPTIMIZER_SGD] = step_sgd,         [QN_OPTIMIZER_ADAM] = step_adam,       [QN_OPTIMIZER_ADAMW] = step_adam,
        [QN_OPTIMIZER_RMSPROP] = step_rmsprop, [QN_OPTIMIZER_ADAGRAD] = step_adagrad, [QN_OPTIMIZER_LAMB] = step_lamb,
        [QN_OPTIMIZER_LION] = step_lion,
    };
    qn_update_opts u = update_opts(opts, qn_name(g, w));
    return step[opts->optimizer.kind](g, w, grad, hyper, &u);
}
