/* predict.c - a trained network: prediction, saliency, evaluation; and a recipe's plan. See train.h. */
#include "evaluate.h"
#include "run_dir.h"
#include "state.h"
#include "../core/base.h"
#include <omp.h>
#include <string.h>
#include <sys/stat.h>

struct qn_model {
    qn_checkpoint *ck;
    qn_recipe *recipe;
    qn_transform transform;
    struct qn__network net;
};

const qn_recipe *qn_model_recipe(const qn_model *m) { return m->recipe; }
const qn_transform *qn_model_transform(const qn_model *m) { return &m->transform; }
const qn_store *qn_model_store(const qn_model *m) { return m->net.store; }
const char *qn_model_path(const qn_model *m) { return qn_checkpoint_path(m->ck); }
int64_t qn_model_outputs(const qn_model *m)
{
    const struct qn__runner *r = &m->net.runner[0];
    return r->program ? r->width : 0;
}

/* ---- opening --------------------------------------------------------------------------------------------------- */

static bool is_dir(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* A checkpoint as it is; of a run's directory the best one, else the newest. */
static qn_status open_checkpoint(qn_checkpoint **out, const char *path, qn_error *err)
{
    char dir[QN_PATH_MAX], best[QN_PATH_MAX];
    QN_TRY(qn__path_join(dir, path, "checkpoints", err));
    if (!is_dir(dir)) return qn_checkpoint_open(out, path, err);
    QN_TRY(qn__path_join(best, dir, "best", err));
    return is_dir(best) ? qn_checkpoint_open(out, best, err)
                        : qn_checkpoint_open_newest(out, dir, NULL, NULL, NULL, err);
}

static qn_status read_texts(qn_model *m, qn_error *err)
{
    const char *path = qn_checkpoint_path(m->ck), *recipe = qn_checkpoint_text(m->ck, "recipe.json");
    const char *transform = qn_checkpoint_text(m->ck, "transform.json");
    qn_recipe_errors errs;
    if (!recipe || !transform)
        return qn__fail(err, 4034, QN_AT_FILE(path), "%s: missing; expected a checkpoint of `quern train`",
                        recipe ? "transform.json" : "recipe.json");
    qn_status status = qn_recipe_parse(&m->recipe, "recipe.json", recipe, strlen(recipe), NULL, 0, &errs);
    if (status && err) *err = errs.list[0];
    return status ? status : qn_transform_from_json(&m->transform, transform, err);
}

static qn_status open_model(qn_model *m, const char *path, int threads, qn_error *err)
{
    struct qn__runner *first;
    QN_TRY(open_checkpoint(&m->ck, path, err));
    QN_TRY(read_texts(m, err));
    QN_TRY(qn__network_open(&m->net, m->recipe, &m->transform, 1, threads > 0 ? threads : omp_get_num_procs(), err));
    QN_TRY(qn__network_runner(&m->net, QN_MODE_PREDICT, 1, &first, err));
    QN_TRY(qn__checkpoint_load(m->net.store, m->ck, QN_LOAD_MODEL, err));
    return qn__network_load_ema(&m->net, m->ck, err);
}

qn_status qn_model_open(qn_model **out, const char *path, int threads, qn_error *err)
{
    *out = NULL;
    qn_model *m = qn__calloc(NULL, 1, sizeof *m);
    if (!m) return qn__nomem(err, "model", sizeof *m);
    qn_status status = open_model(m, path, threads, err);
    if (status)
        qn_model_free(m);
    else
        *out = m;
    return status;
}

void qn_model_free(qn_model *m)
{
    if (!m) return;
    qn__network_close(&m->net);
    qn_transform_free(&m->transform);
    qn_recipe_free(m->recipe);
    qn_checkpoint_close(m->ck);
    qn__free(NULL, m, sizeof *m);
}

/* ---- asking ------------------------------------------------------------------------------------------------------ */

qn_status qn_model_predict(qn_model *m, const float *x, int64_t n, float *out, qn_error *err)
{
    enum { BATCH = 256 };
    size_t in = (size_t)qn_transform_size(&m->transform), width = (size_t)qn_model_outputs(m);
    for (int64_t at = 0; at < n;) {
        int64_t count = n - at < BATCH ? n - at : BATCH;
        struct qn__runner *r;
        QN_TRY(qn__network_runner(&m->net, QN_MODE_PREDICT, count, &r, err));
        memcpy(qn_program_data(r->program, r->nodes.x), x + (size_t)at * in, (size_t)count * in * sizeof *x);
        QN_TRY(qn_program_run(r->program, QN_MICRO, err));
        memcpy(out + (size_t)at * width, qn_program_data(r->program, r->nodes.output),
               (size_t)count * width * sizeof *out);
        at += count;
    }
    return QN_OK;
}

qn_status qn_model_saliency(qn_model *m, const float *x, int64_t target, float *dx, qn_error *err)
{
    struct qn__runner *r;
    size_t in = (size_t)qn_transform_size(&m->transform);
    QN_TRY(qn__network_runner(&m->net, QN_MODE_SALIENCY, 1, &r, err));
    float *pick = qn_program_data(r->program, r->pick);
    const float *scores = qn_program_data(r->program, r->nodes.scores);
    memcpy(qn_program_data(r->program, r->nodes.x), x, in * sizeof *x);
    if (target < 0) {
        QN_TRY(qn_program_run(r->program, QN_MICRO, err));
        target = 0;
        for (int64_t k = 1; k < r->width; k++)
            if (scores[k] > scores[target]) target = k;
    }
    if (target >= r->width)
        return qn__fail(err, 2203, NULL, "saliency: target %lld; expected 0..%lld", (long long)target,
                        (long long)r->width - 1);
    for (int64_t k = 0; k < r->width; k++) pick[k] = k == target;
    QN_TRY(qn_program_run(r->program, QN_MICRO, err));
    memcpy(dx, qn_program_data(r->program, r->dx), in * sizeof *dx);
    return QN_OK;
}

qn_status qn_model_evaluate(qn_model *m, qn_dataset *ds, const qn_indices *over, qn_metrics_summary *out,
                            int64_t *confusion, qn_error *err)
{
    return qn__evaluate(&m->net, ds, over, (int)m->recipe->data.workers, out, confusion, err);
}

/* ---- planning ------------------------------------------------------------------------------------------------------ */

void qn_plan_free(qn_plan *p)
{
    qn_program_free(p->program);
    qn_graph_free(p->graph);
    qn_store_free(p->store);
    memset(p, 0, sizeof *p);
}

static qn_status make_plan(qn_plan *p, struct qn__network *net, int64_t batch,
                           const qn_compile_opts *opts, qn_error *err)
{
    struct qn__runner nodes;
    qn_t keep[QN_RUNNER_KEEP];
    QN_TRY(qn__network_graph(net, QN_MODE_TRAIN, batch, &p->graph, &nodes, err));
    QN_TRY(qn_compile(&p->program, p->graph, keep, qn__runner_keep(&nodes, keep), net->store, opts, err));
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
    if (threads > 0) with_threads.threads = threads;
    qn_status status = qn__network_open(&net, recipe, shape, 1, threads, err);
    if (!status) status = make_plan(out, &net, batch > 0 ? batch : recipe->batch, &with_threads, err);
    out->store = net.store; /* the plan's from here on */
    net.store = NULL;
    qn__network_close(&net);
    if (status) qn_plan_free(out);
    return status;
}
