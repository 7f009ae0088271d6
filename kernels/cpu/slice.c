/* slice.c - y[i] = x[begin + i], any element type. */
#include "move.h"

static qn_status launch(const struct qn__step *s, qn_error *err)
{
    (void)err;
    const struct qn__slice_attr *attr = s->args.attr;
    const struct qn__view *x = &s->args.x[0], *y = &s->args.y;
    int64_t size = (int64_t)qn_dtype_size(y->dtype), x_step = size, y_step = size, at = 0;
    struct qn__box b = { .rank = y->rank };
    for (int i = y->rank - 1; i >= 0; i--) {
        b.dim[i] = y->dim[i];
        b.to[i] = y_step;
        b.from[i] = x_step;
        at += attr->begin[i] * x_step;
        y_step *= y->dim[i];
        x_step *= x->dim[i];
    }
    if (y->count) QN_CAT(qn__copy_box, KIND)
    (y->data, (const char *)x->data + at, &b, (size_t)size, qn__threads_for(&s->args, y->count));
    return QN_OK;
}

KERNEL(slice) = { .variants = (const char *const[]){ "copy", NULL }, .launch = launch };
