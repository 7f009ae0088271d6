/* losses.c - losses that are chains of other operators. */
#include "../op.h"

qn_t qn_mse(qn_graph *g, qn_t x, qn_t target) { return qn_mean_all(g, qn_square(g, qn_sub(g, x, target))); }
qn_t qn_l1(qn_graph *g, qn_t x, qn_t target) { return qn_mean_all(g, qn_abs(g, qn_sub(g, x, target))); }

/* d^2/2 up to |d| = delta, then delta (|d| - delta/2): with c = min(|d|, delta), c (|d| - c/2). */
qn_t qn_huber(qn_graph *g, qn_t x, qn_t target, double delta)
{
    if (!(delta > 0)) return qn__graph_fail(g, 2204, "huber", "delta %g; expected a number > 0", delta);
    qn_t d = qn_abs(g, qn_sub(g, x, target));
    qn_t c = qn_minimum(g, d, qn_scalar(g, qn_dtype_of(g, d), delta));
    return qn_mean_all(g, qn_mul(g, c, qn_sub(g, d, qn_scale(g, c, 0.5))));
}

/* -t ln s(x) - (1-t) ln(1-s(x)) = softplus(x) - x t */
qn_t qn_bce_with_logits(qn_graph *g, qn_t x, qn_t target)
{
    return qn_mean_all(g, qn_sub(g, qn_softplus(g, x), qn_mul(g, x, target)));
}
