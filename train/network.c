/* network.c - graphs and programs of a recipe, by mode and batch size: see network.h. */
#include "network.h"
#include "memory.h"
#include "../core/base.h"
#include <math.h>
#include <string.h>

/* ---- options of the optimizer --------------------------------------------------------------------------- */

static qn_optimizer_opts optimizer_opts(const qn_recipe_optimizer *o)
{
    return (qn_optimizer_opts){ .kind = o->kind,
                                .lr = o->lr,
                                .weight_decay = o->weight_decay,
                                .eps = o->eps,
                                .momentum = o->momentum,
                                .nesterov = o->nesterov,
                                .decay = o->decay,
                                .betas = { o->betas[0], o->betas[1] },
                                .n_groups = o->n_groups,
                                .groups = o->groups };
}

/* Epochs to updates. */
static qn_schedule_opts schedule_opts(const qn_recipe *r, int64_t per_epoch)
{
    const qn_recipe_schedule *s = &r->schedule;
    double n = (double)per_epoch;
    qn_schedule_opts o = { .kind = s->kind,
                           .warmup = s->warmup * n,
                           .every = s->every * n,
                           .gamma = s->gamma,
                           .total = (double)r->epochs * n,
                           .end = s->end,
                           .peak = s->peak,
                           .start = s->start };
    if (s->kind == QN_SCHEDULE_EXPONENTIAL) o.every = n; /* gamma is per epoch */
    o.n_at = s->at.n < QN_SCHEDULE_MAX_AT ? s->at.n : QN_SCHEDULE_MAX_AT;
    for (int i = 0; i < o.n_at; i++) o.at[i] = s->at.v[i] * n;
    return o;
}

static qn_train_opts train_opts(const qn_recipe *r, int64_t per_epoch)
{
    return (qn_train_opts){ .optimizer = optimizer_opts(&r->optimizer),
                            .schedule = schedule_opts(r, per_epoch),
                            .accumulate = (int)r->accumulate,
                            .clip_norm = r->clip.norm,
                            .clip_value = r->clip.value,
                            .ema_decay = r->ema.on ? r->ema.decay : 0,
                            .l1 = r->penalties.l1,
                            .l2 = r->penalties.l2,
                            .batch = r->batch };
}

static struct qn__model_shape shape_of(const qn_recipe *r, const qn_transform *t)
{
    struct qn__model_shape s = { .rank = t->rank, .n_classes = t->n_classes, .n_targets = t->n_targets };
    for (int i = 0; i < t->rank; i++) s.dim[i] = t->dim[i];
    s.soft = t->n_classes > 0 && r->augment.on && r->augment.mixup > 0;
    return s;
}

qn_status qn__network_open(struct qn__network *net, const qn_recipe *r, const qn_transform *t,
                           int64_t updates_per_epoch, const char *device, int threads, qn_error *err)
{
    memset(net, 0, sizeof *net);
    net->recipe = r;
    net->shape = shape_of(r, t);
    net->train = train_opts(r, updates_per_epoch);
    net->threads = threads;
    return qn_store_new(&net->store, device, (uint64_t)r->seed, NULL, err);
}

static void runner_close(struct qn__runner *r)
{
    qn_program_free(r->program);
    memset(r, 0, sizeof *r);
}

void qn__network_close(struct qn__network *net)
{
    for (int i = 0; i < net->n_runners; i++) runner_close(&net->runner[i]);
    qn_store_free(net->store);
    memset(net, 0, sizeof *net);
}

/* ---- graphs ---------------------------------------------------------------------------------------------- */

/* The gradient of the picked score with respect to the input: pick is a one-hot row that the caller fills. */
static void add_saliency(qn_graph *g, struct qn__runner *r)
{
    r->pick = qn_input(g, "pick", QN_F32, 2, (int64_t[]){ 1, qn_dim(g, r->nodes.scores, 1) });
    qn_t score = qn_sum_all(g, qn_mul(g, r->nodes.scores, r->pick));
    qn_grad(g, score, &r->nodes.x, &r->dx, 1);
}

qn_status qn__network_graph(const struct qn__network *net, enum qn__mode mode, int64_t batch, qn_graph **g,
                            struct qn__runner *nodes, qn_error *err)
{
    struct qn__model_shape shape = net->shape;
    if (mode != QN_MODE_TRAIN) shape.soft = false; /* only training batches are mixed */
    if (qn_graph_new(g, NULL)) return qn__nomem(err, "graph", sizeof(void *));
    memset(nodes, 0, sizeof *nodes);
    nodes->mode = mode;
    nodes->batch = batch;
    bool with_loss = mode == QN_MODE_TRAIN || mode == QN_MODE_EVAL;
    qn_status status = qn__model_build(*g, net->recipe, &shape, batch, mode == QN_MODE_TRAIN, with_loss, &nodes->nodes,
                                       err);
    if (!status && mode == QN_MODE_TRAIN) {
        qn_train_opts opts = net->train;
        opts.batch = batch;
        status = qn_train_build(*g, nodes->nodes.loss, &opts, &nodes->train);
    }
    if (!status && mode == QN_MODE_SALIENCY) add_saliency(*g, nodes);
    nodes->width = qn_dim(*g, nodes->nodes.scores, 1);
    if (!status) status = qn_graph_status(*g);
    if (status && qn_graph_status(*g) && err) *err = *qn_graph_error(*g);
    return status;
}

static int add_value(qn_t *keep, int n, qn_t t)
{
    if (t.id) keep[n++] = t;
    return n;
}

int qn__runner_keep(const struct qn__runner *r, qn_t *keep)
{
    int n = add_value(keep, 0, r->nodes.scores);
    if (r->mode == QN_MODE_PREDICT) n = add_value(keep, n, r->nodes.output);
    n = add_value(keep, n, r->nodes.loss);
    if (r->mode == QN_MODE_SALIENCY) n = add_value(keep, n, r->dx);
    if (r->mode != QN_MODE_TRAIN) return n;
    n = add_value(keep, n, r->train.loss);
    n = add_value(keep, n, r->train.lr);
    n = add_value(keep, n, r->train.grad_norm);
    n = add_value(keep, n, r->train.applied);
    return n;
}

/* ---- programs --------------------------------------------------------------------------------------------- */

/* A training step that cannot fit is refused before any of its memory is taken. */
static qn_status check_memory(const struct qn__network *net, const struct qn__runner *r, qn_error *err)
{
    qn_transform shape = { .rank = net->shape.rank,
                           .n_classes = net->shape.n_classes,
                           .n_targets = net->shape.n_targets };
    qn_bytes need = qn_program_bytes(r->program);
    for (int i = 0; i < net->shape.rank; i++) shape.dim[i] = net->shape.dim[i];
    return qn__memory_check(net->store, &need, net->recipe, &shape, r->batch, net->threads, err);
}

static qn_status make_runner(struct qn__network *net, enum qn__mode mode, int64_t batch, struct qn__runner *out,
                             qn_error *err)
{
    qn_graph *g = NULL;
    qn_t keep[QN_RUNNER_KEEP];
    qn_status status = qn__network_graph(net, mode, batch, &g, out, err);
    qn_compile_opts opts = { .threads = net->threads, .tuning = net->tuning };
    if (!status) status = qn_compile(&out->program, g, keep, qn__runner_keep(out, keep), net->store, &opts, err);
    qn_graph_free(g);
    /* Later programs of the store share its tensors and its work memory. */
    if (!status && mode == QN_MODE_TRAIN && net->n_runners == 0) status = check_memory(net, out, err);
    if (!status) status = qn_program_load(out->program, err);
    if (status) runner_close(out);
    return status;
}

qn_status qn__network_runner(struct qn__network *net, enum qn__mode mode, int64_t batch, struct qn__runner **out,
                             qn_error *err)
{
    for (int i = 0; i < net->n_runners; i++)
        if (net->runner[i].mode == mode && net->runner[i].batch == batch) {
            *out = &net->runner[i];
            return QN_OK;
        }
    struct qn__runner made;
    QN_TRY(make_runner(net, mode, batch, &made, err));
    if (net->n_runners == QN_RUNNERS_MAX) { /* the first one is the full training batch: it stays */
        runner_close(&net->runner[1]);
        memmove(&net->runner[1], &net->runner[2], (QN_RUNNERS_MAX - 2) * sizeof net->runner[0]);
        net->n_runners--;
    }
    *out = &net->runner[net->n_runners++];
    **out = made;
    return QN_OK;
}

void qn__runner_feed(const struct qn__network *net, struct qn__runner *r, const qn_batch *b)
{
    size_t n = (size_t)b->count, width = 1;
    for (int i = 0; i < net->shape.rank; i++) width *= (size_t)net->shape.dim[i];
    memcpy(qn_program_data(r->program, r->nodes.x), b->x, n * width * sizeof *b->x);
    if (!r->nodes.target.id) return;
    void *target = qn_program_data(r->program, r->nodes.target);
    if (net->shape.n_classes == 0)
        memcpy(target, b->target, n * (size_t)net->shape.n_targets * sizeof *b->target);
    else if (r->mode == QN_MODE_TRAIN && net->shape.soft)
        memcpy(target, b->target, n * (size_t)net->shape.n_classes * sizeof *b->target);
    else
        memcpy(target, b->label, n * sizeof *b->label);
}

/* ---- moving averages ---------------------------------------------------------------------------------------- */

static void swap_bytes(void *a, void *b, size_t bytes)
{
    char part[4096], *p = a, *q = b;
    for (size_t at = 0; at < bytes; at += sizeof part) {
        size_t n = bytes - at < sizeof part ? bytes - at : sizeof part;
        memcpy(part, p + at, n);
        memcpy(p + at, q + at, n);
        memcpy(q + at, part, n);
    }
}

/* "NAME.ema" in buf; false if it does not fit. */
static bool ema_name(char buf[280], const char *name)
{
    size_t n = strlen(name);
    if (n + 5 > 280) return false;
    memcpy(buf, name, n);
    memcpy(buf + n, ".ema", 5);
    return true;
}

static qn_status swap_pairs(struct qn__network *net, qn_error *err)
{
    for (int i = 0; i < qn_store_count(net->store); i++) {
        const qn_store_entry *w = qn_store_at(net->store, i);
        char name[280];
        if (w->kind != QN_PARAM || !ema_name(name, w->name)) continue;
        const qn_store_entry *shadow = qn_store_find(net->store, name);
        if (!shadow || shadow->bytes != w->bytes) continue;
        QN_TRY(qn_store_pull(net->store, w->name, err));
        QN_TRY(qn_store_pull(net->store, name, err));
        swap_bytes(w->data, shadow->data, w->bytes);
        QN_TRY(qn_store_push(net->store, w->name, err));
        QN_TRY(qn_store_push(net->store, name, err));
    }
    return QN_OK;
}

qn_status qn__network_swap_ema(struct qn__network *net, qn_error *err)
{
    const qn_store_entry *updates = qn_store_find(net->store, "optim.updates");
    if (!net->recipe->ema.on || !updates || !updates->data) return QN_OK;
    QN_TRY(qn_store_pull(net->store, updates->name, err));
    return *(const int64_t *)updates->data == 0 ? QN_OK : swap_pairs(net, err);
}

qn_status qn__network_load_ema(struct qn__network *net, const qn_checkpoint *ck, qn_error *err)
{
    const qn_safetensors *model = qn_checkpoint_model(ck);
    for (int i = 0; net->recipe->ema.on && i < qn_store_count(net->store); i++) {
        const qn_store_entry *w = qn_store_at(net->store, i);
        qn_tensor_info info;
        char name[280];
        if (w->kind != QN_PARAM || !ema_name(name, w->name) || !qn_safetensors_find(model, name, &info)) continue;
        if ((size_t)info.count * qn_dtype_size(w->dtype) != w->bytes) continue;
        QN_TRY(qn_safetensors_read(model, &info, w->data, w->dtype, err));
        QN_TRY(qn_store_push(net->store, w->name, err));
    }
    return QN_OK;
}
