/* show_tensors.c - what is in a .safetensors file or a checkpoint: see showing.h. */
#include "showing.h"
#include "../include/quern/checkpoint.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct statistics {
    double min, max, mean, std;
    int64_t nonfinite;
};

/* Of the finite values; two passes, so that the deviation keeps its digits. */
static struct statistics look(const double *x, int64_t n)
{
    struct statistics s = { INFINITY, -INFINITY, 0, 0, 0 };
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(x[i])) {
            s.nonfinite++;
            continue;
        }
        s.min = fmin(s.min, x[i]);
        s.max = fmax(s.max, x[i]);
        sum += x[i];
    }
    double count = (double)(n - s.nonfinite);
    s.mean = sum / count;
    for (int64_t i = 0; i < n; i++)
        if (isfinite(x[i])) squares += (x[i] - s.mean) * (x[i] - s.mean);
    s.std = sqrt(squares / count);
    if (!(count > 0)) s.min = s.max = s.mean = s.std = (double)NAN;
    return s;
}

static qn_status read_statistics(const qn_safetensors *st, const qn_tensor_info *t, struct statistics *out,
                                 qn_error *err)
{
    *out = (struct statistics){ (double)NAN, (double)NAN, (double)NAN, (double)NAN, 0 };
    if (t->dtype == QN_DTYPE_COUNT || t->count < 1) return QN_OK;
    double *x = qn__calloc(NULL, (size_t)t->count, sizeof *x);
    if (!x) return qn__nomem(err, t->name, (size_t)t->count);
    qn_status status = qn_safetensors_read(st, t, x, QN_F64, err);
    if (!status) *out = look(x, t->count);
    qn__free(NULL, x, (size_t)t->count * sizeof *x);
    return status;
}

static void put_json(const qn_tensor_info *t, const struct statistics *s, const char *dims)
{
    const double value[] = { s->min, s->max, s->mean, s->std };
    static const char *const names[] = { "min", "max", "mean", "std" };
    char text[32];
    printf("{\"name\":");
    cli_json_text(t->name);
    printf(",\"dtype\":\"%s\",\"shape\":%s,\"bytes\":%lld,\"nonfinite\":%lld", t->dtype_name, dims, (long long)t->bytes,
           (long long)s->nonfinite);
    for (int i = 0; i < 4; i++)
        printf(",\"%s\":%s", names[i], isfinite(value[i]) ? qn__format_f64(text, value[i]) : "null");
    printf("}");
}

static void put_line(const qn_tensor_info *t, const struct statistics *s, const char *dims)
{
    printf("%-40s %-6s %-20s %12lld", qn__show(t->name).s, t->dtype_name, dims, (long long)t->bytes);
    if (isfinite(s->mean)) printf(" %11.4g %11.4g %11.4g %11.4g", s->min, s->max, s->mean, s->std);
    if (s->nonfinite) printf("  %lld not finite", (long long)s->nonfinite);
    printf("\n");
}

static void put_metadata(const qn_safetensors *st, bool json)
{
    int64_t n = qn_safetensors_meta_count(st);
    if (json) printf("],\"metadata\":{");
    if (!json && n) printf("metadata\n");
    for (int64_t i = 0; i < n; i++) {
        const char *key, *value;
        qn_safetensors_meta_at(st, i, &key, &value);
        if (!json) {
            printf("  %s: %s\n", qn__show(key).s, qn__show(value).s);
            continue;
        }
        printf("%s", i ? "," : "");
        cli_json_text(key);
        printf(":");
        cli_json_text(value);
    }
    if (json) printf("}}");
}

/* One file, under a heading; statistics of values that are not finite are part of what one wants to see. */
static qn_status show_file(const char *path, bool json, qn_error *err)
{
    qn_safetensors *st;
    int64_t values = 0, bytes = 0;
    qn_status status = QN_OK;
    QN_TRY(qn_safetensors_open(&st, path, &(qn_safetensors_opts){ .allow_nonfinite = true }, err));
    if (json) {
        printf("{\"file\":");
        cli_json_text(path);
        printf(",\"tensors\":[");
    } else {
        printf("%s\n%-40s %-6s %-20s %12s %11s %11s %11s %11s\n", qn__show(path).s, "tensor", "dtype", "shape", "bytes",
               "min", "max", "mean", "std");
    }
    for (int64_t i = 0; i < qn_safetensors_count(st) && !status; i++) {
        qn_tensor_info t;
        struct statistics s;
        char dims[QN_MAX_DIMS * 21 + 3];
        qn_safetensors_at(st, i, &t);
        status = read_statistics(st, &t, &s, err);
        cli_dims_text(dims, sizeof dims, t.rank, t.dim);
        if (json && i) printf(",");
        if (!status && json) put_json(&t, &s, dims);
        if (!status && !json) put_line(&t, &s, dims);
        values += t.count;
        bytes += t.bytes;
    }
    if (!json)
        printf("%lld tensors, %lld values, %lld bytes\n", (long long)qn_safetensors_count(st), (long long)values,
               (long long)bytes);
    if (!status) put_metadata(st, json);
    qn_safetensors_close(st);
    return status;
}

static bool is_dir(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* A checkpoint as it is; of a run's directory the best one, else the newest. */
static qn_status open_checkpoint(qn_checkpoint **out, const char *path, qn_error *err)
{
    char dir[4096], best[4200];
    int n = snprintf(dir, sizeof dir, "%s/checkpoints", path);
    if (n < 0 || (size_t)n >= sizeof dir)
        return qn__fail(err, 6001, NULL, "path too long; expected fewer than 4096 bytes");
    if (!is_dir(dir)) return qn_checkpoint_open(out, path, err);
    snprintf(best, sizeof best, "%s/best", dir);
    return is_dir(best) ? qn_checkpoint_open(out, best, err)
                        : qn_checkpoint_open_newest(out, dir, NULL, NULL, NULL, err);
}

static qn_status show_checkpoint(const char *path, bool json, qn_error *err)
{
    static const char *const files[] = { "model.safetensors", "state.safetensors" };
    qn_checkpoint *ck;
    qn_status status = QN_OK;
    char file[4400];
    QN_TRY(open_checkpoint(&ck, path, err));
    if (json) {
        printf("{\"checkpoint\":");
        cli_json_text(qn_checkpoint_path(ck));
        printf(",\"run\":");
        cli_json_text(qn_checkpoint_run(ck));
        printf(",\"step\":%lld,\"files\":[", (long long)qn_checkpoint_step(ck));
    } else {
        printf("checkpoint of run %s, step %lld; every checksum is right\n", qn__show(qn_checkpoint_run(ck)).s,
               (long long)qn_checkpoint_step(ck));
    }
    for (int i = 0; i < 2 && !status; i++) {
        snprintf(file, sizeof file, "%s/%s", qn_checkpoint_path(ck), files[i]);
        if (i) printf(json ? "," : "\n");
        status = show_file(file, json, err);
    }
    if (json) printf("]}");
    qn_checkpoint_close(ck);
    return status;
}

qn_status cli_show_tensors(const char *path, bool json, qn_error *err)
{
    qn_status status = is_dir(path) ? show_checkpoint(path, json, err) : show_file(path, json, err);
    if (json && !status) printf("\n");
    return status;
}
