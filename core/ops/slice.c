/* slice.c - a box of the operand: y[i] = x[begin + i]. */
#include "../op.h"
#include <string.h>

static qn_status infer(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    const struct qn__slice_attr *attr = y->attr;
    y->dtype = x[0]->dtype;
    y->rank = x[0]->rank;
    for (int i = 0; i < y->rank; i++) {
        int64_t begin = attr->begin[i], size = attr->size[i], dim = x[0]->dim[i];
        if (begin < 0 || begin > dim || size < 0 || size > dim - begin)
            return qn__fail(err, 2204, NULL, "axis %d: begin %lld, size %lld; expected a part of 0..%lld", i,
                            (long long)begin, (long long)size, (long long)dim);
        y->dim[i] = size;
    }
    return QN_OK;
}

/* Zeros around dy. */
static void vjp(qn_graph *g, const struct qn__node *y, qn_t self, qn_t dy, qn_t *dx)
{
    (void)self;
    const struct qn__slice_attr *attr = y->attr;
    struct qn__node x = *qn__at(g, qn__in(y, 0));
    int64_t after[QN_MAX_DIMS];
    for (int i = 0; i < x.rank; i++) after[i] = x.dim[i] - attr->begin[i] - attr->size[i];
    dx[0] = qn_pad(g, dy, attr->begin, after);
}

/* Only the box is read. */
static struct qn__cost cost(const struct qn__node *const *x, const struct qn__node *y)
{
    (void)x;
    return (struct qn__cost){ 0, 2 * (double)y->count * (double)qn_dtype_size(y->dtype) };
}

const struct qn__op qn__op_slice = {
    .name = "slice", .infer = infer, .vjp = vjp, .cost = cost, .attr_size = sizeof(struct qn__slice_attr)
};

qn_t qn_slice(qn_graph *g, qn_t x, const int64_t *begin, const int64_t *size)
{
    struct qn__slice_attr attr;
    memset(&attr, 0, sizeof attr);
    size_t bytes = (size_t)qn_rank(g, x) * sizeof *begin;
    if (bytes) memcpy(attr.begin, begin, bytes);
    if (bytes) memcpy(attr.size, size, bytes);
    return qn__node(g, QN_OP_slice, &x, 1, &attr);
}
