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
    int64_t keys = h->keys - begin < ATTENTION_BLOCK ? h->keys - begin : ATTENTION_BLOCK;
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

QN_CLONES static void attend(const struct heads *h, struct block *b, const REAL *q, const REAL *k, const REAL *v,
                             REAL *y, REAL *l, int64_t first)
{
    int64_t rows = h->queries - first < ATTENTION_BLOCK ? h->queries - first : ATTENTION_BLOCK;
    int64_t last = keys_seen(h, first + rows - 1), width = h->size;
    take_rows(h, b->q, q + first * width, rows);
    memset(b->sum, 0, (size_t)(ATTENTION_BLOCK * h->padded) * sizeof(REAL));
    for (int64_t i = 0; i < ATTENTION_BLOCK; i++) {
        b->largest[i] = -(REAL)INFINITY;
        b->total[i] = 0;
    }
    for (int64_t begin = 0; begin < last; begin += ATTENTION_BLOCK) {
        int64_t keys = h->keys - begin < ATTENTION_BLOCK ? h->keys - begin : ATTENTION_BLOCK;
        take_columns(h, b->keys, k + begin * width, keys);
        take_rows(h, b->values, v + begin * width, keys);
        add_keys(h, b, first, rows, begin);
    }
    for (int64_t i = 0; i < rows; i++) {
        bool any = keys_seen(h, first + i) > 0;
        REAL share = any ? (REAL)(1 / b->total[i]) : 0;
        for (int64_t d = 0; d < width; d++) y[(first + i) * width + d] = b->sum[i * h->padded + d] * share;
        if (l) l[first + i] = any ? (REAL)((double)b->largest[i] + log(b->total[i])) : 0;
    }
}

static qn_status launch(const struct qn__step *step, qn_error *err)
{
    (void)err;
    const struct qn__args *a = &step->args;
    struct heads h = heads_of(a);
    int64_t blocks = attention_blocks(h.queries), rows = h.queries * h.size, columns = h.keys * h.size;
    const REAL *q = qn__real(&a->x[0]), *k = qn__real(&a->x[1]), *v = qn__real(&a->x[2]);
    REAL *y = qn__real(&a->y), *l = a->more[0].data ? qn__real(&a->more[0]) : NULL;
    int threads = qn__threads_for(a, a->y.count * (h.keys / 16 + 1));
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (int64_t i = 0; i < h.batch * h.heads * blocks; i++) {
        int64_t head = i / blocks, kv = head / (h.heads / h.kv_heads);
        int64_t side = ATTENTION_BLOCK * h.padded;
        REAL *room = attention_room(step, threads);
        struct block b = {
            .q = room, .keys = room + side, .values = room + 2 * side, .sum = room + 3 * side, .scores = room + 4 * side
        };
        attend(&h, &b, q + head * rows, k + kv * columns, v + kv * columns, y + head * rows,
               l ? l + head * h.queries : NULL, i % blocks * ATTENTION_BLOCK);
    }
    return QN_OK;
}

static qn_status pick(const struct qn__args *a, struct qn__choice *c) { return attention_pick(a, c, 4, 1); }

KERNEL(attention) = { .variants = (const char *const[]){ "blocks", NULL }, .pick = pick, .launch = launch };
