/* pointwise.h - walking operands in the memory order of a result they broadcast to. For fused.c and broadcast.c. */
#ifndef QN_KERNELS_CPU_POINTWISE_H
#define QN_KERNELS_CPU_POINTWISE_H
#include "cpu.h"

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

/* Where an operand stands; see qn__cursor_next. */
struct qn__cursor {
    int64_t at[QN_WALK_MAX]; /* coordinates */
    int64_t offset;          /* in elements */
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
        memcpy(size, (int64_t[]){ d[0], d[1] / block, block, d[2], d[3] }, 5 * sizeof size[0]);
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

/* The cursor of operand k at element i of the result. */
static inline void qn__cursor_seek(const struct qn__walk *w, int k, int64_t i, struct qn__cursor *c)
{
    c->offset = 0;
    for (int j = w->n - 1; j >= 0; j--) {
        c->at[j] = i % w->size[j];
        i /= w->size[j];
        c->offset += c->at[j] * w->step[k][j];
    }
}

/* Moves on by `take` elements, which must not lead past the end of dimension j (all below j are whole). */
static inline void qn__cursor_next(const struct qn__walk *w, int k, int j, int64_t take, struct qn__cursor *c)
{
    c->at[j] += take;
    c->offset += take * w->step[k][j];
    for (; c->at[j] == w->size[j] && j > 0; j--) {
        c->offset += w->step[k][j - 1] - w->size[j] * w->step[k][j];
        c->at[j] = 0;
        c->at[j - 1]++;
    }
}

/* Loads n elements of operand k from the cursor on into dst. run(dst, src, offset, step, count, user) loads a
 * straight run. A short pattern that repeats (a bias over rows, channels in blocks) is loaded once and doubled. */
typedef void qn__run_fn(void *dst, const struct qn__view *src, int64_t offset, int64_t step, int64_t count);
static inline void qn__walk_load(const struct qn__walk *w, int k, const struct qn__view *src, struct qn__cursor *c,
                                 char *dst, int64_t n, size_t size, qn__run_fn *run)
{
    int last = w->n - 1;
    int64_t inner = w->size[last], step = w->step[k][last];
    bool repeats = last > 0 && w->step[k][last - 1] == 0 && step != 0;
    while (n > 0) {
        int64_t take = inner - c->at[last];
        if (take > n) take = n;
        run(dst, src, c->offset, step, take);
        qn__cursor_next(w, k, last, take, c);
        dst += (size_t)take * size;
        n -= take;
        if (!repeats || n < inner || c->at[last] != 0) continue;
        /* At the start of a row: load it, then copy what is there onto what follows, twice as long each time. */
        int64_t rows = w->size[last - 1] - c->at[last - 1], whole = n / inner;
        if (rows > whole) rows = whole;
        run(dst, src, c->offset, step, inner);
        for (int64_t done = 1; done < rows;) {
            int64_t m = done < rows - done ? done : rows - done;
            memcpy(dst + (size_t)(done * inner) * size, dst, (size_t)(m * inner) * size);
            done += m;
        }
        qn__cursor_next(w, k, last - 1, rows, c);
        dst += (size_t)(rows * inner) * size;
        n -= rows * inner;
    }
}
#endif
