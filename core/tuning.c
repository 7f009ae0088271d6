/* tuning.c - choices of algorithms and their lock file: see tuning.h. The file comes from outside: it may be
 * anything. */
#include "tuning.h"
#include "base.h"
#include "file.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MARK "quern-tuning"
enum { CAP = 4 << 20, FIELDS = 5, HEADER = 6 };
static const int64_t WORKSPACE_MAX = (int64_t)1 << 40;

/* ---- a table --------------------------------------------------------------------------------------------------- */

static void show(qn_tuning *t)
{
    const struct qn__identity *i = &t->of;
    snprintf(t->shown, sizeof t->shown, "%s; driver %lld; CUDA %lld; cuBLASLt %lld; cuDNN %lld", i->gpu,
             (long long)i->driver, (long long)i->cuda, (long long)i->blas, (long long)i->dnn);
}

qn_status qn__tuning_new(qn_tuning **out, const struct qn__identity *of, qn_error *err)
{
    *out = qn__calloc(NULL, 1, sizeof **out);
    if (!*out) return qn__nomem(err, "tuning", sizeof **out);
    (*out)->of = *of;
    show(*out);
    return QN_OK;
}

void qn_tuning_free(qn_tuning *t)
{
    if (!t) return;
    qn__free(NULL, t->at, t->room * sizeof *t->at);
    qn__free(NULL, t, sizeof *t);
}

/* Where `what` is, or would be. */
static int place_of(const qn_tuning *t, const char *what, bool *found)
{
    int low = 0, high = t->n;
    *found = false;
    while (low < high && !*found) {
        int middle = low + (high - low) / 2, order = strcmp(t->at[middle].what, what);
        *found = order == 0;
        if (order == 0) low = middle;
        if (order < 0) low = middle + 1;
        if (order > 0) high = middle;
    }
    return low;
}

const struct qn__tuned *qn__tuning_find(const qn_tuning *t, const char *what)
{
    bool found;
    int i = place_of(t, what, &found);
    return found ? &t->at[i] : NULL;
}

static qn_status make_room(qn_tuning *t, qn_error *err)
{
    if ((size_t)t->n < t->room) return QN_OK;
    size_t room = t->room ? 2 * t->room : 16;
    struct qn__tuned *more = qn__calloc(NULL, room, sizeof *more);
    if (!more) return qn__nomem(err, "tuning", room * sizeof *more);
    if (t->n) memcpy(more, t->at, (size_t)t->n * sizeof *more);
    qn__free(NULL, t->at, t->room * sizeof *t->at);
    t->at = more;
    t->room = room;
    return QN_OK;
}

qn_status qn__tuning_add(qn_tuning *t, const struct qn__tuned *row, qn_error *err)
{
    bool found;
    int i = place_of(t, row->what, &found);
    if (found || t->n >= QN_TUNING_MAX)
        return qn__fail(err, 7070, QN_AT_FIELD("tuning"), "%s: a second choice, or the %dth; expected neither",
                        qn__show(row->what).s, t->n + 1);
    QN_TRY(make_room(t, err));
    memmove(&t->at[i + 1], &t->at[i], (size_t)(t->n - i) * sizeof *t->at);
    t->at[i] = *row;
    t->n++;
    return QN_OK;
}

int qn_tuning_count(const qn_tuning *t) { return t->n; }
const char *qn_tuning_of(const qn_tuning *t) { return t->shown; }

qn_tuning_choice qn_tuning_at(const qn_tuning *t, int i)
{
    qn_tuning_choice c = { .what = "", .algorithm = "" };
    if (i < 0 || i >= t->n) return c;
    const struct qn__tuned *r = &t->at[i];
    return (qn_tuning_choice){ r->what, r->algorithm.name, r->algorithm.workspace, r->seconds, r->first, r->tried };
}

qn_status qn__tuning_fits(const qn_tuning *t, const struct qn__identity *here, qn_error *err)
{
    qn_tuning other = { .of = *here };
    show(&other);
    if (strcmp(t->shown, other.shown) == 0) return QN_OK;
    return qn__fail(err, 7004, QN_AT_FIELD("tuning"), "lock file of %s; expected %s; make one with \"quern tune\"",
                    qn__show(t->shown).s, qn__show(other.shown).s);
}

/* ---- writing --------------------------------------------------------------------------------------------------- */

static int put_header(const qn_tuning *t, char *out, size_t size)
{
    const struct qn__identity *i = &t->of;
    return snprintf(out, size, MARK "\t1\ngpu\t%s\ndriver\t%lld\ncuda\t%lld\ncublaslt\t%lld\ncudnn\t%lld\n", i->gpu,
                    (long long)i->driver, (long long)i->cuda, (long long)i->blas, (long long)i->dnn);
}

static int put_choice(const struct qn__tuned *r, char *out, size_t size)
{
    char us[32];
    return snprintf(out, size, "choice\t%s\t%s\t%zu\t%s\n", r->what, r->algorithm.name, r->algorithm.workspace,
                    qn__format_f64(us, r->seconds * 1e6));
}

qn_status qn_tuning_save(const qn_tuning *t, const char *path, qn_error *err)
{
    enum { LINE = QN_TUNING_WHAT + sizeof t->at->algorithm.name + 80 };
    char line[LINE + 200];
    struct qn__file_out f;
    QN_TRY(qn__file_create(&f, path, 0, err));
    int n = put_header(t, line, sizeof line);
    qn_status status = qn__file_write(&f, line, (size_t)n, err);
    for (int i = 0; i < t->n && !status; i++) {
        n = put_choice(&t->at[i], line, sizeof line);
        status = qn__file_write(&f, line, (size_t)n, err);
    }
    n = snprintf(line, sizeof line, "end\t%d\n", t->n);
    if (!status) status = qn__file_write(&f, line, (size_t)n, err);
    if (!status) return qn__file_commit(&f, err);
    qn__file_discard(&f);
    return status;
}

/* ---- reading --------------------------------------------------------------------------------------------------- */

struct reader {
    const char *path;
    char *at, *end;      /* what is left            */
    int64_t line;        /* of the fields           */
    char *field[FIELDS]; /* of a line, NUL-terminated */
    int64_t column[FIELDS];
    int n;
    qn_error *err;
};

static qn_status bad(const struct reader *r, int64_t column, const char *field, const char *found, const char *expected)
{
    return qn__fail(r->err, 4051, QN_AT_LINE(r->path, r->line, column, field), "\"%s\"; expected %s", qn__show(found).s,
                    expected);
}

/* The next line's fields. */
static qn_status next_line(struct reader *r)
{
    r->n = 0;
    r->line++;
    char *newline = r->at < r->end ? memchr(r->at, '\n', (size_t)(r->end - r->at)) : NULL;
    if (!newline)
        return qn__fail(r->err, 4051, QN_AT_LINE(r->path, r->line, 1, NULL),
                        "file ends; expected a line that ends in a newline");
    for (char *p = r->at; p < newline; p++)
        if (*p != '\t' && (*p < ' ' || *p > '~'))
            return qn__fail(r->err, 4051, QN_AT_LINE(r->path, r->line, p - r->at + 1, NULL),
                            "byte 0x%02x; expected printable ASCII and tabs", (unsigned)(unsigned char)*p);
    *newline = 0;
    for (char *p = r->at; p; r->n++) {
        if (r->n == FIELDS)
            return qn__fail(r->err, 4051, QN_AT_LINE(r->path, r->line, p - r->at + 1, NULL),
                            "more than %d fields; expected tabs between fields only", FIELDS);
        char *tab = strchr(p, '\t');
        if (tab) *tab = 0;
        r->field[r->n] = p;
        r->column[r->n] = p - r->at + 1;
        p = tab ? tab + 1 : NULL;
    }
    r->at = newline + 1;
    return QN_OK;
}

static qn_status read_number(const struct reader *r, int i, const char *name, int64_t most, int64_t *out)
{
    char expected[60];
    const char *s = r->field[i];
    bool good = *s >= '0' && *s <= '9' && qn__parse_i64(s, out) && *out >= 0 && *out <= most;
    if (good) return QN_OK;
    snprintf(expected, sizeof expected, "a whole number, 0..%lld", (long long)most);
    return bad(r, r->column[i], name, s, expected);
}

static qn_status expect_line(struct reader *r, const char *name, int fields)
{
    QN_TRY(next_line(r));
    if (strcmp(r->field[0], name) != 0) return bad(r, 1, NULL, r->field[0], name);
    if (r->n == fields) return QN_OK;
    return qn__fail(r->err, 4051, QN_AT_LINE(r->path, r->line, 1, name), "%d fields; expected %d", r->n, fields);
}

static qn_status read_text(const struct reader *r, int i, const char *name, char *out, size_t size)
{
    char expected[60];
    size_t n = strlen(r->field[i]);
    if (n > 0 && n < size) {
        memcpy(out, r->field[i], n + 1);
        return QN_OK;
    }
    snprintf(expected, sizeof expected, "1..%zu characters", size - 1);
    return bad(r, r->column[i], name, r->field[i], expected);
}

static qn_status read_header(struct reader *r, struct qn__identity *of)
{
    const struct {
        const char *name;
        int64_t *to;
    } rows[] = { { "driver", &of->driver }, { "cuda", &of->cuda }, { "cublaslt", &of->blas }, { "cudnn", &of->dnn } };
    int64_t version;
    QN_TRY(expect_line(r, MARK, 2));
    QN_TRY(read_number(r, 1, "version", INT32_MAX, &version));
    if (version != 1) return bad(r, r->column[1], "version", r->field[1], "1, which this Quern reads");
    QN_TRY(expect_line(r, "gpu", 2));
    QN_TRY(read_text(r, 1, "gpu", of->gpu, sizeof of->gpu));
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        QN_TRY(expect_line(r, rows[i].name, 2));
        QN_TRY(read_number(r, 1, rows[i].name, INT32_MAX, rows[i].to));
    }
    return QN_OK;
}

static qn_status read_choice(struct reader *r, qn_tuning *t)
{
    struct qn__tuned row = { .tried = 0 };
    int64_t workspace;
    double us;
    if (r->n != FIELDS)
        return qn__fail(r->err, 4051, QN_AT_LINE(r->path, r->line, 1, "choice"), "%d fields; expected %d", r->n,
                        FIELDS);
    QN_TRY(read_text(r, 1, "what", row.what, sizeof row.what));
    QN_TRY(read_text(r, 2, "algorithm", row.algorithm.name, sizeof row.algorithm.name));
    QN_TRY(read_number(r, 3, "workspace", WORKSPACE_MAX, &workspace));
    if (!qn__parse_f64(r->field[4], false, &us) || us < 0 || us > 1e12)
        return bad(r, r->column[4], "microseconds", r->field[4], "a number, 0..1e12");
    if (t->n > 0 && strcmp(t->at[t->n - 1].what, row.what) >= 0)
        return bad(r, r->column[1], "what", row.what, "one after that of the line before");
    if (t->n >= QN_TUNING_MAX) return bad(r, 1, NULL, "choice", "at most 4096 of them");
    row.algorithm.workspace = (size_t)workspace;
    row.seconds = us / 1e6;
    return qn__tuning_add(t, &row, r->err);
}

static qn_status read_choices(struct reader *r, qn_tuning *t)
{
    int64_t n;
    for (;;) {
        QN_TRY(next_line(r));
        if (strcmp(r->field[0], "end") == 0) break;
        if (strcmp(r->field[0], "choice") != 0) return bad(r, 1, NULL, r->field[0], "choice or end");
        QN_TRY(read_choice(r, t));
    }
    if (r->n != 2) return qn__fail(r->err, 4051, QN_AT_LINE(r->path, r->line, 1, "end"), "%d fields; expected 2", r->n);
    QN_TRY(read_number(r, 1, "end", QN_TUNING_MAX, &n));
    if (n != t->n) return bad(r, r->column[1], "end", r->field[1], "the number of choices above");
    if (r->at == r->end) return QN_OK;
    r->line++;
    return qn__fail(r->err, 4051, QN_AT_LINE(r->path, r->line, 1, NULL), "%lld bytes after the end; expected none",
                    (long long)(r->end - r->at));
}

qn_status qn_tuning_load(qn_tuning **out, const char *path, qn_error *err)
{
    char *text;
    size_t n;
    struct qn__identity of = { .driver = 0 };
    *out = NULL;
    QN_TRY(qn__file_read_all(&qn__std_alloc, path, CAP, &text, &n, err));
    struct reader r = { .path = path, .at = text, .end = text + n, .err = err };
    qn_tuning *t = NULL;
    qn_status status = read_header(&r, &of);
    if (!status) status = qn__tuning_new(&t, &of, err);
    if (!status) status = read_choices(&r, t);
    qn__free(&qn__std_alloc, text, n + 1);
    if (status)
        qn_tuning_free(t);
    else
        *out = t;
    return status;
}
