/* drive.c - see drive.h. */
#include "drive.h"
#include "../../core/device.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

const struct drive_on drive_cpu_f32 = { &qn__cpu_f32, NULL, false }, drive_cpu_f64 = { &qn__cpu_f64, NULL, false };

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

/* Bytes on a device, between guards if the target wants them. Values of no bytes have an address too. */
struct place {
    const struct drive_on *on;
    unsigned char *base, *data;
    size_t bytes, all;
};

static struct place device_take(const struct drive_on *on, size_t bytes, qn_error *err)
{
    size_t guard = on->guards ? GUARD : 0, all = guard + bytes + guard;
    struct place p = { .on = on, .bytes = bytes, .all = all ? all : 1 };
    unsigned char *pattern = malloc(all + 1);
    void *base = NULL;
    assert_non_null(pattern);
    memset(pattern, GUARD_BYTE, all);
    if (on->backend->device->take(on->device, &base, p.all, err) ||
        (guard && on->backend->device->put(on->device, base, pattern, all, err)))
        fail_msg("%s", err->text);
    free(pattern);
    p.base = base;
    p.data = p.base + guard;
    return p;
}

static bool device_intact(const struct place *p, qn_error *err)
{
    unsigned char seen[2 * GUARD];
    const struct qn__device_api *api = p->on->backend->device;
    if (!p->on->guards) return true;
    if (api->get(p->on->device, seen, p->base, GUARD, err) ||
        api->get(p->on->device, seen + GUARD, p->data + p->bytes, GUARD, err))
        return true; /* the device is gone: that is told as such */
    for (int i = 0; i < 2 * GUARD; i++)
        if (seen[i] != GUARD_BYTE) return false;
    return true;
}

static void device_give(const struct place *p) { p->on->backend->device->give(p->on->device, p->base, p->all); }

/* The device's copy of a block of the test's memory. */
struct twin {
    const struct drive_memory *host;
    struct place there;
};
struct twins {
    const struct drive_on *on;
    const struct drive_memory *owner;
    int n_owners, n;
    struct twin at[QN_MAX_IN + 1 + QN_MAX_MORE];
};

static bool holds(const struct drive_memory *m, const unsigned char *p)
{
    return m->base && p >= m->data && p <= m->data + m->bytes;
}

/* The device's address for the test's, which becomes known there if it is not yet. A result's memory is not filled on a
 * checking device: that knows what nobody has written, and says so when it is copied back. */
static void *bring(struct twins *w, unsigned char *p, bool result, qn_error *err)
{
    const struct qn__device_api *api = w->on->backend->device;
    for (int i = 0; i < w->n; i++)
        if (holds(w->at[i].host, p)) return w->at[i].there.data + (p - w->at[i].host->data);
    for (int i = 0; i < w->n_owners; i++) {
        if (!holds(&w->owner[i], p)) continue;
        struct twin *t = &w->at[w->n++];
        t->host = &w->owner[i];
        t->there = device_take(w->on, t->host->bytes, err);
        if ((w->on->guards || !result) && api->put(w->on->device, t->there.data, t->host->data, t->host->bytes, err))
            fail_msg("%s", err->text);
        return t->there.data + (p - t->host->data);
    }
    fail_msg("%s: a view points into memory that the test did not name", w->on->backend->name);
    return NULL;
}

/* Copies everything back and gives it up; QN_OK, or what the device answers. */
static qn_status bring_back(struct twins *w, const struct qn__step *s, qn_error *err)
{
    qn_status status = QN_OK;
    bool intact = true;
    for (int i = 0; i < w->n; i++) {
        struct twin *t = &w->at[i];
        qn_status got = w->on->backend->device->get(w->on->device, t->host->data, t->there.data, t->host->bytes, err);
        if (!status) status = got;
        intact = intact && (status || device_intact(&t->there, err));
        device_give(&t->there);
    }
    if (!intact)
        fail_msg("%s: opcode %d, variant %d wrote outside its operands and results", w->on->backend->name,
                 (int)s->args.op, (int)s->choice.variant);
    return status;
}

static qn_status launch_on_device(const struct drive_on *on, struct qn__step *s, const struct drive_memory *owner,
                                  int n_owners, int launches, qn_error *err)
{
    struct twins w = { .on = on, .owner = owner, .n_owners = n_owners };
    struct qn__step host = *s;
    struct place work = { 0 };
    for (int i = 0; i < s->args.n_in; i++) s->args.x[i].data = bring(&w, host.args.x[i].data, false, err);
    s->args.y.data = bring(&w, host.args.y.data, true, err);
    for (int i = 0; i < QN_MAX_MORE; i++)
        if (s->args.wanted >> i & 1) s->args.more[i].data = bring(&w, host.args.more[i].data, true, err);
    struct qn__fault fault;
    if (s->choice.workspace) work = device_take(on, s->choice.workspace, err);
    s->workspace = work.data;
    qn_status status = launch(s, launches, err), done = on->backend->device->wait(on->device, &fault, err);
    if (!done && fault.position) done = qn__fault_fail(s->args.op, &fault, err);
    if (!status && !done && work.base && !device_intact(&work, err))
        fail_msg("%s: opcode %d, variant %d wrote outside its workspace of %zu bytes", on->backend->name,
                 (int)s->args.op, (int)s->choice.variant, work.bytes);
    if (work.base) device_give(&work);
    qn_status back = bring_back(&w, s, done ? NULL : err);
    s->args = host.args;
    return status ? status : done ? done : back;
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
