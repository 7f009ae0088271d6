/* reorder.c - [N,C,H,W] from one channel block to another (struct qn__blocked), any element type. */
#include "move.h"

enum { COPY, TO_BLOCKS, TO_PLAIN, BETWEEN };

static qn_status pick(const struct qn__args *a, struct qn__choice *c)
{
    const struct qn__reorder_attr *attr = a->attr;
    int32_t from = a->x[0].block, to = attr->block;
    c->x_block[0] = from;
    c->y_block = to;
    c->variant = from == to ? COPY : from == QN_PLAIN ? TO_BLOCKS : to == QN_PLAIN ? TO_PLAIN : BETWEEN;
    return QN_OK;
}

static int64_t common_divisor(int64_t a, int64_t b)
{
    while (b) {
        int64_t t = a % b;
        a = b;
        b = t;
    }
    return a;
}

/* plain [b][s] of each block <-> [s][b] */
static void turn_blocks(const struct qn__args *a, struct qn__blocked l, bool to_blocks)
{
    size_t size = qn_dtype_size(a->y.dtype);
    int64_t blocks = l.n * l.cb, bytes = l.s * l.b * (int64_t)size;
#pragma omp parallel for num_threads(qn__threads_for(a, a->y.count)) schedule(static)
    for (int64_t i = 0; i < blocks; i++) {
        char *to = (char *)a->y.data + i * bytes;
        const char *from = (const char *)a->x[0].data + i * bytes;
        if (to_blocks)
            QN_CAT(qn__turn, KIND)(to, l.b, from, l.s, l.b, l.s, size);
        else
            QN_CAT(qn__turn, KIND)(to, l.s, from, l.b, l.s, l.b, size);
    }
}

/* Channels that are neighbours in both orders move together. */
static void between_blocks(const struct qn__args *a, struct qn__blocked x, struct qn__blocked y)
{
    size_t size = qn_dtype_size(a->y.dtype);
    int64_t run = common_divisor(x.b, y.b), bytes = run * (int64_t)size, c = y.cb * y.b, blocks = y.n * y.cb;
#pragma omp parallel for num_threads(qn__threads_for(a, a->y.count)) schedule(static)
    for (int64_t i = 0; i < blocks; i++)
        for (int64_t j = 0; j < y.b; j += run) {
            int64_t channel = i % y.cb * y.b + j, n = i / y.cb;
            struct qn__box b = { .rank = 2,
                                 .dim = { y.s, run },
                                 .to = { y.b * (int64_t)size, (int64_t)size },
                                 .from = { x.b * (int64_t)size, (int64_t)size } };
            int64_t to = (i * y.s * y.b + j) * (int64_t)size;
            int64_t from = (n * c * x.s + (channel / x.b * x.s) * x.b + channel % x.b) * (int64_t)size;
            if (bytes)
                QN_CAT(qn__copy_box, KIND)((char *)a->y.data + to, (const char *)a->x[0].data + from, &b, size, 1);
        }
}

static qn_status launch(const struct qn__step *s, qn_error *err)
{
    (void)err;
    const struct qn__args *a = &s->args;
    if (a->y.count == 0) return QN_OK;
    struct qn__blocked x = qn__blocked_of(&a->x[0]), y = qn__blocked_of(&a->y);
    if (s->choice.variant == COPY) QN_CAT(qn__copy_bytes, KIND)
    (a->y.data, a->x[0].data, a->y.count * (int64_t)qn_dtype_size(a->y.dtype), qn__threads_for(a, a->y.count));
    else if (s->choice.variant == BETWEEN) between_blocks(a, x, y);
    else turn_blocks(a, s->choice.variant == TO_BLOCKS ? y : x, s->choice.variant == TO_BLOCKS);
    return QN_OK;
}

KERNEL(reorder) = { .variants = (const char *const[]){ "copy", "to_blocks", "to_plain", "between_blocks", NULL },
                    .pick = pick,
                    .launch = launch };
