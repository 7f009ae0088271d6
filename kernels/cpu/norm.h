/* norm.h - rows of the last axis, for the kernels of layer_norm and rms_norm. A row is read from memory once and then
 * again from the cache: first for its mean and deviation, in double and in eight lanes, then for what is done with it.
 * `centred` (layer_norm) is a constant at each call, so both kinds come from one source. */
#ifndef QN_KERNELS_CPU_NORM_H
#define QN_KERNELS_CPU_NORM_H
#include "cpu.h"

#define QN_INLINE static inline __attribute__((always_inline))

struct norm_rows {
    int64_t n, width;
};
static inline struct norm_rows norm_rows_of(const struct qn__view *x)
{
    int64_t width = x->dim[x->rank - 1];
    return (struct norm_rows){ width ? x->count / width : 0, width };
}

static inline qn_status norm_pick(const struct qn__args *a, struct qn__choice *c)
{
    c->variant = 0;
    return a->x[0].dtype == QN_REAL_DTYPE ? QN_OK : QN_EUSAGE;
}

QN_INLINE double norm_join(const double *lane)
{
    return ((lane[0] + lane[4]) + (lane[1] + lane[5])) + ((lane[2] + lane[6]) + (lane[3] + lane[7]));
}

struct norm_moments {
    REAL mean, r;
};

/* Mean (0 unless centred) and 1 / sqrt(mean square of the distance to it + eps). */
QN_INLINE struct norm_moments norm_moments_of(const REAL *x, int64_t n, double eps, bool centred)
{
    double lane[8] = { 0 }, mean = 0;
    int64_t whole = n & ~(int64_t)7;
    if (centred) {
        for (int64_t i = 0; i < whole; i += 8)
            for (int j = 0; j < 8; j++) lane[j] += (double)x[i + j];
        for (int64_t i = whole; i < n; i++) lane[i - whole] += (double)x[i];
        mean = norm_join(lane) / (double)n;
        memset(lane, 0, sizeof lane);
    }
    for (int64_t i = 0; i < whole; i += 8)
        for (int j = 0; j < 8; j++) {
            double d = (double)x[i + j] - mean;
            lane[j] += d * d;
        }
    for (int64_t i = whole; i < n; i++) {
        double d = (double)x[i] - mean;
        lane[i - whole] += d * d;
    }
    return (struct norm_moments){ (REAL)mean, (REAL)(1 / sqrt(norm_join(lane) / (double)n + eps)) };
}

/* A kernel of rows: `run` splits them over threads, `fn` is the row of this operator. */
#define QN_NORM_KERNEL(op, run, fn) \
    static qn_status launch(const struct qn__step *s, qn_error *err) \
    { \
        (void)err; \
        run(&s->args, fn); \
        return QN_OK; \
    } \
    KERNEL(op) = { .variants = (const char *const[]){ "rows", NULL }, .pick = norm_pick, .launch = launch }

static inline double norm_eps(const struct qn__args *a) { return ((const struct qn__norm_attr *)a->attr)->eps; }
static inline const REAL *norm_operand(const struct qn__args *a, int i)
{
    return i < a->n_in ? qn__real(&a->x[i]) : NULL;
}

/* ---- forward ------------------------------------------------------------------------------------------- */

/* y = gamma xhat + beta; y may be x. */
QN_INLINE void norm_apply(REAL *y, const REAL *x, const REAL *gamma, const REAL *beta, int64_t n, struct norm_moments m,
                          bool centred)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        REAL v = centred ? (x[i] - m.mean) * m.r : x[i] * m.r;
        y[i] = centred ? v * gamma[i] + beta[i] : v * gamma[i];
    }
}

/* A row of y from x; beta NULL for rms_norm. */
typedef void norm_row_fn(REAL *y, const REAL *x, const REAL *gamma, const REAL *beta, int64_t n, double eps);
static inline void norm_forward(const struct qn__args *a, norm_row_fn *fn)
{
    struct norm_rows r = norm_rows_of(&a->y);
    REAL *y = qn__real(&a->y);
    const REAL *x = norm_operand(a, 0), *gamma = norm_operand(a, 1), *beta = norm_operand(a, 2);
#pragma omp parallel for num_threads(qn__threads_for(a, a->y.count)) schedule(static)
    for (int64_t i = 0; i < r.n; i++) fn(y + i * r.width, x + i * r.width, gamma, beta, r.width, norm_eps(a));
}

/* A row of y = p + q, and of its norm if that is not NULL. */
typedef void norm_add_fn(REAL *y, REAL *norm, const REAL *p, const REAL *q, const REAL *gamma, const REAL *beta,
                         int64_t n, double eps);
static inline void norm_add(const struct qn__args *a, norm_add_fn *fn)
{
    struct norm_rows r = norm_rows_of(&a->y);
    REAL *y = qn__real(&a->y), *norm = a->more[0].data ? qn__real(&a->more[0]) : NULL;
    const REAL *p = norm_operand(a, 0), *q = norm_operand(a, 1);
    const REAL *gamma = norm_operand(a, 2), *beta = norm_operand(a, 3);
#pragma omp parallel for num_threads(qn__threads_for(a, a->y.count)) schedule(static)
    for (int64_t i = 0; i < r.n; i++) {
        int64_t at = i * r.width;
        fn(y + at, norm ? norm + at : NULL, p + at, q + at, gamma, beta, r.width, norm_eps(a));
    }
}
QN_INLINE void norm_add_row(REAL *y, REAL *norm, const REAL *p, const REAL *q, const REAL *gamma, const REAL *beta,
                            int64_t n, double eps, bool centred)
{
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] = p[i] + q[i];
    if (norm) norm_apply(norm, y, gamma, beta, n, norm_moments_of(y, n, eps, centred), centred);
}

/* ---- gradient of x ------------------------------------------------------------------------------------- */

/* dx = r (u - mean u - xhat mean(u xhat)) + more, u = gamma dy; dx may be any of the operands. */
QN_INLINE void norm_grad_row(REAL *dx, const REAL *x, const REAL *dy, const REAL *gamma, const REAL *more, int64_t n,
                             double eps, bool centred)
{
    struct norm_moments m = norm_moments_of(x, n, eps, centred);
    double sum[8] = { 0 }, product[8] = { 0 };
    int64_t whole = n & ~(int64_t)7;
    for (int64_t i = 0; i < whole; i += 8)
        for (int j = 0; j < 8; j++) {
            REAL u = gamma[i + j] * dy[i + j], xhat = centred ? (x[i + j] - m.mean) * m.r : x[i + j] * m.r;
            sum[j] += (double)u;
            product[j] += (double)u * (double)xhat;
        }
    for (int64_t i = whole; i < n; i++) {
        REAL u = gamma[i] * dy[i], xhat = centred ? (x[i] - m.mean) * m.r : x[i] * m.r;
        sum[i - whole] += (double)u;
        product[i - whole] += (double)u * (double)xhat;
    }
    REAL a = centred ? (REAL)(norm_join(sum) / (double)n) : 0, b = (REAL)(norm_join(product) / (double)n);
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
        REAL xhat = centred ? (x[i] - m.mean) * m.r : x[i] * m.r, u = gamma[i] * dy[i];
        REAL v = m.r * ((centred ? u - a : u) - xhat * b);
        dx[i] = more ? v + more[i] : v;
    }
}

/* A row of dx; addend NULL if there is none. */
typedef void norm_grad_fn(REAL *dx, const REAL *x, const REAL *dy, const REAL *gamma, const REAL *addend, int64_t n,
                          double eps);
static inline void norm_grad_x(const struct qn__args *a, norm_grad_fn *fn)
{
    struct norm_rows r = norm_rows_of(&a->y);
    REAL *dx = qn__real(&a->y);
    const REAL *x = norm_operand(a, 0), *dy = norm_operand(a, 1), *gamma = norm_operand(a, 2);
    const REAL *addend = norm_operand(a, 3);
#pragma omp parallel for num_threads(qn__threads_for(a, a->y.count)) schedule(static)
    for (int64_t i = 0; i < r.n; i++) {
        int64_t at = i * r.width;
        fn(dx + at, x + at, dy + at, gamma, addend ? addend + at : NULL, r.width, norm_eps(a));
    }
}
/* `addend` is known to be there or not in each call, so that the loops have no test inside. */
QN_INLINE void norm_grad_rows(REAL *dx, const REAL *x, const REAL *dy, const REAL *gamma, const REAL *addend, int64_t n,
                              double eps, bool centred)
{
    if (addend)
        norm_grad_row(dx, x, dy, gamma, addend, n, eps, centred);
    else
        norm_grad_row(dx, x, dy, gamma, NULL, n, eps, centred);
}

/* ---- sums over rows ------------------------------------------------------------------------------------ */

/* Rows are added in this many parts, whatever the number of threads, and the parts in order. */
enum { NORM_PARTS = 16 };

/* Workspace: [parts][2][width] doubles; for one sum, its half is not used. */
static inline qn_status norm_pick_sums(const struct qn__args *a, struct qn__choice *c)
{
    struct norm_rows r = norm_rows_of(&a->x[0]);
    QN_TRY(norm_pick(a, c));
    if (!qn__mul(&c->workspace, 2 * NORM_PARTS * sizeof(double), (size_t)r.width)) return QN_EUSAGE;
    if (c->workspace == 0) c->workspace = sizeof(double); /* rows without elements, too, get an address */
    return QN_OK;
}

/* gamma_sum += dy xhat, beta_sum += dy over some rows. */
QN_INLINE void norm_sum_rows(double *gamma_sum, double *beta_sum, const REAL *x, const REAL *dy, int64_t begin,
                             int64_t end, int64_t n, double eps, bool centred)
{
    memset(gamma_sum, 0, (size_t)n * sizeof *gamma_sum);
    if (centred) memset(beta_sum, 0, (size_t)n * sizeof *beta_sum);
    for (int64_t r = begin; r < end; r++) {
        const REAL *row = x + r * n, *d = dy + r * n;
        struct norm_moments m = norm_moments_of(row, n, eps, centred);
        for (int64_t i = 0; i < n; i++) {
            REAL xhat = centred ? (row[i] - m.mean) * m.r : row[i] * m.r;
            gamma_sum[i] += (double)d[i] * (double)xhat;
            if (centred) beta_sum[i] += (double)d[i];
        }
    }
}

/* y[i] = sum over parts of part[i], parts `stride` apart. */
static inline void norm_join_parts(REAL *y, const double *part, int64_t n, int64_t stride)
{
    for (int64_t i = 0; i < n; i++) {
        double sum = part[i];
        for (int p = 1; p < NORM_PARTS; p++) sum += part[p * stride + i];
        y[i] = (REAL)sum;
    }
}
#endif
