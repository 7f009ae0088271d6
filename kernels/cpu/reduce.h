/* reduce.h - reductions over any axes, for sum, max and min: the geometry and the fixed partition of the work.
 *
 * Adjacent axes of one kind merge; what is left is read as x[o][a][k][r][d], y[o][k][d] = reduce over a and r. A
 * blocked [N][C/b][H][W][b] is a = N, k = C/b, r = H W, d = b for the channels, so it needs no code of its own.
 * The reduced extent is cut into blocks that depend on the shape alone; each block's result is kept in double and
 * the blocks are joined in order, so the bits do not depend on the threads. */
#ifndef QN_KERNELS_CPU_REDUCE_H
#define QN_KERNELS_CPU_REDUCE_H
#include "cpu.h"

enum {
    QN_REDUCE_ROWS,    /* d = 1: reduced elements lie side by side         */
    QN_REDUCE_COLUMNS, /* d > 1: kept elements lie side by side            */
    QN_REDUCE_STRIDED, /* more alternations of axes than the five extents  */
    QN_REDUCE_GRAIN = 16384,
    QN_REDUCE_DEPTH = 256,
    QN_REDUCE_ACC = 2048 /* accumulators of one task */
};
extern const char *const QN_CAT(qn__reduce_variants, KIND)[];

/* How one reduction combines: a row of n elements into acc; `rows` rows of n lanes, `stride` apart, into acc[0..n). */
struct qn__reducer {
    double identity;
    double (*row)(double acc, const REAL *x, int64_t n);
    void (*column)(double *acc, const REAL *x, int64_t rows, int64_t stride, int64_t n);
    double (*join)(double a, double b);
};

qn_status QN_CAT(qn__reduce_pick, KIND)(const struct qn__args *a, struct qn__choice *c);
void QN_CAT(qn__reduce_launch, KIND)(const struct qn__step *s, const struct qn__reducer *f);
#endif
