/* epilogue.h - what matmul and the convolutions share: one float dtype, a bias and an activation that the epilogue
 * pass may have folded in. Private to core/ops. */
#ifndef QN_CORE_OPS_EPILOGUE_H
#define QN_CORE_OPS_EPILOGUE_H
#include "../op.h"

/* The activations that kernels apply to a finished result; 0 is none. */
static inline bool qn__epilogue_act_ok(int32_t act)
{
    return act == 0 || act == QN_OP_relu || act == QN_OP_leaky_relu || act == QN_OP_elu || act == QN_OP_gelu_tanh ||
           act == QN_OP_gelu_erf || act == QN_OP_sigmoid || act == QN_OP_tanh || act == QN_OP_silu;
}

/* Two operands and the bias, all of one float dtype. channels: what a bias must have as its only dim. */
static inline qn_status qn__epilogue_check(const struct qn__node *const *x, const struct qn__node *y,
                                           const struct qn__epilogue *e, int64_t channels, qn_error *err)
{
    int expected = e && e->has_bias ? 3 : 2;
    if (y->n_in != expected) return qn__fail(err, 2204, NULL, "%d operands; expected %d", y->n_in, expected);
    if (e && !qn__epilogue_act_ok(e->act))
        return qn__fail(err, 2204, NULL, "activation %d; expected none or one that the kernels apply", e->act);
    if (expected == 3 && (x[2]->rank != 1 || x[2]->dim[0] != channels))
        return qn__fail(err, 2201, NULL, "bias %s; expected [%lld]", qn__dims_show(x[2]->rank, x[2]->dim).s,
                        (long long)channels);
    for (int i = 1; i < expected; i++)
        if (x[i]->dtype != x[0]->dtype)
            return qn__fail(err, 2202, NULL, "%s and %s; expected one dtype", qn_dtype_name(x[0]->dtype),
                            qn_dtype_name(x[i]->dtype));
    return QN_OK;
}

static inline qn_status qn__check_float(const struct qn__node *x, qn_error *err)
{
    if (qn_dtype_is_float(x->dtype)) return QN_OK;
    return qn__fail(err, 2202, NULL, "%s; expected F32, F64, BF16 or F16", qn_dtype_name(x->dtype));
}
#endif
