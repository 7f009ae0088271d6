/* recipe.c - loads a recipe: see recipe.h for the stations it passes. */
#include "recipe.h"
#include "../core/file.h"
#include <stdlib.h>
#include <string.h>

static void read_draft(struct qn__reader *rd, struct qn__json *root, const char *const *sets, int n_sets,
                       struct qn__draft *d)
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

qn_status qn_recipe_parse(qn_recipe **out, const char *name, const char *text, size_t bytes, const char *const *sets,
                          int n_sets, qn_recipe_errors *errs)
{
    *out = NULL;
    qn_recipe_errors *own = errs ? NULL : qn__calloc(NULL, 1, sizeof *own);
    if (!errs && !own) return QN_EMEMORY;
    struct qn__pool pool = { 0 };
    struct qn__reader rd = { .pool = &pool, .report = { .file = name, .errors = errs ? errs : own } };
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
            qn__problem(&rd.report, 5002, NULL, false, "recipe", "cannot allocate %zu bytes", sizeof *r);
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

static qn_status read_file(const char *path, char **text, size_t *bytes, qn_error *err)
{
    struct qn__file f;
    QN_TRY(qn__file_open(&f, path, err));
    qn_status status = QN_OK;
    *bytes = (size_t)f.size;
    if (f.size > QN_RECIPE_BYTES)
        status = qn__fail(err, 2103, &(struct qn__where){ .file = path, .offset = -1, .field = "size" },
                          "%lld bytes; expected at most %d", (long long)f.size, QN_RECIPE_BYTES);
    else if (!(*text = qn__calloc(NULL, *bytes + 1, 1)))
        status = qn__nomem(err, path, *bytes + 1);
    else
        status = qn__file_read(&f, 0, *text, *bytes, err);
    qn__file_close(&f);
    return status;
}

qn_status qn_recipe_load(qn_recipe **out, const char *path, const char *const *sets, int n_sets, qn_recipe_errors *errs)
{
    qn_error err;
    char *text = NULL;
    size_t bytes = 0;
    *out = NULL;
    qn_status status = read_file(path, &text, &bytes, &err);
    if (status && errs) {
        errs->count = errs->kept = 1;
        errs->list[0] = err;
    }
    if (!status) status = qn_recipe_parse(out, path, text, bytes, sets, n_sets, errs);
    qn__free(NULL, text, bytes + 1);
    return status;
}
