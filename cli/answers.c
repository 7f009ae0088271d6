/* answers.c - what a trained network says, and what it is measured on: see answers.h. */
#include "answers.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- outputs --------------------------------------------------------------------------------------------------- */

bool cli_is_classifier(const qn_model *m) { return qn_model_transform(m)->n_classes > 0; }

int64_t cli_n_classes(const qn_model *m)
{
    int64_t n = qn_model_outputs(m);
    return n > 1 ? n : 2;
}

void cli_class_scores(const qn_model *m, const float *row, float *scores)
{
    int64_t n = qn_model_outputs(m);
    if (n > 1) {
        memcpy(scores, row, (size_t)n * sizeof *scores);
    } else {
        scores[0] = 1 - row[0];
        scores[1] = row[0];
    }
}

int64_t cli_highest(const float *scores, int64_t n)
{
    int64_t best = 0;
    for (int64_t c = 1; c < n; c++)
        if (scores[c] > scores[best]) best = c;
    return best;
}

const char *cli_class_name(const qn_model *m, int64_t c, char buf[24])
{
    const qn_transform *t = qn_model_transform(m);
    if (t->class_name && c < t->n_classes && t->class_name[c]) return t->class_name[c];
    snprintf(buf, 24, "%lld", (long long)c);
    return buf;
}

/* ---- test data ------------------------------------------------------------------------------------------------- */

/* The recipe of the checkpoint with --set applied. */
static int changed_recipe(qn_recipe **out, const qn_model *m, const struct list *sets)
{
    char *text;
    qn_error err;
    qn_recipe_errors errs;
    *out = NULL;
    if (qn_recipe_write(qn_model_recipe(m), &text, NULL, &err)) return cli_fail(&err);
    qn_status status = qn_recipe_parse(out, "recipe.json", text, strlen(text), sets->v, sets->n, &errs);
    free(text);
    return status ? cli_fail_recipe(&errs, "recipe.json", status) : 0;
}

static qn_status own_data(struct test_part *t, const qn_recipe *r, const qn_model *m, qn_error *err)
{
    QN_TRY(qn_parts_open(&t->parts, r, err));
    bool test = t->parts.test_set != NULL && t->parts.test.n > 0;
    t->ds = test ? t->parts.test_set : t->parts.train_set;
    t->over = test ? &t->parts.test : &t->parts.valid;
    t->name = test ? "test" : "validation";
    if (t->over->n == 0)
        return qn__fail(err, 3054, QN_AT_FIELD("data"),
                        "neither a test nor a validation part; expected one of them, or other data by --data");
    return qn_dataset_set_transform(t->ds, qn_model_transform(m), err);
}

int cli_open_test(struct test_part *out, const qn_model *m, const struct list *sets, const char *data)
{
    qn_error err = { 0 };
    qn_recipe *r;
    memset(out, 0, sizeof *out);
    int code = changed_recipe(&r, m, sets);
    if (code) return code;
    qn_status status;
    if (data) {
        status = qn_parts_open_other(&out->other, r, qn_model_transform(m), data, &err);
        out->ds = out->other;
        out->name = "data";
    } else {
        status = own_data(out, r, m, &err);
    }
    qn_recipe_free(r);
    if (!status) return 0;
    cli_close_test(out);
    return cli_fail(&err);
}

void cli_close_test(struct test_part *t)
{
    qn_dataset_free(t->other);
    qn_parts_free(&t->parts);
    memset(t, 0, sizeof *t);
}

/* ---- JSON ------------------------------------------------------------------------------------------------------ */

json_t *cli_text(const char *s)
{
    json_t *text = json_string(s);
    if (text) return text;
    return json_string(qn__show(s).s);
}

json_t *cli_real(double x) { return isfinite(x) ? json_real(x) : json_null(); }

int cli_print_json(json_t *o, int indent)
{
    char *text = o ? json_dumps(o, (indent ? (size_t)JSON_INDENT(2) : (size_t)JSON_COMPACT) | JSON_REAL_PRECISION(9))
                   : NULL;
    qn_error err;
    json_decref(o);
    if (!text) {
        qn__nomem(&err, "JSON", 0);
        return cli_fail(&err);
    }
    puts(text);
    free(text);
    return 0;
}

json_t *cli_summary_json(const qn_metrics_summary *m)
{
    const struct {
        const char *name;
        double value;
    } rows[] = {
        { "loss", m->loss },
        { "accuracy", m->accuracy },
        { "top_k", m->top_k },
        { "precision_macro", m->precision_macro },
        { "recall_macro", m->recall_macro },
        { "f1_macro", m->f1_macro },
        { "precision_micro", m->precision_micro },
        { "recall_micro", m->recall_micro },
        { "f1_micro", m->f1_micro },
        { "auc", m->auc },
        { "mse", m->mse },
        { "mae", m->mae },
    };
    json_t *o = json_pack("{s:I}", "count", (json_int_t)m->count);
    for (size_t i = 0; o && i < sizeof rows / sizeof rows[0]; i++)
        if (isfinite(rows[i].value)) json_object_set_new(o, rows[i].name, json_real(rows[i].value));
    return o;
}
