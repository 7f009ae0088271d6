/* aid.h - what the tests of the data room share: error lines, damaged copies. */
#ifndef TESTS_DATA_AID_H
#define TESTS_DATA_AID_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "../../data/data.h"
#include "../lib/workdir.h"
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The whole line, without the test's directory in it. */
static inline void aid_error(const qn_error *err, const char *expected)
{
    char text[512];
    const char *at = workdir[0] ? strstr(err->text, workdir) : NULL;
    if (at)
        snprintf(text, sizeof text, "%.*s%s", (int)(at - err->text), err->text, at + strlen(workdir) + 1);
    else
        snprintf(text, sizeof text, "%s", err->text);
    assert_string_equal(text, expected);
}

/* One line, with a code of the data class, or an allocation that was refused. */
static inline void aid_well_formed(const qn_error *err)
{
    if (!(err->code >= 3000 && err->code < 4000) && err->code != 5002) fail_msg("code %d: %s", err->code, err->text);
    assert_true(strncmp(err->text, "error E", 7) == 0);
    assert_true(strlen(err->text) <= 400);
    assert_null(strchr(err->text, '\n'));
}

/* Calls read with every truncation and every single-bit flip of the seed, each in memory of
 * exactly its size (so that a checker sees one byte too far). read returns the status; every
 * failure must be well formed. */
typedef qn_status aid_reader(const uint8_t *bytes, size_t n, qn_error *err);
static inline void aid_damage(aid_reader *read, const uint8_t *seed, size_t n, size_t *accepted)
{
    *accepted = 0;
    for (size_t k = 0; k < n * 9; k++) {
        size_t size = k < n ? k : n;
        uint8_t *copy = malloc(size ? size : 1);
        qn_error err = { 0 };
        assert_non_null(copy);
        memcpy(copy, seed, size);
        if (k >= n) copy[(k - n) / 8] ^= (uint8_t)(1u << (k - n) % 8);
        if (read(copy, size, &err))
            aid_well_formed(&err);
        else
            ++*accepted;
        free(copy);
    }
}
#endif
