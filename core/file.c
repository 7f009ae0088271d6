/* file.c - opening, reading and atomically replacing files: see file.h. */
#include "file.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { MAX_TEMP_NAMES = 100 };
#define RETRY QN__RETRY

const char *qn__file_reason(int errno_value)
{
    const char *s = strerrordesc_np(errno_value);
    return s ? s : "unknown error";
}

static void set_path(char path[256], const char *shown) { snprintf(path, 256, "%s", shown ? shown : ""); }

/* ---- reading ------------------------------------------------------------------------------ */

static const char *kind_of(mode_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFDIR: return "is a directory; expected a regular file";
    case S_IFIFO: return "is a FIFO; expected a regular file";
    case S_IFSOCK: return "is a socket; expected a regular file";
    case S_IFLNK: return "is a symbolic link; expected a regular file";
    default: return "is a device; expected a regular file";
    }
}

/* Takes over fd. NULL, or why it is refused; errno is 0 when the kind of file is the reason. */
static const char *accept_regular(struct qn__file *out, int fd, bool one_link)
{
    struct stat st;
    const char *reason = NULL;
    if (fstat(fd, &st))
        reason = qn__file_reason(errno);
    else if (!S_ISREG(st.st_mode))
        reason = kind_of(st.st_mode);
    else if (one_link && st.st_nlink != 1)
        reason = "has several hard links; expected one";
    if (reason) {
        close(fd);
        return reason;
    }
    out->fd = fd;
    out->size = (int64_t)st.st_size;
    return NULL;
}

qn_status qn__file_open(struct qn__file *out, const char *path, qn_error *err)
{
    int fd;
    *out = (struct qn__file){ .fd = -1 };
    set_path(out->path, path);
    RETRY(fd, open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
    const char *reason = fd < 0 ? qn__file_reason(errno) : accept_regular(out, fd, false);
    if (reason) return qn__fail(err, 6001, QN_AT_FILE(path), "open: %s", reason);
    return QN_OK;
}

void qn__file_close(struct qn__file *f)
{
    if (f->fd >= 0) close(f->fd);
    f->fd = -1;
}

void qn__file_close_fd(int fd)
{
    if (fd >= 0) close(fd);
}

qn_status qn__file_read(const struct qn__file *f, int64_t offset, void *out, size_t n, qn_error *err)
{
    char *to = out;
    int64_t at = offset;
    for (size_t left = n; left > 0;) {
        ssize_t got;
        RETRY(got, pread(f->fd, to, left, (off_t)at));
        if (got < 0) return qn__fail(err, 6001, QN_AT_BYTE(f->path, at, "read"), "%s", qn__file_reason(errno));
        if (got == 0)
            return qn__fail(err, 6001, QN_AT_BYTE(f->path, at, "read"), "the file ends here; expected %zu more bytes",
                            left);
        to += got;
        at += got;
        left -= (size_t)got;
    }
    return QN_OK;
}

qn_status qn__file_read_all(const qn_alloc *a, const char *path, size_t cap, char **out, size_t *n, qn_error *err)
{
    struct qn__file f;
    *out = NULL;
    *n = 0;
    QN_TRY(qn__file_open(&f, path, err));
    qn_status status = QN_OK;
    char *text = NULL;
    size_t size = (size_t)f.size;
    if (size > cap) {
        status = qn__fail(err, 6001, QN_AT_FILE(path), "%zu bytes; expected at most %zu", size, cap);
    } else if (!(text = qn__calloc(a, size + 1, 1))) {
        status = qn__nomem(err, "file contents", size + 1);
    } else if (!(status = qn__file_read(&f, 0, text, size, err))) {
        *out = text;
        *n = size;
        text = NULL;
    }
    qn__free(a, text, size + 1);
    qn__file_close(&f);
    return status;
}

qn_status qn__file_open_dir(int *out, const char *path, qn_error *err)
{
    RETRY(*out, open(path, O_RDONLY | O_CLOEXEC | O_DIRECTORY));
    if (*out < 0) return qn__fail(err, 6001, QN_AT_FILE(path), "open: %s", qn__file_reason(errno));
    return QN_OK;
}

/* ---- reading beneath a directory ---------------------------------------------------------- */

/* NULL, or what is wrong with the text of a relative name. */
static const char *bad_name(const char *name)
{
    if (!*name) return "is empty; expected a file name";
    if (*name == '/') return "is absolute; expected a name inside the directory";
    for (const char *part = name; part; part = strchr(part, '/')) {
        if (*part == '/') part++;
        size_t n = strcspn(part, "/");
        if (n == 2 && part[0] == '.' && part[1] == '.') return "contains \"..\"; expected a name inside the directory";
        if (n == 0) return "has an empty part; expected a name inside the directory";
    }
    return NULL;
}

int qn__file_walk_beneath(int dir, const char *name)
{
    int at = dir;
    char part[256];
    for (;;) {
        size_t n = strcspn(name, "/");
        bool last = !name[n];
        if (n >= sizeof part) return -ENAMETOOLONG;
        memcpy(part, name, n);
        part[n] = 0;
        int flags = O_CLOEXEC | O_NOFOLLOW;
        flags |= last ? O_RDONLY | O_NONBLOCK | O_NOCTTY : O_PATH | O_DIRECTORY;
        int next;
        RETRY(next, openat(at, part, flags));
        int failure = next < 0 ? errno : 0;
        if (at != dir) close(at);
        /* O_DIRECTORY reports a link as "not a directory"; both mean the same refusal here. */
        if (failure) return failure == ENOTDIR && !last ? -ELOOP : -failure;
        if (last) return next;
        at = next;
        name += n + 1;
    }
}

static int open_beneath(int dir, const char *name)
{
    struct open_how how = { .flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY,
                            .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS };
    for (int tries = 0; tries < QN__MAX_INTERRUPTS; tries++) {
        long fd = syscall(SYS_openat2, dir, name, &how, sizeof how);
        if (fd >= 0) return (int)fd;
        /* EAGAIN: something was renamed meanwhile. EPERM: an old sandbox that knows no openat2. */
        if (errno == ENOSYS || errno == EPERM) return qn__file_walk_beneath(dir, name);
        if (errno != EINTR && errno != EAGAIN) return -errno;
    }
    return -EINTR;
}

const char *qn__file_open_beneath(struct qn__file *out, int dir, const char *name, bool one_link, const char *shown)
{
    *out = (struct qn__file){ .fd = -1 };
    set_path(out->path, shown);
    const char *reason = bad_name(name);
    if (reason) return reason;
    int fd = open_beneath(dir, name);
    if (fd == -ELOOP || fd == -EXDEV) return "is or passes a symbolic link; expected a regular file";
    if (fd < 0) return qn__file_reason(-fd);
    return accept_regular(out, fd, one_link);
}

/* ---- writing ------------------------------------------------------------------------------ */

static qn_status fail_write(const struct qn__file_out *f, const char *what, int error, size_t unwritten, qn_error *err)
{
    int64_t more = (int64_t)unwritten;
    if (f->expected - f->at > more) more = f->expected - f->at;
    const struct qn__where *where = QN_AT_BYTE(f->path, f->at, what);
    bool space = error == ENOSPC || error == EDQUOT || error == EFBIG;
    if (space && more > 0)
        return qn__fail(err, 6002, where, "%s (needs %lld more)", qn__file_reason(error), (long long)more);
    return qn__fail(err, 6002, where, "%s", qn__file_reason(error));
}

/* Writing past RLIMIT_FSIZE raises SIGXFSZ, which kills a process that does not expect it. */
static bool beyond_limit(int64_t at, size_t n)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_FSIZE, &limit) || limit.rlim_cur == RLIM_INFINITY) return false;
    size_t end;
    return !qn__add(&end, (size_t)at, n) || end > limit.rlim_cur;
}

static qn_status reserve(struct qn__file_out *f, qn_error *err)
{
    if (f->expected <= 0) return QN_OK;
    if (beyond_limit(0, (size_t)f->expected)) return fail_write(f, "write", EFBIG, 0, err);
    int r;
    RETRY(r, fallocate(f->fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)f->expected));
    if (r == 0 || errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL) return QN_OK;
    return fail_write(f, "write", errno, 0, err);
}

/* Splits path into an open directory and a name within it. */
static qn_status open_parent(struct qn__file_out *f, const char *path, qn_error *err)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    char parent[4096];
    size_t n = slash ? (size_t)(slash - path) + 1 : 0;
    if (!*name || !strcmp(name, ".") || !strcmp(name, ".."))
        return qn__fail(err, 6002, QN_AT_FILE(path), "create: not a file name; expected one");
    if (n >= sizeof parent || strlen(name) >= sizeof f->name)
        return qn__fail(err, 6002, QN_AT_FILE(path), "create: %s", qn__file_reason(ENAMETOOLONG));
    memcpy(parent, path, n);
    parent[n] = 0;
    snprintf(f->name, sizeof f->name, "%s", name);
    RETRY(f->dir, open(n ? parent : ".", O_RDONLY | O_CLOEXEC | O_DIRECTORY));
    if (f->dir < 0) return qn__fail(err, 6002, QN_AT_FILE(path), "create: %s", qn__file_reason(errno));
    /* Replacing /dev/null by a file, or a link by its content, is never what was meant. */
    struct stat st;
    if (fstatat(f->dir, f->name, &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISREG(st.st_mode))
        return qn__fail(err, 6002, QN_AT_FILE(path), "create: %s", kind_of(st.st_mode));
    return QN_OK;
}

/* The pid in the name lets the next writer see whether the owner of a leftover still lives. */
static qn_status open_temp(struct qn__file_out *f, qn_error *err)
{
    for (int k = 0; k < MAX_TEMP_NAMES; k++) {
        char name[256];
        snprintf(name, sizeof name, ".%.200s.tmp.%ld", f->name, (long)getpid());
        size_t n = strlen(name);
        if (k) snprintf(name + n, sizeof name - n, ".%d", k);
        RETRY(f->fd, openat(f->dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666));
        if (f->fd >= 0) memcpy(f->temp, name, sizeof name);
        if (f->fd >= 0 || errno != EEXIST) break;
    }
    return f->fd >= 0 ? QN_OK : fail_write(f, "create", errno, 0, err);
}

qn_status qn__file_create(struct qn__file_out *out, const char *path, int64_t bytes, qn_error *err)
{
    *out = (struct qn__file_out){ .fd = -1, .dir = -1, .expected = bytes };
    set_path(out->path, path);
    qn_status status = open_parent(out, path, err);
    if (!status) status = open_temp(out, err);
    if (!status) status = reserve(out, err);
    if (status) qn__file_discard(out);
    return status;
}

qn_status qn__file_create_at(struct qn__file_out *out, int dir, const char *name, int64_t bytes, const char *shown,
                             qn_error *err)
{
    *out = (struct qn__file_out){ .fd = -1, .dir = -1, .expected = bytes };
    set_path(out->path, shown);
    const char *reason = strchr(name, '/') ? "contains \"/\"" : bad_name(name);
    if (reason) return qn__fail(err, 6002, QN_AT_FILE(shown), "create: name %s", reason);
    RETRY(out->fd, openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666));
    if (out->fd < 0) return fail_write(out, "create", errno, 0, err);
    qn_status status = reserve(out, err);
    if (status) qn__file_discard(out);
    return status;
}

qn_status qn__file_append(struct qn__file_out *out, const char *path, qn_error *err)
{
    *out = (struct qn__file_out){ .fd = -1, .dir = -1 };
    set_path(out->path, path);
    RETRY(out->fd, open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0666));
    struct stat st;
    const char *reason = NULL;
    if (out->fd < 0 || fstat(out->fd, &st))
        reason = qn__file_reason(errno);
    else if (!S_ISREG(st.st_mode) && !S_ISCHR(st.st_mode))
        reason = kind_of(st.st_mode);
    else if (S_ISREG(st.st_mode))
        out->at = (int64_t)st.st_size;
    else if (fcntl(out->fd, F_SETFL, O_APPEND)) /* a terminal may block, not lose lines */
        reason = qn__file_reason(errno);
    if (!reason) return QN_OK;
    qn__file_discard(out);
    return qn__fail(err, 6002, QN_AT_FILE(path), "open: %s", reason);
}

qn_status qn__file_write(struct qn__file_out *f, const void *data, size_t n, qn_error *err)
{
    const char *from = data;
    if (n > 0 && beyond_limit(f->at, n)) return fail_write(f, "write", EFBIG, n, err);
    while (n > 0) {
        ssize_t put;
        RETRY(put, write(f->fd, from, n));
        if (put <= 0) return fail_write(f, "write", put < 0 ? errno : EIO, n, err);
        from += put;
        n -= (size_t)put;
        f->at += put;
    }
    return QN_OK;
}

qn_status qn__file_sync_dir(int dir, const char *shown, qn_error *err)
{
    int r;
    RETRY(r, fsync(dir));
    /* EINVAL: a file system whose directories need no flushing. */
    if (r == 0 || errno == EINVAL) return QN_OK;
    return qn__fail(err, 6002, QN_AT_FILE(shown), "fsync: %s", qn__file_reason(errno));
}

/* A failed fsync is never repeated: the kernel may have dropped the pages and would report success. */
static qn_status flush(struct qn__file_out *f, qn_error *err)
{
    int r;
    if (f->expected > f->at) { /* gives back what was reserved for nothing */
        RETRY(r, ftruncate(f->fd, (off_t)f->at));
        if (r) return fail_write(f, "truncate", errno, 0, err);
    }
    RETRY(r, fsync(f->fd));
    if (r && errno != EINVAL) return fail_write(f, "fsync", errno, 0, err);
    r = close(f->fd);
    f->fd = -1;
    if (r && errno != EINTR) return fail_write(f, "close", errno, 0, err);
    return QN_OK;
}

qn_status qn__file_commit(struct qn__file_out *f, qn_error *err)
{
    qn_status status = flush(f, err);
    if (!status && f->temp[0]) {
        int r;
        RETRY(r, renameat(f->dir, f->temp, f->dir, f->name));
        if (r)
            status = fail_write(f, "rename", errno, 0, err);
        else
            f->temp[0] = 0;
        if (!status) status = qn__file_sync_dir(f->dir, f->path, err);
    }
    qn__file_discard(f);
    return status;
}

void qn__file_discard(struct qn__file_out *f)
{
    int r = 0;
    if (f->fd >= 0) close(f->fd);
    if (f->temp[0] && f->dir >= 0) RETRY(r, unlinkat(f->dir, f->temp, 0));
    (void)r; /* nothing better can be done: the next writer removes leftovers of dead ones */
    if (f->dir >= 0) close(f->dir);
    f->fd = f->dir = -1;
    f->temp[0] = 0;
}

qn_status qn__file_replace(const char *path, const void *data, size_t n, qn_error *err)
{
    struct qn__file_out f;
    QN_TRY(qn__file_create(&f, path, (int64_t)n, err));
    qn_status status = qn__file_write(&f, data, n, err);
    if (!status) return qn__file_commit(&f, err);
    qn__file_discard(&f);
    return status;
}
