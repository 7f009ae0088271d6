/* drive.c - see drive.h. */
#include "drive.h"
#include "../../core/device.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

const struct drive_on drive_cpu_f32 = { &qn__cpu_f32, NULL }, drive_cpu_f64 = { &qn__cpu_f64, NULL };

/* ---- memory ------------------------------------------------------------------------------------------ */

enum { GUARD = 256, GUARD_BYTE = 0x5C };

struct drive_memory drive_take(size_t bytes, unsigned char fill)
{
    size_t all = (GUARD + bytes + GUARD + 255) / 256 * 256;
    struct drive_memory m = { .base = aligned_alloc(256, all), .bytes = bytes };
    assert_non_null(m.base);
    m.data = m.base + GUARD;
    memset(m.base, GUARD_BYTE, all);
    memset(m.data, fill, bytes);
    return m;
}

bool drive_intact(const struct drive_memory *m)
{
    for (size_t i = 0; m->base && i < GUARD; i++)
        if (m->base[i] != GUARD_BYTE || m->data[m->bytes + i] != GUARD_BYTE) return false;
    return true;
}

/* ---- physical order ---------------------------------------------------------------------------------- */

struct qn__view drive_view(qn_dtype dtype, int rank, const int64_t *dims, int block, void *data)
{
    struct qn__view v = { .data = data, .dtype = dtype, .rank = rank, .block = block };
    for (int i = 0; i < rank; i++) v.dim[i] = dims[i];
    assert_true(qn__count(&v.count, v.dim, rank));
    return v;
}

int64_t drive_place(const struct qn__view *v, int64_t logical)
{
    if (v->rank != 4 || v->block == QN_PLAIN) return logical;
    int64_t b = v->block, s = v->dim[2] * v->dim[3], at = logical % s;
    int64_t c = logical / s % v->dim[1], n = logical / s / v->dim[1];
    return ((n * (v->dim[1] / b) + c / b) * s + at) * b + c % b;
}

void drive_reorder(const struct qn__view *to, const struct qn__view *from)
{
    size_t size = qn_dtype_size(from->dtype);
    for (int64_t i = 0; i < from->count; i++)
        memcpy((char *)to->data + (size_t)drive_place(to, i) * size,
               (const char *)from->data + (size_t)drive_place(from, i) * size, size);
}

/* ---- a call ------------------------------------------------------------------------------------------ */

struct qn__step drive_step(const struct drive_on *on, const struct qn__args *args)
{
    struct qn__step s;
    memset(&s, 0, sizeof s);
    s.args = *args;
    s.kernel = on->backend->kernel[args->op];
    if (!s.kernel || !s.kernel->launch) fail_msg("%s: opcode %d has no kernel", on->backend->name, (int)args->op);
    if (!on->device) return s;
    s.args.gpu = on->backend->device->describe(on->device);
    s.queue = on->backend->device->queue(on->device, 0);
    return s;
}

qn_status drive_pick(struct qn__step *s)
{
    s->choice = (struct qn__choice){ .y_block = s->args.y.block };
    for (int i = 0; i < QN_MAX_IN; i++) s->choice.x_block[i] = i < s->args.n_in ? s->args.x[i].block : QN_PLAIN;
    return s->kernel->pick ? s->kernel->pick(&s->args, &s->choice) : QN_OK;
}

static qn_status launch(struct qn__step *s, int launches, qn_error *err)
{
    qn_status status = s->kernel->bind ? s->kernel->bind(s, err) : QN_OK;
    for (int i = 0; i < launches && !status; i++) status = s->kernel->launch(s, err);
    return status;
}

/* The device's copy of a block of the test's memory. */
struct twin {
    const struct drive_memory *host;
    void *memory;
};
struct twins {
    const struct drive_on *on;
    const struct drive_memory *owner;
    int n_owners, n;
    struct twin at[QN_MAX_IN + 1 + QN_MAX_MORE];
};

static size_t size_of(const struct twin *t) { return t->host->bytes ? t->host->bytes : 1; }

static bool holds(const struct drive_memory *m, const unsigned char *p)
{
    return m->base && p >= m->data && p <= m->data + m->bytes;
}

/* The device's address for the test's, which becomes known there if it is not yet. */
static void *bring(struct twins *w, unsigned char *p, qn_error *err)
{
    const struct qn__device_api *api = w->on->backend->device;
    for (int i = 0; i < w->n; i++)
        if (holds(w->at[i].host, p)) return (char *)w->at[i].memory + (p - w->at[i].host->data);
    for (int i = 0; i < w->n_owners; i++) {
        if (!holds(&w->owner[i], p)) continue;
        struct twin *t = &w->at[w->n++];
        t->host = &w->owner[i];
        if (api->take(w->on->device, &t->memory, size_of(t), err) ||
            api->put(w->on->device, t->memory, t->host->data, t->host->bytes, err))
            fail_msg("%s", err->text);
        return (char *)t->memory + (p - t->host->data);
    }
    fail_msg("%s: a view points into memory that the test did not name", w->on->backend->name);
    return NULL;
}

static qn_status launch_on_device(const struct drive_on *on, struct qn__step *s, const struct drive_memory *owner,
                                  int n_owners, int launches, qn_error *err)
{
    const struct qn__device_api *api = on->backend->device;
    struct twins w = { .on = on, .owner = owner, .n_owners = n_owners };
    struct qn__step host = *s;
    for (int i = 0; i < s->args.n_in; i++) s->args.x[i].data = bring(&w, host.args.x[i].data, err);
    s->args.y.data = bring(&w, host.args.y.data, err);
    for (int i = 0; i < QN_MAX_MORE; i++)
        if (s->args.wanted >> i & 1) s->args.more[i].data = bring(&w, host.args.more[i].data, err);
    if (s->choice.workspace && api->take(on->device, &s->workspace, s->choice.workspace, err))
        fail_msg("%s", err->text);
    struct qn__fault fault;
    qn_status status = launch(s, launches, err), done = api->wait(on->device, &fault, err);
    if (!done && fault.position) done = qn__fault_fail(s->args.op, &fault, err);
    for (int i = 0; i < w.n; i++) {
        struct twin *t = &w.at[i];
        qn_status got = api->get(on->device, t->host->data, t->memory, t->host->bytes, err);
        if (!done) done = got;
        api->give(on->device, t->memory, size_of(t));
    }
    if (s->choice.workspace) api->give(on->device, s->workspace, s->choice.workspace);
    s->args = host.args;
    return status ? status : done;
}

static qn_status launch_on_cpu(struct qn__step *s, int launches, unsigned char fill, qn_error *err)
{
    struct drive_memory work = drive_take(s->choice.workspace, fill);
    s->workspace = work.data;
    qn_status status = launch(s, launches, err);
    if (!drive_intact(&work))
        fail_msg("opcode %d, variant %d wrote outside its workspace of %zu bytes", (int)s->args.op,
                 (int)s->choice.variant, work.bytes);
    free(work.base);
    return status;
}

qn_status drive_launch(const struct drive_on *on, struct qn__step *s, const struct drive_memory *owner, int n,
                       int launches, unsigned char fill, qn_error *err)
{
    if (s->kernel->prepare) QN_TRY(s->kernel->prepare(s, err));
    qn_status status = on->device ? launch_on_device(on, s, owner, n, launches, err)
                                  : launch_on_cpu(s, launches, fill, err);
    if (s->kernel->release) s->kernel->release(s);
    s->workspace = NULL;
    return status;
}

qn_status drive(const struct drive_on *cpu, enum qn__opcode op, const void *attr, const struct qn__view *x, int n_in,
                const struct qn__view *y, int threads, qn_error *err)
{
    struct qn__args a = { .op = op, .n_in = n_in, .y = *y, .attr = attr, .threads = threads };
    for (int i = 0; i < n_in; i++) a.x[i] = x[i];
    struct qn__step s = drive_step(cpu, &a);
    QN_TRY(drive_pick(&s));
    return drive_launch(cpu, &s, NULL, 0, 1, 0xFF, err);
}
