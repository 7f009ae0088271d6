/* watch.c - see watch.h. */
#include "watch.h"
#include <math.h>
#include <string.h>

static bool is_loss(const char *metric)
{
    return strcmp(metric, "loss") == 0 || strcmp(metric, "mse") == 0 || strcmp(metric, "mae") == 0;
}

double qn__watched(const qn_metrics_summary *m, const char *metric)
{
    const struct {
        const char *name;
        double value;
    } rows[] = {
        { "loss", m->loss },
        { "accuracy", m->accuracy },
        { "top_k", m->top_k },
        { "f1", m->f1_macro },
        { "precision", m->precision_macro },
        { "recall", m->recall_macro },
        { "auc", m->auc },
        { "mse", m->mse },
        { "mae", m->mae },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (strcmp(metric, rows[i].name) == 0) return rows[i].value;
    return m->loss;
}

bool qn__is_gain(const char *metric, double value, double best, double min_delta)
{
    if (!isfinite(value)) return false;
    if (!isfinite(best)) return true;
    return is_loss(metric) ? value < best - min_delta : value > best + min_delta;
}

void qn__lower_plateau(qn_store *store, double factor, double least)
{
    const qn_store_entry *e = qn_store_find(store, "optim.plateau");
    if (!e || !e->data || e->dtype != QN_F32) return;
    float *x = e->data;
    double lowered = (double)*x * factor;
    *x = (float)(lowered < least ? least : lowered);
}
