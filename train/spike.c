/* spike.c - see spike.h. The limit is the usual robust one: median and median absolute deviation, which the spike
 * itself hardly moves. */
#include "spike.h"
#include <math.h>
#include <string.h>

void qn__losses_add(struct qn__losses *l, int64_t window, double loss)
{
    int most = window < QN_LOSSES_MAX ? (int)window : QN_LOSSES_MAX;
    if (l->n >= most) {
        memmove(l->at, l->at + (l->n - most + 1), (size_t)(most - 1) * sizeof *l->at);
        l->n = most - 1;
    }
    l->at[l->n++] = loss;
}

/* Sorts x; qsort may allocate, and a step may not. */
static double median_of(double *x, int n)
{
    for (int i = 1; i < n; i++) {
        double v = x[i];
        int k = i;
        for (; k > 0 && x[k - 1] > v; k--) x[k] = x[k - 1];
        x[k] = v;
    }
    return n % 2 ? x[n / 2] : 0.5 * (x[n / 2 - 1] + x[n / 2]);
}

bool qn__spike_limit(const struct qn__losses *l, const qn_recipe_spike *o, double *median, double *limit)
{
    double x[QN_LOSSES_MAX];
    if (l->n < o->window) return false;
    memcpy(x, l->at, (size_t)l->n * sizeof *x);
    *median = median_of(x, l->n);
    for (int i = 0; i < l->n; i++) x[i] = fabs(x[i] - *median);
    *limit = *median + o->factor * fmax(median_of(x, l->n), 0.01 * fabs(*median));
    return true;
}

void qn__skips_add(struct qn__skips *s, int64_t epoch, int64_t from, int64_t to)
{
    if (s->n == QN_SKIPS_MAX) memmove(s->at, s->at + 1, (size_t)--s->n * sizeof *s->at);
    s->at[s->n++] = (struct qn__skip){ epoch, from, to };
}

bool qn__skips_has(const struct qn__skips *s, int64_t epoch, int64_t first)
{
    for (int i = 0; i < s->n; i++)
        if (s->at[i].epoch == epoch && first >= s->at[i].from && first <= s->at[i].to) return true;
    return false;
}
