/* stream.cpp - the order of work.
 *
 * Lazy: nothing runs before the program's own synchronisation demands it, and then only what that synchronisation
 * covers; so what is ordered by luck alone happens too late. Eager: everything runs at once. Mixed: some streams are
 * eager, so that they run ahead of the others as far as events let them. A program that gives the same results in all of
 * them has said all that it needs. */
#include "stream.h"
#include "memory.h"
#include "runtime.h"
#include <time.h>

namespace cudasim
{

std::vector<Stream *> streams;
static Stream *legacy[MAX_DEVICES];

double now_ms()
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

Stream *new_stream(int device, bool blocking)
{
    Stream *s = new Stream();
    s->eager = settings.streams == EAGER ||
               (settings.streams == MIXED && settings.eager_streams >> streams.size() % 32 & 1);
    s->device = device;
    s->blocking = blocking;
    s->alive = true;
    streams.push_back(s);
    return s;
}

Stream *legacy_stream(int device)
{
    if (!legacy[device]) legacy[device] = new_stream(device, false);
    return legacy[device];
}
Stream *existing_legacy_stream(int device) { return legacy[device]; }

Stream *stream_of(cudaStream_t handle)
{
    if (!handle || handle == cudaStreamLegacy) return legacy_stream(current_device());
    if (handle == cudaStreamPerThread) return nullptr; /* not provided */
    for (Stream *s : streams)
        if (s == (Stream *)handle) return s->alive ? s : nullptr;
    return nullptr;
}

/* ---- running ---------------------------------------------------------------------------------------------- */

static bool advance(Stream *s, uint64_t at)
{
    while (s->done < at) {
        Work *w = &s->queue.front();
        for (const Point &p : w->after)
            if (!advance(p.stream, p.at)) return false;
        if (!w->run()) return false;
        s->done++;
        s->queue.pop_front();
    }
    return true;
}

/* One piece of work of any stream that can run; false: none can. */
static bool advance_any()
{
    bool moved = false;
    for (size_t i = 0; i < streams.size(); i++) {
        uint64_t before = streams[i]->done;
        if (before < streams[i]->pushed) {
            advance(streams[i], before + 1);
            moved |= streams[i]->done > before;
        }
    }
    return moved;
}

bool try_any()
{
    OpenMemory open;
    return advance_any();
}

void try_one(Stream *s)
{
    OpenMemory open;
    if (!advance(s, s->done + 1) && !advance_any()) let_others_in();
}

cudaError_t finish(Stream *s, uint64_t at)
{
    double since = now_ms();
    OpenMemory open; /* once for all that runs */
    while (!advance(s, at)) {
        /* Something waits for a peer: another stream of this process, another thread, another process. */
        if (advance_any()) {
            since = now_ms();
            continue;
        }
        if (now_ms() - since > settings.patience * 1e3) {
            report("deadlock: %s on a stream of device %d has waited %d seconds", s->queue.front().what, s->device,
                   settings.patience);
            break_device(s->device, cudaErrorLaunchTimeout);
            s->done = s->pushed;
            s->queue.clear();
            break;
        }
        let_others_in();
    }
    return device_state(s->device);
}

cudaError_t finish_device(int device)
{
    for (size_t i = 0; i < streams.size(); i++)
        if (streams[i]->device == device) finish(streams[i], streams[i]->pushed);
    return device_state(device);
}

cudaError_t finish_all()
{
    cudaError_t answer = cudaSuccess;
    for (size_t i = 0; i < streams.size(); i++) {
        cudaError_t e = finish(streams[i], streams[i]->pushed);
        if (e) answer = e;
    }
    return answer;
}

/* ---- enqueueing --------------------------------------------------------------------------------------------- */

static void push(Stream *s, const char *what, Run run, std::vector<Point> after)
{
    Stream *null = legacy_stream(s->device);
    if (s == null) {
        for (Stream *t : streams)
            if (t->blocking && t->device == s->device && t->done < t->pushed) after.push_back({ t, t->pushed });
    } else if (s->blocking && null->done < null->pushed) {
        after.push_back({ null, null->pushed });
    }
    s->queue.push_back({ std::move(after), std::move(run), what });
    s->pushed++;
    if (s->eager) advance(s, s->pushed);
}

/* The legacy stream may not be used while a stream that it waits for is being captured. */
static bool disturbs_capture(const Stream *s)
{
    if (s != legacy_stream(s->device)) return false;
    bool found = false;
    for (Stream *t : streams) {
        if (!t->capture || !t->blocking || t->device != s->device) continue;
        t->capture->spoiled = true;
        found = true;
    }
    return found;
}

cudaError_t enqueue(Stream *s, const char *what, Run run)
{
    if (s->capture) {
        if (s->capture->spoiled) return cudaErrorStreamCaptureInvalidated;
        add_node(s, what, std::move(run));
        return cudaSuccess;
    }
    if (disturbs_capture(s)) return cudaErrorStreamCaptureImplicit;
    push(s, what, std::move(run), {});
    return cudaSuccess;
}

/* ---- events --------------------------------------------------------------------------------------------------- */

cudaError_t record_event(Stream *s, Event *e)
{
    if (s->capture && s->capture->spoiled) return cudaErrorStreamCaptureInvalidated;
    if (disturbs_capture(s)) return cudaErrorStreamCaptureImplicit;
    e->recorded = true;
    e->capture = 0;
    if (s->capture) {
        e->capture = s->capture->id;
        e->nodes = s->tails;
        return cudaSuccess;
    }
    std::shared_ptr<double> when = e->when;
    push(s, "cudaEventRecord",
         [when] {
             *when = now_ms();
             return true;
         },
         {});
    e->point = { s, s->pushed };
    return cudaSuccess;
}

static void join(Stream *s, Capture *c, const Event *e)
{
    if (!s->capture) {
        s->capture = c;
        s->tails.clear();
        c->member.push_back(s);
    }
    for (int n : e->nodes) {
        bool there = false;
        for (int t : s->tails) there |= t == n;
        if (!there) s->tails.push_back(n);
    }
}

cudaError_t wait_for_event(Stream *s, Event *e)
{
    if (!e->recorded) return cudaSuccess;
    if (e->capture) {
        Capture *c = capture_by_id(e->capture);
        if (!c) return cudaErrorCapturedEvent; /* recorded in a capture that has ended */
        if (s == legacy_stream(s->device)) return cudaErrorStreamCaptureImplicit;
        if (s->capture && s->capture != c) {
            s->capture->spoiled = c->spoiled = true;
            return cudaErrorStreamCaptureMerge;
        }
        join(s, c, e);
        return cudaSuccess;
    }
    if (s->capture) {
        s->capture->spoiled = true;
        return cudaErrorStreamCaptureIsolation;
    }
    if (e->point.stream->done < e->point.at) push(s, "cudaStreamWaitEvent", [] { return true; }, { e->point });
    return cudaSuccess;
}

} // namespace cudasim
