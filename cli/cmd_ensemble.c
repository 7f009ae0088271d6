/* cmd_ensemble.c - `quern ensemble MODEL MODEL...`: several trained networks asked together. */
#include "answers.h"
#include "training.h"
#include "../include/quern/metrics.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum method { MEAN, VOTE, WEIGHTED };

struct ensemble {
    qn_model **model; /* [n]                                                       */
    double *weight;   /* [n]                                                       */
    int n;
    enum method method;
    struct test_part test; /* of the first model                                        */
    int64_t samples;
    int64_t width; /* classes, or predicted values                              */
    float *sum;    /* [samples, width]: weighted scores, or votes                */
    float *own;    /* [samples, width] of the model at hand                      */
};

static bool classes(const struct ensemble *e) { return cli_is_classifier(e->model[0]); }

static int64_t sample_at(const struct ensemble *e, int64_t i) { return e->test.over ? e->test.over->at[i] : i; }

/* ---- opening --------------------------------------------------------------------------------------------------- */

/* Scores of one class are added up, so the classes must be the same. */
static qn_status check_classes(const struct ensemble *e, int i, qn_error *err)
{
    char a[24], b[24];
    for (int64_t c = 0; classes(e) && c < cli_n_classes(e->model[0]); c++) {
        const char *own = cli_class_name(e->model[i], c, a), *first = cli_class_name(e->model[0], c, b);
        if (strcmp(own, first) != 0)
            return qn__fail(err, 2001, QN_AT_FILE(qn_model_path(e->model[i])),
                            "class %lld is \"%s\"; expected \"%s\" as in %s", (long long)c, qn__show(own).s,
                            qn__show(first).s, qn__show(qn_model_path(e->model[0])).s);
    }
    return QN_OK;
}

/* Where the test part is a share of the data, another seed or share means another part: what the ensemble is measured
 * on would be what this model has learnt from. Drawn digits are others with another seed. */
static void warn_of_splits(const struct ensemble *e)
{
    const qn_recipe *first = qn_model_recipe(e->model[0]);
    bool share = e->test.parts.test_set == e->test.parts.train_set && first->data.source != QN_SOURCE_DIGITS;
    for (int i = 1; i < e->n && share; i++) {
        const qn_recipe *r = qn_model_recipe(e->model[i]);
        if (r->seed == first->seed && r->data.test_fraction == first->data.test_fraction &&
            r->data.stratified == first->data.stratified)
            continue;
        fprintf(stderr,
                "warn: %s was trained on another split (seed, data.test_fraction) and may know samples of this "
                "test part\n",
                qn__show(qn_model_path(e->model[i])).s);
    }
}

static qn_status open_models(struct ensemble *e, const struct options *o, qn_error *err)
{
    e->model = calloc((size_t)o->args.n, sizeof(qn_model *));
    e->weight = calloc((size_t)o->args.n, sizeof *e->weight);
    if (!e->model || !e->weight) return qn__nomem(err, "models", 0);
    for (int i = 0; i < o->args.n; i++) {
        QN_TRY(qn_model_open(&e->model[i], o->args.v[i], o->device, o->threads > 0 ? (int)o->threads : 0, err));
        e->n++;
        e->weight[i] = 1;
        if (cli_is_classifier(e->model[i]) == classes(e) &&
            qn_model_outputs(e->model[i]) == qn_model_outputs(e->model[0])) {
            QN_TRY(check_classes(e, i, err));
            continue;
        }
        static const char *const kinds[] = { "values", "classes" };
        return qn__fail(err, 2001, QN_AT_FILE(o->args.v[i]), "predicts %s, %lld outputs; expected %s, %lld, as %s",
                        kinds[cli_is_classifier(e->model[i])], (long long)qn_model_outputs(e->model[i]),
                        kinds[classes(e)], (long long)qn_model_outputs(e->model[0]), qn__show(o->args.v[0]).s);
    }
    if (e->method == VOTE && !classes(e))
        return qn__fail(err, 2001, QN_AT_FIELD("--method"), "vote; expected mean for models that predict values");
    e->width = classes(e) ? cli_n_classes(e->model[0]) : qn_model_outputs(e->model[0]);
    return QN_OK;
}

/* The weight of a model must not come from the data that the ensemble is measured on. */
static int weigh(struct ensemble *e)
{
    for (int i = 0; i < e->n; i++) {
        qn_parts p;
        qn_metrics_summary s;
        qn_error err = { 0 };
        qn_status status = qn_parts_open(&p, qn_model_recipe(e->model[i]), &err);
        if (!status && p.valid.n == 0)
            status = qn__fail(&err, 2001, QN_AT_FIELD("--method"), "weighted; %s has no validation part to weigh it by",
                              qn__show(qn_model_path(e->model[i])).s);
        if (!status) status = qn_dataset_set_transform(p.train_set, qn_model_transform(e->model[i]), &err);
        if (!status) status = qn_model_evaluate(e->model[i], p.train_set, &p.valid, &s, NULL, &err);
        if (!status) e->weight[i] = classes(e) ? s.accuracy : 1 / (s.loss + 1e-12);
        qn_parts_free(&p);
        if (status) return cli_fail(&err);
    }
    return 0;
}

static qn_status take_memory(struct ensemble *e, qn_error *err)
{
    size_t cells;
    e->samples = e->test.over ? e->test.over->n : qn_dataset_count(e->test.ds);
    if (!qn__mul(&cells, (size_t)e->samples, (size_t)e->width)) return qn__nomem(err, "answers", SIZE_MAX);
    e->sum = calloc(cells, sizeof *e->sum);
    e->own = calloc(cells, sizeof *e->own);
    return e->sum && e->own ? QN_OK : qn__nomem(err, "answers", cells * sizeof *e->sum);
}

static void close_ensemble(struct ensemble *e)
{
    cli_close_test(&e->test);
    for (int i = 0; i < e->n; i++) qn_model_free(e->model[i]);
    free(e->model);
    free(e->weight);
    free(e->sum);
    free(e->own);
}

/* ---- asking ---------------------------------------------------------------------------------------------------- */

enum { BATCH = 256 };

/* The answers of one model, normalised as it was trained, in e->own. */
static qn_status ask(struct ensemble *e, qn_model *m, qn_error *err)
{
    size_t in = (size_t)qn_transform_size(qn_model_transform(m)), out = (size_t)qn_model_outputs(m), inputs, outputs;
    QN_TRY(qn_dataset_set_transform(e->test.ds, qn_model_transform(m), err));
    if (!qn__mul(&inputs, BATCH, in) || !qn__mul(&outputs, BATCH, out)) return qn__nomem(err, "batch", SIZE_MAX);
    float *x = calloc(inputs, sizeof *x), *y = calloc(outputs, sizeof *y);
    qn_status status = x && y ? QN_OK : qn__nomem(err, "batch", inputs * sizeof *x);
    for (int64_t at = 0, n; at < e->samples && !status; at += n) {
        n = e->samples - at < BATCH ? e->samples - at : BATCH;
        for (int64_t i = 0; i < n && !status; i++)
            status = qn_dataset_read(e->test.ds, sample_at(e, at + i), x + (size_t)i * in, err);
        if (!status) status = qn_model_predict(m, x, n, y, err);
        for (int64_t i = 0; i < n && !status; i++) {
            float *to = e->own + (at + i) * e->width;
            if (classes(e))
                cli_class_scores(m, y + (size_t)i * out, to);
            else
                memcpy(to, y + (size_t)i * out, out * sizeof *to);
        }
    }
    free(x);
    free(y);
    return status;
}

/* Adds a model's answers to those of all. */
static void add(struct ensemble *e, double weight)
{
    for (int64_t i = 0; i < e->samples; i++) {
        const float *from = e->own + i * e->width;
        float *to = e->sum + i * e->width;
        if (e->method == VOTE)
            to[cli_highest(from, e->width)] += 1;
        else
            for (int64_t k = 0; k < e->width; k++) to[k] += (float)weight * from[k];
    }
}

/* Turns the sums into scores that add up to one again: a share of votes, or a mean. */
static void finish(struct ensemble *e)
{
    double total = 0;
    for (int i = 0; i < e->n; i++) total += e->method == VOTE ? 1 : e->weight[i];
    for (int64_t i = 0; i < e->samples * e->width; i++) e->sum[i] = (float)((double)e->sum[i] / total);
}

/* ---- measuring -------------------------------------------------------------------------------------------------- */

/* Labels that the first model's loss ignores are left out, as they are by eval. */
static bool is_ignored(const struct ensemble *e, int32_t label)
{
    const qn_recipe_loss *l = &qn_model_recipe(e->model[0])->loss;
    return l->kind == QN_LOSS_CROSS_ENTROPY && l->ignore_index >= 0 && label == l->ignore_index;
}

/* Mean of -log(probability of the true class); shares of votes may be 0, which is told as infinite. */
static double log_loss(const struct ensemble *e, const float *scores)
{
    double sum = 0;
    int64_t n = 0;
    for (int64_t i = 0; i < e->samples; i++) {
        int32_t label = qn_dataset_label(e->test.ds, sample_at(e, i));
        if (is_ignored(e, label)) continue;
        sum -= log((double)scores[i * e->width + label]);
        n++;
    }
    return sum / (double)n;
}

static qn_status measure_values(struct ensemble *e, qn_metrics *m, const float *scores, qn_error *err)
{
    for (int64_t i = 0; i < e->samples; i++)
        QN_TRY(qn_metrics_add_values(m, scores + i * e->width, qn_dataset_target(e->test.ds, sample_at(e, i)), 1, err));
    return QN_OK;
}

static qn_status measure_classes(struct ensemble *e, qn_metrics *m, const float *scores, qn_error *err)
{
    for (int64_t i = 0; i < e->samples; i++) {
        int32_t label = qn_dataset_label(e->test.ds, sample_at(e, i));
        if (!is_ignored(e, label)) QN_TRY(qn_metrics_add_classes(m, scores + i * e->width, &label, 1, err));
    }
    if (e->method != VOTE || scores != e->sum) qn_metrics_add_loss(m, log_loss(e, scores), (double)e->samples);
    return QN_OK;
}

static qn_status measure(struct ensemble *e, const float *scores, qn_metrics_summary *out, qn_error *err)
{
    qn_metrics *m;
    qn_metrics_options o = { .kind = classes(e) ? QN_METRICS_CLASSES : QN_METRICS_REGRESSION, .width = e->width };
    QN_TRY(qn_metrics_create(&m, &o, NULL, err));
    qn_status status = classes(e) ? measure_classes(e, m, scores, err) : measure_values(e, m, scores, err);
    if (!status) status = qn_metrics_result(m, out, err);
    qn_metrics_free(m);
    return status;
}

static void print_row(int wide, const char *name, const qn_metrics_summary *s, double weight)
{
    printf("%-*s", wide, name);
    if (isfinite(s->accuracy))
        printf(" %9.4f %9.4f", s->accuracy, s->f1_macro);
    else
        printf(" %9.4g %9.4g", s->mse, s->mae);
    if (isfinite(s->loss)) printf(" %9.4f", s->loss);
    if (weight > 0) printf("%s weight %.4f", isfinite(s->loss) ? "" : "          ", weight);
    printf("\n");
}

static void print_table(const struct ensemble *e, const qn_metrics_summary *each, const qn_metrics_summary *all)
{
    static const char *const names[] = { "mean of all", "vote of all", "weighted mean of all" };
    int wide = 32;
    for (int i = 0; i < e->n; i++) {
        int n = (int)strlen(qn__show(qn_model_path(e->model[i])).s);
        wide = n > wide ? n : wide;
    }
    printf("%s, %lld samples\n", e->test.name, (long long)e->samples);
    printf("%-*s %9s %9s%s\n", wide, "model", classes(e) ? "accuracy" : "MSE", classes(e) ? "F1" : "MAE",
           classes(e) ? "      loss" : "");
    for (int i = 0; i < e->n; i++)
        print_row(wide, qn__show(qn_model_path(e->model[i])).s, &each[i], e->method == WEIGHTED ? e->weight[i] : 0);
    print_row(wide, names[e->method], all, 0);
}

static int print_json(const struct ensemble *e, const qn_metrics_summary *each, const qn_metrics_summary *all)
{
    static const char *const names[] = { "mean", "vote", "weighted" };
    json_t *models = json_array();
    for (int i = 0; i < e->n; i++)
        json_array_append_new(models, json_pack("{s:o, s:f, s:o}", "model", cli_text(qn_model_path(e->model[i])),
                                                "weight", e->weight[i], "metrics", cli_summary_json(&each[i])));
    return cli_print_json(json_pack("{s:s, s:s, s:o, s:o}", "method", names[e->method], "data", e->test.name, "models",
                                    models, "ensemble", cli_summary_json(all)),
                          2);
}

/* ---- the command ------------------------------------------------------------------------------------------------- */

static qn_status ask_all(struct ensemble *e, qn_metrics_summary *each, qn_metrics_summary *all, qn_error *err)
{
    QN_TRY(take_memory(e, err));
    if (classes(e) && qn_dataset_label(e->test.ds, sample_at(e, 0)) < 0)
        return qn__fail(err, 3054, QN_AT_FIELD("data"), "no labels; expected one for every sample");
    for (int i = 0; i < e->n; i++) {
        QN_TRY(ask(e, e->model[i], err));
        QN_TRY(measure(e, e->own, &each[i], err));
        add(e, e->weight[i]);
    }
    finish(e);
    return measure(e, e->sum, all, err);
}

static int run(struct ensemble *e, const struct options *o)
{
    qn_error err = { 0 };
    qn_metrics_summary all, *each;
    if (open_models(e, o, &err)) return cli_fail(&err);
    int code = cli_open_test(&e->test, e->model[0], &o->set, o->data);
    if (!code && !o->data) warn_of_splits(e);
    if (!code && e->method == WEIGHTED) code = weigh(e);
    if (code) return code;
    each = calloc((size_t)e->n, sizeof *each);
    qn_status status = each ? ask_all(e, each, &all, &err) : qn__nomem(&err, "metrics", 0);
    if (status)
        code = cli_fail(&err);
    else if (o->json)
        code = print_json(e, each, &all);
    else
        print_table(e, each, &all);
    free(each);
    return code;
}

int cmd_ensemble(int argc, char **argv)
{
    struct options o;
    struct ensemble e = { 0 };
    int code = cli_parse(&cli_ensemble, argc, argv, &o);
    if (code >= 0) return code;
    e.method = !o.method || strcmp(o.method, "mean") == 0 ? MEAN : strcmp(o.method, "vote") == 0 ? VOTE : WEIGHTED;
    code = cli_choose_device(&o, "cpu", true);
    if (!code) code = run(&e, &o);
    close_ensemble(&e);
    cli_free(&o);
    return cli_finish(code);
}
