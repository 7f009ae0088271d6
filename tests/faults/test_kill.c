/* test_kill.c - fault row D3 inside training: a run is ended by SIGKILL after each system call of two saves
 * in its middle (a checkpoint of steps, with the removal of the oldest; the best one, replaced, and the last). Which
 * checkpoint is the newest then is known beforehand: the highest step whose rename was done. The run must go on from
 * that one, to the same bytes and the same log as a run that nobody killed, and leave nothing half made. The same
 * with that checkpoint damaged: it goes on from the one before. run-tests: timeout 300 */
#include "../io/interpose.h"
#include "../../include/quern/checkpoint.h"
#include "../../include/quern/train.h"
#include "../lib/workdir.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <dirent.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

/* 40 training samples in batches of 10: saves after step 3, 4 (end of epoch, best), 6 and 8 (the same). */
static const char recipe_text[] =
    "{\"quern\": 1, \"name\": \"kill\", \"data\": {\"digits\": 50, \"validation\": 0.2, \"workers\": 0}, \"augment\": "
    "{\"flip\": 0.5}, \"model\": [{\"linear\": 8}, {\"batch_norm\": true, \"activation\": \"relu\"}, {\"dropout\": "
    "0.3}, {\"linear\": 10}], \"optimizer\": {\"name\": \"adamw\", \"lr\": 0.01}, \"ema\": {\"decay\": 0.9}, "
    "\"batch\": 10, \"epochs\": 2, \"seed\": 11, \"log\": {\"every_steps\": 1}, \"early_stopping\": {\"metric\": "
    "\"loss\"}, \"checkpoint\": {\"every_steps\": 3, \"keep\": 2}}";
enum { MOST = 4000, PATH = 150 };

/* ---- the calls of a run ------------------------------------------------------------------------- */

struct seen {
    int n; /* calls so far */
    struct {
        char name[16], path[64];
        int step;
    } at[MOST]; /* step: what this rename committed; 0: none */
};
static struct seen *seen; /* shared with the child that runs */
static struct seen whole; /* the run that nobody kills       */
static int kill_after;    /* number of a call, from 1; 0: never */

static bool is_commit(const struct call *c, int *step)
{
    bool renames = strncmp(c->name, "renameat", 8) == 0 && c->path2 && strncmp(c->path2, "step-", 5) == 0;
    if (renames) *step = atoi(c->path2 + 5);
    return renames;
}

static int before(struct call *c)
{
    int i = seen->n++;
    if (i < MOST) {
        const char *path = c->path2 ? c->path2 : c->path ? c->path : "";
        snprintf(seen->at[i].name, sizeof seen->at[i].name, "%s", c->name);
        snprintf(seen->at[i].path, sizeof seen->at[i].path, "%.63s", path);
        seen->at[i].step = 0;
        is_commit(c, &seen->at[i].step);
    }
    return 0;
}

static void after(const struct call *c)
{
    (void)c;
    if (seen->n == kill_after) kill(getpid(), SIGKILL);
}

/* ---- runs, each in a process of its own ------------------------------------------------------------ */

static qn_status train(const char *out, const char *resume, qn_error *err)
{
    qn_recipe *r = NULL;
    qn_recipe_errors errs;
    qn_trainer *t;
    qn_train_result result;
    qn_trainer_opts opts = { .out = out, .resume = resume, .fd = -1, .threads = 1 };
    if (!resume && qn_recipe_parse(&r, "kill.json", recipe_text, strlen(recipe_text), NULL, 0, &errs)) {
        *err = errs.list[0];
        return QN_EUSAGE;
    }
    qn_status status = qn_trainer_open(&t, r, &opts, err);
    if (!status) status = qn_trainer_run(t, &result, err);
    if (!status) qn_trainer_free(t);
    qn_recipe_free(r);
    return status;
}

/* True if it ended well, false if it was killed after call `at`. */
static bool run(const char *out, const char *resume, int at)
{
    int how;
    seen->n = 0;
    pid_t child = fork();
    if (child == 0) {
        qn_error err = { 0 };
        kill_after = at;
        before_call = before;
        after_call = after;
        qn_status status = train(out, resume, &err);
        if (status) fprintf(stderr, "%s\n", err.text);
        _exit((int)status);
    }
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_true(WIFSIGNALED(how) ? WTERMSIG(how) == SIGKILL : WEXITSTATUS(how) == 0);
    return WIFEXITED(how);
}

static char *read_file(const char *dir, const char *name, size_t *size)
{
    char path[2 * PATH];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "rb");
    if (!f) fail_msg("%s cannot be read", path);
    char *text = calloc(1, 1 << 20);
    size_t n = fread(text, 1, (1 << 20) - 1, f);
    fclose(f);
    if (size) *size = n;
    return text;
}

/* What a run left: the bytes of the last and of the best checkpoint, and the log without times and resumptions. */
struct end {
    char *file[3], *log;
    size_t size[3];
};
static struct end good; /* of the run that nobody kills */

static void strip_log(char *text)
{
    char *to = text;
    for (char *line = text, *next; *line; line = next) {
        next = strchr(line, '\n');
        next = next ? next + 1 : line + strlen(line);
        if (strncmp(line, "{\"event\":\"resume\"", 17) == 0) continue;
        char *seconds = strstr(line, ",\"seconds\":");
        size_t n = seconds && seconds < next ? (size_t)(seconds - line) : (size_t)(next - line);
        memmove(to, line, n);
        to += n;
    }
    *to = 0;
}

static struct end end_of(const char *dir)
{
    static const char *const names[] = { "checkpoints/step-000008/model.safetensors",
                                         "checkpoints/step-000008/state.safetensors",
                                         "checkpoints/best/model.safetensors" };
    struct end e;
    for (int i = 0; i < 3; i++) e.file[i] = read_file(dir, names[i], &e.size[i]);
    e.log = read_file(dir, "log.jsonl", NULL);
    strip_log(e.log);
    return e;
}

static void release(struct end *e)
{
    for (int i = 0; i < 3; i++) free(e->file[i]);
    free(e->log);
}

static void expect_same(const struct end *b, const char *what)
{
    const struct end *a = &good;
    for (int i = 0; i < 3; i++)
        if (a->size[i] != b->size[i] || memcmp(a->file[i], b->file[i], a->size[i]) != 0)
            fail_msg("%s: another end", what);
    if (strcmp(a->log, b->log) != 0) fail_msg("%s: another log:\n%s\nexpected:\n%s", what, b->log, a->log);
}

/* No name in the checkpoints' directory begins with a dot. */
static void expect_tidy(const char *dir, const char *what)
{
    char path[2 * PATH];
    snprintf(path, sizeof path, "%s/checkpoints", dir);
    DIR *d = opendir(path);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));)
        if (e->d_name[0] == '.' && strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            fail_msg("%s: %s is left", what, e->d_name);
    closedir(d);
}

static int64_t newest(const char *dir)
{
    char path[2 * PATH];
    qn_checkpoint *ck;
    qn_error err;
    snprintf(path, sizeof path, "%s/checkpoints", dir);
    if (qn_checkpoint_open_newest(&ck, path, NULL, NULL, NULL, &err)) fail_msg("%s", err.text);
    int64_t step = qn_checkpoint_step(ck);
    qn_checkpoint_close(ck);
    return step;
}

/* The step that the log says the run went on from; -1: it does not. */
static int64_t resumed_from(const char *dir)
{
    char *log = read_file(dir, "log.jsonl", NULL), *line = strstr(log, "{\"event\":\"resume\",\"from\":");
    int64_t step = line ? atoll(line + strlen("{\"event\":\"resume\",\"from\":")) : -1;
    free(log);
    return step;
}

static void damage(const char *dir, int64_t step)
{
    char path[2 * PATH];
    snprintf(path, sizeof path, "%s/checkpoints/step-%06lld/state.safetensors", dir, (long long)step);
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    fseek(f, -5, SEEK_END);
    int c = fgetc(f);
    fseek(f, -5, SEEK_END);
    fputc(c ^ 4, f);
    fclose(f);
}

/* ---- the test ------------------------------------------------------------------------------------------ */

/* Kills after call k, resumes, compares. With `hurt` the newest checkpoint is damaged in between, and the one before it
 * must be there and be taken. */
static void kill_once(int k, bool hurt, int64_t expected)
{
    char out[PATH], dir[PATH], what[200];
    snprintf(out, sizeof out, "%s/at", workdir);
    snprintf(dir, sizeof dir, "%s/at/kill-1", workdir);
    snprintf(what, sizeof what, "killed after call %d, %s %s%s", k, whole.at[k - 1].name, whole.at[k - 1].path,
             hurt ? ", damaged" : "");
    if (run(out, NULL, k)) fail_msg("%s: it was not", what);
    if (newest(dir) != expected)
        fail_msg("%s: newest is %lld; expected %lld", what, (long long)newest(dir), (long long)expected);
    if (hurt) {
        damage(dir, expected);
        expected = newest(dir);
    }
    if (!run(out, dir, 0)) fail_msg("%s: does not go on", what);
    if (resumed_from(dir) != expected)
        fail_msg("%s: goes on from %lld; expected %lld", what, (long long)resumed_from(dir), (long long)expected);
    struct end e = end_of(dir);
    expect_same(&e, what);
    if (expected < 8) expect_tidy(dir, what); /* whoever saves next removes what the dead left */
    release(&e);
    workdir_remove(out);
}

static int find_call(int from, const char *name, const char *path)
{
    for (int i = from; i < whole.n; i++)
        if (strcmp(whole.at[i].name, name) == 0 && strncmp(whole.at[i].path, path, strlen(path)) == 0) return i + 1;
    fail_msg("no call of %s for %s", name, path);
    return 0;
}

static bool is(int k, const char *name) { return k >= 1 && strcmp(whole.at[k - 1].name, name) == 0; }

/* Calls after which there is nothing new to be found on the disk: those that read, reserve or end something, and of a
 * row of writes to a file all but the first and the last. */
static bool is_dull(int k)
{
    return is(k, "fsync") || is(k, "close") || is(k, "open") || is(k, "pread") || is(k, "fallocate") ||
           (is(k - 1, "write") && is(k, "write") && is(k + 1, "write"));
}

/* After each call in [first, last], but dull ones only with QN_TEST_LONG; what is on the disk before the next call is
 * the same. Each eighth time also with the newest checkpoint damaged. */
static int kill_in(int first, int last, int64_t newest_before)
{
    int kills = 0;
    for (int k = first; k <= last; k++) {
        if (whole.at[k - 1].step) newest_before = whole.at[k - 1].step;
        if (is_dull(k) && !getenv("QN_TEST_LONG")) continue;
        kill_once(k, false, newest_before);
        if (kills++ % 8 == 7) kill_once(k, true, newest_before);
    }
    return kills;
}

/* The save of step 6: from before its directory is made until the oldest, step 3, is gone. */
static void a_save_within_an_epoch(void **state)
{
    (void)state;
    int first = find_call(0, "mkdirat", ".step-000006"), last = find_call(first, "unlinkat", ".step-000003");
    while (!is(last + 1, "write")) last++; /* the log goes on */
    int kills = kill_in(first - 1, last, 4);
    print_message("%d kills\n", kills);
    assert_true(kills > 30);
}

/* The end of the last epoch: the best is exchanged, and step 8 is saved. */
static void the_saves_at_an_epochs_end(void **state)
{
    (void)state;
    int first = find_call(find_call(0, "renameat", "step-000006"), "mkdirat", ".best");
    int last = find_call(first, "renameat", "latest") + 2;
    int kills = kill_in(first - 1, last, 6);
    print_message("%d kills\n", kills);
    assert_true(kills > 40);
}

static int begin(void **state)
{
    char out[PATH], dir[PATH];
    seen = mmap(NULL, sizeof *seen, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (seen == MAP_FAILED || workdir_begin(state)) return -1;
    snprintf(out, sizeof out, "%s/whole", workdir);
    snprintf(dir, sizeof dir, "%s/whole/kill-1", workdir);
    if (!run(out, NULL, 0) || seen->n > MOST) return -1;
    memcpy(&whole, seen, sizeof whole);
    good = end_of(dir);
    return strstr(good.log, "\"step\":8") ? 0 : -1;
}

static int end(void **state)
{
    release(&good);
    workdir_end(state);
    munmap(seen, sizeof *seen);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(a_save_within_an_epoch),
                                        cmocka_unit_test(the_saves_at_an_epochs_end) };
    return cmocka_run_group_tests_name("kill", tests, begin, end);
}
