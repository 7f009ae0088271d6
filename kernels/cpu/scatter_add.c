/* scatter_add.c - y[o][j][inner] = sum over i with index[i] = j, in the order of i, of x[o][i][inner]. The positions
 * are sorted by index first (counting sort, stable); each row of y is then one sum, so the bits do not depend on the
 * threads and nothing is added twice at the same time. */
#include "index.h"

enum { TILE = 512 };

/* workspace: start[size + 1], then position[n] */
static qn_status pick(const struct qn__args *a, struct qn__choice *c)
{
    const struct qn__axis_attr *attr = a->attr;
    if (a->x[0].dtype != QN_REAL_DTYPE) return QN_EUSAGE;
    c->workspace = ((size_t)attr->size + 1 + (size_t)a->x[1].count) * sizeof(int64_t);
    return QN_OK;
}

/* start[j]..start[j+1] are the places in position[] of index j */
static void sort(const struct qn__view *index, int64_t size, int64_t *start, int64_t *position)
{
    memset(start, 0, ((size_t)size + 1) * sizeof *start);
    for (int64_t i = 0; i < index->count; i++) start[qn__index_at(index, i) + 1]++;
    for (int64_t j = 0; j < size; j++) start[j + 1] += start[j];
    for (int64_t i = 0; i < index->count; i++) position[start[qn__index_at(index, i)]++] = i;
    for (int64_t j = size; j > 0; j--) start[j] = start[j - 1];
    start[0] = 0;
}

/* n <= TILE neighbours; x rows `stride` apart */
QN_CLONES static void add_rows(REAL *y, const REAL *x, const int64_t *position, int64_t rows, int64_t stride, int64_t n)
{
    for (int64_t j = 0; j < n; j++) y[j] = 0;
    for (int64_t i = 0; i < rows; i++) {
        const REAL *from = x + position[i] * stride;
        for (int64_t j = 0; j < n; j++) y[j] += from[j];
    }
}

static qn_status launch(const struct qn__step *s, qn_error *err)
{
    const struct qn__axis_attr *attr = s->args.attr;
    const struct qn__view *x = &s->args.x[0], *index = &s->args.x[1], *y = &s->args.y;
    int64_t size = attr->size, n = index->count, outer = 1, inner = 1;
    QN_TRY(qn__index_check(index, size, "scatter_add", err));
    if (y->count == 0) return QN_OK;
    for (int i = 0; i < attr->axis; i++) outer *= y->dim[i];
    for (int i = attr->axis + 1; i < y->rank; i++) inner *= y->dim[i];
    int64_t *start = s->workspace, *position = start + size + 1;
    sort(index, size, start, position);
    int64_t tiles = (inner + TILE - 1) / TILE, tasks = outer * size * tiles;
#pragma omp parallel for num_threads(qn__threads_for(&s->args, x->count + y->count)) schedule(static)
    for (int64_t t = 0; t < tasks; t++) {
        int64_t d = t % tiles * TILE, j = t / tiles % size, o = t / tiles / size;
        add_rows(qn__real(y) + (o * size + j) * inner + d, qn__real(x) + o * n * inner + d, position + start[j],
                 start[j + 1] - start[j], inner, inner - d < TILE ? inner - d : TILE);
    }
    return QN_OK;
}

KERNEL(scatter_add) = { .variants = (const char *const[]){ "sorted", NULL }, .pick = pick, .launch = launch };
