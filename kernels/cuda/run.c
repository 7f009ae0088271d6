/* run.c - the runs of a program: batches on their way up, kernels, values on their way down.
 *
 *   up        wait worked[slot], copy staged[slot] -> input[slot], record arrived[slot]
 *   compute   wait arrived[slot] and left[..][slot], the kernels of the phase, record ran[phase] and worked[slot]
 *   down      wait ran[phase], copy kept[slot] and the fault -> ring, record fetched[..] and left[..][slot]
 *
 * So the batch of the next run arrives, and the values of the run before leave, while a run works; nothing waits on
 * the host but for a pinned buffer of two runs ago. Copies stay outside the captured graphs, of which each slot has
 * its own. An update works in the slot of the micro run before it. */
#include "run.h"
#include <stdint.h>
#include <string.h>

#define CALL(call, ...) QN_TRY(qn__cuda_check(call(__VA_ARGS__), #call, NULL, err))

/* ---- opening and closing -------------------------------------------------------------------------------------- */

static qn_status make_event(cudaEvent_t *out, unsigned flags, qn_error *err)
{
    CALL(cudaEventCreateWithFlags, out, flags);
    return QN_OK;
}

static qn_status make_events(struct qn__runs *r, qn_error *err)
{
    const unsigned flags = cudaEventDisableTiming;
    for (int slot = 0; slot < QN_SLOTS; slot++) {
        QN_TRY(make_event(&r->arrived[slot], flags, err));
        QN_TRY(make_event(&r->worked[slot], flags, err));
    }
    for (int phase = 0; phase < PHASES; phase++) {
        QN_TRY(make_event(&r->ran[phase], flags, err));
        for (int i = 0; i < QN_PAST; i++) QN_TRY(make_event(&r->fetched[phase][i], flags, err));
        for (int slot = 0; slot < QN_SLOTS; slot++) QN_TRY(make_event(&r->left[phase][slot], flags, err));
    }
    return QN_OK;
}

static qn_status open_runs(struct qn__runs *r, qn_error *err)
{
    struct qn__device *d = r->device;
    QN_TRY(qn__cuda_enter(d, err));
    QN_TRY(qn__cuda_check(cudaMalloc((void **)&r->fault, sizeof *r->fault), "cudaMalloc", NULL, err));
    CALL(cudaMemsetAsync, r->fault, 0, sizeof *r->fault, d->compute);
    r->queue = (struct qn__queue){
        .stream = d->compute, .lt = d->lt, .dnn = &d->dnn, .sync = d->sync, .fault = r->fault
    };
    return make_events(r, err);
}

qn_status qn__runs_open(struct qn__runs **out, struct qn__device *d, bool plain, qn_error *err)
{
    *out = NULL;
    struct qn__runs *r = qn__calloc(&d->alloc, 1, sizeof *r);
    if (!r) return qn__nomem(err, "runs", sizeof *r);
    r->device = d;
    r->plain = plain || d->plain;
    qn_status status = open_runs(r, err);
    if (status)
        qn__runs_close(r);
    else
        *out = r;
    return status;
}

static void drop_event(cudaEvent_t event)
{
    if (event) cudaEventDestroy(event);
}

static void drop_events(struct qn__runs *r)
{
    for (int slot = 0; slot < QN_SLOTS; slot++) {
        drop_event(r->arrived[slot]);
        drop_event(r->worked[slot]);
    }
    for (int phase = 0; phase < PHASES; phase++) {
        drop_event(r->ran[phase]);
        for (int i = 0; i < QN_PAST; i++) drop_event(r->fetched[phase][i]);
        for (int slot = 0; slot < QN_SLOTS; slot++) drop_event(r->left[phase][slot]);
    }
    for (int32_t k = 0; r->mark && k <= r->load.n_steps; k++) drop_event(r->mark[k]);
}

void qn__runs_close(struct qn__runs *r)
{
    struct qn__device *d = r->device;
    qn__cuda_sync(d, NULL); /* whatever comes of it: nothing runs any more */
    qn__replay_free(r);
    drop_events(r);
    if (r->pinned) cudaFreeHost(r->pinned);
    if (r->fault) cudaFree(r->fault);
    cudaGetLastError();
    qn__free(&d->alloc, r->mark, ((size_t)r->load.n_steps + 1) * sizeof *r->mark);
    qn__free(&d->alloc, r, sizeof *r);
}

const struct qn__queue *qn__runs_queue(const struct qn__runs *r) { return &r->queue; }

/* ---- loading -------------------------------------------------------------------------------------------------- */

/* Parts of the pinned block; kept values and inputs are multiples of QN_ALIGN in size. */
static void lay_out(struct qn__runs *r)
{
    const struct qn__load *l = &r->load;
    char *at = r->pinned;
    for (int slot = 0; slot < QN_SLOTS; slot++, at += l->input_bytes) r->staged[slot] = at;
    for (int phase = 0; phase < PHASES; phase++)
        for (int i = 0; i < QN_PAST; i++, at += l->kept_bytes[phase]) r->ring[phase][i] = at;
    for (int phase = 0; phase < PHASES; phase++)
        for (int i = 0; i < QN_PAST; i++, at += sizeof(struct qn__fault))
            r->ring_fault[phase][i] = (struct qn__fault *)(void *)at;
}

qn_status qn__runs_load(struct qn__runs *r, const struct qn__load *load, qn_error *err)
{
    size_t bytes = qn__pinned_bytes(load);
    QN_TRY(qn__cuda_enter(r->device, err));
    if (!r->pinned) {
        QN_TRY(qn__cuda_check(cudaMallocHost((void **)&r->pinned, bytes), "cudaMallocHost", NULL, err));
        memset(r->pinned, 0, bytes);
    }
    qn__replay_free(r); /* of a load that failed */
    memset(r->graph, 0, sizeof r->graph);
    r->load = *load;
    lay_out(r);
    return qn__replay_load(r, err);
}

/* ---- running -------------------------------------------------------------------------------------------------- */

static qn_status send_batch(struct qn__runs *r, int slot, qn_error *err)
{
    const struct qn__load *l = &r->load;
    cudaStream_t up = r->device->up;
    if (!l->input_bytes) return QN_OK;
    CALL(cudaEventSynchronize, r->arrived[slot]); /* of two runs ago */
    memcpy(r->staged[slot], l->input_host, l->input_bytes);
    CALL(cudaStreamWaitEvent, up, r->worked[slot], 0);
    CALL(cudaMemcpyAsync, l->input[slot], r->staged[slot], l->input_bytes, cudaMemcpyHostToDevice, up);
    CALL(cudaEventRecord, r->arrived[slot], up);
    CALL(cudaStreamWaitEvent, r->queue.stream, r->arrived[slot], 0);
    return QN_OK;
}

static qn_status fetch_kept(struct qn__runs *r, int phase, int slot, qn_error *err)
{
    const struct qn__load *l = &r->load;
    cudaStream_t down = r->device->down;
    int entry = (int)(r->started[phase] % QN_PAST);
    CALL(cudaEventRecord, r->ran[phase], r->queue.stream);
    CALL(cudaStreamWaitEvent, down, r->ran[phase], 0);
    if (l->kept_bytes[phase])
        CALL(cudaMemcpyAsync, r->ring[phase][entry], l->kept[slot][phase], l->kept_bytes[phase], cudaMemcpyDeviceToHost,
             down);
    CALL(cudaMemcpyAsync, r->ring_fault[phase][entry], r->fault, sizeof *r->fault, cudaMemcpyDeviceToHost, down);
    CALL(cudaEventRecord, r->fetched[phase][entry], down);
    CALL(cudaEventRecord, r->left[phase][slot], down);
    CALL(cudaEventRecord, r->worked[slot], r->queue.stream);
    return QN_OK;
}

static qn_status start(struct qn__runs *r, int phase, bool marked, qn_error *err)
{
    int slot = phase == MICRO ? (int)(r->started[MICRO] % QN_SLOTS) : r->slot;
    QN_TRY(qn__cuda_enter(r->device, err));
    if (phase == MICRO) QN_TRY(send_batch(r, slot, err));
    CALL(cudaStreamWaitEvent, r->queue.stream, r->left[phase][slot], 0);
    QN_TRY(marked ? qn__replay_marked(r, phase, slot, err) : qn__replay(r, phase, slot, err));
    QN_TRY(fetch_kept(r, phase, slot, err));
    r->slot = slot;
    r->started[phase]++;
    return QN_OK;
}

qn_status qn__runs_start(struct qn__runs *r, int phase, qn_error *err) { return start(r, phase, false, err); }

int qn__runs_slot(const struct qn__runs *r, int ago) { return (r->slot + ago) % QN_SLOTS; }

/* ---- results -------------------------------------------------------------------------------------------------- */

/* A fault is told once: the runs under way have copies of it. */
static qn_status clear_fault(struct qn__runs *r, qn_error *err)
{
    QN_TRY(qn__cuda_sync(r->device, err));
    for (int phase = 0; phase < PHASES; phase++)
        for (int i = 0; i < QN_PAST; i++) memset(r->ring_fault[phase][i], 0, sizeof(struct qn__fault));
    CALL(cudaMemsetAsync, r->fault, 0, sizeof *r->fault, r->queue.stream);
    return QN_OK;
}

qn_status qn__runs_wait(struct qn__runs *r, int phase, int ago, struct qn__fault *out, qn_error *err)
{
    int64_t run = r->started[phase] - 1 - ago;
    int entry = (int)(run % QN_PAST);
    memset(out, 0, sizeof *out);
    if (run < 0) return QN_OK;
    QN_TRY(qn__cuda_enter(r->device, err));
    CALL(cudaEventSynchronize, r->fetched[phase][entry]);
    if (!r->ring_fault[phase][entry]->position) return QN_OK;
    *out = *r->ring_fault[phase][entry];
    return clear_fault(r, err);
}

const void *qn__runs_kept(const struct qn__runs *r, int phase, int ago)
{
    int64_t run = r->started[phase] - 1 - ago;
    return run < 0 || ago >= QN_PAST ? NULL : r->ring[phase][run % QN_PAST];
}

/* ---- timing --------------------------------------------------------------------------------------------------- */

static qn_status make_marks(struct qn__runs *r, qn_error *err)
{
    size_t n = (size_t)r->load.n_steps + 1;
    if (!r->mark) r->mark = qn__calloc(&r->device->alloc, n, sizeof *r->mark);
    if (!r->mark) return qn__nomem(err, "profile", n * sizeof *r->mark);
    for (size_t i = 0; i < n; i++)
        if (!r->mark[i]) QN_TRY(make_event(&r->mark[i], cudaEventDefault, err));
    return QN_OK;
}

/* A launch for several steps is shared out by the size of what they work on. */
static void share_out(const struct qn__runs *r, int32_t k, struct qn__timing *out)
{
    const struct qn__step *step = r->load.step[0];
    double all = 0, total = out[k].seconds, start_at = out[k].start;
    for (int32_t i = k; i < k + r->group[k]; i++) all += (double)step[i].args.y.count;
    for (int32_t i = k; i < k + r->group[k]; i++) {
        out[i].start = start_at;
        out[i].seconds = all > 0 ? total * ((double)step[i].args.y.count / all) : 0;
        start_at += out[i].seconds;
    }
}

qn_status qn__runs_time(struct qn__runs *r, int phase, struct qn__timing *out, qn_error *err)
{
    int32_t begin = phase == MICRO ? 0 : r->load.n_micro, end = phase == MICRO ? r->load.n_micro : r->load.n_steps;
    QN_TRY(qn__cuda_enter(r->device, err));
    QN_TRY(make_marks(r, err));
    QN_TRY(start(r, phase, true, err));
    CALL(cudaEventSynchronize, r->mark[end]);
    for (int32_t k = begin; k < end; k++) {
        float since = 0, took = 0; /* milliseconds */
        CALL(cudaEventElapsedTime, &since, r->mark[begin], r->mark[k]);
        CALL(cudaEventElapsedTime, &took, r->mark[k], r->mark[k + 1]);
        out[k] = (struct qn__timing){ (double)since / 1e3, (double)took / 1e3 };
    }
    for (int32_t k = begin; k < end; k++)
        if (r->group[k] > 1) share_out(r, k, out);
    return QN_OK;
}
