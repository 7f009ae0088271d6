/* transformer.c - self-attention with its projections, and the block around it. */
#include "../include/quern/layers.h"
#include "weights.h"

static qn_t project(qn_graph *g, qn_t x, const char *weight, const char *bias, int64_t features,
                    const qn_self_attention_opts *opts)
{
    qn_dtype dtype = qn_dtype_of(g, x);
    qn_init init = qn__narrow_init(&opts->weight);
    qn_t w = qn_param(g, weight, dtype, 2, (int64_t[]){ features, qn_dim(g, x, -1) }, &init);
    qn_t y = qn_matmul(g, x, w, &(qn_matmul_opts){ .transpose_b = true });
    return opts->no_bias ? y : qn_add(g, y, qn_param(g, bias, dtype, 1, &features, NULL));
}

qn_t qn_self_attention(qn_graph *g, const char *name, qn_t x, const qn_self_attention_opts *opts)
{
    int64_t channels = qn_dim(g, x, -1), heads = opts->heads, kv_heads = opts->kv_heads ? opts->kv_heads : heads;
    if (heads < 1 || channels % heads != 0 || kv_heads < 1 || heads % kv_heads != 0)
        return qn_graph_fail(g, 2204, "self_attention",
                             "%lld channels, %lld heads of q, %lld of k; expected each to divide the one before",
                             (long long)channels, (long long)heads, (long long)kv_heads);
    int64_t packed = (heads + 2 * kv_heads) * (channels / heads);
    qn_attention_opts attention = { .scale = opts->scale, .causal = opts->causal };
    qn_scope_push(g, name);
    qn_t qkv = project(g, x, "in_proj_weight", "in_proj_bias", packed, opts);
    qn_t y = qn_attention_packed(g, qkv, heads, kv_heads, &attention);
    y = project(g, y, "out_proj.weight", "out_proj.bias", channels, opts);
    qn_scope_pop(g);
    return y;
}

static qn_t norm(qn_graph *g, const char *name, qn_t x, const qn_transformer_opts *opts)
{
    const qn_norm_opts o = { .eps = opts->eps };
    return opts->rms ? qn_norm_rms(g, name, x, &o) : qn_norm_layer(g, name, x, &o);
}

static qn_t drop(qn_graph *g, const char *name, qn_t x, const qn_transformer_opts *opts)
{
    return opts->dropout != 0 ? qn_dropout(g, x, opts->rng, opts->dropout, name) : x;
}

qn_t qn_transformer_block(qn_graph *g, const char *name, qn_t x, const qn_transformer_opts *opts)
{
    int64_t channels = qn_dim(g, x, -1), hidden = opts->hidden ? opts->hidden : 4 * channels;
    qn_linear_opts linear = { .weight = qn__narrow_init(&opts->attention.weight), .no_bias = opts->attention.no_bias };
    qn_scope_push(g, name);
    qn_t a = qn_self_attention(g, "self_attn", norm(g, "norm1", x, opts), &opts->attention);
    x = qn_add(g, x, drop(g, "dropout1", a, opts));
    qn_t h = qn_linear(g, "linear1", norm(g, "norm2", x, opts), hidden, &linear);
    h = opts->gelu_tanh ? qn_gelu_tanh(g, h) : qn_gelu_erf(g, h);
    h = qn_linear(g, "linear2", h, channels, &linear);
    x = qn_add(g, x, drop(g, "dropout2", h, opts));
    qn_scope_pop(g);
    return x;
}
