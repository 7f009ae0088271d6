/* compile.c - the only crossing from graph to program: passes, schedule, kernels, plan. */
#include "pass.h"
#include "program.h"
#include "tuning.h"
#include <omp.h>
#include <stdio.h>
#include <string.h>

/* ---- passes ------------------------------------------------------------------------------------- */

static const struct pass_row {
    const char *stage;
    qn__pass *run;
    bool optional; /* left out by no_fuse */
    bool physical; /* left out by outline */
} pass_rows[] = {
    { "dead", qn__pass_dead, false, false },        { "fold", qn__pass_fold, false, false },
    { "cse", qn__pass_cse, false, false },          { "epilogue", qn__pass_epilogue, true, false },
    { "residual", qn__pass_residual, true, false }, { "fuse", qn__pass_fuse, true, false },
    { "layout", qn__pass_layout, true, true },      { "dead", qn__pass_dead, false, false },
};

static void dump(const qn_graph *g, const qn_compile_opts *opts, const char *stage)
{
    size_t bytes;
    if (!opts->dump) return;
    char *text = qn__graph_dump(g, &bytes);
    if (text) opts->dump(opts->user, stage, text);
    qn__free(&g->alloc, text, bytes);
}

static const struct qn__gpu *description(const qn_program *p)
{
    if (p->described) return &p->description;
    return p->gpu ? p->gpu->api->describe(p->gpu->device) : NULL;
}
static const struct qn__backend *gpu_backend(const qn_program *p) { return p->gpu ? p->gpu->backend : p->described; }

/* One pass: *g is replaced by its result, p->map composed with the pass's map. */
static qn_status run_pass(qn_program *p, const struct pass_row *row, const qn_compile_opts *opts, const qn_t *keep,
                          int n_keep, qn_error *err)
{
    qn_graph *in = p->g, *out = NULL;
    size_t n = (size_t)in->n, n_kept = (size_t)n_keep;
    int32_t *map = qn__calloc(&p->alloc, n, sizeof *map), *kept = qn__calloc(&p->alloc, n_kept, sizeof *kept);
    qn_status status = map && kept ? qn__graph_like(&out, in, err) : qn__nomem(err, row->stage, n * sizeof *map);
    if (!status) {
        for (int i = 0; i < n_keep; i++) kept[i] = p->map[keep[i].id];
        const struct qn__backend *gpu = gpu_backend(p);
        struct qn__pass_env env = {
            kept, n_keep, { gpu ? gpu : &qn__cpu_f32, gpu ? gpu : &qn__cpu_f64 }, description(p), p->threads
        };
        status = row->run(in, out, map, &env, err);
    }
    if (!status && qn__failed(out)) { /* a constructor that a pass used failed: running out of memory, or our mistake */
        if (err) *err = out->err;
        status = qn_graph_status(out);
    }
    if (!status) status = qn__graph_verify(out, err);
    if (status) {
        qn_graph_free(out);
    } else {
        for (int32_t i = 0; i < p->n_map; i++) p->map[i] = map[p->map[i]];
        qn_graph_free(in);
        p->g = out;
        dump(out, opts, row->stage);
    }
    qn__free(&p->alloc, map, n * sizeof *map);
    qn__free(&p->alloc, kept, n_kept * sizeof *kept);
    return status;
}

/* The user's graph is only read: the program starts from a copy. */
static qn_status copy_graph(qn_program *p, const qn_graph *g, qn_error *err)
{
    QN_TRY(qn__graph_like(&p->g, g, err));
    p->n_map = g->n;
    p->map = qn__calloc(&p->alloc, (size_t)g->n, sizeof *p->map);
    if (!p->map) return qn__nomem(err, "program", (size_t)g->n * sizeof *p->map);
    for (int32_t i = 1; i < g->n; i++) p->map[i] = qn__graph_carry(p->g, g, i, p->map);
    return qn__failed(p->g) ? qn__nomem(err, "graph", (size_t)g->n * sizeof(struct qn__node)) : QN_OK;
}

/* ---- schedule ------------------------------------------------------------------------------------ */

/* Creation order is topological; the phases follow each other. */
static qn_status schedule(qn_program *p, qn_error *err)
{
    size_t n = (size_t)p->g->n;
    p->order = qn__calloc(&p->alloc, n, sizeof *p->order);
    p->position = qn__calloc(&p->alloc, n, sizeof *p->position);
    p->step = qn__calloc(&p->alloc, n, sizeof *p->step);
    size_t slots; /* values, then workspaces */
    if (!qn__mul(&slots, n, 2)) return qn__nomem(err, "schedule", n);
    p->slot = qn__calloc(&p->alloc, slots, sizeof *p->slot);
    if (!p->order || !p->position || !p->step || !p->slot) return qn__nomem(err, "schedule", n * sizeof *p->step);
    for (int phase = QN_MICRO; phase <= QN_UPDATE; phase++) {
        for (int32_t i = 1; i < p->g->n; i++) {
            if ((int)p->g->node[i].phase != phase) continue;
            p->position[i] = p->n_order;
            p->order[p->n_order++] = i;
        }
        if (phase == QN_MICRO) p->n_micro = p->n_order;
    }
    return QN_OK;
}

/* ---- kernels ------------------------------------------------------------------------------------- */

static struct qn__view view_of(const struct qn__node *y)
{
    struct qn__view v = { .dtype = y->dtype, .rank = y->rank, .block = y->block, .count = y->count };
    memcpy(v.dim, y->dim, sizeof v.dim);
    return v;
}

static bool is_launched(const struct qn__node *y)
{
    return y->op != QN_OP_input && y->op != QN_OP_store && y->op != QN_OP_full && y->op != QN_OP_constant &&
           y->op != QN_OP_output && !qn__op_of(y->op)->alias;
}

static void describe_steps(qn_program *p)
{
    for (int32_t k = 0; k < p->n_order; k++) {
        const struct qn__node *y = qn__program_node(p, k);
        struct qn__args *a = &p->step[k].args;
        *a = (struct qn__args){ .op = y->op,
                                .n_in = y->n_in,
                                .y = view_of(y),
                                .attr = y->attr,
                                .writes = qn__op_of(y->op)->writes,
                                .threads = p->threads,
                                .gpu = description(p) };
        for (int i = 0; i < y->n_in; i++) a->x[i] = view_of(&p->g->node[y->in[i]]);
        if (y->op != QN_OP_output) continue;
        int index = ((const struct qn__output_attr *)y->attr)->index;
        struct qn__args *producer = &p->step[p->position[y->in[0]]].args; /* comes before: filled in already */
        producer->more[index] = view_of(y);
        producer->wanted |= 1u << index;
    }
}

/* "loss: target_weight: I32 [8] BF16 [10] -> BF16 [8]; expected F32 or F64, in which the cpu backend computes" */
static qn_status refuse_types(const struct qn__node *y, const struct qn__args *a, const char *backend,
                              const char *expected, qn_error *err)
{
    char found[300] = "";
    size_t n = 0;
    for (int i = 0; i < a->n_in && n < sizeof found; i++)
        n += (size_t)snprintf(found + n, sizeof found - n, "%s %s ", qn_dtype_name(a->x[i].dtype),
                              qn__dims_show(a->x[i].rank, a->x[i].dim).s);
    return qn__fail(err, 2208, QN_AT_FIELD(y->name), "%s: %s-> %s %s; expected %s, in which the %s backend computes",
                    qn__op_of(y->op)->name, found, qn_dtype_name(y->dtype), qn__dims_show(y->rank, y->dim).s, expected,
                    backend);
}

/* With the algorithm that the lock file has for the step. */
static qn_status prepare(const qn_program *p, struct qn__step *s, qn_error *err)
{
    char what[QN_TUNING_WHAT];
    const struct qn__tuned *choice = NULL;
    if (p->tuning && s->kernel->describe && s->kernel->describe(s, what, sizeof what))
        choice = qn__tuning_find(p->tuning, what);
    if (choice) s->algorithm = choice->algorithm.name;
    qn_status status = s->kernel->prepare(s, err);
    s->algorithm = NULL; /* of the tuning, which may go */
    if (status || !choice || choice->algorithm.workspace == s->choice.workspace) return status;
    return qn__fail(err, 7004, QN_AT_FIELD("tuning"),
                    "%s: workspace of %zu bytes; expected %zu; make a lock file with "
                    "\"quern tune\"",
                    qn__show(what).s, s->choice.workspace, choice->algorithm.workspace);
}

static qn_status choose_kernel(qn_program *p, int32_t k, qn_error *err)
{
    const struct qn__node *y = qn__program_node(p, k), *x[QN_MAX_IN] = { NULL };
    struct qn__step *s = &p->step[k];
    s->queue = p->runs ? p->gpu->api->runs_queue(p->runs) : NULL;
    s->position = k;
    s->stream = y->op == QN_OP_input ? QN_STREAM_COPY : QN_STREAM_COMPUTE;
    s->name = y->name;
    if (!is_launched(y)) return QN_OK;
    for (int i = 0; i < y->n_in; i++) x[i] = &p->g->node[y->in[i]];
    const struct qn__backend *backend = gpu_backend(p);
    if (!backend) backend = qn__compute_dtype(x, y) == QN_F64 ? &qn__cpu_f64 : &qn__cpu_f32;
    const char *types = backend->expects ? backend->expects(&s->args) : NULL;
    if (types) return refuse_types(y, &s->args, backend->name, types, err);
    s->kernel = backend->kernel[y->op];
    for (int i = 0; i < y->n_in; i++) s->choice.x_block[i] = s->args.x[i].block;
    s->choice.y_block = y->block;
    if (!s->kernel || !s->kernel->launch || (s->kernel->pick && s->kernel->pick(&s->args, &s->choice)))
        return qn__fail(err, 2208, QN_AT_FIELD(y->name), "%s: no kernel of the %s backend takes %s %s",
                        qn__op_of(y->op)->name, backend->name, qn_dtype_name(y->dtype),
                        qn__dims_show(y->rank, y->dim).s);
    return s->kernel->prepare && !p->outline ? prepare(p, s, err) : QN_OK;
}

static qn_status choose_kernels(qn_program *p, qn_error *err)
{
    int before = omp_get_max_threads(); /* oneDNN asks OpenMP how many threads it may use */
    omp_set_num_threads(p->threads);
    qn_status status = QN_OK;
    describe_steps(p);
    for (int32_t k = 0; k < p->n_order && !status; k++) status = choose_kernel(p, k, err);
    omp_set_num_threads(before);
    return status;
}

/* ---- plan and store ------------------------------------------------------------------------------- */

/* Beside a GPU steps of a kernel may go into one launch; the CPU runs one after another. */
static void describe_order(const qn_program *p, int32_t *group, enum qn__stream *stream)
{
    for (int32_t k = 0; k < p->n_order; k++) stream[k] = p->step[k].stream, group[k] = 1;
    if (p->gpu) qn__plan_groups(p->g, p->order, p->step, p->n_micro, p->n_order, group);
}

static qn_status make_plan(qn_program *p, const qn_t *keep, int n_keep, const qn_compile_opts *opts, qn_error *err)
{
    size_t n = (size_t)p->g->n, n_steps = (size_t)p->n_order;
    size_t *workspace = qn__calloc(&p->alloc, n_steps, sizeof *workspace);
    bool *kept = qn__calloc(&p->alloc, n, sizeof *kept);
    int32_t *group = qn__calloc(&p->alloc, n_steps, sizeof *group);
    enum qn__stream *stream = qn__calloc(&p->alloc, n_steps, sizeof *stream);
    qn_status status = workspace && kept && group && stream ? QN_OK : qn__nomem(err, "plan", n * sizeof *workspace);
    if (!status) {
        describe_order(p, group, stream);
        for (int i = 0; i < n_keep; i++) kept[p->map[keep[i].id]] = true;
        for (int32_t k = 0; k < p->n_order; k++) workspace[k] = p->outline ? 0 : p->step[k].choice.workspace;
        struct qn__plan plan = { .g = p->g,
                                 .position = p->position,
                                 .n_steps = p->n_order,
                                 .workspace = workspace,
                                 .kept = kept,
                                 .reuse = !opts->no_plan,
                                 .group = group,
                                 .stream = stream,
                                 .slot = p->slot };
        status = qn__plan_make(&plan, &p->alloc, err);
        if (!status && opts->check_plan) status = qn__plan_verify(&plan, p->order, &p->alloc, err);
        p->work = plan.work;
        p->io = plan.io;
        p->io_end = plan.io_end;
        p->naive = plan.naive;
        p->workspace = plan.workspace_most;
    }
    qn__free(&p->alloc, workspace, n_steps * sizeof *workspace);
    qn__free(&p->alloc, kept, n * sizeof *kept);
    qn__free(&p->alloc, group, n_steps * sizeof *group);
    qn__free(&p->alloc, stream, n_steps * sizeof *stream);
    return status;
}

static qn_status declare_tensors(qn_program *p, qn_error *err)
{
    for (int32_t i = 1; i < p->g->n; i++) {
        struct qn__tensor *t;
        if (p->g->node[i].op != QN_OP_store) continue;
        if (!p->store)
            return qn__fail(err, 2207, QN_AT_FIELD(p->g->node[i].name), "a tensor; expected a store to hold it");
        QN_TRY(qn__store_declare(p->store, &p->g->node[i], &t, err));
        if (strcmp(t->entry.name, "quern.rng") == 0) p->rng = t;
    }
    return QN_OK;
}

static qn_status check_keep(const qn_graph *g, const qn_t *keep, int n_keep, qn_error *err)
{
    for (int i = 0; i < n_keep; i++)
        if (keep[i].id <= 0 || keep[i].id >= g->n)
            return qn__fail(err, 2206, QN_AT_FIELD("compile"), "keep[%d] is value %d; expected 1..%d", i, keep[i].id,
                            g->n - 1);
    return QN_OK;
}

static qn_status describe_device(qn_program *p, const qn_gpu *gpu, qn_error *err)
{
    QN_TRY(qn__device_kernels(&p->described, err));
    p->description = (struct qn__gpu){ .capability = 10 * gpu->capability[0] + gpu->capability[1],
                                       .multiprocessors = gpu->multiprocessors,
                                       .threads_per_multiprocessor = gpu->threads_per_multiprocessor,
                                       .shared_per_block = gpu->shared_per_block,
                                       .shared_per_multiprocessor = gpu->shared_per_multiprocessor,
                                       .l2 = gpu->l2,
                                       .workspace = gpu->workspace };
    return QN_OK;
}

static qn_status check_tuning(const qn_program *p, qn_error *err)
{
    struct qn__identity here;
    QN_TRY(p->gpu->api->identity(p->gpu->device, &here, err));
    return qn__tuning_fits(p->tuning, &here, err);
}

/* The device of the store, or of a program without one, and the queue that its kernels are prepared with. */
static qn_status open_device(qn_program *p, const qn_compile_opts *opts, qn_error *err)
{
    if (opts->gpu) return describe_device(p, opts->gpu, err);
    if (p->store)
        p->gpu = qn__device_share(p->store->gpu);
    else if (opts->device)
        QN_TRY(qn__device_open(&p->gpu, opts->device, &p->alloc, err));
    if (!p->gpu) return QN_OK;
    if (p->tuning) QN_TRY(check_tuning(p, err));
    return p->gpu->api->runs_open(&p->runs, p->gpu->device, opts->no_graphs, err);
}

static qn_status check_dtypes(const qn_program *p, qn_error *err)
{
    for (int32_t i = 1; gpu_backend(p) && i < p->g->n; i++)
        if (p->g->node[i].dtype == QN_F64)
            return qn__fail(err, 2208, QN_AT_FIELD(p->g->node[i].name),
                            "%s of F64 on %s; expected F32, BF16 or F16, or "
                            "the CPU",
                            qn__op_of(p->g->node[i].op)->name, p->gpu ? p->gpu->name : p->described->name);
    return QN_OK;
}

static qn_status compile(qn_program *p, const qn_graph *g, const qn_t *keep, int n_keep, const qn_compile_opts *opts,
                         qn_error *err)
{
    QN_TRY(open_device(p, opts, err));
    QN_TRY(copy_graph(p, g, err));
    QN_TRY(qn__graph_verify(p->g, err));
    dump(p->g, opts, "graph");
    for (size_t i = 0; i < sizeof pass_rows / sizeof pass_rows[0]; i++)
        if (!(pass_rows[i].optional && opts->no_fuse) && !(pass_rows[i].physical && opts->outline))
            QN_TRY(run_pass(p, &pass_rows[i], opts, keep, n_keep, err));
    QN_TRY(check_dtypes(p, err)); /* what is left: a constant that was cast is gone */
    QN_TRY(schedule(p, err));
    QN_TRY(choose_kernels(p, err));
    QN_TRY(make_plan(p, keep, n_keep, opts, err));
    return declare_tensors(p, err);
}

qn_status qn_compile(qn_program **out, qn_graph *g, const qn_t *keep, int n_keep, qn_store *s,
                     const qn_compile_opts *opts, qn_error *err)
{
    static const qn_compile_opts defaults = { 0 };
    *out = NULL;
    if (!opts) opts = &defaults;
    if (qn__failed(g)) {
        if (err) *err = g->err;
        return qn_graph_status(g);
    }
    QN_TRY(check_keep(g, keep, n_keep, err));
    qn_program *p = qn__calloc(&g->alloc, 1, sizeof *p);
    if (!p) return qn__nomem(err, "program", sizeof *p);
    p->alloc = g->alloc;
    p->store = s;
    p->outline = opts->outline;
    p->tuning = opts->tuning;
    p->threads = opts->threads > 0 ? opts->threads : omp_get_max_threads();
    qn_status status = compile(p, g, keep, n_keep, opts, err);
    p->tuning = NULL;
    if (status)
        qn_program_free(p);
    else
        *out = p;
    return status;
}

void qn_program_free(qn_program *p)
{
    if (!p) return;
    qn_alloc alloc = p->alloc;
    size_t n = p->g ? (size_t)p->g->n : 0;
    if (p->runs) p->gpu->api->wait(p->gpu->device, NULL, NULL); /* whatever comes of it: nothing runs any more */
    for (int32_t k = 0; p->step && k < p->n_order; k++)
        if (p->step[k].kernel && p->step[k].kernel->release) p->step[k].kernel->release(&p->step[k]);
    qn__free(&alloc, p->map, (size_t)p->n_map * sizeof *p->map);
    qn__free(&alloc, p->order, n * sizeof *p->order);
    qn__free(&alloc, p->position, n * sizeof *p->position);
    qn__free(&alloc, p->step, n * sizeof *p->step);
    qn__free(&alloc, p->slot, 2 * n * sizeof *p->slot);
    qn__gpu_free(p);
    qn__free(&alloc, p->raw, p->raw_bytes);
    qn__free(&alloc, p->timing, n * sizeof *p->timing);
    qn_graph_free(p->g);
    qn__free(&alloc, p, sizeof *p);
}
