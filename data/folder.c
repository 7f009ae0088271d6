/* folder.c - DIR/CLASS/NAME.png: the listing, and decoding one picture when a loader asks for it. */
#include "../core/file.h"
#include "data.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_FILES = 100000000 };
#define DEFAULT_MEMORY ((size_t)4 << 30)

struct list {
    char **at;
    size_t n, cap;
};

static void list_free(struct list *l)
{
    for (size_t i = 0; i < l->n; i++) qn__free(NULL, l->at[i], strlen(l->at[i]) + 1);
    qn__free(NULL, l->at, l->cap * sizeof *l->at);
    *l = (struct list){ 0 };
}

static bool list_add(struct list *l, const char *dir, const char *name)
{
    size_t n = (dir ? strlen(dir) + 1 : 0) + strlen(name);
    char *s = qn__calloc(NULL, n + 1, 1);
    if (!s || !qn__grow(NULL, &l->at, &l->cap, l->n + 1, sizeof *l->at)) {
        qn__free(NULL, s, n + 1);
        return false;
    }
    snprintf(s, n + 1, "%s%s%s", dir ? dir : "", dir ? "/" : "", name);
    l->at[l->n++] = s;
    return true;
}

static int by_bytes(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static bool is_png(const char *name)
{
    size_t n = strlen(name);
    static const char end[] = ".png";
    if (n < sizeof end) return false;
    for (size_t i = 0; i < 4; i++)
        if ((name[n - 4 + i] | 0x20) != (end[i] | 0x20)) return false;
    return true;
}

/* Adds the sorted entries of directory `sub` of `root` (NULL: root itself): subdirectories, or
 * .png files. */
static qn_status list_dir(struct list *l, int root, const char *shown, const char *sub, int64_t *ignored, qn_error *err)
{
    int fd = openat(root, sub ? sub : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NONBLOCK);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    qn_status status = QN_OK;
    if (!d) {
        status = qn__fail(err, 6001, QN_AT_FILE(shown), "%s: open: %s", sub ? qn__show(sub).s : ".",
                          qn__file_reason(errno));
        if (fd >= 0) close(fd);
        return status;
    }
    size_t first = l->n;
    for (struct dirent *e; !status && (errno = 0, e = readdir(d)) != NULL;) {
        struct stat st;
        if (e->d_name[0] == '.') continue;
        bool wanted = sub ? is_png(e->d_name) : fstatat(fd, e->d_name, &st, 0) == 0 && S_ISDIR(st.st_mode);
        if (!wanted)
            ++*ignored;
        else if (l->n >= MAX_FILES)
            status = qn__fail(err, 3015, QN_AT_FILE(shown), "more than %d files", MAX_FILES);
        else if (!list_add(l, sub, e->d_name))
            status = qn__nomem(err, "file list", l->n * sizeof *l->at);
    }
    if (!status && errno)
        status = qn__fail(err, 6001, QN_AT_FILE(shown), "%s: read: %s", sub ? qn__show(sub).s : ".",
                          qn__file_reason(errno));
    closedir(d);
    if (l->n > first) qsort(l->at + first, l->n - first, sizeof *l->at, by_bytes);
    return status;
}

/* Joined path of a sample, or an error where it is too long to open. */
static qn_status read_picture(const qn_dataset *ds, int64_t i, const qn_png_options *o, qn_array *out, qn_error *err)
{
    char path[4096];
    if (snprintf(path, sizeof path, "%s/%s", ds->name, ds->path[i]) >= (int)sizeof path)
        return qn__fail(err, 6001, QN_AT_FILE(ds->name), "path of %zu bytes; expected fewer than 4096",
                        strlen(ds->name) + strlen(ds->path[i]) + 1);
    return qn_png_read(out, path, o, err);
}

qn_status qn__folder_decode(qn_dataset *ds, int64_t i, uint8_t *out, qn_error *err)
{
    qn_array a;
    QN_TRY(read_picture(ds, i, &ds->png, &a, err));
    qn_status status = QN_OK;
    char path[4096];
    if (memcmp(a.dim, ds->t.dim, sizeof ds->t.dim) != 0)
        status = qn__fail(err, 3014, QN_AT_FILE(qn_dataset_sample_name(ds, i, path, sizeof path)),
                          "%lld x %lld x %lld (channels, height, width); expected %lld x %lld x %lld as in the "
                          "first file",
                          (long long)a.dim[0], (long long)a.dim[1], (long long)a.dim[2], (long long)ds->t.dim[0],
                          (long long)ds->t.dim[1], (long long)ds->t.dim[2]);
    else
        memcpy(out, a.data, (size_t)ds->size);
    qn_array_free(&a);
    return status;
}

static qn_status list_samples(qn_dataset *ds, struct list *classes, struct list *files, int root,
                              const qn_dataset_options *o, qn_error *err)
{
    QN_TRY(list_dir(classes, root, ds->name, NULL, &ds->ignored, err));
    if (classes->n < 1 || classes->n > QN_MAX_CLASSES)
        return qn__fail(err, 3015, QN_AT_FILE(ds->name), "%zu subdirectories; expected one per class", classes->n);
    if (o->n_classes > 0 && classes->n != (size_t)o->n_classes)
        return qn__fail(err, 3015, QN_AT_FILE(ds->name), "%zu subdirectories; expected %d classes", classes->n,
                        o->n_classes);
    for (size_t c = 0; c < classes->n; c++) {
        size_t before = files->n, cap = 0;
        QN_TRY(list_dir(files, root, ds->name, classes->at[c], &ds->ignored, err));
        if (files->n == before)
            return qn__fail(err, 3015, QN_AT_FILE(ds->name), "class %s: no .png file; expected at least 1",
                            qn__show(classes->at[c]).s);
        cap = (size_t)ds->n;
        int32_t *grown = qn__calloc(NULL, files->n, sizeof *grown);
        if (!grown) return qn__nomem(err, "labels", files->n * sizeof *grown);
        if (cap) memcpy(grown, ds->label, cap * sizeof *grown);
        for (size_t i = cap; i < files->n; i++) grown[i] = (int32_t)c;
        qn__free(NULL, ds->label, cap * sizeof *grown);
        ds->label = grown;
        ds->n = (int64_t)files->n;
    }
    return QN_OK;
}

/* Shape from the options, or from the first picture that can be read. */
static qn_status set_shape(qn_dataset *ds, qn_error *err)
{
    qn_transform *t = &ds->t;
    qn_status status = QN_EDATA;
    qn_error why = { 0 };
    t->rank = 3;
    t->bytes = true;
    if (ds->png.channels && ds->png.height) {
        t->dim[0] = ds->png.channels;
        t->dim[1] = ds->png.height;
        t->dim[2] = ds->png.width;
    } else {
        for (int64_t i = 0; i < ds->n && status; i++) {
            qn_array a;
            status = read_picture(ds, i, &ds->png, &a, &why);
            if (!status) memcpy(t->dim, a.dim, sizeof t->dim);
            qn_array_free(&a);
            if (ds->on_bad == QN_BAD_STOP) break;
        }
        if (status && err) *err = why;
        if (status) return status;
        ds->png.channels = (int)t->dim[0];
    }
    ds->size = qn_transform_size(t);
    return qn__transform_set_channels(t, (int)t->dim[0]) ? QN_OK : qn__nomem(err, "statistics", 0);
}

/* Decoded pictures are kept if all of them fit. */
static qn_status plan_memory(qn_dataset *ds, size_t limit, qn_error *err)
{
    size_t need;
    if (!qn__mul(&need, (size_t)ds->n, (size_t)ds->size) || need > (limit ? limit : DEFAULT_MEMORY)) return QN_OK;
    ds->u8 = qn__calloc(NULL, need, 1);
    ds->kept = qn__calloc(NULL, (size_t)ds->n, sizeof *ds->kept);
    if (!ds->u8 || !ds->kept) return qn__nomem(err, "decoded pictures", need);
    ds->bytes = need;
    return QN_OK;
}

static qn_status fill(qn_dataset *ds, const qn_dataset_options *o, qn_error *err)
{
    struct list classes = { 0 }, files = { 0 };
    int root;
    ds->store = QN_STORE_FILES;
    ds->on_bad = o->on_bad;
    ds->max_bad = o->max_bad;
    ds->png = o->png;
    QN_TRY(qn__file_open_dir(&root, ds->name, err));
    qn_status status = list_samples(ds, &classes, &files, root, o, err);
    qn__file_close_fd(root);
    if (status)
        ds->n = 0; /* the paths stay with the list */
    else if (!qn__transform_set_classes(&ds->t, (int)classes.n,
                                        o->class_names ? o->class_names : (const char *const *)classes.at))
        status = qn__nomem(err, "class names", 0);
    if (!status) {
        ds->path = files.at;
        files = (struct list){ 0 };
        status = set_shape(ds, err);
    }
    if (!status) status = plan_memory(ds, o->memory_limit, err);
    list_free(&classes);
    list_free(&files);
    return status;
}

qn_status qn_dataset_from_folder(qn_dataset **out, const char *dir, const qn_dataset_options *options, qn_error *err)
{
    static const qn_dataset_options none;
    *out = NULL;
    if (!options) options = &none;
    QN_TRY(qn__check_class_options(options, err));
    qn_dataset *ds = qn__dataset_new(dir);
    if (!ds) return qn__nomem(err, "data set", sizeof *ds);
    qn_status status = fill(ds, options, err);
    if (status)
        qn_dataset_free(ds);
    else
        *out = ds;
    return status;
}
