/* attention_grad_q.c - q, k, v, y, l, dy -> dq = scale ds k, ds = p (dy v^T - d); if wanted d [B,H,T] = sum over D of
 * dy y. A block of queries goes once along the keys. */
#include "attention.h"

/* q, dy, values transposed, keys, keys transposed, sums; scores and their gradient. */
struct block {
    REAL *q, *dy, *values, *keys, *turned, *sum, *scores, *dscores;
    REAL d[ATTENTION_BLOCK];
};

static inline __attribute__((always_inline)) void add_keys(const struct heads *h, struct block *b, const REAL *l,
                                                           int64_t first, int64_t rows, int64_t begin)
{
    int64_t keys = h->keys - begin < ATTENTION_BLOCK ? h->keys - begin : ATTENTION_BLOCK;
    block_product(b->scores, b->q, h->padded, b->turned, ATTENTION_BLOCK, rows, keys, h->size, false);
    block_product(b->dscores, b->dy, h->padded, b->values, ATTENTION_BLOCK, rows, keys, h->size, false);
    for (int64_t i = 0; i < ATTENTION_BLOCK; i++) {
        REAL *s = b->scores + i * ATTENTION_BLOCK, *ds = b->dscores + i * ATTENTION_BLOCK;
        int64_t seen = i < rows ? keys_seen(h, first + i) - begin : 0;
        if (seen > 0)
            score_gradient(s, ds, s, ds, h->scale, l[i], b->d[i], seen < keys ? seen : keys);
        else
            memset(ds, 0, ATTENTION_BLOCK * sizeof *ds);
    }
    block_product(b->sum, b->dscores, ATTENTION_BLOCK, b->keys, h->padded, rows, h->padded, keys, true);
}

QN_CLONES static void follow(const struct heads *h, struct block *b, const REAL *k, const REAL *v, const REAL *l,
                             int64_t first, int64_t rows)
{
    int64_t last = keys_seen(h, first + rows - 1), width = h->size;
    memset(b->sum, 0, (size_t)(ATTENTION_BLOCK * h->padded) * sizeof(REAL));
    for (int64_t begin = 0; begin < last; begin += ATTENTION_BLOCK) {
        int64_t keys = h->keys - begin < ATTENTION_BLOCK ? h->keys - begin : ATTENTION_BLOCK;
        take_rows(h, b->keys, k + begin * width, keys);
        take_columns(h, b->turned, k + begin * width, keys);
        take_columns(h, b->values, v + begin * width, keys);
        add_keys(h, b, l, first, rows, begin);
    }
}

/* Of a head: block `first` of its queries. */
static void run_block(const struct heads *h, struct block *b, const struct qn__args *a, int64_t head, int64_t first)
{
    int64_t rows = h->queries - first < ATTENTION_BLOCK ? h->queries - first : ATTENTION_BLOCK, width = h->size;
    int64_t at = (head * h->queries + first) * width, kv = head / (h->heads / h->kv_heads) * h->keys * width;
    const REAL *y = qn__real(&a->x[3]) + at, *dy = qn__real(&a->x[5]) + at;
    REAL *dq = qn__real(&a->y) + at, *d = a->more[0].data ? qn__real(&a->more[0]) + head * h->queries + first : NULL;
    for (int64_t i = 0; i < rows; i++) {
        double sum = 0;
        for (int64_t j = 0; j < width; j++) sum += (double)dy[i * width + j] * (double)y[i * width + j];
        b->d[i] = (REAL)sum;
        if (d) d[i] = b->d[i];
    }
    take_rows(h, b->q, qn__real(&a->x[0]) + at, rows);
    take_rows(h, b->dy, dy, rows);
    follow(h, b, qn__real(&a->x[1]) + kv, qn__real(&a->x[2]) + kv, qn__real(&a->x[4]) + head * h->queries + first,
           first, rows);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < width; j++) dq[i * width + j] = b->sum[i * h->padded + j];
}

static qn_status launch(const struct qn__step *step, qn_error *err)
{
    (void)err;
    const struct qn__args *a = &step->args;
    struct heads h = heads_of(a);
    int64_t blocks = attention_blocks(h.queries);
    int threads = qn__threads_for(a, a->y.count * (h.keys / 16 + 1));
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (int64_t i = 0; i < h.batch * h.heads * blocks; i++) {
        int64_t side = ATTENTION_BLOCK * h.padded;
        REAL *room = attention_room(step, threads), *squares = room + 6 * side;
        struct block b = { .q = room,
                           .dy = room + side,
                           .values = room + 2 * side,
                           .keys = room + 3 * side,
                           .turned = room + 4 * side,
                           .sum = room + 5 * side,
                           .scores = squares,
                           .dscores = squares + ATTENTION_BLOCK * ATTENTION_BLOCK };
        run_block(&h, &b, a, i / blocks, i % blocks * ATTENTION_BLOCK);
    }
    return QN_OK;
}

static qn_status pick(const struct qn__args *a, struct qn__choice *c) { return attention_pick(a, c, 6, 2); }

KERNEL(attention_grad_q) = { .variants = (const char *const[]){ "blocks", NULL }, .pick = pick, .launch = launch };
