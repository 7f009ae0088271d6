/* program.h - the compiled program's fields; for compile.c, exec.c and report.c only. */
#ifndef QN_CORE_PROGRAM_H
#define QN_CORE_PROGRAM_H
#include "../include/quern/profile.h"
#include "plan.h"
#include <sys/types.h>

struct qn_program {
    qn_alloc alloc;
    qn_graph *g;       /* what the passes left */
    qn_store *store;   /* not owned; NULL if the graph has no tensors */
    int threads;
    bool outline;      /* cannot be loaded */
    pid_t process;     /* that loaded it: OpenMP's threads do not follow a fork */

    int32_t *map;      /* value of the user's graph -> value of g (0: gone) */
    int32_t n_map;
    int32_t *order;    /* schedule: nodes of g by position; micro first */
    int32_t *position; /* of each node of g */
    int32_t n_order, n_micro;

    struct qn__step *step; /* by position; kernel NULL where nothing is launched */
    struct qn__slot *slot; /* g->n values, then n_order workspaces */
    size_t work, io, naive, workspace;

    void *raw;         /* io; behind it work, unless the store shares its arena */
    size_t raw_bytes;
    char *io_at, *work_at;
    int64_t rng_before[4]; /* the random state before the last micro run */
    const struct qn__tensor *rng;
    qn_step_timing *timing; /* by position; NULL: not measured */
};

/* The node a position runs. */
static inline const struct qn__node *qn__program_node(const qn_program *p, int32_t k)
{
    return &p->g->node[p->order[k]];
}
/* Address of a value; NULL before the program is loaded. */
void *qn__program_address(const qn_program *p, int32_t node);
#endif
