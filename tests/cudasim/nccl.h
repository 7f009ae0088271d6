/* nccl.h - the simulated NCCL, shared by its files.
 *
 * The ranks of a communicator meet in shared memory that is named by the unique id, whether they are threads of one
 * process or processes. An operation is a task on its stream that goes on step by step and says "not yet" while a peer
 * is missing, so that nothing ever blocks the simulator. Where ranks are in different processes a thread of this
 * library keeps streams going: a real device works on while its host does something else. */
#ifndef QN_TESTS_CUDASIM_NCCL_H
#define QN_TESTS_CUDASIM_NCCL_H
#include "sim.h"
#pragma GCC visibility push(default)
#include <nccl.h>
/* Communicators that were created and not destroyed. */
extern "C" size_t cudasim_nccl_live(void);
#pragma GCC visibility pop
#include <atomic>
#include <string>
#include <vector>

namespace nccl
{

enum { MAX_RANKS = 32, SLOT = 1 << 20, BOX = 1 << 16 };
enum Kind { ALL_REDUCE, BROADCAST, REDUCE, REDUCE_SCATTER, ALL_GATHER, SEND, RECV };

/* What every rank must ask for alike. */
struct Signature {
    int32_t kind, type, op, root;
    uint64_t count;
};

/* ---- shared memory --------------------------------------------------------------------------------------------- */

/* A rank's part. Counters only grow; each is written by its rank alone. */
struct Rank {
    std::atomic<int32_t> pid;       /* 0: not there yet */
    std::atomic<int32_t> aborted;   /* gave up          */
    Signature signature;            /* of operation `op` */
    std::atomic<uint64_t> op;       /* announced               */
    std::atomic<uint64_t> done;     /* finished                */
    std::atomic<uint64_t> arrived;  /* chunks laid in the slot */
    std::atomic<uint64_t> consumed; /* chunks taken by all that this rank needs */
};
/* From one rank to one other: one chunk at a time. */
struct Box {
    std::atomic<uint64_t> sent, received;
    Signature signature;
    char data[BOX];
};
struct Shared {
    std::atomic<int32_t> ranks, joined;
    Rank rank[MAX_RANKS];
};

/* ---- communicators --------------------------------------------------------------------------------------------- */

struct Operation {
    Signature signature;
    const void *send;
    void *recv;
};
struct Task;
} // namespace nccl

struct ncclComm {
    uint32_t magic;
    int rank, ranks, device;
    int holders; /* its owner and the tasks that may still run */
    bool blocking, finalized;
    bool across; /* keeps the thread going that keeps streams going */
    std::atomic<bool> aborted;
    std::atomic<int> error; /* ncclResult_t */
    bool in_progress;       /* a call of a communicator that does not block has answered so */
    std::string name, message;
    nccl::Shared *shared;
    size_t bytes;
    uint64_t op;        /* operations that this rank has begun */
    nccl::Task *active; /* the one that holds the slots */
    pthread_t thread;   /* that created it */
};

namespace nccl
{
enum : uint32_t { COMM = 0x4d4f434e };

bool live(ncclComm_t comm);
size_t size_of(int type); /* 0: not simulated */
const char *name_of(int kind);
std::string text_of(const Signature &s);

/* clique.cpp: joining and leaving. */
ncclResult_t join(ncclComm_t comm, const ncclUniqueId &id);
bool complete(ncclComm_t comm); /* all ranks are there */
ncclResult_t wait_complete(ncclComm_t comm);
void leave(ncclComm_t comm);
bool lost(ncclComm_t comm, int *rank); /* a process of the communicator is gone, or gave up */
char *slot_of(const ncclComm *comm, int rank);
Box *box_of(const ncclComm *comm, int from, int to);
int patience(); /* seconds */

/* One more holder; the last one to let go frees it. */
void hold(ncclComm_t comm);
void let_go(ncclComm_t comm);

/* Operations of one communicator that are one piece of work on a stream. */
ncclResult_t start(ncclComm_t comm, std::vector<Operation> operations, cudaStream_t stream);
} // namespace nccl
#endif
