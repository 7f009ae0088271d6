/* transform.c - what the training data taught, applied to one more picture or row. */
#include "data.h"
#include <math.h>
#include <string.h>

char *qn__strdup(const char *s, size_t n)
{
    char *copy = qn__calloc(NULL, n + 1, 1);
    if (copy && n) memcpy(copy, s, n);
    return copy;
}

static void free_names(char **names, int n)
{
    for (int i = 0; names && i < n; i++) qn__free(NULL, names[i], strlen(names[i]) + 1);
    qn__free(NULL, names, (size_t)n * sizeof *names);
}

static bool copy_names(char ***out, int n, char *const *names)
{
    char **copy = qn__calloc(NULL, (size_t)n, sizeof *copy);
    *out = copy;
    for (int i = 0; copy && i < n; i++) {
        copy[i] = qn__strdup(names[i], strlen(names[i]));
        if (copy[i]) continue;
        free_names(copy, i);
        *out = NULL;
        return false;
    }
    return copy != NULL;
}

void qn_transform_free(qn_transform *t)
{
    if (!t) return;
    for (int i = 0; t->column && i < t->n_columns; i++) {
        qn_column *c = &t->column[i];
        if (c->name) qn__free(NULL, c->name, strlen(c->name) + 1);
        free_names(c->value, c->n_values);
    }
    qn__free(NULL, t->column, (size_t)t->n_columns * sizeof *t->column);
    free_names(t->class_name, t->n_classes);
    qn__free(NULL, t->mean, (size_t)t->channels * sizeof *t->mean);
    qn__free(NULL, t->std, (size_t)t->channels * sizeof *t->std);
    *t = (qn_transform){ 0 };
}

bool qn__transform_set_classes(qn_transform *t, int n, const char *const *names)
{
    char **copy = qn__calloc(NULL, (size_t)n, sizeof *copy);
    if (!copy) return false;
    for (int i = 0; i < n; i++) {
        char number[12];
        size_t at = sizeof number - 1;
        number[at] = 0;
        for (int k = i; at > 0 && (k || at == sizeof number - 1); k /= 10) number[--at] = (char)('0' + k % 10);
        const char *name = names ? names[i] : number + at;
        copy[i] = qn__strdup(name, strlen(name));
        if (copy[i]) continue;
        free_names(copy, i);
        return false;
    }
    free_names(t->class_name, t->n_classes);
    t->class_name = copy;
    t->n_classes = n;
    return true;
}

bool qn__transform_set_channels(qn_transform *t, int channels)
{
    double *mean = qn__calloc(NULL, (size_t)channels, sizeof *mean);
    double *std = qn__calloc(NULL, (size_t)channels, sizeof *std);
    if (!mean || !std) {
        qn__free(NULL, mean, (size_t)channels * sizeof *mean);
        qn__free(NULL, std, (size_t)channels * sizeof *std);
        return false;
    }
    for (int c = 0; c < channels; c++) std[c] = 1;
    t->channels = channels;
    t->mean = mean;
    t->std = std;
    return true;
}

static bool copy_columns(qn_transform *out, const qn_transform *t)
{
    if (!t->n_columns) return true;
    out->column = qn__calloc(NULL, (size_t)t->n_columns, sizeof *out->column);
    if (!out->column) return false;
    out->n_columns = t->n_columns;
    for (int i = 0; i < t->n_columns; i++) {
        qn_column *c = &out->column[i];
        const qn_column *from = &t->column[i];
        *c = *from;
        c->value = NULL;
        c->n_values = 0;
        c->name = qn__strdup(from->name, strlen(from->name));
        if (!c->name) return false;
        if (from->n_values && !copy_names(&c->value, from->n_values, from->value)) return false;
        c->n_values = from->n_values;
    }
    return true;
}

qn_status qn_transform_copy(qn_transform *out, const qn_transform *t, qn_error *err)
{
    *out = *t;
    out->mean = out->std = NULL;
    out->column = NULL;
    out->class_name = NULL;
    out->channels = out->n_columns = out->n_classes = 0;
    bool ok = copy_columns(out, t);
    if (ok && t->channels) {
        ok = qn__transform_set_channels(out, t->channels);
        for (int c = 0; ok && c < t->channels; c++) {
            out->mean[c] = t->mean[c];
            out->std[c] = t->std[c];
        }
    }
    if (ok && t->n_classes) ok = qn__transform_set_classes(out, t->n_classes, (const char *const *)t->class_name);
    if (ok) return QN_OK;
    qn_transform_free(out);
    return qn__nomem(err, "transformation", 0);
}

int64_t qn_transform_size(const qn_transform *t)
{
    int64_t n = 1;
    for (int i = 0; i < t->rank; i++) n *= t->dim[i];
    return n;
}

/* Plane by plane; multiplication by the reciprocal, rounded once per channel. */
void qn__normalise(const qn_transform *t, float *x)
{
    int64_t plane = qn_transform_size(t) / t->channels;
    for (int c = 0; c < t->channels; c++) {
        float mean = (float)t->mean[c], inverse = (float)(1 / t->std[c]);
        float *p = x + c * plane;
        if (t->mean[c] == 0 && t->std[c] == 1) continue;
#pragma omp simd
        for (int64_t i = 0; i < plane; i++) p[i] = (p[i] - mean) * inverse;
    }
}

qn_status qn_transform_image(const qn_transform *t, const qn_array *image, float *x, qn_error *err)
{
    if (t->rank != 3 || image->rank != 3 || image->dtype != QN_U8 || memcmp(t->dim, image->dim, sizeof t->dim) != 0)
        return qn__fail(err, 3014, QN_AT_FIELD("image"), "rank %d %s [%lld,%lld,%lld]; expected U8 [%lld,%lld,%lld]",
                        image->rank, qn_dtype_name(image->dtype), (long long)image->dim[0], (long long)image->dim[1],
                        (long long)image->dim[2], (long long)t->dim[0], (long long)t->dim[1], (long long)t->dim[2]);
    const uint8_t *u = image->data;
    int64_t n = qn_transform_size(t);
    float unit = t->bytes ? 1.0f / 255 : 1.0f;
    for (int64_t i = 0; i < n; i++) x[i] = (float)u[i] * unit;
    qn__normalise(t, x);
    return QN_OK;
}

void qn__transform_values(const qn_transform *t, const double *raw, float *x)
{
    for (int i = 0; i < t->n_columns; i++) {
        const qn_column *c = &t->column[i];
        if (c->category) {
            for (int k = 0; k < c->n_values; k++) *x++ = raw[i] == k ? 1.0f : 0.0f;
            continue;
        }
        double v = isnan(raw[i]) ? c->fill : raw[i];
        v = v < c->low ? c->low : v > c->high ? c->high : v;
        *x++ = (float)((v - c->mean) / c->std);
    }
}

/* ---- text of a field ---------------------------------------------------------------------- */

static bool is_missing(const char *s)
{
    static const char *const words[] = { "", "?", "NA", "N/A", "null", "NULL" };
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strcmp(s, words[i]) == 0) return true;
    return false;
}

static bool is_nonfinite_word(const char *s)
{
    static const char *const words[] = { "nan", "inf", "infinity" };
    s += *s == '-' || *s == '+';
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        const char *w = words[i], *p = s;
        while (*p && (*p | 0x20) == *w) p++, w++;
        if (!*p && !*w) return true;
    }
    return false;
}

/* Well-formed but too large for a double: digits, no other letter than one e. */
static bool looks_like_number(const char *s)
{
    bool digit = false;
    for (s += *s == '-' || *s == '+'; *s; s++) {
        if (*s >= '0' && *s <= '9')
            digit = true;
        else if (*s != '.' && !((*s == 'e' || *s == 'E') && digit) && *s != '-' && *s != '+')
            return false;
    }
    return digit;
}

static qn_status parse_category(double *out, const qn_column *c, const char *text, const struct qn__where *at,
                                qn_error *err)
{
    int low = 0, high = c->n_values;
    while (low < high) {
        int mid = low + (high - low) / 2, order = strcmp(c->value[mid], text);
        if (order == 0) {
            *out = mid;
            return QN_OK;
        }
        if (order < 0)
            low = mid + 1;
        else
            high = mid;
    }
    int near = qn__nearest(text, (const char *const *)c->value, c->n_values);
    return qn__fail(err, 3036, at, "\"%s\"; expected one of %d known categories%s%s%s", qn__show(text).s, c->n_values,
                    near >= 0 ? "; did you mean \"" : "", near >= 0 ? qn__show(c->value[near]).s : "",
                    near >= 0 ? "\"" : "");
}

qn_status qn__parse_field(double *out, const qn_column *c, const char *text, const struct qn__field_policy *p,
                          qn_error *err)
{
    char field[120];
    struct qn__escaped name = qn__show(c->name);
    size_t n = strlen(name.s);
    if (n > sizeof field - 10) n = sizeof field - 10;
    memcpy(field, "column \"", 8);
    memcpy(field + 8, name.s, n);
    memcpy(field + 8 + n, "\"", 2);
    const struct qn__where *at = QN_AT_LINE(p->name, p->line, p->column, field);
    if (c->category) return parse_category(out, c, text, at, err);
    bool nonfinite = is_nonfinite_word(text);
    if (is_missing(text) || (nonfinite && p->nonfinite_is_missing)) {
        *out = (double)NAN;
        if (p->missing_ok) return QN_OK;
        return qn__fail(err, 3034, at, "\"%s\"; expected a value (or a policy for missing ones)", qn__show(text).s);
    }
    if (nonfinite) return qn__fail(err, 3033, at, "\"%s\"; expected a finite number", qn__show(text).s);
    if (qn__parse_f64(text, false, out)) return QN_OK;
    if (looks_like_number(text) && strlen(text) > 3 && strpbrk(text, "eE0123456789")) {
        const char *e = strpbrk(text, "eE");
        if (e && e[1] && e[1] != '-')
            return qn__fail(err, 3033, at, "\"%s\"; expected a number below 1.8e308", qn__show(text).s);
    }
    return qn__fail(err, 3031, at, "\"%s\"; expected a number", qn__show(text).s);
}
