/* gather.c - y[o][i][inner] = x[o][index[i]][inner], any element type. */
#include "index.h"

static qn_status launch(const struct qn__step *s, qn_error *err)
{
    const struct qn__axis_attr *attr = s->args.attr;
    const struct qn__view *x = &s->args.x[0], *index = &s->args.x[1], *y = &s->args.y;
    int64_t size = x->dim[attr->axis], outer = 1, inner = (int64_t)qn_dtype_size(x->dtype), n = index->count;
    QN_TRY(qn__index_check(index, size, "gather", err));
    for (int i = 0; i < attr->axis; i++) outer *= x->dim[i];
    for (int i = attr->axis + 1; i < x->rank; i++) inner *= x->dim[i];
    if (y->count == 0) return QN_OK;
    int64_t rows = outer * n;
#pragma omp parallel for num_threads(qn__threads_for(&s->args, y->count)) schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        const char *from = (const char *)x->data + (r / n * size + qn__index_at(index, r % n)) * inner;
        memcpy((char *)y->data + r * inner, from, (size_t)inner);
    }
    return QN_OK;
}

KERNEL(gather) = { .variants = (const char *const[]){ "rows", NULL }, .launch = launch };
