/* demo_draw.c - the pictures of `quern demo`: see demo.h. */
#include "demo.h"
#include "../core/file.h"
#include "../core/philox.h"
#include "../include/quern/plot.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SHOWN = 32, SALIENCY = 8, POINTS = 4096 };

static const char *picture(const struct demo *d, char *buf, size_t size, const char *name)
{
    snprintf(buf, size, "%s/%s", d->out, name);
    return buf;
}

static void say(const char *path, const char *what) { printf("%-26s %s\n", path, what); }

/* ---- curves ---------------------------------------------------------------------------------------------------- */

struct curve {
    double x[POINTS], y[POINTS];
    int64_t n;
};

struct curves {
    struct curve step_loss, train_loss, valid_loss, train_accuracy, valid_accuracy;
    double updates; /* an epoch */
};

static void point(struct curve *c, double x, const json_t *y)
{
    if (!json_is_number(y) || c->n == POINTS) return;
    c->x[c->n] = x;
    c->y[c->n++] = json_number_value(y);
}

/* {"event":"step","step":50,"loss":...}, {"event":"train","epoch":1,"step":430,"loss":...,"accuracy":...}, "valid" */
static void log_line(struct curves *c, const json_t *o)
{
    const char *event = json_string_value(json_object_get(o, "event"));
    double epoch = json_number_value(json_object_get(o, "epoch")), step = json_number_value(json_object_get(o, "step"));
    const json_t *loss = json_object_get(o, "loss"), *accuracy = json_object_get(o, "accuracy");
    if (!event) return;
    if (strcmp(event, "step") == 0) point(&c->step_loss, step, loss);
    if (strcmp(event, "train") == 0) {
        point(&c->train_loss, epoch, loss);
        point(&c->train_accuracy, epoch, accuracy);
        if (epoch > 0) c->updates = step / epoch;
    }
    if (strcmp(event, "valid") == 0) {
        point(&c->valid_loss, epoch, loss);
        point(&c->valid_accuracy, epoch, accuracy);
    }
}

/* Single batches jump about: each value becomes the running mean of about a twentieth of them. */
static void smooth(struct curve *c)
{
    double newest = c->n > 20 ? fmax(20 / (double)c->n, 0.15) : 1;
    for (int64_t i = 1; i < c->n; i++) c->y[i] = (1 - newest) * c->y[i - 1] + newest * c->y[i];
}

static qn_status read_log(struct curves *c, const char *path, qn_error *err)
{
    enum { LOG_MAX = 1 << 26 };
    char *text;
    size_t n;
    QN_TRY(qn__file_read_all(NULL, path, LOG_MAX, &text, &n, err));
    for (char *line = text, *next; line && *line; line = next) {
        next = strchr(line, '\n');
        if (next) *next++ = 0;
        json_t *o = json_loads(line, 0, NULL);
        log_line(c, o);
        json_decref(o);
    }
    qn__free(NULL, text, n + 1);
    for (int64_t i = 0; i < c->step_loss.n && c->updates > 0; i++) c->step_loss.x[i] /= c->updates;
    smooth(&c->step_loss);
    return QN_OK;
}

static qn_plot_series series(const char *name, const struct curve *c, int color, bool markers)
{
    return (qn_plot_series){ .name = name, .x = c->x, .y = c->y, .n = c->n, .color = color, .markers = markers };
}

static qn_status draw_curves(const struct demo *d, qn_error *err)
{
    char path[4200];
    struct curves *c = calloc(1, sizeof *c);
    if (!c) return qn__nomem(err, "curves", sizeof *c);
    qn_status status = read_log(c, picture(d, path, sizeof path, "log.jsonl"), err);
    qn_plot_series loss[] = { series("training (running mean)", c->step_loss.n ? &c->step_loss : &c->train_loss, 1,
                                     false),
                              series("validation", &c->valid_loss, 2, true) };
    qn_plot_series accuracy[] = { series("training", &c->train_accuracy, 1, true),
                                  series("validation", &c->valid_accuracy, 2, true) };
    qn_line_chart charts[] = {
        { .title = "Loss", .x_label = "epoch", .y_label = "cross-entropy", .series = loss, .count = 2 },
        { .title = "Accuracy", .x_label = "epoch", .y_label = "share of images", .series = accuracy, .count = 2 },
    };
    picture(d, path, sizeof path, "curves.png");
    if (!status) status = qn_plot_lines(path, charts, 2, err);
    if (!status) say(path, "loss and accuracy while it learnt");
    free(c);
    return status;
}

/* ---- confusion --------------------------------------------------------------------------------------------------- */

static const char *const *names(const struct demo *d)
{
    return (const char *const *)qn_model_transform(d->model)->class_name;
}

static qn_status draw_confusion(const struct demo *d, qn_error *err)
{
    char path[4200], title[120];
    size_t cells;
    int64_t n = cli_n_classes(d->model);
    qn_metrics_summary s;
    if (!qn__mul(&cells, (size_t)n, (size_t)n)) return qn__nomem(err, "confusion", SIZE_MAX);
    int64_t *counts = calloc(cells, sizeof *counts);
    if (!counts) return qn__nomem(err, "confusion", cells * sizeof *counts);
    qn_status status = qn_model_evaluate(d->model, d->test.ds, d->test.over, &s, counts, err);
    snprintf(title, sizeof title, "%s: %lld test images, %.2f%% right",
             d->synthetic ? "Synthetic digits" : "Fashion-MNIST", (long long)s.count, 100 * s.accuracy);
    qn_confusion_chart chart = { .title = title, .counts = counts, .classes = (int)n, .names = names(d) };
    picture(d, path, sizeof path, "confusion.png");
    if (!status) status = qn_plot_confusion(path, &chart, err);
    if (!status) say(path, "which classes are taken for which");
    free(counts);
    return status;
}

/* ---- images ---------------------------------------------------------------------------------- */

/* The first n test images: x as the network sees them, pixels 0..1 as a reader does. */
struct images {
    float *x, *pixels, *heat;
    int64_t n, size, channels, h, w;
    int32_t truth[SHOWN], predicted[SHOWN];
    char label[SHOWN][64];
    const char *labels[SHOWN];
};

static void free_images(struct images *im)
{
    free(im->x);
    free(im->pixels);
    free(im->heat);
}

static void to_pixels(const qn_transform *t, const float *x, float *pixels, int64_t size)
{
    int64_t plane = size / t->dim[0];
    for (int64_t i = 0; i < size; i++) {
        int c = t->channels > 1 ? (int)(i / plane) : 0;
        double v = (double)x[i] * t->std[c] + t->mean[c];
        pixels[i] = (float)fmin(fmax(v, 0), 1);
    }
}

static qn_status predict(const struct demo *d, struct images *im, qn_error *err)
{
    size_t cells, k = (size_t)cli_n_classes(d->model);
    if (!qn__mul(&cells, SHOWN, k)) return qn__nomem(err, "answers", SIZE_MAX);
    float *y = calloc(cells, sizeof *y);
    if (!y) return qn__nomem(err, "answers", cells * sizeof *y);
    qn_status status = qn_model_predict(d->model, im->x, im->n, y, err);
    for (int64_t i = 0; !status && i < im->n; i++) {
        char buf[24];
        im->predicted[i] = (int32_t)cli_highest(y + (size_t)i * k, (int64_t)k);
        snprintf(im->label[i], sizeof im->label[i], "%s %.0f%%", cli_class_name(d->model, im->predicted[i], buf),
                 100 * (double)y[(size_t)i * k + (size_t)im->predicted[i]]);
        im->labels[i] = im->label[i];
    }
    free(y);
    return status;
}

static qn_status read_images(const struct demo *d, struct images *im, qn_error *err)
{
    const qn_transform *t = qn_model_transform(d->model);
    int64_t all = d->test.over ? d->test.over->n : qn_dataset_count(d->test.ds);
    size_t cells;
    *im = (struct images){ .n = all < SHOWN ? all : SHOWN,
                           .size = qn_transform_size(t),
                           .channels = t->dim[0],
                           .h = t->dim[1],
                           .w = t->dim[2] };
    if (t->rank != 3) return qn__fail(err, 3014, QN_AT_FIELD("demo"), "data of rank %d; expected images", t->rank);
    if (!qn__mul(&cells, SHOWN, (size_t)im->size)) return qn__nomem(err, "images", SIZE_MAX);
    im->x = calloc(cells, sizeof *im->x);
    im->pixels = calloc(cells, sizeof *im->pixels);
    im->heat = calloc(cells, sizeof *im->heat);
    if (!im->x || !im->pixels || !im->heat) return qn__nomem(err, "images", cells * sizeof *im->x);
    for (int64_t i = 0; i < im->n; i++) {
        int64_t at = d->test.over ? d->test.over->at[i] : i;
        QN_TRY(qn_dataset_read(d->test.ds, at, im->x + i * im->size, err));
        to_pixels(t, im->x + i * im->size, im->pixels + i * im->size, im->size);
        im->truth[i] = qn_dataset_label(d->test.ds, at);
    }
    return predict(d, im, err);
}

static qn_plot_images images_of(const struct images *im, int64_t n)
{
    return (qn_plot_images){ .data = im->pixels, .n = n, .channels = im->channels, .h = im->h, .w = im->w };
}

static qn_status draw_samples(const struct demo *d, const struct images *im, qn_error *err)
{
    char path[4200];
    qn_image_sheet sheet = { .title = d->synthetic ? "Synthetic digits: the first test images and what the network says"
                                                   : "The first test images and what the network says",
                             .images = images_of(im, im->n),
                             .truth = im->truth,
                             .predicted = im->predicted,
                             .names = names(d),
                             .classes = qn_model_transform(d->model)->n_classes };
    QN_TRY(qn_plot_sheet(picture(d, path, sizeof path, "samples.png"), &sheet, err));
    say(path, "test images, predicted and true labels");
    return QN_OK;
}

/* ---- what is inside -------------------------------------------------------------------------- */

static qn_status draw_filters(const struct demo *d, qn_error *err)
{
    char path[4200];
    const qn_store *s = qn_model_store(d->model);
    for (int i = 0; i < qn_store_count(s); i++) {
        const qn_store_entry *e = qn_store_at(s, i);
        if (e->kind != QN_PARAM || e->rank != 4 || e->dtype != QN_F32) continue;
        qn_filter_grid grid = { .title = "Filters of the first convolution",
                                .weights = e->data,
                                .out = e->dims[0],
                                .in = e->dims[1],
                                .h = e->dims[2],
                                .w = e->dims[3] };
        QN_TRY(qn_plot_filters(picture(d, path, sizeof path, "filters.png"), &grid, err));
        say(path, "what the first convolution looks for");
        return QN_OK;
    }
    return QN_OK;
}

/* Adds a gradient's magnitude, the largest of its channels. */
static void add_heat(const struct images *im, const float *dx, float *heat)
{
    int64_t plane = im->h * im->w;
    for (int64_t i = 0; i < plane; i++) {
        float most = 0;
        for (int64_t c = 0; c < im->channels; c++) most = fmaxf(most, fabsf(dx[c * plane + i]));
        heat[i] += most;
    }
}

/* A picture with normal noise of a deviation of 0.1 of the pixels' range (Box and Muller 1958). */
static void add_noise(const qn_transform *t, const float *x, float *noisy, int64_t size, uint32_t image, uint32_t copy)
{
    uint64_t key = qn__stream_key(1, qn__hash_str("saliency"));
    int64_t plane = size / t->dim[0];
    for (int64_t i = 0; i < size; i++) {
        struct qn__words w = qn__philox(key, (uint32_t)i, image, copy, 0);
        double radius = sqrt(-2 * log(1 - qn__unit_f64(w.w[0]))), angle = 6.283185307179586 * qn__unit_f64(w.w[1]);
        int c = t->channels > 1 ? (int)(i / plane) : 0;
        noisy[i] = x[i] + (float)(0.1 / t->std[c] * radius * cos(angle));
    }
}

/* The gradient itself is as ragged as the function that the network computes; its mean over noisy copies of the picture
 * shows what is stable in it (Smilkov et al., "SmoothGrad", 2017). */
static qn_status heat_of(const struct demo *d, struct images *im, int64_t i, float *noisy, float *dx, qn_error *err)
{
    enum { COPIES = 32 };
    for (uint32_t copy = 0; copy < COPIES; copy++) {
        add_noise(qn_model_transform(d->model), im->x + i * im->size, noisy, im->size, (uint32_t)i, copy);
        QN_TRY(qn_model_saliency(d->model, noisy, im->predicted[i], dx, err));
        add_heat(im, dx, im->heat + i * im->h * im->w);
    }
    return QN_OK;
}

static qn_status draw_saliency(const struct demo *d, struct images *im, qn_error *err)
{
    char path[4200];
    int64_t n = im->n < SALIENCY ? im->n : SALIENCY;
    float *dx = calloc((size_t)im->size, sizeof *dx), *noisy = calloc((size_t)im->size, sizeof *noisy);
    qn_status status = dx && noisy ? QN_OK : qn__nomem(err, "saliency", (size_t)im->size * sizeof *dx);
    for (int64_t i = 0; i < n && !status; i++) status = heat_of(d, im, i, noisy, dx, err);
    free(dx);
    free(noisy);
    qn_saliency_sheet sheet = { .title = "Pixels that matter most for what the network says",
                                .images = images_of(im, n),
                                .heat = im->heat,
                                .labels = im->labels };
    if (!status) status = qn_plot_saliency(picture(d, path, sizeof path, "saliency.png"), &sheet, err);
    if (!status) say(path, "pixels that matter most");
    return status;
}

qn_status demo_draw(struct demo *d, qn_error *err)
{
    struct images im;
    QN_TRY(draw_curves(d, err));
    QN_TRY(draw_confusion(d, err));
    qn_status status = read_images(d, &im, err);
    if (!status) status = draw_samples(d, &im, err);
    if (!status) status = draw_filters(d, err);
    if (!status) status = draw_saliency(d, &im, err);
    free_images(&im);
    return status;
}
