/* file.h - the one door through which Quern opens and writes files. Not installed.
 *
 * Reading: a path from outside may name a FIFO, a device or a directory; opening must neither hang nor
 * succeed. So every open is O_NONBLOCK, looks at what was opened (never at the path again), and accepts
 * regular files only.
 *
 * Writing: a new file is written beside the old one, flushed to the disk and renamed over it, so that a
 * reader, a crash or a full disk sees either the whole old file or the whole new one.
 *
 * Errors: E6001 (open, read), E6002 (write) with path, byte offset and the system's reason. */
#ifndef QN_CORE_FILE_H
#define QN_CORE_FILE_H
#include "base.h"
#include <sys/types.h>

/* ---- reading ------------------------------------------------------------------------------ */

/* A regular file that is open for reading. { .fd = -1 } is a closed one. */
struct qn__file {
    int fd;
    int64_t size;   /* bytes, when it was opened                    */
    char path[256]; /* as the caller named it, perhaps cut; messages only */
};

qn_status qn__file_open(struct qn__file *out, const char *path, qn_error *err);
/* Safe on a closed file. */
void qn__file_close(struct qn__file *f);
/* Exactly n bytes at offset: a file that ends sooner is an error. Does not move a position, so several
 * threads may read one file. */
qn_status qn__file_read(const struct qn__file *f, int64_t offset, void *out, size_t n, qn_error *err);
/* The whole file plus a terminating NUL; free with qn__free(a, *out, *n + 1). Refuses more than cap. */
qn_status qn__file_read_all(const qn_alloc *a, const char *path, size_t cap, char **out, size_t *n, qn_error *err);

/* A directory, for the calls below; close with qn__file_close_fd. */
qn_status qn__file_open_dir(int *out, const char *path, qn_error *err);
void qn__file_close_fd(int fd);

/* Opens `name`, a relative path, strictly beneath the open directory `dir`: absolute names, "..",
 * symbolic links in any component, files with more than one link (if one_link) and anything but a
 * regular file are refused. `shown` is the path for messages. Returns NULL, or the reason as a phrase
 * that follows "name: "; the caller knows which error code it deserves. */
const char *qn__file_open_beneath(struct qn__file *out, int dir, const char *name, bool one_link, const char *shown);
/* What open_beneath does on kernels without openat2: one openat with O_NOFOLLOW per component.
 * Returns a descriptor or -errno. Declared for the tests. */
int qn__file_walk_beneath(int dir, const char *name);

/* ---- writing ------------------------------------------------------------------------------ */

/* A file being written. Between a create and the commit or discard nothing else may use it. */
struct qn__file_out {
    int fd, dir;      /* dir: where the file and its temporary name live, or -1 */
    int64_t at;       /* bytes written so far                                   */
    int64_t expected; /* bytes promised at creation; 0: unknown                 */
    char temp[256];   /* name within dir while unfinished; "" if written in place */
    char name[256];   /* final name within dir                                  */
    char path[256];   /* messages only                                          */
};

/* Starts to replace `path` atomically. `bytes` (0: unknown) is reserved at once, so a full disk shows
 * before the work is done. Refuses a path that exists and is not a regular file. */
qn_status qn__file_create(struct qn__file_out *out, const char *path, int64_t bytes, qn_error *err);
/* Creates a new file `name` in the open directory dir (which stays the caller's), written in place:
 * for files whose whole directory is committed later. Fails if it exists. */
qn_status qn__file_create_at(struct qn__file_out *out, int dir, const char *name, int64_t bytes, const char *shown,
                             qn_error *err);
/* Opens a log for appending, creating it if needed: a regular file or a character device. Nothing is
 * renamed; commit flushes to the disk and closes, discard only closes. */
qn_status qn__file_append(struct qn__file_out *out, const char *path, qn_error *err);

/* All n bytes or an error. After an error only discard may follow. */
qn_status qn__file_write(struct qn__file_out *f, const void *data, size_t n, qn_error *err);
/* fsync, close, rename over the final name, fsync of the directory. On failure the temporary file is
 * removed and the old file stands (unless only the last fsync failed: then the new one stands, but may
 * not survive a power cut). Closes f in every case. */
qn_status qn__file_commit(struct qn__file_out *f, qn_error *err);
/* Gives up: closes and removes what was written. Safe after commit and on { .fd = -1, .dir = -1 }. */
void qn__file_discard(struct qn__file_out *f);

/* create + write + commit. */
qn_status qn__file_replace(const char *path, const void *data, size_t n, qn_error *err);

/* fsync of an open directory, so that the names in it survive a power cut. */
qn_status qn__file_sync_dir(int dir, const char *shown, qn_error *err);

/* ---- directories -------------------------------------------------------------------------- */

/* `dir` is always an open directory, `name` one component in it, `shown` the path for messages. */

/* path and its missing parents; each new name is flushed to the disk. */
qn_status qn__file_make_dirs(const char *path, qn_error *err);
qn_status qn__file_make_dir_at(int dir, const char *name, const char *shown, qn_error *err);
/* Refuses a symbolic link. */
qn_status qn__file_open_dir_at(int *out, int dir, const char *name, const char *shown, qn_error *err);
/* A file, or a directory with what is in it; links are removed, never followed. Absent: fine. */
qn_status qn__file_remove_at(int dir, const char *name, const char *shown, qn_error *err);
qn_status qn__file_rename_at(int dir, const char *from, const char *to, const char *shown, qn_error *err);
/* Swaps two names in one step; *done says whether the file system can. */
qn_status qn__file_exchange_at(int dir, const char *a, const char *b, const char *shown, bool *done, qn_error *err);
/* Opens dir/name for locking and reading, creating it. */
qn_status qn__file_open_lock(int *out, const char *dir, const char *name, qn_error *err);
bool qn__file_exists_at(int dir, const char *name);
/* Calls visit for every name but "." and ".." until it returns a status other than QN_OK. */
qn_status qn__file_list(int dir, const char *shown, qn_status (*visit)(void *user, const char *name, qn_error *err),
                        void *user, qn_error *err);

/* An interrupted call is repeated, but not for ever: a broken file system must not hang the job. */
enum { QN__MAX_INTERRUPTS = 1000 };
#define QN__RETRY(result, call) \
    do { \
        int interrupts_ = 0; \
        do (result) = (call); \
        while ((result) == -1 && errno == EINTR && ++interrupts_ < QN__MAX_INTERRUPTS); \
    } while (0)

/* The system's words for an errno value, untranslated. */
const char *qn__file_reason(int errno_value);
#endif
