/* cmd_demo.c - `quern demo`: trains recipes/demo.json and leaves checkpoint, log and pictures in one directory. */
#include "answers.h"
#include "demo.h"
#include "training.h"
#include "../core/file.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- recipe ---------------------------------------------------------------------------------------------------- */

/* Beside the sources, where `make install` puts it, or in the current directory; false if it is in none. */
static bool find_recipe(char *out, size_t size)
{
    static const char *const places[] = { "../../recipes/demo.json", "../share/quern/recipes/demo.json" };
    char exe[2048];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    exe[n > 0 ? n : 0] = 0;
    char *slash = strrchr(exe, '/');
    if (slash) *slash = 0;
    for (size_t i = 0; slash && i < sizeof places / sizeof places[0]; i++) {
        snprintf(out, size, "%s/%s", exe, places[i]);
        if (access(out, R_OK) == 0) return true;
    }
    snprintf(out, size, "recipes/demo.json");
    return access(out, R_OK) == 0;
}

static bool has_images(const qn_recipe *r)
{
    char zipped[4096];
    const char *path = r->data.idx.images;
    if (r->data.source != QN_SOURCE_NAMED || !path) return true;
    snprintf(zipped, sizeof zipped, "%s.gz", path);
    return access(path, R_OK) == 0 || access(zipped, R_OK) == 0;
}

/* The recipe as it is, or with drawn digits where the images are not installed. */
static int load_recipe(struct demo *d, const struct options *o)
{
    static const char *const synthetic[] = {
        "data={\"digits\": 12000, \"validation\": 0.05, \"test_fraction\": 0.2, \"normalize\": \"standard\"}",
        "augment.flip=false", /* a mirrored 2 is none */
    };
    char path[4096];
    const char *sets[2];
    struct options with = *o;
    if (!find_recipe(path, sizeof path)) {
        qn_error err;
        qn__fail(&err, 6001, QN_AT_FILE("recipes/demo.json"),
                 "not found beside the command; expected it in the sources, or installed under share/quern/recipes");
        return cli_fail(&err);
    }
    int code = cli_load_recipe(&d->recipe, path, o);
    if (code || has_images(d->recipe)) return code;
    qn_recipe_free(d->recipe);
    d->recipe = NULL;
    d->synthetic = true;
    memcpy(sets, synthetic, sizeof sets);
    with.set = (struct list){ 2, sets };
    return cli_load_recipe(&d->recipe, path, &with);
}

/* ---- directory --------------------------------------------------------------------------------------------------- */

static qn_status move(const char *from, const char *to, qn_error *err)
{
    if (rename(from, to) == 0) return QN_OK;
    return qn__fail(err, 6002, QN_AT_FILE(to), "rename: %s", qn__file_reason(errno));
}

/* The best checkpoint and the log of the run take the place of an earlier demonstration's; the rest goes. */
static qn_status gather(struct demo *d, const char *run, qn_error *err)
{
    char from[4096 + 32], to[4096 + 32];
    int dir;
    const char *leaf = strrchr(run, '/') + 1;
    QN_TRY(qn__file_open_dir(&dir, d->out, err));
    qn_status status = qn__file_remove_at(dir, "checkpoint", d->out, err);
    snprintf(from, sizeof from, "%s/checkpoints/best", run);
    snprintf(to, sizeof to, "%s/checkpoint", d->out);
    if (!status) status = move(from, to, err);
    snprintf(from, sizeof from, "%s/log.jsonl", run);
    snprintf(to, sizeof to, "%s/log.jsonl", d->out);
    if (!status) status = move(from, to, err);
    if (!status) status = qn__file_remove_at(dir, leaf, d->out, err);
    qn__file_close_fd(dir);
    return status;
}

/* ---- the command ----------------------------------------------------------------------------- */

static int train(struct demo *d, const struct options *o)
{
    char run[4096];
    qn_error err = { 0 };
    struct options with = *o;
    with.out = d->out;
    if (d->synthetic)
        printf("data: synthetic digits, drawn by Quern: Fashion-MNIST is not here (apt-get install "
               "dataset-fashion-mnist)\n");
    else
        printf("data: Fashion-MNIST\n");
    fflush(stdout);
    int code = cli_train_silently(d->recipe, &with, NULL, &d->result, run, sizeof run);
    if (code) return code;
    return gather(d, run, &err) ? cli_fail(&err) : 0;
}

static void print_result(const struct demo *d)
{
    printf("%-26s the weights of the best epoch, %lld of %lld; try: quern eval %s/checkpoint\n", "checkpoint",
           (long long)d->result.best_epoch, (long long)d->result.epochs, d->out);
    printf("%-26s one line per event\n", "log.jsonl");
    printf("all of it is in %s\n", d->out);
    printf("%lld steps in %.1f s, %.0f samples/s\n", (long long)d->result.steps, d->result.seconds,
           d->result.samples_per_second);
    if (d->synthetic) printf("measured on synthetic digits, not on Fashion-MNIST\n");
    printf("test accuracy: %.4f\n", d->result.test.accuracy);
}

static int draw(struct demo *d)
{
    char path[4096 + 32];
    struct list none = { 0 };
    qn_error err = { 0 };
    snprintf(path, sizeof path, "%s/checkpoint", d->out);
    if (qn_model_open(&d->model, path, NULL, d->threads, &err)) return cli_fail(&err);
    int code = cli_open_test(&d->test, d->model, &none, NULL);
    if (code) return code;
    return demo_draw(d, &err) ? cli_fail(&err) : 0;
}

int cmd_demo(int argc, char **argv)
{
    struct options o;
    struct demo d = { 0 };
    int code = cli_parse(&cli_demo, argc, argv, &o);
    if (code >= 0) return code;
    d.out = o.out ? o.out : "out/demo";
    d.threads = o.threads > 0 ? (int)o.threads : 0;
    code = load_recipe(&d, &o);
    if (!code) code = train(&d, &o);
    if (!code) code = draw(&d);
    if (!code) print_result(&d);
    cli_close_test(&d.test);
    qn_model_free(d.model);
    qn_recipe_free(d.recipe);
    cli_free(&o);
    return cli_finish(code);
}
