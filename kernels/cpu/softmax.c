/* softmax.c - y = e^(x - max x) / sum e^(x - max x) over the last axis. y may be x. */
#include "softmax.h"

QN_CLONES static void softmax_row(REAL *y, const REAL *x, int64_t n)
{
    REAL max = row_max(x, n);
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        REAL e = EXP(x[i] - max);
        y[i] = e;
        sum += (double)e;
    }
    REAL scale = (REAL)(1 / sum);
    for (int64_t i = 0; i < n; i++) y[i] *= scale;
}

static qn_status launch(const struct qn__step *step, qn_error *err)
{
    (void)err;
    const struct qn__args *a = &step->args;
    struct rows r = rows_of(&a->y);
    REAL *y = qn__real(&a->y);
    const REAL *x = qn__real(&a->x[0]);
#pragma omp parallel for num_threads(qn__threads_for(a, a->y.count)) schedule(static)
    for (int64_t i = 0; i < r.n; i++) softmax_row(y + i * r.width, x + i * r.width, r.width);
    return QN_OK;
}

KERNEL(softmax) = { .variants = (const char *const[]){ "rows", NULL }, .launch = launch };
