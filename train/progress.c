/* progress.c - one redrawn line on a terminal, plain lines elsewhere: see quern/log.h. */
#include "progress.h"
#include "../core/base.h"
#include "log.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { TEXT = 512, NARROWEST_BAR = 8, WIDEST_BAR = 40 };

struct qn_progress {
    int fd;
    bool terminal, plain, colour, utf8, shown;
    int64_t epochs, steps_per_epoch, every;
    char metric[32], unit[16];
    double (*clock)(void *user);
    void *user;
    double epoch_start, run_start, stepped, drawn; /* seconds */
    int64_t epoch, epoch_samples, first_step;
    bool started;
};

/* A line under construction; what does not fit is cut. */
struct text {
    char s[TEXT];
    size_t n;
};

static void __attribute__((format(printf, 2, 3))) add(struct text *t, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(t->s + t->n, TEXT - t->n, fmt, ap);
    va_end(ap);
    if (n > 0) t->n = t->n + (size_t)n < TEXT ? t->n + (size_t)n : TEXT - 1;
}

const char *qn__clock_text(char buf[32], double seconds)
{
    if (!isfinite(seconds) || seconds < 0 || seconds > 1e9) {
        snprintf(buf, 32, "-");
        return buf;
    }
    long s = lround(seconds);
    if (s < 3600)
        snprintf(buf, 32, "%ld:%02ld", s / 60, s % 60);
    else if (s < 48 * 3600)
        snprintf(buf, 32, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
    else
        snprintf(buf, 32, "%ldd %ldh", s / 86400, s / 3600 % 24);
    return buf;
}

/* printf's %.*f with a point in every locale. */
static const char *fixed(char buf[32], double x, int digits)
{
    snprintf(buf, 32, "%.*f", digits, x);
    for (char *p = buf; *p; p++)
        if (*p == ',') *p = '.';
    return buf;
}

const char *qn__rate_text(char buf[32], double rate)
{
    static const char suffix[] = { 0, 'k', 'M', 'G' };
    int scale = 0;
    if (!isfinite(rate) || rate < 0) {
        snprintf(buf, 32, "-");
        return buf;
    }
    for (; rate >= 999.5 && scale < 3; scale++) rate /= 1000;
    fixed(buf, rate < 1e6 ? rate : 1e6, rate >= 99.95 ? 0 : rate >= 9.995 ? 1 : 2);
    size_t n = strlen(buf);
    buf[n] = suffix[scale];
    buf[n + 1] = 0;
    return buf;
}

int qn__columns(const char *text)
{
    int n = 0;
    for (; *text; text++) n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

/* ---- the stream --------------------------------------------------------------------------- */

static bool is_set(const char *name)
{
    const char *value = getenv(name);
    return value && *value;
}

static bool locale_is_utf8(void)
{
    static const char *const names[] = { "LC_ALL", "LC_CTYPE", "LANG" };
    for (int i = 0; i < 3; i++) {
        if (!is_set(names[i])) continue;
        const char *v = getenv(names[i]);
        for (; *v; v++)
            if (strncasecmp(v, "utf-8", 5) == 0 || strncasecmp(v, "utf8", 4) == 0) return true;
        return false;
    }
    return false;
}

static int width_of(int fd)
{
    struct winsize w;
    int64_t columns = 0;
    const char *env = getenv("COLUMNS");
    if (ioctl(fd, TIOCGWINSZ, &w) == 0 && w.ws_col > 0)
        columns = w.ws_col;
    else if (!env || !qn__parse_i64(env, &columns) || columns < 1)
        columns = 80;
    return columns < 20 ? 20 : columns > 400 ? 400 : (int)columns;
}

/* A stream that cannot be written to is given up: progress is never worth a run. */
static void emit(qn_progress *p, const char *s, size_t n)
{
    size_t done;
    if (!p->terminal && !p->plain) return;
    if (qn__write_quiet(p->fd, s, n, &done)) p->terminal = p->plain = false;
}

static double system_clock(void *user)
{
    (void)user;
    return qn__now();
}

static qn_status check(const qn_progress_options *o, qn_error *err)
{
    if (o->epochs < 1 || o->steps_per_epoch < 1 || o->every < 0)
        return qn__fail(err, 2204, QN_AT_FIELD("progress"),
                        "%lld epochs of %lld steps, a line every %lld; expected at least 1, 1 and 0",
                        (long long)o->epochs, (long long)o->steps_per_epoch, (long long)o->every);
    if (o->epochs > INT64_MAX / o->steps_per_epoch)
        return qn__fail(err, 2204, QN_AT_FIELD("progress"), "%lld epochs of %lld steps are too many",
                        (long long)o->epochs, (long long)o->steps_per_epoch);
    return QN_OK;
}

qn_status qn_progress_create(qn_progress **out, const qn_progress_options *o, qn_error *err)
{
    if (!out || !o) return qn__fail(err, 2204, QN_AT_FIELD("progress"), "NULL; expected a place and options");
    *out = NULL;
    QN_TRY(check(o, err));
    qn_progress *p = calloc(1, sizeof *p);
    if (!p) return qn__nomem(err, "progress", sizeof *p);
    const char *term = getenv("TERM");
    bool dumb = !term || !*term || strcmp(term, "dumb") == 0;
    bool terminal = o->mode == QN_PROGRESS_AUTO ? isatty(o->fd) && !dumb : o->mode == QN_PROGRESS_TERMINAL;
    p->fd = o->fd;
    p->terminal = terminal && o->fd >= 0;
    p->plain = !terminal && o->mode != QN_PROGRESS_OFF && o->fd >= 0;
    p->colour = p->terminal && !is_set("NO_COLOR") && !dumb;
    p->utf8 = locale_is_utf8();
    p->epochs = o->epochs;
    p->steps_per_epoch = o->steps_per_epoch;
    p->every = o->every;
    if (o->metric) qn__escape(p->metric, sizeof p->metric, o->metric, sizeof p->metric - 1);
    if (o->unit) qn__escape(p->unit, sizeof p->unit, o->unit, sizeof p->unit - 1);
    p->clock = o->clock ? o->clock : system_clock;
    p->user = o->user;
    p->run_start = p->epoch_start = p->clock(p->user);
    p->drawn = -1;
    *out = p;
    return QN_OK;
}

/* ---- lines -------------------------------------------------------------------------------- */

static void add_value(struct text *t, const char *name, double value)
{
    char number[32];
    if (!isnan(value)) add(t, "  %s %s", name, fixed(number, fabs(value) < 1e9 ? value : 1e9, 4));
}

static void add_values(struct text *t, const qn_progress *p, const qn_progress_state *s, double now)
{
    char buf[32];
    double elapsed = now - p->epoch_start;
    int64_t step = (s->epoch - 1) * p->steps_per_epoch + s->step;
    int64_t done = step - p->first_step, left = p->epochs * p->steps_per_epoch - step;
    add_value(t, "loss", s->loss);
    if (p->metric[0]) add_value(t, p->metric, s->metric);
    if (elapsed > 0)
        add(t, "  %s%s%s/s", qn__rate_text(buf, (double)p->epoch_samples / elapsed), p->unit[0] ? " " : "", p->unit);
    if (done > 0) add(t, "  eta %s", qn__clock_text(buf, (now - p->run_start) / (double)done * (double)left));
}

static void add_bar(struct text *t, const qn_progress *p, double share, int width)
{
    int full = (int)floor(share * width + 0.5);
    if (p->colour) add(t, "\x1b[36m");
    for (int i = 0; i < full; i++) add(t, "%s", p->utf8 ? "\xe2\x94\x81" : "#");
    if (p->colour) add(t, "\x1b[2m");
    for (int i = full; i < width; i++) add(t, "%s", p->utf8 ? "\xe2\x94\x80" : "-");
    if (p->colour) add(t, "\x1b[0m");
}

/* Cuts text to so many columns. */
static void clip(struct text *t, int columns)
{
    int used = 0;
    for (size_t i = 0; i < t->n; i++) {
        if (((unsigned char)t->s[i] & 0xc0) != 0x80 && ++used > columns) {
            t->n = i;
            t->s[i] = 0;
            return;
        }
    }
}

/* "epoch 3/12 BAR 214/430  loss ...": the bar takes the columns that the words leave, or none. */
static void redraw(qn_progress *p, const qn_progress_state *s, double now)
{
    struct text left = { .n = 0 }, right = { .n = 0 }, line = { .n = 0 };
    int columns = width_of(p->fd) - 1; /* the last column makes some terminals wrap */
    add(&left, "epoch %lld/%lld ", (long long)s->epoch, (long long)p->epochs);
    add(&right, "%lld/%lld", (long long)s->step, (long long)p->steps_per_epoch);
    add_values(&right, p, s, now);
    int bar = columns - qn__columns(left.s) - qn__columns(right.s) - 1;
    if (bar > WIDEST_BAR) bar = WIDEST_BAR;
    if (bar < NARROWEST_BAR) {
        clip(&left, columns);
        clip(&right, columns - qn__columns(left.s));
    }
    add(&line, "\r\x1b[K%s", left.s);
    if (bar >= NARROWEST_BAR) {
        add_bar(&line, p, (double)s->step / (double)p->steps_per_epoch, bar);
        add(&line, " ");
    }
    add(&line, "%s", right.s);
    emit(p, line.s, line.n);
    p->drawn = now;
    p->shown = true;
}

static void plain_line(qn_progress *p, const qn_progress_state *s, double now)
{
    struct text line = { .n = 0 };
    add(&line, "epoch %lld/%lld  step %lld/%lld", (long long)s->epoch, (long long)p->epochs, (long long)s->step,
        (long long)p->steps_per_epoch);
    add_values(&line, p, s, now);
    if (line.n > TEXT - 2) line.n = TEXT - 2;
    line.s[line.n++] = '\n';
    emit(p, line.s, line.n);
}

static void enter_epoch(qn_progress *p, int64_t epoch, double now)
{
    p->epoch = epoch;
    p->epoch_start = now;
    p->epoch_samples = 0;
}

void qn_progress_step(qn_progress *p, const qn_progress_state *state)
{
    qn_progress_state s = *state;
    if (!p->terminal && !p->plain) return;
    double now = p->clock(p->user);
    s.epoch = s.epoch < 1 ? 1 : s.epoch > p->epochs ? p->epochs : s.epoch;
    s.step = s.step < 0 ? 0 : s.step > p->steps_per_epoch ? p->steps_per_epoch : s.step;
    if (!p->started) {
        /* A resumed run starts in the middle: its past steps took no time of this one. */
        int64_t step = (s.epoch - 1) * p->steps_per_epoch + s.step;
        p->first_step = step > 0 ? step - 1 : 0;
        p->started = true;
        p->epoch = s.epoch; /* the clock has been running since the progress was made */
    }
    if (s.epoch != p->epoch) enter_epoch(p, s.epoch, now);
    p->stepped = now;
    p->epoch_samples += s.samples > 0 ? s.samples : 0;
    if (p->terminal && (p->drawn < 0 || now - p->drawn >= 0.1 || now < p->drawn)) redraw(p, &s, now);
    if (p->plain && p->every > 0 && s.step % p->every == 0) plain_line(p, &s, now);
}

static void clear_line(qn_progress *p)
{
    if (p->terminal && p->shown) emit(p, "\r\x1b[K", 4);
    p->shown = false;
}

void qn_progress_epoch_end(qn_progress *p, const qn_progress_epoch *e)
{
    char buf[32];
    struct text line = { .n = 0 };
    if (!p->terminal && !p->plain) return;
    /* Validation comes between the last step and this call and is no part of the rate. */
    double now = p->clock(p->user), training = p->stepped - p->epoch_start;
    add(&line, "epoch %lld/%lld", (long long)e->epoch, (long long)p->epochs);
    add_value(&line, "loss", e->loss);
    if (p->metric[0]) add_value(&line, p->metric, e->metric);
    add_value(&line, "val loss", e->val_loss);
    char name[40];
    snprintf(name, sizeof name, "val %s", p->metric);
    if (p->metric[0]) add_value(&line, name, e->val_metric);
    if (training > 0 && p->epoch_samples > 0)
        add(&line, "  %s%s%s/s", qn__rate_text(buf, (double)p->epoch_samples / training), p->unit[0] ? " " : "",
            p->unit);
    add(&line, "  %s", qn__clock_text(buf, now - p->epoch_start));
    if (line.n > TEXT - 2) line.n = TEXT - 2;
    line.s[line.n++] = '\n';
    clear_line(p);
    emit(p, line.s, line.n);
    enter_epoch(p, e->epoch + 1, now);
    p->drawn = -1;
}

void qn_progress_note(qn_progress *p, const char *text)
{
    char safe[TEXT];
    if (!text) return;
    qn__escape(safe, sizeof safe - 1, text, sizeof safe);
    size_t n = strlen(safe);
    safe[n++] = '\n';
    clear_line(p);
    emit(p, safe, n);
    p->drawn = -1;
}

void qn_progress_free(qn_progress *p)
{
    if (!p) return;
    clear_line(p);
    free(p);
}
