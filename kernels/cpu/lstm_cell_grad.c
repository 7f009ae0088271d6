/* lstm_cell_grad.c - gates, c, second gates, dh, dc' (the last three may be missing) -> dgates [B,4H]; if wanted dc
 * [B,H]. With t = tanh c' and e = dc' + dh s(o) (1 - t^2):
 *   di = e tanh g s(i)(1 - s(i))   df = e c s(f)(1 - s(f))   dg = e s(i) (1 - tanh^2 g)   do = dh t s(o)(1 - s(o))
 *   dc = e s(f) */
#include "recurrent.h"

QN_CLONES static void grad_row(REAL *dgates, REAL *dc, const REAL *gates, const REAL *more, const REAL *c,
                               const REAL *dh, const REAL *dnext, int64_t n)
{
    for (int64_t j = 0; j < n; j++) {
        REAL i = LOGISTIC(gate(gates, more, j)), f = LOGISTIC(gate(gates, more, n + j));
        REAL g = TANH(gate(gates, more, 2 * n + j)), o = LOGISTIC(gate(gates, more, 3 * n + j));
        REAL t = TANH(f * c[j] + i * g), d = dh ? dh[j] : 0;
        REAL e = (dnext ? dnext[j] : 0) + d * o * (1 - t * t);
        dgates[j] = e * g * i * (1 - i);
        dgates[n + j] = e * c[j] * f * (1 - f);
        dgates[2 * n + j] = e * i * (1 - g * g);
        dgates[3 * n + j] = d * t * o * (1 - o);
        if (dc) dc[j] = e * f;
    }
}

static qn_status launch(const struct qn__step *step, qn_error *err)
{
    (void)err;
    const struct qn__args *a = &step->args;
    const struct qn__lstm_attr *attr = a->attr;
    int64_t rows = a->x[1].dim[0], n = a->x[1].dim[1];
    int at = 2 + (attr->two_gates != 0);
    const REAL *gates = qn__real(&a->x[0]), *c = qn__real(&a->x[1]);
    const REAL *more = attr->two_gates ? qn__real(&a->x[2]) : NULL, *dh = attr->has_dh ? qn__real(&a->x[at]) : NULL;
    const REAL *dnext = attr->has_dc ? qn__real(&a->x[a->n_in - 1]) : NULL;
    REAL *dgates = qn__real(&a->y), *dc = a->more[0].data ? qn__real(&a->more[0]) : NULL;
#pragma omp parallel for num_threads(qn__threads_for(a, 2 * a->y.count)) schedule(static)
    for (int64_t b = 0; b < rows; b++)
        grad_row(dgates + 4 * b * n, dc ? dc + b * n : NULL, gates + 4 * b * n, more ? more + 4 * b * n : NULL,
                 c + b * n, dh ? dh + b * n : NULL, dnext ? dnext + b * n : NULL, n);
    return QN_OK;
}

KERNEL(lstm_cell_grad) = { .variants = (const char *const[]){ "rows", NULL },
                           .pick = recurrent_pick,
                           .launch = launch };
