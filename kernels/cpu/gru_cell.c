/* gru_cell.c - gates p, q [B,3H] r, z, n; h [B,H] -> h' = (1 - z) n + z h, r = s(p_r + q_r), z = s(p_z + q_z),
 * n = tanh(p_n + r q_n). s: logistic function. */
#include "recurrent.h"

QN_CLONES static void step_row(REAL *y, const REAL *p, const REAL *q, const REAL *h, int64_t n)
{
    for (int64_t j = 0; j < n; j++) {
        REAL r = LOGISTIC(p[j] + q[j]), z = LOGISTIC(p[n + j] + q[n + j]);
        REAL v = TANH(p[2 * n + j] + r * q[2 * n + j]);
        y[j] = (1 - z) * v + z * h[j];
    }
}

static qn_status launch(const struct qn__step *step, qn_error *err)
{
    (void)err;
    const struct qn__args *a = &step->args;
    int64_t rows = a->y.dim[0], n = a->y.dim[1];
    const REAL *p = qn__real(&a->x[0]), *q = qn__real(&a->x[1]), *h = qn__real(&a->x[2]);
    REAL *y = qn__real(&a->y);
#pragma omp parallel for num_threads(qn__threads_for(a, 6 * a->y.count)) schedule(static)
    for (int64_t b = 0; b < rows; b++) step_row(y + b * n, p + 3 * b * n, q + 3 * b * n, h + b * n, n);
    return QN_OK;
}

KERNEL(gru_cell) = { .variants = (const char *const[]){ "rows", NULL }, .pick = recurrent_pick, .launch = launch };
