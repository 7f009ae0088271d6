/* reshape.c - the same elements in row-major order under other dimensions; no work at run time. */
#include "../op.h"

/* y's dims are given; they must hold the operand's elements. */
static qn_status infer(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    int64_t count;
    bool fits = y->rank >= 0 && y->rank <= QN_MAX_DIMS && qn__count(&count, y->dim, y->rank);
    if (!fits || count != x[0]->count)
        return qn__fail(err, 2201, NULL, "to %s; expected dims of %lld elements",
                        qn__dims_show(fits ? y->rank : 0, y->dim).s, (long long)x[0]->count);
    y->dtype = x[0]->dtype;
    return QN_OK;
}

static void vjp(qn_graph *g, const struct qn__node *y, qn_t self, qn_t dy, qn_t *dx)
{
    (void)self;
    struct qn__node x = *qn__at(g, qn__in(y, 0));
    dx[0] = qn_reshape(g, dy, x.rank, x.dim);
}

static struct qn__cost cost(const struct qn__node *const *x, const struct qn__node *y)
{
    (void)x;
    (void)y;
    return (struct qn__cost){ 0, 0 };
}

const struct qn__op qn__op_reshape = { .name = "reshape", .infer = infer, .vjp = vjp, .cost = cost, .alias = true };

/* Replaces the one -1 by what is left of the elements; false if that is not a whole number or not unique. */
static bool resolve(int64_t count, int rank, const int64_t *dims, int64_t *out)
{
    int open = -1;
    int64_t known = 1, rest[QN_MAX_DIMS];
    int n_rest = 0;
    for (int i = 0; i < rank; i++) {
        out[i] = dims[i];
        if (dims[i] != -1)
            rest[n_rest++] = dims[i];
        else if (open >= 0)
            return false;
        else
            open = i;
    }
    if (open < 0) return true;
    if (!qn__count(&known, rest, n_rest) || known == 0 || count % known != 0) return false;
    out[open] = count / known;
    return true;
}

qn_t qn_reshape(qn_graph *g, qn_t x, int rank, const int64_t *dims)
{
    int64_t dim[QN_MAX_DIMS] = { 0 };
    if (qn__failed(g)) return (qn_t){ 0 };
    if (rank < 0 || rank > QN_MAX_DIMS)
        return qn__graph_fail(g, 2203, "reshape", "rank %d; expected 0..%d", rank, QN_MAX_DIMS);
    if (!resolve(qn_count(g, x), rank, dims, dim))
        return qn__graph_fail(g, 2201, "reshape",
                              "%s of %lld elements; expected at most one -1, which the others divide",
                              qn__dims_show(rank, dims).s, (long long)qn_count(g, x));
    return qn__node_shaped(g, QN_OP_reshape, &x, 1, NULL, qn_dtype_of(g, x), rank, dim, NULL, NULL);
}

qn_t qn_flatten(qn_graph *g, qn_t x)
{
    if (qn__failed(g)) return (qn_t){ 0 };
    struct qn__node from = *qn__at(g, x);
    if (from.rank < 1) return qn__graph_fail(g, 2203, "flatten", "rank 0; expected 1..%d", QN_MAX_DIMS);
    int64_t rest = 1;
    for (int i = 1; i < from.rank; i++) rest *= from.dim[i];
    return qn_reshape(g, x, 2, (int64_t[]){ from.dim[0], rest });
}
