/* cross_entropy.c - logits [rows,V], target [rows] or [rows,V] (, weight [V]) -> loss [rows]. See core/ops. */
#include "xent.h"

static REAL row_loss(const REAL *x, const struct target *t, int64_t row)
{
    REAL max = row_max(x, t->width);
    double log_sum = log(row_sum_exp(x, t->width, max)) + (double)max, loss = 0;
    if (is_one_hot(t)) {
        int64_t c = class_of(t, row);
        return (REAL)(share(t, row, c) * (log_sum - (double)x[c]));
    }
    for (int64_t v = 0; v < t->width; v++) {
        double u = share(t, row, v);
        if (u != 0) loss += u * (log_sum - (double)x[v]); /* a class without share may have probability 0 */
    }
    return (REAL)loss;
}

static qn_status launch(const struct qn__step *step, qn_error *err)
{
    const struct qn__args *a = &step->args;
    struct rows r = rows_of(&a->x[0]);
    struct target t = target_of(a, &a->x[1], r.width);
    const REAL *x = qn__real(&a->x[0]);
    REAL *y = qn__real(&a->y);
    QN_TRY(check_classes(&t, a->y.count, "cross_entropy", err));
#pragma omp parallel for num_threads(qn__threads_for(a, a->x[0].count)) schedule(static)
    for (int64_t i = 0; i < a->y.count; i++) y[i] = is_ignored(&t, i) ? 0 : row_loss(x + i * r.width, &t, i);
    return QN_OK;
}

KERNEL(cross_entropy) = { .variants = (const char *const[]){ "rows", NULL }, .launch = launch };
