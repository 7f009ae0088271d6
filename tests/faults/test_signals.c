/* test_signals.c - fault row G6: the library in a program that has signals of its own. It installs no handler and
 * changes no mask; a storm of SIGALRM and SIGCHLD, whose handlers interrupt system calls, changes no byte of what a run
 * leaves; and asking a run to stop is the program's, through a flag. */
#include "../../include/quern/train.h"
#include "../lib/workdir.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

static const char recipe_text[] =
    "{\"quern\": 1, \"name\": \"storm\", \"data\": {\"digits\": 100, \"validation\": 0.2, \"workers\": 2}, \"batch\": "
    "10, \"augment\": {\"rotate\": 10}, \"epochs\": 3, \"checkpoint\": {\"every_steps\": 2, \"keep\": 2}, \"model\": "
    "[{\"linear\": 16}, {\"batch_norm\": true, \"activation\": \"relu\"}, {\"dropout\": 0.2}, {\"linear\": 10}]}";
static volatile sig_atomic_t alarms, children, stop;

static void on_alarm(int number)
{
    (void)number;
    alarms++;
    kill(getpid(), SIGCHLD);
}
static void on_child(int number)
{
    (void)number;
    children++;
}

static void install(int number, void (*handler)(int))
{
    struct sigaction a;
    memset(&a, 0, sizeof a);
    a.sa_handler = handler; /* without SA_RESTART: calls return EINTR */
    sigemptyset(&a.sa_mask);
    assert_int_equal(sigaction(number, &a, NULL), 0);
}

static void storm(long microseconds)
{
    const struct itimerval t = { { 0, microseconds }, { 0, microseconds } };
    assert_int_equal(setitimer(ITIMER_REAL, &t, NULL), 0);
}

static void alarm_once(long microseconds)
{
    const struct itimerval t = { { 0, 0 }, { microseconds / 1000000, microseconds % 1000000 } };
    assert_int_equal(setitimer(ITIMER_REAL, &t, NULL), 0);
}

/* Handlers and masks of all signals. */
struct signals {
    void (*handler[65])(int);
    sigset_t mask;
};
static void look(struct signals *s)
{
    memset(s, 0, sizeof *s);
    for (int i = 1; i < 65; i++) {
        struct sigaction a;
        if (sigaction(i, NULL, &a) == 0) s->handler[i] = a.sa_handler;
    }
    assert_int_equal(sigprocmask(SIG_SETMASK, NULL, &s->mask), 0);
}

/* FNV-1a over model and optimizer of the last checkpoint. */
static uint64_t hash_of(const char *run)
{
    static const char *const names[] = { "model", "state" };
    static unsigned char bytes[1 << 20];
    uint64_t hash = UINT64_C(14695981039346656037);
    for (int i = 0; i < 2; i++) {
        char path[300];
        snprintf(path, sizeof path, "%s/checkpoints/step-000024/%s.safetensors", run, names[i]);
        FILE *f = fopen(path, "rb");
        if (!f) fail_msg("%s cannot be read", path);
        size_t n = fread(bytes, 1, sizeof bytes, f);
        fclose(f);
        assert_true(n > 100 && n < sizeof bytes);
        for (size_t k = 0; k < n; k++) hash = (hash ^ bytes[k]) * UINT64_C(1099511628211);
    }
    return hash;
}

static qn_status train(const char *name, bool resume, char *run, size_t size)
{
    qn_recipe *r;
    qn_recipe_errors errs;
    qn_trainer *t;
    qn_train_result result;
    qn_error err;
    char out[200];
    snprintf(out, sizeof out, "%s/%s", workdir, name);
    if (qn_recipe_parse(&r, "storm.json", recipe_text, strlen(recipe_text), NULL, 0, &errs))
        fail_msg("%s", errs.list[0].text);
    qn_trainer_opts opts = { .out = out, .resume = resume ? run : NULL, .fd = -1, .threads = 2, .stop = &stop };
    if (qn_trainer_open(&t, r, &opts, &err)) fail_msg("%s", err.text);
    if (!resume) snprintf(run, size, "%s", qn_trainer_run_dir(t));
    qn_status status = qn_trainer_run(t, &result, &err);
    if (status && status != QN_STOPPED) fail_msg("%s", err.text);
    qn_trainer_free(t);
    qn_recipe_free(r);
    return status;
}

static void a_storm_changes_nothing(void **state)
{
    (void)state;
    char run[200];
    struct signals before, after;
    install(SIGALRM, on_alarm);
    install(SIGCHLD, on_child);
    look(&before);
    assert_int_equal(train("calm", false, run, sizeof run), QN_OK);
    uint64_t calm = hash_of(run);
    storm(300);
    assert_int_equal(train("storm", false, run, sizeof run), QN_OK);
    storm(0);
    assert_true(hash_of(run) == calm);
    assert_true(alarms > 20 && children > 20);
    look(&after);
    assert_memory_equal(&before, &after, sizeof before);
    print_message("%d SIGALRM, %d SIGCHLD\n", (int)alarms, (int)children);
}

static void on_stop(int number)
{
    (void)number;
    stop = 1;
}

/* The program's own handler sets the flag, a little later each time: the run is saved, and goes on to the same end. */
static void stopping_is_the_programs(void **state)
{
    (void)state;
    char run[200];
    assert_int_equal(train("whole", false, run, sizeof run), QN_OK);
    uint64_t whole = hash_of(run);
    install(SIGALRM, on_stop);
    int stops = 0;
    stop = 1; /* before the first step */
    qn_status status = train("stopped", false, run, sizeof run);
    for (; status == QN_STOPPED && stops < 1000; stops++) {
        stop = 0;
        alarm_once(5000L * (stops + 1));
        status = train("stopped", true, run, sizeof run);
    }
    storm(0);
    assert_int_equal(status, QN_OK);
    assert_true(stops > 0);
    assert_true(hash_of(run) == whole);
    stop = 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(a_storm_changes_nothing),
                                        cmocka_unit_test(stopping_is_the_programs) };
    return cmocka_run_group_tests_name("signals", tests, workdir_begin, workdir_end);
}
