/* gpus.c - where descriptions of GPUs are found: see planning.h. */
#include "planning.h"
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DIR_SIZE = 4096 };

/* The sources' gpus/ (build/MODE/quern), or the installation's (PREFIX/bin/quern). */
static bool find_dir(char out[DIR_SIZE])
{
    static const char *const places[] = { "../../gpus", "../share/quern/gpus" };
    char exe[DIR_SIZE];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (n <= 0) return false;
    exe[n] = 0;
    char *slash = strrchr(exe, '/');
    if (!slash) return false;
    *slash = 0;
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        int length = snprintf(out, DIR_SIZE, "%s/%s", exe, places[i]);
        if (length > 0 && length < DIR_SIZE && access(out, R_OK | X_OK) == 0) return true;
    }
    return false;
}

/* NAME.json without the end; free() each and the list. */
static int list_names(char ***out, const char *path)
{
    struct dirent **entry;
    int n = scandir(path, &entry, NULL, alphasort), count = 0;
    *out = n > 0 ? calloc((size_t)n, sizeof **out) : NULL;
    for (int i = 0; i < n; i++) {
        const char *end = strstr(entry[i]->d_name, ".json");
        if (*out && end && !end[5] && end > entry[i]->d_name)
            (*out)[count] = strndup(entry[i]->d_name, (size_t)(end - entry[i]->d_name));
        if (*out && (*out)[count]) count++;
        free(entry[i]);
    }
    if (n >= 0) free(entry);
    return count;
}

static qn_status unknown_name(const char *name, char **names, int n, qn_error *err)
{
    char all[200] = "";
    size_t at = 0;
    for (int i = 0; i < n && at < sizeof all; i++)
        at += (size_t)snprintf(all + at, sizeof all - at, "%s%s", i ? ", " : "", names[i]);
    int near = qn__nearest(name, (const char *const *)names, n);
    if (near >= 0)
        return qn__fail(err, 2001, QN_AT_FIELD("--gpu"), "\"%s\"; did you mean \"%s\"? expected one of %s",
                        qn__show(name).s, names[near], all);
    return qn__fail(err, 2001, QN_AT_FIELD("--gpu"), "\"%s\"; expected one of %s", qn__show(name).s, all);
}

int cli_find_gpu(qn_gpu *out, const char *name)
{
    char dir[DIR_SIZE], path[DIR_SIZE + 300], **names = NULL;
    qn_error err;
    int n = 0, found = -1;
    if (!find_dir(dir)) {
        qn__fail(&err, 6001, QN_AT_FIELD("--gpu"),
                 "no descriptions of GPUs; expected gpus/ beside the sources or in share/quern of the installation");
        return cli_fail(&err);
    }
    n = list_names(&names, dir);
    for (int i = 0; i < n; i++)
        if (strcmp(names[i], name) == 0) found = i;
    qn_status status = found < 0 ? unknown_name(name, names, n, &err) : QN_OK;
    if (!status) {
        snprintf(path, sizeof path, "%s/%s.json", dir, name);
        status = qn_gpu_read(out, path, &err);
    }
    for (int i = 0; i < n; i++) free(names[i]);
    free(names);
    return status ? cli_fail(&err) : 0;
}
