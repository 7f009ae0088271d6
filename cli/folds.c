/* folds.c - k-fold cross-validation: one run for each part that is held out. See training.h. */
#include "answers.h"
#include "training.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct fold {
    char dir[4096];
    double accuracy, loss; /* on the held-out part */
    int64_t count;
};

struct spread {
    double mean, deviation;
};

/* Deviation of the sample: n - 1 below the line. */
static struct spread spread_of(const struct fold *f, int n, bool accuracy)
{
    struct spread s = { 0 };
    for (int i = 0; i < n; i++) s.mean += (accuracy ? f[i].accuracy : f[i].loss) / n;
    for (int i = 0; i < n; i++) {
        double d = (accuracy ? f[i].accuracy : f[i].loss) - s.mean;
        s.deviation += d * d / (n - 1);
    }
    s.deviation = sqrt(s.deviation);
    return s;
}

static void print_text(const struct fold *f, int n)
{
    bool accuracy = isfinite(f[0].accuracy);
    printf("%-5s %-32s %8s %10s %10s\n", "fold", "run", "held out", "loss", accuracy ? "accuracy" : "");
    for (int i = 0; i < n; i++) {
        printf("%-5d %-32s %8lld %10.4g", i, f[i].dir, (long long)f[i].count, f[i].loss);
        if (accuracy) printf(" %10.4f", f[i].accuracy);
        printf("\n");
    }
    struct spread loss = spread_of(f, n, false), right = spread_of(f, n, true);
    if (accuracy) printf("accuracy: %.4f +- %.4f\n", right.mean, right.deviation);
    printf("loss: %.4g +- %.2g\n", loss.mean, loss.deviation);
}

static int print_json(const struct fold *f, int n)
{
    struct spread loss = spread_of(f, n, false), right = spread_of(f, n, true);
    json_t *folds = json_array();
    for (int i = 0; i < n; i++)
        json_array_append_new(folds, json_pack("{s:o, s:I, s:o, s:o}", "run", cli_text(f[i].dir), "held_out",
                                               (json_int_t)f[i].count, "loss", cli_real(f[i].loss), "accuracy",
                                               cli_real(f[i].accuracy)));
    return cli_print_json(json_pack("{s:o, s:o, s:o, s:o, s:o}", "folds", folds, "accuracy_mean", cli_real(right.mean),
                                    "accuracy_deviation", cli_real(right.deviation), "loss_mean", cli_real(loss.mean),
                                    "loss_deviation", cli_real(loss.deviation)),
                          0);
}

/* The newest run of a fold that can go on, or has ended: then only its result is taken again. */
static bool find_fold(char *out, size_t size, const qn_recipe *r, const struct options *o)
{
    char *text;
    qn_error err;
    if (!o->resume.given || qn_recipe_write(r, &text, NULL, &err)) return false;
    bool found = cli_find_run(out, size, o->out ? o->out : "runs", r->name, text);
    free(text);
    return found;
}

static int run_fold(struct fold *out, const qn_recipe *r, const struct options *o, int i, qn_train_result *result)
{
    char old[4096];
    struct options with = *o;
    bool found = find_fold(old, sizeof old, r, o);
    if (!o->quiet)
        fprintf(stderr, "fold %d of %d%s%s\n", i, (int)o->folds, found ? ", which goes on: " : "", found ? old : "");
    if (found) with.epochs = -1; /* its recipe has them */
    return cli_train_silently(found ? NULL : r, &with, found ? old : NULL, result, out->dir, sizeof out->dir);
}

/* One run with fold i held out; its own result is not printed. */
static int train_fold(struct fold *out, const char *path, const struct options *o, int i)
{
    char folds[48], fold[48];
    struct options with = *o;
    qn_train_result result;
    qn_recipe *r = NULL;
    snprintf(folds, sizeof folds, "data.folds=%d", (int)o->folds);
    snprintf(fold, sizeof fold, "data.fold=%d", i);
    with.set.v = calloc((size_t)o->set.n + 3, sizeof *with.set.v);
    if (!with.set.v) {
        qn_error err;
        qn__nomem(&err, "--set", 0);
        return cli_fail(&err);
    }
    for (int k = 0; k < o->set.n; k++) with.set.v[k] = o->set.v[k];
    with.set.v[with.set.n++] = "data.validation=0"; /* the fold is the validation part */
    with.set.v[with.set.n++] = folds;
    with.set.v[with.set.n++] = fold;
    int code = cli_load_recipe(&r, path, &with);
    if (!code) code = cli_choose_device(&with, r->device, o->quiet);
    if (!code) code = run_fold(out, r, &with, i, &result);
    if (!code) {
        out->accuracy = result.valid.accuracy;
        out->loss = result.valid.loss;
        out->count = result.valid.count;
    }
    free(with.set.v);
    qn_recipe_free(r);
    return code;
}

int cli_train_folds(const char *path, const struct options *o)
{
    struct fold *f = calloc((size_t)o->folds, sizeof *f);
    int code = 0, n = (int)o->folds;
    if (!f) {
        qn_error err;
        qn__nomem(&err, "folds", 0);
        return cli_fail(&err);
    }
    for (int i = 0; i < n && !code; i++) code = train_fold(&f[i], path, o, i);
    if (code == QN_STOPPED) fprintf(stderr, "all folds go on with the same command and --resume\n");
    if (!code && o->json)
        code = print_json(f, n);
    else if (!code)
        print_text(f, n);
    free(f);
    return code;
}
