/* search.c - hyper-parameter search: see search.h. */
#include "../include/quern/search.h"
#include "../core/file.h"
#include "run_dir.h"
#include "search.h"
#include "watch.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_TRIALS = 20, ETA = 3, MOST_TRIALS = 100000 };

static qn_status said(struct qn__report *report, const qn_error *err)
{
    report->errors->list[0] = *err;
    report->errors->count = report->errors->kept = 1;
    return report->status = qn_error_status(err);
}

/* ---- settings and recipes ------------------------------------------------------------------------------- */

static void setting(const struct qn__search *s, int i, int64_t trial, char out[QN_SETTING_MAX])
{
    if (s->opts->method == QN_SEARCH_GRID)
        qn__space_point(&s->space, i, trial, out);
    else
        qn__space_random(&s->space, i, trial, s->opts->seed, out);
}

/* The recipe with the command's changes and then these. */
static qn_status load(qn_recipe **out, const struct qn__search *s, char (*extra)[QN_SETTING_MAX], int n,
                      qn_recipe_errors *errors)
{
    size_t all = (size_t)s->opts->n_sets + (size_t)n;
    const char **sets = qn__calloc(NULL, all, sizeof *sets);
    errors->count = errors->kept = 0;
    if (!sets) return qn__nomem(&errors->list[0], "settings", all);
    for (int i = 0; i < s->opts->n_sets; i++) sets[i] = s->opts->sets[i];
    for (int i = 0; i < n; i++) sets[s->opts->n_sets + i] = extra[i];
    qn_status status = qn_recipe_load(out, s->opts->recipe, sets, (int)all, errors);
    qn__free(NULL, sets, all * sizeof *sets);
    return status;
}

/* What is wrong, without "--set KEY=VALUE: KEY: ", which the place in the space says already. */
static const char *sentence(const qn_error *e, const char *set, const char *key)
{
    const char *at = strstr(e->text, set);
    size_t n = strlen(key);
    if (!at || strncmp(at + strlen(set), ": ", 2) != 0) return e->text;
    at += strlen(set) + 2;
    return strncmp(at, key, n) == 0 && at[n] == ':' && at[n + 1] == ' ' ? at + n + 2 : at;
}

/* A range between integers whose key takes nothing else: both ends have made a recipe, what is between does not. */
static bool takes_integers(struct qn__search *s, const struct qn__parameter *p)
{
    char set[1][QN_SETTING_MAX], number[32];
    qn_recipe_errors why;
    qn_recipe *r;
    if (p->kind == QN_RANGE_LIST || p->low != nearbyint(p->low) || p->high != nearbyint(p->high)) return false;
    snprintf(set[0], sizeof set[0], "%s=%s", p->key, qn__format_f64(number, p->low + 0.5));
    qn_status status = load(&r, s, set, 1, &why);
    if (!status) qn_recipe_free(r);
    return status && why.list[0].code == 2107;
}

/* Every listed value, and both ends of every range, must make a recipe: told at its place in the space before
 * anything is trained. */
static void check_settings(struct qn__search *s, struct qn__report *report)
{
    char one[1][QN_SETTING_MAX];
    for (int i = 0; i < s->space.n; i++)
        for (int64_t k = 0; qn__space_sample(&s->space, i, k, one[0]); k++) {
            const struct qn__parameter *p = &s->space.parameter[i];
            const struct qn__json *at = p->kind == QN_RANGE_LIST ? qn__json_at(p->node, k) : p->node;
            qn_recipe_errors why;
            qn_recipe *r;
            qn_status status = load(&r, s, one, 1, &why);
            if (!status)
                qn_recipe_free(r);
            else
                qn__problem(report, why.list[0].code, at, false, p->key, "%.300s",
                            sentence(&why.list[0], one[0], p->key));
        }
    for (int i = 0; i < s->space.n && !report->status; i++)
        s->space.parameter[i].whole = takes_integers(s, &s->space.parameter[i]);
}

/* Halving gives out epochs itself. */
static void check_resource(const struct qn__search *s, struct qn__report *report)
{
    for (int i = 0; i < s->space.n; i++)
        if (strcmp(s->space.parameter[i].key, "epochs") == 0)
            qn__problem(report, 2117, s->space.parameter[i].node, true, "epochs",
                        "what successive halving gives to the better trials; expected other keys");
}

/* ---- what has ended --------------------------------------------------------------------------------------- */

static struct qn__trial *find_row(const struct qn__search *s, int64_t trial, int64_t epochs)
{
    for (size_t i = 0; i < s->n_rows; i++)
        if (s->row[i].trial == trial && s->row[i].epochs == epochs) return &s->row[i];
    return NULL;
}

static void put_field(struct qn__text *t, const char *text)
{
    qn__text_add(t, ",\"");
    for (; *text; text++) qn__text_add(t, *text == '"' ? "\"\"" : "%c", *text);
    qn__text_add(t, "\"");
}

static qn_status write_table(const struct qn__search *s, qn_error *err)
{
    struct qn__text t = { 0 };
    char path[QN_PATH_MAX], a[32], b[32], text[QN_SETTING_MAX];
    qn__text_add(&t, "trial,epochs,value,seconds");
    for (int i = 0; i < s->space.n; i++) put_field(&t, s->space.parameter[i].key);
    for (size_t k = 0; k < s->n_rows; k++) {
        const struct qn__trial *r = &s->row[k];
        qn__text_add(&t, "\n%lld,%lld,%s,%s", (long long)r->trial, (long long)r->epochs,
                     isfinite(r->value) ? qn__format_f64(a, r->value) : "nan", qn__format_f64(b, r->seconds));
        for (int i = 0; i < s->space.n; i++) {
            if (r->trial > 0) setting(s, i, r->trial, text);
            put_field(&t, r->trial > 0 ? text + strlen(s->space.parameter[i].key) + 1 : "");
        }
    }
    qn__text_add(&t, "\n");
    qn_status status = t.failed ? qn__nomem(err, "trials.csv", t.n) : qn__path_join(path, s->dir, "trials.csv", err);
    if (!status) status = qn__file_replace(path, t.s, t.n, err);
    qn__free(NULL, t.s, t.cap);
    return status;
}

static qn_status add_row(struct qn__search *s, const struct qn__trial *row, qn_error *err)
{
    if (!qn__grow(NULL, &s->row, &s->cap_rows, s->n_rows + 1, sizeof *s->row))
        return qn__nomem(err, "trials", s->n_rows);
    s->row[s->n_rows++] = *row;
    return QN_OK;
}

/* The first four fields of a line; what follows is known from the seed. */
static bool read_row(char *line, struct qn__trial *row)
{
    char *field[4] = { line };
    for (int i = 1; i < 4; i++) {
        if (!(field[i] = strchr(field[i - 1], ','))) return false;
        *field[i]++ = 0;
    }
    field[3][strcspn(field[3], ",")] = 0;
    return qn__parse_i64(field[0], &row->trial) && qn__parse_i64(field[1], &row->epochs) &&
           qn__parse_f64(field[2], true, &row->value) && qn__parse_f64(field[3], false, &row->seconds) &&
           row->trial >= 0 && row->epochs >= 1;
}

static qn_status read_table(struct qn__search *s, qn_error *err)
{
    char path[QN_PATH_MAX], *text;
    size_t n;
    qn_status status = QN_OK;
    QN_TRY(qn__path_join(path, s->dir, "trials.csv", err));
    if (qn__file_read_all(NULL, path, (size_t)1 << 28, &text, &n, NULL)) return QN_OK; /* none has ended yet */
    int64_t number = 1;
    for (char *line = strchr(text, '\n'); line && line[1] && !status; number++) {
        struct qn__trial row;
        char *next = strchr(line + 1, '\n');
        if (next) *next = 0;
        status = read_row(line + 1, &row) ? add_row(s, &row, err)
                                          : qn__fail(err, 2001, QN_AT_LINE(path, number + 1, 1, "trials"),
                                                     "not a trial; expected the table of a search");
        line = next;
    }
    qn__free(NULL, text, n + 1);
    return status;
}

/* ---- one trial --------------------------------------------------------------------------------------------- */

static void report_line(const struct qn__search *s, const struct qn__trial *row)
{
    char line[1200], text[QN_SETTING_MAX];
    int at = snprintf(line, sizeof line, "trial %lld, %lld epochs: %s %.4f", (long long)row->trial,
                      (long long)row->epochs, s->metric, row->value);
    if (row->trial == 0) at += snprintf(line + at, sizeof line - (size_t)at, " (the recipe as it is)");
    for (int i = 0; i < s->space.n && row->trial > 0 && at > 0 && at < (int)sizeof line; i++) {
        setting(s, i, row->trial, text);
        at += snprintf(line + at, sizeof line - (size_t)at, " %s", text);
    }
    if (s->opts->report) s->opts->report(s->opts->user, line);
}

static qn_status train(struct qn__search *s, const qn_recipe *r, struct qn__trial *row, qn_error *err)
{
    char runs[QN_PATH_MAX];
    qn_trainer *t;
    qn_train_result result;
    QN_TRY(qn__path_join(runs, s->dir, "trials", err));
    qn_trainer_opts o = {
        .out = runs, .fd = -1, .device = s->opts->device, .threads = s->opts->threads, .stop = s->opts->stop
    };
    QN_TRY(qn_trainer_open(&t, r, &o, err));
    qn_status status = qn_trainer_run(t, &result, err);
    qn_trainer_free(t);
    if (status == QN_ENUMERIC) return QN_OK; /* the value stays NaN */
    if (status) return status;
    row->value = result.best_value;
    row->seconds = result.seconds;
    if (!r->early_stopping.on && isnan(result.valid.accuracy)) snprintf(s->metric, sizeof s->metric, "loss");
    return QN_OK;
}

/* Apart, so that its tens of kilobytes are not on the stack while the trial trains: a stack may be small. */
__attribute__((noinline)) static qn_status load_trial(qn_recipe **r, struct qn__search *s, int64_t trial,
                                                      int64_t epochs, struct qn__report *report)
{
    char sets[65][QN_SETTING_MAX];
    qn_recipe_errors why;
    int n = 0;
    for (int i = 0; i < s->space.n && trial > 0; i++) setting(s, i, trial, sets[n++]);
    if (epochs != s->epochs) snprintf(sets[n++], QN_SETTING_MAX, "epochs=%lld", (long long)epochs);
    return load(r, s, sets, n, &why) ? said(report, &why.list[0]) : QN_OK;
}

static qn_status run_trial(struct qn__search *s, int64_t trial, int64_t epochs, struct qn__report *report)
{
    struct qn__trial row = { trial, epochs, (double)NAN, 0 };
    qn_recipe *r;
    qn_error err;
    if (find_row(s, trial, epochs)) return QN_OK;
    QN_TRY(load_trial(&r, s, trial, epochs, report));
    qn_status status = train(s, r, &row, &err);
    qn_recipe_free(r);
    if (status == QN_STOPPED) return status;
    if (!status) status = add_row(s, &row, &err);
    if (!status) status = write_table(s, &err);
    if (status) return said(report, &err);
    report_line(s, &row);
    return QN_OK;
}

/* ---- methods -------------------------------------------------------------------------------------------------- */

static bool better(const struct qn__search *s, int64_t a, int64_t b, int64_t epochs)
{
    const struct qn__trial *x = find_row(s, a, epochs), *y = find_row(s, b, epochs);
    if (!x || !y) return x != NULL;
    return qn__is_gain(s->metric, x->value, y->value, 0);
}

/* The best `keep` of alive[n] to its front, equals in their order. */
static void rank(const struct qn__search *s, int64_t *alive, int64_t n, int64_t keep, int64_t epochs)
{
    for (int64_t i = 0; i < keep; i++) {
        int64_t best = i;
        for (int64_t k = i + 1; k < n; k++)
            if (better(s, alive[k], alive[best], epochs)) best = k;
        int64_t chosen = alive[best];
        memmove(&alive[i + 1], &alive[i], (size_t)(best - i) * sizeof *alive);
        alive[i] = chosen;
    }
}

/* Rung i of `last` trains floor(n / eta^i) trials for floor(R / eta^(last - i)) epochs each, R the recipe's: so
 * the rungs cost about the same, and the last one is the whole recipe. */
static int64_t rung_epochs(const struct qn__search *s, int left)
{
    int64_t epochs = s->epochs;
    for (; left > 0; left--) epochs /= ETA;
    return epochs;
}

static qn_status halve(struct qn__search *s, struct qn__report *report)
{
    int64_t n = s->trials, *alive = qn__calloc(NULL, (size_t)n, sizeof *alive);
    qn_error err;
    int last = 0;
    if (!alive) {
        qn__nomem(&err, "trials", (size_t)n);
        return said(report, &err);
    }
    for (int64_t i = 0; i < n; i++) alive[i] = i + 1;
    for (int64_t left = n / ETA; left > 0 && rung_epochs(s, last + 1) > 0; left /= ETA) last++;
    qn_status status = QN_OK;
    for (int rung = 0; rung <= last && !status; rung++, n /= ETA) {
        int64_t epochs = rung_epochs(s, last - rung);
        for (int64_t i = 0; i < n && !status; i++) status = run_trial(s, alive[i], epochs, report);
        if (!status) rank(s, alive, n, n / ETA, epochs);
    }
    qn__free(NULL, alive, (size_t)s->trials * sizeof *alive);
    return status;
}

static qn_status run_all(struct qn__search *s, struct qn__report *report)
{
    QN_TRY(run_trial(s, 0, s->epochs, report));
    if (s->opts->method == QN_SEARCH_HALVING) return halve(s, report);
    for (int64_t k = 1; k <= s->trials; k++) QN_TRY(run_trial(s, k, s->epochs, report));
    return QN_OK;
}

/* ---- opening ---------------------------------------------------------------------------------------------------- */

/* What makes two searches the same: method, seed, space and resolved recipe. */
static qn_status describe(const struct qn__search *s, const qn_recipe *r, char **out, qn_error *err)
{
    static const char *const methods[] = { "grid", "random", "halving" };
    struct qn__text t = { 0 };
    char *recipe;
    size_t n;
    QN_TRY(qn_recipe_write(r, &recipe, &n, err));
    qn__text_add(&t, "{\"recipe\":");
    qn__text_json(&t, r->name);
    qn__text_add(&t, ",\"recipe_hash\":\"%016llx\",\"space_hash\":\"%016llx\"", (unsigned long long)qn__hash(recipe, n),
                 (unsigned long long)qn__hash(s->space.text, s->space.bytes));
    qn__text_add(&t, ",\"method\":\"%s\",\"seed\":%llu,\"trials\":%lld}\n", methods[s->opts->method],
                 (unsigned long long)s->opts->seed, (long long)s->trials);
    free(recipe);
    *out = t.failed ? NULL : strdup(t.s);
    qn__free(NULL, t.s, t.cap);
    return *out ? QN_OK : qn__nomem(err, "search", n);
}

static qn_status resume(struct qn__search *s, const char *description, qn_error *err)
{
    char path[QN_PATH_MAX], *text;
    size_t n;
    snprintf(s->dir, sizeof s->dir, "%s", s->opts->resume);
    QN_TRY(qn__path_join(path, s->dir, "search.json", err));
    QN_TRY(qn__file_read_all(NULL, path, 1 << 20, &text, &n, err));
    bool same = strcmp(text, description) == 0;
    qn__free(NULL, text, n + 1);
    if (!same)
        return qn__fail(err, 2001, QN_AT_FILE(path),
                        "another search; expected the recipe, space, method, seed and number of trials it began with");
    return read_table(s, err);
}

static qn_status open_dir(struct qn__search *s, const qn_recipe *r, qn_error *err)
{
    char name[300], path[QN_PATH_MAX], *description;
    QN_TRY(describe(s, r, &description, err));
    qn_status status;
    if (s->opts->resume) {
        status = resume(s, description, err);
    } else {
        snprintf(name, sizeof name, "%.200s-search", r->name);
        status = qn__run_dir_make(s->dir, s->opts->out ? s->opts->out : "runs", name, err);
        if (!status) status = qn__path_join(path, s->dir, "search.json", err);
        if (!status) status = qn__file_replace(path, description, strlen(description), err);
    }
    free(description);
    return status ? status : qn_run_lock_take(&s->lock, s->dir, err);
}

static qn_status open_search(struct qn__search *s, struct qn__report *report)
{
    qn_recipe *r;
    qn_error err;
    qn_status status = load(&r, s, NULL, 0, report->errors);
    if (status) return report->status = status;
    qn__space_read(&s->space, s->opts->space, report);
    if (!report->status) check_settings(s, report);
    if (!report->status && s->opts->method == QN_SEARCH_HALVING) check_resource(s, report);
    int64_t points = 0;
    if (!report->status && s->opts->method == QN_SEARCH_GRID) points = qn__space_grid(&s->space, report);
    s->epochs = r->epochs;
    s->trials = s->opts->trials > 0 ? s->opts->trials : points > 0 ? points : DEFAULT_TRIALS;
    if (points > 0 && s->trials > points) s->trials = points;
    if (s->trials > MOST_TRIALS) s->trials = MOST_TRIALS;
    snprintf(s->metric, sizeof s->metric, "%s", r->early_stopping.on ? r->early_stopping.metric : "accuracy");
    if (r->loss.kind != QN_LOSS_CROSS_ENTROPY && r->data.regression && !r->early_stopping.on)
        snprintf(s->metric, sizeof s->metric, "loss");
    if (!report->status && !(r->data.validation > 0) && r->data.folds == 0) {
        qn__fail(&err, 2117, QN_AT_FILE(s->opts->recipe),
                 "no validation part to compare on; expected data.validation or data.folds");
        said(report, &err);
    }
    if (!report->status && open_dir(s, r, &err)) said(report, &err);
    qn_recipe_free(r);
    return report->status;
}

/* ---- the result ----------------------------------------------------------------------------------------------- */

/* A trial has a row for each rung that it has reached. */
static bool is_first_row(const struct qn__search *s, size_t k)
{
    for (size_t i = 0; i < k; i++)
        if (s->row[i].trial == s->row[k].trial) return false;
    return true;
}

static void conclude(const struct qn__search *s, qn_search_result *out)
{
    size_t at = 0;
    char text[QN_SETTING_MAX];
    const struct qn__trial *recipe = find_row(s, 0, s->epochs);
    for (size_t k = 0; k < s->n_rows; k++) out->trials += is_first_row(s, k);
    out->value = recipe ? recipe->value : (double)NAN;
    out->best_value = out->value;
    snprintf(out->metric, sizeof out->metric, "%s", s->metric);
    snprintf(out->dir, sizeof out->dir, "%s", s->dir);
    for (size_t k = 0; k < s->n_rows; k++) {
        if (s->row[k].epochs != s->epochs || !qn__is_gain(s->metric, s->row[k].value, out->best_value, 0)) continue;
        out->best_value = s->row[k].value;
        out->best = s->row[k].trial;
    }
    for (int i = 0; i < s->space.n && out->best > 0 && at < sizeof out->settings; i++) {
        setting(s, i, out->best, text);
        at += (size_t)snprintf(out->settings + at, sizeof out->settings - at, "%s--set=%s", i ? " " : "", text);
    }
}

qn_status qn_search_run(const qn_search_opts *opts, qn_search_result *out, qn_recipe_errors *errors)
{
    struct qn__search s = { .opts = opts };
    struct qn__report report = { .file = opts->space, .errors = errors };
    qn_error err;
    memset(out, 0, sizeof *out);
    errors->count = errors->kept = 0;
    qn_status status = open_search(&s, &report);
    if (!status) status = run_all(&s, &report);
    if (!status || status == QN_STOPPED) conclude(&s, out);
    if (!status && qn__search_draw(&s, out->best, &err)) status = said(&report, &err);
    qn_run_lock_release(s.lock);
    qn__free(NULL, s.row, s.cap_rows * sizeof *s.row);
    qn__space_free(&s.space);
    return status;
}
