/* options.c - which options an optimizer has, and their ranges. */
#include "optim.h"
#include "../core/base.h"
#include <math.h>
#include <stddef.h>

#define ONLY(kind) (1u << QN_OPTIMIZER_##kind)
#define ADAPTIVE (ONLY(ADAM) | ONLY(ADAMW) | ONLY(LAMB) | ONLY(LION))
#define DIVIDING (ONLY(ADAM) | ONLY(ADAMW) | ONLY(LAMB) | ONLY(RMSPROP) | ONLY(ADAGRAD))
#define ALL (~0u)

/* Numbers from 0 to below `below`. */
static const struct number_row {
    const char *name;
    size_t offset;
    double below;
    unsigned kinds;
} number_rows[] = {
#define NUMBER(member, below, kinds) { #member, offsetof(qn_train_opts, member), (double)(below), kinds },
    NUMBER(optimizer.lr, INFINITY, ALL) NUMBER(optimizer.weight_decay, INFINITY, ALL)
        NUMBER(optimizer.eps, INFINITY, DIVIDING) NUMBER(optimizer.momentum, 1, ONLY(SGD) | ONLY(RMSPROP))
            NUMBER(optimizer.betas[0], 1, ADAPTIVE) NUMBER(optimizer.betas[1], 1, ADAPTIVE)
                NUMBER(optimizer.decay, 1, ONLY(RMSPROP)) NUMBER(clip_norm, INFINITY, ALL)
                    NUMBER(clip_value, INFINITY, ALL) NUMBER(ema_decay, 1, ALL) NUMBER(l1, INFINITY, ALL)
                        NUMBER(l2, INFINITY, ALL)
#undef NUMBER
};

static void check_number(qn_graph *g, const char *name, double value, double below)
{
    if (value >= 0 && value < below) return; /* infinity is not below infinity */
    if (isinf(below))
        qn_graph_fail(g, 2204, "train", "%s %g; expected a finite number from 0", name, value);
    else
        qn_graph_fail(g, 2204, "train", "%s %g; expected at least 0, below %g", name, value, below);
}

static void check_groups(qn_graph *g, const qn_optimizer_opts *o)
{
    if (o->n_groups < 0 || (o->n_groups > 0 && !o->groups))
        qn_graph_fail(g, 2204, "train", "optimizer.n_groups %d; expected the number of groups", o->n_groups);
    for (int i = 0; i < o->n_groups && o->groups; i++) {
        const qn_optimizer_group *group = &o->groups[i];
        if (!group->match)
            qn_graph_fail(g, 2204, "train", "optimizer.groups[%d].match is missing; expected a pattern", i);
        check_number(g, "optimizer.groups[].lr_scale", group->lr_scale, (double)INFINITY);
        if (group->weight_decay != -1)
            check_number(g, "optimizer.groups[].weight_decay", group->weight_decay, (double)INFINITY);
    }
}

qn_status qn__optim_check(qn_graph *g, const qn_train_opts *opts)
{
    const qn_optimizer_opts *o = &opts->optimizer;
    if ((unsigned)o->kind >= QN_OPTIMIZER_COUNT) {
        qn_graph_fail(g, 2204, "train", "optimizer.kind %d; expected 0..%d", (int)o->kind, QN_OPTIMIZER_COUNT - 1);
        return qn_graph_status(g);
    }
    for (size_t i = 0; i < sizeof number_rows / sizeof number_rows[0]; i++) {
        const struct number_row *row = &number_rows[i];
        const double *value = (const void *)((const char *)opts + row->offset);
        if (row->kinds >> o->kind & 1) check_number(g, row->name, *value, row->below);
    }
    if (o->kind == QN_OPTIMIZER_SGD && o->nesterov && o->momentum == 0)
        qn_graph_fail(g, 2204, "train", "optimizer.nesterov without momentum; expected optimizer.momentum > 0");
    if (opts->accumulate < 0) qn_graph_fail(g, 2204, "train", "accumulate %d; expected at least 0", opts->accumulate);
    if (opts->batch < 0) qn_graph_fail(g, 2204, "train", "batch %lld; expected at least 0", (long long)opts->batch);
    check_groups(g, o);
    return qn_graph_status(g);
}
