/* json.c - memory, text, problems, and the tree built from the scanner's positions and jansson's
 * values: see json.h. */
#include "json.h"
#include "json_scan.h"
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- memory ---- */

enum { BLOCK = 16384 };
struct qn__pool_block {
    struct qn__pool_block *next;
    size_t used, size;
    max_align_t data[];
};

void *qn__pool_get(struct qn__pool *pool, size_t count, size_t size)
{
    size_t bytes, total;
    if (!qn__mul(&bytes, count, size) || !qn__add(&bytes, bytes, sizeof(max_align_t) - 1)) return NULL;
    bytes -= bytes % sizeof(max_align_t);
    if (!pool->head || pool->head->size - pool->head->used < bytes) {
        size_t room = bytes > BLOCK ? bytes : BLOCK;
        if (!qn__add(&total, room, sizeof(struct qn__pool_block))) return NULL;
        struct qn__pool_block *b = qn__calloc(NULL, 1, total);
        if (!b) return NULL;
        b->size = room;
        b->next = pool->head;
        pool->head = b;
    }
    void *p = (char *)pool->head->data + pool->head->used;
    pool->head->used += bytes;
    return p;
}

char *qn__pool_text(struct qn__pool *pool, const char *text, size_t n)
{
    size_t bytes;
    char *p = qn__add(&bytes, n, 1) ? qn__pool_get(pool, bytes, 1) : NULL;
    if (p) memcpy(p, text, n);
    return p;
}

void qn__pool_free(struct qn__pool *pool)
{
    while (pool->head) {
        struct qn__pool_block *b = pool->head;
        pool->head = b->next;
        qn__free(NULL, b, sizeof *b + b->size);
    }
}

/* ---- text ---- */

void qn__text_add(struct qn__text *t, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0 || t->failed || !qn__grow(NULL, &t->s, &t->cap, t->n + (size_t)n + 1, 1))
        t->failed = true;
    else
        t->n += (size_t)vsnprintf(t->s + t->n, t->cap - t->n, fmt, again);
    va_end(again);
}

void qn__text_json(struct qn__text *t, const char *s)
{
    qn__text_add(t, "\"");
    while (*s) {
        size_t plain = 0;
        while ((unsigned char)s[plain] >= 0x20 && s[plain] != '"' && s[plain] != '\\') plain++;
        if (plain) qn__text_add(t, "%.*s", (int)plain, s);
        s += plain;
        if (*s == '"' || *s == '\\')
            qn__text_add(t, "\\%c", *s++);
        else if (*s)
            qn__text_add(t, "\\u%04x", (unsigned)(unsigned char)*s++);
    }
    qn__text_add(t, "\"");
}

/* ---- the tree ---- */

struct qn__json *qn__json_get(const struct qn__json *object, const char *key)
{
    if (!object || object->kind != QN__OBJECT) return NULL;
    for (struct qn__json *c = object->child; c; c = c->next)
        if (strcmp(c->key, key) == 0) return c;
    return NULL;
}

struct qn__json *qn__json_at(const struct qn__json *array, int64_t index)
{
    if (array->kind != QN__ARRAY || index < 0 || index >= array->count) return NULL;
    struct qn__json *c = array->child;
    while (index-- > 0) c = c->next;
    return c;
}

/* ---- problems ---- */

static void keep(qn_recipe_errors *errors, const qn_error *e)
{
    for (int i = 0; i < errors->kept; i++)
        if (strcmp(errors->list[i].text, e->text) == 0) return;
    errors->count++;
    if (errors->kept < QN_RECIPE_ERRORS) errors->list[errors->kept++] = *e;
}

void qn__problem(struct qn__report *report, int code, const struct qn__json *where, bool at_key, const char *field,
                 const char *fmt, ...)
{
    char message[401], set[128];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(message, sizeof message, fmt, ap);
    va_end(ap);
    struct qn__where w = { .file = report->file, .offset = -1, .field = field };
    if (where && where->set) {
        snprintf(set, sizeof set, "--set %s", report->sets[where->set - 1]);
        w.file = set;
    } else if (where) {
        w.line = at_key && where->key_line ? where->key_line : where->line;
        w.column = at_key && where->key_line ? where->key_column : where->column;
    }
    qn_error e;
    qn_status status = qn__fail(&e, code, &w, "%s", message);
    if (!report->status) report->status = status;
    keep(report->errors, &e);
}

/* ---- from jansson ---- */

struct builder {
    struct qn__pool *pool;
    const struct qn__spots *spots;
    size_t next;
    bool failed;
};

static struct qn__json *build(struct builder *b, const char *key, json_t *v);

static void build_children(struct builder *b, struct qn__json *node, json_t *v)
{
    struct qn__json **tail = &node->child;
    if (node->kind == QN__ARRAY) {
        for (size_t i = 0; i < json_array_size(v) && !b->failed; i++, node->count++) {
            *tail = build(b, NULL, json_array_get(v, i));
            if (*tail) tail = &(*tail)->next;
        }
        return;
    }
    /* jansson iterates in the order of the text, which is the order of the spots */
    for (void *it = json_object_iter(v); it && !b->failed; it = json_object_iter_next(v, it), node->count++) {
        *tail = build(b, json_object_iter_key(it), json_object_iter_value(it));
        if (*tail) tail = &(*tail)->next;
    }
}

static void build_value(struct builder *b, struct qn__json *node, json_t *v)
{
    switch (json_typeof(v)) {
    case JSON_NULL: node->kind = QN__NULL; break;
    case JSON_TRUE:
    case JSON_FALSE:
        node->kind = QN__BOOL;
        node->boolean = json_is_true(v);
        break;
    case JSON_INTEGER:
        node->kind = QN__INT;
        node->integer = json_integer_value(v);
        node->real = (double)node->integer;
        break;
    case JSON_REAL:
        node->kind = QN__REAL;
        node->real = json_real_value(v);
        break;
    case JSON_STRING:
        node->kind = QN__STRING;
        node->text = qn__pool_text(b->pool, json_string_value(v), json_string_length(v));
        if (!node->text) b->failed = true;
        break;
    case JSON_ARRAY:
    case JSON_OBJECT:
        node->kind = json_is_array(v) ? QN__ARRAY : QN__OBJECT;
        build_children(b, node, v);
        break;
    }
}

/* Recursion is bounded: the scanner has refused more than QN_RECIPE_DEPTH levels. */
static struct qn__json *build(struct builder *b, const char *key, json_t *v)
{
    struct qn__json *node = qn__pool_get(b->pool, 1, sizeof *node);
    if (!node || b->next >= b->spots->n) {
        b->failed = true;
        return NULL;
    }
    const struct qn__spot *spot = &b->spots->v[b->next++];
    node->line = spot->line;
    node->column = spot->column;
    node->key_line = spot->key_line;
    node->key_column = spot->key_column;
    if (key && !(node->key = qn__pool_text(b->pool, key, strlen(key)))) b->failed = true;
    build_value(b, node, v);
    return node;
}

static struct qn__json *parse_scanned(struct qn__pool *pool, const char *text, size_t bytes,
                                      const struct qn__spots *spots, struct qn__report *report)
{
    json_error_t e;
    json_t *root = json_loadb(text, bytes, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &e);
    if (!root) {
        struct qn__json here = { .line = e.line, .column = e.column };
        bool memory = json_error_code(&e) == json_error_out_of_memory;
        bool twice = json_error_code(&e) == json_error_duplicate_key;
        if (memory)
            qn__problem(report, 5002, NULL, false, "JSON", "cannot allocate the values");
        else
            qn__problem(report, twice ? 2104 : 2101, &here, false, "JSON", "%s; expected JSON", qn__show(e.text).s);
        return NULL;
    }
    struct builder b = { .pool = pool, .spots = spots };
    struct qn__json *tree = build(&b, NULL, root);
    json_decref(root);
    if (b.failed) qn__problem(report, 5002, NULL, false, "JSON", "cannot allocate %zu values", spots->n);
    return b.failed ? NULL : tree;
}

struct qn__json *qn__json_parse(struct qn__pool *pool, const char *text, size_t bytes, bool any,
                                struct qn__report *report)
{
    if (bytes > QN_RECIPE_BYTES) {
        qn__problem(report, 2103, NULL, false, "size", "more than %d bytes; expected at most %d", QN_RECIPE_BYTES,
                    QN_RECIPE_BYTES);
        return NULL;
    }
    char *copy = qn__calloc(NULL, bytes + 1, 1);
    if (!copy) {
        qn__problem(report, 5002, NULL, false, "JSON", "cannot allocate %zu bytes", bytes + 1);
        return NULL;
    }
    memcpy(copy, text, bytes);
    struct qn__spots spots = { 0 };
    struct qn__json *tree = NULL;
    if (qn__json_scan(copy, bytes, &spots, report)) tree = parse_scanned(pool, copy, bytes, &spots, report);
    if (tree && !any && tree->kind != QN__OBJECT) {
        qn__problem(report, 2107, tree, false, NULL, "not an object; expected { ... }");
        tree = NULL;
    }
    qn__free(NULL, spots.v, spots.cap * sizeof *spots.v);
    qn__free(NULL, copy, bytes + 1);
    return tree;
}
