/* attention_grad.c - q, k, v, y, l, dy -> dq, and if wanted dk and dv; packed: qkv, y, l, dy -> all in one.
 *
 * First blocks of queries go along the keys: d = sum over D of dy y, which is kept, and dq = scale ds k with
 * ds = p (dy v^T - d). Then blocks of keys go along the queries of all heads that share them: dk = scale ds^T q and
 * dv = p^T dy. */
#include "attention.h"

struct problem {
    struct heads h;
    struct lanes qkv[3], y, dy, dqkv[3];
    const REAL *l; /* [B,H,T] */
    REAL *d;       /* [B,H,T] */
};

/* ---- along the keys ------------------------------------------------------------------------------------ */

/* q, dy, values transposed, keys, keys transposed, sums; scores and their gradient. */
struct query_block {
    REAL *q, *dy, *values, *keys, *turned, *sum, *scores, *dscores;
};

/* p = e^(scale s - l) for a query that sees `seen` of the 64 keys, 0 for the others; then ds = p (dp - d) scale. */
static inline __attribute__((always_inline)) void query_gradient(REAL *ds, const REAL *s, REAL scale, REAL l, REAL d,
                                                                 int64_t seen)
{
    for (int64_t j = 0; j < ATTENTION_BLOCK; j++) {
        REAL e = EXP(scale * s[j] - l), g = e * (ds[j] - d) * scale;
        ds[j] = j < seen ? g : 0;
    }
}

static inline __attribute__((always_inline)) void add_keys(const struct heads *h, struct query_block *b, const REAL *l,
                                                           const REAL *d, int64_t first, int64_t rows, int64_t begin)
{
    int64_t keys = at_most_block(h->keys - begin);
    block_product(b->scores, b->q, h->padded, b->turned, ATTENTION_BLOCK, rows, keys, h->size, false);
    block_product(b->dscores, b->dy, h->padded, b->values, ATTENTION_BLOCK, rows, keys, h->size, false);
    for (int64_t i = 0; i < ATTENTION_BLOCK; i++) {
        REAL *s = b->scores + i * ATTENTION_BLOCK, *ds = b->dscores + i * ATTENTION_BLOCK;
        int64_t seen = i < rows ? keys_seen(h, first + i) - begin : 0;
        if (seen > 0)
            query_gradient(ds, s, h->scale, l[i], d[i], seen < keys ? seen : keys);
        else
            memset(ds, 0, ATTENTION_BLOCK * sizeof *ds);
    }
    block_product(b->sum, b->dscores, ATTENTION_BLOCK, b->keys, h->padded, rows, h->padded, keys, true);
}

/* Block `first` of the queries of a head. */
QN_CLONES static void queries(const struct problem *p, struct query_block *b, int64_t head, int64_t first)
{
    const struct heads *h = &p->h;
    int64_t rows = at_most_block(h->queries - first), kv = head / (h->heads / h->kv_heads),
            at = head * h->queries + first;
    int64_t last = keys_seen(h, first + rows - 1), row = p->qkv[1].row;
    const REAL *y = lane(&p->y, head) + first * p->y.row, *dy = lane(&p->dy, head) + first * p->dy.row;
    const REAL *k = lane(&p->qkv[1], kv), *v = lane(&p->qkv[2], kv);
    for (int64_t i = 0; i < rows; i++) {
        double sum = 0;
        for (int64_t j = 0; j < h->size; j++) sum += (double)dy[i * p->dy.row + j] * (double)y[i * p->y.row + j];
        p->d[at + i] = (REAL)sum;
    }
    take_rows(h, b->q, lane(&p->qkv[0], head) + first * p->qkv[0].row, p->qkv[0].row, rows);
    take_rows(h, b->dy, dy, p->dy.row, rows);
    memset(b->sum, 0, (size_t)(ATTENTION_BLOCK * h->padded) * sizeof(REAL));
    for (int64_t begin = 0; begin < last; begin += ATTENTION_BLOCK) {
        int64_t keys = at_most_block(h->keys - begin);
        take_rows(h, b->keys, k + begin * row, row, keys);
        take_columns(h, b->turned, k + begin * row, row, keys);
        take_columns(h, b->values, v + begin * row, row, keys);
        add_keys(h, b, p->l + at, p->d + at, first, rows, begin);
    }
    REAL *dq = lane(&p->dqkv[0], head) + first * p->dqkv[0].row;
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < h->size; j++) dq[i * p->dqkv[0].row + j] = b->sum[i * h->padded + j];
}

/* ---- along the queries ---------------------------------------------------------------------------------- */

/* k, v, q, q transposed, dy, dy transposed, sums of dk and dv; scores and their gradient, [64 keys][64 queries]. */
struct key_block {
    REAL *k, *v, *q, *q_turned, *dy, *dy_turned, *dk, *dv, *scores, *dscores;
    REAL l[ATTENTION_BLOCK], d[ATTENTION_BLOCK];
};

/* One key, which the queries from `begin` on of those in the block see. */
static inline __attribute__((always_inline)) void key_gradient(const struct key_block *b, REAL *s, REAL *ds, REAL scale,
                                                               int64_t begin, int64_t rows)
{
    for (int64_t i = 0; i < ATTENTION_BLOCK; i++) {
        REAL e = EXP(scale * s[i] - b->l[i]), g = e * (ds[i] - b->d[i]) * scale;
        bool sees = i >= begin && i < rows;
        s[i] = sees ? e : 0;
        ds[i] = sees ? g : 0;
    }
}

static inline __attribute__((always_inline)) void add_queries(const struct heads *h, struct key_block *b, int64_t begin,
                                                              int64_t keys, int64_t first, int64_t rows)
{
    block_product(b->scores, b->k, h->padded, b->q_turned, ATTENTION_BLOCK, keys, rows, h->size, false);
    block_product(b->dscores, b->v, h->padded, b->dy_turned, ATTENTION_BLOCK, keys, rows, h->size, false);
    for (int64_t j = 0; j < ATTENTION_BLOCK; j++)
        key_gradient(b, b->scores + j * ATTENTION_BLOCK, b->dscores + j * ATTENTION_BLOCK, h->scale,
                     h->causal ? begin + j + h->queries - h->keys - first : 0, j < keys ? rows : 0);
    block_product(b->dv, b->scores, ATTENTION_BLOCK, b->dy, h->padded, keys, h->padded, rows, true);
    block_product(b->dk, b->dscores, ATTENTION_BLOCK, b->q, h->padded, keys, h->padded, rows, true);
}

/* All queries of one head that see keys from `begin` on. */
static inline __attribute__((always_inline)) void follow(const struct problem *p, struct key_block *b, int64_t head,
                                                         int64_t begin, int64_t keys)
{
    const struct heads *h = &p->h;
    const REAL *q = lane(&p->qkv[0], head), *dy = lane(&p->dy, head);
    int64_t from = h->causal ? begin + h->queries - h->keys : 0, q_row = p->qkv[0].row, dy_row = p->dy.row;
    if (from < 0) from = 0;
    for (int64_t first = from / ATTENTION_BLOCK * ATTENTION_BLOCK; first < h->queries; first += ATTENTION_BLOCK) {
        int64_t rows = at_most_block(h->queries - first), at = head * h->queries + first;
        take_rows(h, b->q, q + first * q_row, q_row, rows);
        take_columns(h, b->q_turned, q + first * q_row, q_row, rows);
        take_rows(h, b->dy, dy + first * dy_row, dy_row, rows);
        take_columns(h, b->dy_turned, dy + first * dy_row, dy_row, rows);
        for (int64_t i = 0; i < ATTENTION_BLOCK; i++) {
            b->l[i] = i < rows ? p->l[at + i] : 0;
            b->d[i] = i < rows ? p->d[at + i] : 0;
        }
        add_queries(h, b, begin, keys, first, rows);
    }
}

/* Of head `kv` of k: the block of keys from `begin` on. */
QN_CLONES static void keys(const struct problem *p, struct key_block *b, int64_t kv, int64_t begin)
{
    const struct heads *h = &p->h;
    int64_t n = at_most_block(h->keys - begin), shared = h->heads / h->kv_heads, row = p->qkv[1].row;
    take_rows(h, b->k, lane(&p->qkv[1], kv) + begin * row, row, n);
    take_rows(h, b->v, lane(&p->qkv[2], kv) + begin * row, row, n);
    memset(b->dk, 0, (size_t)(ATTENTION_BLOCK * h->padded) * sizeof(REAL));
    memset(b->dv, 0, (size_t)(ATTENTION_BLOCK * h->padded) * sizeof(REAL));
    for (int64_t head = kv * shared; head < (kv + 1) * shared; head++) follow(p, b, head, begin, n);
    for (int which = 1; which <= 2; which++) {
        const struct lanes *out = &p->dqkv[which];
        const REAL *sum = which == 1 ? b->dk : b->dv;
        for (int64_t i = 0; out->data && i < n; i++)
            for (int64_t j = 0; j < h->size; j++) lane(out, kv)[(begin + i) * out->row + j] = sum[i * h->padded + j];
    }
}

/* ---- both ------------------------------------------------------------------------------------------------ */

static struct problem problem_of(const struct qn__args *a, REAL *d)
{
    struct problem p = { .h = heads_of(a), .d = d };
    int n = a->n_in - 3;
    p.y = lanes_of(&a->x[n], &p.h, p.h.heads, p.h.queries);
    p.dy = lanes_of(&a->x[n + 2], &p.h, p.h.heads, p.h.queries);
    p.l = qn__real(&a->x[n + 1]);
    lanes_of_qkv(p.qkv, (const struct qn__view *const[]){ &a->x[0], &a->x[1], &a->x[2] }, &p.h);
    lanes_of_qkv(p.dqkv, (const struct qn__view *const[]){ &a->y, &a->more[0], &a->more[1] }, &p.h);
    return p;
}

static int64_t sums(const struct heads *h) { return h->batch * h->heads * h->queries; }

enum { BLOCKS = 8, SQUARES = 2 };

static qn_status launch(const struct qn__step *step, qn_error *err)
{
    (void)err;
    const struct qn__args *a = &step->args;
    struct problem p = problem_of(a, step->workspace);
    const struct heads *h = &p.h;
    int64_t q_blocks = attention_blocks(h->queries), k_blocks = attention_blocks(h->keys);
    int64_t side = ATTENTION_BLOCK * h->padded, square = ATTENTION_BLOCK * ATTENTION_BLOCK;
    int threads = qn__threads_for(a, a->y.count * (h->keys / 16 + 1));
#pragma omp parallel num_threads(threads)
    {
        REAL *r = p.d + sums(h) + (BLOCKS * side + SQUARES * square) * omp_get_thread_num(), *s = r + BLOCKS * side;
        struct query_block qb = { r, r + side, r + 2 * side, r + 3 * side, r + 4 * side, r + 5 * side, s, s + square };
        struct key_block kb = { .k = r,
                                .v = r + side,
                                .q = r + 2 * side,
                                .q_turned = r + 3 * side,
                                .dy = r + 4 * side,
                                .dy_turned = r + 5 * side,
                                .dk = r + 6 * side,
                                .dv = r + 7 * side,
                                .scores = s,
                                .dscores = s + square };
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < h->batch * h->heads * q_blocks; i++)
            queries(&p, &qb, i / q_blocks, i % q_blocks * ATTENTION_BLOCK);
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < (p.dqkv[1].data || p.dqkv[2].data ? h->batch * h->kv_heads * k_blocks : 0); i++)
            keys(&p, &kb, i / k_blocks, i % k_blocks * ATTENTION_BLOCK);
    }
    return QN_OK;
}

static qn_status pick(const struct qn__args *a, struct qn__choice *c)
{
    struct heads h = heads_of(a);
    return attention_pick(a, c, BLOCKS, SQUARES, (size_t)sums(&h));
}

KERNEL(attention_grad) = { .variants = (const char *const[]){ "blocks", NULL }, .pick = pick, .launch = launch };
