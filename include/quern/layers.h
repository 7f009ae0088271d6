/* layers.h - layers: operators together with the weights they own. Graph sugar only.
 *
 * A layer is one call. Its weights are store tensors named after it, so calling it again with the same name, in this
 * graph or another one bound to the same store, means the same weights:
 *
 *     qn_t h = qn_relu(g, qn_linear(g, "fc1", x, 512, NULL));
 *     qn_t logits = qn_linear(g, "fc2", h, 10, NULL);
 *
 * Names and shapes are those that PyTorch uses ("fc1.weight" [out,in], "conv.weight" [O,I/groups,kh,kw],
 * "bn.running_mean" [C]), so checkpoints exchange. Errors are sticky, see core.h. */
#ifndef QUERN_LAYERS_H
#define QUERN_LAYERS_H
#include "core.h"
#ifdef __cplusplus
extern "C" {
#endif

/* weight: how weights start; kind QN_INIT_ZEROS with a, b, gain 0 (a zeroed struct) means the layer's default, He's
 * normal distribution. Zero weights are asked for by QN_INIT_VALUE with a = 0. Biases start at 0. */
typedef struct qn_linear_opts {
    qn_init weight;
    bool no_bias;
} qn_linear_opts;

/* x [..,F] -> [..,features]: x W^T + b. weight [features,F], bias [features]. */
QN_API qn_t qn_linear(qn_graph *g, const char *name, qn_t x, int64_t features, const qn_linear_opts *opts);

typedef struct qn_conv_opts {
    qn_conv2d_opts conv;
    qn_init weight;
    bool no_bias;
    int32_t out_pad[2]; /* transposed convolution only */
} qn_conv_opts;

/* x [N,C,H,W] -> [N,channels,H',W']; weight [channels,C/groups,kernel[0],kernel[1]], bias [channels]. */
QN_API qn_t qn_conv(qn_graph *g, const char *name, qn_t x, int64_t channels, const int64_t kernel[2],
                    const qn_conv_opts *opts);
/* weight [C,channels/groups,kernel[0],kernel[1]] */
QN_API qn_t qn_conv_transpose(qn_graph *g, const char *name, qn_t x, int64_t channels, const int64_t kernel[2],
                              const qn_conv_opts *opts);

/* training: statistics of the batch, and running_mean, running_var (QN_BUFFER) move towards them:
 * running = momentum running + (1 - momentum) batch, with the unbiased variance; a batch whose statistics are not
 * finite leaves them as they are, and an update that qn_train_build skips takes back what its micro runs have moved (to
 * "running_mean.before", "running_var.before", QN_STATE). Otherwise the running ones are used. opts NULL: eps 1e-5,
 * momentum 0.9. Errors: E2204. */
typedef struct qn_norm_opts {
    double eps;      /* 0: 1e-5                                                            */
    double momentum; /* 0..1, weight of the old value; as it is: 0 keeps nothing of the old */
    bool no_affine;  /* no weight (gamma) and bias (beta) */
} qn_norm_opts;
/* x [N,C,H,W] or [N,C] */
QN_API qn_t qn_norm_batch(qn_graph *g, const char *name, qn_t x, bool training, const qn_norm_opts *opts);

/* x [..,C] over the last axis: qn_layer_norm with weight and bias [C], qn_rms_norm with weight [C]. opts NULL: eps
 * 1e-5; momentum is not used. */
QN_API qn_t qn_norm_layer(qn_graph *g, const char *name, qn_t x, const qn_norm_opts *opts);
QN_API qn_t qn_norm_rms(qn_graph *g, const char *name, qn_t x, const qn_norm_opts *opts);

/* x [N,C,..]: qn_group_norm with weight and bias [C]. opts as above. */
QN_API qn_t qn_norm_group(qn_graph *g, const char *name, qn_t x, int64_t groups, const qn_norm_opts *opts);

/* Rows of a table: index I32 or I64 [..] -> [..,features] of `dtype`; weight [vocabulary,features], by default normal
 * with deviation 0.02. An index outside [0,vocabulary) makes the run fail with E3041. */
QN_API qn_t qn_embedding(qn_graph *g, const char *name, qn_t index, qn_dtype dtype, int64_t vocabulary,
                         int64_t features, const qn_init *weight);
/* The weight of an embedding of that name as the last projection: x [..,features] -> logits [..,vocabulary] (Press,
 * Wolf 2017). */
QN_API qn_t qn_unembed(qn_graph *g, const char *name, qn_t x, int64_t vocabulary, const qn_init *weight);

typedef struct qn_self_attention_opts {
    int64_t heads;    /* of q; divides C                                                        */
    int64_t kv_heads; /* of k and v; divides heads; 0: heads                                    */
    bool causal, no_bias;
    double scale;   /* of the scores; 0: 1/sqrt(head size)                                      */
    qn_init weight; /* a zeroed struct: normal with deviation 0.02                              */
} qn_self_attention_opts;
/* x [B,T,C] -> [B,T,C]: one projection to q, k and v, qn_attention_packed, one projection of the result. Weights as in
 * PyTorch's MultiheadAttention: in_proj_weight [(H + 2 Hk) D,C], in_proj_bias, out_proj.weight [C,C], out_proj.bias. */
QN_API qn_t qn_self_attention(qn_graph *g, const char *name, qn_t x, const qn_self_attention_opts *opts);

typedef struct qn_transformer_opts {
    qn_self_attention_opts attention;
    int64_t hidden; /* of the two linear layers; 0: 4 C                                   */
    double eps;     /* of the norms; 0: 1e-5                                              */
    double dropout; /* probability after attention and after the second linear; 0: none   */
    qn_t rng;       /* the tensor of qn_rng(), needed with dropout                        */
    bool gelu_tanh; /* the tanh form of GELU instead of erf                               */
    bool rms;       /* RMS norm instead of layer norm                                     */
} qn_transformer_opts;
/* A block with norms first (Xiong et al. 2020): x + attention(norm1(x)), then x + linear2(gelu(linear1(norm2(x)))).
 * x [B,T,C] -> [B,T,C]. Weights as in PyTorch's TransformerEncoderLayer: self_attn.*, linear1.*, linear2.*, norm1.*,
 * norm2.*. */
QN_API qn_t qn_transformer_block(qn_graph *g, const char *name, qn_t x, const qn_transformer_opts *opts);

#ifdef __cplusplus
}
#endif
#endif
