/* plan.h - what a recipe will cost, before anything is allocated: memory, arithmetic, time bounds on a GPU.
 *
 *     qn_transform shape;
 *     qn_plan plan;
 *     if (!qn_data_shape(recipe, &shape, &err) && !qn_plan_open(&plan, recipe, &shape, 0, 0, NULL, &err))
 *         printf("%zu bytes\n", qn_plan_bytes(&plan));
 *     qn_plan_free(&plan);
 *     qn_transform_free(&shape); */
#ifndef QUERN_PLAN_H
#define QUERN_PLAN_H
#include "core.h"
#include "data.h"
#include "recipe.h"
#ifdef __cplusplus
extern "C" {
#endif

/* What a sample of the recipe's data looks like: rank, dim, n_classes and n_targets, nothing else. Read from the
 * headers of the files, the names of a folder's classes and its first picture; tables and class labels are read whole.
 * Named data sets are known where they are not installed. Release with qn_transform_free. E3xxx, E6001. */
QN_API QN_CHECKED qn_status qn_data_shape(const qn_recipe *recipe, qn_transform *out, qn_error *err);

/* ---- plans -------------------------------------------------------------------------------------- */

/* A recipe's training step, compiled without taking memory. qn_program_bytes and qn_program_step tell what it costs;
 * after qn_program_load it can be run. Zeroed: empty, safe to free. */
typedef struct qn_plan {
    qn_graph *graph;
    qn_store *store;
    qn_program *program;
    int64_t parameters; /* trained numbers                 */
    int64_t batch;      /* samples of a micro run           */
    qn_t x, target;     /* inputs of the graph              */
    qn_t loss;          /* kept: mean loss of the micro run */
} qn_plan;

/* shape: see qn_data_shape (only rank, dim, n_classes and n_targets are read). batch 0: the recipe's; threads 0: all
 * cores; opts may be NULL. E2xxx the recipe does not fit the data. */
QN_API QN_CHECKED qn_status qn_plan_open(qn_plan *out, const qn_recipe *recipe, const qn_transform *shape,
                                         int64_t batch, int threads, const qn_compile_opts *opts, qn_error *err);
QN_API void qn_plan_free(qn_plan *p);

/* Bytes in all: weights, buffers, state, gradients, inputs and outputs, work. */
QN_API size_t qn_plan_bytes(const qn_plan *p);

/* Fills the inputs of a loaded plan with samples that follow from their position alone (not a random draw), and
 * targets that go round the classes: for runs whose point is not what is learnt. */
QN_API void qn_plan_fill(qn_plan *p);

/* The largest batch, at most `most`, whose plan takes at most `memory` bytes: 0 if not even one sample fits. Compiles a
 * few plans. */
QN_API QN_CHECKED qn_status qn_plan_fit(int64_t *batch, const qn_recipe *recipe, const qn_transform *shape, int threads,
                                        const qn_compile_opts *opts, size_t memory, int64_t most, qn_error *err);

/* One layer of a recipe: its output without the batch, and what it trains. */
typedef struct qn_layer_info {
    const char *name; /* the recipe's */
    const char *kind; /* "conv", ...   */
    int rank;
    int64_t dim[QN_MAX_DIMS];
    int64_t parameters;
} qn_layer_info;

/* recipe->n_layers rows; the caller's, released with free(). E2xxx a layer does not fit. */
QN_API QN_CHECKED qn_status qn_plan_layers(qn_layer_info **out, const qn_recipe *recipe, const qn_transform *shape,
                                           qn_error *err);

/* ---- devices one has not -------------------------------------------------------------------------- */

/* A description of a GPU (qn_gpu): JSON with comments, see gpus/; each figure is {"value", "source"}, the source being
 * the document that states it. E2101..E2109 with line and column for a wrong description, E6001. */
QN_API QN_CHECKED qn_status qn_gpu_read(qn_gpu *out, const char *path, qn_error *err);

/* A lower bound on the seconds an operator takes: max(flops / peak, bytes / bandwidth), with the tensor cores' bf16
 * peak and half the bytes, or IEEE f32 (Williams, Waterman, Patterson 2009, "Roofline"). */
QN_API double qn_gpu_bound(const qn_gpu *gpu, const qn_step_info *step, bool bf16);

#ifdef __cplusplus
}
#endif
#endif
