/* group_norm_grad_w.c - x, dy [N,C,..], plain -> dgamma [C] = sum over samples and what lies behind a channel of dy
 * xhat; if wanted dbeta [C] = sum of dy. A thread takes whole groups, and adds their samples in order. */
#include "group.h"

QN_CLONES static void sum_group(double *gamma_sum, double *beta_sum, const REAL *x, const REAL *dy,
                                const struct groups *g)
{
    struct norm_moments m = norm_moments_of(x, g->width, g->eps, true);
    for (int64_t c = 0; c < g->channels; c++) {
        const REAL *row = x + c * g->s, *d = dy + c * g->s;
        double sum[8] = { 0 }, product[8] = { 0 };
        int64_t whole = g->s & ~(int64_t)7;
        for (int64_t i = 0; i < whole; i += 8)
            for (int j = 0; j < 8; j++) {
                sum[j] += (double)d[i + j];
                product[j] += (double)d[i + j] * (double)((row[i + j] - m.mean) * m.r);
            }
        for (int64_t i = whole; i < g->s; i++) {
            sum[i - whole] += (double)d[i];
            product[i - whole] += (double)d[i] * (double)((row[i] - m.mean) * m.r);
        }
        gamma_sum[c] += norm_join(product);
        beta_sum[c] += norm_join(sum);
    }
}

static qn_status pick(const struct qn__args *a, struct qn__choice *c)
{
    QN_TRY(norm_pick(a, c));
    return qn__mul(&c->workspace, 2 * sizeof(double), (size_t)a->x[0].dim[1]) ? QN_OK : QN_EUSAGE;
}

static qn_status launch(const struct qn__step *step, qn_error *err)
{
    (void)err;
    const struct qn__args *a = &step->args;
    struct groups g = groups_of(a);
    const REAL *x = qn__real(&a->x[0]), *dy = qn__real(&a->x[1]);
    REAL *dgamma = qn__real(&a->y), *dbeta = a->more[0].data ? qn__real(&a->more[0]) : NULL;
    int64_t channels = g.groups * g.channels, samples = g.width ? a->x[0].dim[0] : 0;
    double *sums = step->workspace;
#pragma omp parallel for num_threads(qn__threads_for(a, a->x[0].count)) schedule(static)
    for (int64_t group = 0; group < g.groups; group++) {
        int64_t c = group * g.channels;
        memset(sums + c, 0, (size_t)g.channels * sizeof *sums);
        memset(sums + channels + c, 0, (size_t)g.channels * sizeof *sums);
        for (int64_t n = 0; n < samples; n++) {
            int64_t at = (n * g.groups + group) * g.width;
            sum_group(sums + c, sums + channels + c, x + at, dy + at, &g);
        }
    }
    for (int64_t c = 0; c < channels; c++) {
        dgamma[c] = (REAL)sums[c];
        if (dbeta) dbeta[c] = (REAL)sums[channels + c];
    }
    return QN_OK;
}

KERNEL(group_norm_grad_w) = { .variants = (const char *const[]){ "groups", NULL }, .pick = pick, .launch = launch };
