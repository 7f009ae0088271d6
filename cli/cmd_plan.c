/* cmd_plan.c - `quern plan RECIPE`: what a recipe will cost, before anything is allocated. */
#include "planning.h"
#include <stdlib.h>
#include <string.h>

enum { MOST_SAMPLES = 1 << 20 }; /* the largest --batch */

struct report {
    const struct options *o;
    const qn_recipe *recipe;
    qn_transform shape;
    qn_plan plan;      /* for this machine, or a GPU                 */
    const qn_gpu *gpu; /* NULL: this machine                          */
    bool outline;      /* the GPU's kernels could not be asked: `why` */
    qn_error why;
    size_t reserved;     /* for libraries, where they could not be asked */
    size_t memory;       /* there is                                    */
    int64_t largest;     /* batch; -1: not known                        */
    double flops, bytes; /* of a step                                   */
    double bound[2];     /* seconds: f32, bf16                          */
};

/* ---- collecting ------------------------------------------------------------------------------------------- */

static void add_up(struct report *r)
{
    for (int i = 0; i < qn_program_steps(r->plan.program); i++) {
        qn_step_info s = qn_program_step(r->plan.program, i);
        r->flops += s.flops;
        r->bytes += s.bytes;
        for (int k = 0; r->gpu && k < 2; k++) r->bound[k] += qn_gpu_bound(r->gpu, &s, k == 1);
    }
}

/* For a GPU its own kernels and libraries are asked, whose workspace enters the plan. Where they are not installed or
 * lack a kernel the plan is an outline: values lie in one order (NHWC), which takes the bytes of any other, and the
 * libraries' workspace is set aside as a whole. */
static qn_status open_plan(struct report *r, qn_compile_opts *opts, int threads, qn_error *err)
{
    int64_t batch = r->o->batch > 0 ? r->o->batch : 0;
    opts->gpu = r->gpu;
    qn_status status = qn_plan_open(&r->plan, r->recipe, &r->shape, batch, threads, opts, r->gpu ? &r->why : err);
    if (!status || !r->gpu) return status;
    r->outline = true;
    r->reserved = (size_t)r->gpu->workspace;
    opts->gpu = NULL;
    opts->outline = true;
    return qn_plan_open(&r->plan, r->recipe, &r->shape, batch, threads, opts, err);
}

static qn_status collect(struct report *r, qn_error *err)
{
    qn_compile_opts opts = { .check_plan = r->o->verify };
    int threads = r->o->threads > 0 ? (int)r->o->threads : (int)r->recipe->threads;
    QN_TRY(qn_data_shape(r->recipe, &r->shape, err));
    QN_TRY(open_plan(r, &opts, threads, err));
    add_up(r);
    size_t reserved = r->reserved;
    r->memory = (size_t)(r->gpu ? r->gpu->memory : qn_memory_available().bytes);
    r->largest = -1;
    if (r->memory == INT64_MAX) return QN_OK; /* no limit that could be seen */
    if (r->memory <= reserved) reserved = r->memory;
    return qn_plan_fit(&r->largest, r->recipe, &r->shape, threads, r->gpu ? &opts : NULL, r->memory - reserved,
                       MOST_SAMPLES, err);
}

/* ---- as text ------------------------------------------------------------------------------------------------ */

static void print_memory(const struct report *r)
{
    qn_bytes b = qn_program_bytes(r->plan.program);
    const struct {
        const char *name;
        size_t bytes;
    } rows[] = {
        { "weights", b.params },
        { "running statistics", b.buffers },
        { "optimizer state", b.state },
        { "gradients", b.grads },
        { "inputs and results", b.io },
        { "activations and workspace", b.work },
        { "libraries (set aside)", r->reserved },
    };
    size_t total = 0;
    printf("\nmemory, bytes%s\n", r->gpu ? " (static, NHWC)" : "");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        total += rows[i].bytes;
        if (rows[i].bytes) printf("  %-26s %16zu\n", rows[i].name, rows[i].bytes);
    }
    printf("  %-26s %16zu\n", "total", total);
    if (r->outline) printf("the GPU's kernels were not asked: %s\n", r->why.text);
    printf("of which at most %zu at one time are kernels' workspace; gradients between values are activations here\n",
           b.workspace);
    printf("every value its own bytes: %zu, naive / planned: %.2f\n", b.naive,
           b.work ? (double)b.naive / (double)b.work : 1);
}

static void print_steps(const struct report *r)
{
    printf("\n%-6s %-16s %-26s %-14s %10s %10s %8s %6s%s\n", "phase", "operator", "name", "variant", "MFLOP", "MB",
           "FLOP/B", "share", r->gpu ? "   bound us  limit" : "");
    for (int i = 0; i < qn_program_steps(r->plan.program); i++) {
        qn_step_info s = qn_program_step(r->plan.program, i);
        printf("%-6s %-16s %-26.26s %-14.14s %10.3f %10.3f %8.2f %5.1f%%", s.phase == QN_MICRO ? "micro" : "update",
               s.op, s.name, r->outline ? "-" : s.variant, s.flops / 1e6, s.bytes / 1e6,
               s.bytes > 0 ? s.flops / s.bytes : 0, r->flops > 0 ? 100 * s.flops / r->flops : 0);
        if (r->gpu)
            printf(" %10.3f  %s", 1e6 * qn_gpu_bound(r->gpu, &s, false),
                   s.flops / r->gpu->f32 > s.bytes / r->gpu->bandwidth ? "compute" : "memory");
        printf("\n");
    }
    printf("share: of the FLOPs of a step. MB: operands read and results written once, 10^6 bytes\n");
}

static void print_gpu(const struct report *r)
{
    const qn_gpu *g = r->gpu;
    printf("\n%s, by its description: compute capability %d.%d, %d multiprocessors, %.1f GiB, %.0f GB/s,\n"
           "%.1f TFLOP/s f32, %.1f TFLOP/s bf16 on tensor cores; L2 of %.1f MiB; a multiprocessor has %d threads,\n"
           "%d registers and %lld KiB of shared memory, a block at most %lld KiB\n",
           g->name, g->capability[0], g->capability[1], g->multiprocessors, (double)g->memory / 0x1p30,
           g->bandwidth / 1e9, g->f32 / 1e12, g->tensor / 1e12, (double)g->l2 / 0x1p20, g->threads_per_multiprocessor,
           g->registers_per_multiprocessor, (long long)(g->shared_per_multiprocessor >> 10),
           (long long)(g->shared_per_block >> 10));
    for (int k = 0; k < 2; k++)
        printf("bound: a step takes at least %.3f ms in %s (at most %.0f samples/s)\n", 1e3 * r->bound[k],
               k ? "bf16 on tensor cores" : "f32", r->bound[k] > 0 ? (double)r->plan.batch / r->bound[k] : 0);
    printf("a bound, not a measurement: per operator the larger of FLOPs / peak and bytes / bandwidth, summed\n");
}

static void print_text(const struct report *r)
{
    const qn_transform *t = &r->shape;
    printf("%s: batch %lld of [", r->recipe->name, (long long)r->plan.batch);
    for (int i = 0; i < t->rank; i++) printf("%s%lld", i ? "," : "", (long long)t->dim[i]);
    printf("], %d %s\n", t->n_classes ? t->n_classes : t->n_targets, t->n_classes ? "classes" : "targets");
    printf("parameters: %lld\n", (long long)r->plan.parameters);
    print_memory(r);
    print_steps(r);
    printf("\nFLOPs of a step: %.6g, of a sample: %.6g; bytes of a step: %.6g\n", r->flops,
           r->flops / (double)r->plan.batch, r->bytes);
    if (r->gpu) print_gpu(r);
    if (r->largest >= 0)
        printf("largest batch that fits into %.2f GiB: %s%lld\n", (double)r->memory / 0x1p30,
               r->largest == MOST_SAMPLES ? "at least " : "", (long long)r->largest);
}

/* ---- as JSON ------------------------------------------------------------------------------------------------- */

static void json_number(const char *key, double x)
{
    char text[32];
    printf("\"%s\":%s", key, qn__format_f64(text, x));
}

static void json_steps(const struct report *r)
{
    printf("\"operators\":[");
    for (int i = 0; i < qn_program_steps(r->plan.program); i++) {
        qn_step_info s = qn_program_step(r->plan.program, i);
        printf("%s{\"phase\":\"%s\",\"operator\":\"%s\",\"name\":", i ? "," : "",
               s.phase == QN_MICRO ? "micro" : "update", s.op);
        cli_json_text(s.name);
        printf(",\"variant\":\"%s\",", r->outline ? "" : s.variant);
        json_number("flops", s.flops);
        printf(",");
        json_number("bytes", s.bytes);
        if (r->gpu) {
            printf(",");
            json_number("bound_seconds", qn_gpu_bound(r->gpu, &s, false));
        }
        printf("}");
    }
    printf("]");
}

static void print_json(const struct report *r)
{
    qn_bytes b = qn_program_bytes(r->plan.program);
    printf("{\"recipe\":");
    cli_json_text(r->recipe->name);
    printf(",\"batch\":%lld,\"parameters\":%lld,\"bytes\":{\"params\":%zu,\"buffers\":%zu,\"state\":%zu,\"grads\":%zu,"
           "\"io\":%zu,\"work\":%zu,\"workspace\":%zu,\"libraries\":%zu,\"total\":%zu,\"naive_work\":%zu},",
           (long long)r->plan.batch, (long long)r->plan.parameters, b.params, b.buffers, b.state, b.grads, b.io, b.work,
           b.workspace, r->reserved, qn_plan_bytes(&r->plan) + r->reserved, b.naive);
    json_number("flops", r->flops);
    printf(",");
    json_number("flops_per_sample", r->flops / (double)r->plan.batch);
    printf(",\"memory\":%zu,\"largest_batch\":%lld,", r->memory, (long long)r->largest);
    if (r->gpu) {
        printf("\"gpu\":");
        cli_json_text(r->gpu->name);
        printf(",\"kernels\":%s", r->outline ? "false" : "true");
        printf(",\"bound_seconds\":{");
        json_number("f32", r->bound[0]);
        printf(",");
        json_number("bf16", r->bound[1]);
        printf("},");
    }
    json_steps(r);
    printf("}\n");
}

/* ---- the command ------------------------------------------------------------------------------------------------ */

static int run(struct report *r)
{
    qn_error err;
    int code = 0;
    if (collect(r, &err))
        code = cli_fail(&err);
    else if (r->o->json)
        print_json(r);
    else
        print_text(r);
    if (!code && r->o->verify && cli_verify_plan(r->recipe, &r->shape, r->o, &err)) code = cli_fail(&err);
    qn_plan_free(&r->plan);
    qn_transform_free(&r->shape);
    return code;
}

int cmd_plan(int argc, char **argv)
{
    struct options o;
    qn_recipe *recipe = NULL;
    qn_gpu gpu;
    int code = cli_parse(&cli_plan, argc, argv, &o);
    if (code >= 0) return code;
    code = cli_load_recipe(&recipe, o.args.v[0], &o);
    if (!code && o.gpu) code = cli_find_gpu(&gpu, o.gpu);
    if (!code) {
        struct report r = { .o = &o, .recipe = recipe, .gpu = o.gpu ? &gpu : NULL };
        code = run(&r);
    }
    qn_recipe_free(recipe);
    cli_free(&o);
    return cli_finish(code);
}
