/* test_real_libraries.c - the simulated libraries answer as the real ones, wherever those answer without a GPU:
 * versions, names of errors, every attribute's size, type and first value, and the error of each misuse. Each library
 * is asked in a process of its own, because both have the same name. run-tests: timeout 120 */
#include "real.h"
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

static void skipped(const char *why)
{
    print_message("# skip: %s\n", why);
    skip();
}

#if REAL_LIBRARIES
/* build/<mode>/cudasim/fast beside the test's own folder. */
static void simulated_path(char *out, size_t size, const char *library)
{
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(n > 0);
    self[n] = '\0';
    for (int up = 0; up < 3; up++) {
        char *slash = strrchr(self, '/');
        assert_non_null(slash);
        *slash = '\0';
    }
    snprintf(out, size, "%.*s/cudasim/fast/%s", PATH_MAX / 2, self, library);
}

/* Where the toolkit is; the places are those of scripts/cuda-home. */
static bool real_path(char *out, size_t size, const char *library)
{
    const char *places[] = { getenv("CUDA_HOME"), "/usr/local/cuda", "/opt/cuda", "/usr/lib/cuda",
                             "build/cuda-toolchain/cuda" };
    static const char *const folders[] = { "lib64", "lib" };
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        for (int k = 0; places[i] && k < 2; k++) {
            snprintf(out, size, "%s/%s/%s", places[i], folders[k], library);
            if (access(out, R_OK) == 0) return true;
        }
    return false;
}

/* The answers of the library at `path`, or NULL if it cannot be opened; free with free(). */
static char *ask(const char *path, void (*questions)(void *))
{
    FILE *f = tmpfile();
    assert_non_null(f);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        int quiet = open("/dev/null", O_WRONLY); /* the real NCCL complains on standard output */
        if (quiet >= 0) dup2(quiet, STDOUT_FILENO), dup2(quiet, STDERR_FILENO);
        signal(SIGSEGV, SIG_DFL); /* not cmocka's, which would go on with the next test here */
        void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        if (!library) _exit(3);
        real_answers_to(f);
        questions(library);
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    long bytes = fseek(f, 0, SEEK_END) ? -1 : ftell(f);
    assert_true(bytes >= 0);
    rewind(f);
    char *text = calloc((size_t)bytes + 1, 1);
    assert_int_equal(fread(text, 1, (size_t)bytes, f), bytes);
    fclose(f);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 3) {
        free(text);
        return NULL;
    }
    size_t n = strlen(text);
    if (status) fail_msg("%s: ended with %x after:\n%s", path, (unsigned)status, n > 300 ? text + n - 300 : text);
    return text;
}

/* The line that begins at *at, which goes on to the next. */
static char *next_line(char **at)
{
    char *line = *at, *end = strchr(line, '\n');
    if (!end) return NULL;
    *end = '\0';
    *at = end + 1;
    return line;
}

static void compare(const char *library, void (*questions)(void *))
{
    char real[PATH_MAX + 64], simulated[PATH_MAX + 64];
    simulated_path(simulated, sizeof simulated, library);
    if (access(simulated, R_OK)) skipped("no CUDA headers: this build has no simulated libraries (make cudasim)");
    if (!real_path(real, sizeof real, library)) skipped("the real CUDA libraries are not installed");
    char *theirs = ask(real, questions), *ours = ask(simulated, questions);
    if (!theirs) skipped("the real CUDA libraries cannot be opened");
    assert_non_null(ours);
    char *a = theirs, *b = ours, *want, *got;
    int lines = 0, differ = 0;
    while ((want = next_line(&a))) {
        got = next_line(&b);
        if (lines++ == 0 && got && strcmp(want, got) && !strncmp(want, "version", 7)) {
            free(theirs), free(ours);
            skipped("the real CUDA libraries are of another version than the headers");
        }
        if (got && !strcmp(want, got)) continue;
        print_error("%s: \"%s\"; expected \"%s\"\n", library, got ? got : "nothing", want);
        differ++;
    }
    assert_null(next_line(&b));
    assert_true(lines > 20);
    free(theirs), free(ours);
    if (differ) fail_msg("%s: %d of %d answers differ from the real library's", library, differ, lines);
}

static void cublaslt(void **state)
{
    (void)state;
    compare("libcublasLt.so.13", real_blas);
}
static void cudnn(void **state)
{
    (void)state;
    compare("libcudnn.so.9", real_dnn);
}
static void nccl(void **state)
{
    (void)state;
    compare("libnccl.so.2", real_nccl);
}
#else
static void cublaslt(void **state)
{
    (void)state;
    skipped("no CUDA headers");
}
#define cudnn cublaslt
#define nccl cublaslt
#endif

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(cublaslt), cmocka_unit_test(cudnn), cmocka_unit_test(nccl) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
