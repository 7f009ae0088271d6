/* verify.c - `quern plan --verify`: what was planned against what a run does. */
#include "planning.h"
#include <string.h>

enum { STEPS = 3 };

static qn_status step(qn_plan *p, qn_error *err)
{
    QN_TRY(qn_program_run(p->program, QN_MICRO, err));
    return qn_program_run(p->program, QN_UPDATE, err);
}

struct seen {
    int64_t own, libraries;
}; /* allocations of the steps after the first */

/* Opens, loads and runs. */
static qn_status run_steps(qn_plan *p, const qn_recipe *r, const qn_transform *shape, const struct options *o,
                           const qn_compile_opts *opts, struct seen *seen, qn_error *err)
{
    QN_TRY(qn_plan_open(p, r, shape, o->batch > 0 ? o->batch : 0, o->threads > 0 ? (int)o->threads : 0, opts, err));
    cli_count_start();
    QN_TRY(qn_program_load(p->program, err));
    bool counts = cli_count_stop(&seen->libraries) > 0; /* loading allocates: a counter that sees nothing is blind */
    qn_plan_fill(p);
    QN_TRY(step(p, err));
    cli_count_start();
    qn_status status = QN_OK;
    for (int i = 1; i < STEPS && !status; i++) status = step(p, err);
    seen->own = cli_count_stop(&seen->libraries);
    if (!counts) seen->own = -1;
    return status;
}

static int64_t bytes_that_differ(const void *a, const void *b, size_t n)
{
    const unsigned char *p = a, *q = b;
    int64_t differ = 0;
    for (size_t i = 0; i < n; i++) differ += p[i] != q[i];
    return differ;
}

/* Every tensor of the store, and the loss. */
static int64_t difference(qn_plan *a, qn_plan *b)
{
    int64_t differ = bytes_that_differ(qn_program_data(a->program, a->loss), qn_program_data(b->program, b->loss),
                                       qn_dtype_size(qn_dtype_of(a->graph, a->loss)));
    for (int i = 0; i < qn_store_count(a->store); i++) {
        const qn_store_entry *x = qn_store_at(a->store, i), *y = qn_store_find(b->store, x->name);
        differ += y && y->bytes == x->bytes ? bytes_that_differ(x->data, y->data, x->bytes) : (int64_t)x->bytes;
    }
    return differ;
}

static qn_status broken(const char *what, int64_t found, qn_error *err)
{
    return qn__fail(err, 7070, QN_AT_FIELD("plan"), "%s: %lld; expected 0", what, (long long)found);
}

static void print_allocations(const struct seen *s)
{
    if (s->own < 0) {
        printf("allocations per step: not counted in this build\n");
        return;
    }
    printf("allocations per step: %lld\n", (long long)(s->own + STEPS - 2) / (STEPS - 1));
    printf("and within libraries, per step: %lld (oneDNN's lists of arguments and packing buffers, not planned)\n",
           (long long)(s->libraries + STEPS - 2) / (STEPS - 1));
}

static qn_status verify(qn_plan *planned, qn_plan *free_of_plan, const qn_recipe *r, const qn_transform *shape,
                        const struct options *o, qn_error *err)
{
    struct seen seen, unused;
    QN_TRY(run_steps(planned, r, shape, o, &(qn_compile_opts){ .check_plan = true }, &seen, err));
    QN_TRY(run_steps(free_of_plan, r, shape, o, &(qn_compile_opts){ .no_plan = true }, &unused, err));
    qn_bytes b = qn_program_bytes(planned->program);
    /* the work arena is the store's, which counts it: once is enough */
    size_t used = qn_program_used_bytes(planned->program) + qn_store_used_bytes(planned->store) - b.work;
    int64_t over = (int64_t)qn_plan_bytes(planned) - (int64_t)used, differ = difference(planned, free_of_plan);
    printf("\nverified by %d steps on made-up samples\n", STEPS);
    printf("planned %zu bytes, used %zu bytes\n", qn_plan_bytes(planned), used);
    printf("planned minus used: %lld bytes\n", (long long)over);
    print_allocations(&seen);
    printf("naive / planned: %.2f\n", b.work ? (double)b.naive / (double)b.work : 1);
    printf("differing bytes without plan: %lld\n", (long long)differ);
    if (over) return broken("planned minus used bytes", over, err);
    if (seen.own > 0) return broken("allocations", seen.own, err);
    return differ ? broken("differing bytes", differ, err) : QN_OK;
}

qn_status cli_verify_plan(const qn_recipe *recipe, const qn_transform *shape, const struct options *o, qn_error *err)
{
    qn_plan planned = { 0 }, free_of_plan = { 0 };
    qn_status status = verify(&planned, &free_of_plan, recipe, shape, o, err);
    qn_plan_free(&planned);
    qn_plan_free(&free_of_plan);
    return status;
}
