/* parts.c - the data of a recipe: opened, split, and normalised by the training part. */
#include "../include/quern/train.h"
#include "../core/base.h"
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static bool exists(const char *path)
{
    struct stat st;
    return path && stat(path, &st) == 0;
}

/* A file as named, or with ".gz" if only that is there. */
static const char *plain_or_gz(const char *path, char *buf, size_t size)
{
    size_t n = path ? strlen(path) : 0;
    if (!path || exists(path) || n + 4 > size) return path;
    memcpy(buf, path, n);
    memcpy(buf + n, ".gz", 4);
    return exists(buf) ? buf : path;
}

static qn_dataset_options with_classes(const qn_recipe *r, int n, const char *const *names)
{
    qn_dataset_options o = { .n_classes = n, .class_names = n ? names : NULL };
    if (r->loss.kind != QN_LOSS_CROSS_ENTROPY || r->loss.ignore_index < 0) return o;
    o.has_ignore = true;
    o.ignore_label = (int32_t)r->loss.ignore_index;
    return o;
}

static qn_status open_files(qn_dataset **out, const qn_recipe *r, const char *images, const char *labels, bool npy,
                            qn_error *err)
{
    char a[4096], b[4096];
    qn_dataset_options o = with_classes(r, r->data.classes.n, r->data.classes.v);
    if (npy) return qn_dataset_from_npy(out, images, labels, &o, err);
    return qn_dataset_from_idx(out, plain_or_gz(images, a, sizeof a), plain_or_gz(labels, b, sizeof b), &o, err);
}

/* fitted: the training part's transformation when this is the test part, else NULL. */
static qn_status open_csv(qn_dataset **out, const qn_recipe *r, const char *path, const qn_transform *fitted,
                          qn_error *err)
{
    const qn_recipe_data *d = &r->data;
    qn_csv_options o = { .delimiter = d->delimiter ? d->delimiter[0] : 0,
                         .no_header = !d->header,
                         .categorical = d->categorical.v,
                         .n_categorical = d->categorical.n,
                         .numeric = d->columns.v,
                         .n_numeric = d->columns.n,
                         .standardise = d->normalize.kind == QN_NORMALIZE_STANDARD,
                         .missing = d->missing,
                         .clip = d->clip_outliers > 0 ? QN_CLIP_ZSCORE : QN_CLIP_NONE,
                         .clip_limit = d->clip_outliers,
                         .transform = fitted };
    if (d->regression) {
        o.target = &d->label;
        o.n_target = d->label ? 1 : 0;
    } else {
        o.label = d->label;
        o.n_classes = d->classes.n;
        o.class_names = d->classes.n ? d->classes.v : NULL;
    }
    return qn_dataset_from_csv(out, path, &o, err);
}

static qn_status open_train(qn_dataset **out, const qn_recipe *r, qn_error *err)
{
    const qn_recipe_data *d = &r->data;
    qn_dataset_options o = with_classes(r, d->classes.n, d->classes.v);
    switch (d->source) {
    case QN_SOURCE_NAMED:
    case QN_SOURCE_IDX: return open_files(out, r, d->idx.images, d->idx.labels, false, err);
    case QN_SOURCE_NPY: return open_files(out, r, d->npy.images, d->npy.labels, true, err);
    case QN_SOURCE_PNG: return qn_dataset_from_folder(out, d->png, &o, err);
    case QN_SOURCE_CSV: return open_csv(out, r, d->csv, NULL, err);
    case QN_SOURCE_DIGITS: return qn_dataset_digits(out, d->digits, (uint64_t)r->seed, err);
    case QN_SOURCE_COUNT: break;
    }
    return qn__fail(err, 7070, NULL, "data source %d; expected one of the schema", (int)d->source);
}

/* *out stays NULL if the recipe names no test part. */
static qn_status open_test(qn_dataset **out, const qn_recipe *r, const qn_dataset *train, qn_error *err)
{
    const qn_recipe_data *d = &r->data;
    const qn_transform *t = qn_dataset_transform(train);
    qn_dataset_options o = with_classes(r, t->n_classes, (const char *const *)t->class_name);
    switch (d->source) {
    case QN_SOURCE_NAMED:
    case QN_SOURCE_IDX:
        return d->idx.test_images ? open_files(out, r, d->idx.test_images, d->idx.test_labels, false, err) : QN_OK;
    case QN_SOURCE_NPY:
        return d->npy.test_images ? open_files(out, r, d->npy.test_images, d->npy.test_labels, true, err) : QN_OK;
    case QN_SOURCE_PNG: return d->test ? qn_dataset_from_folder(out, d->test, &o, err) : QN_OK;
    case QN_SOURCE_CSV: return d->test ? open_csv(out, r, d->test, t, err) : QN_OK;
    case QN_SOURCE_DIGITS:
    case QN_SOURCE_COUNT: break;
    }
    return QN_OK;
}

/* ---- splits ------------------------------------------------------------------------------------------------- */

static qn_status all_of(qn_indices *out, int64_t n, qn_error *err)
{
    out->at = qn__calloc(NULL, (size_t)n, sizeof *out->at);
    if (!out->at) return qn__nomem(err, "split", (size_t)n * sizeof *out->at);
    out->n = n;
    for (int64_t i = 0; i < n; i++) out->at[i] = i;
    return QN_OK;
}

/* Takes `fraction` of *rest into *part. */
static qn_status take_fraction(qn_indices *part, qn_indices *rest, const qn_dataset *ds, double fraction, uint64_t seed,
                               bool stratified, qn_error *err)
{
    qn_indices kept = { 0 };
    if (!(fraction > 0)) return QN_OK;
    QN_TRY(qn_split_fraction(&kept, part, ds, rest, fraction, seed, stratified, err));
    qn_indices_free(rest);
    *rest = kept;
    return QN_OK;
}

static qn_status split(qn_parts *p, const qn_recipe *r, qn_error *err)
{
    const qn_recipe_data *d = &r->data;
    uint64_t seed = (uint64_t)r->seed;
    bool stratified = d->stratified && qn_dataset_transform(p->train_set)->n_classes > 0; /* values have no shares */
    QN_TRY(all_of(&p->train, qn_dataset_count(p->train_set), err));
    if (p->test_set) {
        QN_TRY(all_of(&p->test, qn_dataset_count(p->test_set), err));
    } else if (d->test_fraction > 0) {
        QN_TRY(take_fraction(&p->test, &p->train, p->train_set, d->test_fraction, seed + 1, stratified, err));
        p->test_set = p->train_set;
    }
    if (d->limit > 0 && d->limit < p->train.n) p->train.n = d->limit;
    if (d->folds == 0) return take_fraction(&p->valid, &p->train, p->train_set, d->validation, seed, stratified, err);
    qn_indices kept = { 0 };
    QN_TRY(
        qn_split_fold(&kept, &p->valid, p->train_set, &p->train, (int)d->folds, (int)d->fold, seed, stratified, err));
    qn_indices_free(&p->train);
    p->train = kept;
    return QN_OK;
}

/* ---- normalisation --------------------------------------------------------------------------------------------- */

static double at_or(const qn_reals *v, int i, double otherwise)
{
    return v->n == 0 ? otherwise : v->v[v->n == 1 ? 0 : i];
}

static qn_status normalise(qn_parts *p, const qn_recipe *r, qn_error *err)
{
    const qn_recipe_normalize *n = &r->data.normalize;
    qn_transform t;
    bool table = r->data.source == QN_SOURCE_CSV;
    if (table || n->kind == QN_NORMALIZE_STANDARD) QN_TRY(qn_dataset_fit(p->train_set, &p->train, err));
    if (table) return QN_OK;
    QN_TRY(qn_transform_copy(&t, qn_dataset_transform(p->train_set), err));
    if (n->kind == QN_NORMALIZE_FIXED && n->mean.n != 1 && n->mean.n != t.channels) {
        int channels = t.channels;
        qn_transform_free(&t);
        return qn__fail(err, 2301, QN_AT_FIELD("data.normalize.mean"),
                        "%d numbers; expected 1, or one for each of %d channels", n->mean.n, channels);
    }
    for (int c = 0; c < t.channels && n->kind != QN_NORMALIZE_STANDARD; c++) {
        bool fixed = n->kind == QN_NORMALIZE_FIXED;
        t.mean[c] = fixed ? at_or(&n->mean, c, 0) : 0;
        t.std[c] = fixed ? at_or(&n->std, c, 1) : n->kind == QN_NORMALIZE_NONE && t.bytes ? 1.0 / 255 : 1;
    }
    qn_status status = qn_dataset_set_transform(p->train_set, &t, err);
    if (!status && p->test_set && p->test_set != p->train_set) status = qn_dataset_set_transform(p->test_set, &t, err);
    qn_transform_free(&t);
    return status;
}

/* Where the classes of the training part come from, for messages. */
static const char *labels_of(const qn_recipe_data *d)
{
    switch (d->source) {
    case QN_SOURCE_NAMED:
    case QN_SOURCE_IDX: return d->idx.labels;
    case QN_SOURCE_NPY: return d->npy.labels;
    case QN_SOURCE_PNG: return d->png;
    case QN_SOURCE_CSV: return d->csv;
    case QN_SOURCE_DIGITS:
    case QN_SOURCE_COUNT: break;
    }
    return "digits";
}

static qn_status open_parts(qn_parts *p, const qn_recipe *r, qn_error *err)
{
    QN_TRY(open_train(&p->train_set, r, err));
    if (qn_dataset_transform(p->train_set)->n_classes == 1)
        return qn__fail(err, 3054, QN_AT_FILE(labels_of(&r->data)), "1 class; expected at least 2 to tell apart");
    if (r->data.source != QN_SOURCE_CSV) QN_TRY(open_test(&p->test_set, r, p->train_set, err));
    QN_TRY(split(p, r, err));
    QN_TRY(normalise(p, r, err));
    if (r->data.source != QN_SOURCE_CSV || !r->data.test || p->test_set) return QN_OK;
    QN_TRY(open_test(&p->test_set, r, p->train_set, err)); /* a table's test part needs the fitted columns */
    return all_of(&p->test, qn_dataset_count(p->test_set), err);
}

qn_status qn_parts_open(qn_parts *out, const qn_recipe *recipe, qn_error *err)
{
    memset(out, 0, sizeof *out);
    qn_status status = open_parts(out, recipe, err);
    if (status) qn_parts_free(out);
    return status;
}

qn_status qn_parts_loader(qn_loader **out, const qn_parts *p, const qn_recipe *r, qn_error *err)
{
    const qn_recipe_augment *a = &r->augment;
    qn_loader_options o = {
        .batch = (int)r->batch, .shuffle = r->data.shuffle, .seed = (uint64_t)r->seed, .threads = (int)r->data.workers
    };
    if (a->on)
        o.augment = (qn_augment){ .flip = a->flip,
                                  .rotate = a->rotate,
                                  .scale = a->scale,
                                  .crop = (int)a->crop,
                                  .brightness = a->brightness,
                                  .contrast = a->contrast,
                                  .erase = a->erase,
                                  .erase_area = a->erase_size,
                                  .mixup = a->mixup };
    return qn_loader_open(out, p->train_set, &p->train, &o, err);
}

void qn_parts_free(qn_parts *p)
{
    if (p->test_set != p->train_set) qn_dataset_free(p->test_set);
    qn_dataset_free(p->train_set);
    qn_indices_free(&p->train);
    qn_indices_free(&p->valid);
    qn_indices_free(&p->test);
    memset(p, 0, sizeof *p);
}

/* ---- other data --------------------------------------------------------------------------------------------- */

static qn_status open_directory(qn_dataset **out, const qn_recipe *r, const qn_transform *t, const char *path,
                                qn_error *err)
{
    char images[4096], labels[4096], a[4096], b[4096];
    qn_dataset_options o = with_classes(r, t->n_classes, (const char *const *)t->class_name);
    int n = snprintf(images, sizeof images, "%s/t10k-images-idx3-ubyte", path);
    int k = snprintf(labels, sizeof labels, "%s/t10k-labels-idx1-ubyte", path);
    if (n < 0 || k < 0 || (size_t)n >= sizeof images || (size_t)k >= sizeof labels)
        return qn__fail(err, 6001, QN_AT_FILE(path), "path too long");
    const char *found = plain_or_gz(images, a, sizeof a);
    if (exists(found)) return qn_dataset_from_idx(out, found, plain_or_gz(labels, b, sizeof b), &o, err);
    if (t->rank == 3)
        o.png = (qn_png_options){ .channels = (int)t->dim[0], .height = (int)t->dim[1], .width = (int)t->dim[2] };
    return qn_dataset_from_folder(out, path, &o, err);
}

qn_status qn_parts_open_other(qn_dataset **out, const qn_recipe *recipe, const qn_transform *t, const char *path,
                              qn_error *err)
{
    struct stat st;
    *out = NULL;
    bool directory = stat(path, &st) == 0 && S_ISDIR(st.st_mode);
    if (t->n_columns > 0) return open_csv(out, recipe, path, t, err);
    if (exists(path) && !directory)
        return qn__fail(err, 3023, QN_AT_FILE(path), "a file; expected a directory of images, which the model reads");
    QN_TRY(open_directory(out, recipe, t, path, err));
    qn_status status = qn_dataset_set_transform(*out, t, err);
    if (!status) return QN_OK;
    qn_dataset_free(*out);
    *out = NULL;
    return status;
}
