/* norm.c - batch normalisation with its weights and running statistics. */
#include "../include/quern/layers.h"

/* running = momentum running + (1 - momentum) batch where batch is finite, as it was elsewhere. */
static void move_running(qn_graph *g, qn_t running, qn_t batch, double momentum)
{
    qn_t moved = qn_add(g, qn_scale(g, running, momentum), qn_scale(g, batch, 1 - momentum));
    qn_assign(g, running, qn_where(g, qn_is_finite(g, batch), moved, running));
}

static qn_t stats_row(qn_graph *g, qn_t stats, int64_t row, int64_t channels)
{
    qn_t part = qn_slice(g, stats, (int64_t[]){ row, 0 }, (int64_t[]){ 1, channels });
    return qn_reshape(g, part, 1, &channels);
}

qn_t qn_norm_batch(qn_graph *g, const char *name, qn_t x, bool training, const qn_norm_opts *opts)
{
    static const qn_norm_opts defaults = { .no_affine = false };
    if (!opts) opts = &defaults;
    double eps = opts->eps > 0 ? opts->eps : 1e-5, momentum = opts->momentum > 0 ? opts->momentum : 0.9;
    int64_t channels = qn_dim(g, x, 1);
    qn_dtype dtype = qn_dtype_of(g, x);
    const qn_init ones = { .kind = QN_INIT_ONES };
    qn_scope_push(g, name);
    qn_t gamma = opts->no_affine ? qn_full(g, dtype, 1, &channels, 1)
                                 : qn_param(g, "weight", dtype, 1, &channels, &ones);
    qn_t beta = opts->no_affine ? qn_full(g, dtype, 1, &channels, 0) : qn_param(g, "bias", dtype, 1, &channels, NULL);
    qn_t mean = qn_tensor(g, QN_BUFFER, "running_mean", dtype, 1, &channels, NULL);
    qn_t variance = qn_tensor(g, QN_BUFFER, "running_var", dtype, 1, &channels, &ones);
    qn_t y, stats;
    if (training) {
        y = qn_batch_norm(g, x, gamma, beta, eps, &stats);
        int64_t count = channels ? qn_count(g, x) / channels : 0;
        double unbiased = count > 1 ? (double)count / (double)(count - 1) : 1;
        move_running(g, mean, stats_row(g, stats, 0, channels), momentum);
        move_running(g, variance, qn_scale(g, stats_row(g, stats, 1, channels), unbiased), momentum);
    } else {
        y = qn_batch_norm_fixed(g, x, gamma, beta, mean, variance, eps);
    }
    qn_scope_pop(g);
    return y;
}
