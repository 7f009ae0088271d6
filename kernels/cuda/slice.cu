/* slice.cu - y[i] = x[begin + i], any element type.
 *
 * Compulsory bytes: the box read once, y written once: copy_strided of move.cu. */
#include "move.h"

static qn_status launch(const struct qn__step *s, qn_error *err)
{
    const struct qn__slice_attr *attr = (const struct qn__slice_attr *)s->args.attr;
    const struct qn__view *x = &s->args.x[0], *y = &s->args.y;
    struct copy_from c = {};
    c.rank = y->rank;
    c.size = (int64_t)qn_dtype_size(y->dtype);
    int64_t step = 1;
    for (int i = y->rank - 1; i >= 0; i--) {
        c.dim[i] = y->dim[i];
        c.step[i] = step;
        c.start += attr->begin[i] * step;
        step *= x->dim[i];
    }
    return y->count ? qn__cuda_copy(s, y->data, x->data, &c, err) : QN_OK;
}

static const char *const variants[] = { "strided", NULL };
KERNEL(slice) = { .variants = variants, .launch = launch };
