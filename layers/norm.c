/* norm.c - normalisations with their weights; of batch normalisation the running statistics too. */
#include "../include/quern/layers.h"

/* running = momentum running + (1 - momentum) batch where batch is finite, as it was elsewhere. `kept` names what
 * running was before the first micro run since the last update: qn_train_build takes back what a skipped update has
 * moved. A layer that is used twice in a graph keeps it once. */
static void move_running(qn_graph *g, qn_t running, const char *kept, qn_t batch, double momentum)
{
    const int64_t one = 1, channels = qn_count(g, running), nodes = qn_node_count(g);
    qn_t before = qn_tensor(g, QN_STATE, kept, qn_dtype_of(g, running), 1, &channels, NULL);
    if (qn_node_count(g) > nodes) {
        qn_t first = qn_eq(g, qn_pending_samples(g), qn_full(g, QN_I64, 1, &one, 0));
        qn_assign(g, before, qn_where(g, first, running, before));
    }
    qn_t moved = qn_add(g, qn_scale(g, running, momentum), qn_scale(g, batch, 1 - momentum));
    qn_assign(g, running, qn_where(g, qn_is_finite(g, batch), moved, running));
}

static qn_t stats_row(qn_graph *g, qn_t stats, int64_t row, int64_t channels)
{
    qn_t part = qn_slice(g, stats, (int64_t[]){ row, 0 }, (int64_t[]){ 1, channels });
    return qn_reshape(g, part, 1, &channels);
}

/* gamma or beta: a parameter that starts at `value`, or that value if there are none. */
static qn_t vector(qn_graph *g, const char *name, qn_dtype dtype, int64_t n, const qn_norm_opts *opts, double value)
{
    const qn_init init = { .kind = QN_INIT_VALUE, .a = value };
    return opts->no_affine ? qn_full(g, dtype, 1, &n, value) : qn_param(g, name, dtype, 1, &n, &init);
}

qn_t qn_norm_batch(qn_graph *g, const char *name, qn_t x, bool training, const qn_norm_opts *opts)
{
    static const qn_norm_opts defaults = { .momentum = 0.9 };
    if (!opts) opts = &defaults;
    double eps = opts->eps != 0 ? opts->eps : 1e-5;
    if (!(opts->momentum >= 0 && opts->momentum <= 1))
        return qn_graph_fail(g, 2204, "norm_batch", "momentum %g; expected 0..1", opts->momentum);
    int64_t channels = qn_dim(g, x, 1);
    qn_dtype dtype = qn_dtype_of(g, x);
    const qn_init ones = { .kind = QN_INIT_ONES };
    qn_scope_push(g, name);
    qn_t gamma = vector(g, "weight", dtype, channels, opts, 1), beta = vector(g, "bias", dtype, channels, opts, 0);
    const qn_dtype wide = dtype == QN_F64 ? QN_F64 : QN_F32; /* of statistics */
    qn_t mean = qn_tensor(g, QN_BUFFER, "running_mean", wide, 1, &channels, NULL);
    qn_t variance = qn_tensor(g, QN_BUFFER, "running_var", wide, 1, &channels, &ones);
    qn_t y, stats;
    if (training) {
        y = qn_batch_norm(g, x, gamma, beta, eps, &stats);
        int64_t count = channels ? qn_count(g, x) / channels : 0;
        double unbiased = count > 1 ? (double)count / (double)(count - 1) : 1;
        qn_t estimate = qn_scale(g, stats_row(g, stats, 1, channels), unbiased);
        move_running(g, mean, "running_mean.before", stats_row(g, stats, 0, channels), opts->momentum);
        move_running(g, variance, "running_var.before", estimate, opts->momentum);
    } else {
        y = qn_batch_norm_fixed(g, x, gamma, beta, mean, variance, eps);
    }
    qn_scope_pop(g);
    return y;
}

static const qn_norm_opts row_defaults = { .eps = 1e-5 };

qn_t qn_norm_layer(qn_graph *g, const char *name, qn_t x, const qn_norm_opts *opts)
{
    if (!opts) opts = &row_defaults;
    int64_t features = qn_dim(g, x, -1);
    qn_dtype dtype = qn_dtype_of(g, x);
    qn_scope_push(g, name);
    qn_t gamma = vector(g, "weight", dtype, features, opts, 1), beta = vector(g, "bias", dtype, features, opts, 0);
    qn_t y = qn_layer_norm(g, x, gamma, beta, opts->eps != 0 ? opts->eps : 1e-5);
    qn_scope_pop(g);
    return y;
}

qn_t qn_norm_rms(qn_graph *g, const char *name, qn_t x, const qn_norm_opts *opts)
{
    if (!opts) opts = &row_defaults;
    qn_scope_push(g, name);
    qn_t gamma = vector(g, "weight", qn_dtype_of(g, x), qn_dim(g, x, -1), opts, 1);
    qn_t y = qn_rms_norm(g, x, gamma, opts->eps != 0 ? opts->eps : 1e-5);
    qn_scope_pop(g);
    return y;
}

qn_t qn_norm_group(qn_graph *g, const char *name, qn_t x, int64_t groups, const qn_norm_opts *opts)
{
    if (!opts) opts = &row_defaults;
    int64_t channels = qn_dim(g, x, 1);
    qn_dtype dtype = qn_dtype_of(g, x);
    qn_scope_push(g, name);
    qn_t gamma = vector(g, "weight", dtype, channels, opts, 1), beta = vector(g, "bias", dtype, channels, opts, 0);
    qn_t y = qn_group_norm(g, x, gamma, beta, groups, opts->eps != 0 ? opts->eps : 1e-5);
    qn_scope_pop(g);
    return y;
}
