/* cmd_predict.c - `quern predict MODEL INPUT...`: what a trained network says about files. */
#include "answers.h"
#include "training.h"
#include "../core/file.h"
#include <stdlib.h>
#include <string.h>

struct job {
    qn_model *model;
    int64_t top, batch;
    FILE *out;
};

/* The k highest classes, best first; of equal ones the lower number. */
static json_t *top_classes(const struct job *j, const float *scores, int64_t n)
{
    json_t *list = json_array();
    int64_t k = j->top < n ? j->top : n, last = -1;
    for (int64_t i = 0; i < k; i++) {
        int64_t best = -1;
        char buf[24];
        for (int64_t c = 0; c < n; c++) {
            bool later = last < 0 || scores[c] < scores[last] || (scores[c] == scores[last] && c > last);
            if (later && (best < 0 || scores[c] > scores[best])) best = c;
        }
        if (best < 0) break; /* a score that is no number */
        json_array_append_new(list, json_pack("{s:o, s:o}", "class", cli_text(cli_class_name(j->model, best, buf)),
                                              "probability", cli_real((double)scores[best])));
        last = best;
    }
    return list;
}

static json_t *answer(const struct job *j, const char *input, int64_t index, const float *row, float *scores)
{
    char buf[24];
    json_t *o = json_pack("{s:o, s:I}", "input", cli_text(input), "index", (json_int_t)index);
    if (!cli_is_classifier(j->model)) {
        json_t *values = json_array();
        for (int64_t k = 0; k < qn_model_outputs(j->model); k++)
            json_array_append_new(values, cli_real((double)row[k]));
        json_object_set_new(o, "values", values);
        return o;
    }
    int64_t n = cli_n_classes(j->model);
    cli_class_scores(j->model, row, scores);
    int64_t best = cli_highest(scores, n);
    json_object_set_new(o, "class", cli_text(cli_class_name(j->model, best, buf)));
    json_object_set_new(o, "probability", cli_real((double)scores[best]));
    json_object_set_new(o, "top", top_classes(j, scores, n));
    return o;
}

static qn_status print_answers(const struct job *j, const char *input, const float *y, int64_t n, qn_error *err)
{
    float *scores = calloc((size_t)cli_n_classes(j->model), sizeof *scores);
    if (!scores) return qn__nomem(err, "scores", 0);
    qn_status status = QN_OK;
    for (int64_t i = 0; i < n && !status; i++) {
        json_t *o = answer(j, input, i, y + i * qn_model_outputs(j->model), scores);
        char *text = o ? json_dumps(o, JSON_COMPACT | JSON_REAL_PRECISION(6)) : NULL;
        json_decref(o);
        if (text)
            fprintf(j->out, "%s\n", text);
        else
            status = qn__nomem(err, "JSON", 0);
        free(text);
    }
    free(scores);
    return status;
}

/* Everything of an input is read and computed before its first line is printed. */
static qn_status predict(const struct job *j, const char *input, qn_error *err)
{
    struct samples s;
    size_t bytes, width = (size_t)qn_model_outputs(j->model);
    QN_TRY(cli_read_samples(&s, input, qn_model_transform(j->model), err));
    float *y = qn__mul(&bytes, (size_t)s.n, width) ? calloc(bytes + 1, sizeof *y) : NULL;
    qn_status status = y ? QN_OK : qn__nomem(err, "answers", (size_t)s.n);
    for (int64_t at = 0, n; at < s.n && !status; at += n) {
        n = s.n - at < j->batch ? s.n - at : j->batch;
        status = qn_model_predict(j->model, s.x + at * s.size, n, y + (size_t)at * width, err);
    }
    if (!status) status = print_answers(j, input, y, s.n, err);
    free(y);
    cli_free_samples(&s);
    return status;
}

static int predict_all(struct job *j, const struct options *o)
{
    qn_error err = { 0 };
    char *text = NULL;
    size_t size = 0;
    qn_status status = QN_OK;
    j->out = o->out ? open_memstream(&text, &size) : stdout;
    if (!j->out) status = qn__nomem(&err, o->out, 0);
    for (int i = 1; i < o->args.n && !status; i++) status = predict(j, o->args.v[i], &err);
    if (o->out && j->out && fclose(j->out) && !status) status = qn__nomem(&err, o->out, size);
    if (o->out && !status) status = qn__file_replace(o->out, text, size, &err);
    free(text);
    return status ? cli_fail(&err) : 0;
}

int cmd_predict(int argc, char **argv)
{
    struct options o;
    struct job j = { 0 };
    qn_error err = { 0 };
    int code = cli_parse(&cli_predict, argc, argv, &o);
    if (code >= 0) return code;
    j.top = o.top > 0 ? o.top : 3;
    j.batch = o.batch > 0 ? o.batch : 256;
    code = cli_choose_device(&o, "cpu", true);
    if (!code && qn_model_open(&j.model, o.args.v[0], o.device, o.threads > 0 ? (int)o.threads : 0, &err))
        code = cli_fail(&err);
    if (!code) code = predict_all(&j, &o);
    qn_model_free(j.model);
    cli_free(&o);
    return cli_finish(code);
}
