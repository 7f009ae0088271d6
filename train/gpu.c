/* gpu.c - descriptions of GPUs, and the least time an operator can take on one: see plan.h. */
#include "../include/quern/plan.h"
#include "../core/file.h"
#include "json.h"
#include <math.h>
#include <string.h>

enum { GPU_FILE_BYTES = 1 << 16 };

struct reader {
    const struct qn__json *root;
    struct qn__report *report;
};

/* Every figure of a description: its type in qn_gpu, and between what it can lie. */
#define FIGURES(X) \
    X(int64_t, memory, 1e8, 1e15) \
    X(int64_t, workspace, 0, 1e12) \
    X(int64_t, l2, 0, 1e12) \
    X(double, bandwidth, 1e9, 1e15) \
    X(double, f32, 1e9, 1e18) \
    X(double, tensor, 1e9, 1e18) \
    X(int, multiprocessors, 1, 100000) \
    X(int, threads_per_multiprocessor, 32, 65536) \
    X(int, registers_per_multiprocessor, 1024, 1e9) \
    X(int64_t, shared_per_multiprocessor, 1024, 1e9) \
    X(int64_t, shared_per_block, 1024, 1e9)

static void check_keys(struct reader *r, const struct qn__json *object, const char *const *keys, int n)
{
    for (const struct qn__json *c = object->child; c; c = c->next) {
        bool known = false;
        for (int i = 0; i < n; i++) known = known || strcmp(keys[i], c->key) == 0;
        if (known) continue;
        int near = qn__nearest(c->key, keys, n);
        qn__problem(r->report, 2105, c, true, c->key, near < 0 ? "unknown key%s" : "unknown key; did you mean \"%s\"?",
                    near < 0 ? "" : keys[near]);
    }
}

static const struct qn__json *member(struct reader *r, const struct qn__json *object, const char *key,
                                     const char *where)
{
    const struct qn__json *v = qn__json_get(object, key);
    if (!v) qn__problem(r->report, 2106, object, false, key, "missing; expected in %s", where);
    return v;
}

static bool is_text(const struct qn__json *v, size_t size)
{
    return v->kind == QN__STRING && *v->text && strlen(v->text) < size;
}

/* A figure is worth what its source is worth, so both are asked for. */
static const struct qn__json *figure(struct reader *r, const char *key)
{
    static const char *const keys[] = { "value", "source" };
    const struct qn__json *f = member(r, r->root, key, "the description of a GPU");
    if (!f) return NULL;
    if (f->kind != QN__OBJECT) {
        qn__problem(r->report, 2107, f, false, key, "expected {\"value\": ..., \"source\": \"where it is stated\"}");
        return NULL;
    }
    check_keys(r, f, keys, 2);
    const struct qn__json *source = member(r, f, "source", "every figure");
    if (source && !is_text(source, 1024))
        qn__problem(r->report, 2107, source, false, "source",
                    "not a text; expected 1..1023 bytes that say where %s is stated", key);
    return member(r, f, "value", "every figure");
}

static double number(struct reader *r, const char *key, double low, double high)
{
    const struct qn__json *v = figure(r, key);
    if (!v) return low;
    if (v->kind != QN__INT && v->kind != QN__REAL)
        qn__problem(r->report, 2107, v, false, key, "not a number; expected %g..%g", low, high);
    else if (!(v->real >= low && v->real <= high))
        qn__problem(r->report, 2108, v, false, key, "%g; expected %g..%g", v->real, low, high);
    else
        return v->real;
    return low;
}

static void read_name(struct reader *r, qn_gpu *out)
{
    const struct qn__json *v = member(r, r->root, "name", "the description of a GPU");
    if (v && !is_text(v, sizeof out->name))
        qn__problem(r->report, 2107, v, false, "name", "not a text; expected 1..%zu bytes", sizeof out->name - 1);
    else if (v)
        memcpy(out->name, v->text, strlen(v->text) + 1);
}

static void read_capability(struct reader *r, qn_gpu *out)
{
    const struct qn__json *v = figure(r, "capability");
    for (int i = 0; v && i < 2; i++) {
        const struct qn__json *c = qn__json_at(v, i);
        if (!c || c->kind != QN__INT || c->integer < 0 || c->integer > 99 || v->count != 2) {
            qn__problem(r->report, 2107, v, false, "capability", "expected [major, minor]");
            return;
        }
        out->capability[i] = (int)c->integer;
    }
}

static void read_gpu(struct reader *r, qn_gpu *out)
{
#define KEY(type, name, low, high) #name,
    static const char *const keys[] = { "name", "capability", FIGURES(KEY) };
#undef KEY
    check_keys(r, r->root, keys, sizeof keys / sizeof keys[0]);
    read_name(r, out);
    read_capability(r, out);
#define READ(type, name, low, high) out->name = (type)number(r, #name, low, high);
    FIGURES(READ)
#undef READ
}

qn_status qn_gpu_read(qn_gpu *out, const char *path, qn_error *err)
{
    qn_recipe_errors errors;
    struct qn__report report = { .file = path, .errors = &errors };
    struct qn__pool pool = { 0 };
    char *text;
    size_t n;
    memset(out, 0, sizeof *out);
    errors.count = errors.kept = 0;
    QN_TRY(qn__file_read_all(NULL, path, GPU_FILE_BYTES, &text, &n, err));
    struct reader r = { qn__json_parse(&pool, text, n, false, &report), &report };
    if (r.root) read_gpu(&r, out);
    qn__pool_free(&pool);
    qn__free(NULL, text, n + 1);
    if (report.status && err) *err = errors.list[0];
    return report.status;
}

double qn_gpu_bound(const qn_gpu *gpu, const qn_step_info *step, bool bf16)
{
    double compute = step->flops / (bf16 ? gpu->tensor : gpu->f32);
    return fmax(compute, (bf16 ? step->bytes / 2 : step->bytes) / gpu->bandwidth);
}
