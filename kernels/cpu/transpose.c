/* transpose.c - y.dim[i] = x.dim[perm[i]]. If the last dimension stays, rows are copied; else matrices of the last
 * dimensions of x and of y are turned over, in pieces. */
#include "move.h"

enum { COPY, TURN, ROWS = 256, COLUMNS = 64 };

/* y as a box: to its own strides, from x's in the order of y's axes. */
static struct qn__box box_of(const struct qn__args *a)
{
    const struct qn__transpose_attr *attr = a->attr;
    const struct qn__view *x = &a->x[0], *y = &a->y;
    struct qn__box b = { .rank = y->rank };
    int64_t x_stride[QN_MAX_DIMS], size = (int64_t)qn_dtype_size(y->dtype), x_step = size, y_step = size;
    for (int i = y->rank - 1; i >= 0; i--) {
        x_stride[i] = x_step;
        b.to[i] = y_step;
        b.dim[i] = y->dim[i];
        x_step *= x->dim[i];
        y_step *= y->dim[i];
    }
    for (int i = 0; i < y->rank; i++) b.from[i] = x_stride[attr->perm[i]];
    return QN_CAT(qn__merge_box, KIND)(&b);
}

static qn_status pick(const struct qn__args *a, struct qn__choice *c)
{
    struct qn__box b = box_of(a);
    bool rows_stay = b.rank == 0 || b.from[b.rank - 1] == (int64_t)qn_dtype_size(a->y.dtype);
    c->variant = rows_stay || a->y.count == 0 ? COPY : TURN;
    return QN_OK;
}

/* Element i of matrix row and j of its column; the other axes are outer. */
static void turn(const struct qn__args *a, const struct qn__box *b)
{
    size_t size = qn_dtype_size(a->y.dtype);
    int last = b->rank - 1, across = 0;
    int64_t step = (int64_t)size, outer = 1;
    while (b->from[across] != step) across++;
    for (int i = 0; i < last; i++) outer *= i == across ? 1 : b->dim[i];
    int64_t rows = b->dim[last], columns = b->dim[across];
    int64_t row_pieces = (rows + ROWS - 1) / ROWS, pieces = row_pieces * ((columns + COLUMNS - 1) / COLUMNS);
    int64_t tasks = outer * pieces;
#pragma omp parallel for num_threads(qn__threads_for(a, a->y.count)) schedule(static)
    for (int64_t t = 0; t < tasks; t++) {
        int64_t index = t / pieces, i = t % pieces % row_pieces * ROWS, j = t % pieces / row_pieces * COLUMNS;
        int64_t to = i * step + j * b->to[across], from = i * b->from[last] + j * step;
        for (int k = last - 1; k >= 0; k--) {
            if (k == across) continue;
            to += index % b->dim[k] * b->to[k];
            from += index % b->dim[k] * b->from[k];
            index /= b->dim[k];
        }
        QN_CAT(qn__turn, KIND)
        ((char *)a->y.data + to, b->to[across] / step, (const char *)a->x[0].data + from, b->from[last] / step,
         rows - i < ROWS ? rows - i : ROWS, columns - j < COLUMNS ? columns - j : COLUMNS, size);
    }
}

static qn_status launch(const struct qn__step *s, qn_error *err)
{
    (void)err;
    const struct qn__args *a = &s->args;
    if (a->y.count == 0) return QN_OK;
    struct qn__box b = box_of(a);
    if (s->choice.variant == TURN)
        turn(a, &b);
    else
        QN_CAT(qn__copy_box, KIND)
    (a->y.data, a->x[0].data, &b, qn_dtype_size(a->y.dtype), qn__threads_for(a, a->y.count));
    return QN_OK;
}

KERNEL(transpose) = { .variants = (const char *const[]){ "copy", "turn", NULL }, .pick = pick, .launch = launch };
