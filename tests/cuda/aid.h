/* aid.h - tests on a GPU: the one in QN_CUDA_PLUGIN, by default the simulator's beside this build. */
#ifndef QN_TESTS_CUDA_AID_H
#define QN_TESTS_CUDA_AID_H
#include "../../include/quern.h"
#include "../../core/base.h"
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

/* The simulator's door (tests/cudasim/sim.h); NULL members on a real GPU. */
struct aid_sim {
    int (*plan)(const char *calls_that_fail);
    uint64_t (*calls)(const char *call);
    size_t (*live)(void);
    size_t (*used)(int device);
    uint64_t (*launches)(void);
    int (*findings)(void);
    const char *(*finding)(int i);
    void (*forget)(void);
};
extern struct aid_sim aid_sim;

/* Call first in main. Names the plugin, opens it once and finds the simulator; false where there is none (not built, or
 * no CUDA headers): then aid_skip says so and is what main returns. Variables of the simulator that are not set yet are
 * set as `name=value`, ending with NULL. */
bool aid_begin(const char *const *settings);
int aid_skip(const char *group);
/* Runs the group, then the same program in a process of its own for each other way that streams may work in the
 * simulator: all at once, and some ahead of the others. Returns the exit status. */
int aid_run_each(const struct CMUnitTest *tests, size_t n, int argc, char **argv);

/* Counts what it gives and what is still out; every k-th call fails if `fail_at` is k (0: none). */
struct aid_memory {
    int64_t calls, blocks, bytes;
};
qn_alloc aid_alloc(struct aid_memory *m);

#define aid_ok(expression) \
    do { \
        qn_error aid_err_ = { 0 }, *err = &aid_err_; \
        if ((expression) != QN_OK) fail_msg("%s: %s", #expression, err->text); \
    } while (0)
/* The sentence begins like this. */
void aid_says(const qn_error *err, const char *beginning);
#endif
