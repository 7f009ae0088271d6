/* norm.h - what the cases of the normalisations share: the exact result and gradient of one row, and how far rounding
 * may move them.
 *
 * A row is the set of elements with one mean and deviation; element j has scale gamma[j / s] (s 1 but for group_norm).
 * eps u. `steps` roundings in a sum: f64 kernels add in eight lanes; f32 kernels on the CPU in double, on a GPU in
 * float, a warp or more to a row, after which nothing is left to double. The mean then moves by delta, the variance by
 * a share of rho, and xhat by what norm_xhat_error says. */
#ifndef QN_TESTS_NORM_H
#define QN_TESTS_NORM_H
#include "ops.h"

struct norm_row {
    int64_t n;
    bool centred;
    double mean, r; /* r = 1/sqrt(mean (x - mean)^2 + eps) */
    double u, steps, delta, rho;
};
struct norm_row norm_row_of(const double *x, int64_t n, double eps, bool centred, double u);
double norm_xhat(const struct norm_row *k, double x);
double norm_xhat_error(const struct norm_row *k, double x);
double norm_steps(int64_t n, double u);

/* Bounds are asked for one element after another: what was computed for the row of the element before, at v[i - 1],
 * still holds if this is true. w: the width of a row. */
struct norm_walk {
    const double *v;
    int64_t at;
    double u;
};
bool norm_same_row(struct norm_walk *last, const double *v, int64_t w, int64_t i, double u);

/* One element of y = gamma xhat + beta: how far it may be off. */
double norm_y_error(const struct norm_row *k, double x, double gamma, double beta);

/* Means over the row of v = gamma dy, of v xhat, and their errors. */
struct norm_grad {
    double a, b, a_error, b_error;
};
struct norm_grad norm_grad_of(const struct norm_row *k, const double *x, const double *dy, const double *gamma,
                              int64_t s);
/* dx of an element without addend, and its error. */
double norm_dx(const struct norm_row *k, const struct norm_grad *d, double x, double dy, double gamma);
double norm_dx_error(const struct norm_row *k, const struct norm_grad *d, double x, double dy, double gamma);
#endif
