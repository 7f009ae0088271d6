/* watch.c - see watch.h. */
#include "watch.h"
#include "../core/base.h"
#include <math.h>
#include <string.h>

static bool is_loss(const char *metric)
{
    return strcmp(metric, "loss") == 0 || strcmp(metric, "mse") == 0 || strcmp(metric, "mae") == 0;
}

void qn__figures(const qn_metrics_summary *m, struct qn__figure row[QN_FIGURES])
{
    const struct qn__figure rows[QN_FIGURES] = {
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
    memcpy(row, rows, sizeof rows);
}

double qn__watched(const qn_metrics_summary *m, const char *metric)
{
    struct qn__figure row[QN_FIGURES];
    qn__figures(m, row);
    for (int i = 0; i < QN_FIGURES; i++)
        if (strcmp(metric, row[i].name) == 0) return row[i].value;
    return m->loss;
}

bool qn__is_gain(const char *metric, double value, double best, double min_delta)
{
    if (!isfinite(value)) return false;
    if (!isfinite(best)) return true;
    return is_loss(metric) ? value < best - min_delta : value > best + min_delta;
}

qn_status qn__lower_plateau(qn_store *store, double factor, double least, qn_error *err)
{
    const qn_store_entry *e = qn_store_find(store, "optim.plateau");
    if (!e || !e->data || e->dtype != QN_F32) return QN_OK;
    QN_TRY(qn_store_pull(store, e->name, err));
    float *x = e->data;
    double lowered = (double)*x * factor;
    *x = (float)(lowered < least ? least : lowered);
    return qn_store_push(store, e->name, err);
}
