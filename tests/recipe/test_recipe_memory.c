/* Every allocation of loading and writing a recipe fails once, then for ever (fault row B4): a status, one
 * error line, nothing leaked. malloc and its family are interposed, so jansson's calls fail too. */
#include "recipe_aid.h"
#include <stdatomic.h>

#if defined(__SANITIZE_ADDRESS__)
int main(void)
{
    print_message("# skip: the sanitizer has malloc for itself\n");
    return 0;
}
#else
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void __libc_free(void *p);

static atomic_long calls, alive;
static long fail_at; /* 0: never */
static bool for_ever, counting;

static bool fails(void)
{
    if (!counting) return false;
    long n = atomic_fetch_add(&calls, 1) + 1;
    return fail_at && (for_ever ? n >= fail_at : n == fail_at);
}

void *malloc(size_t n)
{
    if (fails()) return NULL;
    void *p = __libc_malloc(n);
    if (counting && p) atomic_fetch_add(&alive, 1);
    return p;
}

void *calloc(size_t n, size_t size)
{
    if (fails()) return NULL;
    void *p = __libc_calloc(n, size);
    if (counting && p) atomic_fetch_add(&alive, 1);
    return p;
}

void *realloc(void *old, size_t n)
{
    if (fails()) return NULL;
    void *p = __libc_realloc(old, n);
    if (counting && p && !old) atomic_fetch_add(&alive, 1);
    return p;
}

void free(void *p)
{
    if (counting && p) atomic_fetch_sub(&alive, 1);
    __libc_free(p);
}

/* One load and write with the fail_at-th call failing; whether it succeeded. */
static bool scenario(void)
{
    static const char *const set[] = { "optimizer.lr=0.5", "vars.width=3" };
    qn_recipe *r = NULL;
    char *text = NULL;
    qn_error err = { 0 };
    atomic_store(&calls, 0);
    atomic_store(&alive, 0);
    counting = true;
    qn_status status = qn_recipe_load(&r, "recipes/mlp-784-1024.json", set, 2, &errs);
    qn_status written = status ? QN_OK : qn_recipe_write(r, &text, NULL, &err);
    qn_recipe_free(r);
    free(text);
    counting = false;
    if (status) {
        if (status != QN_EMEMORY) print_error("call %ld: %s\n", fail_at, errs.list[0].text);
        assert_int_equal(status, QN_EMEMORY);
        assert_true(errs.count >= 1);
        assert_memory_equal(errs.list[0].text, "error E5002 memory: ", 20);
    }
    if (written) assert_int_equal(err.code, 5002);
    assert_int_equal(atomic_load(&alive), 0);
    return !status && !written;
}

static void every_allocation(void **state)
{
    (void)state;
    fail_at = 0;
    assert_true(scenario());
    long total = atomic_load(&calls);
    assert_true(total > 50);
    for (int mode = 0; mode < 2; mode++) {
        for_ever = mode == 1;
        int succeeded = 0;
        for (fail_at = 1; fail_at <= total; fail_at++) succeeded += scenario();
        assert_int_equal(succeeded, 0);
    }
    fail_at = 0;
    print_message("%ld allocations, each failing once and for ever\n", total);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(every_allocation) };
    return cmocka_run_group_tests_name("recipe memory", tests, NULL, NULL);
}
#endif
