/* dropout.c - cases of dropout: the mask is a function of (seed, name, step, sample, element), written out here. */
#include "ops.h"
#include "../../core/philox.h"
#include <math.h>

/* p: seed, step, first sample; q[0]: probability */
static void set_rng(const struct op_case *c, void *data, qn_dtype dtype, int64_t n)
{
    (void)dtype;
    for (int64_t i = 0; i < n; i++) ((int64_t *)data)[i] = i < 3 ? c->p[i] : 0;
}

static qn_t build(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    qn_scope_push(g, "block");
    qn_t y = qn_dropout(g, x[0], x[1], c->q[0], "drop");
    qn_scope_pop(g);
    return y;
}

static void oracle(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    int64_t each = y->dim[0] ? y->count / y->dim[0] : 0;
    uint64_t key = qn__stream_key((uint64_t)c->p[0], qn__hash_str("block.drop"));
    for (int64_t i = 0; i < y->count; i++) {
        uint64_t sample = (uint64_t)(c->p[2] + i / each);
        uint32_t e = (uint32_t)(i % each);
        struct qn__words w = qn__philox(key, e / 4, (uint32_t)sample, (uint32_t)(sample >> 32), (uint32_t)c->p[1]);
        y->v[i] = (double)w.w[e % 4] >= c->q[0] * 0x1p32 ? x[0].v[i] / (1 - c->q[0]) : 0;
    }
}

/* clang-format off */
#define CASE(text, probability, seed, step, sample, ...)                                           \
    { .name = text, .build = build, .oracle = oracle, .n_in = 2, .p = { seed, step, sample }, .q = { probability }, \
      .in = { { __VA_ARGS__ }, { .dtype = QN_I64, .rank = 1, .dim = { 4 }, .edit = set_rng } } },
#define SIZE(n)                                                                                    \
    CASE(#n " elements", 0.5, 7, 3, 1000, .rank = 2, .dim = { 3, n })                              \
    CASE(#n " samples", 0.25, 8, 0, 5, .rank = 2, .dim = { n, 6 })
static const struct op_case cases[] = {
    OP_SIZES(SIZE)
    CASE("p 0 keeps all", 0, 1, 1, 1, .rank = 2, .dim = { 9, 300 })
    CASE("p nearly 1", 0.999, 1, 1, 1, .rank = 2, .dim = { 9, 300 })
    CASE("rank 1", 0.5, 1, 2, 3, .rank = 1, .dim = { 40 })
    CASE("images", 0.3, 1, 2, 3, .rank = 4, .dim = { 3, 8, 5, 7 })
    CASE("one sample, over 256 elements", 0.5, 1, 2, 3, .rank = 2, .dim = { 1, 1030 })
    CASE("samples beyond 32 bits", 0.5, INT64_MIN + 5, 4000000000, 4294967290, .rank = 2, .dim = { 12, 9 })
    CASE("threads", 0.5, 1, 2, 3, .rank = 2, .dim = { 70, 300 })
};
OP_CASES(dropout, cases);
/* clang-format on */
