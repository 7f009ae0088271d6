/* predict.c - a trained network: prediction, saliency, evaluation. See train.h. */
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

static bool is_file(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

/* A checkpoint as it is; of a run's directory the best one, else the newest. */
static qn_status open_checkpoint(qn_checkpoint **out, const char *path, qn_error *err)
{
    char dir[QN_PATH_MAX], best[QN_PATH_MAX];
    QN_TRY(qn__path_join(dir, path, "checkpoints", err));
    if (!is_dir(dir) && is_file(path))
        return qn__fail(err, 6001, QN_AT_FILE(path), "open: is a file; expected the directory of a run or checkpoint");
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

static qn_status open_model(qn_model *m, const char *path, const char *device, int threads, qn_error *err)
{
    struct qn__runner *first;
    QN_TRY(open_checkpoint(&m->ck, path, err));
    QN_TRY(read_texts(m, err));
    QN_TRY(qn__network_open(&m->net, m->recipe, &m->transform, 1, device, threads > 0 ? threads : omp_get_num_procs(),
                            err));
    QN_TRY(qn__network_runner(&m->net, QN_MODE_PREDICT, 1, &first, err));
    QN_TRY(qn__checkpoint_load(m->net.store, m->ck, QN_LOAD_MODEL, err));
    return qn__network_load_ema(&m->net, m->ck, err);
}

qn_status qn_model_open(qn_model **out, const char *path, const char *device, int threads, qn_error *err)
{
    *out = NULL;
    qn_model *m = qn__calloc(NULL, 1, sizeof *m);
    if (!m) return qn__nomem(err, "model", sizeof *m);
    qn_status status = open_model(m, path, device ? device : "cpu", threads, err);
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
        QN_TRY(qn_program_wait(r->program, QN_MICRO, 0, err));
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
    memcpy(qn_program_data(r->program, r->nodes.x), x, in * sizeof *x);
    if (target < 0) {
        QN_TRY(qn_program_run(r->program, QN_MICRO, err));
        QN_TRY(qn_program_wait(r->program, QN_MICRO, 0, err));
        const float *scores = qn_program_data(r->program, r->nodes.scores);
        target = 0;
        for (int64_t k = 1; k < r->width; k++)
            if (scores[k] > scores[target]) target = k;
    }
    if (target >= r->width)
        return qn__fail(err, 2203, NULL, "saliency: target %lld; expected 0..%lld", (long long)target,
                        (long long)r->width - 1);
    for (int64_t k = 0; k < r->width; k++) pick[k] = k == target;
    QN_TRY(qn_program_run(r->program, QN_MICRO, err));
    QN_TRY(qn_program_wait(r->program, QN_MICRO, 0, err));
    memcpy(dx, qn_program_data(r->program, r->dx), in * sizeof *dx);
    return QN_OK;
}

qn_status qn_model_evaluate(qn_model *m, qn_dataset *ds, const qn_indices *over, qn_metrics_summary *out,
                            int64_t *confusion, qn_error *err)
{
    return qn__evaluate(&m->net, ds, over, (int)m->recipe->data.workers, out, confusion, err);
}
