/* run_lock.c - one job per run directory: flock, which the kernel gives back however the job ends. */
#include "file.h"
#include "../include/quern/checkpoint.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct qn_run_lock {
    int fd;
    pid_t process; /* that took it: a child inherits the descriptor */
};

/* "pid 412 on host7 since 2026-11-22T10:00:00Z", for whoever finds the lock taken. */
static void sign(int fd)
{
    char host[256] = "", line[400];
    struct tm utc = { 0 };
    time_t now = time(NULL);
    if (gethostname(host, sizeof host - 1)) host[0] = 0;
    gmtime_r(&now, &utc);
    int n = snprintf(line, sizeof line, "pid %ld on %s since %04d-%02d-%02dT%02d:%02d:%02dZ\n", (long)getpid(), host,
                     utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec);
    /* Only a courtesy: the lock holds even on a full disk. */
    if (ftruncate(fd, 0) == 0 && pwrite(fd, line, (size_t)n, 0) != n && ftruncate(fd, 0)) return;
}

static qn_status say_who(int fd, const char *dir, qn_error *err)
{
    char line[200] = "";
    ssize_t n = pread(fd, line, sizeof line - 1, 0);
    line[n > 0 ? n : 0] = 0;
    line[strcspn(line, "\n")] = 0;
    return qn__fail(err, 6011, QN_AT_FILE(dir), "locked by %s",
                    strncmp(line, "pid ", 4) == 0 ? qn__show(line).s : "another job");
}

qn_status qn_run_lock_take(qn_run_lock **out, const char *dir, qn_error *err)
{
    int fd, r;
    *out = NULL;
    QN_TRY(qn__file_open_lock(&fd, dir, ".lock", err));
    QN__RETRY(r, flock(fd, LOCK_EX | LOCK_NB));
    if (r) {
        qn_status status = errno == EWOULDBLOCK
                               ? say_who(fd, dir, err)
                               : qn__fail(err, 6011, QN_AT_FILE(dir), "lock: %s", qn__file_reason(errno));
        qn__file_close_fd(fd);
        return status;
    }
    qn_run_lock *lock = qn__calloc(NULL, 1, sizeof *lock);
    if (!lock) {
        qn__file_close_fd(fd);
        return qn__nomem(err, "run lock", sizeof *lock);
    }
    lock->fd = fd;
    lock->process = getpid();
    sign(fd);
    *out = lock;
    return QN_OK;
}

/* The file stays: removing it would let two jobs lock two different files of that name. */
void qn_run_lock_release(qn_run_lock *lock)
{
    if (!lock) return;
    int r = lock->process == getpid() ? ftruncate(lock->fd, 0) : 0; /* not in a child: its parent still has it */
    (void)r;
    qn__file_close_fd(lock->fd);
    qn__free(NULL, lock, sizeof *lock);
}
