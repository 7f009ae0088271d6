/* trace.h - named ranges for profilers (Nsight Systems): of a phase, and of each operator while it is launched.
 * Without a profiler they cost a comparison each. */
#ifndef QN_KERNELS_CUDA_TRACE_H
#define QN_KERNELS_CUDA_TRACE_H
#include "cuda.h"

void qn__range_push(enum qn__opcode op);
void qn__phase_push(int phase);
void qn__range_pop(void);
/* Name of an operator. */
const char *qn__op_name(enum qn__opcode op);
#endif
