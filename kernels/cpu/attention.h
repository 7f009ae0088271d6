/* attention.h - what the three rows of attention share: one problem a head, blocks of queries and keys that fit the
 * second cache, and a small product of matrices on them.
 *
 * Blocks are copied into the thread's workspace, rows padded with zeros to a multiple of 16, so that the product needs
 * no remainder loops. Who owns a block of the result goes through the other side in order: the sums do not depend on
 * the number of threads. */
#ifndef QN_KERNELS_CPU_ATTENTION_H
#define QN_KERNELS_CPU_ATTENTION_H
#include "cpu.h"
#include "vecmath.h"

enum { ATTENTION_BLOCK = 64 }; /* queries, and keys */

struct heads {
    int64_t batch, heads, kv_heads, queries, keys, size, padded; /* padded: size, to a multiple of 16 */
    REAL scale;
    bool causal, packed;
};

static inline struct heads heads_of(const struct qn__args *a)
{
    const struct qn__attention_attr *attr = a->attr;
    const int64_t *q = a->x[0].dim, *k = a->x[1].dim;
    struct heads h = { .batch = q[0], .scale = (REAL)attr->scale, .causal = attr->causal != 0, .packed = attr->heads };
    h.heads = h.packed ? attr->heads : q[1];
    h.kv_heads = h.packed ? attr->kv_heads : k[1];
    h.queries = h.packed ? q[1] : q[2];
    h.keys = h.packed ? q[1] : k[2];
    h.size = h.packed ? q[2] / (h.heads + 2 * h.kv_heads) : q[3];
    h.padded = (h.size + 15) & ~(int64_t)15;
    return h;
}

/* Heads of a tensor: element d of time t of head n (batch included) is data[batch.. + head.. + t row + d]. */
struct lanes {
    REAL *data;
    int64_t batch, head, row, heads;
};

static inline struct lanes lanes_of(const struct qn__view *v, const struct heads *h, int64_t heads, int64_t times)
{
    if (!v->data) return (struct lanes){ NULL, 0, 0, 0, 1 };
    if (h->packed) return (struct lanes){ qn__real(v), times * heads * h->size, h->size, heads * h->size, heads };
    return (struct lanes){ qn__real(v), heads * times * h->size, times * h->size, h->size, heads };
}
/* q, k and v in the packed operand, or their gradients */
static inline void lanes_of_qkv(struct lanes *to, const struct qn__view *const *v, const struct heads *h)
{
    if (!h->packed) {
        to[0] = lanes_of(v[0], h, h->heads, h->queries);
        to[1] = lanes_of(v[1], h, h->kv_heads, h->keys);
        to[2] = lanes_of(v[2], h, h->kv_heads, h->keys);
        return;
    }
    int64_t row = (h->heads + 2 * h->kv_heads) * h->size, at[] = { 0, h->heads, h->heads + h->kv_heads };
    for (int i = 0; i < 3; i++)
        to[i] = (struct lanes){ qn__real(v[0]) + at[i] * h->size, h->queries * row, h->size, row,
                                i ? h->kv_heads : h->heads };
}
static inline REAL *lane(const struct lanes *l, int64_t head)
{
    return l->data + head / l->heads * l->batch + head % l->heads * l->head;
}

static inline int64_t attention_blocks(int64_t n) { return (n + ATTENTION_BLOCK - 1) / ATTENTION_BLOCK; }

/* Keys that query t sees: the first so many. */
static inline int64_t keys_seen(const struct heads *h, int64_t t)
{
    if (!h->causal) return h->keys;
    int64_t n = t + h->keys - h->queries + 1;
    return n < 0 ? 0 : n;
}

/* Bytes of `n` blocks of a head and `squares` of scores for each thread, after `before` numbers for all. */
static inline qn_status attention_pick(const struct qn__args *a, struct qn__choice *c, size_t n, size_t squares,
                                       size_t before)
{
    struct heads h = heads_of(a);
    size_t block, all;
    c->variant = 0;
    if (a->x[0].dtype != QN_REAL_DTYPE) return QN_EUSAGE;
    if (!qn__mul(&block, ATTENTION_BLOCK * n, (size_t)h.padded) ||
        !qn__add(&block, block, squares * ATTENTION_BLOCK * ATTENTION_BLOCK) ||
        !qn__mul(&all, block, (size_t)a->threads) || !qn__add(&all, all, before) ||
        !qn__mul(&c->workspace, all, sizeof(REAL)))
        return QN_EUSAGE;
    return QN_OK;
}

/* to[64][padded] = rows of a head, zeros below and beside. */
static inline void take_rows(const struct heads *h, REAL *to, const REAL *from, int64_t row, int64_t rows)
{
    for (int64_t i = 0; i < ATTENTION_BLOCK; i++)
        for (int64_t d = 0; d < h->padded; d++) to[i * h->padded + d] = i < rows && d < h->size ? from[i * row + d] : 0;
}
/* to[size][64], the same transposed. */
static inline void take_columns(const struct heads *h, REAL *to, const REAL *from, int64_t row, int64_t rows)
{
    for (int64_t d = 0; d < h->size; d++)
        for (int64_t i = 0; i < ATTENTION_BLOCK; i++) to[d * ATTENTION_BLOCK + i] = i < rows ? from[i * row + d] : 0;
}

static inline int64_t at_most_block(int64_t n) { return n < ATTENTION_BLOCK ? n : ATTENTION_BLOCK; }

/* c[rows][columns] = or += a[rows][depth] b[depth][columns]. Rows of c and b are n apart, of a `a_row`. Up to 3 rows
 * and 15 columns more are computed, of whatever lies in the blocks there. */
static inline __attribute__((always_inline)) void block_product(REAL *c, const REAL *a, int64_t a_row, const REAL *b,
                                                                int64_t n, int64_t rows, int64_t columns, int64_t depth,
                                                                bool add)
{
    for (int64_t i = 0; i < rows; i += 4)
        for (int64_t j = 0; j < columns; j += 16) {
            REAL sum[4][16];
            for (int r = 0; r < 4; r++)
                for (int k = 0; k < 16; k++) sum[r][k] = add ? c[(i + r) * n + j + k] : 0;
            for (int64_t d = 0; d < depth; d++)
                for (int r = 0; r < 4; r++)
                    for (int k = 0; k < 16; k++) sum[r][k] += a[(i + r) * a_row + d] * b[d * n + j + k];
            for (int r = 0; r < 4; r++)
                for (int k = 0; k < 16; k++) c[(i + r) * n + j + k] = sum[r][k];
        }
}

/* p = e^(scale s - l) for a query that sees `seen` of the 64 keys, 0 for the others; then ds = p (dp - d) scale. */
static inline __attribute__((always_inline)) void score_gradient(REAL *p, REAL *ds, const REAL *s, const REAL *dp,
                                                                 REAL scale, REAL l, REAL d, int64_t seen)
{
    for (int64_t j = 0; j < ATTENTION_BLOCK; j++) {
        REAL e = EXP(scale * s[j] - l);
        p[j] = j < seen ? e : 0;
        ds[j] = j < seen ? e * (dp[j] - d) * scale : 0;
    }
}
#endif
