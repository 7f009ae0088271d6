/* run.h - the runs of one program on a GPU, for run.c and replay.c. */
#ifndef QN_KERNELS_CUDA_RUN_H
#define QN_KERNELS_CUDA_RUN_H
#include "device.h"

enum { MICRO, UPDATE, PHASES };

struct qn__runs {
    struct qn__device *device;
    struct qn__queue queue;
    struct qn__load load;
    bool plain;              /* no graphs */
    struct qn__fault *fault; /* of the device, see qn__queue */

    /* By position: how many steps from here on go into one launch; 0: done by an earlier one. */
    int32_t *group;
    const struct qn__step **member; /* room for the largest */

    bool warm[PHASES]; /* has run plainly once */
    cudaGraphExec_t graph[PHASES][QN_SLOTS];

    int64_t started[PHASES];
    int slot; /* of the latest micro run */
    /* Pinned: batches by slot; kept values and faults by phase and run, QN_PAST of each. */
    char *pinned, *staged[QN_SLOTS], *ring[PHASES][QN_PAST];
    struct qn__fault *ring_fault[PHASES][QN_PAST];
    size_t pinned_bytes;

    cudaEvent_t arrived[QN_SLOTS];        /* the batch is on the device, its pinned buffer is free     */
    cudaEvent_t worked[QN_SLOTS];         /* no kernel reads or writes the slot any more                */
    cudaEvent_t ran[PHASES];              /* the latest run has left its kept values                   */
    cudaEvent_t fetched[PHASES][QN_PAST]; /* a run's kept values are in the ring                       */
    cudaEvent_t left[PHASES][QN_SLOTS];   /* the kept values of a slot have been read                  */
    cudaEvent_t *mark;                    /* n_steps + 1, for timing; NULL until it is asked for       */
};

/* What to launch together; once, when the addresses are known. */
qn_status qn__replay_load(struct qn__runs *r, qn_error *err);
void qn__replay_free(struct qn__runs *r);
/* Enqueues the kernels of a phase on the compute stream: replayed, or one by one. mark: an event after each step. */
qn_status qn__replay(struct qn__runs *r, int phase, int slot, qn_error *err);
qn_status qn__replay_marked(struct qn__runs *r, int phase, int slot, qn_error *err);
#endif
