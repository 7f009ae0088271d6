/* test_memory.c - the bytes that a plan promises are the bytes that are asked for. The report of `quern plan`
 * (qn_plan_bytes) is made of the plan's own numbers; here nobody trusts them: every request of the store and of
 * qn_program_load is written down on its way to malloc, and Quern's own calls of malloc that go past qn_alloc are
 * counted by their return address. What is asked for must be, block by block, what was promised, plus the slack that
 * aligns a block's start and the list entries that hold the blocks, and nothing from the second step on. */
#include "../../core/store_impl.h"
#include "../../train/network.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* ---- requests that go past qn_alloc --------------------------------------------------------------------- */

static atomic_bool watching;
static atomic_long stray; /* calls of malloc and its kin by Quern's code, other than this test's own allocator */

#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__)
enum { SEES_STRAY = 1 };
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *ptr, size_t size);
extern const char __executable_start, etext; /* by the linker: this program, which Quern is linked into */

static void look_at(const void *caller)
{
    uintptr_t at = (uintptr_t)caller;
    if (watching && at >= (uintptr_t)&__executable_start && at < (uintptr_t)&etext) stray++;
}

QN_API void *malloc(size_t size)
{
    look_at(__builtin_return_address(0));
    return __libc_malloc(size);
}
QN_API void *calloc(size_t n, size_t size)
{
    look_at(__builtin_return_address(0));
    return __libc_calloc(n, size);
}
QN_API void *realloc(void *ptr, size_t size)
{
    look_at(__builtin_return_address(0));
    return __libc_realloc(ptr, size);
}
#define OWN_MALLOC __libc_malloc
#else
enum { SEES_STRAY = 0 };
#define OWN_MALLOC malloc
#endif

/* ---- requests through qn_alloc ----------------------------------------------------------------------------- */

enum { MOST = 64 };
struct ledger {
    bool open;
    int n;
    size_t asked[MOST]; /* bytes of each request since it was opened                       */
    size_t live;
    size_t left; /* while open: what may still be asked for; 0: as much as there is */
};

static void *write_down(void *user, void *ptr, size_t old_size, size_t new_size)
{
    struct ledger *l = user;
    if (l->open && l->left && new_size >= l->left) return NULL;
    if (l->open && l->left) l->left -= new_size;
    void *p = new_size ? OWN_MALLOC(new_size) : NULL;
    if (new_size && !p) return NULL;
    if (new_size && l->open) {
        assert_true(l->n < MOST);
        l->asked[l->n++] = new_size;
    }
    if (ptr && p) memcpy(p, ptr, old_size < new_size ? old_size : new_size);
    free(ptr);
    l->live += new_size;
    l->live -= ptr ? old_size : 0;
    return p;
}

/* A request of exactly this many bytes is struck off; false if there is none. */
static bool strike(struct ledger *l, size_t bytes)
{
    for (int i = 0; i < l->n; i++)
        if (l->asked[i] == bytes) {
            l->asked[i] = l->asked[--l->n];
            return true;
        }
    return false;
}

/* ---- a recipe's training program on that memory -------------------------------------------------------------- */

struct made {
    qn_recipe *recipe;
    qn_transform shape;
    qn_plan promise, own; /* by `quern plan`; and the same program with the ledger's memory */
};

static void promise(struct made *m, const char *path)
{
    qn_recipe_errors errs;
    qn_error err;
    memset(m, 0, sizeof *m);
    if (qn_recipe_load(&m->recipe, path, NULL, 0, &errs)) fail_msg("%s", errs.list[0].text);
    if (qn_data_shape(m->recipe, &m->shape, &err)) fail_msg("%s", err.text);
    if (qn_plan_open(&m->promise, m->recipe, &m->shape, 0, 2, &(qn_compile_opts){ .check_plan = true }, &err))
        fail_msg("%s", err.text);
}

static void compile(struct made *m, const qn_alloc *alloc)
{
    struct qn__network net;
    struct qn__runner r = { .mode = QN_MODE_TRAIN };
    qn_t keep[QN_RUNNER_KEEP];
    qn_error err;
    int64_t batch = m->recipe->batch;
    if (qn__network_open(&net, m->recipe, &m->shape, 1, "cpu", 2, &err)) fail_msg("%s", err.text);
    if (qn_store_new(&m->own.store, "cpu", 7, alloc, &err)) fail_msg("%s", err.text);
    assert_int_equal(qn_graph_new(&m->own.graph, alloc), QN_OK);
    qn_graph *g = m->own.graph;
    if (qn__model_build(g, m->recipe, &net.shape, batch, true, true, &r.nodes, &err)) fail_msg("%s", err.text);
    net.train.batch = batch;
    if (qn_train_build(g, r.nodes.loss, &net.train, &r.train)) fail_msg("%s", qn_graph_error(g)->text);
    if (qn_compile(&m->own.program, g, keep, qn__runner_keep(&r, keep), m->own.store,
                   &(qn_compile_opts){ .threads = 2 }, &err))
        fail_msg("%s", err.text);
    m->own.x = r.nodes.x;
    m->own.target = r.nodes.target;
    qn__network_close(&net);
}

static void discard(struct made *m)
{
    qn_plan_free(&m->promise);
    qn_plan_free(&m->own);
    qn_transform_free(&m->shape);
    qn_recipe_free(m->recipe);
}

static void step(qn_program *p)
{
    qn_error err;
    if (qn_program_run(p, QN_MICRO, &err) || qn_program_run(p, QN_UPDATE, &err)) fail_msg("%s", err.text);
}

/* Three blocks: the store's tensors, the work arena, inputs and results. Each is asked for with QN_ALIGN bytes more
 * than planned, so that a multiple of QN_ALIGN lies in it whatever malloc returns; the first two hang in the store's
 * list. */
static void check_blocks(struct ledger *l, const struct made *m)
{
    qn_bytes b = qn_program_bytes(m->promise.program);
    const struct {
        const char *what;
        size_t bytes;
    } block[] = {
        { "tensors of the store", b.params + b.buffers + b.state + b.grads },
        { "work arena", b.work },
        { "inputs and results", b.io },
    };
    size_t planned = 0, asked = 0;
    for (int i = 0; i < l->n; i++) asked += l->asked[i];
    for (int i = 0; i < 3; i++) {
        planned += block[i].bytes;
        if (!strike(l, block[i].bytes + QN_ALIGN))
            fail_msg("%s: %zu bytes promised and never asked for", block[i].what, block[i].bytes);
    }
    for (int i = 0; i < 2; i++)
        if (!strike(l, sizeof(struct qn__slab))) fail_msg("no list entry of a block; was the store not used?");
    if (l->n) fail_msg("%zu bytes asked for and promised nowhere", l->asked[0]);
    assert_int_equal(qn_plan_bytes(&m->promise), planned);
    assert_int_equal(asked, planned + 3 * QN_ALIGN + 2 * sizeof(struct qn__slab));
    print_message("  planned %zu bytes, asked for %zu: + 3 x %d to align, + 2 x %zu of list\n", planned, asked,
                  QN_ALIGN, sizeof(struct qn__slab));
}

static void asks_for_what_was_planned(void **state)
{
    struct ledger l = { .open = false };
    qn_alloc alloc = { write_down, &l };
    struct made m;
    qn_error err;
    print_message("%s\n", (const char *)*state);
    promise(&m, *state);
    compile(&m, &alloc);
    l.open = true;
    stray = 0;
    watching = true;
    if (qn_program_load(m.own.program, &err)) fail_msg("%s", err.text);
    watching = false;
    l.open = false;
    assert_int_equal(stray, 0);
    check_blocks(&l, &m);
    qn_plan_fill(&m.own);
    step(m.own.program); /* the first step may still allocate */
    l = (struct ledger){ .open = true, .live = l.live };
    watching = true;
    for (int i = 0; i < 2; i++) step(m.own.program);
    watching = false;
    assert_int_equal(l.n, 0);
    assert_int_equal(stray, 0);
    discard(&m);
    assert_int_equal(l.live, 0);
}

/* With exactly the promised memory a program loads and runs; with one byte less it is told, and nothing is kept. */
static void what_fits_runs(void **state)
{
    (void)state;
    for (int short_by = 0; short_by < 2; short_by++) {
        struct ledger l = { .open = false };
        qn_alloc alloc = { write_down, &l };
        struct made m;
        qn_error err = { 0 };
        promise(&m, "recipes/mlp-784-128.json");
        compile(&m, &alloc);
        size_t all = qn_plan_bytes(&m.promise) + 3 * QN_ALIGN + 2 * sizeof(struct qn__slab);
        l.left = all + 1 - (size_t)short_by; /* 0 stands for no limit, so one more than there is */
        l.open = true;
        qn_status status = qn_program_load(m.own.program, &err);
        l.open = false;
        assert_int_equal(status, short_by ? QN_EMEMORY : QN_OK);
        if (short_by) assert_int_equal(err.code, 5002);
        if (!short_by) {
            qn_plan_fill(&m.own);
            step(m.own.program);
        }
        discard(&m);
        assert_int_equal(l.live, 0);
    }
}

/* A counter that sees nothing proves nothing. */
static void the_counters_see(void **state)
{
    (void)state;
    struct ledger l = { .open = true };
    qn_alloc alloc = { write_down, &l };
    qn_graph *g;
    assert_int_equal(qn_graph_new(&g, &alloc), QN_OK);
    assert_true(l.n > 0 && l.live > 0);
    qn_graph_free(g);
    assert_int_equal(l.live, 0);
    stray = 0;
    watching = true;
    assert_int_equal(qn_graph_new(&g, NULL), QN_OK);
    watching = false;
    qn_graph_free(g);
    assert_int_equal(stray > 0, SEES_STRAY);
}

int main(void)
{
    char mlp[] = "recipes/mlp-784-128.json", cnn[] = "recipes/cnn-32-64-64.json", strong[] = "recipes/cnn-strong.json";
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_counters_see),
        cmocka_unit_test(what_fits_runs),
        { "mlp_asks_for_what_was_planned", asks_for_what_was_planned, NULL, NULL, mlp },
        { "cnn_asks_for_what_was_planned", asks_for_what_was_planned, NULL, NULL, cnn },
        { "strong_cnn_asks_for_what_was_planned", asks_for_what_was_planned, NULL, NULL, strong },
    };
    return cmocka_run_group_tests_name("memory", tests, NULL, NULL);
}
