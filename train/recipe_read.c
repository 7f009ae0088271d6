/* recipe_read.c - from the tree into structs, driven by the tables of schema.def. */
#include "recipe.h"
#include <stdio.h>
#include <string.h>

const char *qn__path_key(char buf[QN__PATH], const char *path, const char *key)
{
    size_t n = strlen(path);
    if (n > QN__PATH - 110) n = QN__PATH - 110; /* keeps room for the key; messages cut it anyway */
    snprintf(buf, QN__PATH, "%.*s%s%.100s", (int)n, path, n ? "." : "", key);
    return buf;
}

const char *qn__path_at(char buf[QN__PATH], const char *path, int64_t index)
{
    snprintf(buf, QN__PATH, "%.200s[%lld]", path, (long long)index);
    return buf;
}

void *qn__reader_get(struct qn__reader *rd, size_t count, size_t size)
{
    void *p = qn__pool_get(rd->pool, count ? count : 1, size);
    if (!p && !rd->no_memory) {
        rd->no_memory = true;
        qn__problem(&rd->report, 5002, NULL, false, "recipe", "cannot allocate %zu bytes", count * size);
    }
    return p;
}

const char *qn__json_show(const struct qn__json *node, char *buf, size_t size)
{
    char number[32];
    switch (node->kind) {
    case QN__NULL: snprintf(buf, size, "null"); break;
    case QN__BOOL: snprintf(buf, size, "%s", node->boolean ? "true" : "false"); break;
    case QN__INT: snprintf(buf, size, "%lld", (long long)node->integer); break;
    case QN__REAL: snprintf(buf, size, "%s", qn__format_f64(number, node->real)); break;
    case QN__STRING: snprintf(buf, size, "\"%.60s\"", qn__show(node->text).s); break;
    case QN__ARRAY: snprintf(buf, size, "a list of %d", node->count); break;
    case QN__OBJECT: snprintf(buf, size, "an object"); break;
    }
    return buf;
}

static void say_expected(struct qn__reader *rd, int code, const struct qn__field *f, const struct qn__json *node,
                         const char *path, int nearest)
{
    char found[100], type[320];
    qn__json_show(node, found, sizeof found);
    qn__field_type(f, type, sizeof type);
    if (nearest >= 0)
        qn__problem(&rd->report, code, node, false, path, "%s; expected %s; did you mean \"%s\"?", found, type,
                    f->choices[nearest]);
    else
        qn__problem(&rd->report, code, node, false, path, "%s; expected %s", found, type);
}

void qn__read_wrong(struct qn__reader *rd, const struct qn__field *f, const struct qn__json *node, const char *path)
{
    say_expected(rd, 2107, f, node, path, -1);
}

static int find(const char *word, const char *const *list)
{
    for (int i = 0; list[i]; i++)
        if (strcmp(word, list[i]) == 0) return i;
    return -1;
}

static int length(const char *const *list)
{
    int n = 0;
    while (list[n]) n++;
    return n;
}

/* ---- single values ---- */

static bool is_number(const struct qn__json *node) { return node->kind == QN__INT || node->kind == QN__REAL; }

static void read_int(struct qn__reader *rd, const struct qn__field *f, const struct qn__json *node, int64_t *out,
                     const char *path)
{
    if (node->kind != QN__INT)
        qn__read_wrong(rd, f, node, path);
    else if ((double)node->integer < f->min || (double)node->integer > f->max)
        say_expected(rd, 2108, f, node, path, -1);
    else
        *out = node->integer;
}

static void read_real(struct qn__reader *rd, const struct qn__field *f, const struct qn__json *node, double *out,
                      const char *path)
{
    if (!is_number(node))
        qn__read_wrong(rd, f, node, path);
    else if (!(node->real >= f->min && node->real <= f->max))
        say_expected(rd, 2108, f, node, path, -1);
    else
        *out = node->real;
}

/* The text of a string; of a --set value also when it looks like a number. */
static const char *text_of(const struct qn__json *node)
{
    bool scalar = node->kind == QN__STRING || (node->set && node->text && node->kind != QN__NULL);
    return scalar ? node->text : NULL;
}

static void read_choice(struct qn__reader *rd, const struct qn__field *f, const struct qn__json *node, int *out,
                        const char *path)
{
    int i = node->kind == QN__STRING ? find(node->text, f->choices) : -1;
    if (i >= 0)
        *out = i;
    else if (node->kind == QN__STRING)
        say_expected(rd, 2109, f, node, path, qn__nearest(node->text, f->choices, length(f->choices)));
    else
        qn__read_wrong(rd, f, node, path);
}

static void read_text(struct qn__reader *rd, const struct qn__field *f, const struct qn__json *node, const char **out,
                      const char *path)
{
    const char *s = text_of(node);
    size_t n = s ? strlen(s) : 0;
    int choice = 0;
    if (!s) {
        qn__read_wrong(rd, f, node, path);
    } else if (f->choices) {
        read_choice(rd, f, node, &choice, path);
        *out = f->choices[choice];
    } else if (n == 0 || (f->max > 0 && (double)n > f->max)) {
        qn__problem(&rd->report, 2108, node, false, path, "%zu bytes; expected 1..%.0f", n,
                    f->max > 0 ? f->max : 4096.0);
    } else if (n > 4096) {
        qn__problem(&rd->report, 2108, node, false, path, "%zu bytes; expected 1..4096", n);
    } else {
        *out = s;
    }
}

static void read_pair(struct qn__reader *rd, const struct qn__field *f, const struct qn__json *node, int64_t out[2],
                      const char *path)
{
    char p[QN__PATH];
    if (f->kind == QN__K_PADDING && node->kind == QN__STRING && strcmp(node->text, "same") == 0) {
        out[0] = out[1] = QN_PADDING_SAME;
    } else if (node->kind == QN__ARRAY && node->count == 2) {
        for (int i = 0; i < 2; i++) read_int(rd, f, qn__json_at(node, i), &out[i], qn__path_at(p, path, i));
    } else {
        read_int(rd, f, node, &out[0], path);
        out[1] = out[0];
    }
}

static void read_real2(struct qn__reader *rd, const struct qn__field *f, const struct qn__json *node, double out[2],
                       const char *path)
{
    char p[QN__PATH];
    if (node->kind != QN__ARRAY || node->count != 2) {
        qn__read_wrong(rd, f, node, path);
        return;
    }
    for (int i = 0; i < 2; i++) read_real(rd, f, qn__json_at(node, i), &out[i], qn__path_at(p, path, i));
}

/* ---- lists ---- */

static void read_texts(struct qn__reader *rd, const struct qn__field *f, const struct qn__json *node, qn_texts *out,
                       const char *path)
{
    char p[QN__PATH];
    bool one = node->kind == QN__STRING;
    if (!one && (node->kind != QN__ARRAY || node->count > (int)f->max)) {
        qn__read_wrong(rd, f, node, path);
        return;
    }
    int n = one ? 1 : node->count;
    out->v = qn__reader_get(rd, (size_t)n, sizeof *out->v);
    if (!out->v) return;
    const struct qn__json *c = one ? node : node->child;
    for (int i = 0; i < n; i++, c = c->next) {
        if (c->kind == QN__STRING && c->text[0])
            out->v[i] = c->text;
        else
            qn__problem(&rd->report, 2107, c, false, qn__path_at(p, path, i), "not a string; expected a name");
    }
    out->n = n;
}

static void read_reals(struct qn__reader *rd, const struct qn__field *f, const struct qn__json *node, qn_reals *out,
                       const char *path)
{
    char p[QN__PATH];
    if (node->kind != QN__ARRAY || node->count > 65536) {
        qn__read_wrong(rd, f, node, path);
        return;
    }
    out->v = qn__reader_get(rd, (size_t)node->count, sizeof *out->v);
    if (!out->v) return;
    const struct qn__json *c = node->child;
    for (int i = 0; i < node->count; i++, c = c->next) read_real(rd, f, c, &out->v[i], qn__path_at(p, path, i));
    out->n = node->count;
}

static void read_ints(struct qn__reader *rd, const struct qn__field *f, const struct qn__json *node, qn_ints *out,
                      const char *path)
{
    char p[QN__PATH];
    if (node->kind != QN__ARRAY || node->count < 1 || node->count > QN_MAX_DIMS - 1) {
        qn__read_wrong(rd, f, node, path);
        return;
    }
    out->v = qn__reader_get(rd, (size_t)node->count, sizeof *out->v);
    if (!out->v) return;
    const struct qn__json *c = node->child;
    for (int i = 0; i < node->count; i++, c = c->next) read_int(rd, f, c, &out->v[i], qn__path_at(p, path, i));
    out->n = node->count;
}

static void read_objects(struct qn__reader *rd, const struct qn__field *f, const struct qn__json *node, char *base,
                         const char *path)
{
    char p[QN__PATH];
    if (node->kind != QN__ARRAY || node->count > (int)f->max) {
        qn__read_wrong(rd, f, node, path);
        return;
    }
    char *list = qn__reader_get(rd, (size_t)node->count, f->table->size);
    if (!list) return;
    const struct qn__json *c = node->child;
    for (int i = 0; i < node->count; i++, c = c->next)
        qn__read_object(rd, f->table, c, list + (size_t)i * f->table->size, qn__path_at(p, path, i));
    void *pointer = list;
    memcpy(base + f->offset, &pointer, sizeof pointer);
    memcpy(base + f->count_offset, &node->count, sizeof node->count);
}

/* ---- one key ---- */

static void read_null(const struct qn__field *f, char *at)
{
    static const int64_t minus = -1;
    static const double minus_real = -1;
    static const int none = -1;
    if (f->kind == QN__K_INT)
        memcpy(at, &minus, sizeof minus);
    else if (f->kind == QN__K_REAL)
        memcpy(at, &minus_real, sizeof minus_real);
    else if (f->kind == QN__K_CHOICE)
        memcpy(at, &none, sizeof none);
}

static void read_default(struct qn__reader *rd, const struct qn__field *f, char *base, const char *path);

static void read_value(struct qn__reader *rd, const struct qn__field *f, const struct qn__json *node, char *base,
                       const char *path)
{
    void *at = base + f->offset;
    bool yes = node->kind == QN__BOOL && node->boolean;
    if (node->said) return;
    if (node->kind == QN__NULL && f->standard && strcmp(f->standard, "null") == 0) {
        read_null(f, at);
        return;
    }
    if (f->or_true && yes) {
        read_default(rd, f, base, path);
        return;
    }
    switch (f->kind) {
    case QN__K_FLAG:
        if (!yes) qn__read_wrong(rd, f, node, path);
        break;
    case QN__K_BOOL:
        if (node->kind == QN__BOOL)
            memcpy(at, &node->boolean, sizeof(bool));
        else
            qn__read_wrong(rd, f, node, path);
        break;
    case QN__K_CHANCE:
        if (node->kind == QN__BOOL)
            *(double *)at = yes ? 0.5 : 0;
        else
            read_real(rd, f, node, at, path);
        break;
    case QN__K_INT: read_int(rd, f, node, at, path); break;
    case QN__K_REAL: read_real(rd, f, node, at, path); break;
    case QN__K_TEXT: read_text(rd, f, node, at, path); break;
    case QN__K_CHOICE: read_choice(rd, f, node, at, path); break;
    case QN__K_PAIR:
    case QN__K_PADDING: read_pair(rd, f, node, at, path); break;
    case QN__K_REAL2: read_real2(rd, f, node, at, path); break;
    case QN__K_TEXTS: read_texts(rd, f, node, at, path); break;
    case QN__K_INTS: read_ints(rd, f, node, at, path); break;
    case QN__K_REALS: read_reals(rd, f, node, at, path); break;
    case QN__K_OBJECT: qn__read_object(rd, f->table, node, at, path); break;
    case QN__K_OBJECTS: read_objects(rd, f, node, base, path); break;
    case QN__K_VARS: /* recipe_set.c has looked at it */ break;
    case QN__K_LAYERS: qn__read_layers(rd, f, node, at, path); break;
    case QN__K_BRANCHES: qn__read_branches(rd, f, node, at, path); break;
    }
}

static void read_default(struct qn__reader *rd, const struct qn__field *f, char *base, const char *path)
{
    if (strcmp(f->standard, "null") == 0) {
        read_null(f, base + f->offset);
        return;
    }
    struct qn__json *node = qn__json_parse(rd->pool, f->standard, strlen(f->standard), true, &rd->report);
    if (node) read_value(rd, f, node, base, path);
}

/* ---- objects ---- */

enum { UNKNOWN = -1, WRONG = -2 };

struct object {
    struct qn__reader *rd;
    const struct qn__table *t;
    const struct qn__json *node;
    char *base;
    const char *path;
    int variant;
    uint64_t seen; /* bit per row */
};

static const struct qn__field *row_named(const struct qn__table *t, const char *name, int variant)
{
    const struct qn__field *other = NULL;
    for (int i = 0; i < t->n; i++) {
        if (strcmp(t->field[i].name, name) != 0) continue;
        if (!t->variants || qn__field_fits(&t->field[i], variant)) return &t->field[i];
        other = &t->field[i];
    }
    return other; /* exists, but does not fit */
}

static void unknown_key(struct object *o, const struct qn__json *c, const char *path)
{
    const char *name[64];
    int n = 0;
    bool full = o->rd->report.errors->kept == QN_RECIPE_ERRORS; /* not worth searching any more */
    for (int i = 0; i < o->t->n && !full; i++)
        if (!o->t->variants || o->variant < 0 || qn__field_fits(&o->t->field[i], o->variant))
            name[n++] = o->t->field[i].name;
    int near = qn__nearest(c->key, name, n);
    if (near >= 0) {
        qn__problem(&o->rd->report, 2105, c, true, path, "unknown key; did you mean \"%s\"?", name[near]);
        return;
    }
    char list[240] = "";
    for (int i = 0; i < n && strlen(list) + strlen(name[i]) + 6 < sizeof list; i++)
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", i ? ", " : "", name[i]);
    qn__problem(&o->rd->report, 2105, c, true, path, "unknown key; expected one of %s", list);
}

static void missing(struct object *o, const struct qn__field *f)
{
    char p[QN__PATH], type[320];
    qn__field_type(f, type, sizeof type);
    qn__problem(&o->rd->report, 2106, o->node, false, qn__path_key(p, o->path, f->name), "missing; expected %s", type);
}

/* Which kind is meant, by the selector's value. */
static int variant_by_name(struct object *o)
{
    const struct qn__field *f = row_named(o->t, o->t->selector, 0);
    const struct qn__json *c = qn__json_get(o->node, o->t->selector);
    if (c) {
        int i = c->kind == QN__STRING ? find(c->text, o->t->variants) : -1;
        return i >= 0 ? i : WRONG; /* reading the key says why */
    }
    if (!f->standard) {
        missing(o, f);
        return WRONG;
    }
    char name[40];
    snprintf(name, sizeof name, "%.*s", (int)strlen(f->standard) - 2, f->standard + 1);
    return find(name, o->t->variants);
}

/* ... by which of the selecting keys is there. */
static int variant_by_key(struct object *o)
{
    const struct qn__json *first = NULL;
    int variant = UNKNOWN;
    bool strange = false;
    for (const struct qn__json *c = o->node->child; c; c = c->next) {
        const struct qn__field *f = row_named(o->t, c->key, -1);
        if (!f) strange = true;
        if (!f || !f->selects) continue;
        if (!first) {
            first = c;
            variant = f->selects - 1;
            continue;
        }
        qn__problem(&o->rd->report, 2112, c, true, o->path, "\"%s\" beside \"%s\"; expected only one of them", c->key,
                    first->key);
        return WRONG;
    }
    if (variant == UNKNOWN && !strange)
        qn__problem(&o->rd->report, 2112, o->node, false, o->path, "no kind; expected %s",
                    o->t->layer ? "a key like \"conv\" or \"linear\" that says which layer"
                                : "one of name, idx, png, csv, npy, digits");
    return variant;
}

static void read_children(struct object *o, const struct qn__json *node, const char *path)
{
    char p[QN__PATH];
    for (const struct qn__json *c = node->child; c; c = c->next) {
        const struct qn__field *f = row_named(o->t, c->key, o->variant);
        qn__path_key(p, path, c->key);
        if (!f) {
            unknown_key(o, c, p);
        } else if (o->t->variants && !qn__field_fits(f, o->variant)) {
            if (o->variant >= 0)
                qn__problem(&o->rd->report, 2105, c, true, p, "not an option of \"%s\"", o->t->variants[o->variant]);
        } else {
            uint64_t bit = UINT64_C(1) << (f - o->t->field);
            if (o->seen & bit) /* only by `{"relu": {...}, ...}`: the reader of JSON refuses it elsewhere */
                qn__problem(&o->rd->report, 2104, c, true, p, "key repeated; expected once");
            o->seen |= bit;
            if (f->kind == QN__K_FLAG && c->kind == QN__OBJECT && node == o->node)
                read_children(o, c, p);
            else
                read_value(o->rd, f, c, o->base, p);
        }
    }
}

static void read_absent(struct object *o)
{
    char p[QN__PATH];
    for (int i = 0; i < o->t->n; i++) {
        const struct qn__field *f = &o->t->field[i];
        if (o->seen >> i & 1 || (o->t->variants && !qn__field_fits(f, o->variant))) continue;
        if (f->selects && f->selects - 1 != o->variant) continue;
        if (f->standard)
            read_default(o->rd, f, o->base, qn__path_key(p, o->path, f->name));
        else
            missing(o, f);
    }
}

/* A bare string as the object it is short for. */
static const struct qn__json *expand(struct qn__reader *rd, const struct qn__table *t, const struct qn__json *node)
{
    if (node->kind != QN__STRING || (!t->layer && !t->short_form)) return node;
    struct qn__json *object = qn__reader_get(rd, 1, sizeof *object);
    struct qn__json *child = qn__reader_get(rd, 1, sizeof *child);
    if (!object || !child) return node;
    *object = *child = *node;
    object->kind = QN__OBJECT;
    object->count = 1;
    object->child = child;
    child->next = NULL;
    child->key_line = node->line;
    child->key_column = node->column;
    child->key = t->layer ? node->text : t->short_form;
    if (t->layer) {
        child->kind = QN__BOOL;
        child->boolean = true;
    }
    return object;
}

void qn__read_object(struct qn__reader *rd, const struct qn__table *t, const struct qn__json *node, void *base,
                     const char *path)
{
    if (node->said) return;
    struct object o = { .rd = rd, .t = t, .base = base, .path = path, .variant = UNKNOWN };
    bool on = !(node->kind == QN__BOOL && !node->boolean);
    if (t->optional) {
        memcpy(base, &on, sizeof on);
        if (node->kind == QN__BOOL && !on) return;
    }
    o.node = expand(rd, t, node);
    bool all_defaults = t->optional && node->kind == QN__BOOL;
    if (o.node->kind != QN__OBJECT && !all_defaults) {
        char found[100];
        qn__problem(&rd->report, 2107, node, false, path, "%s; expected an object%s",
                    qn__json_show(node, found, sizeof found), t->short_form || t->layer ? " or a name" : "");
        return;
    }
    if (t->variants) {
        o.variant = t->selector ? variant_by_name(&o) : variant_by_key(&o);
        memcpy((char *)base + t->variant_offset, &(int){ o.variant < 0 ? 0 : o.variant }, sizeof(int));
    }
    read_children(&o, o.node, path);
    if (o.variant >= 0 || !t->variants) read_absent(&o);
}
