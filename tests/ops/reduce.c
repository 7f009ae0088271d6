/* reduce.c - reductions by definition: one element at a time. */
#include "reduce.h"

void reduce_oracle(const struct op_case *c, const struct op_data *x, struct op_data *y, double start,
                   double (*join)(double, double))
{
    for (int64_t i = 0; i < y->count; i++) y->v[i] = start;
    for (int64_t i = 0; i < x[0].count; i++) {
        int64_t rest = i, at = 0, step = 1;
        for (int k = x[0].rank - 1; k >= 0; k--) {
            int64_t index = rest % x[0].dim[k];
            rest /= x[0].dim[k];
            if (c->p[0] >> k & 1) continue;
            at += index * step;
            step *= x[0].dim[k];
        }
        y->v[at] = join(y->v[at], x[0].v[i]);
    }
}
