/* dir.c - making, listing, renaming and removing directories: see file.h. */
#include "file.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_DEPTH = 8 };

static qn_status failed(const char *shown, const char *what, qn_error *err)
{
    return qn__fail(err, 6002, QN_AT_FILE(shown), "%s: %s", what, qn__file_reason(errno));
}

/* Flushes the directory that holds path, so that a name made in it survives a power cut. */
static qn_status sync_parent(const char *path, size_t length, qn_error *err)
{
    char parent[4096];
    while (length > 0 && path[length - 1] != '/') length--;
    snprintf(parent, sizeof parent, "%.*s", (int)length, length ? path : "");
    int dir;
    QN_TRY(qn__file_open_dir(&dir, length ? parent : ".", err));
    qn_status status = qn__file_sync_dir(dir, length ? parent : ".", err);
    qn__file_close_fd(dir);
    return status;
}

qn_status qn__file_make_dirs(const char *path, qn_error *err)
{
    char part[4096];
    size_t n = strlen(path);
    if (n == 0 || n >= sizeof part) {
        errno = n ? ENAMETOOLONG : ENOENT;
        return failed(path, "mkdir", err);
    }
    for (size_t end = 1; end <= n; end++) {
        if (path[end] && path[end] != '/') continue;
        memcpy(part, path, end);
        part[end] = 0;
        struct stat st;
        int r;
        if (stat(part, &st) == 0 && S_ISDIR(st.st_mode)) continue;
        QN__RETRY(r, mkdir(part, 0777));
        if (r == 0)
            QN_TRY(sync_parent(part, end, err));
        else if (errno != EEXIST || stat(part, &st) || !S_ISDIR(st.st_mode))
            return failed(part, "mkdir", err);
    }
    return QN_OK;
}

qn_status qn__file_make_dir_at(int dir, const char *name, const char *shown, qn_error *err)
{
    int r;
    QN__RETRY(r, mkdirat(dir, name, 0777));
    return r ? failed(shown, "mkdir", err) : QN_OK;
}

qn_status qn__file_open_dir_at(int *out, int dir, const char *name, const char *shown, qn_error *err)
{
    QN__RETRY(*out, openat(dir, name, O_RDONLY | O_CLOEXEC | O_DIRECTORY | O_NOFOLLOW));
    if (*out >= 0) return QN_OK;
    return qn__fail(err, 6001, QN_AT_FILE(shown), "open: %s", qn__file_reason(errno));
}

qn_status qn__file_list(int dir, const char *shown, qn_status (*visit)(void *user, const char *name, qn_error *err),
                        void *user, qn_error *err)
{
    int fd; /* a second descriptor, because closedir closes the one it was given */
    QN__RETRY(fd, openat(dir, ".", O_RDONLY | O_CLOEXEC | O_DIRECTORY));
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d) {
        int error = errno;
        qn__file_close_fd(fd);
        return qn__fail(err, 6001, QN_AT_FILE(shown), "list: %s", qn__file_reason(error));
    }
    qn_status status = QN_OK;
    struct dirent *e;
    for (int interrupts = 0; !status;) {
        errno = 0;
        e = readdir(d);
        if (!e && errno == EINTR && ++interrupts < QN__MAX_INTERRUPTS) continue;
        if (!e) break;
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..")) status = visit(user, e->d_name, err);
    }
    if (!status && errno) status = qn__fail(err, 6001, QN_AT_FILE(shown), "list: %s", qn__file_reason(errno));
    closedir(d);
    return status;
}

struct removal {
    int dir, depth;
    const char *shown;
};
static qn_status remove_at(int dir, const char *name, const char *shown, int depth, qn_error *err);
static qn_status remove_visit(void *user, const char *name, qn_error *err)
{
    const struct removal *r = user;
    return remove_at(r->dir, name, r->shown, r->depth + 1, err);
}

static qn_status remove_at(int dir, const char *name, const char *shown, int depth, qn_error *err)
{
    int r;
    QN__RETRY(r, unlinkat(dir, name, 0));
    if (r == 0 || errno == ENOENT) return QN_OK;
    if (errno != EISDIR || depth > MAX_DEPTH) return failed(shown, "unlink", err);
    struct removal inner = { .depth = depth, .shown = shown };
    QN_TRY(qn__file_open_dir_at(&inner.dir, dir, name, shown, err));
    qn_status status = qn__file_list(inner.dir, shown, remove_visit, &inner, err);
    qn__file_close_fd(inner.dir);
    if (status) return status;
    QN__RETRY(r, unlinkat(dir, name, AT_REMOVEDIR));
    return r && errno != ENOENT ? failed(shown, "rmdir", err) : QN_OK;
}

qn_status qn__file_remove_at(int dir, const char *name, const char *shown, qn_error *err)
{
    return remove_at(dir, name, shown, 0, err);
}

qn_status qn__file_rename_at(int dir, const char *from, const char *to, const char *shown, qn_error *err)
{
    int r;
    QN__RETRY(r, renameat(dir, from, dir, to));
    return r ? failed(shown, "rename", err) : QN_OK;
}

qn_status qn__file_exchange_at(int dir, const char *a, const char *b, const char *shown, bool *done, qn_error *err)
{
    int r;
    QN__RETRY(r, renameat2(dir, a, dir, b, RENAME_EXCHANGE));
    *done = r == 0;
    if (r == 0 || errno == EINVAL || errno == ENOSYS) return QN_OK;
    return failed(shown, "rename", err);
}

bool qn__file_exists_at(int dir, const char *name)
{
    struct stat st;
    return fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

qn_status qn__file_open_lock(int *out, const char *dir, const char *name, qn_error *err)
{
    int parent;
    *out = -1;
    QN_TRY(qn__file_open_dir(&parent, dir, err));
    QN__RETRY(*out, openat(parent, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666));
    qn_status status = QN_OK;
    if (*out < 0) status = qn__fail(err, 6001, QN_AT_FILE(dir), "%s: %s", name, qn__file_reason(errno));
    qn__file_close_fd(parent);
    return status;
}
