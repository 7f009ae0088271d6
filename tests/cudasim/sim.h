/* sim.h - the simulator's own door, for the other simulated libraries and for tests: plain C.
 *
 * A library (cuBLASLt, cuDNN, NCCL) that is called with a stream puts its work there with cudasim_enqueue; the work
 * runs on the host when the stream's turn comes (at once, or not before the program waits for it), and is captured
 * into a graph if the stream is being captured. While it runs, the host may touch device memory. Before it enqueues,
 * a library asks cudasim_inject whether this very call must fail, and checks its pointers with cudasim_range. While
 * the work runs, cudasim_read and cudasim_written tell the checker what is read and what has become valid. */
#ifndef QN_TESTS_CUDASIM_SIM_H
#define QN_TESTS_CUDASIM_SIM_H
#include <cuda_runtime_api.h>
#include <stddef.h>
#include <stdint.h>
#include "counts.h"
#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* ---- work on streams ------------------------------------------------------------------------------------ */

/* What run answers. NOT_YET: tried again later, after other streams have gone on (a collective whose peer is not
 * there); the program is told of a deadlock when nothing moves for QN_CUDASIM_PATIENCE seconds. */
enum { CUDASIM_DONE = 0, CUDASIM_NOT_YET = 1, CUDASIM_FAILED = 2 };

/* Puts work on a stream. run may be called many times (graphs), each time with the same state; release, if not NULL,
 * is called once when it will not be called again. `what` names the work in findings and must live as long as the
 * program. cudaErrorStreamCapture... where the stream's capture does not allow it; state is released then too. */
cudaError_t cudasim_enqueue(cudaStream_t stream, const char *what, int (*run)(void *state), void *state,
                            void (*release)(void *state));
int cudasim_stream_device(cudaStream_t stream); /* -1: not a stream */
/* Lets every stream do one piece of work if it can; 0: none could. For a library whose peers are other processes: a
 * real device works on while its host does something else. */
int cudasim_progress(void);
int cudasim_capturing(cudaStream_t stream); /* 1: its work goes to a graph */

/* ---- memory ----------------------------------------------------------------------------------------------- */

/* 1 if [p, p + bytes) lies inside one live allocation of the device; else a finding that names `what`, and 0.
 * bytes 0: always 1. device -1: the calling thread's current one. */
int cudasim_range(const void *p, size_t bytes, int device, const char *what);
/* 1 if p is device memory (of any device, live or freed). Makes no finding. */
int cudasim_is_device(const void *p);
/* Of work that runs: bytes that it reads (a finding if some were never written; checked build), and wrote. */
void cudasim_read(const void *p, size_t bytes, const char *what);
void cudasim_written(const void *p, size_t bytes);

/* ---- findings ------------------------------------------------------------------------------------------- */

/* Adds a finding: something that a real device would answer with undefined behaviour. Printed to standard error; the
 * current device then answers cudaErrorLaunchFailure for ever, as after a kernel that went wrong. */
void cudasim_report(const char *format, ...) __attribute__((format(printf, 1, 2)));
int cudasim_findings(void);
const char *cudasim_finding(int i); /* valid until the next call of cudasim_forget */
void cudasim_forget(void);          /* forgets all findings and mends all devices */

/* ---- failing calls --------------------------------------------------------------------------------------- */

/* Counts a call of the function `call`. 1: it must fail; *code (if not NULL) then receives the code that was asked
 * for, or is left alone. Every function of the simulated libraries that returns a status asks this first. */
int cudasim_inject(const char *call, int *code);
/* CALL:K[:forever][:CODE] with CALL a function's name or "any" (the K-th call of any function, counted from this
 * call on); several are separated by commas. NULL or "": none. 0: not understood. Counters of calls begin anew. */
int cudasim_fail(const char *plan);
uint64_t cudasim_calls(const char *call); /* since the start or cudasim_fail; "any": all */

/* ---- counts ---------------------------------------------------------------------------------------------- */

/* Begins (forgetting what was counted before) or ends counting. 0: not this build; only checked counts. */
int cudasim_count(int on);
/* The i-th kernel that was counted, in the order of their first launches; 0: there is none. kernel: its name as
 * in tests/cuda/machine_code.tsv ("row_sums<bf16>"), valid until counting begins again. */
int cudasim_counted(int i, struct cudasim_counts *out, const char **kernel);

/* ---- for tests --------------------------------------------------------------------------------------------- */

size_t cudasim_live(void);       /* allocations, streams, events, graphs that were not released */
size_t cudasim_used(int device); /* bytes allocated there */
uint64_t cudasim_launches(void);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
