/* test_tuning.c - qn_tune on a GPU: what it finds is what a program is compiled with from then on, for that GPU only;
 * compiling never times. */
#include "aid.h"
#include "../../core/tuning.h"
#include "../../include/quern/layers.h"
#include "../../include/quern/optim.h"
#include <math.h>
#include <stdio.h>

enum { BATCH = 4 };

struct net {
    qn_graph *g;
    qn_store *store;
    qn_program *p;
    qn_t x, target, loss;
};

static qn_status open_net(struct net *n, const char *device, const qn_tuning *tuning, qn_error *err)
{
    const qn_compile_opts opts = { .tuning = tuning };
    const qn_train_opts train = { .optimizer = { .kind = QN_OPTIMIZER_SGD, .lr = 0.01 }, .batch = BATCH };
    qn_train_nodes nodes;
    memset(n, 0, sizeof *n);
    QN_TRY(qn_store_new(&n->store, device, 7, NULL, err));
    if (qn_graph_new(&n->g, NULL)) return qn__nomem(err, "graph", 1);
    qn_graph *g = n->g;
    n->x = qn_input(g, "x", QN_F32, 4, (int64_t[]){ BATCH, 3, 8, 8 });
    n->target = qn_input(g, "target", QN_I32, 1, (int64_t[]){ BATCH });
    qn_t y = qn_relu(g, qn_conv(g, "conv", n->x, 8, (int64_t[]){ 3, 3 }, NULL));
    y = qn_reshape(g, y, 2, (int64_t[]){ BATCH, qn_count(g, y) / BATCH });
    y = qn_linear(g, "linear", y, 10, NULL);
    if (qn_train_build(g, qn_cross_entropy(g, y, n->target, NULL), &train, &nodes))
        fail_msg("%s", qn_graph_error(g)->text);
    n->loss = nodes.loss;
    QN_TRY(qn_compile(&n->p, g, &n->loss, 1, n->store, &opts, err));
    return qn_program_load(n->p, err);
}

static void close_net(struct net *n)
{
    qn_program_free(n->p);
    qn_graph_free(n->g);
    qn_store_free(n->store);
}

static float step(struct net *n)
{
    float *x = qn_program_data(n->p, n->x);
    for (int i = 0; i < BATCH * 3 * 64; i++) x[i] = (float)(i * 37 % 101) / 50 - 1;
    for (int i = 0; i < BATCH; i++) ((int32_t *)qn_program_data(n->p, n->target))[i] = i;
    aid_ok(qn_program_run(n->p, QN_MICRO, err));
    aid_ok(qn_program_run(n->p, QN_UPDATE, err));
    return *(const float *)qn_program_past(n->p, n->loss, 0);
}

static qn_tuning *tune(void)
{
    struct net n;
    qn_tuning *t;
    aid_ok(open_net(&n, "cuda", NULL, err));
    aid_ok(qn_tune(&t, n.p, 2, err));
    close_net(&n);
    return t;
}

/* ---- tests ----- */

static void every_product_and_convolution_has_a_choice(void **state)
{
    (void)state;
    qn_tuning *t = tune();
    int convolutions = 0, products = 0, several = 0;
    for (int i = 0; i < qn_tuning_count(t); i++) {
        qn_tuning_choice c = qn_tuning_at(t, i);
        convolutions += strncmp(c.what, "conv2d", 6) == 0;
        products += strncmp(c.what, "matmul", 6) == 0;
        several += c.tried > 1;
        assert_true(c.tried > 0 && c.seconds > 0 && c.first >= c.seconds);
    }
    assert_int_equal(convolutions, 2); /* the images have no gradient */
    assert_int_equal(products, 3);
    assert_true(several > 0);
    qn_tuning_free(t);
}

static void tuned_steps_are_steps(void **state)
{
    (void)state;
    struct net cpu, tuned;
    qn_tuning *t = tune();
    aid_ok(open_net(&cpu, "cpu", t, err)); /* where it means nothing */
    aid_ok(open_net(&tuned, "cuda", t, err));
    qn_tuning_free(t); /* a program does not need it once it is compiled */
    for (int i = 0; i < 5; i++) {
        double a = (double)step(&cpu), b = (double)step(&tuned);
        if (!(fabs(a - b) <= 1e-5 * fabs(a))) fail_msg("step %d: %.9g; expected %.9g", i, b, a);
    }
    close_net(&cpu);
    close_net(&tuned);
}

/* Bytes of workspace by the plan are those of the algorithm that the tuning names: the other one needs others. */
static void what_it_names_is_what_runs(void **state)
{
    (void)state;
    struct net n;
    qn_error told = { 0 };
    qn_tuning *t = tune();
    struct qn__tuned *row = &t->at[0];
    assert_memory_equal(row->what, "conv2d F32", 10);
    snprintf(row->algorithm.name, sizeof row->algorithm.name, "engine 999 place 0");
    assert_int_equal(open_net(&n, "cuda", t, &told), QN_EDEVICE);
    aid_says(&told, "error E7004 device: tuning: convolution: algorithm \"engine 999 place 0\", which cuDNN does not ");
    close_net(&n);
    qn_tuning_free(t);
    t = tune();
    t->at[1].algorithm.workspace += 256;
    assert_int_equal(open_net(&n, "cuda", t, &told), QN_EDEVICE);
    aid_says(&told, "error E7004 device: tuning: conv2d_grad_w F32 ");
    assert_non_null(strstr(told.text, "bytes; expected"));
    close_net(&n);
    qn_tuning_free(t);
    t = tune();
    struct qn__tuned *product = &t->at[t->n - 1];
    assert_memory_equal(product->what, "matmul F32", 10);
    snprintf(product->algorithm.name, sizeof product->algorithm.name, "algo 99");
    assert_int_equal(open_net(&n, "cuda", t, &told), QN_EDEVICE);
    aid_says(&told, "error E7004 device: tuning: matmul: algorithm \"algo 99\", which cuBLASLt does not offer; ");
    close_net(&n);
    qn_tuning_free(t);
}

static void it_holds_for_one_gpu_and_one_set_of_libraries(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++) {
        struct net n;
        qn_error told = { 0 };
        qn_tuning *t = tune(), *other;
        struct qn__identity of = t->of;
        if (i == 0) of.gpu[0]++;
        if (i == 1) of.driver++;
        if (i == 2) of.cuda++;
        if (i == 3) of.blas++;
        if (i == 4) of.dnn++;
        aid_ok(qn__tuning_new(&other, &of, err));
        assert_int_equal(open_net(&n, "cuda", other, &told), QN_EDEVICE);
        aid_says(&told, "error E7004 device: tuning: lock file of ");
        assert_non_null(strstr(told.text, "quern tune"));
        close_net(&n);
        qn_tuning_free(t);
        qn_tuning_free(other);
    }
}

static void compiling_never_times(void **state)
{
    (void)state;
    struct net n;
    if (!aid_sim.calls) {
        print_message("# skip: calls of a real GPU are not counted\n");
        skip();
    }
    qn_tuning *t = tune();
    uint64_t before = aid_sim.calls("cudaEventElapsedTime");
    assert_true(before > 0);
    aid_ok(open_net(&n, "cuda", t, err));
    close_net(&n);
    aid_ok(open_net(&n, "cuda", NULL, err));
    close_net(&n);
    assert_int_equal(aid_sim.calls("cudaEventElapsedTime"), before);
    qn_tuning_free(t);
}

static void what_cannot_be_tuned(void **state)
{
    (void)state;
    struct net n;
    qn_tuning *t;
    qn_error told;
    aid_ok(open_net(&n, "cpu", NULL, err));
    assert_int_equal(qn_tune(&t, n.p, 2, &told), QN_EUSAGE);
    assert_int_equal(told.code, 2206);
    close_net(&n);
    aid_ok(open_net(&n, "cuda", NULL, err));
    assert_int_equal(qn_tune(&t, n.p, 0, &told), QN_EUSAGE);
    assert_string_equal(told.text, "error E2206 graph: launches: 0; expected 1..64");
    close_net(&n);
}

/* Each call that only tuning makes fails: nothing is left behind. */
static void failures_leave_nothing(void **state)
{
    (void)state;
    static const char *const plans[] = { "cudaEventCreateWithFlags", "cudaEventCreate",
                                         "cudaEventElapsedTime",     "cublasLtMatmulAlgoGetHeuristic",
                                         "cudaDriverGetVersion",     "cudaRuntimeGetVersion" };
    if (!aid_sim.plan) {
        print_message("# skip: the GPU is not simulated\n");
        skip();
    }
    for (size_t i = 0; i < sizeof plans / sizeof plans[0]; i++) {
        struct net n;
        qn_tuning *t = NULL;
        qn_error told = { 0 };
        char plan[80];
        aid_ok(open_net(&n, "cuda", NULL, err));
        step(&n);
        snprintf(plan, sizeof plan, "%s:1", plans[i]);
        assert_true(aid_sim.plan(plan));
        uint64_t before = aid_sim.calls(plans[i]);
        qn_status status = qn_tune(&t, n.p, 2, &told);
        if (aid_sim.calls(plans[i]) > before && !status) fail_msg("%s fails and is not told", plans[i]);
        if (status) assert_true(status == QN_EDEVICE || status == QN_EMEMORY);
        aid_sim.plan(NULL);
        qn_tuning_free(t);
        close_net(&n);
        if (aid_sim.live()) fail_msg("%s: %zu things of the GPU are left; %s", plans[i], aid_sim.live(), told.text);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_product_and_convolution_has_a_choice),
        cmocka_unit_test(tuned_steps_are_steps),
        cmocka_unit_test(what_it_names_is_what_runs),
        cmocka_unit_test(it_holds_for_one_gpu_and_one_set_of_libraries),
        cmocka_unit_test(compiling_never_times),
        cmocka_unit_test(what_cannot_be_tuned),
        cmocka_unit_test(failures_leave_nothing),
    };
    if (argc == 2) cmocka_set_test_filter(argv[1]); /* one test by name, for scripts/mutate */
    if (!aid_begin(NULL)) return aid_skip("tuning on a GPU");
    return cmocka_run_group_tests_name("tuning on a GPU", tests, NULL, NULL);
}
