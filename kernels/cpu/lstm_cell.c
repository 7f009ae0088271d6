/* lstm_cell.c - gates [B,4H] i, f, g, o (and a second such, added), c [B,H] -> h' = s(o) tanh c'; if wanted
 * c' = s(f) c + s(i) tanh g. s: logistic function. */
#include "recurrent.h"

QN_CLONES static void step_row(REAL *h, REAL *next, const REAL *gates, const REAL *more, const REAL *c, int64_t n)
{
    for (int64_t j = 0; j < n; j++) {
        REAL i = gate(gates, more, j), f = gate(gates, more, n + j), g = gate(gates, more, 2 * n + j);
        REAL v = LOGISTIC(f) * c[j] + LOGISTIC(i) * TANH(g);
        if (next) next[j] = v;
        h[j] = LOGISTIC(gate(gates, more, 3 * n + j)) * TANH(v);
    }
}

static qn_status launch(const struct qn__step *step, qn_error *err)
{
    (void)err;
    const struct qn__args *a = &step->args;
    int64_t rows = a->y.dim[0], n = a->y.dim[1];
    const REAL *gates = qn__real(&a->x[0]), *c = qn__real(&a->x[1]), *more = a->n_in == 3 ? qn__real(&a->x[2]) : NULL;
    REAL *h = qn__real(&a->y), *next = a->more[0].data ? qn__real(&a->more[0]) : NULL;
#pragma omp parallel for num_threads(qn__threads_for(a, 8 * a->y.count)) schedule(static)
    for (int64_t b = 0; b < rows; b++)
        step_row(h + b * n, next ? next + b * n : NULL, gates + 4 * b * n, more ? more + 4 * b * n : NULL, c + b * n,
                 n);
    return QN_OK;
}

KERNEL(lstm_cell) = { .variants = (const char *const[]){ "rows", NULL }, .pick = recurrent_pick, .launch = launch };
