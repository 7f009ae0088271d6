/* model.c - from the layers of a recipe to a graph: see model.h. */
#include "model.h"
#include "../include/quern/layers.h"
#include "../core/base.h"
#include <string.h>

/* ---- one layer ------------------------------------------------------------------------------------- */

static qn_init init_of(const qn_layer *l)
{
    switch (l->init) {
    case QN_RECIPE_INIT_HE_UNIFORM: return (qn_init){ .kind = QN_INIT_HE_UNIFORM };
    case QN_RECIPE_INIT_XAVIER: return (qn_init){ .kind = QN_INIT_XAVIER_NORMAL };
    case QN_RECIPE_INIT_XAVIER_UNIFORM: return (qn_init){ .kind = QN_INIT_XAVIER };
    case QN_RECIPE_INIT_TRUNCATED_NORMAL: return (qn_init){ .kind = QN_INIT_TRUNCATED_NORMAL, .b = l->init_std };
    case QN_RECIPE_INIT_NORMAL: return (qn_init){ .kind = QN_INIT_NORMAL, .b = l->init_std };
    case QN_RECIPE_INIT_ZEROS: return (qn_init){ .kind = QN_INIT_VALUE, .a = 0 };
    case QN_RECIPE_INIT_HE:
    case QN_RECIPE_INIT_COUNT: break;
    }
    return (qn_init){ .kind = QN_INIT_HE };
}

/* "same": the output has ceil(size / stride) elements; an odd rest of the padding goes to the end. */
static void same_padding(int64_t size, int64_t kernel, int64_t stride, int64_t dilation, int32_t *before,
                         int32_t *after)
{
    int64_t out = (size + stride - 1) / stride, need = (out - 1) * stride + dilation * (kernel - 1) + 1 - size;
    if (need < 0) need = 0;
    *before = (int32_t)(need / 2);
    *after = (int32_t)(need - need / 2);
}

static qn_conv2d_opts conv_opts(const qn_graph *g, qn_t x, const qn_layer *l)
{
    qn_conv2d_opts o = { .groups = (int32_t)l->groups };
    for (int i = 0; i < 2; i++) {
        o.stride[i] = (int32_t)l->stride[i];
        o.dilation[i] = (int32_t)l->dilation[i];
        o.pad[i] = o.pad_end[i] = (int32_t)l->padding[i];
        if (l->padding[i] == QN_PADDING_SAME)
            same_padding(qn_dim(g, x, 2 + i), l->kernel[i], l->stride[i], l->dilation[i], &o.pad[i], &o.pad_end[i]);
    }
    return o;
}

/* Pooling pads both sides alike, and "same" may need one more on one side than on the other. Padding both by the larger
 * number leaves the number of windows as it is where they are 2 or more apart; where they are 1 apart there is one too
 * many, and the last is cut off. */
static qn_t pooling(qn_graph *g, const qn_layer *l, qn_t x)
{
    qn_pool2d_opts o;
    int64_t begin[QN_MAX_DIMS] = { 0 }, size[QN_MAX_DIMS] = { 0 };
    bool cut = false;
    for (int i = 0; i < 2; i++) {
        int32_t before = (int32_t)l->padding[i], after = before;
        if (l->padding[i] == QN_PADDING_SAME)
            same_padding(qn_dim(g, x, 2 + i), l->kernel[i], l->stride[i], 1, &before, &after);
        o.window[i] = (int32_t)l->kernel[i];
        o.stride[i] = (int32_t)l->stride[i];
        o.pad[i] = after;
    }
    qn_t y = l->kind == QN_LAYER_MAX_POOL ? qn_max_pool2d(g, x, &o) : qn_avg_pool2d(g, x, &o);
    for (int i = 0; i < qn_rank(g, y) && i < QN_MAX_DIMS; i++) {
        size[i] = qn_dim(g, y, i);
        if (i < 2 || l->padding[i - 2] != QN_PADDING_SAME) continue;
        int64_t wanted = (qn_dim(g, x, i) + l->stride[i - 2] - 1) / l->stride[i - 2];
        cut = cut || size[i] > wanted;
        size[i] = wanted;
    }
    return cut ? qn_slice(g, y, begin, size) : y;
}

static qn_t convolution(qn_graph *g, const qn_layer *l, qn_t x)
{
    qn_conv_opts o = { .conv = conv_opts(g, x, l),
                       .weight = init_of(l),
                       .no_bias = !l->bias,
                       .out_pad = { (int32_t)l->output_padding[0], (int32_t)l->output_padding[1] } };
    return l->kind == QN_LAYER_CONV ? qn_conv(g, l->name, x, l->channels, l->kernel, &o)
                                    : qn_conv_transpose(g, l->name, x, l->channels, l->kernel, &o);
}

/* A linear layer on images takes them flat, as every framework's users expect. */
static qn_t linear(qn_graph *g, const qn_layer *l, qn_t x)
{
    qn_linear_opts o = { .weight = init_of(l), .no_bias = !l->bias };
    return qn_linear(g, l->name, qn_rank(g, x) > 2 ? qn_flatten(g, x) : x, l->channels, &o);
}

/* axis: counted without the batch from the front, or from the end */
static int full_axis(int64_t axis) { return (int)(axis >= 0 ? axis + 1 : axis); }

static qn_t softmax_along(qn_graph *g, qn_t x, int64_t axis)
{
    int rank = qn_rank(g, x), at = full_axis(axis), perm[QN_MAX_DIMS];
    if (at < 0) at += rank;
    if (at == rank - 1 || at < 0 || at >= rank) return qn_softmax(g, x);
    for (int i = 0; i < rank; i++) perm[i] = i;
    perm[at] = rank - 1;
    perm[rank - 1] = at;
    return qn_transpose(g, qn_softmax(g, qn_transpose(g, x, perm)), perm);
}

static qn_t reshape(qn_graph *g, qn_t x, const qn_ints *shape)
{
    int64_t dims[QN_MAX_DIMS] = { qn_dim(g, x, 0) };
    int n = shape->n < QN_MAX_DIMS - 1 ? shape->n : QN_MAX_DIMS - 1;
    for (int i = 0; i < n; i++) dims[i + 1] = shape->v[i];
    return qn_reshape(g, x, n + 1, dims);
}

static qn_t join(qn_graph *g, const qn_layer *l, const qn_t *x)
{
    if (l->kind == QN_LAYER_CONCAT) {
        int axis = full_axis(l->axis);
        return qn_concat(g, x, l->n_input, axis < 0 ? axis + qn_rank(g, x[0]) : axis);
    }
    qn_t sum = x[0];
    for (int i = 1; i < l->n_input; i++) sum = qn_add(g, sum, x[i]);
    return sum;
}

static qn_t layer(qn_graph *g, const qn_layer *l, const qn_t *in, bool training, qn_t rng)
{
    qn_t x = in[0];
    switch (l->kind) {
    case QN_LAYER_CONV:
    case QN_LAYER_CONV_TRANSPOSE: return convolution(g, l, x);
    case QN_LAYER_LINEAR: return linear(g, l, x);
    case QN_LAYER_MAX_POOL:
    case QN_LAYER_AVG_POOL: return pooling(g, l, x);
    case QN_LAYER_GLOBAL_AVG_POOL: return qn_flatten(g, qn_global_avg_pool2d(g, x));
    case QN_LAYER_GLOBAL_MAX_POOL: return qn_flatten(g, qn_global_max_pool2d(g, x));
    case QN_LAYER_BATCH_NORM:
        return qn_norm_batch(g, l->name, x, training,
                             &(qn_norm_opts){ .eps = l->eps, .momentum = l->momentum, .no_affine = !l->affine });
    case QN_LAYER_DROPOUT: return training && l->rate > 0 ? qn_dropout(g, x, rng, l->rate, l->name) : x;
    case QN_LAYER_RELU: return qn_relu(g, x);
    case QN_LAYER_LEAKY_RELU: return qn_leaky_relu(g, x, l->alpha);
    case QN_LAYER_ELU: return qn_elu(g, x, l->alpha);
    case QN_LAYER_GELU: return l->gelu == QN_GELU_ERF ? qn_gelu_erf(g, x) : qn_gelu_tanh(g, x);
    case QN_LAYER_SILU: return qn_silu(g, x);
    case QN_LAYER_SIGMOID: return qn_sigmoid(g, x);
    case QN_LAYER_TANH: return qn_tanh(g, x);
    case QN_LAYER_SOFTPLUS: return qn_softplus(g, x);
    case QN_LAYER_SOFTMAX: return softmax_along(g, x, l->axis);
    case QN_LAYER_FLATTEN: return qn_flatten(g, x);
    case QN_LAYER_RESHAPE: return reshape(g, x, &l->shape);
    case QN_LAYER_ADD:
    case QN_LAYER_CONCAT: return join(g, l, in);
    case QN_LAYER_COUNT: break;
    }
    return (qn_t){ 0 };
}

/* ---- test-time augmentation --------------------------------------------------------------------------- */

/* [B,C,H,W] -> [2B,C,H,W]: the images, then their mirror images. */
static qn_t with_mirror_images(qn_graph *g, qn_t x)
{
    int64_t width = qn_dim(g, x, 3);
    int32_t *column = qn__calloc(NULL, (size_t)width, sizeof *column);
    if (!column) return (qn_t){ 0 }; /* the next constructor refuses it */
    for (int32_t i = 0; i < width; i++) column[i] = (int32_t)width - 1 - i;
    qn_t mirrored = qn_gather(g, x, qn_constant(g, QN_I32, 1, &width, column), 3);
    qn__free(NULL, column, (size_t)width * sizeof *column);
    return qn_concat(g, (qn_t[]){ x, mirrored }, 2, 0);
}

/* [2B,K] -> [B,K]: the mean of what the two halves say. */
static qn_t mean_of_halves(qn_graph *g, qn_t scores)
{
    int64_t batch = qn_dim(g, scores, 0) / 2, width = qn_dim(g, scores, 1);
    qn_t pair = qn_reshape(g, scores, 3, (int64_t[]){ 2, batch, width });
    return qn_mean(g, pair, 1u << 0, false);
}

/* ---- the network ------------------------------------------------------------------------------------ */

static bool has_weights(qn_layer_kind k)
{
    return k == QN_LAYER_CONV || k == QN_LAYER_CONV_TRANSPOSE || k == QN_LAYER_LINEAR || k == QN_LAYER_BATCH_NORM ||
           k == QN_LAYER_DROPOUT;
}

/* Values of all layers; returns the last. Layers with weights scope themselves by their name, the others are put into
 * a scope of their name here, so that messages say which layer. */
static void all_layers(qn_graph *g, const qn_recipe *r, qn_t x, bool training, qn_t *value)
{
    bool draws = false;
    for (int32_t i = 0; i < r->n_layers; i++) draws = draws || (r->layers[i].kind == QN_LAYER_DROPOUT && training);
    qn_t rng = draws ? qn_rng(g) : (qn_t){ 0 };
    for (int32_t i = 0; i < r->n_layers; i++) {
        const qn_layer *l = &r->layers[i];
        qn_t in[QN_MAX_DIMS] = { { 0 } };
        int n = l->n_input < QN_MAX_DIMS ? l->n_input : QN_MAX_DIMS;
        for (int k = 0; k < n; k++) in[k] = l->input[k] == QN_INPUT ? x : value[l->input[k]];
        if (!has_weights(l->kind)) qn_scope_push(g, l->name);
        value[i] = layer(g, l, in, training, rng);
        if (!has_weights(l->kind)) qn_scope_pop(g);
    }
}

/* [B,K]; one value per sample gets K = 1. */
static qn_t as_rows(qn_graph *g, qn_t x) { return qn_rank(g, x) == 2 ? x : qn_flatten(g, x); }

/* 1 where the class index equals the column, by comparing with 0..classes-1 */
static qn_t one_hot(qn_graph *g, qn_t label, int64_t batch, int64_t classes)
{
    size_t n = (size_t)classes;
    int32_t *index = qn__calloc(NULL, n, sizeof *index);
    if (!index) return (qn_t){ 0 }; /* the next constructor refuses it */
    for (int32_t i = 0; i < classes; i++) index[i] = i;
    qn_t all = qn_constant(g, QN_I32, 2, (int64_t[]){ 1, classes }, index);
    qn__free(NULL, index, n * sizeof *index);
    return qn_cast(g, qn_eq(g, qn_reshape(g, label, 2, (int64_t[]){ batch, 1 }), all), QN_F32);
}

/* The target in the shape of the scores, for losses that compare element by element. */
static qn_t dense_target(qn_graph *g, const struct qn__model_shape *s, const struct qn__model_nodes *m, int64_t batch)
{
    int64_t width = qn_dim(g, m->scores, 1);
    if (s->soft && width == 1) /* how much of the second class */
        return qn_slice(g, m->target, (int64_t[]){ 0, 1 }, (int64_t[]){ batch, 1 });
    if (s->n_classes == 0 || s->soft) return m->target;
    if (width == 1) return qn_reshape(g, qn_cast(g, m->target, QN_F32), 2, (int64_t[]){ batch, 1 });
    return one_hot(g, m->target, batch, width);
}

/* w per element: 1 + (pos_weight - 1) t */
static qn_t weighted_bce(qn_graph *g, qn_t x, qn_t t, double pos_weight)
{
    if (!(pos_weight > 0) || pos_weight == 1) return qn_bce_with_logits(g, x, t);
    qn_t weight = qn_affine(g, t, pos_weight - 1, 1), soft = qn_softplus(g, qn_neg(g, x));
    return qn_mean_all(g, qn_add(g, qn_mul(g, x, qn_affine(g, t, -1, 1)), qn_mul(g, weight, soft)));
}

static qn_t class_weights(qn_graph *g, const qn_reals *w)
{
    if (w->n == 0) return (qn_t){ 0 };
    int64_t n = w->n;
    qn_t all = qn_constant(g, QN_F64, 1, &n, w->v);
    return qn_cast(g, all, QN_F32);
}

static qn_t loss_of(qn_graph *g, const qn_recipe *r, const struct qn__model_shape *s, const struct qn__model_nodes *m,
                    int64_t batch)
{
    const qn_recipe_loss *l = &r->loss;
    switch (l->kind) {
    case QN_LOSS_CROSS_ENTROPY:
        return qn_cross_entropy(g, m->scores, m->target,
                                &(qn_cross_entropy_opts){ .weight = class_weights(g, &l->class_weights),
                                                          .smoothing = l->label_smoothing,
                                                          .ignore_index = l->ignore_index,
                                                          .use_ignore = l->ignore_index >= 0 });
    case QN_LOSS_MSE: return qn_mse(g, m->output, dense_target(g, s, m, batch));
    case QN_LOSS_L1: return qn_l1(g, m->output, dense_target(g, s, m, batch));
    case QN_LOSS_HUBER: return qn_huber(g, m->output, dense_target(g, s, m, batch), l->delta);
    case QN_LOSS_BCE: return weighted_bce(g, m->scores, dense_target(g, s, m, batch), l->pos_weight);
    case QN_LOSS_COUNT: break;
    }
    return (qn_t){ 0 };
}

/* Losses and measures read as many scores as there are classes or values: another number of outputs is refused. */
static qn_status check_outputs(const qn_graph *g, const qn_recipe *r, const struct qn__model_shape *s, qn_t scores,
                               qn_error *err)
{
    const char *layer = r->layers[r->n_layers - 1].name;
    int64_t outputs = qn_dim(g, scores, 1), classes = s->n_classes;
    bool logits = r->loss.kind == QN_LOSS_CROSS_ENTROPY;
    if (classes == 0 && s->n_targets == 0) return QN_OK; /* a shape without labels */
    if (classes == 0 && logits)
        return qn__fail(err, 2201, QN_AT_FIELD("loss"), "cross_entropy, and the data has values; expected classes");
    if (classes == 0 && outputs != s->n_targets)
        return qn__fail(err, 2201, QN_AT_FIELD(layer), "%lld output%s; expected %d, the values of a sample",
                        (long long)outputs, outputs == 1 ? "" : "s", s->n_targets);
    if (classes > 0 && outputs != classes && (logits || outputs != 1 || classes != 2))
        return qn__fail(err, 2201, QN_AT_FIELD(layer), "%lld output%s; expected %lld, the classes of the data",
                        (long long)outputs, outputs == 1 ? "" : "s", (long long)classes);
    for (int32_t i = 0; i < r->n_metrics && classes > 0 && outputs > 1; i++)
        if (r->metrics[i].kind == QN_METRIC_TOP_K && r->metrics[i].k > outputs)
            return qn__fail(err, 2201, QN_AT_FIELD("metrics.top_k"),
                            "k of %lld; expected at most %lld, the classes of the data", (long long)r->metrics[i].k,
                            (long long)outputs);
    if (r->loss.class_weights.n && r->loss.class_weights.n != outputs)
        return qn__fail(err, 2201, QN_AT_FIELD("loss.class_weights"),
                        "%d numbers; expected one for each of %lld classes", r->loss.class_weights.n,
                        (long long)outputs);
    return QN_OK;
}

static qn_t target_input(qn_graph *g, const struct qn__model_shape *s, int64_t batch)
{
    if (s->n_classes && !s->soft) return qn_input(g, "target", QN_I32, 1, &batch);
    int64_t dims[] = { batch, s->n_classes ? s->n_classes : s->n_targets };
    return qn_input(g, "target", QN_F32, 2, dims);
}

qn_status qn__model_build(qn_graph *g, const qn_recipe *r, const struct qn__model_shape *shape, int64_t batch,
                          bool training, bool with_loss, struct qn__model_nodes *out, qn_error *err)
{
    int64_t dims[4] = { batch };
    size_t n = (size_t)r->n_layers;
    for (int i = 0; i < shape->rank; i++) dims[i + 1] = shape->dim[i];
    memset(out, 0, sizeof *out);
    qn_t *value = qn__calloc(NULL, n, sizeof *value);
    if (!value) return qn__nomem(err, "model", n * sizeof *value);
    out->x = qn_input(g, "x", QN_F32, shape->rank + 1, dims);
    bool twice = r->augment.test_flip && !training && shape->rank == 3;
    qn_t in = twice ? with_mirror_images(g, out->x) : out->x;
    all_layers(g, r, in, training, value);
    const qn_layer *last = &r->layers[n - 1];
    bool softmax_last = last->kind == QN_LAYER_SOFTMAX && r->loss.kind == QN_LOSS_CROSS_ENTROPY;
    bool sigmoid_last = last->kind == QN_LAYER_SIGMOID && r->loss.kind == QN_LOSS_BCE;
    qn_t end = value[n - 1];
    if (softmax_last || sigmoid_last) end = last->input[0] == QN_INPUT ? in : value[last->input[0]];
    qn__free(NULL, value, n * sizeof *value);
    out->scores = as_rows(g, end);
    if (twice) out->scores = mean_of_halves(g, out->scores);
    out->output = r->loss.kind == QN_LOSS_CROSS_ENTROPY ? qn_softmax(g, out->scores)
                  : r->loss.kind == QN_LOSS_BCE         ? qn_sigmoid(g, out->scores)
                                                        : out->scores;
    if (!qn_graph_status(g)) QN_TRY(check_outputs(g, r, shape, out->scores, err));
    if (with_loss) {
        out->target = target_input(g, shape, batch);
        out->loss = loss_of(g, r, shape, out, batch);
    }
    if (qn_graph_status(g) && err) *err = *qn_graph_error(g);
    return qn_graph_status(g);
}

qn_status qn__model_layers(qn_graph *g, const qn_recipe *r, const struct qn__model_shape *shape, int64_t batch,
                           qn_t *value, qn_error *err)
{
    int64_t dims[4] = { batch };
    for (int i = 0; i < shape->rank; i++) dims[i + 1] = shape->dim[i];
    all_layers(g, r, qn_input(g, "x", QN_F32, shape->rank + 1, dims), true, value);
    if (qn_graph_status(g) && err) *err = *qn_graph_error(g);
    return qn_graph_status(g);
}
