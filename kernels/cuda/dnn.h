/* dnn.h - the door to cuDNN 9: dnn.c, dnn_graph.c and dnn_legacy.c are the only files that call it.
 *
 * The library is opened with dlopen by the first convolution that is prepared, so a program without convolutions needs
 * no cuDNN. A convolution is a graph of the backend API, forward also with bias and relu behind it, and the engine is
 * the first of the library's own ranking that keeps Quern's promises:
 *
 *   deterministic, no FFT and no Winograd (their error is not bounded by the sum of |x||w|, and they spread one NaN
 *   over a tile), no narrower input or sum than was asked for, and for f32 no tensor cores (TF32).
 *
 * Nothing is timed. The same question can be put for a GPU that the machine has not: then a description of it stands
 * where else the device does, and the answer is the engine and its bytes of workspace, but not something to run. */
#ifndef QN_KERNELS_CUDA_DNN_H
#define QN_KERNELS_CUDA_DNN_H
#include "cuda.h"
#ifdef __cplusplus
extern "C" {
#endif

/* cuDNN for one stream of one device, or for the description of a device. */

/* stream: of the device that is current now, or NULL: only plan, for `gpu`. library: NULL for the usual search. Opens
 * nothing yet. NULL: no memory. qn__dnn_close (cuda.h) gives it back. */
struct qn__dnn *qn__dnn_new(const struct qn__gpu *gpu, const cudaStream_t *stream, const char *library);
/* Opens the library and makes the handle, if that has not been done. E7002: what is missing, and the remedy. step names
 * the operator in errors, or NULL. */
qn_status qn__dnn_open(struct qn__dnn *dnn, const struct qn__step *step, qn_error *err);
/* Version as the library counts, e.g. 91900; 0 before it is open. */
size_t qn__dnn_version(const struct qn__dnn *dnn);
/* Of the library that the usual search finds; 0: none. */
size_t qn__dnn_installed(void);

/* What is computed: y = x * w (forward), dx from w and dy, or dw from x and dy. Images are NHWC or NCHW, filters
 * [o][kh][kw][c/groups] or [o][c/groups][kh][kw] likewise. */
enum qn__dnn_direction { QN_DNN_FORWARD, QN_DNN_GRAD_X, QN_DNN_GRAD_W };
struct qn__dnn_conv {
    enum qn__dnn_direction direction;
    qn_dtype dtype; /* F32, BF16 or F16, of everything stored; sums are f32 */
    bool nhwc;
    int64_t n, c, h, w, o, kh, kw, oh, ow; /* images x [n,c,h,w], filters [o,c/groups,kh,kw], results y [n,o,oh,ow] */
    int32_t groups, stride[2], dilation[2], pad[2], pad_end[2];
    bool bias;   /* behind it, if qn__dnn_fuses     */
    int32_t act; /* QN_OP_relu behind the bias, or 0 */
};

/* An engine that keeps the promises. notes: bit i for cudnnBackendNumericalNote_t i. */
struct qn__dnn_engine {
    int64_t index;
    size_t workspace;
    uint32_t notes;
};

/* Whether one graph may hold the bias and activation too: forward, with a bias, and relu or nothing. For these cuDNN
 * has compiled engines of every kind that the bare convolution has; other chains it compiles on the device, if at
 * all, and can say nothing about from a description. */
bool qn__dnn_fuses(const struct qn__dnn_conv *conv);

/* Lists up to `max` engines in the library's order; those that need more workspace than `limit` are left out. *n = 0:
 * cuDNN has none for this convolution. */
qn_status qn__dnn_engines(struct qn__dnn *dnn, const struct qn__dnn_conv *conv, size_t limit,
                          struct qn__dnn_engine *engine, int max, int *n, qn_error *err);

/* The first of that list, or number `place` of it, ready to run; *out = NULL if the list ends before. step names the
 * operator in errors, or NULL. */
struct qn__dnn_plan;
qn_status qn__dnn_plan(struct qn__dnn_plan **out, struct qn__dnn *dnn, const struct qn__dnn_conv *conv, size_t limit,
                       const struct qn__step *step, qn_error *err);
qn_status qn__dnn_plan_at(struct qn__dnn_plan **out, struct qn__dnn *dnn, const struct qn__dnn_conv *conv, size_t limit,
                          int place, const struct qn__step *step, qn_error *err);
void qn__dnn_plan_free(struct qn__dnn_plan *plan);
struct qn__dnn_engine qn__dnn_plan_engine(const struct qn__dnn_plan *plan);

/* Addresses of a run: device memory at multiples of 16 bytes; bias only if the convolution has one. */
struct qn__dnn_data {
    void *x, *w, *y, *bias, *workspace;
};
qn_status qn__dnn_run(struct qn__dnn_plan *plan, const struct qn__dnn_data *data, const struct qn__step *step,
                      qn_error *err);

/* ---- the calls of before the graph API, as an oracle for tests ------------------------------------- */

/* The same convolution through cudnnConvolutionForward and its two gradients, without bias and activation, by the
 * algorithm that is deterministic in every version. Only for padding that is the same on both sides (QN_EUSAGE). */
qn_status qn__dnn_legacy_workspace(struct qn__dnn *dnn, const struct qn__dnn_conv *conv, size_t *bytes, qn_error *err);
qn_status qn__dnn_legacy_run(struct qn__dnn *dnn, const struct qn__dnn_conv *conv, const struct qn__dnn_data *data,
                             size_t workspace, qn_error *err);

#ifdef __cplusplus
}
#endif
#endif
