/* pad.c - zeros around the operand, any element type. Trailing dimensions without zeros are one run; the dimension
 * before them makes a row of y: zeros, run of x, zeros. */
#include "move.h"

struct rows {
    int outer;                   /* dimensions before the row            */
    int64_t n;                   /* rows of y                            */
    int64_t before, copy, after; /* bytes of a row                */
};

static struct rows rows_of(const struct qn__args *a)
{
    const struct qn__pad_attr *attr = a->attr;
    int i = a->y.rank - 1;
    int64_t unit = (int64_t)qn_dtype_size(a->y.dtype);
    while (i > 0 && attr->before[i] == 0 && attr->after[i] == 0) unit *= a->x[0].dim[i--];
    struct rows r = { .outer = i > 0 ? i : 0, .n = 1, .copy = unit };
    if (i >= 0) {
        r.before = attr->before[i] * unit;
        r.copy = a->x[0].dim[i] * unit;
        r.after = attr->after[i] * unit;
    }
    for (int k = 0; k < r.outer; k++) r.n *= a->y.dim[k];
    return r;
}

/* The row of x that row i of y holds; -1 if i lies in the zeros. */
static int64_t source_row(const struct qn__args *a, int outer, int64_t i)
{
    const struct qn__pad_attr *attr = a->attr;
    int64_t from = 0, step = 1;
    for (int k = outer - 1; k >= 0; k--) {
        int64_t at = i % a->y.dim[k] - attr->before[k];
        if (at < 0 || at >= a->x[0].dim[k]) return -1;
        from += at * step;
        step *= a->x[0].dim[k];
        i /= a->y.dim[k];
    }
    return from;
}

static qn_status launch(const struct qn__step *s, qn_error *err)
{
    (void)err;
    const struct qn__args *a = &s->args;
    if (a->y.count == 0) return QN_OK;
    struct rows r = rows_of(a);
    int64_t bytes = r.before + r.copy + r.after;
#pragma omp parallel for num_threads(qn__threads_for(a, a->y.count)) schedule(static)
    for (int64_t i = 0; i < r.n; i++) {
        char *to = (char *)a->y.data + i * bytes;
        int64_t from = source_row(a, r.outer, i);
        if (from < 0 || r.copy == 0) {
            memset(to, 0, (size_t)bytes);
            continue;
        }
        memset(to, 0, (size_t)r.before);
        memcpy(to + r.before, (const char *)a->x[0].data + from * r.copy, (size_t)r.copy);
        memset(to + r.before + r.copy, 0, (size_t)r.after);
    }
    return QN_OK;
}

KERNEL(pad) = { .variants = (const char *const[]){ "rows", NULL }, .launch = launch };
