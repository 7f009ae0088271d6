/* device.cpp - the simulated devices: their properties, and the calls that ask for them. */
#include "fiber.h"
#include "memory.h"
#include "runtime.h"
#include "stream.h"
#include <string.h>

namespace cudasim
{

struct Model {
    const char *name, *title;
    int major, minor, multiprocessors, threads_per_multiprocessor, blocks_per_multiprocessor;
    size_t shared_optin, shared_per_multiprocessor, l2;
    int bus_width;
};
/* From NVIDIA's tables of technical specifications per compute capability and the products' data sheets. The last is
 * none of them: so few multiprocessors that grids are capped at the sizes of tests. */
static const Model models[] = {
    { "a100", "Simulated A100 (no GPU)", 8, 0, 108, 2048, 32, 163 * 1024, 164 * 1024, (size_t)40 << 20, 5120 },
    { "rtx3090", "Simulated RTX 3090 (no GPU)", 8, 6, 82, 1536, 16, 99 * 1024, 100 * 1024, (size_t)6 << 20, 384 },
    { "rtx4090", "Simulated RTX 4090 (no GPU)", 8, 9, 128, 1536, 24, 99 * 1024, 100 * 1024, (size_t)72 << 20, 384 },
    { "h100", "Simulated H100 (no GPU)", 9, 0, 132, 2048, 32, 227 * 1024, 228 * 1024, (size_t)50 << 20, 5120 },
    { "tiny", "Simulated multiprocessor (no GPU)", 8, 0, 1, 1024, 16, 99 * 1024, 100 * 1024, (size_t)1 << 20, 64 },
};

static const Model *model()
{
    static const Model *chosen;
    if (chosen) return chosen;
    chosen = &models[0];
    if (!settings.device) return chosen;
    for (const Model &m : models)
        if (!strcmp(settings.device, m.name)) return chosen = &m;
    fatal("QN_CUDASIM_DEVICE: expected a100, rtx3090, rtx4090, h100 or tiny");
}

int device_count() { return settings.devices; }
int capability(int device)
{
    (void)device;
    return model()->major * 10 + model()->minor;
}
size_t shared_optin(int device)
{
    (void)device;
    size_t has = model()->shared_optin;
    return settings.shared_optin && settings.shared_optin < has ? settings.shared_optin : has;
}

void fill_properties(struct cudaDeviceProp *p, int device)
{
    const Model *m = model();
    memset(p, 0, sizeof *p);
    snprintf(p->name, sizeof p->name, "%s", m->title);
    p->uuid.bytes[0] = (char)(device + 1);
    p->totalGlobalMem = settings.memory;
    p->sharedMemPerBlock = STATIC_SHARED_MAX;
    p->sharedMemPerBlockOptin = shared_optin(device);
    p->sharedMemPerMultiprocessor = m->shared_per_multiprocessor;
    p->reservedSharedMemPerBlock = 1024;
    p->regsPerBlock = p->regsPerMultiprocessor = 65536;
    p->warpSize = WARP;
    p->memPitch = 0x7fffffff;
    p->maxThreadsPerBlock = MAX_THREADS;
    p->maxThreadsPerMultiProcessor = m->threads_per_multiprocessor;
    p->maxBlocksPerMultiProcessor = m->blocks_per_multiprocessor;
    p->maxThreadsDim[0] = p->maxThreadsDim[1] = 1024;
    p->maxThreadsDim[2] = 64;
    p->maxGridSize[0] = 0x7fffffff;
    p->maxGridSize[1] = p->maxGridSize[2] = 65535;
    p->totalConstMem = 65536;
    p->major = m->major;
    p->minor = m->minor;
    p->textureAlignment = 512;
    p->multiProcessorCount = m->multiprocessors;
    p->canMapHostMemory = 1;
    p->concurrentKernels = 1;
    p->pciBusID = device + 1;
    p->asyncEngineCount = 2;
    p->unifiedAddressing = 1;
    p->memoryBusWidth = m->bus_width;
    p->l2CacheSize = (int)m->l2;
    p->streamPrioritiesSupported = 1;
    p->globalL1CacheSupported = p->localL1CacheSupported = 1;
    p->computePreemptionSupported = 1;
    p->memoryPoolsSupported = 1;
}

static bool peers[MAX_DEVICES][MAX_DEVICES];
bool peer_enabled(int from, int to) { return peers[from][to]; }
static bool is_device(int d) { return d >= 0 && d < device_count(); }

static bool attribute(const struct cudaDeviceProp *p, enum cudaDeviceAttr which, int *value)
{
    switch (which) {
    case cudaDevAttrMaxThreadsPerBlock: *value = p->maxThreadsPerBlock; break;
    case cudaDevAttrMaxBlockDimX: *value = p->maxThreadsDim[0]; break;
    case cudaDevAttrMaxBlockDimY: *value = p->maxThreadsDim[1]; break;
    case cudaDevAttrMaxBlockDimZ: *value = p->maxThreadsDim[2]; break;
    case cudaDevAttrMaxGridDimX: *value = p->maxGridSize[0]; break;
    case cudaDevAttrMaxGridDimY: *value = p->maxGridSize[1]; break;
    case cudaDevAttrMaxGridDimZ: *value = p->maxGridSize[2]; break;
    case cudaDevAttrMaxSharedMemoryPerBlock: *value = (int)p->sharedMemPerBlock; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = (int)p->sharedMemPerBlockOptin; break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor: *value = (int)p->sharedMemPerMultiprocessor; break;
    case cudaDevAttrReservedSharedMemoryPerBlock: *value = (int)p->reservedSharedMemPerBlock; break;
    case cudaDevAttrTotalConstantMemory: *value = (int)p->totalConstMem; break;
    case cudaDevAttrWarpSize: *value = p->warpSize; break;
    case cudaDevAttrMaxRegistersPerBlock: *value = p->regsPerBlock; break;
    case cudaDevAttrMaxRegistersPerMultiprocessor: *value = p->regsPerMultiprocessor; break;
    case cudaDevAttrMultiProcessorCount: *value = p->multiProcessorCount; break;
    case cudaDevAttrMaxThreadsPerMultiProcessor: *value = p->maxThreadsPerMultiProcessor; break;
    case cudaDevAttrMaxBlocksPerMultiprocessor: *value = p->maxBlocksPerMultiProcessor; break;
    case cudaDevAttrComputeCapabilityMajor: *value = p->major; break;
    case cudaDevAttrComputeCapabilityMinor: *value = p->minor; break;
    case cudaDevAttrL2CacheSize: *value = p->l2CacheSize; break;
    case cudaDevAttrGlobalMemoryBusWidth: *value = p->memoryBusWidth; break;
    /* No real clock is imitated: what would follow from one is not known here. */
    case cudaDevAttrClockRate:
    case cudaDevAttrMemoryClockRate: *value = 0; break;
    case cudaDevAttrConcurrentKernels:
    case cudaDevAttrUnifiedAddressing:
    case cudaDevAttrCanMapHostMemory:
    case cudaDevAttrStreamPrioritiesSupported:
    case cudaDevAttrMemoryPoolsSupported:
    case cudaDevAttrComputePreemptionSupported: *value = 1; break;
    case cudaDevAttrAsyncEngineCount: *value = p->asyncEngineCount; break;
    case cudaDevAttrPciBusId: *value = p->pciBusID; break;
    case cudaDevAttrPciDeviceId:
    case cudaDevAttrPciDomainId:
    case cudaDevAttrIntegrated:
    case cudaDevAttrEccEnabled:
    case cudaDevAttrComputeMode:
    case cudaDevAttrKernelExecTimeout:
    case cudaDevAttrManagedMemory:
    case cudaDevAttrPageableMemoryAccess:
    case cudaDevAttrCooperativeLaunch: *value = 0; break;
    default: return false;
    }
    return true;
}

} // namespace cudasim

using namespace cudasim;

cudaError_t cudaGetDeviceCount(int *count)
{
    Entry entry("cudaGetDeviceCount", cudaErrorNoDevice, false);
    if (entry.answer) return entry.answer;
    *count = device_count();
    return *count ? cudaSuccess : say(cudaErrorNoDevice);
}
cudaError_t cudaSetDevice(int device)
{
    Entry entry("cudaSetDevice", cudaErrorInvalidDevice, false);
    if (entry.answer) return entry.answer;
    if (!is_device(device)) return say(cudaErrorInvalidDevice);
    set_current_device(device);
    return cudaSuccess;
}
cudaError_t cudaGetDevice(int *device)
{
    Entry entry("cudaGetDevice", cudaErrorInvalidValue, false);
    if (entry.answer) return entry.answer;
    *device = current_device();
    return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int device)
{
    Entry entry("cudaGetDeviceProperties", cudaErrorInvalidDevice, false);
    if (entry.answer) return entry.answer;
    if (!is_device(device)) return say(cudaErrorInvalidDevice);
    fill_properties(p, device);
    return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr which, int device)
{
    Entry entry("cudaDeviceGetAttribute", cudaErrorInvalidDevice, false);
    if (entry.answer) return entry.answer;
    if (!is_device(device)) return say(cudaErrorInvalidDevice);
    struct cudaDeviceProp p;
    fill_properties(&p, device);
    return attribute(&p, which, value) ? cudaSuccess : say(cudaErrorInvalidValue);
}
cudaError_t cudaDeviceGetPCIBusId(char *text, int bytes, int device)
{
    Entry entry("cudaDeviceGetPCIBusId", cudaErrorInvalidDevice, false);
    if (entry.answer) return entry.answer;
    if (!is_device(device) || bytes < 13) return say(cudaErrorInvalidDevice);
    snprintf(text, (size_t)bytes, "0000:%02x:00.0", device + 1);
    return cudaSuccess;
}
cudaError_t cudaDeviceCanAccessPeer(int *can, int device, int peer)
{
    Entry entry("cudaDeviceCanAccessPeer", cudaErrorInvalidDevice, false);
    if (entry.answer) return entry.answer;
    if (!is_device(device) || !is_device(peer)) return say(cudaErrorInvalidDevice);
    *can = device != peer;
    return cudaSuccess;
}
cudaError_t cudaDeviceEnablePeerAccess(int peer, unsigned flags)
{
    Entry entry("cudaDeviceEnablePeerAccess", cudaErrorPeerAccessUnsupported);
    if (entry.answer) return entry.answer;
    if (!is_device(peer) || peer == current_device()) return say(cudaErrorInvalidDevice);
    if (flags) return say(cudaErrorInvalidValue);
    if (peers[current_device()][peer]) return say(cudaErrorPeerAccessAlreadyEnabled);
    peers[current_device()][peer] = true;
    return cudaSuccess;
}
cudaError_t cudaDeviceDisablePeerAccess(int peer)
{
    Entry entry("cudaDeviceDisablePeerAccess", cudaErrorPeerAccessNotEnabled);
    if (entry.answer) return entry.answer;
    if (!is_device(peer) || !peers[current_device()][peer]) return say(cudaErrorPeerAccessNotEnabled);
    peers[current_device()][peer] = false;
    return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize(void)
{
    Entry entry("cudaDeviceSynchronize");
    if (entry.answer) return entry.answer;
    cudaError_t e = forbidden_while_capturing();
    return say(e ? e : finish_device(current_device()));
}
cudaError_t cudaDeviceReset(void)
{
    Entry entry("cudaDeviceReset", cudaErrorUnknown, false);
    if (entry.answer) return entry.answer;
    mend_devices();
    return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int *version)
{
    Entry entry("cudaDriverGetVersion", cudaErrorInvalidValue, false);
    if (entry.answer) return entry.answer;
    *version = CUDART_VERSION;
    return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int *version)
{
    Entry entry("cudaRuntimeGetVersion", cudaErrorInvalidValue, false);
    if (entry.answer) return entry.answer;
    *version = CUDART_VERSION;
    return cudaSuccess;
}
