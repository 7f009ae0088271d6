/* passes.c - see passes.h. */
#include "passes.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

qn_graph *passes_run(qn__pass *pass, qn_graph *g, int32_t *keep, int n, const struct qn__backend *cpu)
{
    qn_error err = { 0 };
    qn_graph *out;
    if (qn__failed(g)) fail_msg("%s", qn_graph_error(g)->text);
    assert_int_equal(qn__graph_like(&out, g, NULL), QN_OK);
    int32_t *map = calloc((size_t)g->n, sizeof *map);
    assert_non_null(map);
    struct qn__pass_env env = {
        .keep = keep, .n_keep = n, .threads = 1, .backend = { cpu, cpu ? &qn__cpu_f64 : NULL }
    };
    if (pass(g, out, map, &env, &err) || qn__graph_verify(out, &err)) fail_msg("%s", err.text);
    if (qn__failed(out)) fail_msg("%s", qn_graph_error(out)->text);
    for (int i = 0; i < n; i++) {
        assert_true(map[keep[i]] > 0);
        keep[i] = map[keep[i]];
    }
    free(map);
    qn_graph_free(g);
    return out;
}

void passes_check_golden(const qn_graph *g, const char *name)
{
    char path[128], expected[16384];
    size_t bytes;
    char *text = qn__graph_dump(g, &bytes);
    assert_non_null(text);
    snprintf(path, sizeof path, "tests/core/golden/%s.txt", name);
    FILE *f = fopen(path, "r");
    if (!f) fail_msg("%s: cannot open; the dump is:\n%s", path, text);
    size_t n = fread(expected, 1, sizeof expected - 1, f);
    fclose(f);
    expected[n] = 0;
    if (strcmp(text, expected) != 0) fail_msg("%s differs; the dump is:\n%s", path, text);
    qn__free(&g->alloc, text, bytes);
}
