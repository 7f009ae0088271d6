/* pointwise.h - walking operands in the memory order of a result they broadcast to. For fused.c and broadcast.c. */
#ifndef QN_KERNELS_CPU_POINTWISE_H
#define QN_KERNELS_CPU_POINTWISE_H
#include "../walk.h"
#include "cpu.h"

/* Where an operand stands; see qn__cursor_next. */
struct qn__cursor {
    int64_t at[QN_WALK_MAX]; /* coordinates */
    int64_t offset;          /* in elements */
};

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
