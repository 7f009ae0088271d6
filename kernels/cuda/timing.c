/* timing.c - the time of one kernel by itself, for benchmarks: events around a launch, the L2 cache flushed before. */
#include "device.h"

static qn_status one(struct qn__device *d, const struct qn__step *s, cudaEvent_t event[2], double *seconds,
                     qn_error *err)
{
    float ms = 0;
    QN_TRY(qn__cuda_check(cudaEventRecord(event[0], d->compute), "cudaEventRecord", s, err));
    QN_TRY(s->kernel->launch(s, err));
    QN_TRY(qn__cuda_check(cudaEventRecord(event[1], d->compute), "cudaEventRecord", s, err));
    QN_TRY(qn__cuda_check(cudaEventSynchronize(event[1]), "cudaEventSynchronize", s, err));
    QN_TRY(qn__cuda_check(cudaEventElapsedTime(&ms, event[0], event[1]), "cudaEventElapsedTime", s, err));
    *seconds = (double)ms * 1e-3;
    return QN_OK;
}

qn_status qn__cuda_time(struct qn__device *d, const struct qn__step *s, int repeats, double *seconds, qn_error *err)
{
    cudaEvent_t event[2] = { NULL, NULL };
    size_t bytes = 2 * (size_t)d->gpu.l2 + 1; /* writing twice its size leaves nothing of ours in the cache */
    void *flush = NULL;
    qn_status status = qn__cuda_enter(d, err);
    if (!status) status = qn__cuda_take(d, &flush, bytes, err);
    for (int i = 0; i < 2 && !status; i++)
        status = qn__cuda_check(cudaEventCreate(&event[i]), "cudaEventCreate", s, err);
    for (int i = 0; i < repeats && !status; i++) {
        status = qn__cuda_check(cudaMemsetAsync(flush, i, bytes, d->compute), "cudaMemsetAsync", s, err);
        if (!status) status = one(d, s, event, &seconds[i], err);
    }
    for (int i = 0; i < 2; i++)
        if (event[i]) cudaEventDestroy(event[i]);
    if (flush) qn__cuda_give(d, flush, bytes);
    return status;
}
