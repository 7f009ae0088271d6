/* Running statistics of batch normalisation: how far they move, and that a skipped update takes back what its micro
 * runs have moved, whichever of them was at fault. */
#include "../../include/quern/layers.h"
#include "../../include/quern/optim.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

enum { N = 6, C = 3 };

struct net {
    qn_graph *g;
    qn_store *store;
    qn_program *p;
    qn_t x, y;
};

/* accumulate < 0: no optimizer, the forward pass alone; twice: the layer is applied to its own result again. */
static struct net open_net(const qn_norm_opts *norm, int accumulate, bool twice)
{
    struct net n = { .store = NULL };
    qn_error err = { 0 };
    qn_train_nodes t = { .loss = { 0 } };
    assert_int_equal(qn_graph_new(&n.g, NULL), QN_OK);
    n.x = qn_input(n.g, "x", QN_F64, 2, (int64_t[]){ N, C });
    n.y = qn_norm_batch(n.g, "bn", n.x, true, norm);
    if (twice) n.y = qn_norm_batch(n.g, "bn", n.y, true, norm);
    const qn_train_opts o = { .optimizer = { .kind = QN_OPTIMIZER_SGD, .lr = 0.1 },
                              .accumulate = accumulate,
                              .batch = N };
    qn_t loss = qn_mean_all(n.g, qn_square(n.g, qn_affine(n.g, n.y, 1, -0.5)));
    if (accumulate >= 0 && qn_train_build(n.g, loss, &o, &t)) fail_msg("%s", qn_graph_error(n.g)->text);
    assert_int_equal(qn_store_new(&n.store, "cpu", 7, NULL, &err), QN_OK);
    const qn_compile_opts checked = { .threads = 1, .check_plan = true };
    if (qn_compile(&n.p, n.g, &n.y, 1, n.store, &checked, &err)) fail_msg("%s", err.text);
    if (qn_program_load(n.p, &err)) fail_msg("%s", err.text);
    return n;
}

static void close_net(struct net *n)
{
    qn_program_free(n->p);
    qn_graph_free(n->g);
    qn_store_free(n->store);
}

static void run(struct net *n, qn_phase phase)
{
    qn_error err = { 0 };
    if (qn_program_run(n->p, phase, &err)) fail_msg("%s", err.text);
}

/* Column c is `scale` times c + 1 times 0..5; its mean is 2.5, its unbiased variance 3.5, times these factors. */
static void micro(struct net *n, double scale)
{
    double *x = qn_program_data(n->p, n->x);
    for (int i = 0; i < N; i++)
        for (int c = 0; c < C; c++) x[i * C + c] = scale * (c + 1) * i;
    run(n, QN_MICRO);
}

static double buffer(const struct net *n, const char *name, int c)
{
    return ((const double *)qn_store_find(n->store, name)->data)[c];
}

static void expect(const struct net *n, double mean, double variance)
{
    for (int c = 0; c < C; c++) {
        double m = buffer(n, "bn.running_mean", c), v = buffer(n, "bn.running_var", c);
        double want = mean * (c + 1);
        if (!(fabs(m - want) <= 1e-13 * fabs(want))) fail_msg("mean %d is %.17g; expected %.17g", c, m, want);
        if (isnan(variance)) continue;
        if (!(fabs(v - variance) <= 1e-13 * variance)) fail_msg("variance %d is %.17g; expected %.17g", c, v, variance);
    }
}

static void momentum_is_taken_as_it_is(void **state)
{
    (void)state;
    struct net n = open_net(&(qn_norm_opts){ .momentum = 0 }, -1, false);
    micro(&n, 2);
    micro(&n, 1e-3); /* nothing of the old is left, be it a thousand times larger */
    expect(&n, 2.5e-3, (double)NAN);
    for (int c = 0; c < C; c++)
        assert_true(fabs(buffer(&n, "bn.running_var", c) / (3.5e-6 * (c + 1) * (c + 1)) - 1) < 1e-13);
    close_net(&n);
    n = open_net(&(qn_norm_opts){ .momentum = 1 }, -1, false);
    micro(&n, 2);
    expect(&n, 0, 1);
    close_net(&n);
    n = open_net(NULL, -1, false);
    micro(&n, 1);
    expect(&n, 0.25, (double)NAN);
    assert_true(fabs(buffer(&n, "bn.running_var", 0) - 1.25) < 1e-14);
    close_net(&n);
    static const double wrong[] = { -0.1, 1.5, (double)NAN };
    for (int i = 0; i < 3; i++) {
        qn_graph *g;
        assert_int_equal(qn_graph_new(&g, NULL), QN_OK);
        qn_t x = qn_input(g, "x", QN_F32, 2, (int64_t[]){ N, C });
        qn_norm_batch(g, "bn", x, true, &(qn_norm_opts){ .momentum = wrong[i] });
        assert_int_equal(qn_graph_error(g)->code, 2204);
        qn_graph_free(g);
    }
}

struct running {
    double v[2][C];
};
static struct running running_of(const struct net *n)
{
    struct running r;
    memcpy(r.v[0], qn_store_find(n->store, "bn.running_mean")->data, sizeof r.v[0]);
    memcpy(r.v[1], qn_store_find(n->store, "bn.running_var")->data, sizeof r.v[1]);
    return r;
}

static void one_skip(int accumulate, int at_fault, bool twice)
{
    struct net n = open_net(NULL, accumulate, twice);
    int64_t skipped = 0;
    for (int step = 0; step < 5; step++) {
        struct running before = running_of(&n);
        bool bad = step == 0 || step == 3;
        for (int k = 0; k < accumulate; k++) {
            double *gamma = qn_store_find(n.store, "bn.weight")->data, good = *gamma;
            if (bad && k == at_fault) *gamma = (double)NAN; /* the statistics of the batch are fine */
            micro(&n, 1 + step);
            *gamma = good;
        }
        struct running moved = running_of(&n);
        assert_true(memcmp(&before, &moved, sizeof moved) != 0);
        run(&n, QN_UPDATE);
        struct running after = running_of(&n);
        skipped += bad;
        assert_int_equal(*(const int64_t *)qn_store_find(n.store, "optim.skipped")->data, skipped);
        if (memcmp(&after, bad ? &before : &moved, sizeof after) != 0)
            fail_msg("accumulate %d, step %d: running statistics are not those of %s", accumulate, step,
                     bad ? "the step before" : "the last micro run");
    }
    close_net(&n);
}

static void skipped_updates_take_back_what_has_moved(void **state)
{
    (void)state;
    for (int twice = 0; twice < 2; twice++) {
        one_skip(1, 0, twice);
        for (int k = 0; k < 3; k++) one_skip(3, k, twice);
    }
}

/* Weights that come from elsewhere between two steps are what a skipped one goes back to. */
static void nothing_of_an_earlier_step_comes_back(void **state)
{
    (void)state;
    struct net n = open_net(NULL, 2, false);
    micro(&n, 1);
    micro(&n, 2);
    run(&n, QN_UPDATE);
    double *mean = qn_store_find(n.store, "bn.running_mean")->data;
    for (int c = 0; c < C; c++) mean[c] = 100 + c;
    micro(&n, 1);
    micro(&n, (double)NAN);
    run(&n, QN_UPDATE);
    for (int c = 0; c < C; c++) assert_true(mean[c] == 100 + c);
    close_net(&n);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(momentum_is_taken_as_it_is),
                                        cmocka_unit_test(skipped_updates_take_back_what_has_moved),
                                        cmocka_unit_test(nothing_of_an_earlier_step_comes_back) };
    return cmocka_run_group_tests_name("running statistics", tests, NULL, NULL);
}
