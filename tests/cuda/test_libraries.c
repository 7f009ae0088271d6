/* test_libraries.c - cuBLASLt and cuDNN fail or refuse: each of their calls in turn, once and for ever, gives a status
 * that names call and operator, or Quern does without it and the results are right; nothing is left behind. Where they
 * have no algorithm, kernels of our own take over. Needs the simulator.
 *
 * run-tests: timeout 600 */
#include "aid.h"
#include "../lib/gpu.h"
#include "../ops/ops.h"
#include <dlfcn.h>
#include <math.h>
#include <stdio.h>

enum { RESULTS = 5, INPUTS = 7 };

static struct aid_memory memory;
static qn_alloc alloc;
static size_t (*blas_live)(void), (*dnn_live)(void);

/* ---- a program of products and convolutions --------------------------------------------------------------------- */

struct work {
    qn_graph *g;
    qn_program *p;
    qn_t x[INPUTS], y[RESULTS];
};

/* A product with bias and gelu, a batch of products, and a convolution in three directions. */
static qn_status build(struct work *w, const char *device, qn_error *err)
{
    static const struct {
        const char *name;
        int rank;
        int64_t dim[4];
    } in[INPUTS] = { { "a", 2, { 6, 20 } },        { "b", 2, { 20, 12 } },          { "bias", 1, { 12 } },
                     { "batch", 3, { 3, 4, 20 } }, { "images", 4, { 2, 8, 5, 6 } }, { "filters", 4, { 8, 8, 3, 3 } },
                     { "dy", 4, { 2, 8, 5, 6 } } };
    struct qn__conv_attr conv;
    struct qn__matmul_attr product;
    memset(&conv, 0, sizeof conv);
    memset(&product, 0, sizeof product);
    for (int i = 0; i < 2; i++) conv.stride[i] = conv.dilation[i] = conv.pad[i] = conv.pad_end[i] = 1;
    conv.groups = 1, conv.channels = 8;
    product.epilogue.has_bias = 1, product.epilogue.act = QN_OP_gelu_erf;
    if (qn_graph_new(&w->g, &alloc)) return qn__nomem(err, "graph", 1);
    for (int i = 0; i < INPUTS; i++) w->x[i] = qn_input(w->g, in[i].name, QN_F32, in[i].rank, in[i].dim);
    qn_t *x = w->x, *y = w->y;
    y[0] = qn__node(w->g, QN_OP_matmul, x, 3, &product);
    y[1] = qn_matmul(w->g, x[3], x[3], &(qn_matmul_opts){ false, true });
    y[2] = qn__node(w->g, QN_OP_conv2d, (qn_t[]){ x[4], x[5] }, 2, &conv);
    conv.size[0] = 5, conv.size[1] = 6;
    y[3] = qn__node(w->g, QN_OP_conv2d_grad_x, (qn_t[]){ x[5], x[6] }, 2, &conv);
    conv.size[0] = conv.size[1] = 3;
    y[4] = qn__node(w->g, QN_OP_conv2d_grad_w, (qn_t[]){ x[4], x[6] }, 2, &conv);
    return qn_compile(&w->p, w->g, y, RESULTS, NULL, &(qn_compile_opts){ .device = device, .threads = 1 }, err);
}

static qn_status run(struct work *w, qn_error *err)
{
    QN_TRY(qn_program_load(w->p, err));
    for (int turn = 0; turn < 2; turn++) {
        for (int i = 0; i < INPUTS; i++) {
            float *x = qn_program_data(w->p, w->x[i]);
            int64_t n = qn_count(w->g, w->x[i]);
            for (int64_t k = 0; k < n; k++) x[k] = (float)((k * 7 + i * 3) % 11 - 5) / 4;
        }
        QN_TRY(qn_program_run(w->p, QN_MICRO, err));
    }
    return qn_program_wait(w->p, QN_MICRO, 0, err);
}

static qn_status whole(struct work *w, qn_error *err)
{
    memset(w, 0, sizeof *w);
    QN_TRY(build(w, "cuda", err));
    return run(w, err);
}

static void drop(struct work *w)
{
    qn_program_free(w->p);
    qn_graph_free(w->g);
}

/* What the CPU says; sums of at most 72 products of magnitude below 1.6. */
static float *expected[RESULTS];
static void check_results(const struct work *w, const char *plan)
{
    for (int i = 0; i < RESULTS; i++) {
        const float *y = qn_program_data(w->p, w->y[i]);
        for (int64_t k = 0; k < qn_count(w->g, w->y[i]); k++)
            if (!(fabsf(y[k] - expected[i][k]) <= 1e-4f))
                fail_msg("%s: result %d, element %lld is %.9g; expected %.9g", plan, i, (long long)k, (double)y[k],
                         (double)expected[i][k]);
    }
}

/* ---- each call fails --------------------------------------------------------------------------------------------- */

static size_t things(void) { return aid_sim.live() + blas_live() + dnn_live(); }

static void clean(const char *plan, size_t before)
{
    if (memory.blocks) fail_msg("%s: %lld blocks of the host are left", plan, (long long)memory.blocks);
    if (things() != before) fail_msg("%s: %zu things of the GPU are left", plan, things() - before);
    if (aid_sim.findings()) fail_msg("%s: %s", plan, aid_sim.finding(0));
}

/* Returns whether the program ran all the same. */
static bool one_failure(const char *call, const char *plan, const char *operator_, bool may_run)
{
    struct work w;
    qn_error err = { 0 };
    size_t before = things();
    memset(&memory, 0, sizeof memory);
    if (!aid_sim.plan(plan)) fail_msg("%s: not understood", plan);
    qn_status status = whole(&w, &err);
    if (!status) check_results(&w, plan);
    drop(&w);
    aid_sim.plan(NULL);
    if (!status && !may_run) fail_msg("%s: no error", plan);
    if (status && status != QN_EDEVICE && status != QN_EMEMORY) fail_msg("%s: status %d: %s", plan, status, err.text);
    if (status && (!strstr(err.text, call) || !strstr(err.text, operator_)))
        fail_msg("%s: call or operator not named in \"%s\"", plan, err.text);
    clean(plan, before);
    aid_sim.forget();
    return !status;
}

/* Of a whole run without failures. */
static uint64_t calls_of(const char *call)
{
    struct work w;
    aid_sim.plan(NULL);
    aid_ok(whole(&w, err));
    uint64_t n = aid_sim.calls(call);
    drop(&w);
    return n;
}

/* Calls that build what runs, and calls that only ask about a proposal: one that cannot be asked about is passed over
 * for the next, or for a kernel of our own. */
static const struct {
    const char *call, *operator_;
    bool asks;
} calls[] = {
    { "cublasLtMatmulDescCreate", "matmul", false },
    { "cublasLtMatmulDescSetAttribute", "matmul", false },
    { "cublasLtMatrixLayoutCreate", "matmul", false },
    { "cublasLtMatrixLayoutSetAttribute", "matmul", false },
    { "cublasLtMatmulPreferenceCreate", "matmul", false },
    { "cublasLtMatmulPreferenceSetAttribute", "matmul", false },
    { "cublasLtMatmulAlgoGetHeuristic", "matmul", false },
    { "cublasLtMatmulAlgoCapGetAttribute", "matmul", true },
    { "cublasLtMatmulAlgoConfigGetAttribute", "matmul", true },
    { "cublasLtMatmul", "matmul", false },
    { "cudnnCreate", "conv2d", false },
    { "cudnnSetStream", "conv2d", false },
    { "cudnnBackendCreateDescriptor", "conv2d", true },
    { "cudnnBackendSetAttribute", "conv2d", true },
    { "cudnnBackendGetAttribute", "conv2d", true },
    { "cudnnBackendFinalize", "conv2d", true },
    { "cudnnBackendExecute", "conv2d", false },
};

static void each_call_fails(void **state)
{
    (void)state;
    char plan[100];
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        uint64_t n = calls_of(calls[i].call);
        int ran = 0;
        if (n == 0) fail_msg("%s is never called", calls[i].call);
        for (uint64_t k = 1; k <= n; k++) {
            snprintf(plan, sizeof plan, "%s:%llu", calls[i].call, (unsigned long long)k);
            ran += one_failure(calls[i].call, plan, calls[i].operator_, calls[i].asks);
            snprintf(plan, sizeof plan, "%s:%llu:forever", calls[i].call, (unsigned long long)k);
            ran += one_failure(calls[i].call, plan, calls[i].operator_, calls[i].asks);
        }
        printf("  %-40s %3llu calls; in %d of %d failures the program did without\n", calls[i].call,
               (unsigned long long)n, ran, (int)(2 * n));
        assert_true(!calls[i].asks || ran > 0);
    }
}

/* What gives back cannot be answered to. */
static void each_release_fails(void **state)
{
    (void)state;
    static const char *const releases[] = { "cublasLtMatmulDescDestroy", "cublasLtMatrixLayoutDestroy",
                                            "cublasLtMatmulPreferenceDestroy", "cudnnDestroy",
                                            "cudnnBackendDestroyDescriptor" };
    char plan[100];
    for (size_t i = 0; i < sizeof releases / sizeof releases[0]; i++) {
        struct work w;
        aid_sim.plan(NULL);
        aid_ok(whole(&w, err));
        drop(&w);
        uint64_t n = aid_sim.calls(releases[i]);
        if (n == 0) fail_msg("%s is never called", releases[i]);
        for (uint64_t k = 1; k <= n; k++) {
            snprintf(plan, sizeof plan, "%s:%llu", releases[i], (unsigned long long)k);
            assert_true(one_failure("", plan, "", true));
        }
    }
}

/* ---- shared memory ----------------------------------------------------------------------------------------------- */

/* Attention in 16 bits needs more shared memory than a block has unasked. */
static qn_status attend(struct work *w, qn_error *err)
{
    const int64_t dims[] = { 1, 2, 16, 64 };
    memset(w, 0, sizeof *w);
    if (qn_graph_new(&w->g, &alloc)) return qn__nomem(err, "graph", 1);
    for (int i = 0; i < 3; i++) w->x[i] = qn_input(w->g, (const char *[]){ "q", "k", "v" }[i], QN_BF16, 4, dims);
    w->y[0] = qn_attention(w->g, w->x[0], w->x[1], w->x[2], NULL);
    QN_TRY(qn_compile(&w->p, w->g, w->y, 1, NULL, &(qn_compile_opts){ .device = "cuda", .threads = 1 }, err));
    QN_TRY(qn_program_load(w->p, err));
    for (int i = 0; i < 3; i++)
        memset(qn_program_data(w->p, w->x[i]), 0, (size_t)qn_count(w->g, w->x[i]) * qn_dtype_size(QN_BF16));
    for (int turn = 0; turn < 2; turn++) QN_TRY(qn_program_run(w->p, QN_MICRO, err));
    return qn_program_wait(w->p, QN_MICRO, 0, err);
}

static void shared_memory_is_refused(void **state)
{
    (void)state;
    struct work w;
    char plan[80];
    aid_sim.plan(NULL);
    aid_ok(attend(&w, err));
    uint64_t n = aid_sim.calls("cudaFuncSetAttribute");
    drop(&w);
    assert_true(n > 0);
    for (uint64_t k = 1; k <= 2 * n; k++) {
        qn_error told = { 0 };
        size_t before = things();
        memset(&memory, 0, sizeof memory);
        snprintf(plan, sizeof plan, "cudaFuncSetAttribute:%llu%s", (unsigned long long)(k + 1) / 2,
                 k % 2 ? "" : ":forever");
        assert_true(aid_sim.plan(plan));
        assert_int_equal(attend(&w, &told), QN_EDEVICE);
        drop(&w);
        aid_sim.plan(NULL);
        if (!strstr(told.text, "attention BF16[1,2,16,64]")) fail_msg("%s: \"%s\"", plan, told.text);
        clean(plan, before);
        aid_sim.forget();
    }
}

/* ---- the libraries have nothing to offer ------------------------------------------------------------------------ */

/* A product of our own is stored before every activation but relu: one more rounding in 16 bits. gelu has a slope of at
 * most 1.13; for a negative sum s, |s| times the slope at s is below 1.3. */
static double stored(const struct op_case *c, const struct op_data *x, const struct op_data *y, int64_t i)
{
    (void)c, (void)x;
    return 1.13 * ((y->v[i] < 0 ? 0 : y->v[i]) + 1.3);
}

/* A case in one type and layout while the plan holds; 0 if the layout is none for it. */
static int run_case(const struct drive_on *gpu, enum qn__opcode op, const struct op_case *c, qn_dtype type,
                    int32_t block, const char *plan)
{
    struct direct_opts home = { .threads = 1, .block = QN_PLAIN, .fill = 0xFF, .storage = type };
    struct direct_opts away = { .on = gpu, .threads = 1, .block = block, .fill = 0xFF };
    struct direct wide = direct_run(op, c, QN_F64, &home, NULL);
    assert_true(aid_sim.plan(plan));
    struct direct got = direct_run(op, c, type, &away, NULL), again = direct_run(op, c, type, &away, NULL);
    aid_sim.plan(NULL);
    if (got.status) fail_msg("%s: case \"%s\": %s", plan, c->name, got.err.text);
    struct op_reference r = op_reference_of(&wide);
    if (type == QN_F32)
        op_check(&r, &got, 0x1p-24, plan);
    else
        op_check_rounded(&r, &got, plan);
    if (!direct_same_bits(&got, &again)) fail_msg("case \"%s\": other bits in a second run", c->name);
    int done = block == QN_PLAIN || got.blocked;
    op_reference_free(&r);
    direct_free(&wide);
    direct_free(&got);
    direct_free(&again);
    return done;
}

/* All cases of a row in f32, BF16 and F16, in every layout. */
static int run_cases(const struct drive_on *gpu, enum qn__opcode op, const char *plan)
{
    static const qn_dtype types[] = { QN_F32, QN_BF16, QN_F16 };
    int done = 0;
    for (int i = 0; i < op_cases_of[op]->n; i++)
        for (int k = 0; k < 3; k++) {
            struct op_case c = op_cases_of[op]->c[i];
            int32_t block[4];
            if (c.fails || !direct_builds(op, &c, types[k])) continue;
            if (c.p[2] == QN_OP_gelu_tanh && op == QN_OP_matmul) c.between = stored;
            done += run_case(gpu, op, &c, types[k], QN_PLAIN, plan);
            int n = op_blocks(&c, block);
            for (int b = 0; b < n; b++) done += run_case(gpu, op, &c, types[k], block[b], plan);
        }
    return done;
}

static void own_products_take_over(void **state)
{
    (void)state;
    const struct drive_on *gpu = gpu_open();
    assert_non_null(gpu);
    int n = run_cases(gpu, QN_OP_matmul, "cublasLtMatmulAlgoGetHeuristic:1:forever:15"); /* not supported */
    printf("  %d products by kernels of our own\n", n);
    assert_true(n > 100);
    gpu_close();
}

/* NOT_SUPPORTED to the graph: tensor cores where they fit, else tiles in f32. Depthwise ones never ask. */
static void own_convolutions_take_over(void **state)
{
    (void)state;
    static const enum qn__opcode rows[] = { QN_OP_conv2d, QN_OP_conv2d_grad_x, QN_OP_conv2d_grad_w };
    const struct drive_on *gpu = gpu_open();
    assert_non_null(gpu);
    for (int i = 0; i < 3; i++) {
        int n = run_cases(gpu, rows[i], "cudnnBackendFinalize:1:forever:3000");
        printf("  %-14s %3d convolutions by kernels of our own\n", qn__op_of(rows[i])->name, n);
        assert_true(n > 100);
    }
    gpu_close();
}

static int begin(void **state)
{
    (void)state;
    struct work w;
    alloc = aid_alloc(&memory);
    memset(&w, 0, sizeof w);
    aid_ok(build(&w, "cpu", err));
    aid_ok(run(&w, err));
    for (int i = 0; i < RESULTS; i++) {
        size_t bytes = (size_t)qn_count(w.g, w.y[i]) * sizeof(float);
        expected[i] = malloc(bytes);
        if (!expected[i]) return 1;
        memcpy(expected[i], qn_program_data(w.p, w.y[i]), bytes);
    }
    drop(&w);
    return 0;
}
static int end(void **state)
{
    (void)state;
    for (int i = 0; i < RESULTS; i++) free(expected[i]);
    return 0;
}

static bool find(const char *library, const char *name, void *function)
{
    void *l = dlopen(library, RTLD_LAZY | RTLD_NOLOAD), *symbol = l ? dlsym(l, name) : NULL;
    memcpy(function, &symbol, sizeof symbol);
    return symbol != NULL;
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(each_call_fails), cmocka_unit_test(each_release_fails),
                                        cmocka_unit_test(shared_memory_is_refused),
                                        cmocka_unit_test(own_products_take_over),
                                        cmocka_unit_test(own_convolutions_take_over) };
    if (!aid_begin(NULL)) return aid_skip("libraries that fail");
    if (!aid_sim.plan || !find("libcublasLt.so.13", "cudasim_blas_live", &blas_live) ||
        !find("libcudnn.so.9", "cudasim_dnn_live", &dnn_live))
        return aid_skip("libraries that fail");
    return cmocka_run_group_tests_name("libraries that fail", tests, begin, end);
}
