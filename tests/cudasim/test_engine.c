/* test_engine.c - the simulator itself: streams run as late as the program's own waiting allows, or at once; graphs
 * replay what was captured; devices and their peers; order of threads; calls that fail as planned; what is counted is
 * what the programming guide says of the access; mma is a product of matrices. Run in several settings, each in a
 * process of its own. */
#define CALLS(X) \
    X(cudaMallocHost) \
    X(cudaFreeHost) \
    X(cudaMemcpyAsync) \
    X(cudaStreamCreateWithFlags) \
    X(cudaEventCreateWithFlags) \
    X(cudaEventRecord) \
    X(cudaEventDestroy) \
    X(cudaStreamWaitEvent) \
    X(cudaStreamBeginCapture) \
    X(cudaStreamEndCapture) \
    X(cudaGraphInstantiate) \
    X(cudaGraphLaunch) \
    X(cudaGraphExecDestroy) \
    X(cudaGraphDestroy) \
    X(cudaDeviceCanAccessPeer) \
    X(cudaDeviceEnablePeerAccess) \
    X(cudaDeviceDisablePeerAccess) \
    X(cudaMemcpyPeerAsync) \
    X(cudasim_count) \
    X(cudasim_counted)
#if __has_include(<cuda_runtime_api.h>)
#include <cuda_runtime_api.h>
#endif
#include "simulated.h"

#if SIMULATED
#include "../../core/base.h"
#include "cases.h"
#include "counts.h"
#include <stdbool.h>
#include <sys/wait.h>

enum { N = 64 };

static struct {
    __typeof__(sim_add) *add;
    __typeof__(sim_scale) *scale;
    __typeof__(sim_copy_rows) *copy_rows;
    __typeof__(sim_transpose) *transpose;
    __typeof__(sim_shared_vectors) *shared_vectors;
    __typeof__(sim_product) *product;
    __typeof__(sim_order) *order;
} run;

static bool is_set(const char *name, const char *value)
{
    const char *text = getenv(name);
    return text && strcmp(text, value) == 0;
}
#define OK(call) assert_int_equal(call, cudaSuccess)

static float *zeros(int64_t n)
{
    float *x = device_take((size_t)n * sizeof *x);
    OK(calls.cudaMemset(x, 0, (size_t)n * sizeof *x));
    OK(calls.cudaDeviceSynchronize());
    return x;
}
static cudaStream_t new_stream(void)
{
    cudaStream_t s = NULL;
    OK(calls.cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
    return s;
}
static float first_of(const float *device)
{
    float v;
    host_copy(&v, device, sizeof v);
    return v;
}

/* ---- streams and graphs ----------------------------------------------------------------------------------------- */

/* Without a wait the other stream reads what was there before, or not, as the setting says; with one it never does. */
static void a_missing_wait_shows(void **state)
{
    (void)state;
    cudaStream_t a = new_stream(), b = new_stream();
    cudaEvent_t done;
    float *x = zeros(N), *seen;
    OK(calls.cudaMallocHost((void **)&seen, N * sizeof *seen));
    OK(calls.cudaEventCreateWithFlags(&done, cudaEventDisableTiming));
    OK(run.add(x, 1, N, a));
    OK(calls.cudaMemcpyAsync(seen, x, N * sizeof *seen, cudaMemcpyDeviceToHost, b));
    OK(calls.cudaStreamSynchronize(b));
    assert_true(seen[0] == (is_set("QN_CUDASIM_STREAMS", "eager") ? 1.0f : 0.0f));
    OK(run.add(x, 1, N, a));
    OK(calls.cudaEventRecord(done, a));
    OK(calls.cudaStreamWaitEvent(b, done, 0));
    OK(calls.cudaMemcpyAsync(seen, x, N * sizeof *seen, cudaMemcpyDeviceToHost, b));
    OK(calls.cudaStreamSynchronize(b));
    for (int i = 0; i < N; i++) assert_true(seen[i] == 2);
    calls.cudaEventDestroy(done);
    calls.cudaStreamDestroy(a);
    calls.cudaStreamDestroy(b);
    calls.cudaFreeHost(seen);
    calls.cudaFree(x);
}

static void a_graph_is_replayed(void **state)
{
    (void)state;
    cudaStream_t s = new_stream();
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    float *x = zeros(N);
    OK(calls.cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal));
    OK(run.add(x, 1, N, s));
    OK(run.add(x, 2, N, s));
    OK(calls.cudaStreamEndCapture(s, &graph));
    OK(calls.cudaGraphInstantiate(&exec, graph, 0));
    calls.cudaGraphDestroy(graph);
    OK(calls.cudaStreamSynchronize(s));
    assert_true(first_of(x) == 0); /* only noted down so far */
    for (int i = 0; i < 3; i++) OK(calls.cudaGraphLaunch(exec, s));
    OK(calls.cudaStreamSynchronize(s));
    assert_true(first_of(x) == 9);
    calls.cudaGraphExecDestroy(exec);
    calls.cudaStreamDestroy(s);
    calls.cudaFree(x);
}

/* What would have to wait for the device cannot be captured, and spoils the capture. */
static void a_capture_can_be_spoilt(void **state)
{
    (void)state;
    cudaStream_t s = new_stream();
    cudaGraph_t graph = NULL;
    OK(calls.cudaStreamBeginCapture(s, cudaStreamCaptureModeThreadLocal));
    assert_int_equal(calls.cudaStreamSynchronize(s), cudaErrorStreamCaptureUnsupported);
    assert_int_equal(calls.cudaStreamEndCapture(s, &graph), cudaErrorStreamCaptureInvalidated);
    assert_null(graph);
    calls.cudaGetLastError();
    OK(calls.cudaStreamSynchronize(s));
    calls.cudaStreamDestroy(s);
}

/* ---- devices ----------------------------------------------------------------------------------------------------- */

static void another_device_is_another(void **state)
{
    (void)state;
    float *x, *y, host[N];
    int can = -1;
    cudaStream_t s;
    OK(calls.cudaSetDevice(0));
    x = zeros(N);
    OK(run.add(x, 3, N, NULL));
    OK(calls.cudaDeviceSynchronize());
    OK(calls.cudaSetDevice(1));
    y = zeros(N);
    s = new_stream();
    OK(calls.cudaDeviceCanAccessPeer(&can, 1, 0));
    assert_int_equal(can, 1);
    OK(calls.cudaDeviceCanAccessPeer(&can, 1, 1));
    assert_int_equal(can, 0);
    for (int turn = 0; turn < 2; turn++) { /* without access, with it, and without again */
        run.scale(y, x, 2, N, s);
        calls.cudaStreamSynchronize(s);
        expect_finding("memory of another device");
        if (turn) break;
        OK(calls.cudaDeviceEnablePeerAccess(0, 0));
        assert_int_equal(calls.cudaDeviceEnablePeerAccess(0, 0), cudaErrorPeerAccessAlreadyEnabled);
        assert_int_equal(calls.cudaDeviceEnablePeerAccess(1, 0), cudaErrorInvalidDevice);
        calls.cudaGetLastError();
        OK(run.scale(y, x, 2, N, s));
        OK(calls.cudaStreamSynchronize(s));
        expect_no_finding();
        assert_true(first_of(y) == 6);
        OK(calls.cudaDeviceDisablePeerAccess(0));
        assert_int_equal(calls.cudaDeviceDisablePeerAccess(0), cudaErrorPeerAccessNotEnabled);
        calls.cudaGetLastError();
    }
    calls.cudaStreamDestroy(s);
    calls.cudaFree(y);
    OK(calls.cudaSetDevice(1));
    y = zeros(N);
    s = new_stream();
    OK(calls.cudaMemcpyPeerAsync(y, 1, x, 0, N * sizeof *x, s));
    OK(calls.cudaStreamSynchronize(s));
    host_copy(host, y, sizeof host);
    for (int i = 0; i < N; i++) assert_true(host[i] == 3);
    assert_int_equal(calls.cudaMemcpyPeerAsync(y, 0, x, 1, N * sizeof *x, s), cudaErrorInvalidValue);
    calls.cudaGetLastError();
    calls.cudaStreamDestroy(s);
    calls.cudaFree(y);
    OK(calls.cudaSetDevice(0));
    calls.cudaFree(x);
}

/* ---- order and failures ------------------------------------------------------------------------------------------ */

static void threads_run_in_the_order_that_is_asked_for(void **state)
{
    (void)state;
    int *out = (int *)(void *)zeros(N + 1), got[N], forward = 0, backward = 0;
    bool seen[N] = { false };
    OK(run.order(out, NULL));
    host_copy(got, out, sizeof got);
    for (int i = 0; i < N; i++) {
        assert_in_range(got[i], 0, N - 1);
        assert_false(seen[got[i]]);
        seen[got[i]] = true;
        forward += got[i] == i;
        backward += got[i] == N - 1 - i;
    }
    const char *order = getenv("QN_CUDASIM_ORDER");
    if (strcmp(order, "forward") == 0) assert_int_equal(forward, N);
    if (strcmp(order, "reversed") == 0) assert_int_equal(backward, N);
    if (strncmp(order, "random", 6) == 0) assert_true(forward < N / 2 && backward < N / 2);
    calls.cudaFree(out);
}

static void calls_fail_as_planned(void **state)
{
    (void)state;
    void *p[4];
    assert_true(calls.cudasim_fail("cudaMalloc:2,cudaMalloc:4:forever:2"));
    OK(calls.cudaMalloc(&p[0], 8));
    assert_int_not_equal(calls.cudaMalloc(&p[1], 8), cudaSuccess);
    OK(calls.cudaMalloc(&p[2], 8));
    for (int i = 0; i < 3; i++) assert_int_equal(calls.cudaMalloc(&p[3], 8), cudaErrorMemoryAllocation);
    assert_int_equal(calls.cudasim_calls("cudaMalloc"), 6);
    calls.cudasim_fail(NULL);
    calls.cudaGetLastError();
    assert_false(calls.cudasim_fail("cudaMalloc"));
    assert_false(calls.cudasim_fail("cudaMalloc:0"));
    calls.cudasim_fail(NULL);
    calls.cudaFree(p[0]);
    calls.cudaFree(p[2]);
}

/* ---- counts ------------------------------------------------------------------------------------------------------ */

static struct cudasim_counts counted(void)
{
    struct cudasim_counts c;
    const char *kernel;
    OK(calls.cudaDeviceSynchronize());
    calls.cudasim_count(0);
    assert_true(calls.cudasim_counted(0, &c, &kernel));
    assert_false(calls.cudasim_counted(1, &c, &kernel));
    calls.cudasim_counted(0, &c, &kernel);
    assert_int_equal(c.launches, 1);
    return c;
}

/* A warp's request of 32 floats is 4 sectors if they lie together, 32 if each lies in another. */
static void device_memory_is_counted_in_sectors(void **state)
{
    (void)state;
    enum { ROWS = 1024 };
    float *x = zeros(8 * ROWS), *y = zeros(ROWS);
    static const struct {
        int stride, vector;
        uint64_t requests, sectors;
    } rows[] = { { 1, 0, 32, 128 }, { 2, 0, 32, 256 }, { 8, 0, 32, 1024 }, { 1, 1, 8, 128 } };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        calls.cudasim_count(1);
        OK(run.copy_rows(y, x, ROWS, rows[i].stride, rows[i].vector, NULL));
        struct cudasim_counts c = counted();
        assert_int_equal(c.threads, rows[i].vector ? ROWS / 4 : ROWS);
        assert_int_equal(c.load.requests, rows[i].requests);
        assert_int_equal(c.load.bytes, 4 * ROWS);
        assert_int_equal(c.load.sectors, rows[i].sectors);
        assert_int_equal(c.load.ideal_sectors, 128);
        assert_int_equal(c.load.missed, rows[i].sectors);
        assert_int_equal(c.store.sectors, 128);
        assert_int_equal(c.footprint_read, 4 * ROWS);
        assert_int_equal(c.footprint_written, 4 * ROWS);
    }
    calls.cudaFree(x);
    calls.cudaFree(y);
}

/* 32 banks of 4 bytes: a column of 32 rows is one bank, with a padded row it is all of them; 16 bytes a lane take four
 * passes, and eight if every second place is left out. */
static void shared_memory_is_counted_in_passes(void **state)
{
    (void)state;
    float *x = zeros(1024), *y = zeros(1024);
    for (int pad = 0; pad < 2; pad++) {
        calls.cudasim_count(1);
        OK(run.transpose(y, x, pad, NULL));
        struct cudasim_counts c = counted();
        assert_int_equal(c.shared_store.wavefronts, 32);
        assert_int_equal(c.shared_load.requests, 32);
        assert_int_equal(c.shared_load.wavefronts, pad ? 32 : 1024);
        assert_int_equal(c.shared_load.ideal_wavefronts, 32);
    }
    for (int step = 1; step < 3; step++) {
        calls.cudasim_count(1);
        OK(run.shared_vectors(y, step, NULL));
        struct cudasim_counts c = counted();
        assert_int_equal(c.shared_load.wavefronts, 4 * step);
        assert_int_equal(c.shared_load.ideal_wavefronts, 4);
    }
    calls.cudaFree(x);
    calls.cudaFree(y);
}

/* ---- numbers ----------------------------------------------------------------------------------------------------- */

static void mma_is_a_product(void **state)
{
    (void)state;
    enum { ROWS = 16, COLS = 8, INNER = 16 };
    float a[ROWS * INNER], b[INNER * COLS], d[ROWS * COLS], *on_device = zeros(ROWS * COLS);
    uint16_t a16[ROWS * INNER], b16[INNER * COLS];
    for (int half = 0; half < 2; half++) {
        qn_dtype t = half ? QN_F16 : QN_BF16;
        for (int i = 0; i < ROWS * INNER; i++) a[i] = (float)((i * 7) % 13 - 6);
        for (int i = 0; i < INNER * COLS; i++) b[i] = (float)((i * 5) % 11 - 5);
        qn_convert(a16, t, a, QN_F32, ROWS * INNER);
        qn_convert(b16, t, b, QN_F32, INNER * COLS);
        void *x = device_copy(a16, sizeof a16), *y = device_copy(b16, sizeof b16);
        bool counts = calls.cudasim_count(1);
        OK(run.product(on_device, x, y, half, NULL));
        if (counts) assert_int_equal(counted().matrix_products, 1);
        host_copy(d, on_device, sizeof d);
        for (int i = 0; i < ROWS; i++)
            for (int j = 0; j < COLS; j++) {
                float want = 0;
                for (int k = 0; k < INNER; k++) want += a[i * INNER + k] * b[k * COLS + j];
                assert_true(d[i * COLS + j] == want);
            }
        calls.cudaFree(x);
        calls.cudaFree(y);
    }
    calls.cudaFree(on_device);
}

/* ---- settings ---------------------------------------------------------------------------------------------------- */

static int clean(void **state)
{
    (void)state;
    if (calls.cudasim_findings()) print_message("%s\n", calls.cudasim_finding(0));
    if (calls.cudasim_live()) print_message("%zu things are left\n", calls.cudasim_live());
    return calls.cudasim_findings() || calls.cudasim_live();
}

static const char *const settings[][3] = { /* kind, streams, order */
                                           { "fast", "lazy", "forward" },
                                           { "fast", "eager", "reversed" },
                                           { "fast", "lazy", "random:5" },
                                           { "checked", "lazy", "forward" }
};
enum { SETTINGS = sizeof settings / sizeof settings[0] };

static int run_setting(const char *const *set)
{
#define TEST(name) cmocka_unit_test_teardown(name, clean)
    const struct CMUnitTest tests[] = {
        TEST(a_missing_wait_shows),
        TEST(a_graph_is_replayed),
        TEST(a_capture_can_be_spoilt),
        TEST(another_device_is_another),
        TEST(threads_run_in_the_order_that_is_asked_for),
        TEST(calls_fail_as_planned),
        TEST(mma_is_a_product),
        TEST(device_memory_is_counted_in_sectors),
        TEST(shared_memory_is_counted_in_passes),
    };
#undef TEST
    enum { ALL = sizeof tests / sizeof tests[0], COUNTS = 2 };
    setenv("QN_CUDASIM_KIND", set[0], 1);
    setenv("QN_CUDASIM_STREAMS", set[1], 1);
    setenv("QN_CUDASIM_ORDER", set[2], 1);
    setenv("QN_CUDASIM_DEVICES", "2", 1);
    setenv("QN_CUDASIM_REPORT", "none", 1);
    if (!simulated_library("libcudart.so.13", simulated_why, sizeof simulated_why)) return simulated_absent();
    void *kernels = simulated_open("libsimtests.so");
    const struct {
        const char *name;
        void *to;
    } rows[] = { { "sim_add", &run.add },
                 { "sim_scale", &run.scale },
                 { "sim_copy_rows", &run.copy_rows },
                 { "sim_transpose", &run.transpose },
                 { "sim_shared_vectors", &run.shared_vectors },
                 { "sim_product", &run.product },
                 { "sim_order", &run.order } };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        void *symbol = kernels ? dlsym(kernels, rows[i].name) : NULL;
        if (!symbol) return 1;
        memcpy(rows[i].to, &symbol, sizeof symbol);
    }
    bool counts = strcmp(set[0], "checked") == 0;
    return _cmocka_run_group_tests(set[1], tests, counts ? ALL : ALL - COUNTS, NULL, NULL);
}

/* The first setting here, or that which is named; then each of the others in a process of its own. */
int main(int argc, char **argv)
{
    int failed = run_setting(settings[argc > 1 ? strtol(argv[1], NULL, 10) % SETTINGS : 0]);
    for (int i = 1; i < SETTINGS && argc == 1 && !*simulated_why; i++) {
        int status = 0;
        char number[20];
        snprintf(number, sizeof number, "%d", i);
        fflush(stdout);
        pid_t child = fork();
        if (child == 0) {
            execl("/proc/self/exe", argv[0], number, (char *)NULL);
            _exit(127);
        }
        if (child < 0 || waitpid(child, &status, 0) < 0 || !WIFEXITED(status) || WEXITSTATUS(status)) failed = 1;
    }
    return failed;
}
#else
int main(void) { return simulated_absent(); }
#endif
