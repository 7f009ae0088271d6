/* cross_entropy_grad.c - dlogits = dloss (p W - u c), W = sum_v u_v c_v: see core/ops/cross_entropy.c. */
#include "xent.h"

QN_CLONES static void scaled_softmax(REAL *dx, const REAL *x, int64_t n, double scale)
{
    REAL max = row_max(x, n);
    double sum = 0;
    for (int64_t i = 0; i < n; i++) {
        REAL e = EXP(x[i] - max);
        dx[i] = e;
        sum += (double)e;
    }
    REAL k = (REAL)(scale / sum);
    for (int64_t i = 0; i < n; i++) dx[i] *= k;
}

static void row_grad(REAL *dx, const REAL *x, const struct target *t, int64_t row, double dloss)
{
    double total = 0;
    if (is_one_hot(t)) {
        int64_t c = class_of(t, row);
        total = share(t, row, c);
        scaled_softmax(dx, x, t->width, dloss * total);
        dx[c] = (REAL)((double)dx[c] - dloss * total);
        return;
    }
    for (int64_t v = 0; v < t->width; v++) total += share(t, row, v);
    scaled_softmax(dx, x, t->width, dloss * total);
    for (int64_t v = 0; v < t->width; v++) dx[v] = (REAL)((double)dx[v] - dloss * share(t, row, v));
}

static qn_status launch(const struct qn__step *step, qn_error *err)
{
    const struct qn__args *a = &step->args;
    struct rows r = rows_of(&a->x[0]);
    struct target t = target_of(a, &a->x[1], r.width);
    const REAL *x = qn__real(&a->x[0]), *dloss = qn__real(&a->x[2]);
    REAL *dx = qn__real(&a->y);
    QN_TRY(check_classes(&t, r.n, "cross_entropy_grad", err));
#pragma omp parallel for num_threads(qn__threads_for(a, a->x[0].count)) schedule(static)
    for (int64_t i = 0; i < r.n; i++) {
        if (is_ignored(&t, i))
            memset(dx + i * r.width, 0, (size_t)r.width * sizeof *dx);
        else
            row_grad(dx + i * r.width, x + i * r.width, &t, i, (double)dloss[i]);
    }
    return QN_OK;
}

KERNEL(cross_entropy_grad) = { .variants = (const char *const[]){ "rows", NULL }, .launch = launch };
