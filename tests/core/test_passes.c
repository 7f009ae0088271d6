/* test_passes.c - each pass on a small graph against the text of its result, and all of them on random graphs
 * against an interpreter. */
#include "passes.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define D(...) \
    (sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t)), (int64_t[]) { __VA_ARGS__ }

static qn_graph *new_graph(void)
{
    qn_graph *g;
    assert_int_equal(qn_graph_new(&g, NULL), QN_OK);
    return g;
}

static void expect(qn__pass *pass, qn_graph *g, int32_t *keep, int n, const char *golden)
{
    g = passes_run(pass, g, keep, n, NULL);
    passes_check_golden(g, golden);
    qn_graph_free(g);
}

/* ---- one pass, one graph ------------------------------------------------------------------------- */

static void dead_drops_what_nobody_needs(void **state)
{
    (void)state;
    qn_graph *g = new_graph();
    qn_t x = qn_input(g, "x", QN_F32, D(4, 3)), w = qn_param(g, "w", QN_F32, D(4, 3), NULL);
    qn_exp(g, x);
    qn_graph_phase(g, QN_UPDATE);
    qn_assign(g, w, qn_scale(g, w, 0.5)); /* an effect: stays, though nobody reads it */
    qn_graph_phase(g, QN_MICRO);
    qn_t y = qn_add(g, x, w); /* built later, runs earlier */
    expect(qn__pass_dead, g, (int32_t[]){ y.id }, 1, "dead");
}

static void fold_computes_constants(void **state)
{
    (void)state;
    qn_graph *g = new_graph();
    qn_t x = qn_input(g, "x", QN_F32, D(4, 3)), two = qn_scalar(g, QN_F32, 2);
    qn_t ones = qn_full(g, QN_F32, D(4, 3), 1), never = qn_lt(g, two, two), e = qn_exp(g, x);
    qn_t c = qn_constant(g, QN_F32, D(3), (float[]){ 1, 2, 3 });
    qn_t keep[] = {
        qn_mul(g, two, qn_add(g, ones, two)),                       /* full 6 */
        qn_mul(g, c, two),                                          /* constant */
        qn_transpose(g, qn_broadcast(g, two, D(4, 3)), NULL),       /* full [3,4] */
        qn_mul(g, x, ones),                                         /* kept: affine by 1 */
        qn_neg(g, qn_mul(g, x, ones)),                              /* neg x */
        qn_sub(g, qn_broadcast(g, two, D(4, 3)), x),                /* affine */
        qn_div(g, x, qn_scalar(g, QN_F32, 4)),                      /* affine by 1/4 */
        qn_div(g, x, qn_scalar(g, QN_F32, 3)),                      /* stays: 1/3 would round */
        qn_exp(g, qn_transpose(g, qn_transpose(g, x, NULL), NULL)), /* exp x */
        qn_exp(g, qn_reshape(g, qn_reshape(g, x, D(12)), D(2, 6))), /* one reshape */
        qn_where(g, never, x, e),                                   /* kept: stays */
        qn_neg(g, qn_where(g, never, x, e)),                        /* neg exp x */
        qn_pow(g, x, 2),                                            /* square */
    };
    int32_t ids[sizeof keep / sizeof keep[0]];
    int n = (int)(sizeof keep / sizeof keep[0]);
    for (int i = 0; i < n; i++) ids[i] = keep[i].id;
    g = passes_run(qn__pass_fold, g, ids, n, NULL);
    expect(qn__pass_dead, g, ids, n, "fold");
}

static void fold_drops_broadcasts(void **state)
{
    (void)state;
    qn_graph *g = new_graph();
    qn_t x = qn_input(g, "x", QN_F32, D(4, 3)), b = qn_input(g, "b", QN_F32, D(3));
    qn_t w = qn_param(g, "w", QN_F32, D(3), NULL);
    qn_t wide = qn_broadcast(g, b, D(4, 3)), old = qn_broadcast(g, w, D(4, 3));
    qn_t both = qn_add(g, wide, qn_broadcast(g, b, D(4, 3))); /* one must stay, else y is [3] */
    qn_assign(g, w, b);
    qn_t ids[] = { qn_add(g, x, wide), both, qn_mul(g, x, old) /* reads w before the write: stays */ };
    int32_t keep[] = { ids[0].id, ids[1].id, ids[2].id };
    g = passes_run(qn__pass_fold, g, keep, 3, NULL);
    expect(qn__pass_dead, g, keep, 3, "fold_broadcast");
}

static void cse_merges_equal_values(void **state)
{
    (void)state;
    qn_graph *g = new_graph();
    qn_t x = qn_input(g, "x", QN_F32, D(3)), w = qn_param(g, "w", QN_F32, D(3), NULL);
    qn_t a = qn_add(g, x, w), b = qn_add(g, w, x), before = qn_exp(g, w);
    qn_assign(g, w, x);
    qn_t after = qn_exp(g, w), again = qn_exp(g, w);
    qn_t twice = qn_scale(g, a, 2), thrice = qn_scale(g, b, 3), scaled = qn_add(g, twice, thrice);
    int32_t keep[] = { a.id, b.id, before.id, after.id, again.id, scaled.id };
    expect(qn__pass_cse, g, keep, 6, "cse");
}

static void epilogue_takes_bias_and_activation(void **state)
{
    (void)state;
    qn_graph *g = new_graph();
    qn_t x = qn_input(g, "x", QN_F32, D(4, 3)), w = qn_param(g, "w", QN_F32, D(3, 5), NULL);
    qn_t b = qn_param(g, "b", QN_F32, D(5), NULL), row = qn_reshape(g, b, D(1, 5));
    qn_t y[] = {
        qn_relu(g, qn_add(g, qn_matmul(g, x, w, NULL), b)),
        qn_add(g, b, qn_matmul(g, x, w, NULL)),
        qn_leaky_relu(g, qn_matmul(g, x, w, NULL), 0.25),
        qn_tanh(g, qn_add(g, qn_matmul(g, x, w, NULL), row)),
    };
    qn_t shared = qn_add(g, qn_matmul(g, x, w, NULL), b); /* gelu and a second reader: no activation inside */
    qn_t z[] = { qn_gelu_erf(g, shared), qn_square(g, shared) };
    int32_t keep[] = { y[0].id, y[1].id, y[2].id, y[3].id, z[0].id, z[1].id };
    expect(qn__pass_epilogue, g, keep, 6, "epilogue");
}

/* Of a convolution the bias is one number a channel, in whatever shape it comes; a row of pixels is none. */
static void epilogue_takes_bias_of_channels(void **state)
{
    (void)state;
    qn_graph *g = new_graph();
    const qn_conv2d_opts pad = { .pad = { 1, 1 }, .pad_end = { 1, 1 } };
    qn_t x = qn_input(g, "x", QN_F32, D(2, 3, 5, 5)), w = qn_param(g, "w", QN_F32, D(5, 3, 3, 3), NULL);
    qn_t b = qn_param(g, "b", QN_F32, D(5), NULL), up = qn_param(g, "up", QN_F32, D(3, 5, 3, 3), NULL);
    qn_t channels = qn_reshape(g, b, D(1, 5, 1, 1)), made = qn_reshape(g, qn_exp(g, channels), D(5, 1, 1));
    qn_t y[] = {
        qn_relu(g, qn_add(g, qn_conv2d(g, x, w, &pad), channels)),
        qn_add(g, made, qn_conv2d(g, x, w, &pad)),
        qn_silu(g, qn_add(g, qn_conv_transpose2d(g, x, up, &pad, NULL), channels)),
        qn_add(g, qn_conv2d(g, x, w, &pad), b),
    };
    int32_t keep[] = { y[0].id, y[1].id, y[2].id, y[3].id };
    expect(qn__pass_epilogue, g, keep, 4, "epilogue_conv");
}

/* relu goes in where it alone reads the result; the running statistics are no obstacle. */
static void epilogue_puts_relu_into_batch_norm(void **state)
{
    (void)state;
    qn_graph *g = new_graph();
    qn_t x = qn_input(g, "x", QN_F32, D(2, 3, 4, 4)), stats;
    qn_t gamma = qn_param(g, "gamma", QN_F32, D(3), NULL), beta = qn_param(g, "beta", QN_F32, D(3), NULL);
    qn_t y = qn_relu(g, qn_batch_norm(g, x, gamma, beta, 1e-5, &stats));
    qn_t z = qn_batch_norm(g, y, gamma, beta, 1e-5, NULL);
    int32_t keep[] = { qn_relu(g, z).id, z.id };
    expect(qn__pass_epilogue, g, keep, 2, "epilogue_norm");
}

/* The weight is replaced between the product and the sum with the bias: the product may not move there. */
static void epilogue_respects_writes(void **state)
{
    (void)state;
    qn_graph *g = new_graph();
    qn_t x = qn_input(g, "x", QN_F32, D(4, 3)), w = qn_param(g, "w", QN_F32, D(3, 5), NULL);
    qn_t b = qn_input(g, "b", QN_F32, D(5)), product = qn_matmul(g, x, w, NULL);
    qn_assign(g, w, qn_scale(g, w, 2));
    qn_t y = qn_add(g, product, b);
    expect(qn__pass_epilogue, g, (int32_t[]){ y.id }, 1, "epilogue_writes");
}

static void sums_go_into_normalisations(void **state)
{
    (void)state;
    qn_graph *g = new_graph();
    qn_t a = qn_input(g, "a", QN_F32, D(4, 6)), b = qn_input(g, "b", QN_F32, D(4, 6)),
         v = qn_input(g, "v", QN_F32, D(6));
    qn_t s = qn_add(g, a, b), y = qn_layer_norm(g, s, v, v, 1e-5); /* s has other readers, later */
    qn_t t = qn_add(g, a, y), z = qn_rms_norm(g, t, v, 1e-5);
    qn_t wide = qn_layer_norm(g, qn_add(g, a, v), v, v, 1e-5); /* stays: v is repeated */
    qn_t early = qn_add(g, b, b), before = qn_exp(g, early), after = qn_layer_norm(g, early, v, v, 1e-5); /* stays */
    qn_t x = qn_input(g, "x", QN_F32, D(2, 6, 3, 3)), r = qn_input(g, "r", QN_F32, D(2, 6, 3, 3));
    qn_t one = qn_relu(g, qn_add(g, r, qn_batch_norm(g, x, v, v, 1e-5, NULL)));
    qn_t two = qn_add(g, qn_batch_norm(g, one, v, v, 1e-5, NULL), r);
    qn_t keep[] = { s, qn_add(g, s, z), wide, before, after, one, two };
    int32_t ids[7];
    for (int i = 0; i < 7; i++) ids[i] = keep[i].id;
    expect(qn__pass_residual, g, ids, 7, "residual");
}

static void gradients_are_added_in_normalisations(void **state)
{
    (void)state;
    qn_graph *g = new_graph();
    qn_t x = qn_param(g, "x", QN_F32, D(4, 6), NULL), v = qn_input(g, "v", QN_F32, D(6)), dx;
    qn_t y = qn_add(g, x, qn_rms_norm(g, x, v, 1e-5)), loss = qn_sum_all(g, qn_square(g, y));
    qn_grad(g, loss, &x, &dx, 1);
    int32_t keep[] = { dx.id };
    g = passes_run(qn__pass_dead, g, keep, 1, NULL);
    expect(qn__pass_residual, g, keep, 1, "residual_grad");
}

static void fuse_makes_trees(void **state)
{
    (void)state;
    qn_graph *g = new_graph();
    qn_t x = qn_input(g, "x", QN_F32, D(4, 3)), b = qn_input(g, "b", QN_F32, D(3));
    qn_t t = qn_tanh(g, qn_add(g, x, b)); /* read twice, both inside */
    qn_t y = qn_mul(g, t, qn_affine(g, qn_square(g, t), -1, 1));
    qn_t alone = qn_exp(g, b);                                              /* another shape: outside */
    qn_t z = qn_relu(g, qn_add(g, y, alone));                               /* y is kept: a tree of its own */
    qn_t whole = qn_cast(g, qn_cast(g, qn_scale(g, x, 3), QN_I32), QN_F32); /* truncation must happen */
    qn_t mask = qn_where(g, qn_lt(g, x, b), x, b);
    int32_t keep[] = { y.id, z.id, whole.id, mask.id };
    expect(qn__pass_fuse, g, keep, 4, "fuse");
}

/* step(y) is read by two trees and cheap: both compute it, nobody stores it. exp is not. */
static void fuse_repeats_what_is_cheap(void **state)
{
    (void)state;
    qn_graph *g = new_graph();
    qn_t y = qn_input(g, "y", QN_F32, D(4, 3)), d = qn_input(g, "d", QN_F32, D(4, 3));
    qn_t side = qn_affine(g, qn_step(g, y), 0.75, 0.25), costly = qn_exp(g, y);
    qn_t u[] = { qn_mul(g, d, side), qn_add(g, y, side), qn_sub(g, d, costly), qn_mul(g, d, costly) };
    int32_t keep[] = { u[0].id, u[1].id, u[2].id, u[3].id };
    expect(qn__pass_fuse, g, keep, 4, "fuse_cheap");
}

static void fuse_respects_writes_and_phases(void **state)
{
    (void)state;
    qn_graph *g = new_graph();
    qn_t x = qn_input(g, "x", QN_F32, D(3)), w = qn_param(g, "w", QN_F32, D(3), NULL);
    qn_t old = qn_exp(g, w);
    qn_assign(g, w, x);
    qn_t y = qn_add(g, old, x), z = qn_neg(g, x);
    qn_graph_phase(g, QN_UPDATE);
    qn_t u = qn_exp(g, z); /* z is of the other phase */
    int32_t keep[] = { y.id, u.id };
    expect(qn__pass_fuse, g, keep, 2, "fuse_writes");
}

/* More operands than a node may have, more rows than a program may have: several nodes, the same value. */
static void fuse_keeps_its_limits(void **state)
{
    (void)state;
    qn_graph *g = new_graph();
    qn_t sum = qn_input(g, "x", QN_F32, D(3)), chain = sum;
    for (int i = 0; i < 12; i++) {
        char name[16];
        snprintf(name, sizeof name, "x%d", i);
        sum = qn_add(g, sum, qn_input(g, name, QN_F32, D(3)));
    }
    for (int i = 0; i < 60; i++) chain = qn_sin(g, chain);
    int32_t keep[] = { sum.id, chain.id };
    g = passes_run(qn__pass_fuse, g, keep, 2, NULL);
    int fused = 0, rows = 0;
    for (int32_t i = 1; i < g->n; i++) {
        if (g->node[i].op != QN_OP_fused) continue;
        fused++;
        rows += ((const struct qn__fused_attr *)g->node[i].attr)->n;
        assert_true(g->node[i].n_in <= QN_MAX_IN);
    }
    assert_int_equal(rows, 72);
    assert_int_equal(fused, 2 + 3);
    qn_graph_free(g);
}

/* ---- the verifier ------------------------------------------------------------------------------------ */

static void breaks(qn_graph *g, const char *rule)
{
    qn_error err = { 0 };
    assert_int_equal(qn__graph_verify(g, &err), QN_EINTERNAL);
    assert_int_equal(err.code, 7070);
    if (!strstr(err.text, rule)) fail_msg("\"%s\" lacks \"%s\"", err.text, rule);
}

static void verifier_finds_each_fault(void **state)
{
    (void)state;
    qn_graph *g = new_graph();
    qn_t x = qn_input(g, "x", QN_F32, D(4, 3)), y = qn_add(g, x, x), w = qn_param(g, "w", QN_F32, D(4, 3), NULL);
    qn_t z = qn_assign(g, w, y);
    assert_int_equal(qn__graph_verify(g, NULL), QN_OK);
    struct qn__node good = g->node[y.id], written = g->node[z.id], *n = &g->node[y.id];
#define FAULT(change, rule) \
    do { \
        change; \
        breaks(g, rule); \
        *n = good; \
    } while (0)
    FAULT(n->in[1] = z.id, "value 2, add: operand (must come before) is 4; expected 1");
    FAULT(n->in[0] = y.id, "operand (must come before)");
    FAULT(n->n_in = 1, "number of operands is 1; expected 2");
    FAULT(n->dim[1] = 4, "number of elements");
    FAULT((n->dim[0] = 3, n->dim[1] = 4), "dim is 3; expected 4");
    FAULT(n->dtype = QN_F64, "dtype");
    FAULT(n->rank = 9, "rank is 9");
    FAULT(n->block = 8, "rank of a value in channel blocks");
    FAULT(n->attr = NULL, "attribute");
    FAULT(n->name = NULL, "name");
    FAULT(n->op = QN_OP_COUNT, "opcode");
    FAULT((n->phase = QN_UPDATE), "phase of an operand is 1; expected 0");
    g->node[z.id].in[0] = y.id;
    breaks(g, "operand written in place");
    g->node[z.id] = written;
    assert_int_equal(qn__graph_verify(g, NULL), QN_OK);
    qn_graph_free(g);
}

/* ---- random graphs against an interpreter ------------------------------------------------------------- */

enum { ELEMENTS = 64, VALUES = 400 };
struct machine {
    const qn_graph *g;
    double memory[VALUES][ELEMENTS];
    double *value[VALUES]; /* aliases and written tensors share memory */
};

static double at_broadcast(const struct machine *m, int32_t i, const struct qn__node *y, int64_t flat)
{
    const struct qn__node *x = &m->g->node[i];
    int64_t index = 0, step = 1;
    for (int j = y->rank - 1; j >= 0; j--) {
        int k = j - (y->rank - x->rank);
        if (k >= 0 && x->dim[k] != 1) index += flat % y->dim[j] * step;
        if (k >= 0) step *= x->dim[k];
        flat /= y->dim[j];
    }
    return m->value[i][index];
}

static double run_fused(const struct machine *m, const struct qn__node *y, int64_t e)
{
    const struct qn__fused_attr *f = y->attr;
    double reg[QN_MAX_IN + QN_FUSED_MAX];
    for (int k = 0; k < y->n_in; k++) reg[k] = at_broadcast(m, y->in[k], y, e);
    for (int i = 0; i < f->n; i++) {
        const struct qn__pw_instr *o = &f->instr[i];
        reg[f->n_in + i] = qn__pw_eval((enum qn__opcode)o->op, reg[o->a], reg[o->b], reg[o->c], o->p, o->q);
    }
    return reg[f->n_in + f->n - 1];
}

static double run_row(const struct machine *m, const struct qn__node *y, int64_t e)
{
    double x[3] = { 0 };
    const struct qn__pw_attr *pw = y->attr;
    for (int k = 0; k < y->n_in; k++) x[k] = at_broadcast(m, y->in[k], y, e);
    return qn__pw_eval(y->op, x[0], x[1], x[2], pw->p, pw->q);
}

static double run_matmul(const struct machine *m, const struct qn__node *y, int64_t e)
{
    const struct qn__epilogue *epilogue = &((const struct qn__matmul_attr *)y->attr)->epilogue;
    int64_t row = e / y->dim[1], column = e % y->dim[1], inner = m->g->node[y->in[0]].dim[1];
    double s = 0;
    for (int64_t k = 0; k < inner; k++)
        s += m->value[y->in[0]][row * inner + k] * m->value[y->in[1]][k * y->dim[1] + column];
    if (epilogue->has_bias) s += m->value[y->in[2]][column];
    return epilogue->act ? qn__pw_eval((enum qn__opcode)epilogue->act, s, 0, 0, epilogue->p, 0) : s;
}

static double run_transpose(const struct machine *m, const struct qn__node *y, int64_t e)
{
    const struct qn__transpose_attr *t = y->attr;
    const struct qn__node *x = &m->g->node[y->in[0]];
    int64_t at[QN_MAX_DIMS] = { 0 }, index = 0;
    for (int j = y->rank - 1; j >= 0; j--) {
        at[t->perm[j]] = e % y->dim[j];
        e /= y->dim[j];
    }
    for (int j = 0; j < x->rank; j++) index = index * x->dim[j] + at[j];
    return m->value[y->in[0]][index];
}

static double element(const struct machine *m, const struct qn__node *y, int64_t e)
{
    switch ((int)y->op) {
    case QN_OP_full: return ((const struct qn__full_attr *)y->attr)->value;
    case QN_OP_constant: return ((const double *)y->data)[e];
    case QN_OP_broadcast: return at_broadcast(m, y->in[0], y, e);
    case QN_OP_transpose: return run_transpose(m, y, e);
    case QN_OP_matmul: return run_matmul(m, y, e);
    case QN_OP_fused: return run_fused(m, y, e);
    default: return run_row(m, y, e);
    }
}

static void run_node(struct machine *m, int32_t i)
{
    const struct qn__node *y = &m->g->node[i];
    double result[ELEMENTS];
    if (y->op == QN_OP_input || y->op == QN_OP_store) {
        m->value[i] = m->memory[i];
        for (int64_t e = 0; e < y->count; e++)
            m->memory[i][e] = (double)(qn__hash_str(y->name) % 97 * 7 + (uint64_t)e * 31 % 23) / 64 - 5;
        return;
    }
    m->value[i] = qn__op_of(y->op)->alias || qn__op_of(y->op)->writes ? m->value[y->in[0]] : m->memory[i];
    if (qn__op_of(y->op)->alias) return;
    for (int64_t e = 0; e < y->count; e++)
        result[e] = y->op == QN_OP_assign       ? m->value[y->in[1]][e]
                    : y->op == QN_OP_accumulate ? m->value[y->in[0]][e] + m->value[y->in[1]][e]
                                                : element(m, y, e);
    memcpy(m->value[i], result, (size_t)y->count * sizeof *result);
}

static void interpret(struct machine *m, const qn_graph *g)
{
    assert_true(g->n <= VALUES);
    m->g = g;
    for (int phase = -1; phase <= QN_UPDATE; phase++)
        for (int32_t i = 1; i < g->n; i++) {
            int when = qn__arity_of(g->node[i].op) == 0 ? -1 : (int)g->node[i].phase;
            if (when == phase) run_node(m, i);
        }
}

static uint32_t random_state;
static int pick(int n)
{
    random_state = random_state * 1664525u + 1013904223u;
    return (int)((random_state >> 8) % (uint32_t)n);
}

/* A value of the wanted shape class: 0 [4,4], 1 [4], 2 [1,4], 3 []. */
static const struct {
    int rank;
    int64_t dim[2];
} shapes[] = { { 2, { 4, 4 } }, { 1, { 4 } }, { 2, { 1, 4 } }, { 0, { 0 } } };

static qn_t any(const qn_t *v, int n) { return v[pick(n)]; }

static qn_t same_shape(qn_graph *g, const qn_t *v, int n, qn_t like)
{
    for (int tries = 0; tries < 50; tries++) {
        qn_t t = any(v, n);
        if (qn__same_dims(qn__at(g, t), qn__at(g, like)) && qn_dtype_of(g, t) == QN_F64) return t;
    }
    return like;
}

static qn_t random_node(qn_graph *g, const qn_t *v, int n, const qn_t *tensor, int n_tensors)
{
    qn_t a = any(v, n), b = any(v, n), square = same_shape(g, v, n, v[0]), t = tensor[pick(n_tensors)];
    int shape = pick(4);
    switch (pick(24)) {
    case 0: return qn_add(g, a, b);
    case 1: return qn_sub(g, a, b);
    case 2: return qn_mul(g, a, b);
    case 3: return qn_minimum(g, a, b);
    case 4: return qn_relu(g, a);
    case 5: return qn_affine(g, a, pick(3) - 1, pick(3) - 1);
    case 6: return qn_step(g, a);
    case 7: return qn_where(g, qn_lt(g, a, b), a, b);
    case 8: return qn_div(g, a, qn_scalar(g, QN_F64, 1 + pick(4)));
    case 9: return qn_broadcast(g, a, 2, shapes[0].dim);
    case 10: return qn_transpose(g, square, NULL);
    case 11: return qn_reshape(g, qn_reshape(g, square, 1, (int64_t[]){ 16 }), 2, shapes[0].dim);
    case 12: return qn_full(g, QN_F64, shapes[shape].rank, shapes[shape].dim, pick(3));
    case 13: return qn_clamp(g, a, -2, 2);
    case 14: return qn_abs(g, a);
    case 15: return qn_neg(g, b);
    case 16: return qn_add(g, qn_matmul(g, square, same_shape(g, v, n, v[0]), NULL), b);
    case 17: return qn_relu(g, qn_matmul(g, square, same_shape(g, v, n, v[0]), NULL));
    case 18: return qn_mul(g, a, qn_scalar(g, QN_F64, pick(3)));
    case 19: return qn_assign(g, t, same_shape(g, v, n, t));
    case 20: return qn_accumulate(g, t, qn_scale(g, same_shape(g, v, n, t), 0.125));
    case 21: return qn_sub(g, qn_scalar(g, QN_F64, pick(3)), a);
    case 22: return qn_mul(g, a, qn_step(g, b));
    default: return qn_sigmoid(g, qn_scale(g, a, 0.0625));
    }
}

/* Magnitudes are held down so that products of products stay finite. */
static qn_graph *random_graph(int32_t *keep, int n_keep, qn_t *tensor, int n_tensors)
{
    qn_graph *g = new_graph();
    qn_t v[VALUES];
    int n = 0;
    for (int i = 0; i < 4; i++) {
        char name[] = "x0";
        name[1] = (char)('0' + i);
        v[n++] = qn_input(g, name, QN_F64, shapes[i].rank, shapes[i].dim);
    }
    for (int i = 0; i < n_tensors; i++) {
        char name[] = "w0";
        name[1] = (char)('0' + i);
        v[n++] = tensor[i] = qn_param(g, name, QN_F64, shapes[i].rank, shapes[i].dim, NULL);
    }
    for (int i = 0; i < 40; i++) {
        if (i == 30) qn_graph_phase(g, QN_UPDATE);
        qn_t t = random_node(g, v, n, tensor, n_tensors);
        if (qn_dtype_of(g, t) == QN_F64) v[n++] = pick(4) ? t : qn_clamp(g, t, -64, 64);
    }
    for (int i = 0; i < n_keep; i++) keep[i] = v[pick(n)].id;
    return g;
}

static bool same(double a, double b) { return a == b || (a != a && b != b); }

static void passes_keep_values(void **state)
{
    (void)state;
    static qn__pass *const passes[] = { qn__pass_dead,     qn__pass_fold, qn__pass_cse,
                                        qn__pass_epilogue, qn__pass_fuse, qn__pass_dead };
    enum { KEEP = 6, TENSORS = 3 };
    struct machine *before = malloc(sizeof *before), *after = malloc(sizeof *after);
    assert_true(before && after);
    int fused = 0, epilogues = 0;
    for (uint32_t seed = 1; seed <= 3000; seed++) {
        random_state = seed * 2654435761u;
        qn_t tensor[TENSORS];
        int32_t original[KEEP + TENSORS], keep[KEEP + TENSORS];
        qn_graph *g = random_graph(original, KEEP, tensor, TENSORS);
        for (int i = 0; i < TENSORS; i++) original[KEEP + i] = tensor[i].id;
        memcpy(keep, original, sizeof keep);
        if (qn__failed(g)) fail_msg("seed %u: %s", seed, qn_graph_error(g)->text);
        interpret(before, g);
        qn_graph *copy;
        assert_int_equal(qn__graph_like(&copy, g, NULL), QN_OK);
        int32_t map[VALUES] = { 0 };
        for (int32_t i = 1; i < g->n; i++) map[i] = qn__graph_carry(copy, g, i, map);
        for (size_t p = 0; p < sizeof passes / sizeof passes[0]; p++) {
            copy = passes_run(passes[p], copy, keep, KEEP + TENSORS, NULL);
            interpret(after, copy);
            for (int i = 0; i < KEEP + TENSORS; i++)
                for (int64_t e = 0; e < g->node[original[i]].count; e++)
                    if (!same(before->value[original[i]][e], after->value[keep[i]][e]))
                        fail_msg("seed %u, pass %zu: value %d element %lld: %.17g became %.17g", seed, p, original[i],
                                 (long long)e, before->value[original[i]][e], after->value[keep[i]][e]);
        }
        for (int32_t i = 1; i < copy->n; i++) {
            fused += copy->node[i].op == QN_OP_fused;
            epilogues += copy->node[i].op == QN_OP_matmul && copy->node[i].n_in == 3;
        }
        qn_graph_free(copy);
        qn_graph_free(g);
    }
    assert_true(fused > 500 && epilogues > 50); /* the graphs are such that the passes have work */
    free(before);
    free(after);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dead_drops_what_nobody_needs),
        cmocka_unit_test(fold_computes_constants),
        cmocka_unit_test(fold_drops_broadcasts),
        cmocka_unit_test(cse_merges_equal_values),
        cmocka_unit_test(epilogue_takes_bias_and_activation),
        cmocka_unit_test(epilogue_takes_bias_of_channels),
        cmocka_unit_test(epilogue_puts_relu_into_batch_norm),
        cmocka_unit_test(epilogue_respects_writes),
        cmocka_unit_test(sums_go_into_normalisations),
        cmocka_unit_test(gradients_are_added_in_normalisations),
        cmocka_unit_test(fuse_makes_trees),
        cmocka_unit_test(fuse_repeats_what_is_cheap),
        cmocka_unit_test(fuse_respects_writes_and_phases),
        cmocka_unit_test(fuse_keeps_its_limits),
        cmocka_unit_test(verifier_finds_each_fault),
        cmocka_unit_test(passes_keep_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
