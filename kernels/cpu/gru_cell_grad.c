/* gru_cell_grad.c - p, q [B,3H], h, dy [B,H] -> dp [B,3H]; if wanted dq [B,3H] and dh [B,H]:
 *   dp_n = dy (1 - z)(1 - n^2)   dp_z = dy (h - n) z (1 - z)   dp_r = dp_n q_n r (1 - r)
 *   dq_r = dp_r   dq_z = dp_z   dq_n = dp_n r   dh = dy z */
#include "recurrent.h"

QN_CLONES static void grad_row(REAL *dp, REAL *dq, REAL *dh, const REAL *p, const REAL *q, const REAL *h,
                               const REAL *dy, int64_t n)
{
    for (int64_t j = 0; j < n; j++) {
        REAL r = LOGISTIC(p[j] + q[j]), z = LOGISTIC(p[n + j] + q[n + j]);
        REAL v = TANH(p[2 * n + j] + r * q[2 * n + j]);
        REAL dn = dy[j] * (1 - z) * (1 - v * v), dz = dy[j] * (h[j] - v) * z * (1 - z);
        REAL dr = dn * q[2 * n + j] * r * (1 - r);
        dp[j] = dr;
        dp[n + j] = dz;
        dp[2 * n + j] = dn;
        if (dq) {
            dq[j] = dr;
            dq[n + j] = dz;
            dq[2 * n + j] = dn * r;
        }
        if (dh) dh[j] = dy[j] * z;
    }
}

static qn_status launch(const struct qn__step *step, qn_error *err)
{
    (void)err;
    const struct qn__args *a = &step->args;
    int64_t rows = a->x[2].dim[0], n = a->x[2].dim[1];
    const REAL *p = qn__real(&a->x[0]), *q = qn__real(&a->x[1]), *h = qn__real(&a->x[2]), *dy = qn__real(&a->x[3]);
    REAL *dp = qn__real(&a->y), *dq = a->more[0].data ? qn__real(&a->more[0]) : NULL;
    REAL *dh = a->more[1].data ? qn__real(&a->more[1]) : NULL;
#pragma omp parallel for num_threads(qn__threads_for(a, 2 * a->y.count)) schedule(static)
    for (int64_t b = 0; b < rows; b++)
        grad_row(dp + 3 * b * n, dq ? dq + 3 * b * n : NULL, dh ? dh + b * n : NULL, p + 3 * b * n, q + 3 * b * n,
                 h + b * n, dy + b * n, n);
    return QN_OK;
}

KERNEL(gru_cell_grad) = { .variants = (const char *const[]){ "rows", NULL }, .pick = recurrent_pick, .launch = launch };
