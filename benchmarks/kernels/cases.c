/* cases.c - see cases.h. Sizes: GPT-2 124M (width 768, vocabulary 50257) and ResNet-50 layers; `small` ones are those
 * that the simulator can run. */
#include "cases.h"

static const struct qn__pw_attr affine = { .p = 1.5, .q = 0.25 };
static const struct qn__reduce_attr last_axis = { .axes = 2 }, first_axis = { .axes = 1 };
static const struct qn__transpose_attr swap = { .perm = { 1, 0 } };
static const struct qn__xent_attr hard = { 0 };
static const struct qn__norm_attr norm = { .eps = 1e-5, .groups = 1 };
static const struct qn__matmul_attr plain = { 0 }, turned = { .tb = 1 };
static const struct qn__optim_attr adamw = { .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.1,
                                             .lr_scale = 1, .decoupled = 1 };
static const struct qn__pool_attr halves = { .window = { 2, 2 }, .stride = { 2, 2 } };
static const struct qn__conv_attr same = { .stride = { 1, 1 }, .dilation = { 1, 1 }, .pad = { 1, 1 },
                                           .pad_end = { 1, 1 }, .groups = 1 };
static const struct qn__attention_attr causal = { .scale = 0.125, .causal = 1 },
                                       causal_packed = { .scale = 0.125, .causal = 1, .heads = 12, .kv_heads = 12 },
                                       causal_packed_small = { .scale = 0.125, .causal = 1, .heads = 2, .kv_heads = 2 };

/* clang-format off */
#define RANK(...) (sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t))
#define VALUE(...) { .dtype = QN_F32, .rank = RANK(__VA_ARGS__), .dim = { __VA_ARGS__ } }
#define POSITIVE(...) { .dtype = QN_F32, .values = BENCH_POSITIVE, .rank = 1, .dim = { __VA_ARGS__ } }
#define HYPER { .dtype = QN_F32, .values = BENCH_HYPER, .rank = 1, .dim = { 4 } }
#define INDEX(n, below) { .dtype = QN_I32, .values = BENCH_INDEX, .rank = 1, .dim = { n }, .limit = below }

/* A case in f32 and one in bf16, small and as in a network. */
#define UNARY(title, row, attribute, terms_, rows, width, ...)                                                        \
    { title, row, QN_F32, attribute, 1, { VALUE(rows, width) }, VALUE(__VA_ARGS__), terms_, 0 },                      \
    { title " bf16", row, QN_BF16, attribute, 1, { VALUE(rows, width) }, VALUE(__VA_ARGS__), terms_, 0 }
#define PRODUCT(title, attribute, m, n, k, ...)                                                                       \
    { title, QN_OP_matmul, QN_F32, attribute, 2, { VALUE(m, k), VALUE(__VA_ARGS__) }, VALUE(m, n), k, 0 },            \
    { title " bf16", QN_OP_matmul, QN_BF16, attribute, 2, { VALUE(m, k), VALUE(__VA_ARGS__) }, VALUE(m, n), k, 0 }
#define XENT(title, rows, v)                                                                                          \
    { title, QN_OP_cross_entropy, QN_F32, &hard, 2, { VALUE(rows, v), INDEX(rows, v) }, VALUE(rows), v, 0 },          \
    { title " bf16", QN_OP_cross_entropy, QN_BF16, &hard, 2, { VALUE(rows, v), INDEX(rows, v) }, VALUE(rows), v, 0 }
#define NORM(title, rows, c)                                                                                          \
    { title, QN_OP_layer_norm, QN_F32, &norm, 3, { VALUE(rows, c), VALUE(c), VALUE(c) }, VALUE(rows, c), c, 0 },      \
    { title " bf16", QN_OP_layer_norm, QN_BF16, &norm, 3, { VALUE(rows, c), VALUE(c), VALUE(c) }, VALUE(rows, c), c, 0 }
#define ADAM(title, n)                                                                                                \
    { title, QN_OP_adam, QN_F32, &adamw, 5, { VALUE(n), VALUE(n), POSITIVE(n), VALUE(n), HYPER }, VALUE(n), 8, 0 }
#define HEADS_OF(type, title, b, h, t, n)                                                                             \
    { title, QN_OP_attention, type, &causal, 3, { VALUE(b, h, t, n), VALUE(b, h, t, n), VALUE(b, h, t, n) },          \
      VALUE(b, h, t, n), t + n, 2 }
#define SUMS(...) { .dtype = QN_F32, .values = BENCH_SUMS, .rank = RANK(__VA_ARGS__), .dim = { __VA_ARGS__ } }
/* qkv, y, l, dy of packed heads */
#define HEADS_GRAD(type, title, attribute, b, h, t, n, between_)                                                      \
    { title, QN_OP_attention_grad, type, attribute, 4, { VALUE(b, t, 3 * h * n), VALUE(b, t, h * n), SUMS(b, h, t),   \
      VALUE(b, t, h * n) }, VALUE(b, t, 3 * h * n), t + n, between_ }

const struct bench_case bench_cases[] = {
    UNARY("affine small", QN_OP_affine, &affine, 2, 96, 200, 96, 200),
    UNARY("affine 64 x 1024 x 3072", QN_OP_affine, &affine, 2, 65536, 3072, 65536, 3072),
    UNARY("sum of rows small", QN_OP_sum, &last_axis, 200, 96, 200, 96),
    UNARY("sum of rows 65536 x 768", QN_OP_sum, &last_axis, 768, 65536, 768, 65536),
    UNARY("sum of columns small", QN_OP_sum, &first_axis, 200, 200, 96, 96),
    UNARY("sum of columns 65536 x 768", QN_OP_sum, &first_axis, 65536, 65536, 768, 768),
    UNARY("transpose small", QN_OP_transpose, &swap, 1, 100, 200, 200, 100),
    UNARY("transpose 8192 x 8192", QN_OP_transpose, &swap, 1, 8192, 8192, 8192, 8192),
    UNARY("softmax small", QN_OP_softmax, NULL, 200, 96, 200, 96, 200),
    UNARY("softmax 49152 x 1024", QN_OP_softmax, NULL, 1024, 49152, 1024, 49152, 1024),
    XENT("cross-entropy small", 64, 1000),
    XENT("cross-entropy 4096 x 50304", 4096, 50304),
    NORM("layer norm small", 64, 256),
    NORM("layer norm 65536 x 768", 65536, 768),
    ADAM("AdamW small", 20000),
    ADAM("AdamW 124 M", 124475904),
    PRODUCT("product small", &plain, 136, 200, 72, 72, 200),
    PRODUCT("product small, B turned", &turned, 136, 200, 72, 200, 72),
    PRODUCT("product 4096 x 768 x 3072", &plain, 4096, 3072, 768, 768, 3072),
    PRODUCT("product 4096 x 4096 x 4096, B turned", &turned, 4096, 4096, 4096, 4096, 4096),
    PRODUCT("product 8192 x 8192 x 8192", &plain, 8192, 8192, 8192, 8192, 8192),
    { "max pool small", QN_OP_max_pool2d, QN_F32, &halves, 1, { VALUE(2, 16, 28, 28) }, VALUE(2, 16, 14, 14), 1, 0 },
    { "max pool 256 x 64 x 112", QN_OP_max_pool2d, QN_F32, &halves, 1, { VALUE(256, 64, 112, 112) },
      VALUE(256, 64, 56, 56), 1, 0 },
    { "conv small", QN_OP_conv2d, QN_F32, &same, 2, { VALUE(2, 16, 14, 14), VALUE(32, 16, 3, 3) },
      VALUE(2, 32, 14, 14), 144, 0 },
    { "conv 256 x 64 x 56 x 56, 3 x 3", QN_OP_conv2d, QN_F32, &same, 2, { VALUE(256, 64, 56, 56), VALUE(64, 64, 3, 3) },
      VALUE(256, 64, 56, 56), 576, 0 },
    HEADS_OF(QN_F32, "attention small", 1, 2, 160, 64),
    HEADS_OF(QN_BF16, "attention small bf16", 1, 2, 160, 64),
    HEADS_OF(QN_F32, "attention 4 x 12 x 1024 x 64", 4, 12, 1024, 64),
    HEADS_OF(QN_BF16, "attention 8 x 12 x 1024 x 64 bf16", 8, 12, 1024, 64),
    HEADS_GRAD(QN_F32, "attention gradient small", &causal_packed_small, 1, 2, 100, 64, 32),
    HEADS_GRAD(QN_BF16, "attention gradient small bf16", &causal_packed_small, 1, 2, 100, 64, 32),
    HEADS_GRAD(QN_BF16, "attention gradient 8 x 12 x 1024 x 64 bf16", &causal_packed, 8, 12, 1024, 64, 256),
};
/* clang-format on */
const int bench_n_cases = sizeof bench_cases / sizeof bench_cases[0];
