/* stream_calls.cpp - the runtime's calls for streams and events. */
#include "memory.h"
#include "runtime.h"
#include "stream.h"

using namespace cudasim;

static std::vector<Event *> events;

static Event *event_of(cudaEvent_t handle)
{
    for (Event *e : events)
        if (e == (Event *)handle) return e;
    return nullptr;
}

size_t cudasim::live_events() { return events.size(); }
size_t cudasim::live_streams()
{
    size_t n = 0;
    for (const Stream *s : streams) n += s->alive;
    for (int d = 0; d < MAX_DEVICES; d++)
        for (const Stream *s : streams) n -= s == existing_legacy_stream(d);
    return n;
}

/* ---- streams -------------------------------------------------------------------------------------------------- */

static cudaError_t create(cudaStream_t *out, unsigned flags)
{
    if (!out || flags & ~(unsigned)cudaStreamNonBlocking) return cudaErrorInvalidValue;
    *out = (cudaStream_t)new_stream(current_device(), !(flags & cudaStreamNonBlocking));
    return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t *out)
{
    Entry entry("cudaStreamCreate", cudaErrorMemoryAllocation);
    return entry.answer ? entry.answer : say(create(out, cudaStreamDefault));
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags)
{
    Entry entry("cudaStreamCreateWithFlags", cudaErrorMemoryAllocation);
    return entry.answer ? entry.answer : say(create(out, flags));
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t *out, unsigned flags, int priority)
{
    Entry entry("cudaStreamCreateWithPriority", cudaErrorMemoryAllocation);
    (void)priority; /* a hint: any number is clamped */
    return entry.answer ? entry.answer : say(create(out, flags));
}
cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
    Entry entry("cudaDeviceGetStreamPriorityRange");
    if (entry.answer) return entry.answer;
    if (least) *least = 0;
    if (greatest) *greatest = -5;
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    Entry entry("cudaStreamDestroy");
    Stream *s = stream ? stream_of(stream) : nullptr;
    if (!s) return say(cudaErrorInvalidResourceHandle);
    if (s->capture) s->capture->spoiled = true;
    s->alive = false; /* its work is done all the same, when somebody waits for the device */
    return entry.answer;
}

static cudaError_t not_while_capturing(Stream *s)
{
    if (!s->capture) return cudaSuccess;
    s->capture->spoiled = true;
    return cudaErrorStreamCaptureUnsupported;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    Entry entry("cudaStreamSynchronize");
    if (entry.answer) return entry.answer;
    Stream *s = stream_of(stream);
    if (!s) return say(cudaErrorInvalidResourceHandle);
    cudaError_t e = not_while_capturing(s);
    return say(e ? e : finish(s, s->pushed));
}
/* Each question brings the stream one piece of work further, so that a loop that asks comes to an end. */
cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    Entry entry("cudaStreamQuery");
    if (entry.answer) return entry.answer;
    Stream *s = stream_of(stream);
    if (!s) return say(cudaErrorInvalidResourceHandle);
    cudaError_t e = not_while_capturing(s);
    if (e) return say(e);
    if (s->done == s->pushed) return say(device_state(s->device));
    try_one(s);
    return cudaErrorNotReady;
}
cudaError_t cudaStreamGetFlags(cudaStream_t stream, unsigned *flags)
{
    Entry entry("cudaStreamGetFlags");
    if (entry.answer) return entry.answer;
    Stream *s = stream_of(stream);
    if (!s || !flags) return say(cudaErrorInvalidResourceHandle);
    *flags = s->blocking || s == legacy_stream(s->device) ? cudaStreamDefault : cudaStreamNonBlocking;
    return cudaSuccess;
}
cudaError_t cudaStreamGetDevice(cudaStream_t stream, int *device)
{
    Entry entry("cudaStreamGetDevice");
    if (entry.answer) return entry.answer;
    Stream *s = stream_of(stream);
    if (!s || !device) return say(cudaErrorInvalidResourceHandle);
    *device = s->device;
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags)
{
    Entry entry("cudaStreamWaitEvent", cudaErrorInvalidResourceHandle);
    if (entry.answer) return entry.answer;
    Stream *s = stream_of(stream);
    Event *e = event_of(event);
    if (!s || !e) return say(cudaErrorInvalidResourceHandle);
    if (flags) return say(cudaErrorInvalidValue); /* external events of a capture are not simulated */
    return say(wait_for_event(s, e));
}

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t call, void *data)
{
    Entry entry("cudaLaunchHostFunc");
    if (entry.answer) return entry.answer;
    Stream *s = stream_of(stream);
    if (!s || !call) return say(s ? cudaErrorInvalidValue : cudaErrorInvalidResourceHandle);
    return say(enqueue(s, "cudaLaunchHostFunc", [=] {
        host_function(true);
        call(data);
        host_function(false);
        return true;
    }));
}

/* ---- events ----------------------------------------------------------------------------------------------------- */

static cudaError_t create_event(cudaEvent_t *out, unsigned flags)
{
    if (!out || flags & ~(unsigned)(cudaEventBlockingSync | cudaEventDisableTiming)) return cudaErrorInvalidValue;
    Event *e = new Event();
    e->device = current_device();
    e->timing = !(flags & cudaEventDisableTiming);
    e->when = std::make_shared<double>(0);
    events.push_back(e);
    *out = (cudaEvent_t)e;
    return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t *out)
{
    Entry entry("cudaEventCreate", cudaErrorMemoryAllocation);
    return entry.answer ? entry.answer : say(create_event(out, cudaEventDefault));
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned flags)
{
    Entry entry("cudaEventCreateWithFlags", cudaErrorMemoryAllocation);
    return entry.answer ? entry.answer : say(create_event(out, flags));
}
cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    Entry entry("cudaEventDestroy");
    for (size_t i = 0; i < events.size(); i++) {
        if (events[i] != (Event *)event) continue;
        delete events[i];
        events.erase(events.begin() + (long)i);
        return entry.answer;
    }
    return say(cudaErrorInvalidResourceHandle);
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    Entry entry("cudaEventRecord", cudaErrorInvalidResourceHandle);
    if (entry.answer) return entry.answer;
    Stream *s = stream_of(stream);
    Event *e = event_of(event);
    if (!s || !e) return say(cudaErrorInvalidResourceHandle);
    if (s->device != e->device) return say(cudaErrorInvalidResourceHandle);
    return say(record_event(s, e));
}
cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned flags)
{
    return flags ? cudaErrorInvalidValue : cudaEventRecord(event, stream);
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    Entry entry("cudaEventSynchronize", cudaErrorUnknown);
    if (entry.answer) return entry.answer;
    Event *e = event_of(event);
    if (!e) return say(cudaErrorInvalidResourceHandle);
    if (e->capture) return say(spoil_capture(e->capture, cudaErrorCapturedEvent));
    return e->recorded ? say(finish(e->point.stream, e->point.at)) : cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t event)
{
    Entry entry("cudaEventQuery", cudaErrorUnknown);
    if (entry.answer) return entry.answer;
    Event *e = event_of(event);
    if (!e) return say(cudaErrorInvalidResourceHandle);
    if (e->capture) return say(spoil_capture(e->capture, cudaErrorCapturedEvent));
    if (!e->recorded || e->point.stream->done >= e->point.at) return say(device_state(e->device));
    try_one(e->point.stream);
    return cudaErrorNotReady;
}
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t start, cudaEvent_t end)
{
    Entry entry("cudaEventElapsedTime", cudaErrorInvalidResourceHandle);
    if (entry.answer) return entry.answer;
    Event *a = event_of(start), *b = event_of(end);
    if (!a || !b || !ms || !a->timing || !b->timing || !a->recorded || !b->recorded || a->capture || b->capture)
        return say(cudaErrorInvalidResourceHandle);
    if (a->point.stream->done < a->point.at || b->point.stream->done < b->point.at) return cudaErrorNotReady;
    *ms = (float)(*b->when - *a->when);
    return cudaSuccess;
}
