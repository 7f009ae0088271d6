/* reduce_max.c - y[o][k][d] = maximum over a, r of x[o][a][k][r][d] (reduce.h); NaN if one is. */
#define BETTER(x, y) ((x) > (y) || (x) != (x) ? (x) : (y))
#define WORST -(double)INFINITY
#include "reduce_extreme.h"

KERNEL(reduce_max) = { .variants = QN_CAT(qn__reduce_variants, KIND),
                       .pick = QN_CAT(qn__reduce_pick, KIND),
                       .launch = launch };
