/* Data that hurts: a batch whose gradient is not finite changes no weight, moment or average, and is counted and
 * named; a batch whose loss jumps is told, ends the run, or is left out after a rewind, with the bytes of a run that
 * was never given it; a picture that cannot be read ends the run with its last whole step saved, and once it can be
 * read the run goes on to the bytes of one that never met it. */
#include "steps.h"
#include "../../include/quern/data.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

enum { FEATURES = 8, BATCH = 4 };

static void npy(const char *name, const char *descr, const char *shape, const void *data, size_t bytes)
{
    char path[STEPS_PATH], head[128];
    snprintf(path, sizeof path, "%s/%s", steps_root(), name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    int n = snprintf(head, sizeof head, "{'descr': '%s', 'fortran_order': False, 'shape': (%s), }", descr, shape);
    memset(head + n, ' ', sizeof head - (size_t)n);
    head[117] = '\n';
    fwrite("\x93NUMPY\x01\x00\x76\x00", 1, 10, f);
    fwrite(head, 1, 118, f);
    assert_int_equal(fwrite(data, 1, bytes, f), bytes);
    fclose(f);
}

/* n batches of samples whose label is the sign of the first feature; batches [from, to) are multiplied by `scale` and
 * get the wrong label, or are left out if scale is 0. */
static void data(int n, int from, int to, float scale)
{
    float x[80 * BATCH][FEATURES];
    int32_t label[80 * BATCH];
    char shape[40];
    uint32_t r = 12345;
    int count = 0;
    for (int i = 0; i < n * BATCH; i++) {
        bool bad = i / BATCH >= from && i / BATCH < to;
        for (int k = 0; k < FEATURES; k++) {
            r = r * 1664525u + 1013904223u;
            x[count][k] = ((float)(r >> 8) / 8388608.0f - 1) * (bad && scale != 0 ? scale : 1);
        }
        label[count] = (x[count][0] > 0) != bad;
        if (!bad || scale != 0) count++;
    }
    snprintf(shape, sizeof shape, "%d, %d", count, FEATURES);
    npy("x.npy", "<f4", shape, x, (size_t)count * sizeof x[0]);
    snprintf(shape, sizeof shape, "%d,", count);
    npy("y.npy", "<i4", shape, label, (size_t)count * sizeof label[0]);
}

static const char *recipe(const char *name, const char *more)
{
    static char text[2000];
    snprintf(text, sizeof text,
             "{\"quern\": 1, \"name\": \"%s\", \"data\": {\"npy\": {\"images\": \"%s/x.npy\", \"labels\": "
             "\"%s/y.npy\"}, \"shuffle\": false, \"normalize\": \"none\"}, \"model\": [{\"linear\": 8}, %s\"relu\", "
             "{\"linear\": 2}], \"optimizer\": {\"name\": \"adamw\", \"lr\": 0.01}, \"ema\": {\"decay\": 0.9}, "
             "\"batch\": %d, \"epochs\": 1, \"log\": {\"every_steps\": 1}, %s}",
             name, steps_root(), steps_root(), strstr(more, "spike") ? "" : "{\"batch_norm\": true}, ", BATCH, more);
    return text;
}

static bool log_has(const char *dir, const char *text)
{
    char path[STEPS_PATH + 20], line[4000];
    bool found = false;
    snprintf(path, sizeof path, "%s/log.jsonl", dir);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) found = found || strstr(line, text);
    fclose(f);
    return found;
}

/* ---- gradients that are not finite -------------------------------------------------------------- */

static bool may_move(const char *name)
{
    /* What ".before" holds between updates is of no use to anybody. */
    return strstr(name, "skipped") || strncmp(name, "rng", 3) == 0 || strstr(name, ".before");
}

static void same_tensors(const qn_safetensors *a, const qn_safetensors *b)
{
    assert_int_equal(qn_safetensors_count(a), qn_safetensors_count(b));
    for (int64_t i = 0; i < qn_safetensors_count(a); i++) {
        qn_tensor_info x, y;
        char p[4096], q[4096];
        qn_safetensors_at(a, i, &x);
        assert_true(qn_safetensors_find(b, x.name, &y) && x.bytes <= 4096);
        assert_int_equal(qn_safetensors_read(a, &x, p, x.dtype, NULL), 0);
        assert_int_equal(qn_safetensors_read(b, &y, q, y.dtype, NULL), 0);
        bool same = memcmp(p, q, (size_t)x.bytes) == 0;
        if (!same && !may_move(x.name)) fail_msg("\"%s\" moved in a step that was to be skipped", x.name);
    }
}

static void same_checkpoints(const char *dir, const char *a, const char *b)
{
    char path[STEPS_PATH + 60];
    qn_checkpoint *x, *y;
    qn_error err;
    snprintf(path, sizeof path, "%s/checkpoints/%s", dir, a);
    if (qn_checkpoint_open(&x, path, &err)) fail_msg("%s", err.text);
    snprintf(path, sizeof path, "%s/checkpoints/%s", dir, b);
    if (qn_checkpoint_open(&y, path, &err)) fail_msg("%s", err.text);
    same_tensors(qn_checkpoint_model(x), qn_checkpoint_model(y));
    same_tensors(qn_checkpoint_state(x), qn_checkpoint_state(y));
    qn_checkpoint_close(x);
    qn_checkpoint_close(y);
}

static void bad_gradient(void **state)
{
    (void)state;
    struct steps_run r;
    char line[STEPS_PATH + 120];
    data(30, 5, 6, 3e38f);
    steps_train(&r, recipe("one", "\"checkpoint\": {\"every_steps\": 1, \"keep\": 100}"), NULL);
    if (r.status) fail_msg("%s", r.err.text);
    assert_int_equal(r.result.skipped, 1);
    assert_int_equal(r.result.steps, 29);
    assert_true(log_has(r.dir, "\"event\":\"skipped\",\"step\":6,\"first\":\"linear"));
    data(30, 5, 25, 3e38f); /* ten in a row end the run */
    steps_train(&r, recipe("many", "\"checkpoint\": {\"every_steps\": 1, \"keep\": 100}"), NULL);
    assert_int_equal(r.status, 9);
    snprintf(line, sizeof line, "error E9001 numeric: %s: step 15: 10 non-finite steps in a row, first in \"linear",
             r.dir);
    assert_memory_equal(r.err.text, line, strlen(line));
    same_checkpoints(r.dir, "step-000005", "diagnostic");
    int64_t step[40];
    int n = steps_list(r.dir, step, 40);
    assert_int_equal(step[n - 1], 5); /* the good one is the newest */
}

/* Whichever of the micro-batches of an update is bad, it is the one that is named, and running statistics that the
 * good ones have moved go back. Dropout has the masks that it had. */
static void bad_gradient_among_good_ones(void **state)
{
    (void)state;
    static const char more[] = "\"accumulate\": 3, \"checkpoint\": {\"every_steps\": 1, \"keep\": 100}";
    struct steps_run r;
    for (int bad = 9; bad < 12; bad++) { /* the fourth update */
        data(30, bad, bad + 1, 3e38f);
        steps_train(&r, recipe("among", more), NULL);
        if (r.status) fail_msg("%s", r.err.text);
        assert_int_equal(r.result.skipped, 1);
        assert_int_equal(r.result.steps, 9);
        assert_true(log_has(r.dir, "\"event\":\"skipped\",\"step\":4,\"first\":\"linear"));
    }
    data(29, 27, 28, 3e38f); /* the tenth, which has two */
    steps_train(&r, recipe("rest", more), NULL);
    assert_int_equal(r.status, 0);
    assert_true(log_has(r.dir, "\"event\":\"skipped\",\"step\":10,\"first\":\"linear"));
    data(40, 10, 40, 3e38f); /* the first of the ten updates has a good micro-batch before the bad ones */
    steps_train(&r, recipe("all", more), NULL);
    assert_int_equal(r.err.code, 9001);
    assert_non_null(strstr(r.err.text, ": step 13: 10 non-finite steps in a row, first in \"linear"));
    same_checkpoints(r.dir, "step-000003", "diagnostic");
}

/* ---- losses that jump -------------------------------------------------------------------------- */

/* The tensors' lines of a digest. */
static char *tensors_of(const struct steps_run *r)
{
    char *text = steps_digest(r), *from = strchr(text, '\n') + 1, *to = strstr(from, "\n{");
    assert_non_null(to);
    *to = 0;
    memmove(text, from, strlen(from) + 1);
    return text;
}

static void spike(void **state)
{
    (void)state;
    static const char rewind[] =
        "\"spike\": {\"policy\": \"rewind\", \"window\": 10, \"factor\": 20, \"max_rewinds\": 2}, \"checkpoint\": "
        "{\"every_steps\": 7, \"keep\": 100}";
    struct steps_run never, r;
    data(40, 30, 31, 0);
    steps_train(&never, recipe("never", rewind), NULL);
    if (never.status) fail_msg("%s", never.err.text);
    assert_int_equal(never.result.steps, 39);
    char *good = tensors_of(&never);
    data(40, 30, 31, 3000);
    steps_train(&r, recipe("rewind", rewind), NULL);
    if (r.status) fail_msg("%s", r.err.text);
    char *got = tensors_of(&r);
    assert_string_equal(got, good);
    assert_true(log_has(r.dir, "\"event\":\"spike\",\"step\":31,"));
    assert_true(log_has(r.dir, "\"event\":\"rewind\",\"step\":31,\"to\":28,\"rewinds\":1,"));
    free(got);
    free(good);
    steps_train(&r, recipe("warn", "\"spike\": {\"policy\": \"warn\", \"window\": 10}"), NULL);
    assert_int_equal(r.status, 0);
    assert_true(log_has(r.dir, "\"event\":\"spike\",\"step\":31,"));
    steps_train(&r, recipe("off", "\"spike\": \"off\""), NULL);
    assert_int_equal(r.status, 0);
    assert_false(log_has(r.dir, "\"event\":\"spike\""));
    steps_train(&r, recipe("stop", "\"spike\": {\"policy\": \"stop\", \"window\": 10}"), NULL);
    assert_int_equal(r.status, 9);
    assert_int_equal(r.err.code, 9002);
    assert_non_null(strstr(r.err.text, ": step 31: loss "));
    assert_true(strlen(r.err.text) <= 400);
    data(40, 24, 33, 3000); /* nine batches one after the other, two rewinds */
    steps_train(&r, recipe("used-up", rewind), NULL);
    assert_int_equal(r.err.code, 9002);
    assert_non_null(strstr(r.err.text, " after 2 rewinds, "));
}

/* ---- pictures that cannot be read -------------------------------------------------------------- */

enum { PICTURES = 40, SIDE = 4 };

static const char *picture_path(int i)
{
    static char path[STEPS_PATH];
    snprintf(path, sizeof path, "%s/pets/%s/%02d.png", steps_root(), i % 2 ? "cats" : "dogs", i / 2);
    return path;
}

static void write_picture(int i)
{
    uint8_t pixels[SIDE * SIDE];
    qn_error err;
    for (int k = 0; k < SIDE * SIDE; k++) pixels[k] = (uint8_t)((i * 61 + k * k * 37 + (i % 2) * k * 90) % 256);
    if (qn_png_write(picture_path(i), pixels, SIDE, SIDE, 1, &err)) fail_msg("%s", err.text);
}

static void make_pictures(void)
{
    char path[STEPS_PATH];
    static const char *const dir[] = { "pets", "pets/cats", "pets/dogs" };
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", steps_root(), dir[i]);
        assert_int_equal(mkdir(path, 0777), 0);
    }
    for (int i = 0; i < PICTURES; i++) write_picture(i);
}

static const char *pictures(const char *name, int accumulate)
{
    static char text[2000];
    snprintf(text, sizeof text,
             "{\"quern\": 1, \"name\": \"%s\", \"data\": {\"png\": \"%s/pets\", \"validation\": 0.2, \"workers\": 2, "
             "\"normalize\": \"scale\"}, \"augment\": {\"flip\": true, \"rotate\": 10}, \"model\": [{\"conv\": 3}, "
             "{\"batch_norm\": true}, \"relu\", {\"dropout\": 0.3}, {\"linear\": 2}], \"optimizer\": {\"name\": "
             "\"adamw\", \"lr\": 0.01}, \"ema\": {\"decay\": 0.9}, \"batch\": 4, \"epochs\": 2, \"accumulate\": %d, "
             "\"log\": {\"every_steps\": 1}}",
             name, steps_root(), accumulate);
    return text;
}

/* Returns the step that was saved; picture i stands in its way. */
static int64_t stop_and_go_on(int i, int accumulate, const char *good)
{
    struct steps_run r;
    int64_t step[40];
    char dir[STEPS_PATH];
    if (truncate(picture_path(i), 40)) fail_msg("%s: cannot be cut short", picture_path(i));
    steps_train(&r, pictures("broken", accumulate), NULL);
    assert_int_equal(r.status, QN_EDATA);
    assert_int_equal(r.err.code, 3012);
    assert_non_null(strstr(r.err.text, i % 2 ? "cats" : "dogs"));
    assert_int_equal(steps_list(r.dir, step, 40), 1);
    snprintf(dir, sizeof dir, "%s", r.dir);
    steps_train(&r, NULL, dir); /* not repaired: the same line, and nothing lost */
    assert_int_equal(r.err.code, 3012);
    write_picture(i);
    steps_train(&r, NULL, dir);
    if (r.status) fail_msg("%s", r.err.text);
    char *got = steps_digest(&r);
    assert_string_equal(got, good);
    free(got);
    return step[0];
}

/* Wherever the picture comes: in the first batch, among the micro-batches of an update, in the validation part. */
static void bad_picture(void **state)
{
    (void)state;
    make_pictures();
    for (int accumulate = 1; accumulate <= 3; accumulate += 2) {
        struct steps_run r;
        unsigned seen = 0;
        steps_train(&r, pictures("good", accumulate), NULL);
        if (r.status) fail_msg("%s", r.err.text);
        char *good = steps_digest(&r);
        for (int i = 0; i < PICTURES; i++) /* without the first file, whose size is asked before there is a run */
            if (i != 1) seen |= 1u << stop_and_go_on(i, accumulate, good);
        int updates = 8 / accumulate + (8 % accumulate > 0);
        for (int s = 0; s <= updates; s++)
            if (!(seen >> s & 1)) fail_msg("accumulate %d: no picture stood behind step %d", accumulate, s);
        free(good);
    }
}

static int clean(void **state)
{
    (void)state;
    steps_clean();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test_teardown(bad_gradient, clean),
                                        cmocka_unit_test_teardown(bad_gradient_among_good_ones, clean),
                                        cmocka_unit_test_teardown(spike, clean),
                                        cmocka_unit_test_teardown(bad_picture, clean) };
    return cmocka_run_group_tests_name("bad data", tests, NULL, NULL);
}
