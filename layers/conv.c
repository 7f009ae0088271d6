/* conv.c - convolution and transposed convolution with weights and bias. */
#include "../include/quern/layers.h"
#include "weights.h"

static qn_t add_bias(qn_graph *g, qn_t y, int64_t channels, bool none)
{
    if (none) return y;
    qn_t bias = qn_param(g, "bias", qn_dtype_of(g, y), 1, &channels, NULL);
    return qn_add(g, y, qn_reshape(g, bias, 3, (int64_t[]){ channels, 1, 1 }));
}

static const qn_conv_opts defaults = { .no_bias = false };

/* Channels that one filter reads: C / groups; the operator reports a remainder. */
static int64_t per_group(int64_t channels, const qn_conv_opts *opts)
{
    return opts->conv.groups > 1 ? channels / opts->conv.groups : channels;
}

qn_t qn_conv(qn_graph *g, const char *name, qn_t x, int64_t channels, const int64_t kernel[2], const qn_conv_opts *opts)
{
    if (!opts) opts = &defaults;
    int64_t in = per_group(qn_dim(g, x, 1), opts), area = kernel[0] * kernel[1];
    int64_t dims[] = { channels, in, kernel[0], kernel[1] };
    qn_scope_push(g, name);
    qn_init init = qn__weight_init(&opts->weight, in * area, per_group(channels, opts) * area);
    qn_t w = qn_param(g, "weight", qn_dtype_of(g, x), 4, dims, &init);
    qn_t y = add_bias(g, qn_conv2d(g, x, w, &opts->conv), channels, opts->no_bias);
    qn_scope_pop(g);
    return y;
}

qn_t qn_conv_transpose(qn_graph *g, const char *name, qn_t x, int64_t channels, const int64_t kernel[2],
                       const qn_conv_opts *opts)
{
    if (!opts) opts = &defaults;
    int64_t in = qn_dim(g, x, 1), out = per_group(channels, opts), area = kernel[0] * kernel[1];
    int64_t dims[] = { in, out, kernel[0], kernel[1] };
    qn_scope_push(g, name);
    qn_init init = qn__weight_init(&opts->weight, per_group(in, opts) * area, out * area);
    qn_t w = qn_param(g, "weight", qn_dtype_of(g, x), 4, dims, &init);
    qn_t y = qn_conv_transpose2d(g, x, w, &opts->conv, opts->out_pad);
    y = add_bias(g, y, channels, opts->no_bias);
    qn_scope_pop(g);
    return y;
}
