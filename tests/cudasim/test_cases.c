/* test_cases.c - the simulator itself: of each small kernel that is wrong in one way it must say what, of each right
 * one nothing, whatever the order of threads and blocks. Every case runs in a process of its own.
 * run-tests: timeout 300 */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#if __has_include(<cuda_runtime_api.h>)
#define CALLS(X) X(cudaStreamCreateWithFlags)
#include "simulated.h"
#include "cases.h"
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/wait.h>

struct setting {
    const char *kind, *order, *streams;
};

/* What the child says of one case: the first finding, or "nothing". */
static void run_case(const struct sim_case *c, FILE *out)
{
    float *x;
    cudaStream_t s;
    calls.cudasim_forget();
    calls.cudaMalloc((void **)&x, 64 * sizeof *x);
    calls.cudaMemset(x, 0, 64 * sizeof *x);
    calls.cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking);
    calls.cudaDeviceSynchronize();
    c->run(x, 64, s);
    cudaError_t answer = calls.cudaDeviceSynchronize();
    int findings = calls.cudasim_findings();
    if (!findings && answer != cudaSuccess)
        fprintf(out, "error %d without a finding\n", answer);
    else
        fprintf(out, "%s\n", findings ? calls.cudasim_finding(0) : "nothing");
}

/* The program again, as "--cases LIST FIRST LAST": says one line of each case in a library that only it has loaded. A
 * case that ends the process says nothing. */
static int child(char **argv)
{
    void *library = simulated_open("libsimtests.so");
    void *runtime = library ? simulated_open("libcudart.so.13") : NULL;
    const struct sim_case *cases = library ? dlsym(library, argv[2]) : NULL;
    if (!runtime || !cases || simulated_find(runtime)) return 3;
    long last = strtol(argv[4], NULL, 10);
    for (long i = strtol(argv[3], NULL, 10); i < last && cases[i].name; i++) run_case(&cases[i], stdout);
    return 0;
}

/* What the program says of the cases from first on, before last. */
static void ask(const struct setting *set, const char *list, int first, int last, char *text, size_t size)
{
    int ends[2], status;
    size_t n = 0;
    ssize_t got;
    char from[20], to[20];
    snprintf(from, sizeof from, "%d", first);
    snprintf(to, sizeof to, "%d", last);
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (!pid) {
        dup2(ends[1], 1);
        setenv("QN_CUDASIM_KIND", set->kind, 1);
        setenv("QN_CUDASIM_ORDER", set->order, 1);
        setenv("QN_CUDASIM_STREAMS", set->streams, 1);
        setenv("QN_CUDASIM_REPORT", "none", 1);
        execl("/proc/self/exe", "test_cases", "--cases", list, from, to, (char *)NULL);
        _exit(4);
    }
    close(ends[1]);
    while (n < size - 1 && ((got = read(ends[0], text + n, size - 1 - n)) > 0 || (got < 0 && errno == EINTR)))
        if (got > 0) n += (size_t)got;
    close(ends[0]);
    text[n] = '\0';
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (!WIFEXITED(status) || WEXITSTATUS(status))
        snprintf(text, size, "the process ended with status 0x%x", (unsigned)status);
}

/* The names and expectations, from the library of this process (fast; nothing is run in it). */
static const struct sim_case *cases_of(const char *list)
{
    static void *library;
    if (!library) library = simulated_open("libsimtests.so");
    return library ? dlsym(library, list) : NULL;
}

static bool built(void)
{
    if (cases_of("sim_wrong")) return true;
    print_message("# skip: no CUDA headers: this build has no simulator (make cudasim)\n");
    skip();
    return false;
}

static void expect_each(const char *kind)
{
    const struct sim_case *c = cases_of("sim_wrong");
    const struct setting set = { kind, "forward", "lazy" };
    bool checked = !strcmp(kind, "checked");
    for (int i = 0; c[i].name; i++) {
        char text[4000];
        const char *must = checked ? c[i].checked : c[i].fast;
        if (!must) continue;
        ask(&set, "sim_wrong", i, i + 1, text, sizeof text);
        if (!strstr(text, must)) fail_msg("%s (%s): \"%s\"; expected \"%s\"", c[i].name, kind, text, must);
    }
}
static void test_wrong_kernels_are_reported(void **state)
{
    (void)state;
    if (built()) expect_each("checked");
}
static void test_some_without_instrumentation(void **state)
{
    (void)state;
    if (built()) expect_each("fast");
}

/* In other orders another thread may be the one that notices: something must be said. */
static void test_wrong_kernels_in_any_order(void **state)
{
    (void)state;
    if (!built()) return;
    const struct sim_case *c = cases_of("sim_wrong");
    static const char *const orders[] = { "reversed", "random:1", "random:2" };
    for (int o = 0; o < 3; o++) {
        const struct setting set = { "checked", orders[o], "eager" };
        for (int i = 0; c[i].name; i++) {
            char text[4000];
            ask(&set, "sim_wrong", i, i + 1, text, sizeof text);
            if (!strcmp(text, "nothing\n") || !strncmp(text, "the process", 11))
                fail_msg("%s, %s: %s", c[i].name, orders[o], text);
        }
    }
}

static void test_right_kernels_are_not(void **state)
{
    (void)state;
    if (!built()) return;
    static const char *const orders[] = { "forward", "reversed", "random:1", "random:7" };
    for (int k = 0; k < 2; k++)
        for (int o = 0; o < 4; o++)
            for (int eager = 0; eager < 2; eager++) {
                const struct setting set = { k ? "checked" : "fast", orders[o], eager ? "eager" : "lazy" };
                char text[16000], *line = text;
                ask(&set, "sim_right", 0, INT_MAX, text, sizeof text);
                const struct sim_case *c = cases_of("sim_right");
                for (int i = 0; c[i].name; i++) {
                    char *end = strchr(line, '\n');
                    if (!end) fail_msg("%s, %s: %s", set.kind, orders[o], text);
                    *end = '\0';
                    if (strcmp(line, "nothing") != 0) fail_msg("%s, %s, %s: %s", c[i].name, set.kind, orders[o], line);
                    line = end + 1;
                }
            }
}

static long line_in(const char *place) { return strtol(strchr(place, ':') + 1, NULL, 10); }

/* Both places of a race are named, by file and line. */
static void test_a_race_names_both_places(void **state)
{
    (void)state;
    if (!built()) return;
    const struct sim_case *c = cases_of("sim_wrong");
    const struct setting set = { "checked", "forward", "lazy" };
    for (int i = 0; c[i].name; i++) {
        if (strcmp(c[i].name, "read_after_write") != 0) continue;
        char text[4000];
        ask(&set, "sim_wrong", i, i + 1, text, sizeof text);
        char *first = strstr(text, "tests/cudasim/wrong.cu:");
        char *second = first ? strstr(first + 1, "tests/cudasim/wrong.cu:") : NULL;
        if (!first || !second) fail_msg("%s", text);
        long here = line_in(first), there = line_in(second);
        assert_int_equal(here, there + 1);
        assert_non_null(strstr(text, "kernel read_after_write block (0,0,0) thread (0,0,0)"));
    }
}

int main(int argc, char **argv)
{
    if (argc == 5 && !strcmp(argv[1], "--cases")) return child(argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wrong_kernels_are_reported), cmocka_unit_test(test_some_without_instrumentation),
        cmocka_unit_test(test_wrong_kernels_in_any_order), cmocka_unit_test(test_right_kernels_are_not),
        cmocka_unit_test(test_a_race_names_both_places),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
#else
static void test_skipped(void **state)
{
    (void)state;
    print_message("# skip: no CUDA headers\n");
    skip();
}
int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_skipped) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
#endif
