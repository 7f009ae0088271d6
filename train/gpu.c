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

static const struct qn__json *member(struct reader *r, const char *key)
{
    const struct qn__json *v = qn__json_get(r->root, key);
    if (!v) qn__problem(r->report, 2106, r->root, false, key, "missing; expected in the description of a GPU");
    return v;
}

static double number(struct reader *r, const char *key, double low, double high)
{
    const struct qn__json *v = member(r, key);
    if (!v) return low;
    if (v->kind != QN__INT && v->kind != QN__REAL)
        qn__problem(r->report, 2107, v, false, key, "not a number; expected %g..%g", low, high);
    else if (!(v->real >= low && v->real <= high))
        qn__problem(r->report, 2108, v, false, key, "%g; expected %g..%g", v->real, low, high);
    return v->real;
}

static void read_name(struct reader *r, qn_gpu *out)
{
    const struct qn__json *v = member(r, "name");
    if (v && (v->kind != QN__STRING || strlen(v->text) >= sizeof out->name || !*v->text))
        qn__problem(r->report, 2107, v, false, "name", "not a text; expected 1..%zu bytes", sizeof out->name - 1);
    else if (v)
        memcpy(out->name, v->text, strlen(v->text) + 1);
}

static void read_capability(struct reader *r, qn_gpu *out)
{
    const struct qn__json *v = member(r, "capability");
    for (int i = 0; v && i < 2; i++) {
        const struct qn__json *c = qn__json_at(v, i);
        if (!c || c->kind != QN__INT || c->integer < 0 || c->integer > 99 || v->count != 2) {
            qn__problem(r->report, 2107, v, false, "capability", "expected [major, minor]");
            return;
        }
        out->capability[i] = (int)c->integer;
    }
}

static void read_keys(struct reader *r)
{
    static const char *const keys[] = { "name", "memory", "workspace", "bandwidth", "f32", "tensor", "multiprocessors",
                                        "capability" };
    enum { N = sizeof keys / sizeof keys[0] };
    for (const struct qn__json *c = r->root->child; c; c = c->next) {
        bool known = false;
        for (int i = 0; i < N; i++) known = known || strcmp(keys[i], c->key) == 0;
        if (known) continue;
        int near = qn__nearest(c->key, keys, N);
        qn__problem(r->report, 2105, c, true, c->key, near < 0 ? "unknown key%s" : "unknown key; did you mean \"%s\"?",
                    near < 0 ? "" : keys[near]);
    }
}

static void read_gpu(struct reader *r, qn_gpu *out)
{
    read_keys(r);
    read_name(r, out);
    read_capability(r, out);
    out->memory = (int64_t)number(r, "memory", 1e8, 1e15);
    out->workspace = (int64_t)number(r, "workspace", 0, 1e12);
    out->bandwidth = number(r, "bandwidth", 1e9, 1e15);
    out->f32 = number(r, "f32", 1e9, 1e18);
    out->tensor = number(r, "tensor", 1e9, 1e18);
    out->multiprocessors = (int)number(r, "multiprocessors", 1, 100000);
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
