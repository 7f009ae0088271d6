/* test_gpu.c - descriptions of GPUs: those of gpus/ are whole and each figure names its source; mistakes of others. */
#include "../../include/quern/plan.h"
#include "../lib/workdir.h"
#include <glob.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static void ours_are_whole(void **state)
{
    (void)state;
    glob_t g;
    assert_int_equal(glob("gpus/*.json", 0, NULL, &g), 0);
    assert_true(g.gl_pathc >= 4);
    for (size_t i = 0; i < g.gl_pathc; i++) {
        qn_gpu gpu;
        qn_error err;
        if (qn_gpu_read(&gpu, g.gl_pathv[i], &err)) fail_msg("%s", err.text);
        assert_true(gpu.bandwidth < gpu.f32 && gpu.f32 < gpu.tensor);
        assert_true(gpu.shared_per_block < gpu.shared_per_multiprocessor && gpu.l2 < gpu.memory);
        assert_int_equal(gpu.threads_per_multiprocessor % 32, 0);
    }
    globfree(&g);
}

static void fails(const char *text, const char *expected)
{
    qn_gpu gpu;
    qn_error err;
    assert_int_not_equal(qn_gpu_read(&gpu, workdir_write("g.json", text, strlen(text)), &err), QN_OK);
    const char *from = strstr(err.text, "g.json");
    assert_string_equal(from ? from : err.text, expected);
}

static void mistakes(void **state)
{
    (void)state;
    fails("{\"bandwith\": 3}", "g.json:1:2: bandwith: unknown key; did you mean \"bandwidth\"?");
    fails("{\"name\": \"\"}", "g.json:1:10: name: not a text; expected 1..63 bytes");
    fails("{\"name\": \"x\"}", "g.json:1:1: capability: missing; expected in the description of a GPU");
    fails("{\"name\": \"x\", \"capability\": [8, 0]}",
          "g.json:1:29: capability: expected {\"value\": ..., \"source\": \"where it is stated\"}");
    fails("{\"name\": \"x\", \"capability\": {\"value\": [8, 0]}}",
          "g.json:1:29: source: missing; expected in every figure");
    fails("{\"name\": \"x\", \"capability\": {\"value\": [8, 0], \"source\": \"\"}}",
          "g.json:1:57: source: not a text; expected 1..1023 bytes that say where capability is stated");
    fails("{\"name\": \"x\", \"capability\": {\"source\": \"a\"}}",
          "g.json:1:29: value: missing; expected in every figure");
    fails("{\"name\": \"x\", \"capability\": {\"value\": [8], \"source\": \"a\"}}",
          "g.json:1:39: capability: expected [major, minor]");
    fails("{\"name\": \"x\", \"capability\": {\"value\": [8, 0], \"source\": \"a\"}, \"memory\": {\"value\": 3, "
          "\"source\": \"a\"}}",
          "g.json:1:83: memory: 3; expected 1e+08..1e+15");
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(ours_are_whole), cmocka_unit_test(mistakes) };
    return cmocka_run_group_tests(tests, workdir_begin, workdir_end);
}
