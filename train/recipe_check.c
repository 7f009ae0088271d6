/* recipe_check.c - what concerns more than one key, and what follows from others. */
#include "recipe.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The value at object.key, for positions; the nearest that exists. */
static const struct qn__json *at(const struct qn__reader *rd, const char *object, const char *key)
{
    const struct qn__json *o = object ? qn__json_get(rd->root, object) : rd->root;
    const struct qn__json *v = o && key ? qn__json_get(o, key) : NULL;
    return v ? v : o ? o : rd->root;
}

/* ---- name, device ------------------------------------------------------------------------- */

static bool name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (c && strchr("._-", c));
}

/* From "recipes/mlp-784-128.json": "mlp-784-128". */
static const char *name_of_file(struct qn__reader *rd)
{
    const char *file = rd->report.file, *slash = strrchr(file, '/');
    const char *base = slash ? slash + 1 : file;
    size_t n = strlen(base);
    if (n > 5 && strcmp(base + n - 5, ".json") == 0) n -= 5;
    if (n > 100) n = 100;
    char *name = qn__reader_get(rd, n + 8, 1);
    if (!name) return NULL;
    for (size_t i = 0; i < n; i++) name[i] = name_char(base[i]) ? base[i] : '-';
    if (n == 0 || name[0] == '.') memcpy(name, "recipe", 7);
    return name;
}

static void check_name(struct qn__reader *rd, qn_recipe *r)
{
    if (!r->name) {
        r->name = name_of_file(rd);
        return;
    }
    for (const char *p = r->name; *p; p++)
        if (!name_char(*p) || r->name[0] == '.') {
            qn__problem(&rd->report, 2108, at(rd, NULL, "name"), false, "name",
                        "\"%.60s\"; expected letters, digits and . _ -, not beginning with a dot", qn__show(r->name).s);
            return;
        }
}

static void check_device(struct qn__reader *rd, const qn_recipe *r)
{
    const char *d = r->device;
    if (!d || strcmp(d, "auto") == 0 || strcmp(d, "cpu") == 0 || strcmp(d, "cuda") == 0) return;
    int64_t i;
    if (strncmp(d, "cuda:", 5) == 0 && d[5] != '+' && qn__parse_i64(d + 5, &i) && i >= 0 && i < 1024) return;
    qn__problem(&rd->report, 2109, at(rd, NULL, "device"), false, "device",
                "\"%.60s\"; expected auto, cpu, cuda or cuda:0", qn__show(d).s);
}

/* ---- data --------------------------------------------------------------------------------- */

static const char *in_dir(struct qn__reader *rd, const char *dir, const char *file)
{
    if (!file || !dir || file[0] == '/') return file;
    size_t n = strlen(dir) + strlen(file) + 2;
    char *p = qn__reader_get(rd, n, 1);
    if (p) snprintf(p, n, "%s%s%s", dir, dir[strlen(dir) - 1] == '/' ? "" : "/", file);
    return p;
}

static void resolve_named(struct qn__reader *rd, qn_recipe_data *d)
{
    static const char *const fashion[] = { "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
                                           "Sandal",      "Shirt",   "Sneaker",  "Bag",   "Ankle boot" };
    bool is_fashion = d->name && strcmp(d->name, "fashion-mnist") == 0;
    if (!d->dir && is_fashion) d->dir = "/usr/share/datasets/fashion-mnist"; /* dataset-fashion-mnist */
    if (!d->dir) {
        qn__problem(&rd->report, 2106, at(rd, "data", "name"), false, "data.dir",
                    "missing; expected the directory of the files; --set data.dir=DIR");
        return;
    }
    d->idx = (qn_recipe_files){ true, in_dir(rd, d->dir, "train-images-idx3-ubyte"),
                                in_dir(rd, d->dir, "train-labels-idx1-ubyte"),
                                in_dir(rd, d->dir, "t10k-images-idx3-ubyte"),
                                in_dir(rd, d->dir, "t10k-labels-idx1-ubyte") };
    if (is_fashion && d->classes.n == 0) {
        const char **names = qn__reader_get(rd, 10, sizeof *names);
        if (!names) return;
        memcpy(names, fashion, sizeof fashion);
        d->classes = (qn_texts){ 10, names };
    }
}

static void resolve_files(struct qn__reader *rd, qn_recipe_data *d, qn_recipe_files *f, const char *key)
{
    f->images = in_dir(rd, d->dir, f->images);
    f->labels = in_dir(rd, d->dir, f->labels);
    f->test_images = in_dir(rd, d->dir, f->test_images);
    f->test_labels = in_dir(rd, d->dir, f->test_labels);
    d->dir = NULL; /* it is in the paths now */
    if (!f->test_images != !f->test_labels)
        qn__problem(&rd->report, 2117, at(rd, "data", key), false, "data", "%s without %s; expected both or none",
                    f->test_images ? "test_images" : "test_labels", f->test_images ? "test_labels" : "test_images");
}

static int by_bytes(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

static void check_class_names(struct qn__reader *rd, const qn_texts *classes)
{
    size_t n = classes->n > 0 ? (size_t)classes->n : 0;
    const char **sorted = n > 1 ? qn__reader_get(rd, n, sizeof *sorted) : NULL;
    if (!sorted) return;
    memcpy(sorted, classes->v, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, by_bytes);
    for (size_t i = 1; i < n; i++)
        if (strcmp(sorted[i], sorted[i - 1]) == 0) {
            qn__problem(&rd->report, 2117, at(rd, "data", "classes"), false, "data.classes",
                        "\"%.60s\" twice; expected each name once", qn__show(sorted[i]).s);
            return;
        }
}

static bool has_test(const qn_recipe_data *d) { return d->test || (d->source == QN_SOURCE_NPY && d->npy.test_images); }

static void check_data(struct qn__reader *rd, qn_recipe_data *d)
{
    struct qn__report *report = &rd->report;
    check_class_names(rd, &d->classes);
    if (d->source == QN_SOURCE_NAMED && d->name) resolve_named(rd, d);
    if (d->source == QN_SOURCE_IDX) resolve_files(rd, d, &d->idx, "idx");
    if (d->source == QN_SOURCE_NPY) resolve_files(rd, d, &d->npy, "npy");
    if (d->normalize.kind == QN_NORMALIZE_FIXED && d->source == QN_SOURCE_CSV)
        qn__problem(report, 2117, at(rd, "data", "normalize"), false, "data.normalize",
                    "fixed with csv; expected none, scale or standard");
    if (d->normalize.kind == QN_NORMALIZE_FIXED && d->normalize.mean.n != d->normalize.std.n)
        qn__problem(report, 2117, at(rd, "data", "normalize"), false, "data.normalize",
                    "mean has %d numbers, std %d; expected as many", d->normalize.mean.n, d->normalize.std.n);
    if (d->folds == 1)
        qn__problem(report, 2108, at(rd, "data", "folds"), false, "data.folds", "1; expected 0 or 2..1000");
    if (d->folds > 1 && d->validation > 0)
        qn__problem(report, 2117, at(rd, "data", "folds"), false, "data.folds",
                    "%lld beside validation; expected only one of them", (long long)d->folds);
    if (d->fold > 0 && d->fold >= d->folds)
        qn__problem(report, 2108, at(rd, "data", "fold"), false, "data.fold",
                    "%lld; expected less than data.folds, %lld", (long long)d->fold, (long long)d->folds);
    if (d->test_fraction > 0 && has_test(d))
        qn__problem(report, 2117, at(rd, "data", "test_fraction"), false, "data.test_fraction",
                    "beside a test part; expected only one of them");
}

/* ---- model -------------------------------------------------------------------------------- */

static void check_layer(struct qn__reader *rd, const struct qn__raw *w)
{
    struct qn__report *report = &rd->report;
    const qn_layer *l = &w->l;
    char p[QN__PATH];
    int unknown = 0;
    for (int i = 0; i < l->shape.n; i++) {
        unknown += l->shape.v[i] == -1;
        if (l->shape.v[i] == 0)
            qn__problem(report, 2108, w->node, false, qn__path_key(p, w->path, "reshape"),
                        "0; expected -1 or 1..1000000000");
    }
    if (unknown > 1)
        qn__problem(report, 2108, w->node, false, qn__path_key(p, w->path, "reshape"),
                    "%d times -1; expected at most one", unknown);
    if (w->kind == QN_LAYER_CONV || w->kind == QN_LAYER_CONV_TRANSPOSE) {
        if (l->groups > 0 && l->channels % l->groups != 0)
            qn__problem(report, 2117, w->node, false, qn__path_key(p, w->path, "groups"),
                        "%lld; expected a divisor of the %lld output channels", (long long)l->groups,
                        (long long)l->channels);
        for (int i = 0; i < 2; i++)
            if (l->output_padding[i] && l->output_padding[i] >= l->stride[i] && l->output_padding[i] >= l->dilation[i])
                qn__problem(report, 2117, w->node, false, qn__path_key(p, w->path, "output_padding"),
                            "%lld; expected less than the stride or the dilation", (long long)l->output_padding[i]);
    }
    bool pool = w->kind == QN_LAYER_MAX_POOL || w->kind == QN_LAYER_AVG_POOL;
    for (int i = 0; i < 2 && pool; i++)
        if (l->padding[i] >= l->kernel[i] && l->kernel[i] > 0)
            qn__problem(report, 2117, w->node, false, qn__path_key(p, w->path, "padding"),
                        "%lld; expected less than the window, %lld", (long long)l->padding[i], (long long)l->kernel[i]);
}

static void check_layers(struct qn__reader *rd, const struct qn__layers *list)
{
    for (int i = 0; i < list->n; i++) {
        const struct qn__raw *w = &list->v[i];
        check_layer(rd, w);
        check_layers(rd, &w->layers);
        check_layers(rd, &w->body);
        check_layers(rd, &w->shortcut);
        for (int b = 0; b < w->branches.n; b++) check_layers(rd, &w->branches.v[b]);
    }
}

/* ---- training ----------------------------------------------------------------------------- */

static void check_metric(struct qn__reader *rd, const qn_recipe *r, const char *object, const char *metric)
{
    char field[64];
    bool known = !metric || strcmp(metric, "loss") == 0;
    for (int32_t i = 0; i < r->n_metrics && !known; i++) {
        static const char *const name[] = {
#define X(e, s) s,
            QN_METRIC_MAP(X)
#undef X
        };
        known = strcmp(metric, name[r->metrics[i].kind]) == 0 && r->metrics[i].kind != QN_METRIC_CONFUSION;
    }
    snprintf(field, sizeof field, "%s.metric", object);
    if (!known)
        qn__problem(&rd->report, 2109, at(rd, object, "metric"), false, field,
                    "\"%.60s\"; expected \"loss\" or one of \"metrics\" that is one number", qn__show(metric).s);
    if (r->data.validation <= 0 && r->data.folds == 0)
        qn__problem(&rd->report, 2117, at(rd, object, NULL), false, object,
                    "needs a validation part; expected data.validation or data.folds");
}

static void check_training(struct qn__reader *rd, const qn_recipe *r)
{
    const qn_reals *times = &r->schedule.at;
    if (r->early_stopping.on) check_metric(rd, r, "early_stopping", r->early_stopping.metric);
    if (r->schedule.kind == QN_SCHEDULE_PLATEAU) check_metric(rd, r, "schedule", r->schedule.metric);
    if (times->n > QN_SCHEDULE_MAX_AT)
        qn__problem(&rd->report, 2108, at(rd, "schedule", "at"), false, "schedule.at", "%d times; expected at most %d",
                    times->n, QN_SCHEDULE_MAX_AT);
    for (int32_t i = 1; i < times->n; i++)
        if (times->v[i] <= times->v[i - 1]) {
            qn__problem(&rd->report, 2108, at(rd, "schedule", "at"), false, "schedule.at",
                        "not rising; expected rising times");
            break;
        }
    if (r->optimizer.nesterov && r->optimizer.momentum <= 0)
        qn__problem(&rd->report, 2117, at(rd, "optimizer", "nesterov"), false, "optimizer.nesterov",
                    "true without momentum; expected momentum above 0");
    if (r->data.regression && r->n_metrics > 0)
        qn__problem(&rd->report, 2117, at(rd, "metrics", NULL), false, "metrics",
                    "measures of classes beside data.regression; expected none (the loss is measured in any case)");
    if (r->loss.kind == QN_LOSS_CROSS_ENTROPY && r->data.regression)
        qn__problem(&rd->report, 2117, at(rd, "data", "regression"), false, "data.regression",
                    "true with cross_entropy; expected mse, l1 or huber as loss");
    if (r->loss.kind == QN_LOSS_CROSS_ENTROPY && r->loss.ignore_index >= 0 && r->augment.on && r->augment.mixup > 0)
        qn__problem(&rd->report, 2117, at(rd, "augment", "mixup"), false, "augment.mixup",
                    "%g beside loss.ignore_index; expected only one of them", r->augment.mixup);
    if (r->data.classes.n && r->loss.class_weights.n && r->loss.class_weights.n != r->data.classes.n)
        qn__problem(&rd->report, 2117, at(rd, "loss", "class_weights"), false, "loss.class_weights",
                    "%d numbers; expected one for each of %d classes", r->loss.class_weights.n, r->data.classes.n);
}

void qn__recipe_check(struct qn__reader *rd, struct qn__draft *d)
{
    check_name(rd, &d->r);
    check_device(rd, &d->r);
    check_layers(rd, &d->model);
    check_training(rd, &d->r);
    check_data(rd, &d->r.data);
}
