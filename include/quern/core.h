/* core.h - build a graph, differentiate it, compile it, run it.
 *
 * A graph is a list of values that only grows; a value (qn_t) is an index into it. Building is sticky: after
 * the first mistake every constructor returns {0} and does nothing, and qn_graph_status() and qn_compile()
 * report that first mistake in one sentence that names the scope, the operator and the shapes.
 *
 *     qn_graph *g;
 *     qn_graph_new(&g, NULL);
 *     qn_t x = qn_input(g, "x", QN_F32, 2, (int64_t[]){ 32, 784 });
 *     qn_t w = qn_param(g, "w", QN_F32, 2, (int64_t[]){ 784, 10 }, &(qn_init){ .kind = QN_INIT_XAVIER });
 *     qn_t loss = qn_mean_all(g, qn_square(g, qn_matmul(g, x, w, NULL)));
 *     qn_t dw;
 *     qn_grad(g, loss, &w, &dw, 1);
 *
 * Shapes: B or N batch, C channels, H height, W width, V classes, F features. Images are [N,C,H,W], filters
 * [O,I,H,W]; both are logical: the physical order is chosen when the graph is compiled. All arrays are
 * row-major. A graph, a program or a store may be used by one thread at a time. */
#ifndef QUERN_CORE_H
#define QUERN_CORE_H
#include "base.h"
#include "device.h"
#ifdef __cplusplus
extern "C" {
#endif

typedef struct qn_graph qn_graph;     /* being built; append-only                            */
typedef struct qn_program qn_program; /* compiled; cannot grow                               */
typedef struct qn_store qn_store;     /* persistent tensors by name: weights, state, scalars */
typedef struct qn_t {
    int32_t id;
} qn_t; /* a value; {0} is "no value"                      */

/* ---- graph -------------------------------------------------------------------------------- */

/* alloc NULL: malloc. The graph owns everything in it; programs do not need it after qn_compile. */
QN_API QN_CHECKED qn_status qn_graph_new(qn_graph **out, const qn_alloc *alloc);
QN_API void qn_graph_free(qn_graph *g);
QN_API qn_status qn_graph_status(const qn_graph *g);
QN_API const qn_error *qn_graph_error(const qn_graph *g); /* code 0 if none */
/* For functions that build several values: makes the graph fail with a code of core/errors.def unless it has failed
 * already. `what` names the function; the text says what was found and what was expected. Returns {0}. */
QN_API qn_t qn_graph_fail(qn_graph *g, int code, const char *what, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* Names of values built between push and pop are prefixed "scope.". */
QN_API void qn_scope_push(qn_graph *g, const char *name);
QN_API void qn_scope_pop(qn_graph *g);

/* A step is two phases over one plan: micro (forward, backward, accumulate; may run several times) and
 * update (clip, optimizer, schedule; once). Values built from now on belong to `phase`; starts as micro. */
typedef enum qn_phase { QN_MICRO, QN_UPDATE } qn_phase;
QN_API void qn_graph_phase(qn_graph *g, qn_phase phase);

QN_API int qn_rank(const qn_graph *g, qn_t t);
QN_API int64_t qn_dim(const qn_graph *g, qn_t t, int axis); /* axis < 0 counts from the end */
QN_API int64_t qn_count(const qn_graph *g, qn_t t);         /* number of elements            */
QN_API qn_dtype qn_dtype_of(const qn_graph *g, qn_t t);
QN_API int64_t qn_node_count(const qn_graph *g);
QN_API const char *qn_name(const qn_graph *g, qn_t t); /* scoped name; "" if it has none; owned by the graph */
/* Store tensors of one kind that the graph uses, in order of first use: writes at most max, returns how many. */
QN_API int qn_graph_tensors(const qn_graph *g, int kind, qn_t *out, int max);

/* ---- sources ------------------------------------------------------------------------------ */

/* A buffer the caller fills before each run (qn_program_data). Names of inputs are unique. */
QN_API qn_t qn_input(qn_graph *g, const char *name, qn_dtype dtype, int rank, const int64_t *dims);

/* How a store tensor gets its first contents. fan_in and fan_out come from the shape: [in,out] for rank 2,
 * [O,I,H,W] for rank 4. Random kinds draw from Philox with key (store seed, hash of the scoped name), so
 * they do not depend on the order of construction.
 *   ZEROS, ONES, VALUE a; UNIFORM in [a,b); NORMAL mean a, deviation b; TRUNCATED_NORMAL likewise, redrawn
 *   beyond two deviations; XAVIER uniform +-sqrt(6/(fan_in+fan_out)), XAVIER_NORMAL deviation
 *   sqrt(2/(fan_in+fan_out)) (Glorot, Bengio 2010); HE normal, deviation sqrt(2/fan_in), HE_UNIFORM
 *   +-sqrt(6/fan_in) (He et al. 2015); LECUN uniform +-1/sqrt(fan_in).  gain 0 means 1. */
typedef enum qn_init_kind {
    QN_INIT_ZEROS,
    QN_INIT_ONES,
    QN_INIT_VALUE,
    QN_INIT_UNIFORM,
    QN_INIT_NORMAL,
    QN_INIT_TRUNCATED_NORMAL,
    QN_INIT_XAVIER,
    QN_INIT_XAVIER_NORMAL,
    QN_INIT_HE,
    QN_INIT_HE_UNIFORM,
    QN_INIT_LECUN,
    QN_INIT_COUNT
} qn_init_kind;
typedef struct qn_init {
    qn_init_kind kind;
    double a, b, gain;
    int64_t fan_in, fan_out; /* 0: from the shape */
} qn_init;

/* What a store tensor is for; decides its arena and the checkpoint file it goes to. */
typedef enum qn_kind {
    QN_PARAM,  /* trained weight                              model file  */
    QN_BUFFER, /* not trained, part of the model (running statistics)  model file */
    QN_STATE,  /* optimizer moments, counters, RNG, scalars   state file  */
    QN_GRAD,   /* accumulated gradient                        state file  */
    QN_KIND_COUNT
} qn_kind;

/* A persistent tensor of the store that the program will be bound to. The same name names the same tensor in
 * every program; dtype and dims must agree. init NULL: zeros. */
QN_API qn_t qn_tensor(qn_graph *g, qn_kind kind, const char *name, qn_dtype dtype, int rank, const int64_t *dims,
                      const qn_init *init);
QN_API qn_t qn_param(qn_graph *g, const char *name, qn_dtype dtype, int rank, const int64_t *dims, const qn_init *init);

QN_API qn_t qn_full(qn_graph *g, qn_dtype dtype, int rank, const int64_t *dims, double value);
QN_API qn_t qn_scalar(qn_graph *g, qn_dtype dtype, double value); /* rank 0 */
/* Copies the data (row-major). */
QN_API qn_t qn_constant(qn_graph *g, qn_dtype dtype, int rank, const int64_t *dims, const void *data);

/* ---- pointwise ---------------------------------------------------------------------------- */

/* Operands broadcast as in NumPy. Float operands of one call share one dtype. Comparisons give BOOL. */
QN_API qn_t qn_add(qn_graph *g, qn_t a, qn_t b);
QN_API qn_t qn_sub(qn_graph *g, qn_t a, qn_t b);
QN_API qn_t qn_mul(qn_graph *g, qn_t a, qn_t b);
QN_API qn_t qn_div(qn_graph *g, qn_t a, qn_t b);
QN_API qn_t qn_minimum(qn_graph *g, qn_t a, qn_t b);
QN_API qn_t qn_maximum(qn_graph *g, qn_t a, qn_t b);
QN_API qn_t qn_power(qn_graph *g, qn_t a, qn_t b);
QN_API qn_t qn_lt(qn_graph *g, qn_t a, qn_t b);
QN_API qn_t qn_le(qn_graph *g, qn_t a, qn_t b);
QN_API qn_t qn_gt(qn_graph *g, qn_t a, qn_t b);
QN_API qn_t qn_ge(qn_graph *g, qn_t a, qn_t b);
QN_API qn_t qn_eq(qn_graph *g, qn_t a, qn_t b);
QN_API qn_t qn_ne(qn_graph *g, qn_t a, qn_t b);
QN_API qn_t qn_where(qn_graph *g, qn_t condition, qn_t a, qn_t b);
QN_API qn_t qn_affine(qn_graph *g, qn_t x, double scale, double shift); /* scale x + shift */
QN_API qn_t qn_scale(qn_graph *g, qn_t x, double scale);
QN_API qn_t qn_neg(qn_graph *g, qn_t x);
QN_API qn_t qn_abs(qn_graph *g, qn_t x);
QN_API qn_t qn_sign(qn_graph *g, qn_t x);
QN_API qn_t qn_step(qn_graph *g, qn_t x); /* 1 if x > 0, else 0; Heaviside */
QN_API qn_t qn_sqrt(qn_graph *g, qn_t x);
QN_API qn_t qn_rsqrt(qn_graph *g, qn_t x);
QN_API qn_t qn_exp(qn_graph *g, qn_t x);
QN_API qn_t qn_log(qn_graph *g, qn_t x);
QN_API qn_t qn_pow(qn_graph *g, qn_t x, double exponent);
QN_API qn_t qn_square(qn_graph *g, qn_t x);
QN_API qn_t qn_sin(qn_graph *g, qn_t x);
QN_API qn_t qn_cos(qn_graph *g, qn_t x);
QN_API qn_t qn_erf(qn_graph *g, qn_t x);
QN_API qn_t qn_clamp(qn_graph *g, qn_t x, double low, double high);
QN_API qn_t qn_is_finite(qn_graph *g, qn_t x); /* BOOL */
QN_API qn_t qn_cast(qn_graph *g, qn_t x, qn_dtype to);
QN_API qn_t qn_relu(qn_graph *g, qn_t x);
QN_API qn_t qn_leaky_relu(qn_graph *g, qn_t x, double slope);
QN_API qn_t qn_elu(qn_graph *g, qn_t x, double alpha);
QN_API qn_t qn_gelu_erf(qn_graph *g, qn_t x);
QN_API qn_t qn_gelu_tanh(qn_graph *g, qn_t x);
QN_API qn_t qn_silu(qn_graph *g, qn_t x);
QN_API qn_t qn_sigmoid(qn_graph *g, qn_t x);
QN_API qn_t qn_tanh(qn_graph *g, qn_t x);
QN_API qn_t qn_softplus(qn_graph *g, qn_t x);

/* ---- reductions --------------------------------------------------------------------------- */

/* axes: bit i set reduces axis i; QN_ALL_AXES reduces all. keep: reduced axes stay with size 1.
 * A sum over nothing is 0, a mean over nothing 0; max and min over nothing are an error. */
#define QN_AXIS(i) (1u << (i))
#define QN_ALL_AXES 0xffu
QN_API qn_t qn_sum(qn_graph *g, qn_t x, uint32_t axes, bool keep);
QN_API qn_t qn_mean(qn_graph *g, qn_t x, uint32_t axes, bool keep);
QN_API qn_t qn_reduce_max(qn_graph *g, qn_t x, uint32_t axes, bool keep);
QN_API qn_t qn_reduce_min(qn_graph *g, qn_t x, uint32_t axes, bool keep);
QN_API qn_t qn_sum_all(qn_graph *g, qn_t x);                     /* rank 0 */
QN_API qn_t qn_mean_all(qn_graph *g, qn_t x);                    /* rank 0 */
QN_API qn_t qn_argmax(qn_graph *g, qn_t x, int axis, bool keep); /* I32; first of equals; NaN counts as largest */
QN_API qn_t qn_sum_squares(qn_graph *g, qn_t x);                 /* rank 0, dtype of x; accumulated in double */

/* ---- shape -------------------------------------------------------------------------------- */

QN_API qn_t qn_broadcast(qn_graph *g, qn_t x, int rank, const int64_t *dims);
QN_API qn_t qn_sum_to(qn_graph *g, qn_t x, int rank, const int64_t *dims);            /* reverse of broadcast */
QN_API qn_t qn_reshape(qn_graph *g, qn_t x, int rank, const int64_t *dims);           /* one dim may be -1 */
QN_API qn_t qn_flatten(qn_graph *g, qn_t x);                                          /* [N, everything else] */
QN_API qn_t qn_transpose(qn_graph *g, qn_t x, const int *permutation);                /* NULL: reverse all axes */
QN_API qn_t qn_slice(qn_graph *g, qn_t x, const int64_t *begin, const int64_t *size); /* per axis */
QN_API qn_t qn_concat(qn_graph *g, const qn_t *x, int n, int axis);
QN_API qn_t qn_pad(qn_graph *g, qn_t x, const int64_t *before, const int64_t *after); /* zeros */
/* index: I32 or I64, any rank. An index outside [0, size of the axis) makes the run fail with E3041. */
QN_API qn_t qn_gather(qn_graph *g, qn_t x, qn_t index, int axis);
/* x has index's dims in the place of `axis`; the result has `size` there. */
QN_API qn_t qn_scatter_add(qn_graph *g, qn_t x, qn_t index, int axis, int64_t size);

/* ---- linear algebra, convolution, pooling ------------------------------------------------- */

/* [.., M,K] x [.., K,N] -> [.., M,N]; leading dims broadcast; transpose flags swap the last two dims first.
 * A rank-2 right operand is shared by the whole batch. */
typedef struct qn_matmul_opts {
    bool transpose_a, transpose_b;
} qn_matmul_opts;
QN_API qn_t qn_matmul(qn_graph *g, qn_t a, qn_t b, const qn_matmul_opts *opts);

/* All [0] is vertical, [1] horizontal. 0 means 1 for stride, dilation and groups. Output size
 * (H + pad[0] + pad_end[0] - dilation (kernel-1) - 1) / stride + 1. */
typedef struct qn_conv2d_opts {
    int32_t stride[2], dilation[2], pad[2], pad_end[2]; /* pad: top and left; pad_end: bottom and right */
    int32_t groups;
} qn_conv2d_opts;
/* x [N,C,H,W], w [O,C/groups,kh,kw] -> [N,O,H',W'] */
QN_API qn_t qn_conv2d(qn_graph *g, qn_t x, qn_t w, const qn_conv2d_opts *opts);
/* x [N,C,H,W], w [C,O/groups,kh,kw] -> [N,O,(H-1) stride - pad - pad_end + dilation (kh-1) + 1 + out_pad, ..];
 * the gradient of qn_conv2d with respect to its input. */
QN_API qn_t qn_conv_transpose2d(qn_graph *g, qn_t x, qn_t w, const qn_conv2d_opts *opts, const int32_t *out_pad);

typedef struct qn_pool2d_opts {
    int32_t window[2], stride[2], pad[2]; /* stride 0: the window; pad on both sides, < window */
} qn_pool2d_opts;
QN_API qn_t qn_max_pool2d(qn_graph *g, qn_t x, const qn_pool2d_opts *opts);
QN_API qn_t qn_avg_pool2d(qn_graph *g, qn_t x, const qn_pool2d_opts *opts);
QN_API qn_t qn_global_avg_pool2d(qn_graph *g, qn_t x); /* [N,C,1,1] */
QN_API qn_t qn_global_max_pool2d(qn_graph *g, qn_t x);

/* ---- normalisation, probability, losses --------------------------------------------------- */

/* Training: statistics of the batch; x [N,C,H,W] or [N,C], gamma and beta [C]. stats_out (may be NULL)
 * receives [2,C]: mean and biased variance, F64 if x is, else F32, for running averages. (Ioffe, Szegedy 2015) */
QN_API qn_t qn_batch_norm(qn_graph *g, qn_t x, qn_t gamma, qn_t beta, double eps, qn_t *stats_out);
/* Inference: given mean and variance [C]. */
QN_API qn_t qn_batch_norm_fixed(qn_graph *g, qn_t x, qn_t gamma, qn_t beta, qn_t mean, qn_t variance, double eps);

/* Over the last axis, mean and biased variance of each row; x [..,C], gamma and beta [C]. (Ba, Kiros, Hinton 2016) */
QN_API qn_t qn_layer_norm(qn_graph *g, qn_t x, qn_t gamma, qn_t beta, double eps);
/* gamma x / sqrt(mean x^2 + eps) over the last axis; gamma [C]. (Zhang, Sennrich 2019) */
QN_API qn_t qn_rms_norm(qn_graph *g, qn_t x, qn_t gamma, double eps);

/* x [N,C,..], gamma and beta [C]: mean and biased variance of C / groups channels of each sample, with all that lies
 * behind them. groups divides C; 1 is layer norm over all of a sample, C instance norm. (Wu, He 2018) */
QN_API qn_t qn_group_norm(qn_graph *g, qn_t x, qn_t gamma, qn_t beta, int64_t groups, double eps);

/* Scaled dot-product attention, softmax(scale q k^T) v (Vaswani et al. 2017): q [B,H,T,D], k and v [B,Hk,S,D]; the
 * result is like q. H is a multiple of Hk: consecutive heads of q share one of k and v. Causal: query t sees the keys
 * s <= t + S - T, so that the last sees all; a query that sees none gives 0. What a hidden key holds must be finite:
 * it is hidden by a factor 0, which a NaN may survive. */
typedef struct qn_attention_opts {
    double scale; /* 0: 1/sqrt(D) */
    bool causal;
} qn_attention_opts;
QN_API qn_t qn_attention(qn_graph *g, qn_t q, qn_t k, qn_t v, const qn_attention_opts *opts);
/* The same as one projection leaves them: qkv [B,T,(H + 2 Hk) D] holds at each time the heads of q, of k and of v; the
 * result is [B,T,H D]. Nothing is copied. */
QN_API qn_t qn_attention_packed(qn_graph *g, qn_t qkv, int64_t heads, int64_t kv_heads, const qn_attention_opts *opts);

/* One time step of an LSTM, s being the logistic function: gates [B,4H] are the pre-activations i, f, g, o (in
 * PyTorch's order); more_gates, if given, is added to them; c [B,H]. Gives h' = s(o) tanh c', and in c_out (may be
 * NULL) c' = s(f) c + s(i) tanh g. */
QN_API qn_t qn_lstm_cell(qn_graph *g, qn_t gates, qn_t more_gates, qn_t c, qn_t *c_out);
/* One time step of a GRU: gates [B,3H] r, z, n of the input and of the state, each with its bias; h [B,H]. Gives
 * (1 - z) n + z h with r = s(x_r + h_r), z = s(x_z + h_z), n = tanh(x_n + r h_n). */
QN_API qn_t qn_gru_cell(qn_graph *g, qn_t gates_x, qn_t gates_h, qn_t h);

/* Zeroes elements with probability p in [0,1) and scales the rest by 1/(1-p); the mask is a function of
 * (seed, scoped name, global sample, element, step) and is drawn again, not stored, in the backward pass.
 * rng: the tensor of qn_rng(). Axis 0 of x is the sample. */
QN_API qn_t qn_dropout(qn_graph *g, qn_t x, qn_t rng, double p, const char *name);
/* The graph's random state, STATE tensor "quern.rng" I64[4]: seed, step, first sample of the batch, 0. */
QN_API qn_t qn_rng(qn_graph *g);
/* Moves the samples on by `samples` (per micro run) or, in the update phase, the step by one. */
QN_API qn_t qn_advance_rng(qn_graph *g, qn_t rng, int64_t samples, int64_t steps);

/* Over the last axis. Elements of -inf get probability 0; a row of nothing else is 0/0, NaN: mask with a finite number
 * such as -1e30 where a whole row may be masked. */
QN_API qn_t qn_softmax(qn_graph *g, qn_t x);
QN_API qn_t qn_log_softmax(qn_graph *g, qn_t x);

/* logits [..,V]; target I32 or I64 [..] (class index) or of logits' dtype and shape (probabilities).
 * weight: float [V] per class, or {0}; a given value: no gradient flows to it. Mean over rows, weighted by the class
 * weight of the target (index targets), rows with target == ignore_index left out (only if use_ignore); 0 when no
 * row counts.
 * smoothing s: target (1-s) onehot + s/V. A class index outside [0,V) makes the run fail with E3041. */
typedef struct qn_cross_entropy_opts {
    qn_t weight;
    double smoothing;
    int64_t ignore_index;
    bool use_ignore;
} qn_cross_entropy_opts;
QN_API qn_t qn_cross_entropy(qn_graph *g, qn_t logits, qn_t target, const qn_cross_entropy_opts *opts);
QN_API qn_t qn_mse(qn_graph *g, qn_t x, qn_t target);                 /* mean (x-t)^2 */
QN_API qn_t qn_l1(qn_graph *g, qn_t x, qn_t target);                  /* mean |x-t|   */
QN_API qn_t qn_huber(qn_graph *g, qn_t x, qn_t target, double delta); /* mean; Huber 1964 */
QN_API qn_t qn_bce_with_logits(qn_graph *g, qn_t x, qn_t target);     /* mean softplus(x) - x t */

/* ---- 8-bit numbers ------------------------------------------------------------------------- */

/* Symmetric quantisation (Jacob et al. 2018, without zero points): q = x / scale rounded to the nearest whole number,
 * even if two are, and kept within -127..127; NaN becomes 0. x is F32, F64, BF16 or F16, scale F64 if x is, else F32:
 * one number [1] or [] with axis -1, else [size of the axis]. The gradient stops here. */
QN_API qn_t qn_quantize_int8(qn_graph *g, qn_t x, qn_t scale, int axis);
/* q scale, in `dtype`: F64 with a scale of F64, else F32, BF16 or F16. */
QN_API qn_t qn_dequantize_int8(qn_graph *g, qn_t q, qn_t scale, int axis, qn_dtype dtype);
/* The scale that loses nothing to the limits: max |x| / 127 over everything (axis -1), or for each index of an axis. */
QN_API qn_t qn_scale_int8(qn_graph *g, qn_t x, int axis);

/* ---- updates ------------------------------------------------------------------------------ */

/* Store tensors written in place; the returned value is the tensor after the write. A read of dst that was
 * built earlier sees the old contents, one built from the returned value the new. */
QN_API qn_t qn_assign(qn_graph *g, qn_t dst, qn_t src);
QN_API qn_t qn_accumulate(qn_graph *g, qn_t dst, qn_t src);
/* Samples whose gradients micro runs have added up since the last update: GRAD tensor "optim.count", I64 [1], kept by
 * qn_train_build. 0 in the first micro run of an update, and always where each update has a single one. */
QN_API qn_t qn_pending_samples(qn_graph *g);

#define QN_SCHEDULE_MAP(X) \
    X(CONSTANT, "constant") \
    X(STEP, "step") \
    X(MULTI_STEP, "multi_step") \
    X(EXPONENTIAL, "exponential") \
    X(COSINE, "cosine") \
    X(ONE_CYCLE, "one_cycle") \
    X(LINEAR, "linear") \
    X(PLATEAU, "plateau")
typedef enum qn_schedule_kind {
#define X(e, s) QN_SCHEDULE_##e,
    QN_SCHEDULE_MAP(X)
#undef X
        QN_SCHEDULE_COUNT
} qn_schedule_kind;

enum { QN_SCHEDULE_MAX_AT = 16 };

/* The factor on optimizer.lr at update u = 0, 1, ...; times in updates, fractions allowed. During the first `warmup`
 * updates it is multiplied by (u + 1) / warmup (all kinds but ONE_CYCLE). With t = (u - warmup) / (total - warmup):
 *   CONSTANT 1    STEP gamma^floor(u / every)    MULTI_STEP gamma^(number of at[] <= u)
 *   EXPONENTIAL gamma^(u / every)    COSINE end + (1 - end) (1 + cos(pi t)) / 2 (Loshchilov, Hutter 2017)
 *   LINEAR 1 + (end - 1) t           PLATEAU 1 (the host lowers "optim.plateau")
 *   ONE_CYCLE, with up = peak total: start + (1 - start) (1 - cos(pi u / up)) / 2 while u < up, then
 *     end + (1 - end) (1 + cos(pi (u - up) / (total - up))) / 2, and `end` from u = total on (Smith 2018, arXiv
 *     1803.09820, with the half cosines that fastai and PyTorch draw; the momentum is left alone) */
typedef struct qn_schedule_opts {
    qn_schedule_kind kind;
    double warmup, every, gamma, total, end, peak, start;
    double at[QN_SCHEDULE_MAX_AT];
    int n_at;
} qn_schedule_opts;

/* The learning rate base * factor(updates) * plateau, computed on the device. updates: I64 [1]; plateau: F32 or F64
 * scalar, which gives the result its dtype and which the host may lower between runs. */
QN_API qn_t qn_schedule(qn_graph *g, qn_t updates, qn_t plateau, double base, const qn_schedule_opts *opts);

/* Dynamic loss scaling (Micikevicius et al. 2018). state [3], a tensor of the store: scale, finite steps in a row,
 * steps that overflowed. finite: one element, not 0 if every gradient of the step is finite. A finite step counts, and
 * the interval-th multiplies the scale by growth, up to most, and counts anew; any other multiplies it by backoff, down
 * to least. Returns the state after the step. */
typedef struct qn_loss_scale_opts {
    double growth, backoff; /* 0: 2 and 0.5 */
    double least, most;     /* 0: 1 and 2^24 */
    int64_t interval;       /* 0: 2000 */
} qn_loss_scale_opts;
QN_API qn_t qn_loss_scale(qn_graph *g, qn_t state, qn_t finite, const qn_loss_scale_opts *opts);

/* One step of an optimizer. w and the moments are tensors of the store, all like grad: F32 or F64, one shape. What
 * changes from step to step comes from hyper [4], F32 (F64 if w is): learning rate, factor on the gradient, 1
 * to apply or 0 to write nothing at all, number of the update from 1. Returns w after the step. Below, e =
 * weight_decay, lr = hyper[0] lr_scale, g = clamp(hyper[1] grad, -clip_value, clip_value) (no clamp if 0); x
 * / 0 counts as 0. */
typedef struct qn_update_opts {
    double beta1, beta2; /* adam, lamb, lion; rmsprop: beta2                 */
    double eps, weight_decay, momentum;
    double lr_scale; /* not 1 by default: set it                         */
    double clip_value;
    bool nesterov;  /* momentum                                         */
    bool decoupled; /* adam: weight decay beside the gradient, as AdamW */
} qn_update_opts;
/* w -= lr (g + e w) */
QN_API qn_t qn_sgd(qn_graph *g, qn_t w, qn_t grad, qn_t hyper, const qn_update_opts *opts);
/* v = momentum v + g + e w; w -= lr v, or lr (g + e w + momentum v) for Nesterov (Sutskever et al. 2013) */
QN_API qn_t qn_momentum(qn_graph *g, qn_t w, qn_t v, qn_t grad, qn_t hyper, const qn_update_opts *opts);
/* m, v: averages of g, g^2 by beta1, beta2; w -= lr m' / (sqrt(v') + eps), ' being divided by 1 - beta^t (Kingma, Ba
 * 2015); e w is added to g, or if decoupled lr e w is subtracted from w (Loshchilov, Hutter 2019) */
QN_API qn_t qn_adam(qn_graph *g, qn_t w, qn_t m, qn_t v, qn_t grad, qn_t hyper, const qn_update_opts *opts);
/* s = beta2 s + (1 - beta2) (g + e w)^2; w -= lr (g + e w) / (sqrt(s) + eps) (Tieleman, Hinton 2012) */
QN_API qn_t qn_rmsprop(qn_graph *g, qn_t w, qn_t s, qn_t grad, qn_t hyper, const qn_update_opts *opts);
/* the same with v = momentum v + (g + e w) / (sqrt(s) + eps); w -= lr v */
QN_API qn_t qn_rmsprop_momentum(qn_graph *g, qn_t w, qn_t s, qn_t v, qn_t grad, qn_t hyper, const qn_update_opts *opts);
/* s += (g + e w)^2; w -= lr (g + e w) / (sqrt(s) + eps) (Duchi et al. 2011) */
QN_API qn_t qn_adagrad(qn_graph *g, qn_t w, qn_t s, qn_t grad, qn_t hyper, const qn_update_opts *opts);
/* u = m' / (sqrt(v') + eps) + e w with m', v' of adam; w -= lr |w| / |u| u, the ratio being 1 if a norm is 0
 * (You et al.
 * 2020) */
QN_API qn_t qn_lamb(qn_graph *g, qn_t w, qn_t m, qn_t v, qn_t grad, qn_t hyper, const qn_update_opts *opts);
/* w -= lr (sign(beta1 m + (1 - beta1) g) + e w); m = beta2 m + (1 - beta2) g (Chen et al. 2023) */
QN_API qn_t qn_lion(qn_graph *g, qn_t w, qn_t m, qn_t grad, qn_t hyper, const qn_update_opts *opts);
/* shadow += (1 - d) (w - shadow), d = min(decay, (t - 1) / (t + 9)) at update t: the first update copies w, later ones
 * average over about the last tenth of all updates until that is longer than 1 / (1 - decay). */
QN_API qn_t qn_ema(qn_graph *g, qn_t shadow, qn_t w, qn_t hyper, double decay);

/* ---- gradients ---------------------------------------------------------------------------- */

/* Appends the reverse sweep. dwrt[i] = d loss / d wrt[i], of wrt's shape; loss has one element. A value that
 * the loss does not depend on gets zeros. Gradients are ordinary values: differentiate again if you like. */
QN_API qn_status qn_grad(qn_graph *g, qn_t loss, const qn_t *wrt, qn_t *dwrt, int n);

/* ---- store -------------------------------------------------------------------------------- */

/* seed: of initial contents and of qn_rng. device: "cpu", "cuda", "cuda:1" or "auto" (see device.h); NULL: the CPU. */
QN_API QN_CHECKED qn_status qn_store_new(qn_store **out, const char *device, uint64_t seed, const qn_alloc *alloc,
                                         qn_error *err);
QN_API void qn_store_free(qn_store *s);

typedef struct qn_store_entry {
    const char *name;
    qn_kind kind;
    qn_dtype dtype;
    int rank;
    int64_t dims[QN_MAX_DIMS];
    size_t bytes;
    void *data; /* host memory, fixed for the life of the store; NULL until a program that uses it is loaded. On a
                   GPU a mirror: qn_store_pull before it is read, qn_store_push after it was written */
} qn_store_entry;
QN_API int qn_store_count(const qn_store *s);
QN_API const qn_store_entry *qn_store_at(const qn_store *s, int i);              /* in order of first use */
QN_API const qn_store_entry *qn_store_find(const qn_store *s, const char *name); /* NULL if absent */
QN_API size_t qn_store_bytes(const qn_store *s, qn_kind kind);
QN_API size_t qn_store_used_bytes(const qn_store *s);  /* taken by loaded programs: tensors and the work arena */
QN_API const char *qn_store_device(const qn_store *s); /* "cpu", "cuda:0", ... */

/* Brings the tensor of a name (NULL: every tensor) from the GPU to its mirror, or from the mirror to the GPU, after all
 * runs that were started before; done on return. A tensor keeps its address on the GPU. Nothing to do on the CPU. E2207
 * for an unknown name, E7003 if the GPU fails. */
QN_API QN_CHECKED qn_status qn_store_pull(qn_store *s, const char *name, qn_error *err);
QN_API QN_CHECKED qn_status qn_store_push(qn_store *s, const char *name, qn_error *err);

/* Bytes that the store's GPU can still give, less a reserve of 1/64 of its memory, at most 256 MiB, for the driver;
 * INT64_MAX on the CPU, whose limits are qn_memory_available's. */
QN_API QN_CHECKED qn_status qn_store_room(const qn_store *s, int64_t *bytes, qn_error *err);

/* ---- programs ----------------------------------------------------------------------------- */

typedef struct qn_compile_opts {
    int threads;        /* 0: as many as OpenMP gives                                             */
    bool no_plan;       /* every value its own bytes (QN_PLAN=none); results are bit-identical    */
    bool no_fuse;       /* leave out pointwise, epilogue and layout passes                        */
    bool check_plan;    /* prove the plan: no range reused before its last reader is done         */
    bool outline;       /* leave out what belongs to this machine: physical layouts, the libraries' primitives and
                         the kernels' workspace. Compiles in well under a millisecond; cannot be loaded */
    const qn_gpu *gpu;  /* choose kernels for this GPU, which need not be here, with the workspace that the libraries
                         say they take; the plugin (device.h) and they must be. Cannot be loaded. The store is the
                         CPU's. E7001, E7002; E2208 for an operator without a kernel there */
    bool no_graphs;     /* GPU: launch each kernel by itself instead of replaying a captured CUDA graph
                         (QN_GRAPHS=off); results are bit-identical */
    const char *device; /* of a program without a store: as in qn_store_new; NULL: the CPU */
    const struct qn_tuning *tuning; /* GPU: algorithms of cuBLASLt and cuDNN, see tuning.h; NULL: the first of their
                                     ranking. E7004 if it is of another GPU, driver or library, or names an algorithm
                                     that is not offered */
    /* Receives the text of a stage: "graph", "dead", "fold", "cse", "epilogue", "residual", "fuse", "layout",
     * "plan". */
    void (*dump)(void *user, const char *stage, const char *text);
    void *user;
} qn_compile_opts;

/* Compiles what `keep` needs, and every update of the store. Kept values can be read after a run. Nothing
 * large is allocated: that is qn_program_load. opts may be NULL. */
QN_API QN_CHECKED qn_status qn_compile(qn_program **out, qn_graph *g, const qn_t *keep, int n_keep, qn_store *s,
                                       const qn_compile_opts *opts, qn_error *err);
QN_API void qn_program_free(qn_program *p);

/* Bytes by class, exact and before anything is allocated, of the memory that kernels work on: the GPU's if the store
 * is on one. There io is taken twice, so that the next batch arrives while a step runs. `naive` is work without
 * reuse. */
typedef struct qn_bytes {
    size_t params, buffers, state, grads; /* of the store, for the tensors of this program */
    size_t io;                            /* inputs and kept values                        */
    size_t work;                          /* activations, gradients, workspace: one arena   */
    size_t workspace;                     /* of work, what kernels' workspaces take at one time, at most */
    size_t naive;                         /* work if every value had its own bytes          */
    size_t host;                          /* beside a GPU: memory of the host for the mirror of the tensors, inputs
                                             and kept values, some of it pinned; 0 on the CPU */
} qn_bytes;
QN_API qn_bytes qn_program_bytes(const qn_program *p);
QN_API size_t qn_program_used_bytes(const qn_program *p); /* what qn_program_load has allocated for io and work */

/* Allocates io and work, creates and fills new store tensors. Idempotent; qn_program_run needs it. */
QN_API QN_CHECKED qn_status qn_program_load(qn_program *p, qn_error *err);

/* Runs a phase. Allocates nothing. On a GPU the run is started, and inputs may be filled again as soon as this returns;
 * what goes wrong in it is told by a later call. E3041 for an index or a class out of range, E7003 if the GPU fails. */
QN_API QN_CHECKED qn_status qn_program_run(qn_program *p, qn_phase phase, qn_error *err);

/* Returns when all runs of a phase but the latest `ago` (0..2) are done, with what went wrong in runs until then. On
 * the CPU a run is done when it returns. */
QN_API QN_CHECKED qn_status qn_program_wait(qn_program *p, qn_phase phase, int ago, qn_error *err);

/* Host memory of an input or kept value, row-major, valid until the program is freed; NULL for any other. On a GPU a
 * kept value must be asked for again after each run: the call waits for the latest run of its phase and gives what it
 * has left, which stays until two more runs of that phase are started; NULL if a run failed (qn_program_wait says
 * why). */
QN_API void *qn_program_data(qn_program *p, qn_t t);
/* The value that the run `ago` runs (0..2) of its phase back has left, without waiting for the one under way: 0 is
 * qn_program_data. Only a GPU keeps earlier values: on the CPU NULL for any other `ago`. So a loop that asks for the
 * values of the run before never waits: qn_program_lag says how many runs back it should ask. */
QN_API const void *qn_program_past(qn_program *p, qn_t t, int ago);
QN_API int qn_program_lag(const qn_program *p); /* 1 on a GPU, 0 on the CPU */

/* Runs the micro phase without its writes to the store, looking at every value; the first operator whose output is not
 * finite though its inputs are is named in `where` ("block2.conv: conv2d"). QN_OK and "" if there is none. rng: the
 * random state [4] to draw from (qn_rng); NULL: that of the last micro run, which is done again. */
QN_API QN_CHECKED qn_status qn_program_find_nonfinite(qn_program *p, const int64_t *rng, char *where, size_t size,
                                                      qn_error *err);

/* One line per operator of the compiled program: what it is, what it costs. */
typedef struct qn_step_info {
    const char *op, *name, *variant;
    qn_phase phase;
    double flops; /* floating-point operations                      */
    double bytes; /* compulsory traffic: operands read, result written */
    size_t result_bytes;
} qn_step_info;
QN_API int qn_program_steps(const qn_program *p);
QN_API qn_step_info qn_program_step(const qn_program *p, int i);

#ifdef __cplusplus
}
#endif
#endif
