/* fuzz_recipe.c - any text as a recipe, with a --set after a line "--set"; what loads must write, and
 * what is written must load and write the same again. fuzz: runs 20000 */
#include "../../core/base.h"
#include "../../include/quern/recipe.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool good)
{
    if (!good) abort(); /* libFuzzer reports the input */
}

static void round_trip(const qn_recipe *r)
{
    char *first, *second;
    size_t bytes;
    qn_recipe *again;
    static qn_recipe_errors errs;
    if (qn_recipe_write(r, &first, &bytes, NULL)) return;
    check(bytes > QN_RECIPE_BYTES || qn_recipe_parse(&again, "again.json", first, bytes, NULL, 0, &errs) == QN_OK);
    if (bytes <= QN_RECIPE_BYTES) {
        check(qn_recipe_write(again, &second, NULL, NULL) == QN_OK && strcmp(first, second) == 0);
        free(second);
        qn_recipe_free(again);
    }
    free(first);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static qn_recipe_errors errs;
    char *text = malloc(size + 1);
    if (!text) return 0;
    if (size) memcpy(text, data, size);
    text[size] = 0;
    char *set = strstr(text, "\n--set\n");
    const char *sets[] = { set ? set + 7 : "" };
    qn_recipe *r;
    qn_status status = qn_recipe_parse(&r, "fuzz.json", text, set ? (size_t)(set - text) : size, sets, set != NULL,
                                       &errs);
    check((status == QN_OK) == (r != NULL) && (status == QN_OK) == (errs.count == 0));
    for (int i = 0; i < errs.kept; i++) check(strncmp(errs.list[i].text, "error E", 7) == 0);
    if (r) round_trip(r);
    qn_recipe_free(r);
    free(text);
    return 0;
}
