/* test_svg.c - drawn graphs: well-formed, in layers, nothing on top of anything else. */
#include "../../core/base.h"
#include "../../plot/layout.h"
#include "../lib/workdir.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

static char path[128];

static int make_dir(void **state)
{
    if (workdir_begin(state)) return -1;
    snprintf(path, sizeof path, "%s/graph.svg", workdir);
    return 0;
}

static char *slurp(void)
{
    struct stat st;
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    assert_int_equal(fstat(fileno(f), &st), 0);
    char *s = calloc(1, (size_t)st.st_size + 1);
    assert_non_null(s);
    assert_int_equal(fread(s, 1, (size_t)st.st_size, f), st.st_size);
    fclose(f);
    unlink(path);
    return s;
}

/* Tags balance, attributes are quoted, text holds no raw < or & and no control byte. */
static void assert_well_formed(const char *s)
{
    char open[16][16];
    int depth = 0;
    while (*s) {
        if (*s != '<') {
            assert_true((unsigned char)*s >= 0x20 || *s == '\n');
            if (*s == '&') assert_true(strcspn(s, ";") <= 6);
            s++;
            continue;
        }
        const char *end = s;
        for (bool quoted = false; *end != '>' || quoted; end++) {
            assert_true(*end != 0 && (!quoted || *end != '<'));
            quoted ^= *end == '"';
        }
        char name[16] = "";
        size_t n = strcspn(s + 1 + (s[1] == '/'), " />");
        assert_true(n > 0 && n < sizeof name);
        memcpy(name, s + 1 + (s[1] == '/'), n);
        if (s[1] == '/') {
            assert_true(depth > 0);
            assert_string_equal(open[--depth], name);
        } else if (end[-1] != '/') {
            assert_true(depth < 16);
            memcpy(open[depth++], name, sizeof name);
        }
        s = end + 1;
    }
    assert_int_equal(depth, 0);
}

static int occurrences(const char *s, const char *what)
{
    int n = 0;
    for (; (s = strstr(s, what)); s += strlen(what)) n++;
    return n;
}

static void small_graph(void **state)
{
    (void)state;
    const qn_svg_node n[4] = { { "input", "[8,784]", 1 },
                               { "matmul", "fc <1> & \"2\"", 3 },
                               { "param", NULL, 2 },
                               { "it's", "\x01\xff\xc3\xa4", 0 } };
    const qn_svg_edge e[4] = { { 0, 1 }, { 2, 1 }, { 1, 3 }, { 0, 3 } };
    assert_int_equal(qn_svg_write(path, &(qn_svg_graph){ "T & t", n, 4, e, 4 }, NULL), QN_OK);
    char *s = slurp();
    assert_well_formed(s);
    assert_int_equal(occurrences(s, "<path class=\"e\""), 4);
    assert_int_equal(occurrences(s, "<rect class=\"k"), 4);
    assert_int_equal(occurrences(s, "<rect class=\"k3\""), 1);
    assert_non_null(strstr(s, ">T &amp; t<"));
    assert_non_null(strstr(s, ">fc &lt;1&gt; &amp; &quot;2&quot;<"));
    assert_non_null(strstr(s, ">it&#39;s<"));
    assert_non_null(strstr(s, ">\\x01\\xFF\xc3\xa4<"));
    free(s);
}

static void long_labels_are_cut(void **state)
{
    (void)state;
    static char big[3000];
    memset(big, '<', sizeof big - 1);
    const qn_svg_node n = { big, big, 7 };
    assert_int_equal(qn_svg_write(path, &(qn_svg_graph){ big, &n, 1, NULL, 0 }, NULL), QN_OK);
    char *s = slurp();
    assert_well_formed(s);
    assert_true(strlen(s) < 5000);
    assert_int_equal(occurrences(s, "&lt;..."), 3);
    free(s);
}

static uint32_t draw(uint64_t *state, uint32_t n) /* a small generator for the graphs below */
{
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33) % n;
}

/* Edges lead down, and the boxes of a layer keep their distance. */
static void check_layout(const struct qn__layout *l, const qn_svg_graph *g)
{
    for (int e = 0; e < g->edge_count; e++)
        assert_true(l->items[g->edges[e].from].layer < l->items[g->edges[e].to].layer);
    for (size_t k = 0; k < l->link_count; k++)
        assert_int_equal(l->items[l->links[k].to].layer - l->items[l->links[k].from].layer, 1);
    int placed = 0;
    for (int layer = 0; layer < l->layers; layer++)
        for (int i = l->layer_at[layer]; i < l->layer_at[layer + 1]; i++, placed++) {
            const struct qn__item *b = &l->items[l->order[i]];
            assert_int_equal(b->layer, layer);
            assert_true(b->x - b->width / 2 > -1e-6 && b->x + b->width / 2 < l->width + 1e-6);
            if (i == l->layer_at[layer]) continue;
            const struct qn__item *a = &l->items[l->order[i - 1]];
            assert_true(b->x - a->x >= (a->width + b->width) / 2 + 13.999);
        }
    assert_int_equal(placed, l->item_count);
}

static void random_graphs(void **state)
{
    (void)state;
    uint64_t seed = 20;
    for (int trial = 0; trial < 40; trial++) {
        qn_svg_node n[60];
        qn_svg_edge e[150];
        double width[60];
        int nodes = 1 + (int)draw(&seed, 60), edges = nodes > 1 ? (int)draw(&seed, 150) : 0;
        for (int i = 0; i < nodes; i++) {
            n[i] = (qn_svg_node){ "op", "x", (int)draw(&seed, 8) };
            width[i] = 40 + draw(&seed, 100);
        }
        for (int i = 0; i < edges; i++) {
            int a = (int)draw(&seed, (uint32_t)nodes - 1), b = a + 1 + (int)draw(&seed, (uint32_t)(nodes - a - 1));
            e[i] = (qn_svg_edge){ a, b };
        }
        qn_svg_graph g = { NULL, n, nodes, e, edges };
        struct qn__layout l;
        assert_int_equal(qn__layout_make(&l, &g, width, NULL), QN_OK);
        check_layout(&l, &g);
        qn__layout_free(&l);
        assert_int_equal(qn_svg_write(path, &g, NULL), QN_OK);
        char *s = slurp();
        assert_well_formed(s);
        assert_int_equal(occurrences(s, "<path class=\"e\""), edges);
        free(s);
    }
}

/* A plain chain is a straight line, and two crossed pairs are uncrossed. */
static void good_looks(void **state)
{
    (void)state;
    qn_svg_node n[6] = { { "a", NULL, 0 } };
    const double width[6] = { 80, 120, 60, 80, 80, 80 };
    const qn_svg_edge chain[5] = { { 0, 1 }, { 1, 2 }, { 2, 3 }, { 3, 4 }, { 4, 5 } };
    struct qn__layout l;
    assert_int_equal(qn__layout_make(&l, &(qn_svg_graph){ NULL, n, 6, chain, 5 }, width, NULL), QN_OK);
    for (int i = 1; i < 6; i++) assert_true(fabs(l.items[i].x - l.items[0].x) < 0.01);
    qn__layout_free(&l);
    const qn_svg_edge crossed[2] = { { 0, 3 }, { 1, 2 } };
    assert_int_equal(qn__layout_make(&l, &(qn_svg_graph){ NULL, n, 4, crossed, 2 }, width, NULL), QN_OK);
    assert_true((l.items[0].x < l.items[1].x) == (l.items[3].x < l.items[2].x));
    qn__layout_free(&l);
}

/* A parameter stands above its reader, not at the top of the page. */
static void sources_are_near_their_readers(void **state)
{
    (void)state;
    const qn_svg_node n[5] = { { "x", NULL, 0 } };
    const double width[5] = { 50, 50, 50, 50, 50 };
    const qn_svg_edge e[4] = { { 0, 1 }, { 1, 2 }, { 2, 3 }, { 4, 3 } };
    struct qn__layout l;
    assert_int_equal(qn__layout_make(&l, &(qn_svg_graph){ NULL, n, 5, e, 4 }, width, NULL), QN_OK);
    assert_int_equal(l.items[3].layer, 3);
    assert_int_equal(l.items[4].layer, 2);
    qn__layout_free(&l);
}

/* Thousands of edges over thousands of layers: no bends then, but still a picture, and soon. */
static void large_graph(void **state)
{
    (void)state;
    enum { N = 3000 };
    static qn_svg_node n[N];
    static qn_svg_edge e[2 * N];
    int edges = 0;
    for (int i = 0; i < N; i++) n[i].label = "op";
    for (int i = 1; i < N; i++) e[edges++] = (qn_svg_edge){ i - 1, i };
    for (int i = 0; i < N / 2; i++) e[edges++] = (qn_svg_edge){ i, N - 1 - i };
    assert_int_equal(qn_svg_write(path, &(qn_svg_graph){ NULL, n, N, e, edges - 1 }, NULL), QN_OK);
    char *s = slurp();
    assert_int_equal(occurrences(s, "<path class=\"e\""), edges - 1);
    free(s);
}

static void refusals(void **state)
{
    (void)state;
    qn_error err = { 0 };
    qn_svg_node n[3] = { { "a", NULL, 0 }, { "b", NULL, 0 }, { "c", NULL, 0 } };
    const qn_svg_edge cycle[3] = { { 0, 1 }, { 1, 2 }, { 2, 1 } }, self[1] = { { 1, 1 } };
    const qn_svg_edge nowhere[1] = { { 0, 3 } };
    assert_int_equal(qn_svg_write(path, &(qn_svg_graph){ NULL, n, 3, cycle, 3 }, &err), QN_EUSAGE);
    assert_string_equal(err.text, "error E2204 graph: plot.graph: the edges form a cycle; expected none");
    assert_int_equal(qn_svg_write(path, &(qn_svg_graph){ NULL, n, 3, self, 1 }, &err), QN_EUSAGE);
    assert_int_equal(qn_svg_write(path, &(qn_svg_graph){ NULL, n, 3, nowhere, 1 }, &err), QN_EUSAGE);
    assert_string_equal(err.text, "error E2204 graph: plot.graph: edge 0: 0 -> 3; expected 0..2");
    assert_int_equal(qn_svg_write(path, &(qn_svg_graph){ NULL, n, 0, NULL, 0 }, &err), QN_EUSAGE);
    assert_int_equal(err.code, 2203);
    n[2].kind = 8;
    assert_int_equal(qn_svg_write(path, &(qn_svg_graph){ NULL, n, 3, NULL, 0 }, &err), QN_EUSAGE);
    assert_int_equal(err.code, 2204);
    n[2].kind = 0;
    assert_int_equal(qn_svg_write("/nowhere/at/all.svg", &(qn_svg_graph){ NULL, n, 3, NULL, 0 }, &err), QN_EIO);
    assert_int_equal(err.code, 6002);
    assert_int_not_equal(access(path, F_OK), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_graph),
        cmocka_unit_test(long_labels_are_cut),
        cmocka_unit_test(random_graphs),
        cmocka_unit_test(good_looks),
        cmocka_unit_test(sources_are_near_their_readers),
        cmocka_unit_test(large_graph),
        cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, make_dir, workdir_end);
}
