/* store.c - persistent tensors by name, and their first contents. */
#include "store_impl.h"
#include "philox.h"
#include <math.h>
#include <string.h>

qn_status qn_store_new(qn_store **out, const char *device, uint64_t seed, const qn_alloc *alloc, qn_error *err)
{
    struct qn__gpu_device *gpu;
    *out = NULL;
    if (!alloc) alloc = &qn__std_alloc;
    QN_TRY(qn__device_open(&gpu, device ? device : "cpu", alloc, err));
    qn_store *s = qn__calloc(alloc, 1, sizeof *s);
    if (!s) {
        qn__device_close(gpu);
        return qn__nomem(err, "store", sizeof *s);
    }
    s->alloc = *alloc;
    s->seed = seed;
    s->gpu = gpu;
    *out = s;
    return QN_OK;
}

const char *qn_store_device(const qn_store *s) { return s->gpu ? s->gpu->name : "cpu"; }

static void free_slab(qn_store *s, struct qn__slab *b)
{
    if (b->device) s->gpu->api->give(s->gpu->device, b->device, b->bytes);
    qn__free(&s->alloc, b->raw, b->raw_bytes);
    qn__free(&s->alloc, b, sizeof *b);
}

void qn_store_free(qn_store *s)
{
    if (!s) return;
    qn_alloc alloc = s->alloc;
    for (size_t i = 0; i < s->n; i++) {
        char *name = (char *)(uintptr_t)s->tensor[i]->entry.name;
        qn__free(&alloc, name, strlen(name) + 1);
        qn__free(&alloc, s->tensor[i], sizeof *s->tensor[i]);
    }
    qn__free(&alloc, s->tensor, s->cap * sizeof *s->tensor);
    for (struct qn__slab *b = s->slab, *next; b; b = next) {
        next = b->next;
        free_slab(s, b);
    }
    qn__device_close(s->gpu);
    qn__free(&alloc, s, sizeof *s);
}

int qn_store_count(const qn_store *s) { return (int)s->n; }
const qn_store_entry *qn_store_at(const qn_store *s, int i)
{
    return i >= 0 && (size_t)i < s->n ? &s->tensor[i]->entry : NULL;
}
struct qn__tensor *qn__store_find(const qn_store *s, const char *name)
{
    for (size_t i = 0; i < s->n; i++)
        if (strcmp(s->tensor[i]->entry.name, name) == 0) return s->tensor[i];
    return NULL;
}
const qn_store_entry *qn_store_find(const qn_store *s, const char *name)
{
    struct qn__tensor *t = qn__store_find(s, name);
    return t ? &t->entry : NULL;
}
size_t qn_store_bytes(const qn_store *s, qn_kind kind)
{
    size_t total = 0, bytes;
    for (size_t i = 0; i < s->n; i++)
        if (s->tensor[i]->entry.kind == kind && qn__slot_bytes(&bytes, s->tensor[i]->entry.bytes)) total += bytes;
    return total;
}

/* ---- declaring -------------------------------------------------------------------------------- */

static qn_status check_same(const qn_store_entry *e, const struct qn__node *y, qn_error *err)
{
    const struct qn__store_attr *attr = y->attr;
    if (e->dtype == y->dtype && e->rank == y->rank && e->kind == (qn_kind)attr->kind &&
        memcmp(e->dims, y->dim, (size_t)y->rank * sizeof y->dim[0]) == 0)
        return QN_OK;
    return qn__fail(err, 2207, QN_AT_FIELD(e->name), "%s %s, kind %d; the store has %s %s, kind %d",
                    qn_dtype_name(y->dtype), qn__dims_show(y->rank, y->dim).s, attr->kind, qn_dtype_name(e->dtype),
                    qn__dims_show(e->rank, e->dims).s, (int)e->kind);
}

qn_status qn__store_declare(qn_store *s, const struct qn__node *y, struct qn__tensor **out, qn_error *err)
{
    const struct qn__store_attr *attr = y->attr;
    *out = qn__store_find(s, y->name);
    if (*out) return check_same(&(*out)->entry, y, err);
    size_t length = strlen(y->name) + 1, bytes;
    if (!qn__mul(&bytes, (size_t)y->count, qn_dtype_size(y->dtype)) ||
        !qn__grow(&s->alloc, &s->tensor, &s->cap, s->n + 1, sizeof *s->tensor))
        return qn__nomem(err, y->name, (size_t)y->count);
    struct qn__tensor *t = qn__calloc(&s->alloc, 1, sizeof *t);
    char *name = qn__calloc(&s->alloc, length, 1);
    if (!t || !name) {
        qn__free(&s->alloc, t, sizeof *t);
        qn__free(&s->alloc, name, length);
        return qn__nomem(err, y->name, length);
    }
    memcpy(name, y->name, length);
    t->entry = (qn_store_entry){
        .name = name, .kind = (qn_kind)attr->kind, .dtype = y->dtype, .rank = y->rank, .bytes = bytes
    };
    memcpy(t->entry.dims, y->dim, sizeof t->entry.dims);
    t->init = attr->init;
    s->tensor[s->n++] = t;
    *out = t;
    return QN_OK;
}

/* ---- first contents ---------------------------------------------------------------------------- */

/* fan_in, fan_out: [in,out] for rank 2, [O,I,kh,kw] for rank 4 (He et al. 2015, section 2.2). */
static void fans(const qn_store_entry *e, const qn_init *init, double *in, double *out)
{
    double receptive = 1;
    for (int i = 2; i < e->rank; i++) receptive *= (double)e->dims[i];
    double first = e->rank > 0 ? (double)e->dims[0] : 1, second = e->rank > 1 ? (double)e->dims[1] : first;
    *in = init->fan_in ? (double)init->fan_in : e->rank == 2 ? first : second * receptive;
    *out = init->fan_out ? (double)init->fan_out : e->rank == 2 ? second : first * receptive;
    if (*in < 1) *in = 1;
    if (*out < 1) *out = 1;
}

/* Two standard normal numbers by Box and Muller; counter: element pair and redraw. */
static void normal_pair(uint64_t key, uint64_t pair, uint32_t draw, double out[2])
{
    struct qn__words r = qn__philox(key, (uint32_t)pair, (uint32_t)(pair >> 32), draw, 0x1217u);
    double u = (((double)r.w[0] + 1) * 0x1p-32), v = (double)r.w[1] * 0x1p-32;
    double radius = sqrt(-2 * log(u)), angle = 6.283185307179586477 * v;
    out[0] = radius * cos(angle);
    out[1] = radius * sin(angle);
}

static double draw_normal(uint64_t key, int64_t i, double limit)
{
    double z[2];
    for (uint32_t draw = 0;; draw++) {
        normal_pair(key, (uint64_t)i / 2, draw, z);
        if (fabs(z[i & 1]) <= limit) return z[i & 1];
    }
}

static double draw_uniform(uint64_t key, int64_t i, double low, double high)
{
    uint64_t quad = (uint64_t)i / 4;
    struct qn__words r = qn__philox(key, (uint32_t)quad, (uint32_t)(quad >> 32), 0, 0x1217u);
    return low + (high - low) * ((double)r.w[i & 3] * 0x1p-32);
}

static double first_value(const qn_init *init, uint64_t key, int64_t i, double in, double out)
{
    double gain = init->gain != 0 ? init->gain : 1, xavier = gain * sqrt(6 / (in + out)), lecun = gain / sqrt(in);
    switch (init->kind) {
    case QN_INIT_ONES: return 1;
    case QN_INIT_VALUE: return init->a;
    case QN_INIT_UNIFORM: return draw_uniform(key, i, init->a, init->b);
    case QN_INIT_NORMAL: return init->a + init->b * draw_normal(key, i, 1e300);
    case QN_INIT_TRUNCATED_NORMAL: return init->a + init->b * draw_normal(key, i, 2);
    case QN_INIT_XAVIER: return draw_uniform(key, i, -xavier, xavier);
    case QN_INIT_XAVIER_NORMAL: return gain * sqrt(2 / (in + out)) * draw_normal(key, i, 1e300);
    case QN_INIT_HE_UNIFORM: return draw_uniform(key, i, -gain * sqrt(6 / in), gain * sqrt(6 / in));
    case QN_INIT_HE: return gain * sqrt(2 / in) * draw_normal(key, i, 1e300);
    case QN_INIT_LECUN: return draw_uniform(key, i, -lecun, lecun);
    case QN_INIT_ZEROS:
    case QN_INIT_COUNT: break;
    }
    return 0;
}

static void fill(const qn_store *s, struct qn__tensor *t)
{
    qn_store_entry *e = &t->entry;
    if (t->init.kind != QN_INIT_ZEROS) {
        uint64_t key = qn__stream_key(s->seed, qn__hash_str(e->name));
        double in, out;
        fans(e, &t->init, &in, &out);
        size_t size = qn_dtype_size(e->dtype), n = e->bytes / size;
        for (size_t i = 0; i < n; i++) {
            double x = first_value(&t->init, key, (int64_t)i, in, out);
            qn_convert((char *)e->data + i * size, e->dtype, &x, QN_F64, 1);
        }
    }
    if (strcmp(e->name, "quern.rng") == 0) memcpy(e->data, &s->seed, sizeof s->seed);
}

/* ---- memory --------------------------------------------------------------------------------------- */

/* Where the host's part of a slab starts. */
static char *slab_at(const struct qn__slab *b)
{
    return (char *)(((uintptr_t)b->raw + QN_ALIGN - 1) & ~(uintptr_t)(QN_ALIGN - 1));
}

/* A zeroed allocation of `bytes` at a multiple of QN_ALIGN, kept in the store's list; on a GPU its memory, and the
 * host's only if it is to mirror it. */
static qn_status add_slab(qn_store *s, size_t bytes, bool mirror, const char *what, struct qn__slab **out,
                          qn_error *err)
{
    size_t raw;
    if (!qn__add(&raw, bytes, QN_ALIGN)) return qn__nomem(err, what, bytes);
    struct qn__slab *slab = qn__calloc(&s->alloc, 1, sizeof *slab);
    if (!slab) return qn__nomem(err, what, sizeof *slab);
    slab->bytes = bytes;
    slab->raw_bytes = mirror ? raw : 0;
    if (mirror) slab->raw = qn__calloc(&s->alloc, raw, 1);
    qn_status status = mirror && !slab->raw ? qn__nomem(err, what, raw) : QN_OK;
    if (!status && s->gpu) status = s->gpu->api->take(s->gpu->device, &slab->device, bytes, err);
    if (status) {
        free_slab(s, slab);
        return status;
    }
    slab->next = s->slab;
    s->slab = slab;
    *out = slab;
    return QN_OK;
}

qn_status qn__store_work(qn_store *s, size_t bytes, char **out, qn_error *err)
{
    if (bytes > s->work_bytes || !s->work_at) {
        struct qn__slab *slab;
        QN_TRY(add_slab(s, bytes, !s->gpu, "work arena", &slab, err));
        s->work_at = s->gpu ? slab->device : slab_at(slab);
        s->work_bytes = bytes;
    }
    *out = s->work_at;
    return QN_OK;
}

qn_status qn__store_allocate(qn_store *s, qn_error *err)
{
    size_t total = 0, bytes, at = 0, first = 0;
    struct qn__slab *slab;
    for (size_t i = 0; i < s->n; i++)
        if (!s->tensor[i]->entry.data)
            if (!qn__slot_bytes(&bytes, s->tensor[i]->entry.bytes) || !qn__add(&total, total, bytes))
                return qn__nomem(err, "store", SIZE_MAX);
    if (total == 0) return QN_OK;
    QN_TRY(add_slab(s, total, true, "store", &slab, err));
    while (s->tensor[first]->entry.data) first++;
    for (size_t i = first; i < s->n; i++) { /* those without memory are the last ones */
        struct qn__tensor *t = s->tensor[i];
        t->entry.data = slab_at(slab) + at;
        t->device = s->gpu ? (char *)slab->device + at : t->entry.data;
        if (qn__slot_bytes(&bytes, t->entry.bytes)) at += bytes; /* cannot fail: it did not above */
        fill(s, t);
    }
    qn_status status = s->gpu ? s->gpu->api->put(s->gpu->device, slab->device, slab_at(slab), total, err) : QN_OK;
    for (size_t i = first; i < s->n && status; i++) s->tensor[i]->entry.data = NULL; /* to be tried again */
    return status;
}

/* What the plan asked for; the slack that aligns a slab's start is left out. */
size_t qn_store_used_bytes(const qn_store *s)
{
    size_t bytes = 0;
    for (const struct qn__slab *slab = s->slab; slab; slab = slab->next) bytes += slab->bytes;
    return bytes;
}

/* What captured graphs and the driver take beside the plan. */
static const int64_t RESERVE = (int64_t)256 << 20;

/* ---- a GPU's tensors and their mirror ------------------------------------------------------------------ */

static qn_status move(qn_store *s, const char *name, bool pull, qn_error *err)
{
    bool found = !name;
    for (size_t i = 0; i < s->n; i++) {
        struct qn__tensor *t = s->tensor[i];
        if (name && strcmp(name, t->entry.name) != 0) continue;
        found = true;
        if (!s->gpu || !t->entry.data || !t->entry.bytes) continue;
        QN_TRY(pull ? s->gpu->api->get(s->gpu->device, t->entry.data, t->device, t->entry.bytes, err)
                    : s->gpu->api->put(s->gpu->device, t->device, t->entry.data, t->entry.bytes, err));
    }
    return found ? QN_OK : qn__fail(err, 2207, QN_AT_FIELD(name), "no such tensor; expected one of the store");
}

qn_status qn_store_pull(qn_store *s, const char *name, qn_error *err) { return move(s, name, true, err); }
qn_status qn_store_push(qn_store *s, const char *name, qn_error *err) { return move(s, name, false, err); }

qn_status qn_store_room(const qn_store *s, int64_t *bytes, qn_error *err)
{
    int64_t total;
    *bytes = INT64_MAX;
    if (!s->gpu) return QN_OK;
    QN_TRY(s->gpu->api->memory(s->gpu->device, bytes, &total, err));
    int64_t reserve = total / 64 < RESERVE ? total / 64 : RESERVE;
    *bytes = *bytes > reserve ? *bytes - reserve : 0;
    return QN_OK;
}
