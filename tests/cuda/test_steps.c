/* run-tests: timeout 600
 * test_steps.c - whole training steps: 20 steps of networks of every kind on a GPU have the losses that the CPU has;
 * replayed graphs are the plain launches to the bit; and a step takes no memory, of the host or of the device. */
#include "aid.h"
#include "../../include/quern/layers.h"
#include "../../include/quern/optim.h"
#include "../../train/network.h"
#include <math.h>
#include <stdio.h>

enum { STEPS = 20, WARM = 3 /* after them both slots of both phases are captured */ };

/* ---- memory of the host ------------------------------------------------------------------------------------------ */

#if !defined(__SANITIZE_ADDRESS__)
/* All of Quern's own allocations go through realloc. */
void *__libc_realloc(void *p, size_t n); /* of the C library */
static int64_t host_calls;
void *realloc(void *p, size_t n)
{
    __atomic_fetch_add(&host_calls, 1, __ATOMIC_RELAXED);
    return __libc_realloc(p, n);
}
static int64_t host_takes(void) { return __atomic_load_n(&host_calls, __ATOMIC_RELAXED); }
#else
static int64_t host_takes(void) { return 0; }
#endif

/* ... and of the GPU: everything that takes or makes something there. */
static int64_t device_takes(void)
{
    static const char *const calls[] = {
        "cudaMalloc",           "cudaMallocHost",           "cudaStreamCreateWithFlags",   "cudaEventCreateWithFlags",
        "cudaGraphInstantiate", "cublasLtMatmulDescCreate", "cudnnBackendCreateDescriptor"
    };
    int64_t n = 0;
    for (size_t i = 0; aid_sim.calls && i < sizeof calls / sizeof *calls; i++) n += (int64_t)aid_sim.calls(calls[i]);
    return n;
}

/* ---- networks ---------------------------------------------------------------------------------------------------- */

struct kind {
    const char *name, *recipe; /* NULL: the decoder                   */
    const char *set[8];
    qn_optimizer_kind optimizer; /* of the decoder                      */
    double tolerance;            /* relative, of the loss               */
};

struct net {
    qn_recipe *recipe;
    struct qn__network network; /* its store is the decoder's too */
    qn_graph *g;
    qn_program *p;
    qn_t x, target, loss;
};

static void compile(struct net *n, const qn_t *keep, int n_keep, bool plain)
{
    const qn_compile_opts opts = { .threads = 2, .check_plan = true, .no_graphs = plain };
    aid_ok(qn_compile(&n->p, n->g, keep, n_keep, n->network.store, &opts, err));
    aid_ok(qn_program_load(n->p, err));
}

static void open_recipe(struct net *n, const struct kind *kind, const char *device, bool plain)
{
    const qn_transform shape = { .rank = 3, .dim = { 1, 28, 28 }, .n_classes = 10 };
    struct qn__runner r;
    qn_recipe_errors errs;
    qn_t keep[QN_RUNNER_KEEP];
    int sets = 0;
    while (sets < 8 && kind->set[sets]) sets++;
    if (qn_recipe_load(&n->recipe, kind->recipe, kind->set, sets, &errs)) fail_msg("%s", errs.list[0].text);
    aid_ok(qn__network_open(&n->network, n->recipe, &shape, STEPS, device, 2, err));
    aid_ok(qn__network_graph(&n->network, QN_MODE_TRAIN, n->recipe->batch, &n->g, &r, err));
    compile(n, keep, qn__runner_keep(&r, keep), plain);
    n->x = r.nodes.x;
    n->target = r.nodes.target;
    n->loss = r.train.loss;
}

/* Two blocks over 16 tokens of 32 words. */
enum { BATCH = 4, TIME = 16, CHANNELS = 32, WORDS = 32 };

static void open_decoder(struct net *n, const struct kind *kind, const char *device, bool plain)
{
    const qn_transformer_opts block = { .attention = { .heads = 2, .causal = true }, .gelu_tanh = true };
    const qn_train_opts train = { .optimizer = { .kind = kind->optimizer, .lr = 0.01 }, .batch = BATCH };
    qn_train_nodes nodes;
    int32_t at[TIME];
    for (int i = 0; i < TIME; i++) at[i] = i;
    assert_int_equal(qn_graph_new(&n->g, NULL), QN_OK);
    aid_ok(qn_store_new(&n->network.store, device, 5, NULL, err));
    qn_graph *g = n->g;
    n->x = qn_input(g, "tokens", QN_I32, 2, (int64_t[]){ BATCH, TIME });
    n->target = qn_input(g, "targets", QN_I32, 2, (int64_t[]){ BATCH, TIME });
    qn_t position = qn_constant(g, QN_I32, 1, (int64_t[]){ TIME }, at);
    qn_t x = qn_add(g, qn_embedding(g, "wte", n->x, QN_F32, WORDS, CHANNELS, NULL),
                    qn_embedding(g, "wpe", position, QN_F32, TIME, CHANNELS, NULL));
    x = qn_transformer_block(g, "h.0", x, &block);
    x = qn_transformer_block(g, "h.1", x, &block);
    x = qn_unembed(g, "wte", qn_norm_layer(g, "ln_f", x, NULL), WORDS, NULL);
    if (qn_train_build(g, qn_cross_entropy(g, x, n->target, NULL), &train, &nodes))
        fail_msg("%s", qn_graph_error(g)->text);
    n->loss = nodes.loss;
    compile(n, &n->loss, 1, plain);
}

static void open_net(struct net *n, const struct kind *kind, const char *device, bool plain)
{
    memset(n, 0, sizeof *n);
    if (kind->recipe)
        open_recipe(n, kind, device, plain);
    else
        open_decoder(n, kind, device, plain);
}

static void close_net(struct net *n)
{
    qn_program_free(n->p);
    qn_graph_free(n->g);
    qn__network_close(&n->network);
    qn_recipe_free(n->recipe);
}

/* ---- steps ------------------------------------------------------------------------------------------------------- */

/* A number that depends on all three only. */
static uint32_t mixed(uint32_t step, uint32_t what, uint32_t i)
{
    uint32_t h = step * 2654435761u ^ what * 2246822519u ^ i * 3266489917u;
    h = (h ^ h >> 15) * 2246822519u;
    h = (h ^ h >> 13) * 3266489917u;
    return h ^ h >> 16;
}

static void feed(struct net *n, int step)
{
    int64_t images = qn_dim(n->g, n->x, 0), all = 1;
    for (int i = 0; i < qn_rank(n->g, n->x); i++) all *= qn_dim(n->g, n->x, i);
    int32_t *target = qn_program_data(n->p, n->target);
    if (!n->recipe) {
        int32_t *token = qn_program_data(n->p, n->x);
        for (int i = 0; i < all; i++) {
            token[i] = (int32_t)(mixed((uint32_t)step, 0, (uint32_t)i) % WORDS);
            target[i] = (token[i] * 5 + 3) % WORDS;
        }
        return;
    }
    float *x = qn_program_data(n->p, n->x);
    for (int64_t i = 0; i < all; i++) x[i] = (float)(mixed((uint32_t)step, 1, (uint32_t)i) >> 8) / (float)(1 << 23) - 1;
    for (int64_t i = 0; i < images; i++) target[i] = (int32_t)(mixed((uint32_t)step, 2, (uint32_t)i) % 10);
}

static float step(struct net *n, int i)
{
    feed(n, i);
    aid_ok(qn_program_run(n->p, QN_MICRO, err));
    aid_ok(qn_program_run(n->p, QN_UPDATE, err));
    const float *loss = qn_program_past(n->p, n->loss, 0);
    assert_non_null(loss);
    return *loss;
}

static void cpu_losses(const struct kind *kind, float loss[STEPS])
{
    struct net n;
    open_net(&n, kind, "cpu", false);
    for (int i = 0; i < STEPS; i++) loss[i] = step(&n, i);
    close_net(&n);
}

static void same_bits(struct net *a, struct net *b)
{
    for (int i = 0; i < qn_store_count(a->network.store); i++) {
        const qn_store_entry *x = qn_store_at(a->network.store, i), *y = qn_store_find(b->network.store, x->name);
        assert_non_null(y);
        aid_ok(qn_store_pull(a->network.store, x->name, err));
        aid_ok(qn_store_pull(b->network.store, x->name, err));
        if (x->data && memcmp(x->data, y->data, x->bytes) != 0) fail_msg("%s differs", x->name);
    }
}

/* Two programs, one replayed and one launched kernel by kernel. */
static void gpu_losses(const struct kind *kind, float loss[STEPS])
{
    struct net replayed, plain;
    int64_t host = 0, device = 0;
    open_net(&replayed, kind, "cuda", false);
    open_net(&plain, kind, "cuda", true);
    for (int i = 0; i < STEPS; i++) {
        if (i == WARM) host = host_takes(), device = device_takes();
        float other = step(&plain, i);
        loss[i] = step(&replayed, i);
        if (memcmp(&other, &loss[i], sizeof other) != 0)
            fail_msg("%s: loss of step %d is %.9g replayed, %.9g launched", kind->name, i, (double)loss[i],
                     (double)other);
    }
    assert_int_equal(host_takes() - host, 0);
    assert_int_equal(device_takes() - device, 0);
    same_bits(&replayed, &plain);
    close_net(&plain);
    close_net(&replayed);
}

static void compare(const struct kind *kind)
{
    float expected[STEPS], found[STEPS];
    double worst = 0;
    cpu_losses(kind, expected);
    gpu_losses(kind, found);
    for (int i = 0; i < STEPS; i++) {
        double off = fabs((double)found[i] - (double)expected[i]) / fabs((double)expected[i]);
        if (off > worst) worst = off;
        if (!(off <= kind->tolerance))
            fail_msg("%s, step %d: loss %.9g; expected %.9g within %g", kind->name, i, (double)found[i],
                     (double)expected[i], kind->tolerance);
    }
    assert_true(expected[0] > 0 && expected[STEPS - 1] != expected[0]);
    print_message("%s: losses %.4f to %.4f, at most %.1e apart of the CPU's\n", kind->name, (double)expected[0],
                  (double)expected[STEPS - 1], worst);
}

/* ---- tests ------------------------------------------------------------------------------------------------------- */

#define SGD(rate, momentum) "optimizer={\"name\":\"sgd\",\"lr\":" rate ",\"momentum\":" momentum "}"

static void mlp(void **state)
{
    (void)state;
    struct kind kind = { .name = "MLP, SGD",
                         .recipe = "recipes/mlp-784-128.json",
                         .set = { "batch=16", SGD("0.01", "0.9") },
                         .tolerance = 1e-5 };
    compare(&kind);
    kind.name = "MLP, Adam", kind.set[1] = NULL, kind.tolerance = 1e-3;
    compare(&kind);
}

static void cnn(void **state)
{
    (void)state;
    struct kind kind = { .name = "CNN, SGD",
                         .recipe = "recipes/cnn-32-64-64.json",
                         .set = { "batch=16", SGD("0.01", "0.9") },
                         .tolerance = 1e-5 };
    compare(&kind);
    kind.name = "CNN, Adam", kind.set[1] = NULL, kind.tolerance = 1e-3;
    compare(&kind);
}

/* Small steps: with few images, of noise, larger ones let a rounding turn the choice of a maximum, and grow from there
 * on: docs/cuda.md has how far, and that the CPU parts from itself as far. */
static void stronger_cnn(void **state)
{
    (void)state;
    struct kind kind = { .name = "stronger CNN, SGD",
                         .recipe = "recipes/cnn-strong.json",
                         .set = { "batch=16", SGD("0.0005", "0") },
                         .tolerance = 1e-5 };
    compare(&kind);
    kind.name = "stronger CNN, AdamW", kind.set[1] = "optimizer.lr=0.0005", kind.tolerance = 1e-3;
    compare(&kind);
}

/* Every optimizer with a schedule, every schedule with an optimizer; clipped, with averages and dropout. */
static void every_optimizer_and_schedule(void **state)
{
    (void)state;
    static const char *const optimizers[] = {
        "{\"name\":\"sgd\",\"lr\":0.01}",      "{\"name\":\"sgd\",\"lr\":0.01,\"momentum\":0.9,\"nesterov\":true}",
        "{\"name\":\"adam\",\"lr\":0.001}",    "{\"name\":\"adamw\",\"lr\":0.001,\"weight_decay\":0.1}",
        "{\"name\":\"rmsprop\",\"lr\":0.001}", "{\"name\":\"rmsprop\",\"lr\":0.001,\"momentum\":0.5}",
        "{\"name\":\"adagrad\",\"lr\":0.01}",  "{\"name\":\"lamb\",\"lr\":0.001}",
        "{\"name\":\"lion\",\"lr\":0.0003}",
    };
    static const char *const schedules[] = {
        "\"constant\"",
        "{\"name\":\"step\",\"every\":0.25,\"gamma\":0.5}",
        "{\"name\":\"multi_step\",\"at\":[0.2,0.6],\"gamma\":0.5}",
        "{\"name\":\"exponential\",\"gamma\":0.5}",
        "{\"name\":\"cosine\",\"warmup\":0.2}",
        "{\"name\":\"one_cycle\"}",
        "{\"name\":\"linear\",\"end\":0.1}",
        "{\"name\":\"plateau\"}",
    };
    enum { OPTIMIZERS = sizeof optimizers / sizeof *optimizers, SCHEDULES = sizeof schedules / sizeof *schedules };
    for (int i = 0; i < OPTIMIZERS; i++) {
        char optimizer[120], schedule[120], name[300];
        snprintf(optimizer, sizeof optimizer, "optimizer=%s", optimizers[i]);
        snprintf(schedule, sizeof schedule, "schedule=%s", schedules[i % SCHEDULES]);
        snprintf(name, sizeof name, "%s, %s", optimizer, schedule);
        compare(&(struct kind){ .name = name,
                                .recipe = "recipes/mlp-784-128.json",
                                .set = { "batch=5", "epochs=1", "model[1].linear=7", "clip={\"norm\":0.5}",
                                         "ema={\"decay\":0.9}", optimizer, schedule },
                                .tolerance = 1e-3 });
    }
    assert_true(OPTIMIZERS >= SCHEDULES);
}

static void decoder(void **state)
{
    (void)state;
    compare(&(struct kind){ .name = "decoder, SGD", .optimizer = QN_OPTIMIZER_SGD, .tolerance = 1e-5 });
    compare(&(struct kind){ .name = "decoder, Adam", .optimizer = QN_OPTIMIZER_ADAM, .tolerance = 1e-3 });
}

static int end(void **state)
{
    (void)state;
    if (aid_sim.findings && aid_sim.findings()) print_message("%s\n", aid_sim.finding(0));
    return (aid_sim.live && aid_sim.live()) || (aid_sim.findings && aid_sim.findings());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(mlp, end),          cmocka_unit_test_teardown(cnn, end),
        cmocka_unit_test_teardown(stronger_cnn, end), cmocka_unit_test_teardown(every_optimizer_and_schedule, end),
        cmocka_unit_test_teardown(decoder, end),
    };
    if (!aid_begin(NULL)) return aid_skip("steps on a GPU");
    return cmocka_run_group_tests_name("steps on a GPU", tests, NULL, NULL);
}
