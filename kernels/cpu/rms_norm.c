/* rms_norm.c - y = gamma x r over the last axis; y may be x. */
#include "norm.h"

QN_CLONES static void norm_row(REAL *y, const REAL *x, const REAL *gamma, int64_t n, double eps)
{
    norm_apply(y, x, gamma, NULL, n, norm_moments_of(x, n, eps, false), false);
}

static qn_status launch(const struct qn__step *step, qn_error *err)
{
    (void)err;
    const struct qn__args *a = &step->args;
    struct norm_rows r = norm_rows_of(&a->y);
    double eps = ((const struct qn__norm_attr *)a->attr)->eps;
    REAL *y = qn__real(&a->y);
    const REAL *x = qn__real(&a->x[0]), *gamma = qn__real(&a->x[1]);
#pragma omp parallel for num_threads(qn__threads_for(a, a->y.count)) schedule(static)
    for (int64_t i = 0; i < r.n; i++) norm_row(y + i * r.width, x + i * r.width, gamma, r.width, eps);
    return QN_OK;
}

KERNEL(rms_norm) = { .variants = (const char *const[]){ "rows", NULL }, .pick = norm_pick, .launch = launch };
