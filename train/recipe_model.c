/* recipe_model.c - the model: lists of layers as written, then the flat list in which repeats and
 * blocks are written out and every layer has a name and the indices of its inputs. */
#include "recipe.h"
#include <stdio.h>
#include <string.h>

/* ---- reading ------------------------------------------------------------------------------ */

void qn__read_layers(struct qn__reader *rd, const struct qn__field *f, const struct qn__json *node,
                     struct qn__layers *out, const char *path)
{
    char p[QN__PATH];
    if (node->kind != QN__ARRAY) {
        qn__read_wrong(rd, f, node, path);
        return;
    }
    if (node->count == 0 && f->min > 0) {
        qn__problem(&rd->report, 2115, node, false, path, "empty; expected at least one layer");
        return;
    }
    if (node->count > QN_RECIPE_LAYERS) {
        qn__problem(&rd->report, 2103, node, false, path, "%d layers; expected at most %d", node->count,
                    QN_RECIPE_LAYERS);
        return;
    }
    struct qn__raw *v = qn__reader_get(rd, (size_t)node->count, sizeof *v);
    if (!v) return;
    const struct qn__json *c = node->child;
    for (int i = 0; i < node->count; i++, c = c->next) {
        qn__path_at(p, path, i);
        v[i].node = c;
        v[i].path = qn__pool_text(rd->pool, p, strlen(p));
        v[i].activation = -1;
        qn__read_object(rd, &qn__layer_table, c, &v[i], p);
        if (v[i].kind < QN_LAYER_COUNT) v[i].l.kind = (qn_layer_kind)v[i].kind;
    }
    *out = (struct qn__layers){ node->count, v };
}

void qn__read_branches(struct qn__reader *rd, const struct qn__field *f, const struct qn__json *node,
                       struct qn__branches *out, const char *path)
{
    static const struct qn__field branch = { .name = "branch", .kind = QN__K_LAYERS };
    char p[QN__PATH];
    if (node->kind == QN__BOOL && node->boolean) return;
    out->n = -1; /* until they are read */
    if (node->kind != QN__ARRAY || node->count < 2 || node->count > 64) {
        char type[64];
        qn__field_type(f, type, sizeof type);
        qn__problem(&rd->report, 2107, node, false, path, "%s; expected %s (2..64)",
                    node->kind == QN__ARRAY ? "too few or too many branches" : "not a list", type);
        return;
    }
    out->v = qn__reader_get(rd, (size_t)node->count, sizeof *out->v);
    if (!out->v) return;
    const struct qn__json *c = node->child;
    for (int i = 0; i < node->count; i++, c = c->next)
        qn__read_layers(rd, &branch, c, &out->v[i], qn__path_at(p, path, i));
    out->n = node->count;
}

/* ---- how many ----------------------------------------------------------------------------- */

/* Layers and blocks of the list, written out; at most one more than allowed. */
static int64_t count_layers(const struct qn__layers *list)
{
    int64_t n = 0;
    for (int i = 0; i < list->n && n <= QN_RECIPE_LAYERS; i++) {
        const struct qn__raw *w = &list->v[i];
        int64_t inner = count_layers(&w->layers) + count_layers(&w->body) + count_layers(&w->shortcut);
        for (int b = 0; b < w->branches.n; b++) inner += count_layers(&w->branches.v[b]);
        if (w->kind == QN__RAW_REPEAT) inner *= w->repeat; /* < 2^7 * 2^12 * 2^12 */
        n += inner + 1 + (w->activation >= 0);
    }
    return n <= QN_RECIPE_LAYERS ? n : QN_RECIPE_LAYERS + 1;
}

/* ---- writing out -------------------------------------------------------------------------- */

struct name {
    const char *text;
    uint64_t hash;
    int32_t value; /* index of the layer meant */
};

struct flat {
    struct qn__reader *rd;
    qn_layer *v;
    int32_t n, cap;
    struct name *name; /* a layer, and maybe another name for what is after it */
    int32_t n_names;
    int32_t auto_number[QN_LAYER_COUNT + 2];
};

/* A name that stands in what is still to come, for the message only. */
static bool comes_later(const struct qn__json *node, const char *name)
{
    for (const struct qn__json *c = node->child; c; c = c->next) {
        if (c->key && strcmp(c->key, "name") == 0 && c->kind == QN__STRING && strcmp(c->text, name) == 0) return true;
        if (comes_later(c, name)) return true;
    }
    return false;
}

static int32_t lookup(const struct flat *f, const char *name)
{
    uint64_t h = qn__hash_str(name);
    for (int32_t i = f->n_names - 1; i >= 0; i--)
        if (f->name[i].hash == h && strcmp(f->name[i].text, name) == 0) return i;
    return -1;
}

static void define(struct flat *f, const char *name, int32_t value)
{
    int32_t i = lookup(f, name);
    if (i < 0) i = f->n_names++;
    f->name[i] = (struct name){ name, qn__hash_str(name), value };
}

static const char *join(struct flat *f, const char *scope, const char *name)
{
    size_t a = strlen(scope), b = strlen(name), n = a + b + (a > 0);
    char *p = qn__reader_get(f->rd, n + 1, 1);
    if (p) snprintf(p, n + 1, "%s%s%s", scope, a ? "." : "", name);
    return p;
}

static bool name_ok(const char *s)
{
    for (const char *p = s; *p; p++)
        if (!((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') || strchr("._-/", *p)))
            return false;
    return s[0] && s[0] != '.' && s[strlen(s) - 1] != '.';
}

/* The full name: the user's in the scope, or the kind with a number nobody has. */
static const char *full_name(struct flat *f, const struct qn__raw *w, const char *scope)
{
    char text[64];
    const struct qn__json *at = qn__json_get(w->node, "name");
    if (!w->name) {
        const char *full;
        do {
            snprintf(text, sizeof text, "%s%d", qn__layer_table.variants[w->kind], ++f->auto_number[w->kind]);
            full = join(f, scope, text);
        } while (full && lookup(f, full) >= 0);
        return full;
    }
    if (!name_ok(w->name) || strcmp(w->name, "input") == 0) {
        qn__problem(&f->rd->report, 2108, at ? at : w->node, false, w->path, "name \"%s\"; expected %s",
                    qn__show(w->name).s,
                    name_ok(w->name) ? "another: it means the network's input" : "letters, digits and . _ - /");
        return NULL;
    }
    const char *full = join(f, scope, w->name);
    if (full && strlen(full) > 400) {
        qn__problem(&f->rd->report, 2108, at ? at : w->node, false, w->path, "name of more than 400 bytes");
        return NULL;
    }
    if (full && lookup(f, full) >= 0) {
        qn__problem(&f->rd->report, 2114, at ? at : w->node, false, w->path, "name \"%s\" repeated; expected another",
                    full);
        return NULL;
    }
    return full;
}

static void no_such_input(struct flat *f, const struct qn__raw *w, const char *name)
{
    const struct qn__json *at = qn__json_get(w->node, "from"), *model = qn__json_get(f->rd->root, "model");
    struct qn__report *report = &f->rd->report;
    const char *candidate[64];
    int n = 0;
    if (report->errors->kept == QN_RECIPE_ERRORS) model = NULL; /* not worth searching any more */
    for (int32_t i = f->n_names - 1; i >= 0 && n < 64 && model; i--) candidate[n++] = f->name[i].text;
    int near = qn__nearest(name, candidate, n);
    char text[120];
    snprintf(text, sizeof text, "from \"%.80s\"", qn__show(name).s);
    if (w->name && strcmp(w->name, name) == 0)
        qn__problem(report, 2113, at, false, w->path, "%s: the layer itself; expected an earlier layer", text);
    else if (model && comes_later(model, name))
        qn__problem(report, 2113, at, false, w->path, "%s: comes later; expected an earlier layer", text);
    else if (near >= 0)
        qn__problem(report, 2113, at, false, w->path, "%s: no such layer; did you mean \"%s\"?", text, candidate[near]);
    else
        qn__problem(report, 2113, at, false, w->path, "%s: no such layer; expected an earlier one or \"input\"", text);
}

/* What `from` means: in the innermost scope that has the name. */
static bool find_input(struct flat *f, const struct qn__raw *w, const char *scope, const char *name, int32_t *out)
{
    char prefix[512];
    *out = QN_INPUT;
    if (strcmp(name, "input") == 0) return true;
    snprintf(prefix, sizeof prefix, "%s", scope);
    for (;;) {
        const char *full = join(f, prefix, name);
        int32_t i = full ? lookup(f, full) : -1;
        if (i >= 0) {
            *out = f->name[i].value;
            return true;
        }
        char *dot = strrchr(prefix, '.');
        if (!full || !prefix[0]) break;
        if (dot)
            *dot = 0;
        else
            prefix[0] = 0;
    }
    no_such_input(f, w, name);
    return false;
}

/* Appends a layer; returns its index, or QN_INPUT after a problem. */
static int32_t append(struct flat *f, const qn_layer *like, const char *name, const int32_t *input, int32_t n_input)
{
    if (!name || f->n >= f->cap || f->rd->no_memory) return QN_INPUT;
    qn_layer *l = &f->v[f->n];
    *l = *like;
    l->name = name;
    l->input = qn__reader_get(f->rd, (size_t)n_input, sizeof *l->input);
    if (!l->input) return QN_INPUT;
    memcpy(l->input, input, (size_t)n_input * sizeof *input);
    l->n_input = n_input;
    if (l->kind == QN_LAYER_MAX_POOL || l->kind == QN_LAYER_AVG_POOL)
        for (int i = 0; i < 2; i++)
            if (l->stride[i] == 0) l->stride[i] = l->kernel[i];
    define(f, name, f->n);
    return f->n++;
}

/* The layer that `"activation"` is short for, with its defaults. */
static int32_t activate(struct flat *f, const struct qn__raw *w, const char *name, int32_t at)
{
    if (w->activation < 0 || !name) return at;
    qn_layer l = { .kind = (qn_layer_kind)(QN_LAYER_RELU + w->activation) };
    if (l.kind == QN_LAYER_LEAKY_RELU) l.alpha = 0.01;
    if (l.kind == QN_LAYER_ELU) l.alpha = 1;
    if (l.kind == QN_LAYER_SOFTMAX) l.axis = -1;
    const char *full = join(f, name, qn__layer_table.variants[l.kind]);
    at = append(f, &l, full, &at, 1);
    define(f, name, at); /* `from` means what comes out of it */
    return at;
}

static int32_t flatten_list(struct flat *f, const struct qn__layers *list, const char *scope, int32_t at);

static int32_t flatten_repeat(struct flat *f, const struct qn__raw *w, const char *name, int32_t at)
{
    char number[24];
    for (int64_t i = 0; i < w->repeat && !f->rd->no_memory; i++) {
        int32_t saved[QN_LAYER_COUNT + 2]; /* numbers start anew in each scope */
        memcpy(saved, f->auto_number, sizeof saved);
        memset(f->auto_number, 0, sizeof saved);
        snprintf(number, sizeof number, "%lld", (long long)i);
        const char *scope = join(f, name, number);
        if (scope) at = flatten_list(f, &w->layers, scope, at);
        memcpy(f->auto_number, saved, sizeof saved);
    }
    define(f, name, at);
    return at;
}

static int32_t flatten_scoped(struct flat *f, const struct qn__layers *list, const char *name, const char *part,
                              int32_t at)
{
    int32_t saved[QN_LAYER_COUNT + 2];
    memcpy(saved, f->auto_number, sizeof saved);
    memset(f->auto_number, 0, sizeof saved);
    const char *scope = part ? join(f, name, part) : name;
    if (scope) at = flatten_list(f, list, scope, at);
    memcpy(f->auto_number, saved, sizeof saved);
    return at;
}

/* add, concat, residual: several inputs joined. */
static int32_t flatten_join(struct flat *f, const struct qn__raw *w, const char *name, const int32_t *from,
                            int32_t n_from)
{
    int32_t input[64], n = n_from;
    qn_layer l = w->l;
    if (w->kind == QN__RAW_RESIDUAL) {
        l = (qn_layer){ .kind = QN_LAYER_ADD };
        input[0] = flatten_scoped(f, &w->body, name, NULL, from[0]);
        input[1] = flatten_scoped(f, &w->shortcut, name, "shortcut", from[0]);
        n = 2;
    } else if (w->branches.n) {
        char number[24];
        for (n = 0; n < w->branches.n; n++) {
            snprintf(number, sizeof number, "%d", n);
            input[n] = flatten_scoped(f, &w->branches.v[n], name, number, from[0]);
        }
    } else {
        memcpy(input, from, (size_t)n * sizeof *from);
    }
    return append(f, &l, name, input, n);
}

static int32_t flatten_layer(struct flat *f, const struct qn__raw *w, const char *scope, int32_t at)
{
    if (w->branches.n < 0) return at;
    int32_t from[64] = { at }, n = w->from.n ? w->from.n : 1;
    bool joins = (w->kind == QN_LAYER_ADD || w->kind == QN_LAYER_CONCAT) && !w->branches.n;
    for (int32_t i = 0; i < w->from.n; i++)
        if (!w->from.v[i] || !find_input(f, w, scope, w->from.v[i], &from[i])) return at;
    if (joins ? n < 2 : n > 1) {
        qn__problem(&f->rd->report, 2113, w->node, false, w->path, "%d inputs; expected %s", n,
                    joins ? "two or more in \"from\", or branches" : "one");
        return at;
    }
    const char *name = full_name(f, w, scope);
    if (!name) return at;
    if (w->kind == QN__RAW_REPEAT) return flatten_repeat(f, w, name, from[0]);
    if (w->kind == QN__RAW_RESIDUAL || w->kind == QN_LAYER_ADD || w->kind == QN_LAYER_CONCAT)
        at = flatten_join(f, w, name, from, n);
    else
        at = append(f, &w->l, name, from, 1);
    return activate(f, w, name, at);
}

static int32_t flatten_list(struct flat *f, const struct qn__layers *list, const char *scope, int32_t at)
{
    for (int i = 0; i < list->n; i++) at = flatten_layer(f, &list->v[i], scope, at);
    return at;
}

void qn__recipe_flatten(struct qn__reader *rd, struct qn__draft *d)
{
    int64_t total = count_layers(&d->model);
    const struct qn__json *node = qn__json_get(rd->root, "model");
    if (total > QN_RECIPE_LAYERS) {
        qn__problem(&rd->report, 2103, node, false, "model", "more than %d layers, written out; expected at most %d",
                    QN_RECIPE_LAYERS, QN_RECIPE_LAYERS);
        return;
    }
    struct flat f = { .rd = rd, .cap = (int32_t)total };
    f.v = qn__reader_get(rd, (size_t)total, sizeof *f.v);
    f.name = qn__reader_get(rd, (size_t)total, sizeof *f.name);
    if (!f.v || !f.name) return;
    flatten_list(&f, &d->model, "", QN_INPUT);
    d->r.layers = f.v;
    d->r.n_layers = f.n;
}
