/* target_weight.c - target [rows] (, weight [V]) -> weight of the target's class (1 without weights), 0 if ignored. */
#include "xent.h"

static qn_status launch(const struct qn__step *step, qn_error *err)
{
    const struct qn__args *a = &step->args;
    const struct qn__xent_attr *attr = a->attr;
    int64_t width = attr->has_weight ? a->x[a->n_in - 1].count : INT64_MAX;
    struct target t = target_of(a, &a->x[0], width);
    REAL *y = qn__real(&a->y);
    QN_TRY(check_classes(&t, a->y.count, "target_weight", err));
    for (int64_t i = 0; i < a->y.count; i++) y[i] = is_ignored(&t, i) ? 0 : t.weight ? t.weight[class_of(&t, i)] : 1;
    return QN_OK;
}

KERNEL(target_weight) = { .variants = (const char *const[]){ "rows", NULL }, .launch = launch };
