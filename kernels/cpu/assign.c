/* assign.c - dst = src, any element type; y is dst. */
#include "move.h"

static qn_status launch(const struct qn__step *s, qn_error *err)
{
    (void)err;
    const struct qn__args *a = &s->args;
    if (a->x[1].data != a->x[0].data) QN_CAT(qn__copy_bytes, KIND)
    (a->x[0].data, a->x[1].data, a->y.count * (int64_t)qn_dtype_size(a->y.dtype), qn__threads_for(a, a->y.count));
    return QN_OK;
}

KERNEL(assign) = { .variants = (const char *const[]){ "copy", NULL }, .launch = launch };
