/* bn.h - what the cases of the four batch-norm rows share: operands, exact channel sums, error terms.
 *
 * eps u. Per channel, with M elements, d = x - pivot and the pivot its first element:
 *   mean      rounds at u (|pivot| + E|d|), in f64 also M u E|d|
 *   variance  comes from E d^2 = var + (mean - pivot)^2, so it rounds at u E d^2 */
#ifndef QN_TESTS_OPS_BN_H
#define QN_TESTS_OPS_BN_H
#include "ops.h"

/* q[0]: eps of the normalisation; p[0]: activation */

struct bn_channel {
    double m;                     /* elements                                                  */
    double mean, var, r;          /* r = 1/sqrt(var + eps), 0 if there is no element           */
    double pivot, spread, square; /* first element; E|x - pivot|; E (x - pivot)^2             */
    double dbeta, dgamma;         /* sum dy, sum dy xhat                                      */
    double abs_dy, abs_dxhat;     /* sum |dy|, sum |dy| (|xhat| + r |mean| + r |pivot|)       */
};

/* Of element i of x; of channel c. dy NULL: its sums are 0. */
int64_t bn_channel_of(const struct op_data *x, int64_t i);
struct bn_channel bn_channel_sums(const struct op_data *x, const struct op_data *dy, int64_t c, double eps);
/* What rounding r does to r, as a share of r, over u: half the share of the variance's error in var + eps. */
double bn_scale_share(const struct bn_channel *k, double eps);
/* Roundings of a sum of M terms at unit u: the f32 kernels add in double. */
double bn_sum_steps(const struct bn_channel *k, double unit);

/* X(name, rank, n, c, h, w): every block, tails, one element, none, parts of the batch, several threads. */
/* clang-format off */
#define BN_SHAPES(X)                                                                               \
    X("empty batch", 4, 0, 8, 3, 3) X("empty batch, rank 2", 2, 0, 5, 0, 0)                        \
    X("one element", 4, 1, 8, 1, 1) X("one element, rank 2", 2, 1, 3, 0, 0)                        \
    X("one channel", 4, 3, 1, 5, 7) X("one pixel", 4, 6, 16, 1, 1) X("one sample", 4, 1, 24, 7, 9) \
    X("odd channels", 4, 3, 7, 5, 3) X("8 channels", 4, 5, 8, 3, 11) X("16 channels", 4, 2, 16, 9, 7) \
    X("48 channels", 4, 3, 48, 4, 5) X("more samples than parts", 4, 37, 8, 3, 3)                  \
    X("rank 2, one feature", 2, 33, 1, 0, 0) X("rank 2, 31", 2, 129, 31, 0, 0) X("rank 2, 257", 2, 17, 257, 0, 0) \
    X("threads", 4, 3, 128, 6, 8)
/* clang-format on */
#endif
