/* bench_steps.c - time of a training step on one batch that stays in memory: forward, backward, AdamW.
 *
 * usage: bench_steps --model mlp|cnn|strong [--threads 2] [--batch 128] [--steps 20] [--warmup 5] [--profile] [--json]
 *
 * The networks are those of the recipes mlp-784-512, cnn-32-64-64 and cnn-strong; peer_torch.py has the same. The last
 * line is one JSON object with the median step time; compare.py reads it. */
#include "../../core/base.h"
#include "../../core/philox.h"
#include "../../train/network.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct choice {
    const char *model, *recipe;
};
static const struct choice choices[] = {
    { "mlp", "recipes/mlp-784-512.json" },
    { "cnn", "recipes/cnn-32-64-64.json" },
    { "strong", "recipes/cnn-strong.json" },
};

struct settings {
    const char *recipe, *model;
    int threads, batch, steps, warmup;
};

static int64_t number(const char *text, const char *option)
{
    int64_t n;
    if (!text || !qn__parse_i64(text, &n) || n < 1 || n > 1000000) {
        fprintf(stderr, "bench_steps: %s: expected a number from 1\n", option);
        exit(2);
    }
    return n;
}

static struct settings parse(int argc, char **argv)
{
    struct settings s = { .threads = 2, .batch = 128, .steps = 20, .warmup = 5 };
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i], *v = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(a, "--json") == 0) continue;
        if (strcmp(a, "--model") == 0)
            s.model = v ? v : "";
        else if (strcmp(a, "--threads") == 0)
            s.threads = (int)number(v, a);
        else if (strcmp(a, "--batch") == 0)
            s.batch = (int)number(v, a);
        else if (strcmp(a, "--steps") == 0)
            s.steps = (int)number(v, a);
        else if (strcmp(a, "--warmup") == 0)
            s.warmup = (int)number(v, a);
        else {
            fprintf(stderr, "bench_steps: unknown option %s\n", a);
            exit(2);
        }
        i++;
    }
    for (size_t i = 0; i < sizeof choices / sizeof choices[0]; i++)
        if (s.model && strcmp(s.model, choices[i].model) == 0) s.recipe = choices[i].recipe;
    if (!s.recipe) {
        fprintf(stderr, "bench_steps: --model: expected mlp, cnn or strong\n");
        exit(2);
    }
    return s;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void fill(struct qn__runner *r, int batch, size_t width)
{
    float *x = qn_program_data(r->program, r->nodes.x);
    int32_t *label = qn_program_data(r->program, r->nodes.target);
    for (size_t i = 0; i < (size_t)batch * width; i++)
        x[i] = qn__unit_f32(qn__philox(1, (uint32_t)i, 0, 0, 0).w[0]) * 4 - 2;
    for (int i = 0; i < batch; i++) label[i] = (int32_t)(qn__philox(2, (uint32_t)i, 0, 0, 0).w[0] % 10);
}

static qn_status run(const struct settings *s, qn_error *err)
{
    static const char *const sets[] = { "optimizer={\"name\":\"adamw\",\"lr\":0.001}", "schedule=\"constant\"",
                                        "augment={}" };
    qn_recipe *recipe;
    qn_recipe_errors errs;
    struct qn__network net;
    struct qn__runner *r;
    if (qn_recipe_load(&recipe, s->recipe, sets, 3, &errs)) {
        *err = errs.list[0];
        return QN_EUSAGE;
    }
    qn_transform shape = { .rank = 3, .dim = { 1, 28, 28 }, .n_classes = 10 };
    QN_TRY(qn__network_open(&net, recipe, &shape, 100, "cpu", s->threads, err));
    QN_TRY(qn__network_runner(&net, QN_MODE_TRAIN, s->batch, &r, err));
    fill(r, s->batch, 784);
    double *seconds = calloc((size_t)s->steps, sizeof *seconds);
    if (!seconds) return qn__nomem(err, "seconds", (size_t)s->steps * sizeof *seconds);
    for (int i = -s->warmup; i < s->steps; i++) {
        double begin = qn__now();
        QN_TRY(qn_program_run(r->program, QN_MICRO, err));
        QN_TRY(qn_program_run(r->program, QN_UPDATE, err));
        if (i >= 0) seconds[i] = qn__now() - begin;
    }
    qsort(seconds, (size_t)s->steps, sizeof *seconds, by_value);
    int64_t parameters = 0;
    for (int i = 0; i < qn_store_count(net.store); i++) {
        const qn_store_entry *e = qn_store_at(net.store, i);
        if (e->kind == QN_PARAM) parameters += (int64_t)(e->bytes / sizeof(float));
    }
    qn_bytes b = qn_program_bytes(r->program);
    printf("{\"model\":\"%s\",\"threads\":%d,\"batch\":%d,\"parameters\":%lld,\"step_seconds\":%.9f,"
           "\"fastest\":%.9f,\"slowest\":%.9f,\"loss\":%.6f,\"work_bytes\":%zu,\"naive_bytes\":%zu}\n",
           s->model, s->threads, s->batch, (long long)parameters, seconds[s->steps / 2], seconds[0],
           seconds[s->steps - 1], (double)*(float *)qn_program_data(r->program, r->train.loss), b.work, b.naive);
    free(seconds);
    qn__network_close(&net);
    qn_recipe_free(recipe);
    return QN_OK;
}

int main(int argc, char **argv)
{
    struct settings s = parse(argc, argv);
    qn_error err = { 0 };
    qn_status status = run(&s, &err);
    if (status) fprintf(stderr, "%s\n", err.text);
    return (int)status;
}
