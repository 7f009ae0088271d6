/* tuning.h - which algorithm of cuBLASLt or cuDNN each product and convolution runs with on a GPU, as measured once.
 *
 * Compiling never times: without a tuning it takes the first algorithm of the library's own ranking that keeps Quern's
 * promises. qn_tune tries those that do by the GPU's clock and keeps the fastest; the lock file carries the choice from
 * then on, so that speed, memory and bits repeat:
 *
 *     qn_tuning *t;
 *     if (!qn_tune(&t, program, 20, &err)) qn_tuning_save(t, "tuning.lock", &err);      a loaded program of a GPU
 *     ...
 *     if (!qn_tuning_load(&t, "tuning.lock", &err))
 *         qn_compile(&p, g, keep, n, store, &(qn_compile_opts){ .tuning = t }, &err);
 *     qn_tuning_free(t);
 *
 * The file is text: seven lines that say what it is of, then a line for each choice, in order, and how many there are;
 * fields are separated by tabs. It holds for one GPU model, driver and set of library versions. */
#ifndef QUERN_TUNING_H
#define QUERN_TUNING_H
#include "core.h"
#ifdef __cplusplus
extern "C" {
#endif

typedef struct qn_tuning qn_tuning;

typedef struct qn_tuning_choice {
    const char *what;      /* operator, dtype, shapes                                          */
    const char *algorithm; /* the library's, as the plugin names it                            */
    size_t workspace;      /* bytes                                                            */
    double seconds;        /* median of a launch                                               */
    double first;          /* that of the first of the ranking; 0 in a tuning that was read    */
    int tried;             /* algorithms; 0 in a tuning that was read                          */
} qn_tuning_choice;

/* Times the algorithms of every product and convolution of a program that is loaded on a GPU; each kind once. Runs the
 * program's micro phase once with the inputs as they are, and overwrites what it has computed, but no tensor of the
 * store that a micro run does not write. launches: of each algorithm, 1..64; the L2 cache is flushed before each.
 * Errors: E2206, E7003, E5002. */
QN_API QN_CHECKED qn_status qn_tune(qn_tuning **out, qn_program *p, int launches, qn_error *err);

/* E4051 with line and column where the file is not as it must be; E6001. */
QN_API QN_CHECKED qn_status qn_tuning_load(qn_tuning **out, const char *path, qn_error *err);
QN_API QN_CHECKED qn_status qn_tuning_save(const qn_tuning *t, const char *path, qn_error *err);
QN_API void qn_tuning_free(qn_tuning *t); /* NULL is fine */

QN_API int qn_tuning_count(const qn_tuning *t);
QN_API qn_tuning_choice qn_tuning_at(const qn_tuning *t, int i);
/* "NVIDIA H100 PCIe; driver 13000; CUDA 13000; cuBLASLt 130100; cuDNN 91900" */
QN_API const char *qn_tuning_of(const qn_tuning *t);

#ifdef __cplusplus
}
#endif
#endif
