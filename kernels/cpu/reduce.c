/* reduce.c - the loops of reduce.h. */
#include "reduce.h"

const char *const QN_CAT(qn__reduce_variants, KIND)[] = { "rows", "columns", "strided", NULL };

/* ---- geometry ------------------------------------------------------------------------------------ */

struct extents {
    bool fits;
    int64_t o, a, k, r, d;
    /* elements of each extent in one task; tasks per extent */
    int64_t a_step, k_step, r_step, d_step, na, nk, nr, nd;
};

/* The axes in physical order, each kept or reduced, neighbours of one kind merged. */
static int physical_axes(const struct qn__view *x, uint32_t axes, int64_t *size, bool *reduced)
{
    int n = 0;
    for (int i = 0; i <= x->rank; i++) {
        bool tail = i == x->rank;
        if (tail && x->block == QN_PLAIN) break;
        int64_t extent = tail ? x->block : i == 1 && x->rank == 4 ? x->dim[1] / x->block : x->dim[i];
        bool flag = axes >> (tail ? 1 : i) & 1;
        if (extent == 1) continue;
        if (n > 0 && reduced[n - 1] == flag) {
            size[n - 1] *= extent;
        } else {
            size[n] = extent;
            reduced[n++] = flag;
        }
    }
    return n;
}

static int64_t take(const int64_t *size, const bool *reduced, int *n, bool wanted)
{
    return *n > 0 && reduced[*n - 1] == wanted ? size[--*n] : 1;
}

static int64_t clamp(int64_t x, int64_t low, int64_t high) { return x > high ? high : x < low ? low : x; }
static int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

static int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }

/* A task reads about QN_REDUCE_GRAIN elements, and at least QN_REDUCE_DEPTH for each result that it leaves, so that
 * the results of blocks are few beside what they are made from; it has at most QN_REDUCE_ACC accumulators. */
static void partition(struct extents *e)
{
    e->d_step = clamp(e->d, 1, QN_REDUCE_ACC);
    e->r_step = clamp(max64(ceil_div(QN_REDUCE_GRAIN, e->d_step), QN_REDUCE_DEPTH), 1, max64(e->r, 1));
    if (e->r < 2 * e->r_step) e->r_step = max64(e->r, 1);
    int64_t line = e->r_step * e->d_step;
    e->k_step = clamp(ceil_div(QN_REDUCE_GRAIN, line), 1, clamp(e->k, 1, QN_REDUCE_ACC / e->d_step));
    e->a_step = max64(ceil_div(QN_REDUCE_GRAIN, line * e->k_step), ceil_div(QN_REDUCE_DEPTH, e->r_step));
    e->a_step = clamp(e->a_step, 1, max64(e->a, 1));
    e->na = ceil_div(e->a, e->a_step);
    e->nk = ceil_div(e->k, e->k_step);
    e->nr = ceil_div(e->r, e->r_step);
    e->nd = ceil_div(e->d, e->d_step);
}

static struct extents extents_of(const struct qn__args *args)
{
    const struct qn__reduce_attr *attr = args->attr;
    int64_t size[QN_MAX_DIMS + 1];
    bool reduced[QN_MAX_DIMS + 1];
    int n = physical_axes(&args->x[0], attr->axes, size, reduced);
    struct extents e;
    memset(&e, 0, sizeof e);
    e.d = take(size, reduced, &n, false);
    e.r = take(size, reduced, &n, true);
    e.k = take(size, reduced, &n, false);
    e.a = take(size, reduced, &n, true);
    e.o = take(size, reduced, &n, false);
    e.fits = n == 0;
    partition(&e);
    return e;
}

/* Kept axes of a blocked operand must leave in the order of the plain result: C/b then b, nothing between. */
static bool order_kept(const struct qn__view *x, uint32_t axes)
{
    bool channels = !(axes >> 1 & 1), space = (axes >> 2 & 3) == 3;
    return x->block == QN_PLAIN || !channels || space;
}

qn_status QN_CAT(qn__reduce_pick, KIND)(const struct qn__args *a, struct qn__choice *c)
{
    const struct qn__reduce_attr *attr = a->attr;
    if (a->x[0].dtype != QN_REAL_DTYPE || !order_kept(&a->x[0], attr->axes)) return QN_EUSAGE;
    struct extents e = extents_of(a);
    c->variant = !e.fits ? QN_REDUCE_STRIDED : e.d == 1 ? QN_REDUCE_ROWS : QN_REDUCE_COLUMNS;
    if (!e.fits && a->x[0].block != QN_PLAIN) return QN_EUSAGE;
    int64_t blocks = e.na * e.nr;
    if (e.fits && blocks > 1) c->workspace = (size_t)blocks * (size_t)a->y.count * sizeof(double);
    return QN_OK;
}

/* ---- blocks ---------------------------------------------------------------------------------------- */

static int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }

/* One task: block (ia, ir) of o, channels of ik, lanes of id. */
static void run_task(const struct qn__step *s, const struct qn__reducer *f, const struct extents *e, int64_t task)
{
    double acc[QN_REDUCE_ACC];
    int64_t id = task % e->nd, ik = task / e->nd % e->nk, block = task / e->nd / e->nk;
    int64_t ir = block % e->nr, ia = block / e->nr % e->na, o = block / e->nr / e->na;
    int64_t d0 = id * e->d_step, d = min64(e->d_step, e->d - d0), k0 = ik * e->k_step;
    int64_t k = min64(e->k_step, e->k - k0), r0 = ir * e->r_step, r = min64(e->r_step, e->r - r0);
    int64_t a1 = min64((ia + 1) * e->a_step, e->a);
    for (int64_t i = 0; i < k * d; i++) acc[i] = f->identity;
    for (int64_t a = ia * e->a_step; a < a1; a++)
        for (int64_t i = 0; i < k; i++) {
            const REAL *x = qn__real(&s->args.x[0]) + (((o * e->a + a) * e->k + k0 + i) * e->r + r0) * e->d + d0;
            if (e->d == 1)
                acc[i] = f->row(acc[i], x, r);
            else
                f->column(acc + i * d, x, r, e->d, d);
        }
    bool last = e->na * e->nr == 1;
    REAL *y = qn__real(&s->args.y);
    double *part = (double *)s->workspace + (last ? 0 : (block % (e->na * e->nr)) * s->args.y.count);
    for (int64_t i = 0; i < k; i++)
        for (int64_t j = 0; j < d; j++) {
            int64_t at = (o * e->k + k0 + i) * e->d + d0 + j;
            if (last)
                y[at] = (REAL)acc[i * d + j];
            else
                part[at] = acc[i * d + j];
        }
}

static void join_blocks(const struct qn__step *s, const struct qn__reducer *f, const struct extents *e)
{
    int64_t n = s->args.y.count, blocks = e->na * e->nr;
    const double *part = s->workspace;
    REAL *y = qn__real(&s->args.y);
#pragma omp parallel for num_threads(qn__threads_for(&s->args, n *blocks)) schedule(static)
    for (int64_t i = 0; i < n; i++) {
        double acc = part[i];
        for (int64_t b = 1; b < blocks; b++) acc = f->join(acc, part[b * n + i]);
        y[i] = (REAL)acc;
    }
}

/* ---- any alternation of axes -------------------------------------------------------------------------- */

static int64_t offset_of(int64_t index, int n, const int64_t *dim, const int64_t *stride)
{
    int64_t at = 0;
    for (int i = n - 1; i >= 0; i--) {
        at += index % dim[i] * stride[i];
        index /= dim[i];
    }
    return at;
}

static void run_strided(const struct qn__step *s, const struct qn__reducer *f)
{
    const struct qn__view *x = &s->args.x[0];
    const struct qn__reduce_attr *attr = s->args.attr;
    int64_t dim[2][QN_MAX_DIMS], stride[2][QN_MAX_DIMS], step = 1, reduced = 1;
    int n[2] = { 0, 0 };
    for (int i = x->rank - 1; i >= 0; i--) {
        int side = attr->axes >> i & 1;
        dim[side][n[side]] = x->dim[i];
        stride[side][n[side]++] = step;
        if (side) reduced *= x->dim[i];
        step *= x->dim[i];
    }
    for (int side = 0; side < 2; side++) /* outermost first */
        for (int i = 0; i < n[side] / 2; i++) {
            int j = n[side] - 1 - i;
            int64_t t = dim[side][i], u = stride[side][i];
            dim[side][i] = dim[side][j];
            stride[side][i] = stride[side][j];
            dim[side][j] = t;
            stride[side][j] = u;
        }
    int64_t count = s->args.y.count;
#pragma omp parallel for num_threads(qn__threads_for(&s->args, x->count)) schedule(static)
    for (int64_t i = 0; i < count; i++) {
        const REAL *from = qn__real(x) + offset_of(i, n[0], dim[0], stride[0]);
        double acc = f->identity;
        for (int64_t j = 0; j < reduced; j++) acc = f->row(acc, from + offset_of(j, n[1], dim[1], stride[1]), 1);
        qn__real(&s->args.y)[i] = (REAL)acc;
    }
}

void QN_CAT(qn__reduce_launch, KIND)(const struct qn__step *s, const struct qn__reducer *f)
{
    if (s->args.y.count == 0) return;
    if (s->choice.variant == QN_REDUCE_STRIDED) {
        run_strided(s, f);
        return;
    }
    struct extents e = extents_of(&s->args);
    if (e.na * e.nr == 0) { /* nothing to reduce */
        for (int64_t i = 0; i < s->args.y.count; i++) qn__real(&s->args.y)[i] = (REAL)f->identity;
        return;
    }
    int64_t tasks = e.o * e.na * e.nr * e.nk * e.nd;
#pragma omp parallel for num_threads(qn__threads_for(&s->args, s->args.x[0].count)) schedule(static)
    for (int64_t t = 0; t < tasks; t++) run_task(s, f, &e, t);
    if (e.na * e.nr > 1) join_blocks(s, f, &e);
}
