/* recipe_set.c - `--set key.path[3].key=value` and variables, worked into the tree before it is read. */
#include "recipe.h"
#include "../core/utf8.h"
#include <stdio.h>
#include <string.h>

/* ---- --set -------------------------------------------------------------------------------- */

struct set {
    struct qn__reader *rd;
    const char *text;
    int number;           /* 1-based, for the messages */
    const char *at;       /* rest of the path          */
    const char *end;      /* the '='                   */
    char where[QN__PATH]; /* path walked so far        */
};

static void complain(struct set *s, const char *field, const char *message)
{
    struct qn__json here = { .set = s->number };
    qn__problem(&s->rd->report, 2111, &here, false, field, "%s", message);
}

static struct qn__json *new_node(struct set *s, enum qn__json_kind kind)
{
    struct qn__json *node = qn__reader_get(s->rd, 1, sizeof *node);
    if (node) *node = (struct qn__json){ .kind = kind, .set = s->number };
    return node;
}

/* The child of that name; made if there is none. A bare string becomes { "name": string } first. */
static struct qn__json *step_key(struct set *s, struct qn__json *node, const char *key, size_t n)
{
    char name[100];
    if (node->kind == QN__STRING) {
        struct qn__json *child = qn__reader_get(s->rd, 1, sizeof *child);
        if (!child) return NULL;
        *child = *node;
        child->key = "name";
        child->next = NULL;
        node->kind = QN__OBJECT;
        node->child = child;
        node->count = 1;
    } else if (node->kind == QN__NULL || node->kind == QN__BOOL) {
        node->kind = QN__OBJECT; /* "ema": false, --set ema.decay=0.99 */
        node->child = NULL;
        node->count = 0;
    } else if (node->kind != QN__OBJECT) {
        complain(s, s->where,
                 node->kind == QN__ARRAY ? "a list; expected an index like [0]" : "a number; it has no keys");
        return NULL;
    }
    struct qn__json **tail = &node->child;
    for (; *tail; tail = &(*tail)->next)
        if (strlen((*tail)->key) == n && memcmp((*tail)->key, key, n) == 0) return *tail;
    struct qn__json *made = new_node(s, QN__NULL);
    if (!made) return NULL;
    snprintf(name, sizeof name, "%.*s", (int)(n < 99 ? n : 99), key);
    made->key = qn__pool_text(s->rd->pool, name, strlen(name));
    node->count++;
    *tail = made;
    return made->key ? made : NULL;
}

static struct qn__json *step_index(struct set *s, struct qn__json *node, const char *digits, size_t n)
{
    char number[24], message[96];
    int64_t i = -1;
    if (node->kind != QN__ARRAY) {
        complain(s, s->where, "not a list; an index does not fit");
        return NULL;
    }
    snprintf(number, sizeof number, "%.*s", (int)(n < 23 ? n : 23), digits);
    struct qn__json *child = n && n < 20 && qn__parse_i64(number, &i) ? qn__json_at(node, i) : NULL;
    if (!child) {
        snprintf(message, sizeof message, "[%s]; the list has %d elements, counted from 0", number, node->count);
        complain(s, s->where, message);
    }
    return child;
}

/* One ".key" or "[index]". */
static struct qn__json *walk(struct set *s, struct qn__json *node)
{
    const char *from = s->at;
    if (*from == '[') {
        const char *close = memchr(from, ']', (size_t)(s->end - from));
        if (!close) {
            complain(s, s->where, "\"[\" without \"]\"");
            return NULL;
        }
        s->at = close + 1;
        node = step_index(s, node, from + 1, (size_t)(close - from - 1));
    } else {
        if (*from == '.' && from != s->text) from++;
        const char *p = from;
        while (p < s->end && *p != '.' && *p != '[') p++;
        if (p == from) {
            complain(s, s->where, "empty key; expected KEY.KEY[INDEX]=VALUE");
            return NULL;
        }
        s->at = p;
        node = step_key(s, node, from, (size_t)(p - from));
    }
    snprintf(s->where, sizeof s->where, "%.*s", (int)(s->at - s->text), s->text);
    return node;
}

static void stamp(struct qn__json *node, int number)
{
    node->set = number;
    for (struct qn__json *c = node->child; c; c = c->next) stamp(c, number); /* depth <= 64 */
}

/* The value as JSON, or as the string itself if it is not JSON. */
static struct qn__json *set_value(struct set *s, const char *value)
{
    qn_recipe_errors ignored = { 0 };
    struct qn__report quiet = { .file = "", .errors = &ignored };
    struct qn__json *v = qn__json_parse(s->rd->pool, value, strlen(value), true, &quiet);
    if (quiet.status == QN_EMEMORY) {
        qn__problem(&s->rd->report, 5002, NULL, false, s->where, "cannot allocate the value");
        return NULL;
    }
    if (!v && (*value == '{' || *value == '[')) {
        complain(s, s->where, "the value is not JSON");
        return NULL;
    }
    if (!v) v = new_node(s, QN__STRING);
    if (!v) return NULL;
    if (v->kind != QN__OBJECT && v->kind != QN__ARRAY && v->kind != QN__STRING)
        v->text = qn__pool_text(s->rd->pool, value, strlen(value));
    else if (v->kind == QN__STRING && !v->text)
        v->text = qn__pool_text(s->rd->pool, value, strlen(value));
    stamp(v, s->number);
    return v;
}

/* UTF-8 without control characters, of ASCII or others. */
static bool is_text(const char *s)
{
    size_t n = strlen(s);
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)s[i] < 0x20 || ((unsigned char)s[i] == 0xc2 && (unsigned char)s[i + 1] < 0xa0)) return false;
    return qn__utf8_error(s, n) == n;
}

static void set_one(struct qn__reader *rd, struct qn__json *root, const char *text, int number)
{
    struct set s = { .rd = rd, .text = text, .number = number, .at = text, .end = strchr(text, '=') };
    if (!s.end || s.end == text || strlen(text) > 65536 || !is_text(text)) {
        complain(&s, "", "not understood; expected KEY=VALUE, like optimizer.lr=3e-4");
        return;
    }
    struct qn__json *node = root;
    for (int depth = 0; node && s.at < s.end; depth++) {
        if (depth == QN_RECIPE_DEPTH / 2) {
            complain(&s, s.where, "nested too deep");
            return;
        }
        node = walk(&s, node);
    }
    struct qn__json *v = node ? set_value(&s, s.end + 1) : NULL;
    if (node && !v) node->said = true;
    if (!v) return;
    struct qn__json old = *node;
    *node = *v;
    node->key = old.key;
    node->next = old.next;
}

void qn__recipe_sets(struct qn__reader *rd, struct qn__json *root, const char *const *sets, int n)
{
    for (int i = 0; i < n; i++) set_one(rd, root, sets[i], i + 1);
}

/* ---- variables ---------------------------------------------------------------------------- */

struct vars {
    struct qn__reader *rd;
    const struct qn__json *list; /* the "vars" object                                   */
    const struct qn__json *stop; /* within vars: only those before this one may be used */
    int copies;
};

enum { MAX_VARS = 256 };

/* Copies value into node, keeping node's place in the text. */
static bool copy_into(struct vars *v, struct qn__json *node, const struct qn__json *value, int depth)
{
    char path[] = "vars";
    if (depth > QN_RECIPE_DEPTH || ++v->copies > QN_RECIPE_VALUES) {
        qn__problem(&v->rd->report, 2103, node, false, path, "variables make the recipe too %s",
                    depth > QN_RECIPE_DEPTH ? "deep" : "long");
        return false;
    }
    node->kind = value->kind;
    node->count = value->count;
    node->boolean = value->boolean;
    node->integer = value->integer;
    node->real = value->real;
    node->text = value->text;
    node->said = value->said;
    node->child = NULL;
    struct qn__json **tail = &node->child;
    for (const struct qn__json *c = value->child; c; c = c->next) {
        *tail = qn__reader_get(v->rd, 1, sizeof **tail);
        if (!*tail) return false;
        **tail = (struct qn__json){ .key = c->key, .line = node->line, .column = node->column, .set = node->set };
        if (!copy_into(v, *tail, c, depth + 1)) return false;
        tail = &(*tail)->next;
    }
    return true;
}

static void unknown_variable(struct vars *v, const struct qn__json *node)
{
    const char *name[MAX_VARS];
    int n = 0;
    for (const struct qn__json *c = v->list ? v->list->child : NULL; c && c != v->stop && n < MAX_VARS; c = c->next)
        name[n++] = c->key;
    bool full = v->rd->report.errors->kept == QN_RECIPE_ERRORS;
    int near = full ? -1 : qn__nearest(node->text + 1, name, n);
    const char *shown = node->text;
    if (near >= 0)
        qn__problem(&v->rd->report, 2110, node, false, "vars", "\"%.80s\": unknown variable; did you mean \"$%s\"?",
                    qn__show(shown).s, name[near]);
    else
        qn__problem(&v->rd->report, 2110, node, false, "vars", "\"%.80s\": unknown variable; expected one set %s",
                    qn__show(shown).s, v->stop ? "before it" : "in \"vars\"");
}

static bool substitute(struct vars *v, struct qn__json *node, int depth)
{
    for (struct qn__json *c = node->child; c; c = c->next)
        if (!substitute(v, c, depth + 1)) return false;
    if (node->kind != QN__STRING || node->text[0] != '$') return true;
    if (node->text[1] == '$') {
        node->text++; /* "$$x" is the string "$x" */
        return true;
    }
    for (const struct qn__json *c = v->list ? v->list->child : NULL; c && c != v->stop; c = c->next)
        if (strcmp(c->key, node->text + 1) == 0) return copy_into(v, node, c, depth);
    unknown_variable(v, node);
    node->said = true;
    return true;
}

void qn__recipe_vars(struct qn__reader *rd, struct qn__json *root)
{
    struct qn__json *list = qn__json_get(root, "vars");
    if (list && (list->kind != QN__OBJECT || list->count > MAX_VARS)) {
        qn__problem(&rd->report, list->kind == QN__OBJECT ? 2103 : 2107, list, false, "vars",
                    list->kind == QN__OBJECT ? "more than 256 variables" : "not an object; expected { name: value }");
        return;
    }
    struct vars v = { .rd = rd, .list = list };
    for (struct qn__json *c = list ? list->child : NULL; c; c = c->next) {
        v.stop = c;
        if (!substitute(&v, c, 2)) return;
    }
    v.stop = NULL;
    for (struct qn__json *c = root->child; c; c = c->next)
        if (c != list && !substitute(&v, c, 1)) return;
}
