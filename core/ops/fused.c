/* fused.c - a program of pointwise rows over the operands: what the fusion pass makes of a chain or tree. */
#include "../op.h"
#include <string.h>

static qn_status check_program(const struct qn__node *y, qn_error *err)
{
    const struct qn__fused_attr *f = y->attr;
    if (f->n < 1 || f->n > QN_FUSED_MAX || f->n_in != y->n_in || y->n_in < 1)
        return qn__fail(err, 2204, NULL, "%d instructions over %d operands; expected 1..%d over %d", f->n, f->n_in,
                        QN_FUSED_MAX, y->n_in);
    for (int i = 0; i < f->n; i++) {
        const struct qn__pw_instr *o = &f->instr[i];
        int defined = f->n_in + i;
        bool row = o->op > 0 && o->op < QN_OP_COUNT && qn__is_pointwise((enum qn__opcode)o->op);
        if (!row || o->a < 0 || o->a >= defined || o->b < 0 || o->b >= defined || o->c < 0 || o->c >= defined)
            return qn__fail(err, 2204, NULL,
                            "instruction %d reads %d, %d, %d; expected a pointwise row of registers below %d", i, o->a,
                            o->b, o->c, defined);
    }
    return QN_OK;
}

/* The dtype is given by whoever builds the node; the dims are those the operands broadcast to. */
static qn_status infer(const struct qn__node *const *x, struct qn__node *y, qn_error *err)
{
    QN_TRY(check_program(y, err));
    return qn__infer_broadcast(x, y, err);
}

/* One operation an instruction and element; the operands once. */
static struct qn__cost cost(const struct qn__node *const *x, const struct qn__node *y)
{
    const struct qn__fused_attr *f = y->attr;
    struct qn__cost c = qn__cost_move(x, y);
    c.flops = (double)f->n * (double)y->count;
    return c;
}

const struct qn__op qn__op_fused = { .name = "fused",
                                     .infer = infer,
                                     .cost = cost,
                                     .no_gradient = "the fusion pass makes it, after differentiation",
                                     .attr_size = sizeof(struct qn__fused_attr),
                                     .layout = QN_LAYOUT_SAME,
                                     .pointwise = true,
                                     .in_place = true };
