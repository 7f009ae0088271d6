/* nccl_run.cpp - operations of the simulated NCCL, step by step.
 *
 * A collective: every rank announces its operation; when all have, the signatures are compared, and a difference is
 * named (the real library hangs or mixes data up). Then chunk by chunk: each rank lays its part in its slot, waits
 * for all, takes what it needs, and waits until all have taken. Sums are in f32 (or the integer type), ranks in
 * order. A send lays chunks in the box from its rank to its peer, a receive takes them out. */
#include "nccl.h"
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <math.h>
#include <new>
#include <string.h>

using namespace nccl;

struct nccl::Task {
    ncclComm_t comm;
    std::vector<Operation> operation;
    /* progress; begins anew when the task is run again (a graph) */
    std::vector<uint64_t> moved; /* elements of each operation */
    std::vector<bool> finished;
    int phase;
    uint64_t number; /* of the collective that is under way */
};

enum { ANNOUNCE, COMPARE, LAY, TAKE };

size_t nccl::size_of(int type)
{
    switch (type) {
    case ncclInt8:
    case ncclUint8: return 1;
    case ncclFloat16:
    case ncclBfloat16: return 2;
    case ncclInt32:
    case ncclUint32:
    case ncclFloat32: return 4;
    case ncclInt64:
    case ncclUint64:
    case ncclFloat64: return 8;
    default: return 0;
    }
}

const char *nccl::name_of(int kind)
{
    static const char *const names[] = { "ncclAllReduce", "ncclBroadcast", "ncclReduce", "ncclReduceScatter",
                                         "ncclAllGather", "ncclSend",      "ncclRecv" };
    return names[kind];
}

std::string nccl::text_of(const Signature &s)
{
    static const char *const types[] = { "int8",   "uint8", "int32", "uint32", "int64",
                                         "uint64", "f16",   "f32",   "f64",    "bf16" };
    static const char *const ops[] = { "sum", "prod", "max", "min", "avg" };
    std::string t = std::string(name_of(s.kind)) + " of " + std::to_string(s.count) + " " + types[s.type];
    if (s.kind == ALL_REDUCE || s.kind == REDUCE || s.kind == REDUCE_SCATTER) t += std::string(", ") + ops[s.op];
    if (s.kind == BROADCAST || s.kind == REDUCE) t += ", root " + std::to_string(s.root);
    return t;
}

/* ---- arithmetic ------------------------------------------------------------------------------------------------ */

template <class A> static A combine(A a, A b, int op)
{
    switch (op) {
    case ncclProd: return a * b;
    case ncclMax: return a != a || a > b ? a : b;
    case ncclMin: return a != a || a < b ? a : b;
    default: return a + b;
    }
}

/* Element i of every rank's slot, combined; A: what is computed with. */
template <class T, class A> static void reduce(const ncclComm *comm, void *out, size_t from, size_t n, int op)
{
    for (size_t i = 0; i < n; i++) {
        A sum = (A)((const T *)slot_of(comm, 0))[from + i];
        for (int r = 1; r < comm->ranks; r++) sum = combine(sum, (A)((const T *)slot_of(comm, r))[from + i], op);
        if (op == ncclAvg) sum = sum / (A)comm->ranks;
        ((T *)out)[i] = (T)sum;
    }
}

static void reduce_any(const ncclComm *comm, const Signature &s, void *out, size_t from, size_t n)
{
    switch (s.type) {
    case ncclInt8: return reduce<int8_t, int64_t>(comm, out, from, n, s.op);
    case ncclUint8: return reduce<uint8_t, uint64_t>(comm, out, from, n, s.op);
    case ncclInt32: return reduce<int32_t, int64_t>(comm, out, from, n, s.op);
    case ncclUint32: return reduce<uint32_t, uint64_t>(comm, out, from, n, s.op);
    case ncclInt64: return reduce<int64_t, int64_t>(comm, out, from, n, s.op);
    case ncclUint64: return reduce<uint64_t, uint64_t>(comm, out, from, n, s.op);
    case ncclFloat16: return reduce<__half, float>(comm, out, from, n, s.op);
    case ncclBfloat16: return reduce<__nv_bfloat16, float>(comm, out, from, n, s.op);
    case ncclFloat32: return reduce<float, float>(comm, out, from, n, s.op);
    default: return reduce<double, double>(comm, out, from, n, s.op);
    }
}

/* ---- collectives --------------------------------------------------------------------------------------------------
 * */

/* Elements of a chunk: what a rank lays for one fits in its slot. */
static uint64_t chunk_of(const ncclComm *comm, const Signature &s)
{
    uint64_t parts = s.kind == REDUCE_SCATTER ? (uint64_t)comm->ranks : 1;
    return SLOT / size_of(s.type) / parts;
}

static bool all_reached(const ncclComm *comm, std::atomic<uint64_t> Rank::*counter, uint64_t value)
{
    for (int r = 0; r < comm->ranks; r++)
        if (comm->shared->rank[r].*counter < value) return false;
    return true;
}

static int disagree(Task *t, const Signature &mine)
{
    ncclComm_t comm = t->comm;
    for (int r = 0; r < comm->ranks; r++) {
        const Signature &other = comm->shared->rank[r].signature;
        if (!memcmp(&mine, &other, sizeof mine)) continue;
        comm->message = "rank " + std::to_string(comm->rank) + " calls " + text_of(mine) + ", rank " +
                        std::to_string(r) + " " + text_of(other);
        comm->error = ncclInvalidUsage;
        cudasim_report("NCCL: operation %llu of a communicator: %s", (unsigned long long)t->number,
                       comm->message.c_str());
        return CUDASIM_FAILED;
    }
    return CUDASIM_DONE;
}

static void lay(Task *t, const Operation &o, uint64_t at, uint64_t n)
{
    const Signature &s = o.signature;
    size_t size = size_of(s.type);
    char *slot = slot_of(t->comm, t->comm->rank);
    if (s.kind == BROADCAST && s.root != t->comm->rank) return;
    int parts = s.kind == REDUCE_SCATTER ? t->comm->ranks : 1;
    for (int p = 0; p < parts; p++) {
        const char *from = (const char *)o.send + ((uint64_t)p * s.count + at) * size;
        cudasim_read(from, n * size, name_of(s.kind));
        memcpy(slot + (size_t)p * n * size, from, n * size);
    }
}

static void take(Task *t, const Operation &o, uint64_t at, uint64_t n)
{
    const Signature &s = o.signature;
    const ncclComm *comm = t->comm;
    size_t size = size_of(s.type);
    char *out = (char *)o.recv + at * size;
    if (s.kind == REDUCE && s.root != comm->rank) return;
    if (s.kind == ALL_GATHER) {
        for (int r = 0; r < comm->ranks; r++) {
            char *to = out + (uint64_t)r * s.count * size;
            memcpy(to, slot_of(comm, r), n * size);
            cudasim_written(to, n * size);
        }
        return;
    }
    if (s.kind == BROADCAST)
        memcpy(out, slot_of(comm, s.root), n * size);
    else
        reduce_any(comm, s, out, s.kind == REDUCE_SCATTER ? (size_t)comm->rank * n : 0, n);
    cudasim_written(out, n * size);
}

/* As far as it goes without a peer that is missing. */
static int go(Task *t, size_t i)
{
    ncclComm_t comm = t->comm;
    Operation &o = t->operation[i];
    Rank *me = &comm->shared->rank[comm->rank];
    const Signature &s = o.signature;
    if (comm->active && comm->active != t) return CUDASIM_NOT_YET;
    if (t->phase == ANNOUNCE) {
        if (!all_reached(comm, &Rank::done, comm->op)) return CUDASIM_NOT_YET;
        comm->active = t;
        t->number = ++comm->op;
        me->signature = s;
        me->op = t->number;
        t->phase = COMPARE;
    }
    if (t->phase == COMPARE) {
        if (!all_reached(comm, &Rank::op, t->number)) return CUDASIM_NOT_YET;
        if (disagree(t, s)) return CUDASIM_FAILED;
        t->phase = LAY;
    }
    uint64_t chunk = chunk_of(comm, s);
    for (;;) {
        uint64_t at = t->moved[i], n = s.count - at < chunk ? s.count - at : chunk;
        if (n == 0) break;
        uint64_t step = (t->number << 32) + at / chunk; /* counters are compared through all operations */
        if (t->phase == LAY) {
            if (at && !all_reached(comm, &Rank::consumed, step)) return CUDASIM_NOT_YET;
            lay(t, o, at, n);
            me->arrived = step + 1;
            t->phase = TAKE;
        }
        if (!all_reached(comm, &Rank::arrived, step + 1)) return CUDASIM_NOT_YET;
        take(t, o, at, n);
        me->consumed = step + 1;
        t->moved[i] = at + n;
        t->phase = LAY;
    }
    me->done = t->number;
    comm->active = nullptr;
    t->phase = ANNOUNCE;
    return CUDASIM_DONE;
}

/* ---- from rank to rank
 * --------------------------------------------------------------------------------------------- */

static int pass(Task *t, size_t i)
{
    ncclComm_t comm = t->comm;
    Operation &o = t->operation[i];
    const Signature &s = o.signature;
    bool out = s.kind == SEND;
    Box *b = out ? box_of(comm, comm->rank, s.root) : box_of(comm, s.root, comm->rank);
    size_t size = size_of(s.type);
    while (t->moved[i] < s.count) {
        uint64_t at = t->moved[i], n = s.count - at < BOX / size ? s.count - at : BOX / size;
        bool full = b->sent > b->received;
        if (out == full) return CUDASIM_NOT_YET;
        if (out) {
            const char *from = (const char *)o.send + at * size;
            cudasim_read(from, n * size, "ncclSend");
            memcpy(b->data, from, n * size);
            b->signature = s;
            b->sent++;
        } else {
            if (b->signature.count != s.count || b->signature.type != s.type) {
                comm->message = "rank " + std::to_string(comm->rank) + " calls " + text_of(s) + " from rank " +
                                std::to_string(s.root) + ", which calls " + text_of(b->signature);
                comm->error = ncclInvalidUsage;
                cudasim_report("NCCL: %s", comm->message.c_str());
                return CUDASIM_FAILED;
            }
            char *to = (char *)o.recv + at * size;
            memcpy(to, b->data, n * size);
            cudasim_written(to, n * size);
            b->received++;
        }
        t->moved[i] = at + n;
    }
    return CUDASIM_DONE;
}

/* ---- tasks
 * ------------------------------------------------------------------------------------------------------------ */

static void begin(Task *t)
{
    t->moved.assign(t->operation.size(), 0);
    t->finished.assign(t->operation.size(), false);
    t->phase = ANNOUNCE;
}

/* Collectives one after another, sends and receives beside them. After an abort nothing moves: results stay as they
 * are, and the stream goes on. */
static int run(void *state)
{
    Task *t = (Task *)state;
    bool waits = false, collective = false;
    for (size_t i = 0; i < t->operation.size() && !t->comm->aborted; i++) {
        if (t->finished[i]) continue;
        bool pair = t->operation[i].signature.kind >= SEND;
        if (!pair && collective) continue;
        int answer = pair ? pass(t, i) : go(t, i);
        if (answer == CUDASIM_FAILED) return answer;
        t->finished[i] = answer == CUDASIM_DONE;
        waits |= answer == CUDASIM_NOT_YET;
        collective |= !pair && answer == CUDASIM_NOT_YET;
    }
    if (t->comm->aborted && t->comm->active == t) t->comm->active = nullptr;
    if (waits) return CUDASIM_NOT_YET;
    begin(t);
    return CUDASIM_DONE;
}

static void release(void *state)
{
    Task *t = (Task *)state;
    if (t->comm->active == t) t->comm->active = nullptr;
    let_go(t->comm);
    delete t;
}

ncclResult_t nccl::start(ncclComm_t comm, std::vector<Operation> operations, cudaStream_t stream)
{
    const char *what = operations.size() == 1 ? name_of(operations[0].signature.kind) : "operations of an NCCL group";
    Task *t = new (std::nothrow) Task{ comm, std::move(operations), {}, {}, ANNOUNCE, 0 };
    if (!t) return ncclSystemError;
    begin(t);
    hold(comm);
    return cudasim_enqueue(stream, what, run, t, release) ? ncclUnhandledCudaError : ncclSuccess;
}
