/* add_group_norm.c - y = a + b, and if wanted its group_norm, a row at a time, plain; y may be a or b. */
#include "group.h"

QN_CLONES static void add_row(REAL *y, REAL *norm, const REAL *a, const REAL *b, const REAL *gamma, const REAL *beta,
                              const struct groups *g)
{
#pragma omp simd
    for (int64_t i = 0; i < g->width; i++) y[i] = a[i] + b[i];
    if (norm) group_apply(norm, y, gamma, beta, g);
}

static qn_status launch(const struct qn__step *step, qn_error *err)
{
    (void)err;
    const struct qn__args *a = &step->args;
    struct groups g = groups_of(a);
    REAL *y = qn__real(&a->y), *norm = a->more[0].data ? qn__real(&a->more[0]) : NULL;
    const REAL *p = qn__real(&a->x[0]), *q = qn__real(&a->x[1]);
    const REAL *gamma = qn__real(&a->x[2]), *beta = qn__real(&a->x[3]);
#pragma omp parallel for num_threads(qn__threads_for(a, a->y.count)) schedule(static)
    for (int64_t i = 0; i < (g.width ? g.rows : 0); i++) {
        int64_t at = i * g.width, c = first_channel(&g, i);
        add_row(y + at, norm ? norm + at : NULL, p + at, q + at, gamma + c, beta + c, &g);
    }
    return QN_OK;
}

KERNEL(add_group_norm) = { .variants = (const char *const[]){ "rows", NULL }, .pick = norm_pick, .launch = launch };
