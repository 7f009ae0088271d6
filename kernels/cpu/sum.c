/* sum.c - y[o][k][d] = sum over a, r of x[o][a][k][r][d] (reduce.h). Accumulated in double in both builds: the
 * result of the f32 build is the exact sum rounded once, but for rounding errors of double. */
#include "reduce.h"

enum { LANES = 16 };

QN_CLONES static double row(double acc, const REAL *x, int64_t n)
{
    double s[LANES] = { 0 };
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++) s[j] += (double)x[i + j];
    for (int j = 0; i < n; i++, j++) s[j] += (double)x[i];
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int j = 0; j < half; j++) s[j] += s[j + half];
    return acc + s[0];
}

/* Accumulators in registers for the channel blocks of oneDNN. */
static inline __attribute__((always_inline)) void lanes(double *acc, const REAL *x, int64_t rows, int64_t stride, int n)
{
    double s[LANES] = { 0 };
    for (int64_t i = 0; i < rows; i++)
        for (int j = 0; j < n; j++) s[j] += (double)x[i * stride + j];
    for (int j = 0; j < n; j++) acc[j] += s[j];
}

QN_CLONES static void column(double *acc, const REAL *x, int64_t rows, int64_t stride, int64_t n)
{
    if (n == 8) {
        lanes(acc, x, rows, stride, 8);
        return;
    }
    if (n == 16) {
        lanes(acc, x, rows, stride, 16);
        return;
    }
    int64_t i = 0;
    for (; i + 4 <= rows; i += 4) {
        const REAL *a = x + i * stride, *b = a + stride, *c = b + stride, *d = c + stride;
        for (int64_t j = 0; j < n; j++) acc[j] += ((double)a[j] + (double)b[j]) + ((double)c[j] + (double)d[j]);
    }
    for (; i < rows; i++)
        for (int64_t j = 0; j < n; j++) acc[j] += (double)x[i * stride + j];
}

static double join(double a, double b) { return a + b; }

static qn_status launch(const struct qn__step *s, qn_error *err)
{
    (void)err;
    QN_CAT(qn__reduce_launch, KIND)(s, &(struct qn__reducer){ 0, row, column, join });
    return QN_OK;
}

KERNEL(sum) = { .variants = QN_CAT(qn__reduce_variants, KIND),
                .pick = QN_CAT(qn__reduce_pick, KIND),
                .launch = launch };
