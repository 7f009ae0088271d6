/* csv_scan.c - splits CSV text into rows and fields: RFC 4180, plus LF, CR and CRLF as line
 * ends, blank lines, and blanks around unquoted fields. Lines and columns count from 1, columns
 * in bytes. */
#include "data.h"
#include <string.h>

enum { MAX_ROW = 1 << 20, MAX_FIELDS = 1 << 16 };

struct cursor {
    struct qn__csv *c;
    const char *p, *row, *line_start;
    qn_error *err;
};

static int64_t column(const struct cursor *k, const char *p) { return (int64_t)(p - k->line_start) + 1; }

#define FAIL(k, line, column, ...) qn__fail((k)->err, 3032, QN_AT_LINE((k)->c->name, line, column, NULL), __VA_ARGS__)

qn_status qn__csv_open(struct qn__csv *c, const char *text, size_t n, const char *name, char delimiter, qn_error *err)
{
    *c = (struct qn__csv){
        .at = text, .end = text + n, .name = name, .line = 1, .delimiter = delimiter ? delimiter : ','
    };
    if (strchr("\"\r\n ", c->delimiter))
        return qn__fail(err, 2301, QN_AT_FIELD("delimiter"), "0x%02x; expected no quote, blank or line end",
                        (unsigned char)c->delimiter);
    if (n >= 2 && (memcmp(text, "\xff\xfe", 2) == 0 || memcmp(text, "\xfe\xff", 2) == 0))
        return qn__fail(err, 3032, QN_AT_BYTE(name, 0, "encoding"), "UTF-16; expected UTF-8");
    if (n >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) c->at += 3;
    if (c->at == c->end) return qn__fail(err, 3001, QN_AT_FILE(name), "empty; expected rows");
    return QN_OK;
}

void qn__csv_close(struct qn__csv *c)
{
    qn__free(NULL, c->field, c->cap_field * sizeof *c->field);
    qn__free(NULL, c->text, c->cap_text);
    c->field = NULL;
    c->text = NULL;
    c->cap_field = c->cap_text = 0;
}

static qn_status put(struct cursor *k, const char *s, size_t n)
{
    struct qn__csv *c = k->c;
    if (!qn__grow(NULL, &c->text, &c->cap_text, c->used + n + 1, 1)) return qn__nomem(k->err, "CSV row", c->used + n);
    memcpy(c->text + c->used, s, n);
    c->used += n;
    return QN_OK;
}

static qn_status start_field(struct cursor *k)
{
    struct qn__csv *c = k->c;
    if (c->n >= MAX_FIELDS) return FAIL(k, c->line, column(k, k->p), "more than %d fields", MAX_FIELDS);
    if (!qn__grow(NULL, &c->field, &c->cap_field, c->n + 1, sizeof *c->field))
        return qn__nomem(k->err, "CSV row", c->n * sizeof *c->field);
    c->field[c->n++] = (struct qn__csv_field){ c->used, c->line, column(k, k->p) };
    return QN_OK;
}

static bool at_line_end(const struct cursor *k) { return k->p == k->c->end || *k->p == '\n' || *k->p == '\r'; }

/* Past one LF, CR or CRLF. */
static void next_line(struct cursor *k)
{
    if (k->p == k->c->end) return;
    k->p += *k->p == '\r' && k->p + 1 < k->c->end && k->p[1] == '\n' ? 2 : 1;
    k->c->line++;
    k->line_start = k->p;
}

static qn_status check_length(const struct cursor *k)
{
    if (k->p - k->row <= MAX_ROW) return QN_OK;
    return FAIL(k, k->c->row_line, 0, "row is longer than %d bytes; expected a shorter one", MAX_ROW);
}

static qn_status quoted(struct cursor *k)
{
    struct qn__csv *c = k->c;
    int64_t line = c->line, at = column(k, k->p);
    for (k->p++;;) {
        QN_TRY(check_length(k));
        if (k->p == c->end) return FAIL(k, line, at, "quote is never closed; expected \" before the end of the file");
        if (*k->p == 0) return FAIL(k, c->line, column(k, k->p), "NUL byte; expected text");
        if (*k->p == '"' && !(k->p + 1 < c->end && k->p[1] == '"')) break;
        const char *from = k->p;
        if (*k->p == '"')
            k->p += 2;
        else if (*k->p == '\n' || *k->p == '\r')
            next_line(k);
        else
            k->p++;
        QN_TRY(put(k, from, *from == '"' ? 1 : (size_t)(k->p - from)));
    }
    k->p++;
    while (k->p < c->end && (*k->p == ' ' || *k->p == '\t') && *k->p != c->delimiter) k->p++;
    if (at_line_end(k) || *k->p == c->delimiter) return QN_OK;
    return FAIL(k, c->line, column(k, k->p), "text behind a closing quote; expected a delimiter");
}

static qn_status unquoted(struct cursor *k)
{
    struct qn__csv *c = k->c;
    const char *from = k->p;
    for (; !at_line_end(k) && *k->p != c->delimiter; k->p++) {
        if (*k->p == 0) return FAIL(k, c->line, column(k, k->p), "NUL byte; expected text");
        if (*k->p == '"')
            return FAIL(k, c->line, column(k, k->p), "quote inside a field; expected the whole field in quotes");
        if (k->p - k->row > MAX_ROW) return check_length(k);
    }
    const char *to = k->p;
    while (to > from && (to[-1] == ' ' || to[-1] == '\t')) to--;
    return put(k, from, (size_t)(to - from));
}

static qn_status read_fields(struct cursor *k)
{
    struct qn__csv *c = k->c;
    for (;;) {
        while (k->p < c->end && (*k->p == ' ' || *k->p == '\t') && *k->p != c->delimiter) k->p++;
        QN_TRY(start_field(k));
        QN_TRY(k->p < c->end && *k->p == '"' ? quoted(k) : unquoted(k));
        QN_TRY(put(k, "", 1));
        QN_TRY(check_length(k));
        if (at_line_end(k)) return QN_OK;
        k->p++; /* the delimiter */
    }
}

qn_status qn__csv_row(struct qn__csv *c, bool *more, qn_error *err)
{
    struct cursor k = { c, c->at, c->at, c->at, err };
    while (k.p < c->end && (*k.p == '\n' || *k.p == '\r')) next_line(&k);
    *more = k.p < c->end;
    if (!*more) return QN_OK;
    c->n = c->used = 0;
    c->row_line = c->line;
    k.row = k.line_start = k.p;
    QN_TRY(read_fields(&k));
    next_line(&k);
    c->at = k.p;
    return QN_OK;
}
