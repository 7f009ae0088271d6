/* aid.c - see aid.h. */
#include "aid.h"
#include <dlfcn.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

struct aid_sim aid_sim;

/* BUILD/tests/cuda/test_x -> BUILD/cudasim/fast/libquern_cuda.so */
static bool default_plugin(char path[4096])
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
    snprintf(path, 4096, "%s/cudasim/fast/libquern_cuda.so", exe);
    return access(path, R_OK) == 0;
}

/* The copy of libcudart that the plugin has opened; only the simulated one has these functions. */
static void find_simulator(void)
{
    void *cudart = dlopen("libcudart.so.13", RTLD_LAZY | RTLD_NOLOAD);
    const struct {
        const char *name;
        void *to;
    } rows[] = {
        { "cudasim_fail", &aid_sim.plan },         { "cudasim_calls", &aid_sim.calls },
        { "cudasim_live", &aid_sim.live },         { "cudasim_used", &aid_sim.used },
        { "cudasim_launches", &aid_sim.launches }, { "cudasim_findings", &aid_sim.findings },
        { "cudasim_finding", &aid_sim.finding },   { "cudasim_forget", &aid_sim.forget },
    };
    for (size_t i = 0; cudart && i < sizeof rows / sizeof rows[0]; i++) {
        void *found = dlsym(cudart, rows[i].name);
        memcpy(rows[i].to, &found, sizeof found);
    }
}

bool aid_begin(const char *const *settings)
{
    char path[4096];
    const char *plugin = getenv("QN_CUDA_PLUGIN");
    qn_device_info info;
    qn_error err = { 0 };
    for (; settings && *settings; settings++) {
        char name[80];
        const char *equals = strchr(*settings, '=');
        snprintf(name, sizeof name, "%.*s", (int)(equals - *settings), *settings);
        setenv(name, equals + 1, 0);
    }
    if (!plugin || !*plugin) {
        if (!default_plugin(path)) {
            return false;
        }
        setenv("QN_CUDA_PLUGIN", path, 1);
    }
    if (qn_device_gpu(&info, 0, &err)) {
        printf("%s\n", err.text);
        exit(1);
    }
    find_simulator();
    return true;
}

static void no_simulator(void **state)
{
    (void)state;
    if (getenv("QN_CUDA_PLUGIN"))
        printf("# skip: a test of the simulator's, and the GPU is not simulated\n");
    else
        printf("# skip: no CUDA headers: this build has no cudasim/fast/libquern_cuda.so (make cudasim)\n");
    skip();
}

int aid_skip(const char *group)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(no_simulator) };
    return cmocka_run_group_tests_name(group, tests, NULL, NULL);
}

static int run_again(const char *streams, const char *program)
{
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        char *const args[] = { (char *)(uintptr_t)program, (char *)(uintptr_t)streams, NULL };
        setenv("QN_CUDASIM_STREAMS", streams, 1);
        execv("/proc/self/exe", args);
        _exit(127);
    }
    if (child < 0 || waitpid(child, &status, 0) < 0 || !WIFEXITED(status)) return 1;
    return WEXITSTATUS(status);
}

int aid_run_each(const struct CMUnitTest *tests, size_t n, int argc, char **argv)
{
    static const char *const streams[] = { "eager", "mixed:0x55555555", "mixed:0xAAAAAAAA", "mixed:0x33333333",
                                           "mixed:0xCCCCCCCC" };
    int status = _cmocka_run_group_tests("gpu", tests, n, NULL, NULL);
    for (size_t i = 0; i < sizeof streams / sizeof streams[0] && argc == 1 && aid_sim.plan; i++) {
        int again = run_again(streams[i], argv[0]);
        if (!status) status = again;
    }
    return status;
}

static void *counted(void *user, void *ptr, size_t old_size, size_t new_size)
{
    struct aid_memory *m = user;
    m->calls += new_size > 0;
    m->blocks += (new_size > 0) - (ptr != NULL);
    m->bytes += (int64_t)new_size - (int64_t)(ptr ? old_size : 0);
    if (new_size) return realloc(ptr, new_size);
    free(ptr);
    return NULL;
}

qn_alloc aid_alloc(struct aid_memory *m) { return (qn_alloc){ counted, m }; }

void aid_says(const qn_error *err, const char *beginning)
{
    if (strncmp(err->text, beginning, strlen(beginning)) != 0)
        fail_msg("\"%s\" does not begin with \"%s\"", err->text, beginning);
}
