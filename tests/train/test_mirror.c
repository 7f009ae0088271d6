/* Test-time augmentation: scores of an image are the mean of those of it and its mirror image, in evaluation only. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "../../include/quern/recipe.h"
#include "../../train/model.h"

enum { B = 3, C = 2, H = 4, W = 5, K = 3 };
static const struct qn__model_shape shape = { .rank = 3, .dim = { C, H, W }, .n_classes = K };

/* Scores [B,K] of images [B,C,H,W] by a small network, with test_flip on or off. */
static void scores_of(const float *x, bool test_flip, bool training, float *scores)
{
    const char *text =
        test_flip
            ? "{ \"quern\": 1, \"data\": \"fashion-mnist\", \"augment\": { \"test_flip\": true }, \"model\": [{ "
              "\"conv\": 4, "
              "\"kernel\": 3 }, \"relu\", { \"linear\": 3 }] }"
            : "{ \"quern\": 1, \"data\": \"fashion-mnist\", \"model\": [{ \"conv\": 4, \"kernel\": 3 }, \"relu\", "
              "{ \"linear\": 3 }] }";
    qn_recipe_errors errs;
    qn_recipe *r;
    qn_graph *g;
    qn_store *store;
    qn_program *p;
    qn_error err = { 0 };
    struct qn__model_nodes nodes;
    if (qn_recipe_parse(&r, "t.json", text, strlen(text), NULL, 0, &errs)) fail_msg("%s", errs.list[0].text);
    assert_int_equal(r->augment.test_flip, test_flip);
    assert_int_equal(qn_graph_new(&g, NULL), QN_OK);
    if (qn__model_build(g, r, &shape, B, training, false, &nodes, &err)) fail_msg("%s", err.text);
    assert_int_equal(qn_store_new(&store, "cpu", 7, NULL, &err), QN_OK);
    if (qn_compile(&p, g, &nodes.scores, 1, store, NULL, &err)) fail_msg("%s", err.text);
    if (qn_program_load(p, &err)) fail_msg("%s", err.text);
    memcpy(qn_program_data(p, nodes.x), x, sizeof(float) * B * C * H * W);
    if (qn_program_run(p, QN_MICRO, &err)) fail_msg("%s", err.text);
    memcpy(scores, qn_program_data(p, nodes.scores), sizeof(float) * B * K);
    qn_program_free(p);
    qn_store_free(store);
    qn_graph_free(g);
    qn_recipe_free(r);
}

static void is_the_mean_of_both(void **state)
{
    (void)state;
    float x[B * C * H * W], mirrored[B * C * H * W], one[B * K], other[B * K], both[B * K], training[B * K];
    for (int i = 0; i < B * C * H * W; i++) x[i] = (float)((i * 37 + 11) % 101) / 50.0f - 1.0f;
    for (int row = 0; row < B * C * H; row++)
        for (int i = 0; i < W; i++) mirrored[row * W + i] = x[row * W + W - 1 - i];
    scores_of(x, false, false, one);
    scores_of(mirrored, false, false, other);
    scores_of(x, true, false, both);
    scores_of(x, true, true, training);
    double apart = 0;
    for (int i = 0; i < B * K; i++) {
        assert_true(fabsf(both[i] - (one[i] + other[i]) / 2) <= 1e-5f);
        assert_true(training[i] == one[i]);
        apart += fabs((double)one[i] - (double)other[i]);
    }
    assert_true(apart > 0.01); /* else the test could not tell */
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(is_the_mean_of_both) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
