/* matmul.c - Y[..,m,n] = act(sum_k A'[..,m,k] B'[..,k,n] + bias[n]), A' = A or A^T, row-major.
 *
 *   loops    one row of Y at a time, k in order: the definition, and the oracle in double
 *   tiles    packed strips and 6 x 16 sums in registers (gemm.h), for single products with wide rows of B, where the
 *            library does not pack and takes a quarter more time
 *   onednn   one oneDNN matmul, its bias and activation included: all other large ones */
#include "dnn.h"
#include "epilogue.h"
#include "gemm.h"

enum { LOOPS, TILES, ONEDNN };

/* Below this many products the way into the library costs more than the loops. */
enum { ONEDNN_MIN = 4096 };

struct shape {
    int64_t m, n, k, a_row, a_col, b_row, b_col;
};

static struct shape shape_of(const struct qn__args *a)
{
    const struct qn__matmul_attr *attr = a->attr;
    const struct qn__view *x = &a->x[0], *y = &a->y;
    struct shape s = { .m = y->dim[y->rank - 2], .n = y->dim[y->rank - 1], .k = x->dim[x->rank - (attr->ta ? 2 : 1)] };
    s.a_row = attr->ta ? 1 : s.k;
    s.a_col = attr->ta ? s.m : 1;
    s.b_row = attr->tb ? 1 : s.n;
    s.b_col = attr->tb ? s.k : 1;
    return s;
}

/* The matrix of operand x that belongs to matrix `batch` of y, its leading dims broadcast. */
static const REAL *matrix_of(const struct qn__view *x, const struct qn__view *y, int64_t batch)
{
    int64_t at = 0, stride = 1;
    for (int i = y->rank - 3, j = x->rank - 3; j >= 0; i--, j--) {
        int64_t index = batch % y->dim[i];
        batch /= y->dim[i];
        if (x->dim[j] != 1) at += index * stride;
        stride *= x->dim[j];
    }
    return qn__real(x) + at * x->dim[x->rank - 1] * x->dim[x->rank - 2];
}

QN_CLONES static void row_of(REAL *restrict y, const REAL *restrict a, const REAL *restrict b, const struct shape *s)
{
    for (int64_t j = 0; j < s->n; j++) y[j] = 0;
    if (s->b_col == 1)
        for (int64_t k = 0; k < s->k; k++)
            for (int64_t j = 0; j < s->n; j++) y[j] += a[k * s->a_col] * b[k * s->b_row + j];
    else
        for (int64_t j = 0; j < s->n; j++)
            for (int64_t k = 0; k < s->k; k++) y[j] += a[k * s->a_col] * b[k * s->b_row + j * s->b_col];
}

static void loops(const struct qn__args *a)
{
    const struct qn__matmul_attr *attr = a->attr;
    struct shape s = shape_of(a);
    if (a->y.count == 0) return;
    int64_t rows = a->y.count / s.n;
    const REAL *bias = attr->epilogue.has_bias ? qn__real(&a->x[2]) : NULL;
#pragma omp parallel for num_threads(qn__threads_for(a, a->y.count *(s.k + 1)))
    for (int64_t r = 0; r < rows; r++) {
        int64_t batch = r / s.m, i = r % s.m;
        REAL *y = qn__real(&a->y) + r * s.n;
        row_of(y, matrix_of(&a->x[0], &a->y, batch) + i * s.a_row, matrix_of(&a->x[1], &a->y, batch), &s);
        for (int64_t j = 0; bias && j < s.n; j++) y[j] += bias[j];
        for (int64_t j = 0; attr->epilogue.act && j < s.n; j++) y[j] = qn__activate(y[j], &attr->epilogue);
    }
}

static void add_row_bias(const struct qn__args *a, int64_t rows, int64_t n)
{
    const REAL *bias = qn__real(&a->x[2]);
#pragma omp parallel for num_threads(qn__threads_for(a, a->y.count))
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < n; j++) qn__real(&a->y)[i * n + j] += bias[j];
}

/* ---- tiles ----------------------------------------------------------------------------------------- */

/* The product as one of two matrices, leading dims taken into the rows; false if it is a batch of several. */
static bool single_product(const struct qn__args *a, struct qn__gemm *g)
{
    const struct qn__matmul_attr *attr = a->attr;
    struct shape s = shape_of(a);
    if (s.m == 0 || s.n == 0 || s.k == 0 || a->y.count == 0) return false;
    int64_t rows = a->y.count / s.n;
    *g = (struct qn__gemm){ rows, s.n, s.k, s.a_row, s.a_col, s.b_row, s.b_col, a->threads };
    return rows == s.m || (a->x[1].rank == 2 && !attr->ta && a->x[0].count == rows * s.k);
}

/* Where it was faster than the library (benchmarks/kernels_cpu/conv.c). */
static bool tiles_fit(const struct qn__args *a, struct qn__gemm *g)
{
    return QN_IS_F32 && qn__gemm_supported() && single_product(a, g) && g->b_col == 1 && g->m >= 24 && g->n >= 256 &&
           g->k >= 32;
}

static void tiles(const struct qn__step *s)
{
    const struct qn__args *a = &s->args;
    const struct qn__matmul_attr *attr = a->attr;
    struct qn__gemm g;
    if (!single_product(a, &g)) return;
    qn__gemm_run(&g, a->y.data, a->x[0].data, a->x[1].data, s->workspace);
    if (attr->epilogue.has_bias) add_row_bias(a, g.m, g.n);
    if (attr->epilogue.act) qn__activate_all(a, &attr->epilogue);
}

static qn_status pick(const struct qn__args *a, struct qn__choice *c)
{
    for (int i = 0; i < a->n_in; i++)
        if (a->x[i].dtype != QN_REAL_DTYPE) return QN_EUSAGE;
    struct shape s = shape_of(a);
    struct qn__gemm g;
    if (tiles_fit(a, &g)) {
        c->variant = TILES;
        c->workspace = qn__gemm_workspace(&g);
        return QN_OK;
    }
    bool large = QN_IS_F32 && a->y.count > 0 && s.k > 0 && a->y.count * s.k >= ONEDNN_MIN;
    c->variant = large && qn__dnn_matmul_fits(a, &c->workspace) ? ONEDNN : LOOPS;
    return QN_OK;
}

static qn_status prepare(struct qn__step *s, qn_error *err)
{
    return s->choice.variant == ONEDNN ? qn__dnn_matmul(s, err) : QN_OK;
}

static qn_status launch(const struct qn__step *s, qn_error *err)
{
    const struct qn__matmul_attr *attr = s->args.attr;
    if (s->choice.variant == LOOPS) {
        loops(&s->args);
        return QN_OK;
    }
    if (s->choice.variant == TILES) {
        tiles(s);
        return QN_OK;
    }
    QN_TRY(qn__dnn_launch(s, err));
    if (!qn__dnn_activates(&attr->epilogue)) qn__activate_all(&s->args, &attr->epilogue);
    return QN_OK;
}

KERNEL(matmul) = { .variants = (const char *const[]){ "loops", QN_F32_ONLY("tiles"), QN_F32_ONLY("onednn"), NULL },
                   .pick = pick,
                   .prepare = prepare,
                   .bind = qn__dnn_bind,
                   .launch = launch,
                   .release = qn__dnn_release };
