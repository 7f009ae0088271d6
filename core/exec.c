/* exec.c - loading a program and running it: a loop of calls over fixed addresses. */
#include "program.h"
#include "rerun.h"
#include "threads.h"
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

/* ---- loading ------------------------------------------------------------------------------------- */

static const struct qn__slot *slot_of(const qn_program *p, int32_t i)
{
    const struct qn__slot *s = &p->slot[i];
    while (s->root != i) {
        i = s->root;
        s = &p->slot[i];
    }
    return s;
}

void *qn__program_address(const qn_program *p, int32_t i, int slot)
{
    const struct qn__slot *s = slot_of(p, i);
    if (s->place == QN_PLACE_STORE) {
        const struct qn__tensor *t = qn__store_find(p->store, p->g->node[s - p->slot].name);
        return t ? t->device : NULL;
    }
    if (!p->raw || s->place == QN_PLACE_NONE) return NULL;
    if (s->place == QN_PLACE_WORK) return p->work_at + s->offset;
    return p->gpu ? qn__gpu_io(p, s->offset, slot) : p->io_at + s->offset;
}

static void fill_constant(const struct qn__node *y, char *at)
{
    size_t size = qn_dtype_size(y->dtype);
    if (y->op == QN_OP_constant) {
        if (y->count) memcpy(at, y->data, (size_t)y->count * size);
    } else if (y->op == QN_OP_full && y->count) {
        const struct qn__full_attr *attr = y->attr;
        qn_convert(at, y->dtype, &attr->value, QN_F64, 1);
        for (int64_t i = 1; i < y->count; i++) memcpy(at + (size_t)i * size, at, size);
    }
}

/* What does not change from run to run is written once, into the host's io. */
static void fill_constants(qn_program *p)
{
    for (int32_t i = 1; i < p->g->n; i++) {
        const struct qn__node *y = &p->g->node[i];
        const struct qn__slot *s = &p->slot[i];
        if ((y->op == QN_OP_full || y->op == QN_OP_constant) && s->place == QN_PLACE_IO)
            fill_constant(y, p->io_at + s->offset);
    }
}

/* The `output` nodes of a step are in its phase and come after it. */
static void *further_result(const qn_program *p, int32_t k, int index, int slot)
{
    for (int32_t j = k + 1; j < p->n_order; j++) {
        const struct qn__node *y = qn__program_node(p, j);
        if (y->op == QN_OP_output && y->in[0] == p->order[k] &&
            ((const struct qn__output_attr *)y->attr)->index == index)
            return qn__program_address(p, p->order[j], slot);
    }
    return NULL;
}

static qn_status bind_steps(qn_program *p, struct qn__step *steps, int slot, qn_error *err)
{
    for (int32_t k = 0; k < p->n_order; k++) {
        struct qn__step *s = &steps[k];
        const struct qn__node *y = qn__program_node(p, k);
        const struct qn__slot *w = &p->slot[p->g->n + k];
        s->args.y.data = qn__program_address(p, p->order[k], slot);
        for (int i = 0; i < y->n_in; i++) s->args.x[i].data = qn__program_address(p, y->in[i], slot);
        for (int i = 0; i < QN_MAX_MORE; i++)
            if (s->args.wanted >> i & 1) s->args.more[i].data = further_result(p, k, i, slot);
        if (w->place == QN_PLACE_WORK) s->workspace = p->work_at + w->offset;
        if (s->kernel && s->kernel->bind) QN_TRY(s->kernel->bind(s, err));
    }
    return QN_OK;
}

/* Without a store the work arena is the program's own, behind io; beside a GPU the host has only io. */
static qn_status take_memory(qn_program *p, qn_error *err)
{
    size_t bytes = p->io;
    bool own_work = !p->store && !p->gpu;
    if (own_work && !qn__add(&bytes, bytes, p->work)) return qn__nomem(err, "program", SIZE_MAX);
    if (!qn__add(&bytes, bytes, QN_ALIGN)) return qn__nomem(err, "program", SIZE_MAX);
    if (p->store) QN_TRY(qn__store_work(p->store, p->work, &p->work_at, err));
    p->raw = qn__calloc(&p->alloc, bytes, 1);
    if (!p->raw) return qn__nomem(err, "program", bytes);
    p->raw_bytes = bytes;
    p->io_at = (char *)(((uintptr_t)p->raw + QN_ALIGN - 1) & ~(uintptr_t)(QN_ALIGN - 1));
    if (own_work) p->work_at = p->io_at + p->io;
    fill_constants(p);
    return QN_OK;
}

/* Once for all programs of a store: a second trial would ask for threads beside those that are there already. */
static qn_status start_threads(qn_program *p, qn_error *err)
{
    if (p->store && p->store->threads >= p->threads) return QN_OK;
    QN_TRY(qn__threads_start(p->threads, err));
    if (p->store) p->store->threads = p->threads;
    return QN_OK;
}

/* A program that could not be loaded can be tried again. */
static void unload(qn_program *p)
{
    qn__gpu_unload(p);
    qn__free(&p->alloc, p->raw, p->raw_bytes);
    p->raw = NULL;
    p->raw_bytes = 0;
}

qn_status qn_program_load(qn_program *p, qn_error *err)
{
    if (p->raw) return QN_OK;
    if (p->outline) return qn__fail(err, 2206, NULL, "the program is an outline; expected one compiled to be run");
    if (p->described) return qn__fail(err, 2206, NULL, "planned for a described GPU; expected one compiled to be run");
    if (!p->gpu) QN_TRY(start_threads(p, err));
    p->process = getpid();
    if (p->store) QN_TRY(qn__store_allocate(p->store, err));
    qn_status status = take_memory(p, err);
    if (!status && p->gpu) status = qn__gpu_take(p, err);
    if (!status) status = bind_steps(p, p->step, 0, err);
    if (!status && p->gpu) status = bind_steps(p, p->step_1, 1, err);
    if (!status && p->gpu) status = qn__gpu_load(p, err);
    if (status) unload(p);
    return status;
}

/* ---- running ------------------------------------------------------------------------------------- */

/* Under AddressSanitizer the ranges of dead values are poisoned, so that a mistake in the plan names the kernel and
 * the line that reads them. */
static void wake(const qn_program *p, int32_t k)
{
    (void)p;
    (void)k;
#if defined(__SANITIZE_ADDRESS__)
    const struct qn__slot *s = slot_of(p, p->order[k]), *w = &p->slot[p->g->n + k];
    if (s->place == QN_PLACE_WORK) ASAN_UNPOISON_MEMORY_REGION(p->work_at + s->offset, s->bytes);
    if (w->place == QN_PLACE_WORK) ASAN_UNPOISON_MEMORY_REGION(p->work_at + w->offset, w->bytes);
    const struct qn__args *a = &p->step[k].args;
    for (int i = 0; i < QN_MAX_MORE; i++)
        if (a->more[i].data)
            ASAN_UNPOISON_MEMORY_REGION(a->more[i].data, (size_t)a->more[i].count * qn_dtype_size(a->more[i].dtype));
#endif
}

static void bury(const qn_program *p, int32_t k)
{
    (void)p;
    (void)k;
#if defined(__SANITIZE_ADDRESS__)
    const struct qn__node *y = qn__program_node(p, k);
    const struct qn__slot *w = &p->slot[p->g->n + k];
    for (int i = 0; i < y->n_in; i++) {
        const struct qn__slot *x = slot_of(p, y->in[i]);
        if (x->place == QN_PLACE_WORK && x->last == k) ASAN_POISON_MEMORY_REGION(p->work_at + x->offset, x->bytes);
    }
    if (w->place == QN_PLACE_WORK) ASAN_POISON_MEMORY_REGION(p->work_at + w->offset, w->bytes);
#endif
}

static qn_status launch(const qn_program *p, int32_t k, qn_error *err)
{
    const struct qn__step *s = &p->step[k];
    if (!s->kernel) return QN_OK;
    wake(p, k);
    double start = p->timing ? qn__now() : 0;
    qn_status status = s->kernel->launch(s, err);
    if (p->timing) {
        qn_step_timing *t = &p->timing[k];
        t->start = start;
        t->last = qn__now() - start;
        t->seconds += t->last;
        t->runs++;
    }
    bury(p, k);
    return status;
}

qn_status qn_program_profile(qn_program *p, bool on, qn_error *err)
{
    size_t n = (size_t)p->g->n;
    qn__free(&p->alloc, p->timing, n * sizeof *p->timing);
    qn__free(&p->alloc, p->device_timing, n * sizeof *p->device_timing);
    p->timing = on ? qn__calloc(&p->alloc, n, sizeof *p->timing) : NULL;
    p->device_timing = on && p->gpu ? qn__calloc(&p->alloc, n, sizeof *p->device_timing) : NULL;
    if (!on || (p->timing && (!p->gpu || p->device_timing))) return QN_OK;
    qn__free(&p->alloc, p->timing, n * sizeof *p->timing); /* half of it is worth nothing */
    p->timing = NULL;
    return qn__nomem(err, "profile", n * sizeof *p->timing);
}

/* After a fork OpenMP of the child would wait for ever for threads that only its parent has. */
static qn_status check_loaded(const qn_program *p, qn_error *err)
{
    if (!p->raw) return qn__fail(err, 2206, NULL, "the program is not loaded; expected qn_program_load before");
    if ((p->threads > 1 || p->gpu) && p->process != getpid())
        return qn__fail(err, 2206, NULL,
                        "the program was loaded before a fork; expected one that this process has "
                        "loaded, on a thread of its own, or one that runs on 1 thread");
    return QN_OK;
}

qn_status qn_program_run(qn_program *p, qn_phase phase, qn_error *err)
{
    QN_TRY(check_loaded(p, err));
    if (p->gpu) return qn__gpu_run(p, phase, err);
    int32_t begin = phase == QN_MICRO ? 0 : p->n_micro, end = phase == QN_MICRO ? p->n_micro : p->n_order;
    int before = omp_get_max_threads();
    if (before != p->threads) omp_set_num_threads(p->threads);
    if (phase == QN_MICRO && p->rng) memcpy(p->rng_before, p->rng->entry.data, sizeof p->rng_before);
    qn_status status = QN_OK;
    for (int32_t k = begin; k < end && !status; k++) status = launch(p, k, err);
    if (before != p->threads) omp_set_num_threads(before);
    return status;
}

qn_status qn_program_wait(qn_program *p, qn_phase phase, int ago, qn_error *err)
{
    QN_TRY(check_loaded(p, err));
    return p->gpu ? qn__gpu_wait(p, phase, ago, err) : QN_OK;
}

int qn_program_lag(const qn_program *p) { return p->gpu != NULL; }

const void *qn_program_past(qn_program *p, qn_t t, int ago)
{
    if (!p->raw || t.id <= 0 || t.id >= p->n_map || !p->map[t.id] || ago < 0) return NULL;
    const struct qn__slot *s = slot_of(p, p->map[t.id]);
    if (s->place == QN_PLACE_WORK || (ago > 0 && !p->gpu)) return NULL;
    return p->gpu ? qn__gpu_past(p, (int32_t)(s - p->slot), ago) : qn__program_address(p, p->map[t.id], 0);
}

void *qn_program_data(qn_program *p, qn_t t) { return (void *)(uintptr_t)qn_program_past(p, t, 0); }

/* ---- finding the first non-finite value ------------------------------------------------------------ */

static bool all_finite(const struct qn__view *v)
{
    size_t size = qn_dtype_size(v->dtype);
    for (int64_t i = 0; i < v->count; i++) {
        double x;
        if (!qn_dtype_is_float(v->dtype)) return true;
        qn_convert(&x, QN_F64, (const char *)v->data + (size_t)i * size, v->dtype, 1);
        if (!isfinite(x)) return false;
    }
    return true;
}

static bool results_finite(const struct qn__args *a)
{
    bool finite = all_finite(&a->y);
    for (int i = 0; i < QN_MAX_MORE; i++) finite = finite && (!a->more[i].data || all_finite(&a->more[i]));
    return finite;
}

static bool operands_finite(const struct qn__args *a)
{
    for (int i = 0; i < a->n_in; i++)
        if (!all_finite(&a->x[i])) return false;
    return true;
}

static qn_status search_nonfinite(qn_program *p, int32_t *found, qn_error *err)
{
    for (int32_t k = 0; k < p->n_micro; k++) {
        const struct qn__args *a = &p->step[k].args;
        if (a->writes) continue;         /* the run before has done these writes; they must not happen twice */
        bool sound = operands_finite(a); /* before the launch: the result may take an operand's place */
        QN_TRY(launch(p, k, err));
        bool own = !qn__op_of(a->op)->alias && a->op != QN_OP_output; /* else another step's result */
        if (sound && own && !results_finite(a)) {
            *found = k;
            return QN_OK;
        }
    }
    return QN_OK;
}

/* On the CPU, with the same dropout masks as in the run that went wrong. */
static qn_status find_nonfinite(qn_program *p, const int64_t *rng, int32_t *found, qn_error *err)
{
    int64_t rng_now[4];
    int before = omp_get_max_threads();
    omp_set_num_threads(p->threads);
    if (p->rng) {
        memcpy(rng_now, p->rng->entry.data, sizeof rng_now);
        memcpy(p->rng->entry.data, rng ? rng : p->rng_before, sizeof rng_now);
    }
    qn_status status = search_nonfinite(p, found, err);
    if (p->rng) memcpy(p->rng->entry.data, rng_now, sizeof rng_now);
    omp_set_num_threads(before);
    return status;
}

static qn_status search(qn_program *p, int ago, const int64_t *rng, char *where, size_t size, qn_error *err)
{
    int32_t found = -1;
    if (size) where[0] = 0;
    QN_TRY(check_loaded(p, err));
    QN_TRY(p->gpu ? qn__gpu_find_nonfinite(p, ago, rng, &found, err) : find_nonfinite(p, rng, &found, err));
    if (found >= 0 && size)
        snprintf(where, size, "%s: %s", qn__program_node(p, found)->name,
                 qn__op_of(qn__program_node(p, found)->op)->name);
    return QN_OK;
}

qn_status qn_program_find_nonfinite(qn_program *p, const int64_t *rng, char *where, size_t size, qn_error *err)
{
    return search(p, 0, rng, where, size, err);
}

qn_status qn__find_nonfinite_past(qn_program *p, int ago, char *where, size_t size, qn_error *err)
{
    return search(p, ago, NULL, where, size, err);
}

qn_status qn__repeat_micro(qn_program *p, qn_error *err)
{
    QN_TRY(check_loaded(p, err));
    return p->gpu ? qn__gpu_repeat(p, err) : QN_OK;
}
