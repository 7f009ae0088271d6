/* plan.c - a recipe's training step without memory: what it costs, and how large a batch can be. See plan.h. */
#include "network.h"
#include "../core/base.h"
#include <stdlib.h>
#include <string.h>

void qn_plan_free(qn_plan *p)
{
    qn_program_free(p->program);
    qn_graph_free(p->graph);
    qn_store_free(p->store);
    memset(p, 0, sizeof *p);
}

static qn_status make_plan(qn_plan *p, struct qn__network *net, const qn_compile_opts *opts, qn_error *err)
{
    struct qn__runner nodes;
    qn_t keep[QN_RUNNER_KEEP];
    QN_TRY(qn__network_graph(net, QN_MODE_TRAIN, p->batch, &p->graph, &nodes, err));
    QN_TRY(qn_compile(&p->program, p->graph, keep, qn__runner_keep(&nodes, keep), net->store, opts, err));
    p->x = nodes.nodes.x;
    p->target = nodes.nodes.target;
    p->loss = nodes.nodes.loss;
    for (int i = 0; i < qn_store_count(net->store); i++) {
        const qn_store_entry *e = qn_store_at(net->store, i);
        if (e->kind == QN_PARAM) p->parameters += (int64_t)(e->bytes / qn_dtype_size(e->dtype));
    }
    return QN_OK;
}

qn_status qn_plan_open(qn_plan *out, const qn_recipe *recipe, const qn_transform *shape, int64_t batch, int threads,
                       const qn_compile_opts *opts, qn_error *err)
{
    struct qn__network net;
    qn_compile_opts with_threads = opts ? *opts : (qn_compile_opts){ 0 };
    memset(out, 0, sizeof *out);
    out->batch = batch > 0 ? batch : recipe->batch;
    if (threads > 0) with_threads.threads = threads;
    qn_status status = qn__network_open(&net, recipe, shape, 1, with_threads.device, threads, err);
    if (!status) status = make_plan(out, &net, &with_threads, err);
    out->store = net.store; /* the plan's from here on */
    net.store = NULL;
    qn__network_close(&net);
    if (status) qn_plan_free(out);
    return status;
}

size_t qn_plan_bytes(const qn_plan *p)
{
    qn_bytes b = qn_program_bytes(p->program);
    return b.params + b.buffers + b.state + b.grads + b.io + b.work;
}

/* ---- contents for a run that is only looked at ---------------------------------------------------------- */

void qn_plan_fill(qn_plan *p)
{
    float *x = qn_program_data(p->program, p->x);
    int64_t n = qn_count(p->graph, p->x), rows = qn_dim(p->graph, p->target, 0);
    for (int64_t i = 0; x && i < n; i++) x[i] = (float)(i * 2654435761u % 1000u) / 500 - 1; /* spread over [-1, 1) */
    void *target = qn_program_data(p->program, p->target);
    int64_t width = rows ? qn_count(p->graph, p->target) / rows : 0;
    int64_t classes = qn_dtype_of(p->graph, p->target) == QN_I32 ? 2 : width;
    for (int64_t i = 0; target && i < rows; i++) {
        if (qn_dtype_of(p->graph, p->target) == QN_I32)
            ((int32_t *)target)[i] = (int32_t)(i % classes);
        else
            for (int64_t k = 0; k < width; k++) ((float *)target)[i * width + k] = k == i % classes;
    }
}

/* ---- the largest batch ------------------------------------------------------------------------------------ */

struct fit {
    const qn_recipe *recipe;
    const qn_transform *shape;
    const qn_compile_opts *opts;
    int threads;
    size_t memory;
    int64_t low, high; /* low fits (0 does), high does not */
    double low_bytes, high_bytes;
};

/* Moves low or high to `batch`. What cannot be compiled for its size does not fit. */
static qn_status try_batch(struct fit *f, int64_t batch, qn_error *err)
{
    qn_plan p;
    qn_error why = { 0 };
    qn_status status = qn_plan_open(&p, f->recipe, f->shape, batch, f->threads, f->opts, &why);
    bool too_large = status == QN_EUSAGE && batch > 1;
    if (status && !too_large) {
        if (err) *err = why;
        return status;
    }
    double bytes = too_large ? 0 : (double)qn_plan_bytes(&p);
    if (!too_large && bytes <= (double)f->memory) {
        f->low = batch;
        f->low_bytes = bytes;
    } else {
        f->high = batch;
        f->high_bytes = bytes; /* 0: not known */
    }
    if (!too_large) qn_plan_free(&p);
    return QN_OK;
}

/* Memory grows nearly as a straight line, so the line through two points is a far better guess than the middle. */
static int64_t guess(const struct fit *f, double per_sample)
{
    double memory = (double)f->memory, at = (double)(f->low + f->high) / 2;
    if (f->high_bytes > f->low_bytes) per_sample = (f->high_bytes - f->low_bytes) / (double)(f->high - f->low);
    if (per_sample > 0) at = (double)f->low + (memory - f->low_bytes) / per_sample;
    if (!(at > (double)f->low + 1)) return f->low + 1;
    return at < (double)f->high - 1 ? (int64_t)at : f->high - 1;
}

qn_status qn_plan_fit(int64_t *batch, const qn_recipe *recipe, const qn_transform *shape, int threads,
                      const qn_compile_opts *opts, size_t memory, int64_t most, qn_error *err)
{
    struct fit f = { recipe, shape, opts, threads, memory, 0, most + 1, 0, 0 };
    *batch = 0;
    QN_TRY(try_batch(&f, 1, err));
    double first = f.low_bytes, per_sample = 0;
    if (f.low == 1 && most > 16) QN_TRY(try_batch(&f, 16, err));
    if (f.low == 16) per_sample = (f.low_bytes - first) / 15;
    for (int turn = 0; f.high - f.low > 1; turn++) { /* every eighth turn halves, so that it always ends soon */
        int64_t next = turn % 8 == 7 ? f.low + (f.high - f.low) / 2 : guess(&f, per_sample);
        QN_TRY(try_batch(&f, next, err));
        if (f.low > 16) per_sample = (f.low_bytes - first) / (double)(f.low - 1);
    }
    *batch = f.low;
    return QN_OK;
}

/* ---- layers ------------------------------------------------------------------------------------------------- */

static const char *kind_name(qn_layer_kind kind)
{
    switch (kind) {
#define X(e, s) \
    case QN_LAYER_##e: return s;
        QN_LAYER_MAP(X)
#undef X
    case QN_LAYER_COUNT: break;
    }
    return "";
}

/* Trained tensors are called LAYER.weight, LAYER.bias, ... */
static bool belongs(const char *tensor, const char *layer)
{
    size_t n = strlen(layer);
    return strncmp(tensor, layer, n) == 0 && tensor[n] == '.' && !strchr(tensor + n + 1, '.');
}

static qn_status describe(qn_layer_info *rows, qn_graph *g, const qn_recipe *r, const qn_transform *t, qn_t *value,
                          qn_t *tensor, qn_error *err)
{
    struct qn__model_shape shape = { .rank = t->rank, .n_classes = t->n_classes, .n_targets = t->n_targets };
    for (int i = 0; i < t->rank; i++) shape.dim[i] = t->dim[i];
    QN_TRY(qn__model_layers(g, r, &shape, 1, value, err));
    int n = qn_graph_tensors(g, QN_PARAM, tensor, 4 * r->n_layers);
    for (int32_t i = 0; i < r->n_layers; i++) {
        qn_layer_info *row = &rows[i];
        *row = (qn_layer_info){ .name = r->layers[i].name,
                                .kind = kind_name(r->layers[i].kind),
                                .rank = qn_rank(g, value[i]) - 1 };
        for (int k = 0; k < row->rank; k++) row->dim[k] = qn_dim(g, value[i], k + 1);
        for (int k = 0; k < n; k++)
            if (belongs(qn_name(g, tensor[k]), row->name)) row->parameters += qn_count(g, tensor[k]);
    }
    return QN_OK;
}

qn_status qn_plan_layers(qn_layer_info **out, const qn_recipe *recipe, const qn_transform *shape, qn_error *err)
{
    size_t n = (size_t)recipe->n_layers;
    qn_graph *g = NULL;
    struct four {
        qn_t tensor[4];
    }; /* no layer trains more */
    *out = calloc(n, sizeof **out);
    qn_t *value = qn__calloc(NULL, n, sizeof *value);
    struct four *tensor = qn__calloc(NULL, n, sizeof *tensor);
    qn_status status = *out && value && tensor && !qn_graph_new(&g, NULL) ? QN_OK
                                                                          : qn__nomem(err, "layers", n * sizeof **out);
    if (!status) status = describe(*out, g, recipe, shape, value, tensor->tensor, err);
    qn_graph_free(g);
    qn__free(NULL, value, n * sizeof *value);
    qn__free(NULL, tensor, n * sizeof *tensor);
    if (!status) return QN_OK;
    free(*out);
    *out = NULL;
    return status;
}
