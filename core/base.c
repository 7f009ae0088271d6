/* base.c - errors, checked sizes, memory, number parsing: see base.h. */
#include "base.h"
#include "utf8.h"
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <locale.h>

const char *qn_version(void) { return QN_VERSION; }

const char *qn_status_text(qn_status status)
{
    switch (status) {
#define X(name, code, text) \
    case QN_##name: return text;
        QN_STATUS_MAP(X)
#undef X
    }
    return "unknown status";
}

static const struct error_row {
    int code;
    const char *class_name;
} error_rows[] = {
#define ERR(code, class_name, meaning) { code, class_name },
#include "errors.def"
#undef ERR
};

static qn_status status_of(int code)
{
    if (code == 0) return QN_OK;
    if (code >= 7070 && code < 7100) return QN_EINTERNAL;
    return (qn_status)(code / 1000);
}

qn_status qn_error_status(const qn_error *err) { return err ? status_of(err->code) : QN_OK; }

/* Bytes of what can be shown as it is at s: a well-formed character that is neither a control character nor the
 * backslash that escapes begin with; 0 otherwise. */
static size_t shown_length(const unsigned char *s)
{
    if (s[0] < 0x20 || s[0] == 0x7f || s[0] == '\\') return 0;
    if (s[0] == 0xc2 && s[1] < 0xa0) return 0; /* C1 control characters */
    return qn__utf8_length(s, strnlen((const char *)s, 4));
}

const char *qn__escape(char *buf, size_t size, const char *text, size_t max)
{
    const unsigned char *s = (const unsigned char *)text;
    size_t at = 0, used = 0;
    if (size == 0) return buf;
    while (s && *s && used < max) {
        size_t n = shown_length(s);
        size_t need = n ? n : 4;
        if (at + need >= size || (n && used + n > max)) break;
        if (n)
            memcpy(buf + at, s, n);
        else
            snprintf(buf + at, size - at, "\\x%02X", *s);
        at += need;
        s += n ? n : 1;
        used += n ? n : 1;
    }
    buf[at] = 0;
    return buf;
}

struct qn__escaped qn__show(const char *text)
{
    struct qn__escaped e;
    qn__escape(e.s, sizeof e.s, text, 80);
    return e;
}

/* Appends to a fixed buffer, never past its end; a cut UTF-8 sequence at the end is dropped. */
static void append(char *buf, size_t size, const char *text)
{
    size_t at = strlen(buf), n = strlen(text);
    if (at + n >= size) {
        n = size - 1 - at;
        while (n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80) n--;
    }
    memcpy(buf + at, text, n);
    buf[at + n] = 0;
}

static void append_where(qn_error *err, const struct qn__where *w)
{
    char number[64];
    if (err->file[0]) {
        append(err->text, sizeof err->text, err->file);
        if (w->line > 0 && w->column > 0)
            snprintf(number, sizeof number, ":%lld:%lld", (long long)w->line, (long long)w->column);
        else if (w->line > 0)
            snprintf(number, sizeof number, ":%lld", (long long)w->line);
        else if (w->offset >= 0)
            snprintf(number, sizeof number, "@%lld", (long long)w->offset);
        else
            number[0] = 0;
        append(err->text, sizeof err->text, number);
        append(err->text, sizeof err->text, ": ");
    }
    if (err->field[0]) {
        append(err->text, sizeof err->text, err->field);
        append(err->text, sizeof err->text, ": ");
    }
}

qn_status qn__fail(qn_error *err, int code, const struct qn__where *where, const char *fmt, ...)
{
    if (!err) return status_of(code);
    static const struct qn__where nowhere = { .offset = -1 };
    const struct qn__where *w = where ? where : &nowhere;
    const char *class_name = "internal";
    for (size_t i = 0; i < sizeof error_rows / sizeof error_rows[0]; i++)
        if (error_rows[i].code == code) class_name = error_rows[i].class_name;
    char message[401];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(message, sizeof message, fmt, ap);
    va_end(ap);
    /* The old contents may be among the arguments, so the fields are filled only now. */
    qn_error e = { .code = code, .line = w->line, .column = w->column, .offset = w->offset };
    qn__escape(e.file, sizeof e.file, w->file, 200);
    qn__escape(e.field, sizeof e.field, w->field, 120);
    snprintf(e.text, sizeof e.text, "error E%04d %s: ", code, class_name);
    append_where(&e, w);
    append(e.text, sizeof e.text, message);
    *err = e;
    return status_of(code);
}

qn_status qn__nomem(qn_error *err, const char *what, size_t bytes)
{
    return qn__fail(err, 5002, QN_AT_FIELD(what), "cannot allocate %zu bytes", bytes);
}

bool qn__mul(size_t *out, size_t a, size_t b) { return !__builtin_mul_overflow(a, b, out); }
bool qn__add(size_t *out, size_t a, size_t b) { return !__builtin_add_overflow(a, b, out); }

bool qn__count(int64_t *out, const int64_t *dim, int n)
{
    int64_t count = 1;
    bool empty = false;
    for (int i = 0; i < n; i++) {
        if (dim[i] < 0 || dim[i] >= (int64_t)1 << 48) return false;
        if (dim[i] == 0) {
            empty = true; /* the other dimensions must still be sensible */
            continue;
        }
        if (__builtin_mul_overflow(count, dim[i], &count) || count >= (int64_t)1 << 48) return false;
    }
    *out = empty ? 0 : count;
    return true;
}

static void *std_realloc(void *user, void *ptr, size_t old_size, size_t new_size)
{
    (void)user;
    (void)old_size;
    if (new_size == 0) {
        free(ptr);
        return NULL;
    }
    return realloc(ptr, new_size);
}
const qn_alloc qn__std_alloc = { std_realloc, NULL };

void *qn__calloc(const qn_alloc *a, size_t count, size_t size)
{
    size_t bytes;
    if (!qn__mul(&bytes, count, size)) return NULL;
    if (bytes == 0) bytes = 1;
    if (!a) a = &qn__std_alloc;
    void *p = a->realloc(a->user, NULL, 0, bytes);
    if (p) memset(p, 0, bytes);
    return p;
}

void qn__free(const qn_alloc *a, void *ptr, size_t bytes)
{
    if (!a) a = &qn__std_alloc;
    if (ptr) a->realloc(a->user, ptr, bytes, 0);
}

bool qn__grow(const qn_alloc *a, void *ptr, size_t *cap, size_t need, size_t size)
{
    if (need <= *cap) return true;
    if (!a) a = &qn__std_alloc;
    size_t new_cap = *cap ? *cap : 16, old_bytes, new_bytes;
    while (new_cap < need)
        if (!qn__mul(&new_cap, new_cap, 2)) return false;
    if (!qn__mul(&old_bytes, *cap, size) || !qn__mul(&new_bytes, new_cap, size)) return false;
    void *old;
    memcpy(&old, ptr, sizeof old);
    void *p = a->realloc(a->user, old, old_bytes, new_bytes);
    if (!p) return false;
    memcpy(ptr, &p, sizeof p);
    *cap = new_cap;
    return true;
}

uint64_t qn__hash(const void *data, size_t bytes)
{
    const unsigned char *p = data;
    uint64_t h = 14695981039346656037u;
    for (size_t i = 0; i < bytes; i++) h = (h ^ p[i]) * 1099511628211u;
    return h;
}
uint64_t qn__hash_str(const char *s) { return qn__hash(s, strlen(s)); }

bool qn__parse_i64(const char *s, int64_t *out)
{
    bool negative = *s == '-';
    uint64_t value = 0, limit = negative ? (uint64_t)INT64_MAX + 1 : (uint64_t)INT64_MAX;
    const char *p = s + (negative || *s == '+');
    if (*p == 0) return false;
    for (; *p; p++) {
        if (*p < '0' || *p > '9') return false;
        uint64_t digit = (uint64_t)(*p - '0');
        if (value > (limit - digit) / 10) return false;
        value = value * 10 + digit;
    }
    *out = negative ? (int64_t)(0 - value) : (int64_t)value;
    return true;
}

/* glibc's correctly rounded conversion, always in the C locale. */
static double strtod_c(const char *s, char **end)
{
    locale_t c = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (!c) { /* cannot happen with glibc: the C locale is static */
        *end = (char *)(uintptr_t)s;
        return 0;
    }
    double x = strtod_l(s, end, c);
    freelocale(c);
    return x;
}

bool qn__parse_f64(const char *s, bool allow_nonfinite, double *out)
{
    const char *p = s + (*s == '-' || *s == '+');
    if (allow_nonfinite && (strcmp(p, "nan") == 0 || strcmp(p, "inf") == 0)) {
        *out = p[0] == 'n' ? (double)NAN : *s == '-' ? -(double)INFINITY : (double)INFINITY;
        return true;
    }
    bool digits = false;
    for (; *p >= '0' && *p <= '9'; p++) digits = true;
    if (*p == '.')
        for (p++; *p >= '0' && *p <= '9'; p++) digits = true;
    if (!digits) return false;
    if (*p == 'e' || *p == 'E') {
        p += 1 + (p[1] == '-' || p[1] == '+');
        if (*p < '0' || *p > '9') return false;
        while (*p >= '0' && *p <= '9') p++;
    }
    if (*p) return false;
    char *end;
    double x = strtod_c(s, &end);
    if (*end || !isfinite(x)) return false;
    *out = x;
    return true;
}

const char *qn__format_f64(char buf[32], double x)
{
    if (!isfinite(x)) {
        snprintf(buf, 32, "%s", isnan(x) ? "nan" : x < 0 ? "-inf" : "inf");
        return buf;
    }
    for (int digits = 1; digits <= 17; digits++) {
        char *end;
        snprintf(buf, 32, "%.*g", digits, x);
        for (char *p = buf; *p; p++) /* the locale's decimal point may be a comma */
            if (*p == ',') *p = '.';
        if (strtod_c(buf, &end) == x) break;
    }
    return buf;
}

int qn__nearest(const char *word, const char *const *candidates, int n)
{
    enum { LONGEST = 64 };
    size_t length = strlen(word);
    if (length == 0 || length > LONGEST) return -1;
    int best = -1;
    size_t best_distance = length / 3 + 2;
    for (int c = 0; c < n; c++) {
        size_t m = strlen(candidates[c]), row[LONGEST + 1];
        if (m > LONGEST) continue;
        for (size_t j = 0; j <= m; j++) row[j] = j;
        for (size_t i = 1; i <= length; i++) {
            size_t diagonal = row[0];
            row[0] = i;
            for (size_t j = 1; j <= m; j++) {
                size_t change = diagonal + (word[i - 1] != candidates[c][j - 1]);
                diagonal = row[j];
                if (change > row[j] + 1) change = row[j] + 1;
                if (change > row[j - 1] + 1) change = row[j - 1] + 1;
                row[j] = change;
            }
        }
        if (row[m] < best_distance && row[m] < m) {
            best_distance = row[m];
            best = c;
        }
    }
    return best;
}

double qn__now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
