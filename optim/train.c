/* train.c - qn_train_build: penalties, gradients, accumulation, clipping, counters, optimizer, moving averages.
 *
 * The micro phase ends with gradients (in values, or with accumulate > 1 added to "grad.P"). The update phase first
 * computes everything that reads the old state: norm, flag, factor, learning rate; then come the writes, each
 * skipped by the flag, and last what moves on in any case: cleared gradients and the random state. */
#include "optim.h"
#include "../core/base.h"
#include <string.h>

struct train {
    qn_graph *g;
    const qn_train_opts *o;
    qn_dtype dtype; /* of loss and parameters */
    int n;          /* parameters             */
    qn_t *w, *grad;
    qn_t updates, skipped, plateau;
    qn_t count; /* samples of the gradients that have been added up */
    qn_t inverse, norm, finite, apply, lr, hyper;
};

/* ---- micro phase ------------------------------------------------------------------------------------- */

/* Names of tensors are full names: they must not get a prefix. */
static void make_counters(struct train *t)
{
    const int64_t one = 1;
    t->updates = qn_tensor(t->g, QN_STATE, "optim.updates", QN_I64, 1, &one, NULL);
    t->skipped = qn_tensor(t->g, QN_STATE, "optim.skipped", QN_I64, 1, &one, NULL);
    t->plateau = qn_tensor(t->g, QN_STATE, "optim.plateau", QN_F32, 0, NULL, &(qn_init){ .kind = QN_INIT_ONES });
    if (t->updates.id && strcmp(qn_name(t->g, t->updates), "optim.updates") != 0)
        qn_graph_fail(t->g, 2207, "train", "built inside a scope; expected outside of all, after qn_scope_pop");
}

static void check_dtypes(struct train *t, qn_t loss)
{
    if (qn_count(t->g, loss) != 1 || (t->dtype != QN_F32 && t->dtype != QN_F64))
        qn_graph_fail(t->g, 2201, "train", "loss is %s with %lld elements; expected one element of F32 or F64",
                      qn_dtype_name(t->dtype), (long long)qn_count(t->g, loss));
    if (t->n == 0) qn_graph_fail(t->g, 2205, "train", "the graph has no parameters; expected at least one");
    for (int i = 0; i < t->n; i++)
        if (qn_dtype_of(t->g, t->w[i]) != t->dtype)
            qn_graph_fail(t->g, 2202, "train", "\"%s\" is %s; expected %s like the loss",
                          qn__show(qn_name(t->g, t->w[i])).s, qn_dtype_name(qn_dtype_of(t->g, t->w[i])),
                          qn_dtype_name(t->dtype));
}

static qn_t plus(qn_graph *g, qn_t sum, qn_t x) { return sum.id ? qn_add(g, sum, x) : x; }

/* loss + l1 sum |w| + l2 sum w^2 */
static qn_t add_penalties(struct train *t, qn_t loss)
{
    qn_graph *g = t->g;
    qn_t l1 = { 0 }, l2 = { 0 };
    for (int i = 0; i < t->n; i++) {
        if (t->o->l1 > 0) l1 = plus(g, l1, qn_sum_all(g, qn_abs(g, t->w[i])));
        if (t->o->l2 > 0) l2 = plus(g, l2, qn_sum_squares(g, t->w[i]));
    }
    if (t->o->l1 > 0) loss = qn_add(g, loss, qn_scale(g, l1, t->o->l1));
    if (t->o->l2 > 0) loss = qn_add(g, loss, qn_scale(g, l2, t->o->l2));
    return loss;
}

static bool accumulates(const struct train *t) { return t->o->accumulate > 1; }

/* Micro runs of different sizes weigh as much as they have samples. */
static int64_t weight_of(const struct train *t) { return t->o->batch > 0 ? t->o->batch : 1; }

/* The gradient of the loss, or of the sum over the samples if several micro runs add up. */
static qn_status differentiate(struct train *t, qn_t loss)
{
    if (accumulates(t)) loss = qn_scale(t->g, loss, (double)weight_of(t));
    return qn_grad(t->g, loss, t->w, t->grad, t->n);
}

/* Sums of several micro runs live in the store, and how many samples went into them. */
static void accumulate_gradients(struct train *t)
{
    if (!accumulates(t)) return;
    const int64_t one = 1, weight = weight_of(t);
    for (int i = 0; i < t->n; i++) {
        qn_scope_push(t->g, "grad");
        qn_t sum = qn__optim_tensor(t->g, QN_GRAD, t->w[i], qn_name(t->g, t->w[i]));
        qn_scope_pop(t->g);
        t->grad[i] = qn_accumulate(t->g, sum, t->grad[i]);
    }
    t->count = qn_accumulate(t->g, qn_pending_samples(t->g), qn_constant(t->g, QN_I64, 1, &one, &weight));
}

/* Moves the random state on, if anything in the graph draws from it. */
static void advance_rng(struct train *t, int64_t samples, int64_t steps)
{
    int n = qn_graph_tensors(t->g, QN_STATE, NULL, 0);
    qn_t *state = qn__calloc(&qn__std_alloc, (size_t)n, sizeof *state);
    if (!state) {
        qn_graph_fail(t->g, 5002, "train", "cannot allocate %d values", n);
        return;
    }
    qn_graph_tensors(t->g, QN_STATE, state, n);
    for (int i = 0; i < n; i++)
        if (strcmp(qn_name(t->g, state[i]), "quern.rng") == 0) qn_advance_rng(t->g, state[i], samples, steps);
    qn__free(&qn__std_alloc, state, (size_t)n * sizeof *state);
}

/* ---- update phase ------------------------------------------------------------------------------------- */

/* 1 / samples, of all micro runs there were, be they fewer than `accumulate`. */
static void count_samples(struct train *t)
{
    if (!accumulates(t)) return;
    qn_t samples = qn_cast(t->g, qn_reshape(t->g, t->count, 0, NULL), t->dtype);
    t->inverse = qn_div(t->g, qn_scalar(t->g, t->dtype, 1), samples);
}

/* The norm of the mean gradient of all parameters together, and 1 if it is finite: a single NaN or infinity in any
 * gradient makes it not so. */
static void measure_gradient(struct train *t)
{
    qn_t sum = { 0 };
    for (int i = 0; i < t->n; i++) sum = plus(t->g, sum, qn_sum_squares(t->g, t->grad[i]));
    t->norm = qn_sqrt(t->g, sum);
    if (accumulates(t)) t->norm = qn_mul(t->g, t->norm, t->inverse);
    t->finite = qn_is_finite(t->g, t->norm);
    t->apply = qn_cast(t->g, t->finite, t->dtype);
}

/* What the gradients are multiplied by: 1, or 1 / samples of a sum, and less where their norm exceeds clip_norm. */
static qn_t gradient_factor(struct train *t)
{
    qn_graph *g = t->g;
    qn_t one = qn_scalar(g, t->dtype, 1), factor = one;
    if (t->o->clip_norm > 0) {
        qn_t limit = qn_scalar(g, t->dtype, t->o->clip_norm);
        factor = qn_minimum(g, one, qn_div(g, limit, qn_affine(g, t->norm, 1, 1e-6)));
    }
    return accumulates(t) ? qn_mul(g, factor, t->inverse) : factor;
}

static void make_hyper(struct train *t)
{
    qn_graph *g = t->g;
    const int64_t one = 1;
    t->lr = qn_schedule(g, t->updates, qn_cast(g, t->plateau, t->dtype), t->o->optimizer.lr, &t->o->schedule);
    qn_t number = qn_affine(g, qn_cast(g, t->updates, t->dtype), 1, 1);
    qn_t part[] = { qn_reshape(g, t->lr, 1, &one), qn_reshape(g, gradient_factor(t), 1, &one),
                    qn_reshape(g, t->apply, 1, &one), number };
    t->hyper = qn_concat(g, part, 4, 0);
}

static void move_weights(struct train *t)
{
    for (int i = 0; i < t->n && !qn_graph_status(t->g); i++) {
        qn_scope_push(t->g, qn_name(t->g, t->w[i]));
        qn_t w = qn__optim_step(t->g, t->o, t->w[i], t->grad[i], t->hyper);
        if (t->o->ema_decay > 0)
            qn_ema(t->g, qn__optim_tensor(t->g, QN_BUFFER, t->w[i], "ema"), w, t->hyper, t->o->ema_decay);
        qn_scope_pop(t->g);
    }
}

static void count_updates(struct train *t)
{
    const int64_t one = 1;
    qn_t flag = qn_reshape(t->g, t->apply, 1, &one);
    qn_accumulate(t->g, t->updates, qn_cast(t->g, flag, QN_I64));
    qn_accumulate(t->g, t->skipped, qn_cast(t->g, qn_affine(t->g, flag, -1, 1), QN_I64));
}

static qn_t tensor_named(struct train *t, const qn_t *tensor, int n, const char *name, const char *suffix)
{
    size_t length = strlen(name);
    for (int i = 0; i < n; i++) {
        const char *other = qn_name(t->g, tensor[i]);
        if (strncmp(other, name, length) == 0 && strcmp(other + length, suffix) == 0) return tensor[i];
    }
    return (qn_t){ 0 };
}

/* Buffers that the micro runs have moved go back if the update is skipped: their layers have kept "B.before". */
static void restore_buffers(struct train *t)
{
    int n = qn_graph_tensors(t->g, QN_BUFFER, NULL, 0), n_state = qn_graph_tensors(t->g, QN_STATE, NULL, 0);
    size_t room = (size_t)n + (size_t)n_state;
    qn_t *buffer = qn__calloc(&qn__std_alloc, room, sizeof *buffer), *state = buffer ? buffer + n : NULL;
    if (!buffer) {
        qn_graph_fail(t->g, 5002, "train", "cannot allocate %d values", n + n_state);
        return;
    }
    qn_graph_tensors(t->g, QN_BUFFER, buffer, n);
    qn_graph_tensors(t->g, QN_STATE, state, n_state);
    for (int i = 0; i < n; i++) {
        qn_t before = tensor_named(t, state, n_state, qn_name(t->g, buffer[i]), ".before");
        if (before.id) qn_assign(t->g, buffer[i], qn_where(t->g, t->finite, buffer[i], before));
    }
    qn__free(&qn__std_alloc, buffer, room * sizeof *buffer);
}

/* Also after a skipped update: what was not finite must not stay. */
static void clear_gradients(struct train *t)
{
    const int64_t one = 1;
    if (!accumulates(t)) return;
    qn_assign(t->g, t->count, qn_full(t->g, QN_I64, 1, &one, 0));
    for (int i = 0; i < t->n; i++) {
        int64_t dims[QN_MAX_DIMS];
        int rank = qn_rank(t->g, t->w[i]);
        for (int k = 0; k < rank; k++) dims[k] = qn_dim(t->g, t->w[i], k);
        qn_assign(t->g, t->grad[i], qn_full(t->g, t->dtype, rank, dims, 0));
    }
}

/* ---- all together ---------------------------------------------------------------------------------------- */

static void build(struct train *t, qn_t loss, qn_train_nodes *out)
{
    qn_graph *g = t->g;
    make_counters(t);
    check_dtypes(t, loss);
    if (qn_graph_status(g)) return;
    out->loss = add_penalties(t, loss);
    if (differentiate(t, out->loss)) return;
    accumulate_gradients(t);
    advance_rng(t, t->o->batch, 0);
    qn_graph_phase(g, QN_UPDATE);
    count_samples(t);
    measure_gradient(t);
    make_hyper(t);
    move_weights(t);
    restore_buffers(t);
    count_updates(t);
    clear_gradients(t);
    advance_rng(t, 0, 1);
    qn_graph_phase(g, QN_MICRO);
    out->lr = t->lr;
    out->grad_norm = t->norm;
    out->applied = t->apply;
}

qn_status qn_train_build(qn_graph *g, qn_t loss, const qn_train_opts *opts, qn_train_nodes *out)
{
    static const qn_train_nodes nothing = { { 0 }, { 0 }, { 0 }, { 0 } };
    *out = nothing;
    if (qn_graph_status(g)) return qn_graph_status(g);
    QN_TRY(qn__optim_check(g, opts));
    struct train t = { .g = g, .o = opts, .dtype = qn_dtype_of(g, loss) };
    t.n = qn_graph_tensors(g, QN_PARAM, NULL, 0);
    size_t n = (size_t)t.n;
    t.w = qn__calloc(&qn__std_alloc, n, sizeof *t.w);
    t.grad = qn__calloc(&qn__std_alloc, n, sizeof *t.grad);
    if (t.w && t.grad) {
        qn_graph_tensors(g, QN_PARAM, t.w, t.n);
        build(&t, loss, out);
    } else {
        qn_graph_fail(g, 5002, "train", "cannot allocate %d values", t.n);
    }
    qn__free(&qn__std_alloc, t.w, n * sizeof *t.w);
    qn__free(&qn__std_alloc, t.grad, n * sizeof *t.grad);
    if (qn_graph_status(g)) *out = nothing;
    return qn_graph_status(g);
}
