/* threads.h - OpenMP's threads are there before the first kernel needs them. Private to core/. */
#ifndef QN_CORE_THREADS_H
#define QN_CORE_THREADS_H
#include "base.h"

/* Makes sure that n threads can compute, and has OpenMP start them for the calling thread. OpenMP's runtime ends the
 * process when a thread cannot be created (ulimit -u, a container's limit on processes), so n - 1 threads are created
 * as a trial first. E7001 if they cannot be. */
qn_status qn__threads_start(int n, qn_error *err);
#endif
