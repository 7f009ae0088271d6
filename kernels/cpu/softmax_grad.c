/* softmax_grad.c - dx = y (dy - sum dy y) over the last axis. dx may be y or dy. */
#include "softmax.h"

QN_CLONES static void grad_row(REAL *dx, const REAL *y, const REAL *dy, int64_t n)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)dy[i] * (double)y[i];
    REAL s = (REAL)sum;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) dx[i] = y[i] * (dy[i] - s);
}

static qn_status launch(const struct qn__step *step, qn_error *err)
{
    (void)err;
    const struct qn__args *a = &step->args;
    struct rows r = rows_of(&a->y);
    REAL *dx = qn__real(&a->y);
    const REAL *y = qn__real(&a->x[0]), *dy = qn__real(&a->x[1]);
#pragma omp parallel for num_threads(qn__threads_for(a, a->y.count)) schedule(static)
    for (int64_t i = 0; i < r.n; i++) grad_row(dx + i * r.width, y + i * r.width, dy + i * r.width, r.width);
    return QN_OK;
}

KERNEL(softmax_grad) = { .variants = (const char *const[]){ "rows", NULL }, .launch = launch };
