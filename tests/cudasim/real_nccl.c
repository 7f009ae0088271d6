/* real_nccl.c - what test_real_libraries.c asks of NCCL: everything that needs no device. */
#include "real.h"
#if REAL_LIBRARIES
#include <nccl.h>

#define NCCL_CALLS(X) \
    X(ncclGetVersion) \
    X(ncclGetErrorString) \
    X(ncclGetUniqueId) \
    X(ncclGroupStart) \
    X(ncclGroupEnd) \
    X(ncclCommCount) \
    X(ncclCommUserRank) \
    X(ncclCommCuDevice) \
    X(ncclCommGetAsyncError) \
    X(ncclCommDestroy) \
    X(ncclCommAbort) \
    X(ncclCommFinalize) \
    X(ncclAllReduce) \
    X(ncclBroadcast) \
    X(ncclReduce) \
    X(ncclReduceScatter) \
    X(ncclAllGather) \
    X(ncclSend) \
    X(ncclRecv)

static struct {
#define X(name) __typeof__(name) *name;
    NCCL_CALLS(X)
#undef X
} nccl;

void real_nccl(void *library)
{
    int v = -1, n = 0;
    ncclUniqueId id;
    ncclResult_t answer;
#define X(name) REAL_FIND(nccl, library, name);
    NCCL_CALLS(X)
#undef X
    real_say("version: %d", (int)nccl.ncclGetVersion(&v));
    real_say("is %d", v);
    for (int i = -1; i < 10; i++) real_say("%d: %s", i, nccl.ncclGetErrorString((ncclResult_t)i));
    real_say("version to NULL: %d", (int)nccl.ncclGetVersion(NULL));
    real_say("unique id: %d, to NULL: %d", (int)nccl.ncclGetUniqueId(&id), (int)nccl.ncclGetUniqueId(NULL));
    real_say("end of no group: %d", (int)nccl.ncclGroupEnd());
    real_say("group begins: %d", (int)nccl.ncclGroupStart());
    real_say("group begins in a group: %d", (int)nccl.ncclGroupStart());
    real_say("ends: %d", (int)nccl.ncclGroupEnd());
    real_say("ends: %d", (int)nccl.ncclGroupEnd());
    real_say("ends once more: %d", (int)nccl.ncclGroupEnd());
    real_say("count of NULL: %d", (int)nccl.ncclCommCount(NULL, &n));
    real_say("rank of NULL: %d", (int)nccl.ncclCommUserRank(NULL, &n));
    real_say("device of NULL: %d", (int)nccl.ncclCommCuDevice(NULL, &n));
    real_say("error of NULL: %d", (int)nccl.ncclCommGetAsyncError(NULL, &answer));
    real_say("finalize NULL: %d", (int)nccl.ncclCommFinalize(NULL));
    real_say("destroy NULL: %d", (int)nccl.ncclCommDestroy(NULL));
    real_say("abort NULL: %d", (int)nccl.ncclCommAbort(NULL));
    real_say("all reduce on NULL: %d", (int)nccl.ncclAllReduce(NULL, NULL, 0, ncclFloat, ncclSum, NULL, NULL));
    real_say("broadcast on NULL: %d", (int)nccl.ncclBroadcast(NULL, NULL, 0, ncclFloat, 0, NULL, NULL));
    real_say("reduce on NULL: %d", (int)nccl.ncclReduce(NULL, NULL, 0, ncclFloat, ncclSum, 0, NULL, NULL));
    real_say("reduce scatter on NULL: %d", (int)nccl.ncclReduceScatter(NULL, NULL, 0, ncclFloat, ncclSum, NULL, NULL));
    real_say("all gather on NULL: %d", (int)nccl.ncclAllGather(NULL, NULL, 0, ncclFloat, NULL, NULL));
    real_say("send on NULL: %d", (int)nccl.ncclSend(NULL, 0, ncclFloat, 0, NULL, NULL));
    real_say("receive on NULL: %d", (int)nccl.ncclRecv(NULL, 0, ncclFloat, 0, NULL, NULL));
}
#endif
