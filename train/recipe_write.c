/* recipe_write.c - the resolved recipe as JSON, by the tables of schema.def. */
#include "recipe.h"
#include <stdlib.h>
#include <string.h>

struct writer {
    struct qn__text t;
    int indent;
    bool first; /* no key yet in this object */
};

static void line(struct writer *w) { qn__text_add(&w->t, "\n%*s", 4 * w->indent, ""); }

static void key(struct writer *w, const char *name)
{
    if (!w->first) qn__text_add(&w->t, ",");
    if (w->indent)
        line(w);
    else
        qn__text_add(&w->t, w->first ? "" : " ");
    w->first = false;
    qn__text_json(&w->t, name);
    qn__text_add(&w->t, ": ");
}

static void real(struct writer *w, double x)
{
    char number[32];
    qn__text_add(&w->t, "%s", qn__format_f64(number, x));
}

static void write_object(struct writer *w, const struct qn__table *t, const char *base, bool flat);

static bool is_unset(const struct qn__field *f, const char *at)
{
    int64_t i;
    double x;
    int c;
    const char *s;
    if (!f->standard || strcmp(f->standard, "null") != 0) return false;
    switch (f->kind) {
    case QN__K_INT: memcpy(&i, at, sizeof i); return i == -1;
    case QN__K_REAL: memcpy(&x, at, sizeof x); return x < 0;
    case QN__K_CHOICE: memcpy(&c, at, sizeof c); return c < 0;
    case QN__K_TEXT: memcpy(&s, at, sizeof s); return s == NULL;
    default: return false;
    }
}

/* As a JSON string; one that begins with '$' must not be read as a variable. */
static void string(struct writer *w, const char *s)
{
    size_t at = w->t.n;
    qn__text_json(&w->t, s);
    if (s[0] != '$' || w->t.failed) return;
    w->t.n = at;
    qn__text_add(&w->t, "\"$");
    at = w->t.n;
    qn__text_json(&w->t, s);
    if (!w->t.failed) memmove(w->t.s + at, w->t.s + at + 1, w->t.n - at); /* drop its opening quote */
    w->t.n -= !w->t.failed;
}

static void write_texts(struct writer *w, const qn_texts *list)
{
    for (int32_t i = 0; i < list->n; i++) {
        qn__text_add(&w->t, i ? ", " : "[");
        string(w, list->v[i]);
    }
    qn__text_add(&w->t, list->n ? "]" : "[]");
}

static void write_reals(struct writer *w, const double *v, int32_t n)
{
    qn__text_add(&w->t, "[");
    for (int32_t i = 0; i < n; i++) {
        qn__text_add(&w->t, i ? ", " : "");
        real(w, v[i]);
    }
    qn__text_add(&w->t, "]");
}

static void write_ints(struct writer *w, const int64_t *v, int32_t n)
{
    qn__text_add(&w->t, "[");
    for (int32_t i = 0; i < n; i++) qn__text_add(&w->t, "%s%lld", i ? ", " : "", (long long)v[i]);
    qn__text_add(&w->t, "]");
}

static void write_list(struct writer *w, const struct qn__field *f, const char *base)
{
    const char *list;
    int32_t n;
    memcpy(&list, base + f->offset, sizeof list);
    memcpy(&n, base + f->count_offset, sizeof n);
    qn__text_add(&w->t, "[");
    w->indent++;
    for (int32_t i = 0; i < n; i++) {
        if (i) qn__text_add(&w->t, ",");
        line(w);
        write_object(w, f->table, list + (size_t)i * f->table->size, true);
    }
    w->indent--;
    if (n) line(w);
    qn__text_add(&w->t, "]");
}

static void write_value(struct writer *w, const struct qn__field *f, const char *base)
{
    const void *at = base + f->offset;
    const int64_t *pair = at;
    const qn_reals *reals = at;
    const qn_ints *ints = at;
    const char *text;
    int choice;
    switch (f->kind) {
    case QN__K_FLAG: qn__text_add(&w->t, "true"); break;
    case QN__K_BOOL: qn__text_add(&w->t, *(const bool *)at ? "true" : "false"); break;
    case QN__K_INT: qn__text_add(&w->t, "%lld", (long long)*pair); break;
    case QN__K_CHANCE:
    case QN__K_REAL: real(w, *(const double *)at); break;
    case QN__K_TEXT:
        memcpy(&text, at, sizeof text);
        string(w, text);
        break;
    case QN__K_CHOICE:
        memcpy(&choice, at, sizeof choice);
        qn__text_json(&w->t, f->choices[choice]);
        break;
    case QN__K_PAIR:
    case QN__K_PADDING:
        if (pair[0] == QN_PADDING_SAME)
            qn__text_add(&w->t, "\"same\"");
        else if (pair[0] == pair[1])
            qn__text_add(&w->t, "%lld", (long long)pair[0]);
        else
            write_ints(w, pair, 2);
        break;
    case QN__K_REAL2: write_reals(w, at, 2); break;
    case QN__K_TEXTS: write_texts(w, at); break;
    case QN__K_REALS: write_reals(w, reals->v, reals->n); break;
    case QN__K_INTS: write_ints(w, ints->v, ints->n); break;
    case QN__K_OBJECT: write_object(w, f->table, at, false); break;
    case QN__K_OBJECTS: write_list(w, f, base); break;
    default: break; /* layers: write_model */
    }
}

static bool skipped(const struct qn__field *f)
{
    return f->kind == QN__K_VARS || f->kind == QN__K_LAYERS || f->kind == QN__K_BRANCHES;
}

static void write_object(struct writer *w, const struct qn__table *t, const char *base, bool flat)
{
    int variant = -1, indent = w->indent;
    if (t->optional && !*(const bool *)base) {
        qn__text_add(&w->t, "false");
        return;
    }
    if (t->variants) memcpy(&variant, base + t->variant_offset, sizeof variant);
    qn__text_add(&w->t, flat ? "{ " : "{");
    w->indent = flat ? 0 : indent + 1;
    w->first = true;
    for (int i = 0; i < t->n; i++) {
        const struct qn__field *f = &t->field[i];
        if ((t->variants && !qn__field_fits(f, variant)) || is_unset(f, base + f->offset) || skipped(f)) continue;
        key(w, f->name);
        write_value(w, f, base);
        w->first = false;
    }
    w->indent = indent;
    if (flat)
        qn__text_add(&w->t, " ");
    else
        line(w);
    qn__text_add(&w->t, "}");
}

/* ---- the model ---- */

static void write_from(struct writer *w, const qn_recipe *r, const qn_layer *l, int32_t index)
{
    bool joins = l->kind == QN_LAYER_ADD || l->kind == QN_LAYER_CONCAT;
    if (!joins && l->input[0] == index - 1) return; /* QN_INPUT for the first */
    key(w, "from");
    for (int32_t i = 0; i < l->n_input; i++) {
        if (joins) qn__text_add(&w->t, i ? ", " : "[");
        qn__text_json(&w->t, l->input[i] == QN_INPUT ? "input" : r->layers[l->input[i]].name);
    }
    if (joins) qn__text_add(&w->t, "]");
}

static void write_layer(struct writer *w, const qn_recipe *r, int32_t index)
{
    const qn_layer *l = &r->layers[index];
    const struct qn__table *t = &qn__layer_table;
    int indent = w->indent;
    qn__text_add(&w->t, "{ ");
    w->indent = 0;
    w->first = true;
    for (int i = 0; i < t->n; i++) {
        const struct qn__field *f = &t->field[i];
        bool fits = f->only && qn__field_fits(f, (int)l->kind) && (!f->selects || f->selects - 1 == (int)l->kind);
        if (!fits || (f->offset >= sizeof *l && f->kind != QN__K_FLAG && f->kind != QN__K_BRANCHES)) continue;
        key(w, f->name);
        if (f->kind == QN__K_BRANCHES)
            qn__text_add(&w->t, "true");
        else
            write_value(w, f, (const char *)l);
    }
    key(w, "name");
    qn__text_json(&w->t, l->name);
    write_from(w, r, l, index);
    qn__text_add(&w->t, " }");
    w->indent = indent;
}

static void write_model(struct writer *w, const qn_recipe *r)
{
    qn__text_add(&w->t, "[");
    w->indent++;
    for (int32_t i = 0; i < r->n_layers; i++) {
        if (i) qn__text_add(&w->t, ",");
        line(w);
        write_layer(w, r, i);
    }
    w->indent--;
    line(w);
    qn__text_add(&w->t, "]");
}

qn_status qn_recipe_write(const qn_recipe *recipe, char **out, size_t *bytes, qn_error *err)
{
    struct writer w = { .indent = 1, .first = true };
    struct qn__draft d = { .r = *recipe };
    const struct qn__table *t = &qn__recipe_table;
    *out = NULL;
    qn__text_add(&w.t, "{");
    for (int i = 0; i < t->n; i++) {
        const struct qn__field *f = &t->field[i];
        if (f->kind == QN__K_VARS) continue;
        key(&w, f->name);
        if (f->kind == QN__K_LAYERS)
            write_model(&w, recipe);
        else
            write_value(&w, f, (const char *)&d);
        w.first = false;
    }
    qn__text_add(&w.t, "\n}\n");
    if (w.t.failed) {
        qn__free(NULL, w.t.s, w.t.cap);
        return qn__nomem(err, "recipe", w.t.cap);
    }
    *out = w.t.s;
    if (bytes) *bytes = w.t.n;
    return QN_OK;
}
