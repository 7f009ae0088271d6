/* Every truncation and every flipped bit of a recipe that uses everything: it loads or it does not, with
 * error lines; and what loads can be written and loaded again. */
#include "recipe_aid.h"

static char *seed;
static size_t bytes;

static int read_seed(void **state)
{
    (void)state;
    FILE *f = fopen("tests/fuzz/seeds/recipe/all.json", "r");
    if (!f) return -1;
    seed = calloc(4097, 1);
    if (!seed) return -1;
    bytes = fread(seed, 1, 4096, f);
    fclose(f);
    char *set = strstr(seed, "\n--set\n"); /* a --set for the fuzzer stands behind the recipe */
    if (set) bytes = (size_t)(set - seed);
    return 0;
}

static int free_seed(void **state)
{
    (void)state;
    free(seed);
    return 0;
}

/* From a block of exactly n bytes, so that a sanitizer sees a byte read past the end. */
static bool loads(const char *text, size_t n)
{
    qn_recipe *r, *again;
    char *copy = malloc(n ? n : 1), *written;
    size_t length;
    assert_non_null(copy);
    memcpy(copy, text, n);
    qn_status status = qn_recipe_parse(&r, "d.json", copy, n, NULL, 0, &errs);
    free(copy);
    assert_true(status == QN_OK || status == QN_EUSAGE);
    assert_true((status == QN_OK) == (errs.count == 0));
    for (int i = 0; i < errs.kept; i++) {
        assert_memory_equal(errs.list[i].text, "error E21", 9);
        assert_null(strchr(errs.list[i].text, '\n'));
    }
    if (status) return false;
    assert_int_equal(qn_recipe_write(r, &written, &length, NULL), QN_OK);
    qn_recipe_free(r);
    assert_int_equal(qn_recipe_parse(&again, "d.json", written, length, NULL, 0, &errs), QN_OK);
    qn_recipe_free(again);
    free(written);
    return true;
}

static void every_truncation(void **state)
{
    (void)state;
    assert_true(loads(seed, bytes));
    for (size_t n = 0; n < bytes; n++) assert_false(loads(seed, n) && n + 2 < bytes);
}

static void every_flipped_bit(void **state)
{
    (void)state;
    int good = 0, bad = 0;
    for (size_t i = 0; i < bytes; i++)
        for (int bit = 0; bit < 8; bit++) {
            seed[i] = (char)(seed[i] ^ (1 << bit));
            if (loads(seed, bytes))
                good++;
            else
                bad++;
            seed[i] = (char)(seed[i] ^ (1 << bit));
        }
    print_message("%d of %d damaged recipes are still recipes\n", good, good + bad);
    assert_true(bad > good); /* most bits matter */
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(every_truncation), cmocka_unit_test(every_flipped_bit) };
    return cmocka_run_group_tests_name("recipe damage", tests, read_seed, free_seed);
}
