/* test_fork.c - fault row G7: a process that forks while its programs, loader threads and trainers live. What the
 * parent has goes on as if nothing had happened. A child may end, or start another program, at once; it may run what
 * needs no threads, and open and run its own on a thread of its own; what lives on threads that it does not have is
 * refused with one line instead of waiting for ever. */
#include "../../include/quern/core.h"
#include "../../include/quern/data.h"
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
#include <pthread.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { N = 256, SECONDS = 20 }; /* a child that hangs is ended by SIGALRM */

struct made {
    qn_graph *g;
    qn_store *s;
    qn_program *p;
    qn_t y;
};

static qn_status make(struct made *m, int threads, qn_error *err)
{
    memset(m, 0, sizeof *m);
    if (qn_graph_new(&m->g, NULL) || qn_store_new(&m->s, "cpu", 3, NULL, err)) return QN_EMEMORY;
    qn_t x = qn_input(m->g, "x", QN_F32, 2, (int64_t[]){ N, N });
    qn_t w = qn_param(m->g, "w", QN_F32, 2, (int64_t[]){ N, N }, &(qn_init){ .kind = QN_INIT_XAVIER });
    m->y = qn_sum_all(m->g, qn_square(m->g, qn_sigmoid(m->g, qn_matmul(m->g, x, w, NULL))));
    qn_status status = qn_compile(&m->p, m->g, &m->y, 1, m->s, &(qn_compile_opts){ .threads = threads }, err);
    if (!status) status = qn_program_load(m->p, err);
    float *data = status ? NULL : qn_program_data(m->p, x);
    for (int i = 0; data && i < N * N; i++) data[i] = (float)(i % 97) / 97;
    return status;
}

static void discard(struct made *m)
{
    qn_program_free(m->p);
    qn_store_free(m->s);
    qn_graph_free(m->g);
}

static float run(struct made *m)
{
    qn_error err;
    if (qn_program_run(m->p, QN_MICRO, &err)) fail_msg("%s", err.text);
    return *(float *)qn_program_data(m->p, m->y);
}

/* What a child found: 0, or the line in which it was wrong. */
static int outcome(pid_t child)
{
    int how;
    assert_true(child > 0);
    assert_int_equal(waitpid(child, &how, 0), child);
    if (WIFSIGNALED(how)) fail_msg("the child was ended by signal %d", WTERMSIG(how));
    return WEXITSTATUS(how);
}
#define CHILD_EXPECT(x) \
    do { \
        if (!(x)) _exit(__LINE__ > 255 ? 255 : __LINE__); \
    } while (0)

/* ---- programs ---------------------------------------------------------------------------------- */

static void child_runs_inherited(struct made *m, int threads, float expected)
{
    static const char line[] = "error E2206 graph: the program was loaded before a fork; expected one that this "
                               "process has loaded, on a thread of its own, or one that runs on 1 thread";
    qn_error err = { 0 };
    char where[20];
    alarm(SECONDS);
    qn_status status = qn_program_run(m->p, QN_MICRO, &err);
    if (threads == 1) {
        CHILD_EXPECT(status == QN_OK);
        CHILD_EXPECT(*(float *)qn_program_data(m->p, m->y) == expected);
    } else {
        CHILD_EXPECT(status == QN_EUSAGE && strcmp(err.text, line) == 0);
        CHILD_EXPECT(qn_program_find_nonfinite(m->p, NULL, where, sizeof where, &err) == QN_EUSAGE);
    }
    discard(m);
    _exit(0);
}

static void *child_makes_its_own(void *expected)
{
    struct made m;
    qn_error err;
    CHILD_EXPECT(make(&m, 2, &err) == QN_OK);
    CHILD_EXPECT(qn_program_run(m.p, QN_MICRO, &err) == QN_OK);
    CHILD_EXPECT(*(float *)qn_program_data(m.p, m.y) == *(float *)expected);
    discard(&m);
    return NULL;
}

static void programs(void **state)
{
    (void)state;
    for (int threads = 1; threads <= 2; threads++) {
        struct made m;
        qn_error err;
        if (make(&m, threads, &err)) fail_msg("%s", err.text);
        float before = run(&m);
        pid_t child = fork();
        if (child == 0) child_runs_inherited(&m, threads, before);
        assert_int_equal(outcome(child), 0);
        child = threads == 2 ? fork() : 0;
        if (threads == 2 && child == 0) {
            pthread_t thread;
            alarm(SECONDS);
            CHILD_EXPECT(pthread_create(&thread, NULL, child_makes_its_own, &before) == 0);
            CHILD_EXPECT(pthread_join(thread, NULL) == 0);
            _exit(0);
        }
        if (threads == 2) assert_int_equal(outcome(child), 0);
        assert_true(run(&m) == before);
        discard(&m);
    }
}

/* ---- loader threads ------------------------------------------------------------------------------ */

static uint64_t hash_of(uint64_t hash, const void *data, size_t n)
{
    const unsigned char *p = data;
    for (size_t i = 0; i < n; i++) hash = (hash ^ p[i]) * UINT64_C(1099511628211);
    return hash;
}

/* FNV-1a over everything that the rest of an epoch hands out. */
static uint64_t rest_of_epoch(qn_loader *l)
{
    uint64_t hash = UINT64_C(14695981039346656037);
    const qn_batch *b;
    qn_error err;
    for (;;) {
        if (qn_loader_next(l, &b, &err)) fail_msg("%s", err.text);
        if (!b) return hash;
        hash = hash_of(hash, b->x, (size_t)b->count * 784 * sizeof(float));
    }
}

static void child_uses_inherited_loader(qn_loader *l, qn_dataset *ds, const qn_loader_options *o)
{
    static const char line[] = "error E3051 data: loader: opened before a fork, which its threads did not follow; "
                               "expected one that this process has opened";
    const qn_batch *b = NULL;
    qn_loader *own;
    qn_error err = { 0 };
    alarm(SECONDS);
    CHILD_EXPECT(qn_loader_next(l, &b, &err) == QN_EDATA && !b && strcmp(err.text, line) == 0);
    CHILD_EXPECT(qn_loader_seek(l, (qn_loader_state){ 0, 0 }, &err) == QN_EDATA);
    qn_loader_free(l);
    CHILD_EXPECT(qn_loader_open(&own, ds, NULL, o, &err) == QN_OK && qn_loader_threads(own) == 2);
    CHILD_EXPECT(qn_loader_next(own, &b, &err) == QN_OK && b);
    qn_loader_free(own);
    _exit(0);
}

static void loader_threads(void **state)
{
    (void)state;
    const qn_loader_options o = {
        .batch = 20, .shuffle = true, .seed = 5, .threads = 2, .augment = { .flip = 0.5, .rotate = 10, .erase = 0.5 }
    };
    uint64_t whole = 0;
    for (int forks = 0; forks < 12; forks += 11) { /* undisturbed, then forked while threads are at work */
        qn_dataset *ds;
        qn_loader *l;
        qn_error err;
        if (qn_dataset_digits(&ds, 200, 7, &err)) fail_msg("%s", err.text);
        if (qn_loader_open(&l, ds, NULL, &o, &err)) fail_msg("%s", err.text);
        for (int i = 0; i < forks; i++) {
            pid_t child = fork();
            if (child == 0) child_uses_inherited_loader(l, ds, &o);
            assert_int_equal(outcome(child), 0);
        }
        uint64_t got = rest_of_epoch(l);
        if (forks == 0)
            whole = got;
        else
            assert_true(got == whole);
        qn_loader_free(l);
        qn_dataset_free(ds);
    }
}

/* ---- a trainer -------------------------------------------------------------------------------------- */

static const char recipe_text[] =
    "{\"quern\": 1, \"name\": \"fork\", \"data\": {\"digits\": 100, \"workers\": 2}, \"batch\": 20, \"epochs\": 2,"
    " \"model\": [{\"linear\": 16}, \"relu\", {\"dropout\": 0.2}, {\"linear\": 10}]}";

/* FNV-1a of the weights that a run ends with; with `fork_first` a child frees what it has inherited, and ends by
 * exec. */
static uint64_t train(const char *name, bool fork_first)
{
    qn_recipe *r;
    qn_recipe_errors errs;
    qn_trainer *t;
    qn_train_result result;
    qn_error err;
    struct stat lock;
    char out[100], path[300], weights[4096];
    snprintf(out, sizeof out, "%s/%s", workdir, name);
    if (qn_recipe_parse(&r, "fork.json", recipe_text, strlen(recipe_text), NULL, 0, &errs))
        fail_msg("%s", errs.list[0].text);
    if (qn_trainer_open(&t, r, &(qn_trainer_opts){ .out = out, .fd = -1, .threads = 2 }, &err))
        fail_msg("%s", err.text);
    pid_t child = fork_first ? fork() : 0;
    if (fork_first && child == 0) {
        alarm(SECONDS);
        qn_trainer_free(t);
        execl("/bin/true", "true", (char *)NULL);
        _exit(99);
    }
    if (fork_first) {
        assert_int_equal(outcome(child), 0);
        snprintf(path, sizeof path, "%s/.lock", qn_trainer_run_dir(t));
        assert_int_equal(stat(path, &lock), 0);
        assert_true(lock.st_size > 0); /* the child has not wiped who holds the lock */
    }
    if (qn_trainer_run(t, &result, &err)) fail_msg("%s", err.text);
    snprintf(path, sizeof path, "%s/checkpoints/best/model.safetensors", qn_trainer_run_dir(t));
    qn_trainer_free(t);
    qn_recipe_free(r);
    uint64_t hash = UINT64_C(14695981039346656037);
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    for (size_t n; (n = fread(weights, 1, sizeof weights, f)) > 0;) hash = hash_of(hash, weights, n);
    fclose(f);
    return hash;
}

static void trainers(void **state)
{
    assert_int_equal(workdir_begin(state), 0);
    assert_true(train("alone", false) == train("forked", true));
    assert_int_equal(workdir_end(state), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(programs), cmocka_unit_test(loader_threads),
                                        cmocka_unit_test(trainers) };
    return cmocka_run_group_tests_name("fork", tests, NULL, NULL);
}
