/* conv.h - what the three directions of a convolution share on CUDA. conv2d.c, conv2d_grad_x.c and conv2d_grad_w.c say
 * only where images, filters and results stand among the operands.
 *
 *   graph        one graph of cuDNN, bias and relu in it where it takes them
 *   graph_after  the same without, then bias and activation in place by a kernel of our own
 *   depthwise    each channel by itself: a kernel of our own, bias and relu in it (conv_own.h)
 *   own          by kernels of our own, chosen in prepare where cuDNN has no engine that keeps the promises of dnn.h
 *   empty        a sum of nothing: zeros, bias, activation
 *
 * Images run NHWC (or plain, if they come plain and nobody asks). Filters are stored [O,C,kh,kw] and cuDNN's NHWC
 * engines want [O,kh,kw,C]: they are turned over in the step's workspace on every launch, because in training they
 * are new each time; that moves the filters twice, little beside the images. */
#ifndef QN_KERNELS_CUDA_CONV_H
#define QN_KERNELS_CUDA_CONV_H
#include "dnn.h"
#include "conv_own.h"
#include "epilogue.h"

/* Where the images, the filters and the results of the forward direction are: an operand, or the step's own result. */
enum { QN_CONV_RESULT = -1 };
struct qn__conv_roles {
    enum qn__dnn_direction direction;
    int x, w, y;
};

qn_status qn__cuda_conv_pick(const struct qn__args *a, struct qn__choice *c, const struct qn__conv_roles *roles);
qn_status qn__cuda_conv_prepare(struct qn__step *s, const struct qn__conv_roles *roles, qn_error *err);
qn_status qn__cuda_conv_launch(const struct qn__step *s, const struct qn__conv_roles *roles, qn_error *err);
void qn__cuda_conv_release(struct qn__step *s);
bool qn__cuda_conv_describe(const struct qn__step *s, const struct qn__conv_roles *roles, char *text, size_t size);
qn_status qn__cuda_conv_algorithms(struct qn__step *s, const struct qn__conv_roles *roles, struct qn__algorithm *out,
                                   int max, int *n, qn_error *err);

/* The same by one kernel of our own, or by cuDNN alone: rungs beside what pick chooses. prepare: QN_EUSAGE if cuDNN
 * does not take the convolution. */
enum { QN_CONV_CUDNN = -1, QN_CONV_LEGACY = -2 /* by its calls of before the graph API: an oracle for the graphs */ };
qn_status qn__cuda_conv_rung_pick(const struct qn__args *a, struct qn__choice *c, const struct qn__conv_roles *roles,
                                  int rung);
qn_status qn__cuda_conv_rung_prepare(struct qn__step *s, const struct qn__conv_roles *roles, int rung, qn_error *err);

/* of rows with an epilogue, and without */
extern const char *const qn__cuda_conv_variants[], *const qn__cuda_conv_plain_variants[];

/* The kernel of one direction. */
#define CONV_KERNEL(op, names, ...) \
    extern const struct qn__conv_roles qn__roles_##op; \
    const struct qn__conv_roles qn__roles_##op = { __VA_ARGS__ }; \
    static qn_status pick(const struct qn__args *a, struct qn__choice *c) \
    { \
        return qn__cuda_conv_pick(a, c, &qn__roles_##op); \
    } \
    static qn_status prepare(struct qn__step *s, qn_error *err) \
    { \
        return qn__cuda_conv_prepare(s, &qn__roles_##op, err); \
    } \
    static qn_status launch(const struct qn__step *s, qn_error *err) \
    { \
        return qn__cuda_conv_launch(s, &qn__roles_##op, err); \
    } \
    static bool describe(const struct qn__step *s, char *text, size_t size) \
    { \
        return qn__cuda_conv_describe(s, &qn__roles_##op, text, size); \
    } \
    static qn_status algorithms(struct qn__step *s, struct qn__algorithm *out, int max, int *n, qn_error *err) \
    { \
        return qn__cuda_conv_algorithms(s, &qn__roles_##op, out, max, n, err); \
    } \
    extern const struct qn__kernel qn__cuda_##op; \
    const struct qn__kernel qn__cuda_##op = { .variants = names, \
                                              .pick = pick, \
                                              .prepare = prepare, \
                                              .launch = launch, \
                                              .release = qn__cuda_conv_release, \
                                              .describe = describe, \
                                              .algorithms = algorithms }
#endif
