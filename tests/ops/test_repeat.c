/* test_repeat.c - fault row C7: the same bits every time. Every case of every row of ops.def is compiled for 1, 2 and
 * 4 threads (in f64: 1 and 4) and run 32 times: all runs of a program leave the same bytes, and so do all numbers of
 * threads but where a case says that its kernel is a library's whose sums depend on it. A second process, started
 * afresh, must come to the same bytes too.
 *
 * run-tests: timeout 600 */
#include "ops.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include <sys/wait.h>
#include <unistd.h>

enum { REPEATS = 32, KINDS = 5, SENT = 1 };
static const struct kind {
    qn_dtype real;
    int threads;
} kinds[KINDS] = { { QN_F32, 1 }, { QN_F32, 2 }, { QN_F32, 4 }, { QN_F64, 1 }, { QN_F64, 4 } };

static uint64_t here[QN_OP_COUNT], there[QN_OP_COUNT]; /* over all cases, of kind SENT; by this and the other process */
static int cases_run, programs_run;

struct subject {
    const struct op_case *c;
    qn_dtype real;
    qn_graph *g;
    qn_store *store;
    qn_program *p;
    qn_t x[QN_MAX_IN], y;
    void *before[QN_MAX_IN]; /* of stored operands */
    size_t bytes[QN_MAX_IN];
};

/* ---- a case, compiled ----------------------------------------------------------------------------- */

static void must(qn_status status, const char *name, const qn_error *err)
{
    if (status) fail_msg("case \"%s\": %s", name, err->text);
}

static void *operand(struct subject *s, int i)
{
    char name[16];
    snprintf(name, sizeof name, "x%d", i);
    if (!s->c->in[i].stored) return qn_program_data(s->p, s->x[i]);
    const qn_store_entry *e = qn_store_find(s->store, name);
    return e ? e->data : NULL;
}

static void fill_operands(struct subject *s)
{
    for (int i = 0; i < s->c->n_in; i++) {
        void *data = operand(s, i);
        size_t n = (size_t)op_in_count(&s->c->in[i]);
        s->bytes[i] = n * qn_dtype_size(op_in_dtype(&s->c->in[i], s->real));
        s->before[i] = calloc(s->bytes[i] + 1, 1);
        assert_non_null(s->before[i]);
        op_fill(s->c, i, s->real, s->before[i]);
        if (data) memcpy(data, s->before[i], s->bytes[i]); /* NULL: the passes found that y does not need it */
    }
}

static struct subject open_subject(const struct op_case *c, qn_dtype real, int threads)
{
    struct subject s = { .c = c, .real = real };
    qn_error err = { 0 };
    assert_int_equal(qn_graph_new(&s.g, NULL), QN_OK);
    must(qn_store_new(&s.store, "cpu", 1, NULL, &err), c->name, &err);
    for (int i = 0; i < c->n_in; i++) {
        const struct op_in *in = &c->in[i];
        qn_dtype dtype = op_in_dtype(in, real);
        char name[16];
        snprintf(name, sizeof name, "x%d", i);
        s.x[i] = in->stored ? qn_tensor(s.g, QN_STATE, name, dtype, in->rank, in->dim, NULL)
                            : qn_input(s.g, name, dtype, in->rank, in->dim);
    }
    s.y = c->build(s.g, s.x, c);
    must(qn_graph_status(s.g), c->name, qn_graph_error(s.g));
    must(qn_compile(&s.p, s.g, &s.y, 1, s.store, &(qn_compile_opts){ .threads = threads }, &err), c->name, &err);
    must(qn_program_load(s.p, &err), c->name, &err);
    fill_operands(&s);
    return s;
}

static void close_subject(struct subject *s)
{
    for (int i = 0; i < s->c->n_in; i++) free(s->before[i]);
    qn_program_free(s->p);
    qn_store_free(s->store);
    qn_graph_free(s->g);
}

static void run(struct subject *s)
{
    qn_error err = { 0 };
    for (int i = 0; i < s->c->n_in; i++)
        if (s->c->in[i].stored && operand(s, i)) memcpy(operand(s, i), s->before[i], s->bytes[i]);
    must(qn_program_run(s->p, QN_MICRO, &err), s->c->name, &err);
}

/* What a run leaves: part 0 is the result, then come the stored operands. NULL: no such part. */
static const void *part(struct subject *s, int k, size_t *bytes)
{
    if (k == 0) {
        *bytes = (size_t)qn_count(s->g, s->y) * qn_dtype_size(qn_dtype_of(s->g, s->y));
        return qn_program_data(s->p, s->y);
    }
    *bytes = s->bytes[k - 1];
    return s->c->in[k - 1].stored ? operand(s, k - 1) : NULL;
}

/* ---- a row ------------------------------------------------------------------------------------------- */

/* The hash of the first run; all others left the same bytes. */
static uint64_t repeated(const struct op_case *c, qn_dtype real, int threads, int times)
{
    struct subject s = open_subject(c, real, threads);
    void *first[QN_MAX_IN + 1] = { NULL };
    uint64_t hash = 0;
    for (int i = 0; i < times; i++) {
        run(&s);
        for (int k = 0; k <= c->n_in; k++) {
            size_t n;
            const void *now = part(&s, k, &n);
            if (!now) continue;
            if (i == 0) {
                first[k] = calloc(n + 1, 1);
                assert_non_null(first[k]);
                memcpy(first[k], now, n);
                hash = hash * 31 + qn__hash(now, n);
            } else if (memcmp(first[k], now, n) != 0) {
                fail_msg("case \"%s\", %s, %d threads: run %d leaves other bits than run 1", c->name,
                         qn_dtype_name(real), threads, i + 1);
            }
        }
    }
    for (int k = 0; k <= c->n_in; k++) free(first[k]);
    close_subject(&s);
    programs_run++;
    return hash;
}

static void run_case(const struct op_case *c, enum qn__opcode op)
{
    uint64_t alone = 0; /* with one thread */
    cases_run++;
    for (int k = 0; k < KINDS; k++) {
        uint64_t hash = repeated(c, kinds[k].real, kinds[k].threads, REPEATS);
        if (kinds[k].threads == 1) alone = hash;
        if (hash != alone && !(c->fixed_threads && kinds[k].real == QN_F32))
            fail_msg("case \"%s\", %s: %d threads leave other bits than one", c->name, qn_dtype_name(kinds[k].real),
                     kinds[k].threads);
        if (k == SENT) here[op] = here[op] * 31 + hash;
    }
}

static void same_bits(void **state)
{
    enum qn__opcode op = *(enum qn__opcode *)*state;
    const struct op_cases *cases = op_cases_of[op];
    assert_true(cases->n > 0);
    for (int i = 0; i < cases->n; i++)
        if (!cases->c[i].fails) run_case(&cases->c[i], op);
}

/* ---- the other process --------------------------------------------------------------------------------- */

static void same_bits_in_another_process(void **state)
{
    (void)state;
    int pipes[2], how;
    assert_int_equal(pipe(pipes), 0);
    pid_t child = fork();
    if (child == 0) {
        char fd[16];
        snprintf(fd, sizeof fd, "%d", pipes[1]);
        if (!freopen("/dev/null", "w", stdout)) _exit(126); /* its own report is not this one's */
        execl("/proc/self/exe", "test_repeat", "--send", fd, (char *)NULL);
        _exit(127);
    }
    close(pipes[1]);
    size_t got = 0;
    for (ssize_t n; (n = read(pipes[0], (char *)there + got, sizeof there - got)) > 0;) got += (size_t)n;
    close(pipes[0]);
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_true(WIFEXITED(how) && WEXITSTATUS(how) == 0);
    assert_int_equal(got, sizeof there);
    for (int op = 1; op < QN_OP_COUNT; op++)
        if (here[op] != there[op])
            fail_msg("%s: another process comes to other bits", qn__op_of((enum qn__opcode)op)->name);
    print_message("%d cases, %d programs, %d runs of each, and once in another process\n", cases_run, programs_run,
                  REPEATS);
}

static void send_rows(void **state)
{
    for (int op = 1; op < QN_OP_COUNT; op++)
        for (int i = 0; i < op_cases_of[op]->n; i++)
            if (!op_cases_of[op]->c[i].fails)
                here[op] = here[op] * 31 + repeated(&op_cases_of[op]->c[i], kinds[SENT].real, kinds[SENT].threads, 1);
    assert_int_equal(write(*(int *)*state, here, sizeof here), sizeof here);
}

int main(int argc, char **argv)
{
    static enum qn__opcode row[QN_OP_COUNT];
    static struct CMUnitTest test[QN_OP_COUNT + 1];
    int fd = argc == 3 && strcmp(argv[1], "--send") == 0 ? (int)strtol(argv[2], NULL, 10) : -1;
    if (fd >= 0) {
        const struct CMUnitTest only[] = { { "send_rows", send_rows, NULL, NULL, &fd } };
        return cmocka_run_group_tests(only, NULL, NULL);
    }
    size_t n = 0;
    for (int op = 1; op < QN_OP_COUNT; op++) {
        row[n] = (enum qn__opcode)op;
        test[n] = (struct CMUnitTest){ qn__op_of(row[n])->name, same_bits, NULL, NULL, &row[n] };
        n++;
    }
    test[n] = (struct CMUnitTest)cmocka_unit_test(same_bits_in_another_process);
    return _cmocka_run_group_tests("same bits", test, n + 1, NULL, NULL);
}
