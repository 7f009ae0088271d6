/* broadcast.c - y[i] = x[i'], i' = i with 0 along x's dimensions of size 1. Bytes are moved, whatever they mean. */
#include "pointwise.h"

#define COPY(type) \
    { \
        const type *s = (const type *)src->data + offset; \
        type *y = dst; \
        if (step == 1) \
            memcpy(y, s, (size_t)n * sizeof *y); \
        else if (step == 0) \
            for (int64_t i = 0; i < n; i++) y[i] = *s; \
        else \
            for (int64_t i = 0; i < n; i++) y[i] = s[i * step]; \
        break; \
    }

static void copy_run(void *dst, const struct qn__view *src, int64_t offset, int64_t step, int64_t n)
{
    switch (qn_dtype_size(src->dtype)) {
    case 1: COPY(uint8_t)
    case 2: COPY(uint16_t)
    case 4: COPY(uint32_t)
    default: COPY(uint64_t)
    }
}

static void copy_range(const struct qn__walk *w, const struct qn__args *a, int64_t from, int64_t to)
{
    size_t size = qn_dtype_size(a->y.dtype);
    char *y = (char *)a->y.data + (size_t)from * size;
    enum qn__walk_kind kind = qn__walk_kind(w, 0);
    if (from >= to) return;
    if (kind != QN_WALK_STRIDED) {
        copy_run(y, &a->x[0], kind == QN_WALK_DENSE ? from : 0, kind == QN_WALK_DENSE, to - from);
        return;
    }
    struct qn__cursor c;
    qn__cursor_seek(w, 0, from, &c);
    qn__walk_load(w, 0, &a->x[0], &c, y, to - from, size, copy_run);
}

static qn_status pick(const struct qn__args *a, struct qn__choice *choice)
{
    int64_t block;
    choice->variant = 0;
    return qn__walk_block(a, &block) ? QN_OK : QN_EUSAGE;
}

static qn_status prepare(struct qn__step *s, qn_error *err)
{
    struct qn__walk *w = qn__calloc(&qn__std_alloc, 1, sizeof *w);
    if (!w) return qn__nomem(err, "broadcast", sizeof *w);
    int64_t block = QN_PLAIN;
    qn__walk_block(&s->args, &block);
    qn__walk_of(&s->args, block, w);
    s->state = w;
    return QN_OK;
}

static qn_status launch(const struct qn__step *s, qn_error *err)
{
    (void)err;
    const struct qn__args *a = &s->args;
    int threads = qn__threads_for(a, a->y.count);
    if (threads <= 1) {
        copy_range(s->state, a, 0, a->y.count);
        return QN_OK;
    }
#pragma omp parallel num_threads(threads)
    {
        int64_t n = omp_get_num_threads(), t = omp_get_thread_num();
        copy_range(s->state, a, a->y.count / n * t, t + 1 == n ? a->y.count : a->y.count / n * (t + 1));
    }
    return QN_OK;
}

static void release(struct qn__step *s)
{
    qn__free(&qn__std_alloc, s->state, sizeof(struct qn__walk));
    s->state = NULL;
}

KERNEL(broadcast) = { .variants = (const char *const[]){ "runs", NULL },
                      .pick = pick,
                      .prepare = prepare,
                      .launch = launch,
                      .release = release };
