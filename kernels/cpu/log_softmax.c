/* log_softmax.c - y = x - max x - ln sum e^(x - max x) over the last axis. y may be x. */
#include "softmax.h"

QN_CLONES static void log_softmax_row(REAL *y, const REAL *x, int64_t n)
{
    REAL max = row_max(x, n);
    REAL shift = (REAL)log(row_sum_exp(x, n, max));
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] = (x[i] - max) - shift;
}

static qn_status launch(const struct qn__step *step, qn_error *err)
{
    (void)err;
    const struct qn__args *a = &step->args;
    struct rows r = rows_of(&a->y);
    REAL *y = qn__real(&a->y);
    const REAL *x = qn__real(&a->x[0]);
#pragma omp parallel for num_threads(qn__threads_for(a, a->y.count)) schedule(static)
    for (int64_t i = 0; i < r.n; i++) log_softmax_row(y + i * r.width, x + i * r.width, r.width);
    return QN_OK;
}

KERNEL(log_softmax) = { .variants = (const char *const[]){ "rows", NULL }, .launch = launch };
