/* transform_json.c - a transformation as one line of JSON and back. A checkpoint may be hostile,
 * so reading checks every member; numbers keep 17 digits and so all their bits. */
#include "data.h"
#include <jansson.h>
#include <math.h>
#include <string.h>

enum { FORMAT = 1, MAX_CHANNELS = 1 << 20, MAX_COLUMNS = 1 << 20 };

/* ---- writing ------------------------------------------------------------------------------ */

static json_t *numbers(const double *x, int n)
{
    json_t *a = json_array();
    for (int i = 0; i < n; i++) json_array_append_new(a, json_real(x[i]));
    return a;
}

static json_t *names(char *const *s, int n)
{
    json_t *a = json_array();
    for (int i = 0; i < n; i++) { /* names need not be UTF-8; JSON text must be */
        json_t *name = json_string(s[i]);
        if (!name) name = json_string(qn__show(s[i]).s);
        json_array_append_new(a, name);
    }
    return a;
}

static void put_bound(json_t *o, const char *key, double x)
{
    json_object_set_new(o, key, isfinite(x) ? json_real(x) : json_null());
}

static json_t *columns(const qn_transform *t)
{
    json_t *a = json_array();
    for (int i = 0; i < t->n_columns; i++) {
        const qn_column *c = &t->column[i];
        json_t *o = json_object(), *name = json_string(c->name);
        json_object_set_new(o, "name", name ? name : json_string(qn__show(c->name).s));
        json_object_set_new(o, "index", json_integer(c->index));
        if (c->category) {
            json_object_set_new(o, "values", names(c->value, c->n_values));
        } else {
            json_object_set_new(o, "may_miss", json_boolean(c->may_miss));
            json_object_set_new(o, "fill", json_real(c->fill));
            put_bound(o, "low", c->low);
            put_bound(o, "high", c->high);
            json_object_set_new(o, "mean", json_real(c->mean));
            json_object_set_new(o, "std", json_real(c->std));
        }
        json_array_append_new(a, o);
    }
    return a;
}

qn_status qn_transform_to_json(char **out, const qn_transform *t, qn_error *err)
{
    json_t *o = json_object(), *dim = json_array();
    char delimiter[2] = { t->delimiter, 0 };
    for (int i = 0; i < t->rank; i++) json_array_append_new(dim, json_integer(t->dim[i]));
    json_object_set_new(o, "format", json_integer(FORMAT));
    json_object_set_new(o, "dim", dim);
    json_object_set_new(o, "bytes", json_boolean(t->bytes));
    json_object_set_new(o, "mean", numbers(t->mean, t->channels));
    json_object_set_new(o, "std", numbers(t->std, t->channels));
    json_object_set_new(o, "columns", columns(t));
    json_object_set_new(o, "delimiter", json_string(delimiter));
    if (t->n_fields) json_object_set_new(o, "fields", json_integer(t->n_fields));
    json_object_set_new(o, "targets", json_integer(t->n_targets));
    json_object_set_new(o, "classes", names(t->class_name, t->n_classes));
    *out = json_dumps(o, JSON_COMPACT | JSON_SORT_KEYS | JSON_REAL_PRECISION(17));
    json_decref(o);
    return *out ? QN_OK : qn__nomem(err, "transformation", 0);
}

/* ---- reading ------------------------------------------------------------------------------ */

static bool get_int(const json_t *v, int64_t low, int64_t high, int64_t *out)
{
    if (!json_is_integer(v) || json_integer_value(v) < low || json_integer_value(v) > high) return false;
    *out = json_integer_value(v);
    return true;
}

static bool get_number(const json_t *v, double *out)
{
    if (!json_is_number(v)) return false;
    *out = json_number_value(v);
    return isfinite(*out);
}

static bool get_names(const json_t *v, int most, int *n, char ***out)
{
    if (!json_is_array(v) || json_array_size(v) > (size_t)most) return false;
    int count = (int)json_array_size(v);
    if (!count) return true;
    *out = qn__calloc(NULL, (size_t)count, sizeof **out);
    if (!*out) return false;
    for (int i = 0; i < count; i++) {
        const json_t *s = json_array_get(v, (size_t)i);
        const char *text = json_is_string(s) ? json_string_value(s) : NULL;
        (*out)[i] = qn__strdup(text ? text : "", text ? strlen(text) : 0);
        if (!(*out)[i]) { /* the caller frees *n names: those that exist */
            *n = i;
            return false;
        }
        *n = i + 1;
        if (!text) return false;
    }
    return true;
}

static bool get_shape(qn_transform *t, const json_t *v)
{
    int64_t count;
    if (!json_is_array(v) || (json_array_size(v) != 1 && json_array_size(v) != 3)) return false;
    t->rank = (int)json_array_size(v);
    for (int i = 0; i < t->rank; i++)
        if (!get_int(json_array_get(v, (size_t)i), 1, (int64_t)1 << 31, &t->dim[i])) return false;
    return qn__count(&count, t->dim, t->rank);
}

static bool get_channels(qn_transform *t, const json_t *mean, const json_t *std)
{
    size_t n = json_array_size(mean);
    if (!json_is_array(mean) || !json_is_array(std) || n != json_array_size(std) || n > MAX_CHANNELS) return false;
    if (n && (int64_t)n != (t->rank == 3 ? t->dim[0] : 1)) return false;
    if (!n) return true;
    if (!qn__transform_set_channels(t, (int)n)) return false;
    for (size_t i = 0; i < n; i++)
        if (!get_number(json_array_get(mean, i), &t->mean[i]) || !get_number(json_array_get(std, i), &t->std[i]) ||
            !(t->std[i] > 0))
            return false;
    return true;
}

static bool get_bound(const json_t *v, double otherwise, double *out)
{
    *out = otherwise;
    return json_is_null(v) || get_number(v, out);
}

static bool get_column(qn_column *c, const json_t *o)
{
    const json_t *name = json_object_get(o, "name"), *values = json_object_get(o, "values");
    if (!json_is_string(name) || !get_int(json_object_get(o, "index"), 0, MAX_COLUMNS, &c->index)) return false;
    c->name = qn__strdup(json_string_value(name), strlen(json_string_value(name)));
    if (!c->name) return false;
    c->category = values != NULL;
    if (values) {
        if (!get_names(values, QN_MAX_CLASSES, &c->n_values, &c->value)) return false;
        for (int i = 1; i < c->n_values; i++)
            if (strcmp(c->value[i - 1], c->value[i]) >= 0) return false;
        return c->n_values > 0;
    }
    c->may_miss = json_is_true(json_object_get(o, "may_miss"));
    return get_number(json_object_get(o, "fill"), &c->fill) && get_number(json_object_get(o, "mean"), &c->mean) &&
           get_number(json_object_get(o, "std"), &c->std) && c->std > 0 &&
           get_bound(json_object_get(o, "low"), -(double)INFINITY, &c->low) &&
           get_bound(json_object_get(o, "high"), (double)INFINITY, &c->high) && c->low <= c->high;
}

static bool get_columns(qn_transform *t, const json_t *v)
{
    int64_t width = 0;
    if (!json_is_array(v) || json_array_size(v) > MAX_COLUMNS) return false;
    int n = (int)json_array_size(v);
    if (!n) return t->channels > 0;
    if (t->channels || t->rank != 1) return false;
    t->column = qn__calloc(NULL, (size_t)n, sizeof *t->column);
    if (!t->column) return false;
    t->n_columns = n;
    for (int i = 0; i < n; i++) {
        if (!get_column(&t->column[i], json_array_get(v, (size_t)i))) return false;
        width += t->column[i].category ? t->column[i].n_values : 1;
    }
    return width == t->dim[0];
}

/* The first member that is wrong, or NULL. */
static const char *fill(qn_transform *t, const json_t *o)
{
    int64_t value;
    const char *delimiter = json_string_value(json_object_get(o, "delimiter"));
    if (!get_int(json_object_get(o, "format"), FORMAT, FORMAT, &value)) return "format";
    if (!get_shape(t, json_object_get(o, "dim"))) return "dim";
    t->bytes = json_is_true(json_object_get(o, "bytes"));
    if (!get_channels(t, json_object_get(o, "mean"), json_object_get(o, "std"))) return "mean, std";
    if (!get_columns(t, json_object_get(o, "columns"))) return "columns";
    if (!delimiter || strlen(delimiter) > 1 || strpbrk(delimiter, "\"\r\n ")) return "delimiter";
    t->delimiter = delimiter[0];
    const json_t *fields = json_object_get(o, "fields"); /* what wrote no number did not know it */
    if (fields && !get_int(fields, t->n_columns, MAX_COLUMNS, &t->n_fields)) return "fields";
    if (!get_int(json_object_get(o, "targets"), 0, MAX_COLUMNS, &value)) return "targets";
    t->n_targets = (int)value;
    if (!get_names(json_object_get(o, "classes"), QN_MAX_CLASSES, &t->n_classes, &t->class_name)) return "classes";
    return NULL;
}

qn_status qn_transform_from_json(qn_transform *out, const char *json, qn_error *err)
{
    json_error_t why;
    *out = (qn_transform){ 0 };
    json_t *o = json_loads(json, JSON_REJECT_DUPLICATES, &why);
    if (!o)
        return qn__fail(err, 3003, QN_AT_LINE("transformation", why.line, why.column, NULL), "%s; expected JSON",
                        qn__show(why.text).s);
    const char *wrong = json_is_object(o) ? fill(out, o) : "object";
    json_decref(o);
    if (!wrong) return QN_OK;
    qn_transform_free(out);
    return qn__fail(err, 3003, QN_AT_FIELD(wrong),
                    "missing or out of range; expected what qn_transform_to_json writes");
}
