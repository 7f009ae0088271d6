/* reduce_min.c - cases of reduce_min. */
#include "reduce.h"
#include <math.h>

static qn_t build(qn_graph *g, const qn_t *x, const struct op_case *c)
{
    return qn_reduce_min(g, x[0], (uint32_t)c->p[0], c->p[1]);
}
static double choose(double a, double b) { return isnan(a) || a < b ? a : b; }
static void oracle(const struct op_case *c, const struct op_data *x, struct op_data *y)
{
    reduce_oracle(c, x, y, (double)INFINITY, choose);
}

static const struct op_case cases[] = { EXTREME_CASES };
OP_CASES(reduce_min, cases);
