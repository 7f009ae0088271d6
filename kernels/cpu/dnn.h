/* dnn.h - the door to oneDNN: dnn.c is the only file that includes its header, so what differs between its
 * versions 2 and 3 differs there. All of it is f32.
 *
 * *_fits    asked by pick: does oneDNN have an implementation worth using for these operands? Creates primitive
 *           descriptors only (well under a millisecond) and answers the bytes of workspace.
 * qn__dnn_* asked by prepare: makes the primitive, the reorders of weights around it and all memory objects
 *           (step->state), and raises choice->workspace to what they use.
 *
 * oneDNN takes the number of threads from OpenMP's per-thread setting; it is set to args.threads around each call
 * and put back. The engine and stream belong to the step, so there is no state outside it.
 *
 * An execution allocates nothing here, but inside the library a few small blocks for its list of arguments, and for
 * products the library's own packing buffers: memory that is not planned. */
#ifndef QN_KERNELS_CPU_DNN_H
#define QN_KERNELS_CPU_DNN_H
#include "../../core/backend.h"

/* Whether the primitive applies this activation itself (or there is none); else the kernel does, afterwards. */
bool qn__dnn_activates(const struct qn__epilogue *e);

bool qn__dnn_matmul_fits(const struct qn__args *a, size_t *workspace);
qn_status qn__dnn_matmul(struct qn__step *s, qn_error *err);

/* conv2d, conv2d_grad_x or conv2d_grad_w, by args.op. With blocks of the views QN_ANY_BLOCK, `fits` chooses the
 * layouts and writes them to choice; otherwise it asks for exactly those. */
bool qn__dnn_conv_fits(const struct qn__args *a, struct qn__choice *c);
qn_status qn__dnn_conv(struct qn__step *s, qn_error *err);

/* avg_pool2d and avg_pool2d_grad, in the layout of choice->y_block. */
bool qn__dnn_pool_fits(const struct qn__args *a, struct qn__choice *c);
qn_status qn__dnn_pool(struct qn__step *s, qn_error *err);

/* For steps with a state; nothing to do for others. */
qn_status qn__dnn_bind(struct qn__step *s, qn_error *err);
qn_status qn__dnn_launch(const struct qn__step *s, qn_error *err);
void qn__dnn_release(struct qn__step *s);
#endif
