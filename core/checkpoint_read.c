/* checkpoint_read.c - opening checkpoints, after verifying every byte: see include/quern/checkpoint.h. */
#include "checkpoint.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct qn_checkpoint {
    char *path;
    size_t path_bytes;
    struct qn__manifest manifest;
    qn_safetensors *model, *state;
    char *text[QN__MAX_FILES]; /* parallel to manifest.file; NULL for tensors */
};

/* ---- one file ----------------------------------------------------------------------------- */

struct target {
    int dir;
    const char *path; /* of the checkpoint */
    const struct qn__manifest *manifest;
    const struct qn__manifest_file *file;
};

/* A complaint about a file that the manifest lists. */
static qn_status fail_file(const struct target *t, qn_error *err, const char *what)
{
    char field[160];
    struct qn__shown manifest = qn__join(t->path, QN__MANIFEST);
    snprintf(field, sizeof field, "file \"%s\"", t->file->name);
    struct qn__where where = { .file = manifest.s, .offset = -1, .field = field };
    return qn__fail(err, 4022, &where, "%s", what);
}

/* Opens one listed file, checking its kind and size. */
static qn_status open_listed(const struct target *t, struct qn__file *f, qn_error *err)
{
    struct qn__shown shown = qn__join(t->path, t->file->name);
    const char *reason = qn__file_open_beneath(f, t->dir, t->file->name, true, shown.s);
    if (reason) return fail_file(t, err, reason);
    if (f->size == t->file->bytes) return QN_OK;
    qn__file_close(f);
    return qn__fail(err, 4031, QN_AT_FILE(shown.s), "%lld bytes; manifest says %lld", (long long)f->size,
                    (long long)t->file->bytes);
}

static qn_status read_text(const struct target *t, char **out, qn_error *err)
{
    struct qn__file f;
    QN_TRY(open_listed(t, &f, err));
    size_t n = (size_t)t->file->bytes;
    char *text = qn__calloc(NULL, n + 1, 1);
    qn_status status = text ? qn__file_read(&f, 0, text, n, err) : qn__nomem(err, "checkpoint text", n + 1);
    uint32_t crc = status ? 0 : qn__crc32(0, text, n);
    qn__file_close(&f);
    if (!status && crc != t->file->crc)
        status = qn__fail(err, 4032, QN_AT_FILE(qn__join(t->path, t->file->name).s), "crc32 %08x; manifest says %08x",
                          (unsigned)crc, (unsigned)t->file->crc);
    if (status)
        qn__free(NULL, text, n + 1);
    else
        *out = text;
    return status;
}

/* ---- tensors ------------------------------------------------------------------------------ */

/* Every file says itself to which step and run it belongs, so that files of two checkpoints cannot be
 * mixed unnoticed. */
static qn_status check_origin(const struct target *t, const qn_safetensors *st, qn_error *err)
{
    char step[32], text[400];
    const char *found = qn_safetensors_meta(st, "step"), *run = qn_safetensors_meta(st, "run");
    snprintf(step, sizeof step, "%lld", (long long)t->manifest->step);
    if (!found || strcmp(found, step) != 0) {
        snprintf(text, sizeof text, "step %s; expected %s", found ? qn__show(found).s : "not given", step);
        return fail_file(t, err, text);
    }
    if (!run || strcmp(run, t->manifest->run) != 0) {
        snprintf(text, sizeof text, "run %.100s; expected %.100s", run ? qn__show(run).s : "not given",
                 qn__show(t->manifest->run).s);
        return fail_file(t, err, text);
    }
    return QN_OK;
}

static qn_status crc_range(const qn_safetensors *st, int64_t offset, int64_t bytes, uint32_t *crc, qn_error *err)
{
    enum { CHUNK = 65536 };
    unsigned char *chunk = qn__calloc(NULL, CHUNK, 1);
    if (!chunk) return qn__nomem(err, "checksum buffer", CHUNK);
    qn_status status = QN_OK;
    *crc = 0;
    while (bytes > 0 && !status) {
        size_t n = bytes < CHUNK ? (size_t)bytes : CHUNK;
        status = qn__safetensors_bytes(st, offset, chunk, n, err);
        if (!status) *crc = qn__crc32(*crc, chunk, n);
        offset += (int64_t)n;
        bytes -= (int64_t)n;
    }
    qn__free(NULL, chunk, CHUNK);
    return status;
}

static qn_status check_tensor(const struct target *t, const qn_safetensors *st, const qn_tensor_info *info,
                              uint32_t *crc, qn_error *err)
{
    char field[600];
    struct qn__shown shown = qn__join(t->path, t->file->name);
    snprintf(field, sizeof field, "tensor \"%s\"", info->name);
    const char *expected = json_string_value(json_object_get(t->file->tensors, info->name));
    if (!expected) return qn__fail(err, 4032, QN_AT_BYTE(shown.s, info->offset, field), "not in the manifest");
    char found[16];
    QN_TRY(crc_range(st, info->offset, info->bytes, crc, err));
    snprintf(found, sizeof found, "%08x", (unsigned)*crc);
    if (strcmp(found, expected) == 0) return QN_OK;
    return qn__fail(err, 4032, QN_AT_BYTE(shown.s, info->offset, field), "crc32 %s; manifest says %s", found, expected);
}

static qn_status check_sums(const struct target *t, const qn_safetensors *st, qn_error *err)
{
    int64_t n = qn_safetensors_count(st), data = t->file->bytes;
    struct qn__shown shown = qn__join(t->path, t->file->name);
    if ((size_t)n != json_object_size(t->file->tensors))
        return qn__fail(err, 4032, QN_AT_FILE(shown.s), "%lld tensors; manifest says %zu", (long long)n,
                        json_object_size(t->file->tensors));
    uint32_t body = 0, head, crc = 0;
    for (int64_t i = 0; i < n; i++) {
        qn_tensor_info info;
        qn_safetensors_at(st, i, &info);
        if (i == 0) data = info.offset;
        QN_TRY(check_tensor(t, st, &info, &crc, err));
        body = qn__crc32_join(body, crc, info.bytes);
    }
    QN_TRY(crc_range(st, 0, data, &head, err));
    uint32_t whole = qn__crc32_join(head, body, t->file->bytes - data);
    if (whole == t->file->crc) return QN_OK;
    return qn__fail(err, 4032, QN_AT_FILE(shown.s), "crc32 %08x; manifest says %08x", (unsigned)whole,
                    (unsigned)t->file->crc);
}

static qn_status open_tensors(const struct target *t, bool allow_nonfinite, qn_safetensors **out, qn_error *err)
{
    struct qn__file f;
    QN_TRY(open_listed(t, &f, err));
    qn_safetensors_opts opts = { .allow_nonfinite = allow_nonfinite, .max_header = 100000000 };
    QN_TRY(qn__safetensors_open_file(out, &f, qn__join(t->path, t->file->name).s, &opts, err));
    QN_TRY(check_origin(t, *out, err));
    return check_sums(t, *out, err);
}

/* ---- the directory ------------------------------------------------------------------------ */

static qn_status read_manifest(qn_checkpoint *ck, int dir, qn_error *err)
{
    struct qn__file f;
    struct qn__shown shown = qn__join(ck->path, QN__MANIFEST);
    const char *reason = qn__file_open_beneath(&f, dir, QN__MANIFEST, true, shown.s);
    if (reason) return qn__fail(err, 4022, QN_AT_FILE(shown.s), "%s", reason);
    qn_status status = QN_OK;
    size_t n = (size_t)f.size;
    char *text = NULL;
    if (n > QN__MANIFEST_CAP)
        status = qn__fail(err, 4021, QN_AT_FILE(shown.s), "%zu bytes; expected at most %d", n, QN__MANIFEST_CAP);
    else if (!(text = qn__calloc(NULL, n + 1, 1)))
        status = qn__nomem(err, "checkpoint manifest", n + 1);
    if (!status) status = qn__file_read(&f, 0, text, n, err);
    if (!status) status = qn__manifest_parse(&ck->manifest, text, n, shown.s, err);
    qn__free(NULL, text, n + 1);
    qn__file_close(&f);
    return status;
}

struct extra {
    const char *path;
    const struct qn__manifest *manifest;
};
/* Tensors that nobody vouches for must not lie beside those that somebody does. */
static qn_status extra_visit(void *user, const char *name, qn_error *err)
{
    const struct extra *e = user;
    static const char suffix[] = ".safetensors";
    size_t n = strlen(name), m = sizeof suffix - 1;
    if (n < m || strcmp(name + n - m, suffix) != 0) return QN_OK;
    for (int i = 0; i < e->manifest->n_files; i++)
        if (strcmp(e->manifest->file[i].name, name) == 0) return QN_OK;
    return qn__fail(err, 4022, QN_AT_FILE(qn__join(e->path, name).s),
                    "not in the manifest; expected only listed files");
}

static qn_status load(qn_checkpoint *ck, int dir, qn_error *err)
{
    QN_TRY(read_manifest(ck, dir, err));
    struct extra extra = { ck->path, &ck->manifest };
    QN_TRY(qn__file_list(dir, ck->path, extra_visit, &extra, err));
    for (int i = 0; i < ck->manifest.n_files; i++) {
        const struct qn__manifest_file *file = &ck->manifest.file[i];
        struct target t = { dir, ck->path, &ck->manifest, file };
        if (!file->tensors)
            QN_TRY(read_text(&t, &ck->text[i], err));
        else if (strcmp(file->name, QN__MODEL) == 0)
            QN_TRY(open_tensors(&t, false, &ck->model, err));
        else
            QN_TRY(open_tensors(&t, true, &ck->state, err));
    }
    return QN_OK;
}

/* Takes over dir. */
static qn_status open_from(qn_checkpoint **out, int dir, const char *path, qn_error *err)
{
    qn_status status = QN_OK;
    qn_checkpoint *ck = qn__calloc(NULL, 1, sizeof *ck);
    if (ck) {
        ck->path_bytes = strlen(path) + 1;
        ck->path = qn__calloc(NULL, ck->path_bytes, 1);
    }
    if (!ck || !ck->path) {
        status = qn__nomem(err, "checkpoint", sizeof *ck);
    } else {
        memcpy(ck->path, path, ck->path_bytes);
        status = load(ck, dir, err);
    }
    qn__file_close_fd(dir);
    if (status)
        qn_checkpoint_close(ck);
    else
        *out = ck;
    return status;
}

qn_status qn_checkpoint_open(qn_checkpoint **out, const char *path, qn_error *err)
{
    int dir;
    *out = NULL;
    QN_TRY(qn__file_open_dir(&dir, path, err));
    return open_from(out, dir, path, err);
}

qn_status qn_checkpoint_verify(const char *path, qn_error *err)
{
    qn_checkpoint *ck;
    QN_TRY(qn_checkpoint_open(&ck, path, err));
    qn_checkpoint_close(ck);
    return QN_OK;
}

static qn_status open_step(qn_checkpoint **out, int parent, const char *dir, int64_t step, qn_error *err)
{
    char name[32], path[4200];
    int fd;
    size_t n = strlen(dir);
    qn__step_name(name, step);
    snprintf(path, sizeof path, "%s%s%s", dir, n && dir[n - 1] == '/' ? "" : "/", name);
    QN_TRY(qn__file_open_dir_at(&fd, parent, name, path, err));
    return open_from(out, fd, path, err);
}

/* Newest first; what is broken is said, never skipped in silence. */
static qn_status open_first_good(qn_checkpoint **out, const struct qn__steps *steps, int parent, const char *dir,
                                 int *skipped, qn_report *report, void *user, qn_error *err)
{
    for (size_t i = steps->n; i-- > 0;) {
        qn_error why = { 0 };
        qn_status status = open_step(out, parent, dir, steps->at[i], &why);
        if (!status) return QN_OK;
        if (status == QN_EMEMORY) { /* says nothing about the checkpoint */
            if (err) *err = why;
            return status;
        }
        ++*skipped;
        if (i > 0) {
            size_t n = strlen(why.text);
            snprintf(why.text + n, sizeof why.text - n, "; trying step-%06lld", (long long)steps->at[i - 1]);
        }
        if (report) report(user, why.text);
    }
    if (steps->n == 0) return qn__fail(err, 4033, QN_AT_FILE(dir), "no checkpoint; expected directories step-NNNNNN");
    return qn__fail(err, 4033, QN_AT_FILE(dir), "none of %zu checkpoints verifies; expected one", steps->n);
}

qn_status qn_checkpoint_open_newest(qn_checkpoint **out, const char *dir, int *skipped, qn_report *report, void *user,
                                    qn_error *err)
{
    int parent, ignored;
    struct qn__steps steps;
    *out = NULL;
    if (!skipped) skipped = &ignored;
    *skipped = 0;
    QN_TRY(qn__file_open_dir(&parent, dir, err));
    qn_status status = qn__steps_list(&steps, parent, dir, err);
    if (!status) {
        status = open_first_good(out, &steps, parent, dir, skipped, report, user, err);
        qn__free(NULL, steps.at, steps.cap * sizeof steps.at[0]);
    }
    qn__file_close_fd(parent);
    return status;
}

void qn_checkpoint_close(qn_checkpoint *ck)
{
    if (!ck) return;
    qn_safetensors_close(ck->model);
    qn_safetensors_close(ck->state);
    for (int i = 0; i < ck->manifest.n_files; i++) qn__free(NULL, ck->text[i], (size_t)ck->manifest.file[i].bytes + 1);
    qn__manifest_free(&ck->manifest);
    qn__free(NULL, ck->path, ck->path_bytes);
    qn__free(NULL, ck, sizeof *ck);
}

int64_t qn_checkpoint_step(const qn_checkpoint *ck) { return ck->manifest.step; }
const char *qn_checkpoint_run(const qn_checkpoint *ck) { return ck->manifest.run; }
const char *qn_checkpoint_path(const qn_checkpoint *ck) { return ck->path; }
const qn_safetensors *qn_checkpoint_model(const qn_checkpoint *ck) { return ck->model; }
const qn_safetensors *qn_checkpoint_state(const qn_checkpoint *ck) { return ck->state; }

const char *qn_checkpoint_text(const qn_checkpoint *ck, const char *name)
{
    for (int i = 0; i < ck->manifest.n_files; i++)
        if (strcmp(ck->manifest.file[i].name, name) == 0) return ck->text[i];
    return NULL;
}
