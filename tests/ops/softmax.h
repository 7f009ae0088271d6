/* softmax.h - one row's exact sums, for the cases of softmax and cross-entropy. */
#ifndef QN_TESTS_OPS_SOFTMAX_H
#define QN_TESTS_OPS_SOFTMAX_H
#include "ops.h"

/* max x; ln sum e^(x - max); and sum p (max - x), by which rounding x - max moves the sum. */
struct softmax_row {
    double max, log_sum, far;
};
struct softmax_row softmax_row_of(const double *x, int64_t n);
double softmax_p(const struct softmax_row *r, double x);

/* Bounds are asked for one element after another: what was computed for a row still holds if this is true. */
struct softmax_walk {
    const double *v;
    int64_t at;
};
bool softmax_same_row(struct softmax_walk *last, const struct op_data *x, int64_t i);
/* The row of element i. */
struct softmax_row softmax_row_at(const struct op_data *x, int64_t i);

/* Roundings of a sum of n terms at unit u: the f32 kernels add in double. */
double softmax_sum_steps(int64_t n, double unit);
/* What a result below the normal numbers may be off by. */
double softmax_least(double unit);
#endif
