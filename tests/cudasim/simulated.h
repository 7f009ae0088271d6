/* simulated.h - for tests that call the simulated libraries by themselves: where they are, their functions by name, and
 * device memory in one line. A test includes it where the CUDA headers are; where not, or where the libraries were not
 * built, its one test is skipped.
 *
 *     #define CALLS(X) X(cublasLtCreate) X(cublasLtDestroy)
 *     #include "simulated.h"                     makes calls.cublasLtCreate of CALLS, and of sim.h and the runtime
 *     int main(void) { return simulated_main("libcublasLt.so.13", tests, n); } */
#ifndef QN_TESTS_CUDASIM_SIMULATED_H
#define QN_TESTS_CUDASIM_SIMULATED_H
#include <dlfcn.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#if __has_include(<cuda_runtime_api.h>) && __has_include(<cublasLt.h>) && __has_include(<cudnn.h>)
#define SIMULATED 1
#include "sim.h"

#define RUNTIME_CALLS(X) \
    X(cudaMalloc) \
    X(cudaFree) \
    X(cudaMemcpy) \
    X(cudaMemset) \
    X(cudaSetDevice) \
    X(cudaStreamCreate) \
    X(cudaStreamDestroy) \
    X(cudaStreamSynchronize) \
    X(cudaDeviceSynchronize) \
    X(cudaGetLastError) \
    X(cudasim_findings) \
    X(cudasim_finding) \
    X(cudasim_forget) \
    X(cudasim_fail) \
    X(cudasim_calls) \
    X(cudasim_live)

static struct {
#define X(name) __typeof__(name) *name;
    RUNTIME_CALLS(X) CALLS(X)
#undef X
} calls;

/* Beside the test's own build: build/<mode>/tests/<room>/test_x -> build/<mode>/cudasim/fast. */
static inline const char *simulated_folder(char *out, size_t size)
{
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    const char *kind = getenv("QN_CUDASIM_KIND");
    if (n < 0) return NULL;
    self[n] = '\0';
    for (int up = 0; up < 3; up++) {
        char *slash = strrchr(self, '/');
        if (!slash) return NULL;
        *slash = '\0';
    }
    snprintf(out, size, "%.*s/cudasim/%s", PATH_MAX / 2, self, kind ? kind : "fast");
    return out;
}

static inline void *simulated_open(const char *library)
{
    char folder[PATH_MAX], path[PATH_MAX + 64];
    if (!simulated_folder(folder, sizeof folder)) return NULL;
    snprintf(path, sizeof path, "%s/%s", folder, library);
    return dlopen(path, RTLD_NOW | RTLD_GLOBAL);
}

/* The first function that is missing, or NULL. */
static inline const char *simulated_find(void *library)
{
    const char *lacks = NULL;
#define X(name) \
    do { \
        void *symbol_ = dlsym(library, #name); \
        if (!symbol_) lacks = #name; \
        memcpy(&calls.name, &symbol_, sizeof symbol_); \
    } while (0);
    RUNTIME_CALLS(X)
    CALLS(X)
#undef X
    return lacks;
}

/* ---- memory ---------------------------------------------------------------------------------------------------- */

static inline void *device_take(size_t bytes)
{
    void *p = NULL;
    assert_int_equal(calls.cudaMalloc(&p, bytes ? bytes : 1), cudaSuccess);
    return p;
}
static inline void *device_copy(const void *host, size_t bytes)
{
    void *p = device_take(bytes);
    assert_int_equal(calls.cudaMemcpy(p, host, bytes, cudaMemcpyHostToDevice), cudaSuccess);
    return p;
}
static inline void host_copy(void *host, const void *device, size_t bytes)
{
    assert_int_equal(calls.cudaMemcpy(host, device, bytes, cudaMemcpyDeviceToHost), cudaSuccess);
}
/* The only finding so far says this, and the device is as new again. */
static inline void expect_finding(const char *part)
{
    assert_int_equal(calls.cudasim_findings(), 1);
    if (!strstr(calls.cudasim_finding(0), part))
        fail_msg("finding \"%s\"; expected it to say \"%s\"", calls.cudasim_finding(0), part);
    calls.cudasim_forget();
    calls.cudaGetLastError();
}
static inline void expect_no_finding(void)
{
    if (calls.cudasim_findings()) fail_msg("finding: %s", calls.cudasim_finding(0));
}

/* Reproducible values in [-1, 1) with all 24 bits that an f32 has. */
static inline float simulated_value(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (float)((int32_t)(*seed >> 39) - (1 << 24)) / (float)(1 << 24);
}

static inline void *simulated_library(const char *library, char *why, size_t size)
{
    void *l = simulated_open(library);
    const char *lacks = l ? simulated_find(l) : NULL;
    if (!l) snprintf(why, size, "no CUDA headers: this build has no simulated %s (make cudasim)", library);
    if (lacks) fail_msg("%s has no %s", library, lacks);
    return l;
}
#else
#define SIMULATED 0
static inline void *simulated_library(const char *library, char *why, size_t size)
{
    (void)library;
    snprintf(why, size, "no CUDA headers");
    return NULL;
}
#endif

static char simulated_why[160];
static inline void simulated_skipped(void **state)
{
    (void)state;
    print_message("# skip: %s\n", simulated_why);
    skip();
}
static inline int simulated_absent(void)
{
    if (!*simulated_why) simulated_library("", simulated_why, sizeof simulated_why);
    const struct CMUnitTest none[] = { cmocka_unit_test(simulated_skipped) };
    return cmocka_run_group_tests(none, NULL, NULL);
}
#define simulated_main(library, tests) \
    (simulated_library(library, simulated_why, sizeof simulated_why) ? cmocka_run_group_tests(tests, NULL, NULL) \
                                                                     : simulated_absent())
#endif
