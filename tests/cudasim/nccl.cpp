/* nccl.cpp - the calls of the simulated NCCL: communicators, groups, operations and what is refused.
 *
 * Beyond what the real library checks: a thread that holds several ranks of a communicator must use a group (it would
 * hang), buffers must be the communicator's device's and may lie on each other only where the manual says "in place",
 * and a stream must belong to the communicator's device. */
#include "nccl.h"
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

using namespace nccl;

static std::atomic<int> alive;
static std::vector<ncclComm_t> comms; /* of this process */
static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;
static thread_local std::string last_message;

size_t cudasim_nccl_live(void) { return (size_t)alive; }

static ncclResult_t fail(ncclResult_t result, const std::string &why)
{
    last_message = why;
    return result;
}

static bool injected(const char *call, ncclResult_t *result)
{
    int code = *result;
    if (!cudasim_inject(call, &code)) return false;
    *result = fail((ncclResult_t)code, std::string(call) + " failed on demand");
    return true;
}

bool nccl::live(ncclComm_t comm) { return comm && comm->magic == COMM; }

ncclResult_t ncclGetVersion(int *version)
{
    if (!version) return fail(ncclInvalidArgument, "ncclGetVersion: no place for it");
    *version = NCCL_VERSION_CODE;
    return ncclSuccess;
}

const char *ncclGetErrorString(ncclResult_t result)
{
    static const char *const texts[] = { "no error",
                                         "unhandled cuda error (run with NCCL_DEBUG=INFO for details)",
                                         "unhandled system error (run with NCCL_DEBUG=INFO for details)",
                                         "internal error - please report this issue to the NCCL developers",
                                         "invalid argument (run with NCCL_DEBUG=WARN for details)",
                                         "invalid usage (run with NCCL_DEBUG=WARN for details)",
                                         "remote process exited or there was a network error",
                                         "NCCL operation in progress" };
    return result >= 0 && result < ncclNumResults ? texts[result] : "unknown result code";
}

const char *ncclGetLastError(ncclComm_t comm)
{
    if (live(comm) && !comm->message.empty()) return comm->message.c_str();
    return last_message.c_str();
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *id)
{
    static std::atomic<int> number;
    struct timespec t;
    ncclResult_t result = ncclSystemError;
    if (injected("ncclGetUniqueId", &result)) return result;
    if (!id) return fail(ncclInvalidArgument, "ncclGetUniqueId: no place for it");
    clock_gettime(CLOCK_REALTIME, &t);
    memset(id, 0, sizeof *id);
    snprintf(id->internal, sizeof id->internal, "/cudasim-nccl-%d-%d-%lld", (int)getpid(), number++,
             (long long)t.tv_sec * 1000000000 + t.tv_nsec);
    return ncclSuccess;
}

/* ---- groups -------------------------------------------------------------------------------------------------------
 * */

/* What was called between ncclGroupStart and ncclGroupEnd: each communicator's operations by stream. */
struct Pending {
    ncclComm_t comm;
    cudaStream_t stream;
    std::vector<Operation> operation;
};
static thread_local int depth;
static thread_local std::vector<Pending> pending;
static thread_local std::vector<ncclComm_t> joining;
static thread_local ncclResult_t group_result;

ncclResult_t ncclGroupStart(void)
{
    ncclResult_t result = ncclInternalError;
    if (injected("ncclGroupStart", &result)) return result;
    if (depth++ == 0) group_result = ncclSuccess;
    return ncclSuccess;
}

static ncclResult_t first(ncclResult_t a, ncclResult_t b) { return a ? a : b; }

ncclResult_t ncclGroupEnd(void)
{
    ncclResult_t result = ncclInternalError;
    bool failed = injected("ncclGroupEnd", &result);
    if (depth == 0) return fail(ncclInvalidUsage, "ncclGroupEnd without ncclGroupStart");
    if (--depth) return failed ? result : ncclSuccess;
    std::vector<Pending> now;
    std::vector<ncclComm_t> new_ones;
    now.swap(pending);
    new_ones.swap(joining);
    if (failed) return result;
    result = group_result;
    bool later = false;
    for (ncclComm_t comm : new_ones) {
        if (comm->blocking)
            result = first(result, wait_complete(comm));
        else
            later = comm->in_progress = true;
    }
    for (Pending &p : now) {
        if (result) break;
        result = start(p.comm, std::move(p.operation), p.stream);
        if (!p.comm->blocking) later = p.comm->in_progress = true;
    }
    return result ? result : later ? ncclInProgress : ncclSuccess;
}

/* ---- communicators
 * --------------------------------------------------------------------------------------------------- */

static void forget(ncclComm_t comm)
{
    pthread_mutex_lock(&guard);
    for (size_t i = 0; i < comms.size(); i++)
        if (comms[i] == comm) {
            comms.erase(comms.begin() + (long)i);
            break;
        }
    pthread_mutex_unlock(&guard);
    comm->magic = 0;
    alive--;
    let_go(comm);
}

static ncclResult_t create(ncclComm_t *out, int ranks, const ncclUniqueId &id, int rank, int device, bool blocking)
{
    if (!out) return fail(ncclInvalidArgument, "no place for the communicator");
    *out = nullptr;
    if (ranks < 1 || ranks > MAX_RANKS || rank < 0 || rank >= ranks)
        return fail(ncclInvalidArgument, "rank " + std::to_string(rank) + " of " + std::to_string(ranks));
    ncclComm_t comm = new ncclComm();
    comm->magic = COMM;
    comm->rank = rank;
    comm->ranks = ranks;
    comm->device = device;
    comm->holders = 1;
    comm->blocking = blocking;
    comm->thread = pthread_self();
    alive++;
    pthread_mutex_lock(&guard);
    comms.push_back(comm);
    pthread_mutex_unlock(&guard);
    ncclResult_t result = join(comm, id);
    if (result) {
        fail(result, comm->message);
        forget(comm);
        return result;
    }
    *out = comm;
    if (depth) {
        joining.push_back(comm);
        return blocking ? ncclSuccess : ncclInProgress;
    }
    if (!blocking) {
        comm->in_progress = true;
        return ncclInProgress;
    }
    result = wait_complete(comm);
    if (!result) return ncclSuccess;
    fail(result, comm->message);
    leave(comm);
    forget(comm);
    *out = nullptr;
    return result;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *comm, int ranks, ncclUniqueId id, int rank, ncclConfig_t *config)
{
    ncclResult_t result = ncclUnhandledCudaError;
    int device = 0;
    bool blocking = true;
    if (injected("ncclCommInitRankConfig", &result)) return result;
    if (config) {
        if (config->size != sizeof *config || config->magic != 0xcafebeef)
            return fail(ncclInvalidArgument, "the configuration was not initialized");
        if (config->blocking != NCCL_CONFIG_UNDEF_INT && config->blocking != 0 && config->blocking != 1)
            return fail(ncclInvalidArgument, "blocking is neither 0 nor 1");
        blocking = config->blocking != 0;
    }
    if (cudaGetDevice(&device)) return fail(ncclUnhandledCudaError, "no device");
    return create(comm, ranks, id, rank, device, blocking);
}

ncclResult_t ncclCommInitRank(ncclComm_t *comm, int ranks, ncclUniqueId id, int rank)
{
    ncclResult_t result = ncclUnhandledCudaError;
    int device = 0;
    if (injected("ncclCommInitRank", &result)) return result;
    if (cudaGetDevice(&device)) return fail(ncclUnhandledCudaError, "no device");
    return create(comm, ranks, id, rank, device, true);
}

ncclResult_t ncclCommInitAll(ncclComm_t *comm, int n, const int *devices)
{
    ncclResult_t result = ncclUnhandledCudaError;
    ncclUniqueId id;
    int count = 0;
    if (injected("ncclCommInitAll", &result)) return result;
    if (!comm || n < 1 || cudaGetDeviceCount(&count)) return fail(ncclInvalidArgument, "ncclCommInitAll");
    for (int i = 0; i < n; i++) {
        int device = devices ? devices[i] : i;
        if (device < 0 || device >= count) return fail(ncclUnhandledCudaError, "no such device");
        for (int k = 0; k < i; k++)
            if ((devices ? devices[k] : k) == device) return fail(ncclInvalidUsage, "two ranks on one device");
    }
    result = ncclGetUniqueId(&id);
    if (!result) result = ncclGroupStart();
    if (result) return result;
    for (int i = 0; i < n; i++) result = first(result, create(&comm[i], n, id, i, devices ? devices[i] : i, true));
    return first(result, ncclGroupEnd());
}

/* Everything that was issued is done, or there is no hope. */
static void flush(ncclComm_t comm)
{
    struct timespec moment = { 0, 200 * 1000 }, begin, t;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    while (!comm->aborted && __atomic_load_n(&comm->holders, __ATOMIC_SEQ_CST) > 1) {
        int gone;
        if (!cudasim_progress()) nanosleep(&moment, nullptr);
        clock_gettime(CLOCK_MONOTONIC, &t);
        /* tasks of graphs are held for as long as the graph: nothing moves then */
        if (t.tv_sec - begin.tv_sec >= 1 && !comm->active) break;
        if (t.tv_sec - begin.tv_sec > patience() || lost(comm, &gone)) break;
    }
}

ncclResult_t ncclCommFinalize(ncclComm_t comm)
{
    ncclResult_t result = ncclInternalError;
    if (injected("ncclCommFinalize", &result)) return result;
    if (!comm) return ncclSuccess;
    if (!live(comm) || comm->finalized) return fail(ncclInvalidArgument, "ncclCommFinalize: not a communicator");
    flush(comm);
    comm->finalized = true;
    return ncclSuccess;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm)
{
    ncclResult_t result = ncclSuccess;
    injected("ncclCommDestroy", &result);
    if (!comm) return result; /* as the manual says */
    if (!live(comm)) return fail(ncclInvalidArgument, "ncclCommDestroy: not a communicator");
    if (!comm->finalized && complete(comm)) flush(comm);
    leave(comm);
    forget(comm);
    return result;
}

ncclResult_t ncclCommAbort(ncclComm_t comm)
{
    ncclResult_t result = ncclSuccess;
    injected("ncclCommAbort", &result);
    if (!comm) return result;
    if (!live(comm)) return fail(ncclInvalidArgument, "ncclCommAbort: not a communicator");
    comm->aborted = true;
    if (comm->shared) comm->shared->rank[comm->rank].aborted = 1;
    leave(comm);
    forget(comm);
    return result;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *error)
{
    ncclResult_t result = ncclInternalError;
    int gone;
    if (injected("ncclCommGetAsyncError", &result)) return result;
    if (!live(comm) || !error) return fail(ncclInvalidArgument, "ncclCommGetAsyncError: not a communicator");
    *error = (ncclResult_t)(int)comm->error;
    if (*error) return ncclSuccess;
    if (!complete(comm)) {
        *error = ncclInProgress;
    } else if (lost(comm, &gone)) {
        comm->message = "rank " + std::to_string(gone) + " is gone";
        *error = ncclRemoteError;
    } else if (comm->in_progress && !comm->blocking) {
        comm->in_progress = false;
        wait_complete(comm); /* all are there: begins what keeps streams going, at once */
    }
    return ncclSuccess;
}

#define QUERY(call, type, out, value) \
    ncclResult_t call(const ncclComm_t comm, type *out) \
    { \
        if (!live(comm) || !out) return fail(ncclInvalidArgument, #call ": not a communicator"); \
        *out = value; \
        return ncclSuccess; \
    }
QUERY(ncclCommCount, int, count, comm->ranks)
QUERY(ncclCommUserRank, int, rank, comm->rank)
QUERY(ncclCommCuDevice, int, device, comm->device)

/* ---- operations
 * ------------------------------------------------------------------------------------------------------- */

/* A thread with several ranks waits for itself, unless it says in a group what all of them do. */
static bool needs_group(ncclComm_t comm)
{
    bool found = false;
    pthread_mutex_lock(&guard);
    for (ncclComm_t other : comms)
        found = found || (other != comm && other->name == comm->name && pthread_equal(other->thread, comm->thread));
    pthread_mutex_unlock(&guard);
    return found && pthread_equal(comm->thread, pthread_self());
}

static bool overlap(const void *p, size_t n, const void *q, size_t m)
{
    return (const char *)p < (const char *)q + m && (const char *)q < (const char *)p + n;
}

/* Bytes that this rank reads and writes, and where its own part of a larger buffer begins. */
struct Extent {
    size_t in, out, part;
};
static Extent extent_of(ncclComm_t comm, const Signature &s)
{
    size_t one = s.count * size_of(s.type), all = one * (size_t)comm->ranks, own = one * (size_t)comm->rank;
    bool root = s.root == comm->rank;
    switch (s.kind) {
    case BROADCAST: return { root ? one : 0, one, 0 };
    case REDUCE: return { one, root ? one : 0, 0 };
    case REDUCE_SCATTER: return { all, one, own };
    case ALL_GATHER: return { one, all, own };
    case SEND: return { one, 0, 0 };
    case RECV: return { 0, one, 0 };
    default: return { one, one, 0 };
    }
}

static ncclResult_t examine(ncclComm_t comm, const Operation &o, cudaStream_t stream)
{
    const Signature &s = o.signature;
    const char *call = name_of(s.kind);
    size_t size = size_of(s.type);
    if (!live(comm) || comm->finalized) return fail(ncclInvalidArgument, std::string(call) + ": not a communicator");
    if (!size) return fail(ncclInvalidArgument, std::string(call) + ": type " + std::to_string(s.type));
    if (s.op < 0 || s.op >= ncclNumOps) return fail(ncclInvalidArgument, std::string(call) + ": operation");
    if (s.root < 0 || s.root >= comm->ranks) return fail(ncclInvalidArgument, std::string(call) + ": root or peer");
    if (!complete(comm) || (comm->in_progress && !depth))
        return fail(ncclInvalidUsage, std::string(call) + ": the communicator is still busy");
    if (comm->error) return fail(ncclInvalidUsage, std::string(call) + ": the communicator has failed");
    if (cudasim_stream_device(stream) != comm->device)
        return fail(ncclInvalidArgument, std::string(call) + ": the stream of another device");
    Extent e = extent_of(comm, s);
    if (!cudasim_range(o.send, e.in, comm->device, call) || !cudasim_range(o.recv, e.out, comm->device, call))
        return fail(ncclInvalidArgument, std::string(call) + ": buffer");
    if ((e.in && (uintptr_t)o.send % size) || (e.out && (uintptr_t)o.recv % size))
        return fail(ncclInvalidArgument, std::string(call) + ": buffer is not aligned to its type");
    /* in place: the same buffer, or this rank's part of the larger one */
    const char *in = (const char *)o.send, *out = (const char *)o.recv;
    bool in_place = s.kind == ALL_GATHER       ? in == out + e.part
                    : s.kind == REDUCE_SCATTER ? out == in + e.part
                                               : in == out;
    if (e.in && e.out && !in_place && overlap(o.send, e.in, o.recv, e.out)) {
        cudasim_report("%s: its buffers overlap, and not as the manual's \"in place\"", call);
        return fail(ncclInvalidArgument, std::string(call) + ": buffers overlap");
    }
    if (!depth && needs_group(comm)) {
        cudasim_report("%s: a thread with several ranks must use ncclGroupStart and ncclGroupEnd", call);
        return fail(ncclInvalidUsage, std::string(call) + ": no group");
    }
    return ncclSuccess;
}

static ncclResult_t issue(ncclComm_t comm, Operation o, cudaStream_t stream)
{
    ncclResult_t result = ncclUnhandledCudaError;
    if (injected(name_of(o.signature.kind), &result))
        return depth ? group_result = first(group_result, result) : result;
    result = examine(comm, o, stream);
    if (result) return depth ? group_result = first(group_result, result) : result;
    if (depth) {
        for (Pending &p : pending)
            if (p.comm == comm && p.stream == stream) {
                p.operation.push_back(o);
                return ncclSuccess;
            }
        pending.push_back({ comm, stream, { o } });
        return ncclSuccess;
    }
    result = start(comm, { o }, stream);
    if (result || comm->blocking) return result;
    comm->in_progress = true;
    return ncclInProgress;
}

static Signature signature(Kind kind, ncclDataType_t type, int op, int root, size_t count)
{
    Signature s = {};
    s.kind = kind;
    s.type = type;
    s.op = op;
    s.root = root;
    s.count = count;
    return s;
}

ncclResult_t ncclAllReduce(const void *send, void *recv, size_t count, ncclDataType_t type, ncclRedOp_t op,
                           ncclComm_t comm, cudaStream_t stream)
{
    return issue(comm, { signature(ALL_REDUCE, type, op, 0, count), send, recv }, stream);
}
ncclResult_t ncclReduce(const void *send, void *recv, size_t count, ncclDataType_t type, ncclRedOp_t op, int root,
                        ncclComm_t comm, cudaStream_t stream)
{
    return issue(comm, { signature(REDUCE, type, op, root, count), send, recv }, stream);
}
ncclResult_t ncclBroadcast(const void *send, void *recv, size_t count, ncclDataType_t type, int root, ncclComm_t comm,
                           cudaStream_t stream)
{
    return issue(comm, { signature(BROADCAST, type, 0, root, count), send, recv }, stream);
}
ncclResult_t ncclBcast(void *buffer, size_t count, ncclDataType_t type, int root, ncclComm_t comm, cudaStream_t stream)
{
    return ncclBroadcast(buffer, buffer, count, type, root, comm, stream);
}
ncclResult_t ncclReduceScatter(const void *send, void *recv, size_t count, ncclDataType_t type, ncclRedOp_t op,
                               ncclComm_t comm, cudaStream_t stream)
{
    return issue(comm, { signature(REDUCE_SCATTER, type, op, 0, count), send, recv }, stream);
}
ncclResult_t ncclAllGather(const void *send, void *recv, size_t count, ncclDataType_t type, ncclComm_t comm,
                           cudaStream_t stream)
{
    return issue(comm, { signature(ALL_GATHER, type, 0, 0, count), send, recv }, stream);
}
ncclResult_t ncclSend(const void *send, size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream)
{
    return issue(comm, { signature(SEND, type, 0, peer, count), send, nullptr }, stream);
}
ncclResult_t ncclRecv(void *recv, size_t count, ncclDataType_t type, int peer, ncclComm_t comm, cudaStream_t stream)
{
    return issue(comm, { signature(RECV, type, 0, peer, count), nullptr, recv }, stream);
}
