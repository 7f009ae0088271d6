/* test_dropout.c - dropout's masks through compiled programs: how many elements stay, that forward and backward draw
 * the same mask, and what a mask depends on (seed, name, step, sample, element) and does not (batch, threads). */
#include "ops.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { WIDTH = 500 };

/* A program whose input is ones: y is the mask times 1/(1-p), dx the gradient of sum y. */
struct masks {
    qn_graph *g;
    qn_store *store;
    qn_program *p;
    qn_t x, y, dx;
    int64_t n;
};
struct setup {
    int64_t batch, step, sample;
    uint64_t seed;
    double p;
    const char *name;
    int threads;
};

static struct masks run(struct setup s)
{
    struct masks m = { .n = s.batch * WIDTH };
    qn_error err = { 0 };
    assert_int_equal(qn_graph_new(&m.g, NULL), QN_OK);
    assert_int_equal(qn_store_new(&m.store, "cpu", s.seed, NULL, &err), QN_OK);
    m.x = qn_input(m.g, "x", QN_F32, 2, (int64_t[]){ s.batch, WIDTH });
    m.y = qn_dropout(m.g, m.x, qn_rng(m.g), s.p, s.name);
    assert_int_equal(qn_grad(m.g, qn_sum_all(m.g, m.y), &m.x, &m.dx, 1), QN_OK);
    const qn_compile_opts opts = { .threads = s.threads, .check_plan = true };
    assert_int_equal(qn_compile(&m.p, m.g, (qn_t[]){ m.y, m.dx }, 2, m.store, &opts, &err), QN_OK);
    assert_int_equal(qn_program_load(m.p, &err), QN_OK);
    int64_t *rng = qn_store_find(m.store, "quern.rng")->data;
    rng[1] = s.step;
    rng[2] = s.sample;
    float *x = qn_program_data(m.p, m.x);
    for (int64_t i = 0; i < m.n; i++) x[i] = 1;
    assert_int_equal(qn_program_run(m.p, QN_MICRO, &err), QN_OK);
    return m;
}
static const float *mask(const struct masks *m) { return qn_program_data(m->p, m->y); }
static void end(struct masks *m)
{
    qn_program_free(m->p);
    qn_store_free(m->store);
    qn_graph_free(m->g);
}

static const struct setup usual = {
    .batch = 40, .step = 2, .sample = 1000, .seed = 5, .p = 0.5, .name = "drop", .threads = 1
};

/* 5 deviations of a binomial; neighbours must be independent too. */
static void keeps_the_share_it_should(void **state)
{
    (void)state;
    const double ps[] = { 0.1, 0.5, 0.9 };
    for (int k = 0; k < 3; k++) {
        struct setup s = usual;
        s.p = ps[k];
        struct masks m = run(s);
        const float *y = mask(&m);
        double kept = 0, pairs = 0, n = (double)m.n, q = 1 - s.p;
        for (int64_t i = 0; i < m.n; i++) {
            if (y[i] != 0) assert_true(y[i] == (float)(1 / (1 - s.p)));
            kept += y[i] != 0;
            pairs += y[i] != 0 && y[(i + 1) % m.n] != 0;
        }
        assert_true(fabs(kept - n * q) < 5 * sqrt(n * q * s.p));
        assert_true(fabs(pairs - n * q * q) < 5 * 2 * sqrt(n * q * q));
        end(&m);
    }
}

static void backward_draws_the_same_mask(void **state)
{
    (void)state;
    struct masks m = run(usual);
    assert_memory_equal(mask(&m), qn_program_data(m.p, m.dx), (size_t)m.n * sizeof(float));
    end(&m);
}

static void zero_probability_changes_nothing(void **state)
{
    (void)state;
    struct setup s = usual;
    s.p = 0;
    struct masks m = run(s);
    for (int64_t i = 0; i < m.n; i++) assert_true(mask(&m)[i] == 1);
    end(&m);
}

static void threads_do_not_matter(void **state)
{
    (void)state;
    struct setup s = usual;
    struct masks one = run(s);
    for (s.threads = 2; s.threads <= 5; s.threads += 3) {
        struct masks many = run(s);
        assert_memory_equal(mask(&one), mask(&many), (size_t)one.n * sizeof(float));
        end(&many);
    }
    end(&one);
}

static void batches_do_not_matter(void **state)
{
    (void)state;
    struct setup s = usual;
    struct masks whole = run(s);
    s.batch = 8;
    for (int64_t i = 0; i < usual.batch; i += s.batch) {
        s.sample = usual.sample + i;
        struct masks part = run(s);
        assert_memory_equal(mask(&whole) + i * WIDTH, mask(&part), (size_t)part.n * sizeof(float));
        end(&part);
    }
    end(&whole);
}

/* Two independent masks of p = 1/2 agree in half of the elements. */
static void seed_name_step_and_sample_matter(void **state)
{
    (void)state;
    struct setup other[4] = { usual, usual, usual, usual };
    other[0].seed++;
    other[1].name = "drop2";
    other[2].step++;
    other[3].sample++;
    struct masks m = run(usual);
    for (int k = 0; k < 4; k++) {
        struct masks o = run(other[k]);
        double same = 0, n = (double)m.n;
        for (int64_t i = 0; i < m.n; i++) same += mask(&m)[i] == mask(&o)[i];
        assert_true(fabs(same - n / 2) < 5 * sqrt(n) / 2);
        end(&o);
    }
    end(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_the_share_it_should),
        cmocka_unit_test(backward_draws_the_same_mask),
        cmocka_unit_test(zero_probability_changes_nothing),
        cmocka_unit_test(threads_do_not_matter),
        cmocka_unit_test(batches_do_not_matter),
        cmocka_unit_test(seed_name_step_and_sample_matter),
    };
    return cmocka_run_group_tests_name("dropout", tests, NULL, NULL);
}
