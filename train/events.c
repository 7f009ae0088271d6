/* events.c - TensorBoard event files: see quern/log.h. */
#include "events.h"
#include "../core/base.h"
#include "log.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LONGEST_TAG = 255, SMALL = 640, HEADER = 12, FOOTER = 4 };

struct qn_events {
    struct qn__sink sink;
};

uint32_t qn__crc32c(uint32_t crc, const void *data, size_t n)
{
    const unsigned char *p = data;
    crc = ~crc;
    while (n--) {
        crc ^= *p++;
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (0x82f63b78u & (0u - (crc & 1)));
    }
    return ~crc;
}

uint32_t qn__crc32c_masked(const void *data, size_t n)
{
    uint32_t crc = qn__crc32c(0, data, n);
    return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

/* ---- protobuf, the three wire types that are needed -------------------------------------- */

struct bytes {
    unsigned char *p; /* the caller has made sure of the room */
    size_t n;
};

static void put_varint(struct bytes *b, uint64_t x)
{
    for (; x >= 0x80; x >>= 7) b->p[b->n++] = (unsigned char)(x | 0x80);
    b->p[b->n++] = (unsigned char)x;
}

static void put_little(struct bytes *b, uint64_t x, int n)
{
    for (int i = 0; i < n; i++) b->p[b->n++] = (unsigned char)(x >> 8 * i);
}

static void put_field_varint(struct bytes *b, unsigned field, uint64_t x)
{
    put_varint(b, field << 3);
    put_varint(b, x);
}

static void put_field_bytes(struct bytes *b, unsigned field, const void *data, size_t n)
{
    put_varint(b, field << 3 | 2);
    put_varint(b, n);
    if (n) memcpy(b->p + b->n, data, n);
    b->n += n;
}

static void put_field_f64(struct bytes *b, unsigned field, double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    put_varint(b, field << 3 | 1);
    put_little(b, bits, 8);
}

static void put_field_f32(struct bytes *b, unsigned field, float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    put_varint(b, field << 3 | 5);
    put_little(b, bits, 4);
}

/* ---- records ------------------------------------------------------------------------------ */

static double wall_time(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Starts an Event behind the room for the record's header. */
static struct bytes start_event(unsigned char *buf)
{
    struct bytes b = { buf, HEADER };
    put_field_f64(&b, 1, wall_time()); /* Event.wall_time */
    return b;
}

static qn_status write_record(qn_events *e, struct bytes *b, qn_error *err)
{
    size_t n = b->n - HEADER;
    struct bytes header = { b->p, 0 };
    put_little(&header, n, 8);
    put_little(&header, qn__crc32c_masked(b->p, 8), 4);
    put_little(b, qn__crc32c_masked(b->p + HEADER, n), FOOTER);
    /* Readers stop at a torn record, so nothing may follow one that could not be taken back. */
    if (e->sink.torn) {
        e->sink.lost++;
        return QN_OK;
    }
    return qn__sink_write(&e->sink, b->p, b->n, err);
}

static qn_status write_version(qn_events *e, qn_error *err)
{
    unsigned char buf[128];
    struct bytes b = start_event(buf);
    put_field_bytes(&b, 3, "brain.Event:2", 13); /* Event.file_version */
    return write_record(e, &b, err);
}

static int create_file(struct qn__sink *s, const char *dir)
{
    char host[65] = "localhost";
    if (gethostname(host, sizeof host - 1) || host[0] == 0) snprintf(host, sizeof host, "localhost");
    host[sizeof host - 1] = 0;
    for (char *p = host; *p; p++)
        if (*p == '/') *p = '_';
    for (int again = 0; again < 1000; again++) {
        char suffix[16] = "";
        if (again) snprintf(suffix, sizeof suffix, ".%d", again);
        int n = snprintf(s->path, sizeof s->path, "%s/events.out.tfevents.%010lld.%s.%ld%s", dir, (long long)time(NULL),
                         host, (long)getpid(), suffix);
        if (n < 0 || (size_t)n >= sizeof s->path) return ENAMETOOLONG;
        s->fd = open(s->path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0666);
        if (s->fd >= 0) return 0;
        if (errno != EEXIST) return errno;
    }
    return EEXIST;
}

qn_status qn_events_open(qn_events **out, const char *dir, qn_error *err)
{
    if (!out || !dir) return qn__fail(err, 2204, QN_AT_FIELD("events"), "NULL; expected a place and a directory");
    *out = NULL;
    qn_events *e = calloc(1, sizeof *e);
    if (!e) return qn__nomem(err, "events", sizeof *e);
    int failure = create_file(&e->sink, dir);
    if (failure) {
        char text[128];
        free(e);
        return qn__fail(err, 6002, QN_AT_FILE(dir), "cannot create an event file: %s",
                        strerror_r(failure, text, sizeof text));
    }
    qn_status status = write_version(e, err);
    if (status) {
        close(e->sink.fd);
        unlink(e->sink.path);
        free(e);
        return status;
    }
    *out = e;
    return QN_OK;
}

qn_status qn_events_close(qn_events *e, qn_error *err)
{
    if (!e) return QN_OK;
    qn_status status = qn__sink_close(&e->sink, err);
    free(e);
    return status;
}

static qn_status check_tag(const char *tag, qn_error *err)
{
    size_t n = tag ? strlen(tag) : 0;
    if (n > 0 && n <= LONGEST_TAG) return QN_OK;
    return qn__fail(err, 2204, QN_AT_FIELD("events.tag"), "%zu bytes; expected 1..%d", n, LONGEST_TAG);
}

/* Event.step and Event.summary with the one Summary.Value that `value` holds. */
static qn_status write_value(qn_events *e, struct bytes *b, int64_t step, const struct bytes *value, qn_error *err)
{
    unsigned char head[16];
    struct bytes h = { head, 0 };
    put_varint(&h, 1 << 3 | 2); /* Summary.value */
    put_varint(&h, value->n);
    put_field_varint(b, 2, (uint64_t)step);
    put_varint(b, 5 << 3 | 2);
    put_varint(b, h.n + value->n);
    memcpy(b->p + b->n, head, h.n);
    b->n += h.n;
    memcpy(b->p + b->n, value->p, value->n);
    b->n += value->n;
    return write_record(e, b, err);
}

qn_status qn_events_scalar(qn_events *e, const char *tag, int64_t step, float value, qn_error *err)
{
    unsigned char buf[SMALL], inner[SMALL / 2];
    QN_TRY(check_tag(tag, err));
    struct bytes b = start_event(buf), v = { inner, 0 };
    put_field_bytes(&v, 1, tag, strlen(tag)); /* Value.tag          */
    put_field_f32(&v, 2, value);              /* Value.simple_value */
    return write_value(e, &b, step, &v, err);
}

qn_status qn_events_image(qn_events *e, const char *tag, int64_t step, const void *png, size_t bytes, int64_t width,
                          int64_t height, qn_error *err)
{
    QN_TRY(check_tag(tag, err));
    if (!png || bytes == 0 || bytes > (size_t)1 << 28)
        return qn__fail(err, 2204, QN_AT_FIELD("events.image"), "%zu bytes; expected 1..2^28", bytes);
    if (width < 1 || height < 1 || width > INT32_MAX || height > INT32_MAX)
        return qn__fail(err, 2204, QN_AT_FIELD("events.image"), "%lld x %lld; expected 1..2^31-1", (long long)width,
                        (long long)height);
    size_t room = bytes + SMALL;
    unsigned char *memory = qn__calloc(NULL, 3, room); /* event, value and image, nested */
    if (!memory) return qn__nomem(err, "events.image", room);
    struct bytes b = start_event(memory), v = { memory + room, 0 }, i = { memory + 2 * room, 0 };
    put_field_varint(&i, 1, (uint64_t)height);
    put_field_varint(&i, 2, (uint64_t)width);
    put_field_varint(&i, 3, 3); /* colorspace: RGB; readers go by the PNG itself */
    put_field_bytes(&i, 4, png, bytes);
    put_field_bytes(&v, 1, tag, strlen(tag));
    put_field_bytes(&v, 4, i.p, i.n); /* Value.image */
    qn_status status = write_value(e, &b, step, &v, err);
    free(memory);
    return status;
}

const char *qn_events_path(const qn_events *e) { return e->sink.path; }
int64_t qn_events_lost(const qn_events *e) { return e ? e->sink.lost : 0; }
