/* device.c - a GPU: what it is, its memory, copies that are waited for. */
#include "device.h"
#include "dnn.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- is there one? ------------------------------------------------------------------------------------------ */

static qn_status old_driver(cudaError_t answer, qn_error *err)
{
    int driver = 0, needed = 0;
    cudaGetLastError();
    if (cudaDriverGetVersion(&driver) || cudaRuntimeGetVersion(&needed))
        return qn__cuda_check(answer, "cudaGetDeviceCount", NULL, err);
    if (driver == 0)
        return qn__fail(err, 7001, QN_AT_FIELD("cuda"),
                        "no device (no NVIDIA driver); expected one for CUDA %d.%d; "
                        "install it, or use --device=cpu",
                        needed / 1000, needed % 1000 / 10);
    return qn__fail(err, 7001, QN_AT_FIELD("cuda"),
                    "the driver is for CUDA %d.%d; expected %d.%d or later; update the "
                    "NVIDIA driver, or use --device=cpu",
                    driver / 1000, driver % 1000 / 10, needed / 1000, needed % 1000 / 10);
}

qn_status qn__cuda_count(int *out, qn_error *err)
{
    *out = 0;
    cudaError_t answer = cudaGetDeviceCount(out);
    if (answer == cudaErrorInsufficientDriver) return old_driver(answer, err);
    if (answer == cudaErrorNoDevice || (answer == cudaSuccess && *out == 0)) {
        cudaGetLastError();
        return qn__fail(err, 7001, QN_AT_FIELD("cuda"),
                        "no device; expected an NVIDIA GPU that this process may use; "
                        "look at nvidia-smi and CUDA_VISIBLE_DEVICES, or use --device=cpu");
    }
    return qn__cuda_check(answer, "cudaGetDeviceCount", NULL, err);
}

/* ---- what is it? -------------------------------------------------------------------------------------------- */

/* What NVIDIA's cuBLAS documentation recommends for Hopper; more than it asks for on others. */
enum { BLAS_WORKSPACE = 32 << 20, OLDEST = 80 };

static void describe(struct qn__gpu *gpu, const struct cudaDeviceProp *p)
{
    *gpu = (struct qn__gpu){ .capability = 10 * p->major + p->minor,
                             .multiprocessors = p->multiProcessorCount,
                             .threads_per_multiprocessor = p->maxThreadsPerMultiProcessor,
                             .shared_per_block = (int64_t)p->sharedMemPerBlockOptin,
                             .shared_per_multiprocessor = (int64_t)p->sharedMemPerMultiprocessor,
                             .l2 = p->l2CacheSize,
                             .workspace = BLAS_WORKSPACE };
}

qn_status qn__cuda_info(int index, struct qn__device_info *out, qn_error *err)
{
    struct cudaDeviceProp p;
    size_t available = 0, total = 0;
    memset(out, 0, sizeof *out);
    QN_TRY(qn__cuda_check(cudaGetDeviceProperties(&p, index), "cudaGetDeviceProperties", NULL, err));
    QN_TRY(qn__cuda_check(cudaSetDevice(index), "cudaSetDevice", NULL, err));
    QN_TRY(qn__cuda_check(cudaMemGetInfo(&available, &total), "cudaMemGetInfo", NULL, err));
    describe(&out->gpu, &p);
    snprintf(out->name, sizeof out->name, "%.*s", (int)sizeof out->name - 1, p.name);
    out->memory = (int64_t)total;
    out->free = (int64_t)available;
    return QN_OK;
}

const struct qn__gpu *qn__cuda_describe(const struct qn__device *d) { return &d->gpu; }

qn_status qn__cuda_identity(struct qn__device *d, struct qn__identity *out, qn_error *err)
{
    struct cudaDeviceProp p;
    int driver = 0, cuda = 0;
    memset(out, 0, sizeof *out);
    QN_TRY(qn__cuda_check(cudaGetDeviceProperties(&p, d->index), "cudaGetDeviceProperties", NULL, err));
    QN_TRY(qn__cuda_check(cudaDriverGetVersion(&driver), "cudaDriverGetVersion", NULL, err));
    QN_TRY(qn__cuda_check(cudaRuntimeGetVersion(&cuda), "cudaRuntimeGetVersion", NULL, err));
    size_t n = strnlen(p.name, sizeof out->gpu - 1);
    for (size_t i = 0; i < n; i++) out->gpu[i] = p.name[i] < ' ' || p.name[i] > '~' ? '?' : p.name[i];
    out->driver = driver;
    out->cuda = cuda;
    out->blas = (int64_t)cublasLtGetVersion();
    out->dnn = (int64_t)qn__dnn_installed();
    return QN_OK;
}

/* ---- opening ------------------------------------------------------------------------------------------------ */

qn_status qn__cuda_enter(const struct qn__device *d, qn_error *err)
{
    return qn__cuda_check(cudaSetDevice(d->index), "cudaSetDevice", NULL, err);
}

static bool is_set(const char *name, const char *value)
{
    const char *text = getenv(name);
    return text && strcmp(text, value) == 0;
}

/* The machine code in this plugin is of some capabilities, and PTX of the newest, which later ones understand. */
static qn_status check_capability(const struct qn__device *d, const char *name, qn_error *err)
{
    int c = d->gpu.capability;
    if (c < OLDEST)
        return qn__fail(err, 7001, QN_AT_FIELD("cuda"),
                        "%s has compute capability %d.%d; expected 8.0 or later; use "
                        "--device=cpu",
                        qn__show(name).s, c / 10, c % 10);
    cudaError_t answer = qn__finite_probe();
    if (answer == cudaErrorNoKernelImageForDevice || answer == cudaErrorInvalidDeviceFunction) {
        cudaGetLastError();
        return qn__fail(err, 7001, QN_AT_FIELD("cuda"),
                        "the plugin has no code for %s of compute capability %d.%d; "
                        "build it with \"make cuda CUDA_ARCHS=%d\", or use --device=cpu",
                        qn__show(name).s, c / 10, c % 10, c);
    }
    return qn__cuda_check(answer, "cudaFuncGetAttributes", NULL, err);
}

static qn_status make_stream(cudaStream_t *out, qn_error *err)
{
    return qn__cuda_check(cudaStreamCreateWithFlags(out, cudaStreamNonBlocking), "cudaStreamCreateWithFlags", NULL,
                          err);
}

static qn_status open_device(struct qn__device *d, qn_error *err)
{
    struct cudaDeviceProp p;
    d->sync = is_set("QN_SYNC", "1");
    d->plain = d->sync || is_set("QN_GRAPHS", "off");
    QN_TRY(qn__cuda_check(cudaGetDeviceProperties(&p, d->index), "cudaGetDeviceProperties", NULL, err));
    describe(&d->gpu, &p);
    QN_TRY(qn__cuda_enter(d, err));
    QN_TRY(check_capability(d, p.name, err));
    QN_TRY(make_stream(&d->compute, err));
    QN_TRY(make_stream(&d->up, err));
    QN_TRY(make_stream(&d->down, err));
    QN_TRY(make_stream(&d->communication, err));
    QN_TRY(qn__cuda_check(cudaMalloc((void **)&d->word, sizeof *d->word), "cudaMalloc", NULL, err));
    QN_TRY(qn__cuda_check(cudaMemsetAsync(d->word, 0, sizeof *d->word, d->compute), "cudaMemsetAsync", NULL, err));
    QN_TRY(qn__blas_check(cublasLtCreate(&d->lt), "cublasLtCreate", NULL, err));
    d->queue = (struct qn__queue){
        .stream = d->compute, .lt = d->lt, .sync = d->sync, .dnn = &d->dnn, .fault = &d->word->fault
    };
    return QN_OK;
}

qn_status qn__cuda_open(struct qn__device **out, int index, const qn_alloc *alloc, qn_error *err)
{
    *out = NULL;
    struct qn__device *d = qn__calloc(alloc, 1, sizeof *d);
    if (!d) return qn__nomem(err, "device", sizeof *d);
    d->alloc = *alloc;
    d->index = index;
    qn_status status = open_device(d, err);
    if (status)
        qn__cuda_close(d);
    else
        *out = d;
    return status;
}

/* Nothing can be done about answers here: each thing is given back whatever became of the one before. */
void qn__cuda_close(struct qn__device *d)
{
    qn_alloc alloc = d->alloc;
    cudaStream_t stream[] = { d->compute, d->up, d->down, d->communication };
    cudaSetDevice(d->index);
    if (d->dnn && qn__dnn_close) qn__dnn_close(d->dnn);
    if (d->lt) cublasLtDestroy(d->lt);
    if (d->word) cudaFree(d->word);
    for (size_t i = 0; i < sizeof stream / sizeof stream[0]; i++)
        if (stream[i]) cudaStreamDestroy(stream[i]);
    cudaGetLastError();
    qn__free(&alloc, d, sizeof *d);
}

/* ---- memory ------------------------------------------------------------------------------------------------- */

qn_status qn__cuda_memory(struct qn__device *d, int64_t *available, int64_t *total, qn_error *err)
{
    size_t f = 0, t = 0;
    QN_TRY(qn__cuda_enter(d, err));
    QN_TRY(qn__cuda_check(cudaMemGetInfo(&f, &t), "cudaMemGetInfo", NULL, err));
    *available = (int64_t)f;
    *total = (int64_t)t;
    return QN_OK;
}

static double mib(size_t bytes) { return (double)bytes / 1048576; }

qn_status qn__cuda_take(struct qn__device *d, void **out, size_t bytes, qn_error *err)
{
    size_t available = 0, total = 0;
    *out = NULL;
    QN_TRY(qn__cuda_enter(d, err));
    cudaError_t answer = cudaMalloc(out, bytes ? bytes : 1);
    if (answer != cudaErrorMemoryAllocation) return qn__cuda_check(answer, "cudaMalloc", NULL, err);
    cudaGetLastError();
    *out = NULL;
    if (cudaMemGetInfo(&available, &total)) cudaGetLastError();
    char field[24];
    snprintf(field, sizeof field, "cuda:%d", d->index);
    return qn__fail(err, 5002, QN_AT_FIELD(field),
                    "cudaMalloc of %.1f MiB; %.1f of %.1f MiB are free; expected so much "
                    "memory; take a smaller batch, or use --device=cpu",
                    mib(bytes), mib(available), mib(total));
}

void qn__cuda_give(struct qn__device *d, void *memory, size_t bytes)
{
    (void)bytes;
    if (!memory) return;
    cudaSetDevice(d->index);
    cudaFree(memory);
    cudaGetLastError();
}

static qn_status copy(struct qn__device *d, void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind,
                      qn_error *err)
{
    if (!bytes) return QN_OK;
    QN_TRY(qn__cuda_enter(d, err));
    QN_TRY(qn__cuda_check(cudaMemcpyAsync(to, from, bytes, kind, d->compute), "cudaMemcpyAsync", NULL, err));
    return qn__cuda_check(cudaStreamSynchronize(d->compute), "cudaStreamSynchronize", NULL, err);
}

qn_status qn__cuda_put(struct qn__device *d, void *device, const void *host, size_t bytes, qn_error *err)
{
    return copy(d, device, host, bytes, cudaMemcpyHostToDevice, err);
}

qn_status qn__cuda_get(struct qn__device *d, void *host, const void *device, size_t bytes, qn_error *err)
{
    return copy(d, host, device, bytes, cudaMemcpyDeviceToHost, err);
}

const struct qn__queue *qn__cuda_queue(struct qn__device *d, int stream)
{
    (void)stream;
    return &d->queue;
}

qn_status qn__cuda_sync(struct qn__device *d, qn_error *err)
{
    cudaStream_t stream[] = { d->up, d->compute, d->communication, d->down };
    qn_status first = qn__cuda_enter(d, err);
    for (size_t i = 0; i < sizeof stream / sizeof stream[0]; i++) { /* all, so that nothing runs on after a failure */
        qn_status status = qn__cuda_check(cudaStreamSynchronize(stream[i]), "cudaStreamSynchronize", NULL,
                                          first ? NULL : err);
        if (!first) first = status;
    }
    return first;
}

qn_status qn__cuda_wait(struct qn__device *d, struct qn__fault *out, qn_error *err)
{
    struct qn__fault *fault = d->queue.fault;
    if (out) memset(out, 0, sizeof *out);
    QN_TRY(qn__cuda_sync(d, err));
    if (!out) return QN_OK;
    QN_TRY(copy(d, out, fault, sizeof *fault, cudaMemcpyDeviceToHost, err));
    if (!out->position) return QN_OK;
    return qn__cuda_check(cudaMemsetAsync(fault, 0, sizeof *fault, d->compute), "cudaMemsetAsync", NULL, err);
}

qn_status qn__cuda_finite(struct qn__device *d, const struct qn__view *v, bool *out, qn_error *err)
{
    int found = 0, *flag = &d->word->finite;
    *out = true;
    QN_TRY(qn__cuda_enter(d, err));
    QN_TRY(qn__cuda_check(cudaMemsetAsync(flag, 0, sizeof *flag, d->compute), "cudaMemsetAsync", NULL, err));
    QN_TRY(qn__cuda_check(qn__finite_launch(v->data, v->dtype, v->count, flag, &d->gpu, d->compute), "finite_vector",
                          NULL, err));
    QN_TRY(copy(d, &found, flag, sizeof found, cudaMemcpyDeviceToHost, err));
    *out = found == 0;
    return QN_OK;
}
