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

static void skipped(const char *why)
{
    print_message("# skip: %s\n", why);
    skip();
}

/* ---- a small program: kept values of both phases, a tensor that accumulates, one that is written ----------------- */

enum { N = 1000 };

struct small {
    qn_graph *g;
    qn_store *store;
    qn_program *p;
    qn_t x, y, total, moved;
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
    s->moved = qn_assign(s->g, w, qn_affine(s->g, qn_add(s->g, w, acc), 0.5, 0));
    s->total = qn_scale(s->g, s->moved, 3);
    return qn_compile(&s->p, s->g, (qn_t[]){ s->y, s->total, s->moved }, 3, s->store, opts, err);
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

/* A value that is a tensor after a write has no bytes of its own: asking for it pulls the tensor. */
static void kept_tensor_is_its_mirror(void **state)
{
    (void)state;
    struct small cpu, gpu;
    open_small(&cpu, "cpu", false);
    open_small(&gpu, "cuda", false);
    aid_ok(steps(&cpu, 0, 2, 1, err));
    aid_ok(steps(&gpu, 0, 2, 1, err));
    same_floats(qn_program_data(cpu.p, cpu.moved), qn_program_data(gpu.p, gpu.moved));
    assert_ptr_equal(qn_program_data(gpu.p, gpu.moved), qn_store_find(gpu.store, "w")->data);
    assert_null(qn_program_past(gpu.p, gpu.moved, 1));
    assert_true(((float *)qn_program_data(gpu.p, gpu.x))[5] == ((float *)qn_program_data(cpu.p, cpu.x))[5]);
    drop(&cpu);
    drop(&gpu);
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

/* Many runs that nobody waits for: no batch is overwritten before it is used, no kept value before it has left. */
static void runs_ahead_stay_apart(void **state)
{
    (void)state;
    enum { RUNS = 12 };
    struct small cpu, gpu;
    float seen[RUNS][N];
    open_small(&cpu, "cpu", false);
    open_small(&gpu, "cuda", false);
    for (int i = 0; i < RUNS; i++) {
        feed(&cpu, i);
        aid_ok(qn_program_run(cpu.p, QN_MICRO, err));
        memcpy(seen[i], qn_program_data(cpu.p, cpu.y), sizeof seen[i]);
        feed(&gpu, i);
        aid_ok(qn_program_run(gpu.p, QN_MICRO, err));
    }
    aid_ok(qn_store_pull(gpu.store, NULL, err)); /* all that computes is done before anything is read */
    for (int ago = 2; ago >= 0; ago--) same_floats(seen[RUNS - 1 - ago], qn_program_past(gpu.p, gpu.y, ago));
    same_floats(qn_store_find(cpu.store, "acc")->data, qn_store_find(gpu.store, "acc")->data);
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
    static const char *const calls[] = { "cudaMalloc",
                                         "cudaMallocHost",
                                         "cudaHostAlloc",
                                         "cudaMallocAsync",
                                         "cudaFree",
                                         "cudaFreeHost",
                                         "cudaEventCreateWithFlags",
                                         "cudaGraphInstantiate",
                                         "cudaStreamBeginCapture",
                                         "cudaDeviceSynchronize",
                                         "cudaStreamSynchronize" };
    enum { CALLS = sizeof calls / sizeof calls[0] };
    struct small s;
    uint64_t before[CALLS];
    if (!aid_sim.calls) skipped("calls of a real GPU are not counted");
    open_small(&s, "cuda", false);
    aid_ok(steps(&s, 0, 1, 2, err)); /* plain, and captured */
    for (int i = 0; i < CALLS; i++) before[i] = aid_sim.calls(calls[i]);
    int64_t host = memory.calls;
    uint64_t graphs = aid_sim.calls("cudaGraphLaunch");
    aid_ok(steps(&s, 1, 10, 2, err));
    aid_ok(qn_program_wait(s.p, QN_UPDATE, 0, err));
    for (int i = 0; i < CALLS; i++)
        if (aid_sim.calls(calls[i]) != before[i]) fail_msg("%s is called in a step", calls[i]);
    assert_true(memory.calls == host);
    assert_true(aid_sim.calls("cudaGraphLaunch") == graphs + 30);
    drop(&s);
}

static void bytes_are_known_before(void **state)
{
    (void)state;
    struct small s;
    if (!aid_sim.used) skipped("what a real GPU's allocator takes is not known");
    aid_ok(build(&s, "cuda", NULL, err));
    size_t before = aid_sim.used(0);
    uint64_t calls = aid_sim.calls("cudaMalloc");
    qn_bytes b = qn_program_bytes(s.p);
    assert_true(b.host > 0 && b.params > 0 && b.grads > 0 && b.io > 0);
    aid_ok(qn_program_load(s.p, err));
    size_t all = b.params + b.buffers + b.state + b.grads + b.io + b.work, taken = aid_sim.used(0) - before;
    assert_int_equal(aid_sim.calls("cudaMalloc") - calls, 3);
    assert_true(taken >= all && taken < all + 3 * 8192); /* the simulator's own rounding */
    assert_int_equal(qn_store_used_bytes(s.store), all - b.io);
    assert_int_equal(qn_program_used_bytes(s.p), b.io + b.work);
    drop(&s);
}

/* ---- what goes wrong on the device ------------------------------------------------------------------------------- */

/* y = x[index], kept; index of 8 values from a table of 10. */
struct lookup {
    qn_graph *g;
    qn_program *p;
    qn_t index, y;
};

static void open_lookup(struct lookup *l, const char *device)
{
    float table[10];
    for (int i = 0; i < 10; i++) table[i] = (float)i / 4;
    aid_ok(qn_graph_new(&l->g, &alloc));
    qn_t x = qn_input(l->g, "x", QN_F32, 1, (int64_t[]){ 10 });
    l->index = qn_input(l->g, "index", QN_I32, 1, (int64_t[]){ 8 });
    l->y = qn_gather(l->g, x, l->index, 0);
    qn_compile_opts opts = { .device = device };
    aid_ok(qn_compile(&l->p, l->g, &l->y, 1, NULL, &opts, err));
    aid_ok(qn_program_load(l->p, err));
    memcpy(qn_program_data(l->p, x), table, sizeof table);
}

static void fill_index(struct lookup *l, int32_t bad)
{
    int32_t *index = qn_program_data(l->p, l->index);
    for (int i = 0; i < 8; i++) index[i] = i;
    index[5] = bad;
}

static void drop_lookup(struct lookup *l)
{
    qn_program_free(l->p);
    qn_graph_free(l->g);
}

static void wrong_index_is_told(void **state)
{
    (void)state;
    struct lookup cpu, gpu;
    qn_error there = { 0 }, here = { 0 };
    open_lookup(&cpu, "cpu");
    open_lookup(&gpu, "cuda");
    fill_index(&gpu, 9);
    aid_ok(qn_program_run(gpu.p, QN_MICRO, err));
    assert_true(((const float *)qn_program_data(gpu.p, gpu.y))[5] == 2.25f);
    fill_index(&cpu, 10);
    fill_index(&gpu, 10);
    assert_int_equal(qn_program_run(cpu.p, QN_MICRO, &here), QN_EDATA);
    aid_ok(qn_program_run(gpu.p, QN_MICRO, err)); /* it is only on its way */
    fill_index(&gpu, 1);
    aid_ok(qn_program_run(gpu.p, QN_MICRO, err));
    assert_int_equal(qn_program_wait(gpu.p, QN_MICRO, 0, &there), QN_EDATA);
    assert_string_equal(there.text, here.text);
    aid_says(&there, "error E3041 data: gather: index[5]: 10; expected 0..9");
    aid_ok(qn_program_wait(gpu.p, QN_MICRO, 0, err)); /* once */
    aid_ok(qn_program_run(gpu.p, QN_MICRO, err));
    assert_true(((const float *)qn_program_data(gpu.p, gpu.y))[5] == 0.25f);
    drop_lookup(&cpu);
    drop_lookup(&gpu);
}

/* A call that cannot tell leaves the error to the next that can; no run is started before. */
static void wrong_index_is_not_lost(void **state)
{
    (void)state;
    struct lookup gpu;
    qn_error there = { 0 };
    open_lookup(&gpu, "cuda");
    fill_index(&gpu, -3);
    aid_ok(qn_program_run(gpu.p, QN_MICRO, err));
    assert_null(qn_program_data(gpu.p, gpu.y));
    assert_int_equal(qn_program_run(gpu.p, QN_MICRO, &there), QN_EDATA);
    aid_says(&there, "error E3041 data: gather: index[5]: -3; expected 0..9");
    fill_index(&gpu, 2);
    qn_status status = QN_OK;
    memset(&there, 0, sizeof there);
    fill_index(&gpu, 77);
    aid_ok(qn_program_run(gpu.p, QN_MICRO, err));
    fill_index(&gpu, 3);
    for (int i = 0; i < 4 && !status; i++) status = qn_program_run(gpu.p, QN_MICRO, &there);
    assert_int_equal(status, QN_EDATA);
    aid_says(&there, "error E3041 data: gather: index[5]: 77; expected 0..9");
    drop_lookup(&gpu);
}

static void first_bad_operator_is_found(void **state)
{
    (void)state;
    struct small s;
    char where[100];
    open_small(&s, "cuda", false);
    aid_ok(steps(&s, 0, 2, 1, err));
    aid_ok(qn_program_find_nonfinite(s.p, NULL, where, sizeof where, err));
    assert_string_equal(where, "");
    feed(&s, 3);
    ((float *)qn_program_data(s.p, s.x))[77] = (float)INFINITY;
    aid_ok(qn_program_run(s.p, QN_MICRO, err));
    aid_ok(qn_program_find_nonfinite(s.p, NULL, where, sizeof where, err));
    assert_string_equal(where, "x: input");
    drop(&s);
    open_small(&s, "cuda", false);
    feed(&s, 4);
    ((float *)qn_program_data(s.p, s.x))[78] = 3e38f;
    aid_ok(qn_store_pull(s.store, "w", err));
    ((float *)qn_store_find(s.store, "w")->data)[78] = 100;
    aid_ok(qn_store_push(s.store, "w", err));
    aid_ok(qn_program_run(s.p, QN_MICRO, err));
    aid_ok(qn_program_find_nonfinite(s.p, NULL, where, sizeof where, err));
    if (!strstr(where, "fused")) fail_msg("found \"%s\"", where);
    drop(&s);
}

/* ---- more ------------------------------------------------------------------------------------------------------- */

static void operators_are_timed(void **state)
{
    (void)state;
    struct small s, plain;
    open_small(&s, "cuda", false);
    open_small(&plain, "cuda", false);
    aid_ok(qn_program_profile(s.p, true, err));
    aid_ok(steps(&s, 0, 3, 2, err));
    aid_ok(steps(&plain, 0, 3, 2, err));
    for (int i = 0; i < qn_program_steps(s.p); i++) {
        qn_step_timing t = qn_program_timing(s.p, i);
        assert_int_equal(t.runs, qn_program_step(s.p, i).phase == QN_MICRO ? 6 : 3);
        assert_true(t.seconds >= 0 && t.start > 0);
    }
    aid_ok(qn_program_profile(s.p, false, err));
    same_floats(qn_program_data(s.p, s.total), qn_program_data(plain.p, plain.total));
    aid_ok(steps(&s, 3, 2, 2, err));
    aid_ok(steps(&plain, 3, 2, 2, err));
    same_floats(qn_program_data(s.p, s.total), qn_program_data(plain.p, plain.total));
    drop(&s);
    drop(&plain);
}

static void two_gpus_work_side_by_side(void **state)
{
    (void)state;
    struct small a, b;
    qn_device_info info;
    if (qn_device_gpu(&info, 1, NULL)) skipped("there is one GPU");
    open_small(&a, "cuda:0", false);
    open_small(&b, "cuda:1", false);
    assert_string_equal(qn_store_device(b.store), "cuda:1");
    for (int i = 0; i < 6; i++) {
        aid_ok(steps(&a, i, 1, 1, err));
        aid_ok(steps(&b, i, 1, 1, err));
        same_floats(qn_program_past(a.p, a.y, i > 0), qn_program_past(b.p, b.y, i > 0));
        same_floats(qn_program_data(a.p, a.total), qn_program_data(b.p, b.total));
    }
    aid_ok(qn_store_pull(b.store, NULL, err));
    drop(&a);
    aid_ok(steps(&b, 6, 2, 1, err));
    drop(&b);
}

/* The program keeps the device open; in whatever order things are freed. */
static void store_may_go_first(void **state)
{
    (void)state;
    struct small s;
    open_small(&s, "cuda", false);
    aid_ok(steps(&s, 0, 2, 1, err));
    qn_store_free(s.store);
    qn_program_free(s.p);
    qn_graph_free(s.g);
}

static void double_is_refused(void **state)
{
    (void)state;
    qn_graph *g;
    qn_program *p = NULL;
    qn_error why = { 0 };
    qn_compile_opts opts = { .device = "cuda" };
    aid_ok(qn_graph_new(&g, &alloc));
    qn_t x = qn_input(g, "x", QN_F64, 1, (int64_t[]){ 4 }), y = qn_scale(g, x, 2);
    assert_int_equal(qn_compile(&p, g, &y, 1, NULL, &opts, &why), QN_EUSAGE);
    aid_says(&why, "error E2208 graph: x: input of F64 on cuda:0; expected F32, BF16 or F16, or the CPU");
    assert_null(p);
    qn_graph_free(g);
}

static void program_of_constants(void **state)
{
    (void)state;
    qn_graph *g;
    qn_program *p;
    const float four[] = { 1, 2, 3, 4 };
    qn_compile_opts opts = { .device = "cuda", .no_fuse = true };
    aid_ok(qn_graph_new(&g, &alloc));
    qn_t c = qn_constant(g, QN_F32, 1, (int64_t[]){ 4 }, four), x = qn_input(g, "x", QN_F32, 1, (int64_t[]){ 4 });
    qn_t y = qn_add(g, x, c), keep[] = { y, c, x };
    aid_ok(qn_compile(&p, g, keep, 3, NULL, &opts, err));
    aid_ok(qn_program_load(p, err));
    for (int run = 0; run < 5; run++) { /* both slots have the constants */
        for (int i = 0; i < 4; i++) ((float *)qn_program_data(p, x))[i] = (float)(10 * run);
        aid_ok(qn_program_run(p, QN_MICRO, err));
        const float *sum = qn_program_data(p, y);
        for (int i = 0; i < 4; i++) assert_true(sum[i] == four[i] + (float)(10 * run));
        assert_memory_equal(qn_program_data(p, c), four, sizeof four);
    }
    qn_program_free(p);
    qn_graph_free(g);
}

/* Launches of a run that sums the squares of n tensors; all of them must be right. */
static uint64_t launches_for(int n)
{
    enum { MOST = 8 };
    static const char *const names[MOST] = { "a", "b", "c", "d", "e", "f", "g", "h" };
    qn_graph *g;
    qn_program *p;
    qn_t x[MOST], sum[MOST];
    const qn_compile_opts opts = { .device = "cuda", .no_graphs = true, .check_plan = true };
    aid_ok(qn_graph_new(&g, &alloc));
    for (int i = 0; i < n; i++) x[i] = qn_affine(g, qn_input(g, names[i], QN_F32, 1, (int64_t[]){ N }), 2, 0);
    for (int i = 0; i < n; i++) sum[i] = qn_sum_squares(g, x[i]);
    aid_ok(qn_compile(&p, g, sum, n, NULL, &opts, err));
    aid_ok(qn_program_load(p, err));
    for (int i = 0; i < n; i++) {
        qn_t in = { x[i].id - 1 };
        for (int k = 0; k < N; k++) ((float *)qn_program_data(p, in))[k] = 0.5f * (float)(i + 1);
    }
    uint64_t before = aid_sim.launches();
    aid_ok(qn_program_run(p, QN_MICRO, err));
    for (int i = 0; i < n; i++)
        assert_true(*(const float *)qn_program_data(p, sum[i]) == (float)(N * (i + 1) * (i + 1)));
    uint64_t all = aid_sim.launches() - before;
    qn_program_free(p);
    qn_graph_free(g);
    return all - (uint64_t)n; /* of affine, which has no such launch */
}

static void small_tensors_share_a_launch(void **state)
{
    (void)state;
    if (!aid_sim.launches) skipped("launches of a real GPU are not counted");
    uint64_t one = launches_for(1);
    assert_true(one > 0);
    assert_int_equal(launches_for(8), one);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
        TEST(gpu_computes_as_the_cpu),      TEST(mirror_goes_there_and_back), TEST(kept_tensor_is_its_mirror),
        TEST(earlier_values_stay),          TEST(replay_is_the_plain_run),    TEST(steps_allocate_nothing),
        TEST(bytes_are_known_before),       TEST(wrong_index_is_told),        TEST(wrong_index_is_not_lost),
        TEST(first_bad_operator_is_found),  TEST(operators_are_timed),        TEST(two_gpus_work_side_by_side),
        TEST(store_may_go_first),           TEST(double_is_refused),          TEST(program_of_constants),
        TEST(small_tensors_share_a_launch), TEST(runs_ahead_stay_apart),
#undef TEST
    };
    static const char *const settings[] = { "QN_CUDASIM_DEVICES=2", NULL };
    if (!aid_begin(settings)) return aid_skip("runtime");
    return aid_run_each(tests, sizeof tests / sizeof tests[0], argc, argv);
}
