/* attr.h - the attributes of each operator that has any: plain data, compared byte by byte (so constructors
 * zero the struct first), copied into the graph. Shared by core and the kernels. */
#ifndef QN_CORE_ATTR_H
#define QN_CORE_ATTR_H
#include "../include/quern/core.h"

/* pointwise rows: p and q of the expression; dtype of the result for cast */
struct qn__pw_attr {
    double p, q;
    int32_t dtype, unused;
};

/* fused: registers 0..n_in-1 are the operands, instruction i writes register n_in+i; the last is y. Operands a, b,
 * c name registers. */
enum { QN_FUSED_MAX = 24 };
struct qn__pw_instr {
    int32_t op;
    int32_t a, b, c;
    double p, q;
};
struct qn__fused_attr {
    int32_t n;
    int32_t n_in;
    struct qn__pw_instr instr[QN_FUSED_MAX];
};

/* matmul and convolution: what the epilogue pass has folded in. act is a pointwise opcode (relu, leaky_relu,
 * elu, gelu_tanh, gelu_erf, sigmoid, tanh, silu) or 0. bias is the last operand if has_bias. */
struct qn__epilogue {
    int32_t has_bias, act;
    double p;
};

struct qn__full_attr {
    double value;
};
struct qn__input_attr {
    int32_t unused;
};
struct qn__store_attr {
    int32_t kind, unused;
    qn_init init;
};

struct qn__output_attr {
    int32_t index, unused;
}; /* which of the further results, from 0 */

struct qn__reduce_attr {
    uint32_t axes;
    int32_t keep;
}; /* axes: only bits below the rank; argmax: one bit */

/* broadcast and reshape: the result's dims are the attribute; they stand in the node. */
struct qn__transpose_attr {
    int32_t perm[QN_MAX_DIMS];
}; /* y.dim[i] = x.dim[perm[i]] */
struct qn__slice_attr {
    int64_t begin[QN_MAX_DIMS], size[QN_MAX_DIMS];
};
struct qn__pad_attr {
    int64_t before[QN_MAX_DIMS], after[QN_MAX_DIMS];
};
struct qn__axis_attr {
    int32_t axis, unused;
    int64_t size;
}; /* concat, gather, scatter_add */

struct qn__matmul_attr {
    int32_t ta, tb;
    struct qn__epilogue epilogue;
};
/* conv2d, conv2d_grad_x, conv2d_grad_w; every field filled in (no zero defaults). size: the [H,W] of dx for
 * conv2d_grad_x, the [kh,kw] of dw for conv2d_grad_w; channels likewise (C of dx; O x C/groups of dw follow). */
struct qn__conv_attr {
    int32_t stride[2], dilation[2], pad[2], pad_end[2];
    int32_t groups, unused;
    int64_t size[2], channels;
    struct qn__epilogue epilogue;
};
/* every field filled in; grad rows take H and W of x from `size` where they have no x */
struct qn__pool_attr {
    int32_t window[2], stride[2], pad[2];
    int64_t size[2];
};

struct qn__norm_attr {
    double eps;
    int32_t groups, unused;
}; /* groups: of group_norm; else 1 */
struct qn__attention_attr {
    double scale;
    int32_t causal, unused;
    int64_t heads, kv_heads;
}; /* heads: if packed */
struct qn__lstm_attr {
    int32_t two_gates, has_dh, has_dc, unused;
}; /* the last two: of lstm_cell_grad */
struct qn__bn_attr {
    double eps;
    int32_t act, unused;
}; /* act: 0 or relu, folded in by the epilogue pass */
struct qn__dropout_attr {
    double p;
    uint64_t name_hash;
};
struct qn__xent_attr {
    double smoothing;
    int64_t ignore_index;
    int32_t use_ignore, has_weight; /* weight is the last operand */
};
struct qn__quantize_attr {
    int32_t axis, dtype;
}; /* axis -1: one scale; dtype: dequantize_int8's */
struct qn__loss_scale_attr {
    double growth, backoff, least, most;
    int64_t interval;
};
struct qn__rng_attr {
    int64_t samples, steps;
};
struct qn__reorder_attr {
    int32_t block, unused;
};

/* schedule: qn_schedule_opts with everything filled in */
struct qn__schedule_attr {
    int32_t kind, n_at;
    double base, warmup, every, gamma, total, end, peak, start, at[QN_SCHEDULE_MAX_AT];
};

/* Optimizer rows. Operands: w, the row's moments, g, and last `hyper`, [4] of w's dtype on the device:
 *   [0] learning rate  [1] factor on g (unscale, 1/count, clip)  [2] 1 to apply, 0 to skip every write
 *   [3] number of this update, from 1 (bias correction)
 * Moments: momentum v; adam m, v; rmsprop s; rmsprop_momentum s, v; adagrad s; lamb m, v; lion m.
 * clip_value 0: no clipping. */
struct qn__optim_attr {
    double beta1, beta2, eps, weight_decay, momentum, lr_scale, clip_value;
    int32_t nesterov, decoupled;
};
struct qn__ema_attr {
    double decay;
}; /* operands: shadow, w, hyper; skipped with hyper[2] */
#endif
