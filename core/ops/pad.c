/* pad.c - zeros around the operand. */
#include "../op.h"
#include <string.h>

static const int64_t limit = (int64_t)1 << 48; /* no tensor has a larger dimension */

static qn_status infer(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    const struct qn__pad_attr *attr = y->attr;
    y->dtype = x[0]->dtype;
    y->rank = x[0]->rank;
    for (int i = 0; i < y->rank; i++) {
        int64_t before = attr->before[i], after = attr->after[i];
        if (before < 0 || before >= limit || after < 0 || after >= limit)
            return qn__fail(err, 2204, NULL, "axis %d: %lld before, %lld after; expected 0..%lld", i, (long long)before,
                            (long long)after, (long long)limit - 1);
        y->dim[i] = before + x[0]->dim[i] + after;
    }
    return QN_OK;
}

/* The box of dy where the operand lies. */
static void vjp(qn_graph *g, const struct qn__node *y, qn_t self, qn_t dy, qn_t *dx)
{
    (void)self;
    const struct qn__pad_attr *attr = y->attr;
    struct qn__node x = *qn__at(g, qn__in(y, 0));
    dx[0] = qn_slice(g, dy, attr->before, x.dim);
}

const struct qn__op qn__op_pad = {
    .name = "pad", .infer = infer, .vjp = vjp, .cost = qn__cost_move, .attr_size = sizeof(struct qn__pad_attr)
};

qn_t qn_pad(qn_graph *g, qn_t x, const int64_t *before, const int64_t *after)
{
    struct qn__pad_attr attr;
    memset(&attr, 0, sizeof attr);
    size_t bytes = (size_t)qn_rank(g, x) * sizeof *before;
    if (bytes) memcpy(attr.before, before, bytes);
    if (bytes) memcpy(attr.after, after, bytes);
    return qn__node(g, QN_OP_pad, &x, 1, &attr);
}
