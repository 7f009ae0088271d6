/* matmul.c - matrix products with transposes, broadcast over leading dimensions. */
#include "epilogue.h"
#include <string.h>

/* Rows and columns of an operand after its transpose flag. */
static int64_t rows(const struct qn__node *x, int t) { return x->dim[x->rank - (t ? 1 : 2)]; }
static int64_t cols(const struct qn__node *x, int t) { return x->dim[x->rank - (t ? 2 : 1)]; }

static qn_status infer(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    const struct qn__matmul_attr *attr = y->attr;
    if (y->n_in < 2) return qn__fail(err, 2204, NULL, "%d operands; expected 2 or 3", y->n_in);
    QN_TRY(qn__check_float(x[0], err));
    for (int i = 0; i < 2; i++)
        if (x[i]->rank < 2)
            return qn__fail(err, 2203, NULL, "operand %d has rank %d; expected rank 2..%d", i, x[i]->rank, QN_MAX_DIMS);
    int64_t k = cols(x[0], attr->ta), kb = rows(x[1], attr->tb);
    if (k != kb)
        return qn__fail(err, 2201, NULL, "inner sizes %lld and %lld%s%s; expected equal sizes", (long long)k,
                        (long long)kb, attr->ta ? ", a transposed" : "", attr->tb ? ", b transposed" : "");
    int rank;
    if (!qn__broadcast_dims(&rank, y->dim, x[0]->rank - 2, x[0]->dim, x[1]->rank - 2, x[1]->dim))
        return qn__fail(err, 2201, NULL, "operand shapes do not fit; expected leading dims that broadcast");
    y->rank = rank + 2;
    y->dim[rank] = rows(x[0], attr->ta);
    y->dim[rank + 1] = cols(x[1], attr->tb);
    y->dtype = x[0]->dtype;
    return qn__epilogue_check(x, y, &attr->epilogue, y->dim[rank + 1], err);
}

static qn_t product(qn_graph *g, qn_t a, int ta, qn_t b, int tb)
{
    return qn_matmul(g, a, b, &(qn_matmul_opts){ ta != 0, tb != 0 });
}

/* [.., M,K] -> [M.., K]: one tall matrix, so that the gradient of a shared right operand is one product
 * and not a batch of them that is then summed. */
static qn_t tall(qn_graph *g, qn_t x) { return qn_reshape(g, x, 2, (int64_t[]){ -1, qn_dim(g, x, -1) }); }

/* With A' and B' the operands after their flags: dA' = dY B'^T, dB' = A'^T dY; a transposed operand gets the
 * transposed product. Broadcast leading dims are summed. */
static void vjp(qn_graph *g, const struct qn__node *y, qn_t self, qn_t dy, qn_t *dx)
{
    (void)self;
    const struct qn__matmul_attr *attr = y->attr;
    qn_t in[2] = { qn__in(y, 0), qn__in(y, 1) };
    struct qn__node a = *qn__at(g, in[0]), b = *qn__at(g, in[1]);
    if (attr->epilogue.act) {
        qn__graph_fail(g, 2205, "matmul", "activation is folded in; expected gradients to be taken before that");
        return;
    }
    qn_t da = attr->ta ? product(g, in[1], attr->tb, dy, 1) : product(g, dy, 0, in[1], !attr->tb);
    dx[0] = qn_sum_to(g, da, a.rank, a.dim);
    qn_t x = in[0], d = dy;
    if (b.rank == 2 && a.rank > 2 && !attr->ta && a.count > 0) {
        x = tall(g, x);
        d = tall(g, d);
    }
    qn_t db = attr->tb ? product(g, d, 1, x, attr->ta) : product(g, x, !attr->ta, d, 0);
    dx[1] = qn_sum_to(g, db, b.rank, b.dim);
    if (attr->epilogue.has_bias) dx[2] = qn_sum_to(g, dy, 1, &y->dim[y->rank - 1]);
}

static struct qn__cost cost(const struct qn__node *const *x, const struct qn__node *y)
{
    const struct qn__matmul_attr *attr = y->attr;
    double k = (double)cols(x[0], attr->ta), size = (double)qn_dtype_size(y->dtype), n = (double)y->count;
    struct qn__cost c = { 2 * k * n + (attr->epilogue.has_bias ? n : 0) + (attr->epilogue.act ? n : 0), n * size };
    for (int i = 0; i < y->n_in; i++) c.bytes += (double)x[i]->count * size;
    return c;
}

const struct qn__op qn__op_matmul = { .name = "matmul",
                                      .infer = infer,
                                      .vjp = vjp,
                                      .cost = cost,
                                      .attr_size = sizeof(struct qn__matmul_attr),
                                      .layout = QN_LAYOUT_PLAIN };

qn_t qn_matmul(qn_graph *g, qn_t a, qn_t b, const qn_matmul_opts *opts)
{
    struct qn__matmul_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.ta = opts && opts->transpose_a;
    attr.tb = opts && opts->transpose_b;
    return qn__node(g, QN_OP_matmul, (qn_t[]){ a, b }, 2, &attr);
}
