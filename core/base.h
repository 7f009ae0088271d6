/* base.h - private helpers of every room: raising errors, checked sizes, memory. Not installed. */
#ifndef QN_CORE_BASE_H
#define QN_CORE_BASE_H
#include "../include/quern/base.h"
#ifdef __cplusplus
extern "C" { /* kernels of CUDA are C++ */
#endif

#define QN_TRY(expr) \
    do { \
        qn_status try_status_ = (expr); \
        if (try_status_) return try_status_; \
    } while (0)

/* Where an error happened. Zero what does not apply; offset -1 for "no offset". */
struct qn__where {
    const char *file;
    int64_t line, column, offset;
    const char *field;
};
#define QN_AT_FILE(f) (&(struct qn__where){ .file = (f), .offset = -1 })
#define QN_AT_BYTE(f, o, fld) (&(struct qn__where){ .file = (f), .offset = (o), .field = (fld) })
#define QN_AT_LINE(f, l, c, fld) \
    (&(struct qn__where){ .file = (f), .line = (l), .column = (c), .offset = -1, .field = (fld) })
#define QN_AT_FIELD(fld) (&(struct qn__where){ .offset = -1, .field = (fld) })

/* Fills err (if not NULL) with "error E<code> <class>: <where>: <message>" and returns the status of
 * the code. The message says what was found and what was expected: "0; expected 1..32".
 * `where` may be NULL. Text that comes from a file must pass through qn__escape first, except the
 * names in `where`, which are escaped here. */
qn_status qn__fail(qn_error *err, int code, const struct qn__where *where, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* "out of memory" while doing `what` (E5002). Allocates nothing. */
qn_status qn__nomem(qn_error *err, const char *what, size_t bytes);

/* Copies at most max bytes of text with control, non-UTF-8 and backslash bytes as \xNN; returns buf. */
const char *qn__escape(char *buf, size_t size, const char *text, size_t max);
struct qn__escaped {
    char s[324];
};
/* As an expression: qn__show(name).s; at most 80 bytes of text. */
struct qn__escaped qn__show(const char *text);

/* Checked arithmetic; the only way to size memory. false on overflow (then *out is unspecified). */
bool qn__mul(size_t *out, size_t a, size_t b);
bool qn__add(size_t *out, size_t a, size_t b);
/* Product of n dimensions, each >= 0, and below 2^48 in all; false otherwise. */
bool qn__count(int64_t *out, const int64_t *dim, int n);

/* Memory. count * size is checked; NULL on overflow or failure. Zeroed. */
void *qn__calloc(const qn_alloc *a, size_t count, size_t size);
void qn__free(const qn_alloc *a, void *ptr, size_t bytes);
/* Grows *ptr (elements of `size` bytes) so that it holds at least need; doubles. */
bool qn__grow(const qn_alloc *a, void *ptr, size_t *cap, size_t need, size_t size);
extern const qn_alloc qn__std_alloc;

/* FNV-1a 64; the hash of names that seeds and plans use. */
uint64_t qn__hash(const void *data, size_t bytes);
uint64_t qn__hash_str(const char *s);

/* Strict, locale-free number parsing of a whole NUL-terminated string (no leading or trailing blanks).
 * double: decimal or scientific notation, finite only unless allow_nonfinite ("nan", "inf"). */
bool qn__parse_i64(const char *s, int64_t *out);
bool qn__parse_f64(const char *s, bool allow_nonfinite, double *out);
/* Shortest decimal text that reads back as the same double, '.' as point in every locale. */
const char *qn__format_f64(char buf[32], double x);

/* Index of the candidate nearest to `word` by edit distance, or -1 if none is near enough to suggest. */
int qn__nearest(const char *word, const char *const *candidates, int n);

/* Seconds of a clock that never goes back. */
double qn__now(void);
#ifdef __cplusplus
}
#endif
#endif
