/* workdir.c - see workdir.h. */
#include "workdir.h"
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

char workdir[64];

static int begin_under(const char *parent)
{
    snprintf(workdir, sizeof workdir, "%s/quern-test-XXXXXX", parent);
    return mkdtemp(workdir) ? 0 : -1;
}

int workdir_begin(void **state)
{
    (void)state;
    return begin_under("/tmp");
}

int workdir_begin_in_memory(void **state) { return begin_under("/dev/shm") == 0 ? 0 : workdir_begin(state); }

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    (void)st, (void)kind, (void)ftw;
    return remove(path);
}

void workdir_remove(const char *path) { nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS); }

int workdir_end(void **state)
{
    (void)state;
    workdir_remove(workdir);
    return access(workdir, F_OK) == 0 ? -1 : 0;
}

const char *workdir_path(const char *name)
{
    static char buffer[32][512];
    static int next;
    char *at = buffer[next++ % 32];
    assert_true(snprintf(at, sizeof buffer[0], "%s/%s", workdir, name) < (int)sizeof buffer[0]);
    return at;
}

const char *workdir_write(const char *name, const void *bytes, size_t n)
{
    const char *path = workdir_path(name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    if (n) assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
    return path;
}
