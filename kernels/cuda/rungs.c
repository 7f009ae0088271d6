/* rungs.c - the table of rungs.h. */
#include "rungs.h"
#include "conv.h"
#include "gemm.h"
#include "gemm_wgmma.h"

/* ---- products (gemm.h) ------------------------------------------------------------------------------------ */

static struct qn__gemm product_of(const struct qn__args *a)
{
    const struct qn__matmul_attr *attr = a->attr;
    const struct qn__view *x = &a->x[0];
    struct qn__gemm g = { .m = a->y.dim[a->y.rank - 2],
                          .n = a->y.dim[a->y.rank - 1],
                          .k = x->dim[x->rank - (attr->ta ? 2 : 1)],
                          .batch = 1,
                          .ta = attr->ta != 0,
                          .tb = attr->tb != 0,
                          .dtype = a->y.dtype,
                          .a = x->data,
                          .b = a->x[1].data,
                          .bias = attr->epilogue.has_bias ? a->x[2].data : NULL,
                          .y = a->y.data };
    for (int i = 0; i < a->y.rank - 2; i++) g.batch *= a->y.dim[i];
    g.a_step = g.m * g.k;
    g.b_step = g.k * g.n;
    g.y_step = g.m * g.n;
    return g;
}

/* Batches of equal shape only, and no activation. */
static qn_status pick_product(const struct qn__args *a, enum qn__gemm_rung rung)
{
    const struct qn__matmul_attr *attr = a->attr;
    struct qn__gemm g = product_of(a);
    if (attr->epilogue.act || a->x[0].count != g.batch * g.a_step || a->x[1].count != g.batch * g.b_step)
        return QN_EUSAGE;
    for (int i = 0; i < a->n_in; i++)
        if (a->x[i].dtype != a->y.dtype) return QN_EUSAGE;
    return qn__gemm_takes(rung, &g) ? QN_OK : QN_EUSAGE;
}
static qn_status launch_product(const struct qn__step *s, enum qn__gemm_rung rung, qn_error *err)
{
    struct qn__gemm g = product_of(&s->args);
    return qn__gemm_run(rung, &g, s, err);
}

#define PRODUCT(name, rung) \
    static qn_status pick_##name(const struct qn__args *a, struct qn__choice *c) \
    { \
        c->variant = 0; \
        return pick_product(a, rung); \
    } \
    static qn_status launch_##name(const struct qn__step *s, qn_error *err) { return launch_product(s, rung, err); } \
    static const char *const variants_##name[] = { #name, NULL }; \
    static const struct qn__kernel kernel_##name = { .variants = variants_##name, \
                                                     .pick = pick_##name, \
                                                     .launch = launch_##name }
PRODUCT(naive, QN_GEMM_NAIVE);
PRODUCT(tiled, QN_GEMM_TILED);
PRODUCT(registers, QN_GEMM_REGISTERS);
PRODUCT(vector, QN_GEMM_VECTOR);
PRODUCT(tensor, QN_GEMM_TENSOR);

static qn_status pick_wgmma(const struct qn__args *a, struct qn__choice *c)
{
    struct qn__gemm g = product_of(a);
    c->variant = 0;
    QN_TRY(pick_product(a, QN_GEMM_TENSOR));
    return qn__gemm_wgmma_takes(a->gpu, &g) ? QN_OK : QN_EUSAGE;
}
static qn_status launch_wgmma(const struct qn__step *s, qn_error *err)
{
    struct qn__gemm g = product_of(&s->args);
    return qn__cuda_check(qn__gemm_wgmma(&g, s->queue->stream), "gemm_wgmma", s, err);
}
static const char *const variants_wgmma[] = { "wgmma", NULL };
static const struct qn__kernel kernel_wgmma = { .variants = variants_wgmma,
                                                .pick = pick_wgmma,
                                                .launch = launch_wgmma };

/* ---- convolutions (conv_own.h, and cuDNN) ------------------------------------------------------------------ */

#define CONV(op, name, rung) \
    extern const struct qn__conv_roles qn__roles_##op; \
    static qn_status pick_##op##_##name(const struct qn__args *a, struct qn__choice *c) \
    { \
        return qn__cuda_conv_rung_pick(a, c, &qn__roles_##op, rung); \
    } \
    static qn_status prepare_##op##_##name(struct qn__step *s, qn_error *err) \
    { \
        return qn__cuda_conv_rung_prepare(s, &qn__roles_##op, rung, err); \
    } \
    static qn_status launch_##op##_##name(const struct qn__step *s, qn_error *err) \
    { \
        return qn__cuda_conv_launch(s, &qn__roles_##op, err); \
    } \
    static const struct qn__kernel kernel_##op##_##name = { .variants = qn__cuda_conv_variants, \
                                                            .pick = pick_##op##_##name, \
                                                            .prepare = prepare_##op##_##name, \
                                                            .launch = launch_##op##_##name, \
                                                            .release = qn__cuda_conv_release }
#define CONVS(op) \
    CONV(op, tiled, QN_CONV_TILED); \
    CONV(op, depthwise, QN_CONV_DEPTHWISE); \
    CONV(op, legacy, QN_CONV_LEGACY); \
    CONV(op, cudnn, QN_CONV_CUDNN)
CONVS(conv2d);
CONV(conv2d, tensor, QN_CONV_TENSOR);
CONVS(conv2d_grad_x);
CONVS(conv2d_grad_w);

/* ---- one thread for each element or row (naive.cu) ---------------------------------------------------------- */

extern const struct qn__kernel qn__naive_affine, qn__naive_sum, qn__naive_transpose, qn__naive_softmax,
    qn__naive_cross_entropy, qn__naive_layer_norm, qn__naive_adam, qn__naive_max_pool2d, qn__naive_conv2d;

/* ---- attention in f32 arithmetic (attention_naive.cu, attention.cu, attention_grad.cu) --------------------------- */

extern const struct qn__kernel qn__naive_attention, qn__attention_tiled, qn__attention_grad_tiled;

/* ---- normalisation over channels and groups (naive_norm.cu) ---------------------------------------------------- */

extern const struct qn__kernel qn__naive_bn_stats, qn__naive_batch_norm, qn__naive_bn_grad_stats, qn__naive_bn_grad_x,
    qn__naive_group_norm;

/* ---- gradients of layer, RMS and group norm (naive_norm_grad.cu) ------------------------------------------ */

extern const struct qn__kernel qn__naive_norm_grad;

const struct qn__rung qn__cuda_rungs[] = {
    { QN_OP_matmul, "naive", &kernel_naive },
    { QN_OP_matmul, "tiled", &kernel_tiled },
    { QN_OP_matmul, "registers", &kernel_registers },
    { QN_OP_matmul, "vector", &kernel_vector },
    { QN_OP_matmul, "tensor", &kernel_tensor },
    { QN_OP_matmul, "unsimulated", &kernel_wgmma }, /* gemm_wgmma.cu */
    { QN_OP_affine, "naive", &qn__naive_affine },
    { QN_OP_sum, "naive", &qn__naive_sum },
    { QN_OP_transpose, "naive", &qn__naive_transpose },
    { QN_OP_softmax, "naive", &qn__naive_softmax },
    { QN_OP_cross_entropy, "naive", &qn__naive_cross_entropy },
    { QN_OP_layer_norm, "naive", &qn__naive_layer_norm },
    { QN_OP_bn_stats, "naive", &qn__naive_bn_stats },
    { QN_OP_batch_norm, "naive", &qn__naive_batch_norm },
    { QN_OP_bn_grad_stats, "naive", &qn__naive_bn_grad_stats },
    { QN_OP_bn_grad_x, "naive", &qn__naive_bn_grad_x },
    { QN_OP_group_norm, "naive", &qn__naive_group_norm },
    { QN_OP_layer_norm_grad_x, "naive", &qn__naive_norm_grad },
    { QN_OP_layer_norm_grad_w, "naive", &qn__naive_norm_grad },
    { QN_OP_rms_norm_grad_x, "naive", &qn__naive_norm_grad },
    { QN_OP_rms_norm_grad_w, "naive", &qn__naive_norm_grad },
    { QN_OP_group_norm_grad_x, "naive", &qn__naive_norm_grad },
    { QN_OP_group_norm_grad_w, "naive", &qn__naive_norm_grad },
    { QN_OP_adam, "naive", &qn__naive_adam },
    { QN_OP_max_pool2d, "naive", &qn__naive_max_pool2d },
    { QN_OP_conv2d, "naive", &qn__naive_conv2d },
    { QN_OP_conv2d, "tiled", &kernel_conv2d_tiled },
    { QN_OP_conv2d, "tensor", &kernel_conv2d_tensor },
    { QN_OP_conv2d, "depthwise", &kernel_conv2d_depthwise },
    { QN_OP_conv2d, "legacy", &kernel_conv2d_legacy },
    { QN_OP_conv2d, "cudnn", &kernel_conv2d_cudnn },
    { QN_OP_conv2d_grad_x, "tiled", &kernel_conv2d_grad_x_tiled },
    { QN_OP_conv2d_grad_x, "depthwise", &kernel_conv2d_grad_x_depthwise },
    { QN_OP_conv2d_grad_x, "legacy", &kernel_conv2d_grad_x_legacy },
    { QN_OP_conv2d_grad_x, "cudnn", &kernel_conv2d_grad_x_cudnn },
    { QN_OP_conv2d_grad_w, "tiled", &kernel_conv2d_grad_w_tiled },
    { QN_OP_conv2d_grad_w, "depthwise", &kernel_conv2d_grad_w_depthwise },
    { QN_OP_conv2d_grad_w, "legacy", &kernel_conv2d_grad_w_legacy },
    { QN_OP_conv2d_grad_w, "cudnn", &kernel_conv2d_grad_w_cudnn },
    { QN_OP_attention, "naive", &qn__naive_attention },
    { QN_OP_attention, "tiled", &qn__attention_tiled },
    { QN_OP_attention_grad, "tiled", &qn__attention_grad_tiled },
    { QN_OP_none, NULL, NULL },
};
