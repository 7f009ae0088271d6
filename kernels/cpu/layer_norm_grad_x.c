/* layer_norm_grad_x.c - dx = r (u - mean u - xhat mean(u xhat)) + addend, u = gamma dy, over the last axis; dx may be
 * any of the operands. */
#include "norm.h"

QN_CLONES static void grad_row(REAL *dx, const REAL *x, const REAL *dy, const REAL *gamma, const REAL *addend,
                               int64_t n, double eps)
{
    if (addend)
        norm_grad_row(dx, x, dy, gamma, addend, n, eps, true);
    else
        norm_grad_row(dx, x, dy, gamma, NULL, n, eps, true);
}

static qn_status launch(const struct qn__step *step, qn_error *err)
{
    (void)err;
    const struct qn__args *a = &step->args;
    struct norm_rows r = norm_rows_of(&a->y);
    double eps = ((const struct qn__norm_attr *)a->attr)->eps;
    REAL *dx = qn__real(&a->y);
    const REAL *x = qn__real(&a->x[0]), *dy = qn__real(&a->x[1]), *gamma = qn__real(&a->x[2]);
    const REAL *addend = a->n_in == 4 ? qn__real(&a->x[3]) : NULL;
#pragma omp parallel for num_threads(qn__threads_for(a, a->y.count)) schedule(static)
    for (int64_t i = 0; i < r.n; i++) {
        int64_t at = i * r.width;
        grad_row(dx + at, x + at, dy + at, gamma, addend ? addend + at : NULL, r.width, eps);
    }
    return QN_OK;
}

KERNEL(layer_norm_grad_x) = { .variants = (const char *const[]){ "rows", NULL }, .pick = norm_pick, .launch = launch };
