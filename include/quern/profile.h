/* profile.h - how long each operator of a program takes.
 *
 *     qn_program_profile(p, true, &err);
 *     ...run...
 *     for (int i = 0; i < qn_program_steps(p); i++)
 *         printf("%s %g s\n", qn_program_step(p, i).op, qn_program_timing(p, i).seconds); */
#ifndef QUERN_PROFILE_H
#define QUERN_PROFILE_H
#include "core.h"
#ifdef __cplusplus
extern "C" {
#endif

/* Measures the wall time of every operator from now on (counters at zero), or no longer. Off, it costs nothing.
 * E5002. */
QN_API QN_CHECKED qn_status qn_program_profile(qn_program *p, bool on, qn_error *err);

typedef struct qn_step_timing {
    int64_t runs;
    double seconds;     /* of all runs                                      */
    double start, last; /* clock at the start of the last run, its seconds  */
} qn_step_timing;
/* Of operator i as in qn_program_step; zeros without a profile. */
QN_API qn_step_timing qn_program_timing(const qn_program *p, int i);

#ifdef __cplusplus
}
#endif
#endif
