/* dropout.c - dropout with masks that are drawn again instead of kept (Srivastava et al. 2014). */
#include "../op.h"
#include <string.h>

static qn_status infer(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    if (!qn_dtype_is_float(x[0]->dtype))
        return qn__fail(err, 2202, NULL, "%s; expected F32, F64, BF16 or F16", qn_dtype_name(x[0]->dtype));
    if (x[0]->rank < 1) return qn__fail(err, 2203, NULL, "rank 0; expected axis 0 to be the sample");
    if (x[1]->dtype != QN_I64 || x[1]->count != 4)
        return qn__fail(err, 2201, NULL, "rng is %s of %lld elements; expected the I64 [4] of qn_rng",
                        qn_dtype_name(x[1]->dtype), (long long)x[1]->count);
    return qn__infer_like(x, y, err);
}

/* The same mask, applied to dy. */
static void vjp(qn_graph *g, const struct qn__node *y, qn_t self, qn_t dy, qn_t *dx)
{
    (void)self;
    dx[0] = qn__node(g, QN_OP_dropout, (qn_t[]){ dy, qn__in(y, 1) }, 2, y->attr);
}

static struct qn__cost cost(const struct qn__node *const *x, const struct qn__node *y)
{
    (void)x;
    double n = (double)y->count;
    return (struct qn__cost){ 2 * n, 2 * n * (double)qn_dtype_size(y->dtype) };
}

const struct qn__op qn__op_dropout = { .name = "dropout",
                                       .infer = infer,
                                       .vjp = vjp,
                                       .cost = cost,
                                       .in_place = true,
                                       .attr_size = sizeof(struct qn__dropout_attr) };

qn_t qn_dropout(qn_graph *g, qn_t x, qn_t rng, double p, const char *name)
{
    struct qn__dropout_attr attr;
    memset(&attr, 0, sizeof attr);
    if (!(p >= 0 && p < 1)) return qn__graph_fail(g, 2204, "dropout", "p %g; expected 0 <= p < 1", p);
    if (qn__failed(g)) return (qn_t){ 0 };
    attr.p = p;
    attr.name_hash = qn__hash_str(qn__scoped(g, name));
    return qn__node(g, QN_OP_dropout, (qn_t[]){ x, rng }, 2, &attr);
}
