/* cmd_tune.c - `quern tune RECIPE`: times a GPU's algorithms and writes the lock file of the fastest. */
#include "training.h"
#include "../include/quern/plan.h"
#include "../include/quern/tuning.h"
#include <string.h>

enum { LAUNCHES = 20 };

static void print_choice(const qn_tuning_choice *c)
{
    printf("%9.1f us of %9.1f, %2d tried  %s\n    %s, %zu bytes of workspace\n", c->seconds * 1e6, c->first * 1e6,
           c->tried, c->what, c->algorithm, c->workspace);
}

static void print_json(const qn_tuning_choice *c)
{
    char seconds[32], first[32];
    printf("{\"what\":");
    cli_json_text(c->what);
    printf(",\"algorithm\":");
    cli_json_text(c->algorithm);
    printf(",\"workspace\":%zu,\"seconds\":%s,\"first\":%s,\"tried\":%d}\n", c->workspace,
           qn__format_f64(seconds, c->seconds), qn__format_f64(first, c->first), c->tried);
}

static void print(const qn_tuning *t, const struct options *o, const char *path)
{
    if (!o->json) printf("%s\n", qn_tuning_of(t));
    for (int i = 0; i < qn_tuning_count(t); i++) {
        qn_tuning_choice c = qn_tuning_at(t, i);
        if (o->json)
            print_json(&c);
        else
            print_choice(&c);
    }
    if (!o->json)
        printf("%d choices in %s; the second time is that of what is taken without it\n", qn_tuning_count(t), path);
}

static qn_status tune(const qn_recipe *r, const struct options *o, qn_plan *plan, qn_tuning **t, qn_error *err)
{
    qn_transform shape = { .rank = 0 };
    qn_compile_opts opts = { .device = o->device };
    qn_status status = qn_data_shape(r, &shape, err);
    if (!status)
        status = qn_plan_open(plan, r, &shape, o->batch > 0 ? o->batch : 0, o->threads > 0 ? (int)o->threads : 0, &opts,
                              err);
    if (!status) status = qn_program_load(plan->program, err);
    if (!status) qn_plan_fill(plan);
    if (!status) status = qn_tune(t, plan->program, o->trials > 0 ? (int)o->trials : LAUNCHES, err);
    qn_transform_free(&shape);
    return status;
}

static int run(const qn_recipe *r, const struct options *o)
{
    const char *path = o->out ? o->out : "tuning.lock";
    qn_plan plan = { .graph = NULL };
    qn_tuning *t = NULL;
    qn_error err = { 0 };
    qn_status status = tune(r, o, &plan, &t, &err);
    if (!status) status = qn_tuning_save(t, path, &err);
    int code = status ? cli_fail(&err) : 0;
    if (!code) print(t, o, path);
    qn_tuning_free(t);
    qn_plan_free(&plan);
    return code;
}

/* On the CPU there is nothing to choose: asked for or chosen, it is refused. */
static int choose_gpu(struct options *o)
{
    qn_error err;
    int code = cli_choose_device(o, "cuda", true);
    if (code || strcmp(o->device, "cpu") != 0) return code;
    qn__fail(&err, 2001, QN_AT_FIELD("--device"),
             "cpu; expected a GPU: only its libraries have algorithms to choose from");
    return cli_fail(&err);
}

int cmd_tune(int argc, char **argv)
{
    struct options o;
    qn_recipe *r = NULL;
    int code = cli_parse(&cli_tune, argc, argv, &o);
    if (code >= 0) return code;
    code = cli_load_recipe(&r, o.args.v[0], &o);
    if (!code) code = choose_gpu(&o);
    if (!code) code = run(r, &o);
    qn_recipe_free(r);
    cli_free(&o);
    return cli_finish(code);
}
