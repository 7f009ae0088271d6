/* test_checked.c - the cases of tests/ops in the checked simulator: in whatever order threads and blocks run and
 * whenever streams do their work, the checker finds nothing, results are within their bounds, and the bits are the
 * same.
 *
 * Each row runs in a process for each setting (the simulator reads its settings when it is loaded), in f32, BF16 and
 * F16, onto an operand and in blocked layouts; and once on a device of one multiprocessor, where grids are capped. All
 * orders with both streams are for QN_TEST_LONG; otherwise each row has two of these settings, by a seed that is
 * printed: QN_TEST_SEED=N repeats it. Rows named on the command line: those alone.
 *
 *   test_checked --run values|bits|reach ROW[@CASE[@TYPE]]...
 *                                           the child: prints a hash for each run, does not end with 0 after a fault;
 *                                           what `make mutate` runs too. reach: with which mutants of its plugin each
 *                                           case would run otherwise
 *   test_checked --rows                     prints the names of the rows that have a kernel
 *
 * run-tests: timeout 1800 */
#include "../lib/gpu.h"
#include "../ops/ops.h"
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

/* ---- the child: cases of some rows in one setting ------------------------------------------------------- */

static const struct drive_on *gpu;
static int (*findings)(void);
static const char *(*finding)(int i);

static int (*mutants_seen)(int *number, int room); /* in the plugin of scripts/mutate */
static bool reach;

static bool find_checker(void)
{
    void *plugin_itself = dlopen(getenv("QN_CUDA_PLUGIN"), RTLD_LAZY | RTLD_NOLOAD);
    void *seen = plugin_itself ? dlsym(plugin_itself, "qn_mutants_seen") : NULL;
    memcpy(&mutants_seen, &seen, sizeof seen);
    void *cudart = dlopen("libcudart.so.13", RTLD_LAZY | RTLD_NOLOAD);
    void *count = cudart ? dlsym(cudart, "cudasim_findings") : NULL;
    void *text = cudart ? dlsym(cudart, "cudasim_finding") : NULL;
    memcpy(&findings, &count, sizeof count);
    memcpy(&finding, &text, sizeof text);
    return count && text;
}

/* A line of a case: its name for the command line, how long it took, the mutants seen since the last line. */
static void print_reach(int i, int kind, clock_t began)
{
    static int number[1 << 13];
    int n = mutants_seen(number, 1 << 13);
    printf("reach|@%d@%d|%.4f|", i, kind, (double)(clock() - began) / CLOCKS_PER_SEC);
    for (int k = 0; k < n; k++) printf("%d ", number[k]);
    printf("\n");
}

static const qn_dtype types[] = { QN_F32, QN_BF16, QN_F16 };

static struct direct_opts there(int32_t block, unsigned char fill, bool in_place)
{
    return (struct direct_opts){ .on = gpu, .threads = 1, .block = block, .fill = fill, .in_place = in_place };
}

static void no_finding(const struct op_case *c, qn_dtype real)
{
    if (findings()) fail_msg("case \"%s\", %s: %s", c->name, qn_dtype_name(real), finding(0));
}

/* One run: no finding, the values if they are asked for, and its bits as a line. */
static void run(enum qn__opcode op, const struct op_case *c, qn_dtype real, const struct direct_opts *o,
                const struct op_reference *r, const char *way)
{
    struct direct d = direct_run(op, c, real, o, NULL);
    no_finding(c, real);
    if (d.status) fail_msg("case \"%s\", %s, %s: %s", c->name, qn_dtype_name(real), way, d.err.text);
    if (r && real == QN_F32) op_check(r, &d, 0x1p-24, way);
    if (r && real != QN_F32) op_check_rounded(r, &d, way);
    printf("%s|%s|%s|%s|%016llx\n", qn__op_of(op)->name, c->name, qn_dtype_name(real), way,
           (unsigned long long)direct_hash(&d));
    direct_free(&d);
}

static void run_case(enum qn__opcode op, const struct op_case *c, qn_dtype real, bool values)
{
    struct direct_opts home = { .threads = 1, .block = QN_PLAIN, .fill = 0xFF, .storage = real };
    struct direct_opts plain = there(QN_PLAIN, 0xFF, false), on_top = there(QN_PLAIN, 0x3A, true);
    struct direct wide = { 0 };
    struct op_reference r;
    if (values) {
        wide = direct_run(op, c, QN_F64, &home, NULL);
        r = op_reference_of(&wide);
    }
    run(op, c, real, &plain, values ? &r : NULL, "plain");
    if (qn__op_of(op)->in_place) run(op, c, real, &on_top, NULL, "onto an operand");
    int32_t block[4];
    int n = qn__op_of(op)->layout == QN_LAYOUT_PLAIN ? 0 : op_blocks(c, block);
    for (int i = 0; i < n; i++) {
        char way[40];
        struct direct_opts blocked = there(block[i], 0xFF, false);
        snprintf(way, sizeof way, "block %d", block[i]);
        run(op, c, real, &blocked, values ? &r : NULL, way);
    }
    if (!values) return;
    op_reference_free(&r);
    direct_free(&wide);
}

static void run_failing(enum qn__opcode op, const struct op_case *c)
{
    struct direct_opts away = there(QN_PLAIN, 0xFF, false);
    struct direct d = direct_run(op, c, QN_F32, &away, NULL);
    no_finding(c, QN_F32);
    if (strcmp(d.err.text, c->fails) != 0)
        fail_msg("case \"%s\": \"%s\"; expected \"%s\"", c->name, d.err.text, c->fails);
    direct_free(&d);
}

/* `only`: "" all cases, "@CASE" one of them in each type, "@CASE@TYPE" in one. */
static void run_row(enum qn__opcode op, bool values, const char *only)
{
    const struct qn__kernel *k = gpu->backend->kernel[op];
    if (!k || !k->launch) return;
    char *rest = NULL;
    long one = *only ? strtol(only + 1, &rest, 10) : -1, type = rest && *rest ? strtol(rest + 1, NULL, 10) : -1;
    for (int i = 0; i < op_cases_of[op]->n; i++) {
        const struct op_case *c = &op_cases_of[op]->c[i];
        for (int kind = 0; kind < 3; kind++) {
            clock_t began = clock();
            if ((one >= 0 && one != i) || (type >= 0 && type != kind) || (kind && c->fails)) continue;
            if (c->fails)
                run_failing(op, c);
            else if (kind == 0 || direct_builds(op, c, types[kind]))
                run_case(op, c, types[kind], values);
            if (reach) print_reach(i, kind, began);
        }
    }
}

static bool has_kernel(enum qn__opcode op)
{
    const struct qn__kernel *k = gpu->backend->kernel[op];
    return k && k->launch;
}

/* The names of the rows that have a kernel here. */
static int list_rows(void)
{
    gpu = gpu_open();
    for (int op = 1; gpu && op < QN_OP_COUNT; op++)
        if (has_kernel((enum qn__opcode)op)) puts(qn__op_of((enum qn__opcode)op)->name);
    gpu_close();
    return gpu ? 0 : 3;
}

static int child(int argc, char **argv)
{
    gpu = gpu_open();
    if (!gpu || !find_checker()) return 3;
    reach = mutants_seen && !strcmp(argv[2], "reach");
    for (int i = 3; i < argc; i++)
        for (int op = 1; op < QN_OP_COUNT; op++) {
            const char *name = qn__op_of((enum qn__opcode)op)->name;
            size_t n = strcspn(argv[i], "@");
            if (n == strlen(name) && !memcmp(argv[i], name, n))
                run_row((enum qn__opcode)op, strcmp(argv[2], "bits") != 0, argv[i] + n);
        }
    gpu_close();
    if (findings()) printf("at the end: %s\n", finding(0));
    return findings() ? 1 : 0;
}

/* ---- the parent --------------------------------------------------------------------------------------------- */

enum { SETTINGS = 6, TINY = SETTINGS };
static const char *const orders[] = { "forward", "reversed", "random" };
static uint64_t seed;
static bool thorough;
static char plugin[4096];

struct answer {
    char *text;
    size_t size;
    int status;
};

static struct answer read_all(int from)
{
    struct answer a = { .text = malloc(1 << 16), .size = 0 };
    size_t room = 1 << 16;
    ssize_t got;
    while (a.text && ((got = read(from, a.text + a.size, room - a.size - 1)) > 0 || (got < 0 && errno == EINTR))) {
        if (got > 0) a.size += (size_t)got;
        if (room - a.size > 1) continue;
        room *= 2;
        char *more = realloc(a.text, room);
        assert_non_null(more);
        a.text = more;
    }
    assert_non_null(a.text);
    a.text[a.size] = '\0';
    return a;
}

static struct answer ask(int setting, const char *what, const char *row)
{
    char order[40];
    int ends[2];
    const char *o = orders[setting % SETTINGS / 2];
    snprintf(order, sizeof order, setting % SETTINGS / 2 == 2 ? "%s:%llu" : "%s", o,
             (unsigned long long)(seed % 1000 + 1));
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (!pid) {
        dup2(ends[1], 1);
        dup2(ends[1], 2);
        setenv("QN_CUDA_PLUGIN", plugin, 1);
        setenv("QN_CUDASIM_ORDER", order, 1);
        setenv("QN_CUDASIM_STREAMS", setting % 2 ? "eager" : "lazy", 1);
        setenv("QN_CUDASIM_REPORT", "none", 1);
        if (setting == TINY) setenv("QN_CUDASIM_DEVICE", "tiny", 1);
        execl("/proc/self/exe", "test_checked", "--run", what, row, (char *)NULL);
        _exit(4);
    }
    close(ends[1]);
    struct answer a = read_all(ends[0]);
    close(ends[0]);
    assert_int_equal(waitpid(pid, &a.status, 0), pid);
    return a;
}

static void same_lines(const char *a, const char *b, const char *setting)
{
    while (*a || *b) {
        size_t n = strcspn(a, "\n"), m = strcspn(b, "\n");
        if (n != m || memcmp(a, b, n) != 0)
            fail_msg("other bits, %s: %.*s and %.*s", setting, (int)(n > 200 ? 200 : n), a, (int)(m > 200 ? 200 : m),
                     b);
        a += n + (a[n] != 0);
        b += m + (b[m] != 0);
    }
}

static void check_row(void **state)
{
    enum qn__opcode op = *(enum qn__opcode *)*state;
    uint64_t draw = seed * 0x9E3779B97F4A7C15u + (uint64_t)op * 0xD1B54A32D192ED03u;
    draw ^= draw >> 29;
    int first = thorough ? 0 : (int)(draw % SETTINGS), runs = 0;
    struct answer one = { 0 };
    for (int i = 0; i < (thorough ? SETTINGS : 2); i++) {
        /* of a sample the second has other streams and another order */
        int setting = thorough ? i : (first + 3 * i) % SETTINGS;
        char text[60];
        snprintf(text, sizeof text, "%s, %s", orders[setting / 2], setting % 2 ? "eager" : "lazy");
        struct answer a = ask(setting, i ? "bits" : "values", qn__op_of(op)->name);
        if (a.status) fail_msg("%s: %s", text, a.text + (a.size > 4000 ? a.size - 4000 : 0));
        if (i) same_lines(one.text, a.text, text);
        for (const char *p = a.text; (p = strchr(p, '\n')) != NULL; p++) runs++;
        if (i) free(a.text);
        if (!i) one = a;
    }
    free(one.text);
    struct answer small = ask(TINY, "values", qn__op_of(op)->name);
    if (small.status) fail_msg("one multiprocessor: %s", small.text + (small.size > 4000 ? small.size - 4000 : 0));
    free(small.text);
    printf("  %d runs of %d cases in %d settings\n", runs, op_cases_of[op]->n, thorough ? SETTINGS : 2);
}

static void no_plugin(void **state)
{
    (void)state;
    printf("# skip: no CUDA headers: this build has no cudasim/checked/libquern_cuda.so (make cudasim)\n");
    skip();
}
static void not_the_simulator(void **state)
{
    (void)state;
    printf("# skip: orders of threads are the simulator's to choose; this is a test of a GPU\n");
    skip();
}

/* BUILD/tests/cuda/test_checked -> BUILD/cudasim/checked/libquern_cuda.so */
static bool find_plugin(void)
{
    char exe[3000];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (n <= 0) return false;
    exe[n] = 0;
    for (int i = 0; i < 3; i++) {
        char *slash = strrchr(exe, '/');
        if (!slash) return false;
        *slash = 0;
    }
    snprintf(plugin, sizeof plugin, "%s/cudasim/checked/libquern_cuda.so", exe);
    return access(plugin, R_OK) == 0;
}

static int skipped(CMUnitTestFunction why)
{
    const struct CMUnitTest test[] = { { "checked", why, NULL, NULL, NULL } };
    return cmocka_run_group_tests_name("checked", test, NULL, NULL);
}

int main(int argc, char **argv)
{
    const char *wish = getenv("QN_TEST_SEED"), *given = getenv("QN_CUDA_PLUGIN");
    if (argc > 3 && !strcmp(argv[1], "--run")) return child(argc, argv);
    if (argc == 2 && !strcmp(argv[1], "--rows")) return list_rows();
    if (getenv("CHECK_GPU_UNDER_WAY") || (given && !strstr(given, "cudasim"))) return skipped(not_the_simulator);
    if (!find_plugin()) return skipped(no_plugin);
    seed = wish ? strtoull(wish, NULL, 10) : (uint64_t)time(NULL) % 1000000;
    thorough = getenv("QN_TEST_LONG") != NULL;
    if (!thorough) printf("seed %llu\n", (unsigned long long)seed);
    gpu = gpu_open();
    int failed = gpu ? op_run_rows("the checked simulator", check_row, has_kernel, NULL, 0, argc, argv) : 1;
    gpu_close();
    return failed;
}
