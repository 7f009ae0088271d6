/* evaluate.c - see evaluate.h. */
#include "evaluate.h"
#include "../core/base.h"
#include <string.h>

/* Classes with one score are a binary problem; without classes it is a regression. */
static qn_metrics_kind kind_of(const struct qn__network *net)
{
    if (net->shape.n_classes == 0) return QN_METRICS_REGRESSION;
    return net->runner[0].width == 1 ? QN_METRICS_BINARY : QN_METRICS_CLASSES;
}

qn_status qn__metrics_for(qn_metrics **out, const struct qn__network *net, int64_t expect, bool confusion,
                          qn_error *err)
{
    const qn_recipe *r = net->recipe;
    qn_metrics_options o = {
        .kind = kind_of(net), .width = net->shape.n_classes, .logits = true, .confusion = confusion, .expect = expect
    };
    if (o.kind == QN_METRICS_REGRESSION) o.width = net->shape.n_targets;
    if (r->loss.kind != QN_LOSS_CROSS_ENTROPY && r->loss.kind != QN_LOSS_BCE)
        o.logits = false; /* scores are values near 0 or 1 */
    if (o.kind == QN_METRICS_BINARY) o.width = 1;
    for (int i = 0; i < r->n_metrics; i++) {
        if (r->metrics[i].kind == QN_METRIC_AUC) o.auc = true;
        if (r->metrics[i].kind == QN_METRIC_TOP_K) o.top_k = r->metrics[i].k;
    }
    if (r->loss.kind == QN_LOSS_CROSS_ENTROPY && r->loss.ignore_index >= 0) {
        o.has_ignore = true;
        o.ignore_index = (int32_t)r->loss.ignore_index;
    }
    return qn_metrics_create(out, &o, NULL, err);
}

qn_status qn__metrics_add(qn_metrics *m, const struct qn__network *net, const struct qn__runner *r, const qn_batch *b,
                          qn_error *err)
{
    const float *scores = qn_program_data(r->program, r->nodes.scores);
    const float *loss = qn_program_data(r->program, r->nodes.loss);
    if (loss) qn_metrics_add_loss(m, (double)*loss, b->count);
    if (net->shape.n_classes == 0) return qn_metrics_add_values(m, scores, b->target, b->count, err);
    return qn_metrics_add_classes(m, scores, b->label, b->count, err);
}

static qn_status run_batch(struct qn__network *net, const qn_batch *b, qn_metrics *m, qn_error *err)
{
    struct qn__runner *r;
    QN_TRY(qn__network_runner(net, QN_MODE_EVAL, b->count, &r, err));
    qn__runner_feed(net, r, b);
    QN_TRY(qn_program_run(r->program, QN_MICRO, err));
    QN_TRY(qn_program_wait(r->program, QN_MICRO, 0, err));
    return qn__metrics_add(m, net, r, b, err);
}

qn_status qn__evaluate(struct qn__network *net, qn_dataset *ds, const qn_indices *over, int workers,
                       qn_metrics_summary *out, int64_t *confusion, qn_error *err)
{
    qn_loader *loader = NULL;
    qn_metrics *m = NULL;
    int64_t n = over ? over->n : qn_dataset_count(ds), batch = n < 256 ? n : 256;
    memset(out, 0, sizeof *out);
    if (n == 0) return QN_OK;
    qn_loader_options o = { .batch = (int)batch, .threads = workers };
    qn_status status = qn__metrics_for(&m, net, n, confusion != NULL, err);
    if (!status) status = qn_loader_open(&loader, ds, over, &o, err);
    const qn_batch *b = NULL;
    while (!status && !(status = qn_loader_next(loader, &b, err)) && b) status = run_batch(net, b, m, err);
    if (!status) status = qn_metrics_result(m, out, err);
    if (!status && confusion) {
        int64_t width = net->shape.n_classes > 2 ? net->shape.n_classes : 2;
        memcpy(confusion, qn_metrics_confusion(m), (size_t)(width * width) * sizeof *confusion);
    }
    qn_loader_free(loader);
    qn_metrics_free(m);
    return status;
}
