/* product.h - the kernels that are sums of products (matmul, convolutions) against the double loops: any variant, any
 * layout, any number of threads. The cases of tests/ops cover every row; these look at each path of the libraries. */
#ifndef QN_TESTS_KERNELS_PRODUCT_H
#define QN_TESTS_KERNELS_PRODUCT_H
#include "../../core/op.h"
#include "../lib/drive.h"

/* One call. Data are doubles in logical, row-major order; they are converted to the backend's element type and to the
 * blocks in x_block and y_block, and back. y's dtype, rank and dims come from the operator's infer. */
struct product {
    enum qn__opcode op;
    int n_in, threads;
    struct qn__node x[QN_MAX_IN]; /* rank and dim set by product_operand */
    double *data[QN_MAX_IN];
    const void *attr;
    const void *plain_attr;              /* attr without its activation, where it has one; NULL if it has none */
    int32_t x_block[QN_MAX_IN], y_block; /* 0: plain, or what pick says if `ask` */
    bool ask;
    const char *variant; /* forces a variant by name; NULL: pick's */
    /* results, of the last run */
    const char *chosen;
    struct qn__node y;
    double *result; /* y.count doubles; freed by product_free */
    qn_error err;
};

/* Adds an operand of random values in [-1,1), a function of seed. */
void product_operand(struct product *p, uint64_t seed, int rank, const int64_t *dims);
/* f64: the double backend, plain and as pick chooses; else f32 as p says. Rounds the operands to f32 first in both, so
 * that results compare. */
qn_status product_run(struct product *p, bool f64);
void product_free(struct product *p);

/* Runs f64 (loops) as oracle, and f32 as p says; fails unless |y - oracle| <= gamma(terms + extra) times the sum of
 * absolute products, element by element. Prints the worst element. */
void product_check(struct product *p, int64_t terms, const char *expect_variant);

/* Every activation that an epilogue may have, and none (0). */
enum { PRODUCT_ACTIVATIONS = 9 };
extern const int product_activation[PRODUCT_ACTIVATIONS];
#endif
