/* epilogue.h - what follows a product or convolution where the library does not do it: bias and activation in place;
 * and filters between the order of the graph and the library's. For matmul.c and conv.c. */
#ifndef QN_KERNELS_CUDA_EPILOGUE_H
#define QN_KERNELS_CUDA_EPILOGUE_H
#include "cuda.h"
#ifdef __cplusplus
extern "C" {
#endif

/* y[i] = act(y[i] + bias[i / inner mod channels]), in f32 whatever is stored. inner: elements of y beside each other
 * with the same bias: 1 for matrices and NHWC, H W for NCHW. */
struct qn__after {
    void *y;
    const void *bias; /* NULL: none */
    qn_dtype dtype;
    int64_t count, channels, inner;
    bool nothing; /* y holds no product yet: 0 stands for it */
    int32_t act;  /* an activation of struct qn__epilogue, or 0 */
    double p;
};
qn_status qn__cuda_after(const struct qn__step *s, const struct qn__after *a, qn_error *err);
/* Whether there is such an activation. */
bool qn__cuda_activates(int32_t act);

/* Filters [o][channels][taps] -> [o][taps][channels] (pack), or back. No overlap. */
qn_status qn__cuda_filters(const struct qn__step *s, void *to, const void *from, qn_dtype dtype, int64_t o,
                           int64_t channels, int64_t taps, bool pack, qn_error *err);

#ifdef __cplusplus
}
#endif
#endif
