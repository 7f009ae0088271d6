/* test_torture.c - fault row B4: every allocation that goes through qn_alloc fails in turn, once and for ever, while a
 * training step is built, differentiated, compiled, loaded and run. Each time: a status that says so (E5002), nothing
 * leaked, no crash. And what a step must not do: allocate, or use other bytes than were planned. */
#include "../../include/quern/layers.h"
#include "../../include/quern/optim.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

struct hostile {
    long calls, fail_at; /* fail_at < 0: never */
    bool for_ever;
    long live;
};

static void *hostile_realloc(void *user, void *ptr, size_t old_size, size_t new_size)
{
    struct hostile *h = user;
    if (new_size == 0) {
        h->live -= ptr != NULL;
        free(ptr);
        return NULL;
    }
    long call = h->calls++;
    if (h->fail_at >= 0 && (call == h->fail_at || (h->for_ever && call > h->fail_at))) return NULL;
    void *p = malloc(new_size); /* always moves, to catch stale pointers */
    if (!p) return NULL;
    if (ptr) {
        memcpy(p, ptr, old_size < new_size ? old_size : new_size);
        free(ptr);
    } else {
        h->live++;
    }
    return p;
}

struct built {
    qn_graph *g;
    qn_store *s;
    qn_program *p;
    qn_t x, t, keep[4];
    int n_keep;
};

/* conv-bn-relu-pool-linear with dropout and AdamW. */
static qn_status build(struct built *b, struct hostile *h, const qn_compile_opts *opts, qn_error *err)
{
    qn_alloc alloc = { hostile_realloc, h };
    qn_train_nodes nodes;
    memset(b, 0, sizeof *b);
    if (qn_graph_new(&b->g, &alloc)) return QN_EMEMORY;
    b->x = qn_input(b->g, "x", QN_F32, 4, (int64_t[]){ 8, 3, 12, 12 });
    b->t = qn_input(b->g, "t", QN_I32, 1, (int64_t[]){ 8 });
    qn_t y = qn_conv(b->g, "conv", b->x, 16, (int64_t[]){ 3, 3 }, NULL);
    y = qn_relu(b->g, qn_norm_batch(b->g, "bn", y, true, NULL));
    y = qn_flatten(b->g, qn_max_pool2d(b->g, y, &(qn_pool2d_opts){ .window = { 2, 2 } }));
    y = qn_linear(b->g, "fc", qn_dropout(b->g, y, qn_rng(b->g), 0.25, "drop"), 10, NULL);
    qn_t loss = qn_cross_entropy(b->g, y, b->t, NULL);
    qn_train_opts o = { .optimizer = { .kind = QN_OPTIMIZER_ADAMW, .lr = 1e-3, .betas = { 0.9, 0.999 }, .eps = 1e-8 },
                        .schedule = { .gamma = 1, .total = 10 },
                        .batch = 8 };
    qn_status status = qn_train_build(b->g, loss, &o, &nodes);
    if (status) {
        *err = *qn_graph_error(b->g);
        return status;
    }
    b->keep[b->n_keep++] = nodes.loss;
    b->keep[b->n_keep++] = y;
    status = qn_store_new(&b->s, "cpu", 7, &alloc, err);
    if (!status) status = qn_compile(&b->p, b->g, b->keep, b->n_keep, b->s, opts, err);
    if (!status) status = qn_program_load(b->p, err);
    return status;
}

static void discard(struct built *b)
{
    qn_program_free(b->p);
    qn_store_free(b->s);
    qn_graph_free(b->g);
}

static void fill(struct built *b)
{
    float *x = qn_program_data(b->p, b->x);
    int32_t *t = qn_program_data(b->p, b->t);
    for (int i = 0; i < 8 * 3 * 144; i++) x[i] = (float)((i * 2654435761u >> 8) % 2001) / 1000.0f - 1;
    for (int i = 0; i < 8; i++) t[i] = i;
}

static void each_allocation_fails(void **state)
{
    (void)state;
    int sites = 0;
    for (int for_ever = 0; for_ever < 2; for_ever++) {
        for (long k = 0;; k++) {
            struct hostile h = { .fail_at = k, .for_ever = for_ever };
            struct built b;
            qn_error err = { 0 };
            qn_status status = build(&b, &h, &(qn_compile_opts){ .threads = 1 }, &err);
            bool reached = h.calls > k;
            discard(&b);
            assert_int_equal(h.live, 0);
            if (!reached) {
                assert_int_equal(status, QN_OK);
                break;
            }
            assert_int_equal(status, QN_EMEMORY);
            sites++;
        }
    }
    print_message("%d failed allocations, all reported, none leaked\n", sites);
    assert_true(sites > 100);
}

static void a_step_allocates_nothing(void **state)
{
    (void)state;
    struct hostile h = { .fail_at = -1 };
    struct built b;
    qn_error err = { 0 };
    assert_int_equal(build(&b, &h, &(qn_compile_opts){ .threads = 2, .check_plan = true }, &err), QN_OK);
    fill(&b);
    long before = h.calls;
    for (int i = 0; i < 20; i++) {
        assert_int_equal(qn_program_run(b.p, QN_MICRO, &err), QN_OK);
        assert_int_equal(qn_program_run(b.p, QN_UPDATE, &err), QN_OK);
    }
    assert_int_equal(h.calls, before);
    qn_bytes bytes = qn_program_bytes(b.p);
    assert_int_equal(qn_program_used_bytes(b.p), bytes.io + bytes.work);
    discard(&b);
    assert_int_equal(h.live, 0);
}

/* Losses and every weight after five steps, with or without a plan. */
static void run_five(const qn_compile_opts *opts, float *loss, float *weights, size_t room)
{
    struct hostile h = { .fail_at = -1 };
    struct built b;
    qn_error err = { 0 };
    assert_int_equal(build(&b, &h, opts, &err), QN_OK);
    fill(&b);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(qn_program_run(b.p, QN_MICRO, &err), QN_OK);
        loss[i] = *(float *)qn_program_data(b.p, b.keep[0]);
        assert_int_equal(qn_program_run(b.p, QN_UPDATE, &err), QN_OK);
    }
    const qn_store_entry *w = qn_store_find(b.s, "fc.weight");
    assert_non_null(w);
    assert_true(w->bytes <= room);
    memcpy(weights, w->data, w->bytes);
    discard(&b);
}

static void the_plan_changes_no_bit(void **state)
{
    (void)state;
    static float w[2][10 * 16 * 25], loss[2][5];
    run_five(&(qn_compile_opts){ .threads = 2 }, loss[0], w[0], sizeof w[0]);
    run_five(&(qn_compile_opts){ .threads = 2, .no_plan = true }, loss[1], w[1], sizeof w[1]);
    assert_memory_equal(loss[0], loss[1], sizeof loss[0]);
    assert_memory_equal(w[0], w[1], sizeof w[0]);
    assert_true(loss[0][4] < loss[0][0]); /* and it learns: not two equal rows of nonsense */
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(each_allocation_fails),
                                        cmocka_unit_test(a_step_allocates_nothing),
                                        cmocka_unit_test(the_plan_changes_no_bit) };
    return cmocka_run_group_tests_name("torture", tests, NULL, NULL);
}
