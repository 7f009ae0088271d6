/* dataset.c - the data set itself: life, queries, reading one sample, statistics, the list of
 * bad samples. */
#include "data.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { DEFAULT_MAX_BAD = 100 };

qn_dataset *qn__dataset_new(const char *name)
{
    qn_dataset *ds = qn__calloc(NULL, 1, sizeof *ds);
    if (!ds) return NULL;
    ds->refs = 1;
    ds->name = qn__strdup(name, strlen(name));
    if (ds->name) return ds;
    qn__free(NULL, ds, sizeof *ds);
    return NULL;
}

void qn__dataset_hold(qn_dataset *ds) { __atomic_fetch_add(&ds->refs, 1, __ATOMIC_RELAXED); }

void qn_dataset_free(qn_dataset *ds)
{
    if (!ds || __atomic_fetch_sub(&ds->refs, 1, __ATOMIC_ACQ_REL) > 1) return;
    size_t n = (size_t)ds->n, size = (size_t)ds->size;
    for (size_t i = 0; ds->path && i < n; i++)
        if (ds->path[i]) qn__free(NULL, ds->path[i], strlen(ds->path[i]) + 1);
    qn__free(NULL, ds->path, n * sizeof *ds->path);
    qn__free(NULL, ds->kept, n * sizeof *ds->kept);
    qn__free(NULL, ds->u8, n * size);
    qn__free(NULL, ds->f32, n * size * sizeof *ds->f32);
    qn__free(NULL, ds->raw, n * size * sizeof *ds->raw);
    qn__free(NULL, ds->label, n * sizeof *ds->label);
    qn__free(NULL, ds->target, n * (size_t)ds->t.n_targets * sizeof *ds->target);
    qn__free(NULL, ds->line, n * sizeof *ds->line);
    qn__free(NULL, ds->bad, ds->cap_bad * sizeof *ds->bad);
    qn__free(NULL, ds->name, strlen(ds->name) + 1);
    qn_transform_free(&ds->t);
    qn__free(NULL, ds, sizeof *ds);
}

int64_t qn_dataset_count(const qn_dataset *ds) { return ds->n; }
int64_t qn_dataset_ignored(const qn_dataset *ds) { return ds->ignored; }
size_t qn_dataset_bytes(const qn_dataset *ds) { return ds->bytes; }
const qn_transform *qn_dataset_transform(const qn_dataset *ds) { return &ds->t; }

int32_t qn_dataset_label(const qn_dataset *ds, int64_t i)
{
    return ds->label && i >= 0 && i < ds->n ? ds->label[i] : -1;
}

const float *qn_dataset_target(const qn_dataset *ds, int64_t i)
{
    return ds->target && i >= 0 && i < ds->n ? ds->target + i * ds->t.n_targets : NULL;
}

const char *qn_dataset_sample_name(const qn_dataset *ds, int64_t i, char *buf, size_t size)
{
    if (ds->path && i >= 0 && i < ds->n)
        snprintf(buf, size, "%s/%s", ds->name, ds->path[i]);
    else if (ds->line && i >= 0 && i < ds->n)
        snprintf(buf, size, "%s, line %lld", ds->name, (long long)ds->line[i]);
    else
        snprintf(buf, size, "%s, sample %lld", ds->name, (long long)i);
    return buf;
}

/* ---- bad samples -------------------------------------------------------------------------- */

bool qn__dataset_is_bad(const qn_dataset *ds, int64_t i)
{
    for (size_t k = 0; k < ds->n_bad; k++)
        if (ds->bad[k].sample == i) return true;
    return false;
}

qn_status qn__dataset_skip(qn_dataset *ds, int64_t i, const qn_error *why, qn_error *err)
{
    int64_t most = ds->max_bad > 0 ? ds->max_bad : DEFAULT_MAX_BAD;
    if (qn__dataset_is_bad(ds, i)) return QN_OK;
    if ((int64_t)ds->n_bad >= most)
        return qn__fail(err, 3052, QN_AT_FILE(ds->name), "bad samples: %zu; expected at most %lld; the last: %s",
                        ds->n_bad + 1, (long long)most, why->text);
    if (!qn__grow(NULL, &ds->bad, &ds->cap_bad, ds->n_bad + 1, sizeof *ds->bad))
        return qn__nomem(err, "list of bad samples", sizeof *ds->bad);
    ds->bad[ds->n_bad++] = (struct qn__bad){ i, *why };
    return QN_OK;
}

int64_t qn_dataset_bad_count(const qn_dataset *ds) { return (int64_t)ds->n_bad; }

const qn_error *qn_dataset_bad(const qn_dataset *ds, int64_t i, int64_t *sample)
{
    if (i < 0 || i >= (int64_t)ds->n_bad) return NULL;
    if (sample) *sample = ds->bad[i].sample;
    return &ds->bad[i].err;
}

/* ---- reading one sample ------------------------------------------------------------------- */

static void from_bytes(float *x, const uint8_t *u, int64_t n)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) x[i] = (float)u[i] * (1.0f / 255);
}

/* A picture is kept by the first thread that decodes it; others that need it meanwhile decode
 * their own. */
static qn_status read_file(qn_dataset *ds, int64_t i, float *x, uint8_t *scratch, qn_error *err)
{
    enum { NOT_YET, BEING_WRITTEN, KEPT };
    uint8_t *slot = ds->u8 ? ds->u8 + i * ds->size : NULL;
    unsigned char expected = NOT_YET;
    if (slot && __atomic_load_n(&ds->kept[i], __ATOMIC_ACQUIRE) == KEPT) {
        from_bytes(x, slot, ds->size);
        return QN_OK;
    }
    QN_TRY(qn__folder_decode(ds, i, scratch, err));
    if (slot && __atomic_compare_exchange_n(&ds->kept[i], &expected, BEING_WRITTEN, false, __ATOMIC_RELAXED,
                                            __ATOMIC_RELAXED)) {
        memcpy(slot, scratch, (size_t)ds->size);
        __atomic_store_n(&ds->kept[i], KEPT, __ATOMIC_RELEASE);
    }
    from_bytes(x, scratch, ds->size);
    return QN_OK;
}

qn_status qn__dataset_raw(qn_dataset *ds, int64_t i, float *x, uint8_t *scratch, qn_error *err)
{
    if (ds->before_read) ds->before_read(ds->before_user, i);
    switch (ds->store) {
    case QN_STORE_U8: from_bytes(x, ds->u8 + i * ds->size, ds->size); return QN_OK;
    case QN_STORE_F32: memcpy(x, ds->f32 + i * ds->size, (size_t)ds->size * sizeof *x); return QN_OK;
    case QN_STORE_TABLE: qn__transform_values(&ds->t, ds->raw + i * ds->size, x); return QN_OK;
    case QN_STORE_FILES: break;
    }
    return read_file(ds, i, x, scratch, err);
}

qn_status qn_dataset_read(qn_dataset *ds, int64_t i, float *x, qn_error *err)
{
    if (i < 0 || i >= ds->n)
        return qn__fail(err, 3053, QN_AT_FIELD("sample"), "%lld; expected 0..%lld", (long long)i, (long long)ds->n - 1);
    uint8_t *scratch = ds->store == QN_STORE_FILES ? qn__calloc(NULL, (size_t)ds->size, 1) : NULL;
    if (ds->store == QN_STORE_FILES && !scratch) return qn__nomem(err, "picture", (size_t)ds->size);
    qn_status status = qn__dataset_raw(ds, i, x, scratch, err);
    if (!status && ds->t.channels) qn__normalise(&ds->t, x);
    qn__free(NULL, scratch, (size_t)ds->size);
    return status;
}

int64_t qn_dataset_check(qn_dataset *ds, qn_bad_report *report, void *user)
{
    int64_t bad = 0;
    size_t n = (size_t)qn_transform_size(&ds->t);
    float *x = qn__calloc(NULL, n, sizeof *x);
    int64_t sample;
    for (int64_t i = 0; i < (int64_t)ds->n_bad; i++) { /* rows of a table that never became samples */
        const qn_error *why = qn_dataset_bad(ds, i, &sample);
        if (sample >= 0) continue;
        bad++;
        if (report) report(user, sample, why);
    }
    for (int64_t i = 0; i < ds->n; i++) {
        qn_error err = { 0 };
        for (size_t k = 0; k < ds->n_bad; k++) /* refused when the data set was opened, or since */
            if (qn_dataset_bad(ds, (int64_t)k, &sample) && sample == i) err = ds->bad[k].err;
        qn_status status = qn_error_status(&err);
        if (!status) status = x ? qn_dataset_read(ds, i, x, &err) : qn__nomem(&err, "sample", n * sizeof *x);
        if (!status) continue;
        bad++;
        if (report) report(user, i, &err);
    }
    qn__free(NULL, x, n * sizeof *x);
    return bad;
}

/* ---- statistics --------------------------------------------------------------------------- */

struct moments {
    double shift, sum, squares; /* of x - shift, so that a large mean does not cost the variance its digits */
    double count;
};

static void finish(qn_transform *t, const struct moments *m)
{
    for (int c = 0; c < t->channels; c++) {
        double mean = m[c].sum / m[c].count, var = m[c].squares / m[c].count - mean * mean;
        t->mean[c] = m[c].shift + mean;
        t->std[c] = var > 1e-14 * (t->mean[c] * t->mean[c]) && var > 0 ? sqrt(var) : 1;
    }
}

/* Stored bytes: integer sums, exact. */
static void fit_bytes(const qn_dataset *ds, const int64_t *at, int64_t n, struct moments *m)
{
    int64_t plane = ds->size / ds->t.channels;
    for (int64_t i = 0; i < n; i++) {
        for (int c = 0; c < ds->t.channels; c++) {
            const uint8_t *u = ds->u8 + (at ? at[i] : i) * ds->size + c * plane;
            uint64_t sum = 0, squares = 0;
#pragma omp simd reduction(+ : sum, squares)
            for (int64_t k = 0; k < plane; k++) {
                sum += u[k];
                squares += (uint32_t)u[k] * u[k];
            }
            m[c].sum += (double)sum / 255;
            m[c].squares += (double)squares / (255.0 * 255.0);
            m[c].count += (double)plane;
        }
    }
}

static void add_sample(const qn_dataset *ds, const float *x, struct moments *m)
{
    int64_t plane = ds->size / ds->t.channels;
    for (int c = 0; c < ds->t.channels; c++) {
        if (m[c].count == 0) m[c].shift = (double)x[c * plane];
        for (int64_t k = 0; k < plane; k++) {
            double d = (double)x[c * plane + k] - m[c].shift;
            m[c].sum += d;
            m[c].squares += d * d;
        }
        m[c].count += (double)plane;
    }
}

static qn_status fit_read(qn_dataset *ds, const int64_t *at, int64_t n, struct moments *m, float *x, uint8_t *scratch,
                          qn_error *err)
{
    for (int64_t i = 0; i < n; i++) {
        qn_error why = { 0 };
        int64_t sample = at ? at[i] : i;
        if (qn__dataset_raw(ds, sample, x, scratch, &why) == QN_OK) {
            add_sample(ds, x, m);
        } else {
            if (ds->on_bad == QN_BAD_STOP) {
                if (err) *err = why;
                return qn_error_status(&why);
            }
            QN_TRY(qn__dataset_skip(ds, sample, &why, err));
        }
    }
    return m[0].count > 0 ? QN_OK : qn__fail(err, 3054, QN_AT_FILE(ds->name), "no readable sample; expected one");
}

static qn_status fit_channels(qn_dataset *ds, const int64_t *at, int64_t n, qn_error *err)
{
    size_t channels = (size_t)ds->t.channels, size = (size_t)ds->size;
    struct moments *m = qn__calloc(NULL, channels, sizeof *m);
    float *x = qn__calloc(NULL, size, sizeof *x);
    uint8_t *scratch = qn__calloc(NULL, size, 1);
    qn_status status = QN_OK;
    if (!m || !x || !scratch)
        status = qn__nomem(err, "statistics", size * 5);
    else if (ds->store == QN_STORE_U8)
        fit_bytes(ds, at, n, m);
    else
        status = fit_read(ds, at, n, m, x, scratch, err);
    if (!status) finish(&ds->t, m);
    qn__free(NULL, scratch, size);
    qn__free(NULL, x, size * sizeof *x);
    qn__free(NULL, m, channels * sizeof *m);
    return status;
}

qn_status qn_dataset_fit(qn_dataset *ds, const qn_indices *over, qn_error *err)
{
    const int64_t *at = over ? over->at : NULL;
    int64_t n = over ? over->n : ds->n;
    if (n < 1) return qn__fail(err, 3054, QN_AT_FILE(ds->name), "statistics over 0 samples; expected at least 1");
    for (int64_t i = 0; at && i < n; i++)
        if (at[i] < 0 || at[i] >= ds->n)
            return qn__fail(err, 3053, QN_AT_FIELD("sample"), "%lld; expected 0..%lld", (long long)at[i],
                            (long long)ds->n - 1);
    return ds->store == QN_STORE_TABLE ? qn__table_fit(ds, at, n, err) : fit_channels(ds, at, n, err);
}

static bool same_columns(const qn_transform *a, const qn_transform *b)
{
    if (a->n_columns != b->n_columns) return false;
    for (int i = 0; i < a->n_columns; i++) {
        const qn_column *x = &a->column[i], *y = &b->column[i];
        if (x->category != y->category || strcmp(x->name, y->name) != 0 || x->n_values != y->n_values) return false;
        for (int k = 0; k < x->n_values; k++)
            if (strcmp(x->value[k], y->value[k]) != 0) return false;
    }
    return true;
}

qn_status qn_dataset_set_transform(qn_dataset *ds, const qn_transform *t, qn_error *err)
{
    if (t->rank != ds->t.rank || memcmp(t->dim, ds->t.dim, sizeof t->dim) != 0 || t->bytes != ds->t.bytes)
        return qn__fail(err, 3003, QN_AT_FILE(ds->name),
                        "samples [%lld,%lld,%lld]; expected [%lld,%lld,%lld] as in training", (long long)ds->t.dim[0],
                        (long long)ds->t.dim[1], (long long)ds->t.dim[2], (long long)t->dim[0], (long long)t->dim[1],
                        (long long)t->dim[2]);
    if (!same_columns(t, &ds->t))
        return qn__fail(err, 3003, QN_AT_FILE(ds->name), "columns differ; expected those of the training data");
    if (ds->t.n_classes > t->n_classes || ds->t.n_targets != t->n_targets)
        return qn__fail(err, 3003, QN_AT_FILE(ds->name), "%d classes, %d targets; expected %d, %d as in training",
                        ds->t.n_classes, ds->t.n_targets, t->n_classes, t->n_targets);
    qn_transform copy;
    QN_TRY(qn_transform_copy(&copy, t, err));
    qn_transform_free(&ds->t);
    ds->t = copy;
    return QN_OK;
}
