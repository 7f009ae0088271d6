/* attention.c - q [B,H,T,D], k, v [B,Hk,S,D] -> y like q; if wanted l [B,H,T]. A block of queries goes once along the
 * keys and keeps the largest score so far and the sums relative to it (Milakov, Gimelshein 2018). */
#include "attention.h"

/* A thread's room: the queries [64][padded], keys [size][64], values and sums [64][padded], scores [64][64]. */
struct block {
    REAL *q, *keys, *values, *sum, *scores;
    REAL largest[ATTENTION_BLOCK];
    double total[ATTENTION_BLOCK];
};

/* The scores of one query become e^(score - largest so far), 0 for keys it does not see; what was summed before is
 * brought to the new largest. A largest of -inf leaves a total of 0, so that the result is NaN as the definition's. */
static inline __attribute__((always_inline)) void take_scores(REAL *s, int64_t seen, REAL scale, REAL *largest,
                                                              double *total, REAL *sum, int64_t n)
{
    REAL before = *largest, m = before;
    bool nan = m != m;
    for (int64_t j = 0; j < seen; j++) {
        s[j] *= scale;
        m = s[j] > m ? s[j] : m;
        nan = nan || s[j] != s[j];
    }
    if (nan) m = (REAL)NAN;
    REAL from = m == -(REAL)INFINITY ? 0 : m, factor = EXP(before - from);
    double part = 0;
    for (int64_t j = 0; j < ATTENTION_BLOCK; j++) {
        REAL e = EXP(s[j] - from);
        s[j] = j < seen ? e : 0;
        part += (double)s[j];
    }
    *largest = m;
    *total = *total * (double)factor + part;
    for (int64_t d = 0; d < n; d++) sum[d] *= factor;
}

/* The keys from `begin` on, for queries from `first` on. */
static inline __attribute__((always_inline)) void add_keys(const struct heads *h, struct block *b, int64_t first,
                                                           int64_t rows, int64_t begin)
{
    int64_t keys = at_most_block(h->keys - begin);
    block_product(b->scores, b->q, h->padded, b->keys, ATTENTION_BLOCK, rows, keys, h->size, false);
    for (int64_t i = 0; i < ATTENTION_BLOCK; i++) {
        REAL *s = b->scores + i * ATTENTION_BLOCK;
        int64_t seen = i < rows ? keys_seen(h, first + i) - begin : 0;
        if (seen > 0)
            take_scores(s, seen < keys ? seen : keys, h->scale, &b->largest[i], &b->total[i], b->sum + i * h->padded,
                        h->padded);
        else
            memset(s, 0, ATTENTION_BLOCK * sizeof *s);
    }
    block_product(b->sum, b->scores, ATTENTION_BLOCK, b->values, h->padded, rows, h->padded, keys, true);
}

/* Block `first` of the queries of a head. */
QN_CLONES static void attend(const struct heads *h, struct block *b, const struct lanes *qkv, const struct lanes *out,
                             REAL *l, int64_t head, int64_t first)
{
    int64_t rows = at_most_block(h->queries - first), last = keys_seen(h, first + rows - 1), width = h->size;
    int64_t kv = head / (h->heads / h->kv_heads);
    const REAL *k = lane(&qkv[1], kv), *v = lane(&qkv[2], kv);
    REAL *y = lane(out, head);
    take_rows(h, b->q, lane(&qkv[0], head) + first * qkv[0].row, qkv[0].row, rows);
    memset(b->sum, 0, (size_t)(ATTENTION_BLOCK * h->padded) * sizeof(REAL));
    for (int64_t i = 0; i < ATTENTION_BLOCK; i++) {
        b->largest[i] = -(REAL)INFINITY;
        b->total[i] = 0;
    }
    for (int64_t begin = 0; begin < last; begin += ATTENTION_BLOCK) {
        int64_t keys = at_most_block(h->keys - begin);
        take_columns(h, b->keys, k + begin * qkv[1].row, qkv[1].row, keys);
        take_rows(h, b->values, v + begin * qkv[2].row, qkv[2].row, keys);
        add_keys(h, b, first, rows, begin);
    }
    for (int64_t i = 0; i < rows; i++) {
        bool any = keys_seen(h, first + i) > 0;
        REAL share = any ? (REAL)(1 / b->total[i]) : 0;
        for (int64_t d = 0; d < width; d++) y[(first + i) * out->row + d] = b->sum[i * h->padded + d] * share;
        if (l) l[head * h->queries + first + i] = any ? (REAL)((double)b->largest[i] + log(b->total[i])) : 0;
    }
}

static qn_status launch(const struct qn__step *step, qn_error *err)
{
    (void)err;
    const struct qn__args *a = &step->args;
    struct heads h = heads_of(a);
    struct lanes qkv[3], y = lanes_of(&a->y, &h, h.heads, h.queries);
    lanes_of_qkv(qkv, (const struct qn__view *const[]){ &a->x[0], &a->x[1], &a->x[2] }, &h);
    REAL *l = a->more[0].data;
    int64_t blocks = attention_blocks(h.queries), side = ATTENTION_BLOCK * h.padded;
    int threads = qn__threads_for(a, a->y.count * (h.keys / 16 + 1));
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (int64_t i = 0; i < h.batch * h.heads * blocks; i++) {
        REAL *room = (REAL *)step->workspace +
                     (4 * side + ATTENTION_BLOCK * ATTENTION_BLOCK) * (threads > 1 ? omp_get_thread_num() : 0);
        struct block b = {
            .q = room, .keys = room + side, .values = room + 2 * side, .sum = room + 3 * side, .scores = room + 4 * side
        };
        attend(&h, &b, qkv, &y, l, i / blocks, i % blocks * ATTENTION_BLOCK);
    }
    return QN_OK;
}

static qn_status pick(const struct qn__args *a, struct qn__choice *c) { return attention_pick(a, c, 4, 1, 0); }

KERNEL(attention) = { .variants = (const char *const[]){ "blocks", NULL }, .pick = pick, .launch = launch };
