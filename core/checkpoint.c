/* checkpoint.c - writing checkpoints: see include/quern/checkpoint.h and docs/checkpoints.md.
 *
 * Everything is written into a hidden directory beside, flushed, and becomes visible by one rename;
 * nothing old is touched before that rename has reached the disk. */
#include "checkpoint.h"
#include "utf8.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

/* ---- names -------------------------------------------------------------------------------- */

struct qn__shown qn__join(const char *dir, const char *name)
{
    struct qn__shown s;
    size_t n = strlen(dir);
    snprintf(s.s, sizeof s.s, "%s%s%s", dir, n && dir[n - 1] == '/' ? "" : "/", name);
    return s;
}

void qn__step_name(char out[32], int64_t step) { snprintf(out, 32, "step-%06lld", (long long)step); }

bool qn__step_of(const char *name, int64_t *step)
{
    char canonical[32];
    if (strncmp(name, "step-", 5) != 0 || !qn__parse_i64(name + 5, step) || *step < 0) return false;
    qn__step_name(canonical, *step);
    return strcmp(canonical, name) == 0;
}

static qn_status steps_visit(void *user, const char *name, qn_error *err)
{
    struct qn__steps *s = user;
    int64_t step;
    if (!qn__step_of(name, &step)) return QN_OK;
    if (!qn__grow(NULL, &s->at, &s->cap, s->n + 1, sizeof s->at[0]))
        return qn__nomem(err, "list of checkpoints", (s->n + 1) * sizeof s->at[0]);
    s->at[s->n++] = step;
    return QN_OK;
}

static int compare_steps(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

qn_status qn__steps_list(struct qn__steps *out, int dir, const char *shown, qn_error *err)
{
    *out = (struct qn__steps){ .n = 0 };
    qn_status status = qn__file_list(dir, shown, steps_visit, out, err);
    if (status) {
        qn__free(NULL, out->at, out->cap * sizeof out->at[0]);
        *out = (struct qn__steps){ .n = 0 };
    } else if (out->n > 1) {
        qsort(out->at, out->n, sizeof out->at[0], compare_steps);
    }
    return status;
}

/* ---- leftovers of dead writers ------------------------------------------------------------ */

enum leftover { NONE, TEMP, OLD };

/* ".NAME.tmp.PID[.K]": unfinished, or replaced and not yet removed. ".NAME.old.PID": set aside by a
 * writer on a file system that cannot exchange names. name gets NAME. */
static enum leftover leftover_of(const char *entry, char name[256])
{
    const char *mark = entry[0] == '.' ? strstr(entry, ".tmp.") : NULL;
    const char *old = entry[0] == '.' && !mark ? strstr(entry, ".old.") : NULL;
    const char *at = mark ? mark : old;
    if (!at || at == entry || strlen(entry) > 255) return NONE;
    char *end;
    errno = 0;
    long pid = strtol(at + 5, &end, 10);
    if (end == at + 5 || (*end && *end != '.') || errno || pid <= 0) return NONE;
    /* Our own pid: an earlier process had it, since this one has no other writer for the directory. */
    if (pid != (long)getpid() && (kill((pid_t)pid, 0) == 0 || errno != ESRCH)) return NONE;
    snprintf(name, 256, "%.*s", (int)(at - entry - 1), entry + 1);
    return mark ? TEMP : OLD;
}

struct sweep {
    int dir;
    const char *shown;
};
static qn_status sweep_visit(void *user, const char *entry, qn_error *err)
{
    const struct sweep *s = user;
    char name[256];
    enum leftover kind = leftover_of(entry, name);
    struct qn__shown shown = qn__join(s->shown, entry);
    if (kind == NONE) return QN_OK;
    if (kind == OLD && !qn__file_exists_at(s->dir, name)) return qn__file_rename_at(s->dir, entry, name, shown.s, err);
    return qn__file_remove_at(s->dir, entry, shown.s, err);
}

/* ---- writing one directory ---------------------------------------------------------------- */

struct writer {
    const char *dir_name; /* as the caller named it                    */
    int dir, fd;          /* the checkpoints' directory; the temporary one */
    char name[128], temp[192], old[192];
    const qn_checkpoint_contents *c;
    struct qn__manifest_entry entry[QN__MAX_FILES];
    int n_entries;
    uint32_t *crc[2]; /* of the tensors of model and state */
};

static qn_status check_contents(const struct writer *w, qn_error *err)
{
    const qn_checkpoint_contents *c = w->c;
    struct qn__shown shown = qn__join(w->dir_name, w->name);
    const struct qn__where *at = QN_AT_FILE(shown.s);
    size_t n = c->run_id ? strlen(c->run_id) : 0;
    if (c->step < 0) return qn__fail(err, 4024, at, "step %lld; expected >= 0", (long long)c->step);
    if (n == 0 || n > 128 || qn__utf8_error(c->run_id, n) < n)
        return qn__fail(err, 4024, at, "run id of %zu bytes; expected 1..128 of UTF-8", n);
    if (c->n_parts < 0 || c->n_parts > QN_CHECKPOINT_MAX_PARTS)
        return qn__fail(err, 4024, at, "%d parts; expected 0..%d", c->n_parts, QN_CHECKPOINT_MAX_PARTS);
    for (int i = 0; i < c->n_parts; i++) {
        const char *name = c->parts[i].name, *bad = qn__checkpoint_bad_name(name);
        for (int k = 0; k < i && !bad; k++)
            if (strcmp(name, c->parts[k].name) == 0) bad = "is given twice";
        if (!bad && (!strcmp(name, QN__MANIFEST) || !strcmp(name, QN__MODEL) || !strcmp(name, QN__STATE)))
            bad = "is reserved";
        if (!bad && (!c->parts[i].text || strlen(c->parts[i].text) > QN__PART_CAP))
            bad = "must have at most 16 MiB of text";
        if (bad) return qn__fail(err, 4024, at, "part \"%s\": %s", qn__show(name).s, bad);
    }
    return QN_OK;
}

static struct qn__shown shown_file(const struct writer *w, const char *file)
{
    return qn__join(qn__join(w->dir_name, w->temp).s, file);
}

static qn_status write_tensors(struct writer *w, int which, qn_error *err)
{
    const char *name = which ? QN__STATE : QN__MODEL;
    const qn_tensor_data *tensors = which ? w->c->state : w->c->model;
    int64_t n = which ? w->c->n_state : w->c->n_model;
    char step[32];
    snprintf(step, sizeof step, "%lld", (long long)w->c->step);
    const qn_meta_entry meta[] = { { "step", step }, { "run", w->c->run_id } };
    struct qn__shown shown = shown_file(w, name);
    struct qn__safetensors_plan plan;
    struct qn__file_out f;
    struct qn__manifest_entry *e = &w->entry[w->n_entries++];
    QN_TRY(qn__safetensors_plan(&plan, shown.s, tensors, n, meta, 2, err));
    *e = (struct qn__manifest_entry){ .name = name, .bytes = plan.bytes, .n_tensors = n };
    /* One element more: an empty list still needs an address to be told from a text. */
    static const qn_tensor_data no_tensors;
    e->tensors = tensors ? tensors : &no_tensors;
    e->tensor_crc = w->crc[which] = qn__calloc(NULL, (size_t)n + 1, sizeof w->crc[which][0]);
    qn_status status = QN_OK;
    if (!e->tensor_crc) status = qn__nomem(err, "checksums", (size_t)n * sizeof w->crc[which][0]);
    if (!status) status = qn__file_create_at(&f, w->fd, name, plan.bytes, shown.s, err);
    if (!status) {
        status = qn__safetensors_emit(&f, &plan, tensors, w->crc[which], &e->crc, err);
        if (status)
            qn__file_discard(&f);
        else
            status = qn__file_commit(&f, err);
    }
    qn__safetensors_plan_free(&plan);
    return status;
}

static qn_status write_text(const struct writer *w, const char *name, const char *text, size_t n, qn_error *err)
{
    struct qn__file_out f;
    QN_TRY(qn__file_create_at(&f, w->fd, name, (int64_t)n, shown_file(w, name).s, err));
    qn_status status = qn__file_write(&f, text, n, err);
    if (!status) return qn__file_commit(&f, err);
    qn__file_discard(&f);
    return status;
}

static qn_status write_files(struct writer *w, qn_error *err)
{
    QN_TRY(write_tensors(w, 0, err));
    QN_TRY(write_tensors(w, 1, err));
    for (int i = 0; i < w->c->n_parts; i++) {
        const qn_checkpoint_part *p = &w->c->parts[i];
        size_t n = strlen(p->text);
        QN_TRY(write_text(w, p->name, p->text, n, err));
        w->entry[w->n_entries++] = (struct qn__manifest_entry){ .name = p->name,
                                                                .bytes = (int64_t)n,
                                                                .crc = qn__crc32(0, p->text, n) };
    }
    char *manifest;
    size_t n;
    QN_TRY(qn__manifest_build(&manifest, &n, w->c->step, w->c->run_id, w->entry, w->n_entries,
                              shown_file(w, QN__MANIFEST).s, err));
    qn_status status = write_text(w, QN__MANIFEST, manifest, n, err);
    free(manifest);
    if (status) return status;
    return qn__file_sync_dir(w->fd, shown_file(w, "").s, err);
}

/* ---- committing --------------------------------------------------------------------------- */

/* Puts temp in the place of name. What was there ends up under temp's name, to be removed. */
static qn_status swap_in(const struct writer *w, const char *shown, qn_error *err)
{
    if (!qn__file_exists_at(w->dir, w->name)) return qn__file_rename_at(w->dir, w->temp, w->name, shown, err);
    bool done;
    QN_TRY(qn__file_exchange_at(w->dir, w->temp, w->name, shown, &done, err));
    if (done) return QN_OK;
    /* Between the two renames the old one is only under its ".old." name; sweep_visit brings it back. */
    QN_TRY(qn__file_rename_at(w->dir, w->name, w->old, shown, err));
    qn_status status = qn__file_rename_at(w->dir, w->temp, w->name, shown, err);
    if (!status) return QN_OK;
    /* If even this fails, the sweep of the next writer does it. */
    qn_status back = qn__file_rename_at(w->dir, w->old, w->name, shown, NULL);
    (void)back;
    return status;
}

/* After the rename: make it durable, then forget what it replaced. */
static qn_status settle(const struct writer *w, const char *shown, qn_error *err)
{
    QN_TRY(qn__file_sync_dir(w->dir, w->dir_name, err));
    QN_TRY(qn__file_remove_at(w->dir, w->old, shown, err));
    return qn__file_remove_at(w->dir, w->temp, shown, err);
}

static qn_status write_directory(struct writer *w, qn_error *err)
{
    struct sweep sweep = { w->dir, w->dir_name };
    struct qn__shown shown = qn__join(w->dir_name, w->temp);
    QN_TRY(qn__file_list(w->dir, w->dir_name, sweep_visit, &sweep, err));
    QN_TRY(qn__file_make_dir_at(w->dir, w->temp, shown.s, err));
    qn_status status = qn__file_open_dir_at(&w->fd, w->dir, w->temp, shown.s, err);
    if (!status) status = write_files(w, err);
    qn__file_close_fd(w->fd);
    if (!status) status = swap_in(w, shown.s, err);
    if (!status) return settle(w, shown.s, err);
    /* Cleaning up after a failure must not hide it. */
    qn_status cleaned = qn__file_remove_at(w->dir, w->temp, shown.s, NULL);
    (void)cleaned;
    return status;
}

/* "...; kept step-000800": the reader of the error wants to know what is left. */
static void say_what_is_kept(const struct writer *w, qn_error *err)
{
    struct qn__steps steps;
    char name[32];
    if (!err || w->dir < 0 || qn__steps_list(&steps, w->dir, w->dir_name, NULL) || steps.n == 0) return;
    qn__step_name(name, steps.at[steps.n - 1]);
    size_t n = strlen(err->text);
    snprintf(err->text + n, sizeof err->text - n, "; kept %s", name);
    qn__free(NULL, steps.at, steps.cap * sizeof steps.at[0]);
}

static qn_status write_checkpoint(struct writer *w, const char *dir, const char *name, const qn_checkpoint_contents *c,
                                  qn_error *err)
{
    *w = (struct writer){ .dir_name = dir, .dir = -1, .fd = -1, .c = c };
    snprintf(w->name, sizeof w->name, "%s", name);
    snprintf(w->temp, sizeof w->temp, ".%s.tmp.%ld", name, (long)getpid());
    snprintf(w->old, sizeof w->old, ".%s.old.%ld", name, (long)getpid());
    QN_TRY(check_contents(w, err));
    QN_TRY(qn__file_make_dirs(dir, err));
    QN_TRY(qn__file_open_dir(&w->dir, dir, err));
    qn_status status = write_directory(w, err);
    for (int i = 0; i < 2; i++)
        qn__free(NULL, w->crc[i], (size_t)((i ? c->n_state : c->n_model) + 1) * sizeof w->crc[i][0]);
    return status;
}

/* Removes the oldest beyond keep. Each is renamed first: a directory under a final name is whole. */
static qn_status retire(const struct writer *w, int keep, qn_error *err)
{
    struct qn__steps steps;
    if (keep <= 0) return QN_OK;
    QN_TRY(qn__steps_list(&steps, w->dir, w->dir_name, err));
    qn_status status = QN_OK;
    size_t excess = steps.n > (size_t)keep ? steps.n - (size_t)keep : 0;
    for (size_t i = 0; i < steps.n && excess > 0 && !status; i++) {
        char name[32], gone[64];
        if (steps.at[i] == w->c->step) continue;
        qn__step_name(name, steps.at[i]);
        snprintf(gone, sizeof gone, ".%s.tmp.%ld", name, (long)getpid());
        struct qn__shown shown = qn__join(w->dir_name, name);
        status = qn__file_rename_at(w->dir, name, gone, shown.s, err);
        if (!status) status = qn__file_remove_at(w->dir, gone, shown.s, err);
        excess--;
    }
    qn__free(NULL, steps.at, steps.cap * sizeof steps.at[0]);
    return status;
}

static qn_status point_latest(const struct writer *w, qn_error *err)
{
    char path[4200], line[64];
    snprintf(path, sizeof path, "%s/latest", w->dir_name);
    int n = snprintf(line, sizeof line, "%s\n", w->name);
    return qn__file_replace(path, line, (size_t)n, err);
}

qn_status qn_checkpoint_write(const char *dir, const qn_checkpoint_contents *contents, int keep, qn_error *err)
{
    struct writer w;
    char name[32];
    qn__step_name(name, contents->step);
    qn_status status = write_checkpoint(&w, dir, name, contents, err);
    if (!status) status = point_latest(&w, err);
    if (!status) status = retire(&w, keep, err);
    if (qn_error_status(err) == QN_EIO && status) say_what_is_kept(&w, err);
    qn__file_close_fd(w.dir);
    return status;
}

qn_status qn_checkpoint_write_named(const char *dir, const char *name, const qn_checkpoint_contents *contents,
                                    qn_error *err)
{
    struct writer w;
    const char *bad = qn__checkpoint_bad_name(name);
    if (!bad && (strncmp(name, "step-", 5) == 0 || strcmp(name, "latest") == 0)) bad = "name is reserved";
    if (bad) return qn__fail(err, 4024, QN_AT_FILE(dir), "checkpoint \"%s\": %s", qn__show(name).s, bad);
    qn_status status = write_checkpoint(&w, dir, name, contents, err);
    if (qn_error_status(err) == QN_EIO && status) say_what_is_kept(&w, err);
    qn__file_close_fd(w.dir);
    return status;
}
