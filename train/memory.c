/* memory.c - how much memory there is, and whether a training step fits into it: see memory.h. */
#include "memory.h"
#include "../core/base.h"
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum { TEXT = 16384, PATH = 4096 };
static const int64_t RESERVE = (int64_t)32 << 20; /* for the loader's batches, logs and the C library */

/* ---- small files of the system ------------------------------------------------------------------------------ */

/* Files of /proc and /sys have no size that could be asked for: read until they end. */
static bool read_text(const char *root, const char *path, char *buf, size_t size)
{
    char full[PATH];
    size_t n = 0;
    ssize_t got = 0;
    int written = snprintf(full, sizeof full, "%s%s", root, path);
    if (written < 0 || (size_t)written >= sizeof full) return false;
    int fd = open(full, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return false;
    while (n + 1 < size && (got = read(fd, buf + n, size - 1 - n)) > 0) n += (size_t)got;
    close(fd);
    buf[n] = 0;
    return got >= 0 && n > 0;
}

/* The digits at s, which may be followed by anything; -1 for "max" and other text. */
static int64_t leading_number(const char *s)
{
    int64_t x = 0;
    while (*s == ' ' || *s == '\t') s++;
    if (*s < '0' || *s > '9') return -1;
    for (; *s >= '0' && *s <= '9'; s++)
        if (__builtin_mul_overflow(x, 10, &x) || __builtin_add_overflow(x, *s - '0', &x)) return INT64_MAX;
    return x;
}

/* The number after `key` at the beginning of a line; -1 if there is none. */
static int64_t line_number(const char *text, const char *key)
{
    size_t n = strlen(key);
    for (const char *line = text; line && *line; line = strchr(line, '\n')) {
        if (*line == '\n') line++;
        if (strncmp(line, key, n) == 0) return leading_number(line + n);
    }
    return -1;
}

static int64_t file_number(const char *root, const char *dir, const char *name)
{
    char path[PATH], text[64];
    int n = snprintf(path, sizeof path, "%s/%s", dir, name);
    if (n < 0 || (size_t)n >= sizeof path || !read_text(root, path, text, sizeof text)) return -1;
    return leading_number(text);
}

/* ---- limits -------------------------------------------------------------------------------------------------- */

static void lower(qn_memory *m, int64_t bytes, const char *limit)
{
    if (bytes < 0) bytes = 0;
    if (bytes < m->bytes) *m = (qn_memory){ bytes, limit };
}

static void machine(qn_memory *m, const char *root)
{
    char text[TEXT];
    if (!read_text(root, "/proc/meminfo", text, sizeof text)) return;
    int64_t kib = line_number(text, "MemAvailable:");
    if (kib >= 0 && kib < INT64_MAX / 1024) lower(m, kib * 1024, "MemAvailable");
}

/* One group: its limit less its use, of which file cache that nobody needs is given back under pressure. */
static void group(qn_memory *m, const char *root, const char *dir, const char *limit_file, const char *use_file,
                  const char *cache_key)
{
    char path[PATH], text[TEXT];
    int64_t limit = file_number(root, dir, limit_file), use = file_number(root, dir, use_file), cache = 0;
    int n = snprintf(path, sizeof path, "%s/memory.stat", dir);
    if (limit < 0 || use < 0) return;
    if (n > 0 && (size_t)n < sizeof path && read_text(root, path, text, sizeof text))
        cache = line_number(text, cache_key);
    lower(m, limit - use + (cache > 0 && cache <= use ? cache : 0), "cgroup");
}

/* A limit holds for all groups below it: every directory from the process's own up to the top
 * counts. Within a container the top is the process's own and the path is the host's, so directories
 * that are not there are passed over. */
static void groups(qn_memory *m, const char *root, const char *top, const char *path, bool v2)
{
    char dir[PATH];
    int n = snprintf(dir, sizeof dir, "%s%s", top, path);
    size_t top_length = strlen(top);
    if (n < 0 || (size_t)n >= sizeof dir) return;
    for (;;) {
        if (v2)
            group(m, root, dir, "memory.max", "memory.current", "inactive_file");
        else
            group(m, root, dir, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file");
        char *slash = strrchr(dir, '/');
        if (!slash || (size_t)(slash - dir) < top_length) return;
        *slash = 0;
    }
}

/* /proc/self/cgroup: "0::/path" for version 2, "7:memory:/path" or "7:cpu,memory:/path" for version 1. */
static void cgroups(qn_memory *m, const char *root)
{
    char text[TEXT];
    if (!read_text(root, "/proc/self/cgroup", text, sizeof text)) return;
    for (char *line = text, *next; line && *line; line = next) {
        next = strchr(line, '\n');
        if (next) *next++ = 0;
        char *names = strchr(line, ':'), *path = names ? strchr(names + 1, ':') : NULL;
        if (!path) continue;
        *path++ = 0;
        if (strcmp(path, "/") == 0) *path = 0;
        if (names[1] == 0)
            groups(m, root, "/sys/fs/cgroup", path, true);
        else if (strstr(names + 1, "memory"))
            groups(m, root, "/sys/fs/cgroup/memory", path, false);
    }
}

static void process(qn_memory *m)
{
    char text[256];
    struct rlimit r;
    int64_t pages = -1, data = -1, page = sysconf(_SC_PAGESIZE);
    if (read_text("", "/proc/self/statm", text, sizeof text)) {
        pages = leading_number(text);
        const char *p = text;
        for (int i = 0; i < 5 && p; i++) p = strchr(p + 1, ' '); /* the sixth number: data and stack */
        data = p ? leading_number(p) : -1;
    }
    if (pages >= 0 && getrlimit(RLIMIT_AS, &r) == 0 && r.rlim_cur != RLIM_INFINITY && r.rlim_cur < INT64_MAX)
        lower(m, (int64_t)r.rlim_cur - pages * page, "RLIMIT_AS");
    if (data >= 0 && getrlimit(RLIMIT_DATA, &r) == 0 && r.rlim_cur != RLIM_INFINITY && r.rlim_cur < INT64_MAX)
        lower(m, (int64_t)r.rlim_cur - data * page, "RLIMIT_DATA");
}

qn_memory qn__memory_below(const char *root)
{
    qn_memory m = { INT64_MAX, "none" };
    machine(&m, root);
    cgroups(&m, root);
    process(&m);
    if (m.bytes != INT64_MAX) m.bytes = m.bytes > RESERVE ? m.bytes - RESERVE : 0;
    return m;
}

qn_memory qn_memory_available(void) { return qn__memory_below(""); }

/* ---- does it fit? --------------------------------------------------------------------------------------------- */

int64_t qn__bytes_total(const qn_bytes *b)
{
    return (int64_t)(b->params + b->buffers + b->state + b->grads + b->io + b->work);
}

static qn_status largest_batch(int64_t *out, const char *device, const qn_recipe *recipe, const qn_transform *shape,
                               int64_t most, int threads, int64_t have, qn_error *err)
{
    *out = 0;
    qn_compile_opts opts = { .device = device };
    return have > 0 && most > 0 ? qn_plan_fit(out, recipe, shape, threads, &opts, (size_t)have, most, err) : QN_OK;
}

qn_status qn_plan_largest_batch(int64_t *out, const qn_recipe *recipe, const qn_transform *shape, int64_t most,
                                int threads, int64_t have, qn_error *err)
{
    return largest_batch(out, NULL, recipe, shape, most, threads, have, err);
}

/* device: NULL for the CPU */
static qn_status compare(const char *device, const qn_bytes *need, int64_t have, const qn_recipe *r,
                         const qn_transform *shape, int64_t batch, int threads, qn_error *err)
{
    int64_t all = qn__bytes_total(need), largest = 0;
    if (all <= have) return QN_OK;
    QN_TRY(largest_batch(&largest, device, r, shape, batch - 1, threads, have, err));
    bool gib = all >= (int64_t)1 << 30; /* small machines are told in MiB */
    double unit = gib ? 1073741824.0 : 1048576.0;
    const char *name = gib ? "GiB" : "MiB";
    return qn__fail(err, 5001, QN_AT_FIELD(device ? device : "host"),
                    "needs %.2f %s (weights %.1f, optimizer %.1f, activations %.1f, workspace %.1f); have %.2f %s; "
                    "largest batch that fits: %lld",
                    (double)all / unit, name, (double)(need->params + need->buffers) / unit,
                    (double)(need->state + need->grads) / unit,
                    (double)(need->io + need->work - need->workspace) / unit, (double)need->workspace / unit,
                    (double)have / unit, name, (long long)largest);
}

qn_status qn__memory_compare(const qn_bytes *need, int64_t have, const qn_recipe *r, const qn_transform *shape,
                             int64_t batch, int threads, qn_error *err)
{
    return compare(NULL, need, have, r, shape, batch, threads, err);
}

qn_status qn_plan_fits(const qn_plan *plan, const qn_recipe *recipe, const qn_transform *shape, int64_t batch,
                       int threads, int64_t have, qn_error *err)
{
    qn_bytes need = qn_program_bytes(plan->program);
    return compare(NULL, &need, have, recipe, shape, batch, threads, err);
}

qn_status qn__memory_check(const qn_store *store, const qn_bytes *need, const qn_recipe *r, const qn_transform *shape,
                           int64_t batch, int threads, qn_error *err)
{
    const char *device = qn_store_device(store);
    int64_t room;
    if (strcmp(device, "cpu") == 0)
        return compare(NULL, need, qn_memory_available().bytes, r, shape, batch, threads, err);
    QN_TRY(qn_store_room(store, &room, err));
    return compare(device, need, room, r, shape, batch, threads, err);
}
