/* concat.c - operands one after the other along one axis, any element type: y[o][part of i][inner] = x_i[o][..]. */
#include "move.h"

static qn_status launch(const struct qn__step *s, qn_error *err)
{
    (void)err;
    const struct qn__axis_attr *attr = s->args.attr;
    const struct qn__view *y = &s->args.y;
    int64_t size = (int64_t)qn_dtype_size(y->dtype), outer = 1, inner = size, at = 0;
    for (int i = 0; i < attr->axis; i++) outer *= y->dim[i];
    for (int i = attr->axis + 1; i < y->rank; i++) inner *= y->dim[i];
    int64_t y_row = y->dim[attr->axis] * inner;
    for (int i = 0; i < s->args.n_in; i++) {
        const struct qn__view *x = &s->args.x[i];
        int64_t row = x->dim[attr->axis] * inner;
        struct qn__box b = { .rank = 2, .dim = { outer, row / size }, .to = { y_row, size }, .from = { row, size } };
        if (x->count) QN_CAT(qn__copy_box, KIND)
        ((char *)y->data + at, x->data, &b, (size_t)size, qn__threads_for(&s->args, x->count));
        at += row;
    }
    return QN_OK;
}

KERNEL(concat) = { .variants = (const char *const[]){ "copy", NULL }, .launch = launch };
