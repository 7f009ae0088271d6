/* output.c - error lines, terminals, the environment, and the end of stdout. */
#include "cli.h"
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int cli_fail(const qn_error *err)
{
    fprintf(stderr, "%s\n", err->text);
    return (int)qn_error_status(err);
}

int cli_fail_recipe(const qn_recipe_errors *errs, const char *path, qn_status status)
{
    int shown = errs->count > errs->kept ? errs->kept - 1 : errs->kept;
    for (int i = 0; i < shown; i++) fprintf(stderr, "%s\n", errs->list[i].text);
    if (shown < errs->count) {
        qn_error more;
        qn__fail(&more, 2118, QN_AT_FILE(path), "%d more mistakes", errs->count - shown);
        fprintf(stderr, "%s\n", more.text);
    }
    return (int)status;
}

void cli_json_text(const char *text)
{
    putchar('"');
    for (; *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\')
            printf("\\%c", c);
        else if (c < 0x20)
            printf("\\u%04x", c);
        else
            putchar(c);
    }
    putchar('"');
}

/* The other end of a pipe is closed: `| head -1` has what it wanted. errno of the write that failed is
 * long gone when it happened within a fputs. */
static bool reader_left(void)
{
    struct pollfd p = { .fd = STDOUT_FILENO, .events = POLLOUT };
    return poll(&p, 1, 0) == 1 && (p.revents & POLLERR);
}

int cli_finish(int code)
{
    errno = 0;
    if ((fflush(stdout) == 0 && !ferror(stdout)) || reader_left()) return code;
    qn_error err;
    qn__fail(&err, 6002, QN_AT_FIELD("stdout"), "%s", errno ? strerror(errno) : "write failed");
    return code ? code : cli_fail(&err);
}

/* ---- QN_ variables ---- */

enum rule { COUNT, SWITCH, WORDS, NONE_ONLY, OFF_ONLY, PATH_NAME };
static const struct variable {
    const char *name;
    enum rule rule;
    const char *expected;
} variables[] = {
    { "QN_THREADS", COUNT, "an integer 1..1024" },
    { "QN_SYNC", SWITCH, "0 or 1" },
    { "QN_PLAN", NONE_ONLY, "none" },
    { "QN_DUMP", WORDS, "names of passes with commas between, like grad,fuse,plan" },
    { "QN_CUDA_PLUGIN", PATH_NAME, "a file" },
    { "QN_GRAPHS", OFF_ONLY, "off" },
};

static bool follows(enum rule rule, const char *value)
{
    int64_t i;
    switch (rule) {
    case COUNT: return qn__parse_i64(value, &i) && i >= 1 && i <= 1024;
    case SWITCH: return strcmp(value, "0") == 0 || strcmp(value, "1") == 0;
    case NONE_ONLY: return strcmp(value, "none") == 0;
    case OFF_ONLY: return strcmp(value, "off") == 0;
    case PATH_NAME: return *value != 0;
    case WORDS: break;
    }
    for (const char *p = value; *p; p++) {
        bool letter = (*p >= 'a' && *p <= 'z') || *p == '_';
        bool comma = *p == ',' && p > value && p[-1] != ',' && p[1];
        if (!letter && !comma) return false;
    }
    return *value != 0;
}

static qn_status check_variable(const char *text, qn_error *err)
{
    enum { N = sizeof variables / sizeof *variables };
    const char *names[N], *equals = strchr(text, '=');
    char name[80];
    static const char *const own[] = { "QN_TEST_", "QN_BUILD=", "QN_SETUP", "QN_CUDASIM_" }; /* of make and the tests */
    for (size_t i = 0; i < sizeof own / sizeof *own; i++)
        if (strncmp(text, own[i], strlen(own[i])) == 0) return QN_OK;
    if (!equals) return QN_OK;
    snprintf(name, sizeof name, "%.*s", (int)(equals - text < 79 ? equals - text : 79), text);
    for (int i = 0; i < N; i++) {
        names[i] = variables[i].name;
        if (strcmp(name, names[i]) != 0) continue;
        if (follows(variables[i].rule, equals + 1)) return QN_OK;
        return qn__fail(err, 2002, QN_AT_FIELD(name), "\"%s\"; expected %s", qn__show(equals + 1).s,
                        variables[i].expected);
    }
    int near = qn__nearest(name, names, N);
    if (near >= 0) return qn__fail(err, 2002, QN_AT_FIELD(name), "unknown variable; did you mean %s?", names[near]);
    return qn__fail(err, 2002, QN_AT_FIELD(name), "unknown variable; expected QN_THREADS, QN_SYNC, QN_PLAN or QN_DUMP");
}

qn_status cli_environment(char *const *env, qn_error *err)
{
    for (; *env; env++)
        if (strncmp(*env, "QN_", 3) == 0) QN_TRY(check_variable(*env, err));
    return QN_OK;
}

const char *cli_dims_text(char *buf, size_t size, int rank, const int64_t *dim)
{
    size_t at = (size_t)snprintf(buf, size, "[");
    for (int i = 0; i < rank && at < size; i++)
        at += (size_t)snprintf(buf + at, size - at, "%s%lld", i ? "," : "", (long long)dim[i]);
    if (at < size) snprintf(buf + at, size - at, "]");
    return buf;
}

bool cli_has_suffix(const char *path, const char *suffix)
{
    size_t n = strlen(path), k = strlen(suffix);
    return n >= k && strcasecmp(path + n - k, suffix) == 0;
}
