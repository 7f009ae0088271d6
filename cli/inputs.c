/* inputs.c - the samples in the files that `quern predict` is given: see answers.h. */
#include "answers.h"
#include "../core/file.h"
#include "../include/quern/data.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { TEXT_MAX = 1 << 30 };

void cli_free_samples(struct samples *s)
{
    free(s->x);
    *s = (struct samples){ 0 };
}

static qn_status take(struct samples *s, const qn_transform *t, int64_t n, qn_error *err)
{
    size_t bytes;
    s->n = n;
    s->size = qn_transform_size(t);
    if (!qn__mul(&bytes, (size_t)n, (size_t)s->size) || !qn__mul(&bytes, bytes, sizeof *s->x))
        return qn__nomem(err, "samples", SIZE_MAX);
    s->x = calloc(bytes ? bytes : 1, 1);
    return s->x ? QN_OK : qn__nomem(err, "samples", bytes);
}

/* Numbers in the units of the training data (a pixel is 0..255), to what the network sees. */
static void normalise(const qn_transform *t, float *x, int64_t size)
{
    int channels = t->channels > 0 ? t->channels : 1;
    int64_t plane = size / channels;
    for (int64_t i = 0; i < size; i++) {
        double v = (double)x[i] / (t->bytes ? 255 : 1);
        int c = t->rank == 3 ? (int)(i / plane) : 0;
        x[i] = (float)(t->channels > 0 ? (v - t->mean[c]) / t->std[c] : v);
    }
}

/* ---- pictures and arrays ---------------------------------------------------------------------------------------- */

static qn_status read_png(struct samples *s, const char *path, const qn_transform *t, qn_error *err)
{
    qn_array image = { 0 };
    if (t->rank != 3)
        return qn__fail(err, 3014, QN_AT_FILE(path), "a picture; expected %lld numbers, which the model reads",
                        (long long)qn_transform_size(t));
    qn_png_options o = { .channels = (int)t->dim[0], .height = (int)t->dim[1], .width = (int)t->dim[2] };
    QN_TRY(qn_png_read(&image, path, &o, err));
    qn_status status = take(s, t, 1, err);
    if (!status && t->bytes) {
        status = qn_transform_image(t, &image, s->x, err);
    } else if (!status) { /* trained on numbers: bytes are 0..1, as a data set of floats would have them */
        for (int64_t i = 0; i < s->size; i++) s->x[i] = (float)((const uint8_t *)image.data)[i] / 255.0f;
        normalise(t, s->x, s->size);
    }
    qn_array_free(&image);
    return status;
}

/* dim[from..rank) are those of a sample: alike but for ones, or flat. */
static bool sample_dims(const qn_array *a, int from, const qn_transform *t)
{
    int k = 0;
    int64_t n = 1;
    bool same = true;
    for (int i = from; i < a->rank; i++) n *= a->dim[i];
    if (a->rank - from == 1 && n == qn_transform_size(t)) return true;
    for (int i = from; i < a->rank; i++) {
        if (a->dim[i] == 1) continue;
        while (k < t->rank && t->dim[k] == 1) k++;
        same = same && k < t->rank && t->dim[k] == a->dim[i];
        k++;
    }
    return same && n == qn_transform_size(t);
}

static const char *shape_text(char *buf, size_t size, int rank, const int64_t *dim)
{
    size_t n = (size_t)snprintf(buf, size, "[");
    for (int i = 0; i < rank && n < size; i++)
        n += (size_t)snprintf(buf + n, size - n, i ? ",%lld" : "%lld", (long long)dim[i]);
    if (n < size) snprintf(buf + n, size - n, "]");
    return buf;
}

static qn_status check_finite(const struct samples *s, const char *path, qn_error *err)
{
    for (int64_t i = 0; i < s->n * s->size; i++)
        if (!isfinite(s->x[i]))
            return qn__fail(err, 3043, QN_AT_FILE(path), "sample %lld, number %lld: not finite; expected a number",
                            (long long)(i / s->size), (long long)(i % s->size));
    return QN_OK;
}

/* Numbers of a table's features, in the order of the training file, stand for a row of it. */
static qn_status table_rows(struct samples *s, const qn_transform *t, const float *x, int64_t n, const char *path,
                            qn_error *err)
{
    char where[400];
    size_t room = 40 * (size_t)t->n_columns + 1;
    char *line = calloc(room, 1);
    qn_status status = line ? QN_OK : qn__nomem(err, "row", room);
    for (int64_t i = 0; i < n && !status; i++) {
        size_t at = 0;
        for (int c = 0; c < t->n_columns; c++) {
            char number[32];
            int k = snprintf(line + at, room - at, "%s%s", c ? (char[]){ t->delimiter, 0 } : "",
                             qn__format_f64(number, (double)x[i * t->n_columns + c]));
            at += k > 0 ? (size_t)k : 0;
        }
        snprintf(where, sizeof where, "%.300s, row %lld", path, (long long)i);
        status = qn_transform_row(t, line, where, s->x + i * s->size, err);
    }
    free(line);
    return status;
}

static qn_status read_npy(struct samples *s, const char *path, const qn_transform *t, qn_error *err)
{
    qn_array a = { 0 };
    char found[160], want[80];
    qn_transform row = { .rank = 1, .dim = { t->n_columns } }; /* a table's features, before they are encoded */
    const qn_transform *shape = t->n_columns > 0 ? &row : t;
    QN_TRY(qn_npy_read(&a, path, err));
    bool one = sample_dims(&a, 0, shape) && a.rank > 0;
    bool many = !one && a.rank > 0 && sample_dims(&a, 1, shape);
    if (!one && !many) {
        qn_status bad = qn__fail(err, 3023, QN_AT_FILE(path), "shape %s; expected %s, or N of them",
                                 shape_text(found, sizeof found, a.rank, a.dim),
                                 shape_text(want, sizeof want, shape->rank, shape->dim));
        qn_array_free(&a);
        return bad;
    }
    int64_t n = one ? 1 : a.dim[0], numbers = n * qn_transform_size(shape);
    float *x = calloc((size_t)numbers + 1, sizeof *x);
    qn_status status = x ? take(s, t, n, err) : qn__nomem(err, path, (size_t)numbers * sizeof *x);
    if (!status) qn_convert(x, QN_F32, a.data, a.dtype, (size_t)numbers);
    if (!status && t->n_columns > 0) status = table_rows(s, t, x, n, path, err);
    if (!status && t->n_columns == 0) {
        memcpy(s->x, x, (size_t)numbers * sizeof *x);
        status = check_finite(s, path, err);
        for (int64_t i = 0; i < n && !status; i++) normalise(t, s->x + i * s->size, s->size);
    }
    free(x);
    qn_array_free(&a);
    return status;
}

/* ---- rows of numbers -------------------------------------------------------------------------------------------- */

static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\r'; }
static bool ends_number(char c) { return c == 0 || c == '\n' || c == ',' || c == ';' || is_blank(c); }

/* One line: numbers with blanks, commas or semicolons between. -1: not a number at *column. */
static int64_t scan_line(const char *line, float *x, int64_t most, int64_t *column)
{
    int64_t n = 0;
    const char *p = line;
    for (;;) {
        char word[64];
        double value;
        while (is_blank(*p)) p++;
        if (*p == 0 || *p == '\n') return n;
        size_t length = 0;
        while (!ends_number(p[length])) length++;
        *column = p - line + 1;
        if (length == 0 || length >= sizeof word) return -1;
        memcpy(word, p, length);
        word[length] = 0;
        if (!qn__parse_f64(word, false, &value)) return -1;
        if (n < most) x[n] = (float)value;
        n++;
        p += length;
        while (is_blank(*p)) p++;
        if (*p == ',' || *p == ';') p++;
    }
}

static qn_status scan_row(struct samples *s, const char *line, int64_t number, const char *path, qn_error *err)
{
    int64_t column = 0, n = scan_line(line, s->x + s->n * s->size, s->size, &column);
    if (n < 0) {
        char word[80];
        snprintf(word, sizeof word, "%.*s", (int)strcspn(line + column - 1, ",; \t\r\n"), line + column - 1);
        return qn__fail(err, 3031, QN_AT_LINE(path, number, column, NULL), "\"%s\"; expected a number",
                        qn__show(word).s);
    }
    if (n != s->size)
        return qn__fail(err, 3032, QN_AT_LINE(path, number, 0, NULL), "%lld numbers; expected %lld", (long long)n,
                        (long long)s->size);
    s->n++;
    return QN_OK;
}

static bool blank_line(const char *p)
{
    while (is_blank(*p)) p++;
    return *p == '\n' || *p == 0;
}

/* A first line whose first word is no number names the columns. */
static bool is_heading(const char *line)
{
    float x;
    int64_t column = 0;
    return scan_line(line, &x, 1, &column) < 0 && column == 1 && !strchr("+-.0123456789", line[0]);
}

/* Rows of numbers for a network that reads images or plain arrays. */
static qn_status read_numbers(struct samples *s, const char *text, const char *path, const qn_transform *t,
                              qn_error *err)
{
    int64_t lines = 1, number = 0;
    for (const char *p = text; (p = strchr(p, '\n')); p++) lines++;
    QN_TRY(take(s, t, lines, err));
    s->n = 0;
    for (const char *line = text; line; line = strchr(line, '\n'), line = line ? line + 1 : NULL) {
        number++;
        if (blank_line(line) || (number == 1 && is_heading(line))) continue;
        QN_TRY(scan_row(s, line, number, path, err));
    }
    if (s->n == 0) return qn__fail(err, 3054, QN_AT_FILE(path), "no rows; expected at least 1");
    QN_TRY(check_finite(s, path, err)); /* 1e300 is a number, but no float */
    for (int64_t i = 0; i < s->n; i++) normalise(t, s->x + i * s->size, s->size);
    return QN_OK;
}

/* ---- rows of a table ------------------------------------------------------------------------- */

/* What the first line that is not empty says of the others. */
struct first_line {
    int64_t line, fields;
    bool heading; /* one of its fields is the name of a feature */
};

static bool is_feature(const qn_transform *t, const char *field, size_t n)
{
    while (n > 0 && is_blank(field[n - 1])) n--;
    while (n > 0 && is_blank(*field)) field++, n--;
    for (int c = 0; c < t->n_columns; c++)
        if (strlen(t->column[c].name) == n && memcmp(t->column[c].name, field, n) == 0) return true;
    return false;
}

static struct first_line read_first_line(const char *text, const qn_transform *t)
{
    struct first_line first = { .line = 1, .fields = 1 };
    char field[256];
    size_t at = 0;
    bool quoted = false;
    if (strncmp(text, "\xEF\xBB\xBF", 3) == 0) text += 3;
    for (; *text == '\n' || *text == '\r'; text++) first.line += *text == '\n';
    for (const char *p = text;; p++) {
        bool end = *p == 0 || (!quoted && (*p == '\n' || *p == '\r' || *p == t->delimiter));
        if (*p == '"') quoted = !quoted;
        if (!end && *p != '"' && at < sizeof field) field[at++] = *p;
        if (!end) continue;
        first.heading = first.heading || is_feature(t, field, at);
        at = 0;
        if (*p != t->delimiter) return first;
        first.fields++;
    }
}

/* A file with a heading is read by its names, one without by position: all columns of the training file, or nothing
 * but the features, in its order. */
static qn_status read_table(struct samples *s, const char *path, const char *text, const qn_transform *t, qn_error *err)
{
    struct first_line first = read_first_line(text, t);
    int64_t highest = 0;
    qn_dataset *ds = NULL;
    qn_transform own;
    QN_TRY(qn_transform_copy(&own, t, err));
    for (int c = 0; c < t->n_columns; c++)
        if (t->column[c].index > highest) highest = t->column[c].index;
    bool too_many = t->n_fields > 0 && first.fields > t->n_fields;
    bool features = !first.heading && (first.fields <= highest || too_many);
    for (int c = 0; c < t->n_columns && features; c++) own.column[c].index = qn_transform_place(t, c);
    qn_csv_options o = { .delimiter = t->delimiter, .no_header = !first.heading, .transform = &own };
    qn_status status = features && first.fields != t->n_columns
                           ? qn__fail(err, 3032, QN_AT_LINE(path, first.line, 0, NULL),
                                      "%lld fields; expected the %d features, or a row of the training file",
                                      (long long)first.fields, t->n_columns)
                           : qn_dataset_from_csv(&ds, path, &o, err);
    if (!status) status = take(s, t, qn_dataset_count(ds), err);
    for (int64_t i = 0; !status && i < s->n; i++) status = qn_dataset_read(ds, i, s->x + i * s->size, err);
    qn_dataset_free(ds);
    qn_transform_free(&own);
    return status;
}

/* ---- any file -------------------------------------------------------------------------------- */

/* Blanks between numbers become the table's delimiter; every character keeps its place. */
static void blanks_to_delimiters(char *text, char delimiter)
{
    for (char *p = text; *p; p++) {
        bool inside = p > text && p[-1] != '\n' && p[-1] != delimiter && p[1] && !is_blank(p[1]) && p[1] != '\n';
        if (is_blank(*p) && inside) *p = delimiter;
    }
}

/* An unnamed file in memory with these bytes; its name for opening is written to path. */
static qn_status memory_file(int *fd, char path[40], const char *bytes, size_t n, qn_error *err)
{
    size_t at = 0;
    *fd = memfd_create("quern", MFD_CLOEXEC);
    if (*fd < 0) return qn__fail(err, 6002, QN_AT_FILE("-"), "memfd_create: %s", qn__file_reason(errno));
    while (at < n) {
        ssize_t wrote = write(*fd, bytes + at, n - at);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote <= 0) {
            close(*fd);
            return qn__nomem(err, "input", n);
        }
        at += (size_t)wrote;
    }
    snprintf(path, 40, "/proc/self/fd/%d", *fd);
    return QN_OK;
}

/* The error of a file in memory, told of the file that the user named. */
static void rename_in_error(qn_error *err, const char *from, const char *to)
{
    char *at = strstr(err->text, from), text[sizeof err->text];
    if (!at) return;
    snprintf(text, sizeof text, "%.*s%s%s", (int)(at - err->text), err->text, qn__show(to).s, at + strlen(from));
    memcpy(err->text, text, sizeof text);
    qn__escape(err->file, sizeof err->file, to, sizeof err->file - 1);
}

static qn_status read_text(struct samples *out, const char *path, char *text, size_t n, bool blanks,
                           const qn_transform *t, qn_error *err)
{
    char place[40];
    int fd;
    if (strlen(text) != n)
        return qn__fail(err, 3032, QN_AT_BYTE(path, (int64_t)strlen(text), NULL), "a NUL byte; expected text");
    if (t->n_columns == 0) return read_numbers(out, text, path, t, err);
    if (blanks && !strchr(text, t->delimiter)) blanks_to_delimiters(text, t->delimiter);
    QN_TRY(memory_file(&fd, place, text, n, err));
    qn_status status = read_table(out, place, text, t, err);
    close(fd);
    if (status && err) rename_in_error(err, place, path);
    return status;
}

static qn_status read_bytes(struct samples *out, const char *path, char *bytes, size_t n, const qn_transform *t,
                            qn_error *err)
{
    char place[40];
    int fd;
    bool png = n >= 8 && memcmp(bytes, "\x89PNG\r\n\x1a\n", 8) == 0;
    bool npy = n >= 6 && memcmp(bytes, "\x93NUMPY", 6) == 0;
    if (!png && !npy) return read_text(out, path, bytes, n, true, t, err);
    QN_TRY(memory_file(&fd, place, bytes, n, err));
    qn_status status = png ? read_png(out, place, t, err) : read_npy(out, place, t, err);
    close(fd);
    if (status && err) rename_in_error(err, place, path);
    return status;
}

static qn_status read_stdin(char **out, size_t *n, qn_error *err)
{
    size_t cap = 0;
    ssize_t got;
    char *text = NULL;
    for (*n = 0;; *n += (size_t)got) {
        if (!qn__grow(NULL, &text, &cap, *n + 65536 + 1, 1)) {
            qn__free(NULL, text, cap);
            return qn__nomem(err, "standard input", *n);
        }
        do got = read(STDIN_FILENO, text + *n, 65536);
        while (got < 0 && errno == EINTR);
        if (got <= 0 || *n > TEXT_MAX) break;
    }
    text[*n] = 0;
    *out = text;
    if (got < 0) return qn__fail(err, 6001, QN_AT_FILE("-"), "read: %s", qn__file_reason(errno));
    return got > 0 ? qn__fail(err, 3001, QN_AT_FILE("-"), "more than %d bytes", TEXT_MAX) : QN_OK;
}

qn_status cli_read_samples(struct samples *out, const char *path, const qn_transform *t, qn_error *err)
{
    char *text = NULL;
    size_t n = 0;
    qn_status status;
    *out = (struct samples){ 0 };
    if (strcmp(path, "-") == 0) {
        status = read_stdin(&text, &n, err);
        if (!status) status = read_bytes(out, "-", text, n, t, err);
        free(text);
    } else if (cli_has_suffix(path, ".png")) {
        status = read_png(out, path, t, err);
    } else if (cli_has_suffix(path, ".npy")) {
        status = read_npy(out, path, t, err);
    } else if (cli_has_suffix(path, ".csv") || cli_has_suffix(path, ".txt") || cli_has_suffix(path, ".tsv")) {
        status = qn__file_read_all(NULL, path, TEXT_MAX, &text, &n, err);
        if (!status) status = read_text(out, path, text, n, !cli_has_suffix(path, ".csv"), t, err);
        if (text) qn__free(NULL, text, n + 1);
    } else {
        status = qn__fail(err, 2001, QN_AT_FILE(path),
                          "name of an unknown kind of file; expected one that ends in .png, .csv, .txt or .npy, or - "
                          "for standard input");
    }
    if (status) cli_free_samples(out);
    return status;
}
