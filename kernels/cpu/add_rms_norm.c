/* add_rms_norm.c - y = a + b, and if wanted its rms_norm, a row at a time; y may be a or b. */
#include "norm.h"

QN_CLONES static void add_row(REAL *y, REAL *norm, const REAL *a, const REAL *b, const REAL *gamma, int64_t n,
                              double eps)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] = a[i] + b[i];
    if (norm) norm_apply(norm, y, gamma, NULL, n, norm_moments_of(y, n, eps, false), false);
}

static qn_status launch(const struct qn__step *step, qn_error *err)
{
    (void)err;
    const struct qn__args *a = &step->args;
    struct norm_rows r = norm_rows_of(&a->y);
    double eps = ((const struct qn__norm_attr *)a->attr)->eps;
    REAL *y = qn__real(&a->y), *norm = a->more[0].data ? qn__real(&a->more[0]) : NULL;
    const REAL *p = qn__real(&a->x[0]), *q = qn__real(&a->x[1]);
    const REAL *gamma = qn__real(&a->x[2]);
#pragma omp parallel for num_threads(qn__threads_for(a, a->y.count)) schedule(static)
    for (int64_t i = 0; i < r.n; i++) {
        int64_t at = i * r.width;
        add_row(y + at, norm ? norm + at : NULL, p + at, q + at, gamma, r.width, eps);
    }
    return QN_OK;
}

KERNEL(add_rms_norm) = { .variants = (const char *const[]){ "rows", NULL }, .pick = norm_pick, .launch = launch };
