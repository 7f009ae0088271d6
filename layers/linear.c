/* linear.c - x W^T + b. */
#include "../include/quern/layers.h"
#include "weights.h"

qn_t qn_linear(qn_graph *g, const char *name, qn_t x, int64_t features, const qn_linear_opts *opts)
{
    static const qn_linear_opts defaults = { .no_bias = false };
    if (!opts) opts = &defaults;
    int64_t in = qn_dim(g, x, -1), dims[] = { features, in };
    qn_dtype dtype = qn_dtype_of(g, x);
    qn_scope_push(g, name);
    qn_init init = qn__weight_init(&opts->weight, in, features);
    qn_t w = qn_param(g, "weight", dtype, 2, dims, &init);
    qn_t y = qn_matmul(g, x, w, &(qn_matmul_opts){ .transpose_b = true });
    if (!opts->no_bias) y = qn_add(g, y, qn_param(g, "bias", dtype, 1, &features, NULL));
    qn_scope_pop(g);
    return y;
}
