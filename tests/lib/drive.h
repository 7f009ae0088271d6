/* drive.h - run one operator of a backend on arrays of the test's own, without a graph or a program. */
#ifndef QN_TESTS_DRIVE_H
#define QN_TESTS_DRIVE_H
#include "../../core/backend.h"

/* A view of the test's memory; rank-4 data with a block other than QN_PLAIN lies as [N][C/b][H][W][b]. */
struct qn__view drive_view(qn_dtype dtype, int rank, const int64_t *dims, int block, void *data);

/* pick, prepare, bind, launch and release of the operator's kernel. y->data may be an operand's data where the
 * operator works in place. variant, if not NULL, receives the name of the variant that pick chose. Returns
 * QN_EUSAGE if the kernel refuses these shapes or layouts. */
qn_status drive(const struct qn__backend *backend, enum qn__opcode op, const void *attr, const struct qn__view *x,
                int n_in, const struct qn__view *y, int threads, const char **variant, qn_error *err);

/* Plain [N,C,H,W] elements of `size` bytes to block b and back. */
void drive_to_block(void *dst, const void *src, const int64_t dim[4], int b, size_t size);
void drive_to_plain(void *dst, const void *src, const int64_t dim[4], int b, size_t size);
#endif
