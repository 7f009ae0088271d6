/* csv.c - a table as a data set. The text is gone through twice: once to count rows and collect
 * the values of category and label columns, once to store the rows. Stored are raw numbers (NaN:
 * missing; a category as its index); filling, clipping and scaling happen when a sample is read,
 * with statistics that can be fitted to the training split alone. */
#include "../core/file.h"
#include "data.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Distinct texts: an open hash table of indices into `at`. */
struct set {
    char **at;
    size_t n, cap;
    uint32_t *slot; /* index + 1; 0: free */
    size_t slots;
};

struct table {
    struct qn__csv csv;
    const qn_csv_options *o;
    qn_dataset *ds;
    size_t width;     /* fields per row                  */
    char **header;    /* [width] or NULL                 */
    int64_t label;    /* source column or -1             */
    int64_t *target;  /* [n_target]                      */
    struct set *seen; /* [n_columns + 1]: per column, then the label's */
    bool numbers;     /* every class is an integer       */
    int64_t rows;
    qn_error *err;
};

/* ---- sets of texts ------------------------------------------------------------------------ */

static void set_free(struct set *s)
{
    for (size_t i = 0; i < s->n; i++) qn__free(NULL, s->at[i], strlen(s->at[i]) + 1);
    qn__free(NULL, s->at, s->cap * sizeof *s->at);
    qn__free(NULL, s->slot, s->slots * sizeof *s->slot);
    *s = (struct set){ 0 };
}

static uint32_t *set_find(const struct set *s, const char *text)
{
    size_t mask = s->slots - 1, at = (size_t)qn__hash_str(text) & mask;
    while (s->slot[at] && strcmp(s->at[s->slot[at] - 1], text) != 0) at = (at + 1) & mask;
    return &s->slot[at];
}

static bool set_widen(struct set *s)
{
    size_t slots = s->slots ? s->slots * 2 : 64;
    uint32_t *slot = qn__calloc(NULL, slots, sizeof *slot);
    if (!slot) return false;
    qn__free(NULL, s->slot, s->slots * sizeof *s->slot);
    s->slot = slot;
    s->slots = slots;
    for (size_t i = 0; i < s->n; i++) *set_find(s, s->at[i]) = (uint32_t)i + 1;
    return true;
}

static bool set_add(struct set *s, const char *text)
{
    if (2 * (s->n + 1) > s->slots && !set_widen(s)) return false;
    uint32_t *slot = set_find(s, text);
    if (*slot) return true;
    if (!qn__grow(NULL, &s->at, &s->cap, s->n + 1, sizeof *s->at)) return false;
    s->at[s->n] = qn__strdup(text, strlen(text));
    if (!s->at[s->n]) return false;
    *slot = (uint32_t)++s->n;
    return true;
}

static int by_bytes(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* Integers by value; equal values ("1" and "01") by their text. */
static int by_value(const void *a, const void *b)
{
    int64_t x = 0, y = 0;
    bool known = qn__parse_i64(*(char *const *)a, &x) && qn__parse_i64(*(char *const *)b, &y);
    return known && x != y ? (x < y ? -1 : 1) : by_bytes(a, b);
}

static bool all_integers(const struct set *s)
{
    int64_t value;
    for (size_t i = 0; i < s->n; i++)
        if (!qn__parse_i64(s->at[i], &value)) return false;
    return true;
}

/* ---- columns ------------------------------------------------------------------------------ */

static qn_status find_column(struct table *t, const char *wish, int64_t *out)
{
    int64_t index, found = -1;
    const char *digits = wish[0] == '#' ? wish + 1 : wish;
    for (size_t i = 0; t->header && i < t->width; i++) {
        if (strcmp(t->header[i], wish) != 0) continue;
        if (found >= 0)
            return qn__fail(t->err, 3035, QN_AT_LINE(t->csv.name, 1, 0, NULL),
                            "column \"%s\" appears twice; expected once, or an index such as #%lld", qn__show(wish).s,
                            (long long)found);
        found = (int64_t)i;
    }
    if (found < 0 && (wish[0] == '#' || !t->header) && qn__parse_i64(digits, &index) && index >= 0 &&
        (size_t)index < t->width)
        found = index;
    *out = found;
    if (found >= 0) return QN_OK;
    int near = t->header ? qn__nearest(wish, (const char *const *)t->header, (int)t->width) : -1;
    return qn__fail(t->err, 3035, QN_AT_LINE(t->csv.name, 1, 0, NULL), "column \"%s\" not found among %zu%s%s%s",
                    qn__show(wish).s, t->width, near >= 0 ? "; did you mean \"" : "",
                    near >= 0 ? qn__show(t->header[near]).s : "", near >= 0 ? "\"?" : "");
}

static bool set_column(struct table *t, int k, int64_t index, bool category)
{
    char number[40];
    snprintf(number, sizeof number, "column %lld", (long long)index);
    const char *name = t->header ? t->header[index] : number;
    qn_column *c = &t->ds->t.column[k];
    *c = (qn_column){
        .index = index, .category = category, .std = 1, .low = -(double)INFINITY, .high = (double)INFINITY
    };
    c->may_miss = !category && t->o->missing > QN_MISSING_DROP;
    c->name = qn__strdup(name, strlen(name));
    return c->name != NULL;
}

/* 'n' number, 'c' category, 'l' label, 't' target; 0: unused. */
static qn_status give_role(struct table *t, char *role, const char *wish, char what, int64_t *index)
{
    QN_TRY(find_column(t, wish, index));
    if (role[*index])
        return qn__fail(t->err, 3035, QN_AT_LINE(t->csv.name, 1, 0, NULL),
                        "column \"%s\" is named for two purposes; expected one", qn__show(wish).s);
    role[*index] = what;
    return QN_OK;
}

static qn_status give_roles(struct table *t, char *role, int64_t *order, int *n)
{
    const qn_csv_options *o = t->o;
    if (o->label) QN_TRY(give_role(t, role, o->label, 'l', &t->label));
    for (int i = 0; i < o->n_target; i++) QN_TRY(give_role(t, role, o->target[i], 't', &t->target[i]));
    for (int i = 0; i < o->n_numeric; i++) QN_TRY(give_role(t, role, o->numeric[i], 'n', &order[(*n)++]));
    for (int i = 0; i < o->n_categorical; i++) QN_TRY(give_role(t, role, o->categorical[i], 'c', &order[(*n)++]));
    for (size_t i = 0; !o->n_numeric && !o->n_categorical && i < t->width; i++) {
        if (role[i]) continue;
        role[i] = 'n';
        order[(*n)++] = (int64_t)i;
    }
    if (*n) return QN_OK;
    return qn__fail(t->err, 3035, QN_AT_FILE(t->csv.name), "no feature columns; expected at least 1");
}

static qn_status choose_columns(struct table *t)
{
    char *role = qn__calloc(NULL, t->width, 1);
    int64_t *order = qn__calloc(NULL, t->width, sizeof *order);
    int n = 0;
    qn_status status = role && order ? give_roles(t, role, order, &n) : qn__nomem(t->err, "columns", t->width);
    if (!status) {
        t->ds->t.column = qn__calloc(NULL, (size_t)n, sizeof *t->ds->t.column);
        if (t->ds->t.column)
            t->ds->t.n_columns = n;
        else
            status = qn__nomem(t->err, "columns", (size_t)n * sizeof *t->ds->t.column);
    }
    for (int i = 0; !status && i < n; i++)
        if (!set_column(t, i, order[i], role[order[i]] == 'c')) status = qn__nomem(t->err, "columns", 0);
    qn__free(NULL, order, t->width * sizeof *order);
    qn__free(NULL, role, t->width);
    return status;
}

/* Columns, categories and classes of the training data; only their places are looked up. */
static qn_status adopt_columns(struct table *t, const qn_transform *from)
{
    QN_TRY(qn_transform_copy(&t->ds->t, from, t->err));
    if (!from->n_columns) return qn__fail(t->err, 3003, QN_AT_FIELD("transform"), "of images; expected one of a table");
    for (int i = 0; t->header && i < from->n_columns; i++)
        QN_TRY(find_column(t, from->column[i].name, &t->ds->t.column[i].index));
    for (int i = 0; i < from->n_columns; i++)
        if (t->ds->t.column[i].index >= (int64_t)t->width)
            return qn__fail(t->err, 3035, QN_AT_FILE(t->csv.name), "%zu columns; expected column %lld", t->width,
                            (long long)t->ds->t.column[i].index);
    if (t->o->label) QN_TRY(find_column(t, t->o->label, &t->label));
    for (int i = 0; i < t->o->n_target; i++) QN_TRY(find_column(t, t->o->target[i], &t->target[i]));
    return QN_OK;
}

/* ---- first pass --------------------------------------------------------------------------- */

static qn_status read_header(struct table *t)
{
    bool more;
    struct qn__csv start = t->csv;
    QN_TRY(qn__csv_row(&t->csv, &more, t->err));
    if (!more) return qn__fail(t->err, 3001, QN_AT_FILE(t->csv.name), "only blank lines; expected rows");
    t->width = t->csv.n;
    if (t->o->no_header) { /* read it again as the first row */
        t->csv.at = start.at;
        t->csv.line = start.line;
        return QN_OK;
    }
    t->header = qn__calloc(NULL, t->width, sizeof *t->header);
    for (size_t i = 0; t->header && i < t->width; i++) {
        const char *name = qn__csv_text(&t->csv, i);
        t->header[i] = qn__strdup(name, strlen(name));
        if (!t->header[i]) return qn__nomem(t->err, "CSV header", 0);
    }
    return t->header ? QN_OK : qn__nomem(t->err, "CSV header", 0);
}

static qn_status collect(struct table *t)
{
    int n = t->ds->t.n_columns;
    for (int i = 0; i < n; i++) {
        const qn_column *c = &t->ds->t.column[i];
        if (!c->category) continue;
        if (!set_add(&t->seen[i], qn__csv_text(&t->csv, (size_t)c->index))) return qn__nomem(t->err, "categories", 0);
        if (t->seen[i].n > QN_MAX_CLASSES)
            return qn__fail(t->err, 3036, QN_AT_FILE(t->csv.name), "column \"%s\": more than %d categories",
                            qn__show(c->name).s, QN_MAX_CLASSES);
    }
    if (t->label < 0 || t->o->n_classes > 0) return QN_OK;
    const char *label = qn__csv_text(&t->csv, (size_t)t->label);
    if (*label && !set_add(&t->seen[n], label)) return qn__nomem(t->err, "classes", 0);
    if (t->seen[n].n <= QN_MAX_CLASSES) return QN_OK;
    return qn__fail(t->err, 3036, QN_AT_FILE(t->csv.name), "more than %d classes", QN_MAX_CLASSES);
}

static qn_status first_pass(struct table *t)
{
    struct qn__csv start = t->csv;
    bool more;
    for (;;) {
        QN_TRY(qn__csv_row(&t->csv, &more, t->err));
        if (!more) break;
        t->rows++;
        if (t->csv.n == t->width && !t->o->transform) QN_TRY(collect(t));
    }
    t->csv.at = start.at;
    t->csv.line = start.line;
    if (t->rows > 0) return QN_OK;
    return qn__fail(t->err, 3054, QN_AT_FILE(t->csv.name), "a header and no rows; expected at least 1");
}

/* Collected texts become the categories and classes. */
static qn_status name_values(struct table *t)
{
    qn_transform *tr = &t->ds->t;
    for (int i = 0; i < tr->n_columns; i++) {
        struct set *s = &t->seen[i];
        if (!tr->column[i].category) continue;
        if (s->n) qsort(s->at, s->n, sizeof *s->at, by_bytes);
        tr->column[i].value = s->at;
        tr->column[i].n_values = (int)s->n;
        s->at = NULL;
        s->n = s->cap = 0;
    }
    struct set *s = &t->seen[tr->n_columns];
    if (t->label < 0) return QN_OK;
    t->numbers = all_integers(s);
    if (s->n) qsort(s->at, s->n, sizeof *s->at, t->numbers ? by_value : by_bytes);
    int n = t->o->n_classes > 0 ? t->o->n_classes : (int)s->n;
    return qn__transform_set_classes(tr, n, t->o->n_classes > 0 ? t->o->class_names : (const char *const *)s->at)
               ? QN_OK
               : qn__nomem(t->err, "classes", 0);
}

static qn_status set_shape(struct table *t)
{
    int64_t width = 0;
    qn_transform *tr = &t->ds->t;
    for (int i = 0; i < tr->n_columns; i++) width += tr->column[i].category ? tr->column[i].n_values : 1;
    if (width < 1 || width >= (int64_t)1 << 31)
        return qn__fail(t->err, 3035, QN_AT_FILE(t->csv.name), "%lld inputs; expected 1..2^31-1", (long long)width);
    tr->rank = 1;
    tr->dim[0] = width;
    tr->delimiter = t->csv.delimiter;
    tr->n_fields = (int64_t)t->width;
    tr->n_targets = t->o->n_target;
    return QN_OK;
}

/* ---- second pass -------------------------------------------------------------------------- */

/* A class by its index. */
static qn_status label_number(int32_t *out, const char *text, int n, bool names, const struct qn__where *at,
                              qn_error *err)
{
    int64_t value;
    if (!qn__parse_i64(text, &value) && names)
        return qn__fail(err, 3036, at, "\"%s\"; expected one of %d known classes", qn__show(text).s, n);
    if (!qn__parse_i64(text, &value)) return qn__fail(err, 3042, at, "\"%s\"; expected an integer", qn__show(text).s);
    if (value < 0 || value >= n) return qn__fail(err, 3041, at, "label %lld; expected 0..%d", (long long)value, n - 1);
    *out = (int32_t)value;
    return QN_OK;
}

static qn_status parse_label(struct table *t, int32_t *out, qn_error *err)
{
    const struct qn__csv_field *f = &t->csv.field[t->label];
    const char *text = qn__csv_text(&t->csv, (size_t)t->label);
    const qn_transform *tr = &t->ds->t;
    const struct qn__where *at = QN_AT_LINE(t->csv.name, f->line, f->column, "label");
    if (!*text) return qn__fail(err, 3034, at, "\"\"; expected a class");
    char *const *found = NULL;
    bool by_name = t->o->transform || t->o->class_names;
    if (!by_name && t->o->n_classes == 0 && tr->n_classes)
        found = bsearch(&text, tr->class_name, (size_t)tr->n_classes, sizeof *tr->class_name,
                        t->numbers ? by_value : by_bytes);
    for (int i = 0; by_name && !found && i < tr->n_classes; i++)
        if (strcmp(tr->class_name[i], text) == 0) found = &tr->class_name[i];
    if (!found && t->o->n_classes > 0) return label_number(out, text, tr->n_classes, by_name, at, err);
    if (!found)
        return qn__fail(err, 3036, at, "\"%s\"; expected one of %d known classes", qn__show(text).s, tr->n_classes);
    *out = (int32_t)(found - tr->class_name);
    return QN_OK;
}

static struct qn__field_policy policy(const struct table *t, int64_t column, bool missing_ok)
{
    const struct qn__csv_field *f = &t->csv.field[column];
    return (struct qn__field_policy){ t->csv.name, f->line, f->column, missing_ok, t->o->nonfinite_is_missing };
}

static qn_status parse_target(struct table *t, int i, float *out, qn_error *err)
{
    char name[40];
    double value;
    snprintf(name, sizeof name, "column %lld", (long long)t->target[i]);
    const qn_column c = { .name = t->header ? t->header[t->target[i]] : name };
    struct qn__field_policy p = policy(t, t->target[i], false);
    QN_TRY(qn__parse_field(&value, &c, qn__csv_text(&t->csv, (size_t)t->target[i]), &p, err));
    *out = (float)value;
    if (isfinite(*out)) return QN_OK;
    return qn__fail(err, 3033, QN_AT_LINE(p.name, p.line, p.column, "target"), "%g; expected a number below 3.4e38",
                    value);
}

/* The row just read, as sample i. *drop: a value is missing and such rows are dropped. */
static qn_status parse_row(struct table *t, int64_t i, bool *drop, qn_error *err)
{
    qn_dataset *ds = t->ds;
    double *raw = ds->raw + i * ds->size;
    *drop = false;
    if (t->csv.n != t->width)
        return qn__fail(err, 3032, QN_AT_LINE(t->csv.name, t->csv.row_line, 0, NULL),
                        "%zu fields; expected %zu as in the first row", t->csv.n, t->width);
    for (int k = 0; k < ds->t.n_columns; k++) {
        const qn_column *c = &ds->t.column[k];
        struct qn__field_policy p = policy(t, c->index, c->may_miss || t->o->missing != QN_MISSING_ERROR);
        QN_TRY(qn__parse_field(&raw[k], c, qn__csv_text(&t->csv, (size_t)c->index), &p, err));
        *drop |= isnan(raw[k]) && t->o->missing == QN_MISSING_DROP;
    }
    if (t->label >= 0) QN_TRY(parse_label(t, &ds->label[i], err));
    for (int k = 0; k < ds->t.n_targets; k++) QN_TRY(parse_target(t, k, ds->target + i * ds->t.n_targets + k, err));
    ds->line[i] = t->csv.row_line;
    return QN_OK;
}

static qn_status take_memory(struct table *t)
{
    qn_dataset *ds = t->ds;
    size_t n = (size_t)t->rows, cells, targets;
    ds->n = t->rows;
    ds->size = ds->t.n_columns;
    bool ok = qn__mul(&cells, n, (size_t)ds->size) && qn__mul(&targets, n, (size_t)ds->t.n_targets);
    ok = ok && (ds->raw = qn__calloc(NULL, cells, sizeof *ds->raw)) != NULL;
    ok = ok && (ds->line = qn__calloc(NULL, n, sizeof *ds->line)) != NULL;
    ok = ok && (t->label < 0 || (ds->label = qn__calloc(NULL, n, sizeof *ds->label)) != NULL);
    ok = ok && (!ds->t.n_targets || (ds->target = qn__calloc(NULL, targets, sizeof *ds->target)) != NULL);
    if (!ok) return qn__nomem(t->err, "table", n * (size_t)ds->size * sizeof *ds->raw);
    ds->bytes = cells * sizeof *ds->raw + n * sizeof *ds->line + targets * sizeof *ds->target;
    return QN_OK;
}

static qn_status second_pass(struct table *t)
{
    qn_dataset *ds = t->ds;
    int64_t n = 0;
    bool more, drop;
    QN_TRY(take_memory(t));
    for (;;) {
        qn_error why = { 0 };
        QN_TRY(qn__csv_row(&t->csv, &more, t->err));
        if (!more) break;
        if (!parse_row(t, n, &drop, &why)) {
            n += !drop;
        } else if (ds->on_bad == QN_BAD_SKIP) {
            QN_TRY(qn__dataset_skip(ds, -t->csv.row_line, &why, t->err));
        } else {
            if (t->err) *t->err = why;
            return qn_error_status(&why);
        }
    }
    ds->n = n; /* what was taken for the rows left out stays unused */
    return n ? QN_OK
             : qn__fail(t->err, 3054, QN_AT_FILE(t->csv.name), "no usable row of %lld; expected at least 1",
                        (long long)t->rows);
}

/* ---- the whole ---------------------------------------------------------------------------- */

static qn_status check_options(const qn_csv_options *o, qn_error *err)
{
    if (o->n_classes < 0 || o->n_classes > QN_MAX_CLASSES)
        return qn__fail(err, 2301, QN_AT_FIELD("n_classes"), "%d; expected 0..%d", o->n_classes, QN_MAX_CLASSES);
    if (o->class_names && o->n_classes == 0)
        return qn__fail(err, 2301, QN_AT_FIELD("n_classes"), "0 beside class_names; expected their number");
    if (!(o->clip_limit >= 0 && o->clip_limit < 1e6))
        return qn__fail(err, 2301, QN_AT_FIELD("clip_limit"), "%g; expected 0..1e6", o->clip_limit);
    if (o->n_numeric < 0 || o->n_categorical < 0 || o->n_target < 0)
        return qn__fail(err, 2301, QN_AT_FIELD("columns"), "a negative number of names; expected 0 or more");
    return QN_OK;
}

static qn_status load(struct table *t)
{
    const qn_csv_options *o = t->o;
    QN_TRY(read_header(t));
    t->target = qn__calloc(NULL, (size_t)o->n_target, sizeof *t->target);
    if (!t->target) return qn__nomem(t->err, "columns", 0);
    QN_TRY(o->transform ? adopt_columns(t, o->transform) : choose_columns(t));
    t->seen = qn__calloc(NULL, (size_t)t->ds->t.n_columns + 1, sizeof *t->seen);
    if (!t->seen) return qn__nomem(t->err, "categories", 0);
    QN_TRY(first_pass(t));
    if (!o->transform) QN_TRY(name_values(t));
    QN_TRY(set_shape(t));
    QN_TRY(second_pass(t));
    return o->transform ? QN_OK : qn_dataset_fit(t->ds, NULL, t->err);
}

static void close_table(struct table *t)
{
    size_t sets = (size_t)t->ds->t.n_columns + 1;
    for (size_t i = 0; t->seen && i < sets; i++) set_free(&t->seen[i]);
    qn__free(NULL, t->seen, sets * sizeof *t->seen);
    for (size_t i = 0; t->header && i < t->width; i++)
        if (t->header[i]) qn__free(NULL, t->header[i], strlen(t->header[i]) + 1);
    qn__free(NULL, t->header, t->width * sizeof *t->header);
    qn__free(NULL, t->target, (size_t)t->o->n_target * sizeof *t->target);
    qn__csv_close(&t->csv);
}

qn_status qn__csv_parse(qn_dataset **out, const char *text, size_t n, const char *name, const qn_csv_options *o,
                        qn_error *err)
{
    static const qn_csv_options defaults;
    struct table t = { .o = o ? o : &defaults, .label = -1, .err = err };
    *out = NULL;
    QN_TRY(check_options(t.o, err));
    QN_TRY(qn__csv_open(&t.csv, text, n, name, t.o->delimiter, err));
    t.ds = qn__dataset_new(name);
    if (!t.ds) return qn__nomem(err, "data set", sizeof *t.ds);
    t.ds->store = QN_STORE_TABLE;
    t.ds->on_bad = t.o->on_bad;
    t.ds->max_bad = t.o->max_bad;
    t.ds->fit.standardise = t.o->standardise;
    t.ds->fit.missing = t.o->missing;
    t.ds->fit.clip = t.o->clip;
    t.ds->fit.limit = t.o->clip_limit > 0 ? t.o->clip_limit : t.o->clip == QN_CLIP_IQR ? 1.5 : 3;
    qn_status status = load(&t);
    close_table(&t);
    if (status)
        qn_dataset_free(t.ds);
    else
        *out = t.ds;
    return status;
}

qn_status qn_dataset_from_csv(qn_dataset **out, const char *path, const qn_csv_options *options, qn_error *err)
{
    char *text;
    size_t n;
    *out = NULL;
    QN_TRY(qn__file_read_all(NULL, path, QN_DATA_FILE_MAX, &text, &n, err));
    qn_status status = qn__csv_parse(out, text, n, path, options, err);
    qn__free(NULL, text, n + 1);
    return status;
}

/* ---- one more row ------------------------------------------------------------------------- */

int qn_transform_place(const qn_transform *t, int c)
{
    int place = 0;
    for (int i = 0; i < t->n_columns; i++) place += t->column[i].index < t->column[c].index;
    return place;
}

static qn_status transform_fields(const qn_transform *t, const struct qn__csv *c, double *raw, qn_error *err)
{
    int64_t highest = 0;
    for (int i = 0; i < t->n_columns; i++)
        if (t->column[i].index > highest) highest = t->column[i].index;
    bool whole = (int64_t)c->n > highest && (t->n_fields == 0 || (int64_t)c->n <= t->n_fields);
    if (!whole && c->n != (size_t)t->n_columns)
        return qn__fail(err, 3032, QN_AT_LINE(c->name, c->row_line, 0, NULL),
                        "%zu fields; expected the %d features, or a row of the training file", c->n, t->n_columns);
    for (int i = 0; i < t->n_columns; i++) {
        size_t k = whole ? (size_t)t->column[i].index : (size_t)qn_transform_place(t, i);
        const struct qn__field_policy p = { c->name, c->field[k].line, c->field[k].column, t->column[i].may_miss,
                                            t->column[i].may_miss };
        QN_TRY(qn__parse_field(&raw[i], &t->column[i], qn__csv_text(c, k), &p, err));
    }
    return QN_OK;
}

qn_status qn_transform_row(const qn_transform *t, const char *line, const char *where, float *x, qn_error *err)
{
    struct qn__csv c;
    bool more;
    if (!t->n_columns) return qn__fail(err, 3003, QN_AT_FILE(where), "the model reads images; expected one of tables");
    QN_TRY(qn__csv_open(&c, line, strlen(line), where, t->delimiter, err));
    double *raw = qn__calloc(NULL, (size_t)t->n_columns, sizeof *raw);
    qn_status status = raw ? qn__csv_row(&c, &more, err) : qn__nomem(err, "row", (size_t)t->n_columns * sizeof *raw);
    if (!status && !more) status = qn__fail(err, 3001, QN_AT_FILE(where), "an empty line; expected a row");
    if (!status) status = transform_fields(t, &c, raw, err);
    if (!status) qn__transform_values(t, raw, x);
    qn__free(NULL, raw, (size_t)t->n_columns * sizeof *raw);
    qn__csv_close(&c);
    return status;
}
