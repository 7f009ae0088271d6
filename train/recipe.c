/* recipe.c - loads a recipe: see recipe.h for the stations it passes. */
#include "recipe.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void read_draft(struct qn__reader *rd, struct qn__json *root, const char *const *sets,
                       int n_sets, struct qn__draft *d)
{
    rd->root = root;
    rd->report.sets = sets;
    qn__recipe_sets(rd, root, sets, n_sets);
    qn__recipe_vars(rd, root);
    qn__read_object(rd, &qn__recipe_table, root, d, "");
    if (rd->no_memory) return;
    qn__recipe_check(rd, d);
    qn__recipe_flatten(rd, d);
}

qn_status qn_recipe_parse(qn_recipe **out, const char *name, const char *text, size_t bytes,
                          const char *const *sets, int n_sets, qn_recipe_errors *errs)
{
    *out = NULL;
    qn_recipe_errors *own = errs ? NULL : qn__calloc(NULL, 1, sizeof *own);
    if (!errs && !own) return QN_EMEMORY;
    struct qn__pool pool = { 0 };
    struct qn__reader rd = { .pool = &pool,
                             .report = { .file = name, .errors = errs ? errs : own } };
    memset(rd.report.errors, 0, sizeof *rd.report.errors);
    struct qn__json *root = qn__json_parse(&pool, text, bytes, false, &rd.report);
    struct qn__draft *d = root ? qn__reader_get(&rd, 1, sizeof *d) : NULL;
    if (d) read_draft(&rd, root, sets, n_sets, d);
    qn_recipe *r = rd.report.status ? NULL : qn__calloc(NULL, 1, sizeof *r);
    struct qn__pool *kept = r ? qn__calloc(NULL, 1, sizeof *kept) : NULL;
    if (kept) {
        *r = d->r;
        *kept = pool;
        r->memory = kept;
        *out = r;
    } else {
        if (!rd.report.status)
            qn__problem(&rd.report, 5002, NULL, false, "recipe", "cannot allocate %zu bytes",
                        sizeof *r);
        qn__free(NULL, r, sizeof *r);
        qn__pool_free(&pool);
    }
    qn__free(NULL, own, sizeof *own);
    return rd.report.status;
}

void qn_recipe_free(qn_recipe *recipe)
{
    if (!recipe) return;
    struct qn__pool *pool = recipe->memory;
    qn__pool_free(pool);
    qn__free(NULL, pool, sizeof *pool);
    qn__free(NULL, recipe, sizeof *recipe);
}

/* ---- the file ----------------------------------------------------------------------------- */

static qn_status fail_file(qn_recipe_errors *errs, int code, const char *path, const char *field,
                           const char *message)
{
    qn_error e;
    qn_status status = qn__fail(
        &e, code, &(struct qn__where){ .file = path, .offset = -1, .field = field }, "%s", message);
    if (errs) {
        errs->count = errs->kept = 1;
        errs->list[0] = e;
    }
    return status;
}

/* At most QN_RECIPE_BYTES + 1, so that one too many is seen. */
static qn_status read_all(int fd, char *text, size_t *bytes, const char *path,
                          qn_recipe_errors *errs)
{
    *bytes = 0;
    while (*bytes <= QN_RECIPE_BYTES) {
        ssize_t n = read(fd, text + *bytes, QN_RECIPE_BYTES + 1 - *bytes);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return fail_file(errs, 6001, path, "read", strerror(errno));
        if (n == 0) break;
        *bytes += (size_t)n;
    }
    return QN_OK;
}

static qn_status open_regular(int *fd, const char *path, qn_recipe_errors *errs)
{
    struct stat st;
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (*fd < 0) return fail_file(errs, 6001, path, "open", strerror(errno));
    if (fstat(*fd, &st) == 0 && S_ISREG(st.st_mode)) return QN_OK;
    close(*fd);
    return fail_file(errs, 6001, path, "open", "not a regular file; expected a recipe");
}

qn_status qn_recipe_load(qn_recipe **out, const char *path, const char *const *sets, int n_sets,
                         qn_recipe_errors *errs)
{
    int fd;
    size_t bytes = 0, room = (size_t)QN_RECIPE_BYTES + 1;
    *out = NULL;
    if (errs) memset(errs, 0, sizeof *errs);
    QN_TRY(open_regular(&fd, path, errs));
    char *text = qn__calloc(NULL, room, 1);
    qn_status status =
        text ? read_all(fd, text, &bytes, path, errs)
             : fail_file(errs, 5002, path, "recipe", "cannot allocate a buffer for it");
    close(fd);
    if (!status) status = qn_recipe_parse(out, path, text, bytes, sets, n_sets, errs);
    qn__free(NULL, text, room);
    return status;
}
