/* cmd_train.c - `quern train RECIPE`: a run from its recipe, new or continued. */
#include "training.h"
#include <stdlib.h>
#include <string.h>

static int resume_latest(const qn_recipe *r, const struct options *o)
{
    char dir[4096];
    const char *parent = o->out ? o->out : "runs";
    qn_error err;
    if (cli_find_run(dir, sizeof dir, parent, r->name, NULL)) return cli_train_recipe(NULL, o, dir, NULL, NULL, 0);
    qn__fail(&err, 2001, QN_AT_FIELD("--resume"), "no run of %s in %s; expected one, or --resume=DIR",
             qn__show(r->name).s, qn__show(parent).s);
    return cli_fail(&err);
}

static int refused(const char *option, const char *why)
{
    qn_error err;
    qn__fail(&err, 2001, QN_AT_FIELD(option), "does not go with %s", why);
    return cli_fail(&err);
}

/* A run that goes on has its recipe; what would change it is refused rather than ignored. */
static int check_options(const struct options *o)
{
    static const char own[] = "--resume; the run goes on with its own recipe";
    if (!o->resume.given) return 0;
    if (o->folds > 0 && o->resume.value)
        return refused("--resume=DIR", "--folds; expected --resume alone, or DIR of one fold's run without --folds");
    if (o->folds > 0) return 0; /* the runs are found by the recipe that --set and --seed make */
    if (o->set.n > 0) return refused("--set", own);
    if (o->seed >= 0) return refused("--seed", own);
    if (o->out && o->resume.value) return refused("--out", "--resume=DIR; the run stays in its directory");
    return 0;
}

/* RECIPE is only a name for the run here; that of another network is a mistake, and none at all will do. */
static int resume_named(const qn_recipe *r, struct options *o)
{
    char path[4096];
    qn_recipe_errors errors;
    qn_recipe *own = NULL;
    qn_error err;
    const char *dir = o->resume.value;
    int n = snprintf(path, sizeof path, "%s/recipe.json", dir), code = 0;
    if (n > 0 && (size_t)n < sizeof path) (void)!qn_recipe_load(&own, path, NULL, 0, &errors);
    if (r && own && strcmp(r->name, own->name) != 0) {
        qn__fail(&err, 2001, QN_AT_FIELD("--resume"),
                 "%s is a run of %s; expected one of %s, or its own RECIPE or none", qn__show(dir).s,
                 qn__show(own->name).s, qn__show(r->name).s);
        code = cli_fail(&err);
    }
    if (!code) code = cli_choose_device(o, own ? own->device : r ? r->device : "auto", o->quiet);
    if (!code) code = cli_train_recipe(NULL, o, dir, NULL, NULL, 0);
    qn_recipe_free(own);
    return code;
}

static int missing_recipe(void)
{
    qn_error err;
    qn__fail(&err, 2001, QN_AT_FIELD("RECIPE"), "missing; expected RECIPE; see quern train --help");
    return cli_fail(&err);
}

int cmd_train(int argc, char **argv)
{
    struct options o;
    qn_recipe *r = NULL;
    int code = cli_parse(&cli_train, argc, argv, &o);
    if (code >= 0) return code;
    code = o.args.n == 0 && !o.resume.value ? missing_recipe() : check_options(&o);
    if (code || o.folds > 0) {
        if (!code) code = cli_train_folds(o.args.v[0], &o);
        cli_free(&o);
        return cli_finish(code);
    }
    if (o.args.n > 0) code = cli_load_recipe(&r, o.args.v[0], &o);
    if (!code && o.resume.value) {
        code = resume_named(r, &o);
    } else if (!code) {
        code = cli_choose_device(&o, r->device, o.quiet);
        if (!code) code = o.resume.given ? resume_latest(r, &o) : cli_train_recipe(r, &o, NULL, NULL, NULL, 0);
    }
    qn_recipe_free(r);
    cli_free(&o);
    return cli_finish(code);
}
