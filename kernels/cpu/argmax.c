/* argmax.c - y[o][d] = first r at which x[o][r][d] is largest; NaN counts as largest. */
#include "cpu.h"

enum { ROWS, COLUMNS, TILE = 256 };

struct extents {
    int64_t o, r, d;
};

static struct extents extents_of(const struct qn__args *a)
{
    const struct qn__reduce_attr *attr = a->attr;
    struct extents e = { 1, 1, 1 };
    bool after = false;
    for (int i = 0; i < a->x[0].rank; i++) {
        int64_t dim = a->x[0].dim[i];
        if (attr->axes >> i & 1) {
            e.r = dim;
            after = true;
        } else if (after) {
            e.d *= dim;
        } else {
            e.o *= dim;
        }
    }
    return e;
}

static qn_status pick(const struct qn__args *a, struct qn__choice *c)
{
    if (a->x[0].dtype != QN_REAL_DTYPE) return QN_EUSAGE;
    c->variant = extents_of(a).d == 1 ? ROWS : COLUMNS;
    return QN_OK;
}

/* Is v to replace the best so far? Only a number larger than it, or the first NaN. */
static inline bool better(REAL v, REAL best) { return v > best || (v != v && best == best); }

static int32_t of_row(const REAL *x, int64_t n)
{
    int32_t at = 0;
    for (int64_t i = 1; i < n; i++)
        if (better(x[i], x[at])) at = (int32_t)i;
    return at;
}

/* n <= TILE neighbours at once */
QN_CLONES static void of_columns(int32_t *y, const REAL *x, int64_t rows, int64_t stride, int64_t n)
{
    REAL best[TILE];
    for (int64_t j = 0; j < n; j++) {
        best[j] = x[j];
        y[j] = 0;
    }
    for (int64_t i = 1; i < rows; i++)
        for (int64_t j = 0; j < n; j++) {
            REAL v = x[i * stride + j];
            bool change = better(v, best[j]);
            best[j] = change ? v : best[j];
            y[j] = change ? (int32_t)i : y[j];
        }
}

static qn_status launch(const struct qn__step *s, qn_error *err)
{
    (void)err;
    struct extents e = extents_of(&s->args);
    if (s->args.y.count == 0) return QN_OK;
    const REAL *x = qn__real(&s->args.x[0]);
    int32_t *y = s->args.y.data;
    int threads = qn__threads_for(&s->args, s->args.x[0].count);
    if (s->choice.variant == ROWS) {
#pragma omp parallel for num_threads(threads) schedule(static)
        for (int64_t i = 0; i < e.o; i++) y[i] = of_row(x + i * e.r, e.r);
        return QN_OK;
    }
    int64_t tiles = (e.d + TILE - 1) / TILE;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t t = 0; t < e.o * tiles; t++) {
        int64_t o = t / tiles, d0 = t % tiles * TILE, n = e.d - d0 < TILE ? e.d - d0 : TILE;
        of_columns(y + o * e.d + d0, x + o * e.r * e.d + d0, e.r, e.d, n);
    }
    return QN_OK;
}

KERNEL(argmax) = { .variants = (const char *const[]){ "rows", "columns", NULL }, .pick = pick, .launch = launch };
