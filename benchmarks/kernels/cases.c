/* cases.c - see cases.h. Shapes: GPT-2 124M (width 768, vocabulary 50257, here 50304) and ResNet-50 layers, sequences
 * of 1024; `small` ones have odd sizes and are for checking alone. */
#include "cases.h"

static const struct qn__pw_attr affine = { .p = 1.5, .q = 0.25 }, none = { 0 };
static const struct qn__pw_attr to_bf16 = { .dtype = QN_BF16 }, to_i32 = { .dtype = QN_I32 };
static const struct qn__fused_attr bias_gelu = {
    .n = 3,
    .n_in = 3,
    .instr = { { QN_OP_add, 0, 1, 1, 0, 0 }, { QN_OP_gelu_tanh, 3, 3, 3, 0, 0 }, { QN_OP_add, 4, 2, 2, 0, 0 } }
};
static const struct qn__reduce_attr last_axis = { .axes = 2 }, first_axis = { .axes = 1 }, both = { .axes = 3 };
static const struct qn__reduce_attr channels = { .axes = 2 }, not_channels = { .axes = 13 }, alternate = { .axes = 21 };
static const struct qn__transpose_attr swap = { .perm = { 1, 0 } }, heads = { .perm = { 0, 2, 1, 3 } };
static const struct qn__transpose_attr to_nhwc = { .perm = { 0, 2, 3, 1 } };
static const struct qn__reorder_attr nhwc64 = { .block = 64 };
static const struct qn__slice_attr keys = { .begin = { 0, 768 }, .size = { 65536, 768 } };
static const struct qn__slice_attr few_keys = { .begin = { 0, 768 }, .size = { 256, 768 } };
static const struct qn__pad_attr border = { .before = { 0, 0, 1, 1 }, .after = { 0, 0, 1, 1 } };
static const struct qn__axis_attr axis0 = { .axis = 0, .size = 65536 }, few_axis0 = { .axis = 0, .size = 512 };
static const struct qn__axis_attr axis1 = { .axis = 1 };
static const struct qn__dropout_attr tenth = { .p = 0.1, .name_hash = 7 };
static const struct qn__quantize_attr one_scale = { .axis = -1, .dtype = QN_F32 },
                                      by_column = { .axis = 1, .dtype = QN_F32 };
static const struct qn__lstm_attr gates = { 0 }, gates_grad = { .has_dh = 1, .has_dc = 1 };
static const struct qn__xent_attr hard = { 0 };
static const struct qn__norm_attr norm = { .eps = 1e-5, .groups = 1 }, groups32 = { .eps = 1e-5, .groups = 32 };
static const struct qn__norm_attr groups3 = { .eps = 1e-5, .groups = 3 };
static const struct qn__bn_attr bn = { .eps = 1e-5 };
static const struct qn__matmul_attr plain = { 0 }, turned = { .tb = 1 };
static const struct qn__matmul_attr biased = { .epilogue = { .has_bias = 1 } };
static const struct qn__matmul_attr bias_silu = { .epilogue = { .has_bias = 1, .act = QN_OP_silu } };
static const struct qn__optim_attr adamw = {
    .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8, .weight_decay = 0.1, .momentum = 0.9, .lr_scale = 1, .decoupled = 1
};
static const struct qn__ema_attr ema = { .decay = 0.999 };
static const struct qn__pool_attr halves = { .window = { 2, 2 }, .stride = { 2, 2 }, .size = { 112, 112 } };
static const struct qn__pool_attr stem = {
    .window = { 3, 3 }, .stride = { 2, 2 }, .pad = { 1, 1 }, .size = { 112, 112 }
};
static const struct qn__pool_attr stem7 = { .window = { 3, 3 }, .stride = { 2, 2 }, .pad = { 1, 1 }, .size = { 7, 7 } };
static const struct qn__pool_attr all = { .window = { 7, 7 }, .stride = { 7, 7 }, .size = { 7, 7 } };
#define GEOMETRY(margin, n_groups, ...) \
    { \
        .stride = { 1, 1 }, .dilation = { 1, 1 }, .pad = { margin, margin }, .pad_end = { margin, margin }, \
        .groups = n_groups, __VA_ARGS__ \
    }
static const struct qn__conv_attr same = GEOMETRY(1, 1, .unused = 0), point = GEOMETRY(0, 1, .unused = 0);
static const struct qn__conv_attr of_14 = GEOMETRY(1, 1, .size = { 14, 14 }, .channels = 16);
static const struct qn__conv_attr of_14_w = GEOMETRY(1, 1, .size = { 3, 3 }, .channels = 16);
static const struct qn__conv_attr of_56 = GEOMETRY(1, 1, .size = { 56, 56 }, .channels = 64);
static const struct qn__conv_attr of_56_w = GEOMETRY(1, 1, .size = { 3, 3 }, .channels = 64);
#define BY_TWO(...) \
    { \
        .stride = { 2, 2 }, .dilation = { 1, 1 }, .pad = { 1, 1 }, .pad_end = { 1, 1 }, .groups = 1, .channels = 5, \
        .size = { \
            __VA_ARGS__ \
        } \
    }
static const struct qn__conv_attr by_two = BY_TWO(9, 11), by_two_w = BY_TWO(3, 3);
static const struct qn__conv_attr each_64 = GEOMETRY(1, 64, .size = { 20, 20 }, .channels = 64);
static const struct qn__conv_attr each_64_w = GEOMETRY(1, 64, .size = { 3, 3 }, .channels = 64);
static const struct qn__conv_attr each_144 = GEOMETRY(1, 144, .size = { 56, 56 }, .channels = 144);
static const struct qn__conv_attr each_144_w = GEOMETRY(1, 144, .size = { 3, 3 }, .channels = 144);
static const struct qn__attention_attr causal = { .scale = 0.125, .causal = 1 };
static const struct qn__attention_attr packed12 = { .scale = 0.125, .causal = 1, .heads = 12, .kv_heads = 12 };
static const struct qn__attention_attr packed2 = { .scale = 0.125, .causal = 1, .heads = 2, .kv_heads = 2 };

/* clang-format off */
#define RANK(...) (sizeof((int64_t[]){ __VA_ARGS__ }) / sizeof(int64_t))
#define VALUE(...) { .dtype = QN_F32, .rank = RANK(__VA_ARGS__), .dim = { __VA_ARGS__ } }
#define TYPED(type, ...) { .dtype = type, .rank = RANK(__VA_ARGS__), .dim = { __VA_ARGS__ } }
#define POSITIVE(...) { .dtype = QN_F32, .values = BENCH_POSITIVE, .rank = RANK(__VA_ARGS__), .dim = { __VA_ARGS__ } }
#define STATISTICS(drawn, ...) { .dtype = QN_F32, .values = drawn, .rank = 2, .dim = { __VA_ARGS__ }, .single = true }
#define SUMS(...) { .dtype = QN_F32, .values = BENCH_SUMS, .single = true, .rank = RANK(__VA_ARGS__),                 \
                    .dim = { __VA_ARGS__ } }
#define HYPER { .dtype = QN_F32, .values = BENCH_HYPER, .rank = 1, .dim = { 4 } }
#define INDEX(n, below) { .dtype = QN_I32, .values = BENCH_INDEX, .rank = 1, .dim = { n }, .limit = below }
#define WHOLE(type, n) { .dtype = type, .values = BENCH_INDEX, .rank = 1, .dim = { n }, .limit = 1000 }
#define SCALES(n) { .dtype = QN_F32, .values = BENCH_SUMS, .single = true, .rank = 1, .dim = { n } }
#define BYTES(...) { .dtype = QN_I8, .values = BENCH_INDEX, .rank = 2, .dim = { __VA_ARGS__ }, .limit = 128 }
#define RNG { .dtype = QN_I64, .values = BENCH_INDEX, .rank = 1, .dim = { 4 }, .limit = 1 }

#define CASE(title, row, type, attribute, terms_, count, ...)                                                         \
    { .name = title, .op = QN_OP_##row, .dtype = type, .attr = attribute, .terms = terms_, .n_in = count,             \
      .value = { __VA_ARGS__ }
#define SMALL(title, row, attribute, terms, count, ...)                                                               \
    CASE(title, row, QN_F32, attribute, terms, count, __VA_ARGS__) },                                                 \
    CASE(title " bf16", row, QN_BF16, attribute, terms, count, __VA_ARGS__) }
/* Of a network's size, and with a leading extent of `least` instead of `most` where that is too much. */
#define ONE(title, row, type, attribute, terms, most, least, count, ...)                                              \
    CASE(title, row, type, attribute, terms, count, __VA_ARGS__), .many = most, .few = least }
#define BOTH(title, row, attribute, terms, most, least, count, ...)                                                   \
    ONE(title, row, QN_F32, attribute, terms, most, least, count, __VA_ARGS__),                                       \
    ONE(title " bf16", row, QN_BF16, attribute, terms, most, least, count, __VA_ARGS__)
#define LINES(title, row, attribute, terms, most, least, width)                                                       \
    BOTH(title " " #most " x " #width, row, attribute, terms, most, least, 1, VALUE(most, width), VALUE(most, width))
#define GRADS(title, row, terms, most, least, width)                                                                  \
    BOTH(title " " #most " x " #width, row, NULL, terms, most, least, 2, VALUE(most, width), VALUE(most, width),      \
         VALUE(most, width))
#define XENT(most, least, v)                                                                                          \
    BOTH("cross-entropy " #most " x " #v, cross_entropy, &hard, v, most, least, 2, VALUE(most), VALUE(most, v),       \
         INDEX(most, v)),                                                                                             \
    BOTH("gradient of cross-entropy " #most " x " #v, cross_entropy_grad, &hard, v, most, least, 3, VALUE(most, v),   \
         VALUE(most, v), INDEX(most, v), VALUE(most))
#define PRODUCT(title, attribute, m, n, k, ...)                                                                       \
    SMALL(title, matmul, attribute, k, 2, VALUE(m, n), VALUE(m, k), VALUE(__VA_ARGS__))
#define UPDATE(row, most, least, count, ...)                                                                          \
    ONE(#row " " #most, row, QN_F32, &adamw, 8, most, least, count, VALUE(most), VALUE(most), __VA_ARGS__, HYPER)
#define HEADS_OF(type, title, b, h, t, n)                                                                             \
    CASE(title, attention, type, &causal, t + n, 3, VALUE(b, h, t, n), VALUE(b, h, t, n), VALUE(b, h, t, n),          \
         VALUE(b, h, t, n)), .between = 2 }
/* qkv, y, l, dy of packed heads */
#define HEADS_GRAD(type, title, attribute, b, h, t, n, rounded)                                                       \
    CASE(title, attention_grad, type, attribute, t + n, 4, VALUE(b, t, 3 * h * n), VALUE(b, t, 3 * h * n),            \
         VALUE(b, t, h * n), SUMS(b, h, t), VALUE(b, t, h * n)), .between = rounded }
/* NCHW as given, and the same in NHWC. */
#define IMAGES(title, row, attribute, terms, most, least, count, ...)                                                 \
    ONE(title, row, QN_F32, attribute, terms, most, least, count, __VA_ARGS__),                                       \
    CASE(title " NHWC", row, QN_F32, attribute, terms, count, __VA_ARGS__), .many = most, .few = least,               \
      .nhwc = true },                                                                                                 \
    CASE(title " NHWC bf16", row, QN_BF16, attribute, terms, count, __VA_ARGS__), .many = most, .few = least,         \
      .nhwc = true }

#define FILTERS(...) { .dtype = QN_F32, .plain = true, .rank = 4, .dim = { __VA_ARGS__ } }
#define CONV(title, attribute, terms, y, x, w)                                                                        \
    CASE(title, conv2d, QN_F32, attribute, terms, 2, y, x, w), .nhwc = true },                                        \
    CASE(title " bf16", conv2d, QN_BF16, attribute, terms, 2, y, x, w), .nhwc = true }
/* places: pixels of the batch, which the gradient of w sums over */
#define CONV_GRADS(title, attribute, taps, places, y, x, w)                                                           \
    CASE(title " grad x", conv2d_grad_x, QN_F32, &attribute, taps, 2, x, w, y), .nhwc = true },                       \
    CASE(title " grad x bf16", conv2d_grad_x, QN_BF16, &attribute, taps, 2, x, w, y), .nhwc = true },                 \
    CASE(title " grad w", conv2d_grad_w, QN_F32, &attribute##_w, places, 2, w, x, y), .nhwc = true },                 \
    CASE(title " grad w bf16", conv2d_grad_w, QN_BF16, &attribute##_w, places, 2, w, x, y), .nhwc = true }
#define DEPTHWISE(title, attribute, x, w, taps, places, ...)                                                          \
    CASE(title " bf16", conv2d, QN_BF16, &attribute, taps, 2, x, x, w), .nhwc = true, __VA_ARGS__ },                  \
    CASE(title " grad x bf16", conv2d_grad_x, QN_BF16, &attribute, taps, 2, x, w, x), .nhwc = true, __VA_ARGS__ },    \
    CASE(title " grad w bf16", conv2d_grad_w, QN_BF16, &attribute##_w, places, 2, w, x, x), .nhwc = true, __VA_ARGS__ }

const struct bench_case bench_cases[] = {
    SMALL("affine small", affine, &affine, 2, 1, VALUE(97, 201), VALUE(97, 201)),
    LINES("affine", affine, &affine, 2, 65536, 128, 3072),
    BOTH("add 65536 x 768", add, &none, 1, 65536, 256, 2, VALUE(65536, 768), VALUE(65536, 768), VALUE(65536, 768)),
    BOTH("bias, GELU, residual 65536 x 3072", fused, &bias_gelu, 8, 65536, 128, 3, VALUE(65536, 3072),
         VALUE(65536, 3072), VALUE(3072), VALUE(65536, 3072)),
    BOTH("broadcast 65536 x 768", broadcast, NULL, 1, 65536, 4608, 1, VALUE(65536, 768), VALUE(1, 768)),
    ONE("cast f32 to bf16 65536 x 768", cast, QN_F32, &to_bf16, 1, 65536, 256, 1, TYPED(QN_BF16, 65536, 768),
        VALUE(65536, 768)),
    ONE("cast i64 to i32 4194304", cast, QN_F32, &to_i32, 1, 4194304, 262144, 1, TYPED(QN_I32, 4194304),
        WHOLE(QN_I64, 4194304)),
    BOTH("dropout 65536 x 768", dropout, &tenth, 2, 65536, 256, 2, VALUE(65536, 768), VALUE(65536, 768), RNG),
    BOTH("dropout 65536 x 1025", dropout, &tenth, 2, 65536, 256, 2, VALUE(65536, 1025), VALUE(65536, 1025), RNG),

    SMALL("sum of rows small", sum, &last_axis, 201, 1, VALUE(97), VALUE(97, 201)),
    BOTH("sum of rows 65536 x 768", sum, &last_axis, 768, 65536, 256, 1, VALUE(65536), VALUE(65536, 768)),
    BOTH("sum of rows 4096 x 50304", sum, &last_axis, 50304, 4096, 16, 1, VALUE(4096), VALUE(4096, 50304)),
    BOTH("sum of rows 1048576 x 10", sum, &last_axis, 10, 1048576, 16384, 1, VALUE(1048576), VALUE(1048576, 10)),
    SMALL("sum of columns small", sum, &first_axis, 201, 1, VALUE(97), VALUE(201, 97)),
    BOTH("sum of columns 65536 x 768", sum, &first_axis, 65536, 65536, 1024, 1, VALUE(768), VALUE(65536, 768)),
    BOTH("sum of everything 65536 x 768", sum, &both, 65536, 65536, 512, 1, { .rank = 0 }, VALUE(65536, 768)),
    BOTH("sum of channels 256 x 64 x 56 x 56", sum, &not_channels, 802816, 256, 4, 1, VALUE(64),
         VALUE(256, 64, 56, 56)),
    BOTH("sum of three axes of five", sum, &alternate, 4096, 64, 8, 1, VALUE(48, 24), VALUE(64, 48, 16, 24, 16)),
    BOTH("largest of rows 65536 x 1000", reduce_max, &last_axis, 1, 65536, 256, 1, VALUE(65536), VALUE(65536, 1000)),
    BOTH("class of rows 65536 x 1000", argmax, &last_axis, 1, 65536, 256, 1, TYPED(QN_I32, 65536), VALUE(65536, 1000)),
    BOTH("class of rows 4096 x 50304", argmax, &last_axis, 1, 4096, 16, 1, TYPED(QN_I32, 4096), VALUE(4096, 50304)),
    BOTH("class of pixels 64 x 21 x 128 x 128", argmax, &channels, 1, 64, 1, 1, TYPED(QN_I32, 64, 128, 128),
         VALUE(64, 21, 128, 128)),
    BOTH("sum of squares 124475904", sum_squares, NULL, 2, 124475904, 524288, 1, { .rank = 0 }, VALUE(124475904)),

    SMALL("transpose small", transpose, &swap, 1, 1, VALUE(201, 101), VALUE(101, 201)),
    BOTH("transpose 8192 x 8192", transpose, &swap, 1, 8192, 512, 1, VALUE(8192, 8192), VALUE(8192, 8192)),
    BOTH("heads apart 48 x 1024 x 12 x 64", transpose, &heads, 1, 48, 1, 1, VALUE(48, 12, 1024, 64),
         VALUE(48, 1024, 12, 64)),
    BOTH("pictures to NHWC 256 x 3 x 224 x 224", transpose, &to_nhwc, 1, 256, 2, 1, VALUE(256, 224, 224, 3),
         VALUE(256, 3, 224, 224)),
    BOTH("layers to NHWC 256 x 64 x 56 x 56", reorder, &nhwc64, 1, 256, 2, 1, VALUE(256, 64, 56, 56),
         VALUE(256, 64, 56, 56)),
    CASE("slice of rows 65536 x 2304", slice, QN_F32, &keys, 1, 1, VALUE(65536, 768), VALUE(65536, 2304)),
      .many = 65536, .few = 256, .few_attr = &few_keys },
    BOTH("concat 256 x (64 + 128) x 56 x 56", concat, &axis1, 1, 256, 1, 2, VALUE(256, 192, 56, 56),
         VALUE(256, 64, 56, 56), VALUE(256, 128, 56, 56)),
    BOTH("pad 256 x 64 x 56 x 56", pad, &border, 1, 256, 2, 1, VALUE(256, 64, 58, 58), VALUE(256, 64, 56, 56)),
    BOTH("assign 124475904", assign, NULL, 1, 124475904, 524288, 2, VALUE(124475904), VALUE(124475904),
         VALUE(124475904)),
    BOTH("gather 65536 of 65536 x 768", gather, &axis0, 1, 65536, 512, 2, VALUE(65536, 768), VALUE(65536, 768),
         INDEX(65536, 512)),
    CASE("scatter-add 65536 to 65536 x 768", scatter_add, QN_F32, &axis0, 16, 2, VALUE(65536, 768),
         VALUE(65536, 768), INDEX(65536, 512)), .many = 65536, .few = 512, .few_attr = &few_axis0 },

    SMALL("softmax small", softmax, NULL, 201, 1, VALUE(97, 201), VALUE(97, 201)),
    LINES("softmax", softmax, NULL, 256, 65536, 512, 256), LINES("softmax", softmax, NULL, 1024, 49152, 128, 1024),
    LINES("softmax", softmax, NULL, 10, 1048576, 16384, 10), LINES("softmax", softmax, NULL, 50304, 4096, 8, 50304),
    GRADS("gradient of softmax", softmax_grad, 256, 65536, 512, 256),
    GRADS("gradient of softmax", softmax_grad, 1024, 49152, 128, 1024),
    GRADS("gradient of softmax", softmax_grad, 10, 1048576, 16384, 10),
    GRADS("gradient of softmax", softmax_grad, 50304, 4096, 8, 50304),
    GRADS("gradient of log-softmax", log_softmax_grad, 50304, 4096, 8, 50304),
    SMALL("cross-entropy small", cross_entropy, &hard, 999, 2, VALUE(65), VALUE(65, 999), INDEX(65, 999)),
    XENT(4096, 8, 50304), XENT(65536, 256, 1000), XENT(1048576, 16384, 10),
    BOTH("weights of targets 1048576 x 10", target_weight, &hard, 1, 1048576, 16384, 2, VALUE(1048576),
         VALUE(1048576, 10), INDEX(1048576, 10)),
    SMALL("layer norm small", layer_norm, &norm, 257, 3, VALUE(65, 257), VALUE(65, 257), VALUE(257), VALUE(257)),
    BOTH("layer norm 65536 x 768", layer_norm, &norm, 768, 65536, 256, 3, VALUE(65536, 768), VALUE(65536, 768),
         VALUE(768), VALUE(768)),
    BOTH("dx of layer norm 65536 x 768", layer_norm_grad_x, &norm, 768, 65536, 256, 3, VALUE(65536, 768),
         VALUE(65536, 768), VALUE(65536, 768), VALUE(768)),
    BOTH("dgamma of layer norm 65536 x 768", layer_norm_grad_w, &norm, 65536, 65536, 4096, 2, VALUE(768),
         VALUE(65536, 768), VALUE(65536, 768)),
    BOTH("RMS norm 65536 x 768", rms_norm, &norm, 768, 65536, 256, 2, VALUE(65536, 768), VALUE(65536, 768),
         VALUE(768)),
    BOTH("dx of RMS norm 65536 x 768", rms_norm_grad_x, &norm, 768, 65536, 256, 3, VALUE(65536, 768),
         VALUE(65536, 768), VALUE(65536, 768), VALUE(768)),
    BOTH("dgamma of RMS norm 65536 x 768", rms_norm_grad_w, &norm, 65536, 65536, 4096, 2, VALUE(768),
         VALUE(65536, 768), VALUE(65536, 768)),
    SMALL("group norm small", group_norm, &groups3, 105, 3, VALUE(3, 9, 5, 7), VALUE(3, 9, 5, 7), VALUE(9), VALUE(9)),
    BOTH("layer norm 16384 x 12288", layer_norm, &norm, 12288, 16384, 8, 3, VALUE(16384, 12288), VALUE(16384, 12288),
         VALUE(12288), VALUE(12288)),
    BOTH("dx of layer norm 16384 x 12288", layer_norm_grad_x, &norm, 12288, 16384, 8, 3, VALUE(16384, 12288),
         VALUE(16384, 12288), VALUE(16384, 12288), VALUE(12288)),
    BOTH("dgamma of layer norm 16384 x 12288", layer_norm_grad_w, &norm, 16384, 16384, 64, 2, VALUE(12288),
         VALUE(16384, 12288), VALUE(16384, 12288)),
    BOTH("group norm 64 x 256 x 28 x 28", group_norm, &groups32, 6272, 64, 2, 3, VALUE(64, 256, 28, 28),
         VALUE(64, 256, 28, 28), VALUE(256), VALUE(256)),
    BOTH("dx of group norm 64 x 256 x 28 x 28", group_norm_grad_x, &groups32, 6272, 64, 2, 3, VALUE(64, 256, 28, 28),
         VALUE(64, 256, 28, 28), VALUE(64, 256, 28, 28), VALUE(256)),
    BOTH("dgamma of group norm 64 x 256 x 28 x 28", group_norm_grad_w, &groups32, 50176, 64, 2, 2, VALUE(256),
         VALUE(64, 256, 28, 28), VALUE(64, 256, 28, 28)),
    SMALL("statistics small", bn_stats, &bn, 105, 1, STATISTICS(BENCH_UNIFORM, 2, 9), VALUE(3, 9, 5, 7)),
    SMALL("batch norm small", batch_norm, &bn, 16, 4, VALUE(3, 9, 5, 7), VALUE(3, 9, 5, 7), VALUE(9), VALUE(9),
          STATISTICS(BENCH_POSITIVE, 2, 9)),
    SMALL("statistics of dy small", bn_grad_stats, &bn, 105, 3, STATISTICS(BENCH_UNIFORM, 2, 9), VALUE(3, 9, 5, 7),
          VALUE(3, 9, 5, 7), STATISTICS(BENCH_POSITIVE, 2, 9)),
    SMALL("dx of batch norm small", bn_grad_x, &bn, 16, 5, VALUE(3, 9, 5, 7), VALUE(3, 9, 5, 7), VALUE(3, 9, 5, 7),
          STATISTICS(BENCH_POSITIVE, 2, 9), VALUE(9), STATISTICS(BENCH_UNIFORM, 2, 9)),
    IMAGES("statistics 256 x 64 x 56 x 56", bn_stats, &bn, 802816, 256, 4, 1, STATISTICS(BENCH_UNIFORM, 2, 64),
           VALUE(256, 64, 56, 56)),
    IMAGES("batch norm 256 x 64 x 56 x 56", batch_norm, &bn, 16, 256, 4, 4, VALUE(256, 64, 56, 56),
           VALUE(256, 64, 56, 56), VALUE(64), VALUE(64), STATISTICS(BENCH_POSITIVE, 2, 64)),
    IMAGES("statistics of dy 256 x 64 x 56 x 56", bn_grad_stats, &bn, 802816, 256, 4, 3,
           STATISTICS(BENCH_UNIFORM, 2, 64), VALUE(256, 64, 56, 56), VALUE(256, 64, 56, 56),
           STATISTICS(BENCH_POSITIVE, 2, 64)),
    IMAGES("dx of batch norm 256 x 64 x 56 x 56", bn_grad_x, &bn, 16, 256, 4, 5, VALUE(256, 64, 56, 56),
           VALUE(256, 64, 56, 56), VALUE(256, 64, 56, 56), STATISTICS(BENCH_POSITIVE, 2, 64), VALUE(64),
           STATISTICS(BENCH_UNIFORM, 2, 64)),

    CASE("AdamW small", adam, QN_F32, &adamw, 8, 5, VALUE(20003), VALUE(20003), VALUE(20003), POSITIVE(20003),
         VALUE(20003), HYPER) },
    UPDATE(sgd, 124475904, 262144, 3, VALUE(124475904)),
    UPDATE(momentum, 124475904, 262144, 4, VALUE(124475904), VALUE(124475904)),
    UPDATE(adam, 124475904, 262144, 5, VALUE(124475904), POSITIVE(124475904), VALUE(124475904)),
    UPDATE(rmsprop, 124475904, 262144, 4, POSITIVE(124475904), VALUE(124475904)),
    UPDATE(rmsprop_momentum, 124475904, 262144, 5, POSITIVE(124475904), VALUE(124475904), VALUE(124475904)),
    UPDATE(adagrad, 124475904, 262144, 4, POSITIVE(124475904), VALUE(124475904)),
    UPDATE(lamb, 124475904, 262144, 5, VALUE(124475904), POSITIVE(124475904), VALUE(124475904)),
    UPDATE(lion, 124475904, 262144, 4, VALUE(124475904), VALUE(124475904)),
    ONE("ema 124475904", ema, QN_F32, &ema, 4, 124475904, 262144, 3, VALUE(124475904), VALUE(124475904),
        VALUE(124475904), HYPER),
    BOTH("accumulate 124475904", accumulate, NULL, 1, 124475904, 524288, 2, VALUE(124475904), VALUE(124475904),
         VALUE(124475904)),
    ONE("accumulate i64 4194304", accumulate, QN_F32, NULL, 1, 4194304, 262144, 2, WHOLE(QN_I64, 4194304),
        WHOLE(QN_I64, 4194304), WHOLE(QN_I64, 4194304)),

    BOTH("quantize, one scale 65536 x 768", quantize_int8, &one_scale, 1, 65536, 256, 2, BYTES(65536, 768),
         VALUE(65536, 768), SCALES(1)),
    BOTH("quantize by columns 65536 x 768", quantize_int8, &by_column, 1, 65536, 3072, 2, BYTES(65536, 768),
         VALUE(65536, 768), SCALES(768)),
    BOTH("dequantize, one scale 65536 x 768", dequantize_int8, &one_scale, 1, 65536, 256, 2, VALUE(65536, 768),
         BYTES(65536, 768), SCALES(1)),
    BOTH("dequantize by columns 65536 x 768", dequantize_int8, &by_column, 1, 65536, 3072, 2, VALUE(65536, 768),
         BYTES(65536, 768), SCALES(768)),
    BOTH("quantize by columns 65536 x 769", quantize_int8, &by_column, 1, 65536, 256, 2, BYTES(65536, 769),
         VALUE(65536, 769), SCALES(769)),
    BOTH("dequantize by columns 65536 x 769", dequantize_int8, &by_column, 1, 65536, 256, 2, VALUE(65536, 769),
         BYTES(65536, 769), SCALES(769)),
    BOTH("LSTM cell 8192 x 1024", lstm_cell, &gates, 32, 8192, 64, 2, VALUE(8192, 1024), VALUE(8192, 4096),
         VALUE(8192, 1024)),
    BOTH("LSTM cell 8192 x 1023", lstm_cell, &gates, 32, 8192, 64, 2, VALUE(8192, 1023), VALUE(8192, 4092),
         VALUE(8192, 1023)),
    BOTH("gradient of LSTM cell 8192 x 1024", lstm_cell_grad, &gates_grad, 64, 8192, 32, 4, VALUE(8192, 4096),
         VALUE(8192, 4096), VALUE(8192, 1024), VALUE(8192, 1024), VALUE(8192, 1024)),
    BOTH("GRU cell 8192 x 1024", gru_cell, NULL, 32, 8192, 64, 3, VALUE(8192, 1024), VALUE(8192, 3072),
         VALUE(8192, 3072), VALUE(8192, 1024)),
    BOTH("gradient of GRU cell 8192 x 1024", gru_cell_grad, NULL, 64, 8192, 32, 4, VALUE(8192, 3072),
         VALUE(8192, 3072), VALUE(8192, 3072), VALUE(8192, 1024), VALUE(8192, 1024)),

    PRODUCT("product small", &plain, 136, 200, 76, 76, 200),
    PRODUCT("product small, B turned", &turned, 136, 200, 72, 200, 72),
    SMALL("product small, bias", matmul, &biased, 73, 3, VALUE(136, 200), VALUE(136, 72), VALUE(72, 200), VALUE(200)),
    PRODUCT("product small, short", &plain, 40, 24, 8, 8, 24),
    PRODUCT("product small, odd", &plain, 137, 201, 73, 73, 201),
    PRODUCT("product 4096 x 768 x 3072", &plain, 4096, 3072, 768, 768, 3072),
    PRODUCT("product 4096 x 4096 x 4096, B turned", &turned, 4096, 4096, 4096, 4096, 4096),
    PRODUCT("product 8192 x 8192 x 8192", &plain, 8192, 8192, 8192, 8192, 8192),
    ONE("product, bias, SiLU 65536 x 768 x 1024", matmul, QN_F32, &bias_silu, 768, 65536, 128, 3, VALUE(65536, 1024),
        VALUE(65536, 768), VALUE(768, 1024), VALUE(1024)),
    ONE("product, bias, SiLU 65536 x 64 x 1001", matmul, QN_F32, &bias_silu, 64, 65536, 127, 3, VALUE(65536, 1001),
        VALUE(65536, 64), VALUE(64, 1001), VALUE(1001)),

    CASE("max pool small", max_pool2d, QN_F32, &stem7, 1, 1, VALUE(2, 9, 7, 7), VALUE(2, 9, 13, 13)) },
    IMAGES("max pool 2 x 2 of 256 x 64 x 112 x 112", max_pool2d, &halves, 1, 256, 1, 1, VALUE(256, 64, 56, 56),
           VALUE(256, 64, 112, 112)),
    IMAGES("max pool 3 x 3 of 256 x 64 x 112 x 112", max_pool2d, &stem, 1, 256, 1, 1, VALUE(256, 64, 56, 56),
           VALUE(256, 64, 112, 112)),
    IMAGES("gradient of max pool 2 x 2", max_pool2d_grad, &halves, 1, 256, 1, 3, VALUE(256, 64, 112, 112),
           VALUE(256, 64, 112, 112), VALUE(256, 64, 56, 56), VALUE(256, 64, 56, 56)),
    IMAGES("gradient of max pool 3 x 3", max_pool2d_grad, &stem, 4, 256, 1, 3, VALUE(256, 64, 112, 112),
           VALUE(256, 64, 112, 112), VALUE(256, 64, 56, 56), VALUE(256, 64, 56, 56)),
    IMAGES("mean of 2 x 2 of 256 x 64 x 112 x 112", avg_pool2d, &halves, 4, 256, 1, 1, VALUE(256, 64, 56, 56),
           VALUE(256, 64, 112, 112)),
    IMAGES("gradient of means of 2 x 2", avg_pool2d_grad, &halves, 1, 256, 1, 1, VALUE(256, 64, 112, 112),
           VALUE(256, 64, 56, 56)),
    IMAGES("means of 256 x 2048 x 7 x 7", avg_pool2d, &all, 49, 256, 4, 1, VALUE(256, 2048, 1, 1),
           VALUE(256, 2048, 7, 7)),
    IMAGES("gradient of means of 7 x 7", avg_pool2d_grad, &all, 1, 256, 4, 1, VALUE(256, 2048, 7, 7),
           VALUE(256, 2048, 1, 1)),
    CONV_GRADS("conv small", of_14, 288, 392, VALUE(2, 32, 14, 14), VALUE(2, 16, 14, 14), FILTERS(32, 16, 3, 3)),
    CONV_GRADS("conv 256 x 64 x 56 x 56, 3 x 3", of_56, 576, 802816, VALUE(256, 64, 56, 56), VALUE(256, 64, 56, 56),
               FILTERS(64, 64, 3, 3)),
    CONV("conv small", &same, 144, VALUE(2, 32, 13, 15), VALUE(2, 16, 13, 15), FILTERS(32, 16, 3, 3)),
    CONV("conv small, 1 x 1", &point, 8, VALUE(2, 40, 13, 15), VALUE(2, 8, 13, 15), FILTERS(40, 8, 1, 1)),
    CASE("conv by 2 small grad x", conv2d_grad_x, QN_F32, &by_two, 63, 2, VALUE(2, 5, 9, 11), FILTERS(7, 5, 3, 3),
         VALUE(2, 7, 5, 6)), .nhwc = true },
    CASE("conv by 2 small grad w", conv2d_grad_w, QN_F32, &by_two_w, 60, 2, FILTERS(7, 5, 3, 3), VALUE(2, 5, 9, 11),
         VALUE(2, 7, 5, 6)), .nhwc = true },
    CONV("conv 256 x 64 x 56 x 56, 3 x 3", &same, 576, VALUE(256, 64, 56, 56), VALUE(256, 64, 56, 56),
         FILTERS(64, 64, 3, 3)),
    CONV("conv 256 x 256 x 14 x 14, 1 x 1 to 1024", &point, 256, VALUE(256, 1024, 14, 14), VALUE(256, 256, 14, 14),
         FILTERS(1024, 256, 1, 1)),
    DEPTHWISE("depthwise small", each_64, VALUE(2, 64, 20, 20), FILTERS(64, 1, 3, 3), 9, 800, .many = 0),
    DEPTHWISE("depthwise 256 x 144 x 56 x 56, 3 x 3", each_144, VALUE(256, 144, 56, 56), FILTERS(144, 1, 3, 3), 9,
              802816, .many = 256, .few = 1),
    HEADS_OF(QN_F32, "attention small", 1, 2, 161, 64),
    HEADS_OF(QN_BF16, "attention small bf16", 1, 2, 161, 64),
    HEADS_OF(QN_F32, "attention 8 x 12 x 1024 x 64", 8, 12, 1024, 64),
    HEADS_OF(QN_BF16, "attention 8 x 12 x 1024 x 64 bf16", 8, 12, 1024, 64),
    HEADS_GRAD(QN_F32, "attention gradient small", &packed2, 1, 2, 100, 64, 32),
    HEADS_GRAD(QN_BF16, "attention gradient small bf16", &packed2, 1, 2, 100, 64, 32),
    HEADS_GRAD(QN_BF16, "attention gradient 8 x 12 x 1024 x 64 bf16", &packed12, 8, 12, 1024, 64, 256),
};
/* clang-format on */
const int bench_n_cases = sizeof bench_cases / sizeof bench_cases[0];
