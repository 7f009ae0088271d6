/* cmd_search.c - `quern search RECIPE --space FILE`: settings that are better than the recipe's. */
#include "training.h"
#include "../include/quern/search.h"
#include <dirent.h>
#include <string.h>

static void print_line(void *user, const char *line)
{
    const struct options *o = user;
    if (!o->quiet) fprintf(stderr, "%s\n", line);
}

static qn_search_method method_of(const char *name)
{
    if (name && strcmp(name, "grid") == 0) return QN_SEARCH_GRID;
    return name && strcmp(name, "halving") == 0 ? QN_SEARCH_HALVING : QN_SEARCH_RANDOM;
}

/* The highest N of OUT/NAME-search-N, NAME being the recipe's. */
static bool latest(char *out, size_t size, const char *parent, const char *name)
{
    char prefix[300];
    int64_t best = 0, n;
    snprintf(prefix, sizeof prefix, "%.200s-search-", name);
    DIR *dir = opendir(parent);
    for (struct dirent *e; dir && (e = readdir(dir));)
        if (strncmp(e->d_name, prefix, strlen(prefix)) == 0 && qn__parse_i64(e->d_name + strlen(prefix), &n) &&
            n > best)
            best = n;
    if (dir) closedir(dir);
    int written = snprintf(out, size, "%s/%s%lld", parent, prefix, (long long)best);
    return best > 0 && written > 0 && (size_t)written < size;
}

static int find_latest(char *out, size_t size, const struct options *o)
{
    qn_recipe *r;
    qn_error err;
    int code = cli_load_recipe(&r, o->args.v[0], o);
    if (code) return code;
    bool found = latest(out, size, o->out ? o->out : "runs", r->name);
    qn_recipe_free(r);
    if (found) return 0;
    qn__fail(&err, 2001, QN_AT_FIELD("--resume"), "no search of this recipe in %s; expected one, or --resume=DIR",
             qn__show(o->out ? o->out : "runs").s);
    return cli_fail(&err);
}

static void print_result(const qn_search_result *r)
{
    printf("search: %s\n%lld trials, %s on the validation part\n", r->dir, (long long)r->trials, r->metric);
    printf("recipe as it is: %.6g\n", r->value);
    if (r->best > 0)
        printf("best: %.6g, trial %lld, beats the recipe by %.3g\n%s\n", r->best_value, (long long)r->best,
               r->best_value > r->value ? r->best_value - r->value : r->value - r->best_value, r->settings);
    else
        printf("best: the recipe as it is\n");
}

static void print_json(const qn_search_result *r)
{
    char a[32], b[32];
    printf("{\"search\":");
    cli_json_text(r->dir);
    printf(",\"trials\":%lld,\"metric\":\"%s\",\"recipe_value\":%s,\"best_value\":%s,\"best_trial\":%lld,\"settings\":",
           (long long)r->trials, r->metric, r->value == r->value ? qn__format_f64(a, r->value) : "null",
           r->best_value == r->best_value ? qn__format_f64(b, r->best_value) : "null", (long long)r->best);
    cli_json_text(r->settings);
    printf("}\n");
}

static int search(const struct options *o, const char *resume)
{
    qn_search_result result;
    qn_recipe_errors errors;
    struct options shown = *o;
    qn_search_opts opts = { .recipe = o->args.v[0],
                            .space = o->space,
                            .sets = o->set.v,
                            .n_sets = o->set.n,
                            .method = method_of(o->method),
                            .trials = o->trials > 0 ? o->trials : 0,
                            .seed = o->seed > 0 ? (uint64_t)o->seed : 0,
                            .out = o->out,
                            .resume = resume,
                            .device = o->device,
                            .threads = o->threads > 0 ? (int)o->threads : 0,
                            .stop = cli_stop_flag(),
                            .report = print_line,
                            .user = &shown };
    qn_status status = qn_search_run(&opts, &result, &errors);
    if (status == QN_STOPPED)
        fprintf(stderr, "stopped: %lld trials are kept; go on with the same options and --resume=%s\n",
                (long long)result.trials, result.dir);
    else if (status)
        return cli_fail_recipe(&errors, o->space, status);
    else if (o->json)
        print_json(&result);
    else
        print_result(&result);
    return (int)status;
}

int cmd_search(int argc, char **argv)
{
    struct options o;
    char dir[4096];
    const char *resume = NULL;
    qn_error err;
    int code = cli_parse(&cli_search, argc, argv, &o);
    if (code >= 0) return code;
    code = 0;
    if (!o.space) {
        qn__fail(&err, 2001, QN_AT_FIELD("--space"), "missing; expected a file; see quern search --help");
        code = cli_fail(&err);
    }
    if (!code && o.device) code = cli_choose_device(&o, o.device, o.quiet);
    int64_t seed = o.seed;
    o.seed = -1; /* of the choice of settings, not the recipe's */
    if (!code && o.resume.given) {
        resume = o.resume.value ? o.resume.value : dir;
        if (!o.resume.value) code = find_latest(dir, sizeof dir, &o);
    }
    o.seed = seed;
    if (!code) code = search(&o, resume);
    cli_free(&o);
    return cli_finish(code);
}
