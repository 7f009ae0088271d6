/* test_cudnn_real.c - the real cuDNN, where it is installed, is offered the convolutions of every recipe for every GPU
 * of gpus/, in three directions and three types: it answers without a GPU, from the description of one. For each there
 * must be an engine that keeps Quern's promises (kernels/cuda/dnn.h: deterministic, nothing narrower than f32 in sums),
 * and its workspace enters the plan. The kernels are the simulator's plugin; only cuDNN is the real one.
 *
 * run-tests: timeout 300 */
#include "aid.h"
#include "../../core/op.h"
#include "../../core/program.h"
#include <dlfcn.h>
#include <glob.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

enum { MOST_CONVS = 64, DIRECTIONS = 3 };

struct conv {
    int64_t x[4], w[4], y[4];
    struct qn__conv_attr attr;
};
struct convs {
    struct conv list[MOST_CONVS];
    int n;
};

/* ---- the library --------------------------------------------------------------------------------------------- */

/* Where the toolkit is; the places are those of scripts/cuda-home. Opened before the plugin, it is what the plugin
 * finds under the name libcudnn.so.9. */
static void *open_real(size_t *version)
{
    const char *places[] = { getenv("CUDA_HOME"), "/usr/local/cuda", "/opt/cuda", "/usr/lib/cuda",
                             "build/cuda-toolchain/cuda" };
    static const char *const folders[] = { "lib64", "lib" };
    char path[PATH_MAX];
    void *library = NULL;
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        for (int k = 0; places[i] && k < 2 && !library; k++) {
            snprintf(path, sizeof path, "%s/%s/libcudnn.so.9", places[i], folders[k]);
            library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        }
    if (!library) return NULL;
    size_t (*ask)(void) = NULL;
    void *symbol = dlsym(library, "cudnnGetVersion");
    memcpy(&ask, &symbol, sizeof ask);
    if (!ask || dlsym(library, "cudasim_dnn_live")) return NULL;
    *version = ask();
    return library;
}

/* ---- convolutions of a recipe -------------------------------------------------------------------------------- */

static void add(struct convs *all, const struct qn__args *a)
{
    struct conv c = { .attr = *(const struct qn__conv_attr *)a->attr };
    memcpy(c.x, a->x[0].dim, sizeof c.x);
    memcpy(c.w, a->x[1].dim, sizeof c.w);
    memcpy(c.y, a->y.dim, sizeof c.y);
    memset(&c.attr.epilogue, 0, sizeof c.attr.epilogue);
    for (int i = 0; i < all->n; i++)
        if (memcmp(&all->list[i], &c, sizeof c) == 0) return;
    assert_true(all->n < MOST_CONVS);
    all->list[all->n++] = c;
}

static void find_convs(struct convs *all, const char *path)
{
    qn_recipe *recipe = NULL;
    qn_recipe_errors errs;
    qn_transform shape;
    qn_plan plan;
    if (qn_recipe_load(&recipe, path, NULL, 0, &errs)) fail_msg("%s cannot be read", path);
    aid_ok(qn_data_shape(recipe, &shape, err));
    aid_ok(qn_plan_open(&plan, recipe, &shape, 0, 1, &(qn_compile_opts){ .outline = true }, err));
    for (int k = 0; k < plan.program->n_order; k++)
        if (plan.program->step[k].args.op == QN_OP_conv2d) add(all, &plan.program->step[k].args);
    qn_plan_free(&plan);
    qn_transform_free(&shape);
    qn_recipe_free(recipe);
}

static bool mentions(const char *path, const char *word)
{
    static char text[1 << 16];
    FILE *f = fopen(path, "r");
    size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
    if (f) fclose(f);
    text[n] = 0;
    return strstr(text, word) != NULL;
}

/* Of every recipe that has any; the others may be for data that is not here. */
static void find_all_convs(struct convs *all)
{
    glob_t g;
    if (glob("recipes/*.json", 0, NULL, &g)) return;
    for (size_t i = 0; i < g.gl_pathc; i++)
        if (mentions(g.gl_pathv[i], "\"conv")) find_convs(all, g.gl_pathv[i]);
    globfree(&g);
}

/* ---- asking --------------------------------------------------------------------------------------------------- */

struct tally {
    int asked, none;
    size_t largest; /* workspace */
};

/* The three directions as one program, which is never run. */
static void ask(const struct conv *c, const qn_gpu *gpu, qn_dtype dtype, struct tally *t)
{
    qn_graph *g;
    qn_program *p = NULL;
    qn_error err = { 0 };
    struct qn__conv_attr grad_x = c->attr, grad_w = c->attr;
    assert_int_equal(qn_graph_new(&g, NULL), QN_OK);
    qn_t x = qn_input(g, "x", dtype, 4, c->x), w = qn_input(g, "w", dtype, 4, c->w);
    qn_t dy = qn_input(g, "dy", dtype, 4, c->y);
    memcpy(grad_x.size, c->x + 2, sizeof grad_x.size);
    memcpy(grad_w.size, c->w + 2, sizeof grad_w.size);
    grad_x.channels = grad_w.channels = c->x[1];
    qn_t keep[DIRECTIONS] = { qn__node(g, QN_OP_conv2d, (qn_t[]){ x, w }, 2, &c->attr),
                              qn__node(g, QN_OP_conv2d_grad_x, (qn_t[]){ w, dy }, 2, &grad_x),
                              qn__node(g, QN_OP_conv2d_grad_w, (qn_t[]){ x, dy }, 2, &grad_w) };
    if (qn_compile(&p, g, keep, DIRECTIONS, NULL, &(qn_compile_opts){ .gpu = gpu }, &err))
        fail_msg("%s, %s: %s", gpu->name, qn_dtype_name(dtype), err.text);
    size_t most = 0, seen = 0;
    for (int k = 0; k < p->n_order; k++) {
        const struct qn__step *s = &p->step[k];
        if (!s->kernel) continue;
        if (s->choice.workspace > most) most = s->choice.workspace;
        if (s->args.op != QN_OP_conv2d && s->args.op != QN_OP_conv2d_grad_x && s->args.op != QN_OP_conv2d_grad_w)
            continue;
        seen++;
        t->asked++;
        if (s->choice.workspace > t->largest) t->largest = s->choice.workspace;
        if (strncmp(s->kernel->variants[s->choice.variant], "graph", 5) == 0) continue;
        t->none++;
        print_error("%s, %s, [%lld,%lld,%lld,%lld] %lldx%lld: %s without an engine\n", gpu->name, qn_dtype_name(dtype),
                    (long long)c->x[0], (long long)c->x[1], (long long)c->x[2], (long long)c->x[3], (long long)c->w[2],
                    (long long)c->w[3], qn__op_of(s->args.op)->name);
    }
    assert_int_equal(seen, DIRECTIONS);
    qn_bytes bytes = qn_program_bytes(p);
    assert_true(bytes.workspace >= most && bytes.workspace <= bytes.work);
    qn_program_free(p);
    qn_graph_free(g);
}

static struct convs all;
static size_t version;

static void every_convolution_has_an_engine(void **state)
{
    (void)state;
    static const qn_dtype types[] = { QN_F32, QN_BF16, QN_F16 };
    glob_t g;
    assert_true(all.n > 0);
    assert_int_equal(glob("gpus/*.json", 0, NULL, &g), 0);
    for (size_t i = 0; i < g.gl_pathc; i++) {
        qn_gpu gpu;
        aid_ok(qn_gpu_read(&gpu, g.gl_pathv[i], err));
        struct tally t = { 0 };
        for (int k = 0; k < all.n; k++)
            for (size_t d = 0; d < sizeof types / sizeof *types; d++) ask(&all.list[k], &gpu, types[d], &t);
        printf("  cuDNN %zu, %s: %d convolutions asked for, %d without an engine, workspace up to %.1f MiB\n", version,
               gpu.name, t.asked, t.none, (double)t.largest / 0x1p20);
        assert_int_equal(t.none, 0);
    }
    globfree(&g);
}

/* A program for a described GPU is a plan, not something to run. */
static void a_plan_cannot_be_loaded(void **state)
{
    (void)state;
    qn_gpu gpu;
    qn_graph *g;
    qn_program *p;
    qn_error told = { 0 };
    aid_ok(qn_gpu_read(&gpu, "gpus/a100.json", err));
    assert_int_equal(qn_graph_new(&g, NULL), QN_OK);
    qn_t x = qn_input(g, "x", QN_F32, 1, (const int64_t[]){ 7 });
    aid_ok(qn_compile(&p, g, (qn_t[]){ qn_relu(g, x) }, 1, NULL, &(qn_compile_opts){ .gpu = &gpu }, err));
    assert_int_equal(qn_program_load(p, &told), QN_EUSAGE);
    aid_says(&told, "error E2206 graph: planned for a described GPU; expected one compiled to be run");
    qn_program_free(p);
    qn_graph_free(g);
}

static void not_here(void **state)
{
    (void)state;
    printf("# skip: the real cuDNN is not installed\n");
    skip();
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(every_convolution_has_an_engine),
                                        cmocka_unit_test(a_plan_cannot_be_loaded) };
    const struct CMUnitTest skipped[] = { cmocka_unit_test(not_here) };
    if (!open_real(&version)) return cmocka_run_group_tests_name("the real cuDNN", skipped, NULL, NULL);
    if (!aid_begin(NULL)) return aid_skip("the real cuDNN");
    find_all_convs(&all);
    return cmocka_run_group_tests_name("the real cuDNN", tests, NULL, NULL);
}
