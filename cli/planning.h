/* planning.h - what `quern plan` needs beside the plan itself. */
#ifndef QN_CLI_PLANNING_H
#define QN_CLI_PLANNING_H
#include "training.h"

/* The description NAME.json of gpus/ beside the sources or the installation. 0, or the exit code after an error line
 * (E2001 with the nearest name). */
int cli_find_gpu(qn_gpu *out, const char *name);

/* Compiles, loads and runs three steps, with and without reuse of memory, and prints what was planned and what was
 * seen. E7070 when a promise is broken. */
qn_status cli_verify_plan(const qn_recipe *recipe, const qn_transform *shape, const struct options *o, qn_error *err);

/* Calls of malloc, calloc, realloc and aligned_alloc between start and stop: Quern's, and those of all libraries; -1 in
 * builds that cannot count (sanitizers have an allocator of their own; not glibc). */
void cli_count_start(void);
int64_t cli_count_stop(int64_t *libraries);
#endif
