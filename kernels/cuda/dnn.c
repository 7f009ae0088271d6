/* dnn.c - cuDNN: finding the library, its handle, and the description of a device it is asked about. See dnn.h. */
#include "dnn_impl.h"
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

bool dnn_dtype(qn_dtype dtype, cudnnDataType_t *out)
{
    switch (dtype) {
    case QN_F32: *out = CUDNN_DATA_FLOAT; return true;
    case QN_BF16: *out = CUDNN_DATA_BFLOAT16; return true;
    case QN_F16: *out = CUDNN_DATA_HALF; return true;
    default: return false;
    }
}

/* ---- the library ------------------------------------------------------------------------------------ */

static qn_status missing(const struct qn__dnn *d, const char *found, qn_error *err)
{
    return qn__fail(err, 7002, NULL,
                    "%s: %s; expected cuDNN 9 in a folder that the loader searches: install it (on PyPI "
                    "nvidia-cudnn-cu13) and name its lib folder in LD_LIBRARY_PATH, or use --device cpu",
                    d->library ? qn__show(d->library).s : "libcudnn.so.9", found);
}

/* dlsym gives an object's address; that a function's has the same form is POSIX. */
static bool find(void *library, const char *name, void *function)
{
    void *symbol = dlsym(library, name);
    memcpy(function, &symbol, sizeof symbol);
    return symbol != NULL;
}

/* Left in memory when it is closed: the library keeps threads and tables of its own. */
static void *load(const char *name) { return dlopen(name, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE); }

size_t qn__dnn_installed(void)
{
    size_t (*version)(void) = NULL;
    void *library = load("libcudnn.so.9");
    size_t n = library && find(library, "cudnnGetVersion", &version) ? version() : 0;
    if (library) dlclose(library);
    return n;
}

static qn_status load_calls(struct qn__dnn *d, qn_error *err)
{
    void *library = load(d->library ? d->library : "libcudnn.so.9");
    if (!library) {
        const char *why = dlerror();
        return missing(d, why ? qn__show(why).s : "not found", err);
    }
    const char *lacks = NULL;
#define X(name) \
    if (!find(library, #name, &d->call.name)) lacks = #name;
    DNN_CALLS(X)
#undef X
#define X(name) find(library, #name, &d->call.name);
    DNN_LEGACY_CALLS(X)
#undef X
    dlclose(library);
    if (lacks) {
        char text[80];
        snprintf(text, sizeof text, "has no %s", lacks);
        return missing(d, text, err);
    }
    d->version = d->call.cudnnGetVersion();
    if (d->version < 90000 || d->version >= 100000) {
        char text[80];
        snprintf(text, sizeof text, "is version %zu", d->version);
        d->version = 0;
        return missing(d, text, err);
    }
    return QN_OK;
}

qn_status dnn_legacy_open(struct qn__dnn *d, qn_error *err)
{
    QN_TRY(qn__dnn_open(d, NULL, err));
    bool all = true;
#define X(name) all = all && d->call.name;
    DNN_LEGACY_CALLS(X)
#undef X
    return all ? QN_OK : missing(d, "has no legacy convolution", err);
}

/* ---- a device by description ------------------------------------------------------------------------ */

/* What cuDNN wants to know beyond struct qn__gpu: of the usual board of each capability (NVIDIA's data sheets; blocks
 * per multiprocessor from the table of compute capabilities in the CUDA C++ Programming Guide). */
static const struct board {
    int32_t capability, blocks, core_khz, memory_khz, gib;
    const char *name;
} boards[] = {
    { 80, 32, 1410000, 1593000, 80, "NVIDIA A100-SXM4-80GB" },
    { 86, 16, 1695000, 9751000, 24, "NVIDIA GeForce RTX 3090" },
    { 89, 24, 2520000, 10501000, 24, "NVIDIA GeForce RTX 4090" },
    { 90, 32, 1980000, 2619000, 80, "NVIDIA H100 80GB HBM3" },
    { 100, 32, 1965000, 3996000, 180, "NVIDIA B200" },
    { 120, 24, 2407000, 14001000, 32, "NVIDIA GeForce RTX 5090" },
};

/* The nearest that is not newer, so that a later revision of a capability is planned as its base. */
static const struct board *board_of(const struct qn__gpu *gpu)
{
    const struct board *b = &boards[0];
    for (size_t i = 0; i < sizeof boards / sizeof boards[0]; i++)
        if (boards[i].capability <= gpu->capability) b = &boards[i];
    return b;
}

static void describe(char *json, size_t size, const struct qn__gpu *gpu)
{
    const struct board *b = board_of(gpu);
    snprintf(json, size,
             "{\"deviceName\": \"%s\", \"deviceVer\": %d, \"driverVer\": 13000, \"driverVersion\": 13000, "
             "\"cudaDeviceId\": 0, \"pciDeviceId\": 0, \"isTccDriver\": 0, \"supportCoopLaunch\": 1, "
             "\"warpSize\": 32, \"maxThreadsPerBlock\": 1024, \"maxBlockSize\": [1024, 1024, 64], "
             "\"maxGridSize\": [2147483647, 65535, 65535], \"regsPerBlock\": 65536, \"maxRegistersPerSM\": 65536, "
             "\"maxSharedMemoryPerBlock\": 49152, \"reservedSharedMemoryPerBlock\": 1024, "
             "\"maxSharedMemoryPerBlockOptin\": %lld, \"multiProcessorCount\": %d, \"maxThreadsPerSM\": %d, "
             "\"maxCtasPerSM\": %d, \"smClockRateKHz\": %d, \"memClockRateKHz\": %d, \"l2CacheSize\": %lld, "
             "\"totalGlobalMem\": %lld}",
             b->name, (int)gpu->capability * 10, (long long)gpu->shared_per_block, (int)gpu->multiprocessors,
             (int)gpu->threads_per_multiprocessor, b->blocks, b->core_khz, b->memory_khz, (long long)gpu->l2,
             (long long)b->gib << 30);
}

static qn_status open_description(struct qn__dnn *d, const struct qn__step *step, qn_error *err)
{
    char json[1536];
    cudnnBackendDescriptor_t made = NULL;
    describe(json, sizeof json, &d->gpu);
    QN_TRY(qn__dnn_check(d->call.cudnnBackendCreateDescriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &made),
                         "cudnnBackendCreateDescriptor", step, err));
    cudnnStatus_t status = d->call.cudnnBackendSetAttribute(made, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION,
                                                            CUDNN_TYPE_CHAR, (int64_t)strlen(json), json);
    if (!status) status = d->call.cudnnBackendFinalize(made);
    if (status) {
        d->call.cudnnBackendDestroyDescriptor(made);
        return qn__dnn_check(status, "cudnnBackendFinalize (device description)", step, err);
    }
    d->device = made;
    return QN_OK;
}

static qn_status open_handle(struct qn__dnn *d, const struct qn__step *step, qn_error *err)
{
    cudnnHandle_t made = NULL;
    QN_TRY(qn__dnn_check(d->call.cudnnCreate(&made), "cudnnCreate", step, err));
    qn_status status = qn__dnn_check(d->call.cudnnSetStream(made, d->stream), "cudnnSetStream", step, err);
    if (status)
        d->call.cudnnDestroy(made);
    else
        d->handle = made;
    return status;
}

/* ---- opening and closing ----------------------------------------------------------------------------- */

struct qn__dnn *qn__dnn_new(const struct qn__gpu *gpu, const cudaStream_t *stream, const char *library)
{
    struct qn__dnn *d = qn__calloc(&qn__std_alloc, 1, sizeof *d);
    if (!d) return NULL;
    d->gpu = *gpu;
    d->live = stream != NULL;
    d->stream = stream ? *stream : NULL;
    if (!library) return d;
    size_t bytes = strlen(library) + 1;
    d->library = qn__calloc(&qn__std_alloc, bytes, 1);
    if (!d->library) {
        qn__free(&qn__std_alloc, d, sizeof *d);
        return NULL;
    }
    memcpy(d->library, library, bytes);
    return d;
}

void qn__dnn_close(struct qn__dnn *d)
{
    if (!d) return;
    if (d->handle) d->call.cudnnDestroy(d->handle);
    if (d->device) d->call.cudnnBackendDestroyDescriptor(d->device);
    if (d->library) qn__free(&qn__std_alloc, d->library, strlen(d->library) + 1);
    qn__free(&qn__std_alloc, d, sizeof *d);
}

qn_status qn__dnn_open(struct qn__dnn *d, const struct qn__step *step, qn_error *err)
{
    if (!d->version) QN_TRY(load_calls(d, err));
    if (d->live && !d->handle) return open_handle(d, step, err);
    if (!d->live && !d->device) return open_description(d, step, err);
    return QN_OK;
}

size_t qn__dnn_version(const struct qn__dnn *d) { return d->version; }
