/* training.c - see training.h. */
#include "training.h"
#include "answers.h"
#include "../core/file.h"
#include "../include/quern/checkpoint.h"
#include <dirent.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- recipe and device ----------------------------------------------------------------------------------------- */

int cli_load_recipe(qn_recipe **out, const char *path, const struct options *o)
{
    char seed[48], epochs[48];
    const char **sets = calloc((size_t)o->set.n + 2, sizeof *sets);
    qn_recipe_errors errs;
    qn_error err;
    int n = o->set.n;
    if (!sets) {
        qn__nomem(&err, "--set", (size_t)n * sizeof *sets);
        return cli_fail(&err);
    }
    for (int i = 0; i < n; i++) sets[i] = o->set.v[i];
    snprintf(seed, sizeof seed, "seed=%lld", (long long)o->seed);
    snprintf(epochs, sizeof epochs, "epochs=%lld", (long long)o->epochs);
    if (o->seed >= 0) sets[n++] = seed;
    if (o->epochs >= 0) sets[n++] = epochs;
    qn_status status = qn_recipe_load(out, path, sets, n, &errs);
    free(sets);
    return status ? cli_fail_recipe(&errs, path, status) : 0;
}

/* What was found, of "error E7001 device: cuda: FOUND; expected ...". */
static void found_part(char *out, size_t size, const qn_error *why)
{
    const char *at = strstr(why->text, "device: ");
    at = at ? at + strlen("device: ") : why->text;
    if (strncmp(at, "cuda: ", 6) == 0) at += 6;
    snprintf(out, size, "%.*s", (int)strcspn(at, ";"), at);
}

/* Whether there is anything of a GPU here that somebody might have expected to be used: a plugin and a driver. */
static bool has_gpu_software(const qn_error *why) { return why->code != 7001 || !strstr(why->text, "not found"); }

/* 1 of "cuda:1". */
static int index_of(const char *device)
{
    int64_t i = 0;
    const char *colon = strchr(device, ':');
    return colon && qn__parse_i64(colon + 1, &i) ? (int)i : 0;
}

int cli_choose_device(struct options *o, const char *otherwise, bool quiet)
{
    const char *asked = o->device ? o->device : otherwise;
    qn_error why, err;
    char text[256];
    if (qn_device_choose(o->chosen, asked, &why, &err)) return cli_fail(&err);
    bool automatic = strcmp(asked, "auto") == 0, gpu = strcmp(o->chosen, "cpu") != 0;
    qn_device_info info;
    if (automatic && gpu && !quiet && !qn_device_gpu(&info, index_of(o->chosen), NULL))
        fprintf(stderr, "device: %s, %s\n", o->chosen, qn__show(info.name).s);
    found_part(text, sizeof text, &why);
    if (automatic && !gpu && !quiet && (o->device || has_gpu_software(&why)))
        fprintf(stderr, "device: cpu; no GPU: %s\n", text);
    o->device = o->chosen;
    return 0;
}

/* ---- signals ---------------------------------------------------------------------------------------------------- */

static volatile sig_atomic_t stop_asked;

static void on_signal(int number)
{
    if (stop_asked && number == SIGINT) _exit(130);
    stop_asked = 1;
}

const volatile sig_atomic_t *cli_stop_flag(void)
{
    static const int numbers[] = { SIGINT, SIGTERM, SIGUSR1, SIGHUP };
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    action.sa_flags = SA_RESTART;
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        struct sigaction old;
        bool ignored = sigaction(numbers[i], NULL, &old) == 0 && old.sa_handler == SIG_IGN; /* nohup, a shell's & */
        if (!ignored) sigaction(numbers[i], &action, NULL);
    }
    return &stop_asked;
}

/* ---- training ---------------------------------------------------------------------------------------------------- */

static void print_json(const qn_train_result *r, const char *dir)
{
    char loss[32], accuracy[32], valid[32];
    json_t *name = cli_text(dir);
    char *text = name ? json_dumps(name, JSON_ENCODE_ANY) : NULL;
    printf("{\"run\":%s,\"steps\":%lld,\"skipped\":%lld,\"seconds\":%.3f,\"first_step_seconds\":%.4f",
           text ? text : "null", (long long)r->steps, (long long)r->skipped, r->seconds, r->first_step_seconds);
    if (r->valid.count) printf(",\"valid_accuracy\":%s", qn__format_f64(valid, r->valid.accuracy));
    if (r->test.count)
        printf(",\"test_loss\":%s,\"test_accuracy\":%s", qn__format_f64(loss, r->test.loss),
               qn__format_f64(accuracy, r->test.accuracy));
    printf("}\n");
    free(text);
    json_decref(name);
}

/* The watched figure of a part: accuracy for classes, else the loss. */
static void print_part(const char *part, const qn_metrics_summary *m)
{
    if (m->count == 0) return;
    if (m->accuracy == m->accuracy)
        printf("%s accuracy: %.4f\n", part, m->accuracy);
    else
        printf("%s loss: %.6g\n", part, m->loss);
}

static void print_result(const qn_train_result *r, const char *dir)
{
    printf("run: %s\n", dir);
    printf("%lld steps in %.1f s, %.0f samples/s%s\n", (long long)r->steps, r->seconds, r->samples_per_second,
           r->stopped_early ? ", stopped early" : "");
    if (r->skipped) printf("%lld steps skipped: gradient not finite\n", (long long)r->skipped);
    if (r->valid.count && r->best_epoch) printf("best epoch: %lld\n", (long long)r->best_epoch);
    print_part("validation", &r->valid);
    print_part("test", &r->test);
}

/* Trains and tells of errors and stops; what came out is the caller's to print. */
static int train(const qn_recipe *r, const struct options *o, const char *resume, qn_train_result *result,
                 char *run_dir, size_t size)
{
    qn_trainer *t;
    qn_error err = { 0 };
    *run_dir = 0;
    qn_trainer_opts opts = { .out = o->out,
                             .resume = resume,
                             .epochs = resume && o->epochs > 0 ? o->epochs : 0,
                             .fd = STDERR_FILENO,
                             .quiet = o->quiet,
                             .device = o->device,
                             .threads = o->threads > 0 ? (int)o->threads : 0,
                             .tuning = o->tuning,
                             .profile = o->profile,
                             .check_finite = o->check_finite,
                             .stop = cli_stop_flag() };
    if (qn_trainer_open(&t, r, &opts, &err)) return cli_fail(&err);
    snprintf(run_dir, size, "%s", qn_trainer_run_dir(t));
    qn_status status = qn_trainer_run(t, result, &err);
    if (status == QN_STOPPED) {
        fprintf(stderr,
                "stopped: everything is saved; go on with --resume=%s (a second Ctrl-C would have ended at once)\n",
                qn_trainer_run_dir(t));
    } else if (status) {
        cli_fail(&err);
    } else if (o->profile) {
        cli_print_profile(qn_trainer_program(t), o->json ? stderr : stdout);
        fprintf(stderr, "trace of a few steps, for ui.perfetto.dev: %s/trace.json\n", qn_trainer_run_dir(t));
    }
    qn_trainer_free(t);
    return (int)status;
}

int cli_train_recipe(const qn_recipe *r, const struct options *o, const char *resume, qn_train_result *result,
                     char *run_dir, size_t size)
{
    qn_train_result local;
    char dir[4096];
    if (!result) result = &local;
    int code = train(r, o, resume, result, dir, sizeof dir);
    if (run_dir) snprintf(run_dir, size, "%s", dir);
    if (code) return code;
    if (o->json)
        print_json(result, dir);
    else
        print_result(result, dir);
    return 0;
}

int cli_train_silently(const qn_recipe *r, const struct options *o, const char *resume, qn_train_result *result,
                       char *run_dir, size_t size)
{
    return train(r, o, resume, result, run_dir, size);
}

/* ---- runs that are there ---------------------------------------------------------------------------------------- */

static bool has_recipe(const char *run, const char *recipe)
{
    char path[4200], *text;
    size_t n, length = strlen(recipe);
    qn_error err;
    int written = snprintf(path, sizeof path, "%s/recipe.json", run);
    if (written < 0 || (size_t)written >= sizeof path || qn__file_read_all(NULL, path, 1 << 26, &text, &n, &err))
        return false;
    bool same = n == length && memcmp(text, recipe, n) == 0;
    qn__free(NULL, text, n + 1);
    return same;
}

static bool has_checkpoint(const char *run)
{
    char path[4200];
    qn_checkpoint *ck;
    qn_error err;
    int written = snprintf(path, sizeof path, "%s/checkpoints", run);
    if (written < 0 || (size_t)written >= sizeof path) return false;
    if (qn_checkpoint_open_newest(&ck, path, NULL, NULL, NULL, &err)) return false;
    qn_checkpoint_close(ck);
    return true;
}

bool cli_find_run(char *out, size_t size, const char *parent, const char *name, const char *recipe)
{
    char path[4096];
    size_t length = strlen(name);
    int64_t best = 0, n;
    DIR *dir = opendir(parent);
    for (struct dirent *e; dir && (e = readdir(dir));) {
        if (strncmp(e->d_name, name, length) != 0 || e->d_name[length] != '-') continue;
        if (!qn__parse_i64(e->d_name + length + 1, &n) || n <= best) continue;
        int written = snprintf(path, sizeof path, "%s/%s", parent, e->d_name);
        if (written < 0 || (size_t)written >= sizeof path) continue;
        if (!recipe || (has_recipe(path, recipe) && has_checkpoint(path))) best = n;
    }
    if (dir) closedir(dir);
    int written = snprintf(out, size, "%s/%s-%lld", parent, name, (long long)best);
    return best > 0 && written > 0 && (size_t)written < size;
}
