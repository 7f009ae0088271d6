/* log.c - the JSONL log, and the file under it that survives a full disk: see quern/log.h. */
#include "log.h"
#include "../core/base.h"
#include "../core/utf8.h"
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* ---- the file ----------------------------------------------------------------------------- */

static int write_all(int fd, const char *p, size_t n, size_t *done)
{
    while (*done < n) {
        ssize_t k = write(fd, p + *done, n - *done);
        if (k > 0)
            *done += (size_t)k;
        else if (k == 0)
            return ENOSPC;
        else if (errno != EINTR)
            return errno;
    }
    return 0;
}

int qn__write_quiet(int fd, const void *data, size_t n, size_t *done)
{
    /* A library may install no handler: the signal is blocked for this thread, and taken off the
     * queue if the write raised it; one that was pending before is left alone. */
    sigset_t pipe_set, old, pending;
    sigemptyset(&pipe_set);
    sigaddset(&pipe_set, SIGPIPE);
    sigpending(&pending);
    bool was_pending = sigismember(&pending, SIGPIPE) == 1;
    pthread_sigmask(SIG_BLOCK, &pipe_set, &old);
    *done = 0;
    int failure = write_all(fd, data, n, done);
    if (failure == EPIPE && !was_pending) {
        const struct timespec now = { 0, 0 };
        while (sigtimedwait(&pipe_set, NULL, &now) < 0 && errno == EINTR) {
        }
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return failure;
}

static const char *reason(int failure, char buf[128])
{
    if (failure == ENOSPC) return "no space left on device";
    return strerror_r(failure, buf, 128);
}

qn_status qn__sink_write(struct qn__sink *s, const void *data, size_t n, qn_error *err)
{
    size_t done = 0;
    struct stat before;
    bool regular = fstat(s->fd, &before) == 0 && S_ISREG(before.st_mode);
    int failure = qn__write_quiet(s->fd, data, n, &done);
    if (failure == 0) return QN_OK;
    if (done > 0) s->torn = !regular || ftruncate(s->fd, before.st_size) != 0;
    s->lost++;
    if (s->told) return QN_OK;
    s->told = true;
    char text[128];
    return qn__fail(err, 6002, QN_AT_BYTE(s->path, regular ? before.st_size : -1, NULL),
                    "write: %s; the log loses lines, training goes on", reason(failure, text));
}

qn_status qn__sink_close(struct qn__sink *s, qn_error *err)
{
    int fd = s->fd;
    char text[128];
    s->fd = -1;
    if (fd < 0 || close(fd) == 0 || errno == EINTR) return QN_OK;
    return qn__fail(err, 6002, QN_AT_FILE(s->path), "close: %s", reason(errno, text));
}

/* ---- JSON lines --------------------------------------------------------------------------- */

enum { LINE = 16384, TAIL = sizeof ",\"cut\":true}\n" };

struct qn_logger {
    struct qn__sink sink;
    size_t n;
    bool cut;
    char line[LINE];
};

/* Removes what follows the last newline: the half line of a run that was killed. */
static int drop_half_line(int fd)
{
    struct stat st;
    char block[4096];
    if (fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_size == 0) return 0;
    off_t end = st.st_size;
    while (end > 0) {
        size_t n = end < (off_t)sizeof block ? (size_t)end : sizeof block;
        if (pread(fd, block, n, end - (off_t)n) != (ssize_t)n) return errno ? errno : EIO;
        for (size_t i = n; i > 0; i--)
            if (block[i - 1] == '\n') {
                off_t keep = end - (off_t)n + (off_t)i;
                return keep == st.st_size || ftruncate(fd, keep) == 0 ? 0 : errno;
            }
        end -= (off_t)n;
    }
    return ftruncate(fd, 0) == 0 ? 0 : errno;
}

qn_status qn_log_open(qn_logger **out, const char *path, bool append, qn_error *err)
{
    char text[128];
    if (!out || !path) return qn__fail(err, 2204, QN_AT_FIELD("log"), "NULL; expected a place and a path");
    *out = NULL;
    if (strlen(path) >= sizeof((struct qn__sink *)0)->path)
        return qn__fail(err, 6001, QN_AT_FILE(path), "open: %s", reason(ENAMETOOLONG, text));
    qn_logger *log = calloc(1, sizeof *log);
    if (!log) return qn__nomem(err, "log", sizeof *log);
    snprintf(log->sink.path, sizeof log->sink.path, "%s", path);
    int how = O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | (append ? 0 : O_EXCL);
    log->sink.fd = open(path, how, 0666);
    /* A pipe or a terminal cannot be opened for reading too, and holds no half line. */
    if (log->sink.fd < 0 && append) log->sink.fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    int failure = log->sink.fd < 0 ? errno : append ? drop_half_line(log->sink.fd) : 0;
    if (failure == 0) {
        *out = log;
        return QN_OK;
    }
    if (log->sink.fd >= 0) close(log->sink.fd);
    free(log);
    if (failure == EEXIST) return qn__fail(err, 6002, QN_AT_FILE(path), "exists already; expected a new file");
    return qn__fail(err, 6001, QN_AT_FILE(path), "open: %s", reason(failure, text));
}

qn_status qn_log_close(qn_logger *log, qn_error *err)
{
    if (!log) return QN_OK;
    qn_status status = qn__sink_close(&log->sink, err);
    free(log);
    return status;
}

int64_t qn__log_bytes(const qn_logger *log)
{
    struct stat st;
    return log && fstat(log->sink.fd, &st) == 0 && S_ISREG(st.st_mode) ? (int64_t)st.st_size : -1;
}

void qn__log_trim(qn_logger *log, int64_t bytes)
{
    char last = '\n';
    if (bytes < 0 || qn__log_bytes(log) <= bytes) return;
    if (bytes > 0 && pread(log->sink.fd, &last, 1, (off_t)bytes - 1) != 1) return;
    if (last == '\n' && ftruncate(log->sink.fd, (off_t)bytes)) return; /* they stay, then */
}

/* Puts bytes at the end of the line, or marks the line as cut. */
static bool put(qn_logger *log, const char *s, size_t n)
{
    if (log->cut || log->n + n + TAIL > LINE) {
        log->cut = true;
        return false;
    }
    memcpy(log->line + log->n, s, n);
    log->n += n;
    return true;
}

static void put_string(qn_logger *log, const char *text)
{
    const unsigned char *s = (const unsigned char *)text;
    char escape[8];
    put(log, "\"", 1);
    while (*s && !log->cut) {
        size_t n = qn__utf8_length(s, strnlen((const char *)s, 4));
        if (n == 0)
            put(log, "\xef\xbf\xbd", 3);
        else if (*s == '"' || *s == '\\')
            put(log, (char[]){ '\\', (char)*s }, 2);
        else if (*s < 0x20 || *s == 0x7f)
            put(log, escape, (size_t)snprintf(escape, sizeof escape, "\\u%04x", *s));
        else
            put(log, (const char *)s, n);
        s += n ? n : 1;
    }
    put(log, "\"", 1);
}

/* Starts a field; returns where the line stood, for taking the field back if it does not fit. */
static size_t start(qn_logger *log, const char *key, const char *suffix)
{
    char full[256];
    size_t at = log->n;
    snprintf(full, sizeof full, "%s%s", key, suffix);
    put(log, at == 0 ? "{" : ",", 1);
    put_string(log, full);
    put(log, ":", 1);
    return at;
}

static void finish(qn_logger *log, size_t at)
{
    if (log->cut) log->n = at;
}

void qn_log_begin(qn_logger *log, const char *event)
{
    log->n = 0;
    log->cut = false;
    qn_log_text(log, "event", event);
}

static void put_raw(qn_logger *log, const char *key, const char *value)
{
    if (log->cut) return;
    size_t at = start(log, key, "");
    put(log, value, strlen(value));
    finish(log, at);
}

void qn_log_i64(qn_logger *log, const char *key, int64_t value)
{
    char number[32];
    snprintf(number, sizeof number, "%lld", (long long)value);
    put_raw(log, key, number);
}

void qn_log_bool(qn_logger *log, const char *key, bool value) { put_raw(log, key, value ? "true" : "false"); }

static void put_nonfinite(qn_logger *log, const char *key, double value)
{
    if (log->cut) return;
    size_t at = start(log, key, "");
    put(log, "null", 4);
    start(log, key, "_is");
    put_string(log, isnan(value) ? "nan" : value > 0 ? "inf" : "-inf");
    finish(log, at);
}

void qn_log_f64(qn_logger *log, const char *key, double value)
{
    char number[32];
    if (!isfinite(value))
        put_nonfinite(log, key, value);
    else
        put_raw(log, key, qn__format_f64(number, value));
}

void qn_log_f32(qn_logger *log, const char *key, float value)
{
    char number[32];
    double back;
    if (!isfinite(value)) {
        put_nonfinite(log, key, (double)value);
        return;
    }
    for (int digits = 1; digits <= 9; digits++) {
        snprintf(number, sizeof number, "%.*g", digits, (double)value);
        for (char *p = number; *p; p++)
            if (*p == ',') *p = '.';
        if (qn__parse_f64(number, false, &back) && (float)back == value) break;
    }
    put_raw(log, key, number);
}

void qn_log_text(qn_logger *log, const char *key, const char *value)
{
    if (!value) {
        put_raw(log, key, "null");
        return;
    }
    if (log->cut) return;
    size_t at = start(log, key, "");
    put_string(log, value);
    finish(log, at);
}

void qn_log_f64s(qn_logger *log, const char *key, const double *values, int64_t n)
{
    char number[32];
    if (log->cut) return;
    size_t at = start(log, key, "");
    for (int64_t i = 0; i < n; i++) {
        const char *text = isfinite(values[i]) ? qn__format_f64(number, values[i]) : "null";
        put(log, i ? "," : "[", 1);
        put(log, text, strlen(text));
    }
    put(log, n > 0 ? "]" : "[]", n > 0 ? 1 : 2);
    finish(log, at);
}

qn_status qn_log_end(qn_logger *log, qn_error *err)
{
    const char *tail = !log->cut ? "}\n" : log->n ? ",\"cut\":true}\n" : "{\"cut\":true}\n";
    char *line = log->line;
    size_t n = strlen(tail);
    memcpy(line + log->n, tail, n); /* put() keeps TAIL bytes free */
    n += log->n;
    log->n = 0;
    log->cut = false;
    /* Behind a half line that could not be taken back, a newline keeps this one readable. */
    if (log->sink.torn && n < LINE) {
        memmove(line + 1, line, n++);
        line[0] = '\n';
        log->sink.torn = false;
    }
    return qn__sink_write(&log->sink, line, n, err);
}

int64_t qn_log_lost(const qn_logger *log) { return log ? log->sink.lost : 0; }
