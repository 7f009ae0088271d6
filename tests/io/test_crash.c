/* Failing and dying in the middle of a checkpoint: every call, every errno, once and for ever; SIGKILL
 * before and after every call. Whatever happens, what was acknowledged can be restored.
 *
 * QN_TEST_LONG=1 runs the whole product; otherwise a sample is drawn with the seed that is printed
 * (QN_TEST_SEED chooses it). A part runs under strace, which also reaches the calls inside libc. */
#include "io.h"
#include "ckpt.h"
#include "interpose.h"
#include "../../core/checkpoint.h"
#include <dlfcn.h>
#include <signal.h>
#include <sys/wait.h>

static uint64_t seed = 1;
static bool long_run;

static uint64_t random_next(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}
/* True for one in n, or always in a long run. */
static bool sampled(unsigned n) { return long_run || random_next() % n == 0; }

static int begin(void **state)
{
    const char *s = getenv("QN_TEST_SEED"), *l = getenv("QN_TEST_LONG");
    int64_t value;
    if (s && qn__parse_i64(s, &value) && value > 0) seed = (uint64_t)value;
    long_run = l && strcmp(l, "1") == 0;
    print_message("seed %llu, %s\n", (unsigned long long)seed, long_run ? "whole product" : "sample");
    return workdir_begin_in_memory(state);
}

/* ---- the scenario -------------------------------------------------------------------------- */

/* The directory before: step 100 and 200, best of step 150. */
static void prepare(void)
{
    struct ckpt_sample s;
    workdir_remove(workdir_path("ck"));
    for (int64_t step = 100; step <= 200; step += 100) {
        ckpt_fill(&s, step);
        assert_int_equal(qn_checkpoint_write(workdir_path("ck"), &s.c, 0, NULL), QN_OK);
    }
    ckpt_fill(&s, 150);
    assert_int_equal(qn_checkpoint_write_named(workdir_path("ck"), "best", &s.c, NULL), QN_OK);
}

/* Writes step 300, keeping two, then a new best; *acknowledged counts what returned QN_OK. */
static qn_status scenario(const char *dir, volatile int *acknowledged, qn_error *err)
{
    struct ckpt_sample s;
    ckpt_fill(&s, 300);
    *acknowledged = 0;
    QN_TRY(qn_checkpoint_write(dir, &s.c, 2, err));
    *acknowledged = 1;
    QN_TRY(qn_checkpoint_write_named(dir, "best", &s.c, err));
    *acknowledged = 2;
    return QN_OK;
}

static void no_report(void *user, const char *line)
{
    (void)user;
    print_error("%s\n", line);
}

static void check_directory(int acknowledged)
{
    qn_checkpoint *ck;
    qn_error err = { 0 };
    int skipped;
    qn_status status = qn_checkpoint_open_newest(&ck, workdir_path("ck"), &skipped, no_report, NULL, &err);
    if (status) print_error("%s\n", err.text);
    assert_int_equal(status, QN_OK);
    assert_int_equal(skipped, 0); /* nothing half made under a final name */
    assert_true(qn_checkpoint_step(ck) == 300 || (acknowledged == 0 && qn_checkpoint_step(ck) == 200));
    assert_true(ckpt_is_sample(ck));
    qn_checkpoint_close(ck);
    for (int step = 100; step <= 300; step += 100) { /* the older ones are whole, or gone */
        char name[32];
        snprintf(name, sizeof name, "ck/step-%06d", step);
        if (access(workdir_path(name), F_OK) != 0) continue;
        assert_int_equal(qn_checkpoint_verify(workdir_path(name), &err), QN_OK);
    }
    status = qn_checkpoint_open(&ck, workdir_path("ck/best"), &err);
    if (status) print_error("%s\n", err.text);
    assert_int_equal(status, QN_OK);
    assert_true(qn_checkpoint_step(ck) == 300 || (acknowledged < 2 && qn_checkpoint_step(ck) == 150));
    assert_true(ckpt_is_sample(ck));
    qn_checkpoint_close(ck);
}

/* The next writer succeeds and leaves final names only. */
static void check_recovery(void)
{
    struct ckpt_sample s;
    qn_error err = { 0 };
    ckpt_fill(&s, 400);
    qn_status status = qn_checkpoint_write(workdir_path("ck"), &s.c, 1, &err);
    if (status) print_error("%s\n", err.text);
    assert_int_equal(status, QN_OK);
    assert_int_equal(entries_in(workdir_path("ck")), 3); /* step-000400, best, latest */
    assert_int_equal(qn_checkpoint_verify(workdir_path("ck/step-000400"), &err), QN_OK);
    assert_int_equal(qn_checkpoint_verify(workdir_path("ck/best"), &err), QN_OK);
}

/* ---- D2: every call fails ------------------------------------------------------------------ */

static struct {
    int count, at, error;
    bool sticky, half, kill_before, kill_after;
    const char *only; /* NULL: any call */
    const char *hit;
} fault;

static int strike(struct call *c)
{
    if (fault.only && strcmp(fault.only, c->name) != 0) return 0;
    fault.count++;
    bool now = fault.count == fault.at || (fault.sticky && fault.at && fault.count > fault.at);
    if (!now) return 0;
    fault.hit = c->name;
    if (fault.kill_before) raise(SIGKILL);
    if (fault.half) {
        if (c->n > 1 && c->data) c->n = (c->n + 1) / 2;
        return 0;
    }
    return fault.error;
}
static void strike_after(const struct call *c)
{
    (void)c;
    if (fault.kill_after && fault.count == fault.at) raise(SIGKILL);
}
static void arm(int at, int error, bool sticky)
{
    memset(&fault, 0, sizeof fault);
    fault.at = at;
    fault.error = error;
    fault.sticky = sticky;
    before_call = strike;
    after_call = strike_after;
}
static void disarm(void)
{
    before_call = NULL;
    after_call = NULL;
}

static int count_calls(void)
{
    volatile int acknowledged;
    prepare();
    arm(0, 0, false);
    assert_int_equal(scenario(workdir_path("ck"), &acknowledged, NULL), QN_OK);
    disarm();
    return fault.count;
}

static void check_one_fault(int at, int error, bool sticky)
{
    qn_error err = { 0 };
    volatile int acknowledged;
    prepare();
    int fds = open_fds();
    const char *dir = workdir_path("ck");
    arm(at, error, sticky);
    qn_status status = scenario(dir, &acknowledged, &err);
    disarm();
    assert_int_equal(open_fds(), fds);
    if (status) {
        assert_int_equal(status, QN_EIO);
        assert_true(strncmp(err.text, "error E6002 io: ", 16) == 0 || strncmp(err.text, "error E6001 io: ", 16) == 0);
        assert_null(strchr(err.text, '\n'));
        assert_non_null(strstr(err.text, qn__file_reason(error)));
        if (!sticky && err.code == 6002) assert_non_null(strstr(err.text, "; kept step-000"));
    } else {
        assert_int_equal(acknowledged, 2);
    }
    check_directory(acknowledged);
    check_recovery();
}

static const int errnos[] = { EIO, EACCES, ENOSPC, EMFILE, EINTR, EROFS, EDQUOT, EAGAIN };

static void every_call_may_fail(void **state)
{
    (void)state;
    int calls = count_calls(), runs = 0;
    assert_true(calls > 60);
    for (int at = 1; at <= calls; at++)
        for (size_t e = 0; e < N_OF(errnos); e++)
            for (int sticky = 0; sticky < 2; sticky++) {
                if (!sampled(3)) continue;
                check_one_fault(at, errnos[e], sticky);
                runs++;
            }
    print_message("%d calls, %d runs\n", calls, runs);
}

static void interruptions_and_short_writes_are_carried_on(void **state)
{
    (void)state;
    int calls = count_calls();
    for (int at = 1; at <= calls; at++) {
        for (int half = 0; half < 2; half++) {
            volatile int acknowledged;
            qn_error err = { 0 };
            if (!sampled(2)) continue;
            prepare();
            const char *dir = workdir_path("ck");
            arm(at, EINTR, false);
            fault.half = half;
            fault.sticky = half; /* every write from here on is cut in two */
            qn_status status = scenario(dir, &acknowledged, &err);
            disarm();
            if (status) print_error("%s interrupted: %s\n", fault.hit, err.text);
            assert_int_equal(status, QN_OK);
            check_directory(2);
        }
    }
}

/* D1: the line, and that a file system without fallocate finds out later. */
static void disk_full_says_how_much_is_missing(void **state)
{
    (void)state;
    static const struct {
        const char *call;
        int at;
        const char *line;
    } cases[] = {
        { "fallocate", 1, "model.safetensors@0: write: No space left on device (needs 256 more); kept step-000200" },
        { "fallocate", 2, "state.safetensors@0: write: No space left on device (needs 256 more); kept step-000200" },
        { "write", 1, "model.safetensors@0: write: No space left on device (needs 256 more); kept step-000200" },
        { "write", 2, "model.safetensors@192: write: No space left on device (needs 64 more); kept step-000200" },
        { "fsync", 1, "model.safetensors@256: fsync: No space left on device; kept step-000200" },
        { "mkdirat", 1, ": mkdir: No space left on device; kept step-000200" },
    };
    for (size_t i = 0; i < N_OF(cases); i++) {
        qn_error err = { 0 };
        volatile int acknowledged;
        char line[400];
        prepare();
        const char *dir = workdir_path("ck");
        arm(cases[i].at, ENOSPC, true);
        fault.only = cases[i].call;
        assert_int_equal(scenario(dir, &acknowledged, &err), QN_EIO);
        disarm();
        snprintf(line, sizeof line, "error E6002 io: ~/ck/.step-000300.tmp.%ld%s%s", (long)getpid(),
                 cases[i].line[0] == ':' ? "" : "/", cases[i].line);
        assert_line(&err, line);
        assert_int_equal(entries_in(workdir_path("ck")), 4); /* the temporary directory is gone */
        check_directory(0);
    }
    for (size_t i = 0; i < 2; i++) { /* no fallocate here: fine */
        volatile int acknowledged;
        prepare();
        const char *dir = workdir_path("ck");
        arm(1, i ? ENOSYS : EOPNOTSUPP, true);
        fault.only = "fallocate";
        assert_int_equal(scenario(dir, &acknowledged, NULL), QN_OK);
        disarm();
        check_directory(2);
    }
}

/* A file system that cannot exchange names: the window is one rename wide, and healed. */
static void works_without_exchange(void **state)
{
    (void)state;
    volatile int acknowledged;
    prepare();
    const char *dir = workdir_path("ck");
    arm(1, EINVAL, true);
    fault.only = "renameat2";
    assert_int_equal(scenario(dir, &acknowledged, NULL), QN_OK);
    assert_string_equal(fault.hit, "renameat2");
    disarm();
    check_directory(2);
    check_recovery();
}

/* ---- reading ------------------------------------------------------------------------------- */

/* Falls back past what cannot be read, or says so; never crashes, leaks or invents. */
static void every_read_may_fail(void **state)
{
    (void)state;
    qn_checkpoint *ck;
    prepare();
    const char *dir = workdir_path("ck");
    arm(0, 0, false);
    assert_int_equal(qn_checkpoint_open_newest(&ck, dir, NULL, NULL, NULL, NULL), QN_OK);
    disarm();
    qn_checkpoint_close(ck);
    int calls = fault.count, fds = open_fds();
    for (int at = 1; at <= calls; at++)
        for (size_t e = 0; e < N_OF(errnos); e++)
            for (int sticky = 0; sticky < 2; sticky++) {
                qn_error err = { 0 };
                int skipped;
                arm(at, errnos[e], sticky);
                qn_status status = qn_checkpoint_open_newest(&ck, dir, &skipped, NULL, NULL, &err);
                disarm();
                assert_int_equal(open_fds(), fds + 2 * !status);
                if (status) {
                    assert_true(status == QN_EIO || status == QN_EMODEL);
                    assert_int_equal(strncmp(err.text, "error E", 7), 0);
                } else {
                    assert_int_equal(qn_checkpoint_step(ck), skipped ? 100 : 200);
                    assert_true(ckpt_is_sample(ck));
                    if (errnos[e] == EINTR && !sticky) assert_int_equal(skipped, 0);
                }
                qn_checkpoint_close(ck);
            }
}

/* ---- B4: memory ---------------------------------------------------------------------------- */

/* Counts down to the allocation that fails; below zero: none does. */
static int64_t allocations_left = -1;
static bool allocations_end;

static bool allocation_fails(void)
{
    if (allocations_left < 0) return false;
    if (allocations_left > 0) return allocations_left-- == 0;
    if (!allocations_end) allocations_left = -1;
    return true;
}

/* All memory of the library comes from here, except jansson's. */
void *realloc(void *ptr, size_t n)
{
    static void *(*next)(void *, size_t);
    if (!next) {
        void *symbol = dlsym(RTLD_NEXT, "realloc");
        memcpy(&next, &symbol, sizeof next);
    }
    return allocation_fails() ? NULL : next(ptr, n);
}
static void *json_allocation(size_t n) { return allocation_fails() ? NULL : malloc(n); }

/* One round with the k-th allocation refused; false once there are fewer than k. */
static bool save_and_open_without(int64_t k, bool for_ever)
{
    volatile int acknowledged;
    qn_checkpoint *ck;
    qn_error err = { 0 }, why = { 0 };
    prepare();
    char dir[512];
    snprintf(dir, sizeof dir, "%s", workdir_path("ck"));
    int fds = open_fds();
    allocations_end = for_ever;
    allocations_left = k;
    qn_status written = scenario(dir, &acknowledged, &err);
    bool failed = allocations_left < 0 || (for_ever && allocations_left == 0);
    allocations_left = -1;
    check_directory(acknowledged);
    allocations_left = k;
    qn_status opened = qn_checkpoint_open_newest(&ck, dir, NULL, NULL, NULL, &why);
    allocations_left = -1;
    assert_true(written == QN_OK || (written == QN_EMEMORY && err.code == 5002));
    if (opened && opened != QN_EMEMORY) print_error("%lld: %s\n", (long long)k, why.text);
    assert_true(opened == QN_OK || (opened == QN_EMEMORY && why.code == 5002));
    assert_true(failed || !written);
    qn_checkpoint_close(ck);
    assert_int_equal(open_fds(), fds);
    check_recovery();
    return failed;
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    int64_t k = 0;
    json_set_alloc_funcs(json_allocation, free);
    for (; save_and_open_without(k, false); k++) assert_true(save_and_open_without(k, true));
    assert_true(k > 50);
    print_message("%lld allocations\n", (long long)k);
}

/* ---- D3: SIGKILL --------------------------------------------------------------------------- */

/* Runs the scenario in a child that dies at call `at`; returns what it had acknowledged. */
static int run_and_kill(int at, bool after, bool *survived)
{
    int pipes[2], acknowledged = 0, how;
    char c;
    const char *dir = workdir_path("ck");
    assert_int_equal(pipe(pipes), 0);
    pid_t child = fork();
    if (child == 0) {
        struct ckpt_sample s;
        ckpt_fill(&s, 300);
        arm(at, 0, false);
        fault.kill_before = !after;
        fault.kill_after = after;
        if (qn_checkpoint_write(dir, &s.c, 2, NULL)) _exit(6);
        if (syscall(SYS_write, pipes[1], "a", 1) != 1) _exit(7);
        if (qn_checkpoint_write_named(dir, "best", &s.c, NULL)) _exit(6);
        if (syscall(SYS_write, pipes[1], "b", 1) != 1) _exit(7);
        _exit(0);
    }
    close(pipes[1]);
    while (read(pipes[0], &c, 1) == 1) acknowledged++;
    close(pipes[0]);
    assert_int_equal(waitpid(child, &how, 0), child);
    *survived = WIFEXITED(how) && WEXITSTATUS(how) == 0;
    assert_true(*survived || (WIFSIGNALED(how) && WTERMSIG(how) == SIGKILL));
    return acknowledged;
}

static void kill_at_every_call(void **state)
{
    (void)state;
    int calls = count_calls(), kills = 0;
    for (int at = 1; at <= calls; at++)
        for (int after = 0; after < 2; after++) {
            bool survived;
            prepare();
            int acknowledged = run_and_kill(at, after, &survived);
            assert_false(survived);
            check_directory(acknowledged);
            /* And again, while the next one is tidying up. */
            int second = run_and_kill(1 + (int)(random_next() % (unsigned)calls), after, &survived);
            check_directory(second > acknowledged ? second : acknowledged);
            check_recovery();
            kills++;
        }
    print_message("%d kills, each followed by another at a random call\n", kills);
}

/* ---- the same under strace ----------------------------------------------------------------- */

static const char traced[] = "openat,openat2,read,pread64,write,close,fallocate,ftruncate,fsync,"
                             "renameat,renameat2,unlinkat,mkdirat,getdents64,newfstatat";

/* What strace runs: this program with "--write DIR". The call to sched_yield marks the begin. */
static int writer_main(const char *dir)
{
    volatile int acknowledged = 0;
    qn_error err = { 0 };
    syscall(SYS_sched_yield);
    qn_status status = scenario(dir, &acknowledged, &err);
    if (status) fprintf(stderr, "%s\n", err.text);
    return status ? (int)status : 0;
}

/* Runs strace with one more option (or none) on the writer; stderr goes to "err", the log to "log". */
static int run_traced(const char *inject)
{
    char self[512] = "", trace[400];
    char log[512], dir[512];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(n > 0);
    snprintf(trace, sizeof trace, "trace=sched_yield,%s", traced);
    snprintf(log, sizeof log, "%s", workdir_path("log"));
    snprintf(dir, sizeof dir, "%s", workdir_path("ck"));
    const char *err = workdir_path("err");
    pid_t child = fork();
    if (child == 0) {
        int fd = (int)syscall(SYS_openat, AT_FDCWD, err, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        dup2(fd, 2);
        dup2(fd, 1);
        setenv("ASAN_OPTIONS", "detect_leaks=0", 1); /* LeakSanitizer cannot run under ptrace */
        execlp("strace", "strace", "-o", log, "-e", trace, "-e", inject ? inject : "signal=none", self, "--write", dir,
               (char *)NULL);
        _exit(127);
    }
    int how;
    assert_int_equal(waitpid(child, &how, 0), child);
    return WIFSIGNALED(how) ? 128 + WTERMSIG(how) : WEXITSTATUS(how);
}

struct site {
    char name[24];
    int first, last; /* numbers of the calls after the mark */
};

/* How often each call is made before and after the mark, from strace's log. */
static size_t find_sites(struct site sites[32])
{
    size_t n = 0;
    bool marked = false;
    char *log = get_file(workdir_path("log"), NULL), *rest = log;
    for (char *line; (line = strsep(&rest, "\n"));) {
        size_t length = strcspn(line, "(");
        if (!line[length] || length >= sizeof sites[0].name) continue;
        line[length] = 0;
        if (strcmp(line, "sched_yield") == 0) {
            marked = true;
            continue;
        }
        size_t i = 0;
        while (i < n && strcmp(sites[i].name, line) != 0) i++;
        if (i == 32) continue;
        if (i == n) {
            snprintf(sites[n].name, sizeof sites[0].name, "%s", line);
            sites[n].first = 1;
            sites[n++].last = 0;
        }
        sites[i].last++;
        if (!marked) sites[i].first = sites[i].last + 1;
    }
    free(log);
    return n;
}

static void check_traced(const struct site *site, int k, const char *what, bool sticky)
{
    char inject[200];
    size_t n;
    prepare();
    snprintf(inject, sizeof inject, "inject=%s:%s:when=%d%s", site->name, what, k, sticky ? "+" : "");
    int code = run_traced(inject);
    char *text = get_file(workdir_path("err"), &n);
    bool killed = strncmp(what, "signal", 6) == 0;
    if (killed ? code != 128 + SIGKILL : code != 0 && code != QN_EIO)
        print_error("%s: exit %d: %s\n", inject, code, text);
    assert_true(killed ? code == 128 + SIGKILL : code == 0 || code == QN_EIO);
    bool mute = sticky && strcmp(site->name, "write") == 0; /* then it cannot print the line either */
    if (code == QN_EIO && !mute) {                          /* exactly one line */
        if (strncmp(text, "error E600", 10) != 0) print_error("%s: %s\n", inject, text);
        assert_int_equal(strncmp(text, "error E600", 10), 0);
        assert_ptr_equal(strchr(text, '\n'), text + n - 1);
    }
    free(text);
    check_directory(code == 0 ? 2 : 0);
    check_recovery();
}

static void under_strace(void **state)
{
    (void)state;
    static const char *const names[] = { "EIO", "EACCES", "ENOSPC", "EMFILE", "EINTR", "EROFS", "EDQUOT", "EAGAIN" };
    struct site sites[32];
    prepare();
    int code = run_traced(NULL);
    if (code != 0) {
        char *text = get_file(workdir_path("err"), NULL);
        print_message("skipped: strace does not run here (exit %d): %s\n", code, text ? text : "");
        free(text);
        skip();
    }
    size_t n = find_sites(sites);
    int runs = 0;
    for (size_t i = 0; i < n; i++)
        for (int k = sites[i].first; k <= sites[i].last; k++) {
            if (sampled(4)) check_traced(&sites[i], k, "signal=KILL", false), runs++;
            for (size_t e = 0; e < N_OF(names); e++)
                for (int sticky = 0; sticky < 2; sticky++) {
                    char what[32];
                    if (!sampled(30)) continue;
                    snprintf(what, sizeof what, "error=%s", names[e]);
                    check_traced(&sites[i], k, what, sticky);
                    runs++;
                }
        }
    print_message("%zu kinds of calls, %d runs under strace\n", n, runs);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--write") == 0) return writer_main(argv[2]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_call_may_fail),
        cmocka_unit_test(interruptions_and_short_writes_are_carried_on),
        cmocka_unit_test(disk_full_says_how_much_is_missing),
        cmocka_unit_test(works_without_exchange),
        cmocka_unit_test(every_read_may_fail),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(kill_at_every_call),
        cmocka_unit_test(under_strace),
    };
    return cmocka_run_group_tests(tests, begin, workdir_end);
}
