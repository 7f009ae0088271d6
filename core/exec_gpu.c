/* exec_gpu.c - a program on a GPU: its memory there, its runs, what comes back.
 *
 * Of io, constants are there once and everything else in QN_SLOTS slots, so that the batch of the next run arrives, and
 * the values of the run before leave, while a run works. The host has io once: what the caller fills is staged from it
 * when a run starts. How runs are enqueued and replayed is the plugin's business (kernels/cuda/run.c). */
#include "program.h"
#include <string.h>

static size_t slot_bytes(const qn_program *p) { return p->io - p->io_end.constants; }
static size_t rng_bytes(const qn_program *p) { return p->rng ? (size_t)QN_SLOTS * QN_ALIGN : 0; }

size_t qn__gpu_io_bytes(const qn_program *p) { return p->io + (QN_SLOTS - 1) * slot_bytes(p) + rng_bytes(p); }

char *qn__gpu_io(const qn_program *p, size_t offset, int slot)
{
    if (!p->device_io) return NULL;
    size_t behind = offset < p->io_end.constants ? 0 : (size_t)slot * slot_bytes(p);
    return p->device_io + offset + behind;
}

static char *rng_before(const qn_program *p, int slot)
{
    return p->rng && p->device_io ? p->device_io + p->io + (QN_SLOTS - 1) * slot_bytes(p) + (size_t)slot * QN_ALIGN
                                  : NULL;
}

/* Steps, and addresses of what is moved, of each slot. */
static struct qn__load load_of(const qn_program *p)
{
    const struct qn__io *end = &p->io_end;
    struct qn__load l = { .step = { p->step, p->step_1 },
                          .n_steps = p->n_order,
                          .n_micro = p->n_micro,
                          .input_host = p->io_at ? p->io_at + end->constants : NULL,
                          .input_bytes = end->inputs - end->constants,
                          .kept_bytes = { end->kept_micro - end->inputs, p->io - end->kept_micro },
                          .rng = p->rng ? p->rng->device : NULL,
                          .rng_bytes = p->rng ? p->rng->entry.bytes : 0 };
    for (int slot = 0; slot < QN_SLOTS; slot++) {
        l.input[slot] = qn__gpu_io(p, end->constants, slot);
        l.kept[slot][QN_MICRO] = qn__gpu_io(p, end->inputs, slot);
        l.kept[slot][QN_UPDATE] = qn__gpu_io(p, end->kept_micro, slot);
        l.rng_before[slot] = rng_before(p, slot);
    }
    return l;
}

size_t qn__gpu_host_bytes(const qn_program *p, size_t mirror)
{
    struct qn__load l = load_of(p);
    return p->io + qn__pinned_bytes(&l) + mirror;
}

/* ---- loading ---------------------------------------------------------------------------------------------- */

qn_status qn__gpu_take(qn_program *p, qn_error *err)
{
    size_t bytes = qn__gpu_io_bytes(p), steps = (size_t)p->g->n;
    void *memory;
    if (!p->store && !qn__add(&bytes, bytes, p->work)) return qn__nomem(err, "program", SIZE_MAX);
    p->step_1 = qn__calloc(&p->alloc, steps, sizeof *p->step_1);
    if (!p->step_1) return qn__nomem(err, "program", steps * sizeof *p->step_1);
    memcpy(p->step_1, p->step, steps * sizeof *p->step_1);
    QN_TRY(p->gpu->api->take(p->gpu->device, &memory, bytes, err));
    p->device_io = memory;
    p->device_bytes = bytes;
    if (!p->store) p->work_at = p->device_io + qn__gpu_io_bytes(p);
    return QN_OK;
}

qn_status qn__gpu_load(qn_program *p, qn_error *err)
{
    struct qn__load l = load_of(p);
    if (p->io_end.constants) QN_TRY(p->gpu->api->put(p->gpu->device, p->device_io, p->io_at, p->io_end.constants, err));
    return p->gpu->api->runs_load(p->runs, &l, err);
}

void qn__gpu_unload(qn_program *p)
{
    size_t steps = p->g ? (size_t)p->g->n : 0;
    if (p->device_io) p->gpu->api->give(p->gpu->device, p->device_io, p->device_bytes);
    qn__free(&p->alloc, p->step_1, steps * sizeof *p->step_1);
    p->device_io = NULL;
    p->step_1 = NULL;
}

void qn__gpu_free(qn_program *p)
{
    size_t steps = p->g ? (size_t)p->g->n : 0;
    if (p->runs) p->gpu->api->runs_close(p->runs);
    qn__gpu_unload(p);
    qn__free(&p->alloc, p->device_timing, steps * sizeof *p->device_timing);
    qn__device_close(p->gpu);
}

/* ---- running ---------------------------------------------------------------------------------------------- */

qn_status qn__fault_fail(enum qn__opcode op, const struct qn__fault *f, qn_error *err)
{
    return qn__fail(err, 3041, QN_AT_FIELD(qn__op_of(op)->name), "%s[%lld]: %lld; expected 0..%lld",
                    f->kind == QN_FAULT_TARGET ? "target" : "index", (long long)f->at, (long long)f->value,
                    (long long)f->limit - 1);
}

static qn_status check_fault(const qn_program *p, const struct qn__fault *f, qn_error *err)
{
    if (f->position < 1 || f->position > p->n_order) return QN_OK;
    return qn__fault_fail(qn__program_node(p, f->position - 1)->op, f, err);
}

/* What a call that has no error to fill has met. */
static qn_status tell_late(qn_program *p, qn_error *err)
{
    qn_status status = qn_error_status(&p->late);
    if (status && err) *err = p->late;
    p->late.code = 0;
    return status;
}

qn_status qn__gpu_wait(qn_program *p, qn_phase phase, int ago, qn_error *err)
{
    struct qn__fault fault = { 0 };
    if (ago < 0 || ago >= QN_PAST - 1)
        return qn__fail(err, 2206, QN_AT_FIELD("ago"), "%d; expected 0..%d", ago, QN_PAST - 2);
    QN_TRY(tell_late(p, err));
    QN_TRY(p->gpu->api->runs_wait(p->runs, phase, ago, &fault, err));
    return check_fault(p, &fault, err);
}

static qn_status run_timed(qn_program *p, qn_phase phase, qn_error *err)
{
    int32_t begin = phase == QN_MICRO ? 0 : p->n_micro, end = phase == QN_MICRO ? p->n_micro : p->n_order;
    double start = qn__now();
    QN_TRY(p->gpu->api->runs_time(p->runs, phase, p->device_timing, err));
    for (int32_t k = begin; k < end; k++) {
        qn_step_timing *t = &p->timing[k];
        if (!p->step[k].kernel) continue;
        t->start = start + p->device_timing[k].start;
        t->last = p->device_timing[k].seconds;
        t->seconds += t->last;
        t->runs++;
    }
    return QN_OK;
}

/* Not more than three runs are under way at a time. */
qn_status qn__gpu_run(qn_program *p, qn_phase phase, qn_error *err)
{
    QN_TRY(qn__gpu_wait(p, phase, QN_PAST - 2, err));
    return p->timing ? run_timed(p, phase, err) : p->gpu->api->runs_start(p->runs, phase, err);
}

const void *qn__gpu_past(qn_program *p, int32_t root, int ago)
{
    const struct qn__slot *s = &p->slot[root];
    const struct qn__node *y = &p->g->node[root];
    qn_error err = { 0 };
    if (s->place == QN_PLACE_STORE) {
        const qn_store_entry *e = qn_store_find(p->store, y->name);
        if (ago > 0 || !e || qn_store_pull(p->store, y->name, &err)) {
            if (err.code) p->late = err;
            return NULL;
        }
        return e->data;
    }
    if (s->offset < p->io_end.inputs) return ago ? NULL : p->io_at + s->offset;
    qn_phase phase = s->offset < p->io_end.kept_micro ? QN_MICRO : QN_UPDATE;
    if (qn__gpu_wait(p, phase, ago, &err)) {
        p->late = err;
        return NULL;
    }
    const char *kept = p->gpu->api->runs_kept(p->runs, phase, ago);
    return kept ? kept + (s->offset - (phase == QN_MICRO ? p->io_end.inputs : p->io_end.kept_micro)) : NULL;
}

/* ---- runs that have been ---------------------------------------------------------------------------------------- */

static qn_status is_finite(const qn_program *p, const struct qn__view *v, bool *finite, qn_error *err)
{
    *finite = true;
    if (!v->data || !qn_dtype_is_float(v->dtype) || v->count == 0) return QN_OK;
    return p->gpu->api->finite(p->gpu->device, v, finite, err);
}

static qn_status all_finite(const qn_program *p, const struct qn__view *v, int n, bool *finite, qn_error *err)
{
    *finite = true;
    for (int i = 0; i < n && *finite; i++) QN_TRY(is_finite(p, &v[i], finite, err));
    return QN_OK;
}

/* A step without the writes that its run has done; *bad: its operands are finite and its results are not. */
static qn_status repeat_step(const qn_program *p, const struct qn__step *s, bool look, bool *bad, qn_error *err)
{
    const struct qn__args *a = &s->args;
    bool sound = false, finite = true;
    bool own = !qn__op_of(a->op)->alias && a->op != QN_OP_output; /* else another step's result */
    *bad = false;
    if (a->writes) return QN_OK;
    if (look) QN_TRY(all_finite(p, a->x, a->n_in, &sound, err)); /* before the result may take their place */
    if (s->kernel) QN_TRY(s->kernel->launch(s, err));
    if (sound && own) QN_TRY(is_finite(p, &a->y, &finite, err));
    if (sound && own && finite) QN_TRY(all_finite(p, a->more, QN_MAX_MORE, &finite, err));
    *bad = !finite;
    return QN_OK;
}

/* The micro phase in a slot; up to the first step that is bad, if `found` is wanted. */
static qn_status repeat(qn_program *p, int slot, int32_t *found, qn_error *err)
{
    const struct qn__step *steps = slot ? p->step_1 : p->step;
    for (int32_t k = 0; k < p->n_micro; k++) {
        bool bad;
        QN_TRY(repeat_step(p, &steps[k], found != NULL, &bad, err));
        if (!bad) continue;
        *found = k;
        break;
    }
    return QN_OK;
}

static size_t state_bytes(const qn_program *p) { return p->rng ? p->rng->entry.bytes : 0; }

/* The micro phase in a slot with a random state, NULL: that of the slot's run; the present state is left as it was. */
static qn_status repeat_with(qn_program *p, int slot, const int64_t *rng, int32_t *found, qn_error *err)
{
    const struct qn__device_api *api = p->gpu->api;
    int64_t now[4], then[4];
    size_t bytes = state_bytes(p);
    if (bytes > sizeof now) return qn__fail(err, 7070, NULL, "random state of %zu bytes; expected 32", bytes);
    if (bytes) {
        QN_TRY(api->get(p->gpu->device, now, p->rng->device, bytes, err));
        QN_TRY(api->get(p->gpu->device, then, rng_before(p, slot), bytes, err));
        QN_TRY(api->put(p->gpu->device, p->rng->device, rng ? rng : then, bytes, err));
    }
    QN_TRY(repeat(p, slot, found, err));
    QN_TRY(api->wait(p->gpu->device, NULL, err));
    return bytes ? api->put(p->gpu->device, p->rng->device, now, bytes, err) : QN_OK;
}

/* rng given: with the inputs as the caller has filled them, in the slot that is not the latest run's. */
qn_status qn__gpu_find_nonfinite(qn_program *p, int ago, const int64_t *rng, int32_t *found, qn_error *err)
{
    const struct qn__device_api *api = p->gpu->api;
    int slot = api->runs_slot(p->runs, rng ? 1 : ago);
    QN_TRY(api->wait(p->gpu->device, NULL, err));
    if (rng) {
        struct qn__load l = load_of(p);
        QN_TRY(api->put(p->gpu->device, l.input[slot], l.input_host, l.input_bytes, err));
    }
    return repeat_with(p, slot, rng, found, err);
}

qn_status qn__gpu_repeat(qn_program *p, qn_error *err)
{
    return repeat_with(p, p->gpu->api->runs_slot(p->runs, 0), NULL, NULL, err);
}
