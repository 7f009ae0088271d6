/* bn.c - the exact sums of bn.h. */
#include "bn.h"
#include <math.h>

static int64_t plane(const struct op_data *x) { return x->rank == 4 ? x->dim[2] * x->dim[3] : 1; }

int64_t bn_channel_of(const struct op_data *x, int64_t i) { return i / plane(x) % x->dim[1]; }

/* Element e of channel c. */
static int64_t element(const struct op_data *x, int64_t c, int64_t e)
{
    return (e / plane(x) * x->dim[1] + c) * plane(x) + e % plane(x);
}

static void moments(const struct op_data *x, int64_t c, struct bn_channel *k)
{
    long double sum = 0, square = 0, spread = 0, pivoted = 0;
    int64_t m = x->count / x->dim[1];
    k->m = (double)m;
    k->pivot = x->v[element(x, c, 0)];
    for (int64_t e = 0; e < m; e++) {
        long double v = (long double)x->v[element(x, c, e)], d = v - (long double)k->pivot;
        sum += v;
        spread += fabsl(d);
        pivoted += d * d;
    }
    long double mean = sum / (long double)k->m;
    for (int64_t e = 0; e < m; e++) {
        long double d = (long double)x->v[element(x, c, e)] - mean;
        square += d * d;
    }
    k->mean = (double)mean;
    k->var = (double)(square / (long double)k->m);
    k->spread = (double)spread / k->m;
    k->square = (double)pivoted / k->m;
}

struct bn_channel bn_channel_sums(const struct op_data *x, const struct op_data *dy, int64_t c, double eps)
{
    struct bn_channel k = { 0 };
    long double dbeta = 0, dgamma = 0;
    if (x->count == 0) return k;
    moments(x, c, &k);
    k.r = 1 / sqrt(k.var + eps);
    for (int64_t e = 0; dy && e < x->count / x->dim[1]; e++) {
        int64_t i = element(x, c, e);
        double xhat = (x->v[i] - k.mean) * k.r;
        dbeta += (long double)dy->v[i];
        dgamma += (long double)dy->v[i] * (long double)xhat;
        k.abs_dy += fabs(dy->v[i]);
        k.abs_dxhat += fabs(dy->v[i]) * (fabs(xhat) + k.r * (fabs(k.mean) + fabs(k.pivot)));
    }
    k.dbeta = (double)dbeta;
    k.dgamma = (double)dgamma;
    return k;
}

double bn_sum_steps(const struct bn_channel *k, double unit) { return unit < 0x1p-40 ? k->m + 4 : 4; }

double bn_scale_share(const struct bn_channel *k, double eps)
{
    return k->m > 0 && k->var + eps > 0 ? 0.5 * k->square / (k->var + eps) : 0;
}
