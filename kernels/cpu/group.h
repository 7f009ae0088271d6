/* group.h - what the kernels of group_norm share: rows of a group of channels of one sample, gamma and beta by channel.
 * The moments of a row are layer_norm's. */
#ifndef QN_KERNELS_CPU_GROUP_H
#define QN_KERNELS_CPU_GROUP_H
#include "norm.h"

/* rows of `channels` channels of s elements; row i has the channels from i % groups * channels on */
struct groups {
    int64_t rows, groups, channels, s, width;
    double eps;
};
static inline struct groups groups_of(const struct qn__args *a)
{
    const struct qn__norm_attr *attr = a->attr;
    const struct qn__view *x = &a->x[0];
    int64_t c = x->dim[1], s = 1;
    for (int i = 2; i < x->rank; i++) s *= x->dim[i];
    int64_t channels = c / attr->groups;
    return (struct groups){ x->dim[0] * attr->groups, attr->groups, channels, s, channels * s, attr->eps };
}
static inline int64_t first_channel(const struct groups *g, int64_t row) { return row % g->groups * g->channels; }

/* y = gamma xhat + beta on one row; y may be x. */
QN_INLINE void group_apply(REAL *y, const REAL *x, const REAL *gamma, const REAL *beta, const struct groups *g)
{
    struct norm_moments m = norm_moments_of(x, g->width, g->eps, true);
    for (int64_t c = 0; c < g->channels; c++) {
        const REAL k = gamma[c], o = beta[c];
#pragma omp simd
        for (int64_t i = c * g->s; i < (c + 1) * g->s; i++) y[i] = (x[i] - m.mean) * m.r * k + o;
    }
}
#endif
