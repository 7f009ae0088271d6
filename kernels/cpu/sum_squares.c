/* sum_squares.c - y = sum of x^2 over everything, in double, by blocks of fixed size: any physical order will do, and
 * squares of floats neither overflow nor underflow on the way. */
#include "cpu.h"

enum { BLOCK = 16384, LANES = 16 };

static int64_t blocks_of(int64_t n) { return (n + BLOCK - 1) / BLOCK; }

QN_CLONES static double block_sum(const REAL *x, int64_t n)
{
    double s[LANES] = { 0 };
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++) s[j] += (double)x[i + j] * (double)x[i + j];
    for (int j = 0; i < n; i++, j++) s[j] += (double)x[i] * (double)x[i];
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int j = 0; j < half; j++) s[j] += s[j + half];
    return s[0];
}

static qn_status pick(const struct qn__args *a, struct qn__choice *c)
{
    if (a->x[0].dtype != QN_REAL_DTYPE) return QN_EUSAGE;
    c->workspace = (size_t)blocks_of(a->x[0].count) * sizeof(double);
    return QN_OK;
}

static qn_status launch(const struct qn__step *s, qn_error *err)
{
    (void)err;
    const REAL *x = qn__real(&s->args.x[0]);
    int64_t n = s->args.x[0].count, blocks = blocks_of(n);
    double *part = s->workspace, sum = 0;
#pragma omp parallel for num_threads(qn__threads_for(&s->args, n)) schedule(static)
    for (int64_t b = 0; b < blocks; b++)
        part[b] = block_sum(x + b * BLOCK, n - b * BLOCK < BLOCK ? n - b * BLOCK : BLOCK);
    for (int64_t b = 0; b < blocks; b++) sum += part[b];
    *qn__real(&s->args.y) = (REAL)sum;
    return QN_OK;
}

KERNEL(sum_squares) = { .variants = (const char *const[]){ "blocks", NULL }, .pick = pick, .launch = launch };
