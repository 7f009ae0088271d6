/* Transformer layers: weights as PyTorch names them, a block against the same block of plain operators, causality,
 * and a small decoder that learns, with and without fusion the same bits. */
#include "../../include/quern/layers.h"
#include "../../include/quern/optim.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

enum { B = 2, T = 7, C = 12, V = 11 };

struct net {
    qn_graph *g;
    qn_store *store;
    qn_program *p;
};

static void must(qn_status status, const qn_error *err)
{
    if (status) fail_msg("%s", err->text);
}

static struct net new_net(void)
{
    struct net n = { 0 };
    qn_error err = { 0 };
    assert_int_equal(qn_graph_new(&n.g, NULL), QN_OK);
    must(qn_store_new(&n.store, "cpu", 5, NULL, &err), &err);
    return n;
}

static void load(struct net *n, const qn_t *keep, int n_keep, bool no_fuse)
{
    qn_error err = { 0 };
    const qn_compile_opts opts = { .threads = 2, .check_plan = true, .no_fuse = no_fuse };
    must(qn_compile(&n->p, n->g, keep, n_keep, n->store, &opts, &err), &err);
    must(qn_program_load(n->p, &err), &err);
}

static void run(struct net *n, qn_phase phase)
{
    qn_error err = { 0 };
    must(qn_program_run(n->p, phase, &err), &err);
}

static void close_net(struct net *n)
{
    qn_program_free(n->p);
    qn_store_free(n->store);
    qn_graph_free(n->g);
}

static void fill(double *x, size_t n, int seed)
{
    for (size_t i = 0; i < n; i++) x[i] = sin(0.7 * (double)i + seed) + 0.3 * cos(1.9 * (double)i * seed);
}

/* ---- names -------------------------------------------------------------------------------------------- */

static void expect_weight(const struct net *n, const char *name, int rank, int64_t a, int64_t b)
{
    const qn_store_entry *e = qn_store_find(n->store, name);
    if (!e) fail_msg("no weight %s", name);
    assert_int_equal(e->kind, QN_PARAM);
    assert_int_equal(e->rank, rank);
    assert_int_equal(e->dims[0], a);
    if (rank == 2) assert_int_equal(e->dims[1], b);
}

static void weights_are_named_as_in_pytorch(void **state)
{
    (void)state;
    struct net n = new_net();
    qn_t x = qn_input(n.g, "x", QN_F32, 3, (int64_t[]){ B, T, C });
    const qn_transformer_opts o = { .attention = { .heads = 4, .kv_heads = 2 }, .hidden = 20 };
    qn_t y = qn_transformer_block(n.g, "layers.0", x, &o);
    load(&n, &y, 1, false);
    expect_weight(&n, "layers.0.self_attn.in_proj_weight", 2, (4 + 2 + 2) * 3, C);
    expect_weight(&n, "layers.0.self_attn.in_proj_bias", 1, 24, 0);
    expect_weight(&n, "layers.0.self_attn.out_proj.weight", 2, C, C);
    expect_weight(&n, "layers.0.self_attn.out_proj.bias", 1, C, 0);
    expect_weight(&n, "layers.0.linear1.weight", 2, 20, C);
    expect_weight(&n, "layers.0.linear1.bias", 1, 20, 0);
    expect_weight(&n, "layers.0.linear2.weight", 2, C, 20);
    expect_weight(&n, "layers.0.linear2.bias", 1, C, 0);
    expect_weight(&n, "layers.0.norm1.weight", 1, C, 0);
    expect_weight(&n, "layers.0.norm1.bias", 1, C, 0);
    expect_weight(&n, "layers.0.norm2.weight", 1, C, 0);
    expect_weight(&n, "layers.0.norm2.bias", 1, C, 0);
    assert_int_equal(qn_store_count(n.store), 12);
    close_net(&n);
}

static void heads_must_divide(void **state)
{
    (void)state;
    static const int64_t wrong[][2] = { { 5, 0 }, { 4, 3 }, { 0, 0 }, { -4, 0 }, { 4, -2 }, { 4, 8 } };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct net n = new_net();
        qn_t x = qn_input(n.g, "x", QN_F32, 3, (int64_t[]){ B, T, C });
        qn_self_attention(n.g, "a", x, &(qn_self_attention_opts){ .heads = wrong[i][0], .kv_heads = wrong[i][1] });
        assert_int_equal(qn_graph_error(n.g)->code, 2204);
        close_net(&n);
    }
}

/* ---- a block of plain operators --------------------------------------------------------------------------- */

static qn_t plain_norm(qn_graph *g, const char *name, qn_t x, bool rms)
{
    int64_t c = C;
    qn_scope_push(g, name);
    qn_t mean = rms ? qn_full(g, QN_F64, 3, (int64_t[]){ B, T, 1 }, 0) : qn_mean(g, x, QN_AXIS(2), true);
    qn_t d = qn_sub(g, x, mean), r = qn_rsqrt(g, qn_affine(g, qn_mean(g, qn_square(g, d), QN_AXIS(2), true), 1, 1e-5));
    qn_t y = qn_mul(g, qn_mul(g, d, r), qn_param(g, "weight", QN_F64, 1, &c, NULL));
    if (!rms) y = qn_add(g, y, qn_param(g, "bias", QN_F64, 1, &c, NULL));
    qn_scope_pop(g);
    return y;
}

static qn_t plain_linear(qn_graph *g, const char *weight, const char *bias, qn_t x, int64_t features)
{
    qn_t w = qn_param(g, weight, QN_F64, 2, (int64_t[]){ features, qn_dim(g, x, -1) }, NULL);
    qn_t y = qn_matmul(g, x, w, &(qn_matmul_opts){ .transpose_b = true });
    return qn_add(g, y, qn_param(g, bias, QN_F64, 1, &features, NULL));
}

/* heads of a part of qkv as [B,n,T,D], each repeated `times` times in a row */
static qn_t heads(qn_graph *g, qn_t qkv, int64_t at, int64_t n, int64_t times)
{
    int64_t d = C / 4;
    qn_t x = qn_slice(g, qkv, (int64_t[]){ 0, 0, at * d }, (int64_t[]){ B, T, n * d });
    x = qn_reshape(g, x, 5, (int64_t[]){ B, T, n, 1, d });
    x = qn_broadcast(g, x, 5, (int64_t[]){ B, T, n, times, d });
    return qn_transpose(g, qn_reshape(g, x, 4, (int64_t[]){ B, T, n * times, d }), (const int[]){ 0, 2, 1, 3 });
}

static qn_t plain_attention(qn_graph *g, qn_t x, int64_t kv_heads, bool causal)
{
    qn_scope_push(g, "self_attn");
    qn_t qkv = plain_linear(g, "in_proj_weight", "in_proj_bias", x, (4 + 2 * kv_heads) * (C / 4));
    qn_t q = heads(g, qkv, 0, 4, 1), k = heads(g, qkv, 4, kv_heads, 4 / kv_heads);
    qn_t v = heads(g, qkv, 4 + kv_heads, kv_heads, 4 / kv_heads);
    qn_t s = qn_scale(g, qn_matmul(g, q, k, &(qn_matmul_opts){ .transpose_b = true }), 1 / sqrt(C / 4));
    double hidden[T * T];
    for (int i = 0; i < T * T; i++) hidden[i] = causal && i % T > i / T ? -1e30 : 0;
    s = qn_add(g, s, qn_constant(g, QN_F64, 2, (int64_t[]){ T, T }, hidden));
    qn_t y = qn_transpose(g, qn_matmul(g, qn_softmax(g, s), v, NULL), (const int[]){ 0, 2, 1, 3 });
    y = plain_linear(g, "out_proj.weight", "out_proj.bias", qn_reshape(g, y, 3, (int64_t[]){ B, T, C }), C);
    qn_scope_pop(g);
    return y;
}

static qn_t plain_block(qn_graph *g, const char *name, qn_t x, const qn_transformer_opts *o)
{
    qn_scope_push(g, name);
    int64_t kv = o->attention.kv_heads ? o->attention.kv_heads : 4;
    x = qn_add(g, x, plain_attention(g, plain_norm(g, "norm1", x, o->rms), kv, o->attention.causal));
    qn_t h = plain_linear(g, "linear1.weight", "linear1.bias", plain_norm(g, "norm2", x, o->rms), 4 * C);
    h = o->gelu_tanh ? qn_gelu_tanh(g, h) : qn_gelu_erf(g, h);
    x = qn_add(g, x, plain_linear(g, "linear2.weight", "linear2.bias", h, C));
    qn_scope_pop(g);
    return x;
}

static void a_block_is_its_operators(void **state)
{
    (void)state;
    static const qn_transformer_opts kinds[] = {
        { .attention = { .heads = 4, .weight = { .kind = QN_INIT_HE } } },
        { .attention = { .heads = 4, .kv_heads = 2, .causal = true, .weight = { .kind = QN_INIT_HE } },
          .gelu_tanh = true },
        { .attention = { .heads = 4, .kv_heads = 1, .causal = true, .weight = { .kind = QN_INIT_HE } }, .rms = true },
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        struct net n = new_net();
        qn_t x = qn_param(n.g, "x", QN_F64, 3, (int64_t[]){ B, T, C }, &(qn_init){ .kind = QN_INIT_NORMAL, .b = 1 });
        qn_t seed = qn_input(n.g, "seed", QN_F64, 3, (int64_t[]){ B, T, C }), y[4];
        y[0] = qn_transformer_block(n.g, "block", x, &kinds[i]);
        y[1] = plain_block(n.g, "block", x, &kinds[i]);
        for (int k = 0; k < 2; k++) qn_grad(n.g, qn_sum_all(n.g, qn_mul(n.g, y[k], seed)), &x, &y[2 + k], 1);
        load(&n, y, 4, false);
        fill(qn_program_data(n.p, seed), B * T * C, 3);
        run(&n, QN_MICRO);
        for (int k = 0; k < 4; k += 2) {
            const double *a = qn_program_data(n.p, y[k]), *b = qn_program_data(n.p, y[k + 1]);
            for (int e = 0; e < B * T * C; e++)
                if (!(fabs(a[e] - b[e]) <= 1e-12 * (1 + fabs(b[e]))))
                    fail_msg("kind %zu, %s %d: %.17g; expected %.17g", i, k ? "gradient" : "result", e, a[e], b[e]);
        }
        close_net(&n);
    }
}

/* ---- causality ----------------------------------------------------------------------------------------------- */

static void the_future_is_hidden(void **state)
{
    (void)state;
    struct net n = new_net();
    qn_t x = qn_input(n.g, "x", QN_F64, 3, (int64_t[]){ B, T, C });
    const qn_transformer_opts o = { .attention = { .heads = 4, .causal = true, .weight = { .kind = QN_INIT_HE } } };
    qn_t y = qn_transformer_block(n.g, "block", x, &o);
    double before[B * T * C];
    load(&n, &y, 1, false);
    double *in = qn_program_data(n.p, x), *out = qn_program_data(n.p, y);
    fill(in, B * T * C, 1);
    run(&n, QN_MICRO);
    memcpy(before, out, sizeof before);
    for (int b = 0; b < B; b++) in[(b * T + 4) * C + 2] += 1; /* time 4 of each sequence */
    run(&n, QN_MICRO);
    for (int b = 0; b < B; b++)
        for (int t = 0; t < T; t++) {
            bool same = memcmp(before + (b * T + t) * C, out + (b * T + t) * C, C * sizeof(double)) == 0;
            assert_int_equal(same, t < 4);
        }
    close_net(&n);
}

/* ---- a decoder ----------------------------------------------------------------------------------------------- */

struct decoder {
    struct net net;
    qn_t tokens, targets, loss;
};

static struct decoder open_decoder(bool no_fuse)
{
    struct decoder d = { .net = new_net() };
    qn_graph *g = d.net.g;
    d.tokens = qn_input(g, "tokens", QN_I32, 2, (int64_t[]){ B, T });
    d.targets = qn_input(g, "targets", QN_I32, 2, (int64_t[]){ B, T });
    int32_t at[T];
    for (int i = 0; i < T; i++) at[i] = i;
    qn_t x = qn_embedding(g, "wte", d.tokens, QN_F32, V, C, NULL);
    x = qn_add(g, x, qn_embedding(g, "wpe", qn_constant(g, QN_I32, 1, (int64_t[]){ T }, at), QN_F32, T, C, NULL));
    const qn_transformer_opts o = { .attention = { .heads = 3, .causal = true }, .gelu_tanh = true };
    x = qn_transformer_block(g, "h.0", x, &o);
    x = qn_transformer_block(g, "h.1", x, &o);
    d.loss = qn_cross_entropy(g, qn_unembed(g, "wte", qn_norm_layer(g, "ln_f", x, NULL), V, NULL), d.targets, NULL);
    const qn_train_opts train = { .optimizer = { .kind = QN_OPTIMIZER_ADAM, .lr = 0.01 }, .batch = B };
    qn_train_nodes t = { .loss = { 0 } };
    if (qn_train_build(g, d.loss, &train, &t)) fail_msg("%s", qn_graph_error(g)->text);
    load(&d.net, &d.loss, 1, no_fuse);
    for (int i = 0; i < B * T; i++) {
        ((int32_t *)qn_program_data(d.net.p, d.tokens))[i] = (i * 5 + i / T) % V;
        ((int32_t *)qn_program_data(d.net.p, d.targets))[i] = ((i + 1) * 5 + i / T) % V;
    }
    return d;
}

static float step(struct decoder *d)
{
    run(&d->net, QN_MICRO);
    float loss = *(const float *)qn_program_data(d->net.p, d->loss);
    run(&d->net, QN_UPDATE);
    return loss;
}

static void a_decoder_learns_and_fusion_changes_no_bit(void **state)
{
    (void)state;
    struct decoder fused = open_decoder(false), plain = open_decoder(true);
    assert_true(qn_program_steps(fused.net.p) < qn_program_steps(plain.net.p));
    int sums = 0;
    for (int i = 0; i < qn_program_steps(fused.net.p); i++)
        sums += strcmp(qn_program_step(fused.net.p, i).op, "add_layer_norm") == 0;
    assert_int_equal(sums, 4); /* every residual sum goes into the norm after it */
    float first = 0, last = 0;
    for (int i = 0; i < 60; i++) {
        float a = step(&fused), b = step(&plain);
        if (memcmp(&a, &b, sizeof a) != 0) fail_msg("step %d: loss %.9g fused, %.9g not", i, (double)a, (double)b);
        if (i == 0) first = a;
        last = a;
    }
    assert_true(first > 2.3f && first < 2.5f); /* ln 11 */
    assert_true(last < 0.2f);
    for (int i = 0; i < qn_store_count(fused.net.store); i++) {
        const qn_store_entry *a = qn_store_at(fused.net.store, i), *b = qn_store_find(plain.net.store, a->name);
        assert_non_null(b);
        if (memcmp(a->data, b->data, a->bytes) != 0) fail_msg("%s differs without fusion", a->name);
    }
    close_net(&fused.net);
    close_net(&plain.net);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_are_named_as_in_pytorch),
        cmocka_unit_test(heads_must_divide),
        cmocka_unit_test(a_block_is_its_operators),
        cmocka_unit_test(the_future_is_hidden),
        cmocka_unit_test(a_decoder_learns_and_fusion_changes_no_bit),
    };
    return cmocka_run_group_tests_name("transformer", tests, NULL, NULL);
}
