/* plan.h - where every value lives. Private to core/. */
#ifndef QN_CORE_PLAN_H
#define QN_CORE_PLAN_H
#include "graph_impl.h"
#include "store_impl.h"

enum qn__place {
    QN_PLACE_NONE,  /* no bytes: dead or "no value"                                   */
    QN_PLACE_WORK,  /* the arena whose ranges are reused                               */
    QN_PLACE_IO,    /* inputs, kept values, constants: bytes of their own              */
    QN_PLACE_STORE, /* a tensor of the store                                           */
};

/* A value, or the workspace of a step, in time (position in the schedule) and space. Values that share bytes
 * (reshape, in-place results, written store tensors) have the same root; only the root's place, offset, bytes and
 * lifetime count. */
struct qn__slot {
    int32_t root;
    enum qn__place place;
    int32_t first, last; /* positions of the first write and the last access */
    bool alone;          /* touched by another stream than the compute stream  */
    size_t bytes, offset;
};

/* io is laid out by what happens to it: constants first, then what the caller writes before a run, then what it reads
 * after one of each phase. Here each part ends; the update's at plan->io. */
struct qn__io {
    size_t constants, inputs, kept_micro;
};

struct qn__plan {
    const qn_graph *g;
    const int32_t *position; /* of each node in the schedule                                          */
    int32_t n_steps;
    const size_t *workspace;       /* by position: bytes of workspace of the step (0: none)                 */
    const bool *kept;              /* by node                                                               */
    bool reuse;                    /* false: every value its own bytes                                      */
    const int32_t *group;          /* by position: steps from here on in one launch; 0: in an earlier one's */
    const enum qn__stream *stream; /* by position */
    /* results */
    struct qn__slot *slot; /* g->n of the values, then n_steps of the workspaces; the caller's memory */
    struct qn__io io_end;
    size_t work, io, naive;
    size_t workspace_most; /* at one time */
};

/* The value whose bytes i is: followed through reshapes and writes only, so that in-place results count as new. */
int32_t qn__plan_identity(const qn_graph *g, int32_t i);
/* Fills group (n_steps of them) for a backend that can launch several steps of a kernel at once. */
void qn__plan_groups(const qn_graph *g, const int32_t *order, const struct qn__step *step, int32_t n_micro,
                     int32_t n_steps, int32_t *group);

/* Fills slots: aliases, lifetimes, places, offsets. The arena is reused in the order of the compute stream: what a
 * step of another stream touches shares its bytes with nothing, and the steps of a group live as long as the group. */
qn_status qn__plan_make(struct qn__plan *p, const qn_alloc *alloc, qn_error *err);

/* Proves the plan by replaying the schedule over the arena: every byte range that a step reads still holds what
 * was written for it; no step of a group writes where another of it reads or writes; what another stream than the
 * compute stream touches lies apart from everything. Independent of how the plan was made. E7070 names the first step
 * and operand that is wrong. */
qn_status qn__plan_verify(const struct qn__plan *p, const int32_t *order, const qn_alloc *alloc, qn_error *err);
#endif
