/* launch.cpp - what a launch must satisfy before it is put on its stream, and the occupancy arithmetic. */
#include "memory.h"
#include "runtime.h"
#include "stream.h"
#include <map>
#include <memory>
#include <stdlib.h>
#include <string.h>

namespace cudasim
{

static uint64_t launches;
uint64_t launch_count() { return launches; }

struct Function {
    size_t dynamic_shared; /* what cudaFuncSetAttribute allowed */
};
static std::map<const void *, Function> functions;

bool argument_fits(const char *kernel, int position, const void *pointer)
{
    uintptr_t v = (uintptr_t)pointer;
    if (v < 0x10000) return true; /* NULL, for "not given" */
    const Allocation *a = find_allocation(pointer);
    if (in_device_arena(pointer)) {
        if (a && !a->freed && (a->device == current_device() || peer_enabled(current_device(), a->device))) return true;
        report("launch of %s: argument %d (%p) is %s", kernel, position, pointer,
               !a         ? "no allocation's address"
               : a->freed ? "freed memory"
                          : "memory of another device");
        return false;
    }
    if (a) return true; /* pinned */
    report("launch of %s: argument %d (%p) is a host address", kernel, position, pointer);
    return false;
}

enum { REGISTERS = 65536, REGISTER_UNIT = 256 };
/* Registers that a block takes: given to warps in units of 256 (CUDA C++ Programming Guide, compute capabilities). */
static int allotted(int registers, int threads)
{
    int per_warp = (registers * WARP + REGISTER_UNIT - 1) / REGISTER_UNIT * REGISTER_UNIT;
    return per_warp * ((threads + WARP - 1) / WARP);
}

static cudaError_t check_launch(const Kernel &kernel, dim3 grid, dim3 threads, size_t shared, int device)
{
    const char *name = kernel.name;
    uint64_t n = (uint64_t)threads.x * threads.y * threads.z;
    bool fits = grid.x && grid.y && grid.z && n && n <= MAX_THREADS && threads.x <= 1024 && threads.y <= 1024 &&
                threads.z <= 64 && grid.x <= 0x7fffffffu && grid.y <= 65535 && grid.z <= 65535;
    if (!fits) {
        report("launch of %s: grid (%u,%u,%u) of blocks (%u,%u,%u) is not possible", name, grid.x, grid.y, grid.z,
               threads.x, threads.y, threads.z);
        return cudaErrorInvalidConfiguration;
    }
    auto f = functions.find(kernel.function);
    size_t allowed = f == functions.end() ? (size_t)STATIC_SHARED_MAX : f->second.dynamic_shared;
    if (shared > allowed) {
        report(
            "launch of %s: %zu bytes of dynamic shared memory; allowed are %zu (cudaFuncSetAttribute; the device has "
            "%zu)",
            name, shared, allowed, shared_optin(device));
        return cudaErrorInvalidValue;
    }
    const Resources *r = resources_of(kernel);
    if (r && allotted(r->registers, (int)n) > REGISTERS) {
        report("launch of %s: %d registers for each of %d threads; a multiprocessor has %d", name, r->registers, (int)n,
               REGISTERS);
        return cudaErrorLaunchOutOfResources;
    }
    return cudaSuccess;
}

cudaError_t launch(const Kernel &kernel, const void *arguments, size_t bytes, dim3 grid, dim3 threads, size_t shared,
                   cudaStream_t stream)
{
    Entry entry("cudaLaunchKernel", cudaErrorLaunchOutOfResources);
    if (entry.answer) return entry.answer;
    Stream *s = stream_of(stream);
    if (!s) return say(cudaErrorInvalidResourceHandle);
    if (s->device != current_device()) return say(cudaErrorInvalidResourceHandle);
    cudaError_t e = check_launch(kernel, grid, threads, shared, s->device);
    if (!e && !kernel.fits(arguments, kernel.name)) e = cudaErrorInvalidValue;
    flush_findings();
    if (e) return say(e);
    std::shared_ptr<char> copy((char *)malloc(bytes), free);
    if (!copy) return say(cudaErrorMemoryAllocation);
    memcpy(copy.get(), arguments, bytes);
    Kernel k = kernel;
    int device = s->device;
    launches++;
    return say(enqueue(s, k.name, [=] {
        if (device_state(device)) return true;
        int before = current_device();
        set_current_device(device);
        cudaError_t answer = cudaErrorIllegalAddress;
        if (k.fits(copy.get(), k.name)) answer = run_grid({ k, copy.get(), bytes, grid, threads, shared, device });
        flush_findings();
        if (answer) break_device(device, answer);
        set_current_device(before);
        return true;
    }));
}

static cudaError_t set_attribute(const void *function, enum cudaFuncAttribute attribute, int value)
{
    Entry entry("cudaFuncSetAttribute", cudaErrorInvalidValue);
    if (entry.answer) return entry.answer;
    if (!function) return say(cudaErrorInvalidDeviceFunction);
    if (attribute == cudaFuncAttributePreferredSharedMemoryCarveout) return cudaSuccess;
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0) return say(cudaErrorInvalidValue);
    if ((size_t)value > shared_optin(current_device())) return say(cudaErrorInvalidValue);
    functions[function].dynamic_shared = value > STATIC_SHARED_MAX ? (size_t)value : (size_t)STATIC_SHARED_MAX;
    return cudaSuccess;
}

} // namespace cudasim

using namespace cudasim;

cudaError_t cudaFuncSetAttribute(const void *function, enum cudaFuncAttribute attribute, int value)
{
    return set_attribute(function, attribute, value);
}

cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *out, const void *function)
{
    Entry entry("cudaFuncGetAttributes", cudaErrorInvalidDeviceFunction);
    if (entry.answer) return entry.answer;
    if (!out || !function) return say(cudaErrorInvalidValue);
    memset(out, 0, sizeof *out);
    out->maxThreadsPerBlock = MAX_THREADS;
    auto f = functions.find(function);
    out->maxDynamicSharedSizeBytes = (int)(f == functions.end() ? (size_t)STATIC_SHARED_MAX : f->second.dynamic_shared);
    if (const Resources *r = resources_of({ "", function, nullptr, nullptr })) {
        out->numRegs = r->registers;
        out->sharedSizeBytes = r->shared;
    }
    out->binaryVersion = out->ptxVersion = capability(current_device());
    return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, const void *function, int block_size,
                                                          size_t dynamic_shared)
{
    Entry entry("cudaOccupancyMaxActiveBlocksPerMultiprocessor", cudaErrorInvalidValue);
    if (entry.answer) return entry.answer;
    if (!blocks || !function || block_size < 1 || block_size > MAX_THREADS) return say(cudaErrorInvalidValue);
    struct cudaDeviceProp p;
    fill_properties(&p, current_device());
    int by_threads = p.maxThreadsPerMultiProcessor / ((block_size + WARP - 1) / WARP * WARP);
    size_t per_block = dynamic_shared + p.reservedSharedMemPerBlock;
    int by_shared = (int)(p.sharedMemPerMultiprocessor / per_block);
    *blocks = by_threads < by_shared ? by_threads : by_shared;
    const Resources *r = resources_of({ "", function, nullptr, nullptr });
    int by_registers = r ? REGISTERS / allotted(r->registers, block_size) : *blocks;
    if (by_registers < *blocks) *blocks = by_registers;
    if (*blocks > p.maxBlocksPerMultiProcessor) *blocks = p.maxBlocksPerMultiProcessor;
    return cudaSuccess;
}
