/* gzip.c - gzip streams (RFC 1952) held in memory, inflated only as far as the caller asks, so
 * that a small file cannot demand more memory than its reader has already justified. */
#include "data.h"
#include <limits.h>
#include <string.h>
#include <zlib.h>

struct qn__gzip {
    z_stream z;
    const uint8_t *start;
    size_t left; /* input not yet given to zlib, whose counters are only 32 bits wide */
    const char *name;
    bool done;
};

enum { GZIP_WINDOW = 15 + 16 /* largest window, gzip wrapper */ };

bool qn__gzip_is(const uint8_t *bytes, size_t n) { return n >= 2 && bytes[0] == 0x1f && bytes[1] == 0x8b; }

qn_status qn__gzip_open(struct qn__gzip **out, const uint8_t *bytes, size_t n, const char *name, qn_error *err)
{
    struct qn__gzip *g = qn__calloc(NULL, 1, sizeof *g);
    if (!g) return qn__nomem(err, "gzip stream", sizeof *g);
    g->start = bytes;
    g->left = n;
    g->name = name;
    g->z.next_in = (Bytef *)(uintptr_t)bytes; /* zlib's field is not const; it does not write there */
    if (inflateInit2(&g->z, GZIP_WINDOW) != Z_OK) {
        qn__free(NULL, g, sizeof *g);
        return qn__nomem(err, "gzip stream", sizeof *g);
    }
    *out = g;
    return QN_OK;
}

void qn__gzip_close(struct qn__gzip *g)
{
    if (!g) return;
    inflateEnd(&g->z);
    qn__free(NULL, g, sizeof *g);
}

static int64_t position(const struct qn__gzip *g) { return (int64_t)(g->z.next_in - g->start); }

static void refill(struct qn__gzip *g)
{
    if (g->z.avail_in || !g->left) return;
    uInt chunk = g->left > INT_MAX ? INT_MAX : (uInt)g->left;
    g->z.avail_in = chunk;
    g->left -= chunk;
}

/* At the end of one member: gzip files may be concatenated, anything else behind is an error. */
static qn_status end_of_member(struct qn__gzip *g, qn_error *err)
{
    refill(g);
    if (!g->z.avail_in) {
        g->done = true;
        return QN_OK;
    }
    if (!qn__gzip_is(g->z.next_in, (size_t)g->z.avail_in + g->left))
        return qn__fail(err, 3002, QN_AT_BYTE(g->name, position(g), "gzip"),
                        "%zu bytes after the end of the stream; expected none", (size_t)g->z.avail_in + g->left);
    inflateReset(&g->z);
    return QN_OK;
}

static qn_status damaged(const struct qn__gzip *g, int code, qn_error *err)
{
    if (code == Z_MEM_ERROR) return qn__nomem(err, "gzip window", (size_t)1 << GZIP_WINDOW % 16);
    if (code == Z_BUF_ERROR)
        return qn__fail(err, 3002, QN_AT_BYTE(g->name, position(g), "gzip"),
                        "file ends inside the stream; expected its checksum at the end");
    return qn__fail(err, 3002, QN_AT_BYTE(g->name, position(g), "gzip"), "%s; expected an intact stream",
                    g->z.msg ? qn__show(g->z.msg).s : "damaged data");
}

qn_status qn__gzip_read(struct qn__gzip *g, void *out, size_t n, size_t *got, qn_error *err)
{
    *got = 0;
    while (*got < n && !g->done) {
        refill(g);
        uInt room = n - *got > INT_MAX ? INT_MAX : (uInt)(n - *got);
        g->z.next_out = (Bytef *)out + *got;
        g->z.avail_out = room;
        int code = inflate(&g->z, Z_NO_FLUSH);
        *got += room - g->z.avail_out;
        if (code == Z_STREAM_END) {
            QN_TRY(end_of_member(g, err));
        } else if (code != Z_OK && !(code == Z_BUF_ERROR && g->z.avail_out == 0)) {
            return damaged(g, code, err);
        }
    }
    return QN_OK;
}
