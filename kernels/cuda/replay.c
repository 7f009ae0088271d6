/* replay.c - the kernels of a phase: launched one by one, or captured once and replayed as a CUDA graph.
 *
 * The first run of a phase launches plainly, so that libraries and the driver load what they need; then the phase is
 * captured for both slots (nothing is executed by that), and every later run replays. Capture is thread-local: threads
 * that load data do not disturb it. A replay launches the same kernels with the same arguments in the same order, so
 * its results are the plain run's to the bit. */
#include "run.h"
#include "trace.h"
#include <string.h>

/* ---- what goes into one launch ------------------------------------------------------------------------------- */

/* The bytes of a view, as addresses. */
struct span {
    uintptr_t begin, end;
};

static struct span span_of(const struct qn__view *v)
{
    uintptr_t begin = (uintptr_t)v->data;
    return (struct span){ begin, begin + (uintptr_t)v->count * qn_dtype_size(v->dtype) };
}

static bool overlap(struct span a, struct span b) { return a.begin < b.end && b.begin < a.end; }

enum { SPANS = QN_MAX_IN + 2 + QN_MAX_MORE };

/* What a step reads or writes, or only what it writes. */
static int spans_of(const struct qn__step *s, bool written, struct span out[SPANS])
{
    const struct qn__args *a = &s->args;
    uintptr_t workspace = (uintptr_t)s->workspace;
    int n = 0;
    out[n++] = span_of(&a->y);
    out[n++] = (struct span){ workspace, workspace + (workspace ? s->choice.workspace : 0) };
    for (int i = 0; i < QN_MAX_MORE; i++)
        if (a->wanted >> i & 1) out[n++] = span_of(&a->more[i]);
    for (int i = 0; i < a->n_in; i++)
        if (!written || a->writes >> i & 1) out[n++] = span_of(&a->x[i]);
    return n;
}

/* Does b read or write what a writes? */
static bool touches(const struct qn__step *a, const struct qn__step *b)
{
    struct span x[SPANS], y[SPANS];
    int n = spans_of(a, true, x), m = spans_of(b, false, y);
    for (int i = 0; i < n; i++)
        for (int k = 0; k < m; k++)
            if (overlap(x[i], y[k])) return true;
    return false;
}

/* Steps of one kernel that follow each other and do not touch what another writes. */
static int32_t group_at(const struct qn__step *step, int32_t k, int32_t end)
{
    const struct qn__kernel *kernel = step[k].kernel;
    int32_t n = 1;
    if (!kernel || !kernel->launch_many) return 1;
    for (; k + n < end && step[k + n].kernel == kernel; n++)
        for (int32_t i = k; i < k + n; i++)
            if (touches(&step[i], &step[k + n]) || touches(&step[k + n], &step[i])) return n;
    return n;
}

qn_status qn__replay_load(struct qn__runs *r, qn_error *err)
{
    const struct qn__load *l = &r->load;
    size_t n = (size_t)l->n_steps + 1;
    r->group = qn__calloc(&r->device->alloc, n, sizeof *r->group);
    r->member = qn__calloc(&r->device->alloc, n, sizeof *r->member);
    if (!r->group || !r->member) return qn__nomem(err, "schedule", n * sizeof *r->member);
    for (int32_t k = 0; k < l->n_steps;) {
        r->group[k] = group_at(l->step[0], k, k < l->n_micro ? l->n_micro : l->n_steps);
        k += r->group[k];
    }
    return QN_OK;
}

/* ---- launching ------------------------------------------------------------------------------------------------ */

static qn_status launch(struct qn__runs *r, const struct qn__step *step, int32_t n, qn_error *err)
{
    if (n == 1) return step->kernel->launch(step, err);
    for (int32_t i = 0; i < n; i++) r->member[i] = &step[i];
    return step->kernel->launch_many(r->member, n, err);
}

static qn_status enqueue_step(struct qn__runs *r, const struct qn__step *step, int32_t n, qn_error *err)
{
    qn__range_push(step->args.op);
    qn_status status = launch(r, step, n, err);
    qn__range_pop();
    if (status || !r->device->sync) return status;
    return qn__cuda_check(cudaStreamSynchronize(r->queue.stream), "cudaStreamSynchronize", step, err);
}

static qn_status enqueue(struct qn__runs *r, int phase, int slot, bool marked, qn_error *err)
{
    const struct qn__load *l = &r->load;
    cudaStream_t stream = r->queue.stream;
    int32_t begin = phase == MICRO ? 0 : l->n_micro, end = phase == MICRO ? l->n_micro : l->n_steps;
    if (phase == MICRO && l->rng)
        QN_TRY(
            qn__cuda_check(cudaMemcpyAsync(l->rng_before[slot], l->rng, l->rng_bytes, cudaMemcpyDeviceToDevice, stream),
                           "cudaMemcpyAsync", NULL, err));
    for (int32_t k = begin; k < end; k++) {
        const struct qn__step *s = &l->step[slot][k];
        if (marked) QN_TRY(qn__cuda_check(cudaEventRecord(r->mark[k], stream), "cudaEventRecord", s, err));
        if (s->kernel && r->group[k]) QN_TRY(enqueue_step(r, s, r->group[k], err));
    }
    if (!marked) return QN_OK;
    return qn__cuda_check(cudaEventRecord(r->mark[end], stream), "cudaEventRecord", NULL, err);
}

qn_status qn__replay_marked(struct qn__runs *r, int phase, int slot, qn_error *err)
{
    return enqueue(r, phase, slot, true, err);
}

/* ---- graphs --------------------------------------------------------------------------------------------------- */

static qn_status capture(struct qn__runs *r, int phase, int slot, qn_error *err)
{
    cudaStream_t stream = r->queue.stream;
    cudaGraph_t graph = NULL;
    cudaGraphExec_t exec = NULL;
    QN_TRY(qn__cuda_check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture",
                          NULL, err));
    qn_status status = enqueue(r, phase, slot, false, err);
    cudaError_t answer = cudaStreamEndCapture(stream, &graph); /* after a failure too: the stream is to be used again */
    if (!status) status = qn__cuda_check(answer, "cudaStreamEndCapture", NULL, err);
    if (!status) status = qn__cuda_check(cudaGraphInstantiate(&exec, graph, 0), "cudaGraphInstantiate", NULL, err);
    if (graph) cudaGraphDestroy(graph);
    if (!status) status = qn__cuda_check(cudaGraphUpload(exec, stream), "cudaGraphUpload", NULL, err);
    if (status) {
        if (exec) cudaGraphExecDestroy(exec);
        cudaGetLastError();
        return status;
    }
    r->graph[phase][slot] = exec;
    return QN_OK;
}

static qn_status run(struct qn__runs *r, int phase, int slot, qn_error *err)
{
    if (r->graph[phase][slot])
        return qn__cuda_check(cudaGraphLaunch(r->graph[phase][slot], r->queue.stream), "cudaGraphLaunch", NULL, err);
    QN_TRY(enqueue(r, phase, slot, false, err));
    for (int s = 0; s < QN_SLOTS && !r->plain; s++)
        if (!r->graph[phase][s]) QN_TRY(capture(r, phase, s, err));
    return QN_OK;
}

qn_status qn__replay(struct qn__runs *r, int phase, int slot, qn_error *err)
{
    qn__phase_push(phase);
    qn_status status = run(r, phase, slot, err);
    qn__range_pop();
    return status;
}

void qn__replay_free(struct qn__runs *r)
{
    size_t n = (size_t)r->load.n_steps + 1;
    for (int phase = 0; phase < PHASES; phase++)
        for (int slot = 0; slot < QN_SLOTS; slot++)
            if (r->graph[phase][slot]) cudaGraphExecDestroy(r->graph[phase][slot]);
    qn__free(&r->device->alloc, r->group, n * sizeof *r->group);
    qn__free(&r->device->alloc, r->member, n * sizeof *r->member);
}
