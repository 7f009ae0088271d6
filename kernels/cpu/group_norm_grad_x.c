/* group_norm_grad_x.c - dx = r (u - mean u - xhat mean(u xhat)) + addend, u = gamma dy, over groups of channels, plain;
 * dx may be any of the operands. */
#include "group.h"

/* Sums of u = gamma dy and of u xhat over a channel. */
QN_INLINE void channel_sums(const REAL *x, const REAL *dy, int64_t n, struct norm_moments m, double gamma, double *a,
                            double *b)
{
    double sum[8] = { 0 }, product[8] = { 0 };
    int64_t whole = n & ~(int64_t)7;
    for (int64_t i = 0; i < whole; i += 8)
        for (int j = 0; j < 8; j++) {
            double u = gamma * (double)dy[i + j];
            sum[j] += u;
            product[j] += u * (double)((x[i + j] - m.mean) * m.r);
        }
    for (int64_t i = whole; i < n; i++) {
        double u = gamma * (double)dy[i];
        sum[i - whole] += u;
        product[i - whole] += u * (double)((x[i] - m.mean) * m.r);
    }
    *a = norm_join(sum);
    *b = norm_join(product);
}

QN_INLINE void grad_channel(REAL *dx, const REAL *x, const REAL *dy, const REAL *addend, int64_t n,
                            struct norm_moments m, REAL gamma, REAL a, REAL b)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        REAL v = m.r * (gamma * dy[i] - a - (x[i] - m.mean) * m.r * b);
        dx[i] = addend ? v + addend[i] : v;
    }
}

QN_CLONES static void grad_row(REAL *dx, const REAL *x, const REAL *dy, const REAL *gamma, const REAL *addend,
                               const struct groups *g)
{
    struct norm_moments m = norm_moments_of(x, g->width, g->eps, true);
    double a = 0, b = 0, sum, product;
    for (int64_t c = 0; c < g->channels; c++) {
        channel_sums(x + c * g->s, dy + c * g->s, g->s, m, (double)gamma[c], &sum, &product);
        a += sum;
        b += product;
    }
    REAL mean_a = (REAL)(a / (double)g->width), mean_b = (REAL)(b / (double)g->width);
    for (int64_t c = 0; c < g->channels; c++) {
        int64_t at = c * g->s;
        if (addend)
            grad_channel(dx + at, x + at, dy + at, addend + at, g->s, m, gamma[c], mean_a, mean_b);
        else
            grad_channel(dx + at, x + at, dy + at, NULL, g->s, m, gamma[c], mean_a, mean_b);
    }
}

static qn_status launch(const struct qn__step *step, qn_error *err)
{
    (void)err;
    const struct qn__args *a = &step->args;
    struct groups g = groups_of(a);
    REAL *dx = qn__real(&a->y);
    const REAL *x = qn__real(&a->x[0]), *dy = qn__real(&a->x[1]), *gamma = qn__real(&a->x[2]);
    const REAL *addend = a->n_in == 4 ? qn__real(&a->x[3]) : NULL;
#pragma omp parallel for num_threads(qn__threads_for(a, a->y.count)) schedule(static)
    for (int64_t i = 0; i < (g.width ? g.rows : 0); i++) {
        int64_t at = i * g.width;
        grad_row(dx + at, x + at, dy + at, gamma + first_channel(&g, i), addend ? addend + at : NULL, &g);
    }
    return QN_OK;
}

KERNEL(group_norm_grad_x) = { .variants = (const char *const[]){ "rows", NULL }, .pick = norm_pick, .launch = launch };
