/* dataset_arrays.c - data sets from whole arrays: IDX, npy and memory. Labels are checked here,
 * once, so that no kernel ever sees one out of range. */
#include "../core/file.h"
#include "data.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

#define DEFAULT_MEMORY ((size_t)4 << 30)

static const qn_dataset_options no_options;

qn_status qn__check_class_options(const qn_dataset_options *o, qn_error *err)
{
    int least = o->class_names ? 1 : 0; /* names cannot be counted without it */
    if (o->has_ignore && o->ignore_label < 0)
        return qn__fail(err, 2301, QN_AT_FIELD("ignore_label"), "%d; expected 0 or more", (int)o->ignore_label);
    if (o->n_classes >= least && o->n_classes <= QN_MAX_CLASSES) return QN_OK;
    return qn__fail(err, 2301, QN_AT_FIELD("n_classes"), "%d; expected %d..%d", o->n_classes, least, QN_MAX_CLASSES);
}

/* ---- labels ------------------------------------------------------------------------------- */

static int64_t label_of(const qn_array *a, int64_t i)
{
    switch (a->dtype) {
    case QN_I64: return ((const int64_t *)a->data)[i];
    case QN_I32: return ((const int32_t *)a->data)[i];
    default: return ((const uint8_t *)a->data)[i];
    }
}

static bool is_ignored(const qn_dataset_options *o, int64_t label) { return o->has_ignore && label == o->ignore_label; }

static int count_classes(const qn_array *a, const qn_dataset_options *o)
{
    int64_t most = -1;
    if (o->n_classes > 0) return o->n_classes;
    for (int64_t i = 0; i < a->dim[0]; i++) {
        int64_t label = label_of(a, i);
        if (label > most && label < QN_MAX_CLASSES && !is_ignored(o, label)) most = label;
    }
    return (int)(most + 1);
}

static qn_status set_classes(qn_dataset *ds, const qn_array *a, const char *file, int64_t at, int stride,
                             const qn_dataset_options *o, qn_error *err)
{
    int classes = count_classes(a, o), limit = o->n_classes > 0 ? classes : QN_MAX_CLASSES;
    ds->label = qn__calloc(NULL, (size_t)ds->n, sizeof *ds->label);
    if (!ds->label || !qn__transform_set_classes(&ds->t, classes, o->class_names))
        return qn__nomem(err, "labels", (size_t)ds->n * sizeof *ds->label);
    for (int64_t i = 0; i < ds->n; i++) {
        int64_t label = label_of(a, i);
        ds->label[i] = (int32_t)label;
        if ((label >= 0 && label < limit) || is_ignored(o, label)) continue;
        char field[32];
        qn_error why = { 0 };
        snprintf(field, sizeof field, "sample %lld", (long long)i);
        qn_status status = qn__fail(&why, 3041, QN_AT_BYTE(file, at < 0 ? -1 : at + i * stride, field),
                                    "label %lld; expected 0..%d", (long long)label, limit - 1);
        if (ds->on_bad == QN_BAD_STOP) {
            if (err) *err = why;
            return status;
        }
        ds->label[i] = -1;
        QN_TRY(qn__dataset_skip(ds, i, &why, err));
    }
    return QN_OK;
}

/* First element that is not finite, or -1. */
static int64_t find_nonfinite(const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(x[i])) return i;
    return -1;
}

static qn_status check_finite(const float *x, int64_t n, int64_t per_sample, const char *file, qn_error *err)
{
    int64_t at = find_nonfinite(x, n), more = 0;
    char field[64];
    if (at < 0) return QN_OK;
    for (int64_t i = at; i < n; i++) more += !isfinite(x[i]);
    snprintf(field, sizeof field, "sample %lld, element %lld", (long long)(at / per_sample),
             (long long)(at % per_sample));
    return qn__fail(err, 3043, &(struct qn__where){ .file = file, .offset = -1, .field = field },
                    "%s at flat index %lld, %lld such values; expected finite numbers", isnan(x[at]) ? "nan" : "inf",
                    (long long)at, (long long)more);
}

static qn_status set_targets(qn_dataset *ds, const qn_array *a, const char *file, qn_error *err)
{
    enum { MOST = 1 << 20 };
    int64_t per = a->rank == 2 ? a->dim[1] : 1;
    if (per < 1 || per > MOST)
        return qn__fail(err, 3023, QN_AT_FILE(file), "%lld targets per sample; expected 1..%d", (long long)per, MOST);
    ds->t.n_targets = (int)per;
    size_t n;
    if (!qn__mul(&n, (size_t)ds->n, (size_t)per) || !(ds->target = qn__calloc(NULL, n, sizeof *ds->target)))
        return qn__nomem(err, "targets", (size_t)ds->n);
    qn_convert(ds->target, QN_F32, a->data, a->dtype, n);
    return check_finite(ds->target, ds->n * per, per, file, err);
}

qn_status qn__dataset_set_labels(qn_dataset *ds, const qn_array *labels, const char *file, int64_t label_at, int stride,
                                 const qn_dataset_options *o, qn_error *err)
{
    bool real = qn_dtype_is_float(labels->dtype);
    if (labels->rank < 1 || labels->rank > (real ? 2 : 1))
        return qn__fail(err, 3023, QN_AT_FILE(file),
                        "rank %d of %s; expected integer labels of rank 1 or float targets of rank 1 or 2",
                        labels->rank, qn_dtype_name(labels->dtype));
    if (labels->dim[0] != ds->n)
        return qn__fail(err, 3022, QN_AT_FILE(file), "%lld labels; expected %lld, the samples of %s",
                        (long long)labels->dim[0], (long long)ds->n, qn__show(ds->name).s);
    return real ? set_targets(ds, labels, file, err) : set_classes(ds, labels, file, label_at, stride, o, err);
}

/* ---- samples ------------------------------------------------------------------------------ */

static qn_status set_shape(qn_dataset *ds, const qn_array *a, qn_error *err)
{
    qn_transform *t = &ds->t;
    if (a->rank < 2 || a->rank > 4)
        return qn__fail(err, 3023, QN_AT_FILE(ds->name), "rank %d; expected samples [N,F], [N,H,W] or [N,C,H,W]",
                        a->rank);
    ds->n = a->dim[0];
    t->rank = a->rank == 2 ? 1 : 3;
    t->dim[0] = a->rank == 3 ? 1 : a->dim[1];
    if (t->rank == 3) {
        t->dim[1] = a->dim[a->rank - 2];
        t->dim[2] = a->dim[a->rank - 1];
    }
    ds->size = qn_transform_size(t);
    if (ds->n < 1 || ds->size < 1)
        return qn__fail(err, 3054, QN_AT_FILE(ds->name), "%lld samples of %lld values; expected at least 1 of 1",
                        (long long)ds->n, (long long)ds->size);
    if (ds->size >= (int64_t)1 << 31 || t->dim[0] > (1 << 20))
        return qn__fail(err, 3023, QN_AT_FILE(ds->name),
                        "%lld values per sample; expected fewer than 2^31, and at most 2^20 channels",
                        (long long)ds->size);
    return qn__transform_set_channels(t, t->rank == 3 ? (int)t->dim[0] : 1) ? QN_OK : qn__nomem(err, "statistics", 0);
}

/* Takes the array's memory where it is already in the form that is stored. */
static qn_status set_samples(qn_dataset *ds, qn_array *a, size_t limit, qn_error *err)
{
    QN_TRY(set_shape(ds, a, err));
    size_t n = (size_t)ds->n * (size_t)ds->size, each = a->dtype == QN_U8 ? 1 : sizeof(float);
    ds->bytes = n * each;
    if (ds->bytes > (limit ? limit : DEFAULT_MEMORY))
        return qn__fail(err, 5001, QN_AT_FILE(ds->name), "needs %zu bytes; data set may have %zu", ds->bytes,
                        limit ? limit : DEFAULT_MEMORY);
    ds->t.bytes = a->dtype == QN_U8;
    ds->store = a->dtype == QN_U8 ? QN_STORE_U8 : QN_STORE_F32;
    if (a->dtype == QN_U8)
        ds->u8 = a->data;
    else if (a->dtype == QN_F32)
        ds->f32 = a->data;
    if (ds->u8 || ds->f32) {
        a->data = NULL;
    } else {
        ds->f32 = qn__calloc(NULL, n, sizeof *ds->f32);
        if (!ds->f32) return qn__nomem(err, "samples", ds->bytes);
        qn_convert(ds->f32, QN_F32, a->data, a->dtype, n);
    }
    return ds->f32 ? check_finite(ds->f32, (int64_t)n, ds->size, ds->name, err) : QN_OK;
}

/* Where the samples and labels come from, for messages. */
struct source {
    const char *samples, *labels;
    int64_t label_at;
    int stride;
};

/* Consumes both arrays. */
static qn_status build(qn_dataset **out, qn_array *x, qn_array *y, const struct source *from,
                       const qn_dataset_options *o, qn_error *err)
{
    qn_dataset *ds = qn__dataset_new(from->samples);
    qn_status status = ds ? QN_OK : qn__nomem(err, "data set", sizeof *ds);
    if (!o) o = &no_options;
    if (!status) status = qn__check_class_options(o, err);
    if (!status) {
        ds->on_bad = o->on_bad;
        ds->max_bad = o->max_bad;
        status = set_samples(ds, x, o->memory_limit, err);
    }
    if (!status && y->data) status = qn__dataset_set_labels(ds, y, from->labels, from->label_at, from->stride, o, err);
    qn_array_free(x);
    qn_array_free(y);
    if (status)
        qn_dataset_free(ds);
    else
        *out = ds;
    return status;
}

/* Parses a file of labels; says where they begin and how far they are apart. */
typedef qn_status label_parser(qn_array *y, struct source *from, const uint8_t *bytes, size_t n, qn_error *err);

static qn_status idx_labels(qn_array *y, struct source *from, const uint8_t *bytes, size_t n, qn_error *err)
{
    QN_TRY(qn__idx_parse(y, &from->stride, bytes, n, from->labels, err));
    from->label_at = QN_IDX_HEADER(y->rank);
    return QN_OK;
}

static qn_status npy_labels(qn_array *y, struct source *from, const uint8_t *bytes, size_t n, qn_error *err)
{
    QN_TRY(qn__npy_parse(y, &from->label_at, bytes, n, from->labels, err));
    from->stride = (int)qn_dtype_size(y->dtype);
    return QN_OK;
}

/* Consumes x, the samples that were read. */
static qn_status add_labels(qn_dataset **out, qn_array *x, struct source from, label_parser *parse,
                            const qn_dataset_options *options, qn_error *err)
{
    qn_array y = { 0 };
    char *bytes = NULL;
    size_t n = 0;
    qn_status status = from.labels ? qn__file_read_all(NULL, from.labels, QN_DATA_FILE_MAX, &bytes, &n, err) : QN_OK;
    if (!status && from.labels) {
        status = parse(&y, &from, (const uint8_t *)bytes, n, err);
        qn__free(NULL, bytes, n + 1);
    }
    if (!status) return build(out, x, &y, &from, options, err);
    qn_array_free(x);
    return status;
}

qn_status qn_dataset_from_idx(qn_dataset **out, const char *samples, const char *labels,
                              const qn_dataset_options *options, qn_error *err)
{
    qn_array x = { 0 };
    *out = NULL;
    QN_TRY(qn_idx_read(&x, samples, err));
    return add_labels(out, &x, (struct source){ samples, labels, -1, 0 }, idx_labels, options, err);
}

qn_status qn_dataset_from_npy(qn_dataset **out, const char *samples, const char *labels,
                              const qn_dataset_options *options, qn_error *err)
{
    qn_array x = { 0 };
    *out = NULL;
    QN_TRY(qn_npy_read(&x, samples, err));
    return add_labels(out, &x, (struct source){ samples, labels, -1, 0 }, npy_labels, options, err);
}

static qn_status copy_array(qn_array *out, const qn_array *a, qn_error *err)
{
    *out = *a;
    out->data = NULL;
    QN_TRY(qn__array_alloc(out, "copy of an array", err));
    if (out->bytes) memcpy(out->data, a->data, out->bytes);
    return QN_OK;
}

qn_status qn_dataset_from_arrays(qn_dataset **out, const qn_array *samples, const qn_array *labels, const char *name,
                                 const qn_dataset_options *options, qn_error *err)
{
    qn_array x = { 0 }, y = { 0 };
    struct source from = { name, name, -1, 0 };
    *out = NULL;
    QN_TRY(copy_array(&x, samples, err));
    qn_status status = labels ? copy_array(&y, labels, err) : QN_OK;
    if (!status) return build(out, &x, &y, &from, options, err);
    qn_array_free(&x);
    return status;
}
