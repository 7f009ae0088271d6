/* cmd_convert.c - `quern convert INPUT OUTPUT`: tensors from .safetensors to .npy and back, or to another element
 * type. */
#include "cli.h"
#include "../core/file.h"
#include "../include/quern/data.h"
#include "../include/quern/safetensors.h"
#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Tensors of a file in memory, in their element type of the result. */
struct tensors {
    qn_tensor_data *at; /* [n]; name and data are owned */
    int64_t n;
    qn_meta_entry *meta; /* [n_meta], of the open file    */
    int64_t n_meta;
};

static void free_tensors(struct tensors *t)
{
    for (int64_t i = 0; i < t->n; i++) {
        free((char *)t->at[i].name);
        free((void *)t->at[i].data);
    }
    free(t->at);
    free(t->meta);
    *t = (struct tensors){ 0 };
}

/* What --dtype asks for; integers stay what they are. QN_DTYPE_COUNT: unchanged. */
static qn_dtype result_type(qn_dtype from, qn_dtype wish)
{
    return wish == QN_DTYPE_COUNT || !qn_dtype_is_float(from) ? from : wish;
}

static qn_status element_count(int64_t *out, int rank, const int64_t *dim, const char *name, qn_error *err)
{
    return qn__count(out, dim, rank) ? QN_OK
                                     : qn__fail(err, 2203, QN_AT_FIELD(name), "too many elements; expected below 2^48");
}

/* ---- reading --------------------------------------------------------------------------------- */

static qn_status read_tensor(struct tensors *t, const qn_safetensors *st, int64_t i, qn_dtype wish, qn_error *err)
{
    qn_tensor_info info;
    size_t bytes;
    qn_safetensors_at(st, i, &info);
    if (info.dtype == QN_DTYPE_COUNT)
        return qn__fail(err, 4017, QN_AT_FIELD(info.name), "%s; expected F64 F32 BF16 F16 I64 I32 I8 U8 or BOOL",
                        qn__show(info.dtype_name).s);
    qn_tensor_data *out = &t->at[t->n];
    *out = (qn_tensor_data){ .dtype = result_type(info.dtype, wish), .rank = info.rank };
    memcpy(out->dim, info.dim, sizeof out->dim);
    if (!qn__mul(&bytes, (size_t)info.count, qn_dtype_size(out->dtype))) return qn__nomem(err, info.name, SIZE_MAX);
    char *name = strdup(info.name);
    void *data = calloc(bytes + 1, 1);
    out->name = name;
    out->data = data;
    t->n++;
    if (!name || !data) return qn__nomem(err, "tensor", bytes);
    return qn_safetensors_read(st, &info, data, out->dtype, err);
}

static qn_status read_meta(struct tensors *t, const qn_safetensors *st, qn_error *err)
{
    int64_t n = qn_safetensors_meta_count(st);
    t->meta = calloc((size_t)n + 1, sizeof *t->meta);
    if (!t->meta) return qn__nomem(err, "metadata", 0);
    for (int64_t i = 0; i < n; i++) {
        qn_meta_entry *e = &t->meta[t->n_meta];
        qn_safetensors_meta_at(st, i, &e->key, &e->value);
        if (strcmp(e->key, "format") != 0) t->n_meta++; /* the writer puts its own */
    }
    return QN_OK;
}

static qn_status read_safetensors(struct tensors *t, const qn_safetensors *st, qn_dtype wish, qn_error *err)
{
    int64_t n = qn_safetensors_count(st);
    t->at = calloc((size_t)n + 1, sizeof *t->at);
    if (!t->at) return qn__nomem(err, "tensors", 0);
    for (int64_t i = 0; i < n; i++) QN_TRY(read_tensor(t, st, i, wish, err));
    return read_meta(t, st, err);
}

/* The tensor of a .npy file is called as the file. */
static qn_status read_npy(struct tensors *t, const char *path, qn_dtype wish, qn_error *err)
{
    qn_array a;
    int64_t count = 0;
    size_t bytes;
    const char *slash = strrchr(path, '/'), *leaf = slash ? slash + 1 : path;
    QN_TRY(qn_npy_read(&a, path, err));
    t->at = calloc(1, sizeof *t->at);
    qn_status status = t->at ? element_count(&count, a.rank, a.dim, "shape", err) : qn__nomem(err, path, 0);
    if (!status) {
        qn_tensor_data *out = &t->at[0];
        *out = (qn_tensor_data){ .dtype = result_type(a.dtype, wish), .rank = a.rank };
        memcpy(out->dim, a.dim, sizeof out->dim);
        char *name = strndup(leaf, strlen(leaf) - 4);
        void *data = qn__mul(&bytes, (size_t)count, qn_dtype_size(out->dtype)) ? calloc(bytes + 1, 1) : NULL;
        out->name = name;
        out->data = data;
        t->n = 1;
        if (name && data)
            qn_convert(data, out->dtype, a.data, a.dtype, (size_t)count);
        else
            status = qn__nomem(err, path, 0);
    }
    qn_array_free(&a);
    return status;
}

/* ---- writing --------------------------------------------------------------------------------- */

/* NumPy has no bfloat16; f32 holds each of its values. */
static qn_status write_npy(const qn_tensor_data *t, const char *path, qn_error *err)
{
    int64_t count;
    size_t bytes;
    qn_array a = { .dtype = t->dtype == QN_BF16 ? QN_F32 : t->dtype, .rank = t->rank };
    memcpy(a.dim, t->dim, sizeof a.dim);
    QN_TRY(element_count(&count, t->rank, t->dim, t->name, err));
    if (!qn__mul(&bytes, (size_t)count, qn_dtype_size(a.dtype)) || !(a.data = calloc(bytes + 1, 1)))
        return qn__nomem(err, t->name, SIZE_MAX);
    a.bytes = bytes;
    qn_convert(a.data, a.dtype, t->data, t->dtype, (size_t)count);
    qn_status status = qn_npy_write(path, &a, err);
    free(a.data);
    return status;
}

struct file_name {
    char text[200];
    const char *tensor;
};

static int by_text(const void *a, const void *b)
{
    return strcmp(((const struct file_name *)a)->text, ((const struct file_name *)b)->text);
}

/* Whatever is no letter, digit, dot, dash or underline in a name becomes an underline. */
static void file_name(struct file_name *out, const char *tensor)
{
    snprintf(out->text, sizeof out->text, "%s", tensor);
    for (char *p = out->text; *p; p++)
        if (!isalnum((unsigned char)*p) && !strchr("._-", *p)) *p = '_';
    if (out->text[0] == '.') out->text[0] = '_';
    out->tensor = tensor;
}

/* Two tensors whose files would have one name are refused before any is written. */
static qn_status check_file_names(const struct tensors *t, const char *dir, qn_error *err)
{
    size_t n = (size_t)t->n;
    struct file_name *name = calloc(n + 1, sizeof *name);
    qn_status status = name ? QN_OK : qn__nomem(err, "names of files", n * sizeof *name);
    for (size_t i = 0; i < n && name; i++) file_name(&name[i], t->at[i].name);
    if (name) qsort(name, n, sizeof *name, by_text);
    for (size_t i = 1; i < n && !status; i++)
        if (strcmp(name[i].text, name[i - 1].text) == 0)
            status = qn__fail(err, 2001, QN_AT_FILE(dir),
                              "%s.npy for both \"%s\" and \"%s\"; expected a .safetensors file", name[i].text,
                              qn__show(name[i - 1].tensor).s, qn__show(name[i].tensor).s);
    free(name);
    return status;
}

/* DIR/NAME.npy */
static qn_status write_directory(const struct tensors *t, const char *dir, qn_error *err)
{
    QN_TRY(check_file_names(t, dir, err));
    QN_TRY(qn__file_make_dirs(dir, err));
    for (int64_t i = 0; i < t->n; i++) {
        char path[4096];
        struct file_name name;
        file_name(&name, t->at[i].name);
        int n = snprintf(path, sizeof path, "%s/%s.npy", dir, name.text);
        if (n < 0 || (size_t)n >= sizeof path) return qn__fail(err, 6002, QN_AT_FILE(dir), "path too long");
        QN_TRY(write_npy(&t->at[i], path, err));
    }
    return QN_OK;
}

static bool is_directory(const char *path)
{
    struct stat st;
    size_t n = strlen(path);
    return (n > 0 && path[n - 1] == '/') || (stat(path, &st) == 0 && S_ISDIR(st.st_mode));
}

static qn_status write_tensors(const struct tensors *t, const char *path, qn_error *err)
{
    if (cli_has_suffix(path, ".safetensors")) return qn_safetensors_write(path, t->at, t->n, t->meta, t->n_meta, err);
    if (is_directory(path)) return write_directory(t, path, err);
    if (t->n != 1)
        return qn__fail(err, 2001, QN_AT_FILE(path), "%lld tensors; expected 1 for a .npy file, or a directory",
                        (long long)t->n);
    return write_npy(&t->at[0], path, err);
}

/* ---- the command ----------------------------------------------------------------------------- */

static qn_dtype wished(const char *name)
{
    if (!name) return QN_DTYPE_COUNT;
    return strcmp(name, "f32") == 0 ? QN_F32 : strcmp(name, "bf16") == 0 ? QN_BF16 : QN_F16;
}

static qn_status convert(const char *from, const char *to, qn_dtype wish, qn_error *err)
{
    struct tensors t = { 0 };
    qn_safetensors *st = NULL;
    bool npy_in = cli_has_suffix(from, ".npy"), npy_out = cli_has_suffix(to, ".npy") || is_directory(to);
    if (!npy_in && !cli_has_suffix(from, ".safetensors"))
        return qn__fail(err, 2001, QN_AT_FILE(from), "name of an unknown kind; expected .safetensors or .npy");
    if (!npy_out && !cli_has_suffix(to, ".safetensors"))
        return qn__fail(err, 2001, QN_AT_FILE(to),
                        "name of an unknown kind; expected .safetensors, .npy or a directory");
    if (npy_out && wish == QN_BF16)
        return qn__fail(err, 2001, QN_AT_FIELD("--dtype"), "bf16 in a .npy file, which has none; expected f32 or f16");
    if (npy_in) {
        QN_TRY(read_npy(&t, from, wish, err));
    } else {
        QN_TRY(qn_safetensors_open(&st, from, &(qn_safetensors_opts){ .allow_nonfinite = true }, err));
    }
    qn_status status = npy_in ? QN_OK : read_safetensors(&t, st, wish, err);
    if (!status) status = write_tensors(&t, to, err);
    free_tensors(&t);
    qn_safetensors_close(st);
    return status;
}

int cmd_convert(int argc, char **argv)
{
    struct options o;
    qn_error err = { 0 };
    int code = cli_parse(&cli_convert, argc, argv, &o);
    if (code >= 0) return code;
    code = convert(o.args.v[0], o.args.v[1], wished(o.dtype), &err) ? cli_fail(&err) : 0;
    cli_free(&o);
    return cli_finish(code);
}
