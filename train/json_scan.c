/* json_scan.c - the scanner: syntax, comments, positions, duplicate keys. No recursion. */
#include "json_scan.h"
#include <stdlib.h>
#include <string.h>

enum expect { VALUE, VALUE_OR_END, KEY, KEY_OR_END, COLON, COMMA_OR_END, END };

struct scanner {
    char *s;
    size_t n, at;
    int32_t line, column;
    struct qn__spots *spots;
    struct qn__report *report;
    int depth;
    struct frame {
        char type;
        int32_t value;
    } frame[QN_RECIPE_DEPTH];
    struct qn__spot key; /* pending key of the next value */
};

static bool bad(struct scanner *c, int code, const char *found, const char *expected)
{
    struct qn__json here = { .line = c->line, .column = c->column };
    qn__problem(c->report, code, &here, false, "JSON", "%s; expected %s", found, expected);
    return false;
}

/* One byte forward; columns count characters, so UTF-8 continuation bytes do not count. */
static void step(struct scanner *c)
{
    unsigned char b = (unsigned char)c->s[c->at++];
    if (b == '\n') {
        c->line++;
        c->column = 1;
    } else if ((b & 0xc0) != 0x80) {
        c->column++;
    }
}

static void blank(struct scanner *c)
{
    char *p = &c->s[c->at];
    step(c);
    if (*p != '\n') *p = ' ';
}

/* Over blanks and comments. */
static bool skip(struct scanner *c)
{
    while (c->at < c->n) {
        char b = c->s[c->at], next = c->at + 1 < c->n ? c->s[c->at + 1] : 0;
        if (b == ' ' || b == '\t' || b == '\n' || b == '\r') {
            step(c);
        } else if (b == '/' && next == '/') {
            while (c->at < c->n && c->s[c->at] != '\n') blank(c);
        } else if (b == '/' && next == '*') {
            struct scanner start = *c;
            blank(c);
            blank(c);
            while (c->at < c->n && !(c->s[c->at] == '*' && c->at + 1 < c->n && c->s[c->at + 1] == '/')) blank(c);
            if (c->at >= c->n) return bad(&start, 2101, "comment without end", "\"*/\"");
            blank(c);
            blank(c);
        } else {
            break;
        }
    }
    return true;
}

/* What stands here, short enough for a message. */
static struct qn__escaped found_here(const struct scanner *c)
{
    char word[24];
    size_t n = 0;
    if (c->at >= c->n) return qn__show("end of file");
    const char *p = c->s + c->at;
    while (n < sizeof word - 1 && c->at + n < c->n && strchr(" \t\r\n,:[]{}\"/", p[n]) == NULL) n++;
    if (n == 0) n = 1;
    memcpy(word, p, n);
    word[n] = 0;
    return qn__show(word);
}

static bool unexpected(struct scanner *c, const char *expected) { return bad(c, 2101, found_here(c).s, expected); }

static bool escape_ok(struct scanner *c)
{
    step(c);
    char b = c->at < c->n ? c->s[c->at] : 0;
    if (b == 'u') {
        for (int i = 0; i < 4; i++) {
            step(c);
            char h = c->at < c->n ? c->s[c->at] : 0;
            if (!((h >= '0' && h <= '9') || (h >= 'a' && h <= 'f') || (h >= 'A' && h <= 'F')))
                return bad(c, 2101, "\\u", "four hexadecimal digits after it");
        }
    } else if (b == 0 || strchr("\"\\/bfnrt", b) == NULL) {
        return unexpected(c, "one of \" \\ / b f n r t u after a backslash");
    }
    step(c);
    return true;
}

static bool string(struct scanner *c, size_t *from, size_t *len)
{
    struct scanner start = *c;
    step(c);
    *from = c->at;
    for (;;) {
        unsigned char b = c->at < c->n ? (unsigned char)c->s[c->at] : 0;
        if (c->at >= c->n || b == '\n') return bad(&start, 2101, "string without end", "a closing quote");
        if (b < 0x20) return bad(c, 2102, found_here(c).s, "no control character in a string");
        if (b == '"') break;
        if (b == '\\') {
            if (!escape_ok(c)) return false;
        } else {
            step(c);
        }
    }
    *len = c->at - *from;
    step(c);
    return true;
}

static size_t digits(const char *p)
{
    size_t n = 0;
    while (p[n] >= '0' && p[n] <= '9') n++;
    return n;
}

/* Is word a JSON number that fits (integers 64 bits, others double)? 0 no, 1 yes, -1 too large. */
static int number(const char *word)
{
    const char *p = word + (*word == '-');
    size_t n = digits(p);
    if (n == 0 || (n > 1 && *p == '0')) return 0;
    p += n;
    bool real = *p != 0;
    if (*p == '.') {
        if ((n = digits(++p)) == 0) return 0;
        p += n;
    }
    if (*p == 'e' || *p == 'E') {
        p += 1 + (p[1] == '-' || p[1] == '+');
        if ((n = digits(p)) == 0) return 0;
        p += n;
    }
    if (*p) return 0;
    int64_t i;
    double x;
    return (real ? qn__parse_f64(word, false, &x) : qn__parse_i64(word, &i)) ? 1 : -1;
}

static bool scalar(struct scanner *c)
{
    char word[400];
    size_t n = 0;
    const char *p = c->s + c->at;
    while (c->at + n < c->n && n < sizeof word - 1 && strchr(" \t\r\n,:[]{}\"/", p[n]) == NULL) n++;
    memcpy(word, p, n);
    word[n] = 0;
    int verdict = strcmp(word, "true") == 0 || strcmp(word, "false") == 0 || strcmp(word, "null") == 0 ? 1
                                                                                                       : number(word);
    if (verdict < 0) return bad(c, 2108, found_here(c).s, "an integer of 64 bits or a finite number");
    if (verdict == 0) return unexpected(c, "a value");
    while (n-- > 0) step(c);
    return true;
}

/* Notes a value that begins here. */
static bool note(struct scanner *c)
{
    struct qn__spots *s = c->spots;
    if (s->n >= QN_RECIPE_VALUES) return bad(c, 2103, "more than 100000 values", "at most 100000");
    if (!qn__grow(NULL, &s->v, &s->cap, s->n + 1, sizeof *s->v)) {
        qn__problem(c->report, 5002, NULL, false, "JSON", "cannot allocate %zu values", s->n + 1);
        return false;
    }
    struct qn__spot spot = c->key;
    spot.line = c->line;
    spot.column = c->column;
    spot.parent = c->depth ? c->frame[c->depth - 1].value : -1;
    s->v[s->n++] = spot;
    c->key = (struct qn__spot){ 0 };
    return true;
}

static bool open_frame(struct scanner *c, char type)
{
    if (c->depth == QN_RECIPE_DEPTH) return bad(c, 2103, "65 levels of nesting", "at most 64");
    if (!note(c)) return false;
    c->frame[c->depth++] = (struct frame){ type, (int32_t)(c->spots->n - 1) };
    step(c);
    return true;
}

static bool value(struct scanner *c, enum expect *next)
{
    char b = c->at < c->n ? c->s[c->at] : 0;
    *next = COMMA_OR_END;
    if (b == '{' || b == '[') {
        *next = b == '{' ? KEY_OR_END : VALUE_OR_END;
        return open_frame(c, b);
    }
    if (b == 0) return unexpected(c, "a value");
    size_t from, len;
    if (!note(c)) return false;
    return b == '"' ? string(c, &from, &len) : scalar(c);
}

static bool key(struct scanner *c)
{
    size_t from, len;
    c->key = (struct qn__spot){ .key_line = c->line, .key_column = c->column };
    if (!string(c, &from, &len)) return false;
    c->key.key = (uint32_t)from;
    c->key.key_len = (uint32_t)len;
    return true;
}

/* One token in state *st. */
static bool token(struct scanner *c, enum expect *st)
{
    char b = c->at < c->n ? c->s[c->at] : 0;
    char close = c->depth == 0 ? 1 : c->frame[c->depth - 1].type == '{' ? '}' : ']';
    bool may_close = *st == VALUE_OR_END || *st == KEY_OR_END || *st == COMMA_OR_END;
    if (may_close && b == close) {
        step(c);
        c->depth--;
        *st = COMMA_OR_END;
        return true;
    }
    switch (*st) {
    case VALUE:
    case VALUE_OR_END: return value(c, st);
    case KEY:
    case KEY_OR_END:
        if (b != '"') return unexpected(c, *st == KEY ? "a key in quotes" : "a key in quotes or \"}\"");
        *st = COLON;
        return key(c);
    case COLON:
        if (b != ':') return unexpected(c, "\":\" after the key");
        step(c);
        *st = VALUE;
        return true;
    default:
        if (b != ',') return unexpected(c, close == '}' ? "\",\" or \"}\"" : "\",\" or \"]\"");
        step(c);
        *st = close == '}' ? KEY : VALUE;
        return true;
    }
}

/* UTF-8 throughout and no NUL; the first bad byte is named. */
static bool encoding(struct scanner *c)
{
    while (c->at < c->n) {
        const unsigned char *p = (const unsigned char *)c->s + c->at;
        size_t len = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf5 ? 4 : 0;
        char text[32];
        if (p[0] == 0) return bad(c, 2102, "byte 0x00", "text");
        bool ok = len > 0 && len <= c->n - c->at;
        for (size_t i = 1; ok && i < len; i++) ok = (p[i] & 0xc0) == 0x80;
        if (ok && len == 3) ok = !(p[0] == 0xe0 && p[1] < 0xa0) && !(p[0] == 0xed && p[1] >= 0xa0);
        if (ok && len == 4) ok = !(p[0] == 0xf0 && p[1] < 0x90) && !(p[0] == 0xf4 && p[1] >= 0x90);
        if (!ok) {
            static const char hex[] = "0123456789ABCDEF";
            memcpy(text, "byte 0x..", 10);
            text[7] = hex[p[0] >> 4];
            text[8] = hex[p[0] & 15];
            return bad(c, 2102, text, "UTF-8");
        }
        while (len-- > 0) step(c);
    }
    return true;
}

/* Open addressing over (parent, raw key); one slot per key at most half full. */
static bool duplicates(struct scanner *c)
{
    const struct qn__spots *s = c->spots;
    size_t cap = 16;
    while (cap < 2 * s->n) cap *= 2;
    uint32_t *slot = qn__calloc(NULL, cap, sizeof *slot); /* index + 1 */
    if (!slot) {
        qn__problem(c->report, 5002, NULL, false, "JSON", "cannot allocate %zu slots", cap);
        return false;
    }
    bool fine = true;
    for (size_t i = 0; i < s->n; i++) {
        const struct qn__spot *a = &s->v[i], *b = NULL;
        if (a->key_line == 0) continue;
        uint64_t h = qn__hash(c->s + a->key, a->key_len) ^ ((uint64_t)a->parent * 0x9E3779B97F4A7C15u);
        size_t at = (size_t)(h ^ (h >> 29)) & (cap - 1);
        for (; slot[at]; at = (at + 1) & (cap - 1)) {
            b = &s->v[slot[at] - 1];
            if (b->parent == a->parent && b->key_len == a->key_len &&
                memcmp(c->s + a->key, c->s + b->key, a->key_len) == 0)
                break;
        }
        if (!slot[at]) {
            slot[at] = (uint32_t)i + 1;
            continue;
        }
        char name[81] = "";
        memcpy(name, c->s + a->key, a->key_len < 80 ? a->key_len : 80);
        struct qn__json here = { .key_line = a->key_line, .key_column = a->key_column };
        qn__problem(c->report, 2104, &here, true, name, "key repeated; expected once (first at %d:%d)", b->key_line,
                    b->key_column);
        fine = false;
    }
    qn__free(NULL, slot, cap * sizeof *slot);
    return fine;
}

bool qn__json_scan(char *text, size_t bytes, struct qn__spots *spots, struct qn__report *report)
{
    struct scanner c = { .s = text, .n = bytes, .line = 1, .column = 1, .spots = spots, .report = report };
    if (bytes >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) memcpy(text, "   ", 3); /* byte order mark */
    if (!encoding(&c)) return false;
    c.at = 0;
    c.line = c.column = 1;
    enum expect st = VALUE;
    for (;;) {
        if (!skip(&c)) return false;
        if (st == COMMA_OR_END && c.depth == 0) break;
        if (!token(&c, &st)) return false;
    }
    if (c.at < c.n) return unexpected(&c, "nothing after the end");
    return duplicates(&c);
}
