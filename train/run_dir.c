/* run_dir.c - see run_dir.h. */
#include "run_dir.h"
#include "watch.h"
#include "../core/base.h"
#include "../core/file.h"
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>

qn_status qn__path_join(char out[QN_PATH_MAX], const char *dir, const char *name, qn_error *err)
{
    int n = snprintf(out, QN_PATH_MAX, "%s/%s", dir, name);
    if (n > 0 && n < QN_PATH_MAX) return QN_OK;
    return qn__fail(err, 6001, QN_AT_FILE(dir), "path of %zu bytes; expected fewer than %d", strlen(dir) + strlen(name),
                    QN_PATH_MAX);
}

qn_status qn__run_dir_make(char out[QN_PATH_MAX], const char *parent, const char *name, qn_error *err)
{
    enum { RUNS_MAX = 100000 };
    QN_TRY(qn__file_make_dirs(parent, err));
    for (int i = 1; i <= RUNS_MAX; i++) {
        char leaf[300];
        snprintf(leaf, sizeof leaf, "%.250s-%d", name, i);
        QN_TRY(qn__path_join(out, parent, leaf, err));
        if (mkdir(out, 0777) == 0) return QN_OK;
        if (errno != EEXIST)
            return qn__fail(err, 6002, QN_AT_FILE(out), "mkdir: %s; expected a directory that can be written",
                            qn__file_reason(errno));
    }
    return qn__fail(err, 6002, QN_AT_FILE(parent), "%d runs of this name; expected fewer", RUNS_MAX);
}

static char *versions_text(const char *device, int threads)
{
    struct utsname u = { .release = "" };
    uname(&u);
    json_t *o = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:i}", "quern", QN_VERSION, "compiler", __VERSION__,
                          "system", u.sysname, "release", u.release, "machine", u.machine, "jansson", JANSSON_VERSION,
                          "device", device, "threads", threads);
    char *text = o ? json_dumps(o, JSON_INDENT(2)) : NULL;
    json_decref(o);
    return text;
}

static qn_status write_text(const char *dir, const char *name, char *text, qn_error *err)
{
    char path[QN_PATH_MAX];
    qn_status status = text ? qn__path_join(path, dir, name, err) : qn__nomem(err, name, 1024);
    if (!status) status = qn__file_replace(path, text, strlen(text), err);
    free(text);
    return status;
}

qn_status qn__run_dir_recipe(const char *dir, const qn_recipe *recipe, qn_error *err)
{
    char *text;
    QN_TRY(qn_recipe_write(recipe, &text, NULL, err));
    return write_text(dir, "recipe.json", text, err);
}

qn_status qn__run_dir_describe(const char *dir, const qn_recipe *recipe, const char *device, int threads, qn_error *err)
{
    QN_TRY(qn__run_dir_recipe(dir, recipe, err));
    return write_text(dir, "versions.json", versions_text(device, threads), err);
}

/* The figures of a part that apply to it; JSON has no NaN. */
static json_t *part_json(const qn_metrics_summary *m)
{
    struct qn__figure row[QN_FIGURES];
    qn__figures(m, row);
    json_t *o = json_object();
    if (o) json_object_set_new(o, "count", json_integer(m->count));
    for (int i = 0; o && i < QN_FIGURES; i++)
        if (isfinite(row[i].value)) json_object_set_new(o, row[i].name, json_real(row[i].value));
    return o;
}

qn_status qn__run_dir_result(const char *dir, const qn_train_result *r, qn_error *err)
{
    json_t *o = json_pack("{s:I, s:I, s:I, s:f, s:b, s:I}", "epochs", (json_int_t)r->epochs, "steps",
                          (json_int_t)r->steps, "skipped", (json_int_t)r->skipped, "seconds", r->seconds,
                          "stopped_early", (int)r->stopped_early, "best_epoch", (json_int_t)r->best_epoch);
    if (o && r->valid.count) json_object_set_new(o, "valid", part_json(&r->valid));
    if (o && r->test.count) json_object_set_new(o, "test", part_json(&r->test));
    char *text = o ? json_dumps(o, JSON_INDENT(2)) : NULL;
    json_decref(o);
    return write_text(dir, "result.json", text, err);
}
