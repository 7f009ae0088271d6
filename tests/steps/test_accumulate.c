/* Gradient accumulation in whole runs: micro-batches make the same updates as the large batches they are parts of,
 * also the last one of an epoch, which has fewer samples than the others. */
#include "steps.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* 51 training samples of 64. */
static const char *recipe(int batch, int accumulate, const char *more)
{
    static char text[1000];
    snprintf(text, sizeof text,
             "{\"quern\": 1, \"name\": \"b%d\", \"data\": {\"digits\": 64, \"validation\": 0.2}, "
             "\"model\": [{\"linear\": 12, \"activation\": \"tanh\"}, {\"linear\": 10}], "
             "\"optimizer\": {\"name\": \"sgd\", \"lr\": 0.1, \"momentum\": 0.5}, \"penalties\": {\"l2\": 0.01}, "
             "\"schedule\": {\"name\": \"one_cycle\", \"start\": 0.25, \"end\": 0.5}, "
             "\"seed\": 5, \"epochs\": 3, \"batch\": %d, \"accumulate\": %d, \"log\": {\"every_steps\": 1}%s}",
             batch, batch, accumulate, more);
    return text;
}

static qn_checkpoint *last_of(const struct steps_run *r, int64_t want)
{
    char path[STEPS_PATH + 60];
    int64_t step[64];
    qn_checkpoint *ck;
    qn_error err;
    if (r->status) fail_msg("%s", r->err.text);
    assert_int_equal(r->result.steps, want);
    int n = steps_list(r->dir, step, 64);
    snprintf(path, sizeof path, "%s/checkpoints/step-%06lld", r->dir, (long long)step[n - 1]);
    if (qn_checkpoint_open(&ck, path, &err)) fail_msg("%s", err.text);
    return ck;
}

/* Sums in another order: some roundings of weights around 0.3 in each of 12 updates. */
static void same_weights(const struct steps_run *a, const struct steps_run *b, int64_t steps)
{
    qn_checkpoint *x = last_of(a, steps), *y = last_of(b, steps);
    const qn_safetensors *p = qn_checkpoint_model(x), *q = qn_checkpoint_model(y);
    assert_int_equal(qn_safetensors_count(p), 4);
    for (int64_t i = 0; i < 4; i++) {
        static float v[10000], w[10000];
        qn_tensor_info info, other;
        qn_safetensors_at(p, i, &info);
        assert_true(qn_safetensors_find(q, info.name, &other) && info.count <= 10000);
        assert_int_equal(qn_safetensors_read(p, &info, v, QN_F32, NULL), 0);
        assert_int_equal(qn_safetensors_read(q, &other, w, QN_F32, NULL), 0);
        for (int64_t k = 0; k < info.count; k++)
            if (!(fabsf(v[k] - w[k]) <= 2e-6f))
                fail_msg("%s[%lld]: %.9g; expected %.9g", info.name, (long long)k, (double)w[k], (double)v[k]);
    }
    qn_checkpoint_close(x);
    qn_checkpoint_close(y);
}

static double last_rate(const struct steps_run *r)
{
    char path[STEPS_PATH + 20], line[4000];
    double rate = 0;
    snprintf(path, sizeof path, "%s/log.jsonl", r->dir);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        const char *at = strstr(line, "\"lr\":");
        if (at) rate = strtod(at + 5, NULL);
    }
    fclose(f);
    return rate;
}

static void parts_make_the_same_updates(void **state)
{
    (void)state;
    struct steps_run whole, parts, uneven;
    steps_train(&whole, recipe(16, 1, ""), NULL); /* 16 16 16 3 */
    steps_train(&parts, recipe(4, 4, ""), NULL);  /* 4 4 4 4 | 4 4 4 4 | 4 4 4 4 | 3 */
    same_weights(&whole, &parts, 12);
    /* the schedule ends with the last update: base rate times its factor, one update before `end` is reached */
    double pi = 3.14159265358979323846, t = (11 - 0.3 * 12) / (0.7 * 12);
    assert_true(fabs(last_rate(&parts) - 0.1 * (0.5 + 0.5 * (1 + cos(pi * t)) / 2)) < 1e-7);
    steps_train(&whole, recipe(20, 1, ""), NULL); /* 20 20 11 */
    steps_train(&uneven, recipe(5, 4, ""), NULL); /* 5 5 5 5 | 5 5 5 5 | 5 5 1 */
    same_weights(&whole, &uneven, 9);
}

static int clean(void **state)
{
    (void)state;
    steps_clean();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test_teardown(parts_make_the_same_updates, clean) };
    return cmocka_run_group_tests_name("accumulation", tests, NULL, NULL);
}
