/* interpose.h - the system calls of the library under test, intercepted. The executable defines the
 * functions of libc that core/file.c and core/dir.c call, so they come here first; a hook may make a
 * call fail, kill the process, or record it. Included by exactly one file of a test binary. */
#ifndef QN_TESTS_INTERPOSE_H
#define QN_TESTS_INTERPOSE_H
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

struct call {
    const char *name;
    int fd;                   /* descriptor, or directory of path */
    const char *path, *path2; /* path2: new name of a rename      */
    const void *data;
    size_t n;
    int64_t offset;
    unsigned flags;
    long result;
};
/* Returns 0 to go on, or the errno to fail with. May shorten *n of a write. */
static int (*before_call)(struct call *c);
static void (*after_call)(const struct call *c);

#define INTERPOSED(call_, action_) \
    do { \
        int error_ = before_call ? before_call(&(call_)) : 0; \
        if (error_) { \
            errno = error_; \
            return -1; \
        } \
        (call_).result = (action_); \
        if (after_call) { \
            int saved_ = errno; \
            after_call(&(call_)); \
            errno = saved_; \
        } \
    } while (0)

static mode_t mode_of(int flags, va_list ap) { return flags & O_CREAT ? (mode_t)va_arg(ap, int) : 0; }

int open(const char *path, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    mode_t mode = mode_of(flags, ap);
    va_end(ap);
    struct call c = { .name = "open", .fd = AT_FDCWD, .path = path, .flags = (unsigned)flags };
    INTERPOSED(c, syscall(SYS_openat, AT_FDCWD, path, flags, mode));
    return (int)c.result;
}
int openat(int dir, const char *path, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    mode_t mode = mode_of(flags, ap);
    va_end(ap);
    struct call c = { .name = "openat", .fd = dir, .path = path, .flags = (unsigned)flags };
    INTERPOSED(c, syscall(SYS_openat, dir, path, flags, mode));
    return (int)c.result;
}
ssize_t write(int fd, const void *data, size_t n)
{
    struct call c = { .name = "write", .fd = fd, .data = data, .n = n };
    INTERPOSED(c, syscall(SYS_write, fd, data, c.n));
    return c.result;
}
ssize_t pread(int fd, void *data, size_t n, off_t offset)
{
    struct call c = { .name = "pread", .fd = fd, .n = n, .offset = offset };
    INTERPOSED(c, syscall(SYS_pread64, fd, data, c.n, offset));
    return c.result;
}
/* Nothing in these tests survives a power cut anyway; the test of power cuts models it. */
int fsync(int fd)
{
    struct call c = { .name = "fsync", .fd = fd };
    INTERPOSED(c, 0);
    return 0;
}
int fallocate(int fd, int mode, off_t offset, off_t n)
{
    struct call c = { .name = "fallocate", .fd = fd, .n = (size_t)n, .offset = offset };
    INTERPOSED(c, syscall(SYS_fallocate, fd, mode, offset, n));
    return (int)c.result;
}
int ftruncate(int fd, off_t n)
{
    struct call c = { .name = "ftruncate", .fd = fd, .n = (size_t)n };
    INTERPOSED(c, syscall(SYS_ftruncate, fd, n));
    return (int)c.result;
}
/* Linux closes the descriptor whatever close returns. */
int close(int fd)
{
    struct call c = { .name = "close", .fd = fd };
    int error = before_call ? before_call(&c) : 0;
    c.result = syscall(SYS_close, fd);
    if (after_call && !error) after_call(&c);
    if (!error) return (int)c.result;
    errno = error;
    return -1;
}
int renameat(int from, const char *a, int to, const char *b)
{
    struct call c = { .name = "renameat", .fd = from, .path = a, .path2 = b };
    INTERPOSED(c, syscall(SYS_renameat, from, a, to, b));
    return (int)c.result;
}
int renameat2(int from, const char *a, int to, const char *b, unsigned flags)
{
    struct call c = { .name = "renameat2", .fd = from, .path = a, .path2 = b, .flags = flags };
    INTERPOSED(c, syscall(SYS_renameat2, from, a, to, b, flags));
    return (int)c.result;
}
int unlinkat(int dir, const char *path, int flags)
{
    struct call c = { .name = "unlinkat", .fd = dir, .path = path, .flags = (unsigned)flags };
    INTERPOSED(c, syscall(SYS_unlinkat, dir, path, flags));
    return (int)c.result;
}
int mkdirat(int dir, const char *path, mode_t mode)
{
    struct call c = { .name = "mkdirat", .fd = dir, .path = path };
    INTERPOSED(c, syscall(SYS_mkdirat, dir, path, mode));
    return (int)c.result;
}
int mkdir(const char *path, mode_t mode)
{
    struct call c = { .name = "mkdir", .fd = AT_FDCWD, .path = path };
    INTERPOSED(c, syscall(SYS_mkdirat, AT_FDCWD, path, mode));
    return (int)c.result;
}
#endif
