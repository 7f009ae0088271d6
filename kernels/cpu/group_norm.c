/* group_norm.c - y = gamma (x - mean) r + beta over groups of channels, plain; y may be x. */
#include "group.h"

QN_CLONES static void norm_row(REAL *y, const REAL *x, const REAL *gamma, const REAL *beta, const struct groups *g)
{
    group_apply(y, x, gamma, beta, g);
}

static qn_status launch(const struct qn__step *step, qn_error *err)
{
    (void)err;
    const struct qn__args *a = &step->args;
    struct groups g = groups_of(a);
    REAL *y = qn__real(&a->y);
    const REAL *x = qn__real(&a->x[0]), *gamma = qn__real(&a->x[1]), *beta = qn__real(&a->x[2]);
#pragma omp parallel for num_threads(qn__threads_for(a, a->y.count)) schedule(static)
    for (int64_t i = 0; i < (g.width ? g.rows : 0); i++) {
        int64_t c = first_channel(&g, i);
        norm_row(y + i * g.width, x + i * g.width, gamma + c, beta + c, &g);
    }
    return QN_OK;
}

KERNEL(group_norm) = { .variants = (const char *const[]){ "rows", NULL }, .pick = norm_pick, .launch = launch };
