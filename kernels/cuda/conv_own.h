/* conv_own.h - convolutions by kernels of our own: depthwise ones always, all others where cuDNN has no engine; and the
 * rungs beside cuDNN.
 *
 *   depthwise  each channel by itself (groups = channels in = channels out), NHWC: all three directions, no product
 *              worth a tensor core, so what counts is bytes (depthwise.cu)
 *   tiled      implicit GEMM in f32: any geometry, layout and direction (conv_tiled.cu)
 *   tensor     implicit GEMM on tensor cores: forward, NHWC, bf16 and f16, channels in eights, one group
 *              (conv_tensor.cu); filters as [o][kh][kw][c] */
#ifndef QN_KERNELS_CUDA_CONV_OWN_H
#define QN_KERNELS_CUDA_CONV_OWN_H
#include "dnn.h"
#ifdef __cplusplus
extern "C" {
#endif

enum qn__conv_rung { QN_CONV_DEPTHWISE, QN_CONV_TILED, QN_CONV_TENSOR };

bool qn__conv_takes(enum qn__conv_rung rung, const struct qn__dnn_conv *c, const struct qn__gpu *gpu);
/* Bytes of data->workspace, beside filters in another order. */
size_t qn__conv_workspace(enum qn__conv_rung rung, const struct qn__dnn_conv *c, const struct qn__gpu *gpu);
/* The convolution, its bias and relu; any other activation is the caller's. Filters plain, but see tensor. */
qn_status qn__conv_run(enum qn__conv_rung rung, const struct qn__dnn_conv *c, const struct qn__dnn_data *data,
                       const struct qn__step *s, qn_error *err);

#ifdef __cplusplus
}
cudaError_t qn__conv_depthwise(const struct qn__dnn_conv *c, const struct qn__dnn_data *d, const struct qn__step *s);
cudaError_t qn__conv_tiled(const struct qn__dnn_conv *c, const struct qn__dnn_data *d, const struct qn__step *s);
cudaError_t qn__conv_tensor(const struct qn__dnn_conv *c, const struct qn__dnn_data *d, const struct qn__step *s);
bool qn__conv_depthwise_takes(const struct qn__dnn_conv *c, const struct qn__gpu *gpu);
size_t qn__conv_depthwise_workspace(const struct qn__dnn_conv *c, const struct qn__gpu *gpu);
#endif
#endif
