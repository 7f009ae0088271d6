/* csv_fit.c - statistics of the number columns of a table: what replaces a missing value, the
 * bounds of clipping, mean and standard deviation, in this order, each computed from what the
 * previous step leaves. */
#include "data.h"
#include <math.h>
#include <stdlib.h>

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Linear interpolation between the order statistics at (n - 1) q; type 7 of Hyndman, Fan,
 * "Sample Quantiles in Statistical Packages", The American Statistician 50(4), 1996. */
static double quantile(const double *sorted, int64_t n, double q)
{
    double at = q * (double)(n - 1);
    int64_t i = (int64_t)at, next = i + 1 < n ? i + 1 : i;
    return sorted[i] + (at - (double)i) * (sorted[next] - sorted[i]);
}

/* Population mean and standard deviation in two passes; divided by n first, so that the sum
 * cannot overflow. */
static void moments(const double *v, int64_t n, double *mean, double *std)
{
    double m = 0, s = 0;
    for (int64_t i = 0; i < n; i++) m += v[i] / (double)n;
    for (int64_t i = 0; i < n; i++) s += (v[i] - m) / (double)n * (v[i] - m);
    *mean = m;
    *std = sqrt(s);
}

/* v[n]: the values that are there, n >= 1; all: rows, missing ones included. */
static void fit_column(const qn_dataset *ds, qn_column *c, double *v, int64_t n, int64_t all)
{
    double mean, std;
    moments(v, n, &mean, &std);
    qsort(v, (size_t)n, sizeof *v, ascending);
    c->fill = ds->fit.missing == QN_MISSING_MEDIAN ? quantile(v, n, 0.5) : mean;
    c->low = -(double)INFINITY;
    c->high = (double)INFINITY;
    if (ds->fit.clip == QN_CLIP_ZSCORE) {
        c->low = mean - ds->fit.limit * std;
        c->high = mean + ds->fit.limit * std;
    } else if (ds->fit.clip == QN_CLIP_IQR) {
        double q1 = quantile(v, n, 0.25), q3 = quantile(v, n, 0.75);
        c->low = q1 - ds->fit.limit * (q3 - q1);
        c->high = q3 + ds->fit.limit * (q3 - q1);
    }
    c->mean = 0;
    c->std = 1;
    if (!ds->fit.standardise) return;
    for (int64_t i = 0; i < all; i++) { /* v has room for all rows */
        double x = i < n ? v[i] : c->fill;
        v[i] = x < c->low ? c->low : x > c->high ? c->high : x;
    }
    moments(v, all, &c->mean, &std);
    c->std = std > 1e-12 * fabs(c->mean) && std > 0 ? std : 1;
}

qn_status qn__table_fit(qn_dataset *ds, const int64_t *at, int64_t n, qn_error *err)
{
    double *v = qn__calloc(NULL, (size_t)n, sizeof *v);
    if (!v) return qn__nomem(err, "column statistics", (size_t)n * sizeof *v);
    qn_status status = QN_OK;
    for (int k = 0; k < ds->t.n_columns && !status; k++) {
        qn_column *c = &ds->t.column[k];
        int64_t present = 0;
        if (c->category) continue;
        for (int64_t i = 0; i < n; i++) {
            double x = ds->raw[(at ? at[i] : i) * ds->size + k];
            if (!isnan(x)) v[present++] = x;
        }
        if (!present)
            status = qn__fail(err, 3035, QN_AT_FILE(ds->name),
                              "column \"%s\": no value in %lld rows; expected at least 1", qn__show(c->name).s,
                              (long long)n);
        else
            fit_column(ds, c, v, present, n);
        if (!status && !(isfinite(c->mean) && isfinite(c->std) && isfinite(c->fill) && !isnan(c->low)))
            status = qn__fail(err, 3033, QN_AT_FILE(ds->name),
                              "column \"%s\": statistics overflow; expected smaller numbers", qn__show(c->name).s);
    }
    qn__free(NULL, v, (size_t)n * sizeof *v);
    return status;
}
