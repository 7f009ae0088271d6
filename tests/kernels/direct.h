/* direct.h - runs the kernel of one operator without a program around it: any variant, any layout, any thread count.
 * For tests of kernels against each other; the tests of operators go through the public interface. */
#ifndef QN_TESTS_KERNELS_DIRECT_H
#define QN_TESTS_KERNELS_DIRECT_H
#include "../../core/op.h"

/* One call. Data are doubles in logical, row-major order; they are converted to the backend's element type and to the
 * blocks in x_block and y_block, and back. y's dtype, rank and dims come from the operator's infer. */
struct direct {
    enum qn__opcode op;
    int n_in, threads;
    struct qn__node x[QN_MAX_IN]; /* rank and dim set by direct_operand */
    double *data[QN_MAX_IN];
    const void *attr;
    const void *plain_attr; /* attr without its activation, where it has one; NULL if it has none */
    int rank;               /* of y, where infer does not fill it */
    int64_t dim[QN_MAX_DIMS];
    int32_t x_block[QN_MAX_IN], y_block; /* 0: plain, or what pick says if `ask` */
    bool ask;
    const char *variant; /* forces a variant by name; NULL: pick's */
    /* results, of the last run */
    const char *chosen;
    struct qn__node y;
    double *result; /* y.count doubles; freed by direct_free */
    size_t workspace;
    qn_error err;
};

/* Adds an operand of random values in [-1,1), a function of seed. */
void direct_operand(struct direct *d, uint64_t seed, int rank, const int64_t *dims);
/* f64: the double backend, else f32. Rounds the operands to f32 first in both, so that results compare. */
qn_status direct_run(struct direct *d, bool f64);
void direct_free(struct direct *d);

/* n eps / (1 - n eps), eps = 2^-24: the relative error of a sum of n products in f32, in any order (Higham 2002). */
double gamma_f32(int64_t n);
/* Runs f64 (loops) as oracle, and f32 as d says; fails unless |y - oracle| <= gamma(products + extra) times the sum of
 * absolute products, element by element. Prints the worst element. */
void direct_check(struct direct *d, int64_t products, const char *expect_variant);
#endif
