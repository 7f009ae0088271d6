/* cmd_eval.c - `quern eval MODEL`: how good a trained network is on data it was not trained on. */
#include "answers.h"
#include "training.h"
#include "../include/quern/plot.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CHART_CLASSES = 200 }; /* as many as qn_plot_confusion draws */

struct class_figures {
    int64_t support;
    double precision, recall, f1;
};

/* From the confusion matrix, row true class; 0/0 is 0 as in metrics.h. */
static struct class_figures figures_of(const int64_t *confusion, int64_t n, int64_t c)
{
    struct class_figures f = { 0 };
    int64_t predicted = 0, hits = confusion[c * n + c];
    for (int64_t k = 0; k < n; k++) {
        f.support += confusion[c * n + k];
        predicted += confusion[k * n + c];
    }
    if (predicted) f.precision = (double)hits / (double)predicted;
    if (f.support) f.recall = (double)hits / (double)f.support;
    if (f.support + predicted) f.f1 = 2 * (double)hits / (double)(f.support + predicted);
    return f;
}

/* ---- what is printed ------------------------------------------------------------------------------------------- */

static void line(const char *name, double value)
{
    if (isfinite(value)) printf("%-18s %.4f\n", name, value);
}

static void print_table(const qn_model *m, const struct test_part *t, const qn_metrics_summary *s,
                        const int64_t *confusion)
{
    int64_t n = cli_n_classes(m);
    printf("%-18s %s\n%-18s %s, %lld samples\n", "model", qn_model_path(m), "data", t->name, (long long)s->count);
    if (s->ignored) printf("%-18s %lld\n", "ignored", (long long)s->ignored);
    if (s->nonfinite) printf("%-18s %lld\n", "not finite", (long long)s->nonfinite);
    line("loss", s->loss);
    line("accuracy", s->accuracy);
    if (n > 2) line("top-k accuracy", s->top_k);
    line("precision (macro)", s->precision_macro);
    line("recall (macro)", s->recall_macro);
    line("F1 (macro)", s->f1_macro);
    line("F1 (micro)", s->f1_micro);
    line("ROC-AUC", s->auc);
    line("mean square error", s->mse);
    line("mean abs. error", s->mae);
    if (!confusion) return;
    printf("\n%-24s %9s %9s %9s %9s\n", "class", "samples", "precision", "recall", "F1");
    for (int64_t c = 0; c < n; c++) {
        struct class_figures f = figures_of(confusion, n, c);
        char buf[24];
        printf("%-24.24s %9lld %9.4f %9.4f %9.4f\n", qn__show(cli_class_name(m, c, buf)).s, (long long)f.support,
               f.precision, f.recall, f.f1);
    }
}

static int print_json(const qn_model *m, const struct test_part *t, const qn_metrics_summary *s,
                      const int64_t *confusion)
{
    int64_t n = cli_n_classes(m);
    json_t *o = json_pack("{s:o, s:s, s:o}", "model", cli_text(qn_model_path(m)), "data", t->name, "metrics",
                          cli_summary_json(s));
    json_t *classes = json_array(), *matrix = json_array();
    for (int64_t c = 0; confusion && c < n; c++) {
        struct class_figures f = figures_of(confusion, n, c);
        char buf[24];
        json_t *row = json_array();
        json_array_append_new(classes, json_pack("{s:o, s:I, s:f, s:f, s:f}", "class",
                                                 cli_text(cli_class_name(m, c, buf)), "samples", (json_int_t)f.support,
                                                 "precision", f.precision, "recall", f.recall, "f1", f.f1));
        for (int64_t k = 0; k < n; k++) json_array_append_new(row, json_integer(confusion[c * n + k]));
        json_array_append_new(matrix, row);
    }
    if (confusion) {
        json_object_set(o, "classes", classes);
        json_object_set(o, "confusion", matrix);
    }
    json_decref(classes);
    json_decref(matrix);
    return cli_print_json(o, 2);
}

static qn_status draw(const qn_model *m, const int64_t *confusion, const char *path, qn_error *err)
{
    const qn_transform *t = qn_model_transform(m);
    int64_t n = cli_n_classes(m);
    if (!confusion)
        return qn__fail(err, 2001, QN_AT_FIELD("--out"), "the model predicts values; expected one of classes");
    if (n > CHART_CLASSES)
        return qn__fail(err, 2001, QN_AT_FIELD("--out"), "%lld classes; expected at most %d", (long long)n,
                        CHART_CLASSES);
    qn_confusion_chart chart = { .title = "Confusion matrix",
                                 .counts = confusion,
                                 .classes = (int)n,
                                 .names = t->n_classes == n ? (const char *const *)t->class_name : NULL };
    return qn_plot_confusion(path, &chart, err);
}

/* ---- the command ----------------------------------------------------------------------------- */

static int evaluate(qn_model *m, const struct options *o)
{
    qn_error err = { 0 };
    qn_metrics_summary s;
    struct test_part t;
    int64_t *confusion = NULL, n = cli_n_classes(m);
    int code = cli_open_test(&t, m, &o->set, o->data);
    if (code) return code;
    size_t cells;
    bool ok = !cli_is_classifier(m) ||
              (qn__mul(&cells, (size_t)n, (size_t)n) && (confusion = calloc(cells, sizeof *confusion)) != NULL);
    qn_status status = ok ? qn_model_evaluate(m, t.ds, t.over, &s, confusion, &err) : qn__nomem(&err, "confusion", 0);
    if (!status && o->out) status = draw(m, confusion, o->out, &err);
    if (status)
        code = cli_fail(&err);
    else if (o->json)
        code = print_json(m, &t, &s, confusion);
    else
        print_table(m, &t, &s, confusion);
    free(confusion);
    cli_close_test(&t);
    return code;
}

int cmd_eval(int argc, char **argv)
{
    struct options o;
    qn_model *m = NULL;
    qn_error err = { 0 };
    int code = cli_parse(&cli_eval, argc, argv, &o);
    if (code >= 0) return code;
    code = cli_choose_device(&o, "cpu", true);
    if (!code && qn_model_open(&m, o.args.v[0], o.device, o.threads > 0 ? (int)o.threads : 0, &err))
        code = cli_fail(&err);
    if (!code) code = evaluate(m, &o);
    qn_model_free(m);
    cli_free(&o);
    return cli_finish(code);
}
