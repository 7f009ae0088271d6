/* io.h - what the file tests share: files of given bytes, exact error lines. */
#ifndef QN_TESTS_IO_H
#define QN_TESTS_IO_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "../../core/file.h"
#include "../lib/workdir.h"
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define UNUSED __attribute__((unused))
#define N_OF(a) (sizeof(a) / sizeof(a)[0])

UNUSED static void put_file(const char *path, const void *data, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    if (n) assert_int_equal(fwrite(data, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/* malloc'ed, with a NUL after the n bytes; NULL if it cannot be opened. */
UNUSED static char *get_file(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    if (!f) return NULL;
    fseek(f, 0, SEEK_END);
    long size = ftell(f);
    rewind(f);
    char *data = malloc((size_t)size + 1);
    assert_non_null(data);
    assert_int_equal(fread(data, 1, (size_t)size, f), (size_t)size);
    data[size] = 0;
    fclose(f);
    if (n) *n = (size_t)size;
    return data;
}

/* Compares the whole line, after replacing the temporary directory by "~". */
UNUSED static void assert_line(const qn_error *err, const char *expected)
{
    char line[512] = "";
    size_t n = strlen(workdir), at = 0;
    for (const char *s = err->text; *s && at + 1 < sizeof line;) {
        if (n && strncmp(s, workdir, n) == 0) {
            line[at++] = '~';
            s += n;
        } else {
            line[at++] = *s++;
        }
    }
    line[at] = 0;
    assert_string_equal(line, expected);
}

/* Open descriptors of this process; a test that leaks one shows here. */
UNUSED static int open_fds(void)
{
    DIR *d = opendir("/proc/self/fd");
    int n = 0;
    while (readdir(d)) n++;
    closedir(d);
    return n;
}

/* Entries of a directory, "." and ".." excluded. */
UNUSED static int entries_in(const char *path)
{
    DIR *d = opendir(path);
    if (!d) return -1;
    int n = -2;
    while (readdir(d)) n++;
    closedir(d);
    return n;
}
#endif
