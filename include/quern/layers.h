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

#ifdef __cplusplus
}
#endif
#endif
