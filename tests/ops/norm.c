/* norm.c - exact rows of the normalisations, see norm.h. */
#include "norm.h"
#include <math.h>

double norm_steps(int64_t n, double u) { return u < 0x1p-40 ? (double)n / 8 + 8 : (double)n / 32 + 16; }

struct norm_row norm_row_of(const double *x, int64_t n, double eps, bool centred, double u)
{
    struct norm_row k = { .n = n, .centred = centred, .u = u, .steps = norm_steps(n, u) };
    long double sum = 0, size = 0, square = 0, spread = 0;
    for (int64_t j = 0; j < n; j++) {
        sum += (long double)x[j];
        size += fabsl((long double)x[j]);
    }
    long double mean = centred && n ? sum / (long double)n : 0;
    for (int64_t j = 0; j < n; j++) {
        long double d = (long double)x[j] - mean;
        square += d * d;
        spread += fabsl(d);
    }
    double count = n ? (double)n : 1, var = (double)square / count;
    k.mean = (double)mean;
    k.r = 1 / sqrt(var + eps);
    size /= (long double)count;
    spread /= (long double)count;
    double summed = u < 0x1p-40 ? (double)size : (double)spread + u * k.steps * (double)size;
    if (centred) k.delta = u * (2 * fabs(k.mean) + k.steps * summed);
    double share = var + eps > 0 ? (var + k.delta * k.delta) / (var + eps) : 0;
    k.rho = (k.steps + 4) * u * share + k.delta * k.delta * k.r * k.r;
    return k;
}

bool norm_same_row(struct norm_walk *last, const double *v, int64_t w, int64_t i, double u)
{
    bool same = last->v == v && last->at + 1 == i && last->u == u && i % w != 0;
    *last = (struct norm_walk){ v, i, u };
    return same;
}

double norm_xhat(const struct norm_row *k, double x) { return (x - k->mean) * k->r; }

double norm_xhat_error(const struct norm_row *k, double x)
{
    double d = fabs(x - k->mean);
    return k->r * (k->delta + k->u * d + (d + k->delta) * (k->rho / 2 + 4 * k->u));
}

double norm_y_error(const struct norm_row *k, double x, double gamma, double beta)
{
    double y = gamma * norm_xhat(k, x);
    return fabs(gamma) * norm_xhat_error(k, x) + k->u * (2 * fabs(y) + 2 * fabs(y + beta) + fabs(beta));
}

struct norm_grad norm_grad_of(const struct norm_row *k, const double *x, const double *dy, const double *gamma,
                              int64_t s)
{
    struct norm_grad d = { 0 };
    long double a = 0, b = 0;
    double abs_v = 0, abs_product = 0, of_xhat = 0, n = k->n ? (double)k->n : 1;
    for (int64_t j = 0; j < k->n; j++) {
        double v = gamma[j / s] * dy[j], xhat = norm_xhat(k, x[j]);
        a += (long double)v;
        b += (long double)v * (long double)xhat;
        abs_v += fabs(v);
        abs_product += fabs(v * xhat);
        of_xhat += fabs(v) * norm_xhat_error(k, x[j]);
    }
    d.a = k->centred ? (double)a / n : 0;
    d.b = (double)b / n;
    d.a_error = k->centred ? (k->steps + 3) * k->u * abs_v / n : 0;
    d.b_error = (of_xhat + (k->steps + 5) * k->u * abs_product) / n;
    return d;
}

double norm_dx(const struct norm_row *k, const struct norm_grad *d, double x, double dy, double gamma)
{
    return k->r * (gamma * dy - d->a - norm_xhat(k, x) * d->b);
}

double norm_dx_error(const struct norm_row *k, const struct norm_grad *d, double x, double dy, double gamma)
{
    double xhat = norm_xhat(k, x), size = fabs(gamma * dy) + fabs(d->a) + fabs(xhat * d->b);
    double of_xhat = (norm_xhat_error(k, x) + 2 * k->u) * (fabs(d->b) + d->b_error);
    double inner = d->a_error + of_xhat + fabs(xhat) * d->b_error;
    return k->r * (inner + size * (k->rho / 2 + 8 * k->u));
}
