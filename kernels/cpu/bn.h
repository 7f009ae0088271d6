/* bn.h - the channel loops that the four batch-norm kernels share, for every physical layout.
 *
 * Statistics are sums over all elements of a channel. They run in double over a fixed number of parts of the batch
 * (QN_BN_PARTS, whatever the number of threads), and the parts are added in order. Elementwise loops say
 * `omp simd` because a result may take the place of an operand, which is safe but looks like a dependence. */
#ifndef QN_KERNELS_CPU_BN_H
#define QN_KERNELS_CPU_BN_H
#include "cpu.h"

enum { QN_BN_PARTS = 16 };

/* Workspace of a statistics kernel: [parts][2][C] doubles. */
static inline qn_status bn_pick_sums(const struct qn__args *a, struct qn__choice *c)
{
    size_t bytes;
    if (!qn__mul(&bytes, 2 * QN_BN_PARTS * sizeof(double), (size_t)a->x[0].dim[1])) return QN_EUSAGE;
    c->variant = 0;
    c->workspace = bytes ? bytes : sizeof(double);
    return QN_OK;
}

static inline int64_t bn_part_begin(int64_t n, int part) { return n * part / QN_BN_PARTS; }

/* Adds the parts in order into sums[2][C]. */
static inline void bn_join_parts(const double *parts, int64_t channels, double *sums)
{
    for (int64_t i = 0; i < 2 * channels; i++) sums[i] = parts[i];
    for (int p = 1; p < QN_BN_PARTS; p++)
        for (int64_t i = 0; i < 2 * channels; i++) sums[i] += parts[p * 2 * channels + i];
}
#endif
