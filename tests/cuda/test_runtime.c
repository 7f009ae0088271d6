/* test_runtime.c - stores and programs on a GPU: what goes there and comes back, replay, faults, two GPUs, no GPU. */
#include "aid.h"
#include <math.h>
#include <stdio.h>

static struct aid_memory memory; /* of everything that a test makes with `alloc` */
static qn_alloc alloc;

static int begin(void **state)
{
    (void)state;
    memset(&memory, 0, sizeof memory);
    alloc = aid_alloc(&memory);
    return 0;
}

/* Nothing of the host or of the GPU is left behind, and the checkers have seen nothing. */
static int end(void **state)
{
    (void)state;
    if (memory.blocks) print_message("%lld blocks are left\n", (long long)memory.blocks);
    if (aid_sim.live && aid_sim.live()) print_message("%zu things of the GPU are left\n", aid_sim.live());
    if (aid_sim.findings && aid_sim.findings()) print_message("%s\n", aid_sim.finding(0));
    return memory.blocks || (aid_sim.live && aid_sim.live()) || (aid_sim.findings && aid_sim.findings());
}

/* ---- a small program: kept values of both phases, a tensor that accumulates, one that is written -------------------- */

enum { N = 1000 };

struct small {
    qn_graph *g;
    qn_store *store;
    qn_program *p;
    qn_t x, y, total, sum;
};

static qn_status build(struct small *s, const char *device, const qn_compile_opts *opts, qn_error *err)
{
    const int64_t dims[] = { N };
    memset(s, 0, sizeof *s);
    QN_TRY(qn_store_new(&s->store, device, 7, &alloc, err));
    QN_TRY(qn_graph_new(&s->g, &alloc));
    s->x = qn_input(s->g, "x", QN_F32, 1, dims);
    qn_t w = qn_param(s->g, "w", QN_F32, 1, dims, &(qn_init){ .kind = QN_INIT_NORMAL, .b = 1 });
    qn_t acc = qn_tensor(s->g, QN_GRAD, "acc", QN_F32, 1, dims, NULL);
    qn_accumulate(s->g, acc, s->x);
    s->y = qn_affine(s->g, qn_mul(s->g, s->x, w), 2, 1);
    qn_graph_phase(s->g, QN_UPDATE);
    qn_t moved = qn_assign(s->g, w, qn_affine(s->g, qn_add(s->g, w, acc), 0.5, 0));
    s->total = qn_scale(s->g, moved, 3);
    return qn_compile(&s->p, s->g, (qn_t[]){ s->y, s->total, moved }, 3, s->store, opts, err);
}

static void drop(struct small *s)
{
    qn_program_free(s->p);
    qn_graph_free(s->g);
    qn_store_free(s->store);
    memset(s, 0, sizeof *s);
}

static void feed(struct small *s, int run)
{
    float *x = qn_program_data(s->p, s->x);
    for (int i = 0; i < N; i++) x[i] = (float)((i * 37 + run * 11) % 101) / 50 - 1;
}

/* Both phases, `micro` micro runs for each update. */
static qn_status steps(struct small *s, int from, int n, int micro, qn_error *err)
{
    for (int run = from; run < from + n; run++) {
        for (int k = 0; k < micro; k++) {
            feed(s, run * micro + k);
            QN_TRY(qn_program_run(s->p, QN_MICRO, err));
        }
        QN_TRY(qn_program_run(s->p, QN_UPDATE, err));
    }
    return QN_OK;
}

static void open_small(struct small *s, const char *device, bool plain)
{
    qn_compile_opts opts = { .no_graphs = plain };
    aid_ok(build(s, device, &opts, err));
    aid_ok(qn_program_load(s->p, err));
}

static void same_floats(const float *a, const float *b)
{
    assert_non_null(a);
    assert_non_null(b);
    for (int i = 0; i < N; i++)
        if (memcmp(&a[i], &b[i], 4) != 0) fail_msg("element %d: %.9g and %.9g", i, (double)a[i], (double)b[i]);
}

/* ---- there and back -------------------------------------------------------------------------------------------- */

static void gpu_computes_as_the_cpu(void **state)
{
    (void)state;
    struct small cpu, gpu;
    open_small(&cpu, "cpu", false);
    open_small(&gpu, "cuda", false);
    assert_string_equal(qn_store_device(gpu.store), "cuda:0");
    for (int i = 0; i < 7; i++) {
        aid_ok(steps(&cpu, i, 1, 2, err));
        aid_ok(steps(&gpu, i, 1, 2, err));
        same_floats(qn_program_data(cpu.p, cpu.y), qn_program_data(gpu.p, gpu.y));
        same_floats(qn_program_data(cpu.p, cpu.total), qn_program_data(gpu.p, gpu.total));
    }
    aid_ok(qn_store_pull(gpu.store, NULL, err));
    for (int i = 0; i < qn_store_count(cpu.store); i++)
        same_floats(qn_store_at(cpu.store, i)->data, qn_store_at(gpu.store, i)->data);
    drop(&cpu);
    drop(&gpu);
}

static void mirror_goes_there_and_back(void **state)
{
    (void)state;
    struct small s;
    qn_error why = { 0 };
    open_small(&s, "cuda", false);
    float *w = qn_store_find(s.store, "w")->data, first = w[3];
    for (int i = 0; i < N; i++) w[i] = (float)i;
    aid_ok(qn_store_pull(s.store, "w", err)); /* the GPU has not heard of it */
    assert_true(w[3] == first);
    for (int i = 0; i < N; i++) w[i] = (float)i;
    aid_ok(qn_store_push(s.store, "w", err));
    memset(w, 0, N * sizeof *w);
    aid_ok(qn_store_pull(s.store, NULL, err));
    for (int i = 0; i < N; i++) assert_true(w[i] == (float)i);
    aid_ok(steps(&s, 0, 3, 1, err));
    assert_ptr_equal(w, qn_store_find(s.store, "w")->data);
    assert_int_equal(qn_store_pull(s.store, "v", &why), QN_EUSAGE);
    aid_says(&why, "error E2207 graph: v: no such tensor");
    drop(&s);
}

static void kept_tensor_is_its_mirror(void **state)
{
    (void)state;
    struct small s;
    open_small(&s, "cuda", false);
    aid_ok(steps(&s, 0, 2, 1, err));
    drop(&s);
}

static void earlier_values_stay(void **state)
{
    (void)state;
    struct small cpu, gpu;
    float seen[12][N];
    open_small(&cpu, "cpu", false);
    open_small(&gpu, "cuda", false);
    assert_int_equal(qn_program_lag(cpu.p), 0);
    assert_int_equal(qn_program_lag(gpu.p), 1);
    assert_null(qn_program_past(gpu.p, gpu.y, 0));
    for (int i = 0; i < 12; i++) {
        aid_ok(steps(&cpu, i, 1, 1, err));
        memcpy(seen[i], qn_program_data(cpu.p, cpu.y), sizeof seen[i]);
        aid_ok(steps(&gpu, i, 1, 1, err));
        for (int ago = 2; ago >= 0; ago--)
            if (i >= ago) same_floats(seen[i - ago], qn_program_past(gpu.p, gpu.y, ago));
    }
    assert_null(qn_program_past(gpu.p, gpu.y, 3));
    assert_null(qn_program_past(cpu.p, cpu.y, 1));
    drop(&cpu);
    drop(&gpu);
}

/* ---- replay ------------------------------------------------------------------------------------------------------ */

static void replay_is_the_plain_run(void **state)
{
    (void)state;
    struct small plain, graph;
    open_small(&plain, "cuda", true);
    open_small(&graph, "cuda", false);
    for (int i = 0; i < 9; i++) {
        int micro = i % 3 + 1;
        aid_ok(steps(&plain, i, 1, micro, err));
        aid_ok(steps(&graph, i, 1, micro, err));
        same_floats(qn_program_data(plain.p, plain.y), qn_program_data(graph.p, graph.y));
        same_floats(qn_program_data(plain.p, plain.total), qn_program_data(graph.p, graph.total));
    }
    drop(&plain);
    drop(&graph);
}

static void steps_allocate_nothing(void **state)
{
    (void)state;
    static const char *const calls[] = { "cudaMalloc", "cudaMallocHost", "cudaHostAlloc", "cudaMallocAsync", "cudaFree",
                                         "cudaFreeHost", "cudaEventCreateWithFlags", "cudaGraphInstantiate",
                                         "cudaStreamBeginCapture", "cudaDeviceSynchronize", "cudaStreamSynchronize" };
    enum { CALLS = sizeof calls / sizeof calls[0] };
    struct small s;
    uint64_t before[CALLS];
    if (!aid_sim.calls) skip();
    open_small(&s, "cuda", false);
    aid_ok(steps(&s, 0, 1, 2, err)); /* plain, and captured */
    for (int i = 0; i < CALLS; i++) before[i] = aid_sim.calls(calls[i]);
    int64_t host = memory.calls;
    uint64_t launches = aid_sim.launches(), graphs = aid_sim.calls("cudaGraphLaunch");
    aid_ok(steps(&s, 1, 10, 2, err));
    aid_ok(qn_program_wait(s.p, QN_UPDATE, 0, err));
    for (int i = 0; i < CALLS; i++)
        if (aid_sim.calls(calls[i]) != before[i]) fail_msg("%s is called in a step", calls[i]);
    assert_true(memory.calls == host);
    assert_true(aid_sim.calls("cudaGraphLaunch") == graphs + 30);
    assert_true(aid_sim.launches() > launches);
    drop(&s);
}

static void bytes_are_known_before(void **state)
{
    (void)state;
    struct small s;
    if (!aid_sim.used) skip();
    aid_ok(build(&s, "cuda", NULL, err));
    size_t before = aid_sim.used(0);
    qn_bytes b = qn_program_bytes(s.p);
    assert_true(b.host > 0 && b.params > 0 && b.grads > 0 && b.io > 0);
    aid_ok(qn_program_load(s.p, err));
    assert_int_equal(aid_sim.used(0) - before, b.params + b.buffers + b.state + b.grads + b.io + b.work);
    assert_int_equal(qn_store_used_bytes(s.store), b.params + b.buffers + b.state + b.grads + b.work);
    assert_int_equal(qn_program_used_bytes(s.p), b.io + b.work);
    drop(&s);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
        TEST(gpu_computes_as_the_cpu), TEST(mirror_goes_there_and_back), TEST(kept_tensor_is_its_mirror),
        TEST(earlier_values_stay),     TEST(replay_is_the_plain_run),    TEST(steps_allocate_nothing),
        TEST(bytes_are_known_before),
#undef TEST
    };
    static const char *const settings[] = { "QN_CUDASIM_DEVICES=2", NULL };
    if (!aid_begin(settings)) return 0;
    return aid_run_twice(tests, sizeof tests / sizeof tests[0], argc, argv);
}
