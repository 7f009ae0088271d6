/* shape.c - what a sample looks like, from the headers of the files alone: see plan.h. */
#include "../include/quern/train.h"
#include "../core/file.h"
#include "../data/data.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

typedef qn_status shape_reader(qn_array *out, const uint8_t *bytes, size_t n, const char *name, qn_error *err);
typedef qn_status array_reader(qn_array *out, const char *path, qn_error *err);

/* ---- arrays ------------------------------------------------------------------------------------------- */

static bool is_there(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0;
}

/* A file as named, or with ".gz" if only that is there. */
static const char *plain_or_gz(const char *path, char *buf, size_t size)
{
    int n = snprintf(buf, size, "%s.gz", path);
    return is_there(path) || n < 0 || (size_t)n >= size || !is_there(buf) ? path : buf;
}

static qn_status read_shape(qn_array *out, const char *path, shape_reader *parse, qn_error *err)
{
    struct qn__file f;
    QN_TRY(qn__file_open(&f, path, err));
    size_t n = f.size < QN_SHAPE_BYTES ? (size_t)f.size : QN_SHAPE_BYTES;
    uint8_t *bytes = qn__calloc(NULL, QN_SHAPE_BYTES, 1);
    qn_status status = bytes ? qn__file_read(&f, 0, bytes, n, err) : qn__nomem(err, path, n);
    if (!status) status = parse(out, bytes, n, path, err);
    qn__free(NULL, bytes, QN_SHAPE_BYTES);
    qn__file_close(&f);
    return status;
}

/* [N,F], [N,H,W] or [N,C,H,W] without N. */
static qn_status set_sample(qn_transform *t, const qn_array *a, const char *path, qn_error *err)
{
    if (a->rank < 2 || a->rank > 4)
        return qn__fail(err, 3023, QN_AT_FILE(path), "rank %d; expected samples [N,F], [N,H,W] or [N,C,H,W]", a->rank);
    t->rank = a->rank == 2 ? 1 : 3;
    t->dim[0] = a->rank == 3 ? 1 : a->dim[1];
    for (int i = 1; i < t->rank; i++) t->dim[i] = a->dim[a->rank - 3 + i];
    if (a->dim[0] < 1 || qn_transform_size(t) < 1)
        return qn__fail(err, 3054, QN_AT_FILE(path), "%lld samples of %lld values; expected at least 1 of 1",
                        (long long)a->dim[0], (long long)qn_transform_size(t));
    return QN_OK;
}

/* Largest class index + 1; labels are small beside their samples. */
static qn_status count_classes(qn_transform *t, const char *path, array_reader *read, const qn_recipe *r, qn_error *err)
{
    qn_array a;
    int64_t most = -1;
    bool ignores = r->loss.kind == QN_LOSS_CROSS_ENTROPY && r->loss.ignore_index >= 0;
    QN_TRY(read(&a, path, err));
    int64_t n = a.rank == 1 ? a.dim[0] : 0;
    size_t size = qn_dtype_size(a.dtype);
    for (int64_t i = 0; i < n; i++) {
        int64_t label;
        qn_convert(&label, QN_I64, (const char *)a.data + (size_t)i * size, a.dtype, 1);
        if (label > most && !(ignores && label == r->loss.ignore_index)) most = label;
    }
    qn_array_free(&a);
    if (most < 0 || most >= QN_MAX_CLASSES)
        return qn__fail(err, 3041, QN_AT_FILE(path), "largest label %lld; expected 0..%d", (long long)most,
                        QN_MAX_CLASSES - 1);
    t->n_classes = (int)most + 1;
    return QN_OK;
}

static qn_status shape_of_files(qn_transform *t, const qn_recipe *r, const qn_recipe_files *files, bool npy,
                                qn_error *err)
{
    const qn_recipe_data *d = &r->data;
    char a[4096], b[4096];
    qn_array x, y;
    const char *images = npy ? files->images : plain_or_gz(files->images, a, sizeof a);
    const char *labels = npy || !files->labels ? files->labels : plain_or_gz(files->labels, b, sizeof b);
    shape_reader *parse = npy ? qn__npy_shape : qn__idx_shape;
    QN_TRY(read_shape(&x, images, parse, err));
    QN_TRY(set_sample(t, &x, images, err));
    t->n_classes = d->classes.n;
    if (!labels) return QN_OK;
    QN_TRY(read_shape(&y, labels, parse, err));
    if (!qn_dtype_is_float(y.dtype))
        return d->classes.n ? QN_OK : count_classes(t, labels, npy ? qn_npy_read : qn_idx_read, r, err);
    t->n_classes = 0;
    t->n_targets = y.rank == 2 && y.dim[1] > 0 && y.dim[1] <= 1 << 20 ? (int)y.dim[1] : 1;
    return QN_OK;
}

/* ---- folders ------------------------------------------------------------------------------------------- */

static int is_visible(const struct dirent *e) { return e->d_name[0] != '.'; }

static int is_png(const struct dirent *e)
{
    size_t n = strlen(e->d_name);
    return is_visible(e) && n > 4 && e->d_name[n - 4] == '.' && (e->d_name[n - 3] | 0x20) == 'p' &&
           (e->d_name[n - 2] | 0x20) == 'n' && (e->d_name[n - 1] | 0x20) == 'g';
}

/* The first entry by bytes that passes, joined to dir; how many pass. */
static int first_entry(char *out, size_t size, const char *dir, bool folders)
{
    struct dirent **list = NULL;
    int n = scandir(dir, &list, folders ? is_visible : is_png, NULL), count = 0;
    const char *first = NULL;
    for (int i = 0; i < n; i++) {
        char path[4096];
        struct stat st;
        int length = snprintf(path, sizeof path, "%s/%s", dir, list[i]->d_name);
        bool fits = length > 0 && (size_t)length < sizeof path;
        if (folders && (!fits || stat(path, &st) != 0 || !S_ISDIR(st.st_mode))) continue;
        count++;
        if (!first || strcmp(list[i]->d_name, first) < 0) first = list[i]->d_name;
    }
    int length = first ? snprintf(out, size, "%s/%s", dir, first) : 0;
    for (int i = 0; i < n; i++) free(list[i]);
    free(list);
    return length >= 0 && (size_t)length < size ? count : 0;
}

static qn_status shape_of_folder(qn_transform *t, const char *dir, qn_error *err)
{
    char folder[4096], file[4200];
    qn_array a;
    int root;
    QN_TRY(qn__file_open_dir(&root, dir, err)); /* says why it cannot be read */
    qn__file_close_fd(root);
    t->n_classes = first_entry(folder, sizeof folder, dir, true);
    if (t->n_classes < 1) return qn__fail(err, 3015, QN_AT_FILE(dir), "0 subdirectories; expected one per class");
    if (first_entry(file, sizeof file, folder, false) < 1)
        return qn__fail(err, 3015, QN_AT_FILE(folder), "no .png file; expected at least 1");
    QN_TRY(qn_png_read(&a, file, NULL, err));
    t->rank = 3;
    for (int i = 0; i < 3; i++) t->dim[i] = a.dim[i];
    qn_array_free(&a);
    return QN_OK;
}

/* ---- all kinds -------------------------------------------------------------------------------------------- */

static qn_status images_28(qn_transform *t)
{
    t->rank = 3;
    t->dim[0] = 1;
    t->dim[1] = t->dim[2] = 28;
    t->n_classes = 10;
    return QN_OK;
}

/* A table has to be read: its categories are only known then. */
static qn_status shape_of_table(qn_transform *t, const qn_recipe *r, qn_error *err)
{
    qn_parts parts;
    QN_TRY(qn_parts_open(&parts, r, err));
    qn_status status = qn_transform_copy(t, qn_dataset_transform(parts.train_set), err);
    qn_parts_free(&parts);
    return status;
}

qn_status qn_data_shape(const qn_recipe *recipe, qn_transform *out, qn_error *err)
{
    const qn_recipe_data *d = &recipe->data;
    char buf[4096];
    memset(out, 0, sizeof *out);
    switch (d->source) {
    case QN_SOURCE_NAMED:
        if (!is_there(plain_or_gz(d->idx.images, buf, sizeof buf))) return images_28(out);
        return shape_of_files(out, recipe, &d->idx, false, err);
    case QN_SOURCE_IDX: return shape_of_files(out, recipe, &d->idx, false, err);
    case QN_SOURCE_NPY: return shape_of_files(out, recipe, &d->npy, true, err);
    case QN_SOURCE_PNG: return shape_of_folder(out, d->png, err);
    case QN_SOURCE_CSV: return shape_of_table(out, recipe, err);
    case QN_SOURCE_DIGITS: return images_28(out);
    case QN_SOURCE_COUNT: break;
    }
    return qn__fail(err, 7070, NULL, "data source %d; expected one of the schema", (int)d->source);
}
