/* layer_norm_grad_w.c - x, dy [..,C] -> dgamma [C] = sum over rows of dy xhat; if wanted dbeta [C] = sum of dy. */
#include "norm.h"

QN_CLONES static void sum_part(double *sums, const REAL *x, const REAL *dy, int64_t begin, int64_t end, int64_t n,
                               double eps)
{
    norm_sum_rows(sums, sums + n, x, dy, begin, end, n, eps, true);
}

static qn_status launch(const struct qn__step *step, qn_error *err)
{
    (void)err;
    const struct qn__args *a = &step->args;
    struct norm_rows r = norm_rows_of(&a->x[0]);
    double eps = ((const struct qn__norm_attr *)a->attr)->eps, *part = step->workspace;
    const REAL *x = qn__real(&a->x[0]), *dy = qn__real(&a->x[1]);
#pragma omp parallel for num_threads(qn__threads_for(a, a->x[0].count)) schedule(static)
    for (int p = 0; p < NORM_PARTS; p++)
        sum_part(part + 2 * p * r.width, x, dy, r.n * p / NORM_PARTS, r.n * (p + 1) / NORM_PARTS, r.width, eps);
    norm_join_parts(qn__real(&a->y), part, r.width, 2 * r.width);
    if (a->more[0].data) norm_join_parts(qn__real(&a->more[0]), part + r.width, r.width, 2 * r.width);
    return QN_OK;
}

KERNEL(layer_norm_grad_w) = { .variants = (const char *const[]){ "parts", NULL },
                              .pick = norm_pick_sums,
                              .launch = launch };
