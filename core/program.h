/* program.h - the compiled program's fields; for compile.c, exec.c and report.c only. */
#ifndef QN_CORE_PROGRAM_H
#define QN_CORE_PROGRAM_H
#include "../include/quern/profile.h"
#include "plan.h"
#include <sys/types.h>

struct qn_program {
    qn_alloc alloc;
    qn_graph *g;                         /* what the passes left */
    qn_store *store;                     /* not owned; NULL if the graph has no tensors */
    struct qn__gpu_device *gpu;          /* NULL: the CPU */
    const struct qn_tuning *tuning;      /* while compiling; NULL: none */
    struct qn__runs *runs;               /* on the GPU */
    const struct qn__backend *described; /* NULL, or whose kernels are chosen for a GPU that need not be here: */
    struct qn__gpu description;
    int threads;
    bool outline;  /* cannot be loaded */
    pid_t process; /* that loaded it: OpenMP's threads do not follow a fork */

    int32_t *map; /* value of the user's graph -> value of g (0: gone) */
    int32_t n_map;
    int32_t *order;    /* schedule: nodes of g by position; micro first */
    int32_t *position; /* of each node of g */
    int32_t n_order, n_micro;

    struct qn__step *step; /* by position; kernel NULL where nothing is launched */
    struct qn__slot *slot; /* g->n values, then n_order workspaces */
    size_t work, io, naive, workspace;

    struct qn__io io_end; /* ends of the parts of io */
    void *raw;            /* io; behind it work, unless the store shares its arena. Beside a GPU only io: the host's */
    size_t raw_bytes;
    char *io_at, *work_at;
    int64_t rng_before[4]; /* the random state before the last micro run */
    const struct qn__tensor *rng;
    qn_step_timing *timing; /* by position; NULL: not measured */

    /* On a GPU: io is there as one block of constants and QN_SLOTS of all else; a random state for each slot follows,
     * and without a store the work arena. The steps of slot 1 differ from `step` in addresses only. */
    char *device_io;
    size_t device_bytes;
    struct qn__step *step_1;
    qn_error late;                    /* told by the next call that can */
    struct qn__timing *device_timing; /* as timing, filled by the device */
};

/* The node a position runs. */
static inline const struct qn__node *qn__program_node(const qn_program *p, int32_t k)
{
    return &p->g->node[p->order[k]];
}
/* Where kernels see a value in a slot (0 on the CPU); NULL before the program is loaded. */
void *qn__program_address(const qn_program *p, int32_t node, int slot);
/* exec_gpu.c: a program on a GPU. */
size_t qn__gpu_io_bytes(const qn_program *p);                  /* of the device, by the plan */
size_t qn__gpu_host_bytes(const qn_program *p, size_t mirror); /* of the host beside it; mirror: of the store's part */
char *qn__gpu_io(const qn_program *p, size_t offset, int slot);
qn_status qn__gpu_take(qn_program *p, qn_error *err);
qn_status qn__gpu_load(qn_program *p, qn_error *err);
void qn__gpu_unload(qn_program *p);
void qn__gpu_free(qn_program *p);
qn_status qn__gpu_run(qn_program *p, qn_phase phase, qn_error *err);
qn_status qn__gpu_wait(qn_program *p, qn_phase phase, int ago, qn_error *err);
const void *qn__gpu_past(qn_program *p, int32_t root, int ago); /* root: of a value in io or the store */
qn_status qn__gpu_find_nonfinite(qn_program *p, int ago, const int64_t *rng, int32_t *found, qn_error *err);
qn_status qn__gpu_repeat(qn_program *p, qn_error *err);
#endif
