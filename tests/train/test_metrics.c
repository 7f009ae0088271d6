/* test_metrics.c - every metric against numbers worked out by hand or by brute force. */
#include "../../train/metrics.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define NEAR(a, b) assert_true(fabs((a) - (b)) < 1e-12)

static qn_metrics *make(qn_metrics_options o)
{
    qn_metrics *m = NULL;
    qn_error err = { 0 };
    assert_int_equal(qn_metrics_create(&m, &o, NULL, &err), QN_OK);
    return m;
}

/* Labels 0 0 0 1 1 2; taken for 0 0 1 1 2 2. */
static void classes_by_hand(void **state)
{
    (void)state;
    const float p[6][3] = { { .7f, .2f, .1f }, { .5f, .3f, .2f }, { .3f, .6f, .1f },
                            { .1f, .8f, .1f }, { .3f, .2f, .5f }, { .2f, .1f, .7f } };
    const int32_t y[6] = { 0, 0, 0, 1, 1, 2 };
    qn_metrics *m = make((qn_metrics_options){ .width = 3, .top_k = 2, .confusion = true, .auc = true });
    qn_metrics_summary s;
    qn_metrics_class k;
    /* two batches must give what one gives */
    assert_int_equal(qn_metrics_add_classes(m, p[0], y, 2, NULL), QN_OK);
    assert_int_equal(qn_metrics_add_classes(m, p[2], y + 2, 4, NULL), QN_OK);
    qn_metrics_add_loss(m, 1.0, 2);
    qn_metrics_add_loss(m, 4.0, 4);
    assert_int_equal(qn_metrics_result(m, &s, NULL), QN_OK);
    assert_int_equal(s.count, 6);
    NEAR(s.loss, 3.0);
    NEAR(s.accuracy, 4.0 / 6);
    NEAR(s.top_k, 5.0 / 6); /* the fifth sample's class is last */
    const int64_t want[9] = { 2, 1, 0, 0, 1, 1, 0, 0, 1 };
    assert_memory_equal(qn_metrics_confusion(m), want, sizeof want);
    /* precision 1, 1/2, 1/2; recall 2/3, 1/2, 1; F1 4/5, 1/2, 2/3 */
    NEAR(s.precision_macro, (1 + 0.5 + 0.5) / 3);
    NEAR(s.recall_macro, (2.0 / 3 + 0.5 + 1) / 3);
    NEAR(s.f1_macro, (0.8 + 0.5 + 2.0 / 3) / 3);
    NEAR(s.precision_micro, 4.0 / 6);
    NEAR(s.recall_micro, 4.0 / 6);
    NEAR(s.f1_micro, 4.0 / 6);
    assert_int_equal(qn_metrics_of_class(m, 0, &k, NULL), QN_OK);
    assert_int_equal(k.support, 3);
    assert_int_equal(k.predicted, 2);
    NEAR(k.precision, 1);
    NEAR(k.recall, 2.0 / 3);
    NEAR(k.f1, 0.8);
    /* class 0: positives .7 .5 .3 against .1 .3 .2: 8.5 of 9 pairs; class 1: .8 .2 against .2 .3 .6 .1:
     * 4 + 1.5; class 2: .7 against all: 5 of 5 */
    NEAR(k.auc, 8.5 / 9);
    assert_int_equal(qn_metrics_of_class(m, 1, &k, NULL), QN_OK);
    NEAR(k.auc, 5.5 / 8);
    NEAR(s.auc, (8.5 / 9 + 5.5 / 8 + 1) / 3);
    qn_metrics_reset(m);
    assert_int_equal(qn_metrics_result(m, &s, NULL), QN_OK);
    assert_true(s.count == 0 && isnan(s.accuracy) && isnan(s.loss) && isnan(s.auc));
    qn_metrics_free(m);
}

/* 0/0 is 0; a class that occurs nowhere does not weigh on the macro averages. */
static void empty_classes(void **state)
{
    (void)state;
    const float p[2][4] = { { 1, 0, 0, 0 }, { 0, 1, 0, 0 } };
    const int32_t y[2] = { 0, 2 };
    qn_metrics *m = make((qn_metrics_options){ .width = 4 });
    qn_metrics_summary s;
    qn_metrics_class k;
    assert_int_equal(qn_metrics_add_classes(m, p[0], y, 2, NULL), QN_OK);
    assert_int_equal(qn_metrics_result(m, &s, NULL), QN_OK);
    NEAR(s.precision_macro, 1.0 / 3); /* classes 0, 1 (only predicted), 2 (only true) */
    NEAR(s.recall_macro, 1.0 / 3);
    NEAR(s.f1_macro, 1.0 / 3);
    for (int c = 1; c < 4; c++) {
        assert_int_equal(qn_metrics_of_class(m, c, &k, NULL), QN_OK);
        assert_true(k.precision == 0 && k.recall == 0 && k.f1 == 0 && isnan(k.auc));
    }
    assert_null(qn_metrics_confusion(m));
    qn_metrics_free(m);
}

static void ignored_and_not_finite(void **state)
{
    (void)state;
    const float x[5][2] = { { 2, 1 }, { NAN, 1 }, { 0, INFINITY }, { -INFINITY, 3 }, { 1, 2 } };
    const int32_t y[5] = { 0, 0, 1, 1, -100 };
    qn_metrics *m = make((qn_metrics_options){
        .width = 2, .logits = true, .has_ignore = true, .ignore_index = -100, .confusion = true, .auc = true });
    qn_metrics_summary s;
    assert_int_equal(qn_metrics_add_classes(m, x[0], y, 5, NULL), QN_OK);
    assert_int_equal(qn_metrics_result(m, &s, NULL), QN_OK);
    assert_int_equal(s.count, 4);
    assert_int_equal(s.ignored, 1);
    assert_int_equal(s.nonfinite, 2);
    NEAR(s.accuracy, 0.5);
    NEAR(s.precision_micro, 1);
    NEAR(s.recall_micro, 0.5);
    assert_true(isnan(s.auc));
    const int64_t want[4] = { 1, 0, 0, 1 };
    assert_memory_equal(qn_metrics_confusion(m), want, sizeof want);
    qn_metrics_free(m);
}

static void top_k_ties(void **state)
{
    (void)state;
    const float x[4] = { 1, 1, 1, 1 };
    for (int32_t label = 0; label < 4; label++) {
        qn_metrics *m = make((qn_metrics_options){ .width = 4, .top_k = 2 });
        qn_metrics_summary s;
        assert_int_equal(qn_metrics_add_classes(m, x, &label, 1, NULL), QN_OK);
        assert_int_equal(qn_metrics_result(m, &s, NULL), QN_OK);
        NEAR(s.top_k, label < 2);
        NEAR(s.accuracy, label == 0);
        qn_metrics_free(m);
    }
}

static double auc_brute_force(const float *s, const int32_t *positive, int n)
{
    double won = 0, pairs = 0;
    for (int i = 0; i < n; i++)
        for (int j = 0; j < n; j++)
            if (positive[i] && !positive[j]) {
                pairs++;
                won += s[i] > s[j] ? 1 : s[i] == s[j] ? 0.5 : 0;
            }
    return won / pairs;
}

/* Few distinct scores, so that ties are many; and a growing store. */
static void auc_against_pairs(void **state)
{
    (void)state;
    enum { N = 700 };
    for (uint32_t trial = 0; trial < 6; trial++) {
        float x[N];
        int32_t y[N];
        for (uint32_t i = 0; i < N; i++) {
            uint32_t r = ((trial * N + i) * 2654435761u) >> 8;
            y[i] = r % 3 == 0;
            x[i] = (float)(r / 3 % (3u << 2 * trial)) + 2.0f * (float)y[i];
        }
        qn_metrics *m = make(
            (qn_metrics_options){ .kind = QN_METRICS_BINARY, .logits = true, .auc = true, .expect = 3 });
        qn_metrics_summary s;
        qn_metrics_class k;
        for (int i = 0; i < N; i += 100) assert_int_equal(qn_metrics_add_classes(m, x + i, y + i, 100, NULL), QN_OK);
        assert_int_equal(qn_metrics_result(m, &s, NULL), QN_OK);
        NEAR(s.auc, auc_brute_force(x, y, N));
        assert_int_equal(qn_metrics_of_class(m, 0, &k, NULL), QN_OK);
        NEAR(k.auc, s.auc); /* both classes see the same order */
        qn_metrics_free(m);
    }
}

/* Softmax is not monotone between samples: logits must be normalised before samples are compared. */
static void auc_of_logits(void **state)
{
    (void)state;
    enum { N = 60, C = 3 };
    float x[N][C], column[N];
    int32_t y[N], positive[N];
    for (uint32_t i = 0; i < N; i++) {
        uint32_t r = (i + 17) * 2246822519u;
        y[i] = (int32_t)(r >> 5 & 0xff) % C;
        for (uint32_t c = 0; c < C; c++) x[i][c] = (float)((r >> (8 + 5 * c)) % 32) / 8;
    }
    qn_metrics *m = make((qn_metrics_options){ .width = C, .logits = true, .auc = true });
    assert_int_equal(qn_metrics_add_classes(m, x[0], y, N, NULL), QN_OK);
    qn_metrics_summary s;
    assert_int_equal(qn_metrics_result(m, &s, NULL), QN_OK);
    double mean = 0;
    for (int c = 0; c < C; c++) {
        for (int i = 0; i < N; i++) {
            double sum = 0;
            for (int j = 0; j < C; j++) sum += exp((double)x[i][j]);
            column[i] = (float)(exp((double)x[i][c]) / sum);
            positive[i] = y[i] == c;
        }
        mean += auc_brute_force(column, positive, N) / C;
    }
    assert_true(fabs(s.auc - mean) < 2e-3); /* rounding may make or break single ties */
    qn_metrics_free(m);
}

static void binary_by_hand(void **state)
{
    (void)state;
    const float p[6] = { .9f, .8f, .5f, .4f, .6f, .1f };
    const int32_t y[6] = { 1, 1, 1, 1, 0, 0 };
    qn_metrics *m = make((qn_metrics_options){ .kind = QN_METRICS_BINARY, .confusion = true, .auc = true });
    qn_metrics_summary s;
    qn_metrics_class k;
    assert_int_equal(qn_metrics_add_classes(m, p, y, 6, NULL), QN_OK);
    assert_int_equal(qn_metrics_result(m, &s, NULL), QN_OK);
    NEAR(s.accuracy, 0.5); /* .5 is not above the threshold */
    NEAR(s.auc, 6.0 / 8);
    assert_int_equal(qn_metrics_of_class(m, 1, &k, NULL), QN_OK);
    NEAR(k.precision, 2.0 / 3);
    NEAR(k.recall, 0.5);
    NEAR(k.f1, 4.0 / 7);
    assert_true(isnan(s.top_k));
    const int64_t want[4] = { 1, 1, 2, 2 };
    assert_memory_equal(qn_metrics_confusion(m), want, sizeof want);
    qn_metrics_free(m);
}

static void regression(void **state)
{
    (void)state;
    const float p[4] = { 1, 2, 3, 4 }, t[4] = { 1, 0, 4, 8 };
    qn_metrics *m = make((qn_metrics_options){ .kind = QN_METRICS_REGRESSION, .width = 2 });
    qn_metrics_summary s;
    assert_int_equal(qn_metrics_add_values(m, p, t, 2, NULL), QN_OK);
    assert_int_equal(qn_metrics_result(m, &s, NULL), QN_OK);
    assert_int_equal(s.count, 2);
    NEAR(s.mse, (0 + 4 + 1 + 16) / 4.0);
    NEAR(s.mae, (0 + 2 + 1 + 4) / 4.0);
    assert_true(isnan(s.accuracy));
    const float inf = INFINITY;
    const float bad[2] = { inf, 0 };
    assert_int_equal(qn_metrics_add_values(m, bad, t, 1, NULL), QN_OK);
    assert_int_equal(qn_metrics_result(m, &s, NULL), QN_OK);
    assert_int_equal(s.nonfinite, 1);
    qn_metrics_free(m);
}

/* A batch with a bad label leaves nothing behind. */
static void refusals(void **state)
{
    (void)state;
    qn_error err = { 0 };
    qn_metrics *m = NULL;
    qn_metrics_options o = { .width = 1 };
    assert_int_equal(qn_metrics_create(&m, &o, NULL, &err), QN_EUSAGE);
    assert_string_equal(err.text, "error E2204 graph: metrics.width: 1; expected 2..1048576");
    o = (qn_metrics_options){ .width = 3, .top_k = 4 };
    assert_int_equal(qn_metrics_create(&m, &o, NULL, &err), QN_EUSAGE);
    assert_null(m);
    m = make((qn_metrics_options){ .width = 3 });
    const float x[6] = { 0 };
    const int32_t y[2] = { 1, 3 };
    assert_int_equal(qn_metrics_add_classes(m, x, y, 2, &err), QN_EUSAGE);
    assert_string_equal(err.text, "error E2204 graph: metrics.labels: label[1] = 3; expected 0..2");
    assert_int_equal(qn_metrics_add_values(m, x, x, 2, &err), QN_EUSAGE);
    qn_metrics_summary s;
    assert_int_equal(qn_metrics_result(m, &s, NULL), QN_OK);
    assert_int_equal(s.count, 0);
    qn_metrics_free(m);
}

/* An allocator that counts, and fails at the k-th call. */
struct counter {
    int calls, fail_at;
    long live;
};
static void *counting(void *user, void *ptr, size_t old_size, size_t new_size)
{
    struct counter *c = user;
    if (new_size && ++c->calls == c->fail_at) return NULL;
    c->live += (long)new_size - (ptr ? (long)old_size : 0);
    if (new_size) return realloc(ptr, new_size);
    free(ptr);
    return NULL;
}

static void memory(void **state)
{
    (void)state;
    const float x[8] = { 0 };
    const int32_t y[4] = { 0, 1, 0, 1 };
    qn_metrics_options o = { .width = 2, .auc = true, .confusion = true, .expect = 8 };
    qn_error err = { 0 };
    for (int k = 1;; k++) {
        struct counter c = { .fail_at = k };
        qn_alloc alloc = { counting, &c };
        qn_metrics *m;
        if (qn_metrics_create(&m, &o, &alloc, &err)) {
            assert_int_equal(err.code, 5002);
            assert_true(c.live == 0);
            continue;
        }
        int calls = c.calls;
        for (int i = 0; i < 2; i++) assert_int_equal(qn_metrics_add_classes(m, x, y, 4, NULL), QN_OK);
        assert_int_equal(c.calls, calls); /* what was expected costs no allocation */
        c.fail_at = c.calls + 2;
        assert_int_equal(qn_metrics_add_classes(m, x, y, 4, &err), QN_EMEMORY);
        c.fail_at = 0;
        assert_int_equal(qn_metrics_add_classes(m, x, y, 4, &err), QN_OK);
        qn_metrics_summary s;
        assert_int_equal(qn_metrics_result(m, &s, NULL), QN_OK);
        assert_int_equal(s.count, 12);
        NEAR(s.auc, 0.5);
        qn_metrics_free(m);
        assert_true(c.live == 0);
        break;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(classes_by_hand),
        cmocka_unit_test(empty_classes),
        cmocka_unit_test(ignored_and_not_finite),
        cmocka_unit_test(top_k_ties),
        cmocka_unit_test(auc_against_pairs),
        cmocka_unit_test(auc_of_logits),
        cmocka_unit_test(binary_by_hand),
        cmocka_unit_test(regression),
        cmocka_unit_test(refusals),
        cmocka_unit_test(memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
