/* safetensors_write.c - the writer: see include/quern/safetensors.h. */
#include "checkpoint.h"
#include "utf8.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The reference writer sorts by alignment, in this order, then by name; so files compare equal. */
static int rank_of(qn_dtype dtype)
{
    switch (dtype) {
    case QN_I64: return 0;
    case QN_F64: return 1;
    case QN_F32: return 2;
    case QN_I32: return 3;
    case QN_BF16: return 4;
    case QN_F16: return 5;
    case QN_I8: return 6;
    case QN_U8: return 7;
    default: return 8;
    }
}

static int compare(const void *a, const void *b, void *user)
{
    const qn_tensor_data *t = user, *x = &t[*(const uint32_t *)a], *y = &t[*(const uint32_t *)b];
    int by_type = rank_of(x->dtype) - rank_of(y->dtype);
    return by_type ? by_type : strcmp(x->name, y->name);
}

int qn__tensor_by_name(const void *a, const void *b, void *user)
{
    const qn_tensor_data *t = user;
    return strcmp(t[*(const uint32_t *)a].name, t[*(const uint32_t *)b].name);
}

/* ---- header text -------------------------------------------------------------------------- */

static bool put(struct qn__safetensors_plan *p, const char *text, size_t n)
{
    size_t need;
    if (!qn__add(&need, p->header_bytes, n) || !qn__grow(NULL, &p->header, &p->header_cap, need, 1)) return false;
    memcpy(p->header + p->header_bytes, text, n);
    p->header_bytes = need;
    return true;
}

static bool put_string(struct qn__safetensors_plan *p, const char *s)
{
    bool ok = put(p, "\"", 1);
    for (; *s && ok; s++) {
        char escape[8];
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\')
            snprintf(escape, sizeof escape, "\\%c", c);
        else if (c < 0x20)
            snprintf(escape, sizeof escape, "\\u%04x", c);
        else
            snprintf(escape, sizeof escape, "%c", c);
        ok = put(p, escape, strlen(escape));
    }
    return ok && put(p, "\"", 1);
}

static bool put_text(struct qn__safetensors_plan *p, const char *s) { return put(p, s, strlen(s)); }

static bool put_entry(struct qn__safetensors_plan *p, const qn_tensor_data *t, int64_t begin, int64_t end)
{
    char number[64];
    bool ok = put_string(p, t->name) && put_text(p, ":{\"dtype\":\"") && put_text(p, qn_dtype_name(t->dtype)) &&
              put_text(p, "\",\"shape\":[");
    for (int i = 0; i < t->rank && ok; i++) {
        snprintf(number, sizeof number, "%s%lld", i ? "," : "", (long long)t->dim[i]);
        ok = put_text(p, number);
    }
    snprintf(number, sizeof number, "],\"data_offsets\":[%lld,%lld]}", (long long)begin, (long long)end);
    return ok && put_text(p, number);
}

static bool put_meta(struct qn__safetensors_plan *p, const qn_meta_entry *meta, int64_t n_meta)
{
    bool ok = put_text(p, "{\"__metadata__\":{\"format\":\"pt\"");
    for (int64_t i = 0; i < n_meta && ok; i++)
        ok = put_text(p, ",") && put_string(p, meta[i].key) && put_text(p, ":") && put_string(p, meta[i].value);
    return ok && put_text(p, "}");
}

/* ---- checks ------------------------------------------------------------------------------- */

static qn_status check_tensor(const char *path, const qn_tensor_data *t, int64_t *bytes, qn_error *err)
{
    char field[600];
    snprintf(field, sizeof field, "tensor \"%s\"", t->name ? t->name : "");
    struct qn__where where = { .file = path, .offset = -1, .field = field };
    size_t n = t->name ? strlen(t->name) : 0, size = qn_dtype_size(t->dtype), total;
    int64_t count;
    if (n == 0 || n > 512) return qn__fail(err, 4018, &where, "name of %zu bytes; expected 1..512", n);
    for (const char *c = t->name; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            return qn__fail(err, 4018, &where, "control character in the name; expected none");
    if (qn__utf8_error(t->name, n) < n) return qn__fail(err, 4018, &where, "name is not UTF-8");
    if (strcmp(t->name, "__metadata__") == 0) return qn__fail(err, 4018, &where, "reserved name; expected another");
    if (size == 0) return qn__fail(err, 4018, &where, "dtype %d; expected one of Quern's", (int)t->dtype);
    if (t->rank < 0 || t->rank > QN_MAX_DIMS)
        return qn__fail(err, 4018, &where, "rank %d; expected 0..%d", t->rank, QN_MAX_DIMS);
    if (!qn__count(&count, t->dim, t->rank) || !qn__mul(&total, (size_t)count, size) || total > (size_t)1 << 48)
        return qn__fail(err, 4018, &where, "shape too large; expected less than 2^48 bytes");
    if (count > 0 && !t->data) return qn__fail(err, 4018, &where, "no data; expected %zu bytes", total);
    *bytes = (int64_t)total;
    return QN_OK;
}

static qn_status check_meta(const char *path, const qn_meta_entry *meta, int64_t n, qn_error *err)
{
    for (int64_t i = 0; i < n; i++) {
        size_t n_key = strlen(meta[i].key), n_value = strlen(meta[i].value);
        if (qn__utf8_error(meta[i].key, n_key) < n_key || qn__utf8_error(meta[i].value, n_value) < n_value)
            return qn__fail(err, 4018, QN_AT_FILE(path), "metadata \"%s\" is not UTF-8", qn__show(meta[i].key).s);
        bool twice = strcmp(meta[i].key, "format") == 0;
        for (int64_t k = 0; k < i; k++) twice = twice || strcmp(meta[i].key, meta[k].key) == 0;
        if (twice)
            return qn__fail(err, 4018, QN_AT_FILE(path), "metadata key \"%s\" is given twice", qn__show(meta[i].key).s);
    }
    return QN_OK;
}

static qn_status check_unique(struct qn__safetensors_plan *p, const char *path, qn_tensor_data *t, qn_error *err)
{
    qsort_r(p->order, (size_t)p->n, sizeof p->order[0], qn__tensor_by_name, t);
    for (int64_t i = 1; i < p->n; i++)
        if (strcmp(t[p->order[i]].name, t[p->order[i - 1]].name) == 0)
            return qn__fail(err, 4018, QN_AT_FILE(path), "tensor \"%s\" is given twice",
                            qn__show(t[p->order[i]].name).s);
    return QN_OK;
}

/* ---- planning and writing ----------------------------------------------------------------- */

static qn_status build(struct qn__safetensors_plan *p, const char *path, const qn_tensor_data *tensors,
                       const qn_meta_entry *meta, int64_t n_meta, qn_error *err)
{
    /* qsort_r's context is not const; nothing is written through it. */
    qn_tensor_data *context = (qn_tensor_data *)(uintptr_t)tensors;
    int64_t at = 0, bytes;
    for (int64_t i = 0; i < p->n; i++) {
        QN_TRY(check_tensor(path, &tensors[i], &bytes, err));
        p->order[i] = (uint32_t)i;
    }
    QN_TRY(check_meta(path, meta, n_meta, err));
    QN_TRY(check_unique(p, path, context, err));
    qsort_r(p->order, (size_t)p->n, sizeof p->order[0], compare, context);
    bool ok = put(p, "\0\0\0\0\0\0\0\0", 8) && put_meta(p, meta, n_meta);
    for (int64_t i = 0; i < p->n && ok; i++) {
        const qn_tensor_data *t = &tensors[p->order[i]];
        QN_TRY(check_tensor(path, t, &bytes, err));
        if (__builtin_add_overflow(at, bytes, &p->bytes) || p->bytes > (int64_t)1 << 48)
            return qn__fail(err, 4018, QN_AT_FILE(path), "more than 2^48 bytes in all");
        ok = put_text(p, ",") && put_entry(p, t, at, p->bytes);
        at = p->bytes;
    }
    ok = ok && put_text(p, "}");
    while (ok && p->header_bytes % 8) ok = put_text(p, " ");
    if (!ok) return qn__nomem(err, "safetensors header", p->header_bytes);
    if (p->header_bytes - 8 > 100000000)
        return qn__fail(err, 4018, QN_AT_FILE(path), "header of %zu bytes; expected at most 100000000",
                        p->header_bytes - 8);
    for (int i = 0; i < 8; i++) p->header[i] = (char)(unsigned char)((uint64_t)(p->header_bytes - 8) >> (8 * i));
    p->bytes = (int64_t)p->header_bytes + at;
    return QN_OK;
}

qn_status qn__safetensors_plan(struct qn__safetensors_plan *out, const char *path, const qn_tensor_data *tensors,
                               int64_t n, const qn_meta_entry *meta, int64_t n_meta, qn_error *err)
{
    *out = (struct qn__safetensors_plan){ .n = n };
    if (n < 0 || n > 1000000)
        return qn__fail(err, 4018, QN_AT_FILE(path), "%lld tensors; expected at most 1000000", (long long)n);
    out->order = qn__calloc(NULL, (size_t)n, sizeof out->order[0]);
    if (!out->order) return qn__nomem(err, "safetensors order", (size_t)n * sizeof out->order[0]);
    qn_status status = build(out, path, tensors, meta, n_meta, err);
    if (status) qn__safetensors_plan_free(out);
    return status;
}

void qn__safetensors_plan_free(struct qn__safetensors_plan *plan)
{
    qn__free(NULL, plan->header, plan->header_cap);
    qn__free(NULL, plan->order, (size_t)plan->n * sizeof plan->order[0]);
    *plan = (struct qn__safetensors_plan){ 0 };
}

qn_status qn__safetensors_emit(struct qn__file_out *f, const struct qn__safetensors_plan *plan,
                               const qn_tensor_data *tensors, uint32_t *crc, uint32_t *file_crc, qn_error *err)
{
    QN_TRY(qn__file_write(f, plan->header, plan->header_bytes, err));
    uint32_t whole = qn__crc32(0, plan->header, plan->header_bytes);
    for (int64_t i = 0; i < plan->n; i++) {
        const qn_tensor_data *t = &tensors[plan->order[i]];
        int64_t bytes;
        QN_TRY(check_tensor(f->path, t, &bytes, err));
        QN_TRY(qn__file_write(f, t->data, (size_t)bytes, err));
        uint32_t own = qn__crc32(0, t->data, (size_t)bytes);
        whole = qn__crc32_join(whole, own, bytes);
        if (crc) crc[plan->order[i]] = own;
    }
    if (file_crc) *file_crc = whole;
    return QN_OK;
}

qn_status qn_safetensors_write(const char *path, const qn_tensor_data *tensors, int64_t n, const qn_meta_entry *meta,
                               int64_t n_meta, qn_error *err)
{
    struct qn__safetensors_plan plan;
    struct qn__file_out f;
    QN_TRY(qn__safetensors_plan(&plan, path, tensors, n, meta, n_meta, err));
    qn_status status = qn__file_create(&f, path, plan.bytes, err);
    if (!status) {
        status = qn__safetensors_emit(&f, &plan, tensors, NULL, NULL, err);
        if (!status)
            status = qn__file_commit(&f, err);
        else
            qn__file_discard(&f);
    }
    qn__safetensors_plan_free(&plan);
    return status;
}
