/* walk.h - operands in the memory order of a result they broadcast to: the dimensions that remain once those that
 * every operand walks as one are merged. For the pointwise kernels of every backend; C and C++. */
#ifndef QN_KERNELS_WALK_H
#define QN_KERNELS_WALK_H
#include "../core/backend.h"
#include <string.h>

/* The result's dimensions, outermost first, and each operand's step along them in elements (0: repeated).
 * Neighbours that every operand walks as one are merged, so there are as few as can be. */
enum { QN_WALK_MAX = QN_MAX_DIMS + 1 };
struct qn__walk {
    int32_t n;
    int64_t size[QN_WALK_MAX];
    int64_t step[QN_MAX_IN][QN_WALK_MAX];
};

/* How an operand's elements lie against the result's. */
enum qn__walk_kind {
    QN_WALK_DENSE,  /* the same order */
    QN_WALK_ONE,    /* one element for all */
    QN_WALK_STRIDED /* anything else */
};

/* False if the layouts do not go together: two different channel blocks, or a block beside a rank other than 4. */
static inline bool qn__walk_block(const struct qn__args *a, int64_t *block)
{
    *block = a->y.block;
    for (int k = 0; k < a->n_in; k++) {
        if (a->x[k].block == QN_PLAIN) continue;
        if (*block != QN_PLAIN && *block != a->x[k].block) return false;
        *block = a->x[k].block;
    }
    return *block == QN_PLAIN || a->y.rank == 4;
}

/* Steps of view v along the logical dims of a result of the given rank; 0 along dims of size 1. */
static inline void qn__plain_steps(const struct qn__view *v, int rank, int64_t *step)
{
    int64_t s = 1;
    for (int i = rank - 1; i >= 0; i--) {
        int j = i - (rank - v->rank);
        int64_t d = j < 0 ? 1 : v->dim[j];
        step[i] = d == 1 ? 0 : s;
        s *= d;
    }
}

/* The same along [N, C/b, c, H, W] if v itself is plain or has block b. */
static inline void qn__blocked_steps(const struct qn__view *v, int64_t b, int64_t *step)
{
    int64_t plain[4];
    qn__plain_steps(v, 4, plain);
    bool blocked = v->block != QN_PLAIN;
    int64_t channels = v->rank >= 3 ? v->dim[v->rank - 3] : 1, inner = blocked ? b : 1;
    step[0] = plain[0];
    step[3] = plain[2] * inner;
    step[4] = plain[3] * inner;
    step[1] = channels == 1 ? 0 : plain[1] * b;
    step[2] = channels == 1 ? 0 : blocked ? 1 : plain[1];
}

/* Appends a dimension inside those that are there, or merges it into the last if every operand allows that. */
static inline void qn__walk_append(struct qn__walk *w, int n_in, int64_t size, int64_t (*step)[QN_WALK_MAX], int i)
{
    if (size == 1) return;
    bool merge = w->n > 0;
    for (int k = 0; merge && k < n_in; k++) merge = w->step[k][w->n - 1] == step[k][i] * size;
    if (!merge) w->size[w->n++] = 1;
    w->size[w->n - 1] *= size;
    for (int k = 0; k < n_in; k++) w->step[k][w->n - 1] = step[k][i];
}

/* Fills w for y and every operand; order: y's memory. The layouts must have passed qn__walk_block. */
static inline void qn__walk_of(const struct qn__args *a, int64_t block, struct qn__walk *w)
{
    static const int plain_order[] = { 0, 1, 2, 3, 4, 5, 6, 7 };
    static const int split_order[] = { 0, 1, 2, 3, 4 };   /* y plain:   N, C/b, c, H, W */
    static const int blocked_order[] = { 0, 1, 3, 4, 2 }; /* y blocked: N, C/b, H, W, c */
    int64_t size[QN_WALK_MAX], step[QN_MAX_IN][QN_WALK_MAX] = { { 0 } };
    const int64_t *d = a->y.dim;
    int n = a->y.rank;
    const int *order = plain_order;
    memcpy(size, d, sizeof a->y.dim);
    if (block != QN_PLAIN) {
        n = 5;
        order = a->y.block == QN_PLAIN ? split_order : blocked_order;
        size[0] = d[0];
        size[1] = d[1] / block;
        size[2] = block;
        size[3] = d[2];
        size[4] = d[3];
    }
    for (int k = 0; k < a->n_in; k++)
        if (block != QN_PLAIN)
            qn__blocked_steps(&a->x[k], block, step[k]);
        else
            qn__plain_steps(&a->x[k], n, step[k]);
    w->n = 0;
    for (int j = 0; j < n; j++) qn__walk_append(w, a->n_in, size[order[j]], step, order[j]);
}

static inline enum qn__walk_kind qn__walk_kind(const struct qn__walk *w, int k)
{
    bool dense = true, one = true;
    int64_t s = 1;
    for (int i = w->n - 1; i >= 0; i--) {
        dense = dense && w->step[k][i] == s;
        one = one && w->step[k][i] == 0;
        s *= w->size[i];
    }
    return dense ? QN_WALK_DENSE : one ? QN_WALK_ONE : QN_WALK_STRIDED;
}
#endif
