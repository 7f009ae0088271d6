/* assign.cu - dst = src, any element type; y is dst.
 *
 * Compulsory bytes: src read once, dst written once: copy_run of move.cu, 16 bytes a thread. */
#include "move.h"

static qn_status launch(const struct qn__step *s, qn_error *err)
{
    const struct qn__args *a = &s->args;
    if (a->x[1].data == a->x[0].data) return QN_OK;
    struct copy_from c = { 1, { a->y.count }, { 1 }, 0, (int64_t)qn_dtype_size(a->y.dtype) };
    return qn__cuda_copy(s, a->x[0].data, a->x[1].data, &c, err);
}

static const char *const variants[] = { "copy", NULL };
KERNEL(assign) = { .variants = variants, .launch = launch };
