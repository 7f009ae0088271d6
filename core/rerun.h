/* rerun.h - looking at runs that have been, for the training loop. Private to the library. */
#ifndef QN_CORE_RERUN_H
#define QN_CORE_RERUN_H
#include "../include/quern/core.h"

/* qn_program_find_nonfinite with the inputs and the random state of `ago` micro runs back, at most qn_program_lag. */
qn_status qn__find_nonfinite_past(qn_program *p, int ago, char *where, size_t size, qn_error *err);
/* The latest micro run once more, without its writes to the store. What it left in the work arena, which programs of a
 * store share, is there again for its update. Nothing to do on the CPU, where nothing comes between the two. */
qn_status qn__repeat_micro(qn_program *p, qn_error *err);
#endif
