/* attention_grad_kv.c - q, k, v, dy, l, d -> dk = scale ds^T q; if wanted dv = p^T dy, both summed over the heads of q
 * that share one of k. A block of keys goes once along the queries of each of them. */
#include "attention.h"

/* k, v, q, q transposed, dy, dy transposed, sums of dk and dv; scores and their gradient, [64 keys][64 queries]. */
struct block {
    REAL *k, *v, *q, *q_turned, *dy, *dy_turned, *dk, *dv, *scores, *dscores;
    REAL l[ATTENTION_BLOCK], d[ATTENTION_BLOCK];
};

/* Row j of the scores: one key, of which each of the queries from `first` on may or may not see it. */
static inline __attribute__((always_inline)) void key_gradient(const struct heads *h, const struct block *b, REAL *s,
                                                               REAL *ds, int64_t key, int64_t first, int64_t rows)
{
    int64_t begin = h->causal ? key + h->queries - h->keys - first : 0; /* the first that sees it */
    for (int64_t i = 0; i < ATTENTION_BLOCK; i++) {
        REAL e = EXP(h->scale * s[i] - b->l[i]), g = e * (ds[i] - b->d[i]) * h->scale;
        bool sees = i >= begin && i < rows;
        s[i] = sees ? e : 0;
        ds[i] = sees ? g : 0;
    }
}

static inline __attribute__((always_inline)) void add_queries(const struct heads *h, struct block *b, int64_t begin,
                                                              int64_t keys, int64_t first, int64_t rows)
{
    block_product(b->scores, b->k, h->padded, b->q_turned, ATTENTION_BLOCK, keys, rows, h->size, false);
    block_product(b->dscores, b->v, h->padded, b->dy_turned, ATTENTION_BLOCK, keys, rows, h->size, false);
    for (int64_t j = 0; j < ATTENTION_BLOCK; j++)
        key_gradient(h, b, b->scores + j * ATTENTION_BLOCK, b->dscores + j * ATTENTION_BLOCK, begin + j, first,
                     j < keys ? rows : 0);
    block_product(b->dv, b->scores, ATTENTION_BLOCK, b->dy, h->padded, keys, h->padded, rows, true);
    block_product(b->dk, b->dscores, ATTENTION_BLOCK, b->q, h->padded, keys, h->padded, rows, true);
}

/* All queries of one head that see keys from `begin` on. */
QN_CLONES static void follow(const struct heads *h, struct block *b, const REAL *q, const REAL *dy, const REAL *l,
                             const REAL *d, int64_t begin, int64_t keys)
{
    int64_t width = h->size, from = h->causal ? begin + h->queries - h->keys : 0;
    if (from < 0) from = 0;
    for (int64_t first = from / ATTENTION_BLOCK * ATTENTION_BLOCK; first < h->queries; first += ATTENTION_BLOCK) {
        int64_t rows = h->queries - first < ATTENTION_BLOCK ? h->queries - first : ATTENTION_BLOCK;
        take_rows(h, b->q, q + first * width, rows);
        take_columns(h, b->q_turned, q + first * width, rows);
        take_rows(h, b->dy, dy + first * width, rows);
        take_columns(h, b->dy_turned, dy + first * width, rows);
        for (int64_t i = 0; i < ATTENTION_BLOCK; i++) {
            b->l[i] = i < rows ? l[first + i] : 0;
            b->d[i] = i < rows ? d[first + i] : 0;
        }
        add_queries(h, b, begin, keys, first, rows);
    }
}

/* Of head `kv` of k: the block of keys from `begin` on. */
static void run_block(const struct heads *h, struct block *b, const struct qn__args *a, int64_t kv, int64_t begin)
{
    int64_t keys = h->keys - begin < ATTENTION_BLOCK ? h->keys - begin : ATTENTION_BLOCK, width = h->size;
    int64_t at = (kv * h->keys + begin) * width, shared = h->heads / h->kv_heads;
    REAL *dk = qn__real(&a->y) + at, *dv = a->more[0].data ? qn__real(&a->more[0]) + at : NULL;
    take_rows(h, b->k, qn__real(&a->x[1]) + at, keys);
    take_rows(h, b->v, qn__real(&a->x[2]) + at, keys);
    memset(b->dk, 0, (size_t)(ATTENTION_BLOCK * h->padded) * sizeof(REAL));
    memset(b->dv, 0, (size_t)(ATTENTION_BLOCK * h->padded) * sizeof(REAL));
    for (int64_t head = kv * shared; head < (kv + 1) * shared; head++) {
        int64_t rows = head * h->queries;
        follow(h, b, qn__real(&a->x[0]) + rows * width, qn__real(&a->x[3]) + rows * width, qn__real(&a->x[4]) + rows,
               qn__real(&a->x[5]) + rows, begin, keys);
    }
    for (int64_t i = 0; i < keys; i++)
        for (int64_t j = 0; j < width; j++) {
            dk[i * width + j] = b->dk[i * h->padded + j];
            if (dv) dv[i * width + j] = b->dv[i * h->padded + j];
        }
}

static qn_status launch(const struct qn__step *step, qn_error *err)
{
    (void)err;
    const struct qn__args *a = &step->args;
    struct heads h = heads_of(a);
    int64_t blocks = attention_blocks(h.keys);
    int threads = qn__threads_for(a, a->x[0].count * (h.keys / 16 + 1));
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (int64_t i = 0; i < h.batch * h.kv_heads * blocks; i++) {
        int64_t side = ATTENTION_BLOCK * h.padded;
        REAL *room = attention_room(step, threads), *squares = room + 8 * side;
        struct block b = { .k = room,
                           .v = room + side,
                           .q = room + 2 * side,
                           .q_turned = room + 3 * side,
                           .dy = room + 4 * side,
                           .dy_turned = room + 5 * side,
                           .dk = room + 6 * side,
                           .dv = room + 7 * side,
                           .scores = squares,
                           .dscores = squares + ATTENTION_BLOCK * ATTENTION_BLOCK };
        run_block(&h, &b, a, i / blocks, i % blocks * ATTENTION_BLOCK);
    }
    return QN_OK;
}

static qn_status pick(const struct qn__args *a, struct qn__choice *c) { return attention_pick(a, c, 8, 2); }

KERNEL(attention_grad_kv) = { .variants = (const char *const[]){ "blocks", NULL }, .pick = pick, .launch = launch };
