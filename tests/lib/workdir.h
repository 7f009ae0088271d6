/* workdir.h - a directory of the test program's own: made before its tests, removed after them with all that is in
 * it. */
#ifndef QN_TESTS_LIB_WORKDIR_H
#define QN_TESTS_LIB_WORKDIR_H
#include <stddef.h>

extern char workdir[64]; /* absolute; empty before workdir_begin */

/* Setup and teardown of a group. In memory: for thousands of small files, which would keep a disk busy for a minute. */
int workdir_begin(void **state);
int workdir_begin_in_memory(void **state);
int workdir_end(void **state);

/* A path in it; the result lives for 32 calls. */
const char *workdir_path(const char *name);
/* Makes a file of n bytes in it and returns its path, which lives as long. */
const char *workdir_write(const char *name, const void *bytes, size_t n);
/* Removes a file or a whole tree; nothing happens if there is none. */
void workdir_remove(const char *path);
#endif
