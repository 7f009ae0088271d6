/* cmd_schema.c - `quern schema [RECIPE]`: what a recipe may contain, and what a given one means. */
#include "cli.h"
#include <stdlib.h>

static int print_recipe(const char *path, const struct options *o)
{
    qn_recipe *r;
    qn_recipe_errors errs;
    qn_error err;
    char *text;
    qn_status status = qn_recipe_load(&r, path, o->set.v, o->set.n, &errs);
    if (status) return cli_fail_recipe(&errs, path, status);
    status = qn_recipe_write(r, &text, NULL, &err);
    qn_recipe_free(r);
    if (status) return cli_fail(&err);
    fputs(text, stdout);
    free(text);
    return cli_finish(0);
}

static int print_schema(qn_schema_form form)
{
    char *text;
    qn_error err;
    if (qn_recipe_schema(form, &text, &err)) return cli_fail(&err);
    fputs(text, stdout);
    free(text);
    return cli_finish(0);
}

int cmd_schema(int argc, char **argv)
{
    struct options o;
    int code = cli_parse(&cli_schema, argc, argv, &o);
    if (code >= 0) return code;
    if (o.args.n)
        code = print_recipe(o.args.v[0], &o);
    else
        code = print_schema(o.markdown ? QN_SCHEMA_MARKDOWN : o.json ? QN_SCHEMA_JSON : QN_SCHEMA_TEXT);
    cli_free(&o);
    return code;
}
