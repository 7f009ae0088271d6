/* softmax.h - what the row kernels share: rows of the last axis, split over threads by row. */
#ifndef QN_KERNELS_CPU_SOFTMAX_H
#define QN_KERNELS_CPU_SOFTMAX_H
#include "cpu.h"
#include "vecmath.h"

struct rows {
    int64_t n, width;
};
static inline struct rows rows_of(const struct qn__view *v)
{
    int64_t width = v->dim[v->rank - 1];
    return (struct rows){ width ? v->count / width : 0, width };
}

/* One row of the result from that of the first operand and of the second (NULL if there is none). */
typedef void row_fn(REAL *y, const REAL *a, const REAL *b, int64_t n);
static inline qn_status rows_run(const struct qn__args *args, row_fn *fn)
{
    struct rows r = rows_of(&args->y);
    REAL *y = qn__real(&args->y);
    const REAL *a = qn__real(&args->x[0]), *b = args->n_in > 1 ? qn__real(&args->x[1]) : NULL;
#pragma omp parallel for num_threads(qn__threads_for(args, args->y.count)) schedule(static)
    for (int64_t i = 0; i < r.n; i++) fn(y + i * r.width, a + i * r.width, b ? b + i * r.width : NULL, r.width);
    return QN_OK;
}

/* The kernel of an operator whose row function is `fn`. */
#define QN_ROWS_KERNEL(op, fn) \
    static qn_status launch(const struct qn__step *s, qn_error *err) \
    { \
        (void)err; \
        return rows_run(&s->args, fn); \
    } \
    KERNEL(op) = { .variants = (const char *const[]){ "rows", NULL }, .launch = launch }

/* NaN if one is, so that a bad row stays visible. */
static inline REAL row_max(const REAL *x, int64_t n)
{
    REAL m = -(REAL)INFINITY;
    bool nan = false;
    for (int64_t i = 0; i < n; i++) {
        m = x[i] > m ? x[i] : m;
        nan = nan || x[i] != x[i];
    }
    return nan ? (REAL)NAN : m;
}

/* sum e^(x - max) in double; a row of -inf only has max -inf and gives NaN, as the definition does. */
static inline double row_sum_exp(const REAL *x, int64_t n, REAL max)
{
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)EXP(x[i] - max);
    return sum;
}
#endif
