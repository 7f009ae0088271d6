/* test_calls.c - every call to the GPU's libraries fails in turn, once and for ever: a status that names the call,
 * nothing left behind, and what can be tried again can. Needs the simulator. */
#include "aid.h"
#include <stdio.h>

static struct aid_memory memory;
static qn_alloc alloc;

enum { N = 300, RUNS = 5 };

struct work {
    qn_graph *g;
    qn_store *store;
    qn_program *p;
    qn_t x, y, norm;
};

/* ---- what is done ------------------------------------------------------------------------------------------------ */

static qn_status build(struct work *w, qn_error *err)
{
    const int64_t dims[] = { N };
    QN_TRY(qn_store_new(&w->store, "cuda", 3, &alloc, err));
    if (qn_graph_new(&w->g, &alloc)) return qn__nomem(err, "graph", 1);
    w->x = qn_input(w->g, "x", QN_F32, 1, dims);
    qn_t t = qn_param(w->g, "t", QN_F32, 1, dims, &(qn_init){ .kind = QN_INIT_ONES });
    w->y = qn_mul(w->g, w->x, t);
    qn_graph_phase(w->g, QN_UPDATE);
    qn_t moved = qn_assign(w->g, t, qn_affine(w->g, t, 0.5, 1));
    w->norm = qn_scale(w->g, moved, 2);
    return qn_compile(&w->p, w->g, (qn_t[]){ w->y, w->norm }, 2, w->store, NULL, err);
}

static qn_status run(struct work *w, qn_error *err)
{
    QN_TRY(qn_program_load(w->p, err));
    for (int i = 0; i < RUNS; i++) {
        float *x = qn_program_data(w->p, w->x);
        for (int k = 0; k < N; k++) x[k] = (float)(k + i);
        QN_TRY(qn_program_run(w->p, QN_MICRO, err));
        QN_TRY(qn_program_run(w->p, QN_UPDATE, err));
        QN_TRY(qn_program_wait(w->p, QN_MICRO, 1, err));
    }
    QN_TRY(qn_program_wait(w->p, QN_UPDATE, 0, err));
    return qn_program_wait(w->p, QN_MICRO, 0, err);
}

static qn_status look(struct work *w, qn_error *err)
{
    char where[80];
    int64_t room;
    QN_TRY(qn_store_pull(w->store, NULL, err));
    QN_TRY(qn_store_push(w->store, "t", err));
    QN_TRY(qn_store_room(w->store, &room, err));
    QN_TRY(qn_program_find_nonfinite(w->p, NULL, where, sizeof where, err));
    QN_TRY(qn_program_profile(w->p, true, err));
    QN_TRY(qn_program_run(w->p, QN_MICRO, err));
    return qn_program_wait(w->p, QN_MICRO, 0, err);
}

static qn_status whole(struct work *w, qn_error *err)
{
    memset(w, 0, sizeof *w);
    QN_TRY(build(w, err));
    QN_TRY(run(w, err));
    return look(w, err);
}

static void drop(struct work *w)
{
    qn_program_free(w->p);
    qn_graph_free(w->g);
    qn_store_free(w->store);
}

/* ---- what must come of it ---------------------------------------------------------------------------------------- */

static void nothing_seen(const char *plan)
{
    if (aid_sim.findings()) fail_msg("%s: %s", plan, aid_sim.finding(0));
}

/* `answer` of the call that the plan names; things: what may be left of the GPU because giving it back has failed. */
static void one_failure(const char *call, const char *plan, bool release)
{
    struct work w;
    qn_error err = { 0 };
    size_t live = aid_sim.live();
    memset(&memory, 0, sizeof memory);
    if (!aid_sim.plan(plan)) fail_msg("%s: not understood", plan);
    qn_status status = whole(&w, &err);
    drop(&w);
    aid_sim.plan(NULL);
    if (release) {
        if (status) fail_msg("%s: %s", plan, err.text);
    } else if (status != QN_EDEVICE && status != QN_EMEMORY) {
        fail_msg("%s: status %d: %s", plan, (int)status, err.text);
    } else if (!strstr(err.text, call) && !strstr(err.text, "cublasLt")) { /* which calls it, in the simulator */
        fail_msg("%s: not named in \"%s\"", plan, err.text);
    }
    if (memory.blocks) fail_msg("%s: %lld blocks of the host are left", plan, (long long)memory.blocks);
    if (!release && aid_sim.live() != live) fail_msg("%s: %zu things of the GPU are left", plan, aid_sim.live() - live);
    nothing_seen(plan);
    aid_sim.forget();
}

/* Of a whole run without failures, until everything is given back, and after. */
static uint64_t calls_of(const char *call, uint64_t *after)
{
    struct work w;
    aid_sim.plan(NULL);
    aid_ok(whole(&w, err));
    uint64_t n = aid_sim.calls(call);
    drop(&w);
    *after = aid_sim.calls(call);
    return n;
}

/* Functions whose answer must become an error, and what names them in it. */
static const struct {
    const char *call, *named;
} calls[] = {
    { "cudaGetDeviceCount", "no device" },
    { "cudaGetDeviceProperties", "cudaGetDeviceProperties" },
    { "cudaSetDevice", "cudaSetDevice" },
    { "cudaFuncGetAttributes", "no code for" },
    { "cudaStreamCreateWithFlags", "cudaStreamCreateWithFlags" },
    { "cudaEventCreateWithFlags", "cudaEventCreateWithFlags" },
    { "cudaMalloc", "cudaMalloc" },
    { "cudaMallocHost", "cudaMallocHost" },
    { "cudaMemsetAsync", "cudaMemsetAsync" },
    { "cudaMemcpyAsync", "cudaMemcpyAsync" },
    { "cudaMemGetInfo", "cudaMemGetInfo" },
    { "cudaStreamSynchronize", "cudaStreamSynchronize" },
    { "cudaStreamWaitEvent", "cudaStreamWaitEvent" },
    { "cudaEventRecord", "cudaEventRecord" },
    { "cudaEventSynchronize", "cudaEventSynchronize" },
    { "cudaEventElapsedTime", "cudaEventElapsedTime" },
    { "cudaStreamBeginCapture", "cudaStreamBeginCapture" },
    { "cudaStreamEndCapture", "cudaStreamEndCapture" },
    { "cudaGraphInstantiate", "cudaGraphInstantiate" },
    { "cudaGraphUpload", "cudaGraphUpload" },
    { "cudaGraphLaunch", "cudaGraphLaunch" },
    { "cudaLaunchKernel", "answered" }, /* the kernel is named */
    { "cublasLtCreate", "cublasLtCreate" },
};

static void each_call_fails(void **state)
{
    (void)state;
    char plan[100];
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        uint64_t all, n = calls_of(calls[i].call, &all);
        if (n == 0) fail_msg("%s is never called", calls[i].call);
        for (uint64_t k = 1; k <= n; k++) {
            snprintf(plan, sizeof plan, "%s:%llu", calls[i].call, (unsigned long long)k);
            one_failure(calls[i].named, plan, false);
            snprintf(plan, sizeof plan, "%s:%llu:forever", calls[i].call, (unsigned long long)k);
            one_failure(calls[i].named, plan, false);
        }
        for (uint64_t k = n + 1; k <= all; k++) {
            snprintf(plan, sizeof plan, "%s:%llu", calls[i].call, (unsigned long long)k);
            one_failure(calls[i].named, plan, true);
        }
    }
}

/* What gives back cannot be answered to: the rest is given back all the same. */
static void each_release_fails(void **state)
{
    (void)state;
    static const char *const releases[] = { "cudaFree",          "cudaFreeHost",         "cudaEventDestroy",
                                            "cudaStreamDestroy", "cudaGraphExecDestroy", "cudaGraphDestroy",
                                            "cublasLtDestroy" };
    char plan[100];
    for (size_t i = 0; i < sizeof releases / sizeof releases[0]; i++) {
        uint64_t n;
        calls_of(releases[i], &n);
        if (n == 0) fail_msg("%s is never called", releases[i]);
        for (uint64_t k = 1; k <= n; k++) {
            snprintf(plan, sizeof plan, "%s:%llu", releases[i], (unsigned long long)k);
            one_failure(releases[i], plan, true);
        }
    }
}

/* From some call on nothing works any more: as when the GPU has fallen off the bus. */
static void the_gpu_goes_away(void **state)
{
    (void)state;
    char plan[100];
    uint64_t n;
    calls_of("any", &n);
    assert_true(n > 100);
    for (uint64_t k = 1; k <= n; k += k < 60 ? 1 : 7) {
        struct work w;
        qn_error err = { 0 };
        memset(&memory, 0, sizeof memory);
        snprintf(plan, sizeof plan, "any:%llu:forever:46", (unsigned long long)k);
        assert_true(aid_sim.plan(plan));
        qn_status status = whole(&w, &err);
        drop(&w);
        aid_sim.plan(NULL);
        aid_sim.forget();
        if (memory.blocks) fail_msg("%s: %lld blocks are left", plan, (long long)memory.blocks);
        if (status && status != QN_EDEVICE && status != QN_EMEMORY) fail_msg("%s: %s", plan, err.text);
    }
}

/* ---- words ------------------------------------------------------------------------------------------------------- */

static void answers_become_sentences(void **state)
{
    (void)state;
    static const struct {
        const char *plan;
        qn_status status;
        const char *begins, *has;
    } rows[] = {
        { "cudaGetDeviceCount:1:forever:100", QN_EDEVICE, "error E7001 device: cuda: no device; expected an NVIDIA GPU",
          "--device=cpu" },
        { "cudaGetDeviceCount:1:forever:35", QN_EDEVICE, "error E7001 device: cuda: ", "driver" },
        { "cudaFuncGetAttributes:1:209", QN_EDEVICE, "error E7001 device: cuda: the plugin has no code for ",
          "make cuda CUDA_ARCHS=80" },
        { "cudaMalloc:3:2", QN_EMEMORY, "error E5002 memory: cuda:0: cudaMalloc of ", "MiB are free" },
        { "cudaStreamCreateWithFlags:1:46", QN_EDEVICE,
          "error E7003 device: cuda: cudaStreamCreateWithFlags answered cudaErrorDevicesUnavailable (46, ",
          "another process" },
        { "cudaGraphLaunch:1:700", QN_EDEVICE,
          "error E7003 device: cuda: cudaGraphLaunch answered cudaErrorIllegalAddress (700, ", "QN_SYNC=1" },
        { "cudaEventSynchronize:1:214", QN_EDEVICE,
          "error E7003 device: cuda: cudaEventSynchronize answered cudaErrorECCUncorrectable (214, ", "damaged" },
        { "cudaLaunchKernel:2:719", QN_EDEVICE, "error E7003 device: ", "at or before " },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct work w;
        qn_error err = { 0 };
        memset(&memory, 0, sizeof memory);
        assert_true(aid_sim.plan(rows[i].plan));
        qn_status status = whole(&w, &err);
        drop(&w);
        aid_sim.plan(NULL);
        aid_sim.forget();
        if (status != rows[i].status) fail_msg("%s: status %d, %s", rows[i].plan, (int)status, err.text);
        aid_says(&err, rows[i].begins);
        if (!strstr(err.text, rows[i].has)) fail_msg("%s: no \"%s\" in \"%s\"", rows[i].plan, rows[i].has, err.text);
        if (strchr(err.text, '\n')) fail_msg("%s: more than a line", rows[i].plan);
    }
}

/* An operator goes wrong when it runs: some call after it answers, with QN_SYNC=1 the wait behind it. */
static void the_culprit_is_named(void **state)
{
    (void)state;
    struct work w;
    qn_error told = { 0 };
    setenv("QN_SYNC", "1", 1);
    memset(&memory, 0, sizeof memory);
    uint64_t all;
    assert_int_equal(calls_of("cudaGraphLaunch", &all), 0);
    memset(&w, 0, sizeof w);
    aid_ok(build(&w, err));
    aid_ok(qn_program_load(w.p, err));
    assert_true(aid_sim.plan("cudaStreamSynchronize:2:700"));
    assert_int_equal(run(&w, &told), QN_EDEVICE);
    drop(&w);
    aid_sim.plan(NULL);
    aid_sim.forget();
    unsetenv("QN_SYNC");
    aid_says(&told, "error E7003 device: affine: affine F32[300] of F32[300]: cudaStreamSynchronize answered "
                    "cudaErrorIllegalAddress (700, ");
    assert_null(strstr(told.text, "QN_SYNC"));
}

static void automatic_is_the_cpu_where_there_is_no_gpu(void **state)
{
    (void)state;
    static const char *const plans[] = { "cudaGetDeviceCount:1:forever:100", "cudaGetDeviceCount:1:forever:35",
                                         "cudaGetDeviceCount:1:forever:999", "cudaFuncGetAttributes:1:forever:209",
                                         "cudaStreamCreateWithFlags:1:forever:46" };
    char name[QN_DEVICE_NAME];
    qn_error why, told;
    aid_ok(qn_device_choose(name, "auto", &why, err));
    assert_string_equal(name, "cuda:0");
    assert_int_equal(why.code, 0);
    for (size_t i = 0; i < sizeof plans / sizeof plans[0]; i++) {
        qn_store *s;
        assert_true(aid_sim.plan(plans[i]));
        aid_ok(qn_device_choose(name, "auto", &why, err));
        assert_string_equal(name, "cpu");
        assert_int_equal(qn_error_status(&why), QN_EDEVICE);
        assert_int_equal(qn_store_new(&s, "cuda", 1, NULL, &told), QN_EDEVICE);
        assert_string_equal(told.text, why.text);
        aid_ok(qn_store_new(&s, "auto", 1, NULL, err));
        assert_string_equal(qn_store_device(s), "cpu");
        qn_store_free(s);
        aid_sim.plan(NULL);
    }
    assert_int_equal(qn_device_choose(name, "cuda:9", NULL, &told), QN_EDEVICE);
    aid_says(&told, "error E7001 device: cuda: no GPU 9; expected cuda:0");
    static const char *const bad[] = { "gpu", "cuda:", "cuda:x", "cuda1", "cuda:-1", "", "CPU", "cuda:99999" };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(qn_device_choose(name, bad[i], NULL, &told), QN_EUSAGE);
}

static void plugins_that_are_none(void **state)
{
    (void)state;
    char keep[4096], name[QN_DEVICE_NAME];
    qn_error told;
    snprintf(keep, sizeof keep, "%s", getenv("QN_CUDA_PLUGIN"));
    setenv("QN_CUDA_PLUGIN", "/nowhere/libquern_cuda.so", 1);
    assert_int_equal(qn_device_choose(name, "cuda", NULL, &told), QN_EDEVICE);
    aid_says(&told, "error E7002 device: /nowhere/libquern_cuda.so: cannot open shared object file");
    setenv("QN_CUDA_PLUGIN", "libm.so.6", 1);
    assert_int_equal(qn_device_choose(name, "cuda", NULL, &told), QN_EDEVICE);
    aid_says(&told, "error E7002 device: libm.so.6: no qn__cuda_plugin in it");
    setenv("QN_CUDA_PLUGIN", keep, 1);
    aid_ok(qn_device_choose(name, "cuda", NULL, err));
}

static int begin_group(void **state)
{
    (void)state;
    alloc = aid_alloc(&memory);
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_call_fails),       cmocka_unit_test(each_release_fails),
        cmocka_unit_test(the_gpu_goes_away),     cmocka_unit_test(answers_become_sentences),
        cmocka_unit_test(the_culprit_is_named),  cmocka_unit_test(automatic_is_the_cpu_where_there_is_no_gpu),
        cmocka_unit_test(plugins_that_are_none),
    };
    if (argc == 2) cmocka_set_test_filter(argv[1]); /* one test by name, for scripts/mutate */
    if (!aid_begin(NULL) || !aid_sim.plan) return aid_skip("calls");
    return cmocka_run_group_tests(tests, begin_group, NULL);
}
