/* nccl_clique.cpp - how the ranks of a communicator of the simulated NCCL find each other, and notice that one is
 * gone. */
#include "nccl.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

using namespace nccl;

int nccl::patience()
{
    const char *text = getenv("QN_CUDASIM_PATIENCE");
    int seconds = text ? atoi(text) : 60;
    return seconds > 0 ? seconds : 60;
}

static double now()
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}
static void moment()
{
    struct timespec t = { 0, 200 * 1000 };
    nanosleep(&t, nullptr);
}

/* ---- progress ------------------------------------------------------------------------------------------------- */

/* Runs while a communicator of this process has ranks in another. */
static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;
static pthread_t worker;
static int across; /* such communicators */
static std::atomic<bool> go_on;

static void *progress(void *)
{
    while (go_on)
        if (!cudasim_progress()) moment();
    return nullptr;
}

static bool has_strangers(const ncclComm *comm)
{
    for (int r = 0; r < comm->ranks; r++)
        if (comm->shared->rank[r].pid != getpid()) return true;
    return false;
}

static void count_across(int by)
{
    pthread_mutex_lock(&guard);
    across += by;
    bool begin = by > 0 && across == 1, end = by < 0 && across == 0;
    if (begin) {
        go_on = true;
        pthread_create(&worker, nullptr, progress, nullptr);
    }
    if (end) go_on = false;
    pthread_t old = worker;
    pthread_mutex_unlock(&guard);
    if (end) pthread_join(old, nullptr);
}

/* ---- shared memory ------------------------------------------------------------------------------------------------
 * */

static size_t slots_at() { return (sizeof(Shared) + 4095) / 4096 * 4096; }

char *nccl::slot_of(const ncclComm *comm, int rank) { return (char *)comm->shared + slots_at() + (size_t)rank * SLOT; }

Box *nccl::box_of(const ncclComm *comm, int from, int to)
{
    char *boxes = slot_of(comm, comm->ranks);
    return (Box *)(boxes + (size_t)(from * comm->ranks + to) * sizeof(Box));
}

static ncclResult_t refuse(ncclComm_t comm, ncclResult_t result, const char *why)
{
    comm->message = why;
    return result;
}

/* New shared memory is zeros, which is how every counter begins. */
ncclResult_t nccl::join(ncclComm_t comm, const ncclUniqueId &id)
{
    comm->name.assign(id.internal, strnlen(id.internal, sizeof id.internal));
    if (comm->name.compare(0, 14, "/cudasim-nccl-")) return refuse(comm, ncclInvalidArgument, "not a unique id");
    size_t n = (size_t)comm->ranks;
    comm->bytes = slots_at() + n * SLOT + n * n * sizeof(Box);
    int file = shm_open(comm->name.c_str(), O_RDWR | O_CREAT, 0600);
    if (file < 0) return refuse(comm, ncclSystemError, strerror(errno));
    void *p = ftruncate(file, (off_t)comm->bytes)
                  ? MAP_FAILED
                  : mmap(nullptr, comm->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (p == MAP_FAILED) return refuse(comm, ncclSystemError, "no shared memory");
    comm->shared = (Shared *)p;
    int32_t none = 0;
    if (!comm->shared->ranks.compare_exchange_strong(none, comm->ranks) && none != comm->ranks)
        return refuse(comm, ncclInvalidArgument, "ranks do not agree on their number");
    none = 0;
    if (!comm->shared->rank[comm->rank].pid.compare_exchange_strong(none, (int32_t)getpid()))
        return refuse(comm, ncclInvalidUsage, "two have the same rank");
    /* the last one to come takes the name away: nothing is left behind whatever happens later */
    if (++comm->shared->joined == comm->ranks) shm_unlink(comm->name.c_str());
    return ncclSuccess;
}

bool nccl::complete(ncclComm_t comm) { return comm->shared && comm->shared->joined >= comm->ranks; }

ncclResult_t nccl::wait_complete(ncclComm_t comm)
{
    double since = now();
    while (!complete(comm)) {
        if (now() - since > patience()) {
            shm_unlink(comm->name.c_str());
            return refuse(comm, ncclSystemError, "other ranks did not come in time");
        }
        moment();
    }
    if (has_strangers(comm) && !comm->across) {
        comm->across = true;
        count_across(1);
    }
    return ncclSuccess;
}

void nccl::leave(ncclComm_t comm)
{
    if (!comm->shared) return;
    if (comm->across) count_across(-1);
    comm->across = false;
    if (!complete(comm)) shm_unlink(comm->name.c_str());
}

bool nccl::lost(ncclComm_t comm, int *rank)
{
    for (int r = 0; r < comm->ranks; r++) {
        const Rank *p = &comm->shared->rank[r];
        int32_t pid = p->pid;
        *rank = r;
        if (p->aborted) return true;
        if (pid > 0 && pid != getpid() && kill(pid, 0) && errno == ESRCH) return true;
    }
    return false;
}

void nccl::hold(ncclComm_t comm) { __atomic_add_fetch(&comm->holders, 1, __ATOMIC_SEQ_CST); }

void nccl::let_go(ncclComm_t comm)
{
    if (__atomic_sub_fetch(&comm->holders, 1, __ATOMIC_SEQ_CST)) return;
    if (comm->shared) munmap(comm->shared, comm->bytes);
    delete comm;
}
