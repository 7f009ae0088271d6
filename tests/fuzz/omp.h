/* omp.h - what OpenMP's header says of a program without OpenMP: the fuzz build's stand-in for it.
 * Targets fuzz readers of files; one thread makes their runs repeatable. */
#ifndef QN_FUZZ_OMP_H
#define QN_FUZZ_OMP_H
static inline int omp_get_max_threads(void) { return 1; }
static inline int omp_get_num_threads(void) { return 1; }
static inline int omp_get_num_procs(void) { return 1; }
static inline int omp_get_thread_num(void) { return 0; }
static inline int omp_in_parallel(void) { return 0; }
static inline void omp_set_num_threads(int n) { (void)n; }
#endif
