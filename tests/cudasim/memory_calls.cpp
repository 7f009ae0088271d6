/* memory_calls.cpp - allocation, copies, fills. Host memory from malloc is pageable: copies from it are staged when
 * they are asked for, copies to it are done on return; pinned memory is read and written when the copy's turn comes. */
#include "memory.h"
#include "runtime.h"
#include "stream.h"
#include <stdlib.h>
#include <string.h>

using namespace cudasim;

/* ---- allocation ---------------------------------------------------------------------------------------------- */

cudaError_t cudaMalloc(void **out, size_t bytes)
{
    Entry entry("cudaMalloc", cudaErrorMemoryAllocation);
    if (entry.answer) return entry.answer;
    if (!out) return say(cudaErrorInvalidValue);
    cudaError_t e = forbidden_while_capturing();
    if (e) return say(e);
    *out = nullptr;
    if (!bytes) return cudaSuccess;
    *out = device_take(current_device(), bytes);
    return *out ? cudaSuccess : say(cudaErrorMemoryAllocation);
}

/* Also where the call must fail: what it was given is gone either way, so that counts of what is alive stay right. */
cudaError_t cudaFree(void *p)
{
    Entry entry("cudaFree");
    if (!p) return entry.answer;
    cudaError_t e = forbidden_while_capturing();
    if (e) return say(e);
    Allocation *a = find_allocation(p);
    if (!a || a->p != p || a->device < 0 || a->freed) {
        report("cudaFree of %p, which is %s", p, a && a->p == p && a->freed ? "free already" : "not an allocation");
        flush_findings();
        return say(cudaErrorInvalidValue);
    }
    e = finish_device(a->device);
    device_give(a);
    return entry.answer ? entry.answer : say(e);
}

cudaError_t cudaMallocAsync(void **out, size_t bytes, cudaStream_t stream)
{
    Entry entry("cudaMallocAsync", cudaErrorMemoryAllocation);
    if (entry.answer) return entry.answer;
    Stream *s = stream_of(stream);
    if (!out || !s) return say(s ? cudaErrorInvalidValue : cudaErrorInvalidResourceHandle);
    if (s->capture) return say(cudaErrorStreamCaptureUnsupported); /* memory nodes are not simulated */
    *out = nullptr;
    if (!bytes) return cudaSuccess;
    *out = device_take(s->device, bytes);
    return *out ? cudaSuccess : say(cudaErrorMemoryAllocation);
}

cudaError_t cudaFreeAsync(void *p, cudaStream_t stream)
{
    Entry entry("cudaFreeAsync");
    if (!p) return entry.answer;
    Stream *s = stream_of(stream);
    Allocation *a = find_allocation(p);
    if (!s) return say(cudaErrorInvalidResourceHandle);
    if (s->capture) return say(cudaErrorStreamCaptureUnsupported);
    if (!a || a->p != p || a->device < 0 || a->freed) return say(cudaErrorInvalidValue);
    cudaError_t e = enqueue(s, "cudaFreeAsync", [p] {
        Allocation *gone = find_allocation(p);
        if (gone && !gone->freed) device_give(gone);
        return true;
    });
    return entry.answer ? entry.answer : say(e);
}

cudaError_t cudaHostAlloc(void **out, size_t bytes, unsigned flags)
{
    Entry entry("cudaHostAlloc", cudaErrorMemoryAllocation);
    if (entry.answer) return entry.answer;
    if (!out || flags & ~(unsigned)(cudaHostAllocPortable | cudaHostAllocMapped | cudaHostAllocWriteCombined))
        return say(cudaErrorInvalidValue);
    cudaError_t e = forbidden_while_capturing();
    if (e) return say(e);
    *out = bytes ? pinned_take(bytes) : nullptr;
    return *out || !bytes ? cudaSuccess : say(cudaErrorMemoryAllocation);
}
cudaError_t cudaMallocHost(void **out, size_t bytes)
{
    Entry entry("cudaMallocHost", cudaErrorMemoryAllocation);
    if (entry.answer) return entry.answer;
    if (!out) return say(cudaErrorInvalidValue);
    cudaError_t e = forbidden_while_capturing();
    if (e) return say(e);
    *out = bytes ? pinned_take(bytes) : nullptr;
    return *out || !bytes ? cudaSuccess : say(cudaErrorMemoryAllocation);
}
cudaError_t cudaFreeHost(void *p)
{
    Entry entry("cudaFreeHost");
    if (!p) return entry.answer;
    Allocation *a = find_allocation(p);
    if (!a || a->p != p || a->device >= 0) return say(cudaErrorInvalidValue);
    cudaError_t e = finish_all();
    pinned_give(a);
    return entry.answer ? entry.answer : say(e);
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total)
{
    Entry entry("cudaMemGetInfo");
    if (entry.answer) return entry.answer;
    *total = settings.memory;
    *free_bytes = settings.memory - device_used(current_device());
    return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *out, const void *p)
{
    Entry entry("cudaPointerGetAttributes", cudaErrorInvalidValue);
    if (entry.answer) return entry.answer;
    if (!out) return say(cudaErrorInvalidValue);
    memset(out, 0, sizeof *out);
    const Allocation *a = find_allocation(p);
    if (!a || a->freed) {
        out->type = cudaMemoryTypeUnregistered;
        out->device = -2;
        out->hostPointer = (void *)p;
        return cudaSuccess;
    }
    out->type = a->device < 0 ? cudaMemoryTypeHost : cudaMemoryTypeDevice;
    out->device = a->device < 0 ? current_device() : a->device;
    out->devicePointer = (void *)p;
    out->hostPointer = a->device < 0 ? (void *)p : nullptr;
    return cudaSuccess;
}

/* ---- copies --------------------------------------------------------------------------------------------------------- */

static bool is_pinned(const void *p)
{
    const Allocation *a = find_allocation(p);
    return a && a->device < 0;
}

/* A finding unless [p, p + bytes) is what the kind of copy says of it. */
static bool side_fits(const void *p, size_t bytes, bool device, const char *call, const char *side)
{
    const Allocation *a = find_allocation(p);
    if (device && a && a->device >= 0 && !a->freed && (const char *)p + bytes <= a->p + a->bytes) return true;
    if (!device && p && !in_device_arena(p) &&
        (!a || a->device >= 0 || (const char *)p + bytes <= a->p + a->bytes || p == a->p + a->bytes))
        return true;
    report("%s: the %s, %zu bytes at %p, is not %s", call, side, bytes, p,
           device ? "inside one live device allocation" : "host memory");
    flush_findings();
    return false;
}

struct Sides {
    bool dst_device, src_device;
};
static bool sides_of(void *dst, const void *src, size_t bytes, enum cudaMemcpyKind kind, const char *call, Sides *out)
{
    switch (kind) {
    case cudaMemcpyHostToHost: *out = { false, false }; break;
    case cudaMemcpyHostToDevice: *out = { true, false }; break;
    case cudaMemcpyDeviceToHost: *out = { false, true }; break;
    case cudaMemcpyDeviceToDevice: *out = { true, true }; break;
    case cudaMemcpyDefault: *out = { in_device_arena(dst), in_device_arena(src) }; break;
    default: return false;
    }
    return side_fits(dst, bytes, out->dst_device, call, "destination") &&
           side_fits(src, bytes, out->src_device, call, "source");
}

/* Copies rows when their turn comes; a row that has been freed meanwhile is a finding. */
static void copy_now(char *dst, size_t dst_pitch, const char *src, size_t src_pitch, size_t width, size_t height,
                     Sides sides, const char *call, int device)
{
    if (!width || !height) return;
    if (!side_fits(dst, (height - 1) * dst_pitch + width, sides.dst_device, call, "destination") ||
        !side_fits(src, (height - 1) * src_pitch + width, sides.src_device, call, "source")) {
        break_device(device, cudaErrorIllegalAddress);
        return;
    }
    OpenMemory open;
    for (size_t r = 0; r < height; r++) {
        memmove(dst + r * dst_pitch, src + r * src_pitch, width);
        if (!checked || !sides.dst_device) continue;
        if (sides.src_device)
            shadow_copy(dst + r * dst_pitch, src + r * src_pitch, width);
        else
            shadow_valid(dst + r * dst_pitch, width, true);
    }
}

struct Rows {
    char *dst;
    size_t dst_pitch;
    const char *src;
    size_t src_pitch, width, height;
};

static cudaError_t enqueue_copy(Stream *s, Rows r, Sides sides, const char *call)
{
    bool pageable_src = !sides.src_device && !is_pinned(r.src), pageable_dst = !sides.dst_device && !is_pinned(r.dst);
    std::shared_ptr<char> staged;
    if (pageable_src && !s->capture) {
        staged.reset((char *)malloc(r.width * r.height + 1), free);
        if (!staged) return cudaErrorMemoryAllocation;
        for (size_t i = 0; i < r.height; i++) memcpy(staged.get() + i * r.width, r.src + i * r.src_pitch, r.width);
        r.src = staged.get();
        r.src_pitch = r.width;
    }
    int device = s->device;
    cudaError_t e = enqueue(s, call, [=] {
        if (!device_state(device))
            copy_now(r.dst, r.dst_pitch, r.src, r.src_pitch, r.width, r.height, sides, call, device);
        (void)staged;
        return true;
    });
    if (e || s->capture || !pageable_dst) return e;
    return finish(s, s->pushed);
}

static cudaError_t copy_async(Stream *s, Rows r, enum cudaMemcpyKind kind, const char *call)
{
    Sides sides;
    if (r.dst_pitch < r.width || r.src_pitch < r.width) return cudaErrorInvalidPitchValue;
    if (!r.width || !r.height) return cudaSuccess;
    if (kind < cudaMemcpyHostToHost || kind > cudaMemcpyDefault) return cudaErrorInvalidMemcpyDirection;
    if (!sides_of(r.dst, r.src, (r.height - 1) * r.dst_pitch + r.width, kind, call, &sides))
        return cudaErrorInvalidValue;
    return enqueue_copy(s, r, sides, call);
}

cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t stream)
{
    Entry entry("cudaMemcpyAsync", cudaErrorInvalidValue);
    if (entry.answer) return entry.answer;
    Stream *s = stream_of(stream);
    if (!s) return say(cudaErrorInvalidResourceHandle);
    return say(copy_async(s, { (char *)dst, bytes, (const char *)src, bytes, bytes, 1 }, kind, "cudaMemcpyAsync"));
}

cudaError_t cudaMemcpy2DAsync(void *dst, size_t dst_pitch, const void *src, size_t src_pitch, size_t width,
                              size_t height, enum cudaMemcpyKind kind, cudaStream_t stream)
{
    Entry entry("cudaMemcpy2DAsync", cudaErrorInvalidValue);
    if (entry.answer) return entry.answer;
    Stream *s = stream_of(stream);
    if (!s) return say(cudaErrorInvalidResourceHandle);
    return say(copy_async(s, { (char *)dst, dst_pitch, (const char *)src, src_pitch, width, height }, kind,
                          "cudaMemcpy2DAsync"));
}

/* On the legacy stream; done on return unless both sides are on the device. */
static cudaError_t copy_and_wait(Rows r, enum cudaMemcpyKind kind, const char *call)
{
    cudaError_t e = forbidden_while_capturing();
    if (e) return e;
    Stream *s = legacy_stream(current_device());
    e = copy_async(s, r, kind, call);
    if (e || (in_device_arena(r.dst) && in_device_arena(r.src))) return e;
    return finish(s, s->pushed);
}
cudaError_t cudaMemcpy(void *dst, const void *src, size_t bytes, enum cudaMemcpyKind kind)
{
    Entry entry("cudaMemcpy", cudaErrorInvalidValue);
    if (entry.answer) return entry.answer;
    return say(copy_and_wait({ (char *)dst, bytes, (const char *)src, bytes, bytes, 1 }, kind, "cudaMemcpy"));
}
cudaError_t cudaMemcpy2D(void *dst, size_t dst_pitch, const void *src, size_t src_pitch, size_t width, size_t height,
                         enum cudaMemcpyKind kind)
{
    Entry entry("cudaMemcpy2D", cudaErrorInvalidValue);
    if (entry.answer) return entry.answer;
    return say(
        copy_and_wait({ (char *)dst, dst_pitch, (const char *)src, src_pitch, width, height }, kind, "cudaMemcpy2D"));
}
cudaError_t cudaMemcpyPeerAsync(void *dst, int dst_device, const void *src, int src_device, size_t bytes,
                                cudaStream_t stream)
{
    Entry entry("cudaMemcpyPeerAsync", cudaErrorInvalidValue);
    if (entry.answer) return entry.answer;
    Stream *s = stream_of(stream);
    if (!s) return say(cudaErrorInvalidResourceHandle);
    if (device_of(dst) != dst_device || device_of(src) != src_device) return say(cudaErrorInvalidValue);
    return say(copy_async(s, { (char *)dst, bytes, (const char *)src, bytes, bytes, 1 }, cudaMemcpyDeviceToDevice,
                          "cudaMemcpyPeerAsync"));
}

/* ---- fills ------------------------------------------------------------------------------------------------------------ */

static cudaError_t fill(Stream *s, void *p, int value, size_t bytes, const char *call)
{
    if (!bytes) return cudaSuccess;
    if (!side_fits(p, bytes, true, call, "memory")) return cudaErrorInvalidValue;
    int device = s->device;
    return enqueue(s, call, [=] {
        if (device_state(device)) return true;
        if (!side_fits(p, bytes, true, call, "memory")) {
            break_device(device, cudaErrorIllegalAddress);
            return true;
        }
        OpenMemory open;
        memset(p, value, bytes);
        if (checked) shadow_valid(p, bytes, true);
        return true;
    });
}
cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t stream)
{
    Entry entry("cudaMemsetAsync", cudaErrorInvalidValue);
    if (entry.answer) return entry.answer;
    Stream *s = stream_of(stream);
    return say(s ? fill(s, p, value, bytes, "cudaMemsetAsync") : cudaErrorInvalidResourceHandle);
}
cudaError_t cudaMemset(void *p, int value, size_t bytes)
{
    Entry entry("cudaMemset", cudaErrorInvalidValue);
    if (entry.answer) return entry.answer;
    return say(fill(legacy_stream(current_device()), p, value, bytes, "cudaMemset"));
}
