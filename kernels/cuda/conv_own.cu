/* conv_own.cu - which convolution each kernel of our own takes, and running it: see conv_own.h. */
#include "conv_own.h"

static bool below_2_31(const int64_t *factors, int n)
{
    int64_t product;
    return qn__count(&product, factors, n) && product < (int64_t)1 << 31;
}

/* Everything that the kernels count in 32 bits. */
static bool is_counted(const struct qn__dnn_conv *c)
{
    const int64_t x[3] = { c->n, c->h, c->w }, y[3] = { c->n, c->oh, c->ow }, w[3] = { c->c, c->kh, c->kw };
    const int64_t v[3] = { c->o, c->kh, c->kw };
    return below_2_31(x, 3) && below_2_31(y, 3) && below_2_31(w, 3) && below_2_31(v, 3);
}

bool qn__conv_takes(enum qn__conv_rung rung, const struct qn__dnn_conv *c, const struct qn__gpu *gpu)
{
    if (!is_cuda_float(c->dtype) || !is_counted(c)) return false;
    if (rung == QN_CONV_DEPTHWISE) return qn__conv_depthwise_takes(c, gpu);
    int64_t columns = c->direction == QN_DNN_FORWARD ? c->o / c->groups : c->c / c->groups;
    if (c->direction == QN_DNN_GRAD_W) columns *= c->kh * c->kw;
    if (rung == QN_CONV_TILED) return c->groups <= 65535 && columns <= 65535 * 64;
    /* offsets of 32 bits, of what lies beside the image too */
    const int64_t x[4] = { c->n + 1, c->h + 2 * (int64_t)c->pad[0], c->w + 2 * (int64_t)c->pad[1], c->c };
    if (!below_2_31(x, 4)) return false;
    return c->direction == QN_DNN_FORWARD && c->dtype != QN_F32 && c->nhwc && c->groups == 1 && c->c % 8 == 0 &&
           c->o % 8 == 0 && columns <= 65535 * 128;
}

size_t qn__conv_workspace(enum qn__conv_rung rung, const struct qn__dnn_conv *c, const struct qn__gpu *gpu)
{
    return rung == QN_CONV_DEPTHWISE ? qn__conv_depthwise_workspace(c, gpu) : 0;
}

qn_status qn__conv_run(enum qn__conv_rung rung, const struct qn__dnn_conv *c, const struct qn__dnn_data *data,
                       const struct qn__step *s, qn_error *err)
{
    cudaError_t answer = rung == QN_CONV_DEPTHWISE ? qn__conv_depthwise(c, data, s)
                         : rung == QN_CONV_TENSOR  ? qn__conv_tensor(c, data, s)
                                                   : qn__conv_tiled(c, data, s);
    return qn__cuda_check(answer, "conv2d", s, err);
}
