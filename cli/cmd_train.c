/* cmd_train.c - `quern train RECIPE`: a run from its recipe, new or continued. */
#include "training.h"
#include <dirent.h>
#include <stdlib.h>
#include <string.h>

/* The highest N of OUT/NAME-N; false if there is none. */
static bool latest_run(char *out, size_t size, const char *parent, const char *name)
{
    size_t length = strlen(name);
    int64_t best = 0, n;
    DIR *dir = opendir(parent);
    for (struct dirent *e; dir && (e = readdir(dir));)
        if (strncmp(e->d_name, name, length) == 0 && e->d_name[length] == '-' &&
            qn__parse_i64(e->d_name + length + 1, &n) && n > best)
            best = n;
    if (dir) closedir(dir);
    int written = snprintf(out, size, "%s/%s-%lld", parent, name, (long long)best);
    return best > 0 && written > 0 && (size_t)written < size;
}

static int resume_latest(const qn_recipe *r, const struct options *o)
{
    char dir[4096];
    const char *parent = o->out ? o->out : "runs";
    qn_error err;
    if (latest_run(dir, sizeof dir, parent, r->name)) return cli_train_recipe(NULL, o, dir, NULL, NULL, 0);
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
    if (o->folds > 0) return refused("--resume", "--folds; resume a fold's run by its directory");
    if (o->set.n > 0) return refused("--set", own);
    if (o->seed >= 0) return refused("--seed", own);
    if (o->out && o->resume.value) return refused("--out", "--resume=DIR; the run stays in its directory");
    return 0;
}

int cmd_train(int argc, char **argv)
{
    struct options o;
    qn_recipe *r = NULL;
    int code = cli_parse(&cli_train, argc, argv, &o);
    if (code >= 0) return code;
    code = check_options(&o);
    if (code || o.folds > 0) {
        if (!code) code = cli_train_folds(o.args.v[0], &o);
        cli_free(&o);
        return cli_finish(code);
    }
    code = cli_load_recipe(&r, o.args.v[0], &o);
    if (!code) code = cli_choose_device(&o, r->device, o.quiet);
    if (!code) {
        if (!o.resume.given)
            code = cli_train_recipe(r, &o, NULL, NULL, NULL, 0);
        else if (o.resume.value)
            code = cli_train_recipe(NULL, &o, o.resume.value, NULL, NULL, 0);
        else
            code = resume_latest(r, &o);
    }
    qn_recipe_free(r);
    cli_free(&o);
    return cli_finish(code);
}
