/* recipe_aid.h - what the tests of recipes share. */
#ifndef QN_TESTS_RECIPE_AID_H
#define QN_TESTS_RECIPE_AID_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "../../core/base.h"
#include "../../include/quern/recipe.h"

#define HEAD "{\"quern\": 1, \"data\": {\"digits\": 100, \"validation\": 0.1}, "
#define MODEL "\"model\": [{\"linear\": 10}]"

static qn_recipe_errors errs;

/* Parses a text as "r.json" with one --set (or NULL); the recipe, or NULL with errs filled. */
static qn_recipe *parse_set(const char *text, const char *set)
{
    qn_recipe *r;
    qn_status status = qn_recipe_parse(&r, "r.json", text, strlen(text), &set, set != NULL, &errs);
    assert_true((status == QN_OK) == (r != NULL));
    assert_true((status == QN_OK) == (errs.count == 0));
    for (int i = 0; i < errs.kept; i++) assert_true(strlen(errs.list[i].text) <= 400);
    if (status && status != QN_EMEMORY) assert_int_equal(status, QN_EUSAGE);
    return r;
}

static inline qn_recipe *good_set(const char *text, const char *set)
{
    qn_recipe *r = parse_set(text, set);
    for (int i = 0; i < errs.kept; i++) print_error("%s\n", errs.list[i].text);
    assert_non_null(r);
    return r;
}

/* The only error is this line. */
static inline void bad_set(const char *text, const char *set, const char *line)
{
    assert_null(parse_set(text, set));
    for (int i = 1; i < errs.kept; i++) print_error("besides: %s\n", errs.list[i].text);
    assert_string_equal(errs.list[0].text, line);
    assert_int_equal(errs.count, 1);
}
#endif
