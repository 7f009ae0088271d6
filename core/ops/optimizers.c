/* optimizers.c - one step of an optimizer: the rows sgd, momentum, adam, rmsprop, rmsprop_momentum, adagrad, lamb and
 * lion. Operands: w, the row's moments, gradient, hyper; all but the last two are written in place. hyper has the
 * number of the update, which 16 bits would lose: it is F32 for weights of any narrower type. */
#include "../op.h"
#include <math.h>
#include <string.h>

/* ---- shape rule ---------------------------------------------------------------------------------- */

static qn_status check_range(const char *name, double value, double below, qn_error *err)
{
    if (value >= 0 && (value < below || (isinf(below) && isfinite(value)))) return QN_OK;
    if (isinf(below)) return qn__fail(err, 2204, NULL, "%s %g; expected a finite number from 0", name, value);
    return qn__fail(err, 2204, NULL, "%s %g; expected 0 <= %s < %g", name, value, name, below);
}

static qn_status check_attr(const struct qn__optim_attr *a, qn_error *err)
{
    const double any = (double)INFINITY;
    QN_TRY(check_range("beta1", a->beta1, 1, err));
    QN_TRY(check_range("beta2", a->beta2, 1, err));
    QN_TRY(check_range("momentum", a->momentum, 1, err));
    QN_TRY(check_range("eps", a->eps, any, err));
    QN_TRY(check_range("weight_decay", a->weight_decay, any, err));
    QN_TRY(check_range("lr_scale", a->lr_scale, any, err));
    return check_range("clip_value", a->clip_value, any, err);
}

qn_status qn__check_hyper(const struct qn__node *hyper, qn_dtype weights, qn_error *err)
{
    qn_dtype expected = weights == QN_F64 ? QN_F64 : QN_F32;
    if (hyper->dtype != expected)
        return qn__fail(err, 2202, NULL, "hyper is %s; expected %s for weights of %s", qn_dtype_name(hyper->dtype),
                        qn_dtype_name(expected), qn_dtype_name(weights));
    return QN_OK;
}

static qn_status infer(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    const struct qn__node *hyper = x[y->n_in - 1];
    QN_TRY(qn__infer_written(x, y, err));
    if (!qn_dtype_is_float(y->dtype))
        return qn__fail(err, 2202, NULL, "%s; expected F32, F64, BF16 or F16", qn_dtype_name(y->dtype));
    QN_TRY(qn__check_hyper(hyper, y->dtype, err));
    for (int i = 1; i < y->n_in; i++) {
        const struct qn__op *op = qn__op_of(x[i]->op);
        if (i < y->n_in - 1 && x[i]->dtype != y->dtype)
            return qn__fail(err, 2202, NULL, "%s and %s; expected one dtype", qn_dtype_name(y->dtype),
                            qn_dtype_name(x[i]->dtype));
        if (i < y->n_in - 1 && !qn__same_dims(x[0], x[i]))
            return qn__fail(err, 2201, NULL, "operand %d does not fit; expected the dims of operand 0", i);
        if ((qn__op_of(y->op)->writes >> i & 1) && x[i]->op != QN_OP_store && !op->writes)
            return qn__fail(err, 2209, NULL, "operand %d is the result of %s; expected a tensor of the store", i,
                            op->name);
    }
    if (hyper->rank != 1 || hyper->dim[0] != 4) return qn__fail(err, 2201, NULL, "hyper does not fit; expected [4]");
    return check_attr(y->attr, err);
}

/* ---- costs --------------------------------------------------------------------------------------- */

/* w and moments read and written, the gradient read. */
static struct qn__cost cost_of(const struct qn__node *y, double flops)
{
    double n = (double)y->count;
    return (struct qn__cost){ flops * n, (2 * (y->n_in - 2) + 1) * n * (double)qn_dtype_size(y->dtype) };
}

/* ---- descriptors --------------------------------------------------------------------------------- */

/* flops: additions, products, quotients and roots for one element, weight decay included. */
#define ROW(row, written, flops) \
    static struct qn__cost cost_##row(const struct qn__node *const *x, const struct qn__node *y) \
    { \
        (void)x; \
        return cost_of(y, flops); \
    } \
    const struct qn__op qn__op_##row = { .name = #row, \
                                         .infer = infer, \
                                         .cost = cost_##row, \
                                         .attr_size = sizeof(struct qn__optim_attr), \
                                         .writes = (written), \
                                         .effect = true, \
                                         .no_gradient = "it writes to the store" }
ROW(sgd, 1, 5);
ROW(momentum, 3, 9);
ROW(adam, 7, 17);
ROW(rmsprop, 3, 12);
ROW(rmsprop_momentum, 7, 14);
ROW(adagrad, 3, 10);
ROW(lamb, 7, 23); /* the second pass not counted: it repeats work to save memory */
ROW(lion, 3, 12);

/* ---- constructors -------------------------------------------------------------------------------- */

static qn_t build(qn_graph *g, enum qn__opcode op, const qn_t *x, int n, const qn_update_opts *o)
{
    struct qn__optim_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.beta1 = o->beta1;
    attr.beta2 = o->beta2;
    attr.eps = o->eps;
    attr.weight_decay = o->weight_decay;
    attr.momentum = o->momentum;
    attr.lr_scale = o->lr_scale;
    attr.clip_value = o->clip_value;
    attr.nesterov = o->nesterov;
    attr.decoupled = o->decoupled;
    return qn__node(g, op, x, n, &attr);
}

qn_t qn_sgd(qn_graph *g, qn_t w, qn_t grad, qn_t hyper, const qn_update_opts *opts)
{
    return build(g, QN_OP_sgd, (qn_t[]){ w, grad, hyper }, 3, opts);
}
qn_t qn_momentum(qn_graph *g, qn_t w, qn_t v, qn_t grad, qn_t hyper, const qn_update_opts *opts)
{
    return build(g, QN_OP_momentum, (qn_t[]){ w, v, grad, hyper }, 4, opts);
}
qn_t qn_adam(qn_graph *g, qn_t w, qn_t m, qn_t v, qn_t grad, qn_t hyper, const qn_update_opts *opts)
{
    return build(g, QN_OP_adam, (qn_t[]){ w, m, v, grad, hyper }, 5, opts);
}
qn_t qn_rmsprop(qn_graph *g, qn_t w, qn_t s, qn_t grad, qn_t hyper, const qn_update_opts *opts)
{
    return build(g, QN_OP_rmsprop, (qn_t[]){ w, s, grad, hyper }, 4, opts);
}
qn_t qn_rmsprop_momentum(qn_graph *g, qn_t w, qn_t s, qn_t v, qn_t grad, qn_t hyper, const qn_update_opts *opts)
{
    return build(g, QN_OP_rmsprop_momentum, (qn_t[]){ w, s, v, grad, hyper }, 5, opts);
}
qn_t qn_adagrad(qn_graph *g, qn_t w, qn_t s, qn_t grad, qn_t hyper, const qn_update_opts *opts)
{
    return build(g, QN_OP_adagrad, (qn_t[]){ w, s, grad, hyper }, 4, opts);
}
qn_t qn_lamb(qn_graph *g, qn_t w, qn_t m, qn_t v, qn_t grad, qn_t hyper, const qn_update_opts *opts)
{
    return build(g, QN_OP_lamb, (qn_t[]){ w, m, v, grad, hyper }, 5, opts);
}
qn_t qn_lion(qn_graph *g, qn_t w, qn_t m, qn_t grad, qn_t hyper, const qn_update_opts *opts)
{
    return build(g, QN_OP_lion, (qn_t[]){ w, m, grad, hyper }, 4, opts);
}
