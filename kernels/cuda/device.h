/* device.h - one opened GPU, for plugin.c, device.c, run.c and replay.c. */
#ifndef QN_KERNELS_CUDA_DEVICE_H
#define QN_KERNELS_CUDA_DEVICE_H
#include "cuda.h"
#include "../../core/base.h"

struct qn__device {
    qn_alloc alloc;
    int index;
    struct qn__gpu gpu;
    /* Kernels; batches on their way up; kept values on their way down; collectives. Work of different streams is
     * ordered by events only. */
    cudaStream_t compute, up, down, communication;
    cublasLtHandle_t lt;
    struct qn__dnn *dnn;
    bool plain;             /* QN_GRAPHS=off */
    bool sync;              /* QN_SYNC=1     */
    struct qn__queue queue; /* for kernels that are no program's */
    struct {
        int finite;
        struct qn__fault fault;
    } * word; /* of the device: what qn__cuda_finite found, what a kernel met */
};

/* The calling thread works with this GPU from here on. */
qn_status qn__cuda_enter(const struct qn__device *d, qn_error *err);

qn_status qn__cuda_count(int *out, qn_error *err);
qn_status qn__cuda_info(int index, struct qn__device_info *out, qn_error *err);
qn_status qn__cuda_open(struct qn__device **out, int index, const qn_alloc *alloc, qn_error *err);
void qn__cuda_close(struct qn__device *d);
const struct qn__gpu *qn__cuda_describe(const struct qn__device *d);
qn_status qn__cuda_identity(struct qn__device *d, struct qn__identity *out, qn_error *err);
qn_status qn__cuda_memory(struct qn__device *d, int64_t *available, int64_t *total, qn_error *err);
qn_status qn__cuda_take(struct qn__device *d, void **out, size_t bytes, qn_error *err);
void qn__cuda_give(struct qn__device *d, void *memory, size_t bytes);
qn_status qn__cuda_put(struct qn__device *d, void *device, const void *host, size_t bytes, qn_error *err);
qn_status qn__cuda_get(struct qn__device *d, void *host, const void *device, size_t bytes, qn_error *err);
const struct qn__queue *qn__cuda_queue(struct qn__device *d, int stream);
qn_status qn__cuda_sync(struct qn__device *d, qn_error *err); /* all streams */
qn_status qn__cuda_wait(struct qn__device *d, struct qn__fault *out, qn_error *err);
qn_status qn__cuda_time(struct qn__device *d, const struct qn__step *s, int repeats, double *seconds, qn_error *err);
qn_status qn__cuda_finite(struct qn__device *d, const struct qn__view *v, bool *out, qn_error *err);

qn_status qn__runs_open(struct qn__runs **out, struct qn__device *d, bool plain, qn_error *err);
void qn__runs_close(struct qn__runs *r);
const struct qn__queue *qn__runs_queue(const struct qn__runs *r);
qn_status qn__runs_load(struct qn__runs *r, const struct qn__load *load, qn_error *err);
qn_status qn__runs_start(struct qn__runs *r, int phase, qn_error *err);
qn_status qn__runs_time(struct qn__runs *r, int phase, struct qn__timing *out, qn_error *err);
qn_status qn__runs_wait(struct qn__runs *r, int phase, int ago, struct qn__fault *out, qn_error *err);
const void *qn__runs_kept(const struct qn__runs *r, int phase, int ago);
int qn__runs_slot(const struct qn__runs *r, int ago);

/* finite.cu: sets *flag to 1 if an element is not finite; and whether the machine code in this plugin fits the GPU. */
#ifdef __cplusplus
extern "C" {
#endif
cudaError_t qn__finite_launch(const void *x, qn_dtype dtype, int64_t n, int *flag, const struct qn__gpu *gpu,
                              cudaStream_t stream);
cudaError_t qn__finite_probe(void);
#ifdef __cplusplus
}
#endif
#endif
